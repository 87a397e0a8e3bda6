//! Messages: what the payload of each kind of frame means (`SPEC.md`, "Messages").
//!
//! Numbers are little-endian. Bytes behind the known ones are ignored, so that later versions can
//! add some.

use thiserror::Error;

use crate::frame::{Frame, FrameError, Wire};

mod field;
mod payload;

pub use field::{
    Bytes, Chip, FieldState, Identity, Nack, NackReason, Pattern, Technology, capability, chip_flag,
};
use payload::{Reader, Writer};

/// What the till says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromHost<'a> {
    /// Opens the conversation; answered by [`FromDevice::Hello`].
    Hello {
        /// The lowest version the till speaks.
        min: u8,
        /// The highest version the till speaks.
        max: u8,
        /// Random; the same again means that the answer was lost.
        nonce: u32,
    },
    /// Asks for a sign of life; answered by [`FromDevice::Pong`].
    Ping {
        /// Comes back in the answer.
        echo: u32,
    },
    /// Asks to look into the field now; answered by [`FromDevice::Field`].
    Read,
    /// Confirms a [`FromDevice::Tag`], [`FromDevice::Left`] or [`FromDevice::Multi`].
    Ack {
        /// The event's number.
        event: u16,
    },
    /// Asks for light and sound; answered by [`FromDevice::FeedbackShown`].
    Feedback {
        /// What to show.
        pattern: Pattern,
        /// For how long.
        milliseconds: u16,
    },
    /// A command for the chip; answered by [`FromDevice::Apdu`].
    Apdu {
        /// The event number of the chip's [`FromDevice::Tag`].
        event: u16,
        /// The command.
        bytes: &'a [u8],
    },
    /// A frame of ISO/IEC 14443-3 type A for the chip; answered by [`FromDevice::Air`].
    Air {
        /// The event number of the chip's [`FromDevice::Tag`].
        event: u16,
        /// The frame without its checksum; without any byte the chip is to lose its power for a
        /// moment, and to be selected anew.
        bytes: &'a [u8],
    },
    /// Asks to start the boot loader; answered by [`FromDevice::Booting`].
    EnterBoot,
    /// Something that the reader said was not understood.
    Nack(Nack),
}

/// What the reader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromDevice<'a> {
    /// Answers [`FromHost::Hello`].
    Hello(Identity, u32),
    /// Answers [`FromHost::Ping`].
    Pong {
        /// As asked.
        echo: u32,
        /// Milliseconds since the reader started; wraps.
        uptime: u32,
        /// What is in the field.
        state: FieldState,
        /// The event number of the chip in the field, or 0.
        event: u16,
    },
    /// Answers [`FromHost::Read`].
    Field {
        /// What is in the field.
        state: FieldState,
        /// The event number of the chip in the field, or 0 if it was never told.
        event: u16,
        /// The chip, if there is exactly one that can be read.
        chip: Option<Chip>,
    },
    /// A chip came.
    Tag {
        /// Numbers this event.
        event: u16,
        /// Milliseconds since the chip was first seen; 65535 and more are 65535.
        age: u16,
        /// The chip.
        chip: Chip,
    },
    /// The chip left.
    Left {
        /// Numbers this event.
        event: u16,
        /// Milliseconds since it was missed; 65535 and more are 65535.
        age: u16,
        /// The event number of its [`FromDevice::Tag`].
        tag: u16,
    },
    /// More than one chip is in the field, or something that cannot be read.
    Multi {
        /// Numbers this event.
        event: u16,
        /// Milliseconds since it was noticed; 65535 and more are 65535.
        age: u16,
        /// [`FieldState::Several`] or [`FieldState::Unreadable`].
        state: FieldState,
    },
    /// Answers [`FromHost::Feedback`].
    FeedbackShown,
    /// Answers [`FromHost::Apdu`].
    Apdu {
        /// As asked.
        event: u16,
        /// What the chip answered.
        bytes: &'a [u8],
    },
    /// Answers [`FromHost::Air`].
    Air {
        /// As asked.
        event: u16,
        /// What the chip answered, without its checksum; of four bits, a byte with these. After the
        /// frame without any byte, the identifier that it shows now.
        bytes: &'a [u8],
    },
    /// Something for the technician; never answered.
    Log {
        /// 0 error, 1 warning, 2 information, 3 detail.
        level: u8,
        /// UTF-8.
        text: &'a [u8],
    },
    /// Answers [`FromHost::EnterBoot`]; the last frame before the boot loader.
    Booting,
    /// Something that the till said cannot be done.
    Nack(Nack),
}

