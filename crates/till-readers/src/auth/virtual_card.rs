//! The chip's side of the authentications and of what changes a chip, for tests: an NTAG 424 DNA, a
//! DESFire EV1.
//!
//! It shares no code with the reader's side: CBC, CMAC, session vectors and framing are written a
//! second time, from the documents, so that one slip does not cancel itself out.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::ChipFault;

#[derive(Clone)]
pub(crate) struct VirtualCard {
    pub(crate) select: Vec<u8>,
    pub(super) uid: Vec<u8>,
    pub(crate) keys: Vec<[u8; 16]>,
    /// The last random number; every challenge is one more.
    pub(super) random: u128,
    pub(super) transaction: [u8; 4],
    /// How often the card refused a reader.
    pub(super) refused: usize,
    /// Knows the older authentication only.
    pub(crate) is_ev1: bool,
    /// What was written beside each key.
    pub(super) versions: Vec<u8>,
    /// Another UID is shown at every power-up.
    pub(super) shows_random: bool,
    state: State,
}

#[derive(Clone)]
enum State {
    Idle,
    Selected,
    ChallengedEv2 {
        number: u8,
        key: [u8; 16],
        rnd_b: [u8; 16],
    },
    ChallengedEv1 {
        key: [u8; 16],
        rnd_b: [u8; 16],
        sent: [u8; 16],
    },
    Authenticated {
        number: u8,
        encryption: [u8; 16],
        mac: [u8; 16],
        counter: u16,
    },
    AuthenticatedEv1,
}

impl VirtualCard {
    pub(crate) fn new(uid: &[u8], keys: Vec<[u8; 16]>) -> VirtualCard {
        VirtualCard {
            select: vec![0, 0xA4, 4, 0, 7, 0xD2, 0x76, 0, 0, 0x85, 1, 1, 0],
            uid: uid.to_vec(),
            keys,
            random: 0x1111_2222_3333_4444_5555_6666_7777_8888,
            transaction: [0xDF, 0x05, 0x55, 0x22],
            refused: 0,
            is_ev1: false,
            versions: vec![0; 5],
            shows_random: false,
            state: State::Idle,
        }
    }

