use canteen::Status;

use super::*;
use crate::seller::{Seller, bound, sellers};
use crate::testbed::{Bed, NOW, kr, ore};
use crate::{Correction, Rest};

fn pay_out(bed: &mut Bed, account: AccountId, amount: Money, force: bool) -> Receipt {
    let key = bed.key();
    bed.ledger
        .pay_out(account, amount, "", force, &key, NOW)
        .unwrap()
}

fn acknowledge(bed: &mut Bed, till: &mut Seller) {
    till.push_all(bed);
    till.catch_up(bed);
    till.write_feed_ack();
    till.push_all(bed);
}

fn states(bed: &Bed) -> Vec<(&'static str, Money)> {
    let debits = bed.ledger.list_debits(Reach::Everything, i64::MAX, 100);
    let debits = debits.unwrap().into_iter();
    debits
        .map(|debit| (debit.state.code(), debit.amount))
        .collect()
}

/// 100 kr on an account, all of which one till may sell; no overspend is accepted.
fn contested() -> (Bed, (AccountId, i64), Seller) {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [till] = sellers(&mut bed);
    (bed, payer, till)
}

#[test]
fn obt_29_a_payout_that_tills_may_be_spending_waits_until_they_acknowledge() {
    let (mut bed, payer, mut till) = contested();
    let receipt = pay_out(&mut bed, payer.0, kr(80), false);
    assert!(receipt.pending.is_some());
    assert_eq!(bed.balance(payer.0), kr(20), "the money is set aside");
    assert_eq!(bed.own_balance("reserved"), kr(80));
    assert_eq!(states(&bed), [("pending", kr(80))]);
    // The till hears of a lower ceiling; what it sold before stands.
    assert!(till.sell(payer, kr(15)));
    till.push_all(&mut bed);
    till.catch_up(&mut bed);
    assert_eq!(till.left(payer.0), kr(5));
    assert_eq!(states(&bed), [("pending", kr(80))]);
    till.write_feed_ack();
    till.push_all(&mut bed);
    assert_eq!(states(&bed), [("posted", kr(80))]);
    assert_eq!(bed.own_balance("payouts"), kr(80));
    assert_eq!(bed.own_balance("reserved"), kr(0));
    assert_eq!(bed.balance(payer.0), kr(5));
    assert_eq!(bed.flags(), [""; 0]);
    bed.check_books();
}

#[test]
fn obt_29_a_payout_can_be_forced_which_is_flagged() {
    let (mut bed, payer, _till) = contested();
    let receipt = pay_out(&mut bed, payer.0, kr(80), true);
    assert_eq!(receipt.pending, None);
    assert_eq!(bed.own_balance("payouts"), kr(80));
    assert_eq!(bed.flags(), ["forced_debit"]);
    // What waits can be forced later, too.
    let waiting = pay_out(&mut bed, payer.0, kr(10), false).pending.unwrap();
    bed.ledger.force_debit(waiting, NOW).unwrap();
    assert_eq!(bed.own_balance("payouts"), kr(90));
    assert_eq!(bed.flags(), ["forced_debit", "forced_debit"]);
    let exposure = bed.ledger.exposure(bed.canteen).unwrap();
    assert_eq!(exposure, kr(90), "it is counted");
    assert!(bed.ledger.force_debit(waiting, NOW).is_err());
    bed.check_books();
}

#[test]
fn a_debit_that_waits_can_be_cancelled_and_the_statement_tells_both() {
    let (mut bed, payer, mut till) = contested();
    let waiting = pay_out(&mut bed, payer.0, kr(80), false).pending.unwrap();
    bed.ledger.cancel_debit(waiting, NOW).unwrap();
    assert_eq!(bed.balance(payer.0), kr(100));
    assert_eq!(states(&bed), [("cancelled", kr(80))]);
    assert!(bed.ledger.cancel_debit(waiting, NOW).is_err());
    let day = BusinessDay::of(NOW);
    let rows = bed.ledger.statement(payer.0, day..=day).unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.text.as_str(), row.amount))
        .collect();
    let expect = [
        ("Startsaldo", kr(100)),
        ("Udbetaling", kr(-80)),
        ("Annulleret: Udbetaling", kr(80)),
    ];
    assert_eq!(told, expect);
    acknowledge(&mut bed, &mut till);
    assert_eq!(
        till.left(payer.0),
        kr(100),
        "the till is given the money back"
    );
    bed.check_books();
}

#[test]
fn money_that_tills_have_sold_meanwhile_is_not_paid_out() {
    let (mut bed, payer, mut till) = contested();
    let waiting = pay_out(&mut bed, payer.0, kr(80), false).pending.unwrap();
    assert!(till.sell(payer, kr(100)));
    acknowledge(&mut bed, &mut till);
    assert_eq!(bed.balance(payer.0), kr(-80));
    assert_eq!(states(&bed), [("pending", kr(80))]);
    bed.ledger.cancel_debit(waiting, NOW).unwrap();
    assert_eq!(bed.balance(payer.0), kr(0));
    bed.check_books();
}

#[test]
fn a_correction_down_waits_like_a_payout_and_one_up_does_not() {
    let (mut bed, payer, mut till) = contested();
    let correct = |bed: &mut Bed, amount| {
        let key = bed.key();
        let correction = Correction {
            amount,
            reason: "prøve".to_owned(),
            force: false,
        };
        let receipt = bed.ledger.correct(payer.0, &correction, &key, NOW);
        receipt.unwrap().pending.is_some()
    };
    assert!(correct(&mut bed, kr(-30)));
    assert!(!correct(&mut bed, kr(5)));
    acknowledge(&mut bed, &mut till);
    assert_eq!(states(&bed), [("posted", kr(30))]);
    assert_eq!(bed.balance(payer.0), kr(75));
    assert_eq!(bed.own_balance("corrections"), kr(25));
}

