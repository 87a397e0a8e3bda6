//! An ELATEC TWN4 with Simple Protocol firmware, with or without checksums: answers one command
//! at a time, and does not answer a line whose checksum is wrong.

use firmware_proto::device::Field;
use firmware_proto::message::{Chip, Technology};

use super::{Air, SimulatedDevice, crc, crc_a, to_hex, with_wrong_digit};

#[derive(Debug)]
pub(super) struct Twn4 {
    has_crc: bool,
    line: Vec<u8>,
    /// What SearchTag looks for at 125 kHz and at 13.56 MHz.
    types: (u32, u32),
    /// By SelectTag or by a search that found one chip.
    selected: Option<Chip>,
    lights: u8,
    has_shown_approval: bool,
    /// An answer, and when it is said.
    answer: Option<(Vec<u8>, u32)>,
}

impl Twn4 {
    pub(super) fn new(has_crc: bool) -> Twn4 {
        Twn4 {
            has_crc,
            line: Vec::new(),
            types: (u32::MAX, u32::MAX),
            selected: None,
            lights: 0,
            has_shown_approval: false,
            answer: None,
        }
    }

    fn handle_line(&mut self, line: &[u8], field: Field, air: &mut dyn Air, now: u32) {
        let mut bytes = Vec::new();
        for pair in line.chunks(2) {
            let digit = |at: usize| pair.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return self.say(&[PARSER_ERROR], now);
            };
            bytes.push((high * 16 + low) as u8);
        }
        if self.has_crc {
            let Some((command, sum)) = bytes.split_last_chunk::<2>() else {
                return;
            };
            if crc(CHECKSUM, command) != *sum {
                return;
            }
            bytes.truncate(bytes.len() - 2);
        }
        let (answer, milliseconds) = self.run(&bytes, field, air);
        self.say(&answer, now + milliseconds);
    }

    /// The answer to a command, and how long it takes.
    fn run(&mut self, command: &[u8], field: Field, air: &mut dyn Air) -> (Vec<u8>, u32) {
        let answer = match *command {
            [0x00, 0x04, most] => {
                let text = &VERSION[..VERSION.len().min(usize::from(most))];
                [&[0, text.len() as u8], text].concat()
            }
            [0x05, 0x00, most] => {
                self.selected = chip_of(field);
                air.select();
                return (self.search(field, most), SEARCH_TIME);
            }
            [0x05, 0x01] => {
                self.selected = None;
                air.cut_power();
                vec![0]
            }
            [0x05, 0x02, a, b, c, d, e, f, g, h] => {
                let number = |bytes| u32::from_le_bytes(bytes);
                self.types = (number([a, b, c, d]), number([e, f, g, h]));
                vec![0]
            }
            [0x12, 0x08, most] => {
                self.selected = None;
                return (search_several(field, most), SEARCH_TIME);
            }
            [0x12, 0x09, length, ref uid @ ..] if usize::from(length) == uid.len() => {
                self.selected = chip_of(field).filter(|chip| chip.uid.as_slice() == uid);
                if self.selected.is_some() {
                    air.select();
                }
                vec![0, u8::from(self.selected.is_some())]
            }
            [0x12, 0x05] => match self.selected {
                Some(chip) => vec![0, 1, chip.sak],
                None => vec![0, 0],
            },
            [0x12, 0x03, length, ref apdu @ .., most] if usize::from(length) == apdu.len() => {
                let takes_apdus = |chip: &Chip| chip.sak & 0x20 != 0;
                let is_ready = self.selected.as_ref().is_some_and(takes_apdus);
                exchanged(is_ready.then(|| air.exchange(apdu)).flatten(), most)
            }
            [0x12, 0x07, length, ref frame @ .., most, _, _]
                if usize::from(length) == frame.len() =>
            {
                let heard = self.selected.and_then(|_| framed(frame, air));
                exchanged(heard, most)
            }
            [0x04, 0x00, _, 0x00, 0x00] => vec![0],
            [0x04, 0x02, pins] => {
                self.lights |= pins;
                vec![0]
            }
            [0x04, 0x03, pins] => {
                self.lights &= !pins;
                vec![0]
            }
            [0x04, 0x07, _volume, a, b, c, d, e, f] => {
                let number = |bytes| u32::from(u16::from_le_bytes(bytes));
                self.has_shown_approval |= self.lights == GREEN && number([a, b]) > 2000;
                return (vec![0], number([c, d]) + number([e, f]));
            }
            [0x00, 0x04, _, _, ..] | [0x05, 0x00, _, _, ..] | [0x12, 0x08, _, _, ..] => {
                vec![UNUSED_PARAMETERS]
            }
            [0x00 | 0x04 | 0x05 | 0x12, _, ..] => vec![INVALID_FUNCTION],
            [_, _, ..] => vec![UNKNOWN_FUNCTION],
            [] | [_] => vec![PARSER_ERROR],
        };
        (answer, 0)
    }

    fn search(&self, field: Field, most: u8) -> Vec<u8> {
        let (kind, uid) = match &field {
            Field::One(chip) => match chip.technology {
                Technology::Iso14443A if self.types.1 & 1 != 0 => (0x80, chip.uid.as_slice()),
                Technology::Em4100 if self.types.0 & 1 != 0 => (0x40, chip.uid.as_slice()),
                _ => return vec![0, 0],
            },
            Field::Several if self.types.1 & 1 != 0 => (0x80, &CHIPS[0][..]),
            Field::Several | Field::Empty | Field::Unreadable => return vec![0, 0],
        };
        if uid.len() > usize::from(most) {
            return vec![0, 0];
        }
        let length = uid.len() as u8;
        [&[0, 1, kind, length * 8, length], uid].concat()
    }

    fn say(&mut self, answer: &[u8], at: u32) {
        let mut bytes = answer.to_vec();
        if self.has_crc {
            bytes.extend(crc(CHECKSUM, answer));
        }
        let line = format!("{}\r", to_hex(&bytes));
        self.answer = Some((line.into_bytes(), at));
    }
}

