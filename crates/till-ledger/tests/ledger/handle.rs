//! The handle of a running till: one thread writes, everybody may ask.

use canteen::Decision;
use sync_proto::{Record, TillReport};
use till_ledger::{Ledger, LedgerError, VoidRequest};

use crate::world::*;

/// Anna's till with its ledger behind the handle.
fn open(till: &mut Till) -> Ledger {
    till.store = None;
    Ledger::open(&till.path(), options()).unwrap()
}

#[tokio::test]
async fn taps_at_once_are_all_answered_and_booked_once() {
    let mut till = Till::with(|_| {});
    let requests: Vec<_> = (0..50).map(|_| till.request(kr(1))).collect();
    let ledger = open(&mut till);
    let mut changed = ledger.watch();
    let now = till.now;
    let taps = requests.into_iter().map(|request| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.purchase(request, now).await })
    });
    let taps: Vec<_> = taps.collect();
    let mut numbers = Vec::new();
    for tap in taps {
        let recorded = tap.await.unwrap().unwrap();
        assert!(matches!(recorded.decision, Decision::Approve { .. }));
        numbers.push(recorded.entry.unwrap().seq);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<u64>>());
    changed.changed().await.unwrap();
    assert_eq!(changed.borrow().head.seq, 50);
    assert_eq!(ledger.account(ANNA).unwrap().unwrap().balance, kr(450));
    assert_eq!(ledger.verify().unwrap().findings, []);
}

/// One of several requests that share a commit fails; the others are not touched.
#[tokio::test]
async fn a_request_that_fails_does_not_spoil_its_neighbours() {
    let mut till = Till::with(|_| {});
    let other = canteen::AccountId(1002);
    till.tell(vec![
        Record::Account(account(other, kr(500), 0)),
        chip(other, canteen::Status::Active),
    ]);
    let ledger = open(&mut till);
    let file = rusqlite::Connection::open(till.path()).unwrap();
    // The entry is written before the account's row turns out to be refused.
    file.execute_batch(
        "CREATE TRIGGER refuses BEFORE UPDATE ON account WHEN NEW.id = 1002
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    .unwrap();
    drop(file);
    let now = till.now;
    let mut taps = Vec::new();
    for index in 0..30 {
        let mut request = till.request(kr(1));
        if index % 3 == 1 {
            request.identity = canteen::ChipIdentity::Bare(uid(other));
        }
        let ledger = ledger.clone();
        taps.push(tokio::spawn(
            async move { ledger.purchase(request, now).await },
        ));
    }
    let mut sold = 0;
    for (index, tap) in taps.into_iter().enumerate() {
        match tap.await.unwrap() {
            Ok(_) => sold += 1,
            Err(LedgerError::Refused(_)) => assert_eq!(index % 3, 1),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(sold, 20);
    assert_eq!(ledger.progress().head.seq, 20);
    assert_eq!(ledger.account(ANNA).unwrap().unwrap().balance, kr(480));
}

#[tokio::test]
async fn sync_reads_and_acknowledges_beside_the_sales() {
    let mut till = Till::with(|_| {});
    let request = till.request(kr(10));
    let sale = request.id;
    let ledger = open(&mut till);
    let now = till.now;
    ledger.purchase(request, now).await.unwrap();
    let status = ledger.status().unwrap();
    assert_eq!(status.progress.waiting(), 1);
    assert_eq!(
        status.unsent_since.as_deref(),
        Some("2026-11-20T10:00:00.000Z")
    );
    let batch = ledger
        .batch(500, 1 << 20, &key(), TillReport::default())
        .unwrap()
        .unwrap();
    ledger.acknowledge(batch.head, 0, now).await.unwrap();
    assert_eq!(ledger.status().unwrap().unsent_since, None);
    let told = page(2, 3, vec![(3, Record::Account(account(ANNA, kr(590), 1)))]);
    let applied = ledger.apply_page(told, now).await.unwrap();
    assert_eq!(applied.records, 1);
    let id = till.new_id();
    let voided = ledger
        .void(
            VoidRequest {
                id,
                of: sale,
                lines: Vec::new(),
            },
            now,
        )
        .await
        .unwrap();
    assert_eq!(voided.balance_after, kr(600));
    assert_eq!(ledger.recent(5).unwrap().len(), 2);
    assert!(ledger.progress().replica > 0);
}

#[tokio::test]
async fn a_closed_ledger_says_so_and_lets_go_of_its_file() {
    let mut till = Till::with(|_| {});
    let request = till.request(kr(1));
    let ledger = open(&mut till);
    let head = ledger.progress().head;
    ledger.acknowledge(head, 0, till.now).await.unwrap();
    ledger.close().await.unwrap();
    let refused = ledger.purchase(request, till.now).await;
    assert!(matches!(refused, Err(LedgerError::Closed)), "{refused:?}");
    till.restart();
    assert_eq!(till.tap(kr(1)), "approve 499,00 none");
}

/// Sales that share their commits fill the log so slowly that it alone would leave thousands of
/// ids without an index, and who reads beside the writer goes through the entries of all of them.
#[tokio::test]
async fn ids_of_a_burst_are_indexed_in_the_next_quiet_moments() {
    let mut till = Till::with(|record| record.position = kr(5_000));
    let requests: Vec<_> = (0..1_200).map(|_| till.request(kr(1))).collect();
    let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
    let ledger = open(&mut till);
    let now = till.now;
    for burst in requests.chunks(200) {
        let sales = burst.iter().cloned().map(|request| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.purchase(request, now).await })
        });
        for sale in sales.collect::<Vec<_>>() {
            sale.await.unwrap().unwrap();
        }
    }
    ledger.close().await.unwrap();
    till.restart();
    while till.store().wants_rest() {
        till.store().rest(now).unwrap();
    }
    let reader = till.store().reader().unwrap();
    for id in ids {
        let entry = reader.entry_by_id(id).unwrap().unwrap();
        assert_eq!(entry.texts.read_header().unwrap().id, id);
    }
    drop(reader);
    till.store = None;
    let file = rusqlite::Connection::open(till.path()).unwrap();
    let indexed = file.query_row("SELECT count(*) FROM entry_id", [], |row| row.get(0));
    let indexed: u32 = indexed.unwrap();
    assert!(indexed >= 700, "{indexed}");
}
