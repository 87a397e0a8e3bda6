//! The till's side of the project's own reader protocol (`firmware-proto/SPEC.md`, "The till").

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;
use firmware_proto::frame::{Decoder, Frame, MAX_WIRE, VERSION};
use firmware_proto::message::{
    self, Chip, FieldState, FromDevice, FromHost, Identity, Nack, NackReason, Pattern, Technology,
    capability, chip_flag,
};

use super::conversation::{Conversation, Happening};
use super::em4100;
use super::proof::TASK_TIME;
use crate::auth::{
    Aim, ChipReport, ChipTask, EnrolError, Keyring, Shown, Speaks, Talk, Told, Turn,
};
use crate::{ChipFault, Presence, ReaderFault, Signal};

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

/// A chip that is talked with before anything is told.
struct ChipTalk {
    talk: Talk,
    /// The number of the reader's event that told of the chip.
    tag: u16,
    purpose: Purpose,
    /// What it is sent now.
    command: Vec<u8>,
}

/// Why it is talked with.
#[derive(Clone, Copy)]
enum Purpose {
    /// It came into the field.
    Came { seen_at: Instant },
    /// Somebody asked who is there.
    Read(Read),
    /// Something is to be done with it: the task's number.
    Work(u64),
}

#[derive(Clone, Copy)]
struct Read {
    token: u64,
    asked_at: Instant,
}

struct Task {
    token: u64,
    task: ChipTask,
    asked_at: Instant,
}

/// The one question that waits for its answer.
struct Asked {
    question: Question,
    seq: u8,
    sent_at: Instant,
    times: u32,
}

#[derive(Clone, Copy)]
enum Question {
    Hello,
    Ping,
    Read(Read),
    /// What lies there that the first task is for: the task's number.
    Look(u64),
    /// The command of the talk under way.
    Apdu,
    Show(Signal),
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
    fn send_again(&mut self, now: Instant) -> Option<Vec<u8>> {
        let nonce = self.nonce;
        let asked = self.asked.as_mut()?;
        asked.sent_at = now;
        asked.times += 1;
        let message = match asked.question {
            Question::Hello => FromHost::Hello {
                min: VERSION,
                max: VERSION,
                nonce,
            },
            Question::Ping => FromHost::Ping { echo: nonce },
            Question::Read(_) | Question::Look(_) => FromHost::Read,
            Question::Apdu => {
                let talk = self.talks.front()?;
                FromHost::Apdu {
                    event: talk.tag,
                    bytes: &talk.command,
                }
            }
            Question::Show(signal) => {
                let (pattern, milliseconds) = pattern(signal);
                FromHost::Feedback {
                    pattern,
                    milliseconds,
                }
            }
        };
        encode(&message, asked.seq)
    }

    fn next_question(&mut self, now: Instant) -> Option<Question> {
        if self.reader.is_none() {
            return self.fault.is_none().then_some(Question::Hello);
        }
        if self.poll_talk(now) {
            return Some(Question::Apdu);
        }
        if !self.lets_through()
            && let Some(Task { token, .. }) = self.tasks.pop_front()
        {
            self.tell_worked(token, Err(EnrolError::Reader));
        }
        let reader = self.reader.as_ref()?;
        let shows = reader.capabilities & (capability::LIGHT | capability::BEEPER) != 0;
        if let Some(read) = self.reads.pop_front() {
            return Some(Question::Read(read));
        }
        if let Some(Task { token, .. }) = self.tasks.front() {
            return Some(Question::Look(*token));
        }
        if let Some(signal) = self.signal.take().filter(|_| shows) {
            return Some(Question::Show(signal));
        }
        if now < self.next_ping {
            return None;
        }
        self.next_ping = now + PING_PERIOD;
        Some(Question::Ping)
    }

