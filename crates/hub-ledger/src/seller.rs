//! A till for the tests that heeds its ceilings, as the till's program does.

use std::collections::BTreeMap;

use canteen::{AccountId, Money};
use jiff::Timestamp;
use sync_proto::{
    AccountState, AuthoriseRequest, Change, EntryBody, FeedAck, FeedPage, FeedPosition,
    FeedRecords, FeedRefusal, Record, StateReport,
};

use crate::testbed::{Bed, NOW, TestTill, ore, sale};
use crate::{Asking, OfflineBounds};

/// A till that sells within the ceilings that it was given, as the till's program does.
#[derive(Clone)]
pub(crate) struct Seller {
    pub(crate) till: TestTill,
    /// By account: the version of the record and the ceiling in force.
    pub(crate) ceilings: BTreeMap<i64, (u64, Option<i64>)>,
    /// By account: what it has sold, gross.
    pub(crate) gross: BTreeMap<i64, i64>,
    /// The last entry that the hub has acknowledged.
    pub(crate) acked: u64,
    /// Sales that the hub has not booked: number, account, amount.
    pub(crate) sales: Vec<(u64, i64, i64)>,
}

impl Seller {
    pub(crate) fn new(bed: &mut Bed, name: &str) -> Seller {
        let mut seller = Seller {
            till: bed.till(name),
            ceilings: BTreeMap::new(),
            gross: BTreeMap::new(),
            acked: 0,
            sales: Vec::new(),
        };
        seller.fetch_snapshot(bed);
        seller
    }

    pub(crate) fn fetch_snapshot(&mut self, bed: &mut Bed) {
        let position = self.till.position(self.acked);
        bed.ledger
            .receive(&self.till.access, Asking::Snapshot, Some(&position), NOW)
            .unwrap()
            .unwrap();
        let mut out = Vec::new();
        bed.ledger
            .snapshot(&self.till.access, Some(&position), NOW, &mut out)
            .unwrap()
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut lines = text.lines();
        let header: sync_proto::SnapshotHeader =
            serde_json::from_str(lines.next().unwrap()).unwrap();
        if header.hub_epoch != self.till.feed.hub_epoch {
            // Versions of another life say nothing.
            self.ceilings.values_mut().for_each(|known| known.0 = 0);
        }
        for line in lines {
            if let Ok(change) = serde_json::from_str::<Change>(line) {
                self.apply_change(&change);
            }
        }
        self.till.feed = FeedPosition {
            hub_epoch: header.hub_epoch,
            cursor: header.as_of,
        };
    }

    /// Asks for what has changed.
    pub(crate) fn ask(&self, bed: &mut Bed, now: Timestamp) -> Result<FeedPage, FeedRefusal> {
        let position = self.till.position(self.acked);
        let (access, from) = (&self.till.access, self.till.feed);
        let asking = Asking::Feed(from);
        let received = bed
            .ledger
            .is_received(access, asking, Some(&position), now)
            .unwrap();
        if !received {
            bed.ledger
                .receive(access, asking, Some(&position), now)
                .unwrap()?;
        }
        bed.ledger.feed(access, from, Some(&position), now).unwrap()
    }

    pub(crate) fn apply(&mut self, page: &FeedPage) {
        if page.from > self.till.feed.cursor || page.to <= self.till.feed.cursor {
            return;
        }
        for change in &page.changes {
            self.apply_change(change);
        }
        self.till.feed.cursor = page.to;
    }

    pub(crate) fn apply_change(&mut self, change: &Change) {
        let Record::Account(record) = &change.record else {
            return;
        };
        let known = self.ceilings.entry(record.id.0).or_default();
        if change.rv > known.0 {
            *known = (change.rv, record.ceiling.map(Money::ore).or(known.1));
        }
    }

    pub(crate) fn catch_up(&mut self, bed: &mut Bed) {
        let page = self.ask(bed, NOW).unwrap();
        self.apply(&page);
    }

