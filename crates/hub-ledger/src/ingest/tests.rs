use canteen::{AccountId, Money};
use proptest::prelude::*;
use sync_proto::{EntryBody, EntryTexts, Start, Void};

use super::*;
use crate::testbed::{Bed, NOW, TestTill, kr, ore, sale, void};

fn start() -> EntryBody {
    EntryBody::Start(Start {
        version: "1".to_owned(),
        strict_limits: false,
    })
}

fn fates(answer: &BatchAnswer) -> Vec<String> {
    answer
        .results
        .iter()
        .map(|result| match &result.fate {
            EntryFate::Booked => format!("{} booked", result.seq),
            EntryFate::Duplicate => format!("{} duplicate", result.seq),
            EntryFate::Flagged { codes } => format!("{} {}", result.seq, codes.join("+")),
            EntryFate::Quarantined { code } => format!("{} quarantined {code}", result.seq),
        })
        .collect()
}

#[track_caller]
fn check(bed: &mut Bed, till: &TestTill, seqs: std::ops::RangeInclusive<u64>, expect: &[&str]) {
    let batch = till.batch(seqs.clone());
    let answer = bed.ingest(till, &batch).unwrap_or_else(|refusal| {
        panic!("{seqs:?} refused: {refusal:?}");
    });
    assert_eq!(fates(&answer), expect, "{seqs:?}");
    bed.check_books();
}

#[test]
fn sy_01_sy_02_a_batch_is_booked_and_sending_it_again_books_nothing() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(start());
    till.write(sale(account, chip, kr(22)));
    check(&mut bed, &till, 1..=2, &["1 booked", "2 booked"]);
    check(&mut bed, &till, 1..=2, &["1 duplicate", "2 duplicate"]);
    assert_eq!(bed.balance(account), kr(78));
    assert_eq!(bed.journal_len(), 2);
}

#[test]
fn sy_04_overlapping_batches_book_each_entry_once() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    for _ in 0..8 {
        till.write(sale(account, chip, kr(5)));
    }
    check(
        &mut bed,
        &till,
        1..=5,
        &["1 booked", "2 booked", "3 booked", "4 booked", "5 booked"],
    );
    let overlap = [
        "3 duplicate",
        "4 duplicate",
        "5 duplicate",
        "6 booked",
        "7 booked",
        "8 booked",
    ];
    check(&mut bed, &till, 3..=8, &overlap);
    check(&mut bed, &till, 2..=3, &["2 duplicate", "3 duplicate"]);
    assert_eq!(bed.balance(account), kr(60));
}

/// A till that has sold nine times for 1 kr. on an account with 100 kr.
fn nine_sales(bed: &mut Bed) -> (TestTill, AccountId) {
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    for _ in 0..9 {
        till.write(sale(account, chip, kr(1)));
    }
    (till, account)
}

#[test]
fn sy_05_a_gap_is_refused_and_says_what_must_come() {
    let mut bed = Bed::new();
    let (till, account) = nine_sales(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=5)).is_ok());
    let refused = bed.ingest(&till, &till.batch(7..=9));
    assert_eq!(refused, Err(BatchRefusal::Gap { expected: 6 }));
    assert_eq!((bed.balance(account), bed.journal_len()), (kr(95), 5));
    bed.check_books();
}

#[test]
fn sy_06_batches_that_come_in_the_wrong_order_are_booked_when_the_first_has_come() {
    let mut bed = Bed::new();
    let (till, account) = nine_sales(&mut bed);
    let refused = bed.ingest(&till, &till.batch(6..=9));
    assert_eq!(refused, Err(BatchRefusal::Gap { expected: 1 }));
    assert_eq!((bed.balance(account), bed.journal_len()), (kr(100), 0));
    let booked = ["1 booked", "2 booked", "3 booked", "4 booked", "5 booked"];
    check(&mut bed, &till, 1..=5, &booked);
    let booked = ["6 booked", "7 booked", "8 booked", "9 booked"];
    check(&mut bed, &till, 6..=9, &booked);
    assert_eq!((bed.balance(account), bed.journal_len()), (kr(91), 9));
}

