//! The marker beside the database: which life of it ran here last, and how far it had come.
//!
//! A database that is put back from a backup looks as good as any other, and would give tills what
//! they were given already. The marker is no part of the backup, so it knows better.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub_ledger::Life;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tracing::error;

use crate::books::Books;
use crate::hub_key::{beside, write_whole};

/// The marker of one database.
#[derive(Debug, Clone)]
pub struct Marker {
    database: PathBuf,
    path: PathBuf,
}

/// Why the program does not run on a database.
#[derive(Debug, Error)]
pub enum MarkerError {
    /// The marker cannot be read or written.
    #[error("cannot use {}; check that it belongs to the hub's user", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The marker says nothing.
    #[error("{} is damaged; {}", path.display(), advice(database))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Of which database.
        database: PathBuf,
    },
    /// There is no marker, and the database was in use before.
    #[error(
        "{} was in use, and its marker {} is not here; {}",
        database.display(), path.display(), advice(database)
    )]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Of which database.
        database: PathBuf,
    },
    /// The database is not the one that ran here last.
    #[error(
        "{} is not the database that ran here last, or an older copy of it (its life is {} at {}, the \
         marker says {} at {}); {}",
        database.display(), found.hub_epoch, found.lease, expected.hub_epoch, expected.lease,
        advice(database)
    )]
    Other {
        /// Which database.
        database: PathBuf,
        /// What it is.
        found: Life,
        /// What the marker says.
        expected: Life,
    },
    /// Another program runs on the database.
    #[error("another hubd runs on {}; stop it first", database.display())]
    InUse {
        /// Which database.
        database: PathBuf,
    },
}

fn advice(database: &Path) -> String {
    format!(
        "if {} was restored from a backup, run `hubd restore` (it explains itself and changes nothing \
         without --yes); otherwise put the right database back (runbook page hub-restored.md). \
         Nothing was changed",
        database.display()
    )
}

#[derive(Serialize, Deserialize)]
struct Written {
    hub_epoch: u64,
    lease: u64,
}

impl Marker {
    /// The marker of a database.
    pub fn of(database: &Path) -> Marker {
        Marker {
            database: database.to_owned(),
            path: beside(database, "marker"),
        }
    }

    /// Keeps other programs off the database for as long as the file is held.
    pub fn hold(&self) -> Result<File, MarkerError> {
        let path = beside(&self.database, "lock");
        let file = |source| MarkerError::File {
            path: path.clone(),
            source,
        };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(file)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(MarkerError::InUse {
                database: self.database.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(file(source)),
        }
    }

    /// Whether the database is the one that ran here last, and no older.
    pub fn check(&self, found: Life) -> Result<(), MarkerError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            // A database that never ran has no marker yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && found.lease == 0 => {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MarkerError::Missing {
                    path: self.path.clone(),
                    database: self.database.clone(),
                });
            }
            Err(source) => {
                return Err(MarkerError::File {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let written: Written = serde_json::from_str(&text).map_err(|_| MarkerError::Damaged {
            path: self.path.clone(),
            database: self.database.clone(),
        })?;
        let expected = Life {
            hub_epoch: written.hub_epoch,
            lease: written.lease,
        };
        // The database is written first, so it may be ahead.
        if found.hub_epoch == expected.hub_epoch && found.lease >= expected.lease {
            return Ok(());
        }
        Err(MarkerError::Other {
            database: self.database.clone(),
            found,
            expected,
        })
    }

    /// Notes which database runs here.
    pub fn write(&self, life: Life) -> Result<(), MarkerError> {
        let written = Written {
            hub_epoch: life.hub_epoch,
            lease: life.lease,
        };
        let write = || -> io::Result<()> {
            let text = serde_json::to_vec(&written)?;
            write_whole(&self.path, &text)
        };
        write().map_err(|source| MarkerError::File {
            path: self.path.clone(),
            source,
        })
    }

    /// Notes now and then how far the database has come, as long as it changes.
    pub async fn keep(self, books: Books, mut stopping: watch::Receiver<bool>) {
        let mut changes = books.changes();
        while !*stopping.borrow() {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stopping.changed() => return,
            }
            if let Err(error) = self.renew(&books).await {
                let error: &dyn std::error::Error = &*error;
                error!(error, "Failed to note how far the database has come");
            }
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    async fn renew(&self, books: &Books) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let life = books.write(|books| books.renew_lease()).await?;
        let marker = self.clone();
        tokio::task::spawn_blocking(move || marker.write(life)).await??;
        Ok(())
    }
}

/// What a backup that is younger than this can hide: sales that tills will send again when they are
/// asked for the number that comes next.
const RENEW_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn life(hub_epoch: u64, lease: u64) -> Life {
        Life { hub_epoch, lease }
    }

    #[track_caller]
    fn check(marker: Option<&str>, found: Life, expect: &str) {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("hub.sqlite");
        if let Some(text) = marker {
            fs::write(dir.path().join("hub.sqlite.marker"), text).unwrap();
        }
        match Marker::of(&database).check(found) {
            Ok(()) => assert_eq!(expect, ""),
            Err(error) => {
                let said = error.to_string();
                assert!(!expect.is_empty() && said.contains(expect), "{said}");
                assert!(said.contains("hubd restore"), "{said}");
            }
        }
    }

    #[test]
    fn sy_25_a_database_that_is_older_than_its_marker_is_not_run() {
        let marker = Some("{\"hub_epoch\":7,\"lease\":40}");
        check(marker, life(7, 40), "");
        check(marker, life(7, 41), "");
        check(
            marker,
            life(7, 39),
            "an older copy of it (its life is 7 at 39",
        );
        check(
            marker,
            life(8, 41),
            "is not the database that ran here last",
        );
        check(Some("{"), life(7, 40), "is damaged");
        check(None, life(7, 1), "is not here");
        check(None, life(7, 0), "");
    }

    #[test]
    fn what_is_written_is_what_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::of(&dir.path().join("hub.sqlite"));
        marker.write(life(7, 3)).unwrap();
        assert!(marker.check(life(7, 3)).is_ok());
        assert!(marker.check(life(7, 2)).is_err());
    }

    #[test]
    fn two_programs_do_not_run_on_one_database() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::of(&dir.path().join("hub.sqlite"));
        let held = marker.hold().unwrap();
        assert!(matches!(marker.hold(), Err(MarkerError::InUse { .. })));
        drop(held);
        assert!(marker.hold().is_ok());
    }
}
