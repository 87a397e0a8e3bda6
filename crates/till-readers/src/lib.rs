//! Chip readers over PC/SC, on serial lines and as keyboards behind one border.
//!
//! Every reader has an OS thread of its own that makes blocking calls; what happens comes out as
//! [`ReaderEvent`]s, what the till wants goes in through [`Readers`]. No call of this crate's
//! border waits for a reader, so all of them may be made from an async runtime.

pub mod auth;
mod auto;
mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod keyboard;
mod outlet;
pub mod pcsc;
mod readers;
pub mod serial;
mod watchdog;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use auth::{ChipTask, Reply};
use canteen::ChipIdentity;

pub use fault::{ChipFault, ReaderFault, Typed};
pub use keyboard::{KeyEvent, NumberFormat};
pub use readers::Readers;

/// What a reader is called on screens and in the configuration, for example
/// `pcsc:ACS ACR1252 1S CL Reader PICC 0` or `serial:/dev/kasse-reader`.
///
/// The PC/SC service itself is called `pcsc` and appears like a reader while it is down or has no
/// reader: [`Faulty`](ReaderEvent::Faulty) then, [`Removed`](ReaderEvent::Removed) as soon as there
/// is a real one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderName(pub Arc<str>);

impl fmt::Display for ReaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stay of one chip in the field, numbered by the driver; never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Presence(pub u64);

/// All that a reader can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderEvent {
    /// The reader is open and answers; sent at first and after every fault.
    Ready {
        /// Which reader.
        reader: ReaderName,
    },
    /// The reader, or the service in front of it, does not work; the driver goes on trying.
    Faulty {
        /// Which reader.
        reader: ReaderName,
        /// What is wrong and what a person can do.
        fault: ReaderFault,
    },
    /// The reader is gone for good (unplugged and no longer listed).
    Removed {
        /// Which reader.
        reader: ReaderName,
    },
    /// A chip came into the field and was read: one event per presence.
    Chip {
        /// Which reader.
        reader: ReaderName,
        /// This stay in the field.
        presence: Presence,
        /// Which chip, and whether it has proven itself.
        identity: ChipIdentity,
        /// When the chip was seen (monotonic clock).
        seen_at: Instant,
    },
    /// Something is in the field that cannot be used as a chip.
    Unreadable {
        /// Which reader.
        reader: ReaderName,
        /// Why.
        fault: ChipFault,
        /// When it was seen (monotonic clock).
        seen_at: Instant,
    },
    /// The chip left the field.
    Left {
        /// Which reader.
        reader: ReaderName,
        /// The stay that ended.
        presence: Presence,
    },
    /// The answer to [`Reader::read_again`]; exactly one for each request.
    ReadAgain {
        /// Which reader.
        reader: ReaderName,
        /// The number given with the request.
        token: u64,
        /// The chip that is in the field now.
        identity: Result<ChipIdentity, ChipFault>,
        /// When it was read (monotonic clock); never before the request.
        seen_at: Instant,
    },
}

impl ReaderEvent {
    /// Which reader tells this.
    pub fn reader(&self) -> &ReaderName {
        match self {
            ReaderEvent::Ready { reader }
            | ReaderEvent::Faulty { reader, .. }
            | ReaderEvent::Removed { reader }
            | ReaderEvent::Chip { reader, .. }
            | ReaderEvent::Unreadable { reader, .. }
            | ReaderEvent::Left { reader, .. }
            | ReaderEvent::ReadAgain { reader, .. } => reader,
        }
    }
}

/// Light and beep for the person at the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The purchase was approved.
    Approved,
    /// The purchase was declined.
    Declined,
    /// The till waits for a chip.
    Waiting,
    /// Nothing is going on.
    Idle,
}

/// A running reader. Dropping the last handle stops its thread.
pub trait Reader: Send + Sync {
    /// The reader's name.
    fn name(&self) -> ReaderName;
    /// Asks for the chip in the field now; answered by [`ReaderEvent::ReadAgain`], also when no
    /// chip is there or the reader is faulty, after [`LONGEST_ANSWER`] at the latest.
    fn read_again(&self, token: u64);
    /// Has something done with the chip in the field. The reply may come on any thread, also on the
    /// caller's; it must not wait.
    fn work_on_chip(&self, task: ChipTask, reply: Reply);
    /// Shows light and beep where the reader has them; does nothing elsewhere.
    fn signal(&self, signal: Signal);
}

/// The longest that an answer to [`Reader::read_again`] takes.
pub const LONGEST_ANSWER: std::time::Duration = std::time::Duration::from_secs(4);

/// Takes the events of all readers. Called on the readers' own threads, never on a caller's; it
/// may block for a moment, which holds the readers up.
pub type EventSink = Arc<dyn Fn(ReaderEvent) + Send + Sync>;

/// A reader, or a family of readers, to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderConfig {
    /// Contactless readers that the PC/SC service (pcscd) lists, now or later.
    Pcsc {
        /// A part of the reader's name without its index, in either case, for example
        /// `ACR1252`; `None` takes every contactless reader.
        only: Option<String>,
    },
    /// A reader that speaks the protocol of `firmware-proto` on a serial line.
    Serial {
        /// The line, best a stable name such as `/dev/kasse-reader` or `/dev/serial/by-id/…`.
        path: PathBuf,
    },
    /// An NXP PN532 on its high-speed UART.
    Pn532 {
        /// The line, as above.
        path: PathBuf,
    },
    /// An RDM6300 module, for EM4100 chips at 125 kHz.
    Rdm6300 {
        /// The line, as above.
        path: PathBuf,
    },
    /// An ELATEC TWN4 with Simple Protocol firmware.
    Twn4 {
        /// The line, as above.
        path: PathBuf,
        /// Whether EM4100 chips at 125 kHz are read, too; anybody can copy those.
        em4100: bool,
    },
    /// Readers on serial lines that nobody has named: those that answer to a greeting (not
    /// [`ReaderConfig::Rdm6300`], which hears none).
    Auto {
        /// Where the lines have lasting names in `by-id` and `by-path`: `/dev/serial`.
        lines: PathBuf,
        /// As for [`ReaderConfig::Twn4`].
        em4100: bool,
    },
    /// A reader that types a chip's number as a keyboard does, and Enter behind it.
    Keyboard {
        /// The keyboard, under a name that stays: `/dev/input/by-id/…` or `/dev/input/by-path/…`.
        path: PathBuf,
        /// How it types.
        format: NumberFormat,
    },
}

/// How a reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderState {
    /// The driver has not heard of it yet.
    Opening,
    /// It is open and answers.
    Ready,
    /// It does not work.
    Faulty(ReaderFault),
}

/// A reader with its state, also one that cannot be opened: then the state says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderListing {
    /// Which reader.
    pub name: ReaderName,
    /// How it is.
    pub state: ReaderState,
}
