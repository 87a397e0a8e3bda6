use canteen::AccountId;
use proptest::prelude::*;
use sync_proto::{BatchRefusal, EntryBody, EntryFate, FeedRefusal, Start};

use super::*;
use crate::seller::{Seller, bound, sellers};
use crate::testbed::{Bed, NOW, kr, ore};
use crate::{
    ChargeAnswer, Correction, Fingerprint, GatewayCharge, ImportedCharges, LedgerError, NewTill,
    TopUpWork,
};

fn restore_of(bed: &Bed) -> Restore {
    bed.ledger.restore(Reach::Everything).unwrap()
}

/// The names of the tills that the canteen waits for; `None` when it is not frozen.
fn missing(bed: &Bed) -> Option<Vec<String>> {
    let restore = restore_of(bed);
    let frozen = restore.frozen.first()?;
    let missing = frozen.missing.iter();
    Some(missing.map(|till| till.till.to_string()).collect())
}

fn debit(bed: &mut Bed, account: AccountId, kroner: i32, force: bool) -> Result<(), LedgerError> {
    let key = bed.key();
    let correction = Correction {
        amount: kr(-kroner),
        reason: "Madplan".to_owned(),
        force,
    };
    let receipt = bed.ledger.correct(account, &correction, &key, NOW);
    receipt.map(drop)
}

/// What the till's program does when it has contact: it follows the hub into a new life.
fn follow(seller: &mut Seller, bed: &mut Bed) {
    match seller.ask(bed, NOW) {
        Ok(page) => seller.apply(&page),
        Err(FeedRefusal::SnapshotRequired) => seller.meet_new_life(bed),
        Err(refusal) => panic!("{refusal:?}"),
    }
}

#[test]
fn sy_25_a_hub_restored_to_yesterday_gets_everything_back_and_thaws_when_all_have_reported() {
    let mut bed = Bed::new();
    bound(&mut bed, kr(100), kr(200));
    let payer = bed.account(kr(500));
    let [mut one, mut two] = sellers(&mut bed);
    assert!(one.sell(payer, kr(10)));
    one.push_all(&mut bed);
    let backup = bed.back_up();
    assert!(one.sell(payer, kr(20)) && two.sell(payer, kr(30)));
    one.push_all(&mut bed);
    two.push_all(&mut bed);
    assert!(one.sell(payer, kr(40)), "and not sent yet");
    let before = bed.ledger.life().unwrap();
    bed.restore(backup);
    assert_ne!(bed.ledger.life().unwrap().hub_epoch, before.hub_epoch);
    assert_eq!(bed.balance(payer.0), kr(490));
    assert_eq!(
        missing(&bed),
        Some(vec!["kasse-1".into(), "kasse-2".into()])
    );
    // As long as nobody has reported, nothing is given and nothing is taken.
    debit(&mut bed, payer.0, 10, false).unwrap();
    assert_eq!(bed.balance(payer.0), kr(480), "it is set aside");
    assert_eq!(bed.own_balance("corrections"), Money::ZERO);
    let held = (one.left(payer.0), two.left(payer.0));
    let refused = one.ask(&mut bed, NOW).unwrap_err();
    assert_eq!(refused, FeedRefusal::SnapshotRequired);
    one.meet_new_life(&mut bed);
    assert_eq!(one.left(payer.0), held.0, "the till keeps its ceiling");
    let behind = bed.ingest(&one.till, &one.till.batch(3..=one.till.last_seq()));
    assert_eq!(behind, Err(BatchRefusal::Gap { expected: 2 }));
    assert!(one.authorise(&mut bed, payer.0, kr(150)).is_none());
    one.push_all(&mut bed);
    assert_eq!(missing(&bed), Some(vec!["kasse-2".into()]));
    assert_eq!(outstanding_of(&bed, "kasse-1"), held.0.ore());
    assert!(debit(&mut bed, payer.0, 10, true).is_ok(), "by force");
    two.meet_new_life(&mut bed);
    two.push_all(&mut bed);
    assert_eq!(missing(&bed), None);
    assert_eq!(bed.balance(payer.0), kr(500 - 10 - 20 - 30 - 40 - 20));
    one.catch_up(&mut bed);
    assert_eq!(one.left(payer.0), kr(200));
    assert!(debit(&mut bed, payer.0, 10, false).is_ok());
    assert_eq!(bed.flags(), ["forced_debit", "restored"]);
}

