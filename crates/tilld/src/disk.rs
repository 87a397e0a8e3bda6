//! Room on the disk: a ballast file is given up when the disk gets short, so that sales go on
//! while somebody makes room.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::event::Event;

/// The disk under the ledger.
pub(crate) struct Disk {
    dir: PathBuf,
    ballast_bytes: u64,
    short: watch::Sender<bool>,
}

impl Disk {
    /// Looks at the disk of a directory and lays the ballast down, if there is room for it.
    pub(crate) fn open(dir: &Path, ballast_bytes: u64) -> Disk {
        let disk = Disk {
            dir: dir.to_owned(),
            ballast_bytes,
            short: watch::Sender::new(false),
        };
        disk.look();
        disk
    }

    /// Whether the ballast had to be given up, or never found room.
    pub(crate) fn is_short(&self) -> bool {
        *self.short.borrow()
    }

    /// Looks at the disk for as long as the program runs, and tells when it gets short or is not
    /// any longer.
    pub(crate) async fn watch(&self, events: mpsc::Sender<Event>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look() && events.send(Event::Changed).await.is_err() {
                return;
            }
        }
    }

    /// Gives the ballast up or lays it down again; whether something has changed.
    fn look(&self) -> bool {
        let short = self.weigh().unwrap_or_else(|error| {
            warn!(%error, "Cannot see how much room the disk has");
            self.is_short()
        });
        self.short
            .send_if_modified(|told| std::mem::replace(told, short) != short)
    }

    fn weigh(&self) -> io::Result<bool> {
        let free = self.free_bytes()?;
        let keep = self.ballast_bytes.saturating_mul(FREE_PER_BALLAST);
        let ballast = self.dir.join(BALLAST);
        let has_ballast = fs::metadata(&ballast).is_ok_and(|file| file.len() == self.ballast_bytes);
        if has_ballast && free < keep {
            fs::remove_file(&ballast)?;
            warn!(free, "The disk is short; its ballast is given up");
            return Ok(true);
        }
        if has_ballast {
            return Ok(false);
        }
        if free < keep.saturating_add(self.ballast_bytes) {
            return Ok(true);
        }
        self.lay_down(&ballast)?;
        info!(free, "The disk has room; its ballast is laid down");
        Ok(false)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = statvfs(&self.dir)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Real blocks, not a hole: only those are room when they are given back.
    fn lay_down(&self, path: &Path) -> io::Result<()> {
        let bytes = i64::try_from(self.ballast_bytes).unwrap_or(i64::MAX);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        posix_fallocate(&file, 0, bytes)?;
        file.sync_all()
    }
}

/// As many times the ballast must be free beside it: 512 MiB with the default of 256 MiB.
const FREE_PER_BALLAST: u64 = 2;
const BALLAST: &str = "ballast";
const LOOK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn ballast_is_real_blocks_and_a_disk_too_small_for_it_is_short_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), 1 << 20);
        assert!(!disk.is_short());
        let file = fs::metadata(dir.path().join(BALLAST)).unwrap();
        assert_eq!(file.len(), 1 << 20);
        assert!(file.blocks() * 512 >= 1 << 20, "{} blocks", file.blocks());

        let other = tempfile::tempdir().unwrap();
        let disk = Disk::open(other.path(), 1 << 50);
        assert!(disk.is_short());
        assert!(!other.path().join(BALLAST).exists());
    }
}
