//! An open ledger: the connection that writes, the end of the chain, and transactions.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use canteen::{BusinessDay, OfflineRules};
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use sync_proto::{
    EntryBody, EntryHash, EntryHeader, EntryTexts, Epoch, FeedPosition, Head, TillId, TillPublicKey,
};
use uuid::Uuid;

use crate::account::{account_row, own_entries_after, put_account};
use crate::error::LedgerError;
use crate::file;
use crate::moment::{HubClock, Moment, business_day};
use crate::purchase::{PurchaseRequest, Recorded};
use crate::void::{VoidRequest, Voided};

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

/// Names an entry wherever it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    /// The till that wrote it.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// Its number in that life.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
}

/// The program started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// The id of the entry.
    pub id: Uuid,
    /// The program's version.
    pub version: String,
}

/// Something that becomes an entry.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Purchase(PurchaseRequest),
    Void(VoidRequest),
    Start(StartRequest),
    /// An acknowledgement of the hub's changes, under this id.
    FeedAck(Uuid),
}

/// What became of a [`Write`].
#[derive(Debug)]
pub(crate) enum Written {
    Purchase(Recorded),
    Void(Voided),
    Start(EntryRef),
    FeedAck(EntryRef),
}

impl Write {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Write::Purchase(request) => request.id,
            Write::Void(request) => request.id,
            Write::Start(request) => request.id,
            Write::FeedAck(id) => *id,
        }
    }
}

