//! The calls that a merchant makes, in the shape of Nexi Checkout's Payment API.

use std::io;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::books::{
    Books, ChargeRecord, ChargeResult, DeclineCode, IncomingCharge, Outage, Refusal, Script,
    ScriptedOutcome,
};
use super::{Desk, HangUp};

/// The routes under `/v1`, guarded.
pub(super) fn guarded(desk: &Desk) -> Router<Desk> {
    Router::new()
        .route(
            "/v1/unscheduledsubscriptions/{agreement}/charges",
            post(charge),
        )
        .route(
            "/v1/unscheduledsubscriptions/{agreement}/charges/status",
            get(charge_status),
        )
        .route("/v1/unscheduledsubscriptions/{agreement}", get(agreement))
        .route("/v1/payments/{payment}", get(payment))
        .route("/v1/charges/{charge}/refunds", post(refund))
        .route_layer(middleware::from_fn_with_state(desk.clone(), guard))
}

/// Keeps strangers out and plays outages, for the gateway's calls and not for the control surface.
async fn guard(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let key = request.headers().get(AUTHORIZATION);
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    let let_in = match &desk.secret {
        Some(secret) => key == secret.0.as_ref(),
        None => !key.is_empty(),
    };
    if !let_in {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let outage = desk.books().settings.outage;
    match outage {
        Outage::None => next.run(request).await,
        Outage::ServerError => server_error(),
        Outage::Busy => busy(OUTAGE_RETRY_AFTER),
    }
}

#[derive(Deserialize)]
struct ChargeBody {
    order: Order,
}

#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
    amount: i64,
    currency: String,
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    gross_total_amount: i64,
}

async fn charge(
    State(desk): State<Desk>,
    Path(agreement): Path<String>,
    headers: HeaderMap,
    body: Result<Json<ChargeBody>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let incoming = match read_charge(agreement, &headers, body.ok().map(|Json(body)| body)) {
        Ok(incoming) => incoming,
        Err(reason) => return bad_request(reason),
    };
    let script = match desk.change(|books, _| books.take_script(&incoming)) {
        Ok(script) => script,
        Err(error) => return broken(&error),
    };
    // In a task of its own, so that a merchant who hangs up while the request is on its way does
    // not call the charge off.
    match tokio::spawn(play(desk, incoming, script)).await {
        Ok(response) => response,
        Err(_) => server_error(),
    }
}

fn read_charge(
    agreement: String,
    headers: &HeaderMap,
    body: Option<ChargeBody>,
) -> Result<IncomingCharge, &'static str> {
    let order = body.ok_or("the body is not an order")?.order;
    let sum = order.items.iter().fold(0_i64, |sum, item| {
        sum.saturating_add(item.gross_total_amount)
    });
    if order.items.is_empty() || sum != order.amount {
        return Err("the amount is not the sum of the items");
    }
    if order.amount <= 0 || i32::try_from(order.amount).is_err() {
        return Err("the amount is out of range");
    }
    if order.currency != "DKK" {
        return Err("the currency is not DKK");
    }
    let reference = idempotency_key(headers).or(order.reference);
    let reference = reference.ok_or("neither Idempotency-Key nor a reference is given")?;
    Ok(IncomingCharge {
        reference,
        agreement,
        amount: order.amount,
    })
}

async fn play(desk: Desk, incoming: IncomingCharge, script: Script) -> Response {
    tokio::time::sleep(Duration::from_secs(script.delay_seconds.into())).await;
    let response = decide(&desk, &incoming, script);
    tokio::time::sleep(Duration::from_secs(script.answer_delay_seconds.into())).await;
    response
}

fn decide(desk: &Desk, incoming: &IncomingCharge, script: Script) -> Response {
    match script.outcome {
        ScriptedOutcome::RequestLost => return hang_up(),
        ScriptedOutcome::ServerError => return server_error(),
        ScriptedOutcome::Busy => return busy(script.retry_after_seconds),
        ScriptedOutcome::Approve
        | ScriptedOutcome::Pending
        | ScriptedOutcome::NoFunds
        | ScriptedOutcome::Expired
        | ScriptedOutcome::Blocked
        | ScriptedOutcome::NeedsCardholder
        | ScriptedOutcome::Identical
        | ScriptedOutcome::UnrecognisedDecline
        | ScriptedOutcome::AnswerLost
        | ScriptedOutcome::ServerErrorAfterCharge
        | ScriptedOutcome::MalformedAnswer => {}
    }
    match desk.change(|books, now| books.charge(incoming, script.outcome, now)) {
        Ok(Ok(record)) => {
            info!(
                reference = record.reference,
                agreement = record.agreement,
                amount_ore = record.amount,
                result = ?record.result,
                "Answered a charge"
            );
            charge_answer(&record, script.outcome)
        }
        Ok(Err(refusal)) => refused(refusal),
        Err(error) => broken(&error),
    }
}