    /// As the till's exchange sees it.
    pub(super) fn exchange(&mut self) -> impl FnMut(&[u8]) -> Result<Vec<u8>, ChipFault> + '_ {
        |command| Ok(self.handle(command))
    }

    pub(crate) fn handle(&mut self, command: &[u8]) -> Vec<u8> {
        if command == self.select {
            self.state = State::Selected;
            return vec![if command[0] == 0 { 0x90 } else { 0x91 }, 0x00];
        }
        let (code, data) = match command {
            [0x90, code, 0, 0, lc, data @ .., 0] if usize::from(*lc) == data.len() => (*code, data),
            [0x90, _, 0, 0, ..] => return self.refuse(0x7E),
            _ => return vec![0x6E, 0x00],
        };
        let state = std::mem::replace(&mut self.state, State::Selected);
        match (code, data, state) {
            (_, _, State::Idle) => {
                self.state = State::Idle;
                vec![0x6D, 0x00]
            }
            (0x71, ..) if self.is_ev1 => self.refuse(0x1C),
            (0x71, [number, 0], _) => self.challenge(*number, false),
            (0xAA, [number], _) => self.challenge(*number, true),
            (0xAF, token, State::ChallengedEv2 { number, key, rnd_b }) => {
                self.finish_ev2(token, (number, key), rnd_b)
            }
            (0xAF, token, State::ChallengedEv1 { key, rnd_b, sent }) => {
                self.finish_ev1(token, key, rnd_b, sent)
            }
            (
                0x51,
                sent,
                State::Authenticated {
                    encryption,
                    mac,
                    counter,
                    ..
                },
            ) => self.card_uid(sent, encryption, mac, counter),
            (0x51, ..) => self.refuse(0xAE),
            (0x64, [number], State::Selected) => match self.versions.get(usize::from(*number)) {
                Some(version) => vec![*version, 0x91, 0x00],
                None => self.refuse(0x40),
            },
            (0x5C | 0xC4, sent, session @ State::Authenticated { number: 0, .. }) => {
                self.change(code, sent, session)
            }
            (0x5C | 0xC4, ..) => self.refuse(0x9D),
            _ => self.refuse(0x1C),
        }
    }

    fn challenge(&mut self, number: u8, ev1: bool) -> Vec<u8> {
        let Some(key) = self.keys.get(usize::from(number)).copied() else {
            return self.refuse(0x40);
        };
        self.random += 1;
        let rnd_b = self.random.to_be_bytes();
        let sent = encrypt(key, rnd_b);
        self.state = match ev1 {
            true => State::ChallengedEv1 { key, rnd_b, sent },
            false => State::ChallengedEv2 { number, key, rnd_b },
        };
        [&sent[..], &[0x91, 0xAF]].concat()
    }

    fn finish_ev2(
        &mut self,
        token: &[u8],
        (number, key): (u8, [u8; 16]),
        rnd_b: [u8; 16],
    ) -> Vec<u8> {
        let Some((first, second)) = halves(token) else {
            return self.refuse(0x7E);
        };
        let rnd_a = decrypt(key, first);
        if mix(decrypt(key, second), first) != turn(rnd_b) {
            return self.refuse(0xAE);
        }
        let turned = turn(rnd_a);
        let mut one = [0; 16];
        one[..4].copy_from_slice(&self.transaction);
        one[4..].copy_from_slice(&turned[..12]);
        let mut two = [0; 16];
        two[..4].copy_from_slice(&turned[12..]);
        let one = encrypt(key, one);
        let two = encrypt(key, mix(two, one));
        self.state = State::Authenticated {
            number,
            encryption: cmac(key, &session_vector([0xA5, 0x5A], rnd_a, rnd_b)),
            mac: cmac(key, &session_vector([0x5A, 0xA5], rnd_a, rnd_b)),
            counter: 0,
        };
        [&one[..], &two, &[0x91, 0x00]].concat()
    }

    fn finish_ev1(
        &mut self,
        token: &[u8],
        key: [u8; 16],
        rnd_b: [u8; 16],
        sent: [u8; 16],
    ) -> Vec<u8> {
        let Some((first, second)) = halves(token) else {
            return self.refuse(0x7E);
        };
        let rnd_a = mix(decrypt(key, first), sent);
        if mix(decrypt(key, second), first) != turn(rnd_b) {
            return self.refuse(0xAE);
        }
        self.state = State::AuthenticatedEv1;
        [&encrypt(key, mix(turn(rnd_a), second))[..], &[0x91, 0x00]].concat()
    }

    fn card_uid(
        &mut self,
        sent: &[u8],
        encryption: [u8; 16],
        mac: [u8; 16],
        counter: u16,
    ) -> Vec<u8> {
        let ti = self.transaction;
        let [low, high] = counter.to_le_bytes();
        if sent != odd(cmac(mac, &[0x51, low, high, ti[0], ti[1], ti[2], ti[3]])) {
            return self.refuse(0x1E);
        }
        let [low, high] = (counter + 1).to_le_bytes();
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(&[0x5A, 0xA5, ti[0], ti[1], ti[2], ti[3], low, high]);
        let mut plain = [0; 16];
        plain[..self.uid.len()].copy_from_slice(&self.uid);
        plain[self.uid.len()] = 0x80;
        let sealed = encrypt(encryption, mix(plain, encrypt(encryption, iv)));
        let mut covered = vec![0x00, low, high];
        covered.extend(ti);
        covered.extend(sealed);
        self.state = State::Selected;
        [&sealed[..], &odd(cmac(mac, &covered)), &[0x91, 0x00]].concat()
    }

    /// ChangeKey and SetConfiguration: a readable byte, encrypted data, a MAC.
    fn change(&mut self, code: u8, sent: &[u8], session: State) -> Vec<u8> {
        let State::Authenticated {
            number,
            encryption,
            mac,
            counter,
        } = session
        else {
            return self.refuse(0x9D);
        };
        let ti = self.transaction;
        let Some((&[header, ref sealed @ ..], check)) = sent.split_last_chunk::<8>() else {
            return self.refuse(0x7E);
        };
        let [low, high] = counter.to_le_bytes();
        let mut covered = vec![code, low, high, ti[0], ti[1], ti[2], ti[3], header];
        covered.extend(sealed);
        if *check != odd(cmac(mac, &covered)) {
            return self.refuse(0x1E);
        }
        let mut chain = [0; 16];
        chain[..8].copy_from_slice(&[0xA5, 0x5A, ti[0], ti[1], ti[2], ti[3], low, high]);
        chain = encrypt(encryption, chain);
        let mut plain = Vec::new();
        for block in sealed.as_chunks::<16>().0 {
            plain.extend(mix(decrypt(encryption, *block), chain));
            chain = *block;
        }
        let end = plain.iter().rposition(|byte| *byte == 0x80).unwrap_or(0);
        match (code, header, &plain[..end]) {
            (0x5C, 0x00, [0x02]) => self.shows_random = true,
            (0xC4, 0, [key @ .., version]) if key.len() == 16 => {
                self.keys[0] = key.try_into().expect("16 bytes");
                self.versions[0] = *version;
                return vec![0x91, 0x00];
            }
            (0xC4, 1..=4, [mixed @ .., version, a, b, c, d]) if mixed.len() == 16 => {
                let at = usize::from(header);
                let key = mix(mixed.try_into().expect("16 bytes"), self.keys[at]);
                if check_sum(&key) != [*a, *b, *c, *d] {
                    return self.refuse(0x1E);
                }
                self.keys[at] = key;
                self.versions[at] = *version;
            }
            _ => return self.refuse(0x7E),
        }
        let [low, high] = (counter + 1).to_le_bytes();
        self.state = State::Authenticated {
            number,
            encryption,
            mac,
            counter: counter + 1,
        };
        let confirmed = odd(cmac(mac, &[0, low, high, ti[0], ti[1], ti[2], ti[3]]));
        [&confirmed[..], &[0x91, 0x00]].concat()
    }

    /// A refusal ends any authentication.
    fn refuse(&mut self, status: u8) -> Vec<u8> {
        self.refused += 1;
        vec![0x91, status]
    }
}