#[test]
fn sy_07_a_changed_byte_a_foreign_key_and_a_strange_number_are_refused() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(1)));
    let mut flipped = till.batch(1..=1);
    flipped.entries[0].texts.body = flipped.entries[0].texts.body.replace("100", "900");
    assert_eq!(bed.ingest(&till, &flipped), Err(BatchRefusal::BadChain));
    let mut resigned = till.batch(1..=1);
    resigned.signature = TestTill::stranger().sign(&resigned);
    assert_eq!(bed.ingest(&till, &resigned), Err(BatchRefusal::BadChain));
    let mut far = till.batch(1..=1);
    far.first_seq = u64::MAX;
    assert_eq!(bed.ingest(&till, &far), Err(BatchRefusal::BadChain));
    let mut foreign = till.batch(1..=1);
    foreign.epoch = Epoch(99);
    assert_eq!(bed.ingest(&till, &foreign), Err(BatchRefusal::NotEnrolled));
    assert_eq!(bed.journal_len(), 0);
}

#[test]
fn other_entries_under_known_numbers_are_a_fork_and_raise_one_flag() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(start());
    let mut clone = till.clone();
    till.write(sale(account, chip, kr(1)));
    till.write(sale(account, chip, kr(2)));
    clone.write(sale(account, chip, kr(3)));
    clone.write(sale(account, chip, kr(4)));
    clone.write(sale(account, chip, kr(5)));
    check(
        &mut bed,
        &till,
        1..=3,
        &["1 booked", "2 booked", "3 booked"],
    );
    for seqs in [1..=4, 2..=4, 1..=3] {
        let refused = bed.ingest(&till, &clone.batch(seqs));
        assert_eq!(refused, Err(BatchRefusal::Fork { agreed_through: 1 }));
    }
    let refused = bed.ingest(&till, &clone.batch(4..=4));
    assert_eq!(refused, Err(BatchRefusal::Fork { agreed_through: 0 }));
    assert_eq!(bed.balance(account), kr(97));
    assert_eq!(bed.flags(), ["fork"], "one for the epoch");
}

#[test]
fn sy_20_an_entry_that_cannot_be_read_is_quarantined_and_the_rest_is_booked() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    let mut till = bed.till("kasse-1");
    for seq in 1..=500 {
        if seq == 250 {
            till.write_texts(EntryTexts {
                header: till.header("sale"),
                body: "{\"account\":".to_owned(),
            });
        } else {
            till.write(sale(account, chip, kr(1)));
        }
    }
    let answer = bed.ingest(&till, &till.batch(1..=500)).unwrap();
    assert_eq!(answer.accepted.seq, 500);
    let odd: Vec<String> = fates(&answer)
        .into_iter()
        .filter(|fate| !fate.ends_with("booked"))
        .collect();
    assert_eq!(odd, ["250 quarantined unreadable_body"]);
    assert_eq!(bed.balance(account), kr(1000 - 499));
    bed.check_books();
}

#[test]
fn sy_08_an_entry_that_the_till_has_lost_is_a_hole_and_the_rest_is_booked() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    for _ in 0..10 {
        till.write(sale(account, chip, kr(1)));
    }
    let mut batch = till.batch(1..=10);
    batch.entries[2].texts = EntryTexts {
        header: String::new(),
        body: String::new(),
    };
    assert_eq!(
        bed.ingest(&till, &batch),
        Err(BatchRefusal::BadChain),
        "a hole that is not declared breaks the chain"
    );
    batch.holes = vec![till.hole(3)];
    let answer = bed.ingest(&till, &batch).unwrap();
    assert_eq!(fates(&answer)[2], "3 quarantined hole");
    assert_eq!((answer.accepted.seq, bed.balance(account)), (10, kr(91)));
    assert_eq!(bed.flags(), ["hole"]);
    assert!(bed.quarantine()[0].detail.contains("check sum"));
    till.write(sale(account, chip, kr(1)));
    check(&mut bed, &till, 11..=11, &["11 booked"]);
}

