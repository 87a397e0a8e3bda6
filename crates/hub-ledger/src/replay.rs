//! Flags that follow from the order of all that happened on an account: overdrawn balances and
//! limits that were passed.
//!
//! Tills deliver late and in any order, so what is found when an entry arrives is not the last word.
//! These flags are found anew from the day of the earliest news on, in the order of the day, the
//! moment and the till, by the limits that were in force at the moment: the same set of entries
//! always has the same flags.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay, Limits, Money, Spent};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::Epoch;

use crate::accounts::AccountRow;
use crate::bookings::BookingId;
use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::store::millis;

/// What can be wrong with a sale in its place in the order.
pub(crate) const OVERDRAWN: &str = "overdrawn";
/// A limit was passed, which no till that had known could have done.
pub(crate) const LIMIT_EXCEEDED: &str = "limit_exceeded_offline";

/// Finds the flags of an account anew from a day on, and gives those of every sale since then.
pub(crate) fn replay(
    db: &Connection,
    account: &AccountRow,
    from: BusinessDay,
    now: Timestamp,
) -> Result<BTreeMap<BookingId, Vec<&'static str>>, LedgerError> {
    let first = window_start(from);
    let events = events_since(db, account.id, first)?;
    let moved = Money::checked_sum(events.iter().map(|event| event.amount));
    let mut balance = moved
        .and_then(|moved| account.balance.checked_sub(moved))
        .ok_or(LedgerError::Unreadable { what: "balance" })?;
    let terms = Terms::of(db, account)?;
    let mut spent = Spent::nothing(first);
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
        if event.is_sale && event.day >= from {
            let (credit, limits) = terms.at(event.at);
            found.insert(event.id, findings(balance, credit, &limits, &spent));
        }
    }
    keep(db, account, from, &found, now)?;
    let codes = |findings: Vec<Finding>| findings.into_iter().map(|(code, _)| code).collect();
    Ok(found
        .into_iter()
        .map(|(booking, findings)| (booking, codes(findings)))
        .collect())
}

/// What is booked against the limits, each entry on the day that it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Booked {
    /// In the windows of a day.
    pub(crate) now: Spent,
    /// The most in any one later window: clocks of tills may be ahead.
    pub(crate) later: Spent,
}

