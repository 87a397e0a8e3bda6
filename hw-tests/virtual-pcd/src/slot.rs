//! One slot of the virtual reader: a port on the loopback that a virtual chip connects to.
//!
//! A chip is in the field for as long as its connection lasts. One thread a slot accepts and reads;
//! whoever asks something of the chip writes, and waits for the thread to hand over the answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::acr122u::{Acr122u, Chip};

/// A listening slot; closed by [`Slot::close`].
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Stands between the resource manager and the chip, if the reader is one.
    acr122u: Option<Mutex<Acr122u>>,
}

/// What the reader makes of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// It hands them to the chip as they are.
    Plain,
    /// As an ACR122U does.
    Acr122u,
}

/// Why a chip gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// No chip is connected.
    Absent,
    /// The chip disconnected while it was asked.
    Torn,
    /// The chip let the time pass; it counts as gone, since a late answer would be taken for the
    /// answer to a later question.
    TooSlow,
    /// The message does not fit the protocol's 16-bit length.
    TooLong,
}

impl Slot {
    /// Listens on `port` of the loopback, and nowhere else: the protocol knows no authentication.
    pub(crate) fn open(port: u16, model: Model) -> io::Result<Slot> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name(format!("slot-{port}")).spawn({
            let shared = Arc::clone(&shared);
            move || shared.serve(&listener)
        })?;
        Ok(Slot {
            shared,
            address,
            thread: Mutex::new(Some(thread)),
            acr122u: (model == Model::Acr122u).then(Mutex::default),
        })
    }

    /// Ends the thread; the driver may be unloaded afterwards.
    pub(crate) fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.closing = true;
            state.drop_chip();
        }
        self.shared.changed.notify_all();
        // The thread may be waiting for a chip: this connection wakes it.
        let waker = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
        drop(waker);
    }

    /// Whether a chip is in the field.
    pub(crate) fn is_present(&self) -> bool {
        let mut state = self.shared.lock();
        let is_present = state.chip.is_some();
        if state.is_watched() {
            // A watcher that has just found a chip looks again when it powers it, and takes a chip that
            // left in between for one that cannot be powered, not for one that is gone.
            state.absence_seen |= !is_present && !state.presence_seen;
            state.presence_seen |= is_present;
        }
        is_present
    }

    /// Powers the chip up and asks for its answer to reset.
    pub(crate) fn power_up(&self) -> Result<Vec<u8>, Silence> {
        self.start_chip(POWER_ON)
    }

    /// Resets the chip and asks for its answer to reset.
    pub(crate) fn reset(&self) -> Result<Vec<u8>, Silence> {
        self.start_chip(RESET)
    }

    /// Takes the power from the chip; without a chip there is nothing to do.
    pub(crate) fn power_down(&self) {
        let _turn = self.turn();
        self.forget_the_chip();
        let _ = self.tell(&[POWER_OFF]);
    }

    /// The answer to reset of the powered chip; empty without one.
    pub(crate) fn atr(&self) -> Vec<u8> {
        self.shared.lock().atr.clone()
    }

    /// Sends a command to the chip and waits for what it says, however short.
    pub(crate) fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, Silence> {
        let _turn = self.turn();
        match &self.acr122u {
            Some(reader) => lock(reader).handle(command, &mut InField(self)),
            None => self.ask(command, ANSWER_TIME),
        }
    }

    /// Waits until a chip came or left since the last call, [`Slot::stop_waiting`] is called or
    /// the time is over.
    pub(crate) fn wait_for_change(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.shared.lock();
        state.watcher = Some(thread::current().id());
        // Who powers a chip down looks first, too, and makes nothing of an empty field; the thread that
        // waits does so itself. It has taken a chip for gone when it looked and then waits again.
        if state.absence_seen && !state.absence_told {
            state.absence_told = true;
            self.shared.changed.notify_all();
        }
        state.presence_seen = false;
        while state.changes == state.changes_told && !state.stop_waiting && !state.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.wait(state, left);
        }
        state.changes_told = state.changes;
        // The resource manager stops the wait at every disconnect: without this it would spin.
        state.stop_waiting = false;
    }

    /// Ends a running [`Slot::wait_for_change`].
    pub(crate) fn stop_waiting(&self) {
        self.shared.lock().stop_waiting = true;
        self.shared.changed.notify_all();
    }

    fn start_chip(&self, how: u8) -> Result<Vec<u8>, Silence> {
        let _turn = self.turn();
        self.forget_the_chip();
        self.tell(&[how])?;
        let atr = self.ask(&[GET_ATR], ATR_TIME)?;
        self.shared.lock().atr.clone_from(&atr);
        if let Some(reader) = &self.acr122u {
            lock(reader).handle_power();
        }
        Ok(atr)
    }

    /// Before its power changes.
    fn forget_the_chip(&self) {
        let mut state = self.shared.lock();
        state.atr.clear();
        if state.is_watched() {
            state.presence_seen = false;
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.shared
            .turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, message: &[u8]) -> Result<u64, Silence> {
        let (chip, stay) = {
            let mut state = self.shared.lock();
            state.answer = None;
            (state.chip.clone().ok_or(Silence::Absent)?, state.stay)
        };
        let length = u16::try_from(message.len()).map_err(|_| Silence::TooLong)?;
        // One write, so that length and data leave in one segment.
        let mut frame = Vec::with_capacity(2 + message.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(message);
        if (&*chip).write_all(&frame).is_err() {
            // Half a frame may have left: the connection is of no more use.
            self.shared.lock().drop_chip_of(stay);
            return Err(Silence::Torn);
        }
        Ok(stay)
    }

    fn ask(&self, message: &[u8], time: Duration) -> Result<Vec<u8>, Silence> {
        let stay = self.tell(message)?;
        let deadline = Instant::now() + time;
        let mut state = self.shared.lock();
        loop {
            // The answer comes first: a chip may answer and leave at once.
            if let Some((_, answer)) = state.answer.take_if(|(from, _)| *from == stay) {
                return Ok(answer);
            }
            if state.stay != stay || state.chip.is_none() {
                return Err(Silence::Torn);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.drop_chip();
                return Err(Silence::TooSlow);
            }
            state = self.shared.wait(state, left);
        }
    }
}

/// The chip in a slot's field, while one command is carried out.
struct InField<'a>(&'a Slot);

