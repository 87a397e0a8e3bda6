//! The totals of a till's day, held against the books: whatever differs is an alarm and never an
//! adjustment.

use canteen::{BusinessDay, Money};
use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sync_proto::{Epoch, TillId, Totals, ZReport};

use crate::branches::{Line, entry_by_id, has_branches, id_of, stem_of};
use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::store::{HubReader, millis, moment};
use crate::tenancy::Reach;
use crate::tills::till_from;

/// A Z report and what the hub made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZReportRow {
    /// Its number in the list.
    pub id: i64,
    /// The till.
    pub till: TillId,
    /// The life of the till's ledger.
    pub epoch: Epoch,
    /// When it came.
    pub at: Timestamp,
    /// What the till says.
    pub report: ZReport,
    /// What the hub had of the same entries; none of reports in branches that came to programs which
    /// did not compare those.
    pub books: Option<DayBooks>,
}

/// What the hub has of a till's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DayBooks {
    /// Sales in the books.
    pub sales: Totals,
    /// Voids in the books.
    pub voids: Totals,
    /// Declined purchases.
    pub declines: u64,
    /// Sales in quarantine, as far as they can be read.
    pub quarantined_sales: Totals,
    /// Voids in quarantine, as far as they can be read.
    pub quarantined_voids: Totals,
}

impl DayBooks {
    /// Whether that is what the till says.
    pub fn agree_with(&self, report: &ZReport) -> bool {
        sum(self.sales, self.quarantined_sales) == Some(report.sales)
            && sum(self.voids, self.quarantined_voids) == Some(report.voids)
            && self.declines == report.declines
    }
}

impl HubReader {
    /// The newest Z reports within reach before a number, the newest first.
    pub fn list_z_reports(
        &self,
        reach: Reach,
        before: i64,
        limit: u32,
    ) -> Result<Vec<ZReportRow>, LedgerError> {
        let unreadable = |_| LedgerError::Unreadable { what: "Z report" };
        let mut statement = self.db.prepare_cached(
            "SELECT id, till, epoch, at, report, books FROM z_report
             WHERE id < ?1 AND (?2 IS NULL OR tenant = ?2) ORDER BY id DESC LIMIT ?3",
        )?;
        let mut rows = statement.query((before, reach.filter(), limit))?;
        let mut reports = Vec::new();
        while let Some(row) = rows.next()? {
            let (report, books): (String, Option<String>) = (row.get(4)?, row.get(5)?);
            reports.push(ZReportRow {
                id: row.get(0)?,
                till: till_from(&row.get::<_, String>(1)?)?,
                epoch: Epoch(row.get::<_, i64>(2)?.cast_unsigned()),
                at: moment(row.get(3)?)?,
                report: serde_json::from_str(&report).map_err(unreadable)?,
                books: books
                    .map(|books| serde_json::from_str(&books).map_err(unreadable))
                    .transpose()?,
            });
        }
        Ok(reports)
    }
}

/// Keeps a report and holds it against what the hub has; a difference is flagged.
pub(crate) fn hold_against_books(
    db: &Connection,
    origin: &Origin<'_>,
    line: Line,
    report: &ZReport,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (Some(till), Some(epoch)) = (origin.till, origin.epoch) else {
        return Ok(());
    };
    let books = day_books(db, till, epoch, line, report)?;
    let unwritable = |_| LedgerError::Unreadable { what: "Z report" };
    db.execute(
        "INSERT INTO z_report (tenant, till, epoch, seq, at, report, books)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            origin.tenant.0,
            till,
            epoch.0.cast_signed(),
            origin.seq.map(u64::cast_signed),
            millis(now),
            serde_json::to_string(report).map_err(unwritable)?,
            serde_json::to_string(&books).map_err(unwritable)?,
        ),
    )?;
    if books.agree_with(report) {
        return Ok(());
    }
    let detail = difference(report, &books);
    raise_flag(db, "z_differs", origin, None, None, &detail, now)
}

