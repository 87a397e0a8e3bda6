//! The cases of the offline balance, through the real file: overlay, ceilings, limits, feed
//! order. The numbers in the names are those of the specification's table.

use std::time::Duration;

use crate::world::*;
use canteen::{Money, Spent, Status, TopUpState};
use sync_proto::{Change, FeedRecords, LimitsRecord, Record};
use till_ledger::LedgerError;

fn ceiling(kroner: i32) -> Option<Money> {
    Some(kr(kroner))
}

fn acknowledge(till: &mut Till) {
    let (head, now) = (till.head(), till.now);
    till.store().acknowledge(head, 0, now).unwrap();
}

#[test]
fn obt_01_a_sale_may_take_all_there_is() {
    let mut till = Till::with(|a| {
        a.position = kr(60);
        a.ceiling = ceiling(60);
    });
    assert_eq!(till.tap(kr(60)), "approve 0,00 none");
}

#[test]
fn obt_02_one_ore_more_than_there_is_is_too_much() {
    let mut till = Till::with(|a| a.position = kr(60));
    assert_eq!(till.tap(Money::from_ore(60_01)), "insufficient_funds none");
}

#[test]
fn obt_03_the_ceiling_ends_what_may_be_sold() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    assert_eq!(till.tap(kr(150)), "approve 350,00 none");
    assert_eq!(till.tap(kr(60)), "offline_allowance none");
    assert_eq!(till.tap(kr(50)), "approve 300,00 none");
}

/// A hub that gives no ceilings.
#[test]
fn without_a_ceiling_the_till_sells_for_200_kr_that_the_hub_has_not_booked() {
    let mut till = Till::with(|_| {});
    assert_eq!(till.tap(kr(150)), "approve 350,00 none");
    assert_eq!(till.tap(kr(51)), "offline_allowance none");
    till.tell(vec![Record::Account(account(ANNA, kr(350), 2))]);
    assert_eq!(till.tap(kr(200)), "approve 150,00 none");
    assert_eq!(till.tap(kr(1)), "offline_allowance none");
}

/// When only the allowance is in the way, nothing is recorded before the hub was asked.
#[test]
fn a_till_that_may_ask_first_records_nothing() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    let mut request = till.request(kr(201));
    request.ask_first = true;
    let asked = till.purchase(request.clone()).unwrap();
    assert_eq!((asked.entry, asked.ask_for), (None, Some(ANNA)));
    request.ask_first = false;
    let declined = till.purchase(request).unwrap();
    assert_eq!(declined.entry.map(|entry| entry.seq), Some(1));
}

#[test]
fn obt_04_a_raised_ceiling_lets_the_sale_through() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    till.sell(kr(150));
    let mut raised = account(ANNA, kr(500), 0);
    raised.ceiling = ceiling(300);
    till.tell(vec![Record::Account(raised)]);
    assert_eq!(till.tap(kr(60)), "approve 290,00 none");
}

#[test]
fn obt_05_a_raise_that_comes_after_the_decline_counts_for_the_next_sale() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    till.sell(kr(150));
    assert_eq!(till.tap(kr(60)), "offline_allowance none");
    let mut raised = account(ANNA, kr(500), 0);
    raised.ceiling = ceiling(300);
    let late = FeedRecords {
        hub_epoch: HUB_EPOCH,
        hub_time: String::new(),
        changes: vec![Change {
            rv: 9,
            record: Record::Account(raised),
        }],
    };
    let now = till.now;
    till.store().apply_records(&late, now).unwrap();
    assert_eq!(till.tap(kr(60)), "approve 290,00 none");
}

/// What is sold when the data is so many hours old and the line is down.
#[track_caller]
fn check_age(hours: u64, kroner: i32, expect: &str) {
    let mut till = Till::with(|_| {});
    let mut request = till.request(kr(kroner));
    request.online = false;
    request.feed_age = Duration::from_secs(hours * 3600);
    assert_eq!(shown(&till.purchase(request).unwrap()), expect);
}

#[test]
fn obt_19_data_of_yesterday_sells_as_ever() {
    check_age(25, 60, "approve 440,00 none");
    check_age(25, 61, "approve 439,00 none");
}

#[test]
fn obt_20_data_of_three_days_ago_sells_a_meal_at_most() {
    check_age(80, 60, "approve 440,00 none");
    check_age(80, 61, "stale_data none");
}

