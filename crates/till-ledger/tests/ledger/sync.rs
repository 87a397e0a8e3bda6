//! Between till and hub: batches, watermarks, snapshots.

use canteen::{AccountId, ChipNumber, Status};
use sync_proto::{
    Change, EntryHash, Head, HolderRecord, ProductRecord, Record, SnapshotHeader, TillReport,
};
use till_ledger::{Applied, LedgerError};

use crate::world::*;

const BO: AccountId = AccountId(1002);

fn report() -> TillReport {
    TillReport::default()
}

#[test]
fn a_batch_goes_on_after_what_the_hub_has_and_holds_for_the_hub() {
    let mut till = Till::with(|_| {});
    for _ in 0..7 {
        till.sell(kr(1));
    }
    let now = till.now;
    let first = till.store().batch(3, 1 << 20, &key(), report()).unwrap();
    let first = first.unwrap();
    first.verify(&key().public()).unwrap();
    assert_eq!((first.first_seq, first.head.seq), (1, 3));
    assert_eq!(first.report.unsent, 4);
    till.store().acknowledge(first.head, 2, now).unwrap();
    let progress = till.store().progress();
    assert_eq!((progress.acked, progress.waiting()), (3, 4));
    assert_eq!(progress.durable_through, 2);
    let second = till.store().batch(500, 1 << 20, &key(), report()).unwrap();
    let second = second.unwrap();
    second.verify(&key().public()).unwrap();
    assert_eq!((second.first_seq, second.head.seq), (4, 7));
    assert_eq!(second.prev_hash, first.head.hash);
    till.store().acknowledge(second.head, 7, now).unwrap();
    let none = till.store().batch(500, 1 << 20, &key(), report()).unwrap();
    assert_eq!(none, None);
}

#[test]
fn a_batch_has_at_least_one_entry_however_large() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    till.sell(kr(1));
    let batch = till.store().batch(500, 1, &key(), report()).unwrap();
    assert_eq!(batch.unwrap().entries.len(), 1);
}

#[test]
fn sy_09_a_watermark_with_a_foreign_hash_is_not_believed() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let now = till.now;
    for seq in [0, 1, 2] {
        let head = Head {
            seq,
            hash: EntryHash([9; 32]),
        };
        let refused = till.store().acknowledge(head, 0, now);
        assert!(
            matches!(refused, Err(LedgerError::ForeignWatermark { seq: s }) if s == seq),
            "{seq}"
        );
    }
    assert_eq!(till.store().progress().acked, 0);
}

#[test]
fn a_restored_hub_gets_the_entries_again() {
    let mut till = Till::with(|_| {});
    for _ in 0..5 {
        till.sell(kr(1));
    }
    let (head, now) = (till.head(), till.now);
    till.store().acknowledge(head, 5, now).unwrap();
    till.store().resume_from(3, now).unwrap();
    till.restart();
    let batch = till.store().batch(500, 1 << 20, &key(), report()).unwrap();
    assert_eq!(batch.unwrap().first_seq, 3);
    // It never skips what the hub has not acknowledged with the right hash.
    till.store().resume_from(5, now).unwrap();
    assert_eq!(till.store().progress().acked, 2);
    let ahead = till.store().resume_from(7, now);
    assert!(matches!(
        ahead,
        Err(LedgerError::HubAhead {
            expected: 7,
            head: 5
        })
    ));
}

#[test]
fn an_acknowledgement_is_kept_when_the_ledger_is_closed() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let (head, now) = (till.head(), till.now);
    till.store().acknowledge(head, 1, now).unwrap();
    till.store.take().unwrap().close(now).unwrap();
    till.restart();
    assert_eq!(till.store().progress().acked, 1);
}

fn snapshot(as_of: u64, records: Vec<Record>) -> (SnapshotHeader, Vec<Change>) {
    let header = SnapshotHeader {
        hub_epoch: HUB_EPOCH,
        as_of,
        hub_time: "2026-11-20T10:00:00Z".into(),
    };
    let changes = records.into_iter();
    let changes = changes.map(|record| Change { rv: as_of, record });
    (header, changes.collect())
}

