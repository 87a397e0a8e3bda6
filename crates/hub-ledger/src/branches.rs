//! Branches: what a copied or restored disk has written beside the main chain of its epoch.
//!
//! The first entry that comes under a number belongs to the main chain. Other entries under the same
//! numbers are kept apart and booked all the same, once by their ids: goods were served for them.
//! Since every hash covers all entries before it, one equal hash says where a branch begins.
//!
//! A branch counts no sales against ceilings and acknowledges none: the machine that writes the main
//! chain knows nothing of it, and its rights go on as they are.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{Batch, EntryHash, Epoch, Head, TillId};
use uuid::Uuid;

use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::ingest::stored_hash;
use crate::store::millis;
use crate::tills::{TillAccess, Watermark};

/// Which chain of an epoch an entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The one that came first.
    Main,
    /// One that was kept apart, by its number.
    Branch(i64),
}

/// Where the entries of a batch belong.
pub(crate) enum Place {
    /// So many of them are here already, and the rest goes on a chain.
    On { line: Line, known: usize },
    /// So many of them are here already, and the rest begins a branch after an entry.
    Off { from: Head, known: usize },
    /// Nothing before them is known: the till tries again from this number.
    Nowhere { expected: u64 },
}

/// Finds out where the entries of a checked batch belong.
pub(crate) fn place(
    db: &Connection,
    batch: &Batch,
    hashes: &[EntryHash],
    mark: &Watermark,
) -> Result<Place, LedgerError> {
    let before = Head {
        seq: batch.first_seq - 1,
        hash: batch.prev_hash,
    };
    let entries = (batch.first_seq..).zip(hashes);
    let entries = entries.map(|(seq, &hash)| Head { seq, hash });
    let heads: Vec<Head> = std::iter::once(before).chain(entries).collect();
    for (known, head) in heads.iter().enumerate().rev() {
        let Some(line) = line_of(db, batch, mark, head)? else {
            continue;
        };
        let end = match line {
            Line::Main => mark.seq,
            Line::Branch(branch) => end_of(db, branch)?,
        };
        return Ok(if head.seq == end || known == hashes.len() {
            Place::On { line, known }
        } else {
            Place::Off { from: *head, known }
        });
    }
    // Half the way back finds the last entry that both have in a few steps.
    let expected = match before.seq > mark.seq {
        true => mark.seq + 1,
        false => (batch.first_seq / 2).max(1),
    };
    Ok(Place::Nowhere { expected })
}

/// Begins a branch, and lets everybody know.
pub(crate) fn begin_branch(
    db: &Connection,
    access: &TillAccess,
    epoch: Epoch,
    from: &Head,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    let till = &access.till;
    if !has_branches(db, till)? {
        index_entries(db, till)?;
    }
    let branch: i64 = db.query_row(
        "INSERT INTO branch (till, epoch, from_seq, from_hash, seq, hash, began_at)
         VALUES (?1, ?2, ?3, ?4, ?3, ?4, ?5) RETURNING id",
        (
            till.as_str(),
            epoch.0.cast_signed(),
            from.seq.cast_signed(),
            from.hash.0,
            millis(now),
        ),
        |row| row.get(0),
    )?;
    let origin = Origin {
        tenant: access.tenant,
        till: Some(till.as_str()),
        epoch: Some(epoch),
        seq: Some(from.seq + 1),
    };
    let detail = format!(
        "the till has other entries from {} on than those that are stored (epoch {epoch}): its disk \
         was copied or restored; they are kept apart and booked once by their ids; enrol the till anew",
        from.seq + 1
    );
    raise_flag(db, "fork", &origin, None, None, &detail, now)?;
    Ok(branch)
}

/// Notes how far a branch goes by now.
pub(crate) fn move_branch(db: &Connection, branch: i64, head: &Head) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE branch SET seq = ?2, hash = ?3 WHERE id = ?1")?
        .execute((branch, head.seq.cast_signed(), head.hash.0))?;
    Ok(())
}

/// Whether the ids of a till's entries must be looked up before they are booked.
pub(crate) fn has_branches(db: &Connection, till: &TillId) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM branch WHERE till = ?1")?
        .exists([till.as_str()])?)
}

