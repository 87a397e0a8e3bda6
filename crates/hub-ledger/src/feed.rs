//! What tills are told: a feed of changed records, and snapshots of all of them.
//!
//! For every record only the version of its newest change is kept. A page is made from the state
//! of this moment, so however often a record changed while a till was away, it is told once.

use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{FEED_PAGE_MAX, FeedPage, FeedPosition, FeedRefusal, TillPosition};

use crate::error::LedgerError;
use crate::positions::{Ceilings, ceilings_for};
use crate::siblings::{resend_wanted, siblings_of};
use crate::store::{HubReader, hub_position};
use crate::tenancy::CanteenId;
use crate::tills::TillAccess;

mod records;
mod snapshot;
mod versions;

use self::records::Records;
pub(crate) use self::records::account_change;
pub(crate) use self::versions::{RecordKind, account_version, touch, touch_account, touch_issued};

impl HubReader {
    /// The changes after a cursor, at most a page of them. What [`HubReader::is_received`] tells
    /// comes first.
    ///
    /// A page may end before changes that there are: see [`HubReader::has_changes`].
    pub fn feed(
        &self,
        till: &TillAccess,
        from: FeedPosition,
        position: Option<&TillPosition>,
        now: Timestamp,
    ) -> Result<Result<FeedPage, FeedRefusal>, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let (hub_epoch, rv) = hub_position(&db)?;
        if from.hub_epoch != hub_epoch || from.cursor > rv {
            return Ok(Err(FeedRefusal::SnapshotRequired));
        }
        let mut keys = changed_keys(&db, till.canteen, from.cursor, FEED_PAGE_MAX + 1)?;
        let ceilings = ceilings_for(&db, till, position, now)?;
        let more = keys.len() > FEED_PAGE_MAX;
        keys.truncate(FEED_PAGE_MAX);
        let to = match keys.last() {
            Some(last) if more => last.rv,
            Some(_) | None => rv,
        };
        let (to, more, whole) = match first_withheld(&keys, ceilings) {
            Some(at) => {
                let to = keys[at].rv - 1;
                keys.truncate(at);
                (to, false, false)
            }
            None => (to, more, !more),
        };
        // Positions that are still to come contain less of the siblings' entries than is booked.
        let siblings = whole.then(|| siblings_of(&db, till)).transpose()?;
        let records = Records::new(&db, till, ceilings, now)?;
        let changes = keys
            .iter()
            .map(|key| records.change(key))
            .collect::<Result<_, _>>()?;
        Ok(Ok(FeedPage {
            hub_epoch,
            from: from.cursor,
            to,
            more,
            hub_time: now.to_string(),
            changes,
            siblings,
            resend: resend_wanted(&db, &till.till)?,
        }))
    }

    /// Whether anything of the canteen has changed after a cursor.
    pub fn has_changes(&self, canteen: CanteenId, after: u64) -> Result<bool, LedgerError> {
        Ok(!changed_keys(&self.db, canteen, after, 1)?.is_empty())
    }
}

struct Key {
    kind: RecordKind,
    id: String,
    rv: u64,
}

fn changed_keys(
    db: &Connection,
    canteen: CanteenId,
    after: u64,
    limit: usize,
) -> Result<Vec<Key>, LedgerError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(
        "SELECT kind, id, rv FROM record WHERE canteen = ?1 AND rv > ?2 ORDER BY rv LIMIT ?3",
    )?;
    let mut rows = statement.query((canteen.0, after, limit))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        keys.push(Key {
            kind: RecordKind::from_code(&kind).ok_or(LedgerError::Unreadable { what: "record" })?,
            id: row.get(1)?,
            rv: row.get::<_, i64>(2)?.cast_unsigned(),
        });
    }
    Ok(keys)
}

/// The first record that a till which cannot prove where it stands must not pass.
fn first_withheld(keys: &[Key], ceilings: Ceilings) -> Option<usize> {
    match ceilings {
        Ceilings::Given(_) | Ceilings::None => None,
        Ceilings::Withheld => keys.iter().position(|key| key.kind == RecordKind::Account),
    }
}

#[cfg(test)]
mod tests;
