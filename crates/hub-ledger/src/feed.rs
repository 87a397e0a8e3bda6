//! What tills are told: a feed of changed records, and snapshots of all of them.
//!
//! For every record only the version of its newest change is kept. A page is made from the state
//! of this moment, so however often a record changed while a till was away, it is told once.

use std::io::{self, Write};

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};
use sync_proto::{
    AccountRecord, Change, ChipRecord, Epoch, FEED_PAGE_MAX, FeedPage, FeedPosition, FeedRefusal,
    HolderRecord, LimitSharesRecord, ProductRecord, Record, SnapshotHeader, SnapshotTrailer,
    TillPosition,
};

use crate::accounts::{AccountRow, find_account, find_holder};
use crate::agreements::top_up_record;
use crate::ceilings::{ceiling_of, move_issues, reissue};
use crate::chips::chip_by_uid;
use crate::error::LedgerError;
use crate::limit_shares::shares_of;
use crate::positions::{Ceilings, ceilings_for};
use crate::products::find_product;
use crate::siblings::{resend_wanted, siblings_of};
use crate::store::{HubReader, hub_position};
use crate::tenancy::CanteenId;
use crate::tills::{TillAccess, accepted_through};

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
    /// That the canteen's chip keys have changed.
    ChipKeys,
}

