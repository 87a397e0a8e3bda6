//! Chips and the numbers people know them by.

use std::fmt;

use thiserror::Error;

/// The identity of a chip: its unique identifier (UID), first transmitted byte first.
///
/// Only identifiers that stay the same for the life of a chip are accepted: 4, 7 or 10 bytes
/// (ISO/IEC 14443-3, single, double and triple size), never a random or blank one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChipId {
    len: u8,
    bytes: [u8; 10],
}

impl ChipId {
    /// Takes the UID as a reader delivers it.
    pub fn from_uid(uid: &[u8]) -> Result<ChipId, ChipIdError> {
        let chip = ChipId::from_known(uid)?;
        match *uid {
            [RANDOM_UID, _, _, _] => Err(ChipIdError::Random),
            [CASCADE_TAG, _, _, _] => Err(ChipIdError::Truncated),
            _ => Ok(chip),
        }
    }

    /// Takes the 4 bytes of an EM4100's number (125 kHz), most significant byte first. They follow
    /// no rules: what would be a random UID is a number like any other there.
    pub fn from_em4100(number: [u8; 4]) -> Result<ChipId, ChipIdError> {
        ChipId::from_known(&number)
    }

    /// Takes an identity that a register already has: what a reader would not take for a UID may
    /// stand in it as the number of an EM4100.
    pub fn from_known(known: &[u8]) -> Result<ChipId, ChipIdError> {
        if !matches!(known.len(), 4 | 7 | 10) {
            return Err(ChipIdError::Length { bytes: known.len() });
        }
        if known.iter().all(|&b| b == 0x00) || known.iter().all(|&b| b == 0xFF) {
            return Err(ChipIdError::Blank);
        }
        let mut bytes = [0; 10];
        bytes[..known.len()].copy_from_slice(known);
        Ok(ChipId {
            len: known.len() as u8,
            bytes,
        })
    }

    /// The UID, first transmitted byte first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The number as a decimal, most significant byte first; only 4-byte chips have one.
    pub fn decimal(&self) -> Option<u32> {
        let four: [u8; 4] = self.as_bytes().try_into().ok()?;
        Some(u32::from_be_bytes(four))
    }
}

/// Upper-case hex: the shape in which chips are printed, stored and sent.
impl fmt::Display for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// The last two bytes only: a UID is personal data and must not reach a log in full.
impl fmt::Debug for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.as_bytes();
        let tail = &bytes[bytes.len() - 2..];
        write!(f, "ChipId(…{:02X}{:02X})", tail[0], tail[1])
    }
}

/// Why a UID cannot identify a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChipIdError {
    /// The UID has a length that no chip in use has.
    #[error("a chip's UID has 4, 7 or 10 bytes, this one has {bytes}")]
    Length {
        /// How many bytes were delivered.
        bytes: usize,
    },
    /// All bits are equal: a blank or broken chip, or a reader's filler.
    #[error("the UID is blank (all bits equal)")]
    Blank,
    /// ISO/IEC 14443-3: a 4-byte UID that starts with 08 is drawn anew at every power-up.
    #[error("the UID is random (a telephone or a protected card); it changes at every tap")]
    Random,
    /// ISO/IEC 14443-3: 88 is the cascade tag, so these are the first bytes of a longer UID.
    #[error("the UID is cut short (it starts with the cascade tag 88)")]
    Truncated,
}

/// What is printed on a card beside its verification code: 14 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardNumber(u64);

impl CardNumber {
    /// Parses exactly 14 decimal digits.
    pub fn parse(text: &str) -> Option<CardNumber> {
        let digits = text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok().map(CardNumber)).flatten()
    }
}

impl fmt::Display for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014}", self.0)
    }
}

/// A chip number as a person types it.
///
/// | typed | read as |
/// |---|---|
/// | 8, 14 or 20 hex digits with at least one letter, either case | the UID |
/// | 8 digits | the UID in hex (a decimal of 8 digits is written with leading zeros, as 10) |
/// | 9 or 10 digits | the UID, or the number of an EM4100, as a decimal, most significant byte first |
/// | 14 digits | the number printed on the card |
///
/// Spaces, `:` and `-` between digits are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipNumber {
    /// The number is a UID under one of its shapes.
    Chip(ChipId),
    /// The number is printed on a card and known only as an alias of a chip.
    Card(CardNumber),
}

