//! What is written, what is answered, and what nobody can change.

use canteen::{Decision, DeclineReason, Money, Status};
use sync_proto::{EntryBody, Record, SaleLine};
use till_ledger::{
    EntryRange, Finding, LedgerError, RecentEntry, StartRequest, Store, VoidRequest,
};
use uuid::Uuid;

use crate::world::*;

#[test]
fn an_approved_sale_and_a_decline_become_entries_as_they_were_decided() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(50)));
    let mut request = till.request(kr(14));
    request.lines = vec![SaleLine {
        quantity: 2,
        text: "Yoghurt".into(),
        unit_price: kr(7),
        amount: kr(14),
    }];
    let sold = till.purchase(request.clone()).unwrap();
    assert_eq!(till.tap(kr(37)), "limit_day none");
    let entries = till
        .store()
        .reader()
        .unwrap()
        .entries(EntryRange::After(0), 10)
        .unwrap();
    let (header, body) = entries[0].read().unwrap();
    assert_eq!(header.ts, "2026-11-20T10:00:00.000Z");
    assert_eq!(header.fc.cursor, 2);
    assert_eq!(sold.entry.as_ref().unwrap().id, header.id);
    let EntryBody::Sale(sale) = body else {
        panic!("no sale: {body:?}")
    };
    assert_eq!((sale.amount, sale.balance_after), (kr(14), kr(486)));
    assert_eq!(sale.lines, request.lines);
    let (_, body) = entries[1].read().unwrap();
    let EntryBody::Decline(decline) = body else {
        panic!("no decline: {body:?}")
    };
    assert_eq!(decline.reason, "limit_day");
    assert_eq!((decline.limit, decline.left), (Some(kr(50)), Some(kr(36))));
    till.verified();
}

#[test]
fn lines_that_do_not_add_up_are_refused() {
    let mut till = Till::with(|_| {});
    let mut request = till.request(kr(14));
    request.lines = vec![SaleLine {
        quantity: 1,
        text: "Yoghurt".into(),
        unit_price: kr(7),
        amount: kr(7),
    }];
    let refused = till.purchase(request);
    assert!(matches!(refused, Err(LedgerError::LinesDiffer { .. })));
    assert_eq!(till.head().seq, 0);
}

/// Every decision that can be recorded is answered again as it was, also from the file alone.
#[test]
fn the_same_id_gives_the_recorded_decision() {
    type Change = fn(&mut sync_proto::AccountRecord);
    let cases: [(Change, bool); 6] = [
        (|_| {}, true),
        (|a| a.position = kr(3), true),
        (|a| a.status = Status::Blocked, true),
        (|a| a.limits.week = Some(kr(5)), true),
        (|a| a.limits.month = Some(kr(9)), true),
        (|a| a.ceiling = Some(kr(8)), false),
    ];
    for (change, online) in cases {
        let mut till = Till::with(change);
        till.online = online;
        let request = till.request(kr(10));
        let first = till.purchase(request.clone()).unwrap();
        let again = till.purchase(request.clone()).unwrap();
        assert!(again.replayed && !first.replayed);
        assert_eq!(
            (again.decision, &again.entry),
            (first.decision, &first.entry)
        );
        till.restart();
        let again = till.purchase(request.clone()).unwrap();
        assert_eq!(
            (again.decision, &again.entry),
            (first.decision, &first.entry)
        );
        // Found through the index as well.
        let now = till.now;
        till.store().rest(now).unwrap();
        let again = till.purchase(request).unwrap();
        assert_eq!(
            (again.decision, &again.entry),
            (first.decision, &first.entry)
        );
        assert_eq!(till.head().seq, 1);
    }
}

#[test]
fn stale_data_is_answered_again_with_its_reason() {
    let mut till = Till::with(|_| {});
    let mut request = till.request(kr(61));
    request.feed_age = std::time::Duration::from_secs(80 * 3600);
    till.purchase(request.clone()).unwrap();
    let again = till.purchase(request).unwrap();
    let Decision::Decline { reason, .. } = again.decision else {
        panic!("approved")
    };
    let DeclineReason::StaleData { purchase_max, .. } = reason else {
        panic!("{reason:?}")
    };
    assert_eq!(purchase_max, Some(kr(60)));
}

