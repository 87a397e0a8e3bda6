//! The totals of a day, and sales that are taken back by the piece.

use canteen::Money;
use sync_proto::{EntryBody, SaleLine, Totals, VoidLine};
use till_ledger::{DayReport, LedgerError, VoidRequest, ZRequest};
use uuid::Uuid;

use crate::world::*;

fn totals(count: u64, kroner: i32) -> Totals {
    Totals {
        count,
        amount: kr(kroner),
    }
}

fn z(till: &mut Till, day: Option<&str>) -> Result<DayReport, LedgerError> {
    let id = till.new_id();
    let now = till.now;
    let day = day.map(|day| day.parse().unwrap());
    till.store().z_report(ZRequest { id, day }, now)
}

#[test]
fn inv_12_a_report_counts_every_entry_of_its_day_and_numbers_go_up() {
    let mut till = Till::with(|_| {});
    let first = till.sell(kr(30));
    till.sell(kr(20));
    till.void(first).unwrap();
    till.tap(kr(900));
    let done = z(&mut till, None).unwrap();
    let report = done.report.clone();
    assert_eq!((report.number, report.through_seq), (1, 4));
    assert_eq!(report.sales, totals(2, 50));
    assert_eq!((report.voids, report.declines), (totals(1, 30), 1));
    assert_eq!(done.entry.seq, 5);
    till.restart();
    let now = till.now;
    let again = ZRequest {
        id: done.entry.id,
        day: None,
    };
    let again = till.store().z_report(again, now).unwrap();
    assert_eq!((again.report, again.replayed), (report, true));

    till.now = at("2026-11-21T10:00:00Z");
    till.sell(kr(5));
    let today = z(&mut till, None).unwrap().report;
    assert_eq!((today.number, today.sales), (2, totals(1, 5)));
    let yesterday = z(&mut till, Some("2026-11-20")).unwrap().report;
    assert_eq!((yesterday.number, yesterday.sales), (3, totals(2, 50)));
    let to_come = z(&mut till, Some("2026-11-22"));
    assert!(matches!(to_come, Err(LedgerError::DayToCome { .. })));
    till.verified();
}

/// Two cheeses and a meal, 28 kr.
fn sell_lines(till: &mut Till) -> Uuid {
    let line = |quantity: u32, text: &str, kroner: i32| SaleLine {
        quantity,
        text: text.into(),
        unit_price: kr(kroner),
        amount: kr(kroner * i32::try_from(quantity).unwrap()),
    };
    let mut request = till.request(kr(28));
    request.lines = vec![line(2, "Ostehaps", 3), line(1, "Dagens ret", 22)];
    let id = request.id;
    assert!(shown(&till.purchase(request).unwrap()).starts_with("approve"));
    id
}

fn take(till: &mut Till, of: Uuid, lines: &[(u32, u32)]) -> Result<Money, LedgerError> {
    let id = till.new_id();
    let now = till.now;
    let lines = lines.iter();
    let lines = lines.map(|&(line, quantity)| VoidLine { line, quantity });
    let request = VoidRequest {
        id,
        of,
        lines: lines.collect(),
    };
    till.store().void(request, now).map(|voided| voided.amount)
}

#[test]
fn ref_01_a_sale_is_taken_back_by_the_piece_and_never_more_than_was_sold() {
    let mut till = Till::with(|_| {});
    let sale = sell_lines(&mut till);
    assert_eq!(take(&mut till, sale, &[(0, 1)]).unwrap(), kr(3));
    assert_eq!(till.balance(), kr(475));
    for (lines, left) in [
        (&[(0, 2)][..], 1),
        (&[(0, 1), (0, 1)], 0),
        (&[(2, 1)], 0),
        (&[(1, 0)], 1),
    ] {
        let refused = take(&mut till, sale, lines);
        assert!(
            matches!(refused, Err(LedgerError::NotSoMany { left: l, .. }) if l == left),
            "{lines:?}: {refused:?}"
        );
    }
    let recent = till.store().reader().unwrap().recent(9).unwrap();
    let left = recent[1].left.clone().unwrap();
    assert_eq!((left.pieces, left.amount), (vec![1, 1], kr(25)));
    // What is left of it, at once.
    assert_eq!(take(&mut till, sale, &[]).unwrap(), kr(25));
    assert_eq!(till.balance(), kr(500));
    let recent = till.store().reader().unwrap().recent(9).unwrap();
    assert!(matches!(recent[2].body, Some(EntryBody::Sale(_))));
    let left = recent[2].left.clone().unwrap();
    assert_eq!((left.pieces, left.amount), (vec![0, 0], kr(0)));
    let again = take(&mut till, sale, &[]);
    assert!(matches!(again, Err(LedgerError::VoidedBefore { seq: 3 })));
    let again = take(&mut till, sale, &[(1, 1)]);
    assert!(matches!(again, Err(LedgerError::VoidedBefore { seq: 3 })));
    till.verified();
}
