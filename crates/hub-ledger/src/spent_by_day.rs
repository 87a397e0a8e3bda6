//! What counts against the limits of an account, as sums by day.
//!
//! Every booking adds itself to the sum of its day (a trigger of the store does that), so what was
//! spent in a window is at most a month of sums, however many purchases stand behind them.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay, Money, Spent};
use rusqlite::Connection;

use crate::error::LedgerError;

/// What is booked against the limits, each entry on the day that it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Booked {
    /// In the windows of a day.
    pub(crate) now: Spent,
    /// The most in any one later window: clocks of tills may be ahead.
    pub(crate) later: Spent,
}

/// What is booked against the limits of an account, in the windows of a day and in later ones.
pub(crate) fn spent_as_booked(
    db: &Connection,
    account: AccountId,
    on: BusinessDay,
) -> Result<Booked, LedgerError> {
    let mut now = Spent::nothing(on);
    let mut days = BTreeMap::new();
    let mut weeks = BTreeMap::new();
    let mut months = BTreeMap::new();
    for (day, spent) in sums(db, account, window_start(on), None)? {
        now = now.plus(spent, day).ok_or_else(out_of_range)?;
        for sum in [
            days.entry(day).or_insert(Money::ZERO),
            weeks.entry(day.week()).or_insert(Money::ZERO),
            months.entry(day.month()).or_insert(Money::ZERO),
        ] {
            *sum = sum.checked_add(spent).ok_or_else(out_of_range)?;
        }
    }
    let later = Spent::new(
        on,
        most_after(&days, on),
        most_after(&weeks, on.week()),
        most_after(&months, on.month()),
    );
    Ok(Booked { now, later })
}

/// What is booked in the windows of a day, up to its end.
pub(crate) fn spent_through(
    db: &Connection,
    account: AccountId,
    day: BusinessDay,
) -> Result<Spent, LedgerError> {
    let mut spent = Spent::nothing(day);
    for (of, sum) in sums(db, account, window_start(day), Some(day))? {
        spent = spent.plus(sum, of).ok_or_else(out_of_range)?;
    }
    Ok(spent)
}

fn sums(
    db: &Connection,
    account: AccountId,
    first: BusinessDay,
    last: Option<BusinessDay>,
) -> Result<Vec<(BusinessDay, Money)>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT day, spent FROM spent_by_day
         WHERE account = ?1 AND day >= ?2 AND (?3 IS NULL OR day <= ?3)",
    )?;
    let last = last.map(|day| day.to_string());
    let mut rows = statement.query((account.0, first.to_string(), last))?;
    let mut sums = Vec::new();
    while let Some(row) = rows.next()? {
        let day: String = row.get(0)?;
        let day = day
            .parse()
            .map_err(|_| LedgerError::Unreadable { what: "day" })?;
        sums.push((day, Money::from_ore(row.get(1)?)));
    }
    Ok(sums)
}

fn most_after<W: Ord>(sums: &BTreeMap<W, Money>, window: W) -> Money {
    let later = sums.iter().filter(|(other, _)| **other > window);
    later.map(|(_, sum)| *sum).fold(Money::ZERO, Money::max)
}

/// The first day of the windows that a day stands in.
fn window_start(day: BusinessDay) -> BusinessDay {
    let date = day.date();
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    let monday = date
        .checked_sub(jiff::Span::new().days(since_monday))
        .unwrap_or(date);
    BusinessDay::from_date(monday.min(date.first_of_month()))
}

fn out_of_range() -> LedgerError {
    LedgerError::Unreadable { what: "amount" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, NOW, kr, sale, void};
    use crate::{LedgerError, Refund};

    fn days_later(days: i64) -> jiff::Timestamp {
        NOW + jiff::SignedDuration::from_hours(24 * days)
    }

    /// Day, week and month, and the most in a later window.
    fn booked(bed: &Bed, account: AccountId) -> Result<[[i64; 3]; 2], LedgerError> {
        let Booked { now, later } =
            spent_as_booked(&bed.ledger.db, account, BusinessDay::of(days_later(3)))?;
        Ok([now, later].map(|spent| {
            [spent.day(), spent.week(), spent.month()].map(|amount| amount.ore() / 100)
        }))
    }

    #[test]
    fn a_store_of_an_older_program_gets_the_sums_of_what_it_has_booked() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        let mut till = bed.till("kasse-1");
        let mut first = None;
        // Friday, Monday (a new week), Tuesday, and a Tuesday of the month after.
        for (days, kroner) in [(0, 1), (3, 2), (4, 4), (11, 8)] {
            let id = till.write_at(sale(account, chip, kr(kroner)), days_later(days));
            first.get_or_insert((id, till.last_seq()));
        }
        let (of, seq) = first.unwrap();
        till.write_at(sale(account, chip, kr(16)), days_later(3));
        bed.send_at(&mut till, [], days_later(3));
        let refund = Refund {
            amount: None,
            lines: Vec::new(),
            reason: "x".to_owned(),
        };
        let newest = crate::BookingId(
            bed.ledger
                .db
                .query_row("SELECT max(id) FROM booking", [], |row| row.get(0))
                .unwrap(),
        );
        let key = bed.key();
        // Taken back on the day of the sale, and on a later day.
        bed.ledger
            .refund(newest, &refund, &key, days_later(3))
            .unwrap();
        till.write_at(void(account, of, seq, kr(1)), days_later(0));
        bed.send_at(&mut till, [], days_later(3));
        assert_eq!(booked(&bed, account).unwrap(), [[2, 6, 6], [8, 8, 8]]);

        bed.reopen_from_version(18);
        assert_eq!(booked(&bed, account).unwrap(), [[2, 6, 6], [8, 8, 8]]);
        bed.send_at(&mut till, [sale(account, chip, kr(32))], days_later(3));
        assert_eq!(booked(&bed, account).unwrap(), [[34, 38, 38], [8, 8, 8]]);
    }
}
