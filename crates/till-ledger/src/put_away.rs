//! A ledger whose life has ended: one whole file under another name.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use sync_proto::Epoch;

use crate::book::Book;
use crate::error::LedgerError;
use crate::file::{Lock, log_path};
use crate::reader::Reader;

/// Keeps a ledger of an epoch under another name, with everything in the one file. Nothing happens
/// to a ledger of another epoch; an error [`LedgerError::NotFound`] when there is none.
pub fn put_away(path: &Path, epoch: Epoch, name: &Path) -> Result<(), LedgerError> {
    if !path.is_file() {
        return Err(LedgerError::NotFound {
            path: path.to_owned(),
        });
    }
    let _lock = Lock::take(path)?;
    let mut book = Book::open(path, 0)?;
    if book.identity.epoch != epoch {
        return Ok(());
    }
    // A log that is left behind would be taken for the next ledger's.
    book.empty_log()?;
    drop(book);
    let log = log_path(path);
    move_away(path, &log, name).map_err(|source| LedgerError::File {
        path: path.to_owned(),
        source,
    })
}

/// Reads a ledger that was put away.
pub fn read_put_away(name: &Path) -> Result<Reader, LedgerError> {
    Reader::open(name)
}

fn move_away(path: &Path, log: &Path, name: &Path) -> io::Result<()> {
    match fs::remove_file(log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::rename(path, name)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
