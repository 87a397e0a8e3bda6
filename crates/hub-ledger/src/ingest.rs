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

use crate::branches::{Line, Place, begin_branch, move_branch, place};
use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::forgotten_epochs::begin_forgotten_epoch;
use crate::limit_shares::reach_day;
use crate::siblings::note_resent;
use crate::store::{HubLedger, hub_position};
use crate::tills::{
    TillAccess, Watermark, durable_through, move_watermark, note_report, till_by_name, watermark,
};
use crate::top_up_rules::TopUpRules;

mod intake;
mod quarantine;
mod sales;
mod voids;

use intake::{Intake, Reading};
pub use quarantine::Reread;

impl HubLedger {
    /// Stores and books what a till has sent, or says why nothing of it was stored.
    pub fn ingest(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        self.ingest_main(access, batch, Reading::Whole, now)
    }

    /// Stores what a till has sent without reading it, so that an entry which this program cannot
    /// live with keeps no other back.
    pub fn ingest_raw(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        self.ingest_main(access, batch, Reading::Nothing, now)
    }

    fn ingest_main(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
        reading: Reading,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        if batch.till != access.till {
            return Ok(Err(BatchRefusal::NotEnrolled));
        }
        let (mark, hashes) = match check(&db, batch)? {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = match known_entries(&db, batch, &hashes, &mark)? {
            Ok(known) => known,
            Err(refusal) => {
                note_fork(&db, access, batch, &refusal, now)?;
                db.commit()?;
                return Ok(Err(refusal));
            }
        };
        let delivery = Delivery {
            access,
            batch,
            hashes: &hashes,
            line: Line::Main,
            reading,
            known,
        };
        let mut answer = delivery.store(&db, &rules, now)?;
        if known == hashes.len() {
            answer.accepted = Head {
                seq: mark.seq,
                hash: mark.hash,
            };
        }
        note_report(&db, &batch.till, &batch.report, now)?;
        note_resent(&db, batch)?;
        db.commit()?;
        Ok(Ok(answer))
    }

    /// Stores and books entries of any epoch of a till, without its token: the signature over their
    /// head is enough. What the main chain has no room for is kept in a branch.
    pub fn ingest_branch(
        &mut self,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let Some(access) = till_by_name(&db, &batch.till)? else {
            return Ok(Err(BatchRefusal::NotEnrolled));
        };
        let checked = match check(&db, batch)? {
            // A store that was put back to an older state forgets epochs.
            Err(BatchRefusal::NotEnrolled) => {
                begin_forgotten_epoch(&db, &access, batch, now)?.ok_or(BatchRefusal::NotEnrolled)
            }
            checked => checked,
        };
        let (mark, hashes) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (line, known) = match place(&db, batch, &hashes, &mark)? {
            Place::On { line, known } => (line, known),
            Place::Off { from, known } => {
                let branch = begin_branch(&db, &access, batch.epoch, &from, now)?;
                (Line::Branch(branch), known)
            }
            // Nothing can stand before the first entry but the beginning.
            Place::Nowhere { .. } if batch.first_seq == 1 => {
                return Ok(Err(BatchRefusal::BadChain));
            }
            Place::Nowhere { expected } => return Ok(Err(BatchRefusal::Gap { expected })),
        };
        let delivery = Delivery {
            access: &access,
            batch,
            hashes: &hashes,
            line,
            reading: Reading::Whole,
            known,
        };
        let answer = delivery.store(&db, &rules, now)?;
        db.commit()?;
        Ok(Ok(answer))
    }
}

/// What the hub has of the batch's epoch, and the hashes of its entries, when they hold together.
fn check(
    db: &Connection,
    batch: &Batch,
) -> Result<Result<(Watermark, Vec<EntryHash>), BatchRefusal>, LedgerError> {
    // No ledger ever gets that long, and numbers beyond it cannot be stored.
    if i64::try_from(batch.first_seq.saturating_add(batch.entries.len() as u64)).is_err() {
        return Ok(Err(BatchRefusal::BadChain));
    }
    let Some(mark) = watermark(db, &batch.till, batch.epoch)? else {
        return Ok(Err(BatchRefusal::NotEnrolled));
    };
    Ok(match batch.verify(&mark.key) {
        Ok(hashes) => Ok((mark, hashes)),
        Err(error) => Err(refusal(&error)),
    })
}

/// A checked batch, the chain that it belongs to, and how many of its entries are there already.
struct Delivery<'a> {
    access: &'a TillAccess,
    batch: &'a Batch,
    hashes: &'a [EntryHash],
    line: Line,
    reading: Reading,
    known: usize,
}

impl Delivery<'_> {
    /// Books what is new and moves the end of the chain.
    fn store(
        &self,
        db: &Connection,
        rules: &TopUpRules,
        now: Timestamp,
    ) -> Result<BatchAnswer, LedgerError> {
        let Delivery { batch, line, .. } = *self;
        let (known, fresh) = batch.entries.split_at(self.known);
        let duplicates = known.iter().map(|entry| EntryResult {
            seq: entry.seq,
            fate: EntryFate::Duplicate,
        });
        let mut results: Vec<EntryResult> = duplicates.collect();
        reach_day(db, now)?;
        let mut intake = Intake::begin(db, self.access, batch.epoch, line, now)?;
        intake.reading = self.reading;
        intake.holes = &batch.holes;
        results.extend(intake.take_all(fresh, &self.hashes[self.known..])?);
        let mut flagged = intake.finish(rules)?;
        for result in &mut results {
            if let Some(late) = flagged.remove(&result.seq) {
                add_codes(&mut result.fate, &late);
            }
        }
        if !fresh.is_empty() {
            let Head { seq, hash } = batch.head;
            match line {
                Line::Main => move_watermark(db, &batch.till, batch.epoch, seq, hash)?,
                Line::Branch(branch) => move_branch(db, branch, &batch.head)?,
            }
        }
        let (hub_epoch, _) = hub_position(db)?;
        Ok(BatchAnswer {
            hub_epoch,
            accepted: batch.head,
            durable_through: durable_through(db, &batch.till, batch.epoch)?,
            results,
            hub_time: now.to_string(),
        })
    }
}

/// Adds flags that follow from the order of all entries.
fn add_codes(fate: &mut EntryFate, late: &[&str]) {
    let late = late.iter().map(|code| (*code).to_owned());
    match fate {
        EntryFate::Booked => {
            *fate = EntryFate::Flagged {
                codes: late.collect(),
            };
        }
        EntryFate::Flagged { codes } => codes.extend(late),
        EntryFate::Duplicate | EntryFate::Quarantined { .. } => {}
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
        .prepare_cached("SELECT 1 FROM flag WHERE code = 'fork' AND till = ?1 AND epoch = ?2")?
        .exists((batch.till.as_str(), batch.epoch.0.cast_signed()))?;
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
        "the till sent other entries up to {} under numbers that are stored already (epoch {}, agreed \
         through {agreed_through}); its disk was copied or restored: enrol it anew",
        batch.head.seq, batch.epoch
    );
    raise_flag(db, "fork", &origin, None, None, &detail, now)
}

#[cfg(test)]
mod tests;
