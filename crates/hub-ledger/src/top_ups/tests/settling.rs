//! What the gateway's settlement file says, whatever was answered before.

use canteen::BusinessDay;

use super::*;
use crate::{CardPayment, ChargeState, ListedCharge, Settlement, SettlementFile};

fn listed(reference: &str, amount: Money, state: ChargeState) -> ListedCharge {
    ListedCharge {
        reference: reference.to_owned(),
        transaction: "t-1".to_owned(),
        card: Some(CARD.to_owned()),
        amount,
        state,
    }
}

fn reconcile(bed: &mut Bed, charges: &[ListedCharge]) -> Settlement {
    let file = SettlementFile {
        charges: charges.to_vec(),
        covers: None,
    };
    let settlement = bed.ledger.reconcile(&file, after(86_400)).unwrap();
    bed.check_books();
    settlement
}

fn counts(settlement: &Settlement) -> (u32, u32, usize, usize, usize) {
    (
        settlement.agreed,
        settlement.booked,
        settlement.suspended.len(),
        settlement.differing.len(),
        settlement.unknown.len(),
    )
}

#[test]
fn tu_32_a_charge_that_is_held_back_is_stuck_whatever_was_answered() {
    // Approved and booked, approved without an answer, and stuck already.
    for answer in [paid(), ChargeAnswer::Unknown, ChargeAnswer::Pending] {
        let mut bed = Bed::new();
        let (account, chip, order) = charged(&mut bed);
        charge_answer(&mut bed, &order, &answer, after(1));
        let held = listed("first", kr(200), ChargeState::Suspended);
        for _ in 0..2 {
            let settlement = reconcile(&mut bed, std::slice::from_ref(&held));
            assert_eq!(counts(&settlement), (0, 0, 1, 0, 0), "{answer:?}");
            expect(&bed, account, "stuck", kr(30));
            assert_eq!(bed.own_balance("gateway"), Money::ZERO);
            assert_eq!(bed.flags(), ["charge_suspended"], "told once");
        }
        // Neither a late answer nor a look-up settles it, and no other top-up is charged.
        charge_answer(&mut bed, &order, &paid(), after(90_000));
        let looked_up = bed.ledger.record_look_up(&order, &paid(), after(90_000));
        looked_up.unwrap();
        let mut till = bed.till("kasse-2");
        bed.send(&mut till, [sale(account, chip, kr(10))]);
        expect(&bed, account, "stuck", kr(20));
        assert_eq!(bed.ledger.due_top_ups(after(100_000), 10).unwrap(), []);
        // The gateway lets it go.
        let settled = listed("first", kr(200), ChargeState::Settled);
        for expected in [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)] {
            let settlement = reconcile(&mut bed, std::slice::from_ref(&settled));
            assert_eq!(counts(&settlement), expected);
            expect(&bed, account, "settled", kr(220));
            assert_eq!(bed.own_balance("gateway"), kr(-200));
        }
        assert_eq!(bed.flags(), ["charge_suspended"]);
    }
}

#[test]
fn a_credit_that_is_taken_back_arms_nothing_and_stands_on_the_statement() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &paid(), after(1));
    assert_eq!(bed.ledger.account(account).unwrap().paid_in, kr(300));
    reconcile(
        &mut bed,
        &[listed("first", kr(200), ChargeState::Suspended)],
    );
    assert_eq!(bed.ledger.account(account).unwrap().paid_in, kr(100));
    let day = BusinessDay::of(after(86_400));
    let rows = bed.ledger.statement(account, day..=day).unwrap();
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!(
        (row.kind.code(), row.amount),
        ("deposit_reversal", kr(-200))
    );
    assert!(row.reverses.is_some());
}