pub(super) fn session_vector(label: [u8; 2], a: [u8; 16], b: [u8; 16]) -> Vec<u8> {
    let mut vector = vec![label[0], label[1], 0x00, 0x01, 0x00, 0x80, a[0], a[1]];
    for i in 0..6 {
        vector.push(a[2 + i] ^ b[i]);
    }
    vector.extend(&b[6..16]);
    vector.extend(&a[8..16]);
    vector
}

pub(super) fn halves(token: &[u8]) -> Option<([u8; 16], [u8; 16])> {
    let (first, second) = token.split_at_checked(16)?;
    Some((first.try_into().ok()?, second.try_into().ok()?))
}

pub(super) fn encrypt(key: [u8; 16], mut block: [u8; 16]) -> [u8; 16] {
    Aes128::new(&key.into()).encrypt_block((&mut block).into());
    block
}

pub(super) fn decrypt(key: [u8; 16], mut block: [u8; 16]) -> [u8; 16] {
    Aes128::new(&key.into()).decrypt_block((&mut block).into());
    block
}

/// CMAC bit by bit after NIST SP 800-38B, section 6.
pub(super) fn cmac(key: [u8; 16], message: &[u8]) -> [u8; 16] {
    let double = |block: [u8; 16]| {
        let mut out = [0; 16];
        for i in 0..16 {
            let carry = if i < 15 { block[i + 1] >> 7 } else { 0 };
            out[i] = block[i] << 1 | carry;
        }
        if block[0] & 0x80 != 0 {
            out[15] ^= 0x87;
        }
        out
    };
    let k1 = double(encrypt(key, [0; 16]));
    let (body, tail) = match message.len() {
        0 => (&message[..0], message),
        length => message.split_at((length - 1) / 16 * 16),
    };
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let last = if tail.len() == 16 {
        mix(last, k1)
    } else {
        last[tail.len()] = 0x80;
        mix(last, double(k1))
    };
    let mut chain = [0; 16];
    for block in body.chunks(16) {
        chain = encrypt(key, mix(chain, block.try_into().expect("whole blocks")));
    }
    encrypt(key, mix(chain, last))
}

/// CRC-32 of IEEE 802.3 without its last complement, lowest byte first.
fn check_sum(bytes: &[u8]) -> [u8; 4] {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    sum.to_le_bytes()
}

