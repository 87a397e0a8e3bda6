//! The till's side of the project's own reader protocol (`firmware-proto/SPEC.md`, "The till").

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;
use firmware_proto::frame::{Decoder, Frame, MAX_WIRE};
use firmware_proto::message::{
    self, Chip, FieldState, FromDevice, FromHost, Identity, Nack, NackReason,
};

use super::conversation::{Conversation, Happening};
use super::proof::TASK_TIME;
use crate::auth::{Aim, ChipReport, ChipTask, EnrolError, Keyring};
use crate::{ChipFault, Presence, ReaderFault, Signal};

mod chip_talk;
mod question;
mod request;

use self::chip_talk::{ChipTalk, Purpose};
use self::question::{Asked, Question};
use self::request::{READ_TIME, Read, Task};

/// One conversation, from the opening of a line to its end.
pub(super) struct OwnConversation {
    decoder: Decoder,
    nonce: u32,
    /// Who answered the hello; nothing else is believed before that.
    reader: Option<Identity>,
    seq: u8,
    asked: Option<Asked>,
    reads: VecDeque<Read>,
    tasks: VecDeque<Task>,
    signal: Option<Signal>,
    confirmations: VecDeque<u16>,
    last_event: u16,
    present: Option<Present>,
    keyring: Keyring,
    /// The first one is under way; a chip may come and be asked for at once.
    talks: VecDeque<ChipTalk>,
    next_ping: Instant,
    lost_pings: u32,
    happened: VecDeque<Happening>,
    fault: Option<ReaderFault>,
}

/// The chip that the till was told of and that has not left.
struct Present {
    /// The number of the reader's event.
    tag: u16,
    presence: Presence,
}

impl OwnConversation {
    /// A conversation over a line that has just been opened; `nonce` should be random.
    pub(super) fn new(nonce: u32, keyring: Keyring, now: Instant) -> OwnConversation {
        OwnConversation {
            decoder: Decoder::new(),
            nonce,
            reader: None,
            seq: 0,
            asked: None,
            reads: VecDeque::new(),
            tasks: VecDeque::new(),
            signal: None,
            confirmations: VecDeque::new(),
            last_event: 0,
            present: None,
            keyring,
            talks: VecDeque::new(),
            next_ping: now,
            lost_pings: 0,
            happened: VecDeque::new(),
            fault: None,
        }
    }
}

impl Conversation for OwnConversation {
    fn handle_read_again(&mut self, token: u64, asked_at: Instant) {
        self.reads.push_back(Read { token, asked_at });
    }

    fn handle_task(&mut self, token: u64, task: ChipTask, asked_at: Instant) {
        self.tasks.push_back(Task {
            token,
            task,
            asked_at,
        });
    }

    fn handle_signal(&mut self, signal: Signal) {
        self.signal = Some(signal);
    }

    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            // The frame borrows the decoder, and understanding it needs all of the conversation.
            let mut decoder = std::mem::take(&mut self.decoder);
            match decoder.push(byte) {
                Some(Ok(frame)) => self.handle_frame(&frame, now),
                // Damage is not answered: the reader tells again, and questions are asked again.
                Some(Err(error)) => tracing::debug!(%error, "Bytes on the line are no frame"),
                None => {}
            }
            self.decoder = decoder;
        }
    }

    fn handle_end(&mut self) {
        self.end_presence();
        self.refuse_reads(|_| true);
        self.end_tasks();
        self.talks.clear();
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some(event) = self.confirmations.pop_front() {
            self.seq = self.seq.wrapping_add(1);
            return encode(&FromHost::Ack { event }, self.seq);
        }
        self.refuse_reads(|read| now.saturating_duration_since(read.asked_at) > READ_TIME);
        self.refuse_tasks(|task| now.saturating_duration_since(task.asked_at) > TASK_TIME);
        if let Some(asked) = &self.asked {
            if now.saturating_duration_since(asked.sent_at) < asked.question.answer_time() {
                return None;
            }
            if asked.times < asked.question.times() {
                return self.send_again(now);
            }
            self.give_up(now);
        }
        let question = self.next_question(now)?;
        self.seq = self.seq.wrapping_add(1);
        self.asked = Some(Asked {
            question,
            seq: self.seq,
            sent_at: now,
            times: 0,
        });
        self.send_again(now)
    }

    fn poll_happening(&mut self) -> Option<Happening> {
        self.happened.pop_front()
    }

    fn fault(&self) -> Option<ReaderFault> {
        self.fault.clone()
    }
}

