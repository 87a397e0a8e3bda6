//! Flags that follow from the order of all that happened on an account: overdrawn balances and
//! limits that were passed.
//!
//! Tills deliver late and in any order, so what is found when an entry arrives is not the last word.
//! These flags are found anew from the earliest news on, in the order of the day, the moment and the
//! till, by the limits that were in force at the moment: the same set of entries always has the same
//! flags. What stands before the news is not looked at again; its sums are known by day, so that one
//! more purchase costs the same on an account with ten and with ten thousand.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay, Limits, Money, Spent};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::Epoch;

use crate::accounts::{AccountRow, find_account};
use crate::bookings::BookingId;
use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::spent_by_day::spent_through;
use crate::store::millis;

/// What can be wrong with a sale in its place in the order.
pub(crate) const OVERDRAWN: &str = "overdrawn";
/// A limit was passed, which no till that had known could have done.
pub(crate) const LIMIT_EXCEEDED: &str = "limit_exceeded_offline";

/// A place in the order of what happened on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Since {
    day: BusinessDay,
    at: i64,
}

impl Since {
    /// The first place of a day and a moment; a till's day need not be the one that its moment falls
    /// on.
    pub(crate) fn new(day: BusinessDay, at: Timestamp) -> Since {
        Since {
            day,
            at: millis(at),
        }
    }
}

/// Finds the flags of an account anew from a place on, and gives those of every sale since then.
pub(crate) fn replay(
    db: &Connection,
    account: &AccountRow,
    since: Since,
    now: Timestamp,
) -> Result<BTreeMap<BookingId, Vec<&'static str>>, LedgerError> {
    let events = events_since(db, account.id, since)?;
    let (mut balance, mut spent) = before(db, account, since, &events)?;
    let terms = Terms::of(db, account)?;
    let mut found: BTreeMap<BookingId, Vec<Finding>> = BTreeMap::new();
    for event in &events {
        balance = balance
            .checked_add(event.amount)
            .ok_or(LedgerError::Unreadable { what: "balance" })?;
        if event.day > spent.on() {
            spent = spent.as_of(event.day);
        }
        if let Some(counted) = event.counted
            && let Some(after) = spent.plus(counted, event.day)
        {
            spent = after;
        }
        if event.is_sale {
            let (credit, limits) = terms.at(event.at);
            found.insert(event.id, findings(balance, credit, &limits, &spent));
        }
    }
    keep(db, account, since, &found, now)?;
    let codes = |findings: Vec<Finding>| findings.into_iter().map(|(code, _)| code).collect();
    Ok(found
        .into_iter()
        .map(|(booking, findings)| (booking, codes(findings)))
        .collect())
}

/// Finds anew what something says of sales that are booked already, though they come later in the
/// order: tills whose clocks are ahead have written them.
pub(crate) fn replay_later_sales(
    db: &Connection,
    account: AccountId,
    since: Since,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let is_news = db
        .prepare_cached(
            "SELECT 1 FROM booking
             WHERE holder = ?1 AND (day, happened_at) >= (?2, ?3) AND kind = 'sale'",
        )?
        .exists((account.0, since.day.to_string(), since.at))?;
    if is_news && let Some(account) = find_account(db, account)? {
        replay(db, &account, since, now)?;
    }
    Ok(())
}

/// The balance and what was spent just before a place, after which all these events come.
fn before(
    db: &Connection,
    account: &AccountRow,
    since: Since,
    events: &[Event],
) -> Result<(Money, Spent), LedgerError> {
    let moved = Money::checked_sum(events.iter().map(|event| event.amount));
    let balance = moved
        .and_then(|moved| account.balance.checked_sub(moved))
        .ok_or(LedgerError::Unreadable { what: "balance" })?;
    let mut spent = spent_through(db, account.id, since.day)?;
    let of_day = events.iter().take_while(|event| event.day == since.day);
    for counted in of_day.filter_map(|event| event.counted) {
        spent = counted
            .checked_neg()
            .and_then(|back| spent.plus(back, since.day))
            .ok_or(LedgerError::Unreadable { what: "amount" })?;
    }
    Ok((balance, spent))
}