/// The only chip of type A in the field.
fn chip_of(field: Field) -> Option<Chip> {
    match field {
        Field::One(chip) if chip.technology == Technology::Iso14443A => Some(chip),
        Field::One(_) | Field::Several | Field::Empty | Field::Unreadable => None,
    }
}

/// A frame with its checksum, which the chip does not answer unless it is right, and what it says
/// with one behind it; a refusal of four bits has none.
fn framed(frame: &[u8], air: &mut dyn Air) -> Option<Vec<u8>> {
    let (frame, sum) = frame.split_last_chunk::<2>()?;
    let said = (crc_a(frame) == *sum).then(|| air.exchange(frame))??;
    Some(match said[..] {
        [refusal] => vec![refusal],
        _ => [&said[..], &crc_a(&said)].concat(),
    })
}

fn exchanged(said: Option<Vec<u8>>, most: u8) -> Vec<u8> {
    match said {
        Some(said) if said.len() <= usize::from(most) => {
            [&[0, 1, said.len() as u8], &said[..]].concat()
        }
        Some(_) | None => vec![0, 0],
    }
}

fn search_several(field: Field, most: u8) -> Vec<u8> {
    let one;
    let uids: &[&[u8]] = match &field {
        Field::One(chip) if chip.technology == Technology::Iso14443A => {
            one = [chip.uid.as_slice()];
            &one
        }
        Field::Several => &[&CHIPS[0], &CHIPS[1], &CHIPS[2]],
        Field::One(_) | Field::Empty | Field::Unreadable => return vec![0, 0],
    };
    let list: Vec<u8> = uids
        .iter()
        .flat_map(|uid| [&[uid.len() as u8], *uid].concat())
        .collect();
    if list.len() > usize::from(most) {
        return vec![0, 0];
    }
    [&[0, 1, uids.len() as u8, list.len() as u8], &list[..]].concat()
}

impl SimulatedDevice for Twn4 {
    fn power_up(&mut self) {
        *self = Twn4 {
            has_shown_approval: self.has_shown_approval,
            ..Twn4::new(self.has_crc)
        };
    }

    fn turn(&mut self, field: Field, air: &mut dyn Air, heard: &[u8], now: u32) -> Vec<Vec<u8>> {
        for &byte in heard {
            if byte == b'\r' {
                let line = std::mem::take(&mut self.line);
                self.handle_line(&line, field, air, now);
            } else {
                self.line.push(byte);
            }
        }
        let due = self.answer.take_if(|(_, at)| *at <= now);
        due.map(|(answer, _)| answer).into_iter().collect()
    }

    fn garbled(&self, frame: &[u8]) -> Vec<u8> {
        with_wrong_digit(frame)
    }

    fn has_shown_approval(&self) -> bool {
        self.has_shown_approval
    }
}

/// What a sum of CRC-16/MCRF4XX begins with.
const CHECKSUM: u16 = 0xFFFF;
const VERSION: &[u8] = b"TWN4/SIMULATED";
const SEARCH_TIME: u32 = 30;
const GREEN: u8 = 0x02;
const UNKNOWN_FUNCTION: u8 = 1;
const UNUSED_PARAMETERS: u8 = 3;
const INVALID_FUNCTION: u8 = 4;
const PARSER_ERROR: u8 = 5;
/// The chips of the manual's example.
const CHIPS: [[u8; 7]; 3] = [
    [0x04, 0xD7, 0xA7, 0x9A, 0x97, 0x37, 0x80],
    [0x04, 0x2D, 0xA7, 0x9A, 0x97, 0x37, 0x80],
    [0x04, 0x50, 0xA7, 0x9A, 0x97, 0x37, 0x80],
];

#[cfg(test)]
mod tests {
    use super::super::{Silence, field_of};
    use super::*;

    /// What it says to a line, in 100 ms.
    #[track_caller]
    fn check(has_crc: bool, field: Field, line: &str, expect: &str) {
        let mut reader = Twn4::new(has_crc);
        let mut said = reader
            .turn(field, &mut Silence, format!("{line}\r").as_bytes(), 0)
            .concat();
        said.extend(reader.turn(field, &mut Silence, &[], 100).concat());
        assert_eq!(
            String::from_utf8(said).unwrap().trim_end(),
            expect,
            "{line}"
        );
    }

    #[test]
    fn lines_are_as_in_the_manual() {
        check(
            false,
            field_of(&[0x66, 0xCF, 0x4D, 0xC2]),
            "050010",
            "000180200466CF4DC2",
        );
        check(false, Field::Empty, "050010", "0000");
        check(
            false,
            Field::Several,
            "1208FF",
            "000103180704D7A79A97378007042DA79A973780070450A79A973780",
        );
        assert_eq!(crc(CHECKSUM, &[0x00, 0x05]), [0x15, 0xA7]);
        assert_eq!(crc(CHECKSUM, &[0x00, 0x01]), [0x31, 0xE1]);
    }

    #[test]
    fn a_reader_with_checksums_answers_nothing_else() {
        check(true, Field::Empty, "0004FF", "");
        check(true, Field::Empty, "0502000000000100000000007D87", "");
        check(true, Field::Empty, "050200000000010000007D87", "00870F");
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        check(false, Field::Empty, "9900", "01");
        check(false, Field::Empty, "0099", "04");
        check(false, Field::Empty, "0004FF2B51", "03");
        check(false, Field::Empty, "000", "05");
    }
}