fn difference(report: &ZReport, books: &DayBooks) -> String {
    let told = |totals: Totals| format!("{} of {}", totals.count, totals.amount);
    format!(
        "Z report {} of {}: the till has {} in sales and {} in voids, {} declined; the hub has {} and \
         {} in the books, {} and {} in quarantine, {} declined",
        report.number,
        report.day,
        told(report.sales),
        told(report.voids),
        report.declines,
        told(books.sales),
        told(books.voids),
        told(books.quarantined_sales),
        told(books.quarantined_voids),
        books.declines,
    )
}

/// What the hub has of a day, of the entries that the report contains: those of its own branch, and
/// before that those of the chain which the branch left.
fn day_books(
    db: &Connection,
    till: &str,
    epoch: Epoch,
    line: Line,
    report: &ZReport,
) -> Result<DayBooks, LedgerError> {
    let till = till_from(till)?;
    let mut books = DayBooks::default();
    let mut part = (line, report.through_seq);
    loop {
        let (line, through) = part;
        let is_done = books.add_part(db, &till, epoch, line, through, report.day)?;
        match line {
            Line::Branch(branch) if !is_done => {
                let (stem, head) = stem_of(db, &till, epoch, branch)?;
                part = (stem, head.seq.min(through));
            }
            Line::Main | Line::Branch(_) => return Ok(books),
        }
    }
}

/// What the hub has made of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Booking,
    QuarantineRow,
    Nothing,
}

impl DayBooks {
    /// Counts the entries of a day that stand on a chain up to a number. Days never go back along a
    /// chain, so it is read from its end; whether its entries of earlier days were reached.
    fn add_part(
        &mut self,
        db: &Connection,
        till: &TillId,
        epoch: Epoch,
        line: Line,
        through: u64,
        day: BusinessDay,
    ) -> Result<bool, LedgerError> {
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        let (mut of_main, mut of_branch);
        let mut batches = match line {
            Line::Main => {
                of_main = db.prepare_cached(
                    "SELECT first_seq, entries, first_id FROM batch
                     WHERE till = ?1 AND epoch = ?2 AND first_seq <= ?3 ORDER BY first_seq DESC",
                )?;
                of_main.query((till.as_str(), epoch.0.cast_signed(), through))?
            }
            Line::Branch(branch) => {
                of_branch = db.prepare_cached(
                    "SELECT first_seq, entries, first_id FROM branch_batch
                     WHERE branch = ?1 AND first_seq <= ?2 ORDER BY first_seq DESC",
                )?;
                of_branch.query((branch, through))?
            }
        };
        let mut entries = db.prepare_cached(
            "SELECT id, header, body FROM journal WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC",
        )?;
        while let Some(batch) = batches.next()? {
            let (first_seq, count, first_id): (i64, i64, i64) =
                (batch.get(0)?, batch.get(1)?, batch.get(2)?);
            let last = count.min(through - first_seq + 1) - 1;
            let mut rows = entries.query((first_id, first_id + last))?;
            while let Some(row) = rows.next()? {
                let (header, body): (String, String) = (row.get(1)?, row.get(2)?);
                let Some(entry) = Glance::at(&header, &body) else {
                    continue;
                };
                if entry.day < day {
                    return Ok(true);
                }
                if entry.day == day {
                    self.count(&entry, made_of(db, till, row.get(0)?, &header)?)?;
                }
            }
        }
        Ok(false)
    }