fn product(id: i64, name: &str) -> Record {
    Record::Product(ProductRecord {
        id,
        name: name.into(),
        category: "Varmt".into(),
        price: kr(22),
        position: 10 - id,
    })
}

fn holder(account: AccountId, name: &str) -> Record {
    Record::Holder(HolderRecord {
        account,
        name: name.into(),
        photo: None,
    })
}

#[test]
fn a_snapshot_takes_the_place_of_the_replica() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(300)));
    till.tell(vec![
        Record::Account(account(BO, kr(10), 0)),
        chip(BO, Status::Active),
        holder(BO, "Demo Bo"),
        product(1, "Suppe"),
        product(2, "Gryde"),
    ]);
    till.sell(kr(100));
    let (header, changes) = snapshot(
        40,
        vec![
            Record::Account(account(ANNA, kr(500), 0)),
            chip(ANNA, Status::Active),
            holder(ANNA, "Demo Anna"),
            product(3, "Salat"),
            product(2, "Gryde"),
        ],
    );
    let now = till.now;
    let applied = till.store().apply_snapshot(&header, &changes, now).unwrap();
    assert!(applied.urgent && applied.products);
    let reader = till.store().reader().unwrap();
    assert_eq!(reader.account(BO).unwrap(), None);
    assert_eq!(reader.holder(BO).unwrap(), None);
    assert_eq!(reader.chip(ChipNumber::Chip(uid(BO))).unwrap(), None);
    let names: Vec<_> = reader
        .products()
        .unwrap()
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(names, ["Salat", "Gryde"]);
    // The own sale lies over the snapshot, and the ceiling that it does not tell stays.
    let anna = reader.chip(ChipNumber::Chip(uid(ANNA))).unwrap().unwrap();
    assert_eq!(anna.holder.as_deref(), Some("Demo Anna"));
    let anna = anna.account.unwrap();
    assert_eq!((anna.balance, anna.allowance), (kr(400), Some(kr(200))));
    assert_eq!(till.store().progress().feed.cursor, 40);
    till.verified();

    // An older snapshot of the same hub changes nothing.
    let (header, changes) = snapshot(30, vec![]);
    let applied = till.store().apply_snapshot(&header, &changes, now).unwrap();
    assert_eq!(applied, Applied::default());
    assert_eq!(till.balance(), kr(400));
}

#[test]
fn a_snapshot_of_another_life_of_the_hub_counts_although_its_versions_are_lower() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(300)));
    till.sell(kr(100));
    let (mut header, mut changes) = snapshot(
        1,
        vec![
            Record::Account(account(ANNA, kr(450), 0)),
            chip(ANNA, Status::Blocked),
        ],
    );
    header.hub_epoch = u64::MAX;
    changes.iter_mut().for_each(|change| change.rv = 1);
    let now = till.now;
    till.store().apply_snapshot(&header, &changes, now).unwrap();
    till.restart();
    assert_eq!(till.store().progress().feed.hub_epoch, u64::MAX);
    assert_eq!(till.balance(), kr(350));
    assert_eq!(till.tap(kr(1)), "chip_blocked none");
    till.verified();
}

#[test]
fn a_card_number_finds_its_chip() {
    let mut till = Till::with(|_| {});
    let Record::Chip(mut record) = chip(ANNA, Status::Active) else {
        panic!("no chip")
    };
    record.card = canteen::CardNumber::parse("12345678901234");
    till.tell(vec![Record::Chip(record)]);
    let reader = till.store().reader().unwrap();
    let number = ChipNumber::parse("12345678901234").unwrap();
    let view = reader.chip(number).unwrap().unwrap();
    assert_eq!(view.chip, uid(ANNA));
    assert_eq!(view.number, 51_001);
    assert_eq!(view.card.as_deref(), Some("12345678901234"));
}

#[test]
fn sy_31_kinds_of_newer_hubs_are_passed_over() {
    let mut till = Till::with(|_| {});
    till.tell(vec![Record::Unknown]);
    assert_eq!(till.store().progress().feed.cursor, 3);
}
