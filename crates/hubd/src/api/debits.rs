//! Money taken out: payouts, transfers, orders, and debits that wait for tills.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use canteen::{AccountId, Money};
use hub_ledger::{DebitId, DebitRow, OrderAnswer};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::SaleLine;
use utoipa::ToSchema;

use super::Currency;
use super::money_in::{Booked, booked, request_key};
use super::oversight::PageQuery;
use super::statements::BookingJson;
use crate::access::Operator;
use crate::body::{Body, Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// Money to be paid out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayoutJson {
    /// In øre.
    #[schema(example = 14950)]
    amount: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// What stands beside it on the statement.
    #[serde(default)]
    message: String,
    /// Pay out although tills may be spending the money at this moment; this is flagged.
    #[serde(default)]
    force: bool,
}

/// Money to be moved to another account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferJson {
    /// In øre.
    #[schema(example = 5000)]
    amount: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// The account that gets it.
    to: i64,
    /// Move it although tills may be spending it at this moment; this is flagged.
    #[serde(default)]
    force: bool,
}

/// An order of a web shop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderJson {
    /// What is bought.
    lines: Vec<OrderLineJson>,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
}

/// A line of an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderLineJson {
    /// How many pieces.
    quantity: u32,
    /// What it is called.
    #[schema(example = "Dagens ret")]
    name: String,
    /// The price of one piece, in øre.
    #[schema(example = 2200)]
    unit_price: i64,
}

/// A debit that had to wait until tills could not spend its money any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DebitJson {
    /// Its number.
    id: i64,
    /// The account that it takes from.
    account: i64,
    /// `payout`, `transfer`, `correction` or `order`.
    kind: &'static str,
    /// In øre.
    amount: i64,
    currency: Currency,
    /// What it is called on the statement.
    text: String,
    /// `pending`, `posted` or `cancelled`.
    state: &'static str,
    /// What tills may still sell on the account at this moment, in øre.
    outstanding: i64,
    /// When it was asked for.
    created_at: String,
    /// When it changed last.
    changed_at: String,
}

/// A page of debits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DebitsPage {
    debits: Vec<DebitJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Pays money out to the holder; never more than the account holds.
///
/// Answered with 202 when tills may be spending the money at this moment: it is set aside, and goes
/// on by itself when they have acknowledged that there is less; see `/v1/debits`.
#[utoipa::path(post, path = "/v1/accounts/{id}/payouts", tag = "money", request_body = PayoutJson,
    params(("id" = i64, Path, description = "The account's number"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 202, body = BookingJson),
        (status = 400, body = Problem),
        (status = 409, description = "The account does not hold that much", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn pay_out(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Body(payout): Body<PayoutJson>,
) -> Result<Booked, Problem> {
    let PayoutJson {
        amount,
        currency,
        message,
        force,
    } = payout;
    let request = format!("payout {id} {amount} {currency:?} {force} {message}");
    let key = request_key(&headers, &request)?;
    let id = AccountId(id);
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, id)?;
            let amount = Money::from_ore(amount);
            books.pay_out(id, amount, &message, force, &key, Timestamp::now())
        })
        .await?;
    Ok(booked(receipt))
}

/// Moves money to another account (Overfør); never more than the account holds.
///
/// Answered with 202 when tills may be spending the money at this moment, like a payout.
#[utoipa::path(post, path = "/v1/accounts/{id}/transfers", tag = "money",
    request_body = TransferJson,
    params(("id" = i64, Path, description = "The number of the account that gives"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 202, body = BookingJson),
        (status = 400, body = Problem),
        (status = 409, description = "Not covered, or the other account is blocked", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn transfer(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Body(transfer): Body<TransferJson>,
) -> Result<Booked, Problem> {
    let TransferJson {
        amount,
        currency,
        to,
        force,
    } = transfer;
    let request = format!("transfer {id} {to} {amount} {currency:?} {force}");
    let key = request_key(&headers, &request)?;
    let (id, to) = (AccountId(id), AccountId(to));
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, id)?;
            books.account_within(reach, to)?;
            let amount = Money::from_ore(amount);
            books.transfer(id, to, amount, force, &key, Timestamp::now())
        })
        .await?;
    Ok(booked(receipt))
}