#[test]
fn sy_22_an_entry_that_is_sent_raw_is_kept_unread_and_the_till_goes_on() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(1)));
    till.write(sale(account, chip, kr(2)));
    let raw = |bed: &mut Bed, seqs| {
        let batch = till.batch(seqs);
        bed.ledger.ingest_raw(&till.access, &batch, NOW).unwrap()
    };
    assert_eq!(raw(&mut bed, 2..=2), Err(BatchRefusal::Gap { expected: 1 }));
    let answer = raw(&mut bed, 1..=1).unwrap();
    assert_eq!(fates(&answer), ["1 quarantined raw"]);
    assert_eq!(fates(&raw(&mut bed, 1..=1).unwrap()), ["1 duplicate"]);
    check(&mut bed, &till, 1..=2, &["1 duplicate", "2 booked"]);
    assert_eq!((bed.balance(account), bed.quarantine().len()), (kr(98), 1));
}

#[test]
fn sy_30_an_unreadable_entry_is_kept_byte_for_byte() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(1)));
    let odd = EntryTexts {
        header: till.header("gift"),
        body: "{\"from\": \"tomorrow\"}".to_owned(),
    };
    till.write_texts(odd.clone());
    till.write_texts(EntryTexts {
        header: "{".to_owned(),
        body: String::new(),
    });
    till.write(sale(account, chip, Money::ZERO));
    till.write(sale(account, chip, kr(2)));
    let expect = [
        "1 booked",
        "2 quarantined unknown_kind",
        "3 quarantined unreadable_header",
        "4 quarantined amount",
        "5 booked",
    ];
    check(&mut bed, &till, 1..=5, &expect);
    let kept = bed.quarantine();
    assert_eq!(kept.len(), 3);
    assert_eq!((&kept[2].header, &kept[2].body), (&odd.header, &odd.body));
    assert_eq!(bed.balance(account), kr(997));
}

#[test]
fn sy_19_a_sale_is_booked_whatever_the_hub_knows_by_then() {
    let mut bed = Bed::new();
    let (poor, poor_chip) = bed.account(kr(10));
    let (lost, lost_chip) = bed.account(kr(100));
    let (closed, closed_chip) = bed.account(Money::ZERO);
    bed.ledger.block_chip(lost_chip, NOW).unwrap();
    let closed_at_once = bed.ledger.close_account(closed, crate::Rest::Nothing, NOW);
    assert!(closed_at_once.unwrap());
    let mut till = bed.till("kasse-1");
    till.write(sale(poor, poor_chip, kr(22)));
    till.write(sale(lost, lost_chip, kr(22)));
    till.write(sale(closed, closed_chip, kr(22)));
    till.write(sale(AccountId(424_242), 1, kr(22)));
    let expect = [
        "1 overdrawn",
        "2 after_block",
        "3 unknown_account",
        "4 unknown_account",
    ];
    check(&mut bed, &till, 1..=4, &expect);
    assert_eq!(bed.balance(poor), kr(-12));
    assert_eq!(bed.balance(lost), kr(78));
    assert_eq!(bed.own_balance("suspense_unknown_account"), kr(-44));
    assert_eq!(bed.own_balance("till_sales"), kr(88));
}

#[test]
fn a_sale_from_before_the_block_is_not_held_against_anyone() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(22)));
    let later = NOW + std::time::Duration::from_secs(60);
    bed.ledger.block_chip(chip, later).unwrap();
    check(&mut bed, &till, 1..=1, &["1 booked"]);
}

