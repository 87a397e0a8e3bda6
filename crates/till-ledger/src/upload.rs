//! What goes up to the hub, and what the hub says it has.
//!
//! The ledger is the outbox: what is sent is a number. That number is kept in memory and written
//! along with other things, because losing it only sends entries again.

use rusqlite::Connection;
use sync_proto::{Batch, EntryTexts, Head, Hole, NumberedEntry, PROTO, TillKey, TillReport};

use crate::book::Book;
use crate::entry_row::hash_at;
use crate::error::LedgerError;
use crate::hole::{Chain, HOLE, Link};
use crate::identity::Identity;

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
    let max_entries = max_entries.max(1);
    // One more than is sent: what follows an entry tells whether it is whole.
    let limit = i64::try_from(max_entries).map_or(i64::MAX, |most| most.saturating_add(1));
    let rows = statement.query((first_seq.cast_signed(), limit))?;
    let mut chain = Chain::new(identity, first_seq, prev_hash, rows)?;
    let (mut entries, mut holes, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut head = None;
    while entries.len() < max_entries
        && let Some(link) = chain.next()?
    {
        let Link {
            seq,
            mut texts,
            hash,
            is_hole,
        } = link;
        if is_hole {
            texts = EntryTexts {
                header: String::new(),
                body: String::new(),
            };
            holes.push(Hole {
                seq,
                hash,
                reason: HOLE.to_owned(),
            });
        }
        bytes += texts.header.len() + texts.body.len();
        if bytes > max_bytes && !entries.is_empty() {
            holes.retain(|hole| hole.seq < seq);
            break;
        }
        entries.push(NumberedEntry { seq, texts });
        head = Some(Head { seq, hash });
    }
    drop(chain);
    let Some(head) = head else { return Ok(None) };
    let last: i64 = connection.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0))?;
    Ok(Some(Batch {
        proto: PROTO,
        till: identity.till.clone(),
        epoch: identity.epoch,
        first_seq,
        prev_hash,
        entries,
        holes,
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
