//! A PN532 on its high-speed UART, with the habits that drivers stumble over: it sleeps after
//! power-up until it is woken, searches for ever unless told otherwise, does not find again a chip
//! that it still holds, puts a chip to sleep while it searches for a second one, and loses the
//! acknowledgement after an abort.

use firmware_proto::device::Field;
use firmware_proto::message::{Chip, chip_flag};

use super::{Air, SimulatedDevice, crc_a, with_wrong_bit};

#[derive(Debug)]
pub(super) struct Pn532 {
    heard: Vec<u8>,
    is_awake: bool,
    /// How often a chip is called; `FF` is for ever.
    retries: u8,
    /// A chip that was listed and not released.
    holds_chip: bool,
    /// That chip sleeps since the search for a second one, until it is selected or exchanged with.
    chip_sleeps: bool,
    /// CIU_RxMode.
    reception: u8,
    /// Searching, for so many chips at the most.
    searching: Option<u8>,
    was_aborted: bool,
}

impl Pn532 {
    pub(super) fn new() -> Pn532 {
        Pn532 {
            heard: Vec::new(),
            is_awake: false,
            retries: FOR_EVER,
            holds_chip: false,
            chip_sleeps: false,
            reception: CHECKS,
            searching: None,
            was_aborted: false,
        }
    }

    /// The next command in what was heard; the bytes before it are gone then.
    fn next_command(&mut self) -> Option<Heard> {
        loop {
            let at = self.heard.windows(2).position(|two| two == [0x00, 0xFF])?;
            if !self.is_awake {
                self.is_awake = self.heard[..at].contains(&WAKE_UP);
            }
            self.heard.drain(..at + 2);
            match *self.heard.as_slice() {
                [0x00, 0xFF, ..] => return Some(Heard::Abort),
                [length, check, ref rest @ ..] if length > 0 && length.wrapping_add(check) == 0 => {
                    // The till writes frames whole; a half one is waited for.
                    let Some(body) = rest.get(..=usize::from(length)) else {
                        self.heard.splice(..0, [0x00, 0xFF]);
                        return None;
                    };
                    let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                    if let ([0xD4, command @ .., _], 0) = (body, sum) {
                        return Some(Heard::Command(command.to_vec()));
                    }
                }
                _ => {}
            }
        }
    }

    fn handle(&mut self, command: &[u8], air: &mut dyn Air, said: &mut Vec<Vec<u8>>) {
        // A new command ends the one before it.
        self.searching = None;
        if !std::mem::take(&mut self.was_aborted) {
            said.push(ACK.to_vec());
        }
        match *command {
            [0x14, 0x01, ..] => said.push(answer(&[0x15])),
            [0x02] => said.push(answer(&[0x03, 0x32, 0x01, 0x06, 0x07])),
            [0x32, 0x05, _, _, retries] => {
                self.retries = retries;
                said.push(answer(&[0x33]));
            }
            [0x32, 0x01, on] => {
                if on & 0x01 == 0 {
                    self.holds_chip = false;
                    air.cut_power();
                }
                said.push(answer(&[0x33]));
            }
            [0x4A, most @ (1 | 2), 0x00] => self.searching = Some(most),
            [0x40, 1, ref apdu @ ..] => {
                self.chip_sleeps = false;
                let heard = self.holds_chip.then(|| air.exchange(apdu)).flatten();
                said.push(exchanged(0x41, heard));
            }
            [0x54, 1] => {
                let status = if self.holds_chip { 0x00 } else { WRONG_CONTEXT };
                self.chip_sleeps = false;
                said.push(answer(&[0x55, status]));
            }
            [0x42, ref frame @ ..] => {
                let hears = self.holds_chip && !self.chip_sleeps;
                let heard = hears.then(|| air.exchange(frame)).flatten();
                said.push(self.communicated(heard));
            }
            [0x06, 0x63, 0x03] => said.push(answer(&[0x07, self.reception])),
            [0x08, 0x63, 0x03, value] => {
                self.reception = value;
                said.push(answer(&[0x09]));
            }
            [0x52, _] => {
                self.holds_chip = false;
                said.push(answer(&[0x53, 0x00]));
            }
            _ => said.push(REFUSAL.to_vec()),
        }
    }