/// What the hub reckons that a till can still sell.
fn outstanding_of(bed: &Bed, till: &str) -> i64 {
    let sql = "SELECT sum(max(0, highest - gross)) FROM ceiling WHERE till = ?1";
    let row = bed.ledger.db.query_row(sql, [till], |row| row.get(0));
    row.unwrap()
}

#[test]
fn sy_26_while_one_till_is_away_the_others_sell_what_they_were_allowed_and_no_more() {
    let mut bed = Bed::new();
    bound(&mut bed, kr(100), kr(200));
    let payer = bed.account(kr(100));
    let [mut one, mut two] = sellers(&mut bed);
    assert_eq!((one.left(payer.0), two.left(payer.0)), (kr(100), kr(100)));
    let backup = bed.back_up();
    bed.restore(backup);
    follow(&mut one, &mut bed);
    one.push_all(&mut bed);
    assert!(one.sell(payer, kr(100)) && !one.sell(payer, kr(1)));
    one.push_all(&mut bed);
    // Money that comes in meanwhile is booked, and raises nothing.
    bed.pay_in(payer.0, kr(50));
    assert!(one.authorise(&mut bed, payer.0, kr(1)).is_none());
    follow(&mut one, &mut bed);
    assert_eq!(one.left(payer.0), Money::ZERO);
    assert_eq!(missing(&bed), Some(vec!["kasse-2".into()]));
    // A week later the other one comes, and has sold all that it was allowed.
    assert!(two.sell(payer, kr(100)));
    follow(&mut two, &mut bed);
    two.push_all(&mut bed);
    assert_eq!((missing(&bed), bed.balance(payer.0)), (None, kr(-50)));
}

#[test]
fn a_right_that_moved_to_another_till_after_the_backup_is_not_given_twice() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [mut one, mut two] = sellers(&mut bed);
    assert_eq!((one.left(payer.0), two.left(payer.0)), (kr(100), kr(0)));
    let backup = bed.back_up();
    // The pupil eats at the other till from now on.
    bound(&mut bed, kr(100), kr(200));
    two.catch_up(&mut bed);
    assert!(two.sell(payer, kr(10)));
    two.push_all(&mut bed);
    bound(&mut bed, Money::ZERO, kr(200));
    bed.ledger.block_account(payer.0, NOW).unwrap();
    for till in [&mut one, &mut two] {
        till.catch_up(&mut bed);
        till.write_feed_ack();
        till.push_all(&mut bed);
    }
    bed.ledger.reactivate_account(payer.0, NOW).unwrap();
    one.catch_up(&mut bed);
    two.catch_up(&mut bed);
    let rights = (kr(0), kr(90));
    assert_eq!((one.left(payer.0), two.left(payer.0)), rights);

    bed.restore(backup);
    bound(&mut bed, Money::ZERO, kr(200));
    for _ in 0..2 {
        follow(&mut one, &mut bed);
        one.push_all(&mut bed);
    }
    assert_eq!((one.left(payer.0), two.left(payer.0)), rights);
    follow(&mut two, &mut bed);
    two.push_all(&mut bed);
    for _ in 0..2 {
        follow(&mut one, &mut bed);
        follow(&mut two, &mut bed);
    }
    assert_eq!(missing(&bed), None);
    assert_eq!((one.left(payer.0), two.left(payer.0)), rights);
}

#[test]
fn sy_27_a_late_page_without_ceilings_acknowledges_none_that_was_lowered_since() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [mut one, mut two] = sellers(&mut bed);
    let backup = bed.back_up();
    bed.restore(backup);
    follow(&mut one, &mut bed);
    let late = one.till.feed;
    two.meet_new_life(&mut bed);
    two.push_all(&mut bed);
    one.push_all(&mut bed);
    assert_eq!(missing(&bed), None);
    bed.ledger.block_account(payer.0, NOW).unwrap();
    // The till still stands where it was told to keep its ceiling, and says so.
    assert_eq!((one.till.feed, one.left(payer.0)), (late, kr(100)));
    one.write_feed_ack();
    one.push_all(&mut bed);
    assert_eq!(bed.ledger.outstanding(payer.0).unwrap(), kr(100));
    one.catch_up(&mut bed);
    one.write_feed_ack();
    one.push_all(&mut bed);
    assert_eq!(bed.ledger.outstanding(payer.0).unwrap(), kr(0));
}

