//! An open ledger: the connection that writes, its transactions and its log.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use canteen::OfflineRules;
use rusqlite::{CachedStatement, Connection};
use uuid::Uuid;

use crate::error::LedgerError;
use crate::file;
use crate::hole::holes_from;
use crate::identity::{Identity, read_identity};
use crate::moment::Moment;
use crate::page::{Draft, Page, Write, Written};
use crate::sibling::Siblings;
use crate::tip::{Tip, find, read_tip};

mod repair;

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

    /// Writes what is only known here, as a part of the transaction under way.
    pub(crate) fn save_progress(&self, indexed_through: u64) -> Result<(), LedgerError> {
        self.tip.save(&self.connection, indexed_through)
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
pub(crate) const CHECKED_AT_OPENING: u64 = 2_000;