/// Where the entry with an id stands in the journal, of a till that has branches.
pub(crate) fn entry_by_id(
    db: &Connection,
    till: &TillId,
    id: Uuid,
) -> Result<Option<i64>, LedgerError> {
    Ok(db
        .prepare_cached("SELECT journal FROM entry_id WHERE till = ?1 AND id = ?2")?
        .query_row((till.as_str(), id.to_string()), |row| row.get(0))
        .optional()?)
}

/// Notes where an entry stands; the first one with an id keeps it.
pub(crate) fn index_entry(
    db: &Connection,
    till: &TillId,
    id: Uuid,
    journal: i64,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO entry_id (till, id, journal) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute((till.as_str(), id.to_string(), journal))?;
    Ok(())
}

/// The till gets its first branch: from now on its entries are found by their ids.
fn index_entries(db: &Connection, till: &TillId) -> Result<(), LedgerError> {
    let mut statement = db.prepare(
        "SELECT j.id, j.header FROM batch b
         CROSS JOIN journal j ON j.id >= b.first_id AND j.id < b.first_id + b.entries
         WHERE b.till = ?1",
    )?;
    let mut rows = statement.query([till.as_str()])?;
    while let Some(row) = rows.next()? {
        let header: String = row.get(1)?;
        if let Some(id) = id_of(&header) {
            index_entry(db, till, id, row.get(0)?)?;
        }
    }
    Ok(())
}

/// The id in an entry's header, also when the rest of it cannot be read.
pub(crate) fn id_of(header: &str) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: Uuid,
    }
    serde_json::from_str(header).ok().map(|Named { id }| id)
}

/// After which entry a ledger left the main chain, when one of these heads stands in a branch.
pub(crate) fn left_main_at(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    heads: &[Head],
) -> Result<Option<u64>, LedgerError> {
    if !has_branches(db, till)? {
        return Ok(None);
    }
    for head in heads {
        if branch_of(db, till, epoch, head)?.is_some() {
            let seq: i64 = db.query_row(
                "SELECT min(from_seq) FROM branch WHERE till = ?1 AND epoch = ?2",
                (till.as_str(), epoch.0.cast_signed()),
                |row| row.get(0),
            )?;
            return Ok(Some(seq.cast_unsigned()));
        }
    }
    Ok(None)
}

/// The chain that has an entry with this number and hash.
fn line_of(
    db: &Connection,
    batch: &Batch,
    mark: &Watermark,
    head: &Head,
) -> Result<Option<Line>, LedgerError> {
    if head.seq <= mark.seq
        && stored_hash(db, &batch.till, batch.epoch, mark, head.seq)? == Some(head.hash)
    {
        return Ok(Some(Line::Main));
    }
    let branch = branch_of(db, &batch.till, batch.epoch, head)?;
    Ok(branch.map(Line::Branch))
}

fn branch_of(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    head: &Head,
) -> Result<Option<i64>, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT r.id FROM branch r JOIN branch_batch b ON b.branch = r.id
             JOIN journal j ON j.id = b.first_id + (?3 - b.first_seq)
             WHERE r.till = ?1 AND r.epoch = ?2
               AND b.first_seq <= ?3 AND ?3 < b.first_seq + b.entries AND j.hash = ?4",
        )?
        .query_row(
            (
                till.as_str(),
                epoch.0.cast_signed(),
                head.seq.cast_signed(),
                head.hash.0,
            ),
            |row| row.get(0),
        )
        .optional()?)
}

/// The chain that a branch left, and the last entry that they share.
pub(crate) fn stem_of(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    branch: i64,
) -> Result<(Line, Head), LedgerError> {
    let head = db
        .prepare_cached("SELECT from_seq, from_hash FROM branch WHERE id = ?1")?
        .query_row([branch], |row| {
            Ok(Head {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                hash: EntryHash(row.get(1)?),
            })
        })?;
    let stem = branch_of(db, till, epoch, &head)?;
    Ok((stem.map_or(Line::Main, Line::Branch), head))
}

fn end_of(db: &Connection, branch: i64) -> Result<u64, LedgerError> {
    let seq: i64 = db
        .prepare_cached("SELECT seq FROM branch WHERE id = ?1")?
        .query_row([branch], |row| row.get(0))?;
    Ok(seq.cast_unsigned())
}

#[cfg(test)]
mod tests;
