//! Rows of the table of top-ups that are not about what fires: restarts, siblings, clocks.

use canteen::Money;
use jiff::Timestamp;

use super::*;

/// Where a charge stands after these answers, and what the account holds.
#[track_caller]
fn expect(bed: &Bed, account: AccountId, stages: &str, balance: Money) {
    assert_eq!(
        (stage(bed, account).as_str(), bed.balance(account)),
        (stages, balance)
    );
    bed.check_books();
}

/// An agreement over an amount, on an account into which money was paid.
fn agreed(bed: &mut Bed, paid_in: &[i32], balance: Money, amount: Money) -> (AccountId, i64) {
    let sum: i32 = paid_in.iter().sum();
    let (account, chip) = bed.account(balance.checked_sub(kr(sum)).unwrap());
    for kroner in paid_in {
        bed.pay_in(account, kr(*kroner));
    }
    bed.ledger
        .make_agreement(account, amount, CARD, NOW)
        .unwrap();
    (account, chip)
}

#[test]
fn tu_10_less_than_100_kr_paid_in_is_not_armed() {
    let mut bed = Bed::new();
    let (account, chip) = agreed(&mut bed, &[99], kr(60), kr(200));
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(50))]);
    expect(&bed, account, "", kr(10));
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

/// Who of several accounts may be charged at once, by card and agreed amount.
fn begun_at_once(accounts: [(&str, Money); 2]) -> usize {
    let mut bed = Bed::new();
    let mut till = bed.till("kasse-1");
    for (card, amount) in accounts {
        let (account, chip) = bed.account(kr(-40));
        bed.pay_in(account, kr(100));
        bed.ledger
            .make_agreement(account, amount, card, NOW)
            .unwrap();
        bed.send(&mut till, [sale(account, chip, kr(30))]);
    }
    let due = bed.ledger.due_top_ups(NOW, 10).unwrap();
    let begun = due.iter().zip(0..).filter(|(work, n)| {
        let TopUpWork::Charge(id) = work else {
            panic!("{work:?}");
        };
        let reference = format!("ref-{n}");
        bed.ledger
            .begin_charge(*id, &reference, NOW)
            .unwrap()
            .is_some()
    });
    begun.count()
}

#[test]
fn tu_30_different_amounts_of_siblings_go_at_once() {
    assert_eq!(begun_at_once([(CARD, kr(200)), (CARD, kr(300))]), 2);
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
    bed.ledger
        .record_look_up(&order, &paid(), after(30 * 3600))
        .unwrap();
    expect(&bed, account, "settled", kr(230));
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
