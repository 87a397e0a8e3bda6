//! What is said on a serial line, without the line and without a clock.

use std::time::Instant;

use canteen::ChipId;

use crate::{ChipFault, Presence, ReaderFault, Signal};

/// The till's side of a protocol, from the opening of a line to its end.
pub(super) trait Conversation {
    /// Asks for the chip in the field.
    fn handle_read_again(&mut self, token: u64, asked_at: Instant);

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
pub(super) enum Happening {
    /// The reader works; what it says of its firmware.
    Opened {
        firmware: String,
    },
    Came {
        presence: Presence,
        chip: ChipId,
        seen_at: Instant,
    },
    Unreadable {
        fault: ChipFault,
        seen_at: Instant,
    },
    Left {
        presence: Presence,
    },
    ReadAgain {
        token: u64,
        chip: Result<ChipId, ChipFault>,
    },
    Log {
        level: u8,
        text: String,
    },
}
