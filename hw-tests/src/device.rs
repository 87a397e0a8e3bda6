//! Readers that are programs: what each kind hears and says on its line.

mod own;
mod pn532;
mod rdm6300;
mod twn4;

use std::fmt;
use std::path::PathBuf;

use firmware_proto::device::Field;
use firmware_proto::message::{Bytes, Chip, Technology};
use serde::Deserialize;
use till_readers::ReaderConfig;
use till_readers::serial::Protocol;

/// The kinds of readers on a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// One that speaks the protocol of `firmware-proto`.
    #[default]
    Own,
    /// An NXP PN532.
    Pn532,
    /// An RDM6300 for EM4100 chips.
    Rdm6300,
    /// An ELATEC TWN4 whose lines carry a checksum, and that reads EM4100 chips, too.
    Twn4,
    /// An ELATEC TWN4 whose lines carry none.
    Twn4Plain,
}

impl DeviceKind {
    /// A new reader of this kind, powered up.
    pub fn device(self) -> Box<dyn SimulatedDevice> {
        match self {
            DeviceKind::Own => Box::new(own::OwnReader::new()),
            DeviceKind::Pn532 => Box::new(pn532::Pn532::new()),
            DeviceKind::Rdm6300 => Box::new(rdm6300::Rdm6300::new()),
            DeviceKind::Twn4 => Box::new(twn4::Twn4::new(true)),
            DeviceKind::Twn4Plain => Box::new(twn4::Twn4::new(false)),
        }
    }

    /// What such a reader speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            DeviceKind::Own => Protocol::Own,
            DeviceKind::Pn532 => Protocol::Pn532,
            DeviceKind::Rdm6300 => Protocol::Rdm6300,
            DeviceKind::Twn4 => Protocol::Twn4 { em4100: true },
            DeviceKind::Twn4Plain => Protocol::Twn4 { em4100: false },
        }
    }

    /// How the till opens such a reader.
    pub fn config(self, path: PathBuf) -> ReaderConfig {
        match self {
            DeviceKind::Own => ReaderConfig::Serial { path },
            DeviceKind::Pn532 => ReaderConfig::Pn532 { path },
            DeviceKind::Rdm6300 => ReaderConfig::Rdm6300 { path },
            DeviceKind::Twn4 => ReaderConfig::Twn4 { path, em4100: true },
            DeviceKind::Twn4Plain => ReaderConfig::Twn4 {
                path,
                em4100: false,
            },
        }
    }
}

/// A field with one chip in it, or with something that cannot be read.
pub fn field_of(uid: &[u8]) -> Field {
    let chip = Bytes::new(uid).map(|uid| Chip {
        technology: Technology::Iso14443A,
        flags: 0,
        sak: 0x08,
        atqa: 0x0004,
        uid,
        ats: Bytes::EMPTY,
    });
    chip.map_or(Field::Unreadable, Field::One)
}

/// What is between a reader and the chip in its field.
pub trait Air {
    /// The chip is selected: what was begun with it before is void.
    fn select(&mut self);

    /// The chip loses its power for a moment; gives the UID that it shows then, which may be another one.
    fn cut_power(&mut self) -> Option<Vec<u8>>;

    /// Passes a frame on to the chip; `None` when it does not answer.
    fn exchange(&mut self, frame: &[u8]) -> Option<Vec<u8>>;
}

/// The air to a chip that only says its number.
#[derive(Debug)]
pub struct Silence;

impl Air for Silence {
    fn select(&mut self) {}

    fn cut_power(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn exchange(&mut self, _frame: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The checksum of frames of ISO/IEC 14443-3 type A.
fn crc_a(frame: &[u8]) -> [u8; 2] {
    crc(0x6363, frame)
}

/// CRC-16 of the polynomial of CCITT, low bit first, bit by bit; its low byte goes first.
fn crc(start: u16, bytes: &[u8]) -> [u8; 2] {
    let sum = bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            let shifted = crc >> 1;
            if crc & 1 == 1 {
                shifted ^ 0x8408
            } else {
                shifted
            }
        })
    });
    sum.to_le_bytes()
}

/// A reader without a line.
pub trait SimulatedDevice: Send + fmt::Debug {
    /// Its power comes back: what it was told before is void.
    fn power_up(&mut self);

    /// One turn of its main loop, at so many milliseconds: what lies in its field and answers over
    /// the air, what it hears, and the frames that it says.
    fn turn(&mut self, field: Field, air: &mut dyn Air, heard: &[u8], now: u32) -> Vec<Vec<u8>>;

    /// A frame with one wrong bit or digit, in its right length.
    fn garbled(&self, frame: &[u8]) -> Vec<u8>;

    /// Whether it has shown that a purchase was approved.
    fn has_shown_approval(&self) -> bool {
        false
    }
}

/// With the lowest bit of the byte in the middle turned.
fn with_wrong_bit(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let middle = frame.len() / 2;
    if let Some(byte) = frame.get_mut(middle) {
        *byte ^= 0x01;
    }
    frame
}

/// With the hex digit in the middle replaced by another.
fn with_wrong_digit(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let middle = frame.len() / 2;
    if let Some(byte) = frame.get_mut(middle) {
        *byte = if *byte == b'7' { b'3' } else { b'7' };
    }
    frame
}

/// Bytes as pairs of hex digits.
fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