#[test]
fn a_charge_that_is_held_back_while_another_is_under_way_ends_without_its_money() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &paid(), after(1));
    let mut till = bed.till("kasse-2");
    bed.send_at(&mut till, [sale(account, chip, kr(200))], after(800));
    let second = begin(&mut bed, "second", after(800)).unwrap();
    reconcile(
        &mut bed,
        &[listed("first", kr(200), ChargeState::Suspended)],
    );
    expect(&bed, account, "failed requested", kr(-170));
    bed.ledger
        .record_charge(
            &second,
            &ChargeAnswer::Paid {
                transaction: "t-2".to_owned(),
                amount: kr(200),
            },
            after(801),
        )
        .unwrap();
    expect(&bed, account, "failed settled", kr(30));
    reconcile(&mut bed, &[listed("first", kr(200), ChargeState::Settled)]);
    expect(&bed, account, "settled settled", kr(230));
}

#[test]
fn a_stuck_top_up_is_booked_once_when_the_file_calls_it_settled() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    look_up_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(5));
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(20_000));
    assert_eq!(stage(&bed, account), "stuck");
    let settled = listed("first", kr(200), ChargeState::Settled);
    let settlement = reconcile(&mut bed, &[settled.clone(), settled]);
    assert_eq!(counts(&settlement), (1, 1, 0, 0, 0));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn what_the_file_and_the_books_have_otherwise_is_an_alarm_once() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &paid(), after(1));
    let wrong_amount = listed("first", kr(300), ChargeState::Settled);
    let unknown = ListedCharge {
        reference: "whose".to_owned(),
        transaction: "t-9".to_owned(),
        ..listed("", kr(75), ChargeState::Settled)
    };
    for _ in 0..2 {
        let settlement = reconcile(&mut bed, &[wrong_amount.clone(), unknown.clone()]);
        assert_eq!(settlement.differing, ["first"]);
        assert_eq!(settlement.unknown, ["whose"]);
        let mut flags = bed.flags();
        flags.sort();
        assert_eq!(flags, ["settlement_differs", "settlement_unknown"]);
        expect(&bed, account, "settled", kr(230));
    }
}

#[test]
fn what_the_file_should_have_and_has_not_is_missed_once() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &paid(), after(1));
    let payment = CardPayment {
        reference: "portal-1".to_owned(),
        transaction: "t-7".to_owned(),
        card: None,
        charged_at: after(60),
    };
    let key = bed.key();
    let paid_in = bed
        .ledger
        .deposit_by_card(account, kr(100), &payment, &key, after(60));
    paid_in.unwrap();
    let mut file = |charges: &[ListedCharge], from: u64, through: u64| {
        let file = SettlementFile {
            charges: charges.to_vec(),
            covers: Some((after(from), after(through))),
        };
        let settlement = bed.ledger.reconcile(&file, after(86_400)).unwrap();
        bed.check_books();
        settlement.missing
    };
    assert_eq!(file(&[], 100, 86_400), [""; 0], "made before that time");
    let listed = listed("first", kr(200), ChargeState::Settled);
    assert_eq!(file(&[listed], 0, 86_400), ["portal-1"]);
    assert_eq!(file(&[], 0, 86_400), [""; 0]);
    assert_eq!(bed.flags(), ["settlement_missing"]);
    assert_eq!(bed.balance(account), kr(330), "a person decides");
}

#[test]
fn a_deposit_by_card_that_is_held_back_is_an_alarm_and_a_person_decides() {
    let mut bed = Bed::new();
    let (account, _) = bed.account(kr(0));
    let payment = CardPayment {
        reference: "portal-1".to_owned(),
        transaction: "t-1".to_owned(),
        card: Some(CARD.to_owned()),
        charged_at: NOW,
    };
    let key = bed.key();
    let paid_in = bed
        .ledger
        .deposit_by_card(account, kr(200), &payment, &key, NOW);
    paid_in.unwrap();
    let settled = listed("portal-1", kr(200), ChargeState::Settled);
    assert_eq!(counts(&reconcile(&mut bed, &[settled])), (1, 0, 0, 0, 0));
    let held = listed("portal-1", kr(200), ChargeState::Suspended);
    assert_eq!(counts(&reconcile(&mut bed, &[held])), (0, 0, 1, 0, 0));
    assert_eq!(bed.flags(), ["charge_suspended"]);
    assert_eq!(bed.balance(account), kr(200));
}
