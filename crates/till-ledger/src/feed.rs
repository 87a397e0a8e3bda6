//! What the hub says: pages of changes and whole snapshots, each applied in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use canteen::{AccountId, ChipId, Status};
use rusqlite::Connection;
use sync_proto::{
    AccountRecord, Change, ChipRecord, FeedPage, FeedPosition, FeedRecords, HolderRecord,
    LimitShareRecord, ProductRecord, Record, Sibling, SnapshotHeader,
};

use crate::account::{AccountRow, Moved, account_row, chip_by_uid, own_entries_after, put_account};
use crate::book::{Book, prepare};
use crate::error::LedgerError;
use crate::moment::{HubClock, Moment};
use crate::sibling;

/// What a page or a snapshot changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// How many records were new.
    pub records: usize,
    /// Somebody may no longer buy, or may again, or for less: the hub waits to hear that the till
    /// knows.
    pub urgent: bool,
    /// The cashier's buttons changed.
    pub products: bool,
}

impl Applied {
    fn and(&mut self, other: Applied) {
        self.records += other.records;
        self.urgent |= other.urgent;
        self.products |= other.products;
    }
}

impl Book {
    pub(crate) fn apply_page(
        &mut self,
        page: &FeedPage,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        let feed = self.tip.feed;
        let first_contact = feed == FeedPosition::default();
        if page.hub_epoch != feed.hub_epoch && !first_contact {
            return Err(LedgerError::OtherHubEpoch {
                ours: feed.hub_epoch,
                theirs: page.hub_epoch,
            });
        }
        if page.from > feed.cursor {
            return Err(LedgerError::FeedGap {
                cursor: feed.cursor,
                from: page.from,
            });
        }
        self.hear(&page.hub_time, now);
        let next = FeedPosition {
            hub_epoch: page.hub_epoch,
            cursor: page.to,
        };
        let siblings = page.siblings.as_deref();
        let siblings = siblings.filter(|told| *told != self.siblings.known());
        if page.to <= feed.cursor && next.hub_epoch == feed.hub_epoch {
            // The positions are those that are known; their siblings' marks may be newer.
            self.tell_siblings(siblings)?;
            return Ok(Applied::default());
        }
        let newer = page.changes.iter().filter(|change| change.rv > feed.cursor);
        let applied = self.follow(next, now, |book| {
            if let Some(told) = siblings {
                sibling::write(&book.connection, told)?;
            }
            Replica::page(book).apply(newer)
        })?;
        if let Some(told) = siblings {
            self.siblings.tell(told.to_vec());
        }
        Ok(applied)
    }

    fn tell_siblings(&mut self, siblings: Option<&[Sibling]>) -> Result<(), LedgerError> {
        let Some(told) = siblings else { return Ok(()) };
        self.alone(|book| sibling::write(&book.connection, told))?;
        self.siblings.tell(told.to_vec());
        Ok(())
    }

    /// Records outside the order of pages: the cursor stays where it is, so that they count as
    /// applied only when the pages have passed them.
    pub(crate) fn apply_records(
        &mut self,
        records: &FeedRecords,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        let feed = self.tip.feed;
        if records.hub_epoch != feed.hub_epoch {
            return Err(LedgerError::OtherHubEpoch {
                ours: feed.hub_epoch,
                theirs: records.hub_epoch,
            });
        }
        self.follow(feed, now, |book| {
            Replica::page(book).apply(&records.changes)
        })
    }

    pub(crate) fn apply_snapshot<'a>(
        &mut self,
        header: &SnapshotHeader,
        changes: impl IntoIterator<Item = &'a Change>,
        now: Moment,
    ) -> Result<Applied, LedgerError> {
        let feed = self.tip.feed;
        self.hear(&header.hub_time, now);
        if header.hub_epoch == feed.hub_epoch && header.as_of < feed.cursor {
            return Ok(Applied::default());
        }
        let next = FeedPosition {
            hub_epoch: header.hub_epoch,
            cursor: header.as_of,
        };
        let counts_anew = header.hub_epoch != feed.hub_epoch;
        self.follow(next, now, |book| {
            let mut replica = Replica::snapshot(book, counts_anew);
            let mut applied = replica.apply(changes)?;
            applied.and(replica.remove_unseen()?);
            Ok(applied)
        })
    }

    fn hear(&mut self, hub_time: &str, now: Moment) {
        if let Some(clock) = HubClock::told(hub_time, now) {
            self.tip.hub_clock = Some(clock);
        }
    }

    /// Changes the replica and moves the cursor, both or neither. A hub that began a new life is
    /// told in the same transaction what this till is allowed: its answer to that must not come
    /// before the question.
    fn follow(
        &mut self,
        next: FeedPosition,
        now: Moment,
        change: impl FnOnce(&Book) -> Result<Applied, LedgerError>,
    ) -> Result<Applied, LedgerError> {
        let before = self.tip.feed;
        let began_anew = before.hub_epoch != 0 && next.hub_epoch != before.hub_epoch;
        self.tip.feed = next;
        let applied = self.alone(|book| {
            let applied = change(book)?;
            let report = began_anew.then(|| book.report_state(now)).transpose()?;
            book.save_progress(book.tip.indexed_through)?;
            Ok((applied, report))
        });
        match applied {
            Ok((applied, report)) => {
                if let Some(draft) = report {
                    draft.keep(&mut self.tip);
                }
                self.tip.unsaved = false;
                Ok(applied)
            }
            Err(error) => {
                self.tip.feed = before;
                Err(error)
            }
        }
    }
}

