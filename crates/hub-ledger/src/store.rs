//! Opening the store, one writer and many readers, and commits.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::Money;
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Savepoint};
use uuid::Uuid;

use crate::error::LedgerError;
use crate::top_up_rules::TopUpRules;

mod migrations {
    refinery::embed_migrations!("migrations");
}

/// The one writer of the hub's store. It reads as well.
///
/// Every call is one transaction, synced to disk when it returns. Inside [`HubLedger::group`] the
/// calls share one sync; each is still all or nothing.
pub struct HubLedger {
    reader: HubReader,
    pub(crate) top_up_rules: TopUpRules,
}

/// A reader of the hub's store; it never waits for the writer.
pub struct HubReader {
    pub(crate) db: Connection,
    path: PathBuf,
}

impl HubLedger {
    /// Opens the store, makes or updates its tables. `fresh_epoch` is drawn at random by the
    /// caller and names the life of a store that begins with this.
    pub fn open(
        path: &Path,
        fresh_epoch: u64,
        top_up_rules: TopUpRules,
    ) -> Result<HubLedger, LedgerError> {
        let mut db = Connection::open(path).map_err(|source| opening(path, source))?;
        set_up(&db).map_err(|source| opening(path, source))?;
        // Power may fail at any moment, and a till forgets what the hub said it has.
        db.pragma_update(None, "synchronous", "FULL")
            .map_err(|source| opening(path, source))?;
        migrations::migrations::runner()
            .set_grouped(true)
            .run(&mut db)
            .map_err(|error| LedgerError::Migrate(Box::new(error)))?;
        // JSON readers keep 53 bits of a number.
        let fresh_epoch = (fresh_epoch & ((1 << 53) - 1)).max(1).cast_signed();
        db.execute(
            "INSERT INTO hub (one, hub_epoch, rv) VALUES (1, ?1, 0) ON CONFLICT DO NOTHING",
            [fresh_epoch],
        )?;
        let path = path.to_owned();
        Ok(HubLedger {
            reader: HubReader { db, path },
            top_up_rules,
        })
    }

    /// Runs several calls with one sync to disk. When this fails, none of them happened.
    pub fn group<T>(&mut self, calls: impl FnOnce(&mut HubLedger) -> T) -> Result<T, LedgerError> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let result = calls(self);
        if let Err(error) = self.db.execute_batch("COMMIT") {
            // Nothing may be left open for the next group, whatever the first failure was.
            let _ = self.db.execute_batch("ROLLBACK");
            return Err(error.into());
        }
        Ok(result)
    }

    /// Runs several calls of which all happen or none.
    pub fn all_or_nothing<T, E: From<LedgerError>>(
        &mut self,
        calls: impl FnOnce(&mut HubLedger) -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = self.db.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(LedgerError::from)?;
        let result = calls(self);
        let committed = match &result {
            Ok(_) => self.db.execute_batch("COMMIT"),
            Err(_) => self.db.execute_batch("ROLLBACK"),
        };
        if let Err(error) = committed {
            // Nothing may be left open for the next call, whatever the first failure was.
            let _ = self.db.execute_batch("ROLLBACK");
            result?;
            return Err(LedgerError::from(error).into());
        }
        result
    }

    pub(crate) fn change(&mut self) -> Result<Savepoint<'_>, LedgerError> {
        Ok(self.reader.db.savepoint()?)
    }
}

impl Deref for HubLedger {
    type Target = HubReader;

    fn deref(&self) -> &HubReader {
        &self.reader
    }
}

impl HubReader {
    /// Another reader of the same store.
    pub fn another(&self) -> Result<HubReader, LedgerError> {
        HubReader::open(&self.path)
    }

    /// Opens a store that [`HubLedger::open`] has made, for reading.
    pub fn open(path: &Path) -> Result<HubReader, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db =
            Connection::open_with_flags(path, flags).map_err(|source| opening(path, source))?;
        set_up(&db).map_err(|source| opening(path, source))?;
        Ok(HubReader {
            db,
            path: path.to_owned(),
        })
    }

    /// The sum of all balances, which is zero as long as the books are right.
    pub fn sum_of_balances(&self) -> Result<Money, LedgerError> {
        let sum =
            self.db
                .query_row("SELECT coalesce(sum(balance), 0) FROM account", [], |row| {
                    row.get(0)
                })?;
        Ok(Money::from_ore(sum))
    }

    /// The life of this store and the version of its newest change.
    pub fn hub_position(&self) -> Result<(u64, u64), LedgerError> {
        hub_position(&self.db)
    }
}

pub(crate) fn hub_position(db: &Connection) -> Result<(u64, u64), LedgerError> {
    let (hub_epoch, rv): (i64, i64) = db
        .prepare_cached("SELECT hub_epoch, rv FROM hub")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((hub_epoch.cast_unsigned(), rv.cast_unsigned()))
}

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "journal_mode", "WAL")
        .or_else(read_only_is_fine)?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.pragma_update(None, "cache_size", -65_536)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Otherwise a statement whose plan might depend on what is bound is planned anew at each use,
    // which costs more than a third of the booking of a purchase.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A reader finds the journal mode as the writer has set it.
fn read_only_is_fine(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ReadOnly) => Ok(()),
        _ => Err(error),
    }
}

fn opening(path: &Path, source: rusqlite::Error) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

pub(crate) fn moment(millis: i64) -> Result<Timestamp, LedgerError> {
    Timestamp::from_millisecond(millis).map_err(|_| LedgerError::Unreadable { what: "time" })
}

/// A name that nothing else has, in the order of time.
pub(crate) fn draw_name(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
    Uuid::new_v7(at)
}

/// A moment some time later; the end of the calendar is as good as never.
pub(crate) fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

const BUSY_WAIT: Duration = Duration::from_secs(5);
/// More than there are in the code.
const STATEMENTS_KEPT: usize = 256;

/// A store as an older program has made it.
#[cfg(test)]
pub(crate) fn migrated_to(path: &Path, version: u32) -> Connection {
    let mut db = Connection::open(path).unwrap();
    migrations::migrations::runner()
        .set_target(refinery::Target::Version(version.try_into().unwrap()))
        .run(&mut db)
        .unwrap();
    db
}
