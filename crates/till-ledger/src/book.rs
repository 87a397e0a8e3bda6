//! An open ledger: the connection that writes, the end of the chain, and transactions.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use canteen::{BusinessDay, OfflineRules, Spent};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};
use sync_proto::{
    EntryHash, EntryHeader, EntryTexts, Epoch, FeedPosition, Head, TillId, TillPublicKey,
};
use uuid::Uuid;

use crate::account::{AccountRow, OwnEntry, account_row, own_entries_after, put_account};
use crate::clock::{self, Clock};
use crate::error::LedgerError;
use crate::file;
use crate::hole::holes_from;
use crate::moment::{HubClock, Moment};
use crate::page::{Draft, Page, Write, Written};
use crate::sibling::Siblings;

/// Whose ledger a file is. One file is one epoch of one till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The till.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// The key that signs its heads.
    pub public_key: TillPublicKey,
}

impl Identity {
    /// The hash before the first entry.
    pub(crate) fn genesis(&self) -> EntryHash {
        EntryHash::genesis(&self.till, self.epoch, &self.public_key)
    }

    pub(crate) fn next(&self, hash: &EntryHash, seq: u64, texts: &EntryTexts) -> EntryHash {
        hash.next(&self.till, self.epoch, seq, texts)
    }
}

/// What is known about the ledger without reading the file.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    pub(crate) day: Option<BusinessDay>,
    pub(crate) clock: Clock,
    pub(crate) acked: u64,
    pub(crate) durable_through: u64,
    pub(crate) feed: FeedPosition,
    pub(crate) hub_clock: Option<HubClock>,
    pub(crate) unknown_chips: u64,
    pub(crate) indexed_through: u64,
    /// The last entry that asked for a top-up since the file was opened.
    pub(crate) asked_for_top_up: u64,
    /// Ids of entries after `indexed_through`.
    pub(crate) ids: HashMap<Uuid, u64>,
    /// The greatest id in the index. Ids grow with time, so a new one need not be looked up.
    pub(crate) greatest_indexed: Option<Uuid>,
    /// Something of this is newer than the file.
    pub(crate) unsaved: bool,
}

impl Tip {
    /// Whether an id can be in the ledger neither by the index nor by what is known here.
    pub(crate) fn is_new(&self, id: Uuid) -> bool {
        !self.ids.contains_key(&id) && Some(id) > self.greatest_indexed
    }
}

/// An open ledger.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) connection: Connection,
    pub(crate) identity: Identity,
    pub(crate) tip: Tip,
    /// Accounts whose own figures were wrong in the file and were reckoned anew.
    pub(crate) repaired: Vec<canteen::AccountId>,
    /// Entries that are damaged, among those that were looked at when the file was opened.
    pub(crate) holes: BTreeSet<u64>,
    pub(crate) siblings: Siblings,
    frames: Arc<AtomicU32>,
    rested_at: u32,
}

impl Book {
    pub(crate) fn open(path: &Path, log_bytes: u64) -> Result<Book, LedgerError> {
        let (connection, frames) = file::open_writer(path, log_bytes)?;
        let Some(identity) = read_identity(&connection)? else {
            return Err(LedgerError::NotFound {
                path: path.to_owned(),
            });
        };
        let tip = read_tip(&connection, &identity)?;
        let first = tip.head.seq.saturating_sub(CHECKED_AT_OPENING) + 1;
        let holes = holes_from(&connection, &identity, first)?;
        let siblings = Siblings::read(&connection)?;
        let mut book = Book {
            connection,
            identity,
            tip,
            repaired: Vec::new(),
            holes,
            siblings,
            frames,
            rested_at: 0,
        };
        book.repair_accounts()?;
        Ok(book)
    }

