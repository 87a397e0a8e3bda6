//! A line, and the thread that opens it, talks over it and opens it again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serialport::{ClearBuffer, SerialPort, TTYPort};

use super::Protocol;
use super::conversation::{Conversation, Happening};
use crate::auth::{ChipTask, Keyring, Reply};
use crate::keyboard::Keyboard;
use crate::outlet::Outlet;
use crate::{
    ChipFault, EventSink, ReaderEvent, ReaderFault, ReaderListing, ReaderName, ReaderState, Signal,
};

/// A line, shared by the reader's handles and its thread.
pub(super) struct Line {
    protocol: Protocol,
    path: PathBuf,
    name: ReaderName,
    keyring: Keyring,
    outlet: Outlet,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inbox {
    reads: VecDeque<(u64, Instant)>,
    tasks: VecDeque<(ChipTask, Reply, Instant)>,
    signal: Option<Signal>,
    stopped: bool,
}

impl Line {
    pub(super) fn new(
        protocol: Protocol,
        path: PathBuf,
        keyring: Keyring,
        sink: EventSink,
    ) -> Line {
        let name = ReaderName(format!("{}:{}", protocol.scheme(), path.display()).into());
        let outlet = Outlet::new(sink);
        outlet.announce(&name);
        Line {
            protocol,
            path,
            name,
            keyring,
            outlet,
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        }
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

    /// Keeps the line open until it is stopped.
    pub(super) fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.inbox().stopped {
            let fault = match self.open() {
                Ok(mut port) => {
                    let (worked, fault) = self.talk(&mut port);
                    if worked {
                        pause = FIRST_PAUSE;
                    }
                    fault
                }
                Err(fault) => fault,
            };
            if self.inbox().stopped {
                return;
            }
            self.outlet.faulty(&self.name, fault);
            self.rest(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn open(&self) -> Result<Port, ReaderFault> {
        Ok(match self.protocol.baud() {
            Some(baud) => Port::Serial(open_serial(&self.path, baud)?),
            None => Port::Keyboard(Keyboard::open(&self.path, READ_TIME)?),
        })
    }

    /// Talks until the line or the reader fails; says whether the reader ever answered.
    fn talk(&self, port: &mut (impl Read + Write)) -> (bool, ReaderFault) {
        let mut conversation = self
            .protocol
            .proving_conversation(self.keyring.clone(), Instant::now());
        let conversation = conversation.as_mut();
        let (mut worked, mut replies) = (false, Replies::default());
        let fault = loop {
            if !self.pass_questions(conversation, &mut replies) {
                break ReaderFault::Lost;
            }
            if let Err(error) = exchange(port, conversation) {
                break ReaderFault::LineFailed {
                    reason: error.to_string(),
                };
            }
            worked |= self.pass_happenings(conversation, &mut replies);
            if let Some(fault) = conversation.fault() {
                break fault;
            }
        };
        conversation.handle_end();
        self.pass_happenings(conversation, &mut replies);
        (worked, fault)
    }

    /// Hands over what is asked of the reader; false when the line is stopped.
    fn pass_questions(&self, conversation: &mut dyn Conversation, replies: &mut Replies) -> bool {
        let mut inbox = self.inbox();
        for (token, asked_at) in inbox.reads.drain(..) {
            conversation.handle_read_again(token, asked_at);
        }
        for (task, reply, asked_at) in inbox.tasks.drain(..) {
            conversation.handle_task(replies.keep(reply), task, asked_at);
        }
        if let Some(signal) = inbox.signal.take() {
            conversation.handle_signal(signal);
        }
        !inbox.stopped
    }

    /// Tells what happened; says whether the reader was opened.
    fn pass_happenings(&self, conversation: &mut dyn Conversation, replies: &mut Replies) -> bool {
        let mut opened = false;
        while let Some(happening) = conversation.poll_happening() {
            let reader = self.name.clone();
            let event = match happening {
                Happening::Opened { firmware } => {
                    opened = true;
                    tracing::info!(%reader, firmware, "Reader opened");
                    self.outlet.ready(&self.name);
                    continue;
                }
                Happening::Log { level, text } => {
                    tracing::debug!(%reader, level, text, "Reader says");
                    continue;
                }
                Happening::Worked { token, report } => {
                    if let Some(reply) = replies.waiting.remove(&token) {
                        reply(report);
                    }
                    continue;
                }
                Happening::Came {
                    presence,
                    identity,
                    seen_at,
                } => ReaderEvent::Chip {
                    reader,
                    presence,
                    identity,
                    seen_at,
                },
                Happening::Unreadable { fault, seen_at } => ReaderEvent::Unreadable {
                    reader,
                    fault,
                    seen_at,
                },
                Happening::Left { presence } => ReaderEvent::Left { reader, presence },
                Happening::ReadAgain { token, identity } => ReaderEvent::ReadAgain {
                    reader,
                    token,
                    identity,
                    seen_at: Instant::now(),
                },
            };
            self.outlet.tell(event);
        }
        opened
    }

    /// Waits before the next try; questions are answered at once meanwhile.
    fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut inbox = self.inbox();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let questions = std::mem::take(&mut inbox.reads);
            let tasks = std::mem::take(&mut inbox.tasks);
            inbox.signal = None;
            let is_over = left.is_zero() || inbox.stopped;
            drop(inbox);
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
            for (_, reply, _) in tasks {
                reply(Err(ChipFault::ReaderFaulty.into()));
            }
            if is_over {
                return;
            }
            let waiting = self.inbox();
            inbox = self
                .arrived
                .wait_timeout_while(waiting, left, |inbox| {
                    inbox.reads.is_empty() && inbox.tasks.is_empty() && !inbox.stopped
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// A line that is open.
enum Port {
    Serial(TTYPort),
    Keyboard(Keyboard),
}

impl Read for Port {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Port::Serial(port) => port.read(room),
            Port::Keyboard(keyboard) => keyboard.read(room),
        }
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Port::Serial(port) => port.write(bytes),
            // Nothing is ever said to a keyboard.
            Port::Keyboard(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Port::Serial(port) => port.flush(),
            Port::Keyboard(_) => Ok(()),
        }
    }
}

/// Opens a serial line for this program alone; reading waits for [`READ_TIME`].
pub(super) fn open_serial(path: &Path, baud: u32) -> Result<TTYPort, ReaderFault> {
    let port = serialport::new(path.to_string_lossy(), baud).timeout(READ_TIME);
    let port = port
        .open_native()
        .map_err(|error| serial_fault(path, &error))?;
    // What was sent before is void; a line that cannot be cleared only brings noise.
    if let Err(error) = port.clear(ClearBuffer::Input) {
        tracing::debug!(%error, "Could not clear a serial line");
    }
    Ok(port)
}

fn serial_fault(path: &Path, error: &serialport::Error) -> ReaderFault {
    let path = path.to_owned();
    match error.kind() {
        _ if !path.exists() => ReaderFault::LineMissing { path },
        serialport::ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            ReaderFault::LineRefused { path }
        }
        // The lock is taken by another program, or the kernel keeps it for one.
        serialport::ErrorKind::Io(io::ErrorKind::ResourceBusy)
        | serialport::ErrorKind::NoDevice => ReaderFault::LineInUse { path },
        _ if error.description.contains("exclusive lock") => ReaderFault::LineInUse { path },
        _ => ReaderFault::LineFailed {
            reason: error.to_string(),
        },
    }
}

/// Sends what is due and takes what has come, waiting for it a moment.
pub(super) fn exchange(
    port: &mut (impl Read + Write),
    conversation: &mut dyn Conversation,
) -> io::Result<()> {
    while let Some(bytes) = conversation.poll_transmit(Instant::now()) {
        match port.write_all(&bytes) {
            // The reader takes nothing: what is lost is asked again, and then given up.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
            result => result?,
        }
    }
    let mut room = [0; 256];
    match port.read(&mut room) {
        // The end of a line that is gone; there is no end of a line that is there.
        Ok(0) => Err(io::ErrorKind::BrokenPipe.into()),
        Ok(length) => {
            conversation.handle_bytes(&room[..length], Instant::now());
            Ok(())
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Also how late a question may be sent that comes while the line is being read.
const READ_TIME: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
