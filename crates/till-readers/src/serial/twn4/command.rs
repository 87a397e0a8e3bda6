//! What the till tells the TWN4.

use std::time::Duration;

use super::line::Check;
use crate::serial::crc_a;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Only the end of a line: ends what another program may have begun.
    LineEnd,
    Version(Check),
    /// SetTagTypes: what SearchTag looks for.
    Types {
        em4100: bool,
        iso14443a: bool,
    },
    /// Makes outputs of the lights' pins.
    Lights,
    /// SearchMultiTag.
    Several,
    /// SearchTag.
    Single,
    /// ISO14443A_SelectTag, by the UID that it shows.
    Select(Vec<u8>),
    /// ISO14443A_GetSAK of the selected chip.
    Sak,
    /// ISO14443_4_TDX with the selected chip.
    Exchange(Vec<u8>),
    /// SetRFOff: takes the power from the chip, until the next search.
    FieldOff,
    /// The search for it then: SearchMultiTag if the firmware has it, or else SearchTag.
    Anew {
        counts: bool,
    },
    /// ISO14443_3_TDX: a frame as it goes over the air; the reader adds and checks no checksum.
    Frame(Vec<u8>),
    LightOn(u8),
    LightOff(u8),
    /// Hertz and milliseconds.
    Beep(u16, u16),
}

impl Command {
    /// The function's number, then what belongs to it; numbers have their lowest byte first.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match *self {
            Command::LineEnd => vec![],
            Command::Version(_) => vec![0x00, 0x04, 0xFF],
            Command::Types { em4100, iso14443a } => {
                // The first of each band's kinds, EM4102 and ISO 14443 type A.
                let (low, high) = (u8::from(em4100), u8::from(iso14443a));
                vec![0x05, 0x02, low, 0, 0, 0, high, 0, 0, 0]
            }
            // No pull-up, push and pull.
            Command::Lights => vec![0x04, 0x00, RED | GREEN, 0x00, 0x00],
            Command::Several | Command::Anew { counts: true } => vec![0x12, 0x08, 0xFF],
            Command::Single | Command::Anew { counts: false } => vec![0x05, 0x00, 0x10],
            Command::FieldOff => vec![0x05, 0x01],
            Command::Select(ref uid) => sized(&[0x12, 0x09], uid, &[]),
            Command::Sak => vec![0x12, 0x05],
            Command::Exchange(ref command) => sized(&[0x12, 0x03], command, &[0xFF]),
            Command::Frame(ref frame) => {
                let [low, high] = FRAME_TIME.to_le_bytes();
                let frame = crc_a::with_checksum(frame);
                sized(&[0x12, 0x07], &frame, &[0xFF, low, high])
            }
            Command::LightOn(pins) => vec![0x04, 0x02, pins],
            Command::LightOff(pins) => vec![0x04, 0x03, pins],
            Command::Beep(hertz, milliseconds) => {
                let ([a, b], [c, d]) = (hertz.to_le_bytes(), milliseconds.to_le_bytes());
                // As loud as it can, and as long a pause after it.
                vec![0x04, 0x07, 0x64, a, b, c, d, c, d]
            }
        }
    }

    /// Whether it is a part of a talk with a chip.
    pub(super) fn is_for_chip(&self) -> bool {
        matches!(
            self,
            Command::Select(_)
                | Command::Sak
                | Command::Exchange(_)
                | Command::Frame(_)
                | Command::FieldOff
                | Command::Anew { .. }
        )
    }

    pub(super) fn answer_time(&self) -> Duration {
        match self {
            Command::Version(_) => VERSION_TIME,
            _ => ANSWER_TIME,
        }
    }
}

/// A function with an array of bytes, and what comes after it.
///
/// The longest array is a command of a proof, which is shorter than a short APDU.
fn sized(function: &[u8], array: &[u8], rest: &[u8]) -> Vec<u8> {
    [function, &[array.len() as u8], array, rest].concat()
}

/// The pins of the lights (twn4.sys.h: REDLED is GPIO0, GREENLED is GPIO1).
pub(super) const RED: u8 = 0x01;
pub(super) const GREEN: u8 = 0x02;
/// In milliseconds; a chip takes a few for a step of its proof.
const FRAME_TIME: u16 = 50;
const VERSION_TIME: Duration = Duration::from_millis(300);
/// Searches take the longest, and beeps until they are over.
pub(super) const ANSWER_TIME: Duration = Duration::from_millis(700);