impl RecordKind {
    fn code(self) -> &'static str {
        match self {
            RecordKind::Account => "account",
            RecordKind::Chip => "chip",
            RecordKind::Holder => "holder",
            RecordKind::Product => "product",
            RecordKind::ChipKeys => "chip_keys",
        }
    }

    fn from_code(code: &str) -> Option<RecordKind> {
        [
            RecordKind::Account,
            RecordKind::Chip,
            RecordKind::Holder,
            RecordKind::Product,
            RecordKind::ChipKeys,
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
) -> Result<i64, LedgerError> {
    let rv: i64 = db
        .prepare_cached("UPDATE hub SET rv = rv + 1 RETURNING rv")?
        .query_row([], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO record (canteen, kind, id, rv) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (canteen, kind, id) DO UPDATE SET rv = ?4",
    )?
    .execute((canteen.0, kind.code(), id, rv))?;
    Ok(rv)
}

/// An account has changed: its ceilings are issued anew, and every till of the canteen hears of it.
pub(crate) fn touch_account(
    db: &Connection,
    canteen: CanteenId,
    account: AccountId,
) -> Result<i64, LedgerError> {
    reissue(db, account, None)?;
    touch_issued(db, canteen, account)
}

/// Gives an account's record the next version when its ceilings have been issued.
pub(crate) fn touch_issued(
    db: &Connection,
    canteen: CanteenId,
    account: AccountId,
) -> Result<i64, LedgerError> {
    let rv = touch(db, canteen, RecordKind::Account, &account.to_string())?;
    move_issues(db, account, rv)?;
    Ok(rv)
}

/// The version of an account's record.
pub(crate) fn account_version(
    db: &Connection,
    account: &AccountRow,
) -> Result<Option<u64>, LedgerError> {
    let rv: Option<i64> = db
        .prepare_cached("SELECT rv FROM record WHERE canteen = ?1 AND kind = ?2 AND id = ?3")?
        .query_row(
            (
                account.canteen.0,
                RecordKind::Account.code(),
                account.id.to_string(),
            ),
            |row| row.get(0),
        )
        .optional()?;
    Ok(rv.map(i64::cast_unsigned))
}

/// The record of one account for one till, with its ceiling.
pub(crate) fn account_change(
    db: &Connection,
    till: &TillAccess,
    epoch: Epoch,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Option<Change>, LedgerError> {
    let Some(rv) = account_version(db, account)? else {
        return Ok(None);
    };
    let pages = Pages::new(db, till, Ceilings::Given(epoch), now)?;
    Ok(Some(Change {
        rv,
        record: pages.account(account.id)?,
    }))
}

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
        let pages = Pages::new(&db, till, ceilings, now)?;
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
            siblings,
            resend: resend_wanted(&db, &till.till)?,
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
        let pages = Pages::new(&db, till, ceilings, now)?;
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

/// The first record that a till which cannot prove where it stands must not pass.
fn first_withheld(keys: &[Key], ceilings: Ceilings) -> Option<usize> {
    match ceilings {
        Ceilings::Given(_) | Ceilings::None => None,
        Ceilings::Withheld => keys.iter().position(|key| key.kind == RecordKind::Account),
    }
}

/// Makes records for one till, all from the same moment.
struct Pages<'a> {
    db: &'a Connection,
    till: &'a TillAccess,
    ceilings: Ceilings,
    canteen: CanteenId,
    incl_seq: u64,
    now: Timestamp,
}

impl<'a> Pages<'a> {
    fn new(
        db: &'a Connection,
        till: &'a TillAccess,
        ceilings: Ceilings,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        Ok(Pages {
            db,
            till,
            ceilings,
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
            RecordKind::ChipKeys => Record::ChipKeys,
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
            status_rv: account.status_rv,
            credit: account.credit,
            limits: account.limits.into(),
            spent: account.spent.into(),
            ceiling: self.ceiling(id)?,
            shares: self.shares(&account)?,
            top_up,
        }))
    }

    fn ceiling(&self, account: AccountId) -> Result<Option<Money>, LedgerError> {
        let Ceilings::Given(epoch) = self.ceilings else {
            return Ok(None);
        };
        let issued = ceiling_of(self.db, &self.till.till, epoch, account)?;
        Ok(issued.map(|(ceiling, _)| ceiling))
    }

    fn shares(&self, account: &AccountRow) -> Result<Option<LimitSharesRecord>, LedgerError> {
        match self.ceilings {
            Ceilings::Given(epoch) => shares_of(self.db, &self.till.till, epoch, account),
            Ceilings::Withheld | Ceilings::None => Ok(None),
        }
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
            must_prove: chip.key_version.is_some(),
            status_rv: chip.status_rv,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, kr, sale};
    use crate::{LimitsChange, NewProduct};

    /// What a till has after applying pages: every record under its own name.
    struct Replica {
        records: BTreeMap<String, Record>,
        at: FeedPosition,
    }

    impl Replica {
        fn apply(&mut self, change: Change) {
            match change.record {
                Record::Account(ref account) => {
                    self.records
                        .insert(format!("account {}", account.id), change.record);
                }
                Record::Chip(ref chip) => {
                    self.records
                        .insert(format!("chip {}", chip.uid), change.record);
                }
                Record::Holder(ref holder) => {
                    self.records
                        .insert(format!("holder {}", holder.account), change.record);
                }
                Record::Product(ref product) => {
                    self.records
                        .insert(format!("product {}", product.id), change.record);
                }
                Record::AccountGone { id } => drop(self.records.remove(&format!("account {id}"))),
                Record::ChipGone { uid } => drop(self.records.remove(&format!("chip {uid}"))),
                Record::HolderGone { account } => {
                    drop(self.records.remove(&format!("holder {account}")));
                }
                Record::ProductGone { id } => drop(self.records.remove(&format!("product {id}"))),
                Record::ChipKeys | Record::Unknown => {}
            }
        }

        fn catch_up(&mut self, bed: &Bed, till: &TestTill) {
            loop {
                let page = bed
                    .ledger
                    .feed(&till.access, self.at, None, NOW)
                    .unwrap()
                    .unwrap();
                let versions: Vec<u64> = page.changes.iter().map(|change| change.rv).collect();
                assert!(versions.is_sorted() && versions.iter().all(|rv| *rv > page.from));
                self.at.cursor = page.to;
                page.changes
                    .into_iter()
                    .for_each(|change| self.apply(change));
                if !page.more {
                    return;
                }
            }
        }

        fn of_snapshot(bed: &Bed, till: &TestTill) -> Replica {
            let text = snapshot(bed, till);
            let mut lines: Vec<&str> = text.lines().collect();
            let trailer: SnapshotTrailer = serde_json::from_str(lines.pop().unwrap()).unwrap();
            let header: SnapshotHeader = serde_json::from_str(lines.remove(0)).unwrap();
            let mut replica = Replica {
                records: BTreeMap::new(),
                at: FeedPosition {
                    hub_epoch: header.hub_epoch,
                    cursor: header.as_of,
                },
            };
            let before = text.rfind("{\"end\"").unwrap();
            assert_eq!(
                trailer.sha256,
                hex::encode(Sha256::digest(&text.as_bytes()[..before]))
            );
            assert_eq!(trailer.records, lines.len() as u64);
            assert!(trailer.end);
            for line in lines {
                replica.apply(serde_json::from_str(line).unwrap());
            }
            replica
        }
    }

    fn snapshot(bed: &Bed, till: &TestTill) -> String {
        let mut out = Vec::new();
        bed.ledger
            .snapshot(&till.access, None, NOW, &mut out)
            .unwrap()
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    fn start(bed: &Bed) -> FeedPosition {
        FeedPosition {
            hub_epoch: bed.ledger.hub_position().unwrap().0,
            cursor: 0,
        }
    }

    #[test]
    fn an_account_tells_each_till_which_of_its_own_entries_it_contains() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut one = bed.till("kasse-1");
        let two = bed.till("kasse-2");
        bed.send(
            &mut one,
            [sale(account, chip, kr(10)), sale(account, chip, kr(5))],
        );
        for (till, incl_seq) in [(&one, 2), (&two, 0)] {
            let page = bed
                .ledger
                .feed(&till.access, start(&bed), None, NOW)
                .unwrap()
                .unwrap();
            let record = page.changes.iter().find_map(|change| match &change.record {
                Record::Account(record) => Some(record),
                _ => None,
            });
            let record = record.expect("the account changed");
            assert_eq!((record.position, record.incl_seq), (kr(85), incl_seq));
            assert_eq!(record.spent.day, kr(15));
        }
    }

    #[test]
    fn a_record_that_changed_often_is_told_once_and_last() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let before = bed.ledger.hub_position().unwrap();
        for _ in 0..5 {
            bed.send(&mut till, [sale(account, chip, kr(1))]);
        }
        let from = FeedPosition {
            hub_epoch: before.0,
            cursor: before.1,
        };
        let page = bed
            .ledger
            .feed(&till.access, from, None, NOW)
            .unwrap()
            .unwrap();
        assert_eq!(page.changes.len(), 1);
        assert_eq!(
            (page.from, page.to, page.more),
            (before.1, before.1 + 5, false)
        );
    }

    #[test]
    fn a_cursor_of_another_hub_or_from_the_future_needs_a_snapshot() {
        let mut bed = Bed::new();
        bed.account(kr(1));
        let till = bed.till("kasse-1");
        let good = start(&bed);
        let (_, rv) = bed.ledger.hub_position().unwrap();
        for (hub_epoch, cursor, ok) in [
            (good.hub_epoch, 0, true),
            (good.hub_epoch, rv, true),
            (good.hub_epoch, rv + 1, false),
            (good.hub_epoch, u64::MAX, false),
            (good.hub_epoch + 1, 0, false),
            (0, 0, false),
        ] {
            let from = FeedPosition { hub_epoch, cursor };
            let page = bed.ledger.feed(&till.access, from, None, NOW).unwrap();
            let refused = page == Err(FeedRefusal::SnapshotRequired);
            assert_eq!(refused, !ok, "{from:?}");
        }
    }

    #[test]
    fn a_till_hears_of_its_own_canteen_only() {
        let mut bed = Bed::new();
        bed.account_elsewhere(kr(100));
        let till = bed.till("kasse-1");
        let page = bed
            .ledger
            .feed(&till.access, start(&bed), None, NOW)
            .unwrap()
            .unwrap();
        assert_eq!(page.changes, []);
        assert_eq!(snapshot(&bed, &till).lines().count(), 2);
    }

    #[test]
    fn long_feeds_come_in_pages() {
        let mut bed = Bed::new();
        let till = bed.till("kasse-1");
        bed.ledger
            .group(|ledger| {
                for n in 0..FEED_PAGE_MAX as i64 + 5 {
                    let product = NewProduct {
                        name: format!("Ret {n}"),
                        category: "Varmt".to_owned(),
                        price: kr(1),
                        position: n,
                    };
                    ledger
                        .create_product(CanteenId(till.access.canteen.0), &product)
                        .unwrap();
                }
            })
            .unwrap();
        let first = bed
            .ledger
            .feed(&till.access, start(&bed), None, NOW)
            .unwrap()
            .unwrap();
        assert_eq!((first.changes.len(), first.more), (FEED_PAGE_MAX, true));
        let next = FeedPosition {
            cursor: first.to,
            ..start(&bed)
        };
        let second = bed
            .ledger
            .feed(&till.access, next, None, NOW)
            .unwrap()
            .unwrap();
        assert_eq!((second.changes.len(), second.more), (5, false));
        let snapshot = Replica::of_snapshot(&bed, &till);
        assert_eq!(snapshot.records.len(), FEED_PAGE_MAX + 5);
    }

    #[test]
    fn a_replaced_chip_is_closed_at_the_tills_and_can_come_back_on_another_account() {
        let mut bed = Bed::new();
        let (account, number) = bed.account(kr(100));
        let (other, _) = bed.account(kr(5));
        let till = bed.till("kasse-1");
        let uid = bed.ledger.chips_of(account).unwrap()[0].uid;
        let new = bed.chip();
        let replaced = bed.ledger.replace_chip(number, &new, NOW).unwrap();
        let status = |bed: &Bed, uid| {
            let replica = Replica::of_snapshot(bed, &till);
            match &replica.records[&format!("chip {uid}")] {
                Record::Chip(chip) => (chip.number, chip.account, chip.status.code()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status(&bed, uid), (number, account, "closed"));
        assert_eq!(status(&bed, new.uid), (replaced, account, "active"));
        let again = crate::NewChip {
            uid,
            card: None,
            key_version: None,
        };
        let back = bed.ledger.add_chip(other, &again, NOW).unwrap();
        assert_eq!(status(&bed, uid), (back, other, "active"));
        assert_eq!(bed.balance(account), kr(100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// A till that followed the feed knows the same as one that takes a snapshot now.
        #[test]
        fn following_the_feed_is_as_good_as_a_snapshot(
            steps in prop::collection::vec((0u8..9, 0usize..4, any::<bool>()), 1..40),
        ) {
            let mut bed = Bed::new();
            let mut accounts: Vec<_> = (0..4).map(|_| bed.account(kr(100))).collect();
            let mut till = bed.till("kasse-1");
            let mut replica = Replica {
                records: BTreeMap::new(),
                at: start(&bed),
            };
            let mut products = Vec::new();
            for (step, who, look) in steps {
                let (account, chip) = accounts[who];
                match step {
                    0 => drop(bed.send(&mut till, [sale(account, chip, kr(3))])),
                    1 => bed.pay_in_if_open(account, kr(10)),
                    2 => drop(bed.ledger.block_chip(chip, NOW)),
                    3 => drop(bed.ledger.reactivate_chip(chip, NOW)),
                    4 => {
                        let new = bed.chip();
                        if let Ok(number) = bed.ledger.replace_chip(chip, &new, NOW) {
                            accounts[who].1 = number;
                        }
                    }
                    5 => {
                        let product = NewProduct {
                            name: format!("Ret {}", products.len()),
                            category: "Koldt".to_owned(),
                            price: kr(5),
                            position: 0,
                        };
                        products.push(bed.ledger.create_product(bed.canteen, &product).unwrap());
                    }
                    6 => {
                        if let Some(id) = products.get(who) {
                            drop(bed.ledger.delete_product(*id));
                        }
                    }
                    7 => {
                        let limits = LimitsChange {
                            day: Some(Some(kr(20))),
                            ..LimitsChange::default()
                        };
                        bed.ledger.change_limits(account, limits, NOW).unwrap();
                    }
                    _ => {
                        let left = bed.balance(account);
                        if left != Money::ZERO {
                            let key = bed.key();
                            let out = left.checked_neg().unwrap();
                            let correction = crate::Correction {
                                amount: out,
                                reason: "lukkes".to_owned(),
                                force: true,
                            };
                            drop(bed.ledger.correct(account, &correction, &key, NOW));
                        }
                        drop(bed.ledger.close_account(account, crate::Rest::Nothing, NOW));
                    }
                }
                if look {
                    replica.catch_up(&bed, &till);
                }
            }
            replica.catch_up(&bed, &till);
            let mut snapshot = Replica::of_snapshot(&bed, &till);
            prop_assert_eq!(snapshot.at, replica.at);
            // An account that did not change keeps an older `incl_seq`, which says the same.
            for record in replica.records.values_mut().chain(snapshot.records.values_mut()) {
                if let Record::Account(account) = record {
                    account.incl_seq = 0;
                }
            }
            prop_assert_eq!(replica.records, snapshot.records);
        }
    }
}
