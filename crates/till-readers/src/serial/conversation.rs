//! What is said on a serial line, without the line and without a clock: the reader's thread drives it
//! over a real line, the bench and the fuzz targets over simulated ones.

use std::time::Instant;

use canteen::ChipIdentity;

use crate::auth::{ChipReport, ChipTask, EnrolError};
use crate::{ChipFault, Presence, ReaderFault, Signal};

/// The till's side of a protocol, from the opening of a line to its end.
pub trait Conversation {
    /// Asks for the chip in the field.
    fn handle_read_again(&mut self, token: u64, asked_at: Instant);

    /// Asks for something to be done with the chip in the field; answered once by
    /// [`Happening::Worked`].
    fn handle_task(&mut self, token: u64, task: ChipTask, asked_at: Instant);

    /// Asks for light and sound; only the newest matters.
    fn handle_signal(&mut self, signal: Signal);

    /// Takes what came over the line.
    fn handle_bytes(&mut self, bytes: &[u8], now: Instant);

    /// The line is lost, or the reader: nothing can be said of what was in its field.
    fn handle_end(&mut self);

    /// Notices what time has brought, and gives the next bytes to be sent, until there are none
    /// for now.
    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>>;

    /// Gives what happened, in order.
    fn poll_happening(&mut self) -> Option<Happening>;

    /// Why the conversation is over, if it is.
    fn fault(&self) -> Option<ReaderFault>;
}

/// What a conversation brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The reader works; what it says of its firmware.
    Opened {
        /// As the reader says it.
        firmware: String,
    },
    /// As [`ReaderEvent::Chip`](crate::ReaderEvent::Chip).
    Came {
        /// This stay in the field.
        presence: Presence,
        /// The chip.
        identity: ChipIdentity,
        /// When it was seen.
        seen_at: Instant,
    },
    /// As [`ReaderEvent::Unreadable`](crate::ReaderEvent::Unreadable).
    Unreadable {
        /// Why.
        fault: ChipFault,
        /// When it was seen.
        seen_at: Instant,
    },
    /// As [`ReaderEvent::Left`](crate::ReaderEvent::Left).
    Left {
        /// The stay that ended.
        presence: Presence,
    },
    /// As [`ReaderEvent::ReadAgain`](crate::ReaderEvent::ReadAgain).
    ReadAgain {
        /// The number given with the question.
        token: u64,
        /// What is in the field.
        identity: Result<ChipIdentity, ChipFault>,
    },
    /// What came of [`Conversation::handle_task`].
    Worked {
        /// The number given with the task.
        token: u64,
        /// What was done, or why it was not, or not to the end.
        report: Result<ChipReport, EnrolError>,
    },
    /// The reader says something to whoever looks for faults.
    Log {
        /// 0 error, 1 warning, 2 information, 3 detail.
        level: u8,
        /// In the reader's words.
        text: String,
    },
}