#[test]
fn an_id_belongs_to_one_purchase() {
    let mut till = Till::with(|_| {});
    let request = till.request(kr(10));
    till.purchase(request.clone()).unwrap();
    let mut dearer = request.clone();
    dearer.amount = canteen::PurchaseAmount::new(kr(11)).unwrap();
    let taken = till.purchase(dearer);
    assert!(matches!(taken, Err(LedgerError::IdTaken { seq: 1, .. })));
    let other = canteen::AccountId(1002);
    till.tell(vec![
        Record::Account(account(other, kr(500), 0)),
        chip(other, Status::Active),
    ]);
    let mut elsewhere = request.clone();
    elsewhere.identity = canteen::ChipIdentity::Bare(uid(other));
    let taken = till.purchase(elsewhere);
    assert!(matches!(taken, Err(LedgerError::IdTaken { seq: 1, .. })));
    let now = till.now;
    let start = StartRequest {
        id: request.id,
        version: "1".into(),
    };
    let taken = till.store().start(start, now);
    assert!(matches!(taken, Err(LedgerError::IdTaken { seq: 1, .. })));
    assert_eq!(till.head().seq, 1);
}

#[test]
fn a_sale_is_taken_back_once_on_its_own_day() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(100)));
    let sale = till.sell(kr(80));
    let voided = till.void(sale).unwrap();
    assert_eq!(
        (voided.account, voided.amount, voided.balance_after),
        (ANNA, kr(80), kr(500))
    );
    let again = till.void(sale);
    assert!(matches!(again, Err(LedgerError::VoidedBefore { seq: 2 })));
    // The limit is given back as well.
    let second = till.sell(kr(100));
    till.now = at("2026-11-21T10:00:00Z");
    let late = till.void(second);
    assert!(matches!(late, Err(LedgerError::SaleOfAnotherDay { .. })));
    let none = till.void(Uuid::from_u128(0xDEAD));
    assert!(matches!(none, Err(LedgerError::NoSuchSale { .. })));
    till.verified();
}

#[test]
fn the_same_void_is_answered_again() {
    let mut till = Till::with(|_| {});
    let sale = till.sell(kr(80));
    let (id, now) = (till.new_id(), till.now);
    let request = VoidRequest {
        id,
        of: sale,
        lines: Vec::new(),
    };
    let first = till.store().void(request.clone(), now).unwrap();
    till.restart();
    let again = till.store().void(request, now).unwrap();
    assert!(again.replayed);
    assert_eq!((again.entry, again.balance_after), (first.entry, kr(500)));
    let other = till.sell(kr(1));
    let taken = till.store().void(
        VoidRequest {
            id,
            of: other,
            lines: Vec::new(),
        },
        now,
    );
    assert!(matches!(taken, Err(LedgerError::IdTaken { seq: 2, .. })));
}

#[test]
fn the_list_of_recent_entries_shows_what_was_taken_back() {
    let mut till = Till::with(|_| {});
    let sale = till.sell(kr(80));
    till.sell(kr(5));
    till.void(sale).unwrap();
    let recent = till.store().reader().unwrap().recent(10).unwrap();
    let left = |e: &RecentEntry| e.left.as_ref().map(|left| left.amount);
    let shown: Vec<_> = recent.iter().map(|e| (e.seq, left(e))).collect();
    assert_eq!(shown, [(3, None), (2, Some(kr(5))), (1, Some(kr(0)))]);
    let reader = till.store().reader().unwrap();
    assert_eq!(reader.entry_by_id(sale).unwrap().unwrap().seq, 1);
    let now = till.now;
    till.store().rest(now).unwrap();
    assert_eq!(reader.entry_by_id(sale).unwrap().unwrap().seq, 1);
    assert_eq!(reader.entry_by_id(Uuid::from_u128(99)).unwrap(), None);
}

#[test]
fn a_start_is_recorded() {
    let mut till = Till::with(|_| {});
    let (id, now) = (till.new_id(), till.now);
    let start = StartRequest {
        id,
        version: "1.4.2".into(),
    };
    let entry = till.store().start(start.clone(), now).unwrap();
    assert_eq!((entry.seq, entry.id), (1, id));
    assert_eq!(till.store().start(start, now).unwrap(), entry);
    assert_eq!(till.head().seq, 1);
}

