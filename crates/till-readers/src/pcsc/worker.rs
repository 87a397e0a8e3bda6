//! A reader behind pcscd: its handle, and its thread that talks to chips.

use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;
use pcsc::{Context, Disposition, Scope};

use super::command::{self, Next};
use super::names;
use super::stay::Field;
use crate::auth::{ChipReport, ChipTask, EnrolError, Keyring, Reply};
use crate::outlet::Outlet;
use crate::watchdog::Work;
use crate::{ChipFault, Presence, Reader, ReaderEvent, ReaderFault, ReaderName, Signal};

/// One reader that pcscd lists.
pub(super) struct PcscReader {
    name: ReaderName,
    /// What pcscd calls it.
    listed: CString,
    keyring: Keyring,
    outlet: Arc<Outlet>,
    /// The chip in its field.
    pub(super) field: Field,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    /// The [`Reader::read_again`] that the thread works on.
    in_hand: Option<Question>,
    busy_since: Option<Instant>,
    stopped: bool,
}

enum Command {
    Read {
        presence: Presence,
        seen_at: Instant,
    },
    ReadAgain(Question),
    Work(ChipTask, Reply),
    Signal(Signal),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Question {
    token: u64,
    asked_at: Instant,
}

impl Reader for PcscReader {
    fn name(&self) -> ReaderName {
        self.name.clone()
    }

    fn read_again(&self, token: u64) {
        self.put(Command::ReadAgain(Question {
            token,
            asked_at: Instant::now(),
        }));
    }

    fn work_on_chip(&self, task: ChipTask, reply: Reply) {
        self.put(Command::Work(task, reply));
    }

    fn signal(&self, signal: Signal) {
        // Others have their own light and beep when they read a chip.
        if names::is_acr122(&self.name.0) {
            self.put(Command::Signal(signal));
        }
    }
}

impl PcscReader {
    /// Starts the reader's thread.
    pub(super) fn start(
        name: ReaderName,
        listed: CString,
        keyring: Keyring,
        outlet: Arc<Outlet>,
    ) -> Arc<PcscReader> {
        let (field, inbox) = (Field::default(), Mutex::default());
        let reader = Arc::new(PcscReader {
            name,
            listed,
            keyring,
            outlet,
            field,
            inbox,
            arrived: Condvar::new(),
        });
        super::start_work("pcsc-reader", Working(Arc::clone(&reader)));
        reader
    }

    /// Has the chip of this stay read.
    pub(super) fn read(&self, presence: Presence, seen_at: Instant) {
        self.put(Command::Read { presence, seen_at });
    }

    /// Ends the thread as soon as its call returns.
    pub(super) fn stop(&self) {
        self.inbox().stopped = true;
        self.arrived.notify_all();
    }

    /// The reader is gone: its chip has left, and what is still asked of it is answered.
    pub(super) fn leave(&self) {
        self.field.handle_empty(&self.name, &self.outlet);
        self.stop();
        let questions = self.inbox().take_questions(|_| true);
        self.answer_faulty(questions);
        self.outlet.removed(&self.name);
    }