impl OwnConversation {
    fn handle_frame(&mut self, frame: &Frame<'_>, now: Instant) {
        let message = match FromDevice::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "Message from the reader not understood");
                return;
            }
        };
        match message {
            FromDevice::Hello(identity, nonce) => {
                self.handle_hello(frame.seq, identity, nonce, now)
            }
            FromDevice::Nack(nack) => self.handle_nack(frame.seq, nack, now),
            FromDevice::Log { level, text } => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.happened.push_back(Happening::Log { level, text });
            }
            // What was on its way before the hello is void.
            _ if self.reader.is_none() => {}
            FromDevice::Pong { state, event, .. } => {
                if self.take_answered(frame.seq, message::PONG).is_some() {
                    self.lost_pings = 0;
                    self.handle_field_state(state, event);
                }
            }
            FromDevice::Field { state, event, chip } => {
                match self.take_answered(frame.seq, message::FIELD) {
                    Some(Question::Read(read)) => {
                        self.handle_looked(Purpose::Read(read), Aim::Identify, state, event, chip);
                    }
                    Some(Question::Look(token)) => {
                        if let Some(task) = self.take_task(token) {
                            let (purpose, aim) = (Purpose::Work(token), Aim::Work(task));
                            self.handle_looked(purpose, aim, state, event, chip);
                        }
                    }
                    Some(_) | None => return,
                }
                self.lost_pings = 0;
                self.handle_field_state(state, event);
            }
            FromDevice::FeedbackShown => {
                self.take_answered(frame.seq, message::FEEDBACK_SHOWN);
            }
            FromDevice::Tag { event, age, chip } => {
                if self.is_new(event) {
                    self.end_presence();
                    // Also one under the same number: a reader that tells it anew has started over.
                    let has_come = |talk: &ChipTalk| matches!(talk.purpose, Purpose::Came { .. });
                    self.give_up_talks(|talk| talk.tag != event || has_come(talk), now);
                    self.handle_tag(event, age, &chip, now);
                }
            }
            FromDevice::Left { event, tag, .. } => {
                if self.is_new(event) {
                    if self.present.as_ref().is_some_and(|now| now.tag == tag) {
                        self.end_presence();
                    }
                    self.give_up_talks(|talk| talk.tag == tag, now);
                }
            }
            FromDevice::Multi { event, age, state } => {
                if self.is_new(event) {
                    self.end_presence();
                    self.give_up_talks(|_| true, now);
                    if let Some(seen_at) = seen_at(age, now) {
                        let fault = field_fault(state);
                        self.happened
                            .push_back(Happening::Unreadable { fault, seen_at });
                    }
                }
            }
            FromDevice::Apdu { bytes, .. } => {
                self.handle_chip_answer(frame.seq, message::APDU_ANSWER, bytes);
            }
            FromDevice::Air { bytes, .. } => {
                self.handle_chip_answer(frame.seq, message::AIR_ANSWER, bytes);
            }
            // Asked for by nobody here.
            FromDevice::Booting => {}
        }
    }

    fn handle_chip_answer(&mut self, seq: u8, kind: u8, bytes: &[u8]) {
        if self.take_answered(seq, kind).is_some()
            && let Some(ChipTalk { talk, .. }) = self.talks.front_mut()
        {
            self.lost_pings = 0;
            talk.handle_answer(bytes.to_vec());
        }
    }

    fn handle_hello(&mut self, seq: u8, identity: Identity, nonce: u32, now: Instant) {
        let is_mine = nonce == self.nonce && self.reader.is_none();
        if !is_mine || self.take_answered(seq, message::HELLO_ANSWER).is_none() {
            return;
        }
        self.reader = Some(identity);
        self.next_ping = now + PING_PERIOD;
        let [major, minor, patch] = identity.firmware;
        self.happened.push_back(Happening::Opened {
            firmware: format!("{major}.{minor}.{patch}"),
        });
    }

    fn handle_nack(&mut self, seq: u8, nack: Nack, now: Instant) {
        let Some(asked) = self.asked.take_if(|asked| asked.seq == seq) else {
            return;
        };
        match asked.question {
            Question::Read(read) => self.refuse(read),
            Question::Look(token) => self.refuse_task(token, ChipFault::ReaderFaulty),
            Question::Apdu | Question::Air => self.handle_refused_command(nack.reason, now),
            Question::Hello | Question::Ping | Question::Show(_) => {}
        }
        match (asked.question, nack.reason) {
            (Question::Hello, NackReason::Version { min, max }) => {
                self.fault = Some(ReaderFault::Version { min, max });
            }
            (Question::Hello, _) => self.fault = Some(ReaderFault::Silent),
            // The reader has started anew: all that it said before is void.
            (_, NackReason::NoHello) => {
                self.handle_end();
                let happened = std::mem::take(&mut self.happened);
                let signal = self.signal;
                *self = OwnConversation {
                    happened,
                    signal,
                    ..OwnConversation::new(!self.nonce, self.keyring.clone(), now)
                };
            }
            (_, reason) => tracing::debug!(?reason, kind = nack.kind, "Reader refused"),
        }
    }

    /// Pings notice a leaving that the reader gave up telling.
    fn handle_field_state(&mut self, state: FieldState, event: u16) {
        let is_there = state == FieldState::One;
        if self
            .present
            .as_ref()
            .is_some_and(|now| !is_there || now.tag != event)
        {
            self.end_presence();
        }
    }

    fn handle_tag(&mut self, tag: u16, age: u16, chip: &Chip, now: Instant) {
        // Too old to pay for anything: whoever held it may be gone.
        let Some(seen_at) = seen_at(age, now) else {
            return;
        };
        self.tell_when_known(chip, tag, Purpose::Came { seen_at }, Aim::Identify);
    }

    fn tell_worked(&mut self, token: u64, report: Result<ChipReport, EnrolError>) {
        self.happened.push_back(Happening::Worked { token, report });
    }

    fn tell(&mut self, told: Result<ChipIdentity, ChipFault>, tag: u16, purpose: Purpose) {
        let happening = match (purpose, told) {
            (Purpose::Read(Read { token, .. }), identity) => {
                Happening::ReadAgain { token, identity }
            }
            // It says its number, and takes no commands.
            (Purpose::Work(token), Ok(_)) => {
                return self.tell_worked(token, Err(EnrolError::Kind));
            }
            (Purpose::Work(token), Err(fault)) => {
                return self.tell_worked(token, Err(fault.into()));
            }
            (Purpose::Came { seen_at }, Ok(identity)) => {
                let presence = Presence::next();
                self.present = Some(Present { tag, presence });
                Happening::Came {
                    presence,
                    identity,
                    seen_at,
                }
            }
            (Purpose::Came { seen_at }, Err(fault)) => Happening::Unreadable { fault, seen_at },
        };
        self.happened.push_back(happening);
    }

    /// Confirms an event, also one that was confirmed before: the confirmation was lost then.
    fn is_new(&mut self, event: u16) -> bool {
        if self.confirmations.len() < MOST_CONFIRMATIONS {
            self.confirmations.push_back(event);
        }
        let is_new = event != self.last_event;
        self.last_event = event;
        is_new
    }

    fn handle_looked(
        &mut self,
        purpose: Purpose,
        aim: Aim,
        state: FieldState,
        event: u16,
        chip: Option<Chip>,
    ) {
        match chip {
            Some(chip) => self.tell_when_known(&chip, event, purpose, aim),
            None => self.tell(Err(field_fault(state)), event, purpose),
        }
    }

    fn end_presence(&mut self) {
        if let Some(Present { presence, .. }) = self.present.take() {
            self.happened.push_back(Happening::Left { presence });
        }
    }
}

fn field_fault(state: FieldState) -> ChipFault {
    match state {
        FieldState::Empty => ChipFault::Absent,
        FieldState::Several => ChipFault::Several,
        FieldState::One | FieldState::Unreadable => ChipFault::HoldStill,
    }
}

fn seen_at(age: u16, now: Instant) -> Option<Instant> {
    let age = Duration::from_millis(u64::from(age));
    if age > OLDEST_TAP {
        None
    } else {
        now.checked_sub(age)
    }
}

fn encode(message: &FromHost<'_>, seq: u8) -> Option<Vec<u8>> {
    // No message that is sent here is longer than a frame.
    message
        .encode(seq, &mut [0; MAX_WIRE])
        .ok()
        .map(<[u8]>::to_vec)
}

const PING_PERIOD: Duration = Duration::from_secs(1);
const PINGS_TO_LOSE: u32 = 3;
/// An older tap pays for nothing: whoever held the chip may be gone.
const OLDEST_TAP: Duration = Duration::from_secs(1);
/// A reader has at most 8 events that wait; more confirmations than that are for a mad one.
const MOST_CONFIRMATIONS: usize = 16;

#[cfg(test)]
mod tests;
