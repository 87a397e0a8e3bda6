use canteen::Money;
use sync_proto::{BatchAnswer, BatchRefusal, EntryBody, EntryFate, EntryTexts, FeedRefusal, Start};

use crate::positions::Asking;
use crate::testbed::{Bed, NOW, TestTill, kr, sale, void};

fn start() -> EntryBody {
    EntryBody::Start(Start {
        version: "1".to_owned(),
        strict_limits: false,
    })
}

#[track_caller]
fn branch(
    bed: &mut Bed,
    till: &TestTill,
    seqs: std::ops::RangeInclusive<u64>,
) -> Result<BatchAnswer, BatchRefusal> {
    let answer = bed.ledger.ingest_branch(&till.batch(seqs), NOW).unwrap();
    bed.check_books();
    answer
}

/// Sends a batch as a branch: how many of its entries were booked, duplicates and quarantined.
#[track_caller]
fn check(
    bed: &mut Bed,
    till: &TestTill,
    seqs: std::ops::RangeInclusive<u64>,
    expect: (usize, usize, usize),
) {
    let last = *seqs.end();
    let answer = branch(bed, till, seqs.clone()).unwrap();
    let count = |of: fn(&EntryFate) -> bool| {
        let results = answer.results.iter();
        results.filter(|result| of(&result.fate)).count()
    };
    let found = (
        count(|fate| matches!(fate, EntryFate::Booked | EntryFate::Flagged { .. })),
        count(|fate| matches!(fate, EntryFate::Duplicate)),
        count(|fate| matches!(fate, EntryFate::Quarantined { .. })),
    );
    assert_eq!((found, answer.accepted.seq), (expect, last), "{seqs:?}");
}

/// A till that has sold for 1 kr. and is copied; then it sells for 2 kr., and its copy for 3 and 4.
fn cloned(bed: &mut Bed) -> (canteen::AccountId, i64, TestTill, TestTill) {
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(start());
    till.write(sale(account, chip, kr(1)));
    let mut clone = till.clone();
    clone.become_a_copy();
    till.write(sale(account, chip, kr(2)));
    clone.write(sale(account, chip, kr(3)));
    clone.write(sale(account, chip, kr(4)));
    (account, chip, till, clone)
}

#[test]
fn sy_23_both_branches_of_a_copied_till_are_booked_once_and_its_feed_stops() {
    let mut bed = Bed::new();
    let (account, chip, till, mut clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    let refused = bed.ingest(&clone, &clone.batch(3..=4));
    assert_eq!(refused, Err(BatchRefusal::Fork { agreed_through: 2 }));
    assert_eq!(bed.balance(account), kr(97));
    // Nothing but the signature is asked for; the rest of the branch comes in any pieces.
    check(&mut bed, &clone, 1..=3, (1, 2, 0));
    check(&mut bed, &clone, 3..=4, (1, 1, 0));
    check(&mut bed, &clone, 1..=4, (0, 4, 0));
    clone.write(sale(account, chip, kr(5)));
    check(&mut bed, &clone, 5..=5, (1, 0, 0));
    assert_eq!(bed.balance(account), kr(100 - 1 - 2 - 3 - 4 - 5));
    let position = clone.position(2);
    let received = bed
        .ledger
        .receive(&clone.access, Asking::Snapshot, Some(&position), NOW)
        .unwrap();
    assert_eq!(received, Err(FeedRefusal::Fork { agreed_through: 2 }));
    let flags = bed
        .ledger
        .list_flags(crate::Reach::Everything, None, i64::MAX, 9);
    let flags = flags.unwrap();
    let forks: Vec<_> = flags.iter().filter(|flag| flag.code == "fork").collect();
    assert_eq!(forks.len(), 2, "{flags:?}");
    assert_eq!(forks[0].till.as_deref(), Some("kasse-1"));
    assert_eq!(forks[0].seq, Some(3));
    assert!(forks[0].detail.contains("from 3 on"), "{}", forks[0].detail);
}

#[test]
fn sy_24_what_a_rolled_back_till_sold_anew_is_booked() {
    let mut bed = Bed::new();
    let (account, chip, till, mut restored) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    restored.cut_back_to(2);
    let later = NOW + jiff::SignedDuration::from_hours(24);
    let position = restored.position(2);
    let mut ask = |position| {
        bed.ledger
            .receive(&till.access, Asking::Snapshot, Some(&position), later)
            .unwrap()
    };
    assert_eq!(
        ask(position),
        Err(FeedRefusal::Rollback { accepted_seq: 3 }),
        "the first request shows it"
    );
    restored.write(sale(account, chip, kr(7)));
    assert_eq!(
        ask(restored.position(2)),
        Err(FeedRefusal::Fork { agreed_through: 2 })
    );
    check(&mut bed, &restored, 3..=3, (1, 0, 0));
    assert_eq!(bed.balance(account), kr(100 - 1 - 2 - 7));
    assert_eq!(bed.flags(), ["fork", "fork", "rollback"]);
}

#[test]
fn entries_that_go_on_where_the_main_chain_ends_are_no_branch() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    till.write(sale(account, chip, kr(1)));
    till.write(sale(account, chip, kr(2)));
    check(&mut bed, &till, 1..=2, (2, 0, 0));
    till.write(sale(account, chip, kr(3)));
    assert!(bed.ingest(&till, &till.batch(3..=3)).is_ok());
    assert_eq!((bed.balance(account), bed.flags().len()), (kr(94), 0));
}