/// The replica while changes are applied to it.
struct Replica<'a> {
    connection: &'a Connection,
    /// A snapshot is the whole truth: it also counts where its versions are lower, and what is
    /// not in it is gone.
    whole: bool,
    /// Versions are those of another life of the hub, and compare to none that are known.
    counts_anew: bool,
    /// Own entries that are damaged.
    holes: &'a BTreeSet<u64>,
    /// The last own entry.
    last_seq: u64,
    accounts: BTreeSet<AccountId>,
    chips: BTreeSet<ChipId>,
    holders: BTreeSet<AccountId>,
    products: BTreeSet<i64>,
}

impl Replica<'_> {
    fn page(book: &Book) -> Replica<'_> {
        Replica {
            connection: &book.connection,
            whole: false,
            counts_anew: false,
            holes: &book.holes,
            last_seq: book.tip.head.seq,
            accounts: BTreeSet::new(),
            chips: BTreeSet::new(),
            holders: BTreeSet::new(),
            products: BTreeSet::new(),
        }
    }

    fn snapshot(book: &Book, counts_anew: bool) -> Replica<'_> {
        Replica {
            whole: true,
            counts_anew,
            ..Replica::page(book)
        }
    }

    /// The newest change of each account is kept back, so that the own entries are looked
    /// through once for all of them.
    fn apply<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c Change>,
    ) -> Result<Applied, LedgerError> {
        let mut applied = Applied::default();
        let mut accounts: BTreeMap<AccountId, (u64, Option<&AccountRecord>)> = BTreeMap::new();
        let mut newest = |id: AccountId, rv: u64, record| {
            let last = accounts.entry(id).or_insert((rv, record));
            if last.0 <= rv {
                *last = (rv, record);
            }
        };
        for change in changes {
            let rv = change.rv;
            let one = match &change.record {
                Record::Account(record) => {
                    newest(record.id, rv, Some(record));
                    continue;
                }
                Record::AccountGone { id } => {
                    newest(*id, rv, None);
                    continue;
                }
                Record::Chip(record) => self.chip(record, rv)?,
                Record::ChipGone { uid } => self.chip_gone(*uid, rv)?,
                Record::Holder(record) => self.holder(record, rv)?,
                Record::HolderGone { account } => self.holder_gone(*account, rv)?,
                Record::Product(record) => self.product(record, rv)?,
                Record::ProductGone { id } => self.product_gone(*id, rv)?,
                // The keys themselves come sealed, by another way.
                Record::ChipKeys | Record::Unknown => Applied::default(),
            };
            applied.and(one);
        }
        applied.and(self.apply_accounts(&accounts)?);
        Ok(applied)
    }

    fn apply_accounts(
        &mut self,
        changes: &BTreeMap<AccountId, (u64, Option<&AccountRecord>)>,
    ) -> Result<Applied, LedgerError> {
        let mut applied = Applied::default();
        let mut rows = Vec::new();
        for (id, (rv, record)) in changes {
            let before = account_row(self.connection, *id)?;
            if record.is_some() {
                self.accounts.insert(*id);
            }
            // A row that the hub had taken away has no version.
            let newest = before.as_ref().filter(|row| row.known).map(|row| row.rv);
            if !self.whole && newest.is_some_and(|newest| newest >= *rv) {
                continue;
            }
            let Some(record) = record else {
                applied.and(self.account_gone(before)?);
                continue;
            };
            let mut row = AccountRow::from_record(record, *rv, before.as_ref(), self.counts_anew);
            // Entries that this till has not written are a copy's: its own next ones are not among them.
            row.incl_seq = row.incl_seq.min(self.last_seq);
            applied.and(Applied {
                records: 1,
                urgent: before
                    .as_ref()
                    .is_some_and(|before| is_urgent(before, &row)),
                products: false,
            });
            rows.push(row);
        }
        self.lay_own_entries_over(&mut rows)?;
        rows.iter()
            .try_for_each(|row| put_account(self.connection, row))?;
        Ok(applied)
    }

    /// Adds to the hub's figures what the till wrote after the entries that they contain.
    fn lay_own_entries_over(&self, rows: &mut [AccountRow]) -> Result<(), LedgerError> {
        let overlaid = || rows.iter().filter(|row| row.has_overlay());
        let wanted: BTreeSet<AccountId> = overlaid().map(|row| row.id).collect();
        let after = overlaid().map(|row| row.incl_seq).min().unwrap_or(0);
        let entries = own_entries_after(self.connection, after, &wanted, self.holes)?;
        for row in rows {
            let own = entries.get(&row.id).map_or(&[][..], Vec::as_slice);
            let (mut gross, mut sold) = (Some(row.own.gross), Some(row.own.sold));
            for entry in own.iter().filter(|entry| entry.seq > row.incl_seq) {
                if let Moved::Sale(amount) = entry.what {
                    let back = amount.checked_neg();
                    gross = gross.and_then(|gross| gross.checked_sub(amount));
                    sold = sold.and_then(|sold| sold.plus(back?, entry.day));
                }
            }
            let range = || LedgerError::Range { account: row.id };
            row.gross_incl = gross.ok_or_else(range)?;
            row.sold_incl = sold.ok_or_else(range)?;
            row.fold(own)?;
        }
        Ok(())
    }

    fn account_gone(&self, before: Option<AccountRow>) -> Result<Applied, LedgerError> {
        let Some(row) = before.filter(|row| row.known) else {
            return Ok(Applied::default());
        };
        let sql = if row.has_history() {
            "UPDATE account SET known = 0 WHERE id = ?1"
        } else {
            "DELETE FROM account WHERE id = ?1"
        };
        prepare(self.connection, sql)?.execute([row.id.0])?;
        Ok(Applied {
            records: 1,
            urgent: true,
            products: false,
        })
    }

    fn chip(&mut self, record: &ChipRecord, rv: u64) -> Result<Applied, LedgerError> {
        self.chips.insert(record.uid);
        let before = chip_by_uid(self.connection, record.uid)?;
        let newer = before
            .as_ref()
            .filter(|chip| !self.counts_anew && chip.status_rv > record.status_rv);
        let status = newer.map_or(record.status, |chip| chip.status);
        let status_rv = newer.map_or(record.status_rv, |chip| chip.status_rv);
        let changed = prepare(
            self.connection,
            "INSERT INTO chip (uid, number, account, status, card, must_prove, rv, status_rv)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9)
             ON CONFLICT (uid) DO UPDATE SET number = excluded.number, account = excluded.account,
                 status = excluded.status, card = excluded.card,
                 must_prove = excluded.must_prove, rv = excluded.rv,
                 status_rv = excluded.status_rv
             WHERE excluded.rv > rv OR ?8",
        )?
        .execute((
            record.uid.as_bytes(),
            record.number,
            record.account.0,
            status.code(),
            record.card.map(|card| card.to_string()),
            record.must_prove,
            rv.cast_signed(),
            self.whole,
            status_rv.cast_signed(),
        ))?;
        Ok(Applied {
            records: changed,
            urgent: changed > 0
                && before.is_some_and(|before| {
                    before.status != status || before.account != record.account
                }),
            products: false,
        })
    }

    fn chip_gone(&self, uid: ChipId, rv: u64) -> Result<Applied, LedgerError> {
        let gone = prepare(
            self.connection,
            "DELETE FROM chip WHERE uid = ?1 AND rv < ?2",
        )?
        .execute((uid.as_bytes(), rv.cast_signed()))?;
        Ok(Applied {
            records: gone,
            urgent: gone > 0,
            products: false,
        })
    }

    fn holder(&mut self, record: &HolderRecord, rv: u64) -> Result<Applied, LedgerError> {
        self.holders.insert(record.account);
        // A snapshot mostly repeats photos that the till has; they are not written again.
        let changed = prepare(
            self.connection,
            "INSERT INTO holder (account, name, photo, rv) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (account) DO UPDATE SET name = excluded.name, photo = excluded.photo,
                 rv = excluded.rv
             WHERE excluded.rv > rv
                 OR (?5 AND (name, photo, rv)
                     IS NOT (excluded.name, excluded.photo, excluded.rv))",
        )?
        .execute((
            record.account.0,
            &record.name,
            &record.photo,
            rv.cast_signed(),
            self.whole,
        ))?;
        Ok(quiet(changed))
    }

    fn holder_gone(&self, account: AccountId, rv: u64) -> Result<Applied, LedgerError> {
        let gone = prepare(
            self.connection,
            "DELETE FROM holder WHERE account = ?1 AND rv < ?2",
        )?
        .execute((account.0, rv.cast_signed()))?;
        Ok(quiet(gone))
    }

    fn product(&mut self, record: &ProductRecord, rv: u64) -> Result<Applied, LedgerError> {
        self.products.insert(record.id);
        let changed = prepare(
            self.connection,
            "INSERT INTO product (id, name, category, price, position, rv)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, category = excluded.category,
                 price = excluded.price, position = excluded.position, rv = excluded.rv
             WHERE excluded.rv > rv OR ?7",
        )?
        .execute((
            record.id,
            &record.name,
            &record.category,
            record.price.ore(),
            record.position,
            rv.cast_signed(),
            self.whole,
        ))?;
        Ok(of_products(changed))
    }

    fn product_gone(&self, id: i64, rv: u64) -> Result<Applied, LedgerError> {
        let gone = prepare(
            self.connection,
            "DELETE FROM product WHERE id = ?1 AND rv < ?2",
        )?
        .execute((id, rv.cast_signed()))?;
        Ok(of_products(gone))
    }

    fn remove_unseen(&self) -> Result<Applied, LedgerError> {
        let mut applied = Applied::default();
        for id in self.keys("SELECT id FROM account WHERE known = 1")? {
            let id = AccountId(id);
            if !self.accounts.contains(&id) {
                applied.and(self.account_gone(account_row(self.connection, id)?)?);
            }
        }
        for id in self.keys("SELECT account FROM holder")? {
            if !self.holders.contains(&AccountId(id)) {
                applied.and(self.holder_gone(AccountId(id), u64::MAX >> 1)?);
            }
        }
        for id in self.keys("SELECT id FROM product")? {
            if !self.products.contains(&id) {
                applied.and(self.product_gone(id, u64::MAX >> 1)?);
            }
        }
        for uid in self.uids()? {
            if !self.chips.contains(&uid) {
                applied.and(self.chip_gone(uid, u64::MAX >> 1)?);
            }
        }
        Ok(applied)
    }

    fn keys(&self, sql: &str) -> Result<Vec<i64>, LedgerError> {
        let mut statement = prepare(self.connection, sql)?;
        let keys = statement.query_map([], |row| row.get(0))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn uids(&self) -> Result<Vec<ChipId>, LedgerError> {
        let mut statement = prepare(self.connection, "SELECT uid FROM chip")?;
        let bytes = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut uids = Vec::new();
        for uid in bytes {
            uids.extend(ChipId::from_known(&uid?).ok());
        }
        Ok(uids)
    }
}

