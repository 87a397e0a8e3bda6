use std::collections::BTreeMap;

use proptest::prelude::*;
use sync_proto::EntryBody;

use super::*;
use crate::agreements::top_up_record;
use crate::testbed::{Bed, NOW, TestTill, decline, kr, ore, sale, void};

mod blocking;
mod charging;
mod declining;
mod deposits;
mod firing;
mod held_cards;
mod settling;
mod telling;

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
        .list_top_ups(Reach::Everything, Some(account), None, 100)
        .unwrap();
    let mut stages: Vec<_> = rows.iter().map(|row| row.stage.code()).collect();
    stages.reverse();
    stages.join(" ")
}

fn coalesced(bed: &Bed, account: AccountId) -> u32 {
    bed.ledger
        .list_top_ups(Reach::Everything, Some(account), None, 1)
        .unwrap()[0]
        .coalesced
}

fn told(bed: &Bed, account: AccountId, now: Timestamp) -> &'static str {
    let account = bed.ledger.account(account).unwrap();
    let record = top_up_record(&bed.ledger.db, &account, now).unwrap();
    record.map_or("none", |record| record.state.code())
}

/// What people are told, oldest first.
fn notices(bed: &Bed) -> Vec<&'static str> {
    let filter = crate::NoticeFilter::default();
    let notices = bed
        .ledger
        .list_notices(Reach::Everything, filter, i64::MAX, 100);
    let notices = notices.unwrap().into_iter().rev();
    notices.map(|notice| notice.reason.code()).collect()
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

/// Begins every charge that is due.
fn begin_all(bed: &mut Bed, now: Timestamp) -> Vec<ChargeOrder> {
    let due = bed.ledger.due_top_ups(now, 10).unwrap();
    let charges = due.into_iter().filter_map(|work| match work {
        TopUpWork::Charge(id) => Some(id),
        TopUpWork::LookUp(_) | TopUpWork::Refund(_) => None,
    });
    charges
        .filter_map(|id| {
            let reference = format!("{id} at {now}");
            bed.ledger.begin_charge(id, &reference, now).unwrap()
        })
        .collect()
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

#[test]
fn the_list_goes_on_where_the_page_before_ended_and_stays_within_reach() {
    let mut bed = Bed::new();
    let payers: Vec<_> = (0..5)
        .map(|n| armed(&mut bed, kr(60), &format!("demo-card-{n}")))
        .collect();
    let mut till = bed.till("kasse-1");
    // All in the same moment.
    let sales = payers
        .iter()
        .map(|(account, chip)| sale(*account, *chip, kr(30)));
    bed.send(&mut till, sales);
    let list = |before, limit| {
        let reach = Reach::Everything;
        let rows = bed.ledger.list_top_ups(reach, None, before, limit).unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = list(None, 100);
    assert_eq!(all.len(), 5);
    let mut read = Vec::new();
    while read.len() < 5 {
        let page = list(read.last().copied(), 2);
        assert!((1..=2).contains(&page.len()), "{page:?}");
        read.extend(page);
    }
    assert_eq!(read, all);
    assert_eq!(list(all.last().copied(), 2), []);
    // Nothing stands behind what is not in the list.
    assert_eq!(list(Some(TopUpId(uuid::Uuid::nil())), 2), []);
    let elsewhere = bed.ledger.tenant_named("Anden Kommune").unwrap();
    let theirs = bed
        .ledger
        .list_top_ups(Reach::Tenant(elsewhere), None, Some(all[0]), 9);
    assert_eq!(theirs.unwrap(), []);
}

#[test]
fn the_newest_top_ups_are_found_without_going_through_all() {
    let bed = Bed::new();
    for (of_account, index) in [(true, "top_up_of_account"), (false, "top_up_in_order")] {
        let plan = bed.plan(&newest_top_ups(of_account));
        assert!(plan[0].contains(index), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("B-TREE")), "{plan:?}");
    }
}