    /// The answer to InCommunicateThru: while checksums are checked, a refusal of four bits, which
    /// has none, is a wrong one; while they are not, they stand behind what the chip said.
    fn communicated(&self, heard: Option<Vec<u8>>) -> Vec<u8> {
        let checks = self.reception & CHECKS != 0;
        match heard {
            Some(refusal) if refusal.len() == 1 && checks => answer(&[0x43, WRONG_CHECKSUM]),
            Some(said) if said.len() > 1 && !checks => {
                answer(&[&[0x43, 0x00], &said[..], &crc_a(&said)].concat())
            }
            heard => exchanged(0x43, heard),
        }
    }

    /// One turn of a search.
    fn search(&mut self, field: Field, air: &mut dyn Air, said: &mut Vec<Vec<u8>>) {
        let Some(most) = self.searching else { return };
        let mut targets = match field {
            Field::Empty | Field::Unreadable => Vec::new(),
            Field::One(chip) => vec![target_of(&chip)],
            Field::Several => vec![target(1, &FIRST), target(2, &SECOND)],
        };
        if std::mem::take(&mut self.holds_chip) {
            targets.clear();
        }
        targets.truncate(usize::from(most));
        if targets.is_empty() && self.retries == FOR_EVER {
            return;
        }
        self.searching = None;
        self.holds_chip = !targets.is_empty();
        self.chip_sleeps = most > 1;
        self.reception = CHECKS;
        if self.holds_chip {
            air.select();
        }
        let mut list = vec![0x4B, targets.len() as u8];
        list.extend(targets.concat());
        said.push(answer(&list));
    }
}

enum Heard {
    Command(Vec<u8>),
    Abort,
}

impl SimulatedDevice for Pn532 {
    fn power_up(&mut self) {
        *self = Pn532::new();
    }

    fn turn(&mut self, field: Field, air: &mut dyn Air, heard: &[u8], _now: u32) -> Vec<Vec<u8>> {
        self.heard.extend(heard);
        let mut said = Vec::new();
        // A search takes until the turn after its command.
        self.search(field, air, &mut said);
        while let Some(heard) = self.next_command() {
            match heard {
                _ if !self.is_awake => {}
                Heard::Abort => {
                    self.searching = None;
                    self.was_aborted = true;
                }
                Heard::Command(command) => self.handle(&command, air, &mut said),
            }
        }
        said
    }

    fn garbled(&self, frame: &[u8]) -> Vec<u8> {
        with_wrong_bit(frame)
    }
}

/// What a chip said; without an answer the time was over.
fn exchanged(code: u8, heard: Option<Vec<u8>>) -> Vec<u8> {
    match heard {
        Some(heard) => answer(&[&[code, 0x00], &heard[..]].concat()),
        None => answer(&[code, 0x01]),
    }
}

/// One that takes commands has said in its answer to select how it does.
fn target_of(chip: &Chip) -> Vec<u8> {
    let uid = chip.uid.as_slice();
    if chip.sak == ULTRALIGHT {
        return [&[1, 0x00, 0x44, ULTRALIGHT, uid.len() as u8], uid].concat();
    }
    if chip.flags & chip_flag::TAKES_COMMANDS == 0 {
        return target(1, uid);
    }
    let head = [1, 0x03, 0x44, 0x20, uid.len() as u8];
    [&head, uid, &[0x06, 0x75, 0x77, 0x81, 0x02, 0x80]].concat()
}

/// A Classic 1K by its 4 bytes, else an Ultralight.
fn target(number: u8, uid: &[u8]) -> Vec<u8> {
    let (sens, sel) = if uid.len() == 4 {
        (0x04, 0x08)
    } else {
        (0x44, 0x00)
    };
    let mut target = vec![number, 0x00, sens, sel, uid.len() as u8];
    target.extend(uid);
    target
}

fn answer(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u8 + 1;
    let sum = data
        .iter()
        .fold(0xD5u8, |sum, byte| sum.wrapping_add(*byte));
    let mut frame = vec![0x00, 0x00, 0xFF, length, length.wrapping_neg(), 0xD5];
    frame.extend(data);
    frame.extend([sum.wrapping_neg(), 0x00]);
    frame
}

