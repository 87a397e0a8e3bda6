//! What tills are told: a feed of changed records, and snapshots of all of them.
//!
//! For every record only the version of its newest change is kept. A page is made from the state
//! of this moment, so however often a record changed while a till was away, it is told once.

use std::io::{self, Write};

use canteen::AccountId;
use jiff::Timestamp;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use sync_proto::{
    AccountRecord, Change, ChipRecord, FEED_PAGE_MAX, FeedPage, FeedPosition, FeedRefusal,
    HolderRecord, ProductRecord, Record, SnapshotHeader, SnapshotTrailer,
};

use crate::accounts::{AccountRow, find_account, find_holder};
use crate::chips::chip_by_uid;
use crate::error::LedgerError;
use crate::products::find_product;
use crate::store::{HubReader, hub_position};
use crate::tenancy::CanteenId;
use crate::tills::{TillAccess, accepted_through};
use crate::top_ups::top_up_record;

/// The kinds of records that tills replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// An account, by its number.
    Account,
    /// A chip, by its UID.
    Chip,
    /// A holder, by the account's number.
    Holder,
    /// A product, by its number.
    Product,
}

impl RecordKind {
    fn code(self) -> &'static str {
        match self {
            RecordKind::Account => "account",
            RecordKind::Chip => "chip",
            RecordKind::Holder => "holder",
            RecordKind::Product => "product",
        }
    }

    fn from_code(code: &str) -> Option<RecordKind> {
        [
            RecordKind::Account,
            RecordKind::Chip,
            RecordKind::Holder,
            RecordKind::Product,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// Gives a record the next version, so that every till of the canteen hears of it.
pub(crate) fn touch(
    db: &Connection,
    canteen: CanteenId,
    kind: RecordKind,
    id: &str,
) -> Result<(), LedgerError> {
    let rv: i64 = db
        .prepare_cached("UPDATE hub SET rv = rv + 1 RETURNING rv")?
        .query_row([], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO record (canteen, kind, id, rv) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (canteen, kind, id) DO UPDATE SET rv = ?4",
    )?
    .execute((canteen.0, kind.code(), id, rv))?;
    Ok(())
}

impl HubReader {
    /// The changes after a cursor, at most a page of them.
    pub fn feed(
        &self,
        till: &TillAccess,
        from: FeedPosition,
        now: Timestamp,
    ) -> Result<Result<FeedPage, FeedRefusal>, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let (hub_epoch, rv) = hub_position(&db)?;
        if from.hub_epoch != hub_epoch || from.cursor > rv {
            return Ok(Err(FeedRefusal::SnapshotRequired));
        }
        let mut keys = changed_keys(&db, till.canteen, from.cursor, FEED_PAGE_MAX + 1)?;
        let more = keys.len() > FEED_PAGE_MAX;
        keys.truncate(FEED_PAGE_MAX);
        let to = match keys.last() {
            Some(last) if more => last.rv,
            Some(_) | None => rv,
        };
        let pages = Pages::new(&db, till, now)?;
        let changes = keys
            .iter()
            .map(|key| pages.change(key))
            .collect::<Result<_, _>>()?;
        Ok(Ok(FeedPage {
            hub_epoch,
            from: from.cursor,
            to,
            more,
            hub_time: now.to_string(),
            changes,
        }))
    }

    /// Whether anything of the canteen has changed after a cursor.
    pub fn has_changes(&self, canteen: CanteenId, after: u64) -> Result<bool, LedgerError> {
        Ok(!changed_keys(&self.db, canteen, after, 1)?.is_empty())
    }

    /// Writes everything that a new till needs, as lines of JSON.
    pub fn snapshot(
        &self,
        till: &TillAccess,
        now: Timestamp,
        out: &mut impl Write,
    ) -> Result<io::Result<()>, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let (hub_epoch, as_of) = hub_position(&db)?;
        let pages = Pages::new(&db, till, now)?;
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
        let mut records = 0;
        loop {
            let keys = changed_keys(&db, till.canteen, cursor, FEED_PAGE_MAX)?;
            let Some(last) = keys.last() else { break };
            cursor = last.rv;
            for key in &keys {
                let change = pages.change(key)?;
                if is_gone(&change.record) {
                    continue;
                }
                records += 1;
                if let Err(error) = lines.write(&change) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(lines.finish(records))
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

/// Makes records for one till, all from the same moment.
struct Pages<'a> {
    db: &'a Connection,
    canteen: CanteenId,
    incl_seq: u64,
    now: Timestamp,
}

impl<'a> Pages<'a> {
    fn new(db: &'a Connection, till: &TillAccess, now: Timestamp) -> Result<Self, LedgerError> {
        Ok(Pages {
            db,
            canteen: till.canteen,
            incl_seq: accepted_through(db, &till.till)?,
            now,
        })
    }

    fn change(&self, key: &Key) -> Result<Change, LedgerError> {
        let record = match key.kind {
            RecordKind::Account => self.account(account_number(&key.id)?)?,
            RecordKind::Chip => self.chip(&key.id)?,
            RecordKind::Holder => self.holder(account_number(&key.id)?)?,
            RecordKind::Product => self.product(&key.id)?,
        };
        Ok(Change { rv: key.rv, record })
    }

    fn account(&self, id: AccountId) -> Result<Record, LedgerError> {
        let Some(account) = find_account(self.db, id)? else {
            return Ok(Record::AccountGone { id });
        };
        let top_up = top_up_record(self.db, &account, self.now)?;
        Ok(Record::Account(AccountRecord {
            id,
            position: account.balance,
            incl_seq: self.incl_seq,
            status: account.status,
            credit: account.credit,
            limits: account.limits.into(),
            spent: account.spent.into(),
            ceiling: None,
            top_up,
        }))
    }

    fn chip(&self, uid: &str) -> Result<Record, LedgerError> {
        let Some(chip) = chip_by_uid(self.db, self.canteen, uid)? else {
            return Err(LedgerError::Unreadable { what: "chip" });
        };
        Ok(Record::Chip(ChipRecord {
            number: chip.number,
            uid: chip.uid,
            card: chip.card,
            account: chip.account,
            status: chip.status,
        }))
    }

    fn holder(&self, account: AccountId) -> Result<Record, LedgerError> {
        Ok(match find_holder(self.db, account)? {
            None => Record::HolderGone { account },
            Some(holder) => Record::Holder(HolderRecord {
                account,
                name: holder.name,
                photo: holder.photo,
            }),
        })
    }

    fn product(&self, id: &str) -> Result<Record, LedgerError> {
        let id: i64 = id
            .parse()
            .map_err(|_| LedgerError::Unreadable { what: "product" })?;
        Ok(match find_product(self.db, id)? {
            None => Record::ProductGone { id },
            Some(row) => Record::Product(ProductRecord {
                id,
                name: row.product.name,
                category: row.product.category,
                price: row.product.price,
                position: row.product.position,
            }),
        })
    }
}

pub(crate) fn touch_account(db: &Connection, account: &AccountRow) -> Result<(), LedgerError> {
    touch(
        db,
        account.canteen,
        RecordKind::Account,
        &account.id.to_string(),
    )
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
        | Record::Unknown => false,
    }
}

fn account_number(id: &str) -> Result<AccountId, LedgerError> {
    id.parse()
        .map(AccountId)
        .map_err(|_| LedgerError::Unreadable { what: "account" })
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