    /// How long the thread has been in its present call.
    pub(super) fn busy_for(&self, now: Instant) -> Duration {
        let since = self.inbox().busy_since;
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Answers questions that a hanging call keeps waiting: the sale must not wait with it.
    pub(super) fn give_up_late_answers(&self, now: Instant) {
        let is_late =
            |asked: &Question| now.saturating_duration_since(asked.asked_at) > ANSWER_TIME;
        let questions = self.inbox().take_questions(is_late);
        self.answer_faulty(questions);
    }

    fn put(&self, command: Command) {
        let refused = {
            let mut inbox = self.inbox();
            match command {
                Command::ReadAgain(question) if inbox.stopped => Some(question),
                Command::Work(..) if inbox.stopped => None,
                command => {
                    inbox.put(command);
                    None
                }
            }
        };
        self.arrived.notify_all();
        if let Some(question) = refused {
            // The sink is never called on the caller's thread.
            let (outlet, reader) = (Arc::clone(&self.outlet), self.name.clone());
            super::start_thread("pcsc-removed", move || {
                outlet.tell(answer(reader, question.token, Err(ChipFault::ReaderFaulty)));
            });
        }
    }

    fn work(&self) {
        let mut context = None;
        while let Some(command) = self.next() {
            match command {
                Command::Read { presence, seen_at } => {
                    let read = self.read_chip(&mut context, || self.field.is_current(presence));
                    if !self.inbox().stopped {
                        self.field
                            .tell(&self.name, &self.outlet, presence, seen_at, read);
                    }
                }
                Command::ReadAgain(question) => {
                    let read = self.read_chip(&mut context, || true);
                    // Otherwise it was answered in the meantime.
                    if self.inbox().take_from_hand(question) {
                        self.outlet
                            .tell(answer(self.name.clone(), question.token, read));
                    }
                }
                Command::Work(task, reply) => reply(self.work_on(&mut context, &task)),
                Command::Signal(signal) => self.show(&mut context, signal),
            }
        }
    }

    fn next(&self) -> Option<Command> {
        let mut inbox = self.inbox();
        inbox.busy_since = None;
        loop {
            if inbox.stopped {
                return None;
            }
            if let Some(command) = inbox.commands.pop_front() {
                inbox.busy_since = Some(Instant::now());
                if let Command::ReadAgain(question) = &command {
                    inbox.in_hand = Some(*question);
                }
                return Some(command);
            }
            inbox = self
                .arrived
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read_chip(
        &self,
        context: &mut Option<Context>,
        is_wanted: impl Fn() -> bool,
    ) -> Result<ChipIdentity, ChipFault> {
        let mut fault = ChipFault::HoldStill;
        let mut after = Disposition::LeaveCard;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(RETRY_PAUSE);
            }
            if !is_wanted() {
                return Err(ChipFault::HoldStill);
            }
            let Some(connected) = connect(context) else {
                fault = ChipFault::ReaderFaulty;
                continue;
            };
            match command::identify(connected, &self.listed, &self.keyring.now(), after) {
                Ok(identity) => return Ok(identity),
                Err(trouble) => {
                    tracing::debug!(reader = %self.name, ?trouble, attempt, "Chip not read");
                    fault = trouble.fault;
                    match trouble.next {
                        Next::Stop => return Err(fault),
                        Next::Retry => after = Disposition::LeaveCard,
                        Next::RetryUnpowered => after = Disposition::UnpowerCard,
                        Next::RetryAnew => *context = None,
                    }
                }
            }
        }
        Err(fault)
    }

    /// Tried once: who asked sees what is wrong, and asks again.
    fn work_on(
        &self,
        context: &mut Option<Context>,
        task: &ChipTask,
    ) -> Result<ChipReport, EnrolError> {
        let Some(connected) = connect(context) else {
            return Err(ChipFault::ReaderFaulty.into());
        };
        let done = command::work(connected, &self.listed, &self.keyring.now(), task);
        done.unwrap_or_else(|trouble| {
            tracing::debug!(reader = %self.name, ?trouble, "Chip not worked on");
            if trouble.next == Next::RetryAnew {
                *context = None;
            }
            Err(trouble.fault.into())
        })
    }

    fn show(&self, context: &mut Option<Context>, signal: Signal) {
        let Some(connected) = connect(context) else {
            return;
        };
        if let Err(error) = command::show(connected, &self.listed, signal) {
            // The chip may have been lifted, and the sale stands without light and beep.
            tracing::debug!(reader = %self.name, %error, "Signal not shown");
        }
    }

    fn answer_faulty(&self, questions: Vec<Question>) {
        for question in questions {
            let fault = Err(ChipFault::ReaderFaulty);
            self.outlet
                .tell(answer(self.name.clone(), question.token, fault));
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's thread.
struct Working(Arc<PcscReader>);

impl Work for Working {
    fn run(&self) {
        self.0.work();
    }

    fn handle_panic(&self) {
        let questions: Vec<Question> = {
            let mut inbox = self.0.inbox();
            inbox.busy_since = None;
            inbox.in_hand.take().into_iter().collect()
        };
        let reader = &self.0;
        if !reader.inbox().stopped {
            reader.outlet.faulty(&reader.name, ReaderFault::BrokeDown);
        }
        reader.answer_faulty(questions);
    }

    fn rest(&self, pause: Duration) -> bool {
        let reader = &self.0;
        let paused = reader
            .arrived
            .wait_timeout_while(reader.inbox(), pause, |inbox| !inbox.stopped);
        let is_stopped = paused.unwrap_or_else(PoisonError::into_inner).0.stopped;
        if !is_stopped {
            reader.outlet.recovered(&reader.name);
        }
        !is_stopped
    }
}

impl Inbox {
    /// Only the newest stay and the newest signal matter, so the queue stays short.
    fn put(&mut self, command: Command) {
        match command {
            Command::Read { .. } => {
                self.commands
                    .retain(|queued| !matches!(queued, Command::Read { .. }));
            }
            Command::Signal(_) => {
                self.commands
                    .retain(|queued| !matches!(queued, Command::Signal(_)));
            }
            Command::ReadAgain(_) | Command::Work(..) => {}
        }
        self.commands.push_back(command);
    }

    fn take_from_hand(&mut self, question: Question) -> bool {
        let is_mine = self.in_hand == Some(question);
        self.in_hand = self.in_hand.filter(|_| !is_mine);
        is_mine
    }

    fn take_questions(&mut self, is_wanted: impl Fn(&Question) -> bool) -> Vec<Question> {
        let mut taken: Vec<Question> = self
            .in_hand
            .take_if(|question| is_wanted(question))
            .into_iter()
            .collect();
        self.commands.retain(|command| match command {
            Command::ReadAgain(question) if is_wanted(question) => {
                taken.push(*question);
                false
            }
            Command::ReadAgain(_)
            | Command::Read { .. }
            | Command::Work(..)
            | Command::Signal(_) => true,
        });
        taken
    }
}

fn answer(
    reader: ReaderName,
    token: u64,
    identity: Result<ChipIdentity, ChipFault>,
) -> ReaderEvent {
    ReaderEvent::ReadAgain {
        reader,
        token,
        identity,
        seen_at: Instant::now(),
    }
}

fn connect(context: &mut Option<Context>) -> Option<&Context> {
    if context.is_none() {
        *context = Context::establish(Scope::User).ok();
    }
    context.as_ref()
}

const ATTEMPTS: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Well under [`crate::LONGEST_ANSWER`], since late questions are looked for in periods.
const ANSWER_TIME: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_panics_answers_for_its_reader_and_goes_on() {
        let (sender, told) = mpsc::channel();
        let sink = move |event| {
            let _ = sender.send(event);
        };
        let reader = Arc::new(PcscReader {
            name: ReaderName("pcsc:A".into()),
            listed: CString::from(c"A 00 00"),
            keyring: Keyring::default(),
            outlet: Arc::new(Outlet::new(Arc::new(sink))),
            field: Field::default(),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        });
        reader.outlet.ready(&reader.name);
        reader.read_again(7);
        // Taken in hand by a thread that never comes to the answer.
        assert!(matches!(reader.next(), Some(Command::ReadAgain(_))));
        let working = Working(Arc::clone(&reader));
        working.handle_panic();
        assert_eq!(reader.busy_for(Instant::now()), Duration::ZERO);
        assert!(working.rest(Duration::from_millis(1)));
        reader.stop();
        assert!(!working.rest(Duration::from_secs(60)));
        let told: Vec<String> = told
            .try_iter()
            .map(|event| match event {
                ReaderEvent::Ready { .. } => "ready".to_owned(),
                ReaderEvent::Faulty { fault, .. } => format!("{fault:?}"),
                ReaderEvent::ReadAgain {
                    token, identity, ..
                } => format!("again {token} {:?}", identity.unwrap_err()),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            ["ready", "BrokeDown", "again 7 ReaderFaulty", "ready"]
        );
    }
}
