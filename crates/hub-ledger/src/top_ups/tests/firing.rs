//! What asks for a top-up, and what does not.

use super::*;

#[test]
fn tu_01_a_purchase_that_leaves_less_than_50_kr_fires() {
    check(kr(60), &[kr(30)], &[], "intent");
}

#[test]
fn tu_02_50_kr_sharp_fire_nothing() {
    check(kr(60), &[kr(10)], &[], "");
}

#[test]
fn tu_03_one_oere_less_fires() {
    check(kr(60), &[ore(10_01)], &[], "intent");
}

#[test]
fn tu_04_a_purchase_that_finds_less_than_50_kr_fires_once() {
    check(kr(49), &[kr(10)], &[], "intent");
}

#[test]
fn tu_05_a_purchase_refused_for_want_of_money_fires() {
    check(kr(20), &[], &[("insufficient_funds", kr(45))], "intent");
}

#[test]
fn tu_06_refused_with_50_kr_or_more_fires_nothing() {
    check(kr(60), &[], &[("insufficient_funds", kr(80))], "");
}

#[test]
fn tu_07_other_refusals_fire_nothing() {
    for reason in [
        "limit_day",
        "limit_week",
        "limit_month",
        "chip_blocked",
        "account_blocked",
        "unknown_chip",
        "stale_data",
        "offline_allowance",
    ] {
        check(kr(20), &[], &[(reason, kr(10))], "");
    }
}

#[test]
fn tu_08_an_account_overdrawn_offline_is_topped_up_at_the_next_attempt() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(-50), CARD);
    let mut till = bed.till("kasse-1");
    bed.send(
        &mut till,
        [decline(account, chip, kr(10), "insufficient_funds")],
    );
    let order = begin(&mut bed, "first", NOW).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(1));
    expect(&bed, account, "settled", kr(150));
}

#[test]
fn tu_09_a_top_up_that_does_not_suffice_is_followed_by_another_after_the_spacing() {
    let mut bed = Bed::new();
    let (account, chip) = agreed(&mut bed, &[100], kr(-180), kr(100));
    let mut till = bed.till("kasse-1");
    let attempt = || decline(account, chip, kr(10), "insufficient_funds");
    bed.send(&mut till, [attempt()]);
    let order = begin(&mut bed, "first", NOW).unwrap();
    let paid = ChargeAnswer::Paid {
        transaction: "t-1".to_owned(),
        amount: kr(100),
    };
    charge_answer(&mut bed, &order, &paid, after(1));
    expect(&bed, account, "settled", kr(-80));
    bed.send_at(&mut till, [attempt()], after(60));
    expect(&bed, account, "settled intent", kr(-80));
    assert_eq!(begin(&mut bed, "second", after(60)), None, "too early");
    assert_eq!(bed.ledger.due_top_ups(after(719), 10).unwrap(), []);
    assert!(begin(&mut bed, "second", after(720)).is_some());
    expect(&bed, account, "settled requested", kr(-80));
}

#[test]
fn tu_10_less_than_100_kr_paid_in_is_not_armed() {
    let mut bed = Bed::new();
    let (account, chip) = agreed(&mut bed, &[99], kr(60), kr(200));
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(50))]);
    expect(&bed, account, "", kr(10));
}

#[test]
fn tu_11_deposits_are_summed_up_to_be_armed() {
    let mut bed = Bed::new();
    let (account, chip) = agreed(&mut bed, &[60], kr(10), kr(200));
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(5))]);
    expect(&bed, account, "", kr(5));
    assert_eq!(told(&bed, account, NOW), "idle");
    bed.pay_in(account, kr(40));
    bed.send(&mut till, [sale(account, chip, kr(5))]);
    expect(&bed, account, "intent", kr(40));
    assert_eq!(told(&bed, account, NOW), "pending");
}

#[test]
fn tu_13_a_payout_does_not_disarm() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(100), CARD);
    let key = bed.key();
    bed.ledger
        .pay_out(account, kr(100), "", false, &key, NOW)
        .unwrap();
    bed.pay_in(account, kr(20));
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(10))]);
    expect(&bed, account, "intent", kr(10));
}

#[test]
fn tu_14_a_void_fires_nothing_and_lets_an_active_top_up_go_on() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(75), CARD);
    let mut till = bed.till("kasse-1");
    let of = bed.send(&mut till, [sale(account, chip, kr(30))])[0];
    let order = begin(&mut bed, "first", NOW).unwrap();
    bed.send(&mut till, [void(account, of, 1, kr(30))]);
    expect(&bed, account, "requested", kr(75));
    charge_answer(&mut bed, &order, &paid(), after(1));
    expect(&bed, account, "settled", kr(275));
}

#[test]
fn tu_15_a_payout_fires_nothing() {
    let mut bed = Bed::new();
    let (account, _) = armed(&mut bed, kr(100), CARD);
    let key = bed.key();
    bed.ledger
        .pay_out(account, kr(80), "", false, &key, NOW)
        .unwrap();
    expect(&bed, account, "", kr(20));
}

#[test]
fn tu_17_five_purchases_in_one_batch_make_one_intent() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, vec![sale(account, chip, kr(14)); 5]);
    expect(&bed, account, "intent", kr(-10));
    assert_eq!(coalesced(&bed, account), 4);
}

#[test]
fn tu_18_purchases_while_a_charge_is_under_way_are_counted_and_ask_for_nothing() {
    let mut bed = Bed::new();
    let (account, chip, _) = charged(&mut bed);
    let before = coalesced(&bed, account);
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, vec![sale(account, chip, kr(1)); 3]);
    expect(&bed, account, "requested", kr(27));
    assert_eq!(coalesced(&bed, account), before + 3);
}

#[test]
fn tu_19_two_tills_that_send_at_the_same_second_make_one_intent() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let (mut one, mut other) = (bed.till("kasse-1"), bed.till("kasse-2"));
    bed.send(&mut one, [sale(account, chip, kr(20))]);
    bed.send(&mut other, [sale(account, chip, kr(20))]);
    expect(&bed, account, "intent", kr(20));
    assert_eq!(coalesced(&bed, account), 1);
}

/// What a sale two days old does to an account that holds this much by then, and an agreement.
fn late_sale(balance: Money) -> String {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, balance, CARD);
    let mut till = bed.till("kasse-1");
    let two_days_ago = NOW - jiff::SignedDuration::from_hours(48);
    for _ in 0..2 {
        till.write_at(sale(account, chip, kr(5)), two_days_ago);
    }
    bed.send(&mut till, []);
    stage(&bed, account)
}

#[test]
fn tu_41_a_late_purchase_fires_nothing_when_there_is_money_by_now() {
    assert_eq!(late_sale(kr(310)), "");
}

#[test]
fn tu_42_a_late_purchase_fires_once_when_there_is_none() {
    assert_eq!(late_sale(kr(20)), "intent");
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
