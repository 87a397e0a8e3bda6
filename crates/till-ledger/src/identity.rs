//! Whose ledger a file is.

use rusqlite::{Connection, OptionalExtension};
use sync_proto::{EntryHash, EntryTexts, Epoch, TillId, TillPublicKey};

use crate::error::LedgerError;

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