type Finding = (&'static str, String);

fn findings(balance: Money, credit: Money, limits: &Limits, spent: &Spent) -> Vec<Finding> {
    let mut findings = Vec::new();
    if balance.checked_add(credit) < Some(Money::ZERO) {
        findings.push((OVERDRAWN, format!("the balance is {balance}")));
    }
    let windows = [
        ("daily", limits.day, spent.day()),
        ("weekly", limits.week, spent.week()),
        ("monthly", limits.month, spent.month()),
    ];
    let passed = windows
        .into_iter()
        .find(|(_, limit, spent)| limit.is_some_and(|limit| *spent > limit));
    if let Some((window, Some(limit), spent)) = passed {
        let detail = format!("{spent} of the {window} limit of {limit}");
        findings.push((LIMIT_EXCEEDED, detail));
    }
    findings
}

/// Something that moved an account's money.
struct Event {
    id: BookingId,
    day: BusinessDay,
    at: i64,
    amount: Money,
    is_sale: bool,
    /// What it adds to the counters of the limits.
    counted: Option<Money>,
}

fn events_since(
    db: &Connection,
    account: AccountId,
    since: Since,
) -> Result<Vec<Event>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT id, day, happened_at, kind = 'sale', moved, counts
         FROM booking_of_holder_in_order
         WHERE holder = ?1 AND (day, happened_at) >= (?2, ?3)
         ORDER BY day, happened_at, till, id",
    )?;
    let mut rows = statement.query((account.0, since.day.to_string(), since.at))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let day: String = row.get(1)?;
        let amount = Money::from_ore(row.get(4)?);
        let counts: bool = row.get(5)?;
        events.push(Event {
            id: BookingId(row.get(0)?),
            day: day
                .parse()
                .map_err(|_| LedgerError::Unreadable { what: "day" })?,
            at: row.get(2)?,
            amount,
            is_sale: row.get(3)?,
            counted: amount.checked_neg().filter(|_| counts),
        });
    }
    Ok(events)
}

/// What an account allowed, by time.
struct Terms {
    changes: Vec<(i64, Money, Limits)>,
    now: (Money, Limits),
}

impl Terms {
    fn of(db: &Connection, account: &AccountRow) -> Result<Terms, LedgerError> {
        let mut statement = db.prepare_cached(
            "SELECT at, credit, limit_day, limit_week, limit_month FROM terms_change
             WHERE account = ?1 ORDER BY id",
        )?;
        let mut rows = statement.query([account.id.0])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            let limit =
                |n| Ok::<_, LedgerError>(row.get::<_, Option<i64>>(n)?.map(Money::from_ore));
            let limits = Limits {
                day: limit(2)?,
                week: limit(3)?,
                month: limit(4)?,
                mode: account.limits.mode,
            };
            changes.push((row.get(0)?, Money::from_ore(row.get(1)?), limits));
        }
        Ok(Terms {
            changes,
            now: (account.credit, account.limits),
        })
    }

    fn at(&self, at: i64) -> (Money, Limits) {
        let before = self.changes.iter().take_while(|(since, _, _)| *since <= at);
        match before.last() {
            Some((_, credit, limits)) => (*credit, *limits),
            None => self.now,
        }
    }
}

/// Keeps what an account allows before it is changed the first time, and each time after, and holds
/// against it what is booked already though it happened later, by a clock that is ahead.
pub(crate) fn note_terms(
    db: &Connection,
    before: &AccountRow,
    after: &AccountRow,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let known = db
        .prepare_cached("SELECT 1 FROM terms_change WHERE account = ?1")?
        .exists([before.id.0])?;
    let first = (!known).then_some((i64::MIN, before));
    for (at, row) in first.into_iter().chain([(millis(now), after)]) {
        db.execute(
            "INSERT INTO terms_change (account, at, credit, limit_day, limit_week, limit_month)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                row.id.0,
                at,
                row.credit.ore(),
                row.limits.day.map(Money::ore),
                row.limits.week.map(Money::ore),
                row.limits.month.map(Money::ore),
            ),
        )?;
    }
    match first_place_from(db, after.id, now)? {
        Some(since) => replay(db, after, since, now).map(|_| ()),
        None => Ok(()),
    }
}

