//! What an operator settles afterwards: refunds, sales without an account, entries in quarantine,
//! and the tills' Z reports.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use canteen::{AccountId, Money};
use hub_ledger::{BookingId, Refund, Reread, ZReportRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{Totals, VoidLine};
use utoipa::ToSchema;

use super::Currency;
use super::money_in::{Booked, booked, request_key};
use super::oversight::PageQuery;
use super::statements::BookingJson;
use crate::access::Operator;
use crate::body::{Body, Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// A purchase to be taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundJson {
    /// In øre; left out: what the lines cost, or all that is left.
    #[serde(default)]
    amount: Option<i64>,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// Pieces of the purchase; left out: all of it.
    #[serde(default)]
    lines: Vec<RefundLineJson>,
    /// Why, as it stands on the statement.
    reason: String,
}

/// Pieces of a line.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundLineJson {
    /// The line's place in the purchase, from 0.
    line: u32,
    /// How many pieces of it.
    quantity: u32,
}

/// The account that pays for a sale.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssignJson {
    /// Its number.
    account: i64,
}

/// What became of an entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessedJson {
    /// Its booking, if it moved money.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<i64>,
}

/// A till's Z report and what the hub had when it came.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ZReportJson {
    /// Its number in the list.
    id: i64,
    /// The till.
    till: String,
    /// The life of the till's ledger.
    epoch: String,
    /// Its number at the till.
    number: u64,
    /// The business day.
    day: String,
    /// When it came.
    at: String,
    /// What the till says.
    told: DayTotalsJson,
    /// What was booked; absent of reports of copied tills from before those were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    booked: Option<DayTotalsJson>,
    /// What was in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<DayTotalsJson>,
    /// Whether both together are what the till says.
    #[serde(skip_serializing_if = "Option::is_none")]
    agrees: Option<bool>,
    currency: Currency,
}

/// Totals of a day; sums in øre.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DayTotalsJson {
    /// How many sales.
    sales: u64,
    /// Their sum.
    sales_sum: i64,
    /// How many voids.
    voids: u64,
    /// Their sum.
    voids_sum: i64,
    /// How many purchases were declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    declines: Option<u64>,
}

/// A page of Z reports.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ZReportsPage {
    z_reports: Vec<ZReportJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Takes a purchase back, or a part of it; never more than is left of it.
///
/// On the day of the purchase the limits are given back, too.
#[utoipa::path(post, path = "/v1/sales/{booking}/refunds", tag = "money", request_body = RefundJson,
    params(("booking" = i64, Path, description = "The number of the purchase on the statement"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "Not that much is left of it", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn refund(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(booking): Path<i64>,
    headers: HeaderMap,
    Body(refund): Body<RefundJson>,
) -> Result<Booked, Problem> {
    let RefundJson {
        amount,
        currency,
        lines,
        reason,
    } = refund;
    let request = format!("refund {booking} {amount:?} {currency:?} {lines:?} {reason}");
    let key = request_key(&headers, &request)?;
    let refund = Refund {
        amount: amount.map(Money::from_ore),
        lines: lines
            .into_iter()
            .map(|RefundLineJson { line, quantity }| VoidLine { line, quantity })
            .collect(),
        reason,
    };
    let sale = BookingId(booking);
    let receipt = hub
        .books
        .write(move |books| {
            books.check_sale_within(reach, sale)?;
            books.refund(sale, &refund, &key, Timestamp::now())
        })
        .await?;
    Ok(booked(receipt))
}

/// Lets an account pay for a sale that a till made on one that nobody knew.
///
/// Such sales are flagged `unknown_account`; the flag names the booking.
#[utoipa::path(post, path = "/v1/sales/{booking}/assign", tag = "oversight",
    request_body = AssignJson,
    params(("booking" = i64, Path, description = "The number of the sale's booking")),
    responses((status = 200, body = ProcessedJson), (status = 404, body = Problem),
        (status = 409, description = "It was assigned before", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn assign(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(booking): Path<i64>,
    Body(assign): Body<AssignJson>,
) -> Result<Json<ProcessedJson>, Problem> {
    let (sale, account) = (BookingId(booking), AccountId(assign.account));
    let booking = hub
        .books
        .write(move |books| {
            books.check_sale_within(reach, sale)?;
            books.account_within(reach, account)?;
            books.assign_sale(sale, account, Timestamp::now())
        })
        .await?;
    Ok(Json(ProcessedJson {
        booking: Some(booking.0),
    }))
}

/// Reads an entry in quarantine again, as after an upgrade, and books it once.
#[utoipa::path(post, path = "/v1/quarantine/{id}/process", tag = "oversight",
    params(("id" = i64, Path, description = "Its number in the quarantine")),
    responses((status = 200, body = ProcessedJson),
        (status = 404, description = "It is not, or no longer, in quarantine", body = Problem),
        (status = 409, description = "It still cannot be booked", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn process(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<ProcessedJson>, Problem> {
    let reread = hub
        .books
        .write(move |books| {
            books.check_quarantined_within(reach, id)?;
            books.process_quarantined(id, Timestamp::now())
        })
        .await?;
    Ok(Json(ProcessedJson {
        booking: match reread {
            Reread::Booked(booking) => Some(booking.0),
            Reread::Noted => None,
        },
    }))
}

/// The newest Z reports of tills, the newest first, held against the books when they came.
#[utoipa::path(get, path = "/v1/z-reports", tag = "oversight", params(PageQuery),
    responses((status = 200, body = ZReportsPage)), security(("operator" = [])))]
pub(crate) async fn z_reports(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<ZReportsPage>, Problem> {
    let (before, limit) = (query.before()?, query.limit());
    let rows = hub
        .books
        .read(move |books| books.list_z_reports(reach, before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    Ok(Json(ZReportsPage {
        next_cursor: rows.last().filter(|_| full).map(|row| row.id.to_string()),
        z_reports: rows.into_iter().map(ZReportJson::from).collect(),
    }))
}

impl DayTotalsJson {
    fn of(sales: Totals, voids: Totals, declines: Option<u64>) -> DayTotalsJson {
        DayTotalsJson {
            sales: sales.count,
            sales_sum: sales.amount.ore(),
            voids: voids.count,
            voids_sum: voids.amount.ore(),
            declines,
        }
    }
}

impl From<ZReportRow> for ZReportJson {
    fn from(row: ZReportRow) -> ZReportJson {
        let ZReportRow {
            id,
            till,
            epoch,
            at,
            report,
            books,
        } = row;
        ZReportJson {
            id,
            till: till.to_string(),
            epoch: epoch.to_string(),
            number: report.number,
            day: report.day.to_string(),
            at: at.to_string(),
            told: DayTotalsJson::of(report.sales, report.voids, Some(report.declines)),
            booked: books
                .map(|books| DayTotalsJson::of(books.sales, books.voids, Some(books.declines))),
            quarantined: books.map(|books| {
                DayTotalsJson::of(books.quarantined_sales, books.quarantined_voids, None)
            }),
            agrees: books.map(|books| books.agree_with(&report)),
            currency: Currency::Dkk,
        }
    }
}
