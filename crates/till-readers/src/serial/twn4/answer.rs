//! What the TWN4 answers: a status, then the results in the order of the manual.

use canteen::{ChipId, ChipIdError};

use crate::ChipFault;
use crate::auth::Speaks;
use crate::serial::{crc_a, em4100};

/// Chips that one search found.
pub(super) type Found = Vec<Tag>;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// Of ISO/IEC 14443 type A, with the UID that it shows.
    TypeA(Vec<u8>),
    /// Of a kind that proves nothing: its number, or why it cannot be used.
    Other(Result<ChipId, ChipFault>),
}

/// Whether something was done: the result of SelectTag.
pub(super) fn is_done(results: &[u8]) -> Option<bool> {
    match results {
        [done @ (0 | 1)] => Some(*done == 1),
        [..] => None,
    }
}

/// The result of GetSAK: what can be sent to the chip; `None` when it is damaged.
pub(super) fn speaks(results: &[u8]) -> Option<Speaks> {
    match *results {
        [0] => Some(Speaks::Nothing),
        [1, select] => Some(Speaks::of_select(select)),
        [..] => None,
    }
}

/// The result of ISO14443_4_TDX: what the chip said, if anything; `None` when it is damaged.
pub(super) fn exchanged(results: &[u8]) -> Option<Option<Vec<u8>>> {
    match *results {
        [0] => Some(None),
        [1, length, ref said @ ..] if usize::from(length) == said.len() => {
            Some(Some(said.to_vec()))
        }
        [..] => None,
    }
}

/// What a chip said in a frame over the air: a refusal of four bits comes as one byte.
pub(super) fn heard(frame: &[u8]) -> Option<Vec<u8>> {
    match frame {
        [refusal] => Some(vec![*refusal]),
        [..] => crc_a::checked(frame),
    }
}

/// The answer to a command, without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The results.
    Done(&'a [u8]),
    /// The firmware does not have this function.
    Unknown,
    /// The firmware did not do it for another reason: its number.
    Refused(u8),
}

impl Answer<'_> {
    /// Reads the status; `None` when no answer begins so.
    pub(super) fn read(said: &[u8]) -> Option<Answer<'_>> {
        match *said {
            [0, ref results @ ..] => Some(Answer::Done(results)),
            [1 | 4] => Some(Answer::Unknown),
            [status @ (2 | 3 | 5)] => Some(Answer::Refused(status)),
            _ => None,
        }
    }
}

/// The result of GetVersionString.
pub(super) fn version(results: &[u8]) -> Option<String> {
    let (&length, text) = results.split_first()?;
    let is_whole = usize::from(length) == text.len();
    is_whole.then(|| text.escape_ascii().to_string())
}

/// The results of SearchMultiTag: whether there are any, how many, all their bytes, and each with
/// its length.
pub(super) fn several(results: &[u8]) -> Option<Found> {
    let (count, total, mut rest) = match *results {
        [0] => return Some(Vec::new()),
        [1, count, total, ref rest @ ..] => (usize::from(count), usize::from(total), rest),
        _ => return None,
    };
    if total != rest.len() {
        return None;
    }
    let mut found = Vec::new();
    while let Some((&length, after)) = rest.split_first() {
        let (uid, after) = after.split_at_checked(usize::from(length))?;
        found.push(Tag::TypeA(uid.to_vec()));
        rest = after;
    }
    (found.len() == count).then_some(found)
}

/// The result of SearchTag: whether there is one, its type, its bits, its bytes with their number.
pub(super) fn single(results: &[u8]) -> Option<Found> {
    let (kind, bits, id) = match *results {
        [0] => return Some(Vec::new()),
        [1, kind, bits, length, ref id @ ..] if usize::from(length) == id.len() => (kind, bits, id),
        _ => return None,
    };
    if usize::from(bits).div_ceil(8) != id.len() {
        return None;
    }
    Some(vec![match (kind, id) {
        (ISO14443A, uid) => Tag::TypeA(uid.to_vec()),
        (EM4102, &[a, b, c, d, e]) => Tag::Other(usable(em4100::identity([a, b, c, d, e]))),
        _ => Tag::Other(Err(ChipFault::Technology)),
    }])
}

/// Whether the result of SearchTag is a chip of ISO/IEC 14443 type A.
pub(super) fn is_iso14443a(results: &[u8]) -> bool {
    matches!(results, [1, ISO14443A, ..])
}

fn usable(chip: Result<ChipId, ChipIdError>) -> Result<ChipId, ChipFault> {
    Ok(chip?)
}