    /// Makes an empty file a ledger. Nothing happens to one that was begun and not finished.
    pub(crate) fn create(
        path: &Path,
        identity: &Identity,
        log_bytes: u64,
    ) -> Result<(), LedgerError> {
        file::create(path)?;
        let (connection, _) = file::open_writer(path, log_bytes)?;
        if read_identity(&connection)?.is_some() {
            return Err(LedgerError::AlreadyThere {
                path: path.to_owned(),
            });
        }
        connection.execute(
            "INSERT INTO identity (one, till, epoch, public_key) VALUES (1, ?1, ?2, ?3)",
            (
                identity.till.as_str(),
                identity.epoch.to_string(),
                identity.public_key.0,
            ),
        )?;
        Ok(())
    }

    /// Writes several things with one flush. A request that fails does not touch the others; a
    /// fault of the medium fails all, and then nobody knows which of them hold.
    pub(crate) fn together(
        &mut self,
        writes: &[(Write, Moment)],
        rules: &OfflineRules,
    ) -> Result<Vec<Result<Written, LedgerError>>, LedgerError> {
        begin(&self.connection)?;
        let mut draft = Draft::of(&self.tip);
        let mut answers = Vec::with_capacity(writes.len());
        if let Some((_, now)) = writes.first()
            && let Err(error) = self.page(rules, &mut draft).watch_clock(*now)
            && error.is_storage()
        {
            rollback(&self.connection);
            return Err(error);
        }
        let watched = draft.head;
        for (write, now) in writes {
            let among_others = writes.len() > 1 || watched != self.tip.head;
            let answer = self.one(write, *now, rules, &mut draft, among_others);
            if let Err(error) = &answer
                && error.is_storage()
            {
                rollback(&self.connection);
                return Err(answer.err().unwrap_or(LedgerError::JournalUnavailable));
            }
            answers.push(answer);
        }
        if draft.head == self.tip.head {
            rollback(&self.connection);
        } else {
            self.commit()?;
        }
        draft.keep(&mut self.tip);
        Ok(answers)
    }

    fn one(
        &self,
        write: &Write,
        now: Moment,
        rules: &OfflineRules,
        draft: &mut Draft,
        among_others: bool,
    ) -> Result<Written, LedgerError> {
        if among_others {
            run(&self.connection, "SAVEPOINT request")?;
        }
        let before = draft.mark();
        let answer = self.page(rules, draft).write(write, now);
        if answer.is_err() {
            draft.back_to(&before);
        }
        if among_others {
            if answer.is_err() {
                run(&self.connection, "ROLLBACK TO request")?;
            }
            run(&self.connection, "RELEASE request")?;
        } else if answer.is_err() {
            // Nothing else is in the transaction: `together` sees an unchanged head and leaves it.
            debug_assert_eq!(draft.head, self.tip.head);
        }
        answer
    }

