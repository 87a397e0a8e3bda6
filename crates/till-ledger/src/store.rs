//! The ledger without a thread: every call does its work and returns when it is on the medium.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use canteen::OfflineRules;
use sync_proto::{
    Batch, Change, Denylist, FeedPage, FeedPosition, FeedRecords, Head, SnapshotHeader, TillKey,
    TillReport,
};
use uuid::Uuid;

use crate::book::Book;
use crate::clock::{BelievedTime, ClockRequest, ClockState};
use crate::day_report::{DayReport, ZRequest};
use crate::error::LedgerError;
use crate::feed::Applied;
use crate::file::Lock;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::page::{EntryRef, StartRequest, Write, Written};
use crate::purchase::{PurchaseRequest, Recorded};
use crate::reader::Reader;
use crate::sibling::SiblingView;
use crate::tip::Tip;
use crate::upload;
use crate::void::{VoidRequest, Voided};

/// How a ledger is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// What the site allows without contact to the hub.
    pub rules: OfflineRules,
    /// The size to which the write-ahead log is written in advance.
    pub log_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            rules: OfflineRules::default(),
            log_bytes: 10 << 20,
        }
    }
}

/// How far the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its last entry.
    pub head: Head,
    /// The hub has all entries up to here.
    pub acked: u64,
    /// The hub has a verified backup of all entries up to here.
    pub durable_through: u64,
    /// How far the hub's changes are applied.
    pub feed: FeedPosition,
    /// The hub's clock when it last told how accounts stand, as far as that was written down.
    pub heard_at: Option<jiff::Timestamp>,
    /// Counts up whenever the hub's changes changed something here.
    pub replica: u64,
    /// Taps of chips that nobody knows.
    pub unknown_chips: u64,
    /// The last entry that asked for a top-up since the ledger was opened: must not wait.
    pub asked_for_top_up: u64,
    /// How the wall clock is.
    pub clock: ClockState,
    /// What is believed of the time.
    pub time: BelievedTime,
    /// How many damaged entries were found when the ledger was opened.
    pub holes: u64,
    /// Whether sales can be written.
    pub journal: Journal,
}

impl Progress {
    /// How many entries the hub does not have yet.
    pub fn waiting(&self) -> u64 {
        self.head.seq.saturating_sub(self.acked)
    }
}

/// Whether sales can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// They can.
    Writable,
    /// The medium was full at the last try. Every tap tries again.
    Full,
    /// The medium failed; a tap tries again when a second has passed.
    Failing,
}

impl Journal {
    /// The word for it on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Journal::Writable => "writable",
            Journal::Full => "full",
            Journal::Failing => "failing",
        }
    }
}

/// A ledger, opened by this process alone.
///
/// Dropping it is like pulling the plug: nothing that was answered is lost, but [`Store::close`]
/// also keeps what is only worth remembering.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    options: StoreOptions,
    identity: Identity,
    progress: Progress,
    /// `None` after a fault of the medium, until it could be opened again.
    book: Option<Book>,
    /// What was known when the book was lost.
    lost: Option<Tip>,
    /// Requests that met a fault which is not made good yet: they may be recorded or not.
    unclear: BTreeSet<Uuid>,
    last_try: Option<Moment>,
    repaired: Vec<canteen::AccountId>,
    _lock: Lock,
}

impl Store {
    /// Makes a new ledger: the beginning of an epoch.
    pub fn create(
        path: &Path,
        identity: &Identity,
        options: StoreOptions,
    ) -> Result<Store, LedgerError> {
        let lock = Lock::take(path)?;
        Book::create(path, identity, options.log_bytes)?;
        Store::open_locked(path, options, lock)
    }

