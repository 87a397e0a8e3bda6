use std::collections::BTreeMap;

use proptest::prelude::*;
use sync_proto::EntryBody;

use super::*;
use crate::testbed::{Bed, NOW, TestTill, decline, kr, ore, sale, void};

mod firing;
mod rows;

const CARD: &str = "demo-card-1";

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

/// An account with an armed agreement over 200 kr.
fn armed(bed: &mut Bed, balance: Money, card: &str) -> (AccountId, i64) {
    let (account, chip) = bed.account(balance.checked_sub(kr(100)).unwrap());
    bed.pay_in(account, kr(100));
    bed.ledger
        .make_agreement(account, kr(200), card, NOW)
        .unwrap();
    (account, chip)
}

fn stage(bed: &Bed, account: AccountId) -> String {
    let rows = bed
        .ledger
        .list_top_ups(Reach::Everything, Some(account), 100)
        .unwrap();
    let mut stages: Vec<_> = rows.iter().map(|row| row.stage.code()).collect();
    stages.reverse();
    stages.join(" ")
}

fn coalesced(bed: &Bed, account: AccountId) -> u32 {
    bed.ledger
        .list_top_ups(Reach::Everything, Some(account), 1)
        .unwrap()[0]
        .coalesced
}

fn told(bed: &Bed, account: AccountId, now: Timestamp) -> &'static str {
    let account = bed.ledger.account(account).unwrap();
    let record = top_up_record(&bed.ledger.db, &account, now).unwrap();
    record.map_or("none", |record| record.state.code())
}

/// Takes what is due, which must be one charge, and commits it under a name.
#[track_caller]
fn begin(bed: &mut Bed, reference: &str, now: Timestamp) -> Option<ChargeOrder> {
    let due = bed.ledger.due_top_ups(now, 10).unwrap();
    let [TopUpWork::Charge(id)] = due.as_slice() else {
        panic!("due at {now}: {due:?}");
    };
    bed.ledger.begin_charge(*id, reference, now).unwrap()
}

/// Buys for 30 kr with 60 kr on an armed account, and commits the charge.
fn charged(bed: &mut Bed) -> (AccountId, i64, ChargeOrder) {
    let (account, chip) = armed(bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(30))]);
    let order = begin(bed, "first", NOW).unwrap();
    (account, chip, order)
}

fn paid() -> ChargeAnswer {
    ChargeAnswer::Paid {
        transaction: "t-1".to_owned(),
        amount: kr(200),
    }
}

fn declined(kind: DeclineKind) -> ChargeAnswer {
    ChargeAnswer::Declined {
        kind,
        code: "51".to_owned(),
        text: "no".to_owned(),
    }
}

fn charge_answer(bed: &mut Bed, order: &ChargeOrder, answer: &ChargeAnswer, now: Timestamp) {
    bed.ledger.record_charge(order, answer, now).unwrap();
    bed.check_books();
}

fn look_up_answer(bed: &mut Bed, order: &ChargeOrder, answer: &ChargeAnswer, now: Timestamp) {
    let due = bed.ledger.due_top_ups(now, 10).unwrap();
    assert_eq!(due, [TopUpWork::LookUp(order.clone())], "at {now}");
    bed.ledger.record_look_up(order, answer, now).unwrap();
    bed.check_books();
}

#[track_caller]
fn check(balance: Money, bought: &[Money], refused: &[(&str, Money)], expect: &str) {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, balance, CARD);
    let mut till = bed.till("kasse-1");
    let bought = bought.iter().map(|amount| sale(account, chip, *amount));
    let refused = refused
        .iter()
        .map(|(reason, amount)| decline(account, chip, *amount, reason));
    let entries: Vec<_> = bought.chain(refused).collect();
    bed.send(&mut till, entries);
    assert_eq!(stage(&bed, account), expect, "{balance}");
}

#[test]
fn tu_20_and_26_a_charge_is_booked_once_whoever_reports_it() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    assert_eq!(stage(&bed, account), "unknown");
    look_up_answer(&mut bed, &order, &paid(), after(5));
    charge_answer(&mut bed, &order, &paid(), after(6));
    bed.ledger
        .record_look_up(&order, &paid(), after(7))
        .unwrap();
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
    assert_eq!(bed.own_balance("gateway"), kr(-200));
    assert_eq!(told(&bed, account, after(8)), "idle");
}

