//! What becomes of a charge whose answer is lost, late or unclear, and of equal charges on one card.

use super::*;
use crate::{ChargeState, ListedCharge, SettlementFile};

#[test]
fn tu_20_an_approval_whose_answer_is_lost_is_found_by_the_look_up() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    assert_eq!(stage(&bed, account), "unknown");
    look_up_answer(&mut bed, &order, &paid(), after(5));
    expect(&bed, account, "settled", kr(230));
    assert_eq!(bed.own_balance("gateway"), kr(-200));
    assert_eq!(told(&bed, account, after(8)), "idle");
}

#[test]
fn tu_21_a_request_that_was_lost_is_sent_again_when_that_is_certain() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    for seconds in [5, 30, 120, 720] {
        assert_eq!(stage(&bed, account), "unknown");
        let almost = after(seconds - 1);
        assert_eq!(bed.ledger.due_top_ups(almost, 10).unwrap(), []);
        look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(seconds));
    }
    let again = begin(&mut bed, "second", after(720)).unwrap();
    assert_eq!(
        again.reference, "first",
        "should the first arrive after all, the gateway takes the two for one"
    );
    charge_answer(&mut bed, &again, &paid(), after(721));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_22_a_request_that_arrives_after_the_first_look_ups_is_found_and_charged_once() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    for seconds in [5, 30] {
        look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(seconds));
    }
    look_up_answer(&mut bed, &order, &paid(), after(120));
    expect(&bed, account, "settled", kr(230));
    assert_eq!(bed.ledger.due_top_ups(after(9999), 10).unwrap(), []);
}

/// After a restart a charge is looked up before anything else; here it was never sent.
#[test]
fn tu_23_a_crash_before_sending_is_followed_by_a_second_attempt_after_the_spacing() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let work = bed.ledger.interrupted_top_ups().unwrap();
    assert_eq!(work, [TopUpWork::LookUp(order.clone())]);
    bed.ledger
        .record_look_up(&order, &ChargeAnswer::NotFound, after(1))
        .unwrap();
    for seconds in [30, 120, 720] {
        look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(seconds));
    }
    let again = begin(&mut bed, "second", after(720)).unwrap();
    charge_answer(&mut bed, &again, &paid(), after(721));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_24_a_crash_before_the_answer_is_resolved_by_a_look_up() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let work = bed.ledger.interrupted_top_ups().unwrap();
    assert_eq!(work, [TopUpWork::LookUp(order.clone())]);
    bed.ledger
        .record_look_up(&order, &paid(), after(1))
        .unwrap();
    expect(&bed, account, "settled", kr(230));
}

/// That money was taken and that it is booked is one step here, so a crash leaves either or both.
#[test]
fn tu_25_a_charge_that_was_captured_is_booked_once_after_a_restart() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &paid(), after(1));
    assert_eq!(bed.ledger.interrupted_top_ups().unwrap(), []);
    bed.ledger
        .record_look_up(&order, &paid(), after(2))
        .unwrap();
    expect(&bed, account, "settled", kr(230));
}

/// Who can report that the card was charged.
#[derive(Debug, Clone, Copy)]
enum Reporter {
    Answer,
    LookUp,
    GatewayList,
}

fn report(bed: &mut Bed, order: &ChargeOrder, reporter: Reporter, now: Timestamp) {
    match reporter {
        Reporter::Answer => charge_answer(bed, order, &paid(), now),
        Reporter::LookUp => bed.ledger.record_look_up(order, &paid(), now).unwrap(),
        Reporter::GatewayList => {
            let charge = GatewayCharge {
                reference: order.reference.clone(),
                transaction: "t-1".to_owned(),
                card: CARD.to_owned(),
                amount: kr(200),
                charged_at: NOW,
            };
            let imported = bed.ledger.import_charges(&[charge], now).unwrap();
            assert_eq!(imported.unmatched, [""; 0]);
        }
    }
}

#[test]
fn tu_26_one_posting_whoever_reports_success_and_in_whatever_order() {
    use Reporter::{Answer, GatewayList, LookUp};
    for order_of_reports in [
        [Answer, LookUp, GatewayList],
        [Answer, GatewayList, LookUp],
        [LookUp, Answer, GatewayList],
        [LookUp, GatewayList, Answer],
        [GatewayList, Answer, LookUp],
        [GatewayList, LookUp, Answer],
    ] {
        let mut bed = Bed::new();
        let (account, _, order) = charged(&mut bed);
        for (reporter, seconds) in order_of_reports.into_iter().zip(1..) {
            report(&mut bed, &order, reporter, after(seconds));
            expect(&bed, account, "settled", kr(230));
            let taken = bed.own_balance("gateway");
            assert_eq!(taken, kr(-200), "{order_of_reports:?}");
        }
    }
}

