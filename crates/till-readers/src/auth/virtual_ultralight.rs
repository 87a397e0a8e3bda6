//! The chip's side of a MIFARE Ultralight AES, for tests.
//!
//! Written from the data sheet MF0AES(H)20 on the ciphers of [`super::virtual_card`], apart from the
//! reader's side.

use std::collections::BTreeMap;

use super::virtual_card::{cmac, decrypt, encrypt, halves, mix, odd, session_vector, turn};

#[derive(Clone)]
pub(crate) struct VirtualUltralight {
    uid: [u8; 7],
    /// DataProtKey and UIDRetrKey.
    pub(crate) keys: [[u8; 16]; 2],
    /// Page 04.
    pub(crate) mark: [u8; 4],
    /// The pages 29 and 2A.
    pub(crate) settings: [u8; 8],
    /// What was written since its power-up and counts from the next one on.
    written: BTreeMap<u8, [u8; 4]>,
    /// Whether what is written counts at once instead.
    pub(crate) counts_at_once: bool,
    random: u128,
    state: State,
}

#[derive(Clone)]
enum State {
    Ready,
    Challenged {
        slot: u8,
        rnd_b: [u8; 16],
    },
    Open {
        slot: u8,
        mac: [u8; 16],
        counter: u16,
    },
    /// It answers nothing until it is selected anew.
    Halted,
}

impl VirtualUltralight {
    /// As a supplier sets it up: random UID, MAC, all pages but the UID's guarded, 256 tries.
    pub(crate) fn new(uid: [u8; 7], data_key: [u8; 16], uid_key: [u8; 16]) -> VirtualUltralight {
        VirtualUltralight {
            uid,
            keys: [data_key, uid_key],
            mark: [0xCA, 0x17, 0xAE, 1],
            settings: [0x03, 0, 0, 0x04, 0, 0x05, 0x00, 0x01],
            written: BTreeMap::new(),
            counts_at_once: false,
            random: 0x1111_2222_3333_4444_5555_6666_7777_8888,
            state: State::Ready,
        }
    }

    /// As it leaves the factory.
    pub(crate) fn fresh(uid: [u8; 7]) -> VirtualUltralight {
        VirtualUltralight {
            mark: [0; 4],
            settings: [0, 0, 0, 0x3C, 0, 0x05, 0, 0],
            ..VirtualUltralight::new(uid, [0; 16], [0; 16])
        }
    }

    /// It loses its power for a moment, and shows this UID then.
    pub(crate) fn power_up(&mut self) -> Vec<u8> {
        for (page, bytes) in std::mem::take(&mut self.written) {
            self.put(page, bytes);
        }
        self.state = State::Ready;
        if self.settings[0] & 0x01 == 0 {
            return self.uid.to_vec();
        }
        self.random = self
            .random
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(1);
        let [a, b, c, ..] = self.random.to_be_bytes();
        vec![0x08, a, b, c]
    }

    /// It is selected anew.
    pub(crate) fn select(&mut self) {
        self.state = State::Ready;
    }

    /// What it says to a frame; nothing when it is mute.
    pub(crate) fn handle(&mut self, frame: &[u8]) -> Vec<u8> {
        match (frame, std::mem::replace(&mut self.state, State::Halted)) {
            ([], _) => self.power_up(),
            (_, State::Halted) => Vec::new(),
            ([0x1A, slot @ (0 | 1)], _) => self.challenge(*slot),
            ([0xAF, token @ ..], State::Challenged { slot, rnd_b }) => {
                self.answer(token, slot, rnd_b)
            }
            (_, State::Challenged { .. }) => vec![0x00],
            (frame, State::Open { slot, mac, counter }) if self.demands_mac() => {
                self.guarded(frame, slot, mac, counter)
            }
            (frame, state @ (State::Ready | State::Open { .. })) => {
                self.state = state;
                let said = self.command(frame);
                if said.is_none() {
                    self.state = State::Halted;
                }
                said.unwrap_or(vec![0x00])
            }
        }
    }

    fn demands_mac(&self) -> bool {
        self.settings[0] & 0x02 != 0
    }

    fn challenge(&mut self, slot: u8) -> Vec<u8> {
        self.random = self
            .random
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(1);
        let rnd_b = self.random.to_be_bytes();
        self.state = State::Challenged { slot, rnd_b };
        let sealed = encrypt(self.keys[usize::from(slot)], rnd_b);
        [&[0xAF], &sealed[..]].concat()
    }

    fn answer(&mut self, token: &[u8], slot: u8, rnd_b: [u8; 16]) -> Vec<u8> {
        let key = self.keys[usize::from(slot)];
        let Some((first, second)) = halves(token) else {
            return vec![0x00];
        };
        let rnd_a = decrypt(key, first);
        if mix(decrypt(key, second), first) != turn(rnd_b) {
            return vec![0x00];
        }
        let mac = cmac(key, &session_vector([0x5A, 0xA5], rnd_a, rnd_b));
        self.state = State::Open {
            slot,
            mac,
            counter: 0,
        };
        [&[0x00], &encrypt(key, turn(rnd_a))[..]].concat()
    }

