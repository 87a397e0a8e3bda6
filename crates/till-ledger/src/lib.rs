//! The till's record of money, in one SQLite file.
//!
//! A ledger is a chain of entries that is only ever added to, and beside it a replica of what the
//! hub says about accounts and chips. A purchase reads the replica, decides, writes an entry and
//! the account's new figures, and is answered when one flush has put all of that on the medium.
//!
//! | | |
//! |---|---|
//! | [`Ledger`] | the handle for a running till: one thread writes, everybody may ask |
//! | [`Store`] | the same without a thread and without a clock, for simulated tills |
//! | [`Reader`] | a connection that only reads |
//!
//! The hub's changes never touch entries. A figure of an account is the hub's figure with the own
//! entries added that the hub had not counted in (`incl_seq`), so that no sale is counted twice
//! or not at all, whatever arrives first.

mod account;
mod book;
mod clock;
mod day_report;
mod entry_row;
mod error;
mod feed;
mod file;
mod hole;
mod identity;
mod ledger;
mod machine;
mod moment;
mod page;
mod purchase;
mod put_away;
mod reader;
mod sibling;
mod state_report;
mod status_change;
mod store;
mod tip;
mod upload;
mod verify;
mod void;

pub use clock::{BelievedTime, ClockRequest, ClockState, KnownTime};
pub use day_report::{DayReport, DayTotals, ZRequest};
pub use error::LedgerError;
pub use feed::Applied;
pub use file::FLUSHES_WITH_FDATASYNC;
pub use identity::Identity;
pub use ledger::{Ledger, LedgerStatus};
pub use machine::serve_this_thread_first;
pub use moment::Moment;
pub use page::{EntryRef, StartRequest};
pub use purchase::{PurchaseRequest, Recorded};
pub use put_away::{put_away, read_put_away};
pub use reader::{ChipView, EntryRange, Reader, RecentEntry, StoredEntry};
pub use sibling::SiblingStand;
pub use store::{Journal, Progress, Store, StoreOptions};
pub use verify::{Finding, Verification};
pub use void::{SaleLeft, VoidRequest, Voided};
