//! The fields of messages: readers, chips, what is in the field, light and sound, refusals.

use super::MessageError;
use super::payload::{Reader, Writer};

/// Who the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The version that both speak from now on.
    pub version: u8,
    /// Firmware: major, minor, patch.
    pub firmware: [u8; 3],
    /// The maker's number for the hardware.
    pub hardware: u16,
    /// The serial number, ASCII, filled with zeros.
    pub serial: [u8; 12],
    /// Bits of [`capability`].
    pub capabilities: u32,
    /// Drawn anew at every start.
    pub boot_id: u32,
    /// The longest payload that the reader takes.
    pub max_payload: u8,
}

impl Identity {
    pub(super) fn write(&self, out: &mut Writer) {
        out.put(&[self.version]);
        out.put(&self.firmware);
        out.put(&self.hardware.to_le_bytes());
        out.put(&self.serial);
        out.put(&self.capabilities.to_le_bytes());
        out.put(&self.boot_id.to_le_bytes());
        out.put(&[self.max_payload]);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Identity, MessageError> {
        Ok(Identity {
            version: from.u8()?,
            firmware: from.array()?,
            hardware: from.u16()?,
            serial: from.array()?,
            capabilities: from.u32()?,
            boot_id: from.u32()?,
            max_payload: from.u8()?,
        })
    }
}

/// What a reader can do, bit by bit.
pub mod capability {
    /// It has a light.
    pub const LIGHT: u32 = 1 << 0;
    /// It has a beeper.
    pub const BEEPER: u32 = 1 << 1;
    /// It notices several chips in the field.
    pub const COUNTS: u32 = 1 << 2;
    /// It passes commands to chips.
    pub const APDU: u32 = 1 << 3;
    /// It has a boot loader.
    pub const BOOT: u32 = 1 << 4;
    /// It passes frames to chips of ISO/IEC 14443-3 type A that take no commands.
    pub const AIR: u32 = 1 << 5;
}

/// A chip in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// How it talks.
    pub technology: Technology,
    /// Bits of [`chip_flag`].
    pub flags: u8,
    /// SAK of ISO/IEC 14443-3 type A, else 0.
    pub sak: u8,
    /// ATQA of ISO/IEC 14443-3 type A, else 0.
    pub atqa: u16,
    /// The unique identifier, first transmitted byte first.
    pub uid: Bytes<10>,
    /// The answer to select of ISO/IEC 14443-4, without its checksum, or nothing.
    pub ats: Bytes<32>,
}

impl Chip {
    pub(super) fn write(&self, out: &mut Writer) {
        out.put(&[self.technology.code(), self.flags, self.sak]);
        out.put(&self.atqa.to_le_bytes());
        out.put(&[self.uid.length]);
        out.put(self.uid.as_slice());
        out.put(&[self.ats.length]);
        out.put(self.ats.as_slice());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Chip, MessageError> {
        Ok(Chip {
            technology: Technology::from_code(from.u8()?),
            flags: from.u8()?,
            sak: from.u8()?,
            atqa: from.u16()?,
            uid: from.bytes()?,
            ats: from.bytes()?,
        })
    }
}

/// What is known of a chip, bit by bit.
pub mod chip_flag {
    /// It takes commands (ISO/IEC 14443-4).
    pub const TAKES_COMMANDS: u8 = 1 << 0;
}

/// How a chip talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technology {
    /// ISO/IEC 14443 type A.
    Iso14443A,
    /// ISO/IEC 14443 type B; its identifier may be random.
    Iso14443B,
    /// FeliCa.
    Felica,
    /// ISO/IEC 15693.
    Iso15693,
    /// EM4100 at 125 kHz.
    Em4100,
    /// One that this version does not know.
    Other(u8),
}

impl Technology {
    pub(super) fn code(self) -> u8 {
        match self {
            Technology::Iso14443A => 1,
            Technology::Iso14443B => 2,
            Technology::Felica => 3,
            Technology::Iso15693 => 4,
            Technology::Em4100 => 5,
            Technology::Other(code) => code,
        }
    }

