//! The ledger for a running till: one thread writes, everybody may ask.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use canteen::{Account, AccountId, BusinessDay, ChipNumber};
use sync_proto::{
    Batch, Change, Denylist, EntryHash, FeedPage, FeedRecords, Head, HolderRecord, ProductRecord,
    SnapshotHeader, TillKey, TillPosition, TillReport,
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::clock::ClockRequest;
use crate::day_report::{DayReport, DayTotals, ZRequest};
use crate::error::LedgerError;
use crate::feed::Applied;
use crate::file;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::page::{EntryRef, StartRequest, Write, Written};
use crate::purchase::{PurchaseRequest, Recorded};
use crate::reader::{ChipView, EntryRange, Reader, RecentEntry, StoredEntry};
use crate::sibling::{SiblingStand, SiblingView};
use crate::store::{Progress, Store, StoreOptions};
use crate::verify::Verification;
use crate::void::{VoidRequest, Voided};

mod writer;

use self::writer::{Job, Writer};

/// A handle on the ledger. Clones are handles on the same one; it is closed by
/// [`Ledger::close`] or when the last handle is gone.
///
/// What writes is answered when it is on the medium. What reads blocks for as long as the disk
/// takes, mostly well under a millisecond.
#[derive(Debug, Clone)]
pub struct Ledger {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    identity: Identity,
    repaired: Vec<AccountId>,
    progress: watch::Receiver<Progress>,
    siblings: watch::Receiver<Arc<SiblingView>>,
    readers: Mutex<Vec<Reader>>,
}

/// How the ledger is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Whose ledger it is.
    pub identity: Identity,
    /// How far it is.
    pub progress: Progress,
    /// When the oldest entry that the hub does not have was written, by the till's wall clock.
    pub unsent_since: Option<String>,
    /// The size of the file.
    pub file_bytes: u64,
    /// The size of the write-ahead log beside it.
    pub log_bytes: u64,
}

impl Ledger {
    /// Makes a new ledger and opens it.
    pub fn create(
        path: &Path,
        identity: &Identity,
        options: StoreOptions,
    ) -> Result<Ledger, LedgerError> {
        Ledger::of(path, Store::create(path, identity, options)?)
    }