#[test]
fn a_report_counts_when_all_its_parts_are_booked() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(500));
    let [mut one] = sellers(&mut bed);
    let backup = bed.back_up();
    bed.restore(backup);
    one.fetch_snapshot(&mut bed);
    one.write_report(1, 2);
    one.push_all(&mut bed);
    assert!(missing(&bed).is_some());
    one.write_report(2, 2);
    one.push_all(&mut bed);
    assert!(missing(&bed).is_none());
    assert_eq!(one.left(payer.0), kr(200));
}

#[test]
fn a_till_that_is_gone_is_retired_or_the_freeze_is_ended_early_and_either_is_flagged() {
    let check = |early: bool| {
        let mut bed = Bed::new();
        let payer = bed.account(kr(50));
        bed.account(kr(500));
        let [mut one, two] = sellers(&mut bed);
        let backup = bed.back_up();
        bed.restore(backup);
        follow(&mut one, &mut bed);
        one.push_all(&mut bed);
        let restore = restore_of(&bed);
        // 200 kr. on each account, less what the backup knows of.
        assert_eq!(restore.frozen[0].at_risk, kr(150));
        assert_eq!(restore.frozen[0].missing[0].at_risk, kr(150));
        if early {
            assert_eq!(bed.ledger.unfreeze(bed.canteen, NOW).unwrap(), kr(150));
            let again = bed.ledger.unfreeze(bed.canteen, NOW);
            assert!(matches!(
                again,
                Err(LedgerError::Refused(Refusal::NotFrozen))
            ));
            assert_eq!(bed.flags()[0], "unfrozen");
        } else {
            let till = &two.till.access.till;
            bed.ledger.revoke_till(till, NOW).unwrap();
            let at_risk = bed.ledger.retire_till(till, NOW).unwrap();
            assert_eq!(at_risk, kr(400));
            assert_eq!(bed.flags()[0], "retired_till");
        }
        assert_eq!(missing(&bed), None);
        one.catch_up(&mut bed);
        assert!(one.sell(payer, kr(50)));
    };
    check(true);
    check(false);
}

#[test]
fn a_till_that_enrols_after_the_restore_is_not_waited_for_unless_its_ledger_is_older() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(100));
    let [mut old, _away] = sellers(&mut bed);
    let mut ledger_of_old = old.clone();
    let backup = {
        // The till that will turn out to be older is not in the backup at all.
        let mut empty = Bed::new();
        empty.account(kr(100));
        let [_one] = sellers::<1>(&mut empty);
        empty.back_up()
    };
    assert!(ledger_of_old.sell(payer, kr(10)));
    bed.restore(backup);
    let fresh = bed.till("kasse-7");
    assert_eq!(missing(&bed), Some(vec!["kasse-1".into()]));
    drop(fresh);
    // kasse-2 enrols with the ledger that it had before, and shows it with its first entries.
    let id: TillId = "kasse-2".parse().unwrap();
    let new = NewTill {
        id: id.clone(),
        canteen: bed.canteen,
        code: Fingerprint::of("kasse-2"),
    };
    bed.ledger.create_till(&new, NOW).unwrap();
    let mut two = bed.enrol_again("kasse-2");
    two.feed = old.till.feed;
    two.write(EntryBody::Start(Start {
        version: "1".to_owned(),
        strict_limits: false,
    }));
    assert!(bed.ingest(&two, &two.batch(1..=1)).is_ok());
    assert_eq!(
        missing(&bed),
        Some(vec!["kasse-1".into(), "kasse-2".into()])
    );
    follow(&mut old, &mut bed);
    old.push_all(&mut bed);
    assert_eq!(missing(&bed), Some(vec!["kasse-2".into()]));
}