/// RxCRCEn in CIU_RxMode.
const CHECKS: u8 = 0x80;
const WRONG_CHECKSUM: u8 = 0x02;
const WRONG_CONTEXT: u8 = 0x27;
/// SEL_RES of the whole family.
const ULTRALIGHT: u8 = 0x00;
const WAKE_UP: u8 = 0x55;
const FOR_EVER: u8 = 0xFF;
const ACK: [u8; 6] = [0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00];
const REFUSAL: [u8; 8] = [0x00, 0x00, 0xFF, 0x01, 0xFF, 0x7F, 0x81, 0x00];
const FIRST: [u8; 4] = [0x72, 0xBF, 0x99, 0x61];
const SECOND: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

#[cfg(test)]
mod tests {
    use super::super::{Silence, field_of, to_hex};
    use super::*;

    const WAKE: &[u8] = b"\x55\x55\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const SAM: &[u8] = b"\0\0\xFF\x05\xFB\xD4\x14\x01\0\0\x17\0";
    const RETRIES: &[u8] = b"\0\0\xFF\x06\xFA\xD4\x32\x05\xFF\x01\x02\xF3\0";
    const LOOK: &[u8] = b"\0\0\xFF\x04\xFC\xD4\x4A\x02\0\xE0\0";
    const RELEASE: &[u8] = b"\0\0\xFF\x03\xFD\xD4\x52\0\xDA\0";
    const FOUR: [u8; 4] = FIRST;

    fn awake() -> Pn532 {
        let mut chip = Pn532::new();
        check(
            &mut chip,
            Field::Empty,
            &[WAKE, SAM].concat(),
            "0000FF00FF00 0000FF02FED5151600",
        );
        check(
            &mut chip,
            Field::Empty,
            RETRIES,
            "0000FF00FF00 0000FF02FED533F800",
        );
        chip
    }

    /// What it says to this, in two turns.
    #[track_caller]
    fn check(chip: &mut Pn532, field: Field, heard: &[u8], expect: &str) {
        let mut said = chip.turn(field, &mut Silence, heard, 0);
        said.extend(chip.turn(field, &mut Silence, &[], 10));
        let said: Vec<String> = said.iter().map(|frame| to_hex(frame)).collect();
        assert_eq!(said.join(" "), expect);
    }

    #[test]
    fn it_sleeps_until_it_is_woken() {
        check(&mut Pn532::new(), Field::Empty, SAM, "");
        awake();
    }

    #[test]
    fn it_says_what_the_chip_says() {
        let mut chip = awake();
        check(
            &mut chip,
            Field::Empty,
            LOOK,
            "0000FF00FF00 0000FF03FDD54B00E000",
        );
        check(
            &mut chip,
            field_of(&FOUR),
            LOOK,
            "0000FF00FF00 0000FF0CF4D54B01010004080472BF9961A300",
        );
        check(
            &mut chip,
            Field::Empty,
            RELEASE,
            "0000FF00FF00 0000FF03FDD55300D800",
        );
        check(
            &mut chip,
            Field::Several,
            LOOK,
            "0000FF00FF00 0000FF15EBD54B02010004080472BF9961020004080411223344E600",
        );
    }

    #[test]
    fn field_of_that_is_not_released_is_not_found_again() {
        let mut chip = awake();
        for expect in [
            "0000FF00FF00 0000FF0CF4D54B01010004080472BF9961A300",
            "0000FF00FF00 0000FF03FDD54B00E000",
        ] {
            check(&mut chip, field_of(&FOUR), LOOK, expect);
        }
    }

    #[test]
    fn it_searches_for_ever_unless_told_otherwise() {
        let mut chip = Pn532::new();
        let heard = [WAKE, SAM, LOOK].concat();
        check(
            &mut chip,
            Field::Empty,
            &heard,
            "0000FF00FF00 0000FF02FED5151600 0000FF00FF00",
        );
        check(&mut chip, Field::Empty, &ACK, "");
        // The acknowledgement after an abort is lost.
        check(&mut chip, Field::Empty, RETRIES, "0000FF02FED533F800");
    }
}