    /// Opens a ledger.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Ledger, LedgerError> {
        Ledger::of(path, Store::open(path, options)?)
    }

    fn of(path: &Path, store: Store) -> Result<Ledger, LedgerError> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (tell, progress) = watch::channel(store.progress());
        let (tell_siblings, siblings) = watch::channel(store.siblings());
        let shared = Shared {
            path: path.to_owned(),
            identity: store.identity().clone(),
            repaired: store.repaired().to_vec(),
            progress,
            siblings,
            readers: Mutex::new(Vec::new()),
        };
        let writer = Writer {
            store,
            tell,
            tell_siblings,
            tired: false,
        };
        thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.work(&queue))
            .map_err(LedgerError::Thread)?;
        Ok(Ledger {
            jobs,
            shared: Arc::new(shared),
        })
    }

    /// Whose ledger it is.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Accounts whose figures had to be reckoned anew when the ledger was opened.
    pub fn repaired(&self) -> &[AccountId] {
        &self.shared.repaired
    }

    /// How far the ledger is.
    pub fn progress(&self) -> Progress {
        *self.shared.progress.borrow()
    }

    /// Wakes whoever waits on it at every change.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.progress.clone()
    }

    /// Decides about a purchase and records the decision.
    pub async fn purchase(
        &self,
        request: PurchaseRequest,
        now: Moment,
    ) -> Result<Recorded, LedgerError> {
        self.write(Write::Purchase(request), now).await?.purchase()
    }

    /// Takes a sale of the same day back, or some pieces of it.
    pub async fn void(&self, request: VoidRequest, now: Moment) -> Result<Voided, LedgerError> {
        self.write(Write::Void(request), now).await?.void()
    }

    /// Records that the program started.
    pub async fn start(&self, request: StartRequest, now: Moment) -> Result<EntryRef, LedgerError> {
        self.write(Write::Start(request), now).await?.note()
    }

    /// Records that the hub's changes are applied as far as they are.
    pub async fn feed_ack(&self, id: Uuid, now: Moment) -> Result<EntryRef, LedgerError> {
        self.write(Write::FeedAck(id), now).await?.note()
    }

    /// Records the totals of a day under the next number.
    pub async fn z_report(&self, request: ZRequest, now: Moment) -> Result<DayReport, LedgerError> {
        self.write(Write::Z(request), now).await?.z()
    }

    /// Looks at the clock and records what is wrong with it, or that a person says it is right;
    /// `None` when there is nothing to tell.
    pub async fn check_clock(
        &self,
        request: ClockRequest,
        now: Moment,
    ) -> Result<Option<EntryRef>, LedgerError> {
        self.write(Write::Clock(request), now).await?.clock()
    }

    async fn write(&self, write: Write, now: Moment) -> Result<Written, LedgerError> {
        self.ask(|reply| Job::Write(write, now, reply)).await
    }

    /// Applies a page of the hub's changes.
    pub async fn apply_page(&self, page: FeedPage, now: Moment) -> Result<Applied, LedgerError> {
        self.ask(|reply| Job::Page(page, now, reply)).await
    }

    /// Applies records outside the order of pages: a higher ceiling that was asked for.
    pub async fn apply_records(
        &self,
        records: FeedRecords,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        self.ask(|reply| Job::Records(records, now, reply)).await
    }

    /// Applies statuses that come ahead of everything else.
    pub async fn apply_denylist(
        &self,
        list: Denylist,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        self.ask(|reply| Job::Denylist(list, now, reply)).await
    }

    /// Erases everybody of whom the hub told; entries stay.
    pub async fn forget_people(&self, now: Moment) -> Result<(), LedgerError> {
        self.ask(|reply| Job::Forget(now, reply)).await
    }

    /// Takes a run of entries that a sibling gave; how many there were.
    pub async fn hear_sibling(&self, batch: Batch) -> Result<usize, LedgerError> {
        self.ask(|reply| Job::Sibling(Box::new(batch), reply)).await
    }

    /// The canteen's other tills, and how much of each this till has heard.
    pub fn siblings(&self) -> Vec<SiblingStand> {
        self.shared.siblings.borrow().stands.clone()
    }

    /// The hash up to and with an entry.
    pub fn hash_at(&self, seq: u64) -> Result<EntryHash, LedgerError> {
        self.read(|reader| reader.hash_at(seq))
    }

    /// Where the till stands, as the hub wants to know before it gives anything to spend.
    pub fn position(&self) -> Result<TillPosition, LedgerError> {
        let progress = self.progress();
        let acked_hash = self.read(|reader| reader.hash_at(progress.acked))?;
        Ok(TillPosition {
            epoch: self.identity().epoch,
            head_seq: progress.head.seq,
            head_hash: progress.head.hash,
            acked_seq: progress.acked,
            acked_hash,
        })
    }

    /// Puts a snapshot in the place of the replica. The caller has checked its trailer.
    pub async fn apply_snapshot(
        &self,
        header: SnapshotHeader,
        changes: Vec<Change>,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        self.ask(|reply| Job::Snapshot(header, changes, now, reply))
            .await
    }

    /// The hub has everything up to a head. Believed only when that head is this ledger's own.
    pub async fn acknowledge(
        &self,
        accepted: Head,
        durable_through: u64,
        now: Moment,
    ) -> Result<(), LedgerError> {
        self.ask(|reply| Job::Acknowledge(accepted, durable_through, now, reply))
            .await
    }

    /// The hub wants to go on from an entry that it had acknowledged.
    pub async fn resume_from(&self, expected: u64, now: Moment) -> Result<(), LedgerError> {
        self.ask(|reply| Job::Resume(expected, now, reply)).await
    }

    /// Closes the ledger once everything asked for before is done.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.ask(Job::Close).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .try_send(job(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => LedgerError::Busy,
                TrySendError::Disconnected(_) => LedgerError::Closed,
            })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// The next batch for the hub; `None` when it has everything.
    pub fn batch(
        &self,
        max_entries: usize,
        max_bytes: usize,
        key: &TillKey,
        report: TillReport,
    ) -> Result<Option<Batch>, LedgerError> {
        let acked = self.progress().acked;
        self.read(|reader| reader.batch(acked, max_entries, max_bytes, key, report))
    }

    /// Any run of entries as a batch, whatever the hub has; `None` when there are none after it.
    pub fn batch_after(
        &self,
        seq: u64,
        max_entries: usize,
        max_bytes: usize,
        key: &TillKey,
        report: TillReport,
    ) -> Result<Option<Batch>, LedgerError> {
        self.read(|reader| reader.batch(seq, max_entries, max_bytes, key, report))
    }

    /// The totals of a business day as they are now; nothing is written.
    pub fn day_totals(&self, day: BusinessDay) -> Result<DayTotals, LedgerError> {
        let through = self.progress().head.seq;
        self.read(|reader| reader.day_totals(day, through))
    }

    /// How the ledger is doing.
    pub fn status(&self) -> Result<LedgerStatus, LedgerError> {
        let progress = self.progress();
        let unsent_since = match progress.waiting() {
            0 => None,
            _ => self.read(|reader| reader.written_at(progress.acked + 1))?,
        };
        let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        Ok(LedgerStatus {
            identity: self.identity().clone(),
            progress,
            unsent_since,
            file_bytes: bytes(&self.shared.path),
            log_bytes: bytes(&file::log_path(&self.shared.path)),
        })
    }

    /// At most `limit` entries of a range.
    pub fn entries(
        &self,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, LedgerError> {
        self.read(|reader| reader.entries(range, limit))
    }

    /// The newest entries, newest first.
    pub fn recent(&self, limit: usize) -> Result<Vec<RecentEntry>, LedgerError> {
        self.read(|reader| reader.recent(limit))
    }

    /// The entry with an id, however old it is.
    pub fn entry_by_id(&self, id: Uuid) -> Result<Option<StoredEntry>, LedgerError> {
        self.read(|reader| reader.entry_by_id(id))
    }

    /// A chip by any number that people know it by.
    pub fn chip(&self, number: ChipNumber) -> Result<Option<ChipView>, LedgerError> {
        let view = self.read(|reader| reader.chip(number))?;
        let siblings = self.shared.siblings.borrow();
        Ok(view.map(|view| ChipView {
            account: view.account.map(|known| siblings.overlay.lay_over(known)),
            ..view
        }))
    }

    /// Whether any chip of the canteen must prove itself.
    pub fn any_must_prove(&self) -> Result<bool, LedgerError> {
        self.read(Reader::any_must_prove)
    }

    /// An account with this till's own entries counted in, and what was heard of its siblings.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, LedgerError> {
        let account = self.read(|reader| reader.account(id))?;
        let siblings = self.shared.siblings.borrow();
        Ok(account.map(|known| siblings.overlay.lay_over(known)))
    }

    /// The person behind an account, as the cashier sees them.
    pub fn holder(&self, account: AccountId) -> Result<Option<HolderRecord>, LedgerError> {
        self.read(|reader| reader.holder(account))
    }

    /// The cashier's buttons, in their order.
    pub fn products(&self) -> Result<Vec<ProductRecord>, LedgerError> {
        self.read(Reader::products)
    }

    /// Checks the whole ledger: takes seconds for a million entries.
    pub fn verify(&self) -> Result<Verification, LedgerError> {
        self.read(|reader| {
            let mut verification = reader.verify()?;
            verification.findings.extend(reader.check_file()?);
            Ok(verification)
        })
    }

    /// A connection that fails is not used again: the next read gets a fresh one.
    fn read<T>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let idle = self.readers().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => Reader::open(&self.shared.path)?,
        };
        let done = work(&reader);
        if done.is_ok() {
            let mut readers = self.readers();
            if readers.len() < IDLE_READERS {
                readers.push(reader);
            }
        }
        done
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        let readers = self.shared.readers.lock();
        readers.unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many taps as a school can have waiting, several times over.
const QUEUE: usize = 256;
const IDLE_READERS: usize = 4;
