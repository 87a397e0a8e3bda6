use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sync_proto::{
    Change, EntryBody, FeedAck, FeedPage, FeedPosition, FeedRecords, FeedRefusal, Record,
};

use super::*;
use crate::seller::{Seller, bound, sellers};
use crate::testbed::{Bed, NOW, kr, ore, sale, void};
use crate::{Correction, LedgerError};

fn outstanding(bed: &Bed, account: AccountId) -> Money {
    bed.ledger.outstanding(account).unwrap()
}

/// Opens a hub with the bounds, one account with the balance and some tills, and checks what each
/// may sell before the hub hears of it.
#[track_caller]
fn check<const N: usize>(overspend_max: i32, balance: i32, expect: [i32; N]) {
    let mut bed = Bed::new();
    bound(&mut bed, kr(overspend_max), kr(200));
    let (account, _) = bed.account(kr(balance));
    let sellers: [Seller; N] = sellers(&mut bed);
    let left = sellers.map(|seller| seller.left(account));
    assert_eq!(left, expect.map(kr), "R {overspend_max}, B {balance}");
}

#[test]
fn rights_are_handed_out_as_far_as_balance_and_overspend_reach() {
    check(200, 80, [80, 80, 80]);
    check(200, 150, [150, 150, 50]);
    check(200, 500, [200, 200, 200]);
    check(200, 500, [200, 200, 200, 100]);
    check(0, 100, [100, 0]);
    check(200, 0, [0, 0]);
    check(200, -50, [0, 0]);
}

#[test]
fn obt_03_a_till_sells_up_to_its_ceiling_and_not_beyond() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(500));
    let [mut till] = sellers(&mut bed);
    assert!(till.sell(payer, kr(150)));
    assert!(!till.sell(payer, kr(60)));
    assert!(till.sell(payer, kr(50)));
    assert!(!till.sell(payer, ore(1)));
    till.push_all(&mut bed);
    till.catch_up(&mut bed);
    assert_eq!(till.left(payer.0), kr(200));
}

#[test]
fn obt_25_three_tills_without_contact_overspend_by_the_bound_and_no_more() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(100));
    let mut tills: [Seller; 3] = sellers(&mut bed);
    for till in &mut tills {
        assert!(till.sell(payer, kr(100)));
        assert!(!till.sell(payer, ore(1)));
    }
    for till in &mut tills {
        till.push_all(&mut bed);
    }
    assert_eq!(bed.balance(payer.0), kr(-200));
    assert_eq!(bed.flags(), ["overdrawn", "overdrawn"]);
    for till in &mut tills {
        till.catch_up(&mut bed);
        assert_eq!(till.left(payer.0), kr(0));
    }
}

#[test]
fn obt_26_six_tills_hold_no_more_than_balance_and_overspend_together() {
    let mut bed = Bed::new();
    let (account, _) = bed.account(kr(100));
    let tills: [Seller; 6] = sellers(&mut bed);
    let left = tills.map(|till| till.left(account));
    assert_eq!(Money::checked_sum(left), Some(kr(300)));
    assert_eq!(outstanding(&bed, account), kr(300));
    assert_eq!(bed.ledger.exposure(bed.canteen).unwrap(), kr(200));
}

#[test]
fn obt_27_without_accepted_overspend_the_second_till_cannot_sell_on_its_own() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [one, mut two] = sellers(&mut bed);
    assert_eq!((one.left(payer.0), two.left(payer.0)), (kr(100), kr(0)));
    assert!(!two.sell(payer, ore(1)));
    assert_eq!(bed.ledger.exposure(bed.canteen).unwrap(), kr(0));
}

