//! Frames of the PN532 (NXP UM0701-02, 6.2.1): `00 00 FF`, length, its complement, data that
//! begins with the direction, a checksum and `00`.

use thiserror::Error;

/// What comes from the chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serial) enum Frame {
    /// The command has arrived.
    Ack,
    /// The command has not arrived in one piece.
    Nack,
    /// The command was not understood.
    Refusal,
    /// An answer: its code, and what follows it.
    Answer(u8, Vec<u8>),
}

/// A frame whose checksum is wrong; what it says is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a frame was damaged; check the cable")]
pub(in crate::serial) struct Damaged;

/// A command as it goes over the line: the command's code, then what belongs to it; `None` when
/// it is longer than the chip can take.
pub(super) fn encode(command: &[u8]) -> Option<Vec<u8>> {
    if command.len() >= MAX_BODY {
        return None;
    }
    let length = command.len() + 1;
    let mut frame = vec![0x00, 0x00, 0xFF];
    match u8::try_from(length) {
        Ok(length) => frame.extend([length, length.wrapping_neg()]),
        Err(_) => {
            let [high, low] = (length as u16).to_be_bytes();
            let check = high.wrapping_add(low).wrapping_neg();
            frame.extend([0xFF, 0xFF, high, low, check]);
        }
    }
    frame.push(TO_CHIP);
    frame.extend(command);
    frame.push(sum(command).wrapping_add(TO_CHIP).wrapping_neg());
    frame.push(0x00);
    Some(frame)
}

/// The till's acknowledgement. It ends whatever the chip is doing.
pub(super) const ABORT: [u8; 6] = [0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00];

/// Finds frames among other bytes.
///
/// Bytes that merely look like the head of a frame cost nothing: the length must fit its
/// complement and the direction must be right, else the search goes on one byte later, and so it
/// does when the checksum is wrong in the end. A head that passes by chance holds up what comes
/// after it; since the chip speaks only when asked, [`Decoder::clear`] before every command ends
/// that. What stands inside a frame is never taken for a frame, since a chip may have chosen it.
#[derive(Debug, Default)]
pub(in crate::serial) struct Decoder {
    held: Vec<u8>,
}

enum Start {
    Incomplete,
    NoFrame,
    Damaged,
    /// With the number of bytes that it takes.
    Whole(Frame, usize),
}

impl Decoder {
    /// Takes bytes from the line.
    pub(in crate::serial) fn push(&mut self, bytes: &[u8]) {
        self.held.extend(bytes);
    }

    /// Forgets what has come.
    pub(in crate::serial) fn clear(&mut self) {
        self.held.clear();
    }

    /// The next frame in what has come, if there is a whole one.
    pub(in crate::serial) fn poll(&mut self) -> Option<Result<Frame, Damaged>> {
        let mut from = 0;
        loop {
            let Some(at) = self.held[from..].windows(2).position(|two| two == START) else {
                // The first half of a start may be the last byte.
                let rest = usize::from(self.held.last() == Some(&START[0]));
                self.held.drain(..self.held.len() - rest);
                return None;
            };
            let at = from + at;
            match Start::read(&self.held[at + START.len()..]) {
                Start::Incomplete => {
                    self.held.drain(..at);
                    return None;
                }
                Start::NoFrame => from = at + 1,
                Start::Damaged => {
                    self.held.drain(..=at);
                    return Some(Err(Damaged));
                }
                Start::Whole(frame, length) => {
                    self.held.drain(..at + START.len() + length);
                    return Some(Ok(frame));
                }
            }
        }
    }
}

impl Start {
    /// What follows the bytes `00 FF`.
    fn read(rest: &[u8]) -> Start {
        match *rest {
            [] | [_] | [0xFF, 0xFF] | [0xFF, 0xFF, _] | [0xFF, 0xFF, _, _] => Start::Incomplete,
            [0x00, 0xFF, ..] => Start::Whole(Frame::Ack, 2),
            [0xFF, 0x00, ..] => Start::Whole(Frame::Nack, 2),
            [0xFF, 0xFF, high, low, check, ref body @ ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if sum(&[high, low, check]) != 0 || length > MAX_BODY {
                    return Start::NoFrame;
                }
                Start::read_body(body, length, 5)
            }
            [length, check, ref body @ ..] => {
                if length == 0 || length.wrapping_add(check) != 0 {
                    return Start::NoFrame;
                }
                Start::read_body(body, usize::from(length), 2)
            }
        }
    }