    /// Opens a ledger, checks its end and recovers from whatever happened to it.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store, LedgerError> {
        if !path.is_file() {
            return Err(LedgerError::NotFound {
                path: path.to_owned(),
            });
        }
        let lock = Lock::take(path)?;
        Store::open_locked(path, options, lock)
    }

    fn open_locked(path: &Path, options: StoreOptions, lock: Lock) -> Result<Store, LedgerError> {
        let mut book = Book::open(path, options.log_bytes)?;
        let repaired = std::mem::take(&mut book.repaired);
        if !repaired.is_empty() {
            let accounts: Vec<i64> = repaired.iter().map(|account| account.0).collect();
            tracing::error!(
                ?accounts,
                "Figures of accounts were wrong and were reckoned anew"
            );
        }
        if !book.holes.is_empty() {
            let entries = &book.holes;
            tracing::error!(
                ?entries,
                "Entries are damaged; see the runbook page hole.md"
            );
        }
        if !crate::file::FLUSHES_WITH_FDATASYNC {
            tracing::warn!("SQLite was built without HAVE_FDATASYNC; every sale costs two flushes");
        }
        Ok(Store {
            path: path.to_owned(),
            options,
            identity: book.identity.clone(),
            progress: progress(&book, 0, Journal::Writable),
            book: Some(book),
            lost: None,
            unclear: BTreeSet::new(),
            last_try: None,
            repaired,
            _lock: lock,
        })
    }

    /// Whose ledger it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Accounts whose own figures did not follow from the entries when the ledger was opened;
    /// they were reckoned anew. Empty unless something is wrong with the medium or the program.
    pub fn repaired(&self) -> &[canteen::AccountId] {
        &self.repaired
    }

    /// A connection that reads beside this one.
    pub fn reader(&self) -> Result<Reader, LedgerError> {
        Reader::open(&self.path)
    }

    /// Decides about a purchase and records the decision.
    pub fn purchase(
        &mut self,
        request: PurchaseRequest,
        now: Moment,
    ) -> Result<Recorded, LedgerError> {
        self.one(Write::Purchase(request), now)?.purchase()
    }

    /// Takes a sale of the same day back, or some pieces of it.
    pub fn void(&mut self, request: VoidRequest, now: Moment) -> Result<Voided, LedgerError> {
        self.one(Write::Void(request), now)?.void()
    }

    /// Records that the program started.
    pub fn start(&mut self, request: StartRequest, now: Moment) -> Result<EntryRef, LedgerError> {
        self.one(Write::Start(request), now)?.note()
    }

    /// Records that the hub's changes are applied as far as they are.
    pub fn feed_ack(&mut self, id: Uuid, now: Moment) -> Result<EntryRef, LedgerError> {
        self.one(Write::FeedAck(id), now)?.note()
    }

    /// Records the totals of a day under the next number.
    pub fn z_report(&mut self, request: ZRequest, now: Moment) -> Result<DayReport, LedgerError> {
        self.one(Write::Z(request), now)?.z()
    }

    /// Looks at the clock and records what is wrong with it, or that a person says it is right;
    /// `None` when there is nothing to tell.
    pub fn check_clock(
        &mut self,
        request: ClockRequest,
        now: Moment,
    ) -> Result<Option<EntryRef>, LedgerError> {
        self.one(Write::Clock(request), now)?.clock()
    }

    fn one(&mut self, write: Write, now: Moment) -> Result<Written, LedgerError> {
        let answer = self.together(&[(write, now)]).pop();
        answer.unwrap_or(Err(LedgerError::JournalUnavailable))
    }

    /// Writes several things with one flush; one answer for each.
    pub(crate) fn together(
        &mut self,
        writes: &[(Write, Moment)],
    ) -> Vec<Result<Written, LedgerError>> {
        let Some((_, now)) = writes.last() else {
            return Vec::new();
        };
        let now = *now;
        let rules = self.options.rules;
        let outcome = match self.ready(now) {
            Some(book) => book.together(writes, &rules),
            None => Err(LedgerError::JournalUnavailable),
        };
        let answers = match outcome {
            Ok(answers) => {
                self.progress.journal = Journal::Writable;
                answers
            }
            Err(fault) => {
                if fault.is_storage() {
                    self.unclear
                        .extend(writes.iter().map(|(write, _)| write.id()));
                    self.recover(&fault, now);
                }
                let after = writes
                    .iter()
                    .map(|(write, now)| self.after_fault(write, *now));
                after.collect()
            }
        };
        self.look();
        answers
    }

    /// What can be said about a request after a fault: only what the ledger itself says.
    fn after_fault(&mut self, write: &Write, now: Moment) -> Result<Written, LedgerError> {
        let id = write.id();
        let unknown = || LedgerError::OutcomeUnknown { id };
        if self.unclear.contains(&id) {
            return Err(unknown());
        }
        let rules = self.options.rules;
        let Some(book) = self.book.as_mut() else {
            let never_seen = self.lost.as_ref().is_some_and(|tip| tip.is_new(id));
            return if never_seen {
                unavailable(write)
            } else {
                Err(unknown())
            };
        };
        match book.find(id) {
            Ok(None) => unavailable(write),
            // Nothing is written for an id that is known.
            Ok(Some(_)) => {
                let again = book.together(&[(write.clone(), now)], &rules);
                let again = again.ok().and_then(|mut answers| answers.pop());
                again.unwrap_or_else(|| Err(unknown()))
            }
            Err(_) => Err(unknown()),
        }
    }

    /// Applies a page of the hub's changes.
    pub fn apply_page(&mut self, page: &FeedPage, now: Moment) -> Result<Applied, LedgerError> {
        let applied = self.guarded(now, |book| book.apply_page(page, now))?;
        self.count(applied);
        Ok(applied)
    }

    /// Applies records outside the order of pages.
    pub fn apply_records(
        &mut self,
        records: &FeedRecords,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        let applied = self.guarded(now, |book| book.apply_records(records, now))?;
        self.count(applied);
        Ok(applied)
    }

    /// Puts a snapshot in the place of the replica. The caller has checked its trailer.
    pub fn apply_snapshot<'a>(
        &mut self,
        header: &SnapshotHeader,
        changes: impl IntoIterator<Item = &'a Change>,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        let applied = self.guarded(now, |book| book.apply_snapshot(header, changes, now))?;
        self.count(applied);
        Ok(applied)
    }

    /// Applies statuses that come ahead of everything else.
    pub fn apply_denylist(&mut self, list: &Denylist, now: Moment) -> Result<Applied, LedgerError> {
        let applied = self.guarded(now, |book| book.apply_denylist(list))?;
        self.count(applied);
        Ok(applied)
    }

    /// Erases everybody of whom the hub told.
    pub fn forget_people(&mut self, now: Moment) -> Result<(), LedgerError> {
        self.guarded(now, Book::forget_people)?;
        self.progress.replica += 1;
        Ok(())
    }

    /// Takes a run of entries that a sibling gave, if they are its own and continue what is known
    /// of it; how many there were.
    pub fn hear_sibling(&mut self, batch: &Batch) -> Result<usize, LedgerError> {
        let book = self.book.as_mut().ok_or(LedgerError::JournalUnavailable)?;
        let heard = book.siblings.hear(batch)?;
        self.progress.replica += 1;
        Ok(heard)
    }

    /// The canteen's other tills as far as they are known.
    pub(crate) fn siblings(&self) -> Arc<SiblingView> {
        let book = self.book.as_ref();
        book.map(|book| Arc::clone(book.siblings.view()))
            .unwrap_or_default()
    }

    /// Damaged entries among those that were looked at when the ledger was opened.
    pub fn holes(&self) -> Vec<u64> {
        let holes = self.book.iter().flat_map(|book| &book.holes);
        holes.copied().collect()
    }

    fn count(&mut self, applied: Applied) {
        if applied.records > 0 {
            self.progress.replica += 1;
        }
    }

    /// The next batch for the hub; `None` when it has everything.
    pub fn batch(
        &mut self,
        max_entries: usize,
        max_bytes: usize,
        key: &TillKey,
        report: TillReport,
    ) -> Result<Option<Batch>, LedgerError> {
        let book = self.book.as_ref().ok_or(LedgerError::JournalUnavailable)?;
        let most = (max_entries, max_bytes);
        upload::batch(
            &book.connection,
            &book.identity,
            book.tip.acked,
            most,
            key,
            report,
        )
    }

    /// The hub has everything up to a head. Believed only when that head is this ledger's own.
    pub fn acknowledge(
        &mut self,
        accepted: Head,
        durable_through: u64,
        now: Moment,
    ) -> Result<(), LedgerError> {
        self.guarded(now, |book| book.acknowledge(accepted, durable_through))
    }

    /// The hub wants to go on from an entry that it had acknowledged, as after its restore from
    /// a backup.
    pub fn resume_from(&mut self, expected: u64, now: Moment) -> Result<(), LedgerError> {
        self.guarded(now, |book| book.resume_from(expected))
    }

    /// Whether the next quiet moment should be used for [`Store::rest`].
    pub fn wants_rest(&self) -> bool {
        self.book.as_ref().is_some_and(Book::wants_rest)
    }

    /// Whether [`Store::rest`] cannot wait for a quiet moment any more.
    pub(crate) fn needs_rest(&self) -> bool {
        self.book.as_ref().is_some_and(Book::needs_rest)
    }

    /// Whether something is known that is worth writing but not worth a flush of its own.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.book.as_ref().is_some_and(|book| book.tip.unsaved)
    }

    /// Empties the write-ahead log into the file and indexes ids. Belongs into quiet moments.
    pub fn rest(&mut self, now: Moment) -> Result<(), LedgerError> {
        self.guarded(now, Book::rest)
    }

    /// Writes what is only worth remembering.
    pub(crate) fn save(&mut self, now: Moment) -> Result<(), LedgerError> {
        self.guarded(now, Book::save)
    }

    /// Closes the ledger.
    pub fn close(mut self, now: Moment) -> Result<(), LedgerError> {
        if self.is_unsaved() {
            self.save(now)?;
        }
        Ok(())
    }

    /// Frames in the write-ahead log.
    pub fn log_frames(&self) -> u32 {
        self.book.as_ref().map_or(0, Book::frames)
    }

    fn guarded<T>(
        &mut self,
        now: Moment,
        work: impl FnOnce(&mut Book) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let book = self.ready(now).ok_or(LedgerError::JournalUnavailable)?;
        let done = work(book);
        if let Err(fault) = &done
            && fault.is_storage()
        {
            self.recover(fault, now);
        }
        self.look();
        done
    }

    /// The book, if it can be written; after a fault it is tried again once in a second.
    fn ready(&mut self, now: Moment) -> Option<&mut Book> {
        if self.progress.journal == Journal::Failing {
            let waited = self.last_try.is_none_or(|last| has_passed(last, now));
            if !waited {
                return None;
            }
            self.reopen(now);
        }
        let usable = self.progress.journal != Journal::Failing;
        self.book.as_mut().filter(|_| usable)
    }

    /// After a fault nothing that the connection believes can be trusted: it is given up, and
    /// the file is read anew.
    ///
    /// A full medium is different: what did not fit is refused before anything is flushed, so
    /// the transaction left nothing behind and the connection is as good as before.
    fn recover(&mut self, fault: &LedgerError, now: Moment) {
        let cause = std::error::Error::source(fault).map(ToString::to_string);
        if fault.is_full() {
            if self.progress.journal != Journal::Full {
                tracing::error!(cause, "The medium is full; nothing can be sold");
            }
            self.progress.journal = Journal::Full;
            self.unclear.clear();
            return;
        }
        tracing::error!(cause, "Writing the ledger failed; opening it anew");
        self.reopen(now);
    }

    fn reopen(&mut self, now: Moment) {
        self.last_try = Some(now);
        if let Some(book) = self.book.take() {
            self.lost = Some(book.tip);
        }
        let reopened = Book::open(&self.path, self.options.log_bytes).and_then(|mut book| {
            if let Some(tip) = &self.lost {
                book.tip.acked = tip.acked.min(book.tip.head.seq).max(book.tip.acked);
                book.tip.unknown_chips = tip.unknown_chips;
                book.tip.hub_clock = tip.hub_clock;
                book.tip.asked_for_top_up = tip.asked_for_top_up;
                book.tip.unsaved = true;
            }
            book.settle().map(|()| book)
        });
        match reopened {
            Ok(book) => {
                self.book = Some(book);
                self.lost = None;
                self.unclear.clear();
                self.progress.journal = Journal::Writable;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "The ledger cannot be written");
                self.progress.journal = Journal::Failing;
            }
        }
    }

    fn look(&mut self) {
        if let Some(book) = &self.book {
            self.progress = progress(book, self.progress.replica, self.progress.journal);
        }
    }
}