#[test]
fn obt_28_a_right_that_is_taken_back_makes_room_when_the_till_has_acknowledged_it() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [mut one, two] = sellers(&mut bed);
    // Blocking takes the right back; the account is active again before the till has heard.
    bed.ledger.block_account(payer.0, NOW).unwrap();
    let taken_back = one.ask(&mut bed, NOW).unwrap();
    assert!(one.sell(payer, kr(70)));
    one.apply(&taken_back);
    one.write_feed_ack();
    assert!(!one.sell(payer, ore(1)));
    let none = two.authorise(&mut bed, payer.0, ore(1));
    assert!(none.is_none(), "the sale of 70 kr is not booked yet");
    assert_eq!(outstanding(&bed, payer.0), kr(100));
    // The sale alone says nothing about what was applied after it.
    one.push(&mut bed, 1);
    assert_eq!(outstanding(&bed, payer.0), kr(30));
    // The booked sale gave the record a new version, so the first acknowledgement came too late.
    one.push_all(&mut bed);
    assert_eq!(outstanding(&bed, payer.0), kr(30));
    one.catch_up(&mut bed);
    one.write_feed_ack();
    one.push_all(&mut bed);
    assert_eq!(outstanding(&bed, payer.0), kr(0));
    // The till that was used last comes first; what it leaves goes to the other.
    bed.ledger.reactivate_account(payer.0, NOW).unwrap();
    assert_eq!(outstanding(&bed, payer.0), kr(30));
}

#[test]
fn a_revoked_till_counts_until_it_is_retired() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [one, mut two] = sellers(&mut bed);
    let id = one.till.access.till.clone();
    let in_use = bed.ledger.retire_till(&id, NOW);
    assert!(matches!(
        in_use,
        Err(LedgerError::Refused(Refusal::TillInUse))
    ));
    bed.ledger.revoke_till(&id, NOW).unwrap();
    assert!(two.authorise(&mut bed, payer.0, kr(1)).is_none());
    assert_eq!(outstanding(&bed, payer.0), kr(100));
    assert_eq!(bed.ledger.retire_till(&id, NOW).unwrap(), kr(100));
    assert_eq!(bed.flags(), ["retired_till"]);
    two.catch_up(&mut bed);
    assert_eq!(two.left(payer.0), kr(100));
}

#[test]
fn a_till_that_asks_is_given_what_has_become_free() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(100));
    let [one, mut two] = sellers(&mut bed);
    let id = one.till.access.till.clone();
    bed.ledger.revoke_till(&id, NOW).unwrap();
    bed.ledger.retire_till(&id, NOW).unwrap();
    assert_eq!(two.left(payer.0), kr(0));
    assert!(two.authorise(&mut bed, payer.0, kr(101)).is_none());
    let records = two.authorise(&mut bed, payer.0, kr(60)).unwrap();
    two.apply_change(&records.changes[0]);
    assert!(two.sell(payer, kr(60)));
    assert!(!two.sell(payer, kr(41)));
    let elsewhere = bed.account_elsewhere(kr(100));
    assert!(two.authorise(&mut bed, elsewhere.0, kr(1)).is_none());
}

#[test]
fn a_void_gives_no_right_back() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(500));
    let [mut till] = sellers(&mut bed);
    for _ in 0..2 {
        assert!(till.sell(payer, kr(80)));
        let seq = till.till.last_seq();
        let of = uuid_of_last_sale(&till);
        till.till.write(void(payer.0, of, seq, kr(80)));
    }
    assert!(!till.sell(payer, kr(80)));
    till.push_all(&mut bed);
    assert_eq!(bed.balance(payer.0), kr(500));
    assert_eq!(outstanding(&bed, payer.0), kr(200));
    till.catch_up(&mut bed);
    assert_eq!(till.ceiling(payer.0), Some(160_00 + 200_00));
}

fn uuid_of_last_sale(seller: &Seller) -> uuid::Uuid {
    let last = seller
        .till
        .batch(seller.till.last_seq()..=seller.till.last_seq());
    last.entries[0].texts.read_header().unwrap().id
}

