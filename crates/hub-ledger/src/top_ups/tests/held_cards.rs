//! Charges of which only the gateway knows, on cards that siblings share.

use super::*;
use crate::{CardPayment, UnmatchedCharge};

/// Accounts with 60 kr each and an agreement over 200 kr on these cards, which have all bought for
/// 30 kr.
fn buyers<const N: usize>(bed: &mut Bed, cards: [&str; N]) -> [(AccountId, i64); N] {
    let mut till = bed.till("kasse-1");
    cards.map(|card| {
        let buyer = armed(bed, kr(60), card);
        buy(bed, &mut till, buyer, NOW);
        buyer
    })
}

fn buy(bed: &mut Bed, till: &mut TestTill, (account, chip): (AccountId, i64), now: Timestamp) {
    bed.send_at(till, [sale(account, chip, kr(30))], now);
}

fn lost(transaction: &str) -> GatewayCharge {
    GatewayCharge {
        reference: format!("lost {transaction}"),
        transaction: transaction.to_owned(),
        card: CARD.to_owned(),
        amount: kr(200),
        charged_at: NOW,
    }
}

/// Known charges, those taken in, and those that nobody knows.
fn import(bed: &mut Bed, charges: &[GatewayCharge]) -> (u32, u32, usize) {
    let imported = bed.ledger.import_charges(charges, NOW).unwrap();
    bed.check_books();
    (imported.known, imported.taken_in, imported.unmatched.len())
}

fn open(bed: &Bed) -> Vec<UnmatchedCharge> {
    bed.ledger.unmatched_charges(100).unwrap()
}

#[track_caller]
fn only_open(bed: &Bed) -> UnmatchedCharge {
    let mut open = open(bed);
    assert_eq!(open.len(), 1, "{open:?}");
    open.remove(0)
}

fn stages<const N: usize>(bed: &Bed, buyers: [(AccountId, i64); N]) -> [String; N] {
    buyers.map(|(account, _)| stage(bed, account))
}

fn told_all<const N: usize>(bed: &Bed, buyers: [(AccountId, i64); N]) -> [&'static str; N] {
    buyers.map(|(account, _)| told(bed, account, NOW))
}