/// Why a frame is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// No message of this side has this kind.
    #[error("there is no message of kind {0:#04x}")]
    UnknownKind(u8),
    /// The payload is shorter than the message.
    #[error("the payload is too short")]
    Short,
    /// A field has a value that it cannot have.
    #[error("the payload has an impossible value")]
    Value,
}

impl<'a> FromHost<'a> {
    /// Writes the message as a frame.
    pub fn encode<'b>(&self, seq: u8, wire: &'b mut Wire) -> Result<&'b [u8], FrameError> {
        let mut out = Writer::new();
        match *self {
            FromHost::Hello { min, max, nonce } => {
                out.put(&[min, max]);
                out.put(&nonce.to_le_bytes());
            }
            FromHost::Ping { echo } => out.put(&echo.to_le_bytes()),
            FromHost::Read => {}
            FromHost::Ack { event } => out.put(&event.to_le_bytes()),
            FromHost::Feedback {
                pattern,
                milliseconds,
            } => {
                out.put(&[pattern.code()]);
                out.put(&milliseconds.to_le_bytes());
            }
            FromHost::Apdu { event, bytes } | FromHost::Air { event, bytes } => {
                out.put(&event.to_le_bytes());
                out.put(bytes);
            }
            FromHost::EnterBoot => out.put(&BOOT_WORD),
            FromHost::Nack(nack) => nack.write(&mut out),
        }
        out.finish(self.kind(), seq, wire)
    }

    /// Understands a frame.
    pub fn decode(frame: &Frame<'a>) -> Result<FromHost<'a>, MessageError> {
        let mut from = Reader(frame.payload);
        let message = match frame.kind {
            HELLO => FromHost::Hello {
                min: from.u8()?,
                max: from.u8()?,
                nonce: from.u32()?,
            },
            PING => FromHost::Ping { echo: from.u32()? },
            READ => FromHost::Read,
            ACK => FromHost::Ack { event: from.u16()? },
            FEEDBACK => FromHost::Feedback {
                pattern: Pattern::from_code(from.u8()?)?,
                milliseconds: from.u16()?,
            },
            APDU => FromHost::Apdu {
                event: from.u16()?,
                bytes: from.0,
            },
            AIR => FromHost::Air {
                event: from.u16()?,
                bytes: from.0,
            },
            ENTER_BOOT if from.take(BOOT_WORD.len())? == BOOT_WORD => FromHost::EnterBoot,
            ENTER_BOOT => return Err(MessageError::Value),
            NACK => FromHost::Nack(Nack::read(&mut from)?),
            kind => return Err(MessageError::UnknownKind(kind)),
        };
        Ok(message)
    }

    /// The kind of its frame.
    pub fn kind(&self) -> u8 {
        match self {
            FromHost::Hello { .. } => HELLO,
            FromHost::Ping { .. } => PING,
            FromHost::Read => READ,
            FromHost::Ack { .. } => ACK,
            FromHost::Feedback { .. } => FEEDBACK,
            FromHost::Apdu { .. } => APDU,
            FromHost::Air { .. } => AIR,
            FromHost::EnterBoot => ENTER_BOOT,
            FromHost::Nack(_) => NACK,
        }
    }
}

