//! Deposits by hand beside top-ups: taken back, and made with the very card.

use super::*;
use crate::{BookingId, CardPayment};

/// The booking of the newest deposit.
fn newest_deposit(bed: &Bed) -> BookingId {
    let sql = "SELECT max(id) FROM booking WHERE kind = 'deposit'";
    BookingId(bed.ledger.db.query_row(sql, [], |row| row.get(0)).unwrap())
}

fn reverse(bed: &mut Bed, account: AccountId, deposit: BookingId) {
    let key = bed.key();
    let reversed = bed
        .ledger
        .reverse_deposit(account, deposit, "indsigelse", &key, NOW);
    reversed.unwrap();
    bed.check_books();
}

#[test]
fn tu_12_a_deposit_that_was_reversed_arms_nothing() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(160), CARD);
    let deposit = newest_deposit(&bed);
    reverse(&mut bed, account, deposit);
    let agreement = |bed: &Bed| {
        let row = bed.ledger.account(account).unwrap();
        bed.ledger.agreement(&row, NOW).unwrap().unwrap()
    };
    assert!(!agreement(&bed).armed);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(30))]);
    expect(&bed, account, "", kr(30));
    // A hundred kroner paid in anew arm it again.
    bed.pay_in(account, kr(100));
    assert!(agreement(&bed).armed);
    bed.send(&mut till, [sale(account, chip, kr(90))]);
    expect(&bed, account, "intent", kr(40));
}

#[test]
fn an_intent_is_not_charged_when_what_armed_it_was_reversed_meanwhile() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let deposit = newest_deposit(&bed);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(30))]);
    reverse(&mut bed, account, deposit);
    assert_eq!(begin(&mut bed, "first", NOW), None);
    expect(&bed, account, "cancelled", kr(-70));
}

/// A guardian pays in with a card, and two minutes later a purchase asks for a top-up of 200 kr on
/// `CARD`. Tells when the top-up is charged.
fn charged_after_deposit(card: Option<&str>, paid_in: Money) -> u64 {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(-170), CARD);
    let payment = CardPayment {
        reference: "portal-1".to_owned(),
        transaction: "t-0".to_owned(),
        card: card.map(str::to_owned),
        charged_at: NOW,
    };
    let key = bed.key();
    let paid = bed
        .ledger
        .deposit_by_card(account, paid_in, &payment, &key, NOW);
    paid.unwrap();
    let mut till = bed.till("kasse-1");
    bed.send_at(&mut till, [sale(account, chip, kr(10))], after(120));
    if stage(&bed, account).is_empty() {
        return 0;
    }
    if begin(&mut bed, "first", after(120)).is_some() {
        return 120;
    }
    expect(&bed, account, "intent", kr(20));
    assert_eq!(bed.ledger.due_top_ups(after(719), 10).unwrap(), []);
    assert!(begin(&mut bed, "first", after(720)).is_some());
    720
}

#[test]
fn tu_31_a_deposit_with_the_same_card_keeps_the_top_up_waiting() {
    assert_eq!(charged_after_deposit(Some(CARD), kr(200)), 720);
    // What the gateway does not take for the same charge is not waited for.
    assert_eq!(charged_after_deposit(Some(CARD), kr(199)), 120);
    assert_eq!(charged_after_deposit(Some("demo-card-2"), kr(200)), 120);
    assert_eq!(charged_after_deposit(None, kr(200)), 120);
    // With 50 kr or more after the purchase there is nothing to top up.
    assert_eq!(charged_after_deposit(Some(CARD), kr(230)), 0);
}