#[test]
fn tu_21_and_23_a_charge_that_never_arrived_is_sent_again_when_that_is_certain() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    // As after a crash: the charge is found under way and looked up first.
    let work = bed.ledger.interrupted_top_ups().unwrap();
    assert_eq!(work, [TopUpWork::LookUp(order.clone())]);
    bed.ledger
        .record_look_up(&order, &ChargeAnswer::NotFound, after(1))
        .unwrap();
    for seconds in [30, 120] {
        assert_eq!(bed.ledger.due_top_ups(after(seconds - 1), 10).unwrap(), []);
        look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(seconds));
        assert_eq!(stage(&bed, account), "unknown");
    }
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(720));
    assert_eq!(stage(&bed, account), "intent");
    let again = begin(&mut bed, "second", after(720)).unwrap();
    assert_eq!(again.reference, "first");
    charge_answer(&mut bed, &again, &paid(), after(721));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn not_found_long_after_the_charge_needs_a_person() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    look_up_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(5));
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(24 * 3600));
    assert_eq!(
        (stage(&bed, account).as_str(), told(&bed, account, NOW)),
        ("stuck", "pending")
    );
    assert_eq!(bed.flags(), ["top_up_stuck"]);
    // The gateway finds it after all.
    look_up_answer(&mut bed, &order, &paid(), after(25 * 3600 + 1));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn a_stuck_top_up_can_be_given_up_by_a_person() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    assert!(
        bed.ledger.give_up_top_up(order.id, NOW).is_err(),
        "it is not stuck yet"
    );
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, after(24 * 3600));
    bed.ledger
        .give_up_top_up(order.id, after(25 * 3600))
        .unwrap();
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("failed", kr(30))
    );
    assert_eq!(told(&bed, account, after(25 * 3600)), "idle");
}

#[test]
fn tu_28_an_identical_transaction_is_looked_up_and_waited_out() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(
        &mut bed,
        &order,
        &declined(DeclineKind::Duplicate),
        after(1),
    );
    assert_eq!(stage(&bed, account), "unknown");
    look_up_answer(
        &mut bed,
        &order,
        &declined(DeclineKind::Duplicate),
        after(5),
    );
    assert_eq!(stage(&bed, account), "intent");
    assert_eq!(bed.ledger.due_top_ups(after(719), 10).unwrap(), []);
    let again = begin(&mut bed, "second", after(720)).unwrap();
    assert_eq!(
        again.reference, "second",
        "the gateway would repeat its refusal of the first"
    );
    charge_answer(&mut bed, &again, &paid(), after(721));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn tu_27_an_identical_transaction_that_was_ours_is_booked() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(
        &mut bed,
        &order,
        &declined(DeclineKind::Duplicate),
        after(1),
    );
    look_up_answer(&mut bed, &order, &paid(), after(5));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn tu_29_siblings_on_one_card_wait_for_each_other_when_the_amount_is_equal() {
    let mut bed = Bed::new();
    let (anna, anna_chip) = armed(&mut bed, kr(60), CARD);
    let (bo, bo_chip) = armed(&mut bed, kr(60), CARD);
    let (eva, eva_chip) = armed(&mut bed, kr(60), "demo-card-2");
    let mut till = bed.till("kasse-1");
    let buy = |account, chip| sale(account, chip, kr(30));
    bed.send(
        &mut till,
        [buy(anna, anna_chip), buy(bo, bo_chip), buy(eva, eva_chip)],
    );
    let due = bed.ledger.due_top_ups(NOW, 10).unwrap();
    let begun: Vec<bool> = due
        .iter()
        .enumerate()
        .map(|(n, work)| {
            let TopUpWork::Charge(id) = work else {
                panic!("{work:?}")
            };
            bed.ledger
                .begin_charge(*id, &format!("ref-{n}"), NOW)
                .unwrap()
                .is_some()
        })
        .collect();
    assert_eq!(begun.iter().filter(|begun| **begun).count(), 2);
    let stages = [anna, bo].map(|account| stage(&bed, account));
    assert!(stages.contains(&"intent".to_owned()) && stages.contains(&"requested".to_owned()));
    assert_eq!(stage(&bed, eva), "requested");
    let due = bed.ledger.due_top_ups(after(720), 10).unwrap();
    assert!(
        matches!(due.as_slice(), [.., TopUpWork::Charge(_)]),
        "{due:?}"
    );
}