#[test]
fn a_till_that_had_no_data_yet_is_waited_for_until_it_has_some() {
    let mut bed = Bed::new();
    bed.account(kr(100));
    let [mut one] = sellers(&mut bed);
    // Enrolled, and switched off before its first snapshot.
    let mut fresh = Seller {
        till: bed.till("kasse-2"),
        ..one.clone()
    };
    fresh.ceilings.clear();
    let backup = bed.back_up();
    bed.restore(backup);
    fresh.till.write(EntryBody::Start(Start {
        version: "1".to_owned(),
        strict_limits: false,
    }));
    fresh.push_all(&mut bed);
    let both = Some(vec!["kasse-1".into(), "kasse-2".into()]);
    assert_eq!(missing(&bed), both, "it may have been told something");
    fresh.fetch_snapshot(&mut bed);
    fresh.write_feed_ack();
    fresh.push_all(&mut bed);
    assert_eq!(missing(&bed), Some(vec!["kasse-1".into()]));
    // A till that holds ceilings of an earlier life reports them before it says anything else.
    follow(&mut one, &mut bed);
    one.push_all(&mut bed);
    assert_eq!(missing(&bed), None);
}

#[test]
fn a_hub_that_has_less_than_it_acknowledged_says_so() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(100));
    let [mut one] = sellers(&mut bed);
    let backup = bed.back_up();
    assert!(one.sell(payer, kr(10)));
    one.push_all(&mut bed);
    // Somebody copies the backup over the store and tells nobody.
    bed.put_back(backup);
    assert!(one.ask(&mut bed, NOW).is_ok());
    assert!(one.ask(&mut bed, NOW).is_ok());
    assert_eq!(bed.flags(), ["hub_behind"], "once");
}

fn charge(reference: &str, card: &str, kroner: i32) -> GatewayCharge {
    GatewayCharge {
        reference: reference.to_owned(),
        transaction: format!("t-{reference}"),
        card: card.to_owned(),
        amount: kr(kroner),
        charged_at: NOW,
    }
}

#[test]
fn tu_47_charges_that_a_restore_lost_are_credited_once_before_any_card_is_charged() {
    let mut bed = Bed::new();
    let mut till = bed.till("kasse-1");
    let cards = ["card-a", "card-b", "card-c", "card-d"];
    let payers = cards.map(|card| {
        let payer = bed.account(kr(0));
        bed.pay_in(payer.0, kr(100));
        bed.ledger
            .make_agreement(payer.0, kr(200), card, NOW)
            .unwrap();
        payer
    });
    let buy = |bed: &mut Bed, till: &mut _, payer: (AccountId, i64)| {
        bed.send(till, [crate::testbed::sale(payer.0, payer.1, kr(60))]);
    };
    let settle = |bed: &mut Bed, reference: &str| {
        let due = bed.ledger.due_top_ups(NOW, 10).unwrap();
        let Some(TopUpWork::Charge(id)) = due.first() else {
            panic!("{due:?}");
        };
        let order = bed
            .ledger
            .begin_charge(*id, reference, NOW)
            .unwrap()
            .unwrap();
        let paid = ChargeAnswer::Paid {
            transaction: format!("t-{reference}"),
            amount: kr(200),
        };
        bed.ledger.record_charge(&order, &paid, NOW).unwrap();
    };
    // a: in the backup. b: wanted in the backup, charged after it. c: all of it after. d: lies in
    // the backup as an intent that was never charged.
    buy(&mut bed, &mut till, payers[0]);
    settle(&mut bed, "a");
    buy(&mut bed, &mut till, payers[1]);
    let backup = bed.back_up();
    let before = till.clone();
    settle(&mut bed, "b");
    buy(&mut bed, &mut till, payers[2]);
    settle(&mut bed, "c");
    bed.restore(backup);
    till = before;
    buy(&mut bed, &mut till, payers[3]);
    assert!(bed.ledger.due_top_ups(NOW, 10).unwrap().is_empty());
    assert_eq!(bed.ledger.next_top_up_moment().unwrap(), None);
    let list = [
        charge("a", "card-a", 200),
        charge("b", "card-b", 200),
        charge("c", "card-c", 200),
        charge("x", "card-x", 200),
    ];
    let expect = [(1, 2), (3, 0)];
    for (known, taken_in) in expect {
        let imported = bed.ledger.import_charges(&list, NOW).unwrap();
        let expect = ImportedCharges {
            known,
            taken_in,
            unmatched: vec!["x".to_owned()],
        };
        assert_eq!(imported, expect);
        bed.check_books();
    }
    let balances = payers.map(|(account, _)| bed.balance(account));
    assert_eq!(
        balances,
        [240, 240, 300, 40].map(kr),
        "c's purchase is to come"
    );
    assert!(bed.ledger.resume_top_ups().unwrap());
    assert!(!bed.ledger.resume_top_ups().unwrap());
    let due = bed.ledger.due_top_ups(NOW, 10).unwrap();
    assert_eq!(due.len(), 1, "{due:?}");
}