#[test]
fn a_transfer_stands_on_both_statements_when_it_has_gone_on() {
    let (mut bed, payer, mut till) = contested();
    let (other, _) = bed.account(kr(0));
    let transfer = |bed: &mut Bed, from, to, amount| {
        let key = bed.key();
        bed.ledger.transfer(from, to, amount, false, &key, NOW)
    };
    let receipt = transfer(&mut bed, payer.0, other, kr(40)).unwrap();
    assert!(receipt.pending.is_some());
    assert_eq!((bed.balance(payer.0), bed.balance(other)), (kr(60), kr(0)));
    acknowledge(&mut bed, &mut till);
    assert_eq!((bed.balance(payer.0), bed.balance(other)), (kr(60), kr(40)));
    let day = BusinessDay::of(NOW);
    let rows = bed.ledger.statement(other, day..=day).unwrap();
    assert_eq!(rows[0].text, format!("Overførsel fra konto {}", payer.0));
    assert_eq!((rows[0].amount, rows[0].balance_after), (kr(40), kr(40)));
    let refused =
        |bed: &mut Bed, from, to, amount| match transfer(bed, from, to, amount).unwrap_err() {
            LedgerError::Refused(refusal) => refusal.code(),
            error => panic!("{error}"),
        };
    assert_eq!(refused(&mut bed, payer.0, payer.0, kr(1)), "same-account");
    assert_eq!(refused(&mut bed, payer.0, other, kr(61)), "not-covered");
    assert_eq!(refused(&mut bed, payer.0, other, kr(0)), "debit-amount");
    let (elsewhere, _) = bed.account_elsewhere(kr(0));
    assert_eq!(refused(&mut bed, payer.0, elsewhere, kr(1)), "not-found");
    bed.ledger.block_account(other, NOW).unwrap();
    assert_eq!(refused(&mut bed, payer.0, other, kr(1)), "account-blocked");
    bed.check_books();
}

#[test]
fn the_same_request_takes_out_once_also_while_it_waits() {
    let (mut bed, payer, _till) = contested();
    let key = bed.key();
    let ask = |bed: &mut Bed| {
        bed.ledger
            .pay_out(payer.0, kr(80), "", false, &key, NOW)
            .unwrap()
    };
    let first = ask(&mut bed);
    let again = ask(&mut bed);
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.pending, again.pending);
    assert_eq!(states(&bed).len(), 1);
}

#[test]
fn an_account_is_closed_when_no_till_can_sell_on_it_and_the_rest_is_paid_out() {
    let (mut bed, payer, mut till) = contested();
    assert!(
        !bed.ledger
            .close_account(payer.0, Rest::PaidOut, NOW)
            .unwrap()
    );
    assert_eq!(bed.ledger.account(payer.0).unwrap().status, Status::Blocked);
    assert!(till.sell(payer, kr(15)), "the till has not heard of it");
    till.push_all(&mut bed);
    till.catch_up(&mut bed);
    assert!(!till.sell(payer, ore(1)));
    assert!(bed.ledger.closing(payer.0).unwrap().is_some());
    till.write_feed_ack();
    till.push_all(&mut bed);
    let account = bed.ledger.account(payer.0).unwrap();
    assert_eq!((account.status, account.balance), (Status::Closed, kr(0)));
    assert_eq!(account.holder, None);
    assert_eq!(bed.own_balance("payouts"), kr(85));
    assert_eq!(bed.ledger.closing(payer.0).unwrap(), None);
    bed.check_books();
}

#[test]
fn reactivating_an_account_ends_its_closing_and_retiring_the_till_completes_it() {
    let (mut bed, payer, till) = contested();
    assert!(
        !bed.ledger
            .close_account(payer.0, Rest::PaidOut, NOW)
            .unwrap()
    );
    bed.ledger.reactivate_account(payer.0, NOW).unwrap();
    assert_eq!(bed.ledger.closing(payer.0).unwrap(), None);
    assert!(
        !bed.ledger
            .close_account(payer.0, Rest::PaidOut, NOW)
            .unwrap()
    );
    let id = till.till.access.till.clone();
    bed.ledger.revoke_till(&id, NOW).unwrap();
    assert!(bed.ledger.closing(payer.0).unwrap().is_some());
    bed.ledger.retire_till(&id, NOW).unwrap();
    assert_eq!(bed.ledger.account(payer.0).unwrap().status, Status::Closed);
    let (full, _) = bed.account(kr(1));
    let refused = bed.ledger.close_account(full, Rest::Nothing, NOW);
    assert!(matches!(
        refused,
        Err(LedgerError::Refused(Refusal::BalanceLeft { .. }))
    ));
}

#[test]
fn an_account_that_is_moved_gives_its_money_and_its_chips() {
    let mut bed = Bed::new();
    let (old, chip) = bed.account(kr(30));
    let (new, _) = bed.account(kr(5));
    assert!(
        bed.ledger
            .close_account(old, Rest::Moved(new), NOW)
            .unwrap()
    );
    assert_eq!((bed.balance(old), bed.balance(new)), (kr(0), kr(35)));
    let chips = bed.ledger.chips_of(new).unwrap();
    assert!(chips.iter().any(|row| row.number == chip));
    assert_eq!(bed.ledger.chips_of(old).unwrap(), []);
    bed.check_books();
}