fn progress(book: &Book, replica: u64, journal: Journal) -> Progress {
    let tip = &book.tip;
    Progress {
        head: tip.head,
        acked: tip.acked,
        durable_through: tip.durable_through,
        feed: tip.feed,
        heard_at: tip
            .hub_clock
            .and_then(|clock| jiff::Timestamp::from_millisecond(clock.utc_ms).ok()),
        replica,
        unknown_chips: tip.unknown_chips,
        asked_for_top_up: tip.asked_for_top_up,
        clock: tip.clock.state,
        time: BelievedTime {
            clock: tip.clock,
            hub: tip.hub_clock,
            last_day: tip.day,
        },
        holes: book.holes.len() as u64,
        journal,
    }
}

/// The answer to a request that left no trace because nothing can be written.
fn unavailable(write: &Write) -> Result<Written, LedgerError> {
    match write {
        Write::Purchase(_) => Ok(Written::Purchase(Recorded::journal_unavailable())),
        Write::Void(_) | Write::Start(_) | Write::FeedAck(_) | Write::Z(_) | Write::Clock(_) => {
            Err(LedgerError::JournalUnavailable)
        }
    }
}

fn has_passed(last: Moment, now: Moment) -> bool {
    now.boot != last.boot || now.boot_ms.abs_diff(last.boot_ms) >= TRY_AGAIN_MS
}

const TRY_AGAIN_MS: u64 = 1_000;