pub(super) fn odd(whole: [u8; 16]) -> [u8; 8] {
    [1, 3, 5, 7, 9, 11, 13, 15].map(|i: usize| whole[i])
}

pub(super) fn turn(block: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(block).rotate_left(8).to_be_bytes()
}

pub(super) fn mix(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
    (u128::from_be_bytes(a) ^ u128::from_be_bytes(b)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::hex;

    fn check(card: &mut VirtualCard, lines: &[(&str, &str)]) {
        for (command, answer) in lines {
            assert_eq!(
                card.handle(&hex::<Vec<u8>>(command)),
                hex::<Vec<u8>>(answer)
            );
        }
    }

    fn next_random(block: &str) -> u128 {
        u128::from_be_bytes(hex(block)) - 1
    }

    #[test]
    fn the_virtual_card_answers_like_the_one_of_an12196() {
        let mut card = VirtualCard::new(&[0; 7], vec![[0; 16]]);
        card.random = next_random("B9E2FC789B64BF237CCCAA20EC7E6E48");
        card.transaction = hex("9D00C4DF");
        check(
            &mut card,
            &[
                ("00A4040007D276000085010100", "9000"),
                ("9071000002000000", "A04C124213C186F22399D33AC2A30215 91AF"),
                (
                    "90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00",
                    "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663 9100",
                ),
            ],
        );
        let State::Authenticated {
            encryption, mac, ..
        } = card.state
        else {
            panic!("authenticated");
        };
        assert_eq!(
            encryption,
            hex::<[u8; 16]>("1309C877509E5A215007FF0ED19CA564")
        );
        assert_eq!(mac, hex::<[u8; 16]>("4C6626F5E72EA694202139295C7A7FC7"));
    }

    #[test]
    fn the_virtual_card_tells_its_uid_like_the_one_of_an12196() {
        let mut card = VirtualCard::new(&hex::<Vec<u8>>("04958CAA5C5E80"), vec![]);
        card.state = State::Authenticated {
            encryption: hex("2B4D963C014DC36F24F69A50A394F875"),
            mac: hex("379D32130CE61705DD5FD8C36B95D764"),
            number: 1,
            counter: 0,
        };
        check(
            &mut card,
            &[(
                "9051000008 8E2C155ADDA99BE3 00",
                "70756055688505B52A5E26E59E329CD6 595F672298EA41B7 9100",
            )],
        );
    }

    #[test]
    fn the_virtual_card_changes_keys_like_the_one_of_an12196() {
        let mut card = VirtualCard::new(&[0; 7], vec![[0; 16]; 5]);
        card.transaction = hex("7614281A");
        card.state = State::Authenticated {
            encryption: hex("4CF3CB41A22583A61E89B158D252FC53"),
            mac: hex("5529860B2FC5FB6154B7F28361D30BF9"),
            number: 0,
            counter: 2,
        };
        check(
            &mut card,
            &[
                (
                    "90C4000029 02 2CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC7 5D0CE20BCD1D06E6 00",
                    "203BB55D1089D587 9100",
                ),
                (
                    "90C4000029 00 C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FD A6610234BDED6432 00",
                    "9100",
                ),
            ],
        );
        assert_eq!(
            card.keys[2],
            hex::<[u8; 16]>("F3847D627727ED3BC9C4CC050489B966")
        );
        assert_eq!(
            card.keys[0],
            hex::<[u8; 16]>("5004BF991F408672B1EF00F08F9E8647")
        );
        assert_eq!(card.versions, [1, 0, 1, 0, 0]);
    }

    #[test]
    fn the_virtual_card_answers_like_the_recorded_desfire_ev1() {
        let mut card = VirtualCard::new(&[0; 7], vec![[0; 16]]);
        card.state = State::Selected;
        card.random = next_random("40A81BEE2D58A71AA38C2E94BA428067");
        check(
            &mut card,
            &[
                ("90AA0000010000", "2C68DFD9C1E211D5020AF03C8147B01E 91AF"),
                (
                    "90AF000020 F2CD9CA7ACF94173D340B4CDD5FC527264C54056E6BD0DB15853A4F7A902AFBC 00",
                    "B2DC06693DC7E505798AC41FF6D0FD7F 9100",
                ),
            ],
        );
    }
}