#[test]
fn a_branch_of_a_branch_is_kept_apart_too() {
    let mut bed = Bed::new();
    let (account, chip, till, mut clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    check(&mut bed, &clone, 3..=4, (2, 0, 0));
    let mut third = clone.clone();
    third.cut_back_to(3);
    third.become_a_copy();
    third.write(sale(account, chip, kr(10)));
    clone.write(sale(account, chip, kr(20)));
    check(&mut bed, &third, 2..=4, (1, 2, 0));
    check(&mut bed, &clone, 5..=5, (1, 0, 0));
    assert_eq!(bed.balance(account), kr(100 - 1 - 2 - 3 - 4 - 10 - 20));
}

#[test]
fn an_id_that_comes_again_is_a_duplicate_and_with_another_text_a_collision() {
    let mut bed = Bed::new();
    let (account, _, mut till, mut clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    // The copy carries an entry of the main chain along, and writes another under its id.
    let carried = till.texts(3);
    clone.write_texts(carried.clone());
    let mut changed = carried;
    changed.body = changed.body.replace("200", "900");
    clone.write_texts(changed.clone());
    check(&mut bed, &clone, 3..=6, (2, 1, 1));
    let kept = bed.quarantine();
    assert_eq!(
        (kept[0].code.as_str(), kept[0].seq, &kept[0].body),
        ("id_collision", 6, &changed.body)
    );
    // And the other way round: what the branch has brought is not booked by the main chain again.
    till.write_texts(clone.texts(3));
    let answer = bed.ingest(&till, &till.batch(4..=4)).unwrap();
    assert_eq!(answer.results[0].fate, EntryFate::Duplicate);
    assert_eq!(bed.balance(account), kr(100 - 1 - 2 - 3 - 4));
}

#[test]
fn two_branches_that_take_back_one_sale_give_its_money_back_once() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(100));
    let mut till = bed.till("kasse-1");
    let of = till.write(sale(account, chip, kr(30)));
    let mut clone = till.clone();
    clone.become_a_copy();
    till.write(void(account, of, 1, kr(30)));
    let own = clone.write(sale(account, chip, kr(5)));
    clone.write(void(account, of, 1, kr(30)));
    clone.write(void(account, own, 2, kr(5)));
    assert!(bed.ingest(&till, &till.batch(1..=2)).is_ok());
    check(&mut bed, &clone, 1..=4, (3, 1, 0));
    assert_eq!(bed.balance(account), kr(100));
    assert_eq!(bed.own_balance("suspense_refund_excess"), kr(30));
}

#[test]
fn a_branch_uses_up_no_right_of_the_main_chain() {
    let mut bed = Bed::new();
    let (account, chip, mut till, clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    let ceiling = |bed: &Bed| {
        let sql = "SELECT gross FROM ceiling WHERE account = ?1";
        let gross = bed.ledger.db.query_row(sql, [account.0], |row| row.get(0));
        Money::from_ore(gross.unwrap())
    };
    assert_eq!(ceiling(&bed), kr(3));
    check(&mut bed, &clone, 3..=4, (2, 0, 0));
    assert_eq!(ceiling(&bed), kr(3));
    till.write(sale(account, chip, kr(1)));
    assert!(bed.ingest(&till, &till.batch(4..=4)).is_ok());
    assert_eq!(ceiling(&bed), kr(4));
}

#[test]
fn entries_out_of_nowhere_are_refused_and_lead_back_to_what_both_have() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    let mut till = bed.till("kasse-1");
    for _ in 0..40 {
        till.write(sale(account, chip, kr(1)));
    }
    let mut clone = till.clone();
    clone.cut_back_to(10);
    clone.become_a_copy();
    for _ in 0..40 {
        clone.write(sale(account, chip, kr(2)));
    }
    assert!(bed.ingest(&till, &till.batch(1..=40)).is_ok());
    let mut from = 45;
    let mut asked = Vec::new();
    while let Err(refusal) = branch(&mut bed, &clone, from..=50) {
        let BatchRefusal::Gap { expected } = refusal else {
            panic!("{refusal:?}");
        };
        asked.push(expected);
        from = expected;
    }
    assert_eq!(
        asked,
        [41, 20, 10],
        "the number that has the last known one before it"
    );
    assert_eq!(bed.balance(account), kr(1000 - 40 - 80));
}

#[test]
fn a_branch_needs_the_key_of_its_epoch() {
    let mut bed = Bed::new();
    let (account, _, till, clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    let mut forged = clone.batch(3..=4);
    forged.signature = TestTill::stranger().sign(&forged);
    let mut elsewhere = clone.batch(3..=4);
    elsewhere.till = "kasse-9".parse().unwrap();
    let mut unknown = clone.batch(3..=4);
    unknown.epoch = sync_proto::Epoch(99);
    for (batch, refusal) in [
        (forged, BatchRefusal::BadChain),
        (elsewhere, BatchRefusal::NotEnrolled),
        (unknown, BatchRefusal::NotEnrolled),
    ] {
        let answer = bed.ledger.ingest_branch(&batch, NOW).unwrap();
        assert_eq!(answer, Err(refusal));
    }
    assert_eq!(bed.balance(account), kr(97));
}

#[test]
fn an_entry_that_cannot_be_read_is_kept_in_a_branch_too() {
    let mut bed = Bed::new();
    let (_, _, till, mut clone) = cloned(&mut bed);
    assert!(bed.ingest(&till, &till.batch(1..=3)).is_ok());
    clone.write_texts(EntryTexts {
        header: "{".to_owned(),
        body: "?".to_owned(),
    });
    check(&mut bed, &clone, 3..=5, (2, 0, 1));
    assert_eq!(bed.quarantine()[0].body, "?");
}
