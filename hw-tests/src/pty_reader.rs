//! A simulated reader on a pseudo-terminal: the reader's side of `firmware-proto`, as firmware
//! runs it, with a field that a test fills and a line that a test damages.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::MAX_WIRE;
use firmware_proto::message::{Bytes, Chip, Identity, Pattern, Technology, capability};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

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
    device: Device,
    boots: u32,
    field: Field,
    shown: Vec<Pattern>,
    /// It neither hears nor says anything.
    is_dead: bool,
    /// Bytes that come before everything it says.
    noise: Vec<u8>,
    /// How many of its next frames lose their second half.
    cuts: u32,
    stopped: bool,
}

impl SimulatedReader {
    /// Plugs a reader in; `link` becomes the name of its line.
    pub fn start(link: &Path) -> anyhow::Result<SimulatedReader> {
        let state = Arc::new(Mutex::new(State {
            line: None,
            device: device(1),
            boots: 1,
            field: Field::Empty,
            shown: Vec::new(),
            is_dead: false,
            noise: Vec::new(),
            cuts: 0,
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
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).context("open a pty")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        {
            let mut state = self.state();
            state.line = Some(owned(master.into_raw_fd()).into());
            state.boots += 1;
            state.device = device(state.boots);
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

    /// Has the next frames lose their second half.
    pub fn cut(&self, frames: u32) {
        self.state().cuts = frames;
    }

    /// What it has shown so far.
    pub fn shown(&self) -> Vec<Pattern> {
        self.state().shown.clone()
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

struct Radio<'a>(Field, &'a mut Vec<Pattern>);

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        self.0
    }
    fn show(&mut self, pattern: Pattern, _milliseconds: u16) {
        self.1.push(pattern);
    }
    fn exchange(&mut self, _command: &[u8], _answer: &mut [u8]) -> Option<usize> {
        None
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

impl State {
    fn turn(&mut self, now: u32) -> io::Result<()> {
        self.device.handle_field(self.field, now);
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
        let mut wire = [0; MAX_WIRE];
        for &byte in &room[..length] {
            let mut radio = Radio(self.field, &mut self.shown);
            let answer = self.device.handle_byte(byte, now, &mut radio, &mut wire);
            if let Some(answer) = answer.map(<[u8]>::to_vec) {
                self.say(&answer)?;
            }
        }
        if let Some(telling) = self.device.poll(now, &mut wire).map(<[u8]>::to_vec) {
            self.say(&telling)?;
        }
        Ok(())
    }

    fn say(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        line.write_all(&self.noise)?;
        if self.cuts > 0 {
            self.cuts -= 1;
            return line.write_all(&frame[..frame.len() / 2]);
        }
        line.write_all(frame)
    }
}

fn device(boot_id: u32) -> Device {
    Device::new(Identity {
        version: 0,
        firmware: [1, 0, 0],
        hardware: 0,
        serial: *b"SIMULATED\0\0\0",
        capabilities: capability::LIGHT | capability::BEEPER | capability::COUNTS,
        boot_id,
        max_payload: 0,
    })
}

/// The descriptor that a pty's master gave up.
#[allow(unsafe_code)]
fn owned(raw: i32) -> OwnedFd {
    // SAFETY: the caller has just taken it out of its only owner.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

const TURN: Duration = Duration::from_millis(10);