#[test]
fn an_account_of_another_canteen_is_unknown_here() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account_elsewhere(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(22)));
    check(&mut bed, &till, 1..=1, &["1 unknown_account"]);
    assert_eq!(bed.balance(account), kr(100));
}

#[test]
fn limits_that_offline_sales_pass_are_flagged_by_window() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    let limits = crate::LimitsChange {
        day: Some(Some(kr(25))),
        ..Default::default()
    };
    bed.ledger.change_limits(account, limits, NOW).unwrap();
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(25)));
    till.write(sale(account, chip, ore(1)));
    check(
        &mut bed,
        &till,
        1..=2,
        &["1 booked", "2 limit_exceeded_offline"],
    );
    assert_eq!(bed.ledger.account(account).unwrap().spent.day(), ore(25_01));
}

#[test]
fn a_void_gives_back_no_more_than_the_sale() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    let of = till.write(sale(account, chip, kr(30)));
    let void = |amount, of| void(account, of, 1, amount);
    till.write(void(kr(10), of));
    till.write(void(kr(25), of));
    till.write(void(kr(1), of));
    till.write(void(kr(1), uuid::Uuid::from_u128(7)));
    let expect = [
        "1 booked",
        "2 booked",
        "3 refund_excess",
        "4 refund_excess",
        "5 unknown_sale",
    ];
    check(&mut bed, &till, 1..=5, &expect);
    assert_eq!(bed.balance(account), kr(100));
    assert_eq!(bed.own_balance("suspense_refund_excess"), kr(7));
    assert_eq!(
        bed.ledger.account(account).unwrap().spent.day(),
        Money::ZERO
    );
}

#[test]
fn sy_11_the_watermark_only_goes_up_to_what_is_on_disk() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(30)));
    let lost = bed.ledger.group(|ledger| {
        let answer = ledger
            .ingest(&till.access, &till.batch(1..=1), NOW)
            .unwrap();
        assert!(answer.is_ok());
        // As if the machine stopped before the commit.
        ledger.db.execute_batch("ROLLBACK").unwrap();
    });
    assert!(lost.is_err());
    assert_eq!(bed.balance(account), kr(100));
    check(&mut bed, &till, 1..=1, &["1 booked"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the same entries are cut, repeated and reordered, the books end up equal.
    #[test]
    fn sy_36_delivery_does_not_matter(
        amounts in prop::collection::vec((1i64..60_00, 0usize..3, any::<bool>()), 1..20),
        cuts in prop::collection::vec((1u64..20, 0u64..6), 1..12),
    ) {
        let mut bed = Bed::new();
        let accounts: Vec<_> = (0..3).map(|_| bed.account(kr(200))).collect();
        let mut till = bed.till("kasse-1");
        for (amount, who, voided) in &amounts {
            let (account, chip) = accounts[*who];
            let of = till.write(sale(account, chip, ore(*amount)));
            if *voided {
                till.write(EntryBody::Void(Void {
                    lines: Vec::new(),
                    of,
                    of_seq: till.last_seq(),
                    account,
                    amount: ore(*amount),
                    balance_after: Money::ZERO,
                }));
            }
        }
        let last = till.last_seq();
        for (from, len) in cuts {
            let to = (from + len).min(last);
            if from <= to {
                let _ = bed.ingest(&till, &till.batch(from..=to));
            }
            bed.check_books();
        }
        let mut next = 1;
        while next <= last {
            let to = (next + 3).min(last);
            prop_assert!(bed.ingest(&till, &till.batch(next..=to)).is_ok());
            next = to + 1;
        }
        bed.check_books();
        prop_assert_eq!(bed.journal_len(), last);
        for (who, (account, _)) in accounts.iter().enumerate() {
            let spent: i64 = amounts
                .iter()
                .filter(|(_, whose, voided)| *whose == who && !voided)
                .map(|(amount, _, _)| amount)
                .sum();
            prop_assert_eq!(bed.balance(*account), ore(200_00 - spent));
        }
    }
}