fn is_refused<T: std::fmt::Debug>(done: Result<T, LedgerError>, code: &str) {
    match done {
        Err(LedgerError::Refused(refusal)) => assert_eq!(refusal.code(), code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listed_charge_of_a_card_that_siblings_share_holds_all_that_wait_for_it() {
    let mut bed = Bed::new();
    let buyers = buyers(&mut bed, [CARD, CARD, "demo-card-2"]);
    assert_eq!(stages(&bed, buyers), ["intent", "intent", "intent"]);
    for _ in 0..2 {
        assert_eq!(import(&mut bed, &[lost("t")]), (0, 0, 1));
        assert_eq!(stages(&bed, buyers), ["stuck", "stuck", "intent"]);
        assert_eq!(told_all(&bed, buyers), ["failed", "failed", "pending"]);
        assert_eq!(bed.flags(), ["charge_unmatched"]);
        assert_eq!(notices(&bed), ["card_held", "card_held"]);
    }
    let open = only_open(&bed);
    assert_eq!(open.charge, lost("t"));
    assert_eq!(open.accounts, [buyers[0].0, buyers[1].0]);
    assert_eq!(begin_all(&mut bed, after(30 * 24 * 3600)).len(), 1);
    let rows = bed
        .ledger
        .list_top_ups(Reach::Everything, Some(buyers[0].0), None, 1);
    let row = rows.unwrap().remove(0);
    assert_eq!(row.failure.as_deref(), Some("card_held"));
    bed.ledger.give_up_top_up(row.id, NOW).unwrap();
    assert_eq!(stages(&bed, buyers), ["failed", "stuck", "requested"]);
}

#[test]
fn a_sibling_who_buys_later_is_not_charged_on_a_held_card() {
    let mut bed = Bed::new();
    let late = armed(&mut bed, kr(60), CARD);
    let [early] = buyers(&mut bed, [CARD]);
    import(&mut bed, &[lost("t")]);
    let mut till = bed.till("kasse-2");
    buy(&mut bed, &mut till, late, after(3600));
    assert_eq!(begin_all(&mut bed, after(3600)), []);
    assert_eq!(stages(&bed, [early, late]), ["stuck", "stuck"]);
    assert_eq!(told(&bed, late.0, after(3600)), "failed");
    assert_eq!(notices(&bed), ["card_held", "card_held"]);
    // A purchase more changes nothing: neither card nor guardian hear of it.
    buy(&mut bed, &mut till, late, after(7200));
    assert_eq!(begin_all(&mut bed, after(7200)), []);
    assert_eq!(stage(&bed, late.0), "stuck");
    assert_eq!(notices(&bed).len(), 2);
    let account = bed.ledger.account(late.0).unwrap();
    let agreement = bed.ledger.agreement(&account, after(7200)).unwrap();
    assert!(agreement.is_some_and(|agreement| agreement.held));
}

#[test]
fn a_charge_that_was_for_one_sibling_is_credited_there_and_frees_the_other() {
    let mut bed = Bed::new();
    let [first, second] = buyers(&mut bed, [CARD, CARD]);
    import(&mut bed, &[lost("t")]);
    let id = only_open(&bed).id;
    let taken = bed.ledger.take_in_unmatched(id, second.0, after(60));
    let row = bed
        .ledger
        .top_up_within(Reach::Everything, taken.unwrap())
        .unwrap();
    assert_eq!((row.account, row.stage), (second.0, TopUpStage::Settled));
    expect(&bed, second.0, "settled", kr(230));
    expect(&bed, first.0, "intent", kr(30));
    assert_eq!(told_all(&bed, [first, second]), ["pending", "idle"]);
    assert_eq!((open(&bed), notices(&bed)), (vec![], vec![]));
    is_refused(
        bed.ledger.take_in_unmatched(id, first.0, after(60)),
        "not-found",
    );
    assert_eq!(import(&mut bed, &[lost("t")]), (1, 0, 0));
    // The charge that was found counts for the spacing of equal charges.
    assert_eq!(begin_all(&mut bed, after(719)), []);
    assert_eq!(begin_all(&mut bed, after(720)).len(), 1);
}

#[test]
fn a_charge_that_was_for_nobody_here_frees_the_card() {
    let mut bed = Bed::new();
    let buyers = buyers(&mut bed, [CARD, CARD]);
    import(&mut bed, &[lost("t")]);
    let id = only_open(&bed).id;
    bed.ledger.dismiss_unmatched(id, after(60)).unwrap();
    assert_eq!(stages(&bed, buyers), ["intent", "intent"]);
    assert_eq!(import(&mut bed, &[lost("t")]), (1, 0, 0));
    assert_eq!(open(&bed), []);
    assert_eq!(begin_all(&mut bed, after(60)).len(), 1);
    is_refused(bed.ledger.dismiss_unmatched(id, after(60)), "not-found");
}

#[test]
fn a_card_is_free_when_the_last_of_its_charges_is_known() {
    let mut bed = Bed::new();
    let buyers = buyers(&mut bed, [CARD, CARD]);
    assert_eq!(import(&mut bed, &[lost("t"), lost("u")]), (0, 0, 2));
    let ids: Vec<_> = open(&bed).iter().map(|open| open.id).collect();
    bed.ledger.dismiss_unmatched(ids[0], NOW).unwrap();
    assert_eq!(stages(&bed, buyers), ["stuck", "stuck"]);
    bed.ledger
        .take_in_unmatched(ids[1], buyers[0].0, NOW)
        .unwrap();
    assert_eq!(stages(&bed, buyers), ["settled", "intent"]);
}

fn pay_in_by_hand(bed: &mut Bed, account: AccountId, transaction: &str) {
    let payment = CardPayment {
        reference: "portal".to_owned(),
        transaction: transaction.to_owned(),
        card: Some(CARD.to_owned()),
        charged_at: NOW,
    };
    let key = bed.key();
    bed.ledger
        .deposit_by_card(account, kr(200), &payment, &key, NOW)
        .unwrap();
}

#[test]
fn an_unmatched_charge_that_is_paid_in_as_a_deposit_frees_the_card() {
    let mut bed = Bed::new();
    let [first, second] = buyers(&mut bed, [CARD, CARD]);
    import(&mut bed, &[lost("t")]);
    pay_in_by_hand(&mut bed, first.0, "t");
    assert_eq!(open(&bed), []);
    assert_eq!(import(&mut bed, &[lost("t")]), (1, 0, 0));
    assert_eq!(begin_all(&mut bed, after(720)).len(), 1);
    expect(&bed, first.0, "cancelled", kr(230));
    expect(&bed, second.0, "requested", kr(30));
}

#[test]
fn a_guardians_own_deposit_among_the_listed_charges_is_credited_once() {
    let mut bed = Bed::new();
    let [buyer] = buyers(&mut bed, [CARD]);
    pay_in_by_hand(&mut bed, buyer.0, "t");
    assert_eq!(import(&mut bed, &[lost("t")]), (1, 0, 0));
    expect(&bed, buyer.0, "intent", kr(230));
}

#[test]
fn what_was_charged_for_a_blocked_account_goes_back_and_frees_the_card() {
    let mut bed = Bed::new();
    let [first, second] = buyers(&mut bed, [CARD, CARD]);
    import(&mut bed, &[lost("t")]);
    bed.ledger.block_account(first.0, NOW).unwrap();
    let id = only_open(&bed).id;
    bed.ledger.take_in_unmatched(id, first.0, NOW).unwrap();
    expect(&bed, first.0, "refunding", kr(30));
    expect(&bed, second.0, "intent", kr(30));
}

#[test]
fn a_guardian_who_takes_another_card_does_not_wait_for_the_held_one() {
    let mut bed = Bed::new();
    let [first, second] = buyers(&mut bed, [CARD, CARD]);
    import(&mut bed, &[lost("t")]);
    bed.ledger.cancel_agreement(first.0, NOW).unwrap();
    assert_eq!(stages(&bed, [first, second]), ["cancelled", "stuck"]);
    assert_eq!(notices(&bed), ["card_held"], "the sibling's");
    bed.ledger
        .make_agreement(first.0, kr(200), "demo-card-2", NOW)
        .unwrap();
    let mut till = bed.till("kasse-2");
    buy(&mut bed, &mut till, first, NOW);
    assert_eq!(begin_all(&mut bed, NOW).len(), 1);
}

#[test]
fn a_charge_of_a_card_that_nobody_has_holds_the_card_of_whoever_gets_it() {
    let mut bed = Bed::new();
    let stranger = bed.account(kr(60));
    assert_eq!(import(&mut bed, &[lost("t")]), (0, 0, 1));
    let id = only_open(&bed).id;
    let taken = bed.ledger.take_in_unmatched(id, stranger.0, NOW);
    is_refused(taken, "no-agreement-on-card");
    // The agreement was made after the backup; now it is made again.
    let [again] = buyers(&mut bed, [CARD]);
    assert_eq!(begin_all(&mut bed, NOW), []);
    assert_eq!(stage(&bed, again.0), "stuck");
    // Now the list tells whose the card is.
    assert_eq!(import(&mut bed, &[lost("t")]), (0, 1, 0));
    expect(&bed, again.0, "settled", kr(230));
    assert_eq!(open(&bed), []);
}

#[test]
fn a_charge_of_another_amount_is_not_what_a_waiting_top_up_was_for() {
    let mut bed = Bed::new();
    let [buyer] = buyers(&mut bed, [CARD]);
    let of_an_earlier_agreement = GatewayCharge {
        amount: kr(100),
        ..lost("t")
    };
    assert_eq!(import(&mut bed, &[of_an_earlier_agreement]), (0, 1, 0));
    expect(&bed, buyer.0, "intent settled", kr(130));
    assert_eq!(bed.flags(), [""; 0]);
    assert_eq!(begin_all(&mut bed, after(720)), []);
    expect(&bed, buyer.0, "cancelled settled", kr(130));
}
