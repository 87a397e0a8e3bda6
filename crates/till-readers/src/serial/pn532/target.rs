//! What the PN532 answers, beyond its frames (NXP UM0701-02, 7.2.2 and 7.3.5).

use canteen::ChipId;

use crate::ChipFault;
use crate::serial::field::Sight;

/// The answer to GetFirmwareVersion in words.
pub(super) fn firmware(answer: &[u8]) -> String {
    match *answer {
        [0x32, version, revision, ..] => format!("PN532 {version}.{revision}"),
        [kind, version, revision, ..] => format!("PN5xx ({kind:02X}) {version}.{revision}"),
        _ => "unknown".to_owned(),
    }
}

/// The answer to InListPassiveTarget for type A at 106 kbit/s.
pub(super) fn sight(answer: &[u8]) -> Sight {
    match answer {
        [0, ..] => Sight::Empty,
        [1, target @ ..] => match uid(target) {
            Some(uid) => Sight::of(vec![ChipId::from_uid(uid).map_err(ChipFault::from)]),
            None => Sight::Unusable(ChipFault::HoldStill),
        },
        [_, ..] => Sight::Unusable(ChipFault::Several),
        [] => Sight::Unusable(ChipFault::HoldStill),
    }
}

/// Number of the target, SENS_RES (2), SEL_RES, length of the UID, the UID; what follows is the
/// answer to select of ISO/IEC 14443-4.
fn uid(target: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = target.get(4..)?.split_first()?;
    rest.get(..usize::from(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::pn532::tests::hex;

    #[track_caller]
    fn check(answer: &str, expect: &str) {
        let shown = match sight(&hex(answer)) {
            Sight::Empty => "empty".to_owned(),
            Sight::Chip(identity) => crate::serial::field::who(identity),
            Sight::Unusable(fault) => format!("{fault:?}"),
        };
        assert_eq!(shown, expect, "{answer}");
    }

    #[test]
    fn the_number_of_chips_decides_first() {
        check("00", "empty");
        check("01010004080472BF9961", "72BF9961");
        check("01010044000704A1B2C3D4E5F6", "04A1B2C3D4E5F6");
        check("02010004080472BF9961020004080411223344", "Several");
        check("03", "Several");
    }

    #[test]
    fn an_answer_to_select_is_no_part_of_the_uid() {
        check("01010344200704A1B2C3D4E5F6067577810280", "04A1B2C3D4E5F6");
    }

    #[test]
    fn what_identifies_nobody_is_refused() {
        check("010100040804083A5C11", "Identity(Random)");
        check("010100040803112233", "Identity(Length { bytes: 3 })");
    }

    #[test]
    fn an_answer_cut_short_is_no_chip() {
        for cut in ["", "01", "0101", "0101000408", "01010004080472BF99"] {
            check(cut, "HoldStill");
        }
    }

    #[test]
    fn the_kind_of_chip_is_told() {
        assert_eq!(firmware(&hex("32010607")), "PN532 1.6");
        assert_eq!(firmware(&hex("33020507")), "PN5xx (33) 2.5");
        assert_eq!(firmware(&[]), "unknown");
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(answer in prop::collection::vec(any::<u8>(), 0..300)) {
            sight(&answer);
            firmware(&answer);
        }
    }
}
