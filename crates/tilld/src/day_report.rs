//! The totals of a business day for a technician: X shows them, Z writes them down.

use canteen::BusinessDay;
use sync_proto::Totals;
use till_control::{Answer, Currency, DayReportAnswer, ErrorAnswer, ErrorCode};
use till_ledger::{LedgerError, Moment, ZRequest};
use uuid::Uuid;

use crate::control::{Control, ledger_error};
use crate::sale::entry_place;

impl Control {
    /// The totals as they are now; nothing is written.
    pub(crate) async fn x_report(&self, day: Option<BusinessDay>) -> Result<Answer, ErrorAnswer> {
        let now = Moment::now();
        let time = self.ledger.progress().time;
        let today = time.today(now);
        let day = day.unwrap_or(today);
        if day > today {
            return Err(ledger_error(LedgerError::DayToCome { day, today }));
        }
        let ledger = self.ledger.clone();
        let totals = tokio::task::spawn_blocking(move || ledger.day_totals(day))
            .await
            .map_err(|error| ErrorAnswer::new(ErrorCode::Internal, error.to_string(), ""))?
            .map_err(ledger_error)?;
        Ok(Answer::DayReport(Box::new(DayReportAnswer {
            made_at: Some(time.at(now)),
            through_seq: totals.through_seq,
            declines: totals.declines,
            ..self.report(day, totals.sales, totals.voids)?
        })))
    }

    /// Writes the totals down under the next number.
    pub(crate) async fn z_report(
        &self,
        id: Option<Uuid>,
        day: Option<BusinessDay>,
    ) -> Result<Answer, ErrorAnswer> {
        let id = id.unwrap_or_else(Uuid::now_v7);
        let now = Moment::now();
        let written = self.ledger.z_report(ZRequest { id, day }, now).await;
        let written = written.map_err(ledger_error)?;
        let report = written.report;
        Ok(Answer::DayReport(Box::new(DayReportAnswer {
            number: Some(report.number),
            made_at: (!written.replayed).then(|| self.ledger.progress().time.at(now)),
            through_seq: report.through_seq,
            declines: report.declines,
            entry: Some(entry_place(&written.entry)),
            replayed: written.replayed,
            ..self.report(report.day, report.sales, report.voids)?
        })))
    }

    fn report(
        &self,
        day: BusinessDay,
        sales: Totals,
        voids: Totals,
    ) -> Result<DayReportAnswer, ErrorAnswer> {
        let net = sales.amount.checked_sub(voids.amount).ok_or_else(|| {
            ErrorAnswer::new(
                ErrorCode::Internal,
                "the totals of the day are out of range",
                "check the ledger: tillctl ledger verify",
            )
        })?;
        Ok(DayReportAnswer {
            till: self.sync.till.clone(),
            canteen: self.sync.canteen.borrow().clone(),
            number: None,
            day,
            made_at: None,
            through_seq: 0,
            currency: Currency::Dkk,
            sales,
            voids,
            net,
            declines: 0,
            entry: None,
            replayed: false,
        })
    }
}
