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
mod tests {
    use super::*;

    fn open() -> Arc<Slot> {
        Arc::new(Slot::open(0, Model::Plain).unwrap())
    }

    fn connect(slot: &Slot) -> TcpStream {
        let chip = TcpStream::connect(slot.address).unwrap();
        chip.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        chip
    }

    fn wait_until(what: &str, is_true: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_true() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// As the resource manager's watcher does: looks, and waits.
    fn watch(slot: &Slot) -> bool {
        let is_present = slot.is_present();
        slot.wait_for_change(Duration::ZERO);
        is_present
    }

    fn hear(chip: &mut TcpStream) -> Vec<u8> {
        let mut length = [0; 2];
        chip.read_exact(&mut length).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        chip.read_exact(&mut message).unwrap();
        message
    }

    fn say(chip: &mut TcpStream, message: &[u8]) {
        chip.write_all(&(message.len() as u16).to_be_bytes())
            .unwrap();
        chip.write_all(message).unwrap();
    }

    /// Answers one command with `answer` as the chip's side does, and expects `expect` of it.
    #[track_caller]
    fn check(answer: impl FnOnce(TcpStream) + Send + 'static, expect: Result<Vec<u8>, Silence>) {
        let slot = open();
        let chip = connect(&slot);
        wait_until("the chip is present", || slot.is_present());
        let chip = thread::spawn(move || answer(chip));
        assert_eq!(slot.transmit(&[0xFF, 0xCA, 0, 0, 0]), expect);
        chip.join().unwrap();
        slot.close();
    }

    #[test]
    fn an_answer_is_handed_over_as_it_is() {
        let answer = |mut chip: TcpStream| {
            assert_eq!(hear(&mut chip), [0xFF, 0xCA, 0, 0, 0]);
            say(&mut chip, &[0x72, 0xBF, 0x99, 0x61, 0x90, 0x00]);
        };
        check(answer, Ok(vec![0x72, 0xBF, 0x99, 0x61, 0x90, 0x00]));
        let short = |mut chip: TcpStream| {
            hear(&mut chip);
            say(&mut chip, &[]);
        };
        check(short, Ok(vec![]));
    }

    #[test]
    fn an_answer_that_comes_byte_by_byte_is_put_together() {
        let answer = |mut chip: TcpStream| {
            hear(&mut chip);
            for byte in [0, 2, 0x90, 0x00] {
                chip.write_all(&[byte]).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        };
        check(answer, Ok(vec![0x90, 0x00]));
    }

    #[test]
    fn a_chip_that_leaves_in_mid_command_is_torn() {
        let answer = |mut chip: TcpStream| {
            hear(&mut chip);
        };
        check(answer, Err(Silence::Torn));
        let half_answer = |mut chip: TcpStream| {
            hear(&mut chip);
            chip.write_all(&[0, 6, 0x72]).unwrap();
        };
        check(half_answer, Err(Silence::Torn));
    }

    #[test]
    fn a_chip_that_says_nothing_is_given_up_and_the_next_one_works() {
        let slot = open();
        let mut mute = connect(&slot);
        wait_until("the chip is present", || slot.is_present());
        assert_eq!(slot.power_up(), Err(Silence::TooSlow));
        slot.wait_for_change(Duration::ZERO);
        wait_until("the mute chip is gone", || !watch(&slot));
        let mut next = connect(&slot);
        wait_until("the next chip is present", || slot.is_present());
        // A late answer of the first chip is not taken for one of the second.
        let _ = mute.write_all(&[0, 1, 0x3B]);
        let asked = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.power_up()
        });
        assert_eq!(hear(&mut next), [POWER_ON]);
        assert_eq!(hear(&mut next), [GET_ATR]);
        say(&mut next, &[0x3B, 0x80, 0x80, 0x01, 0x01]);
        assert_eq!(
            asked.join().unwrap(),
            Ok(vec![0x3B, 0x80, 0x80, 0x01, 0x01])
        );
        slot.close();
    }

    #[test]
    fn a_second_chip_waits_until_the_first_is_gone_and_the_gap_is_seen() {
        let slot = open();
        slot.wait_for_change(Duration::ZERO);
        let first = connect(&slot);
        let mut second = connect(&slot);
        wait_until("the first chip is present", || watch(&slot));
        drop(first);
        wait_until("the gap is seen", || !watch(&slot));
        wait_until("the second chip is present", || slot.is_present());
        let asked = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.transmit(&[0xFF, 0xCA, 0, 0, 0])
        });
        hear(&mut second);
        say(&mut second, &[0x90, 0x00]);
        assert_eq!(asked.join().unwrap(), Ok(vec![0x90, 0x00]));
        slot.close();
    }

    #[test]
    fn a_look_before_a_chip_is_powered_down_closes_no_gap() {
        let slot = open();
        slot.wait_for_change(Duration::ZERO);
        let first = connect(&slot);
        wait_until("the first chip is present", || watch(&slot));
        drop(first);
        let _second = connect(&slot);
        thread::scope(|other| {
            let looks = other.spawn(|| wait_until("the field is empty", || !slot.is_present()));
            looks.join().unwrap();
        });
        // The watcher powers chips down, too, and looks before it does.
        assert!(!slot.is_present(), "the gap was closed by another's look");
        assert!(!slot.is_present(), "the gap was closed by a look alone");
        slot.wait_for_change(Duration::ZERO);
        wait_until("the second chip is present", || slot.is_present());
        slot.close();
    }

    #[test]
    fn a_chip_that_leaves_before_its_first_power_closes_no_gap() {
        let slot = open();
        slot.wait_for_change(Duration::ZERO);
        let first = connect(&slot);
        wait_until("the first chip is present", || slot.is_present());
        drop(first);
        let _second = connect(&slot);
        wait_until("it is gone", || !slot.is_present());
        slot.wait_for_change(Duration::ZERO);
        assert!(
            !slot.is_present(),
            "a look before the first power closed the gap"
        );
        slot.wait_for_change(Duration::ZERO);
        wait_until("the second chip is present", || slot.is_present());
        slot.close();
    }

    #[test]
    fn waiting_ends_with_a_change_a_stop_or_the_time() {
        let slot = open();
        slot.wait_for_change(Duration::from_millis(20));
        let waiting = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.wait_for_change(Duration::from_secs(60))
        });
        let chip = connect(&slot);
        waiting.join().unwrap();
        slot.stop_waiting();
        slot.wait_for_change(Duration::from_secs(60));
        drop(chip);
        slot.wait_for_change(Duration::from_secs(60));
        slot.close();
    }

    #[test]
    fn without_a_chip_nothing_is_asked() {
        let slot = open();
        assert_eq!(slot.transmit(&[0; 5]), Err(Silence::Absent));
        assert_eq!(slot.reset(), Err(Silence::Absent));
        slot.power_down();
        slot.close();
        slot.close();
    }
}
