//! The tills of a canteen as they know of each other, and where their entries can be fetched.
//!
//! Tills of one canteen hear of each other's sales through the hub. When the line to it is down, a
//! till may fetch them from the other till itself; the marks in its last page say which of them its
//! balances contain already.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{Batch, EntryHash, Epoch, Head, Resend, Sibling, TillId, TillPublicKey};

use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, HubReader, millis};
use crate::tills::{TillAccess, till_by_name, till_from};

/// A till whose entries the hub can fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// Which till.
    pub access: TillAccess,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// Where it serves its entries.
    pub address: String,
    /// The hub has its entries up to here.
    pub accepted_through: u64,
}

impl HubLedger {
    /// Asks a till for entries once more; it hears of it with its next page.
    pub fn ask_for_resend(&mut self, till: &TillId, wanted: Resend) -> Result<(), LedgerError> {
        let number = |seq| i64::try_from(seq).unwrap_or(i64::MAX);
        let db = self.change()?;
        let changed = db.execute(
            "UPDATE till SET resend_from = ?2, resend_to = ?3 WHERE id = ?1",
            (
                till.as_str(),
                number(wanted.from_seq),
                number(wanted.to_seq),
            ),
        )?;
        if changed == 0 {
            return Err(Refusal::not_found("till", till).into());
        }
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// The tills that serve their entries and were not heard since a moment.
    pub fn silent_tills(&self, since: Timestamp) -> Result<Vec<Reachable>, LedgerError> {
        self.reachable("(t.seen_at IS NULL OR t.seen_at < ?1)", millis(since))
    }

    /// A till that serves its entries; `None` when it says no address.
    pub fn reachable_till(&self, till: &TillId) -> Result<Option<Reachable>, LedgerError> {
        let found = self.reachable("t.id = ?1", till.as_str())?;
        Ok(found.into_iter().next())
    }

    fn reachable(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Vec<Reachable>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT t.id, e.epoch, t.address, e.seq
             FROM till t JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
             WHERE t.address IS NOT NULL AND t.revoked_at IS NULL AND {condition} ORDER BY t.id"
        ))?;
        let mut rows = statement.query([value])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let till = till_from(&row.get::<_, String>(0)?)?;
            let Some(access) = till_by_name(&self.db, &till)? else {
                continue;
            };
            found.push(Reachable {
                access,
                epoch: Epoch(row.get::<_, i64>(1)?.cast_unsigned()),
                address: row.get(2)?,
                accepted_through: row.get::<_, i64>(3)?.cast_unsigned(),
            });
        }
        Ok(found)
    }
}

/// The other tills of the canteen, with what the books contain of each.
pub(crate) fn siblings_of(db: &Connection, till: &TillAccess) -> Result<Vec<Sibling>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT t.id, e.epoch, e.public_key, t.address, e.seq, e.hash
         FROM till t JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
         WHERE t.canteen = ?1 AND t.id <> ?2 AND t.revoked_at IS NULL ORDER BY t.id",
    )?;
    let mut rows = statement.query((till.canteen.0, till.till.as_str()))?;
    let mut siblings = Vec::new();
    while let Some(row) = rows.next()? {
        siblings.push(Sibling {
            till: till_from(&row.get::<_, String>(0)?)?,
            epoch: Epoch(row.get::<_, i64>(1)?.cast_unsigned()),
            public_key: TillPublicKey(row.get(2)?),
            address: row.get(3)?,
            accepted: Head {
                seq: row.get::<_, i64>(4)?.cast_unsigned(),
                hash: EntryHash(row.get(5)?),
            },
        });
    }
    Ok(siblings)
}

/// The entries that a till is to send once more.
pub(crate) fn resend_wanted(db: &Connection, till: &TillId) -> Result<Option<Resend>, LedgerError> {
    let wanted: Option<(Option<i64>, Option<i64>)> = db
        .prepare_cached("SELECT resend_from, resend_to FROM till WHERE id = ?1")?
        .query_row([till.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match wanted {
        Some((Some(from), Some(to))) => Some(Resend {
            from_seq: from.cast_unsigned(),
            to_seq: to.cast_unsigned(),
        }),
        Some(_) | None => None,
    })
}

/// Entries have come: those that were wanted are wanted no more.
pub(crate) fn note_resent(db: &Connection, batch: &Batch) -> Result<(), LedgerError> {
    let Some(wanted) = resend_wanted(db, &batch.till)? else {
        return Ok(());
    };
    if batch.first_seq > wanted.from_seq || batch.head.seq < wanted.from_seq {
        return Ok(());
    }
    let rest = Resend {
        from_seq: batch.head.seq + 1,
        ..wanted
    };
    let rest = (rest.from_seq <= rest.to_seq).then_some(rest);
    db.prepare_cached("UPDATE till SET resend_from = ?2, resend_to = ?3 WHERE id = ?1")?
        .execute((
            batch.till.as_str(),
            rest.map(|rest| rest.from_seq.cast_signed()),
            rest.map(|rest| rest.to_seq.cast_signed()),
        ))?;
    Ok(())
}

/// A till's word on where its entries can be fetched, if it can be an address at all.
pub(crate) fn plausible_address(address: &str) -> Option<&str> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))?;
    let host_only = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let plausible = !rest.is_empty() && address.len() <= ADDRESS_MAX && rest.bytes().all(host_only);
    plausible.then_some(address)
}

const ADDRESS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_nothing_else() {
        for good in [
            "http://10.0.0.7:8074",
            "https://kasse-1.example",
            "http://[::1]:8074",
        ] {
            assert_eq!(plausible_address(good), Some(good));
        }
        let long = format!("http://{}", "k".repeat(200));
        for bad in [
            "",
            "http://",
            "ftp://kasse-1",
            "http://kasse-1/v1",
            "http://k@h",
            "http://k h",
            &long,
        ] {
            assert_eq!(plausible_address(bad), None, "{bad}");
        }
    }
}
