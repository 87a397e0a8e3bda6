//! The reader's side of the conversation, without hardware and without a clock (`SPEC.md`,
//! "The reader").
//!
//! A firmware's main loop, and the simulated reader's, is this: scan the field and call
//! [`Device::handle_field`]; hand every received byte to [`Device::handle_byte`] and send what
//! comes back; send what [`Device::poll`] gives. Times are milliseconds of any clock that wraps.

use crate::frame::{Decoder, Frame, FrameError, MAX_PAYLOAD, VERSION, Wire};
use crate::message::{
    Chip, FieldState, FromDevice, FromHost, Identity, MessageError, Nack, NackReason, Pattern,
    capability,
};

/// What a reader's hardware does for [`Device`].
pub trait Hardware {
    /// Looks into the field now, not at a result from before.
    fn scan(&mut self) -> Field;
    /// Shows light and sound; must not wait for their end.
    fn show(&mut self, pattern: Pattern, milliseconds: u16);
    /// Sends a command to the chip in the field; says how many bytes of the answer were written,
    /// or `None` if the chip is gone or takes no commands.
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize>;
    /// Sends a frame of ISO/IEC 14443-3 type A to the chip in the field, and its checksum behind it;
    /// says how many bytes of the answer were written, its checksum not among them, or `None` if the
    /// chip is gone or takes no frames. A frame without any byte has the chip lose its power and
    /// selects it anew; the answer is the identifier that it shows then. Asked of a reader with
    /// [`capability::AIR`] only.
    fn exchange_frame(&mut self, _frame: &[u8], _answer: &mut [u8]) -> Option<usize> {
        None
    }
    /// Starts the boot loader after the answer has gone out; `false` if there is none.
    fn enter_boot(&mut self) -> bool;
}

/// What a scan of the field found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Nothing.
    Empty,
    /// One chip.
    One(Chip),
    /// More than one chip.
    Several,
    /// Something that cannot be read.
    Unreadable,
}

/// A reader.
#[derive(Debug, Clone)]
pub struct Device {
    identity: Identity,
    decoder: Decoder,
    /// Set by the till's hello; nothing is told before it.
    nonce: Option<u32>,
    field: Field,
    /// The event number under which the till knows what is in the field, or 0.
    told_as: u16,
    /// Scans in a row that found nothing while something was in the field.
    misses: u8,
    last_event: u16,
    last_seq: u8,
    waiting: [Option<Event>; MAX_WAITING],
}

/// Something that the till has not confirmed yet.
#[derive(Debug, Clone, Copy)]
struct Event {
    number: u16,
    happened_at: u32,
    sent_at: Option<u32>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Came(Chip),
    Left { tag: u16 },
    Disturbed(FieldState),
}

impl Device {
    /// A reader that has just started. `identity.boot_id` must be another one at every start.
    pub fn new(identity: Identity) -> Device {
        Device {
            identity: Identity {
                version: VERSION,
                max_payload: MAX_PAYLOAD as u8,
                ..identity
            },
            decoder: Decoder::new(),
            nonce: None,
            field: Field::Empty,
            told_as: 0,
            misses: 0,
            last_event: 0,
            last_seq: 0,
            waiting: [None; MAX_WAITING],
        }
    }

    /// Takes what a scan found; to be called for every scan, also when nothing changed.
    pub fn handle_field(&mut self, found: Field, now: u32) {
        if found == Field::Empty && self.field != Field::Empty {
            // Chips flicker at the edge of the field.
            self.misses += 1;
            if self.misses < MISSES_TO_LEAVE {
                return;
            }
        }
        self.misses = 0;
        if found == self.field {
            return;
        }
        if let Field::One(_) = self.field
            && self.told_as != 0
        {
            self.tell(What::Left { tag: self.told_as }, now);
        }
        self.field = found;
        self.told_as = match found {
            Field::Empty => 0,
            Field::One(chip) => self.tell(What::Came(chip), now),
            Field::Several => self.tell(What::Disturbed(FieldState::Several), now),
            Field::Unreadable => self.tell(What::Disturbed(FieldState::Unreadable), now),
        };
    }