    fn guarded(&mut self, frame: &[u8], slot: u8, mac: [u8; 16], counter: u16) -> Vec<u8> {
        let stamped = |counter: u16, said: &[u8]| {
            let stamped = [&counter.to_le_bytes(), said].concat();
            odd(cmac(mac, &stamped))
        };
        let Some((command, sent)) = frame.split_last_chunk::<8>() else {
            return Vec::new();
        };
        if stamped(counter, command) != *sent {
            return vec![0x00];
        }
        self.state = State::Open {
            slot,
            mac,
            counter: counter + 2,
        };
        let Some(said) = self.command(command) else {
            self.state = State::Halted;
            return vec![0x00];
        };
        [&said[..], &stamped(counter + 1, &said)].concat()
    }

    /// What it says to a command; nothing to one that it refuses.
    fn command(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        match *command {
            [0x60] => Some(vec![0x00, 0x04, 0x03, 0x01, 0x04, 0x00, 0x0F, 0x03]),
            [0x30, page] => Some(self.read(page).to_vec()),
            [0xA2, page @ (0x04 | 0x29 | 0x2A | 0x30..=0x37), a, b, c, d] => {
                let is_guarded = page >= self.settings[3];
                if is_guarded && !matches!(self.state, State::Open { slot: 0, .. }) {
                    return None;
                }
                if self.counts_at_once || page == 0x04 {
                    self.put(page, [a, b, c, d]);
                } else {
                    self.written.insert(page, [a, b, c, d]);
                }
                Some(vec![0x0A])
            }
            _ => None,
        }
    }

    fn put(&mut self, page: u8, bytes: [u8; 4]) {
        let at = usize::from(page);
        match page {
            0x04 => self.mark = bytes,
            0x29 | 0x2A => self.settings[(at - 0x29) * 4..][..4].copy_from_slice(&bytes),
            _ => {
                let key = &mut self.keys[(at - 0x30) / 4];
                // Its last byte stands first.
                for (offset, byte) in bytes.into_iter().enumerate() {
                    key[15 - (at % 4) * 4 - offset] = byte;
                }
            }
        }
    }

    /// A random UID is opened by the UID key only; until then its pages are zeros.
    fn read(&self, page: u8) -> [u8; 16] {
        let mut memory = [0; 0x3C * 4];
        let is_hidden = self.settings[0] & 0x01 != 0;
        if !is_hidden || matches!(self.state, State::Open { slot: 1, .. }) {
            let [a, b, c, d, e, f, g] = self.uid;
            let check = [0x88 ^ a ^ b ^ c, d ^ e ^ f ^ g];
            memory[..9].copy_from_slice(&[a, b, c, check[0], d, e, f, g, check[1]]);
        }
        memory[0x10..0x14].copy_from_slice(&self.mark);
        memory[0xA4..0xAC].copy_from_slice(&self.settings);
        for (page, bytes) in &self.written {
            // The keys are never read.
            if *page < 0x30 {
                memory[usize::from(*page) * 4..][..4].copy_from_slice(bytes);
            }
        }
        let from = usize::from(page) * 4;
        std::array::from_fn(|at| memory[(from + at) % memory.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::hex;

    #[test]
    fn the_virtual_chip_answers_like_the_one_of_an13452() {
        let mut chip = VirtualUltralight::new([4; 7], [0; 16], [0; 16]);
        chip.state = State::Challenged {
            slot: 0,
            rnd_b: hex("0D2BBA17011098E9864C8AA5192AF796"),
        };
        let said = chip.handle(&hex::<Vec<u8>>(
            "AF794693B2A31E7F10964A2BD834590AC485F84E9F8B13197AB32433346F60B821",
        ));
        assert_eq!(said, hex::<Vec<u8>>("00A17673DCC20D27EE80584ACCFC39E0A3"));
        let State::Open { mac, .. } = chip.state else {
            panic!("it is not open")
        };
        assert_eq!(mac, hex::<[u8; 16]>("D6B4F8AC7A66CFA041DC179A154543BF"));
        let counted = [0x00, 0x00, 0x60];
        assert_eq!(odd(cmac(mac, &counted)), hex::<[u8; 8]>("1D5DE802D6751670"));
    }

    #[test]
    fn the_virtual_chip_is_mute_to_what_carries_no_mac_and_refuses_a_wrong_one() {
        let open = || {
            let mut chip = VirtualUltralight::new([4; 7], [0; 16], [0; 16]);
            chip.state = State::Open {
                slot: 0,
                mac: [7; 16],
                counter: 0,
            };
            chip
        };
        assert_eq!(open().handle(&[0x30, 0x04]), Vec::<u8>::new());
        assert_eq!(open().handle(&[0x30, 4, 1, 2, 3, 4, 5, 6, 7, 8]), [0]);
    }
}
