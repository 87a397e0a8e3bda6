//! The control socket of a till's daemon: what a technician's command may ask of it, what it
//! answers, and how both are framed.
//!
//! The socket is a unix stream socket. A conversation is one [`Request`] on a line of JSON, then
//! one [`Answer`] on a line of JSON, and so on until the client closes. Amounts are integer øre
//! everywhere.
//!
//! | asked | answered |
//! |---|---|
//! | [`Request::Status`] | [`StatusAnswer`] |
//! | [`Request::ReaderList`] | [`ReaderListAnswer`] |
//! | [`Request::ReaderWatch`] | [`ReaderWatchAnswer`] |
//! | [`Request::ChipShow`] | [`ChipAnswer`] |
//! | [`Request::ChipLook`] | [`ChipLookAnswer`] |
//! | [`Request::ChipEnrol`] | [`ChipEnrolAnswer`] |
//! | [`Request::LedgerList`] | [`LedgerPage`] |
//! | [`Request::LedgerVerify`] | [`VerifyAnswer`] |
//! | [`Request::SyncNow`] | [`SyncAnswer`] |
//! | [`Request::Enrol`] | [`EnrolAnswer`] |
//! | [`Request::Sell`] | [`SellAnswer`] |
//! | [`Request::Void`] | [`VoidAnswer`] |
//! | [`Request::XReport`], [`Request::ZReport`] | [`DayReportAnswer`] |
//! | [`Request::Clock`], [`Request::ClockConfirm`] | [`ClockAnswer`] |
//! | any of them | or an [`ErrorAnswer`] |
//!
//! Daemon and client may be of different ages: whoever reads passes over fields that it does not
//! know, and a field that came later is `null` or its default where an older one left it out. A
//! [`SellAnswer`] names the account and its holder only since both were added to it.
//!
//! A sale that waits for a chip is cancelled by closing the connection, or only the writing half
//! of it. The daemon notices with [`closed`] and answers what became of the sale: cancelled, or
//! the decision that was booked a moment before. A client that still reads therefore never has
//! to guess.
//!
//! The client is [`Client`]. A daemon needs [`read_request`], [`write_answer`] and [`closed`] on
//! the halves of a stream, and [`Peer::may_command`] before it reads anything.

mod answer;
mod chip;
mod chip_enrolment;
mod client;
mod clock;
mod day_report;
mod enrol;
mod ledger;
mod line;
mod optional;
mod peer;
mod request;
mod sale;
mod status;
mod watch;

pub use answer::{Answer, ErrorAnswer, ErrorCode};
pub use chip::{AccountFacts, ChipAnswer, ChipFacts, LimitAmounts, SpentAmounts, TopUpFacts};
pub use chip_enrolment::{ChipEnrolAnswer, ChipKind, ChipLookAnswer, Held};
pub use client::{Client, ControlError};
pub use clock::{ClockAnswer, ClockCondition};
pub use day_report::DayReportAnswer;
pub use enrol::EnrolAnswer;
pub use ledger::{FirstBad, LedgerEntry, LedgerPage, VerifyAnswer};
pub use line::{
    ANSWER_MAX_BYTES, LineError, REQUEST_MAX_BYTES, closed, read_request, write_answer,
};
pub use peer::Peer;
pub use request::{DEFAULT_SOCKET, LEDGER_PAGE_MAX, Request, WATCH_MAX_S};
pub use sale::{Currency, EntryPlace, Message, SellAnswer, SellDecision, SellReason, VoidAnswer};
pub use status::{
    Condition, LineState, LineStatus, ReaderListAnswer, ReaderState, SiblingsStatus, StandingState,
    StandingStatus, StatusAnswer, SyncAnswer,
};
pub use watch::{ReaderSight, ReaderWatchAnswer, SightKind};