/// Pays an order of a web shop from the balance, by the rules of a purchase at a till.
///
/// It counts against the limits and may fire the automatic top-up, also when it is declined for too
/// little money. Answered with 202 when tills may be spending the money at this moment: hand
/// nothing out before `/v1/debits` says `posted`. Of strict limits an order takes what no till can be
/// selling: declined with `limit_not_here`, it can be tried again in a moment.
#[utoipa::path(post, path = "/v1/accounts/{id}/orders", tag = "money", request_body = OrderJson,
    params(("id" = i64, Path, description = "The account's number"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 202, body = BookingJson),
        (status = 400, body = Problem),
        (status = 409, description = "The account does not pay; `code` tells why", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn order(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Body(order): Body<OrderJson>,
) -> Result<Booked, Problem> {
    let OrderJson { lines, currency } = order;
    let key = request_key(&headers, &format!("order {id} {currency:?} {lines:?}"))?;
    let lines = lines.into_iter().map(SaleLine::try_from);
    let lines: Vec<SaleLine> = lines.collect::<Result<_, _>>()?;
    let id = AccountId(id);
    let answer = hub
        .books
        .write(move |books| {
            books.account_within(reach, id)?;
            books.order(id, &lines, &key, Timestamp::now())
        })
        .await?;
    match answer {
        OrderAnswer::Paid(receipt) => Ok(booked(receipt)),
        OrderAnswer::Declined(reason) => Err(Problem::declined(&reason)),
    }
}

/// The newest debits that had to wait, the newest first.
#[utoipa::path(get, path = "/v1/debits", tag = "money", params(PageQuery),
    responses((status = 200, body = DebitsPage)), security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<DebitsPage>, Problem> {
    let (before, limit) = (query.before()?, query.limit());
    let rows = hub
        .books
        .read(move |books| books.list_debits(reach, before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    Ok(Json(DebitsPage {
        next_cursor: rows.last().filter(|_| full).map(|row| row.id.0.to_string()),
        debits: rows.into_iter().map(DebitJson::from).collect(),
    }))
}

/// Gives the money of a debit that waits back to the account.
#[utoipa::path(post, path = "/v1/debits/{id}/cancel", tag = "money",
    params(("id" = i64, Path, description = "The debit's number")),
    responses((status = 204), (status = 404, description = "It does not wait", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn cancel(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    hub.books
        .write(move |books| {
            books.check_debit_within(reach, DebitId(id))?;
            books.cancel_debit(DebitId(id), Timestamp::now())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a debit go on although tills may be spending the money at this moment; this is flagged.
#[utoipa::path(post, path = "/v1/debits/{id}/force", tag = "money",
    params(("id" = i64, Path, description = "The debit's number")),
    responses((status = 204), (status = 404, description = "It does not wait", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn force(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    hub.books
        .write(move |books| {
            books.check_debit_within(reach, DebitId(id))?;
            books.force_debit(DebitId(id), Timestamp::now())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl TryFrom<OrderLineJson> for SaleLine {
    type Error = Problem;

    fn try_from(line: OrderLineJson) -> Result<SaleLine, Problem> {
        let unit_price = Money::from_ore(line.unit_price);
        let amount = unit_price
            .checked_mul(line.quantity)
            .ok_or_else(|| Problem::invalid("lines", "a line costs more than there is"))?;
        Ok(SaleLine {
            quantity: line.quantity,
            text: line.name,
            unit_price,
            amount,
        })
    }
}

impl From<DebitRow> for DebitJson {
    fn from(row: DebitRow) -> DebitJson {
        DebitJson {
            id: row.id.0,
            account: row.account.0,
            kind: row.kind.code(),
            amount: row.amount.ore(),
            currency: Currency::Dkk,
            text: row.text,
            state: row.state.code(),
            outstanding: row.outstanding.ore(),
            created_at: row.created_at.to_string(),
            changed_at: row.changed_at.to_string(),
        }
    }
}