    pub(super) fn from_code(code: u8) -> Technology {
        match code {
            1 => Technology::Iso14443A,
            2 => Technology::Iso14443B,
            3 => Technology::Felica,
            4 => Technology::Iso15693,
            5 => Technology::Em4100,
            other => Technology::Other(other),
        }
    }
}

/// What is in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldState {
    /// Nothing.
    Empty,
    /// One chip that can be read.
    One,
    /// More than one chip.
    Several,
    /// Something that cannot be read.
    Unreadable,
}

impl FieldState {
    pub(super) fn code(self) -> u8 {
        match self {
            FieldState::Empty => 0,
            FieldState::One => 1,
            FieldState::Several => 2,
            FieldState::Unreadable => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<FieldState, MessageError> {
        match code {
            0 => Ok(FieldState::Empty),
            1 => Ok(FieldState::One),
            2 => Ok(FieldState::Several),
            3 => Ok(FieldState::Unreadable),
            _ => Err(MessageError::Value),
        }
    }
}

/// Light and sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Nothing goes on.
    Idle,
    /// The purchase was approved.
    Approved,
    /// The purchase was declined.
    Declined,
    /// The till waits for a chip.
    Waiting,
}

impl Pattern {
    pub(super) fn code(self) -> u8 {
        match self {
            Pattern::Idle => 0,
            Pattern::Approved => 1,
            Pattern::Declined => 2,
            Pattern::Waiting => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Pattern, MessageError> {
        match code {
            0 => Ok(Pattern::Idle),
            1 => Ok(Pattern::Approved),
            2 => Ok(Pattern::Declined),
            3 => Ok(Pattern::Waiting),
            _ => Err(MessageError::Value),
        }
    }
}

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// The kind of the frame that cannot be done.
    pub kind: u8,
    /// Why.
    pub reason: NackReason,
}

impl Nack {
    pub(super) fn write(&self, out: &mut Writer) {
        let code = match self.reason {
            NackReason::UnknownKind => 1,
            NackReason::Payload => 2,
            NackReason::Version { .. } => 3,
            NackReason::ChipGone => 4,
            NackReason::NotSupported => 5,
            NackReason::NoHello => 6,
            NackReason::Other(code) => code,
        };
        out.put(&[self.kind, code]);
        if let NackReason::Version { min, max } = self.reason {
            out.put(&[min, max]);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Nack, MessageError> {
        let kind = from.u8()?;
        let reason = match from.u8()? {
            1 => NackReason::UnknownKind,
            2 => NackReason::Payload,
            3 => NackReason::Version {
                min: from.u8()?,
                max: from.u8()?,
            },
            4 => NackReason::ChipGone,
            5 => NackReason::NotSupported,
            6 => NackReason::NoHello,
            other => NackReason::Other(other),
        };
        Ok(Nack { kind, reason })
    }
}

/// The reasons of [`Nack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NackReason {
    /// The kind of frame is unknown.
    UnknownKind,
    /// The payload cannot be understood.
    Payload,
    /// No version in common; the reader speaks these.
    Version {
        /// The lowest.
        min: u8,
        /// The highest.
        max: u8,
    },
    /// The chip is not, or no longer, in the field.
    ChipGone,
    /// The reader has no such ability.
    NotSupported,
    /// The conversation was not opened with [`FromHost::Hello`](super::FromHost::Hello).
    NoHello,
    /// One that this version does not know.
    Other(u8),
}

/// A few bytes with room for `N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Bytes<N> {
    /// No bytes.
    pub const EMPTY: Bytes<N> = Bytes {
        bytes: [0; N],
        length: 0,
    };

    /// Takes bytes, unless they are more than `N`.
    pub fn new(from: &[u8]) -> Option<Bytes<N>> {
        let mut bytes = [0; N];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Bytes {
            bytes,
            length: u8::try_from(from.len()).ok()?,
        })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