    fn count(&mut self, entry: &Glance, made: Made) -> Result<(), LedgerError> {
        let totals = match (entry.kind.as_str(), made) {
            ("sale", Made::Booking) => &mut self.sales,
            ("sale", Made::QuarantineRow) => &mut self.quarantined_sales,
            ("void", Made::Booking) => &mut self.voids,
            ("void", Made::QuarantineRow) => &mut self.quarantined_voids,
            ("decline", _) => {
                self.declines += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        totals.count += 1;
        totals.amount = totals
            .amount
            .checked_add(entry.amount.unwrap_or(Money::ZERO))
            .ok_or(LedgerError::Unreadable { what: "amount" })?;
        Ok(())
    }
}

/// What the hub has made of an entry of the journal; of one that had come before in another chain,
/// what it made of that.
fn made_of(
    db: &Connection,
    till: &TillId,
    journal: i64,
    header: &str,
) -> Result<Made, LedgerError> {
    let made = made_of_row(db, journal)?;
    if made != Made::Nothing || !has_branches(db, till)? {
        return Ok(made);
    }
    let Some(id) = id_of(header) else {
        return Ok(made);
    };
    match entry_by_id(db, till, id)? {
        Some(first) => made_of_row(db, first),
        None => Ok(made),
    }
}

fn made_of_row(db: &Connection, journal: i64) -> Result<Made, LedgerError> {
    let (booked, quarantined) = db
        .prepare_cached(
            "SELECT coalesce(j.booking, q.booking) IS NOT NULL, q.id IS NOT NULL
             FROM journal j LEFT JOIN quarantine q ON q.journal = j.id WHERE j.id = ?1",
        )?
        .query_row([journal], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match (booked, quarantined) {
        (true, _) => Made::Booking,
        (false, true) => Made::QuarantineRow,
        (false, false) => Made::Nothing,
    })
}

/// What can be read of an entry, also when this program cannot read all of it.
pub(crate) struct Glance {
    pub(crate) kind: String,
    pub(crate) day: BusinessDay,
    pub(crate) amount: Option<Money>,
    pub(crate) account: Option<i64>,
}

impl Glance {
    pub(crate) fn at(header: &str, body: &str) -> Option<Glance> {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "type")]
            kind: String,
            day: String,
        }
        #[derive(Deserialize, Default)]
        struct Body {
            amount: Option<i64>,
            account: Option<i64>,
        }
        let Header { kind, day } = serde_json::from_str(header).ok()?;
        let Body { amount, account } = serde_json::from_str(body).unwrap_or_default();
        Some(Glance {
            kind,
            day: day.parse().ok()?,
            amount: amount.map(Money::from_ore),
            account,
        })
    }
}

fn sum(one: Totals, other: Totals) -> Option<Totals> {
    Some(Totals {
        count: one.count.checked_add(other.count)?,
        amount: one.amount.checked_add(other.amount)?,
    })
}