#[test]
fn obt_21_data_of_two_weeks_ago_sells_nothing() {
    check_age(15 * 24, 10, "stale_data none");
}

#[test]
fn obt_30_an_amount_that_is_none_is_no_purchase() {
    for ore in [0, -1, -22_00, i64::MIN, i64::MAX, 100_000_01] {
        let refused = canteen::PurchaseAmount::new(Money::from_ore(ore));
        assert!(refused.is_err(), "{ore}");
    }
    assert!(canteen::PurchaseAmount::new(Money::from_ore(1)).is_ok());
}

#[test]
fn obt_06_an_acknowledgement_alone_gives_nothing_back() {
    let mut till = Till::with(|a| a.position = kr(100));
    till.sell(kr(40));
    acknowledge(&mut till);
    assert_eq!(till.tap(kr(70)), "insufficient_funds none");
}

#[test]
fn obt_07_a_position_that_contains_the_sale_takes_its_place() {
    let mut till = Till::with(|a| a.position = kr(100));
    till.sell(kr(40));
    acknowledge(&mut till);
    assert_eq!(till.tap(kr(70)), "insufficient_funds none");
    till.tell(vec![Record::Account(account(ANNA, kr(60), 1))]);
    assert_eq!(till.balance(), kr(60));
    assert_eq!(till.tap(kr(60)), "approve 0,00 none");
}

#[test]
fn obt_08_a_position_that_comes_before_the_acknowledgement_counts_nothing_twice() {
    let mut till = Till::with(|a| a.position = kr(100));
    till.sell(kr(40));
    till.tell(vec![Record::Account(account(ANNA, kr(60), 1))]);
    acknowledge(&mut till);
    assert_eq!(till.tap(kr(60)), "approve 0,00 none");
}

#[test]
fn obt_09_old_news_are_ignored() {
    let mut till = Till::with(|_| {});
    till.version = 9;
    let now = till.now;
    let new = page(2, 9, vec![(9, Record::Account(account(ANNA, kr(70), 0)))]);
    till.store().apply_page(&new, now).unwrap();
    let old = page(2, 7, vec![(7, Record::Account(account(ANNA, kr(900), 0)))]);
    till.store().apply_page(&old, now).unwrap();
    // Also when it comes in a page that has something new.
    let mixed = page(
        2,
        11,
        vec![
            (7, Record::Account(account(ANNA, kr(900), 0))),
            (11, chip(ANNA, Status::Active)),
        ],
    );
    till.store().apply_page(&mixed, now).unwrap();
    assert_eq!(till.balance(), kr(70));
}

#[test]
fn obt_10a_a_void_gives_the_balance_back() {
    let mut till = Till::with(|a| {
        a.position = kr(100);
        a.ceiling = ceiling(200);
    });
    let first = till.sell(kr(80));
    till.void(first).unwrap();
    assert_eq!(till.tap(kr(80)), "approve 20,00 none");
    assert_eq!(till.tap(kr(80)), "insufficient_funds none");
}

#[test]
fn obt_10b_a_void_gives_no_right_to_sell() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    let first = till.sell(kr(80));
    till.void(first).unwrap();
    assert_eq!(till.tap(kr(80)), "approve 420,00 none");
    assert_eq!(till.tap(kr(80)), "offline_allowance none");
}

#[test]
fn obt_11_the_newest_status_rules_whatever_comes_last() {
    let mut till = Till::with(|_| {});
    let now = till.now;
    let new = page(2, 12, vec![(12, chip(ANNA, Status::Active))]);
    till.store().apply_page(&new, now).unwrap();
    let old = page(2, 10, vec![(10, chip(ANNA, Status::Blocked))]);
    till.store().apply_page(&old, now).unwrap();
    assert_eq!(till.tap(kr(10)), "approve 490,00 none");
    let block = page(12, 14, vec![(14, chip(ANNA, Status::Blocked))]);
    let applied = till.store().apply_page(&block, now).unwrap();
    assert!(applied.urgent);
    assert_eq!(till.tap(kr(10)), "chip_blocked none");
    // Out of order within one page.
    let both = page(
        14,
        18,
        vec![
            (18, chip(ANNA, Status::Active)),
            (16, chip(ANNA, Status::Blocked)),
        ],
    );
    till.store().apply_page(&both, now).unwrap();
    assert_eq!(till.tap(kr(10)), "approve 480,00 none");
}

