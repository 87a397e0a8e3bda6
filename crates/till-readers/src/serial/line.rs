//! A line, and the threads that open it, talk over it and open it again.
//!
//! One thread at a time has the line. When it panics, it begins anew; when it hangs in a call, the
//! watchdog gives the line to another thread, which opens it as soon as it can be had: the device may
//! have been plugged in anew, while the old call never returns. What a thread does or tells that no
//! longer has the line counts for nothing.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::Protocol;
use super::conversation::{Conversation, Happening};
use super::port::{Port, exchange, open};
use crate::auth::{ChipTask, Keyring, Reply};
use crate::outlet::Outlet;
use crate::watchdog::{self, HUNG_AFTER, Watched, Work};
use crate::{
    ChipFault, EventSink, Presence, ReaderEvent, ReaderFault, ReaderListing, ReaderName,
    ReaderState, Signal,
};

/// A line, shared by the reader's handles and its thread.
pub(super) struct Line {
    protocol: Protocol,
    name: ReaderName,
    keyring: Keyring,
    outlet: Outlet,
    open: Opener,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// Held while something is told, so that nothing is told of a turn that is over.
    turn: Mutex<Turn>,
}

type Opener = Box<dyn Fn() -> Result<Box<dyn Port>, ReaderFault> + Send + Sync>;

/// A question and when it was asked.
type Question = (u64, Instant);

#[derive(Default)]
struct Inbox {
    reads: VecDeque<Question>,
    tasks: VecDeque<(ChipTask, Reply, Instant)>,
    signal: Option<Signal>,
    stopped: bool,
}

/// Which thread has the line, and what it has told or been asked that must be ended with it.
struct Turn {
    number: u64,
    has_thread: bool,
    /// When the thread was last seen between two calls.
    beat: Instant,
    /// How many threads hang that have lost the line.
    hung: usize,
    present: Option<Presence>,
    asked: Vec<Question>,
    replies: Replies,
}

/// Who waits for what becomes of a task.
#[derive(Default)]
struct Replies {
    last: u64,
    waiting: BTreeMap<u64, Reply>,
}

impl Replies {
    /// The number of the task that the reply is for.
    fn keep(&mut self, reply: Reply) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, reply);
        self.last
    }
}

impl Line {
    pub(super) fn new(
        protocol: Protocol,
        path: PathBuf,
        keyring: Keyring,
        sink: EventSink,
    ) -> Line {
        let name = ReaderName(format!("{}:{}", protocol.scheme(), path.display()).into());
        let open = Box::new(move || open(protocol, &path));
        Line::with(protocol, name, keyring, sink, open)
    }

    fn with(
        protocol: Protocol,
        name: ReaderName,
        keyring: Keyring,
        sink: EventSink,
        open: Opener,
    ) -> Line {
        let outlet = Outlet::new(sink);
        outlet.announce(&name);
        Line {
            protocol,
            name,
            keyring,
            outlet,
            open,
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            turn: Mutex::new(Turn {
                number: 0,
                has_thread: false,
                beat: Instant::now(),
                hung: 0,
                present: None,
                asked: Vec::new(),
                replies: Replies::default(),
            }),
        }
    }

    /// Starts the line's first thread.
    pub(super) fn start(self: &Arc<Self>) {
        self.give_away(&mut self.turn(), Instant::now());
    }

    pub(super) fn name(&self) -> &ReaderName {
        &self.name
    }

    pub(super) fn listing(&self) -> ReaderListing {
        let opening = ReaderListing {
            name: self.name.clone(),
            state: ReaderState::Opening,
        };
        self.outlet.list().pop().unwrap_or(opening)
    }

    pub(super) fn read_again(&self, token: u64) {
        self.inbox().reads.push_back((token, Instant::now()));
        self.arrived.notify_all();
    }

    pub(super) fn work_on_chip(&self, task: ChipTask, reply: Reply) {
        self.inbox().tasks.push_back((task, reply, Instant::now()));
        self.arrived.notify_all();
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.inbox().signal = Some(signal);
    }

    pub(super) fn stop(&self) {
        self.inbox().stopped = true;
        self.arrived.notify_all();
    }

    /// Has a new thread take the line, if it has none.
    fn give_away(self: &Arc<Self>, turn: &mut Turn, now: Instant) {
        if turn.has_thread {
            return;
        }
        turn.beat = now;
        let talker = Talker {
            line: Arc::clone(self),
            turn: turn.number,
        };
        match watchdog::start(&format!("{}-reader", self.protocol.scheme()), talker) {
            Ok(()) => turn.has_thread = true,
            // The watchdog tries again.
            Err(error) => tracing::error!(%error, "Could not start a reader's thread"),
        }
    }