#[test]
fn tu_33_no_funds_backs_off_and_the_third_time_in_a_row_ends_the_agreement() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(40), CARD);
    let mut till = bed.till("kasse-1");
    let hours = |hours: u64| after(hours * 3600);
    let mut now = NOW;
    for (n, retry) in [(1, 24), (2, 24 + 72), (3, 0)] {
        bed.send_at(&mut till, [sale(account, chip, kr(1))], now);
        let order = begin(&mut bed, &format!("ref-{n}"), now).unwrap();
        charge_answer(&mut bed, &order, &declined(DeclineKind::Soft), now);
        assert_eq!(told(&bed, account, now), "failed");
        if retry == 0 {
            break;
        }
        let almost = hours(retry) - jiff::SignedDuration::from_secs(1);
        bed.send_at(&mut till, [sale(account, chip, kr(1))], almost);
        assert_eq!(bed.ledger.due_top_ups(almost, 10).unwrap(), []);
        now = hours(retry);
        bed.ledger.end_waits(now).unwrap();
        assert_eq!(told(&bed, account, now), "idle");
    }
    assert_eq!(stage(&bed, account), "failed failed failed");
    bed.send_at(&mut till, [sale(account, chip, kr(1))], hours(10_000));
    assert_eq!(
        (
            stage(&bed, account).as_str(),
            told(&bed, account, hours(10_000))
        ),
        ("failed failed failed", "failed")
    );
    assert_eq!(bed.own_balance("gateway"), Money::ZERO);
}

#[test]
fn tu_34_and_35_an_expired_card_ends_the_agreement_until_a_new_one_is_made() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), after(1));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("failed", kr(30))
    );
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    assert_eq!(
        (stage(&bed, account).as_str(), told(&bed, account, NOW)),
        ("failed", "failed")
    );
    bed.ledger
        .make_agreement(account, kr(300), "demo-card-new", after(60))
        .unwrap();
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    assert_eq!(stage(&bed, account), "failed intent");
    let order = begin(&mut bed, "other", after(60)).unwrap();
    assert_eq!(
        (order.card.as_str(), order.amount),
        ("demo-card-new", kr(300))
    );
}

#[test]
fn tu_36_a_chip_blocked_before_the_charge_means_no_charge() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    bed.send(&mut till, [sale(account, chip, kr(30))]);
    bed.ledger.block_chip(chip, NOW).unwrap();
    assert_eq!(begin(&mut bed, "first", NOW), None);
    assert_eq!(stage(&bed, account), "cancelled");
    bed.send(&mut till, [sale(account, chip, kr(1))]);
    assert_eq!(
        stage(&bed, account),
        "cancelled",
        "nothing is asked for while it is blocked"
    );
}

#[test]
fn tu_37_and_40_money_taken_while_the_chip_was_blocked_goes_back_once() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    bed.ledger.block_chip(chip, after(1)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(2));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("refunding", kr(30))
    );
    let id = order.id;
    assert_eq!(
        bed.ledger.due_top_ups(after(2), 10).unwrap(),
        [TopUpWork::Refund(id)]
    );
    let refund = bed
        .ledger
        .begin_refund(id, "back-1", after(2))
        .unwrap()
        .unwrap();
    assert_eq!(
        (refund.transaction.as_str(), refund.amount),
        ("t-1", kr(200))
    );
    bed.ledger
        .record_refund(id, &RefundAnswer::Again, after(3))
        .unwrap();
    let again = bed
        .ledger
        .begin_refund(id, "back-2", after(800))
        .unwrap()
        .unwrap();
    assert_eq!(again.reference, "back-1", "the same refund keeps its name");
    bed.ledger
        .record_refund(id, &RefundAnswer::Refunded, after(801))
        .unwrap();
    bed.ledger.reactivate_chip(chip, after(802)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(803));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("refunded", kr(30))
    );
}