/// The first place in the order of what happened at a moment or later.
fn first_place_from(
    db: &Connection,
    account: AccountId,
    at: Timestamp,
) -> Result<Option<Since>, LedgerError> {
    let found: Option<(String, i64)> = db
        .prepare_cached(
            "SELECT day, happened_at FROM booking WHERE holder = ?1 AND happened_at >= ?2
             ORDER BY day, happened_at LIMIT 1",
        )?
        .query_row((account.0, millis(at)), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((day, at)) = found else {
        return Ok(None);
    };
    let day = day
        .parse()
        .map_err(|_| LedgerError::Unreadable { what: "day" })?;
    Ok(Some(Since { day, at }))
}

/// Brings the flags that are kept in line with those that were found.
fn keep(
    db: &Connection,
    account: &AccountRow,
    since: Since,
    found: &BTreeMap<BookingId, Vec<Finding>>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut kept: BTreeMap<(i64, String), (i64, String)> = BTreeMap::new();
    let mut statement = db.prepare_cached(
        // The bookings lead: an account may have any number of flags.
        "SELECT f.id, f.booking, f.code, f.detail FROM booking b CROSS JOIN flag f ON f.booking = b.id
         WHERE b.holder = ?1 AND (b.day, b.happened_at) >= (?2, ?3) AND f.code IN (?4, ?5)",
    )?;
    let mut rows = statement.query((
        account.id.0,
        since.day.to_string(),
        since.at,
        OVERDRAWN,
        LIMIT_EXCEEDED,
    ))?;
    while let Some(row) = rows.next()? {
        kept.insert((row.get(1)?, row.get(2)?), (row.get(0)?, row.get(3)?));
    }
    for (booking, findings) in found {
        for (code, detail) in findings {
            match kept.remove(&(booking.0, (*code).to_owned())) {
                Some((_, told)) if told == *detail => {}
                Some((flag, _)) => {
                    db.prepare_cached("UPDATE flag SET detail = ?2 WHERE id = ?1")?
                        .execute((flag, detail))?;
                }
                None => raise(db, account, *booking, code, detail, now)?,
            }
        }
    }
    for (flag, _) in kept.into_values() {
        db.prepare_cached("DELETE FROM flag WHERE id = ?1")?
            .execute([flag])?;
    }
    Ok(())
}

fn raise(
    db: &Connection,
    account: &AccountRow,
    booking: BookingId,
    code: &'static str,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let till: Option<String> = db
        .prepare_cached("SELECT till FROM booking WHERE id = ?1")?
        .query_row([booking.0], |row| row.get(0))?;
    let entry = match &till {
        Some(till) => entry_of(db, till, booking)?,
        None => None,
    };
    let origin = Origin {
        tenant: account.tenant,
        till: till.as_deref(),
        epoch: entry.map(|(epoch, _)| epoch),
        seq: entry.map(|(_, seq)| seq),
    };
    let (account, booking) = (Some(account.id), Some(booking));
    raise_flag(db, code, &origin, account, booking, detail, now)
}

/// The life and number of the entry that a till's booking came from, also out of quarantine.
fn entry_of(
    db: &Connection,
    till: &str,
    booking: BookingId,
) -> Result<Option<(Epoch, u64)>, LedgerError> {
    let entry = db
        .prepare_cached(
            "SELECT id, seq FROM journal WHERE booking = ?1
             UNION ALL
             SELECT journal, seq FROM quarantine WHERE booking = ?1",
        )?
        .query_row([booking.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    let Some((journal, seq)) = entry else {
        return Ok(None);
    };
    let epoch: Option<i64> = db
        .prepare_cached(
            "SELECT epoch FROM (SELECT till, epoch, first_id + entries AS after FROM batch
               WHERE first_id <= ?2 ORDER BY first_id DESC LIMIT 1)
             WHERE till = ?1 AND ?2 < after
             UNION ALL
             SELECT r.epoch FROM (SELECT branch, first_id + entries AS after FROM branch_batch
               WHERE first_id <= ?2 ORDER BY first_id DESC LIMIT 1) b
             JOIN branch r ON r.id = b.branch
             WHERE r.till = ?1 AND ?2 < b.after",
        )?
        .query_row((till, journal), |row| row.get(0))
        .optional()?;
    Ok(epoch.map(|epoch| (Epoch(epoch.cast_unsigned()), seq.cast_unsigned())))
}

#[cfg(test)]
mod tests;
