//! What asks for a top-up, and what does not.

use super::*;

#[test]
fn tu_01_to_04_a_purchase_that_leaves_less_than_50_kr_fires_once() {
    check(kr(60), &[kr(30)], &[], "intent");
    check(kr(60), &[kr(10)], &[], "");
    check(kr(60), &[ore(10_01)], &[], "intent");
    check(kr(49), &[kr(10)], &[], "intent");
}

#[test]
fn tu_05_to_08_a_refused_purchase_fires_when_it_finds_less_than_50_kr() {
    check(kr(20), &[], &[("insufficient_funds", kr(45))], "intent");
    check(kr(60), &[], &[("insufficient_funds", kr(80))], "");
    let others = [
        "unknown_chip",
        "limit_day",
        "chip_blocked",
        "account_blocked",
        "stale_data",
        "offline_allowance",
    ];
    for reason in others {
        check(kr(20), &[], &[(reason, kr(10))], "");
    }
    check(kr(-50), &[], &[("insufficient_funds", kr(10))], "intent");
}

#[test]
fn tu_09_a_top_up_that_leaves_too_little_is_followed_by_one_at_the_next_attempt() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(-280));
    bed.pay_in(account, kr(100));
    bed.ledger
        .make_agreement(account, kr(100), CARD, NOW)
        .unwrap();
    let mut till = bed.till("kasse-1");
    let refused = decline(account, chip, kr(10), "insufficient_funds");
    bed.send(&mut till, [refused.clone()]);
    let order = begin(&mut bed, "first", NOW).unwrap();
    let paid = ChargeAnswer::Paid {
        transaction: "t-1".to_owned(),
        amount: kr(100),
    };
    charge_answer(&mut bed, &order, &paid, after(1));
    assert_eq!(bed.balance(account), kr(-80));
    assert_eq!(stage(&bed, account), "settled", "not by itself");
    bed.send_at(&mut till, [refused], after(60));
    assert_eq!(stage(&bed, account), "settled intent");
    assert_eq!(begin(&mut bed, "second", after(60)), None, "too early");
    assert!(begin(&mut bed, "second", after(720)).is_some());
}

#[test]
fn tu_13_what_was_paid_in_counts_for_ever_although_it_was_paid_out() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(0));
    bed.pay_in(account, kr(100));
    let key = bed.key();
    bed.ledger
        .pay_out(account, kr(100), "", false, &key, NOW)
        .unwrap();
    bed.pay_in(account, kr(20));
    bed.ledger
        .make_agreement(account, kr(200), CARD, NOW)
        .unwrap();
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(10))]);
    assert_eq!(stage(&bed, account), "intent");
}

#[test]
fn tu_19_two_tills_that_both_find_too_little_ask_for_one() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    for name in ["kasse-1", "kasse-2"] {
        let mut till = bed.till(name);
        bed.send(&mut till, [sale(account, chip, kr(20))]);
    }
    assert_eq!(stage(&bed, account), "intent");
    assert_eq!(coalesced(&bed, account), 1);
}

#[test]
fn tu_22_a_request_that_arrives_after_the_first_look_up_is_found_and_charged_once() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    for seconds in [5, 30] {
        look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(seconds));
    }
    look_up_answer(&mut bed, &order, &paid(), after(120));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn tu_24_a_crash_before_the_answer_leads_to_a_look_up() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let work = bed.ledger.interrupted_top_ups().unwrap();
    assert_eq!(work, [TopUpWork::LookUp(order.clone())]);
    bed.ledger
        .record_look_up(&order, &paid(), after(10))
        .unwrap();
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn tu_39_money_for_an_account_that_was_closed_meanwhile_goes_back() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let till = bed.ledger.list_tills(Reach::Everything).unwrap()[0]
        .id
        .clone();
    bed.ledger.revoke_till(&till, after(1)).unwrap();
    bed.ledger.retire_till(&till, after(1)).unwrap();
    let closed = bed
        .ledger
        .close_account(account, crate::Rest::PaidOut, after(1));
    assert!(closed.unwrap());
    charge_answer(&mut bed, &order, &paid(), after(2));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("refunding", kr(0))
    );
}

/// A purchase of two days ago arrives now, with so much on the account by now.
#[track_caller]
fn check_late(balance: Money, expect: &str) {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, balance, CARD);
    let mut till = bed.till("kasse-1");
    let earlier = NOW - jiff::SignedDuration::from_hours(48);
    till.write_at(sale(account, chip, kr(30)), earlier);
    bed.send(&mut till, []);
    assert_eq!(stage(&bed, account), expect);
}

#[test]
fn tu_41_and_42_a_late_purchase_fires_by_the_balance_of_now() {
    check_late(kr(330), "");
    check_late(kr(40), "intent");
}

#[test]
fn tu_49_a_new_amount_does_not_change_the_charge_under_way() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    bed.ledger.cancel_agreement(account, after(1)).unwrap();
    bed.ledger
        .make_agreement(account, kr(500), CARD, after(1))
        .unwrap();
    assert_eq!(order.amount, kr(200));
    charge_answer(&mut bed, &order, &paid(), after(2));
    assert_eq!(bed.balance(account), kr(230));
}

#[test]
fn tu_11_an_agreement_takes_effect_once_100_kr_have_been_paid_in() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(ore(-50_00));
    bed.pay_in(account, kr(60));
    bed.ledger
        .make_agreement(account, kr(200), CARD, NOW)
        .unwrap();
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(5))]);
    assert_eq!(
        (stage(&bed, account).as_str(), told(&bed, account, NOW)),
        ("", "idle")
    );
    bed.pay_in(account, kr(40));
    bed.send(&mut till, [sale(account, chip, kr(5))]);
    assert_eq!(
        (stage(&bed, account).as_str(), told(&bed, account, NOW)),
        ("intent", "pending")
    );
}

#[test]
fn tu_17_and_18_purchases_while_one_is_under_way_ask_for_no_second() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    let mut other = bed.till("kasse-2");
    bed.send(&mut till, vec![sale(account, chip, kr(14)); 5]);
    assert_eq!(
        (stage(&bed, account).as_str(), coalesced(&bed, account)),
        ("intent", 4)
    );
    begin(&mut bed, "first", NOW).unwrap();
    bed.send(&mut other, vec![sale(account, chip, kr(1)); 3]);
    assert_eq!(
        (stage(&bed, account).as_str(), coalesced(&bed, account)),
        ("requested", 7)
    );
}

#[test]
fn tu_14_and_15_only_purchases_fire() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(100), CARD);
    let correction = crate::Correction {
        amount: kr(-60),
        reason: "prøve".to_owned(),
        force: false,
    };
    let key = bed.key();
    bed.ledger.correct(account, &correction, &key, NOW).unwrap();
    assert_eq!(stage(&bed, account), "");
    let mut till = bed.till("kasse-1");
    let of = bed.send(&mut till, [sale(account, chip, kr(30))])[0];
    bed.ledger.cancel_agreement(account, NOW).unwrap();
    bed.ledger
        .make_agreement(account, kr(200), CARD, NOW)
        .unwrap();
    bed.send(&mut till, [void(account, of, 1, kr(30))]);
    assert_eq!(stage(&bed, account), "cancelled");
}

#[test]
fn a_purchase_that_arrives_a_month_late_fires_nothing() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    let long_ago = NOW - jiff::SignedDuration::from_hours(24 * 32);
    till.write_at(sale(account, chip, kr(30)), long_ago);
    bed.send(&mut till, []);
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("", kr(30))
    );
}