    /// The question was asked often enough.
    fn give_up(&mut self, now: Instant) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        match asked.question {
            Question::Hello => self.fault = Some(ReaderFault::Silent),
            Question::Ping => {
                self.lost_pings += 1;
                if self.lost_pings >= PINGS_TO_LOSE {
                    self.fault = Some(ReaderFault::Lost);
                }
            }
            Question::Read(read) => self.refuse(read),
            Question::Look(token) => self.refuse_task(token, ChipFault::ReaderFaulty),
            Question::Apdu => self.break_off(now),
            // The sale stands without light and sound.
            Question::Show(_) => {}
        }
    }

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
                if self
                    .take_answered(frame.seq, message::APDU_ANSWER)
                    .is_some()
                    && let Some(ChipTalk { talk, .. }) = self.talks.front_mut()
                {
                    self.lost_pings = 0;
                    talk.handle_answer(bytes.to_vec());
                }
            }
            // Asked for by nobody here.
            FromDevice::Booting => {}
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
            Question::Apdu => self.handle_refused_command(nack.reason, now),
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

    /// Tells who a chip is or what was done with it, at once or when it was talked with.
    fn tell_when_known(&mut self, chip: &Chip, tag: u16, purpose: Purpose, aim: Aim) {
        if chip.technology == Technology::Em4100 {
            let number = <[u8; 5]>::try_from(chip.uid.as_slice());
            let identity = match number.map(em4100::identity) {
                Ok(Ok(chip)) => Ok(ChipIdentity::Bare(chip)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(ChipFault::Technology),
            };
            return self.tell(identity, tag, purpose);
        }
        let shown = match self.shown(chip) {
            Ok(shown) => shown,
            Err(fault) => return self.tell(Err(fault), tag, purpose),
        };
        let keys = self.keyring.now();
        if matches!(aim, Aim::Identify) && !shown.may_prove(&keys) {
            return self.tell(shown.claim(), tag, purpose);
        }
        if tag == NO_EVENT {
            // It lay there before the reader was greeted, and cannot be spoken to.
            return self.tell(Err(ChipFault::HoldStill), tag, purpose);
        }
        self.talks.push_back(ChipTalk {
            talk: Talk::new(aim, keys, shown),
            tag,
            purpose,
            command: Vec::new(),
        });
    }

    /// Whether the chip that is talked with is to be sent something.
    fn poll_talk(&mut self, now: Instant) -> bool {
        let Some(first) = self.talks.front_mut() else {
            return false;
        };
        match first.talk.turn() {
            Turn::Send(command) => {
                first.command = command;
                true
            }
            Turn::Done(told) => {
                self.finish_talk(told, now);
                false
            }
        }
    }

    fn finish_talk(&mut self, told: Told, now: Instant) {
        let Some(ChipTalk { tag, purpose, .. }) = self.talks.pop_front() else {
            return;
        };
        let is_late = |seen_at| now.saturating_duration_since(seen_at) > OLDEST_TAP;
        match (purpose, told) {
            (Purpose::Work(token), Told::Worked(report)) => self.tell_worked(token, report),
            // Whoever held it may be gone.
            (Purpose::Came { seen_at }, _) if is_late(seen_at) => {
                self.tell(Err(ChipFault::HoldStill), tag, purpose);
            }
            (_, Told::Identified(told)) => self.tell(told, tag, purpose),
            (Purpose::Came { .. } | Purpose::Read(_), Told::Worked(_)) => {}
        }
    }

    /// The chip that is talked with does not answer, or is no longer there.
    fn break_off(&mut self, now: Instant) {
        if let Some(ChipTalk { talk, .. }) = self.talks.front() {
            self.finish_talk(talk.broken_off(ChipFault::HoldStill), now);
        }
    }

    /// The chips are no longer there.
    fn give_up_talks(&mut self, is_over: impl Fn(&ChipTalk) -> bool, now: Instant) {
        for talk in self.take_talks(is_over) {
            self.talks.push_front(talk);
            self.break_off(now);
        }
    }

    /// What is on its way to a chip whose talk is taken answers nothing any more.
    fn take_talks(&mut self, is_over: impl Fn(&ChipTalk) -> bool) -> VecDeque<ChipTalk> {
        if self.talks.front().is_some_and(&is_over) {
            self.asked
                .take_if(|asked| matches!(asked.question, Question::Apdu));
        }
        let (over, going_on): (VecDeque<ChipTalk>, VecDeque<ChipTalk>) =
            self.talks.drain(..).partition(is_over);
        self.talks = going_on;
        over
    }

    fn handle_refused_command(&mut self, reason: NackReason, now: Instant) {
        match (reason, self.talks.front()) {
            (NackReason::NotSupported | NackReason::UnknownKind, Some(ChipTalk { talk, .. })) => {
                self.finish_talk(talk.without_passage(), now);
            }
            _ => self.break_off(now),
        }
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

    /// Whether the reader passes commands on to chips.
    fn lets_through(&self) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(|reader| reader.capabilities & capability::APDU != 0)
    }

    /// Of the kinds at 13.56 MHz only type A has identifiers that are known to stay: those of type B
    /// are drawn anew, and others are no chips of a canteen.
    fn shown(&self, chip: &Chip) -> Result<Shown, ChipFault> {
        match chip.technology {
            Technology::Iso14443A => Ok(Shown {
                uid: chip.uid.as_slice().to_vec(),
                speaks: match self.lets_through() && chip.flags & chip_flag::TAKES_COMMANDS != 0 {
                    true => Speaks::Apdus,
                    false => Speaks::Nothing,
                },
            }),
            Technology::Iso14443B
            | Technology::Felica
            | Technology::Iso15693
            | Technology::Em4100
            | Technology::Other(_) => Err(ChipFault::Technology),
        }
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

    fn take_answered(&mut self, seq: u8, kind: u8) -> Option<Question> {
        let asked = self
            .asked
            .take_if(|asked| asked.seq == seq && asked.question.answer() == kind);
        asked.map(|asked| asked.question)
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

    fn refuse(&mut self, read: Read) {
        let identity = Err(ChipFault::ReaderFaulty);
        self.happened.push_back(Happening::ReadAgain {
            token: read.token,
            identity,
        });
    }

    /// Answers questions that wait too long, or that nobody will answer any more.
    fn refuse_reads(&mut self, is_over: impl Fn(&Read) -> bool) {
        if let Some(Asked {
            question: Question::Read(read),
            ..
        }) = self.asked
            && is_over(&read)
        {
            self.asked = None;
            self.refuse(read);
        }
        let late = self.take_talks(|talk| match &talk.purpose {
            Purpose::Read(read) => is_over(read),
            Purpose::Came { .. } | Purpose::Work(_) => false,
        });
        for talk in late {
            if let Purpose::Read(read) = talk.purpose {
                self.refuse(read);
            }
        }
        let (over, waiting): (VecDeque<Read>, VecDeque<Read>) =
            self.reads.drain(..).partition(is_over);
        self.reads = waiting;
        over.into_iter().for_each(|read| self.refuse(read));
    }

    /// Refuses tasks that wait too long, or that nobody will do any more.
    fn refuse_tasks(&mut self, is_over: impl Fn(&Task) -> bool) {
        let over = self.tasks.iter().filter(|task| is_over(task));
        let over: Vec<u64> = over.map(|task| task.token).collect();
        for token in over {
            self.refuse_task(token, ChipFault::ReaderFaulty);
        }
    }

    /// What a task had done until now is found by the next one.
    fn end_tasks(&mut self) {
        self.refuse_tasks(|_| true);
        for talk in self.take_talks(|talk| matches!(talk.purpose, Purpose::Work(_))) {
            if let Purpose::Work(token) = talk.purpose {
                self.tell_worked(token, Err(ChipFault::ReaderFaulty.into()));
            }
        }
    }

    fn refuse_task(&mut self, token: u64, fault: ChipFault) {
        if self.take_task(token).is_some() {
            self.tell_worked(token, Err(fault.into()));
        }
    }

    /// A task whose question is under way is asked for no longer.
    fn take_task(&mut self, token: u64) -> Option<ChipTask> {
        let its_look =
            |asked: &mut Asked| matches!(asked.question, Question::Look(of) if of == token);
        self.asked.take_if(its_look);
        let at = self.tasks.iter().position(|task| task.token == token)?;
        self.tasks.remove(at).map(|task| task.task)
    }

    fn end_presence(&mut self) {
        if let Some(Present { presence, .. }) = self.present.take() {
            self.happened.push_back(Happening::Left { presence });
        }
    }
}

impl Question {
    /// How often it is asked. Lost pings are counted instead.
    fn times(self) -> u32 {
        match self {
            Question::Hello | Question::Read(_) | Question::Look(_) | Question::Show(_) => 3,
            // A chip that heard a step of a proof twice would refuse the second.
            Question::Ping | Question::Apdu => 1,
        }
    }

    fn answer_time(self) -> Duration {
        match self {
            Question::Apdu => APDU_TIME,
            Question::Hello
            | Question::Ping
            | Question::Read(_)
            | Question::Look(_)
            | Question::Show(_) => ANSWER_TIME,
        }
    }

    /// The kind of its answer.
    fn answer(self) -> u8 {
        match self {
            Question::Hello => message::HELLO_ANSWER,
            Question::Ping => message::PONG,
            Question::Read(_) | Question::Look(_) => message::FIELD,
            Question::Apdu => message::APDU_ANSWER,
            Question::Show(_) => message::FEEDBACK_SHOWN,
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

/// A pattern, and its time in milliseconds; 0 is until the next one.
fn pattern(signal: Signal) -> (Pattern, u16) {
    match signal {
        Signal::Approved => (Pattern::Approved, 800),
        Signal::Declined => (Pattern::Declined, 1500),
        Signal::Waiting => (Pattern::Waiting, 0),
        Signal::Idle => (Pattern::Idle, 0),
    }
}

fn encode(message: &FromHost<'_>, seq: u8) -> Option<Vec<u8>> {
    // No message that is sent here is longer than a frame.
    message
        .encode(seq, &mut [0; MAX_WIRE])
        .ok()
        .map(<[u8]>::to_vec)
}

const ANSWER_TIME: Duration = Duration::from_millis(250);
/// A chip may take its time over a step of a proof.
const APDU_TIME: Duration = Duration::from_secs(1);
/// In place of an event's number: the chip was not told of.
const NO_EVENT: u16 = 0;
const PING_PERIOD: Duration = Duration::from_secs(1);
const PINGS_TO_LOSE: u32 = 3;
const OLDEST_TAP: Duration = Duration::from_secs(1);
/// Well under [`crate::LONGEST_ANSWER`].
const READ_TIME: Duration = Duration::from_secs(3);
/// A reader has at most 8 events that wait; more confirmations than that are for a mad one.
const MOST_CONFIRMATIONS: usize = 16;

#[cfg(test)]
mod tests;
