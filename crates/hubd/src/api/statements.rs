//! Statements: what an account bought and what was paid in, row by row.

use std::ops::RangeInclusive;

use axum::Json;
use axum::extract::State;
use canteen::{AccountId, BusinessDay, Month};
use hub_ledger::{BookingRow, Receipt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::SaleLine;
use utoipa::{IntoParams, ToSchema};

use super::Currency;
use super::limits::{LeftJson, LimitsJson, SpentJson};
use crate::access::Operator;
use crate::body::{Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// A row of a statement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BookingJson {
    /// Its number; rows are in its order.
    id: i64,
    /// When it happened.
    #[schema(example = "2026-11-20T11:02:07Z")]
    at: String,
    /// The day that it counts on.
    #[schema(example = "2026-11-20")]
    day: String,
    /// `sale`, `void`, `refund`, `order`, `deposit`, `top_up`, `deposit_reversal`, `payout`, `transfer`,
    /// `correction` or `opening`.
    kind: &'static str,
    /// What it is called.
    #[schema(example = "Køb")]
    text: String,
    /// What was bought.
    lines: Vec<LineJson>,
    /// What it did to the balance, in øre: below zero for a purchase.
    #[schema(example = -1400)]
    amount: i64,
    /// The balance afterwards, in øre.
    balance_after: i64,
    currency: Currency,
    /// The till, if it happened at one.
    #[serde(skip_serializing_if = "Option::is_none")]
    till: Option<String>,
    /// The deposit that it takes back, of a reversal.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverses: Option<i64>,
    /// The debit that its money waits under, when tills may be spending it.
    #[serde(skip_serializing_if = "Option::is_none")]
    debit: Option<i64>,
}

/// A line of a purchase.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineJson {
    /// The line as a person reads it.
    #[schema(example = "1x Ostehaps 3,00")]
    text: String,
    /// How many pieces.
    quantity: u32,
    /// What it is called.
    name: String,
    /// The price of one piece, in øre.
    unit_price: i64,
    /// The price of the line, in øre.
    amount: i64,
}

/// A statement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatementJson {
    /// The account.
    account: i64,
    /// The first day.
    from: String,
    /// The last day.
    to: String,
    /// The limits in force now, in øre.
    limits: LimitsJson,
    /// What has been spent in the windows of today, in øre.
    spent: SpentJson,
    /// What is left of the limits today, in øre; below zero never.
    left: LeftJson,
    rows: Vec<BookingJson>,
}

/// Which days: a month, or a period; left out, this month.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Days {
    /// The first day.
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// The last day, included.
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// A whole month instead.
    #[param(example = "2026-11")]
    month: Option<String>,
}

impl Days {
    /// The days that are meant.
    pub(crate) fn range(&self, now: Timestamp) -> Result<RangeInclusive<BusinessDay>, Problem> {
        let today = BusinessDay::of(now);
        match (&self.month, &self.from, &self.to) {
            (Some(month), None, None) => {
                let month: Month = month.parse().map_err(|error: canteen::CalendarError| {
                    Problem::invalid("month", error.to_string())
                })?;
                whole(month)
            }
            (Some(_), _, _) => Err(Problem::invalid(
                "month",
                "is given beside from or to; keep one of them",
            )),
            (None, None, None) => whole(today.month()),
            (None, from, to) => {
                let from = match from {
                    Some(text) => day("from", text)?,
                    None => BusinessDay::from_date(jiff::civil::Date::ZERO),
                };
                let to = match to {
                    Some(text) => day("to", text)?,
                    None => today,
                };
                if from > to {
                    return Err(Problem::invalid("from", "is after to"));
                }
                Ok(from..=to)
            }
        }
    }
}

fn day(field: &str, text: &str) -> Result<BusinessDay, Problem> {
    text.parse()
        .map_err(|error: canteen::CalendarError| Problem::invalid(field, error.to_string()))
}

fn whole(month: Month) -> Result<RangeInclusive<BusinessDay>, Problem> {
    let first = day("month", &format!("{month}-01"))?;
    let last = BusinessDay::from_date(first.date().last_of_month());
    Ok(first..=last)
}

/// The statement of an account for a month or a period.
#[utoipa::path(get, path = "/v1/accounts/{id}/statement", tag = "money",
    params(("id" = i64, Path, description = "The account's number"), Days),
    responses((status = 200, body = StatementJson), (status = 404, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn statement(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Query(days): Query<Days>,
) -> Result<Json<StatementJson>, Problem> {
    let now = Timestamp::now();
    let range = days.range(now)?;
    let (from, to) = (range.start().to_string(), range.end().to_string());
    let (account, rows) = hub
        .books
        .read(move |books| {
            let account = books.account_within(reach, AccountId(id))?;
            Ok((account, books.statement(AccountId(id), range)?))
        })
        .await?;
    let spent = account.spent.as_of(BusinessDay::of(now));
    Ok(Json(StatementJson {
        account: id,
        from,
        to,
        limits: account.limits.into(),
        spent: spent.into(),
        left: LeftJson::of(&account.limits, &spent),
        rows: rows.into_iter().map(BookingJson::from).collect(),
    }))
}

impl From<BookingRow> for BookingJson {
    fn from(row: BookingRow) -> BookingJson {
        BookingJson {
            id: row.id.0,
            at: row.happened_at.to_string(),
            day: row.day.to_string(),
            kind: row.kind.code(),
            text: row.text,
            lines: row.lines.into_iter().map(LineJson::from).collect(),
            amount: row.amount.ore(),
            balance_after: row.balance_after.ore(),
            currency: Currency::Dkk,
            till: row.till,
            reverses: row.reverses.map(|deposit| deposit.0),
            debit: None,
        }
    }
}

impl BookingJson {
    /// What a request has booked, and what it waits under.
    pub(super) fn of(receipt: Receipt) -> BookingJson {
        BookingJson {
            debit: receipt.pending.map(|debit| debit.0),
            ..BookingJson::from(receipt.booking)
        }
    }
}

impl From<SaleLine> for LineJson {
    fn from(line: SaleLine) -> LineJson {
        LineJson {
            text: line_text(&line),
            quantity: line.quantity,
            name: line.text,
            unit_price: line.unit_price.ore(),
            amount: line.amount.ore(),
        }
    }
}

/// `1x Dagens ret 22,00`
pub(crate) fn line_text(line: &SaleLine) -> String {
    format!("{}x {} {}", line.quantity, line.text, line.amount.bare())
}
