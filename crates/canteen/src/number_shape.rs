//! The shapes in which other systems write a chip's number, and how a list of theirs is read.
//!
//! Readers turn the bytes of a UID into a number in either order (NXP AN10927 recommends none), so
//! the same digits may be two chips. Which order a list has is found out with one known chip, never
//! guessed.

use std::fmt;

use crate::chip::{ChipId, ChipIdError};

/// A shape of a chip's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberShape {
    /// Hex digits, first transmitted byte first: `72BF9961`. The till's own.
    Hex,
    /// Hex digits, last transmitted byte first: `6199BF72`.
    HexReversed,
    /// A decimal, first transmitted byte most significant: `1925159265`.
    Decimal,
    /// A decimal, last transmitted byte most significant: `1637465970`.
    DecimalReversed,
}

impl NumberShape {
    /// All of them.
    pub const ALL: [NumberShape; 4] = [
        NumberShape::Hex,
        NumberShape::HexReversed,
        NumberShape::Decimal,
        NumberShape::DecimalReversed,
    ];

    /// A chip's number in this shape. Decimals of 4 bytes have 10 digits.
    pub fn write(self, chip: &ChipId) -> String {
        let bytes = self.ordered(chip.as_bytes());
        match self {
            NumberShape::Hex | NumberShape::HexReversed => {
                bytes.iter().map(|byte| format!("{byte:02X}")).collect()
            }
            NumberShape::Decimal | NumberShape::DecimalReversed => {
                let number = bytes
                    .iter()
                    .fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
                format!("{number:010}")
            }
        }
    }

    /// The chip of a number in this shape; spaces, `:` and `-` in it do not count. A decimal of
    /// more than 4 bytes is one of 7.
    pub fn read(self, text: &str) -> Result<ChipId, NumberShapeError> {
        let kept = |c: &char| !c.is_whitespace() && !matches!(c, ':' | '-');
        let digits: String = text.chars().filter(kept).collect();
        let bytes = match self {
            NumberShape::Hex | NumberShape::HexReversed => hex(&digits),
            NumberShape::Decimal | NumberShape::DecimalReversed => decimal(&digits),
        };
        let bytes = bytes.ok_or(NumberShapeError::Digits { shape: self })?;
        Ok(ChipId::from_known(&self.ordered(&bytes))?)
    }

    /// The shapes in which this text is this chip: one, or none, or for a number that reads the
    /// same from both ends two.
    pub fn of(text: &str, chip: &ChipId) -> Vec<NumberShape> {
        let is_it = |shape: &NumberShape| shape.read(text).as_ref() == Ok(chip);
        NumberShape::ALL.into_iter().filter(is_it).collect()
    }

    /// The bytes in this shape's order, or back.
    fn ordered(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            NumberShape::Hex | NumberShape::Decimal => bytes.to_vec(),
            NumberShape::HexReversed | NumberShape::DecimalReversed => {
                bytes.iter().rev().copied().collect()
            }
        }
    }
}

/// As commands print it.
impl fmt::Display for NumberShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumberShape::Hex => "hex, first byte first",
            NumberShape::HexReversed => "hex, last byte first",
            NumberShape::Decimal => "decimal, first byte most significant",
            NumberShape::DecimalReversed => "decimal, last byte most significant",
        })
    }
}

/// Why a number cannot be read in a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberShapeError {
    /// Its digits do not fit.
    #[error("it is no number in the shape \"{shape}\"")]
    Digits {
        /// The shape.
        shape: NumberShape,
    },
    /// No chip can have it.
    #[error(transparent)]
    Identity(#[from] ChipIdError),
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

fn decimal(digits: &str) -> Option<Vec<u8>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match u32::try_from(number) {
        Ok(number) => Some(number.to_be_bytes().to_vec()),
        Err(_) => {
            let [beyond, bytes @ ..] = number.to_be_bytes();
            (beyond == 0).then(|| bytes.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uid: &str, shapes: [&str; 4]) {
        let chip = NumberShape::Hex.read(uid).unwrap();
        for (shape, text) in NumberShape::ALL.into_iter().zip(shapes) {
            assert_eq!(shape.write(&chip), text);
            assert_eq!(shape.read(text), Ok(chip));
            assert_eq!(NumberShape::of(text, &chip), [shape], "{text}");
        }
    }

    #[test]
    fn a_chip_has_a_number_in_every_shape() {
        check(
            "72BF9961",
            ["72BF9961", "6199BF72", "1925159265", "1637465970"],
        );
        check(
            "25890AA1",
            ["25890AA1", "A10A8925", "0629738145", "2701822245"],
        );
        check(
            "E43AC9D2",
            ["E43AC9D2", "D2C93AE4", "3829058002", "3536403172"],
        );
        check(
            "04A1B2C3D4E5F6",
            [
                "04A1B2C3D4E5F6",
                "F6E5D4C3B2A104",
                "1303689068602870",
                "69495546249912580",
            ],
        );
    }

    #[test]
    fn a_number_of_another_chip_has_no_shape() {
        let chip = NumberShape::Hex.read("72BF9961").unwrap();
        assert_eq!(NumberShape::of("1925159266", &chip), []);
        assert_eq!(NumberShape::of("kort 7", &chip), []);
        // A list that is cut to 4 of 7 bytes must not match by them.
        let long = NumberShape::Hex.read("72BF9961112233").unwrap();
        assert_eq!(NumberShape::of("72BF9961", &long), []);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "72BF996",
            "72BF996G",
            "æ1925159265",
            "72057594037927936",
        ] {
            for shape in NumberShape::ALL {
                assert!(shape.read(text).is_err(), "{shape} {text}");
            }
        }
    }
}