#[test]
fn tu_38_a_chip_reactivated_before_the_answer_gets_its_money() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    bed.ledger.block_chip(chip, after(1)).unwrap();
    bed.ledger.reactivate_chip(chip, after(2)).unwrap();
    charge_answer(&mut bed, &order, &paid(), after(3));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
}

#[test]
fn tu_50_an_agreement_cancelled_meanwhile_books_what_was_taken_and_nothing_more() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(1));
    bed.ledger.cancel_agreement(account, after(2)).unwrap();
    look_up_answer(&mut bed, &order, &paid(), after(5));
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("settled", kr(230))
    );
    let mut till = bed.till("kasse-2");
    bed.send(&mut till, [sale(account, chip, kr(200))]);
    assert_eq!(
        (stage(&bed, account).as_str(), told(&bed, account, NOW)),
        ("settled", "none")
    );
}

#[test]
fn tu_44_a_gateway_out_of_reach_is_tried_again_until_the_balance_is_enough() {
    let mut bed = Bed::new();
    let (account, _, mut order) = charged(&mut bed);
    let mut now = NOW;
    for wait in [30, 60, 120, 300, 600, 600] {
        charge_answer(&mut bed, &order, &ChargeAnswer::NotSent, now);
        assert_eq!(stage(&bed, account), "intent");
        let almost = now + Duration::from_secs(wait - 1);
        assert_eq!(bed.ledger.due_top_ups(almost, 10).unwrap(), []);
        now += Duration::from_secs(wait);
        order = begin(&mut bed, "next", now).unwrap();
        assert_eq!(order.reference, "first");
    }
    charge_answer(&mut bed, &order, &ChargeAnswer::NotSent, now);
    bed.pay_in(account, kr(100));
    assert_eq!(
        begin(&mut bed, "next", now + Duration::from_secs(600)),
        None
    );
    assert_eq!(
        (stage(&bed, account).as_str(), bed.balance(account)),
        ("cancelled", kr(130))
    );
}

#[test]
fn tu_43_no_more_than_two_top_ups_of_an_account_in_a_day() {
    let mut bed = Bed::new();
    let (account, chip) = armed(&mut bed, kr(60), CARD);
    let mut till = bed.till("kasse-1");
    for n in 0..3_u64 {
        let now = after(n * 1000);
        bed.send_at(&mut till, [sale(account, chip, kr(195))], now);
        if n < 2 {
            let order = begin(&mut bed, &format!("ref-{n}"), now).unwrap();
            charge_answer(&mut bed, &order, &paid(), now);
        }
    }
    assert_eq!(stage(&bed, account), "settled settled");
    assert!(bed.flags().contains(&"top_up_cap".to_owned()));
    let tomorrow = after(25 * 3600);
    bed.send_at(&mut till, [sale(account, chip, kr(1))], tomorrow);
    assert_eq!(stage(&bed, account), "settled settled intent");
}

#[test]
fn agreements_are_whole_kroner_within_bounds_and_one_at_a_time() {
    let mut bed = Bed::new();
    let (account, _) = bed.account(kr(100));
    for amount in [kr(0), kr(-50), kr(49), ore(50_50), kr(1001)] {
        let made = bed.ledger.make_agreement(account, amount, CARD, NOW);
        let refused = matches!(
            &made,
            Err(LedgerError::Refused(Refusal::TopUpAmount { .. }))
        );
        assert!(refused, "{amount}: {made:?}");
    }
    bed.ledger
        .make_agreement(account, kr(50), CARD, NOW)
        .unwrap();
    let second = bed.ledger.make_agreement(account, kr(50), CARD, NOW);
    assert!(matches!(
        second,
        Err(LedgerError::Refused(Refusal::Exists { .. }))
    ));
    bed.ledger.cancel_agreement(account, NOW).unwrap();
    bed.ledger
        .make_agreement(account, kr(1000), CARD, NOW)
        .unwrap();
}