/// What may happen to a canteen with three tills and one account.
#[derive(Debug, Clone)]
enum Event {
    Sell(usize, i64),
    Push(usize, u64),
    Follow(usize),
    /// It follows, acknowledges and sends everything.
    Contact(usize),
    PayIn(i64),
    Block,
    Reactivate,
    BackUp,
    Restore,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0usize..3, 1i64..90_00).prop_map(|(till, ore)| Event::Sell(till, ore)),
        4 => (0usize..3, 1u64..5).prop_map(|(till, entries)| Event::Push(till, entries)),
        4 => (0usize..3).prop_map(Event::Follow),
        8 => (0usize..3).prop_map(Event::Contact),
        1 => (1i64..100).prop_map(|kroner| Event::PayIn(kroner * 100)),
        2 => Just(Event::Block),
        2 => Just(Event::Reactivate),
        2 => Just(Event::BackUp),
        1 => Just(Event::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However often the hub is restored, the tills together overspend no more than is accepted,
    /// and in the end everything that was sold is booked once.
    #[test]
    fn a_restored_hub_keeps_the_bound_and_books_every_sale_once(
        overspend_max in 0i64..100_00,
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut bed = Bed::new();
        bound(&mut bed, ore(overspend_max), kr(200));
        let payer = bed.account(kr(150));
        let mut tills: [Seller; 3] = sellers(&mut bed);
        let mut backup = None;
        // What was paid in, and what of it is in the store.
        let (mut paid_in, mut here) = (0, 0);
        let mut life = 7;
        for event in events {
            match event {
                Event::Sell(till, amount) => { tills[till].sell(payer, ore(amount)); }
                Event::Push(till, entries) => tills[till].push(&mut bed, entries),
                Event::Follow(till) => follow(&mut tills[till], &mut bed),
                Event::Contact(till) => {
                    follow(&mut tills[till], &mut bed);
                    tills[till].write_feed_ack();
                    tills[till].push_all(&mut bed);
                }
                Event::PayIn(amount) => {
                    if bed.ledger.account(payer.0).unwrap().status == canteen::Status::Active {
                        bed.pay_in(payer.0, ore(amount));
                        paid_in += amount;
                        here += amount;
                    }
                }
                Event::Block => drop(bed.ledger.block_account(payer.0, NOW)),
                Event::Reactivate => drop(bed.ledger.reactivate_account(payer.0, NOW)),
                Event::BackUp => backup = Some((bed.back_up(), here)),
                Event::Restore => if let Some((backup, paid_in)) = backup.take() {
                    bed.put_back(backup);
                    life += 1;
                    bed.ledger.begin_new_life(life, NOW).unwrap();
                    here = paid_in;
                },
            }
            let sold: i64 = tills.iter().flat_map(|till| till.gross.values()).sum();
            prop_assert!(150_00 + paid_in - sold >= -overspend_max, "{sold} sold");
        }
        for till in &mut tills {
            follow(till, &mut bed);
            till.push_all(&mut bed);
        }
        prop_assert_eq!(missing(&bed), None);
        let sold: i64 = tills.iter().flat_map(|till| till.gross.values()).sum();
        prop_assert_eq!(bed.balance(payer.0), ore(150_00 + here - sold));
        let fate = EntryFate::Duplicate;
        for till in &tills {
            if till.till.last_seq() > 0 {
                let again = bed.ingest(&till.till, &till.till.batch(1..=till.till.last_seq()));
                prop_assert!(again.unwrap().results.iter().all(|result| result.fate == fate));
            }
        }
    }
}