#[test]
fn tu_27_an_identical_transaction_that_was_ours_is_booked() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let identical = declined(DeclineKind::Duplicate);
    charge_answer(&mut bed, &order, &identical, after(1));
    look_up_answer(&mut bed, &order, &paid(), after(5));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_28_an_identical_transaction_of_a_sibling_is_waited_out() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let identical = declined(DeclineKind::Duplicate);
    charge_answer(&mut bed, &order, &identical, after(1));
    look_up_answer(&mut bed, &order, &identical, after(5));
    assert_eq!(stage(&bed, account), "intent");
    assert_eq!(bed.ledger.due_top_ups(after(719), 10).unwrap(), []);
    let again = begin(&mut bed, "second", after(720)).unwrap();
    assert_eq!(
        again.reference, "second",
        "the gateway would repeat its refusal of the first"
    );
    charge_answer(&mut bed, &again, &paid(), after(721));
    expect(&bed, account, "settled", kr(230));
}

/// Siblings who all buy in the same second, by card and agreed amount, and how many charges leave.
fn siblings(bed: &mut Bed, agreements: &[(&str, Money)]) -> (Vec<AccountId>, usize) {
    let mut accounts = Vec::new();
    let mut entries = Vec::new();
    for (card, amount) in agreements {
        let (account, chip) = bed.account(kr(-40));
        bed.pay_in(account, kr(100));
        bed.ledger
            .make_agreement(account, *amount, card, NOW)
            .unwrap();
        entries.push(sale(account, chip, kr(30)));
        accounts.push(account);
    }
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, entries);
    let begun = begin_all(bed, NOW);
    (accounts, begun.len())
}

#[test]
fn tu_29_equal_charges_of_siblings_on_one_card_are_spaced() {
    let mut bed = Bed::new();
    let equal = (CARD, kr(200));
    let (accounts, begun) = siblings(&mut bed, &[equal, equal, ("demo-card-2", kr(200))]);
    assert_eq!(begun, 2, "one on each card");
    let mut stages: Vec<_> = accounts.iter().map(|id| stage(&bed, *id)).collect();
    stages[..2].sort();
    assert_eq!(stages, ["intent", "requested", "requested"]);
    assert_eq!(begin_all(&mut bed, after(719)), []);
    assert_eq!(begin_all(&mut bed, after(720)).len(), 1);
}

#[test]
fn tu_30_different_amounts_of_siblings_go_at_once() {
    let mut bed = Bed::new();
    let (_, begun) = siblings(&mut bed, &[(CARD, kr(200)), (CARD, kr(300))]);
    assert_eq!(begun, 2);
}

/// An answer 500 says nothing of whether money was taken, so it is as good as none.
#[test]
fn tu_45_a_failure_after_the_charge_is_resolved_by_a_look_up() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    assert_eq!(stage(&bed, account), "unknown");
    look_up_answer(&mut bed, &order, &paid(), after(5));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_46_without_look_ups_a_person_decides() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    look_up_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(5));
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(24 * 3600));
    expect(&bed, account, "stuck", kr(30));
    assert_eq!(bed.flags(), ["top_up_stuck"]);
    // What the settlement file shows is the gateway's word, whenever it comes.
    let settled = ListedCharge {
        reference: order.reference.clone(),
        transaction: "t-1".to_owned(),
        card: None,
        amount: kr(200),
        state: ChargeState::Settled,
    };
    let file = SettlementFile {
        charges: vec![settled],
        covers: None,
    };
    bed.ledger.reconcile(&file, after(30 * 3600)).unwrap();
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_49_a_running_top_up_keeps_its_amount() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    bed.ledger.cancel_agreement(account, after(2)).unwrap();
    bed.ledger
        .make_agreement(account, kr(500), CARD, after(3))
        .unwrap();
    look_up_answer(&mut bed, &order, &paid(), after(5));
    expect(&bed, account, "settled", kr(230));
}

#[test]
fn tu_50_what_was_taken_before_it_was_switched_off_is_booked_and_nothing_more() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    bed.ledger.cancel_agreement(account, after(2)).unwrap();
    look_up_answer(&mut bed, &order, &paid(), after(5));
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, [sale(account, chip, kr(200))]);
    expect(&bed, account, "settled", kr(30));
}

/// In the night to 25 October 2026 the clock is set back at three: the hour from two to three comes
/// twice, and the spacing is still twelve minutes.
#[test]
fn tu_51_a_change_of_the_clock_does_not_change_the_spacing() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    let before: Timestamp = "2026-10-25T00:55:00Z".parse().unwrap();
    bed.send_at(&mut till, [sale(account, chip, kr(30))], before);
    let order = begin(&mut bed, "first", before).unwrap();
    let identical = declined(DeclineKind::Duplicate);
    let seconds = |seconds| before + Duration::from_secs(seconds);
    charge_answer(&mut bed, &order, &identical, seconds(1));
    look_up_answer(&mut bed, &order, &identical, seconds(5));
    assert_eq!(bed.ledger.due_top_ups(seconds(719), 10).unwrap(), []);
    assert!(begin(&mut bed, "second", seconds(720)).is_some());
}