fn charge_answer(record: &ChargeRecord, outcome: ScriptedOutcome) -> Response {
    match outcome {
        ScriptedOutcome::AnswerLost => return hang_up(),
        ScriptedOutcome::ServerErrorAfterCharge => return server_error(),
        ScriptedOutcome::MalformedAnswer => return "{\"paymentId\": \"4cfe3".into_response(),
        ScriptedOutcome::Approve
        | ScriptedOutcome::Pending
        | ScriptedOutcome::NoFunds
        | ScriptedOutcome::Expired
        | ScriptedOutcome::Blocked
        | ScriptedOutcome::NeedsCardholder
        | ScriptedOutcome::Identical
        | ScriptedOutcome::UnrecognisedDecline
        | ScriptedOutcome::RequestLost
        | ScriptedOutcome::ServerError
        | ScriptedOutcome::Busy => {}
    }
    match record.result {
        ChargeResult::Declined(code) => declined(code),
        ChargeResult::Paid
        | ChargeResult::Pending
        | ChargeResult::Suspended
        | ChargeResult::Replayed
        | ChargeResult::Refunded => Json(json!({
            "paymentId": record.payment,
            "chargeId": record.charge,
        }))
        .into_response(),
    }
}

async fn charge_status(
    State(desk): State<Desk>,
    Path(agreement): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(reference) = idempotency_key(&headers) else {
        return bad_request("Idempotency-Key is not given");
    };
    let books = desk.books();
    let record = books.find(&reference);
    let Some(record) = record.filter(|record| record.agreement == agreement) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let completed = match record.result {
        ChargeResult::Declined(code) => return declined(code),
        ChargeResult::Paid | ChargeResult::Replayed | ChargeResult::Refunded => true,
        ChargeResult::Pending | ChargeResult::Suspended => false,
    };
    Json(json!({
        "paymentId": record.payment,
        "chargeId": record.charge,
        "completed": completed,
    }))
    .into_response()
}

async fn agreement(State(desk): State<Desk>, Path(agreement): Path<String>) -> Response {
    if !desk.books().agreements.contains_key(&agreement) {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(json!({
        "unscheduledSubscriptionId": agreement,
        "paymentDetails": {
            "paymentType": "CARD",
            "paymentMethod": "Visa",
            "cardDetails": { "expiryDate": "1230", "maskedPan": "492500******0004" },
        },
    }))
    .into_response()
}

async fn payment(State(desk): State<Desk>, Path(payment): Path<String>) -> Response {
    let books = desk.books();
    let Some(record) = books.find_payment(&payment) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    Json(json!({ "payment": payment_body(&books, record) })).into_response()
}

fn payment_body(books: &Books, record: &ChargeRecord) -> Value {
    let charged = if record.took_money() {
        record.amount
    } else {
        0
    };
    let reserved = match record.result {
        ChargeResult::Declined(_) => 0,
        ChargeResult::Paid
        | ChargeResult::Pending
        | ChargeResult::Suspended
        | ChargeResult::Replayed
        | ChargeResult::Refunded => record.amount,
    };
    let refunds: Vec<Value> = books
        .refunds
        .iter()
        .filter(|refund| refund.charge == record.charge)
        .map(|refund| {
            json!({ "refundId": refund.refund, "amount": refund.amount, "state": "Completed" })
        })
        .collect();
    json!({
        "paymentId": record.payment,
        "summary": {
            "reservedAmount": reserved,
            "chargedAmount": charged,
            "refundedAmount": books.refunded(&record.charge),
        },
        "orderDetails": {
            "amount": record.amount,
            "currency": "DKK",
            "reference": record.reference,
        },
        "refunds": refunds,
        "charges": [{ "chargeId": record.charge, "amount": charged }],
        "myReference": record.reference,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefundBody {
    amount: i64,
    my_reference: Option<String>,
}

async fn refund(
    State(desk): State<Desk>,
    Path(charge): Path<String>,
    headers: HeaderMap,
    body: Result<Json<RefundBody>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let Ok(Json(body)) = body else {
        return bad_request("the body is not a refund");
    };
    let Some(reference) = idempotency_key(&headers).or(body.my_reference) else {
        return bad_request("neither Idempotency-Key nor a reference is given");
    };
    match desk.change(|books, now| books.refund(&reference, &charge, body.amount, now)) {
        Ok(Ok(refund)) => {
            info!(reference, amount_ore = refund.amount, "Refunded a charge");
            (
                StatusCode::CREATED,
                Json(json!({ "refundId": refund.refund })),
            )
                .into_response()
        }
        Ok(Err(refusal)) => refused(refusal),
        Err(error) => broken(&error),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get("Idempotency-Key")?.to_str().ok()?;
    let fits = !key.is_empty() && key.len() <= MAX_KEY;
    fits.then(|| key.to_owned())
}

fn declined(code: DeclineCode) -> Response {
    let body = json!({ "message": code.message(), "code": code.code(), "source": "issuer" });
    (StatusCode::PAYMENT_REQUIRED, Json(body)).into_response()
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::NoSuchAgreement | Refusal::NoSuchCharge => StatusCode::NOT_FOUND.into_response(),
        Refusal::Conflict => StatusCode::CONFLICT.into_response(),
        Refusal::NotRefundable => bad_request("the charge cannot be refunded by that amount"),
    }
}

fn bad_request(reason: &str) -> Response {
    let body = json!({ "errors": { "request": [reason] } });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn server_error() -> Response {
    let body = json!({ "message": "internal error", "code": "0", "source": "internal" });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

/// The state file cannot be written; what was asked for may still have happened.
fn broken(error: &io::Error) -> Response {
    tracing::error!(%error, "Cannot keep the simulator's state");
    server_error()
}

fn busy(retry_after_seconds: u16) -> Response {
    let header = [(RETRY_AFTER, retry_after_seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, header).into_response()
}

fn hang_up() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(HangUp);
    response
}

/// The longest `Idempotency-Key` that the Payment API takes.
const MAX_KEY: usize = 64;
const OUTAGE_RETRY_AFTER: u16 = 30;
