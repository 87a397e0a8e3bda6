//! What the PN532 answers, beyond its frames (NXP UM0701-02, 7.2.2 and 7.3.5).

use crate::ChipFault;
use crate::auth::{Shown, Speaks};
use crate::serial::crc_a;
use crate::serial::field::Seen;

/// The answer to GetFirmwareVersion in words.
pub(super) fn firmware(answer: &[u8]) -> String {
    match *answer {
        [0x32, version, revision, ..] => format!("PN532 {version}.{revision}"),
        [kind, version, revision, ..] => format!("PN5xx ({kind:02X}) {version}.{revision}"),
        _ => "unknown".to_owned(),
    }
}

/// The answer to InListPassiveTarget for type A at 106 kbit/s.
pub(crate) fn seen(answer: &[u8]) -> Seen {
    match answer {
        [0, ..] => Seen::Nothing,
        [1, target @ ..] => match shown(target) {
            Some(shown) => Seen::Chip(shown),
            None => Seen::Unusable(ChipFault::HoldStill),
        },
        [_, ..] => Seen::Unusable(ChipFault::Several),
        [] => Seen::Unusable(ChipFault::HoldStill),
    }
}

/// The answer to InDataExchange: a status, then what the chip said.
pub(super) fn exchanged(answer: &[u8]) -> Option<Vec<u8>> {
    match answer {
        // The upper bits tell of further parts, of which no answer here has any.
        [status, said @ ..] if status & STATUS_ERROR == 0 && !said.is_empty() => {
            Some(said.to_vec())
        }
        [..] => None,
    }
}

/// The answer to InCommunicateThru with the reader's check of checksums switched off: a status, then
/// what the chip said. What is one byte is a refusal of four bits, which has no checksum.
pub(crate) fn heard(answer: &[u8]) -> Option<Vec<u8>> {
    match answer {
        [status, refusal] if status & STATUS_ERROR == 0 => Some(vec![*refusal]),
        [status, said @ ..] if status & STATUS_ERROR == 0 => crc_a::checked(said),
        [..] => None,
    }
}

/// The answer to ReadRegister; a PN533 puts a status before the value.
pub(crate) fn register(answer: &[u8]) -> Option<u8> {
    answer.last().copied()
}

/// Number of the target, SENS_RES (2), SEL_RES, length of the UID, the UID; what follows is the
/// answer to select of ISO/IEC 14443-4.
fn shown(target: &[u8]) -> Option<Shown> {
    let &[_, _, _, select, length, ref rest @ ..] = target else {
        return None;
    };
    Some(Shown {
        uid: rest.get(..usize::from(length))?.to_vec(),
        speaks: Speaks::of_select(select),
    })
}

/// CIU_RxMode, how answers over the air are received.
pub(crate) const RECEPTION: [u8; 2] = [0x63, 0x03];
/// The bit in it that has checksums checked (RxCRCEn).
pub(crate) const CHECKS: u8 = 0x80;
const STATUS_ERROR: u8 = 0x3F;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::field::hex;
    use crate::serial::field::who;

    #[track_caller]
    fn check(answer: &str, expect: &str) {
        let shown = match seen(&hex(answer)) {
            Seen::Nothing => "empty".to_owned(),
            Seen::Chip(shown) => match shown.claim() {
                Ok(identity) if shown.speaks == Speaks::Apdus => format!("{} apdus", who(identity)),
                Ok(identity) => who(identity),
                Err(fault) => format!("{fault:?}"),
            },
            Seen::Unusable(fault) => format!("{fault:?}"),
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
        check(
            "01010344200704A1B2C3D4E5F6067577810280",
            "04A1B2C3D4E5F6 apdus",
        );
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
    fn what_the_chip_said_comes_after_a_good_status() {
        assert_eq!(exchanged(&hex("009000")), Some(hex("9000")));
        for failed in ["", "00", "01", "019000", "139000"] {
            assert_eq!(exchanged(&hex(failed)), None, "{failed}");
        }
    }

    /// A refusal, and the frame of ISO/IEC 14443-3, annex B, with a bit turned and cut.
    #[test]
    fn what_the_chip_said_in_a_frame_has_its_checksum_behind_it() {
        assert_eq!(heard(&hex("0000")), Some(vec![0]));
        assert_eq!(heard(&hex("00123426CF")), Some(hex("1234")));
        for damaged in [
            "",
            "00",
            "01",
            "02123426CF",
            "00123426CE",
            "00123526CF",
            "003426CF",
            "0026CF",
        ] {
            assert_eq!(heard(&hex(damaged)), None, "{damaged}");
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
            seen(&answer);
            exchanged(&answer);
            heard(&answer);
            register(&answer);
            firmware(&answer);
        }
    }
}
