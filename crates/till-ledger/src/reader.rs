//! Reading beside the writer: what the cashier, the technician and the upload look at.

use std::collections::HashMap;
use std::path::Path;

use canteen::{Account, AccountId, BusinessDay, ChipId, ChipNumber, Status};
use rusqlite::{Connection, OptionalExtension, Row};
use sync_proto::{
    Batch, EntryBody, EntryError, EntryHash, EntryHeader, EntryTexts, HolderRecord, ProductRecord,
    TillKey, TillReport, Void,
};
use uuid::Uuid;

use crate::account::{account_row, money, status};
use crate::day_report::{DayTotals, day_totals};
use crate::entry_row::{entry_at, read_entry};
use crate::error::LedgerError;
use crate::identity::{Identity, read_identity};
use crate::void::SaleLeft;
use crate::{file, upload};

/// A connection that only reads. Each call sees one state of the ledger; keep none of them long,
/// or the writer's log cannot be begun anew.
#[derive(Debug)]
pub struct Reader {
    pub(crate) connection: Connection,
    pub(crate) identity: Identity,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub texts: EntryTexts,
    /// Its hash.
    pub hash: EntryHash,
}

impl StoredEntry {
    /// Header and body; fails on kinds of newer programs.
    pub fn read(&self) -> Result<(EntryHeader, EntryBody), EntryError> {
        self.texts.read()
    }
}

/// Which entries to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryRange {
    /// The oldest ones after a number, oldest first.
    After(u64),
    /// The newest ones before a number, newest first.
    Before(u64),
}

/// An entry of the cashier's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentEntry {
    /// Its number.
    pub seq: u64,
    /// When and under which id.
    pub header: EntryHeader,
    /// What happened; `None` for kinds of newer programs.
    pub body: Option<EntryBody>,
    /// What is left of it, if it is a sale.
    pub left: Option<SaleLeft>,
}

