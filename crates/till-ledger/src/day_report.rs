//! The totals of a business day, reckoned anew from the entries each time: shown (X) or written
//! down as an entry with a number of its own (Z).

use canteen::{BusinessDay, Money};
use rusqlite::Connection;
use sync_proto::{EntryBody, EntryTexts, Totals, ZReport};
use uuid::Uuid;

use crate::book::prepare;
use crate::entry_row::read_texts;
use crate::error::LedgerError;
use crate::moment::Moment;
use crate::page::{EntryRef, Page};

/// Writes the totals of a day down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZRequest {
    /// Made when somebody asks; the same id again gives the recorded report.
    pub id: Uuid,
    /// The day; `None` is the till's today.
    pub day: Option<BusinessDay>,
}

/// A Z report, on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayReport {
    /// What it says.
    pub report: ZReport,
    /// The entry.
    pub entry: EntryRef,
    /// Whether it was written earlier under the same id.
    pub replayed: bool,
}

/// The totals of all entries of a day up to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DayTotals {
    /// The last entry that they contain.
    pub through_seq: u64,
    /// The sales.
    pub sales: Totals,
    /// The voids.
    pub voids: Totals,
    /// How many purchases were declined.
    pub declines: u64,
}

impl Page<'_> {
    pub(crate) fn z_report(
        &mut self,
        request: &ZRequest,
        now: Moment,
    ) -> Result<DayReport, LedgerError> {
        if let Some(seq) = self.find(request.id)? {
            return self.repeat_z(request.id, seq);
        }
        let today = self.business_day(now)?;
        let day = request.day.unwrap_or(today);
        if day > today {
            return Err(LedgerError::DayToCome { day, today });
        }
        let totals = day_totals(self.connection, day, self.draft.head.seq)?;
        let report = ZReport {
            number: last_number(self.connection)? + 1,
            day,
            through_seq: totals.through_seq,
            sales: totals.sales,
            voids: totals.voids,
            declines: totals.declines,
        };
        let body = EntryBody::ZReport(report.clone());
        let entry = self.append(request.id, &body, today, now)?;
        prepare(
            self.connection,
            "INSERT INTO z_report (number, seq) VALUES (?1, ?2)",
        )?
        .execute((report.number.cast_signed(), entry.seq.cast_signed()))?;
        Ok(DayReport {
            report,
            entry,
            replayed: false,
        })
    }

    fn repeat_z(&self, id: Uuid, seq: u64) -> Result<DayReport, LedgerError> {
        let (_, body) = self.entry(seq)?.read()?;
        match body {
            EntryBody::ZReport(report) => Ok(DayReport {
                report,
                entry: self.reference(seq, id),
                replayed: true,
            }),
            EntryBody::Sale(_)
            | EntryBody::Decline(_)
            | EntryBody::Void(_)
            | EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ClockEvent(_) => Err(LedgerError::IdTaken { id, seq }),
        }
    }
}

fn last_number(connection: &Connection) -> Result<u64, LedgerError> {
    let number: i64 = prepare(connection, "SELECT coalesce(max(number), 0) FROM z_report")?
        .query_row([], |row| row.get(0))?;
    Ok(number.cast_unsigned())
}

/// The totals of a day. Days never go back along the chain, so it is read from its end.
pub(crate) fn day_totals(
    connection: &Connection,
    day: BusinessDay,
    through_seq: u64,
) -> Result<DayTotals, LedgerError> {
    let mut totals = DayTotals {
        through_seq,
        ..DayTotals::default()
    };
    let mut statement = connection
        .prepare_cached("SELECT seq, header, body FROM entry WHERE seq <= ?1 ORDER BY seq DESC")?;
    let mut rows = statement.query([through_seq.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let (seq, texts) = read_texts(row)?;
        // An entry that cannot be read counts nowhere; the check of the ledger tells of it.
        let Ok(header) = texts.read_header() else {
            continue;
        };
        if header.day < day {
            break;
        }
        if header.day == day {
            totals.count(seq, &texts)?;
        }
    }
    Ok(totals)
}

impl DayTotals {
    fn count(&mut self, seq: u64, texts: &EntryTexts) -> Result<(), LedgerError> {
        let Ok((_, body)) = texts.read() else {
            return Ok(());
        };
        match body {
            EntryBody::Sale(sale) => add(&mut self.sales, sale.amount, seq),
            EntryBody::Void(void) => add(&mut self.voids, void.amount, seq),
            EntryBody::Decline(_) => {
                self.declines += 1;
                Ok(())
            }
            EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => Ok(()),
        }
    }
}

fn add(totals: &mut Totals, amount: Money, seq: u64) -> Result<(), LedgerError> {
    let sum = totals.amount.checked_add(amount);
    totals.amount = sum.ok_or(LedgerError::Corrupt { seq })?;
    totals.count += 1;
    Ok(())
}