#[test]
fn a_lower_ceiling_that_changed_again_is_not_taken_for_read() {
    let mut bed = Bed::new();
    let (account, _) = bed.account(kr(100));
    let [mut till] = sellers(&mut bed);
    bed.ledger.block_account(account, NOW).unwrap();
    let (_, lowered_at) = bed.ledger.hub_position().unwrap();
    // The record gets a new version without a new ceiling.
    bed.ledger
        .change_limits(account, crate::LimitsChange::default(), NOW)
        .unwrap();
    till.till.feed.cursor = lowered_at;
    till.write_feed_ack();
    till.push_all(&mut bed);
    assert_eq!(outstanding(&bed, account), kr(100));
    till.catch_up(&mut bed);
    till.write_feed_ack();
    till.push_all(&mut bed);
    assert_eq!(outstanding(&bed, account), kr(0));
}

#[test]
fn a_till_that_cannot_prove_where_it_stands_does_not_pass_an_account() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(100));
    let [mut till] = sellers(&mut bed);
    assert!(till.sell(payer, kr(10)));
    assert!(till.sell(payer, kr(10)));
    // The answer to this batch is lost on the way.
    till.push(&mut bed, 1);
    bed.ledger.block_account(payer.0, NOW).unwrap();
    let before = till.till.feed;
    let page = till.ask(&mut bed, NOW).unwrap();
    assert_eq!((page.changes.len(), page.more), (0, false));
    till.apply(&page);
    assert!(till.till.feed.cursor < bed.ledger.hub_position().unwrap().1);
    till.push_all(&mut bed);
    till.till.feed = before;
    till.catch_up(&mut bed);
    assert_eq!(till.left(payer.0), kr(0));
}

#[test]
fn a_till_that_tells_no_position_is_given_no_ceilings_and_acknowledges_none() {
    let mut bed = Bed::new();
    let (account, _) = bed.account(kr(100));
    let mut old = bed.till("kasse-1");
    let (hub_epoch, _) = bed.ledger.hub_position().unwrap();
    let from = FeedPosition {
        hub_epoch,
        cursor: 0,
    };
    bed.ledger.block_account(account, NOW).unwrap();
    let page = bed
        .ledger
        .feed(&old.access, from, None, NOW)
        .unwrap()
        .unwrap();
    let ceilings: Vec<_> = page.changes.iter().filter_map(ceiling_in).collect();
    assert_eq!(ceilings, [None]);
    old.feed = FeedPosition {
        hub_epoch,
        cursor: page.to,
    };
    old.write(EntryBody::FeedAck(FeedAck::default()));
    bed.send(&mut old, []);
    assert_eq!(outstanding(&bed, account), kr(100));
    // With a newer program it tells its position, and all accounts come once more.
    let mut seller = Seller {
        till: old,
        ceilings: BTreeMap::new(),
        gross: BTreeMap::new(),
        acked: 1,
        sales: Vec::new(),
    };
    seller.catch_up(&mut bed);
    assert_eq!(seller.ceiling(account), Some(0));
    seller.write_feed_ack();
    seller.push_all(&mut bed);
    assert_eq!(outstanding(&bed, account), kr(0));
}

fn ceiling_in(change: &Change) -> Option<Option<Money>> {
    match &change.record {
        Record::Account(account) => Some(account.ceiling),
        Record::AccountGone { .. }
        | Record::Chip(_)
        | Record::ChipGone { .. }
        | Record::Holder(_)
        | Record::HolderGone { .. }
        | Record::Product(_)
        | Record::ProductGone { .. }
        | Record::ChipKeys
        | Record::Unknown => None,
    }
}

