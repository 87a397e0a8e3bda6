//! Taking in what tills have written.
//!
//! A batch is one transaction. The watermark of the till's epoch says what is here already: since
//! every hash covers all entries before it, one equal hash proves that everything up to it is
//! equal. What becomes of an entry is told in `ingest/intake.rs`.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{
    Batch, BatchAnswer, BatchError, BatchRefusal, EntryFate, EntryHash, EntryResult, Epoch, Head,
    TillId,
};

use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::store::{HubLedger, hub_position};
use crate::tills::{TillAccess, Watermark, move_watermark, note_report, watermark};

mod intake;
mod sales;
mod voids;

use intake::Intake;

impl HubLedger {
    /// Stores and books what a till has sent, or says why nothing of it was stored.
    pub fn ingest(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        if batch.till != access.till {
            return Ok(Err(BatchRefusal::NotEnrolled));
        }
        let Some(mark) = watermark(&db, &batch.till, batch.epoch)? else {
            return Ok(Err(BatchRefusal::NotEnrolled));
        };
        // No ledger ever gets that long, and numbers beyond it cannot be stored.
        if i64::try_from(batch.first_seq.saturating_add(batch.entries.len() as u64)).is_err() {
            return Ok(Err(BatchRefusal::BadChain));
        }
        let hashes = match batch.verify(&mark.key) {
            Ok(hashes) => hashes,
            Err(error) => return Ok(Err(refusal(&error))),
        };
        let known = match known_entries(&db, batch, &hashes, &mark)? {
            Ok(known) => known,
            Err(refusal) => {
                note_fork(&db, access, batch, &refusal, now)?;
                db.commit()?;
                return Ok(Err(refusal));
            }
        };
        let mut results: Vec<EntryResult> = batch.entries[..known]
            .iter()
            .map(|entry| EntryResult {
                seq: entry.seq,
                fate: EntryFate::Duplicate,
            })
            .collect();
        let (fresh, hashes) = (&batch.entries[known..], &hashes[known..]);
        let mut intake = Intake::begin(&db, access, batch.epoch, now)?;
        results.extend(intake.take_all(fresh, hashes)?);
        intake.finish(&rules)?;
        let accepted = match fresh.last() {
            Some(_) => batch.head,
            None => Head {
                seq: mark.seq,
                hash: mark.hash,
            },
        };
        if !fresh.is_empty() {
            move_watermark(&db, &batch.till, batch.epoch, accepted.seq, accepted.hash)?;
        }
        note_report(&db, &batch.till, &batch.report, now)?;
        let (hub_epoch, _) = hub_position(&db)?;
        db.commit()?;
        Ok(Ok(BatchAnswer {
            hub_epoch,
            accepted,
            // No backup of the hub has been verified by this program, so nothing may be pruned.
            durable_through: 0,
            results,
            hub_time: now.to_string(),
        }))
    }
}

fn refusal(error: &BatchError) -> BatchRefusal {
    match error {
        BatchError::TooMany { .. } => BatchRefusal::TooLarge,
        BatchError::Empty
        | BatchError::Numbering { .. }
        | BatchError::Chain { .. }
        | BatchError::Signature => BatchRefusal::BadChain,
    }
}

/// How many entries of the batch are stored already.
fn known_entries(
    db: &Connection,
    batch: &Batch,
    hashes: &[EntryHash],
    mark: &Watermark,
) -> Result<Result<usize, BatchRefusal>, LedgerError> {
    let before = batch.first_seq - 1;
    if before > mark.seq {
        return Ok(Err(BatchRefusal::Gap {
            expected: mark.seq + 1,
        }));
    }
    let known = usize::try_from(mark.seq - before)
        .unwrap_or(usize::MAX)
        .min(hashes.len());
    let (seq, theirs) = match known {
        0 => (before, batch.prev_hash),
        _ => (before + known as u64, hashes[known - 1]),
    };
    let stored = |seq| stored_hash(db, &batch.till, batch.epoch, mark, seq);
    if stored(seq)? == Some(theirs) {
        return Ok(Ok(known));
    }
    let mut agreed_through = 0;
    for (seq, hash) in (batch.first_seq..).zip(&hashes[..known]) {
        if stored(seq)? != Some(*hash) {
            break;
        }
        agreed_through = seq;
    }
    if agreed_through == 0 && stored(before)? == Some(batch.prev_hash) {
        agreed_through = before;
    }
    Ok(Err(BatchRefusal::Fork { agreed_through }))
}

/// The hash of an entry that is in the journal, or of what stands before the first one.
pub(crate) fn stored_hash(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    mark: &Watermark,
    seq: u64,
) -> Result<Option<EntryHash>, LedgerError> {
    if seq == mark.seq {
        return Ok(Some(mark.hash));
    }
    if seq == 0 {
        return Ok(Some(EntryHash::genesis(till, epoch, &mark.key)));
    }
    let Some(id) = journal_id(db, till, epoch, seq)? else {
        return Ok(None);
    };
    let hash = db
        .prepare_cached("SELECT hash FROM journal WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(hash.map(EntryHash))
}

/// Where an entry stands in the journal.
fn journal_id(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    seq: u64,
) -> Result<Option<i64>, LedgerError> {
    let Ok(seq) = i64::try_from(seq) else {
        return Ok(None);
    };
    Ok(db
        .prepare_cached(
            "SELECT first_id + (?3 - first_seq) FROM (
               SELECT first_id, first_seq, entries FROM batch
               WHERE till = ?1 AND epoch = ?2 AND first_seq <= ?3
               ORDER BY first_seq DESC LIMIT 1)
             WHERE ?3 < first_seq + entries",
        )?
        .query_row((till.as_str(), epoch.0.cast_signed(), seq), |row| {
            row.get(0)
        })
        .optional()?)
}

/// Two machines that write under one name are an alarm, not a line in a log.
fn note_fork(
    db: &Connection,
    access: &TillAccess,
    batch: &Batch,
    refusal: &BatchRefusal,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let BatchRefusal::Fork { agreed_through } = refusal else {
        return Ok(());
    };
    let known = db
        .prepare_cached(
            "SELECT 1 FROM flag WHERE code = 'fork' AND till = ?1 AND epoch = ?2 AND seq = ?3",
        )?
        .exists((
            batch.till.as_str(),
            batch.epoch.0.cast_signed(),
            batch.head.seq.cast_signed(),
        ))?;
    if known {
        return Ok(());
    }
    let origin = Origin {
        tenant: access.tenant,
        till: Some(batch.till.as_str()),
        epoch: Some(batch.epoch),
        seq: Some(batch.head.seq),
    };
    let detail = format!(
        "the till sent other entries under numbers that are stored already (agreed through \
         {agreed_through}); its disk was copied or restored: enrol it anew"
    );
    raise_flag(db, "fork", &origin, None, None, &detail, now)
}

#[cfg(test)]
mod tests;
