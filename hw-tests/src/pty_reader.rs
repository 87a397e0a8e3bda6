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
use firmware_proto::message::{Bytes, Chip, Technology};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::device::{DeviceKind, SimulatedDevice};

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
    /// It neither hears nor says anything.
    is_dead: bool,
    /// Bytes that come before everything it says.
    noise: Vec<u8>,
    /// What happens to its next frames, and to how many.
    damage: VecDeque<(Damage, u32)>,
    is_slow: bool,
    is_flooding: bool,
    dice: u32,
    /// What it has said and not sent yet.
    outgoing: VecDeque<u8>,
    stopped: bool,
}

/// What can happen to a frame on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Its second half is lost.
    Cut,
    /// One bit or digit is wrong.
    Garbled,
    /// Other bytes come in the middle of it.
    Interrupted,
}

impl SimulatedReader {
    /// Plugs a reader in; `link` becomes the name of its line.
    pub fn start(link: &Path, kind: DeviceKind) -> anyhow::Result<SimulatedReader> {
        let state = Arc::new(Mutex::new(State {
            line: None,
            device: kind.device(),
            field: Field::Empty,
            is_dead: false,
            noise: Vec::new(),
            damage: VecDeque::new(),
            is_slow: false,
            is_flooding: false,
            dice: 7,
            outgoing: VecDeque::new(),
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

    /// Lays a chip into the field.
    pub fn lay(&self, uid: &[u8]) {
        let chip = Bytes::new(uid).map(|uid| Chip {
            technology: Technology::Iso14443A,
            flags: 0,
            sak: 0x08,
            atqa: 0x0004,
            uid,
            ats: Bytes::EMPTY,
        });
        self.set(chip.map_or(Field::Unreadable, Field::One));
    }

    /// Fills the field with anything.
    pub fn set(&self, field: Field) {
        self.state().field = field;
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
            state.outgoing.clear();
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
        self.state().noise = noise.to_vec();
    }

    /// Has this happen to the next frames; none is the end of all damage.
    pub fn damage(&self, damage: Damage, frames: u32) {
        let mut state = self.state();
        match frames {
            0 => state.damage.clear(),
            _ => state.damage.push_back((damage, frames)),
        }
    }

    /// Has a byte take 5 ms, or none.
    pub fn set_slow(&self, is_slow: bool) {
        self.state().is_slow = is_slow;
    }

    /// Has it send bytes without end between its frames, or stop that.
    pub fn set_flooding(&self, is_flooding: bool) {
        self.state().is_flooding = is_flooding;
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
        for frame in self.device.turn(self.field, &room[..length], now) {
            self.say(&frame);
        }
        if self.is_flooding {
            self.flood();
        }
        self.send()
    }

    /// Puts a frame on its way, with the damage that is due.
    fn say(&mut self, frame: &[u8]) {
        self.outgoing.extend(&self.noise);
        let (half, rest) = frame.split_at(frame.len() / 2);
        match self.damage.front_mut() {
            None => self.outgoing.extend(frame),
            Some((damage, times)) => {
                match damage {
                    Damage::Cut => self.outgoing.extend(half),
                    Damage::Garbled => self.outgoing.extend(self.device.garbled(frame)),
                    Damage::Interrupted => {
                        self.outgoing.extend(half);
                        self.outgoing.extend(b"\xFE\x00#\x55");
                        self.outgoing.extend(rest);
                    }
                }
                *times -= 1;
                if *times == 0 {
                    self.damage.pop_front();
                }
            }
        }
    }

    fn flood(&mut self) {
        for _ in 0..FLOOD {
            // A linear congruential generator; any bytes will do.
            self.dice = self
                .dice
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            self.outgoing.push_back((self.dice >> 24) as u8);
        }
    }

    /// Sends what is on its way, as fast as the line is.
    fn send(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        let most = if self.is_slow { SLOW } else { usize::MAX };
        let length = self.outgoing.len().min(most);
        let bytes: Vec<u8> = self.outgoing.drain(..length).collect();
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
/// Bytes a turn.
const SLOW: usize = 2;
const FLOOD: usize = 256;