    /// `body` may be longer or shorter than the frame; `head` bytes came before it.
    fn read_body(body: &[u8], length: usize, head: usize) -> Start {
        match (body.first(), length) {
            (None, 1..) => return Start::Incomplete,
            (Some(&FROM_CHIP), 2..) | (Some(&REFUSAL), 1) => {}
            _ => return Start::NoFrame,
        }
        let Some(checked) = body.get(..=length) else {
            return Start::Incomplete;
        };
        if sum(checked) != 0 {
            return Start::Damaged;
        }
        let frame = match *checked {
            [FROM_CHIP, code, ref data @ .., _] => Frame::Answer(code, data.to_vec()),
            _ => Frame::Refusal,
        };
        Start::Whole(frame, head + length + 1)
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

const START: [u8; 2] = [0x00, 0xFF];
const TO_CHIP: u8 = 0xD4;
const FROM_CHIP: u8 = 0xD5;
/// The only byte of the frame that says that a command was not understood.
const REFUSAL: u8 = 0x7F;
/// Direction, code and data together (NXP UM0701-02, 6.2.1.2).
pub(in crate::serial) const MAX_BODY: usize = 265;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::field::hex;

    /// All frames in the bytes, which come in one by one.
    fn decode(bytes: &[u8]) -> Vec<Result<Frame, Damaged>> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for byte in bytes {
            decoder.push(&[*byte]);
            while let Some(frame) = decoder.poll() {
                found.push(frame);
            }
        }
        found
    }

    /// An answer of the chip, made by the rules of the manual and not by the encoder.
    fn answer(data: &[u8]) -> Vec<u8> {
        let length = data.len() as u16 + 1;
        let mut frame = vec![0, 0, 0xFF];
        if length > 255 {
            let [high, low] = length.to_be_bytes();
            frame.extend([
                0xFF,
                0xFF,
                high,
                low,
                0u8.wrapping_sub(high).wrapping_sub(low),
            ]);
        } else {
            frame.extend([length as u8, (256 - length) as u8]);
        }
        let sum = data
            .iter()
            .fold(0xD5u8, |sum, byte| sum.wrapping_add(*byte));
        frame.push(0xD5);
        frame.extend(data);
        frame.extend([0u8.wrapping_sub(sum), 0]);
        frame
    }

    #[track_caller]
    fn check_command(command: &str, expect: &str) {
        assert_eq!(encode(&hex(command)), Some(hex(expect)), "{command}");
    }

    #[track_caller]
    fn check(bytes: &str, expect: &[Result<Frame, Damaged>]) {
        assert_eq!(decode(&hex(bytes)), expect, "{bytes}");
    }

    #[test]
    fn commands_are_framed_as_other_programs_frame_them() {
        check_command("14010000", "0000FF05FBD4140100001700");
        check_command("14011401", "0000FF05FBD4140114010200");
        check_command("02", "0000FF02FED4022A00");
        check_command("3205FF0102", "0000FF06FAD43205FF0102F300");
        check_command("4A0100", "0000FF04FCD44A0100E100");
        check_command("4A0200", "0000FF04FCD44A0200E000");
        check_command("5200", "0000FF03FDD45200DA00");
        // InDataExchange with a chip's own command: READ of page 4.
        check_command("40013004", "0000FF05FBD440013004B700");
    }

    #[test]
    fn a_long_command_goes_in_an_extended_frame() {
        let frame = encode(&[0x40; 255]).unwrap();
        assert_eq!(frame[..9], hex("0000FFFFFF0100FFD4"));
        assert_eq!(frame.len(), 3 + 5 + 256 + 2);
        assert_eq!(sum(&frame[8..frame.len() - 1]), 0);
        assert_eq!(encode(&[0x40; 254]).unwrap()[..6], hex("0000FFFF01D4"));
        assert!(encode(&[0x40; 264]).is_some());
        assert_eq!(encode(&[0x40; 265]), None);
    }

    #[test]
    fn frames_of_the_chip_are_understood() {
        check("0000FF00FF00", &[Ok(Frame::Ack)]);
        check("0000FFFF0000", &[Ok(Frame::Nack)]);
        check("0000FF01FF7F8100", &[Ok(Frame::Refusal)]);
        check("0000FF02FED5151600", &[Ok(Frame::Answer(0x15, vec![]))]);
        check(
            "0000FF0CF4D54B01010004080472BF9961A300",
            &[Ok(Frame::Answer(0x4B, hex("01010004080472BF9961")))],
        );
        check(
            "0000FF00FF000000FF03FDD54B00E000",
            &[Ok(Frame::Ack), Ok(Frame::Answer(0x4B, vec![0]))],
        );
    }

