//! Strict limits through the real file: a till sells inside its own share and nowhere else.

use canteen::{Money, Spent};
use sync_proto::{AccountRecord, LimitShareRecord, LimitSharesRecord, LimitsRecord, Record};

use crate::world::*;

const FRIDAY: &str = "2026-11-20";

fn share(ceiling: i32, ahead: i32) -> Option<LimitShareRecord> {
    Some(LimitShareRecord {
        ceiling: kr(ceiling),
        ahead: kr(ahead),
    })
}

/// A strict limit of 50 kr a day, of which the till has this share.
fn strict(record: &mut AccountRecord, on: &str, ceiling: i32, ahead: i32) {
    record.ceiling = Some(kr(500));
    record.limits = LimitsRecord {
        day: Some(kr(50)),
        strict: true,
        ..LimitsRecord::default()
    };
    record.shares = Some(LimitSharesRecord {
        on: day(on),
        day: share(ceiling, ahead),
        week: None,
        month: None,
    });
}

fn till_with(ceiling: i32, ahead: i32) -> Till {
    Till::with(|a| strict(a, FRIDAY, ceiling, ahead))
}

#[test]
fn a_till_sells_its_share_and_not_the_limit() {
    let mut till = till_with(30, 0);
    assert_eq!(till.tap(kr(20)), "approve 480,00 none");
    assert_eq!(till.tap(kr(11)), "limit_not_here none");
    assert_eq!(till.tap(kr(31)), "limit_day none");
    assert_eq!(till.tap(kr(10)), "approve 470,00 none");
    assert_eq!(till.tap(Money::from_ore(1)), "limit_not_here none");
    till.verified();
}

#[test]
fn a_till_without_a_share_sells_nothing() {
    let mut till = Till::with(|a| {
        strict(a, FRIDAY, 50, 50);
        a.shares = None;
    });
    assert_eq!(till.tap(kr(1)), "limit_not_here none");
}

#[test]
fn a_void_gives_back_the_limit_and_not_the_share() {
    let mut till = till_with(50, 50);
    let sale = till.sell(kr(40));
    till.void(sale).unwrap();
    assert_eq!(till.tap(kr(11)), "limit_not_here none");
    assert_eq!(till.tap(kr(10)), "approve 490,00 none");
    till.verified();
}

#[test]
fn a_till_that_is_cut_off_sells_after_midnight_what_was_granted_ahead() {
    let mut till = till_with(30, 20);
    till.sell(kr(30));
    till.now = at("2026-11-21T10:00:00Z");
    assert_eq!(till.tap(kr(21)), "limit_not_here none");
    till.sell(kr(15));
    till.restart();
    assert_eq!(till.tap(kr(6)), "limit_not_here none");
    till.sell(kr(5));
    till.now = at("2026-11-22T10:00:00Z");
    till.sell(kr(20));
    assert_eq!(till.tap(kr(1)), "limit_not_here none");
    till.verified();
}

#[test]
fn what_was_sold_ahead_counts_whatever_the_hub_has_booked_of_it() {
    let mut till = till_with(30, 20);
    till.now = at("2026-11-21T10:00:00Z");
    till.sell(kr(15));
    till.sell(kr(2));
    // The hub still lives in Friday and has booked the first of the two.
    let mut record = account(ANNA, kr(485), 1);
    strict(&mut record, FRIDAY, 45, 20);
    till.tell(vec![Record::Account(record)]);
    assert_eq!(till.tap(kr(4)), "limit_not_here none");
    till.sell(kr(3));
    assert_eq!(till.tap(kr(1)), "limit_not_here none");
    till.verified();
}

#[test]
fn a_share_of_a_day_to_come_sells_nothing_today() {
    let mut till = Till::with(|a| strict(a, "2026-11-21", 50, 50));
    assert_eq!(till.tap(kr(1)), "limit_not_here none");
    till.now = at("2026-11-21T10:00:00Z");
    till.sell(kr(50));
}

#[test]
fn a_record_without_shares_keeps_those_in_force_and_a_lenient_one_drops_them() {
    let mut till = till_with(30, 0);
    let mut kept = account(ANNA, kr(500), 0);
    strict(&mut kept, FRIDAY, 0, 0);
    kept.shares = None;
    till.tell(vec![Record::Account(kept.clone())]);
    assert_eq!(till.tap(kr(31)), "limit_not_here none");
    let mut lenient = account(ANNA, kr(500), 0);
    lenient.ceiling = Some(kr(500));
    till.tell(vec![Record::Account(lenient)]);
    assert_eq!(till.tap(kr(60)), "approve 440,00 none");
    // Strict again, and nothing of the old share is left.
    kept.incl_seq = till.head().seq;
    kept.spent = Spent::nothing(day(FRIDAY)).into();
    till.tell(vec![Record::Account(kept)]);
    assert_eq!(till.tap(kr(1)), "limit_not_here none");
}

#[test]
fn a_till_that_may_ask_asks_for_its_share_first() {
    let mut till = till_with(10, 0);
    let mut request = till.request(kr(11));
    request.ask_first = true;
    let asked = till.purchase(request.clone()).unwrap();
    assert_eq!((asked.entry, asked.ask_for), (None, Some(ANNA)));
    let mut raised = account(ANNA, kr(500), 0);
    strict(&mut raised, FRIDAY, 20, 0);
    till.tell(vec![Record::Account(raised)]);
    assert_eq!(
        shown(&till.purchase(request).unwrap()),
        "approve 489,00 none"
    );
}

#[test]
fn the_hub_hears_soon_of_a_share_that_became_smaller() {
    let mut till = till_with(30, 20);
    let mut tell = |ceiling, ahead| {
        let mut record = account(ANNA, kr(500), 0);
        strict(&mut record, FRIDAY, ceiling, ahead);
        let from = till.version;
        till.version += 1;
        let page = page(
            from,
            till.version,
            vec![(till.version, Record::Account(record))],
        );
        let now = till.now;
        till.store().apply_page(&page, now).unwrap().urgent
    };
    assert!(!tell(40, 20));
    assert!(tell(39, 20));
    assert!(tell(39, 19));
    assert!(!tell(39, 19));
}

#[test]
fn a_decline_reads_back_as_it_was() {
    let mut till = till_with(10, 0);
    let request = till.request(kr(11));
    let first = till.purchase(request.clone()).unwrap();
    till.restart();
    let again = till.purchase(request).unwrap();
    assert!(again.replayed);
    assert_eq!(again.decision, first.decision);
}
