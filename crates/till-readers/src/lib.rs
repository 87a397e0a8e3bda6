//! Chip readers over PC/SC and serial lines behind one trait.
//!
//! Every reader has an OS thread of its own that makes blocking calls; what happens comes out as
//! [`ReaderEvent`]s, what the till wants goes in through a [`Reader`] handle.

use std::sync::Arc;
use std::time::Instant;

use canteen::ChipId;

/// What a reader is called on screens and in the configuration, for example
/// `pcsc:ACS ACR1252 1S CL Reader PICC 0` or `serial:/dev/kasse-reader`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderName(pub Arc<str>);

/// One stay of one chip in the field, numbered by the driver; never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Presence(pub u64);

/// All that a reader can tell.
#[derive(Debug, Clone, PartialEq)]
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
        /// The chip.
        chip: ChipId,
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
    /// The answer to [`Reader::read_again`].
    ReadAgain {
        /// Which reader.
        reader: ReaderName,
        /// The number given with the request.
        token: u64,
        /// The chip that is in the field now.
        chip: Result<ChipId, ChipFault>,
        /// When it was read (monotonic clock).
        seen_at: Instant,
    },
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
    /// chip is there or the reader is faulty.
    fn read_again(&self, token: u64);
    /// Shows light and beep where the reader has them; does nothing elsewhere.
    fn signal(&self, signal: Signal);
}

// Where events go: called on the reader's own thread, may block for a moment.
/// Takes the events of all readers.
pub type EventSink = Arc<dyn Fn(ReaderEvent) + Send + Sync>;

/// Why a reader does not work, with advice. (Variants are completed by the drivers.)
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReaderFault {}

/// Why what is in the field is no usable chip. (Variants are completed by the drivers.)
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChipFault {}