    #[test]
    fn an_extended_frame_is_understood() {
        let data = vec![0x41; 264];
        assert_eq!(
            decode(&answer(&data)),
            [Ok(Frame::Answer(0x41, data[1..].to_vec()))]
        );
    }

    #[test]
    fn preamble_and_postamble_may_have_any_length() {
        check("FF02FED5151600", &[]);
        check("00FF02FED51516", &[Ok(Frame::Answer(0x15, vec![]))]);
        check(
            "000000000000FF02FED5151600000000",
            &[Ok(Frame::Answer(0x15, vec![]))],
        );
    }

    #[test]
    fn a_wrong_checksum_is_no_frame() {
        check("0000FF0CF4D54B01010004080472BF9961A400", &[Err(Damaged)]);
        check("0000FF0CF4D54B01010004080472BF9960A300", &[Err(Damaged)]);
        // Length and complement do not fit.
        check("0000FF0CF5D54B01010004080472BF9961A300", &[]);
        // From the till to the chip.
        check("0000FF02FED4022A00", &[]);
    }

    #[test]
    fn a_frame_inside_a_frame_is_not_found() {
        let inner = answer(&hex("4B01010004080472BF9961"));
        let outer = answer(&[&[0x41, 0x00][..], &inner].concat());
        let [Ok(Frame::Answer(0x41, data))] = &decode(&outer)[..] else {
            panic!("one frame")
        };
        assert_eq!(data[1..], inner);
    }

    #[test]
    fn a_frame_that_lost_a_byte_costs_no_other() {
        let whole = hex("0000FF0CF4D54B01010004080472BF9961A300");
        for lost in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes.remove(lost);
            bytes.extend(&whole);
            let found = decode(&bytes);
            let last = found.last().unwrap();
            assert!(
                matches!(last, Ok(Frame::Answer(0x4B, _))),
                "{lost}: {found:?}"
            );
        }
    }

    #[test]
    fn frames_behind_bytes_like_a_head_are_found_when_it_proves_none() {
        let answer = "0000FF0CF4D54B01010004080472BF9961A300";
        check(
            &format!("00FF1AE6D50000FF00FF00{answer}00"),
            &[
                Err(Damaged),
                Ok(Frame::Ack),
                Ok(Frame::Answer(0x4B, hex("01010004080472BF9961"))),
            ],
        );
    }

    #[test]
    fn a_head_that_promises_more_ends_with_the_next_command() {
        let mut decoder = Decoder::default();
        decoder.push(&hex("00FF20E0D5"));
        decoder.push(&hex("0000FF00FF00"));
        assert_eq!(decoder.poll(), None);
        decoder.clear();
        decoder.push(&hex("0000FF00FF00"));
        assert_eq!(decoder.poll(), Some(Ok(Frame::Ack)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            decode(&bytes);
        }

        #[test]
        fn bytes_like_frames_are_taken(
            bytes in prop::collection::vec(prop::sample::select(vec![0, 1, 2, 0xFE, 0xFF, 0xD5, 0x7F]), 0..600),
        ) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while decoder.poll().is_some() {}
            prop_assert!(decoder.held.len() <= MAX_BODY + 8);
        }

        #[test]
        fn every_answer_comes_whole_at_its_last_checked_byte(
            data in prop::collection::vec(any::<u8>(), 1..264),
            // Without D5 no noise can be the head of a frame.
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = noise;
            bytes.retain(|byte| *byte != FROM_CHIP);
            bytes.extend(answer(&data));
            // The postamble is not waited for.
            bytes.pop();
            let expect = Ok(Frame::Answer(data[0], data[1..].to_vec()));
            let found = decode(&bytes);
            prop_assert_eq!(found.last(), Some(&expect));
        }

        #[test]
        fn a_changed_byte_never_makes_another_answer(
            data in prop::collection::vec(any::<u8>(), 1..40),
            at in any::<prop::sample::Index>(),
            change in 1u8..,
        ) {
            let mut bytes = answer(&data);
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            let whole = Ok(Frame::Answer(data[0], data[1..].to_vec()));
            for frame in decode(&bytes) {
                let is_harmless = frame == whole || !matches!(frame, Ok(Frame::Answer(..)));
                prop_assert!(is_harmless, "{:?}", frame);
            }
        }
    }
}
