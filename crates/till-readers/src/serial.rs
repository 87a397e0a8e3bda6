//! Readers on a line: a serial one, or the keys of a keyboard.
//!
//! One thread a line opens it, talks over it and opens it again when it fails; it is watched. What is said is
//! decided by a conversation without a line and without a clock, one for each [`Protocol`].

mod conversation;
mod crc_a;
mod em4100;
mod field;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod line;
mod own;
pub(crate) mod pn532;
mod port;
mod probe;
mod proof;
mod rdm6300;
mod twn4;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::auth::{ChipTask, Keyring, Reply};
use crate::keyboard::Wedge;
use crate::watchdog::Watchdog;
use crate::{EventSink, NumberFormat, Reader, ReaderListing, ReaderName, Signal};
pub use conversation::{Conversation, Happening};
#[cfg(test)]
pub(crate) use crc_a::with_checksum;
#[cfg(test)]
pub(crate) use field::words;
pub(crate) use field::{Field, Seen, Sight};
use line::Line;
pub(crate) use probe::answers;

/// What a reader on a line speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The project's own (`firmware-proto`).
    Own,
    /// An NXP PN532 on its high-speed UART: 13.56 MHz, counts two chips, has no light or sound.
    Pn532,
    /// An RDM6300 module: EM4100 chips at 125 kHz. It only speaks, and only while a chip is near.
    Rdm6300,
    /// An ELATEC TWN4 with Simple Protocol firmware in ASCII, with or without its checksum.
    Twn4 {
        /// Whether EM4100 chips at 125 kHz are read, too.
        em4100: bool,
    },
    /// A keyboard that types chip numbers.
    Keyboard(NumberFormat),
}

impl Protocol {
    /// How names of readers that speak it begin.
    fn scheme(self) -> &'static str {
        match self {
            Protocol::Own => "serial",
            Protocol::Pn532 => "pn532",
            Protocol::Rdm6300 => "rdm6300",
            Protocol::Twn4 { .. } => "twn4",
            Protocol::Keyboard(_) => "keyboard",
        }
    }

    /// Bits a second on a serial line; each byte has 8 of them, no parity and one stop bit.
    fn baud(self) -> Option<u32> {
        match self {
            Protocol::Own | Protocol::Pn532 => Some(115_200),
            // A TWN4 on USB does not care.
            Protocol::Rdm6300 | Protocol::Twn4 { .. } => Some(9_600),
            Protocol::Keyboard(_) => None,
        }
    }

    /// The till's side of it, for a line that has just been opened, without keys for any chip.
    pub fn conversation(self, now: Instant) -> Box<dyn Conversation> {
        self.proving_conversation(Keyring::default(), now)
    }

    /// The till's side of it, where chips prove themselves by the keys on the ring.
    pub fn proving_conversation(self, keyring: Keyring, now: Instant) -> Box<dyn Conversation> {
        match self {
            Protocol::Own => Box::new(own::OwnConversation::new(random(), keyring, now)),
            Protocol::Pn532 => Box::new(pn532::Pn532::new(keyring, now)),
            Protocol::Rdm6300 => Box::new(rdm6300::Rdm6300::new(now)),
            Protocol::Twn4 { em4100 } => Box::new(twn4::Twn4::new(em4100, keyring, now)),
            Protocol::Keyboard(format) => Box::new(Wedge::new(format, now)),
        }
    }
}

/// A reader on a line. Dropping the last clone stops its thread.
#[derive(Clone)]
pub struct SerialReader {
    line: Arc<Line>,
    _last: Arc<StopWhenDropped>,
}

/// Opens a line and keeps opening it. Never fails and never waits.
pub(crate) fn open(
    protocol: Protocol,
    path: PathBuf,
    keyring: Keyring,
    sink: EventSink,
    watchdog: &Watchdog,
) -> SerialReader {
    let line = Arc::new(Line::new(protocol, path, keyring, sink));
    line.start();
    let watched: Weak<Line> = Arc::downgrade(&line);
    watchdog.watch(watched);
    let _last = Arc::new(StopWhenDropped(Arc::clone(&line)));
    SerialReader { line, _last }
}

impl SerialReader {
    /// The reader with its state.
    pub fn listing(&self) -> ReaderListing {
        self.line.listing()
    }
}

impl Reader for SerialReader {
    fn name(&self) -> ReaderName {
        self.line.name().clone()
    }

    fn read_again(&self, token: u64) {
        self.line.read_again(token);
    }

    fn work_on_chip(&self, task: ChipTask, reply: Reply) {
        self.line.work_on_chip(task, reply);
    }

    fn signal(&self, signal: Signal) {
        self.line.signal(signal);
    }
}

struct StopWhenDropped(Arc<Line>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Different at every start; need not be a secret.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
