//! Backups of the hub: what a verified one contains, tills may forget.
//!
//! The hub does not make backups itself. Whoever does tells when one begins, and when it was read
//! back and found whole; entries that had come by the beginning are safe from then on.

use jiff::Timestamp;

use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, millis};

/// A backup's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupId(pub i64);

impl HubLedger {
    /// A backup begins: everything that is stored by now will be in it.
    pub fn begin_backup(&mut self, now: Timestamp) -> Result<BackupId, LedgerError> {
        let db = self.change()?;
        let id = db.query_row(
            "INSERT INTO backup (began_at) VALUES (?1) RETURNING id",
            [millis(now)],
            |row| row.get(0),
        )?;
        db.execute(
            "INSERT INTO backup_mark (backup, till, epoch, seq)
             SELECT ?1, till, epoch, seq FROM till_epoch",
            [id],
        )?;
        db.commit()?;
        Ok(BackupId(id))
    }

    /// The backup was read back and is whole. Doing so again changes nothing.
    pub fn backup_is_verified(&mut self, id: BackupId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let known = db.execute(
            "UPDATE backup SET verified_at = coalesce(verified_at, ?2) WHERE id = ?1",
            (id.0, millis(now)),
        )?;
        if known == 0 {
            return Err(Refusal::not_found("backup", id.0).into());
        }
        db.execute(
            "UPDATE till_epoch SET durable_through = max(durable_through, m.seq) FROM backup_mark m
             WHERE m.backup = ?1 AND m.till = till_epoch.till AND m.epoch = till_epoch.epoch",
            [id.0],
        )?;
        Ok(db.commit()?)
    }
}