#[cfg(test)]
mod tests {
    use sync_proto::{EntryBody, EntryTexts};

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, decline, kr, sale, void};

    fn z(till: &TestTill, sales: (u64, i32), voids: (u64, i32), declines: u64) -> EntryBody {
        let totals = |(count, kroner)| Totals {
            count,
            amount: kr(kroner),
        };
        EntryBody::ZReport(ZReport {
            number: 1,
            day: BusinessDay::of(NOW),
            through_seq: till.last_seq(),
            sales: totals(sales),
            voids: totals(voids),
            declines,
        })
    }

    /// A day with two sales of 30 kr and 12 kr, 5 kr of them taken back, one decline, and a sale of
    /// 7 kr that this hub cannot read; a sale of the day before is not part of it.
    #[track_caller]
    fn check(sales: (u64, i32), voids: (u64, i32), declines: u64, agrees: bool) {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let yesterday = NOW - jiff::SignedDuration::from_hours(24);
        till.write_at(sale(account, chip, kr(50)), yesterday);
        let of = till.write(sale(account, chip, kr(30)));
        till.write(sale(account, chip, kr(12)));
        till.write(void(account, of, 2, kr(5)));
        till.write(decline(account, chip, kr(90), "limit_day"));
        let header = till.header("sale").replace("\"v\":1", "\"v\":9");
        till.write_texts(EntryTexts {
            header,
            body: format!("{{\"account\":{account},\"amount\":700,\"coupon\":true}}"),
        });
        let report = z(&till, sales, voids, declines);
        bed.send(&mut till, [report]);
        let listed = bed.ledger.list_z_reports(Reach::Everything, i64::MAX, 9);
        let listed = listed.unwrap();
        let books = listed[0].books.unwrap();
        assert_eq!(books.agree_with(&listed[0].report), agrees, "{books:?}");
        let flags = bed
            .ledger
            .list_flags(Reach::Everything, None, i64::MAX, 9)
            .unwrap();
        let flagged = flags.iter().find(|flag| flag.code == "z_differs");
        assert_eq!(flagged.is_none(), agrees);
        if let Some(flag) = flagged {
            let both = "the hub has 2 of 42,00 kr. and 1 of 5,00 kr. in the books, 1 of 7,00 kr.";
            assert!(flag.detail.contains(both), "{}", flag.detail);
        }
    }

    #[test]
    fn sy_37_a_z_report_that_differs_from_booked_and_quarantined_is_an_alarm() {
        check((3, 49), (1, 5), 1, true);
        check((3, 50), (1, 5), 1, false);
        check((2, 49), (1, 5), 1, false);
        check((3, 49), (0, 0), 1, false);
        check((3, 49), (1, 5), 2, false);
        check((2, 42), (1, 5), 1, false);
    }

    #[test]
    fn a_report_counts_no_entry_after_the_last_that_it_contains() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(30)));
        let report = z(&till, (1, 30), (0, 0), 0);
        bed.send(&mut till, [sale(account, chip, kr(1)), report]);
        assert_eq!(bed.flags(), [""; 0]);
        assert_eq!(bed.balance(account), kr(69));
    }

    /// A till with sales of 30 kr is copied; the till sells for 1 kr, the copy for 2 kr, and a copy
    /// of the copy for 4 kr. Each closes its day.
    #[track_caller]
    fn check_copies(of_copy: (u64, i32), of_its_copy: (u64, i32), differ: usize) {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let yesterday = NOW - jiff::SignedDuration::from_hours(24);
        till.write_at(sale(account, chip, kr(50)), yesterday);
        till.write(sale(account, chip, kr(30)));
        let mut copy = till.clone();
        copy.become_a_copy();
        copy.write(sale(account, chip, kr(2)));
        let mut its_copy = copy.clone();
        its_copy.become_a_copy();
        its_copy.write(sale(account, chip, kr(4)));
        till.write(sale(account, chip, kr(1)));
        till.write(z(&till, (2, 31), (0, 0), 0));
        copy.write(z(&copy, of_copy, (0, 0), 0));
        its_copy.write(z(&its_copy, of_its_copy, (0, 0), 0));
        for machine in [&till, &copy, &its_copy] {
            let batch = machine.batch(1..=machine.last_seq());
            bed.ledger.ingest_branch(&batch, NOW).unwrap().unwrap();
        }
        let listed = bed.ledger.list_z_reports(Reach::Everything, i64::MAX, 9);
        let listed = listed.unwrap();
        let sales: Vec<_> = listed
            .iter()
            .map(|row| row.books.unwrap().sales.amount)
            .collect();
        assert_eq!(sales, [kr(36), kr(32), kr(31)]);
        let flags = bed.flags();
        let found = flags.iter().filter(|code| *code == "z_differs").count();
        assert_eq!(found, differ, "{flags:?}");
        assert_eq!(bed.balance(account), kr(100 - 50 - 30 - 1 - 2 - 4));
    }

    #[test]
    fn a_report_in_a_branch_is_held_against_its_own_entries_and_those_before_the_fork() {
        check_copies((2, 32), (3, 36), 0);
        check_copies((2, 33), (3, 36), 1);
        check_copies((2, 32), (4, 37), 1);
    }
}
