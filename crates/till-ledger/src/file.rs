//! The ledger's file: opened by one process, set up so that a commit is one flush.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, FileControl, MAIN_DB, OpenFlags};

use crate::error::LedgerError;

mod embedded {
    #![allow(missing_docs, unreachable_pub)]
    refinery::embed_migrations!("migrations");
}

/// Keeps other processes away from the ledger for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held open, not used")] File);

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Lock, LedgerError> {
        let beside = beside(path, ".lock");
        let file = private().open(&beside).map_err(about(&beside))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(LedgerError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(about(&beside)(source)),
        }
    }
}

/// Makes the file, readable by the till alone, so that SQLite's files beside it are too.
pub(crate) fn create(path: &Path) -> Result<(), LedgerError> {
    let file = private().open(path).map_err(about(path))?;
    file.sync_all().map_err(about(path))?;
    let parent = path.parent().filter(|parent| parent.is_dir());
    let directory = parent.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(about(directory))
}

/// The connection that writes, and the number of frames that its write-ahead log holds.
pub(crate) fn open_writer(
    path: &Path,
    log_bytes: u64,
) -> Result<(Connection, Arc<AtomicU32>), LedgerError> {
    assert_version()?;
    let mut connection = Connection::open_with_flags_and_vfs(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        ONE_PROCESS,
    )?;
    harden(&connection)?;
    connection.execute_batch(WRITER_PRAGMAS)?;
    connection.file_control(Some(MAIN_DB), FileControl::PersistWal(&mut 1))?;
    assert_pragma(&connection, "journal_mode", "wal")?;
    assert_pragma(&connection, "synchronous", "2")?;
    assert_pragma(&connection, "wal_autocheckpoint", "0")?;
    make_tables(&mut connection)?;
    warm(path, log_bytes)?;
    let frames = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&frames);
    connection.wal_hook(Some(move |_: &mut Wal, pages| {
        counted.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    Ok((connection, frames))
}

/// Brings the tables to what this program knows.
pub(crate) fn make_tables(connection: &mut Connection) -> Result<(), LedgerError> {
    let migrations = embedded::migrations::runner().set_grouped(true);
    migrations.run(connection)?;
    Ok(())
}

/// A connection that reads beside the writer.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, LedgerError> {
    let connection = Connection::open_with_flags_and_vfs(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        ONE_PROCESS,
    )?;
    harden(&connection)?;
    connection.execute_batch(READER_PRAGMAS)?;
    Ok(connection)
}

/// The write-ahead log beside a ledger.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    move |source| LedgerError::File {
        path: path.to_owned(),
        source,
    }
}

fn harden(connection: &Connection) -> Result<(), LedgerError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // Without this SQLite prepares a statement anew whenever a bound value might change its plan,
    // which costs more than the statement.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The log is never emptied into the file behind the writer's back.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(())
}

/// Two connections at once could spoil a log before this version (sqlite.org/wal.html,
/// "The WAL-Reset Bug").
fn assert_version() -> Result<(), LedgerError> {
    if rusqlite::version_number() >= 3_051_003 {
        return Ok(());
    }
    Err(LedgerError::Promise {
        what: "version",
        found: rusqlite::version().to_owned(),
        needed: "3.51.3 or newer",
    })
}

fn assert_pragma(
    connection: &Connection,
    what: &'static str,
    needed: &'static str,
) -> Result<(), LedgerError> {
    let found = connection.pragma_query_value(None, what, |row| {
        row.get_ref(0).map(|value| match value.as_i64() {
            Ok(number) => number.to_string(),
            Err(_) => value.as_str().unwrap_or_default().to_owned(),
        })
    })?;
    if found == needed {
        Ok(())
    } else {
        Err(LedgerError::Promise {
            what,
            found,
            needed,
        })
    }
}

/// Writes the log to its full size, so that a commit overwrites blocks that the file has: a
/// growing file costs a second flush, and a warm log can be written on a full disk.
///
/// SQLite stops reading a log at the first frame that is not its own, so zeros at its end are
/// nothing to it. A log that cannot be warmed is slower, not wrong.
fn warm(path: &Path, log_bytes: u64) -> Result<(), LedgerError> {
    let log = log_path(path);
    let warmed = extend(&log, log_bytes);
    match warmed {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!("No room to write the ledger's log in advance; sales will be slower");
            Ok(())
        }
        other => other.map_err(about(&log)),
    }
}

fn extend(log: &Path, log_bytes: u64) -> io::Result<()> {
    let mut file = private().open(log)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size >= log_bytes {
        return Ok(());
    }
    let zeros = vec![0; ZEROS];
    while size < log_bytes {
        let missing = usize::try_from(log_bytes - size).unwrap_or(ZEROS);
        let part = &zeros[..missing.min(ZEROS)];
        file.write_all(part)?;
        size += part.len() as u64;
    }
    file.sync_all()
}

/// The file belongs to this process, so SQLite keeps the index of the log in memory instead of a
/// file, and asks the system for no locks while it works: six calls less a sale, and nothing that
/// would have to grow on a full medium (sqlite.org/vfs.html, "Standard Unix VFSes").
const ONE_PROCESS: &str = "unix-excl";
const STATEMENTS: usize = 64;
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
const ZEROS: usize = 1 << 16;

const WRITER_PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = -1;
    PRAGMA cache_size = -65536;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA foreign_keys = ON;
    PRAGMA cell_size_check = ON;
";

const READER_PRAGMAS: &str = "
    PRAGMA query_only = ON;
    PRAGMA cache_size = -8192;
    PRAGMA temp_store = MEMORY;
    PRAGMA cell_size_check = ON;
";

/// Whether SQLite was built to flush with `fdatasync`: with `fsync` every sale costs two flushes.
pub const FLUSHES_WITH_FDATASYNC: bool = says_fdatasync(option_env!("LIBSQLITE3_FLAGS"));

const fn says_fdatasync(flags: Option<&str>) -> bool {
    let (Some(flags), wanted) = (flags, b"-DHAVE_FDATASYNC=1") else {
        return false;
    };
    let flags = flags.as_bytes();
    let mut start = 0;
    while start + wanted.len() <= flags.len() {
        let mut same = 0;
        while same < wanted.len() && flags[start + same] == wanted[same] {
            same += 1;
        }
        if same == wanted.len() {
            return true;
        }
        start += 1;
    }
    false
}