/// A chip with all that a cashier or a technician may see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipView {
    /// Its UID.
    pub chip: ChipId,
    /// The hub's number of it.
    pub number: i64,
    /// The number printed on the card.
    pub card: Option<String>,
    /// Whether it may buy.
    pub status: Status,
    /// Whether it must prove itself: its bare UID does not pay.
    pub must_prove: bool,
    /// The account that it pays from; `None` when the till does not know it (yet).
    pub account: Option<Account>,
    /// The holder's name.
    pub holder: Option<String>,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Reader, LedgerError> {
        let connection = file::open_reader(path)?;
        let identity = read_identity(&connection)?;
        let identity = identity.ok_or_else(|| LedgerError::NotFound {
            path: path.to_owned(),
        })?;
        Ok(Reader {
            connection,
            identity,
        })
    }

    /// Whose ledger it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The entry with a number.
    pub fn entry(&self, seq: u64) -> Result<Option<StoredEntry>, LedgerError> {
        let found = self.entries(EntryRange::After(seq.saturating_sub(1)), 1)?;
        Ok(found.into_iter().find(|entry| entry.seq == seq))
    }

    /// The number of the last entry; 0 when there is none.
    pub fn last_seq(&self) -> Result<u64, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT coalesce(max(seq), 0) FROM entry")?;
        let seq: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(seq.cast_unsigned())
    }

    /// The hash up to and with an entry; up to none of them with 0.
    pub fn hash_at(&self, seq: u64) -> Result<EntryHash, LedgerError> {
        if seq == 0 {
            return Ok(self.identity.genesis());
        }
        let entry = self.entry(seq)?.ok_or(LedgerError::Corrupt { seq })?;
        Ok(entry.hash)
    }

    /// The entry with an id, however old it is.
    pub fn entry_by_id(&self, id: Uuid) -> Result<Option<StoredEntry>, LedgerError> {
        // In this order: what is indexed in between is found in both places, not in neither.
        let indexed_through: i64 = self
            .connection
            .prepare_cached("SELECT indexed_through FROM progress")?
            .query_row([], |row| row.get(0))?;
        let indexed: Option<i64> = self
            .connection
            .prepare_cached(INDEXED)?
            .query_row([id.into_bytes()], |row| row.get(0))
            .optional()?;
        match indexed {
            Some(seq) => self.entry(seq.cast_unsigned()),
            None => self.unindexed_by_id(id, indexed_through.cast_unsigned()),
        }
    }

    /// SQLite looks for the id in the headers' text, since reading each header would take as long
    /// as all the rest of a sale.
    fn unindexed_by_id(&self, id: Uuid, after: u64) -> Result<Option<StoredEntry>, LedgerError> {
        let mut statement = self.connection.prepare_cached(UNINDEXED_NAMING)?;
        let mut rows = statement.query((after.cast_signed(), id.to_string()))?;
        while let Some(row) = rows.next()? {
            let (seq, texts, hash) = read_entry(row)?;
            if texts.read_header().is_ok_and(|header| header.id == id) {
                return Ok(Some(StoredEntry { seq, texts, hash }));
            }
        }
        Ok(None)
    }

    /// At most `limit` entries of a range.
    pub fn entries(
        &self,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, LedgerError> {
        let (sql, bound) = match range {
            EntryRange::After(seq) => (ENTRIES_AFTER, seq),
            EntryRange::Before(seq) => (ENTRIES_BEFORE, seq),
        };
        let bound = i64::try_from(bound).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((bound, limit), |row| {
            let (seq, texts, hash) = read_entry(row)?;
            Ok(StoredEntry { seq, texts, hash })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest entries, newest first.
    pub fn recent(&self, limit: usize) -> Result<Vec<RecentEntry>, LedgerError> {
        let mut voids: HashMap<u64, Vec<Void>> = HashMap::new();
        let mut recent = Vec::new();
        for entry in self.entries(EntryRange::Before(u64::MAX), limit)? {
            // A damaged entry has nothing to show.
            let Ok(header) = entry.texts.read_header() else {
                continue;
            };
            let body = match entry.read() {
                Ok((_, body)) => Some(body),
                Err(EntryError::UnknownKind { .. }) => None,
                Err(EntryError::Header(_) | EntryError::Body(_)) => continue,
            };
            if let Some(EntryBody::Void(void)) = &body {
                voids.entry(void.of_seq).or_default().push(void.clone());
            }
            // Voids are younger than their sale, so they have been seen already.
            let left = match &body {
                Some(EntryBody::Sale(sale)) => {
                    let mut voids = voids.get(&entry.seq).into_iter().flatten();
                    voids.try_fold(SaleLeft::of(sale), SaleLeft::after)
                }
                Some(_) | None => None,
            };
            recent.push(RecentEntry {
                seq: entry.seq,
                header,
                body,
                left,
            });
        }
        Ok(recent)
    }

    /// A chip by any number that people know it by.
    pub fn chip(&self, number: ChipNumber) -> Result<Option<ChipView>, LedgerError> {
        let found = match number {
            ChipNumber::Chip(chip) => self
                .connection
                .prepare_cached(CHIP_BY_UID)?
                .query_row([chip.as_bytes()], read_chip)
                .optional()?,
            ChipNumber::Card(card) => self
                .connection
                .prepare_cached(CHIP_BY_CARD)?
                .query_row([card.to_string()], read_chip)
                .optional()?,
        };
        let Some(columns) = found else {
            return Ok(None);
        };
        let Ok(chip) = ChipId::from_known(&columns.uid) else {
            return Ok(None);
        };
        Ok(Some(ChipView {
            chip,
            number: columns.number,
            card: columns.card,
            status: columns.status,
            must_prove: columns.must_prove,
            account: self.account(columns.account)?,
            holder: self.holder(columns.account)?.map(|holder| holder.name),
        }))
    }

    /// Whether any chip of the canteen must prove itself.
    pub fn any_must_prove(&self) -> Result<bool, LedgerError> {
        Ok(self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM chip WHERE must_prove)")?
            .query_row([], |row| row.get(0))?)
    }

    /// An account with this till's own entries counted in.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, LedgerError> {
        let row = account_row(&self.connection, id)?;
        Ok(row.filter(|row| row.known).map(|row| row.account()))
    }

    /// The person behind an account, as the cashier sees them.
    pub fn holder(&self, account: AccountId) -> Result<Option<HolderRecord>, LedgerError> {
        let holder = self
            .connection
            .prepare_cached("SELECT name, photo FROM holder WHERE account = ?1")?
            .query_row([account.0], |row| {
                Ok(HolderRecord {
                    account,
                    name: row.get(0)?,
                    photo: row.get(1)?,
                })
            })
            .optional()?;
        Ok(holder)
    }

    /// The cashier's buttons, in their order.
    pub fn products(&self) -> Result<Vec<ProductRecord>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, name, category, price, position FROM product ORDER BY position, id",
        )?;
        let products = statement.query_map([], |row| {
            Ok(ProductRecord {
                id: row.get(0)?,
                name: row.get(1)?,
                category: row.get(2)?,
                price: money(row, 3)?,
                position: row.get(4)?,
            })
        })?;
        Ok(products.collect::<Result<_, _>>()?)
    }

    /// The next batch for the hub after `acked`; `None` when it has everything.
    pub fn batch(
        &self,
        acked: u64,
        max_entries: usize,
        max_bytes: usize,
        key: &TillKey,
        report: TillReport,
    ) -> Result<Option<Batch>, LedgerError> {
        let most = (max_entries, max_bytes);
        upload::batch(&self.connection, &self.identity, acked, most, key, report)
    }

    /// The totals of a business day up to an entry.
    pub fn day_totals(&self, day: BusinessDay, through_seq: u64) -> Result<DayTotals, LedgerError> {
        day_totals(&self.connection, day, through_seq)
    }

    /// When an entry was written, by the till's wall clock (RFC 3339).
    pub(crate) fn written_at(&self, seq: u64) -> Result<Option<String>, LedgerError> {
        match entry_at(&self.connection, seq)? {
            Some(texts) => Ok(Some(texts.read_header()?.ts)),
            None => Ok(None),
        }
    }
}