    /// Takes a byte from the till; gives the answer to be sent, if it completes a question.
    pub fn handle_byte<'w>(
        &mut self,
        byte: u8,
        now: u32,
        hardware: &mut impl Hardware,
        wire: &'w mut Wire,
    ) -> Option<&'w [u8]> {
        // The frame borrows the decoder, and the answer needs all of the device.
        let mut payload = [0; MAX_PAYLOAD];
        let (kind, seq, length) = match self.decoder.push(byte)? {
            Ok(frame) => {
                payload[..frame.payload.len()].copy_from_slice(frame.payload);
                (frame.kind, frame.seq, frame.payload.len())
            }
            // Damaged frames are not answered: the till asks again.
            Err(
                FrameError::TooShort
                | FrameError::TooLong
                | FrameError::Stuffing
                | FrameError::Checksum
                | FrameError::Version(_),
            ) => return None,
        };
        let frame = Frame {
            kind,
            seq,
            payload: &payload[..length],
        };
        let mut room = [0; MAX_PAYLOAD - 2];
        let answer = self.answer(&frame, now, hardware, &mut room)?;
        answer.encode(seq, wire).ok()
    }

    /// Gives the next frame that is due without being asked for.
    pub fn poll<'w>(&mut self, now: u32, wire: &'w mut Wire) -> Option<&'w [u8]> {
        self.nonce?;
        self.drop_stale(now);
        let mut event = self.waiting[0]?;
        if event
            .sent_at
            .is_some_and(|sent| now.wrapping_sub(sent) < REPEAT_AFTER)
        {
            return None;
        }
        event.sent_at = Some(now);
        self.waiting[0] = Some(event);
        let seq = self.last_seq.wrapping_add(1);
        self.last_seq = seq;
        let (number, age) = (event.number, age(event.happened_at, now));
        let message = match event.what {
            What::Came(chip) => FromDevice::Tag {
                event: number,
                age,
                chip,
            },
            What::Left { tag } => FromDevice::Left {
                event: number,
                age,
                tag,
            },
            What::Disturbed(state) => FromDevice::Multi {
                event: number,
                age,
                state,
            },
        };
        message.encode(seq, wire).ok()
    }

    fn answer<'m>(
        &mut self,
        frame: &Frame<'_>,
        now: u32,
        hardware: &mut impl Hardware,
        room: &'m mut [u8],
    ) -> Option<FromDevice<'m>> {
        let refuse = |reason| {
            Some(FromDevice::Nack(Nack {
                kind: frame.kind,
                reason,
            }))
        };
        let message = match FromHost::decode(frame) {
            Ok(message) => message,
            Err(MessageError::UnknownKind(_)) => return refuse(NackReason::UnknownKind),
            Err(MessageError::Short | MessageError::Value) => return refuse(NackReason::Payload),
        };
        if self.nonce.is_none() && !matches!(message, FromHost::Hello { .. }) {
            return refuse(NackReason::NoHello);
        }
        match message {
            FromHost::Hello { min, max, nonce } => {
                if !(min..=max).contains(&VERSION) {
                    return refuse(NackReason::Version {
                        min: VERSION,
                        max: VERSION,
                    });
                }
                self.greet(nonce);
                Some(FromDevice::Hello(self.identity, nonce))
            }
            FromHost::Ping { echo } => {
                let (state, event) = (self.field.state(), self.told_as);
                Some(FromDevice::Pong {
                    echo,
                    uptime: now,
                    state,
                    event,
                })
            }
            FromHost::Read => Some(self.look(hardware.scan(), now)),
            FromHost::Ack { event } => {
                self.confirm(event);
                None
            }
            FromHost::Feedback {
                pattern,
                milliseconds,
            } => {
                hardware.show(pattern, milliseconds);
                Some(FromDevice::FeedbackShown)
            }
            FromHost::Apdu { event, bytes } => {
                if !self.has_told(event) {
                    return refuse(NackReason::ChipGone);
                }
                let Some(length) = hardware.exchange(bytes, room) else {
                    return refuse(NackReason::ChipGone);
                };
                Some(FromDevice::Apdu {
                    event,
                    bytes: room.get(..length)?,
                })
            }
            FromHost::Air { .. } if self.identity.capabilities & capability::AIR == 0 => {
                refuse(NackReason::NotSupported)
            }
            FromHost::Air { event, bytes } => {
                if !self.has_told(event) {
                    return refuse(NackReason::ChipGone);
                }
                let Some(length) = hardware.exchange_frame(bytes, room) else {
                    return refuse(NackReason::ChipGone);
                };
                Some(FromDevice::Air {
                    event,
                    bytes: room.get(..length)?,
                })
            }
            FromHost::EnterBoot if hardware.enter_boot() => Some(FromDevice::Booting),
            FromHost::EnterBoot => refuse(NackReason::NotSupported),
            FromHost::Nack(_) => None,
        }
    }

    /// A new hello makes all that was before void, also a chip that lies in the field: it must be
    /// lifted and held to the reader again before it is told.
    fn greet(&mut self, nonce: u32) {
        if self.nonce == Some(nonce) {
            return;
        }
        self.nonce = Some(nonce);
        self.waiting = [None; MAX_WAITING];
        self.told_as = 0;
    }

    /// Whether a chip is in the field that was told by this event.
    fn has_told(&self, event: u16) -> bool {
        matches!(self.field, Field::One(_)) && event != 0 && event == self.told_as
    }

    /// What the scan made for a question found, after it has been noted like any other scan.
    fn look(&mut self, found: Field, now: u32) -> FromDevice<'static> {
        self.handle_field(found, now);
        let chip = match found {
            Field::One(chip) => Some(chip),
            Field::Empty | Field::Several | Field::Unreadable => None,
        };
        // A first miss has not ended the stay yet, but the field is empty all the same.
        let event = if found == self.field { self.told_as } else { 0 };
        FromDevice::Field {
            state: found.state(),
            event,
            chip,
        }
    }

    fn tell(&mut self, what: What, now: u32) -> u16 {
        // 0 means "never told".
        self.last_event = self.last_event.checked_add(1).unwrap_or(1);
        let event = Event {
            number: self.last_event,
            happened_at: now,
            sent_at: None,
            what,
        };
        // Without a conversation nothing waits; in one, what the till never confirmed goes first.
        if self.nonce.is_none() {
            return 0;
        }
        match self.waiting.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(event),
            None => {
                self.waiting.rotate_left(1);
                self.waiting[MAX_WAITING - 1] = Some(event);
            }
        }
        self.last_event
    }

    fn confirm(&mut self, number: u16) {
        if self.waiting[0].is_some_and(|event| event.number == number) {
            self.drop_first();
        }
    }

    fn drop_stale(&mut self, now: u32) {
        while self.waiting[0].is_some_and(|event| now.wrapping_sub(event.happened_at) > STALE_AFTER)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        self.waiting[0] = None;
        self.waiting.rotate_left(1);
    }
}

impl Field {
    fn state(&self) -> FieldState {
        match self {
            Field::Empty => FieldState::Empty,
            Field::One(_) => FieldState::One,
            Field::Several => FieldState::Several,
            Field::Unreadable => FieldState::Unreadable,
        }
    }
}

fn age(since: u32, now: u32) -> u16 {
    u16::try_from(now.wrapping_sub(since)).unwrap_or(u16::MAX)
}

/// How long the reader waits for a confirmation before it says a thing again, in milliseconds.
pub const REPEAT_AFTER: u32 = 100;
/// How long an event is worth telling, in milliseconds: a stale tap must not pay the next meal.
pub const STALE_AFTER: u32 = 1000;
/// Scans in a row without the chip after which it has left.
pub const MISSES_TO_LEAVE: u8 = 2;
/// Events that wait for a confirmation at the same time.
const MAX_WAITING: usize = 8;