impl Chip for InField<'_> {
    fn reset_answer(&self) -> Vec<u8> {
        self.0.atr()
    }

    fn select(&mut self) -> Result<(), Silence> {
        self.0.tell(&[RESET]).map(drop)
    }

    fn cut_power(&mut self) -> Result<(), Silence> {
        self.0.tell(&[POWER_OFF])?;
        self.0.tell(&[POWER_ON]).map(drop)
    }

    fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, Silence> {
        self.0.ask(command, ANSWER_TIME)
    }
}

fn lock(reader: &Mutex<Acr122u>) -> MutexGuard<'_, Acr122u> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the slot's thread and the resource manager's threads share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Held for one question and its answer.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    chip: Option<Arc<TcpStream>>,
    /// Numbers the connections.
    stay: u64,
    atr: Vec<u8>,
    /// The last answer, and the connection it came over.
    answer: Option<(u64, Vec<u8>)>,
    changes: u64,
    changes_told: u64,
    /// Whether the watcher's last look found a chip, which it has neither powered nor waited on since.
    presence_seen: bool,
    /// Whether the watcher has looked since the last chip left.
    absence_seen: bool,
    /// Whether it has taken that chip for gone, so that the next one may come.
    absence_told: bool,
    /// The resource manager's thread that waits for chips to come and go.
    watcher: Option<ThreadId>,
    stop_waiting: bool,
    closing: bool,
}

impl State {
    /// Whether this is the watcher's thread.
    fn is_watched(&self) -> bool {
        self.watcher == Some(thread::current().id())
    }

    /// Ends the connection; the slot's thread sees its end and clears the field.
    fn drop_chip(&mut self) {
        if let Some(chip) = &self.chip {
            // Fails only when the connection is already gone.
            let _ = chip.shutdown(std::net::Shutdown::Both);
        }
    }

    fn drop_chip_of(&mut self, stay: u64) {
        if self.stay == stay {
            self.drop_chip();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// One chip after the other; a second one waits in the queue until the first is gone.
    fn serve(&self, listener: &TcpListener) {
        while !self.lock().closing {
            match listener.accept() {
                Ok((chip, _)) => self.hold(chip),
                // For example too many open files: wait instead of turning in circles.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn hold(&self, chip: TcpStream) {
        // Without the first, every answer is 40 ms late; without the second, a chip that no longer
        // reads would hold up the resource manager.
        if chip.set_nodelay(true).is_err() || chip.set_write_timeout(Some(WRITE_TIME)).is_err() {
            return;
        }
        let chip = Arc::new(chip);
        {
            let mut state = self.lock();
            if state.closing {
                return;
            }
            state.chip = Some(Arc::clone(&chip));
            state.stay += 1;
            state.changes += 1;
        }
        self.changed.notify_all();
        self.read_answers(&chip);
        {
            let mut state = self.lock();
            state.chip = None;
            state.atr.clear();
            state.changes += 1;
            state.absence_seen = false;
            state.absence_told = false;
        }
        self.changed.notify_all();
        self.leave_the_field_empty();
    }

    fn read_answers(&self, mut chip: &TcpStream) {
        let mut length = [0; 2];
        while chip.read_exact(&mut length).is_ok() {
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            if chip.read_exact(&mut answer).is_err() {
                return;
            }
            let mut state = self.lock();
            state.answer = Some((state.stay, answer));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Lets the resource manager see the empty field before the next chip comes in: two chips that
    /// follow at once would be one presence to it.
    fn leave_the_field_empty(&self) {
        let deadline = Instant::now() + ABSENCE_TIME;
        let mut state = self.lock();
        while !state.absence_told && !state.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }
}

// The one-byte messages of the protocol of the vsmartcard project's virtual reader (its
// documentation, "api"); every other message is a command for the chip.
const POWER_OFF: u8 = 0x00;
const POWER_ON: u8 = 0x01;
const RESET: u8 = 0x02;
const GET_ATR: u8 = 0x04;

const ATR_TIME: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const WRITE_TIME: Duration = Duration::from_secs(1);
const ABSENCE_TIME: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