    pub(crate) fn ceiling(&self, account: AccountId) -> Option<i64> {
        self.ceilings
            .get(&account.0)
            .and_then(|(_, ceiling)| *ceiling)
    }

    /// What the ceiling in force still allows.
    pub(crate) fn left(&self, account: AccountId) -> Money {
        let gross = self.gross.get(&account.0).copied().unwrap_or(0);
        ore(self.ceiling(account).unwrap_or(0) - gross)
    }

    /// Sells if the ceiling in force allows it.
    pub(crate) fn sell(&mut self, (account, chip): (AccountId, i64), amount: Money) -> bool {
        if amount > self.left(account) {
            return false;
        }
        self.till.write(sale(account, chip, amount));
        *self.gross.entry(account.0).or_default() += amount.ore();
        self.sales
            .push((self.till.last_seq(), account.0, amount.ore()));
        true
    }

    /// What the till's program does when the hub shows a new life: a snapshot, a report of what it
    /// may sell, and the acknowledgement, at once.
    pub(crate) fn meet_new_life(&mut self, bed: &mut Bed) {
        self.fetch_snapshot(bed);
        self.write_report(1, 1);
        self.write_feed_ack();
    }

    /// Reports all accounts in one part of several.
    pub(crate) fn write_report(&mut self, part: u32, parts: u32) {
        let accounts = self
            .ceilings
            .iter()
            .map(|(account, (_, ceiling))| AccountState {
                account: AccountId(*account),
                ceiling: ceiling.map(ore),
                gross: ore(self.gross.get(account).copied().unwrap_or(0)),
            });
        let report = StateReport {
            hub_epoch: self.till.feed.hub_epoch,
            part,
            parts,
            accounts: accounts.collect(),
        };
        self.till.write(EntryBody::StateReport(report));
    }

    pub(crate) fn write_feed_ack(&mut self) {
        self.till.write(EntryBody::FeedAck(FeedAck::default()));
    }

    /// Sends entries, or nothing when there are none.
    pub(crate) fn push(&mut self, bed: &mut Bed, entries: u64) {
        let booked = crate::tills::accepted_through(&bed.ledger.db, &self.till.access.till);
        let booked = booked.unwrap();
        let last = self.till.last_seq().min(booked.saturating_add(entries));
        if booked == last {
            return;
        }
        bed.ingest(&self.till, &self.till.batch(booked + 1..=last))
            .unwrap();
        self.sales.retain(|(seq, _, _)| *seq > last);
        bed.check_books();
    }

    /// Sends everything and hears of it.
    pub(crate) fn push_all(&mut self, bed: &mut Bed) {
        self.push(bed, u64::MAX);
        self.acked = self.till.last_seq();
    }

    pub(crate) fn authorise(
        &self,
        bed: &mut Bed,
        account: AccountId,
        need: Money,
    ) -> Option<FeedRecords> {
        let request = AuthoriseRequest {
            account,
            need,
            entry_id: uuid::Uuid::nil(),
            position: self.till.position(self.acked),
        };
        bed.ledger
            .authorise(&self.till.access, &request, NOW)
            .unwrap()
            .unwrap()
    }

    pub(crate) fn unbooked(&self, account: AccountId) -> i64 {
        self.sales
            .iter()
            .filter(|(_, whose, _)| *whose == account.0)
            .map(|(_, _, amount)| amount)
            .sum()
    }
}

pub(crate) fn bound(bed: &mut Bed, overspend_max: Money, till_max: Money) {
    bed.ledger
        .bound_offline_sales(
            OfflineBounds {
                overspend_max,
                till_max,
            },
            &[],
        )
        .unwrap();
}

pub(crate) fn sellers<const N: usize>(bed: &mut Bed) -> [Seller; N] {
    let mut n = 0;
    [(); N].map(|()| {
        n += 1;
        Seller::new(bed, &format!("kasse-{n}"))
    })
}
