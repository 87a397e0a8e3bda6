//! Chips and accounts that are blocked or closed while a card is charged.

use super::*;

#[test]
fn tu_36_a_chip_blocked_before_the_charge_means_no_charge() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(30))]);
    bed.ledger.block_chip(chip, NOW).unwrap();
    assert_eq!(begin(&mut bed, "first", NOW), None);
    expect(&bed, account, "cancelled", kr(30));
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    // Nothing is asked for while it is blocked.
    expect(&bed, account, "cancelled", kr(29));
}

#[test]
fn tu_37_money_taken_while_the_chip_was_blocked_goes_back() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    bed.ledger.block_chip(chip, after(1)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(2));
    expect(&bed, account, "refunding", kr(30));
    let due = bed.ledger.due_top_ups(after(2), 10).unwrap();
    assert_eq!(due, [TopUpWork::Refund(order.id)]);
    let refund = bed.ledger.begin_refund(order.id, "back", after(2)).unwrap();
    let refund = refund.unwrap();
    assert_eq!(
        (refund.transaction.as_str(), refund.amount),
        ("t-1", kr(200))
    );
    bed.ledger
        .record_refund(order.id, &RefundAnswer::Refunded, after(3))
        .unwrap();
    expect(&bed, account, "refunded", kr(30));
}

#[test]
fn tu_38_a_chip_reactivated_before_the_answer_gets_its_money() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    bed.ledger.block_chip(chip, after(1)).unwrap();
    bed.ledger.reactivate_chip(chip, after(2)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(3));
    expect(&bed, account, "settled", kr(230));
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

#[test]
fn tu_40_a_refund_without_an_answer_is_repeated_under_its_name() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    bed.ledger.block_chip(chip, after(1)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(2));
    for (reference, at) in [("back-1", 2), ("back-2", 800), ("back-3", 1600)] {
        let refund = bed
            .ledger
            .begin_refund(order.id, reference, after(at))
            .unwrap()
            .unwrap();
        assert_eq!(refund.reference, "back-1");
        bed.ledger
            .record_refund(order.id, &RefundAnswer::Again, after(at + 1))
            .unwrap();
    }
    bed.ledger
        .record_refund(order.id, &RefundAnswer::Refunded, after(3000))
        .unwrap();
    bed.ledger.reactivate_chip(chip, after(3001)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(3002));
    expect(&bed, account, "refunded", kr(30));
    assert_eq!(notices(&bed), ["refunded"]);
}