    /// Keeps the line open until it is stopped, or another thread has it.
    fn run(&self, turn: u64) {
        let mut pause = FIRST_PAUSE;
        while self.goes_on(turn) {
            let fault = match (self.open)() {
                Ok(mut port) => {
                    let (worked, fault) = self.talk(turn, &mut *port);
                    if worked {
                        pause = FIRST_PAUSE;
                    }
                    fault
                }
                Err(fault) => fault,
            };
            if self.is_over(turn) {
                return;
            }
            self.tell_fault(turn, fault);
            self.rest(turn, pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Talks until the line or the reader fails; says whether the reader ever answered.
    fn talk(&self, turn: u64, port: &mut dyn Port) -> (bool, ReaderFault) {
        let mut conversation = self
            .protocol
            .proving_conversation(self.keyring.clone(), Instant::now());
        let conversation = conversation.as_mut();
        let mut worked = false;
        let fault = loop {
            if !self.pass_questions(turn, conversation) {
                break ReaderFault::Lost;
            }
            if let Err(error) = exchange(port, conversation) {
                break ReaderFault::LineFailed {
                    reason: error.to_string(),
                };
            }
            worked |= self.pass_happenings(turn, conversation);
            if let Some(fault) = conversation.fault() {
                break fault;
            }
        };
        conversation.handle_end();
        self.pass_happenings(turn, conversation);
        (worked, fault)
    }

    /// Hands over what is asked of the reader; false when the turn is over.
    fn pass_questions(&self, turn: u64, conversation: &mut dyn Conversation) -> bool {
        let mut now = self.turn();
        let mut inbox = self.inbox();
        if now.number != turn || inbox.stopped {
            return false;
        }
        now.beat = Instant::now();
        for (token, asked_at) in inbox.reads.drain(..) {
            now.asked.push((token, asked_at));
            conversation.handle_read_again(token, asked_at);
        }
        for (task, reply, asked_at) in inbox.tasks.drain(..) {
            conversation.handle_task(now.replies.keep(reply), task, asked_at);
        }
        if let Some(signal) = inbox.signal.take() {
            conversation.handle_signal(signal);
        }
        true
    }

    /// Tells what happened; says whether the reader was opened.
    fn pass_happenings(&self, turn: u64, conversation: &mut dyn Conversation) -> bool {
        let mut opened = false;
        while let Some(happening) = conversation.poll_happening() {
            let mut now = self.turn();
            if now.number != turn {
                return false;
            }
            opened |= matches!(happening, Happening::Opened { .. });
            self.pass_happening(&mut now, happening);
        }
        opened
    }

    fn pass_happening(&self, turn: &mut Turn, happening: Happening) {
        let reader = self.name.clone();
        let event = match happening {
            Happening::Opened { firmware } => {
                tracing::info!(%reader, firmware, "Reader opened");
                self.outlet.ready(&self.name);
                return;
            }
            Happening::Log { level, text } => {
                tracing::debug!(%reader, level, text, "Reader says");
                return;
            }
            Happening::Worked { token, report } => {
                if let Some(reply) = turn.replies.waiting.remove(&token) {
                    reply(report);
                }
                return;
            }
            Happening::Came {
                presence,
                identity,
                seen_at,
            } => {
                turn.present = Some(presence);
                ReaderEvent::Chip {
                    reader,
                    presence,
                    identity,
                    seen_at,
                }
            }
            Happening::Unreadable { fault, seen_at } => ReaderEvent::Unreadable {
                reader,
                fault,
                seen_at,
            },
            Happening::Left { presence } => {
                turn.present = None;
                ReaderEvent::Left { reader, presence }
            }
            Happening::ReadAgain { token, identity } => {
                let is_open = |(asked, _): &mut Question| *asked == token;
                if turn.asked.extract_if(.., is_open).next().is_none() {
                    // The watchdog has answered it, since it was late.
                    return;
                }
                ReaderEvent::ReadAgain {
                    reader,
                    token,
                    identity,
                    seen_at: Instant::now(),
                }
            }
        };
        self.outlet.tell(event);
    }

    fn tell_fault(&self, turn: u64, fault: ReaderFault) {
        let now = self.turn();
        if now.number != turn {
            return;
        }
        let fault = match fault {
            // The other program is this one: a thread that hangs holds the line still.
            ReaderFault::LineInUse { .. } if now.hung > 0 => blocked(),
            fault => fault,
        };
        self.outlet.faulty(&self.name, fault);
    }

    /// Ends what the thread has told and was asked that has the line.
    fn break_off(&self, turn: &mut Turn) {
        if let Some(presence) = turn.present.take() {
            let reader = self.name.clone();
            self.outlet.tell(ReaderEvent::Left { reader, presence });
        }
        self.refuse(turn.asked.drain(..));
        refuse_tasks(std::mem::take(&mut turn.replies).waiting.into_values());
    }

    /// Waits before the next try; questions are answered at once meanwhile.
    fn rest(&self, turn: u64, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.inbox().signal = None;
            self.refuse_all();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_over(turn) {
                return;
            }
            let waiting = self.inbox();
            drop(
                self.arrived
                    .wait_timeout_while(waiting, left, |inbox| {
                        inbox.reads.is_empty() && inbox.tasks.is_empty() && !inbox.stopped
                    })
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    /// Answers at once what nobody has been asked yet.
    fn refuse_all(&self) {
        let (questions, tasks) = {
            let mut inbox = self.inbox();
            let questions = std::mem::take(&mut inbox.reads);
            (questions, std::mem::take(&mut inbox.tasks))
        };
        self.refuse(questions);
        refuse_tasks(tasks.into_iter().map(|(_, reply, _)| reply));
    }

    fn refuse(&self, questions: impl IntoIterator<Item = Question>) {
        for (token, _) in questions {
            let (reader, identity) = (self.name.clone(), Err(ChipFault::ReaderFaulty));
            let seen_at = Instant::now();
            self.outlet.tell(ReaderEvent::ReadAgain {
                reader,
                token,
                identity,
                seen_at,
            });
        }
    }

    /// Whether the thread still has the line. If so, it is seen between two calls, also when there is no
    /// reader for days: waiting for one is not hanging.
    fn goes_on(&self, turn: u64) -> bool {
        let mut now = self.turn();
        let goes_on = now.number == turn && !self.inbox().stopped;
        if goes_on {
            now.beat = Instant::now();
        }
        goes_on
    }

    fn is_over(&self, turn: u64) -> bool {
        self.turn().number != turn || self.inbox().stopped
    }

    /// A thread has come back that hung.
    fn end(&self, turn: u64) {
        let mut now = self.turn();
        if now.number != turn {
            now.hung -= 1;
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched for Line {
    fn look(self: Arc<Self>, now: Instant) {
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread is telling something, so it does not hang in the reader.
            Err(TryLockError::WouldBlock) => return,
        };
        if self.inbox().stopped {
            return;
        }
        let is_late = |asked_at: Instant| now.saturating_duration_since(asked_at) > ANSWER_TIME;
        let late: Vec<Question> = {
            let mut inbox = self.inbox();
            let unheard = inbox.reads.iter().filter(|(_, at)| is_late(*at)).count();
            let unheard: Vec<Question> = inbox.reads.drain(..unheard).collect();
            let unanswered = turn.asked.extract_if(.., |(_, at)| is_late(*at));
            unheard.into_iter().chain(unanswered).collect()
        };
        self.refuse(late);
        if turn.has_thread && now.saturating_duration_since(turn.beat) > HUNG_AFTER {
            tracing::error!(reader = %self.name, hung = turn.hung + 1, "Reader's thread hangs");
            self.break_off(&mut turn);
            self.outlet.faulty(&self.name, blocked());
            turn.number += 1;
            turn.hung += 1;
            turn.has_thread = false;
        }
        if turn.hung <= MOST_HUNG {
            self.give_away(&mut turn, now);
        }
        if !turn.has_thread {
            self.refuse_all();
        }
    }
}

/// A thread of the line.
struct Talker {
    line: Arc<Line>,
    turn: u64,
}

impl Work for Talker {
    fn run(&self) {
        self.line.run(self.turn);
        self.line.end(self.turn);
    }

    fn handle_panic(&self) {
        let mut turn = self.line.turn();
        if turn.number == self.turn && !self.line.inbox().stopped {
            self.line.break_off(&mut turn);
            let fault = ReaderFault::BrokeDown;
            self.line.outlet.faulty(&self.line.name, fault);
        }
    }

    fn rest(&self, pause: Duration) -> bool {
        self.line.rest(self.turn, pause);
        let goes_on = self.line.goes_on(self.turn);
        if !goes_on {
            self.line.end(self.turn);
        }
        goes_on
    }
}

fn refuse_tasks(replies: impl Iterator<Item = Reply>) {
    replies.for_each(|reply| reply(Err(ChipFault::ReaderFaulty.into())));
}

fn blocked() -> ReaderFault {
    ReaderFault::Blocked {
        seconds: HUNG_AFTER.as_secs(),
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Conversations answer within 3 s, and late questions are looked for in periods; see
/// [`crate::LONGEST_ANSWER`].
const ANSWER_TIME: Duration = Duration::from_millis(3400);
/// So many threads may hang before no further one is risked.
const MOST_HUNG: usize = 3;

#[cfg(test)]
mod tests;
