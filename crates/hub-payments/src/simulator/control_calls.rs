//! The calls that a test or a demo makes to steer the simulator.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::books::{ChargeRecord, ChargeResult, DeclineCode, RefundRecord, Script, Settings};
use super::{Desk, page};
use crate::identity::CardAgreement;

/// The routes under `/simulator`.
pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/simulator/agreements", get(list_agreements))
        .route(
            "/simulator/agreements/{agreement}",
            put(create_agreement).delete(end_agreement),
        )
        .route(
            "/simulator/agreements/{agreement}/outcomes",
            post(script).delete(forget_script),
        )
        .route("/simulator/charges", get(list_charges))
        .route("/simulator/charges/{reference}/complete", post(complete))
        .route("/simulator/refunds", get(list_refunds))
        .route("/simulator/settlement", get(settlement))
        .route("/simulator/clock", get(read_clock).post(advance_clock))
        .route(
            "/simulator/settings",
            get(read_settings).put(change_settings),
        )
}

#[derive(Serialize)]
struct AgreementLine {
    agreement: String,
    outcomes: Vec<Script>,
}

async fn list_agreements(State(desk): State<Desk>) -> Json<Vec<AgreementLine>> {
    let line =
        |(agreement, outcomes): (&String, &std::collections::VecDeque<Script>)| AgreementLine {
            agreement: agreement.clone(),
            outcomes: outcomes.iter().copied().collect(),
        };
    Json(desk.books().agreements.iter().map(line).collect())
}

async fn create_agreement(State(desk): State<Desk>, Path(agreement): Path<String>) -> Response {
    let agreement = match agreement.parse::<CardAgreement>() {
        Ok(agreement) => agreement,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    kept(desk.change(|books, _| {
        books.agreements.entry(agreement.to_string()).or_default();
        StatusCode::NO_CONTENT
    }))
}

async fn end_agreement(State(desk): State<Desk>, Path(agreement): Path<String>) -> Response {
    kept(desk.change(|books, _| found(books.agreements.remove(&agreement))))
}

/// One outcome or several; several happen one after the other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scripts {
    One(Script),
    Several(Vec<Script>),
}

async fn script(
    State(desk): State<Desk>,
    Path(agreement): Path<String>,
    Json(scripts): Json<Scripts>,
) -> Response {
    let scripts = match scripts {
        Scripts::One(script) => vec![script],
        Scripts::Several(scripts) => scripts,
    };
    if scripts.iter().any(|script| script.times == 0) {
        return (StatusCode::BAD_REQUEST, "times is at least 1").into_response();
    }
    info!(
        agreement,
        outcomes = scripts.len(),
        "Scripted the next charges"
    );
    kept(desk.change(|books, _| {
        let queue = books.agreements.get_mut(&agreement);
        found(queue.map(|queue| queue.extend(scripts)))
    }))
}

async fn forget_script(State(desk): State<Desk>, Path(agreement): Path<String>) -> Response {
    kept(desk.change(|books, _| {
        let queue = books.agreements.get_mut(&agreement);
        found(queue.map(std::collections::VecDeque::clear))
    }))
}

/// A charge as a test reads it: flat, with one word for the result.
#[derive(Serialize)]
struct ChargeLine {
    reference: String,
    agreement: String,
    amount: i64,
    at: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decline: Option<DeclineCode>,
    took_money: bool,
    payment: String,
    charge: String,
    requests: u32,
}

impl ChargeLine {
    fn of(record: &ChargeRecord) -> Self {
        let (result, decline) = match record.result {
            ChargeResult::Paid => ("paid", None),
            ChargeResult::Pending => ("pending", None),
            ChargeResult::Suspended => ("suspended", None),
            ChargeResult::Replayed => ("replayed", None),
            ChargeResult::Refunded => ("refunded", None),
            ChargeResult::Declined(code) => ("declined", Some(code)),
        };
        Self {
            reference: record.reference.clone(),
            agreement: record.agreement.clone(),
            amount: record.amount,
            at: page::time(record.at_seconds),
            result,
            decline,
            took_money: record.took_money(),
            payment: record.payment.clone(),
            charge: record.charge.clone(),
            requests: record.requests,
        }
    }
}

async fn list_charges(State(desk): State<Desk>) -> Json<Vec<ChargeLine>> {
    Json(desk.books().charges.iter().map(ChargeLine::of).collect())
}

async fn list_refunds(State(desk): State<Desk>) -> Json<Vec<RefundRecord>> {
    Json(desk.books().refunds.clone())
}

/// What a settlement file has: charges that took money, and those that are held back.
#[derive(Serialize)]
struct Settlement {
    charges: Vec<SettlementLine>,
}

#[derive(Serialize)]
struct SettlementLine {
    reference: String,
    transaction: String,
    card: String,
    amount: i64,
    state: &'static str,
}

impl SettlementLine {
    fn of(record: &ChargeRecord) -> Option<Self> {
        let state = match record.result {
            ChargeResult::Paid | ChargeResult::Refunded => "settled",
            ChargeResult::Suspended => "suspended",
            ChargeResult::Pending | ChargeResult::Replayed | ChargeResult::Declined(_) => {
                return None;
            }
        };
        Some(Self {
            reference: record.reference.clone(),
            transaction: record.charge.clone(),
            card: record.agreement.clone(),
            amount: record.amount,
            state,
        })
    }
}

async fn settlement(State(desk): State<Desk>) -> Json<Settlement> {
    let books = desk.books();
    Json(Settlement {
        charges: books
            .charges
            .iter()
            .filter_map(SettlementLine::of)
            .collect(),
    })
}

async fn complete(State(desk): State<Desk>, Path(reference): Path<String>) -> Response {
    kept(desk.change(|books, _| found(books.complete(&reference).ok())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u32,
}

#[derive(Serialize)]
struct Clock {
    now: String,
    ahead_seconds: i64,
}

async fn read_clock(State(desk): State<Desk>) -> Json<Clock> {
    let books = desk.books();
    Json(Clock {
        now: page::time(books.now()),
        ahead_seconds: books.clock_ahead_seconds,
    })
}

async fn advance_clock(State(desk): State<Desk>, Json(advance): Json<Advance>) -> Response {
    info!(seconds = advance.advance_seconds, "Advanced the clock");
    kept(desk.change(|books, _| {
        books.advance(advance.advance_seconds);
        StatusCode::NO_CONTENT
    }))
}

async fn read_settings(State(desk): State<Desk>) -> Json<Settings> {
    Json(desk.books().settings)
}

async fn change_settings(State(desk): State<Desk>, Json(settings): Json<Settings>) -> Response {
    kept(desk.change(|books, _| {
        books.settings = settings;
        StatusCode::NO_CONTENT
    }))
}

fn found<T>(what: Option<T>) -> StatusCode {
    match what {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

fn kept(status: std::io::Result<StatusCode>) -> Response {
    match status {
        Ok(status) => status.into_response(),
        Err(error) => {
            tracing::error!(%error, "Cannot keep the simulator's state");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the state file cannot be written",
            )
                .into_response()
        }
    }
}