pub(crate) fn spent_as_booked(
    db: &Connection,
    account: AccountId,
    on: BusinessDay,
) -> Result<Booked, LedgerError> {
    let out_of_range = || LedgerError::Unreadable { what: "amount" };
    let mut now = Spent::nothing(on);
    let mut days = BTreeMap::new();
    let mut weeks = BTreeMap::new();
    let mut months = BTreeMap::new();
    for event in events_since(db, account, window_start(on))? {
        let Some(counted) = event.counted else {
            continue;
        };
        now = now.plus(counted, event.day).ok_or_else(out_of_range)?;
        for sum in [
            days.entry(event.day).or_insert(Money::ZERO),
            weeks.entry(event.day.week()).or_insert(Money::ZERO),
            months.entry(event.day.month()).or_insert(Money::ZERO),
        ] {
            *sum = sum.checked_add(counted).ok_or_else(out_of_range)?;
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

fn most_after<W: Ord>(sums: &BTreeMap<W, Money>, window: W) -> Money {
    let later = sums.iter().filter(|(other, _)| **other > window);
    later.map(|(_, sum)| *sum).fold(Money::ZERO, Money::max)
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

/// The first day of the windows that a day stands in.
fn window_start(day: BusinessDay) -> BusinessDay {
    let date = day.date();
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    let monday = date
        .checked_sub(jiff::Span::new().days(since_monday))
        .unwrap_or(date);
    BusinessDay::from_date(monday.min(date.first_of_month()))
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
    first: BusinessDay,
) -> Result<Vec<Event>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT b.id, b.day, b.happened_at, b.kind,
           CASE WHEN b.from_account = b.holder THEN -b.amount ELSE b.amount END,
           s.day IS b.day
         FROM booking b LEFT JOIN booking s ON b.kind = 'refund' AND s.id = b.reference
         WHERE b.holder = ?1 AND b.day >= ?2
         ORDER BY b.day, b.happened_at, b.till, b.id",
    )?;
    let mut rows = statement.query((account.0, first.to_string()))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let (day, kind): (String, String) = (row.get(1)?, row.get(3)?);
        let amount = Money::from_ore(row.get(4)?);
        let counts = match kind.as_str() {
            "sale" | "order" | "void" => true,
            // A refund gives the limits back on the day of the purchase only.
            "refund" => row.get(5)?,
            _ => false,
        };
        events.push(Event {
            id: BookingId(row.get(0)?),
            day: day
                .parse()
                .map_err(|_| LedgerError::Unreadable { what: "day" })?,
            at: row.get(2)?,
            amount,
            is_sale: kind == "sale",
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

/// Keeps what an account allows before it is changed the first time, and each time after.
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
    Ok(())
}

/// Brings the flags that are kept in line with those that were found.
fn keep(
    db: &Connection,
    account: &AccountRow,
    from: BusinessDay,
    found: &BTreeMap<BookingId, Vec<Finding>>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut kept: BTreeMap<(i64, String), (i64, String)> = BTreeMap::new();
    let mut statement = db.prepare_cached(
        "SELECT f.id, f.booking, f.code, f.detail FROM flag f JOIN booking b ON b.id = f.booking
         WHERE f.account = ?1 AND f.code IN (?2, ?3) AND b.day >= ?4",
    )?;
    let mut rows = statement.query((account.id.0, OVERDRAWN, LIMIT_EXCEEDED, from.to_string()))?;
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
            "SELECT epoch FROM batch
             WHERE till = ?1 AND first_id <= ?2 AND ?2 < first_id + entries
             UNION ALL
             SELECT r.epoch FROM branch r JOIN branch_batch b ON b.branch = r.id
             WHERE r.till = ?1 AND b.first_id <= ?2 AND ?2 < b.first_id + b.entries",
        )?
        .query_row((till, journal), |row| row.get(0))
        .optional()?;
    Ok(epoch.map(|epoch| (Epoch(epoch.cast_unsigned()), seq.cast_unsigned())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, kr, ore, sale, void};
    use crate::{LimitsChange, Reach};

    fn flags(bed: &Bed) -> Vec<String> {
        let flags = bed
            .ledger
            .list_flags(Reach::Everything, None, i64::MAX, 500);
        let mut flags: Vec<String> = flags
            .unwrap()
            .into_iter()
            .map(|flag| {
                let till = flag.till.unwrap_or_default();
                let account = flag.account.map_or(0, |account| account.0);
                let seq = flag.seq.unwrap_or_default();
                format!("{} {till} {seq} {account} {}", flag.code, flag.detail)
            })
            .collect();
        flags.sort();
        flags
    }

    fn limit_day(bed: &mut Bed, account: AccountId, limit: Option<i32>, now: Timestamp) {
        let limits = LimitsChange {
            day: Some(limit.map(kr)),
            ..LimitsChange::default()
        };
        bed.ledger.change_limits(account, limits, now).unwrap();
    }

    fn minutes(minutes: i64) -> Timestamp {
        NOW + jiff::SignedDuration::from_mins(minutes)
    }

    #[test]
    fn lim_06_the_later_sale_is_flagged_whichever_arrives_first() {
        for late_first in [false, true] {
            let mut bed = Bed::new();
            let (account, chip) = bed.account(kr(1000));
            limit_day(&mut bed, account, Some(25), minutes(0));
            let mut one = bed.till("kasse-1");
            let mut two = bed.till("kasse-2");
            one.write_at(sale(account, chip, kr(20)), minutes(10));
            two.write_at(sale(account, chip, kr(20)), minutes(15));
            let (first, second) = match late_first {
                true => (&mut two, &mut one),
                false => (&mut one, &mut two),
            };
            bed.send(first, []);
            bed.send(second, []);
            let found = bed.ledger.list_flags(Reach::Everything, None, i64::MAX, 9);
            let found = found.unwrap();
            let [flag] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert_eq!(
                (flag.code.as_str(), flag.till.as_deref(), flag.seq),
                (LIMIT_EXCEEDED, Some("kasse-2"), Some(1))
            );
        }
    }

    #[test]
    fn a_void_that_arrives_late_takes_the_flag_of_a_later_sale_away() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        limit_day(&mut bed, account, Some(25), minutes(0));
        let mut one = bed.till("kasse-1");
        let mut two = bed.till("kasse-2");
        let of = one.write_at(sale(account, chip, kr(20)), minutes(10));
        bed.send(&mut one, []);
        two.write_at(sale(account, chip, kr(20)), minutes(15));
        bed.send(&mut two, []);
        assert_eq!(bed.flags(), [LIMIT_EXCEEDED]);
        one.write_at(void(account, of, 1, kr(20)), minutes(12));
        bed.send(&mut one, []);
        assert_eq!(bed.flags(), [""; 0]);
    }

    #[test]
    fn a_sale_is_held_against_the_limit_of_its_own_moment() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        let mut till = bed.till("kasse-1");
        till.write_at(sale(account, chip, kr(40)), minutes(10));
        limit_day(&mut bed, account, Some(25), minutes(15));
        till.write_at(sale(account, chip, kr(1)), minutes(20));
        bed.send(&mut till, []);
        let found = bed.ledger.list_flags(Reach::Everything, None, i64::MAX, 9);
        let details: Vec<_> = found.unwrap().into_iter().map(|flag| flag.detail).collect();
        assert_eq!(details, ["41,00 kr. of the daily limit of 25,00 kr."]);
    }

    #[test]
    fn a_deposit_of_the_afternoon_does_not_excuse_the_noon() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(0));
        let mut till = bed.till("kasse-1");
        till.write_at(sale(account, chip, kr(10)), NOW + Duration::from_secs(60));
        let key = bed.key();
        let later = NOW + Duration::from_secs(3600);
        bed.ledger.deposit(account, kr(100), &key, later).unwrap();
        bed.send_at(&mut till, [], later);
        assert_eq!(bed.flags(), [OVERDRAWN]);
    }

    /// A sale: till, account, øre, minute, and whether it is taken back.
    type Step = (usize, usize, i64, i64, bool);

    fn write_all(bed: &Bed, tills: &mut [TestTill], script: &[Step]) {
        let accounts: Vec<(AccountId, i64)> = bed
            .ledger
            .list_accounts(Reach::Everything, None, AccountId(0), 9)
            .unwrap()
            .iter()
            .map(|row| (row.id, bed.ledger.chips_of(row.id).unwrap()[0].number))
            .collect();
        for (till, who, amount, minute, voided) in script {
            let (account, chip) = accounts[*who];
            let at = minutes(*minute + 1);
            let till = &mut tills[*till];
            let of = till.write_at(sale(account, chip, ore(*amount)), at);
            if *voided {
                let seq = till.last_seq();
                till.write_at(void(account, of, seq, ore(*amount)), at);
            }
        }
    }

    /// Delivers every till's entries, cut into pieces, in the order of the picks.
    fn deliver(script: &[Step], picks: &[(usize, u64)]) -> (Vec<String>, Vec<Money>) {
        let mut bed = Bed::new();
        for balance in [30, 200] {
            let (account, _) = bed.account(kr(balance));
            limit_day(&mut bed, account, Some(60), minutes(0));
        }
        let mut tills: Vec<TestTill> = (1..=3).map(|n| bed.till(&format!("kasse-{n}"))).collect();
        write_all(&bed, &mut tills, script);
        let mut sent = [0_u64; 3];
        let rest = (0..3).map(|till| (till, u64::MAX));
        for (till, count) in picks.iter().copied().chain(rest) {
            let last = tills[till].last_seq().min(sent[till].saturating_add(count));
            if last > sent[till] {
                let batch = tills[till].batch(sent[till] + 1..=last);
                let (access, later) = (&tills[till].access, minutes(4 * 24 * 60));
                bed.ledger.ingest(access, &batch, later).unwrap().unwrap();
                sent[till] = last;
            }
        }
        bed.check_books();
        let balances = bed
            .ledger
            .list_accounts(Reach::Everything, None, AccountId(0), 9)
            .unwrap()
            .into_iter()
            .map(|row| row.balance)
            .collect();
        (flags(&bed), balances)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// PT-3: the books and their flags are a function of the set of entries.
        #[test]
        fn sy_36_permuted_delivery_gives_the_same_books_and_flags(
            script in prop::collection::vec(
                (0usize..3, 0usize..2, 1i64..60_00, 0i64..3 * 24 * 60, any::<bool>()), 1..25),
            picks in prop::collection::vec((0usize..3, 1u64..6), 0..20),
        ) {
            let mut script = script;
            script.sort_by_key(|(.., minute, _)| *minute);
            let whole = deliver(&script, &[(2, u64::MAX), (1, u64::MAX)]);
            let permuted = deliver(&script, &picks);
            prop_assert_eq!(whole, permuted);
        }
    }
}
