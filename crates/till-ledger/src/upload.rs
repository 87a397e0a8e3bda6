//! What goes up to the hub, and what the hub says it has.
//!
//! The ledger is the outbox: what is sent is a number. That number is kept in memory and written
//! along with other things, because losing it only sends entries again.

use rusqlite::Connection;
use sync_proto::{Batch, Head, NumberedEntry, PROTO, TillKey, TillReport};

use crate::book::{Book, Identity, hash_at, read_entry};
use crate::error::LedgerError;

/// The next entries after `acked` as a batch; `None` when there are none.
///
/// At least one entry is taken however large it is, so that nothing can block the way for ever.
pub(crate) fn batch(
    connection: &Connection,
    identity: &Identity,
    acked: u64,
    most: (usize, usize),
    key: &TillKey,
    report: TillReport,
) -> Result<Option<Batch>, LedgerError> {
    let (max_entries, max_bytes) = most;
    let first_seq = acked + 1;
    let prev_hash = hash_at(connection, identity, acked)?;
    let mut statement = connection.prepare_cached(
        "SELECT seq, header, body, hash FROM entry WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
    )?;
    let limit = i64::try_from(max_entries.max(1)).unwrap_or(i64::MAX);
    let mut rows = statement.query((first_seq.cast_signed(), limit))?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let (mut head, mut expected) = (None, first_seq);
    let mut hash = prev_hash;
    while let Some(row) = rows.next()? {
        let (seq, texts, stored) = read_entry(row)?;
        hash = identity.next(&hash, expected, &texts);
        if seq != expected || stored != hash {
            return Err(LedgerError::Corrupt { seq: expected });
        }
        bytes += texts.header.len() + texts.body.len();
        if bytes > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push(NumberedEntry { seq, texts });
        head = Some(Head { seq, hash });
        expected += 1;
    }
    drop(rows);
    let Some(head) = head else { return Ok(None) };
    let last: i64 = connection.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0))?;
    Ok(Some(Batch {
        proto: PROTO,
        till: identity.till.clone(),
        epoch: identity.epoch,
        first_seq,
        prev_hash,
        entries,
        holes: Vec::new(),
        signature: head.sign(&identity.till, identity.epoch, key),
        head,
        report: TillReport {
            unsent: last.cast_unsigned().saturating_sub(head.seq),
            ..report
        },
    }))
}

impl Book {
    /// The hub has everything up to a head. Believed only when the head is this ledger's own.
    pub(crate) fn acknowledge(
        &mut self,
        accepted: Head,
        durable_through: u64,
    ) -> Result<(), LedgerError> {
        let foreign = LedgerError::ForeignWatermark { seq: accepted.seq };
        if accepted.seq > self.tip.head.seq {
            return Err(foreign);
        }
        if hash_at(&self.connection, &self.identity, accepted.seq)? != accepted.hash {
            return Err(foreign);
        }
        // An answer that comes late must not take back what a later one said.
        self.tip.acked = self.tip.acked.max(accepted.seq);
        self.tip.durable_through = durable_through.min(self.tip.acked);
        self.tip.unsaved = true;
        Ok(())
    }

    /// The hub wants to go on from an earlier entry than was acknowledged, as after a restore
    /// from a backup.
    pub(crate) fn resume_from(&mut self, expected: u64) -> Result<(), LedgerError> {
        let last_known = expected.saturating_sub(1);
        if last_known > self.tip.head.seq {
            return Err(LedgerError::HubAhead {
                expected,
                head: self.tip.head.seq,
            });
        }
        if last_known < self.tip.acked {
            self.tip.acked = last_known;
            self.tip.durable_through = self.tip.durable_through.min(last_known);
            self.save()?;
        }
        Ok(())
    }
}
