//! What a decline, a gateway out of reach and too many purchases lead to.

use super::*;

#[test]
fn tu_33_three_times_no_funds_backs_off_and_disarms() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(40), CARD);
    let mut till = bed.till("kasse-1");
    let hours = jiff::SignedDuration::from_hours;
    let mut now = NOW;
    for (n, wait) in [(1, Some(24)), (2, Some(72)), (3, None)] {
        bed.send_at(&mut till, [sale(account, chip, kr(1))], now);
        let order = begin(&mut bed, &format!("ref-{n}"), now).unwrap();
        charge_answer(&mut bed, &order, &declined(DeclineKind::Soft), now);
        assert_eq!(told(&bed, account, now), "failed");
        let Some(wait) = wait else { break };
        let almost = now + hours(wait) - jiff::SignedDuration::from_secs(1);
        bed.send_at(&mut till, [sale(account, chip, kr(1))], almost);
        assert_eq!(bed.ledger.due_top_ups(almost, 10).unwrap(), []);
        now += hours(wait);
        bed.ledger.end_waits(now).unwrap();
        assert_eq!(told(&bed, account, now), "idle");
    }
    now += hours(10_000);
    bed.send_at(&mut till, [sale(account, chip, kr(1))], now);
    assert_eq!(stage(&bed, account), "failed failed failed");
    assert_eq!(told(&bed, account, now), "failed");
    assert_eq!(bed.own_balance("gateway"), Money::ZERO);
    assert_eq!(notices(&bed), ["declined", "declined", "disarmed"]);
}

#[test]
fn tu_34_an_expired_card_is_not_tried_again() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), after(1));
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    expect(&bed, account, "failed", kr(29));
    assert_eq!(told(&bed, account, NOW), "failed");
    assert_eq!(notices(&bed), ["card_unusable"]);
}

#[test]
fn tu_35_a_new_card_is_tried_at_the_next_purchase() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), after(1));
    bed.ledger
        .make_agreement(account, kr(200), "demo-card-new", after(60))
        .unwrap();
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    let order = begin(&mut bed, "other", after(60)).unwrap();
    assert_eq!(order.card, "demo-card-new");
    assert_eq!(stage(&bed, account), "failed requested");
}

#[test]
fn tu_43_twenty_purchases_a_day_make_two_charges_at_most() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(40), CARD);
    let mut till = bed.till("kasse-1");
    let mut charges = 0;
    for n in 0..20_u64 {
        let now = after(n * 800);
        let amount = bed.balance(account).checked_sub(kr(20)).unwrap();
        bed.send_at(&mut till, [sale(account, chip, amount)], now);
        for work in bed.ledger.due_top_ups(now, 10).unwrap() {
            let TopUpWork::Charge(id) = work else {
                panic!("{work:?}");
            };
            let reference = format!("ref-{n}");
            if let Some(order) = bed.ledger.begin_charge(id, &reference, now).unwrap() {
                charge_answer(&mut bed, &order, &paid(), now);
                charges += 1;
            }
        }
        if bed.balance(account) <= kr(20) {
            bed.pay_in(account, kr(20));
        }
    }
    assert_eq!(charges, 2);
    assert!(bed.flags().contains(&"top_up_cap".to_owned()));
    let tomorrow = after(44 * 3600);
    bed.send_at(&mut till, [sale(account, chip, kr(1))], tomorrow);
    assert_eq!(stage(&bed, account), "settled settled intent");
}

#[test]
fn tu_44_a_gateway_that_is_down_is_tried_again_until_there_is_money() {
    let mut bed = Bed::new();
    let (account, _, mut order) = charged(&mut bed);
    let mut now = NOW;
    for wait in [30, 60, 120, 300, 600, 600, 600, 600] {
        charge_answer(&mut bed, &order, &ChargeAnswer::NotSent, now);
        assert_eq!(stage(&bed, account), "intent");
        let almost = now + Duration::from_secs(wait - 1);
        assert_eq!(bed.ledger.due_top_ups(almost, 10).unwrap(), []);
        now += Duration::from_secs(wait);
        order = begin(&mut bed, "next", now).unwrap();
        assert_eq!(order.reference, "first");
    }
    charge_answer(&mut bed, &order, &ChargeAnswer::NotSent, now);
    bed.pay_in(account, kr(20));
    assert_eq!(
        begin(&mut bed, "next", now + Duration::from_secs(600)),
        None
    );
    expect(&bed, account, "cancelled", kr(50));
}