/// A gateway that takes money and loses messages; it holds the window against equal charges.
#[derive(Default)]
struct Gateway {
    seen: BTreeMap<String, bool>,
    taken: Vec<(String, Timestamp)>,
}

impl Gateway {
    fn charge(&mut self, order: &ChargeOrder, now: Timestamp) -> ChargeAnswer {
        if let Some(taken) = self.seen.get(&order.reference) {
            return if *taken {
                paid()
            } else {
                declined(DeclineKind::Duplicate)
            };
        }
        let window = jiff::SignedDuration::from_mins(10);
        let identical = self
            .taken
            .iter()
            .any(|(_, at)| now.duration_since(*at) < window);
        self.seen.insert(order.reference.clone(), !identical);
        if identical {
            return declined(DeclineKind::Duplicate);
        }
        self.taken.push((order.reference.clone(), now));
        paid()
    }

    fn look_up(&self, order: &ChargeOrder) -> ChargeAnswer {
        match self.seen.get(&order.reference) {
            None => ChargeAnswer::NotFound,
            Some(true) => paid(),
            Some(false) => declined(DeclineKind::Duplicate),
        }
    }
}

fn trouble(bed: &mut Bed, till: &mut TestTill, entries: [EntryBody; 2], now: Timestamp) {
    bed.send_at(till, entries, now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is lost on the way: what the card paid is what the account got, in the end.
    #[test]
    fn the_card_pays_exactly_what_is_booked(
        fates in prop::collection::vec((0u8..6, 1u64..400), 1..60),
    ) {
        let mut bed = Bed::new();
        let (anna, anna_chip) = armed(&mut bed, kr(60), CARD);
        let (bo, bo_chip) = armed(&mut bed, kr(60), CARD);
        let mut till = bed.till("kasse-1");
        let mut gateway = Gateway::default();
        let buy = [sale(anna, anna_chip, kr(30)), sale(bo, bo_chip, kr(30))];
        trouble(&mut bed, &mut till, buy, NOW);
        let mut now = NOW;
        let calm = std::iter::repeat_n((0, 200), 60);
        for (n, (fate, seconds)) in fates.into_iter().chain(calm).enumerate() {
            now += Duration::from_secs(seconds);
            for work in bed.ledger.due_top_ups(now, 10).unwrap() {
                match work {
                    TopUpWork::Charge(id) => {
                        let reference = format!("ref-{n}-{id}");
                        let begun = bed.ledger.begin_charge(id, &reference, now).unwrap();
                        let Some(order) = begun else { continue };
                        // 0: all well, 1: request lost, 2: answer lost, 3: a crash before the
                        // request, 4: a crash after it, 5: provably not sent.
                        let reached = matches!(fate, 0 | 2 | 4);
                        let answer = reached.then(|| gateway.charge(&order, now));
                        let heard = match (fate, answer) {
                            (0, Some(answer)) => Some(answer),
                            (5, _) => Some(ChargeAnswer::NotSent),
                            (1 | 2, _) => Some(ChargeAnswer::Unknown),
                            _ => None,
                        };
                        if let Some(answer) = heard {
                            bed.ledger.record_charge(&order, &answer, now).unwrap();
                        }
                    }
                    TopUpWork::LookUp(order) => {
                        let answer = match fate {
                            1 | 2 => ChargeAnswer::Unknown,
                            _ => gateway.look_up(&order),
                        };
                        bed.ledger.record_look_up(&order, &answer, now).unwrap();
                    }
                    TopUpWork::Refund(id) => prop_assert!(false, "nothing is blocked: {id}"),
                }
                bed.check_books();
            }
        }
        let taken = kr(200).checked_mul(gateway.taken.len() as u32).unwrap();
        prop_assert_eq!(bed.own_balance("gateway"), taken.checked_neg().unwrap());
        prop_assert!(gateway.taken.len() <= 2, "one for each account");
        for account in [anna, bo] {
            let stage = stage(&bed, account);
            prop_assert!(stage == "settled" || stage == "stuck", "{}", stage);
        }
        for pair in gateway.taken.windows(2) {
            prop_assert!(pair[1].1.duration_since(pair[0].1) >= jiff::SignedDuration::from_mins(12));
        }
    }
}