#[test]
fn obt_13_a_blocked_account_is_named() {
    let mut till = Till::with(|a| a.status = Status::Blocked);
    assert_eq!(till.tap(kr(10)), "account_blocked none");
}

#[test]
fn obt_14_an_unknown_chip_is_counted_and_asks_for_no_top_up() {
    let mut till = Till::with(|_| {});
    let mut request = till.request(kr(10));
    request.identity = canteen::ChipIdentity::Bare(uid(canteen::AccountId(9)));
    let before = till.head();
    let recorded = till.purchase(request).unwrap();
    assert_eq!(shown(&recorded), "unknown_chip none");
    assert_eq!(recorded.entry, None);
    assert_eq!(till.head(), before);
    assert_eq!(till.store().progress().unknown_chips, 1);
}

#[test]
fn obt_15_a_limit_counts_the_hubs_use_and_the_own_use_after_it() {
    let mut till = limited();
    till.sell(kr(25));
    assert_eq!(till.tap(kr(6)), "limit_day none");
    assert_eq!(till.tap(kr(5)), "approve 470,00 none");
}

/// 50 kr. a day, of which the hub knows 20 kr. to be spent.
fn limited() -> Till {
    Till::with(|a| {
        a.limits.day = Some(kr(50));
        a.spent = Spent::new(day("2026-11-20"), kr(20), kr(20), kr(20)).into();
    })
}

#[test]
fn obt_16_a_new_day_begins_with_nothing_spent() {
    let mut till = limited();
    till.sell(kr(25));
    assert_eq!(till.tap(kr(6)), "limit_day none");
    till.now = at("2026-11-20T23:00:01Z");
    assert_eq!(till.tap(kr(50)), "approve 425,00 none");
    // The same figures told anew change nothing about the new day.
    let mut again = account(ANNA, kr(475), 1);
    again.limits.day = Some(kr(50));
    again.spent = Spent::new(day("2026-11-20"), kr(45), kr(45), kr(45)).into();
    till.tell(vec![Record::Account(again)]);
    assert_eq!(till.tap(kr(1)), "limit_day none");
}

#[test]
fn obt_17_a_week_ends_on_sunday_and_a_month_on_its_last_day() {
    let limits = |day: i32, week: i32, month: i32| LimitsRecord {
        day: (day > 0).then(|| kr(day)),
        week: (week > 0).then(|| kr(week)),
        month: (month > 0).then(|| kr(month)),
        strict: false,
    };
    let mut till = Till::with(|a| a.limits = limits(0, 50, 0));
    till.now = at("2026-11-22T12:00:00Z");
    till.sell(kr(50));
    assert_eq!(till.tap(kr(1)), "limit_week none");
    till.now = at("2026-11-23T12:00:00Z");
    assert_eq!(till.tap(kr(50)), "approve 400,00 none");

    let mut till = Till::with(|a| a.limits = limits(0, 90, 50));
    till.now = at("2026-07-31T12:00:00Z");
    till.tell(vec![Record::Account({
        let mut july = account(ANNA, kr(500), 0);
        july.limits = limits(0, 90, 50);
        july.spent = Spent::nothing(day("2026-07-31")).into();
        july
    })]);
    till.sell(kr(50));
    assert_eq!(till.tap(kr(1)), "limit_month none");
    till.now = at("2026-08-01T12:00:00Z");
    assert_eq!(till.tap(kr(41)), "limit_week none");
    assert_eq!(till.tap(kr(40)), "approve 410,00 none");
}

#[test]
fn obt_18_the_hour_that_comes_twice_is_one_day() {
    let mut till = Till::with(|a| {
        a.limits.day = Some(kr(50));
        a.spent = Spent::nothing(day("2026-10-24")).into();
    });
    till.now = at("2026-10-25T00:30:00Z");
    till.sell(kr(30));
    till.now = at("2026-10-25T01:30:00Z");
    assert_eq!(till.tap(kr(21)), "limit_day none");
    assert_eq!(till.tap(kr(20)), "approve 450,00 none");
}

#[test]
fn a_clock_set_back_does_not_open_a_day_again() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(50)));
    till.sell(kr(50));
    till.now = at("2025-11-19T10:00:00Z");
    assert_eq!(till.tap(kr(1)), "limit_day none");
    till.restart();
    assert_eq!(till.tap(kr(1)), "limit_day none");
}

