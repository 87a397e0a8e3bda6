//! EM4100 chips at 125 kHz and how their numbers become identities.
//!
//! An EM4100 sends 5 bytes: a version (or customer) number, then its number, most significant byte
//! first. **The identity is the 4 bytes of the number, without the version.** Read as a decimal,
//! they are what is printed on the card in 10 digits (`0006547886` for `0063E9AE`), so a number
//! that somebody types from the card finds the chip, as it does for a 4-byte UID.
//!
//! What this costs: two chips that differ in their version alone are one chip here, as they are in
//! print. An EM4100 and a chip of ISO/IEC 14443 may by chance (1 in 4 294 967 296 for each pair)
//! have the same 4 bytes. A number that begins with 08 or 88, which no UID does, is typed as the
//! decimal that is printed on the card. And anybody can copy an EM4100 for the price of an empty one:
//! it says who somebody claims to be, never more.

use canteen::{ChipId, ChipIdError};

/// The identity of the chip that sent these 5 bytes.
pub(super) fn identity(sent: [u8; 5]) -> Result<ChipId, ChipIdError> {
    let [_version, number @ ..] = sent;
    ChipId::from_em4100(number)
}

#[cfg(test)]
mod tests {
    use canteen::ChipNumber;

    use super::*;

    #[track_caller]
    fn check(sent: [u8; 5], printed: &str) {
        let Ok(ChipNumber::Chip(typed)) = ChipNumber::parse(printed) else {
            panic!("{printed} is no chip number")
        };
        assert_eq!(identity(sent), Ok(typed), "{printed}");
    }

    #[test]
    fn the_number_printed_on_the_card_is_the_chip() {
        check([0x01, 0x00, 0x63, 0xE9, 0xAE], "0006547886");
        check([0x62, 0xE3, 0x08, 0x6C, 0xED], "3808980205");
    }

    #[test]
    fn a_number_that_no_uid_can_be_is_a_chip_here() {
        check([0x01, 0x08, 0x63, 0xE6, 0xC3], "0140764867");
        check([0x01, 0x88, 0x04, 0x02, 0x03], "2281964035");
        assert_eq!(identity([1, 0, 0, 0, 0]), Err(ChipIdError::Blank));
    }
}