const EM4102: u8 = 0x40;
const ISO14443A: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::field::hex;

    fn words(found: Option<Found>) -> String {
        let word = |tag: Tag| {
            let chip = match tag {
                Tag::TypeA(uid) => usable(ChipId::from_uid(&uid)),
                Tag::Other(chip) => chip,
            };
            match chip {
                Ok(chip) => chip.to_string(),
                Err(fault) => format!("{fault:?}"),
            }
        };
        match found {
            Some(found) => found.into_iter().map(word).collect::<Vec<_>>().join(" "),
            None => "damaged".to_owned(),
        }
    }

    #[track_caller]
    fn check(read: fn(&[u8]) -> Option<Found>, answer: &str, expect: &str) {
        let bytes = hex(&answer.replace(' ', ""));
        let Some(Answer::Done(results)) = Answer::read(&bytes) else {
            panic!("{answer} is no result")
        };
        assert_eq!(words(read(results)), expect, "{answer}");
    }

    #[test]
    fn one_chip_is_read_as_in_the_manual() {
        check(single, "0001 80 20 04 66CF4DC2", "66CF4DC2");
        check(single, "0000", "");
    }

    #[test]
    fn several_chips_are_read_as_in_the_manual() {
        check(
            several,
            "0001 03 18 07 04D7A79A973780 07 042DA79A973780 07 0450A79A973780",
            "04D7A79A973780 042DA79A973780 0450A79A973780",
        );
        check(several, "0001 01 05 04 72BF9961", "72BF9961");
        check(several, "0000", "");
        check(several, "0001 00 00", "");
    }

    #[test]
    fn an_em4100_is_its_printed_number() {
        check(single, "0001 40 28 05 010063E9AE", "0063E9AE");
        check(single, "0001 40 20 04 0063E9AE", "Technology");
    }

    #[test]
    fn other_kinds_of_chips_are_refused() {
        // HID Prox, type B, ISO 15693, LEGIC, FeliCa.
        for kind in ["49", "81", "82", "83", "85"] {
            check(single, &format!("0001 {kind} 20 04 66CF4DC2"), "Technology");
        }
        check(single, "0001 80 20 04 083A5C11", "Identity(Random)");
        check(
            single,
            "0001 80 40 08 E004010203040506",
            "Identity(Length { bytes: 8 })",
        );
    }

    #[test]
    fn an_answer_whose_parts_do_not_fit_is_damaged() {
        for cut in [
            "0001 80 20 04 66CF4D",
            "0001 80 20 03 66CF4DC2",
            "0001 80 28 04 66CF4DC2",
            "0001",
            "00",
        ] {
            check(single, cut, "damaged");
        }
        for cut in [
            "0001 01 05 04 72BF99",
            "0001 01 06 04 72BF9961",
            "0001 02 05 04 72BF9961",
            "0001 01 05 05 72BF9961",
            "0001 01",
            "00",
        ] {
            check(several, cut, "damaged");
        }
    }

    #[test]
    fn a_status_is_told_from_damage() {
        assert_eq!(Answer::read(&[1]), Some(Answer::Unknown));
        assert_eq!(Answer::read(&[4]), Some(Answer::Unknown));
        assert_eq!(Answer::read(&[3]), Some(Answer::Refused(3)));
        for damage in [&[][..], &[6], &[0xE0], &[1, 0]] {
            assert_eq!(Answer::read(damage), None);
        }
    }

    #[test]
    fn what_a_chip_says_is_taken_whole_or_not_at_all() {
        assert_eq!(exchanged(&[1, 2, 0x90, 0]), Some(Some(vec![0x90, 0])));
        assert_eq!(exchanged(&[0]), Some(None));
        for damaged in [&[][..], &[1], &[1, 3, 0x90, 0], &[1, 1, 0x90, 0], &[2]] {
            assert_eq!(exchanged(damaged), None, "{damaged:02X?}");
        }
        assert_eq!(
            (is_done(&[1]), is_done(&[0]), is_done(&[])),
            (Some(true), Some(false), None)
        );
        assert_eq!(speaks(&[1, 0x20]), Some(Speaks::Apdus));
        assert_eq!(
            (speaks(&[1, 8]), speaks(&[0])),
            (Some(Speaks::Nothing), Some(Speaks::Nothing))
        );
        assert_eq!(speaks(&[1]), None);
    }

    #[test]
    fn the_version_is_read() {
        let bytes = hex("0454574E34");
        assert_eq!(version(&bytes), Some("TWN4".to_owned()));
        assert_eq!(version(&bytes[..4]), None);
        assert_eq!(version(&[]), None);
    }

    proptest! {
        #[test]
        fn any_results_are_taken(results in prop::collection::vec(any::<u8>(), 0..300)) {
            several(&results);
            single(&results);
            version(&results);
            is_done(&results);
            speaks(&results);
            heard(&results);
            exchanged(&results);
        }
    }
}