#[test]
fn obt_31_a_credit_line_extends_the_position() {
    let mut till = Till::with(|a| {
        a.position = kr(-250);
        a.credit = kr(300);
    });
    assert_eq!(till.tap(kr(51)), "insufficient_funds none");
    assert_eq!(till.tap(kr(50)), "approve -300,00 none");
}

#[test]
fn obt_32_figures_that_do_not_follow_from_the_entries_are_reckoned_anew_at_opening() {
    let mut till = Till::with(|a| a.ceiling = ceiling(200));
    till.sell(kr(150));
    till.store = None;
    let file = rusqlite::Connection::open(till.path()).unwrap();
    file.execute("UPDATE account SET gross = 0, balance = 900000", [])
        .unwrap();
    drop(file);
    till.restart();
    assert_eq!(till.store().repaired(), [ANNA]);
    assert_eq!(till.balance(), kr(350));
    assert_eq!(till.tap(kr(60)), "offline_allowance none");
    till.verified();
    till.restart();
    assert_eq!(till.store().repaired(), []);
}

#[test]
fn a_ceiling_that_is_not_told_stays() {
    let mut till = Till::with(|a| a.ceiling = ceiling(100));
    till.sell(kr(80));
    till.tell(vec![Record::Account(account(ANNA, kr(420), 1))]);
    assert_eq!(till.tap(kr(21)), "offline_allowance none");
    assert_eq!(till.tap(kr(20)), "approve 400,00 none");
}

#[test]
fn an_account_that_goes_and_comes_back_keeps_its_sales() {
    let mut till = Till::with(|a| a.ceiling = ceiling(100));
    till.sell(kr(80));
    till.tell(vec![Record::AccountGone { id: ANNA }]);
    assert_eq!(till.tap(kr(1)), "unknown_chip none");
    let mut back = account(ANNA, kr(500), 0);
    back.ceiling = ceiling(100);
    till.tell(vec![Record::Account(back)]);
    assert_eq!(till.balance(), kr(420));
    assert_eq!(till.tap(kr(21)), "offline_allowance none");
    till.verified();
}

#[test]
fn a_top_up_is_asked_for_once_until_the_hub_has_seen_it() {
    let agreement = |state| armed(kr(200), state);
    let mut till = Till::with(|a| {
        a.position = kr(60);
        a.top_up = agreement(TopUpState::Idle);
    });
    assert_eq!(till.tap(kr(20)), "approve 40,00 requested");
    assert_eq!(till.store().progress().asked_for_top_up, 1);
    assert_eq!(till.tap(kr(10)), "approve 30,00 pending");
    till.restart();
    assert_eq!(till.tap(kr(40)), "insufficient_funds pending");
    // A record that does not contain the request yet.
    let mut early = account(ANNA, kr(60), 0);
    early.top_up = agreement(TopUpState::Idle);
    till.tell(vec![Record::Account(early.clone())]);
    assert_eq!(till.tap(kr(1)), "approve 29,00 pending");
    // The hub has seen it and tried in vain.
    early.incl_seq = 4;
    early.position = kr(29);
    early.top_up = agreement(TopUpState::Failed);
    till.tell(vec![Record::Account(early.clone())]);
    assert_eq!(till.tap(kr(1)), "approve 28,00 failed");
    early.incl_seq = 5;
    early.position = kr(28);
    early.top_up = agreement(TopUpState::Idle);
    till.tell(vec![Record::Account(early)]);
    // A refused purchase asks too, and counts as asked after a restart.
    assert_eq!(till.tap(kr(40)), "insufficient_funds requested");
    till.restart();
    assert_eq!(till.tap(kr(40)), "insufficient_funds pending");
    till.verified();
}

#[test]
fn a_page_that_does_not_follow_is_refused() {
    let mut till = Till::with(|_| {});
    let now = till.now;
    let gap = page(5, 9, vec![]);
    let refused = till.store().apply_page(&gap, now);
    assert!(matches!(
        refused,
        Err(LedgerError::FeedGap { cursor: 2, from: 5 })
    ));
    let mut foreign = page(2, 9, vec![]);
    foreign.hub_epoch = 99;
    let refused = till.store().apply_page(&foreign, now);
    assert!(matches!(
        refused,
        Err(LedgerError::OtherHubEpoch {
            ours: HUB_EPOCH,
            theirs: 99
        })
    ));
    assert_eq!(till.store().progress().feed.cursor, 2);
}