/// What is known about the ledger without reading the file.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    pub(crate) day: Option<BusinessDay>,
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
        let mut book = Book {
            connection,
            identity,
            tip,
            repaired: Vec::new(),
            frames,
            rested_at: 0,
        };
        book.check_tail()?;
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
        for (write, now) in writes {
            let answer = self.one(write, *now, rules, &mut draft, writes.len() > 1);
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
        let mut page = Page {
            connection: &self.connection,
            identity: &self.identity,
            tip: &self.tip,
            rules,
            draft,
        };
        let answer = page.write(write, now);
        if answer.is_err() {
            draft.back_to(before);
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

    /// Whether the log should be emptied in the next quiet moment.
    pub(crate) fn wants_rest(&self) -> bool {
        self.frames() >= self.rested_at.saturating_add(REST_FRAMES)
    }

    /// Whether the log must be emptied now, quiet or not.
    pub(crate) fn needs_rest(&self) -> bool {
        self.frames() >= self.rested_at.saturating_add(FORCED_FRAMES)
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

    /// The last entries must continue each other up to the head.
    fn check_tail(&self) -> Result<(), LedgerError> {
        let first = self.tip.head.seq.saturating_sub(CHECKED_AT_OPENING) + 1;
        let mut hash = hash_at(&self.connection, &self.identity, first - 1)?;
        let mut statement = self
            .connection
            .prepare("SELECT seq, header, body, hash FROM entry WHERE seq >= ?1 ORDER BY seq")?;
        let mut rows = statement.query([first.cast_signed()])?;
        let mut expected = first;
        while let Some(row) = rows.next()? {
            let (seq, texts, stored) = read_entry(row)?;
            hash = self.identity.next(&hash, expected, &texts);
            if seq != expected || stored != hash {
                return Err(LedgerError::Corrupt { seq: expected });
            }
            expected += 1;
        }
        Ok(())
    }

    /// The accounts of the last entries must hold what the entries say; those that do not are
    /// reckoned anew before anything is sold.
    fn repair_accounts(&mut self) -> Result<(), LedgerError> {
        let from = self.tip.head.seq.saturating_sub(CHECKED_AT_OPENING);
        let mut touched = std::collections::BTreeSet::new();
        let mut statement = self
            .connection
            .prepare("SELECT seq, header, body, hash FROM entry WHERE seq > ?1")?;
        let mut rows = statement.query([from.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let (seq, texts, _) = read_entry(row)?;
            touched.extend(crate::account::OwnEntry::read(seq, &texts)?.map(|entry| entry.account));
        }
        drop(rows);
        drop(statement);
        // An account whose figures the hub has not brought up to date for longer is left to
        // `verify`, so that opening stays quick.
        let mut stored = Vec::new();
        for id in touched {
            let row = account_row(&self.connection, id)?;
            stored.extend(row.filter(|row| row.incl_seq >= from));
        }
        let wanted = stored.iter().map(|row| row.id).collect();
        let entries = own_entries_after(&self.connection, from, &wanted)?;
        let mut wrong = Vec::new();
        for row in stored {
            let mut anew = row.clone();
            anew.fold(entries.get(&row.id).map_or(&[], Vec::as_slice))?;
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
}

/// What a transaction changes, until it is committed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) head: Head,
    pub(crate) day: Option<BusinessDay>,
    pub(crate) unknown_chips: u64,
    pub(crate) asked_for_top_up: u64,
    ids: Vec<(Uuid, u64)>,
}

type Mark = (Head, Option<BusinessDay>, u64, u64, usize);

impl Draft {
    fn of(tip: &Tip) -> Draft {
        Draft {
            head: tip.head,
            day: tip.day,
            unknown_chips: tip.unknown_chips,
            asked_for_top_up: tip.asked_for_top_up,
            ids: Vec::new(),
        }
    }

    fn mark(&self) -> Mark {
        let counts = (self.unknown_chips, self.asked_for_top_up);
        (self.head, self.day, counts.0, counts.1, self.ids.len())
    }

    fn back_to(&mut self, (head, day, unknown_chips, asked, ids): Mark) {
        self.head = head;
        self.day = day;
        self.unknown_chips = unknown_chips;
        self.asked_for_top_up = asked;
        self.ids.truncate(ids);
    }

    fn keep(self, tip: &mut Tip) {
        tip.unsaved |= tip.unknown_chips != self.unknown_chips;
        tip.head = self.head;
        tip.day = self.day;
        tip.unknown_chips = self.unknown_chips;
        tip.asked_for_top_up = self.asked_for_top_up;
        tip.ids.extend(self.ids);
    }
}

/// The page that a transaction writes on.
pub(crate) struct Page<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) identity: &'a Identity,
    pub(crate) tip: &'a Tip,
    pub(crate) rules: &'a OfflineRules,
    pub(crate) draft: &'a mut Draft,
}

impl Page<'_> {
    fn write(&mut self, write: &Write, now: Moment) -> Result<Written, LedgerError> {
        match write {
            Write::Purchase(request) => self.purchase(request, now).map(Written::Purchase),
            Write::Void(request) => self.void(request, now).map(Written::Void),
            Write::Start(request) => self.start(request, now).map(Written::Start),
            Write::FeedAck(id) => self.feed_ack(*id, now).map(Written::FeedAck),
        }
    }

    fn start(&mut self, request: &StartRequest, now: Moment) -> Result<EntryRef, LedgerError> {
        let body = EntryBody::Start(sync_proto::Start {
            version: request.version.clone(),
        });
        self.note(request.id, &body, now)
    }

    /// What is acknowledged is the feed position that every entry carries.
    fn feed_ack(&mut self, id: Uuid, now: Moment) -> Result<EntryRef, LedgerError> {
        self.note(id, &EntryBody::FeedAck(sync_proto::FeedAck {}), now)
    }

    /// Writes an entry that moves no money, once.
    fn note(&mut self, id: Uuid, body: &EntryBody, now: Moment) -> Result<EntryRef, LedgerError> {
        if let Some(seq) = self.find(id)? {
            let (_, known) = self.entry(seq)?.read()?;
            if known.kind() == body.kind() {
                return Ok(self.reference(seq, id));
            }
            return Err(LedgerError::IdTaken { id, seq });
        }
        let day = self.business_day(now)?;
        self.append(id, body, day, now)
    }

    /// The entry with an id, this transaction's own included.
    pub(crate) fn find(&self, id: Uuid) -> Result<Option<u64>, LedgerError> {
        let drafted = self.draft.ids.iter().find(|(known, _)| *known == id);
        match drafted {
            Some((_, seq)) => Ok(Some(*seq)),
            None => find(self.connection, self.tip, id),
        }
    }

    pub(crate) fn entry(&self, seq: u64) -> Result<EntryTexts, LedgerError> {
        entry_at(self.connection, seq)?.ok_or(LedgerError::Corrupt { seq })
    }

    pub(crate) fn business_day(&self, now: Moment) -> Result<BusinessDay, LedgerError> {
        business_day(now, self.tip.hub_clock, self.draft.day)
    }

    pub(crate) fn reference(&self, seq: u64, id: Uuid) -> EntryRef {
        EntryRef {
            till: self.identity.till.clone(),
            epoch: self.identity.epoch,
            seq,
            id,
        }
    }

    /// Writes the next entry.
    pub(crate) fn append(
        &mut self,
        id: Uuid,
        body: &EntryBody,
        day: BusinessDay,
        now: Moment,
    ) -> Result<EntryRef, LedgerError> {
        let header = EntryHeader {
            id,
            ts: now.to_rfc3339()?,
            bt: now.boot_ms,
            boot: now.boot,
            day,
            fc: self.tip.feed,
            kind: String::new(),
            version: 0,
        };
        let texts = EntryTexts::write(header, body)?;
        let seq = self.draft.head.seq + 1;
        let hash = self.identity.next(&self.draft.head.hash, seq, &texts);
        prepare(
            self.connection,
            "INSERT OR FAIL INTO entry (seq, header, body, hash) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((seq.cast_signed(), &texts.header, &texts.body, hash.0))?;
        self.draft.head = Head { seq, hash };
        self.draft.day = Some(day);
        self.draft.ids.push((id, seq));
        Ok(self.reference(seq, id))
    }
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

fn find(connection: &Connection, tip: &Tip, id: Uuid) -> Result<Option<u64>, LedgerError> {
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
        .query_row([seq.cast_signed()], |row| {
            Ok(EntryTexts {
                header: row.get(0)?,
                body: row.get(1)?,
            })
        })
        .optional()?;
    Ok(texts)
}

/// Reads `seq, header, body, hash`.
pub(crate) fn read_entry(
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<(u64, EntryTexts, EntryHash)> {
    let texts = EntryTexts {
        header: row.get(1)?,
        body: row.get(2)?,
    };
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    Ok((seq, texts, EntryHash(row.get(3)?)))
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
    let day = match entry_at(connection, seq)? {
        Some(texts) => Some(texts.read_header()?.day),
        None => None,
    };
    let mut tip = connection.query_row(READ_PROGRESS, [], |row| {
        let u64_at = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let utc_ms: Option<i64> = row.get(6)?;
        let boot_ms: Option<i64> = row.get(7)?;
        let boot: Option<[u8; 16]> = row.get(8)?;
        let clock = utc_ms.zip(boot_ms).zip(boot);
        Ok(Tip {
            head,
            day,
            acked: u64_at(0)?,
            durable_through: u64_at(1)?,
            feed: FeedPosition {
                hub_epoch: u64_at(2)?,
                cursor: u64_at(3)?,
            },
            hub_clock: clock.map(|((utc_ms, boot_ms), boot)| HubClock {
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
    tip.ids = read_ids(connection, tip.indexed_through)?;
    let greatest: Option<[u8; 16]> =
        connection.query_row("SELECT max(id) FROM entry_id", [], |row| row.get(0))?;
    tip.greatest_indexed = greatest.map(Uuid::from_bytes);
    Ok(tip)
}

fn read_ids(connection: &Connection, after: u64) -> Result<HashMap<Uuid, u64>, LedgerError> {
    let mut statement = connection.prepare("SELECT seq, header FROM entry WHERE seq > ?1")?;
    let mut rows = statement.query([after.cast_signed()])?;
    let mut ids = HashMap::new();
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let texts = EntryTexts {
            header: row.get(1)?,
            body: String::new(),
        };
        ids.insert(texts.read_header()?.id, seq);
    }
    Ok(ids)
}

/// Two flushes for the checkpoint and two for the write after it are shared by the sales that
/// filled so many frames, about 160.
const REST_FRAMES: u32 = 400;
/// 32 MB: the log is emptied even while sales wait.
const FORCED_FRAMES: u32 = 8_000;
const INDEX_AT_ONCE: usize = 2_000;
/// Checked within some ten milliseconds.
const CHECKED_AT_OPENING: u64 = 2_000;

const SAVE_PROGRESS: &str = "
    UPDATE progress SET acked_seq = ?1, durable_through = ?2, hub_epoch = ?3, cursor = ?4,
        indexed_through = ?5, unknown_chips = ?6,
        hub_clock_ms = ?7, hub_clock_boot_ms = ?8, hub_clock_boot = ?9, heartbeat = heartbeat + 1";

const READ_PROGRESS: &str = "
    SELECT acked_seq, durable_through, hub_epoch, cursor, indexed_through, unknown_chips,
        hub_clock_ms, hub_clock_boot_ms, hub_clock_boot FROM progress";
