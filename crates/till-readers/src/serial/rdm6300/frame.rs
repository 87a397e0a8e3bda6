//! Frames of the RDM6300: `02`, the 5 bytes of an EM4100 in hex, their XOR in hex, `03`.

use std::time::Instant;

use thiserror::Error;

/// What one frame says: the chip's 5 bytes, and when its first byte came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serial) struct Frame {
    pub(in crate::serial) sent: [u8; 5],
    pub(in crate::serial) begun_at: Instant,
}

/// A frame that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a frame was damaged; check the cable")]
pub(in crate::serial) struct Damaged;

/// Finds frames among other bytes. A `02` always begins anew, so that no damage costs more than
/// the frame that it hit.
#[derive(Debug, Default)]
pub(in crate::serial) struct Decoder {
    begun_at: Option<Instant>,
    digits: Vec<u8>,
}

impl Decoder {
    /// Takes a byte from the line.
    pub(in crate::serial) fn push(
        &mut self,
        byte: u8,
        now: Instant,
    ) -> Option<Result<Frame, Damaged>> {
        if byte == START {
            let was_cut = self.begun_at.replace(now).is_some();
            self.digits.clear();
            return was_cut.then_some(Err(Damaged));
        }
        let begun_at = self.begun_at?;
        if byte == END {
            self.begun_at = None;
            let sent = chip(&self.digits).ok_or(Damaged);
            return Some(sent.map(|sent| Frame { sent, begun_at }));
        }
        if !byte.is_ascii_hexdigit() || self.digits.len() == DIGITS {
            self.begun_at = None;
            return Some(Err(Damaged));
        }
        self.digits.push(byte);
        None
    }
}

/// 12 hex digits in either case.
fn chip(digits: &[u8]) -> Option<[u8; 5]> {
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = [0; 6];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    let [a, b, c, d, e, check] = bytes;
    (a ^ b ^ c ^ d ^ e == check).then_some([a, b, c, d, e])
}

const START: u8 = 0x02;
const END: u8 = 0x03;
const DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Vec<Result<[u8; 5], Damaged>> {
        let (mut decoder, now) = (Decoder::default(), Instant::now());
        let found = bytes.iter().filter_map(|byte| decoder.push(*byte, now));
        found.map(|frame| frame.map(|frame| frame.sent)).collect()
    }

    #[track_caller]
    fn check(bytes: &[u8], expect: &[Result<[u8; 5], Damaged>]) {
        assert_eq!(decode(bytes), expect, "{}", bytes.escape_ascii());
    }

    const A: [u8; 5] = [0x62, 0xE3, 0x08, 0x6C, 0xED];
    const B: [u8; 5] = [0x01, 0x00, 0x63, 0xE9, 0xAE];

    #[test]
    fn frames_of_real_cards_are_understood_in_either_case() {
        check(b"\x0262E3086CED08\x03", &[Ok(A)]);
        check(b"\x02010063E9AE25\x03", &[Ok(B)]);
        check(b"\x02010063e9ae25\x03", &[Ok(B)]);
        check(b"\x0262E3086CED08\x03\x02010063E9AE25\x03", &[Ok(A), Ok(B)]);
    }

    #[test]
    fn a_wrong_check_is_no_chip() {
        check(b"\x0262E3086CED26\x03", &[Err(Damaged)]);
        check(b"\x02010063E9AE26\x03", &[Err(Damaged)]);
    }

    #[test]
    fn damage_costs_no_more_than_its_own_frame() {
        let next = b"\x02010063E9AE25\x03";
        for damaged in [
            &b"\x0262E3086C"[..],
            b"\x0262E3086CED08",
            b"\x0262E3086CED0\x03",
            b"\x0262E3086CED088\x03",
            b"\x0262E3\xFF086CED08\x03",
            b"\x02\x03",
        ] {
            check(&[damaged, next].concat(), &[Err(Damaged), Ok(B)]);
        }
        check(&[&b"\x03AT+GMI\r\n"[..], next].concat(), &[Ok(B)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            decode(&bytes);
        }

        #[test]
        fn every_chip_is_read_after_any_noise(
            sent: [u8; 5],
            noise in prop::collection::vec(any::<u8>(), 0..40),
            is_upper: bool,
        ) {
            let check = sent.iter().fold(0, |check, byte| check ^ byte);
            let digits: String = sent.iter().chain([&check]).map(|byte| format!("{byte:02x}")).collect();
            let digits = if is_upper { digits.to_uppercase() } else { digits };
            let bytes = [&noise[..], b"\x02", digits.as_bytes(), b"\x03"].concat();
            prop_assert_eq!(decode(&bytes).pop(), Some(Ok(sent)));
        }

        #[test]
        fn a_changed_byte_is_never_another_chip(
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let mut bytes = *b"\x02010063E9AE25\x03";
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for frame in decode(&bytes) {
                prop_assert!(matches!(frame, Err(Damaged) | Ok(B)));
            }
        }
    }
}
