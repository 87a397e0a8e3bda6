//! What people are told of top-ups, and that no money waits for it.

use super::*;
use crate::{Audience, NoticeFilter, NoticeRow};

fn list(bed: &Bed, filter: NoticeFilter) -> Vec<NoticeRow> {
    let notices = bed
        .ledger
        .list_notices(Reach::Everything, filter, i64::MAX, 100);
    notices.unwrap()
}

#[track_caller]
fn only(mut notices: Vec<NoticeRow>) -> NoticeRow {
    assert_eq!(notices.len(), 1, "{notices:?}");
    notices.remove(0)
}

fn hours(hours: u64) -> Timestamp {
    after(hours * 3600)
}

/// Takes the one notice that is due, and says that nobody took it.
#[track_caller]
fn fail_to_deliver(bed: &mut Bed, now: Timestamp) {
    let due = bed.ledger.due_notices(now, 10).unwrap();
    let [notice] = due.as_slice() else {
        panic!("due at {now}: {due:?}");
    };
    bed.ledger
        .note_undelivered(notice.id, "cannot be reached", now)
        .unwrap();
}

#[test]
fn tu_48_a_notice_waits_for_its_receiver_while_money_goes_on() {
    let mut bed = Bed::new();
    let (account, chip, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Soft), NOW);
    let mut now = NOW;
    for wait in [30, 60, 300, 900, 3600, 3600] {
        fail_to_deliver(&mut bed, now);
        let almost = now + Duration::from_secs(wait - 1);
        assert_eq!(bed.ledger.due_notices(almost, 10).unwrap(), []);
        now += Duration::from_secs(wait);
        assert_eq!(bed.ledger.next_notice_moment(almost).unwrap(), Some(now));
    }
    // Meanwhile money is paid in and spent, and the next top-up goes well.
    bed.pay_in(account, kr(20));
    bed.ledger.end_waits(hours(24)).unwrap();
    let mut till = bed.till("kasse-2");
    bed.send_at(&mut till, [sale(account, chip, kr(10))], hours(24));
    let order = begin(&mut bed, "second", hours(24)).unwrap();
    charge_answer(&mut bed, &order, &paid(), hours(24));
    expect(&bed, account, "failed settled", kr(240));
    let notice = only(bed.ledger.due_notices(hours(24), 10).unwrap());
    assert_eq!((notice.attempts, notice.amount), (6, kr(200)));
    assert_eq!(notice.first_name.as_deref(), Some("Elev"));
    for _ in 0..2 {
        bed.ledger.note_delivered(notice.id, hours(25)).unwrap();
        bed.ledger
            .note_undelivered(notice.id, "late", hours(25))
            .unwrap();
        let undelivered = NoticeFilter {
            undelivered: true,
            ..NoticeFilter::default()
        };
        assert_eq!(list(&bed, undelivered), []);
    }
    assert_eq!(bed.ledger.next_notice_moment(hours(25)).unwrap(), None);
}

#[test]
fn a_notice_is_written_with_the_change_or_not_at_all() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    let undone: Result<(), LedgerError> = bed.ledger.all_or_nothing(|ledger| {
        ledger.record_charge(&order, &declined(DeclineKind::Soft), NOW)?;
        Err(LedgerError::Unreadable { what: "test" })
    });
    assert!(undone.is_err());
    expect(&bed, account, "requested", kr(30));
    assert_eq!(notices(&bed), [""; 0]);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Soft), NOW);
    expect(&bed, account, "failed", kr(30));
    assert_eq!(notices(&bed), ["declined"]);
}

#[test]
fn the_same_is_told_once_a_day_and_to_each_account() {
    let mut bed = Bed::new();
    for card in ["demo-card-1", "demo-card-2"] {
        let (account, chip) = armed(&mut bed, kr(60), card);
        let mut till = bed.till(card);
        bed.send(&mut till, [sale(account, chip, kr(30))]);
        for reference in ["first", "second"] {
            let reference = format!("{reference} of {account}");
            let order = begin(&mut bed, &reference, NOW).unwrap();
            charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), NOW);
            // A new agreement on another card, which cannot be used either.
            bed.ledger
                .make_agreement(account, kr(200), &reference, NOW)
                .unwrap();
            bed.send(&mut till, [sale(account, chip, kr(1))]);
        }
        bed.ledger.cancel_agreement(account, NOW).unwrap();
    }
    assert_eq!(notices(&bed), ["card_unusable", "card_unusable"]);
}

#[test]
fn a_notice_that_nobody_takes_for_a_week_stays_on_the_list_and_is_not_sent() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), NOW);
    let almost_a_week = after(7 * 24 * 3600 - 10);
    fail_to_deliver(&mut bed, almost_a_week);
    let next = bed.ledger.next_notice_moment(almost_a_week).unwrap();
    assert_eq!(next, None);
    let of_account = NoticeFilter {
        account: Some(account),
        audience: Some(Audience::Guardian),
        undelivered: true,
    };
    let notice = only(list(&bed, of_account));
    assert_eq!(notice.due_at, None);
    assert_eq!(notice.failure.as_deref(), Some("cannot be reached"));
    // Nor is one that was never tried, because there was no receiver.
    let mut bed = Bed::new();
    let (_, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Hard), NOW);
    assert_eq!(
        bed.ledger.due_notices(hours(7 * 24 - 1), 10).unwrap().len(),
        1
    );
    assert_eq!(bed.ledger.due_notices(hours(7 * 24), 10).unwrap(), []);
}

#[test]
fn operators_are_told_of_what_is_unresolved_for_a_day() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &ChargeAnswer::Unknown, after(3));
    look_up_answer(&mut bed, &order, &ChargeAnswer::NotFound, hours(2));
    assert_eq!(stage(&bed, account), "stuck");
    assert_eq!(bed.ledger.due_notices(hours(25), 10).unwrap(), []);
    let notice = only(bed.ledger.due_notices(hours(26), 10).unwrap());
    assert_eq!(notice.reason.audience(), Audience::Operator);
    let to_guardians = NoticeFilter {
        audience: Some(Audience::Guardian),
        ..NoticeFilter::default()
    };
    assert_eq!(list(&bed, to_guardians), []);
    // What has cleared up needs nobody.
    bed.ledger
        .record_look_up(&order, &paid(), hours(25))
        .unwrap();
    assert_eq!(notices(&bed), [""; 0]);
}

#[test]
fn what_went_well_is_told_when_that_is_wanted() {
    for (wanted, expected) in [(false, vec![]), (true, vec!["settled"])] {
        let mut bed = Bed::new();
        bed.ledger.top_up_rules.tell_settled = wanted;
        let (_, _, order) = charged(&mut bed);
        charge_answer(&mut bed, &order, &paid(), after(1));
        assert_eq!(notices(&bed), expected);
    }
}

#[test]
fn a_closed_account_is_told_of_without_a_name() {
    let mut bed = Bed::new();
    let (account, _, order) = charged(&mut bed);
    charge_answer(&mut bed, &order, &declined(DeclineKind::Soft), after(1));
    let sql = "DELETE FROM holder WHERE account = ?1";
    bed.ledger.db.execute(sql, [account.0]).unwrap();
    let due = bed.ledger.due_notices(after(1), 10).unwrap();
    assert_eq!(due[0].first_name, None);
    assert!(!format!("{due:?}").contains("Elev"));
}
