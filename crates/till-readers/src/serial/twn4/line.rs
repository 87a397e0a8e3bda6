//! Lines of the Simple Protocol (ELATEC, "TWN4 Simple Protocol", DocRev17): bytes as pairs of hex
//! digits, ended by a carriage return, with or without a checksum at their end.

use crc::{CRC_16_MCRF4XX, Crc};

/// Whether lines carry a checksum; the reader's firmware decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    None,
    Crc,
}

/// A command as it goes over the line.
pub(super) fn encode(command: &[u8], check: Check) -> Vec<u8> {
    let mut bytes = command.to_vec();
    match check {
        Check::None => {}
        Check::Crc => bytes.extend(CHECKSUM.checksum(command).to_le_bytes()),
    }
    let mut line: Vec<u8> = bytes.iter().flat_map(|byte| digits(*byte)).collect();
    line.push(END);
    line
}

/// What an answer says, if its checksum is right.
pub(super) fn checked(answer: &[u8], check: Check) -> Option<&[u8]> {
    match check {
        Check::None => Some(answer),
        Check::Crc => {
            let (said, sum) = answer.split_last_chunk::<2>()?;
            (CHECKSUM.checksum(said).to_le_bytes() == *sum).then_some(said)
        }
    }
}

/// Finds lines among other bytes.
///
/// What is no hex digit begins a line anew, so that noise costs nothing that comes after it; a
/// line that lost its beginning this way fails by its checksum, or by the length that its parts
/// say.
#[derive(Debug, Default)]
pub(in crate::serial) struct Decoder {
    digits: Vec<u8>,
    is_too_long: bool,
}

impl Decoder {
    /// Takes a byte from the line; gives the bytes of a line that it ends. A line of half bytes is
    /// given as an empty one, which answers nothing.
    pub(in crate::serial) fn push(&mut self, byte: u8) -> Option<Vec<u8>> {
        match char::from(byte).to_digit(16) {
            Some(digit) if self.digits.len() < MAX_DIGITS => self.digits.push(digit as u8),
            Some(_) => self.is_too_long = true,
            None => {
                let digits = std::mem::take(&mut self.digits);
                let is_too_long = std::mem::take(&mut self.is_too_long);
                if byte == END && !digits.is_empty() {
                    let is_whole = !is_too_long && digits.len().is_multiple_of(2);
                    let pairs = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
                    return Some(if is_whole {
                        pairs.collect()
                    } else {
                        Vec::new()
                    });
                }
            }
        }
        None
    }
}

fn digits(byte: u8) -> [u8; 2] {
    let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half & 0x0F)];
    [digit(byte >> 4), digit(byte)]
}

const END: u8 = b'\r';
/// An answer has a status, and at most two lengths and 255 bytes after it, and a checksum.
const MAX_DIGITS: usize = 2 * 300;
const CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_MCRF4XX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::field::hex;

    fn decode(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut decoder = Decoder::default();
        bytes
            .iter()
            .filter_map(|byte| decoder.push(*byte))
            .collect()
    }

    /// A command's line in both shapes, as the manual or another program has it.
    #[track_caller]
    fn check(command: &str, plain: &str, with_crc: &str) {
        let command = hex(command);
        assert_eq!(encode(&command, Check::None), plain.as_bytes());
        assert_eq!(encode(&command, Check::Crc), with_crc.as_bytes());
        let lines = decode(format!("{plain}{with_crc}").as_bytes());
        assert_eq!(checked(&lines[0], Check::None), Some(&command[..]));
        assert_eq!(checked(&lines[1], Check::Crc), Some(&command[..]));
    }

    #[test]
    fn lines_are_as_in_the_manual() {
        check("0005", "0005\r", "000515A7\r");
        check("0001", "0001\r", "000131E1\r");
    }

    #[test]
    fn digits_are_read_in_either_case() {
        assert_eq!(decode(b"000131e1\r"), [hex("000131E1")]);
    }

    #[test]
    fn a_wrong_checksum_is_no_answer() {
        for wrong in [
            "000131E0", "000130E1", "0031E1", "0001E131", "31E1", "E1", "",
        ] {
            assert_eq!(checked(&hex(wrong), Check::Crc), None, "{wrong}");
        }
    }

    #[test]
    fn noise_costs_only_what_it_hits() {
        assert_eq!(decode(b"AT+GMI\r\n0001\r"), [hex("0001")]);
        assert_eq!(decode(b"\x00\xFF\x0B\x010001\r\n"), [hex("0001")]);
        assert_eq!(decode(b"000\r0001\r"), [vec![], hex("0001")]);
        let flood = [&[b'A'; 2000][..], b"\r0001\r"].concat();
        assert_eq!(decode(&flood), [vec![], hex("0001")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            for line in decode(&bytes) {
                checked(&line, Check::Crc);
            }
        }

        #[test]
        fn every_line_is_read_after_any_noise(
            said in prop::collection::vec(any::<u8>(), 1..200),
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = noise;
            bytes.push(b'\r');
            bytes.extend(encode(&said, Check::Crc));
            let lines = decode(&bytes);
            prop_assert_eq!(lines.last().and_then(|line| checked(line, Check::Crc)), Some(&said[..]));
        }

        #[test]
        fn a_changed_byte_is_noticed(
            said in prop::collection::vec(any::<u8>(), 1..60),
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let mut bytes = encode(&said, Check::Crc);
            let at = at.index(bytes.len() - 1);
            prop_assume!(!byte.eq_ignore_ascii_case(&bytes[at]));
            // A digit that became another end leaves the rest of the line, which is shorter.
            bytes[at] = byte;
            for line in decode(&bytes) {
                if let Some(believed) = checked(&line, Check::Crc) {
                    prop_assert!(believed.len() < said.len());
                }
            }
        }
    }
}
