//! Why the ledger cannot do what it was asked to.

use std::io;
use std::path::PathBuf;

use canteen::{AccountId, BusinessDay, Money};
use rusqlite::ErrorCode;
use sync_proto::{EntryError, TillId};
use thiserror::Error;
use uuid::Uuid;

/// Why the ledger cannot do what it was asked to. A decline is not an error.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Another process has the ledger open.
    #[error("another program uses the ledger {path}; is the till running twice?")]
    InUse {
        /// The ledger's file.
        path: PathBuf,
    },
    /// There is no ledger.
    #[error("there is no ledger at {path}; enrol the till first")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A new ledger would take the place of an old one.
    #[error("there is a ledger at {path} already; a new epoch needs a file of its own")]
    AlreadyThere {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("the file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database does not keep a promise that the ledger relies on.
    #[error("the database has {what} = {found}, the ledger needs {needed}")]
    Promise {
        /// Which promise.
        what: &'static str,
        /// What the database answers.
        found: String,
        /// What it must be.
        needed: &'static str,
    },
    /// The file's tables cannot be brought up to this program.
    #[error(
        "the ledger's tables cannot be brought up to date; is the program older than the file?"
    )]
    Migrate(#[source] Box<refinery::Error>),
    /// An entry is not what was written; nothing after it can be trusted.
    #[error(
        "entry {seq} does not continue the hash chain; \
         do not delete the file, the hub and a new epoch are the way out"
    )]
    Corrupt {
        /// The first entry that is wrong.
        seq: u64,
    },
    /// The disk or the file failed.
    #[error("the ledger's file cannot be read or written; check the disk and its space")]
    Storage(#[source] rusqlite::Error),
    /// The database refused one request; others are not affected.
    #[error("the database refused the request")]
    Refused(#[source] rusqlite::Error),
    /// An entry cannot be written or read.
    #[error("an entry cannot be written or read")]
    Entry(#[from] EntryError),
    /// The ledger cannot be written at the moment.
    #[error("the ledger cannot be written at the moment; check the disk and its space")]
    JournalUnavailable,
    /// Writing failed so that nobody can tell whether it holds; ask again with the same id.
    #[error("it is not known whether {id} is recorded; ask again with the same id")]
    OutcomeUnknown {
        /// The id of the request.
        id: Uuid,
    },
    /// The id names something else already.
    #[error("the id {id} is taken by entry {seq}, which says something else")]
    IdTaken {
        /// The id.
        id: Uuid,
        /// The entry that has it.
        seq: u64,
    },
    /// The lines of a purchase do not add up to its amount.
    #[error("the lines add up to {lines:?}, the purchase is {amount}")]
    LinesDiffer {
        /// What is to be paid.
        amount: Money,
        /// What the lines come to, if that can be reckoned.
        lines: Option<Money>,
    },
    /// A void names no sale of this ledger.
    #[error("{of} is no sale of this till; refund it at the office")]
    NoSuchSale {
        /// What was to be taken back.
        of: Uuid,
    },
    /// A void names a sale of another day.
    #[error("the sale is of {day}, today is {today}; refund it at the office")]
    SaleOfAnotherDay {
        /// The sale's day.
        day: BusinessDay,
        /// The till's day.
        today: BusinessDay,
    },
    /// A void names a sale that is taken back already.
    #[error("the sale was taken back before, by entry {seq}")]
    VoidedBefore {
        /// The entry that took it back.
        seq: u64,
    },
    /// A void names more pieces of a line than were sold and not yet taken back.
    #[error("line {} of the sale has {left} pieces left to take back, not {wanted}", u64::from(*line) + 1)]
    NotSoMany {
        /// The line's place in the sale, from 0; people count from 1.
        line: u32,
        /// How many are left.
        left: u32,
        /// How many were to be taken back.
        wanted: u32,
    },
    /// Totals of a day that is still to come.
    #[error("{day} is still to come, today is {today}; ask for a day that has begun")]
    DayToCome {
        /// The day asked for.
        day: BusinessDay,
        /// The till's day.
        today: BusinessDay,
    },
    /// A person says that the clock is right, and the hub says that it is not.
    #[error("the clock shows {ours}, the hub's shows {hub}; set the clock first")]
    HubClockDiffers {
        /// What this machine's clock shows.
        ours: String,
        /// What the hub's shows.
        hub: String,
    },
    /// Entries of another till that cannot be believed.
    #[error("entries of {till} are left alone: {why}")]
    Sibling {
        /// The other till.
        till: TillId,
        /// What is wrong with them.
        why: &'static str,
    },
    /// An amount out of range.
    #[error("a figure of account {account} is out of range")]
    Range {
        /// The account.
        account: AccountId,
    },
    /// A page that does not follow what the ledger has.
    #[error("the page begins at {from}, the ledger is at {cursor}; ask from there")]
    FeedGap {
        /// Where the ledger is.
        cursor: u64,
        /// Where the page begins.
        from: u64,
    },
    /// A page from another life of the hub.
    #[error("the page is of hub epoch {theirs}, the ledger follows {ours}; fetch a snapshot")]
    OtherHubEpoch {
        /// The one that the ledger follows.
        ours: u64,
        /// The page's.
        theirs: u64,
    },
    /// A watermark for entries that this ledger does not have.
    #[error("the hub has another entry {seq} than this till; another till uses its name")]
    ForeignWatermark {
        /// The number that the hub says it has.
        seq: u64,
    },
    /// The hub expects entries that this ledger has not written yet.
    #[error("the hub expects entry {expected}, the ledger ends at {head}; was the disk restored?")]
    HubAhead {
        /// What the hub expects next.
        expected: u64,
        /// The last entry.
        head: u64,
    },
    /// The wall clock shows no date.
    #[error("the clock shows {utc_ms} ms since 1970, which is no date; set the clock")]
    Clock {
        /// What it shows.
        utc_ms: i64,
    },
    /// Too much waits for the ledger.
    #[error("too many requests wait for the ledger; try again")]
    Busy,
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// The operating system gives no thread.
    #[error("the ledger's thread cannot be started")]
    Thread(#[source] io::Error),
}

impl LedgerError {
    /// Whether the fault is the medium's, so that nothing that was begun can be relied on.
    pub(crate) fn is_storage(&self) -> bool {
        matches!(self, LedgerError::Storage(_))
    }

    /// Whether the medium is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, LedgerError::Storage(source)
            if source.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(source: rusqlite::Error) -> LedgerError {
        let about_one_request = match source.sqlite_error_code() {
            Some(code) => matches!(
                code,
                ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
            ),
            None => true,
        };
        if about_one_request {
            LedgerError::Refused(source)
        } else {
            LedgerError::Storage(source)
        }
    }
}

impl From<refinery::Error> for LedgerError {
    fn from(source: refinery::Error) -> LedgerError {
        LedgerError::Migrate(Box::new(source))
    }
}