impl<'a> FromDevice<'a> {
    /// Writes the message as a frame.
    pub fn encode<'b>(&self, seq: u8, wire: &'b mut Wire) -> Result<&'b [u8], FrameError> {
        let mut out = Writer::new();
        let kind = match *self {
            FromDevice::Hello(identity, nonce) => {
                identity.write(&mut out);
                out.put(&nonce.to_le_bytes());
                HELLO_ANSWER
            }
            FromDevice::Pong {
                echo,
                uptime,
                state,
                event,
            } => {
                out.put(&echo.to_le_bytes());
                out.put(&uptime.to_le_bytes());
                out.put(&[state.code()]);
                out.put(&event.to_le_bytes());
                PONG
            }
            FromDevice::Field { state, event, chip } => {
                out.put(&[state.code()]);
                out.put(&event.to_le_bytes());
                if let Some(chip) = chip {
                    chip.write(&mut out);
                }
                FIELD
            }
            FromDevice::Tag { event, age, chip } => {
                out.put(&event.to_le_bytes());
                out.put(&age.to_le_bytes());
                chip.write(&mut out);
                TAG
            }
            FromDevice::Left { event, age, tag } => {
                out.put(&event.to_le_bytes());
                out.put(&age.to_le_bytes());
                out.put(&tag.to_le_bytes());
                LEFT
            }
            FromDevice::Multi { event, age, state } => {
                out.put(&event.to_le_bytes());
                out.put(&age.to_le_bytes());
                out.put(&[state.code()]);
                MULTI
            }
            FromDevice::FeedbackShown => FEEDBACK_SHOWN,
            FromDevice::Apdu { event, bytes } => {
                out.put(&event.to_le_bytes());
                out.put(bytes);
                APDU_ANSWER
            }
            FromDevice::Air { event, bytes } => {
                out.put(&event.to_le_bytes());
                out.put(bytes);
                AIR_ANSWER
            }
            FromDevice::Log { level, text } => {
                out.put(&[level]);
                out.put(text);
                LOG
            }
            FromDevice::Booting => BOOTING,
            FromDevice::Nack(nack) => {
                nack.write(&mut out);
                NACK
            }
        };
        out.finish(kind, seq, wire)
    }

    /// Understands a frame.
    pub fn decode(frame: &Frame<'a>) -> Result<FromDevice<'a>, MessageError> {
        let mut from = Reader(frame.payload);
        let message = match frame.kind {
            HELLO_ANSWER => {
                let identity = Identity::read(&mut from)?;
                FromDevice::Hello(identity, from.u32()?)
            }
            PONG => FromDevice::Pong {
                echo: from.u32()?,
                uptime: from.u32()?,
                state: FieldState::from_code(from.u8()?)?,
                event: from.u16()?,
            },
            FIELD => {
                let state = FieldState::from_code(from.u8()?)?;
                let event = from.u16()?;
                let chip = match state {
                    FieldState::One => Some(Chip::read(&mut from)?),
                    FieldState::Empty | FieldState::Several | FieldState::Unreadable => None,
                };
                FromDevice::Field { state, event, chip }
            }
            TAG => FromDevice::Tag {
                event: from.u16()?,
                age: from.u16()?,
                chip: Chip::read(&mut from)?,
            },
            LEFT => FromDevice::Left {
                event: from.u16()?,
                age: from.u16()?,
                tag: from.u16()?,
            },
            MULTI => FromDevice::Multi {
                event: from.u16()?,
                age: from.u16()?,
                state: FieldState::from_code(from.u8()?)?,
            },
            FEEDBACK_SHOWN => FromDevice::FeedbackShown,
            APDU_ANSWER => FromDevice::Apdu {
                event: from.u16()?,
                bytes: from.0,
            },
            AIR_ANSWER => FromDevice::Air {
                event: from.u16()?,
                bytes: from.0,
            },
            LOG => FromDevice::Log {
                level: from.u8()?,
                text: from.0,
            },
            BOOTING => FromDevice::Booting,
            NACK => FromDevice::Nack(Nack::read(&mut from)?),
            kind => return Err(MessageError::UnknownKind(kind)),
        };
        Ok(message)
    }
}

/// The kind of [`FromHost::Hello`].
pub const HELLO: u8 = 0x01;
/// The kind of [`FromDevice::Hello`].
pub const HELLO_ANSWER: u8 = 0x81;
/// The kind of [`FromHost::Ping`].
pub const PING: u8 = 0x02;
/// The kind of [`FromDevice::Pong`].
pub const PONG: u8 = 0x82;
/// The kind of [`FromHost::Read`].
pub const READ: u8 = 0x03;
/// The kind of [`FromDevice::Field`].
pub const FIELD: u8 = 0x83;
/// The kind of [`FromDevice::Tag`].
pub const TAG: u8 = 0x10;
/// The kind of [`FromDevice::Left`].
pub const LEFT: u8 = 0x11;
/// The kind of [`FromDevice::Multi`].
pub const MULTI: u8 = 0x12;
/// The kind of [`FromHost::Ack`].
pub const ACK: u8 = 0x90;
/// The kind of [`FromHost::Feedback`].
pub const FEEDBACK: u8 = 0x20;
/// The kind of [`FromDevice::FeedbackShown`].
pub const FEEDBACK_SHOWN: u8 = 0xA0;
/// The kind of [`FromHost::Apdu`].
pub const APDU: u8 = 0x30;
/// The kind of [`FromDevice::Apdu`].
pub const APDU_ANSWER: u8 = 0xB0;
/// The kind of [`FromHost::Air`].
pub const AIR: u8 = 0x31;
/// The kind of [`FromDevice::Air`].
pub const AIR_ANSWER: u8 = 0xB1;
/// The kind of [`FromDevice::Log`].
pub const LOG: u8 = 0x40;
/// The kind of [`FromHost::Nack`] and [`FromDevice::Nack`].
pub const NACK: u8 = 0x7F;
/// The kind of [`FromHost::EnterBoot`].
pub const ENTER_BOOT: u8 = 0xF0;
/// The kind of [`FromDevice::Booting`].
pub const BOOTING: u8 = 0xF1;
/// Keeps a stray frame from starting the boot loader: `BOOT` in ASCII.
const BOOT_WORD: [u8; 4] = *b"BOOT";
