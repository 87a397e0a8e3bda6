use std::collections::BTreeMap;

use canteen::Money;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use sync_proto::{Change, Record, SnapshotHeader, SnapshotTrailer};

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
