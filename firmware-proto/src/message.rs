//! Messages: what the payload of each kind of frame means (`SPEC.md`, "Messages").
//!
//! Numbers are little-endian. Bytes behind the known ones are ignored, so that later versions can
//! add some.

use thiserror::Error;

use crate::frame::{Frame, FrameError, MAX_PAYLOAD, Wire};

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

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// The kind of the frame that cannot be done.
    pub kind: u8,
    /// Why.
    pub reason: NackReason,
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
    /// The conversation was not opened with [`FromHost::Hello`].
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
            FromHost::Apdu { event, bytes } => {
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

impl Identity {
    fn write(&self, out: &mut Writer) {
        out.put(&[self.version]);
        out.put(&self.firmware);
        out.put(&self.hardware.to_le_bytes());
        out.put(&self.serial);
        out.put(&self.capabilities.to_le_bytes());
        out.put(&self.boot_id.to_le_bytes());
        out.put(&[self.max_payload]);
    }

    fn read(from: &mut Reader<'_>) -> Result<Identity, MessageError> {
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

impl Chip {
    fn write(&self, out: &mut Writer) {
        out.put(&[self.technology.code(), self.flags, self.sak]);
        out.put(&self.atqa.to_le_bytes());
        out.put(&[self.uid.length]);
        out.put(self.uid.as_slice());
        out.put(&[self.ats.length]);
        out.put(self.ats.as_slice());
    }

    fn read(from: &mut Reader<'_>) -> Result<Chip, MessageError> {
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

impl Technology {
    fn code(self) -> u8 {
        match self {
            Technology::Iso14443A => 1,
            Technology::Iso14443B => 2,
            Technology::Felica => 3,
            Technology::Iso15693 => 4,
            Technology::Em4100 => 5,
            Technology::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Technology {
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

impl FieldState {
    fn code(self) -> u8 {
        match self {
            FieldState::Empty => 0,
            FieldState::One => 1,
            FieldState::Several => 2,
            FieldState::Unreadable => 3,
        }
    }

    fn from_code(code: u8) -> Result<FieldState, MessageError> {
        match code {
            0 => Ok(FieldState::Empty),
            1 => Ok(FieldState::One),
            2 => Ok(FieldState::Several),
            3 => Ok(FieldState::Unreadable),
            _ => Err(MessageError::Value),
        }
    }
}

impl Pattern {
    fn code(self) -> u8 {
        match self {
            Pattern::Idle => 0,
            Pattern::Approved => 1,
            Pattern::Declined => 2,
            Pattern::Waiting => 3,
        }
    }

    fn from_code(code: u8) -> Result<Pattern, MessageError> {
        match code {
            0 => Ok(Pattern::Idle),
            1 => Ok(Pattern::Approved),
            2 => Ok(Pattern::Declined),
            3 => Ok(Pattern::Waiting),
            _ => Err(MessageError::Value),
        }
    }
}

impl Nack {
    fn write(&self, out: &mut Writer) {
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

    fn read(from: &mut Reader<'_>) -> Result<Nack, MessageError> {
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

/// Collects a payload; one that is too long is refused by [`Frame::encode`].
struct Writer {
    bytes: [u8; MAX_PAYLOAD],
    length: usize,
}

impl Writer {
    fn new() -> Writer {
        Writer {
            bytes: [0; MAX_PAYLOAD],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }

    fn finish<'b>(&self, kind: u8, seq: u8, wire: &'b mut Wire) -> Result<&'b [u8], FrameError> {
        let payload = self.bytes.get(..self.length).ok_or(FrameError::TooLong)?;
        Frame { kind, seq, payload }.encode(wire)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MessageError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MessageError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<Bytes<N>, MessageError> {
        let length = usize::from(self.u8()?);
        Bytes::new(self.take(length)?).ok_or(MessageError::Value)
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
