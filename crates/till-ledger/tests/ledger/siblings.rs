//! Two tills of a canteen while the hub is away: the one hears what the other has sold.

use canteen::Status;
use sync_proto::{Batch, Epoch, Record, Sibling, TillKey, TillReport};
use till_ledger::{EntryRange, Identity, LedgerError, Store};

use crate::world::*;

fn other_key() -> TillKey {
    TillKey::from_seed(&[9; 32])
}

/// The sibling: its own ledger, the same account.
fn open_other(till: &Till) -> Store {
    let identity = Identity {
        till: "kasse-2".parse().unwrap(),
        epoch: Epoch(0xBEEF),
        public_key: other_key().public(),
    };
    let path = till.dir.path().join("other.db");
    let mut store = Store::create(&path, &identity, options()).unwrap();
    let records = vec![
        (1, Record::Account(account(ANNA, kr(500), 0))),
        (2, chip(ANNA, Status::Active)),
    ];
    store.apply_page(&page(0, 2, records), till.now).unwrap();
    store
}

fn sell_at_other(till: &mut Till, other: &mut Store, kroner: i32) {
    let request = till.request(kr(kroner));
    let recorded = other.purchase(request, till.now).unwrap();
    assert!(shown(&recorded).starts_with("approve"), "{recorded:?}");
}

/// What the hub tells of the sibling when it has booked so much of it.
fn told(other: &Store, booked: u64) -> Sibling {
    let identity = other.identity().clone();
    let hash = other.reader().unwrap().hash_at(booked).unwrap();
    Sibling {
        till: identity.till,
        epoch: identity.epoch,
        public_key: identity.public_key,
        address: Some("http://127.0.0.1:8471".into()),
        accepted: sync_proto::Head { seq: booked, hash },
    }
}

fn tell(till: &mut Till, sibling: Sibling, record: Option<Record>) {
    let from = till.version;
    till.version += u64::from(record.is_some());
    let changes = record
        .map(|record| (from + 1, record))
        .into_iter()
        .collect();
    let mut page = page(from, till.version, changes);
    page.siblings = Some(vec![sibling]);
    let now = till.now;
    till.store().apply_page(&page, now).unwrap();
}

fn pulled(other: &Store, after: u64) -> Batch {
    let reader = other.reader().unwrap();
    let batch = reader.batch(after, 500, 1 << 20, &other_key(), TillReport::default());
    batch.unwrap().unwrap()
}

#[test]
fn what_a_sibling_has_sold_cannot_be_bought_for_again() {
    let mut till = Till::with(|a| {
        a.position = kr(100);
        a.limits.day = Some(kr(90));
    });
    let mut other = open_other(&till);
    tell(&mut till, told(&other, 0), None);
    sell_at_other(&mut till, &mut other, 60);
    assert_eq!(till.store().hear_sibling(&pulled(&other, 0)).unwrap(), 1);
    assert_eq!(till.tap(kr(41)), "limit_day none");
    assert_eq!(till.tap(kr(30)), "approve 10,00 none");
    assert_eq!(till.tap(kr(1)), "limit_day none");

    // The hub has booked the sibling's sale: its position contains it now, and nothing twice.
    let mut anna = account(ANNA, kr(40), 0);
    anna.limits.day = Some(kr(200));
    tell(&mut till, told(&other, 1), Some(Record::Account(anna)));
    assert_eq!(till.tap(kr(11)), "insufficient_funds none");
    assert_eq!(till.tap(kr(10)), "approve 0,00 none");
    till.verified();
}

#[test]
fn a_sibling_gives_nobody_a_ceiling() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(50)));
    let mut other = open_other(&till);
    tell(&mut till, told(&other, 0), None);
    sell_at_other(&mut till, &mut other, 100);
    till.store().hear_sibling(&pulled(&other, 0)).unwrap();
    assert_eq!(till.tap(kr(51)), "offline_allowance none");
    assert_eq!(till.tap(kr(50)), "approve 350,00 none");
    assert_eq!(till.tap(kr(1)), "offline_allowance none");
}

#[test]
fn entries_are_heard_in_their_order_and_from_nobody_else() {
    let mut till = Till::with(|_| {});
    let mut other = open_other(&till);
    for _ in 0..4 {
        sell_at_other(&mut till, &mut other, 10);
    }
    let stranger = till.store().hear_sibling(&pulled(&other, 0));
    assert!(matches!(stranger, Err(LedgerError::Sibling { .. })));
    tell(&mut till, told(&other, 1), None);
    for after in [0, 2] {
        let refused = till.store().hear_sibling(&pulled(&other, after));
        assert!(
            matches!(refused, Err(LedgerError::Sibling { .. })),
            "{after}"
        );
    }
    let mut forged = pulled(&other, 1);
    forged.entries[0].texts.body.push(' ');
    assert!(till.store().hear_sibling(&forged).is_err());
    assert_eq!(till.store().hear_sibling(&pulled(&other, 1)).unwrap(), 3);
    assert!(till.store().hear_sibling(&pulled(&other, 1)).is_err());
    assert_eq!(till.tap(kr(200)), "approve 270,00 none");
}

#[test]
fn after_a_restart_siblings_are_known_and_heard_anew() {
    let mut till = Till::with(|_| {});
    let mut other = open_other(&till);
    tell(&mut till, told(&other, 0), None);
    sell_at_other(&mut till, &mut other, 10);
    till.store().hear_sibling(&pulled(&other, 0)).unwrap();
    till.restart();
    assert_eq!(till.tap(kr(1)), "approve 499,00 none");
    till.store().hear_sibling(&pulled(&other, 0)).unwrap();
    assert_eq!(till.tap(kr(1)), "approve 488,00 none");
    let own = till.store().reader().unwrap();
    assert_eq!(own.entries(EntryRange::After(0), 9).unwrap().len(), 2);
}