/// What the file itself refuses, whoever opens it.
#[track_caller]
fn check_refused(till: &Till, sql: &str, expect: &str) {
    let file = rusqlite::Connection::open(till.path()).unwrap();
    let error = file.execute(sql, []).unwrap_err();
    assert!(error.to_string().contains(expect), "{sql}: {error}");
}

#[test]
fn sy_28_entries_are_never_changed_removed_or_replaced() {
    let mut till = Till::with(|_| {});
    till.sell(kr(10));
    till.sell(kr(10));
    check_refused(&till, "UPDATE entry SET body = '{}'", "never changed");
    check_refused(&till, "DELETE FROM entry WHERE seq = 2", "never removed");
    let replace = "INSERT OR REPLACE INTO entry VALUES (2, '{}', '{}', zeroblob(32))";
    check_refused(&till, replace, "without gaps");
    let gap = "INSERT INTO entry VALUES (4, '{}', '{}', zeroblob(32))";
    check_refused(&till, gap, "without gaps");
    check_refused(&till, "UPDATE identity SET till = 'x'", "never changed");
    check_refused(&till, "UPDATE account SET gross = -1", "CHECK");
    till.verified();
}

/// Changes the file past its triggers, as a failing medium would.
fn damage(till: &mut Till, sql: &str) {
    till.store = None;
    let file = rusqlite::Connection::open(till.path()).unwrap();
    file.execute_batch("DROP TRIGGER entries_are_never_changed")
        .unwrap();
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

#[test]
fn a_changed_entry_is_found_and_named() {
    let mut till = Till::with(|_| {});
    // More than opening looks at.
    for _ in 0..2_100 {
        till.sell(Money::from_ore(1));
    }
    damage(
        &mut till,
        "UPDATE entry SET body = replace(body, '\"amount\":1,', '\"amount\":2,') WHERE seq = 3",
    );
    till.restart();
    let verification = till.store().reader().unwrap().verify().unwrap();
    assert_eq!(verification.findings, [Finding::Hole { seq: 3 }]);
    assert_eq!(verification.head.seq, 2_100);
    let batch = till.store().batch(500, 1 << 20, &key(), Default::default());
    let batch = batch.unwrap().unwrap();
    batch.verify(&key().public()).unwrap();
    assert_eq!((batch.holes.len(), batch.holes[0].seq), (1, 3));
}

#[test]
fn wrong_figures_are_found() {
    let mut till = Till::with(|_| {});
    till.sell(kr(10));
    let file = rusqlite::Connection::open(till.path()).unwrap();
    file.execute(
        "UPDATE account SET balance = 1, spent_day = 2, gross = 3",
        [],
    )
    .unwrap();
    let found = till.store().reader().unwrap().verify().unwrap().findings;
    assert_eq!(
        found,
        [
            Finding::Balance {
                account: ANNA,
                stored: Money::from_ore(1),
                reckoned: kr(490)
            },
            Finding::Spent { account: ANNA },
            Finding::Gross {
                account: ANNA,
                stored: Money::from_ore(3),
                reckoned: kr(10)
            },
        ]
    );
}

#[test]
fn a_second_opener_is_told_which_file_is_in_use() {
    let till = Till::with(|_| {});
    let Err(LedgerError::InUse { path }) = Store::open(&till.path(), options()) else {
        panic!("opened twice")
    };
    assert_eq!(path, till.path());
}

#[test]
fn a_ledger_is_made_once_and_belongs_to_one_till() {
    let mut till = Till::with(|_| {});
    till.store = None;
    let again = Store::create(&till.path(), &identity(), options());
    assert!(matches!(again, Err(LedgerError::AlreadyThere { .. })));
    let store = Store::open(&till.path(), options()).unwrap();
    assert_eq!(store.identity(), &identity());
    let nowhere = Store::open(&till.dir.path().join("other.db"), options());
    assert!(matches!(nowhere, Err(LedgerError::NotFound { .. })));
}

#[test]
fn the_file_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    for ending in ["", "-wal", ".lock"] {
        let path = till.dir.path().join(format!("till.db{ending}"));
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}