#[test]
fn a_copied_or_restored_disk_is_refused_and_flagged_once() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(500));
    let [mut till] = sellers(&mut bed);
    assert!(till.sell(payer, kr(10)));
    till.push_all(&mut bed);
    let restored = till.clone();
    let mut copy = till.clone();
    assert!(till.sell(payer, kr(10)));
    till.push_all(&mut bed);
    // Asked for before the batch, and answered after it: nothing is wrong yet.
    assert!(restored.ask(&mut bed, NOW).is_ok());
    let later = NOW + Duration::from_secs(60);
    assert!(copy.sell(payer, kr(20)));
    for _ in 0..3 {
        assert_eq!(
            restored.ask(&mut bed, later),
            Err(FeedRefusal::Rollback { accepted_seq: 2 })
        );
        assert_eq!(
            copy.ask(&mut bed, later),
            Err(FeedRefusal::Fork { agreed_through: 1 })
        );
    }
    assert_eq!(bed.flags(), ["fork", "rollback"]);
    // Further ahead than the hub, the copy is unmasked when it sends; until then it gets nothing.
    assert!(copy.sell(payer, kr(20)));
    let page = copy.ask(&mut bed, later).unwrap();
    assert!(page.changes.iter().filter_map(ceiling_in).next().is_none());
    assert!(copy.authorise(&mut bed, payer.0, kr(1)).is_none());
    assert!(till.ask(&mut bed, later).is_ok());
}

