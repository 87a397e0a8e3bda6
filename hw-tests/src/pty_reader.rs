//! A simulated reader on a pseudo-terminal, with a field that a test fills and a line that a test
//! damages.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use firmware_proto::device::Field;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::card_port::CardPort;
use crate::device::{Air, DeviceKind, Silence, SimulatedDevice, field_of};
use crate::wire::{Damage, Wire};

/// A running simulated reader; dropping it unplugs it.
#[derive(Debug)]
pub struct SimulatedReader {
    link: PathBuf,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    /// The reader's end of the line; `None` while it is unplugged.
    line: Option<File>,
    device: Box<dyn SimulatedDevice>,
    field: Field,
    /// Where chips that are programs are laid.
    card_port: Option<CardPort>,
    /// It neither hears nor says anything.
    is_dead: bool,
    /// What it has said and not sent yet.
    wire: Wire,
    /// When it last sent something, the newest last.
    sent_at: VecDeque<Instant>,
    stopped: bool,
}

impl SimulatedReader {
    /// Plugs a reader in; `link` becomes the name of its line.
    pub fn start(link: &Path, kind: DeviceKind) -> anyhow::Result<SimulatedReader> {
        let state = Arc::new(Mutex::new(State {
            line: None,
            device: kind.device(),
            field: Field::Empty,
            card_port: None,
            is_dead: false,
            wire: Wire::new(),
            sent_at: VecDeque::new(),
            stopped: false,
        }));
        let thread = thread::Builder::new()
            .name("simulated-reader".to_owned())
            .spawn({
                let state = Arc::clone(&state);
                move || run(&state)
            })?;
        let mut reader = SimulatedReader {
            link: link.to_owned(),
            state,
            thread: Some(thread),
        };
        reader.plug()?;
        Ok(reader)
    }

    /// The name of its line.
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// Lays a chip into the field.
    pub fn lay(&self, uid: &[u8]) {
        self.set(field_of(uid));
    }

    /// Fills the field with anything.
    pub fn set(&self, field: Field) {
        self.state().field = field;
    }

    /// Opens a port on which chips that are programs are laid, and says which.
    pub fn open_card_port(&self) -> io::Result<u16> {
        let port = CardPort::open()?;
        let number = port.number()?;
        self.state().card_port = Some(port);
        Ok(number)
    }

    /// Pulls the plug.
    pub fn unplug(&mut self) {
        self.state().line = None;
        // It is gone already when it was never plugged in.
        let _ = fs::remove_file(&self.link);
    }

    /// Puts the plug in: another line under the same name, and the reader starts anew.
    pub fn plug(&mut self) -> anyhow::Result<()> {
        self.unplug();
        // A program that a test starts must not hold the line: nobody would notice its end.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).context("open a pty")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        {
            let mut state = self.state();
            state.line = Some(owned(master.into_raw_fd()).into());
            state.wire.clear();
            state.device.power_up();
        }
        symlink(name, &self.link).context("name the line")
    }

    /// Makes it deaf and dumb, or well again.
    pub fn set_dead(&self, is_dead: bool) {
        self.state().is_dead = is_dead;
    }

    /// Has these bytes come before everything it says; none is the end of it.
    pub fn set_noise(&self, noise: &[u8]) {
        self.state().wire.set_noise(noise);
    }

    /// Has this happen to the next frames; none is the end of all damage.
    pub fn damage(&self, damage: Damage, frames: u32) {
        self.state().wire.damage(damage, frames);
    }

    /// Has a byte take 3 ms, or none.
    pub fn set_slow(&self, is_slow: bool) {
        self.state().wire.set_slow(is_slow);
    }

    /// Has it send bytes without end between its frames, or stop that.
    pub fn set_flooding(&self, is_flooding: bool) {
        self.state().wire.set_flooding(is_flooding);
    }

    /// When it last sent something before that.
    pub fn sent_before(&self, moment: Instant) -> Option<Instant> {
        let state = self.state();
        state
            .sent_at
            .iter()
            .rev()
            .find(|at| **at <= moment)
            .copied()
    }

    /// Whether it has shown that a purchase was approved.
    pub fn has_shown_approval(&self) -> bool {
        self.state().device.has_shown_approval()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SimulatedReader {
    fn drop(&mut self) {
        self.unplug();
        self.state().stopped = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}

/// The main loop that a firmware has, too.
fn run(state: &Mutex<State>) {
    let start = Instant::now();
    loop {
        thread::sleep(TURN);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return;
        }
        let now = start.elapsed().as_millis() as u32;
        // A line that fails is a till that has not opened it, or has closed it.
        let _ = state.turn(now);
    }
}

impl State {
    fn turn(&mut self, now: u32) -> io::Result<()> {
        let mut room = [0; 256];
        let length = match &mut self.line {
            Some(line) => match line.read(&mut room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            },
            None => return Ok(()),
        };
        if self.is_dead {
            return Ok(());
        }
        let heard = &room[..length];
        let laid = self.card_port.as_mut().and_then(CardPort::field);
        let field = laid.unwrap_or(self.field);
        let air: &mut dyn Air = match &mut self.card_port {
            Some(card_port) => card_port,
            None => &mut Silence,
        };
        for frame in self.device.turn(field, air, heard, now) {
            self.wire.say(&*self.device, &frame);
        }
        self.send()
    }

    /// Sends what is on its way, as fast as the line is.
    fn send(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        let bytes = self.wire.arriving();
        if bytes.is_empty() {
            return Ok(());
        }
        if self.sent_at.len() == MOST_SENT {
            self.sent_at.pop_front();
        }
        // Before the till can have them.
        self.sent_at.push_back(Instant::now());
        // What nobody takes is lost, as on a wire.
        line.write_all(&bytes)
    }
}

/// The descriptor that a pty's master gave up.
#[allow(unsafe_code)]
fn owned(raw: i32) -> OwnedFd {
    // SAFETY: the caller has just taken it out of its only owner.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

const TURN: Duration = Duration::from_millis(10);
/// Enough to find the one that brought an event that is looked at a moment later.
const MOST_SENT: usize = 64;