    fn page<'a>(&'a self, rules: &'a OfflineRules, draft: &'a mut Draft) -> Page<'a> {
        Page {
            connection: &self.connection,
            identity: &self.identity,
            tip: &self.tip,
            overlay: &self.siblings.view().overlay,
            rules,
            draft,
        }
    }

    /// Runs work in a transaction of its own.
    pub(crate) fn alone<T>(
        &mut self,
        work: impl FnOnce(&mut Book) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        begin(&self.connection)?;
        match work(self) {
            Ok(done) => {
                self.commit()?;
                Ok(done)
            }
            Err(error) => {
                rollback(&self.connection);
                Err(error)
            }
        }
    }

    fn commit(&self) -> Result<(), LedgerError> {
        let committed = run(&self.connection, "COMMIT");
        if committed.is_err() {
            rollback(&self.connection);
        }
        // Whatever COMMIT says, it is a fault of the medium: nobody knows what holds.
        committed.map_err(|error| match error {
            LedgerError::Refused(source) => LedgerError::Storage(source),
            other => other,
        })
    }

    /// The entry with an id.
    pub(crate) fn find(&self, id: Uuid) -> Result<Option<u64>, LedgerError> {
        find(&self.connection, &self.tip, id)
    }

    /// How many frames the log holds.
    pub(crate) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Whether the log should be emptied, or ids indexed, in the next quiet moment.
    pub(crate) fn wants_rest(&self) -> bool {
        self.frames() >= self.rested_at.saturating_add(REST_FRAMES)
            || self.tip.ids.len() > UNINDEXED
    }

    /// Whether that must be done now, quiet or not.
    pub(crate) fn needs_rest(&self) -> bool {
        self.frames() >= self.rested_at.saturating_add(FORCED_FRAMES)
            || self.tip.ids.len() > FORCED_UNINDEXED
    }

    /// Empties the log into the file, and begins it anew with the write that indexes the ids, so
    /// that no sale pays for either.
    ///
    /// A reader that looks at an old state keeps the log from being begun anew; the next rest
    /// tries again.
    pub(crate) fn rest(&mut self) -> Result<(), LedgerError> {
        checkpoint(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        let indexed = self.unindexed(INDEX_AT_ONCE);
        let through = indexed.last().map(|(seq, _)| *seq);
        let through = through.unwrap_or(self.tip.indexed_through);
        self.alone(|book| {
            book.index(&indexed)?;
            book.save_progress(through)
        })?;
        for (_, id) in indexed {
            self.tip.ids.remove(&id);
            self.tip.greatest_indexed = self.tip.greatest_indexed.max(Some(id));
        }
        self.tip.indexed_through = through;
        self.tip.unsaved = false;
        let frames = self.frames();
        self.rested_at = if frames < REST_FRAMES { 0 } else { frames };
        Ok(())
    }

    /// Writes the log to the file and cuts it off, so that nothing old is left in it.
    pub(crate) fn empty_log(&mut self) -> Result<(), LedgerError> {
        let left = checkpoint(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        if left > 0 {
            return Err(LedgerError::JournalUnavailable);
        }
        self.rested_at = 0;
        self.frames.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that everything in the log is on the medium, by writing it again.
    ///
    /// After a failed flush the system may hold pages that it will never write. The checkpoint
    /// writes them to the file and flushes that; the write after it begins the log anew.
    pub(crate) fn settle(&mut self) -> Result<(), LedgerError> {
        let left = checkpoint(&self.connection, "PRAGMA wal_checkpoint(RESTART)")?;
        if left > 0 {
            return Err(LedgerError::JournalUnavailable);
        }
        self.alone(|book| book.save_progress(book.tip.indexed_through))
    }

    /// Writes what is only known here.
    pub(crate) fn save(&mut self) -> Result<(), LedgerError> {
        self.alone(|book| book.save_progress(book.tip.indexed_through))?;
        self.tip.unsaved = false;
        Ok(())
    }

    pub(crate) fn save_progress(&self, indexed_through: u64) -> Result<(), LedgerError> {
        let tip = &self.tip;
        let clock = tip.hub_clock;
        prepare(&self.connection, SAVE_PROGRESS)?.execute((
            tip.acked.cast_signed(),
            tip.durable_through.cast_signed(),
            tip.feed.hub_epoch.cast_signed(),
            tip.feed.cursor.cast_signed(),
            indexed_through.cast_signed(),
            tip.unknown_chips.cast_signed(),
            clock.map(|clock| clock.utc_ms),
            clock.map(|clock| clock.boot_ms.cast_signed()),
            clock.map(|clock| clock.boot.into_bytes()),
        ))?;
        Ok(())
    }

    /// The oldest entries whose ids are only known here.
    fn unindexed(&self, most: usize) -> Vec<(u64, Uuid)> {
        let ids = self.tip.ids.iter();
        let mut waiting: Vec<(u64, Uuid)> = ids.map(|(id, seq)| (*seq, *id)).collect();
        waiting.sort_unstable();
        waiting.truncate(most);
        waiting
    }

    fn index(&self, ids: &[(u64, Uuid)]) -> Result<(), LedgerError> {
        let mut insert = prepare(
            &self.connection,
            "INSERT INTO entry_id (id, seq) VALUES (?1, ?2)",
        )?;
        for (seq, id) in ids {
            insert.execute((id.into_bytes(), seq.cast_signed()))?;
        }
        Ok(())
    }

    /// The accounts of the last entries must hold what the entries say; those that do not are
    /// reckoned anew before anything is sold.
    fn repair_accounts(&mut self) -> Result<(), LedgerError> {
        let from = self.tip.head.seq.saturating_sub(CHECKED_AT_OPENING);
        let touched = self.accounts_after(from)?;
        // An account whose figures the hub has not brought up to date for longer is left to
        // `verify`, so that opening stays quick.
        let mut stored = Vec::new();
        for id in touched {
            let row = account_row(&self.connection, id)?;
            stored.extend(row.filter(|row| row.incl_seq >= from));
        }
        let wanted = stored.iter().map(|row| row.id).collect();
        let entries = own_entries_after(&self.connection, from, &wanted, &self.holes)?;
        let mut wrong = Vec::new();
        for row in stored {
            let mut anew = row.clone();
            anew.fold(entries.get(&row.id).map_or(&[], Vec::as_slice))?;
            if !self.holes.is_empty() {
                anew = stricter(anew, &row);
            }
            if anew.own != row.own {
                wrong.push(anew);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        self.alone(|book| {
            wrong
                .iter()
                .try_for_each(|row| put_account(&book.connection, row))
        })?;
        self.repaired = wrong.iter().map(|row| row.id).collect();
        Ok(())
    }

    fn accounts_after(&self, seq: u64) -> Result<BTreeSet<canteen::AccountId>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT seq, header, body FROM entry WHERE seq > ?1")?;
        let mut rows = statement.query([seq.cast_signed()])?;
        let mut accounts = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let (seq, texts) = read_texts(row)?;
            let entry = OwnEntry::read(seq, &texts).ok().flatten();
            accounts.extend(entry.map(|entry| entry.account));
        }
        Ok(accounts)
    }
}

/// A lost entry may have been a sale that only the stored figures remember: of two figures the one
/// that lets less be sold is the one to trust.
fn stricter(mut anew: AccountRow, stored: &AccountRow) -> AccountRow {
    let (own, kept) = (&mut anew.own, &stored.own);
    own.balance = own.balance.min(kept.balance);
    own.gross = own.gross.max(kept.gross);
    own.sold = most_sold(own.sold, kept.sold);
    if own.spent.on() == kept.spent.on() && kept.spent.month() >= own.spent.month() {
        own.spent = kept.spent;
    }
    own.last_seq = own.last_seq.max(kept.last_seq);
    own.top_up_seq = own.top_up_seq.max(kept.top_up_seq);
    anew
}

fn most_sold(one: Spent, other: Spent) -> Spent {
    let on = one.on().max(other.on());
    let (one, other) = (one.as_of(on), other.as_of(on));
    Spent::new(
        on,
        one.day().max(other.day()),
        one.week().max(other.week()),
        one.month().max(other.month()),
    )
}

fn begin(connection: &Connection) -> Result<(), LedgerError> {
    run(connection, "BEGIN IMMEDIATE")
}

/// A transaction that SQLite has given up by itself needs no more.
fn rollback(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = run(connection, "ROLLBACK")
    {
        tracing::warn!(%error, "Rolling back failed; the connection will be given up");
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), LedgerError> {
    prepare(connection, sql)?.execute([])?;
    Ok(())
}

pub(crate) fn prepare<'a>(
    connection: &'a Connection,
    sql: &str,
) -> Result<CachedStatement<'a>, LedgerError> {
    Ok(connection.prepare_cached(sql)?)
}

/// How many frames the checkpoint left in the log.
fn checkpoint(connection: &Connection, pragma: &str) -> Result<i64, LedgerError> {
    let (busy, frames, done) = connection.query_row(pragma, [], |row| {
        Ok((
            row.get::<_, bool>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
        ))
    })?;
    Ok(if busy { frames.max(1) } else { frames - done })
}

pub(crate) fn find(
    connection: &Connection,
    tip: &Tip,
    id: Uuid,
) -> Result<Option<u64>, LedgerError> {
    if let Some(seq) = tip.ids.get(&id) {
        return Ok(Some(*seq));
    }
    if tip.is_new(id) {
        return Ok(None);
    }
    let seq: Option<i64> = prepare(connection, "SELECT seq FROM entry_id WHERE id = ?1")?
        .query_row([id.into_bytes()], |row| row.get(0))
        .optional()?;
    Ok(seq.map(i64::cast_unsigned))
}

/// The bytes of an entry.
pub(crate) fn entry_at(
    connection: &Connection,
    seq: u64,
) -> Result<Option<EntryTexts>, LedgerError> {
    let texts = prepare(connection, "SELECT header, body FROM entry WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |row| texts_at(row, 0))
        .optional()?;
    Ok(texts)
}

/// Reads `seq, header, body, hash`.
pub(crate) fn read_entry(row: &Row<'_>) -> rusqlite::Result<(u64, EntryTexts, EntryHash)> {
    let (seq, texts) = read_texts(row)?;
    Ok((seq, texts, EntryHash(row.get(3)?)))
}

/// Reads `seq, header, body`.
pub(crate) fn read_texts(row: &Row<'_>) -> rusqlite::Result<(u64, EntryTexts)> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    Ok((seq, texts_at(row, 1)?))
}

/// Damage may leave bytes that are no text; they are read all the same, and their hash shows it.
fn texts_at(row: &Row<'_>, first: usize) -> rusqlite::Result<EntryTexts> {
    let text = |index: usize| -> rusqlite::Result<String> {
        let bytes = row.get_ref(index)?.as_bytes()?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(EntryTexts {
        header: text(first)?,
        body: text(first + 1)?,
    })
}

/// The stored hash of an entry; the genesis hash for 0.
pub(crate) fn hash_at(
    connection: &Connection,
    identity: &Identity,
    seq: u64,
) -> Result<EntryHash, LedgerError> {
    if seq == 0 {
        return Ok(identity.genesis());
    }
    prepare(connection, "SELECT hash FROM entry WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |row| row.get(0).map(EntryHash))
        .optional()?
        .ok_or(LedgerError::Corrupt { seq })
}

pub(crate) fn read_identity(connection: &Connection) -> Result<Option<Identity>, LedgerError> {
    let row: Option<(String, String, [u8; 32])> = connection
        .query_row("SELECT till, epoch, public_key FROM identity", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((till, epoch, key)) = row else {
        return Ok(None);
    };
    let (Ok(till), Ok(epoch)) = (till.parse(), epoch.parse()) else {
        return Err(LedgerError::Corrupt { seq: 0 });
    };
    Ok(Some(Identity {
        till,
        epoch,
        public_key: TillPublicKey(key),
    }))
}

fn read_tip(connection: &Connection, identity: &Identity) -> Result<Tip, LedgerError> {
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0))?;
    let seq = last.unwrap_or(0).cast_unsigned();
    let head = Head {
        seq,
        hash: hash_at(connection, identity, seq)?,
    };
    let last = last_header(connection)?;
    let day = last.as_ref().map(|header| header.day);
    let clock = clock::read(connection, last.as_ref().and_then(moment_of))?;
    let mut tip = connection.query_row(READ_PROGRESS, [], |row| {
        let u64_at = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let utc_ms: Option<i64> = row.get(6)?;
        let boot_ms: Option<i64> = row.get(7)?;
        let boot: Option<[u8; 16]> = row.get(8)?;
        let hub = utc_ms.zip(boot_ms).zip(boot);
        Ok(Tip {
            head,
            day,
            clock,
            acked: u64_at(0)?,
            durable_through: u64_at(1)?,
            feed: FeedPosition {
                hub_epoch: u64_at(2)?,
                cursor: u64_at(3)?,
            },
            hub_clock: hub.map(|((utc_ms, boot_ms), boot)| HubClock {
                utc_ms,
                boot_ms: boot_ms.cast_unsigned(),
                boot: Uuid::from_bytes(boot),
            }),
            indexed_through: u64_at(4)?,
            unknown_chips: u64_at(5)?,
            asked_for_top_up: 0,
            ids: HashMap::new(),
            greatest_indexed: None,
            unsaved: false,
        })
    })?;
    if tip.acked > seq || tip.indexed_through > seq {
        return Err(LedgerError::Corrupt { seq: seq + 1 });
    }
    if let Some(told) = tip.hub_clock {
        tip.clock.not_before(told);
    }
    tip.ids = read_ids(connection, tip.indexed_through)?;
    let greatest: Option<[u8; 16]> =
        connection.query_row("SELECT max(id) FROM entry_id", [], |row| row.get(0))?;
    tip.greatest_indexed = greatest.map(Uuid::from_bytes);
    Ok(tip)
}

/// The last header that can be read.
fn last_header(connection: &Connection) -> Result<Option<EntryHeader>, LedgerError> {
    let mut statement =
        connection.prepare("SELECT seq, header, body FROM entry ORDER BY seq DESC LIMIT ?1")?;
    let mut rows = statement.query([CHECKED_AT_OPENING.cast_signed()])?;
    while let Some(row) = rows.next()? {
        if let Ok(header) = read_texts(row)?.1.read_header() {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn moment_of(header: &EntryHeader) -> Option<Moment> {
    let stamp: jiff::Timestamp = header.ts.parse().ok()?;
    Some(Moment {
        utc_ms: stamp.as_millisecond(),
        boot_ms: header.bt,
        boot: header.boot,
    })
}

fn read_ids(connection: &Connection, after: u64) -> Result<HashMap<Uuid, u64>, LedgerError> {
    let mut statement = connection.prepare("SELECT seq, header FROM entry WHERE seq > ?1")?;
    let mut rows = statement.query([after.cast_signed()])?;
    let mut ids = HashMap::new();
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let texts = EntryTexts {
            header: String::from_utf8_lossy(row.get_ref(1)?.as_bytes().unwrap_or_default()).into(),
            body: String::new(),
        };
        // A damaged entry is found by nobody.
        ids.extend(texts.read_header().ok().map(|header| (header.id, seq)));
    }
    Ok(ids)
}

/// Two flushes for the checkpoint and two for the write after it are shared by the sales that
/// filled so many frames, about 160.
const REST_FRAMES: u32 = 400;
/// 32 MB: the log is emptied even while sales wait.
const FORCED_FRAMES: u32 = 8_000;
const INDEX_AT_ONCE: usize = 2_000;
/// Ids that are in no index are known to the writer; who reads beside it goes through their
/// entries. Sales one by one stay far below this: they fill the log first.
const UNINDEXED: usize = 500;
const FORCED_UNINDEXED: usize = 5_000;
/// Checked within some ten milliseconds.
const CHECKED_AT_OPENING: u64 = 2_000;

const SAVE_PROGRESS: &str = "
    UPDATE progress SET acked_seq = ?1, durable_through = ?2, hub_epoch = ?3, cursor = ?4,
        indexed_through = ?5, unknown_chips = ?6,
        hub_clock_ms = ?7, hub_clock_boot_ms = ?8, hub_clock_boot = ?9, heartbeat = heartbeat + 1";

const READ_PROGRESS: &str = "
    SELECT acked_seq, durable_through, hub_epoch, cursor, indexed_through, unknown_chips,
        hub_clock_ms, hub_clock_boot_ms, hub_clock_boot FROM progress";