#[test]
fn the_till_that_was_used_last_comes_first_when_rights_are_scarce() {
    let mut bed = Bed::new();
    bound(&mut bed, Money::ZERO, kr(200));
    let payer = bed.account(kr(10));
    let [_, mut two] = sellers(&mut bed);
    // The second till sold where the ceiling had no say, as one that asked would.
    two.till.write(sale(payer.0, payer.1, kr(10)));
    two.push_all(&mut bed);
    bed.ledger.block_account(payer.0, NOW).unwrap();
    bed.ledger.reactivate_account(payer.0, NOW).unwrap();
    bed.pay_in(payer.0, kr(110));
    two.gross.insert(payer.0.0, 10_00);
    two.catch_up(&mut bed);
    assert_eq!(two.left(payer.0), kr(100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Three tills sell whenever their ceilings allow it; pages come late, twice and out of order,
    /// entries in slices, answers not at all. The true balance stays above the bound.
    #[test]
    fn whatever_happens_the_overspend_stays_within_the_bound(
        overspend_max in prop_oneof![Just(0), Just(50), Just(200)],
        steps in prop::collection::vec((0u8..14, 0usize..3, 1i64..150_00, any::<u8>()), 1..120),
    ) {
        let mut bed = Bed::new();
        bound(&mut bed, kr(overspend_max), kr(100));
        let payer = bed.account(kr(150));
        let account = payer.0;
        let mut tills: [Seller; 3] = sellers(&mut bed);
        let mut pages: Vec<(usize, FeedPage)> = Vec::new();
        let mut records: Vec<(usize, FeedRecords)> = Vec::new();
        let mut ceilings = issued(&bed);
        for (step, who, amount, pick) in steps {
            let till = &mut tills[who];
            match step {
                0..=3 => drop(till.sell(payer, ore(amount))),
                4 | 5 => {
                    if let Ok(page) = till.ask(&mut bed, NOW) {
                        pages.push((who, page));
                    }
                }
                6 | 7 if !pages.is_empty() => {
                    let at = usize::from(pick) % pages.len();
                    let (who, page) = pages[at].clone();
                    tills[who].apply(&page);
                }
                8 => till.write_feed_ack(),
                9 => till.push(&mut bed, u64::from(pick % 3) + 1),
                10 => {
                    till.push_all(&mut bed);
                }
                11 => match pick % 4 {
                    0 => bed.pay_in_if_open(account, kr(50)),
                    1 => drop(bed.ledger.block_account(account, NOW)),
                    2 => drop(bed.ledger.reactivate_account(account, NOW)),
                    _ => {
                        let key = bed.key();
                        let correction = Correction {
                            amount: ore(-amount),
                            reason: "udbetaling".to_owned(),
                            force: false,
                        };
                        drop(bed.ledger.correct(account, &correction, &key, NOW));
                    }
                },
                12 => {
                    if let Some(answer) = till.authorise(&mut bed, account, ore(amount)) {
                        records.push((who, answer));
                    }
                    if !records.is_empty() {
                        let at = usize::from(pick) % records.len();
                        let (who, answer) = records[at].clone();
                        tills[who].apply_change(&answer.changes[0]);
                    }
                }
                13 if till.sales.last().is_some_and(|(seq, _, _)| *seq == till.till.last_seq()) => {
                    let (seq, _, amount) = till.sales[till.sales.len() - 1];
                    let of = uuid_of_last_sale(till);
                    // The hub hears of the sale before the till takes it back.
                    till.push_all(&mut bed);
                    till.till.write(void(account, of, seq, ore(amount)));
                }
                _ => {}
            }
            // Money that is set aside is the account's until it has gone on.
            let balance = bed.balance(account).ore() + bed.own_balance("reserved").ore();
            let unbooked: i64 = tills.iter().map(|till| till.unbooked(account)).sum();
            prop_assert!(
                balance - unbooked >= -kr(overspend_max).ore(),
                "{} of {} is not booked", unbooked, balance
            );
            for till in &tills {
                prop_assert!(till.unbooked(account) <= right_of(&bed, till, account));
            }
            let now = issued(&bed);
            if now.iter().zip(&ceilings).any(|(now, before)| now > before) {
                prop_assert!(
                    outstanding(&bed, account).ore() <= balance + kr(overspend_max).ore(),
                    "raised {:?} to {:?}", ceilings, now
                );
            }
            ceilings = now;
        }
        // Once all is sent and heard, all that the balance allows can be sold again.
        drop(bed.ledger.reactivate_account(account, NOW));
        for _ in 0..3 {
            for till in &mut tills {
                till.push_all(&mut bed);
                till.catch_up(&mut bed);
                till.write_feed_ack();
                till.push_all(&mut bed);
            }
        }
        let free = bed.balance(account).min(kr(100)).max(Money::ZERO);
        let left = Money::checked_sum(tills.iter().map(|till| till.left(account))).unwrap();
        prop_assert!(left >= free, "{left} of {free}");
    }
}

/// All ceilings as issued last, by till.
fn issued(bed: &Bed) -> Vec<i64> {
    let sql = "SELECT coalesce(ceiling, 0) FROM ceiling ORDER BY account, till";
    let mut statement = bed.ledger.db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What the hub reckons that a till can still sell, with what it has sold and not sent.
fn right_of(bed: &Bed, till: &Seller, account: AccountId) -> i64 {
    let sql = "SELECT max(0, highest - gross) FROM ceiling WHERE account = ?1 AND till = ?2";
    let parameters = (account.0, till.till.access.till.as_str());
    bed.ledger
        .db
        .query_row(sql, parameters, |row| row.get(0))
        .unwrap()
}

#[test]
fn a_store_from_before_ceilings_is_brought_up_to_date_with_what_its_tills_have_sold() {
    let mut bed = Bed::new();
    let payer = bed.account(kr(500));
    let [mut one, mut two] = sellers(&mut bed);
    for (till, amounts) in [(&mut one, [kr(10), kr(20)]), (&mut two, [kr(30), kr(40)])] {
        for amount in amounts {
            assert!(till.sell(payer, amount));
            till.push_all(&mut bed);
        }
    }
    bed.reopen_from_version(1);
    let gross: Vec<(String, i64)> = bed
        .ledger
        .db
        .prepare("SELECT till, gross FROM ceiling WHERE ceiling IS NULL ORDER BY till")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expect = [("kasse-1", 30_00), ("kasse-2", 70_00)];
    assert_eq!(gross, expect.map(|(till, gross)| (till.to_owned(), gross)));
    // The tills tell where they stand, and are given ceilings on top of what they have sold.
    one.catch_up(&mut bed);
    assert_eq!(one.left(payer.0), kr(200));
}