/// A row of `chip` before its account and holder are looked up.
struct ChipColumns {
    uid: Vec<u8>,
    number: i64,
    account: AccountId,
    status: Status,
    card: Option<String>,
    must_prove: bool,
}

fn read_chip(row: &Row<'_>) -> rusqlite::Result<ChipColumns> {
    Ok(ChipColumns {
        uid: row.get(0)?,
        number: row.get(1)?,
        account: AccountId(row.get(2)?),
        status: status(row, 3)?,
        card: row.get(4)?,
        must_prove: row.get(5)?,
    })
}

const INDEXED: &str = "SELECT seq FROM entry_id WHERE id = ?1";
const UNINDEXED_NAMING: &str = "SELECT seq, header, body, hash FROM entry
     WHERE seq > ?1 AND instr(header, ?2) > 0 ORDER BY seq";
const ENTRIES_AFTER: &str =
    "SELECT seq, header, body, hash FROM entry WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const ENTRIES_BEFORE: &str =
    "SELECT seq, header, body, hash FROM entry WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
const CHIP_BY_UID: &str =
    "SELECT uid, number, account, status, card, must_prove FROM chip WHERE uid = ?1";
const CHIP_BY_CARD: &str = "SELECT uid, number, account, status, card, must_prove FROM chip WHERE card = ?1 ORDER BY rv DESC LIMIT 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let mut file = Connection::open_in_memory().unwrap();
        file::make_tables(&mut file).unwrap();
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.raw_query().mapped(|row| row.get::<_, String>(3));
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert_eq!(steps, [expected], "{sql}");
    }

    #[test]
    fn an_id_is_looked_up_in_the_index_and_among_the_entries_after_it_only() {
        check(INDEXED, "SEARCH entry_id USING PRIMARY KEY (id=?)");
        let tail = "SEARCH entry USING INTEGER PRIMARY KEY (rowid>?)";
        check(UNINDEXED_NAMING, tail);
    }

    #[test]
    fn what_a_sale_or_a_list_reads_is_found_by_an_index() {
        let after = "SEARCH entry USING INTEGER PRIMARY KEY (rowid>?)";
        check(ENTRIES_AFTER, after);
        let before = "SEARCH entry USING INTEGER PRIMARY KEY (rowid<?)";
        check(ENTRIES_BEFORE, before);
        check(CHIP_BY_UID, "SEARCH chip USING PRIMARY KEY (uid=?)");
    }
}
