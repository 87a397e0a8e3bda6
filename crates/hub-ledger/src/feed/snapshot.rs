//! Everything that a new till needs, as lines of JSON with a checksum at the end.

use std::io::{self, Write};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sync_proto::{FEED_PAGE_MAX, Record, SnapshotHeader, SnapshotTrailer, TillPosition};

use super::changed_keys;
use super::records::Records;
use crate::error::LedgerError;
use crate::positions::{Ceilings, ceilings_for};
use crate::store::{HubReader, hub_position};
use crate::tills::TillAccess;

impl HubReader {
    /// Writes everything that a new till needs, as lines of JSON.
    pub fn snapshot(
        &self,
        till: &TillAccess,
        position: Option<&TillPosition>,
        now: Timestamp,
        out: &mut impl Write,
    ) -> Result<io::Result<()>, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let ceilings = ceilings_for(&db, till, position, now)?;
        if ceilings == Ceilings::Withheld {
            // Cut short, it counts for nothing, and the till asks again from where it stands now.
            return Ok(Err(io::Error::other(
                "the till has moved on since it asked",
            )));
        }
        let (hub_epoch, as_of) = hub_position(&db)?;
        let records = Records::new(&db, till, ceilings, now)?;
        let mut lines = Lines {
            out,
            hasher: Sha256::new(),
        };
        let header = SnapshotHeader {
            hub_epoch,
            as_of,
            hub_time: now.to_string(),
        };
        if let Err(error) = lines.write(&header) {
            return Ok(Err(error));
        }
        let mut cursor = 0;
        let mut written = 0;
        loop {
            let keys = changed_keys(&db, till.canteen, cursor, FEED_PAGE_MAX)?;
            let Some(last) = keys.last() else { break };
            cursor = last.rv;
            for key in &keys {
                let change = records.change(key)?;
                if is_gone(&change.record) {
                    continue;
                }
                written += 1;
                if let Err(error) = lines.write(&change) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(lines.finish(written))
    }
}

/// A new till need not hear of what is gone.
fn is_gone(record: &Record) -> bool {
    match record {
        Record::AccountGone { .. }
        | Record::ChipGone { .. }
        | Record::HolderGone { .. }
        | Record::ProductGone { .. } => true,
        Record::Account(_)
        | Record::Chip(_)
        | Record::Holder(_)
        | Record::Product(_)
        | Record::ChipKeys
        | Record::Unknown => false,
    }
}

struct Lines<'a, W> {
    out: &'a mut W,
    hasher: Sha256,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, line: &impl serde::Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hasher.update(&bytes);
        self.out.write_all(&bytes)
    }

    fn finish(self, records: u64) -> io::Result<()> {
        let trailer = SnapshotTrailer {
            end: true,
            records,
            sha256: hex::encode(self.hasher.finalize()),
        };
        let mut bytes = serde_json::to_vec(&trailer)?;
        bytes.push(b'\n');
        self.out.write_all(&bytes)
    }
}