impl ChipNumber {
    /// Reads a chip number in any shape that canteens use.
    pub fn parse(text: &str) -> Result<ChipNumber, ChipNumberError> {
        let digits: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, ':' | '-'))
            .collect();
        if digits.is_empty() {
            return Err(ChipNumberError::Empty);
        }
        if let Some(found) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(ChipNumberError::Character { found });
        }
        if let Some(card) = CardNumber::parse(&digits) {
            return Ok(ChipNumber::Card(card));
        }
        let only_digits = digits.bytes().all(|b| b.is_ascii_digit());
        match digits.len() {
            9 | 10 if only_digits => {
                let number: u32 = digits.parse().map_err(|_| ChipNumberError::DecimalRange)?;
                Ok(ChipNumber::Chip(ChipId::from_em4100(number.to_be_bytes())?))
            }
            8 | 14 | 20 => {
                let uid: Vec<u8> = (0..digits.len() / 2)
                    .filter_map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok())
                    .collect();
                Ok(ChipNumber::Chip(ChipId::from_uid(&uid)?))
            }
            length => Err(ChipNumberError::Length { length }),
        }
    }
}

impl fmt::Display for ChipNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChipNumber::Chip(chip) => chip.fmt(f),
            ChipNumber::Card(card) => card.fmt(f),
        }
    }
}

/// Why a typed number is no chip number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChipNumberError {
    /// Nothing was typed.
    #[error("the chip number is empty")]
    Empty,
    /// A character that is neither a digit nor a letter from A to F.
    #[error("'{found}' does not belong in a chip number; use digits and the letters A to F")]
    Character {
        /// The first such character.
        found: char,
    },
    /// The number of digits fits no shape.
    #[error(
        "a chip number has 8, 14 or 20 hex digits, or a decimal of 10 digits; this one has {length}"
    )]
    Length {
        /// How many digits were typed.
        length: usize,
    },
    /// A decimal that does not fit into 4 bytes.
    #[error("a decimal chip number is at most 4294967295")]
    DecimalRange,
    /// The digits are well formed but no chip can have them as its identity.
    #[error(transparent)]
    Identity(#[from] ChipIdError),
}

/// First byte of a 4-byte UID that is random at every power-up (ISO/IEC 14443-3; NXP AN10927).
const RANDOM_UID: u8 = 0x08;
/// Announces a longer UID and is never its own first byte (ISO/IEC 14443-3; NXP AN10927).
const CASCADE_TAG: u8 = 0x88;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expect: &str) {
        let shown = match ChipNumber::parse(typed) {
            Ok(ChipNumber::Chip(chip)) => format!("chip {chip}"),
            Ok(ChipNumber::Card(card)) => format!("card {card}"),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expect, "{typed}");
    }

    #[test]
    fn a_number_under_one_shape_is_the_same_chip_under_the_other() {
        check("72BF9961", "chip 72BF9961");
        check("72bf9961", "chip 72BF9961");
        check("1925159265", "chip 72BF9961");
        check("72:BF:99:61", "chip 72BF9961");
        check("2701822245", "chip A10A8925");
        check("0011223344", "chip 00AB4130");
        check("11223344", "chip 11223344");
        // An EM4100 may have such a number; a UID may not, and decimals are printed on the former.
        check("0140764867", "chip 0863E6C3");
        check("04a1b2c3d4e5f6", "chip 04A1B2C3D4E5F6");
        check("12345678901234", "card 12345678901234");
        check("00000000000001", "card 00000000000001");
    }

    #[test]
    fn a_number_that_is_no_identity_is_refused() {
        check("", "Empty");
        check("  ", "Empty");
        check("72BF996G", "Character { found: 'G' }");
        check("72BF99", "Length { length: 6 }");
        check("1925159", "Length { length: 7 }");
        check("4294967296", "DecimalRange");
        check("4294967295", "Identity(Blank)");
        check("0000000000", "Identity(Blank)");
        check("FFFFFFFF", "Identity(Blank)");
        check("08A1B2C3", "Identity(Random)");
        check("8804A1B2", "Identity(Truncated)");
    }

    #[test]
    fn a_uid_of_another_length_is_no_identity() {
        for bytes in [0, 1, 3, 5, 6, 8, 9, 11, 12] {
            assert_eq!(
                ChipId::from_uid(&vec![4; bytes]),
                Err(ChipIdError::Length { bytes })
            );
        }
    }

    #[test]
    fn the_same_digits_with_and_without_the_rest_are_two_chips() {
        let short = ChipId::from_uid(&[0x04, 0xA1, 0xB2, 0xC3]).unwrap();
        let long = ChipId::from_uid(&[0x04, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6]).unwrap();
        assert_ne!(short, long);
        assert_eq!(long.decimal(), None);
    }

    #[test]
    fn debug_output_hides_the_uid() {
        let chip = ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap();
        assert_eq!(format!("{chip:?}"), "ChipId(…9961)");
    }
}