fn quiet(records: usize) -> Applied {
    Applied {
        records,
        ..Applied::default()
    }
}

fn of_products(records: usize) -> Applied {
    Applied {
        records,
        urgent: false,
        products: records > 0,
    }
}

fn is_urgent(before: &AccountRow, after: &AccountRow) -> bool {
    let lowered = match (before.ceiling, after.ceiling) {
        (Some(before), Some(after)) => after < before,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let closed = |row: &AccountRow| !row.known || row.status != Status::Active;
    before.status != after.status
        || closed(before) != closed(after)
        || lowered
        || has_less_of_limits(before, after)
}

/// Whether less may be sold of strict limits than before.
fn has_less_of_limits(before: &AccountRow, after: &AccountRow) -> bool {
    let Some(after_shares) = &after.shares else {
        return before.limits.mode != after.limits.mode;
    };
    let Some(before_shares) = &before.shares else {
        return true;
    };
    let less =
        |before: Option<LimitShareRecord>, after: Option<LimitShareRecord>| match (before, after) {
            (Some(before), Some(after)) => {
                after.ceiling < before.ceiling || after.ahead < before.ahead
            }
            (None, Some(_)) => true,
            (_, None) => false,
        };
    less(before_shares.day, after_shares.day)
        || less(before_shares.week, after_shares.week)
        || less(before_shares.month, after_shares.month)
}
