//! Deposits and corrections, each booked once however often it is sent.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use canteen::{AccountId, Money};
use hub_ledger::{Correction, Fingerprint, Receipt, RequestKey};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Currency;
use super::statements::BookingJson;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// Money to be paid in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DepositJson {
    /// Whole kroner above zero, in øre: 10000 is 100 kr.
    #[schema(example = 10000)]
    amount: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
}

/// A balance to be moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorrectionJson {
    /// In øre; below zero takes money out.
    #[schema(example = -2200)]
    amount: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// Why, as it stands on the statement.
    reason: String,
    /// Take money out although tills may be spending it at this moment; this is flagged.
    #[serde(default)]
    force: bool,
}

pub(super) type Booked = (
    StatusCode,
    [(HeaderName, HeaderValue); 1],
    Json<BookingJson>,
);

/// Pays money in.
///
/// `Idempotency-Key` is required; the same key with the same request books nothing twice, however
/// late it comes, and is answered with `Idempotent-Replayed: true`.
#[utoipa::path(post, path = "/v1/accounts/{id}/deposits", tag = "money", request_body = DepositJson,
    params(("id" = i64, Path, description = "The account's number"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 400, body = Problem),
        (status = 409, description = "The account is blocked", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn deposit(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Body(deposit): Body<DepositJson>,
) -> Result<Booked, Problem> {
    let DepositJson { amount, currency } = deposit;
    let key = request_key(&headers, &format!("deposit {id} {amount} {currency:?}"))?;
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            books.deposit(
                AccountId(id),
                Money::from_ore(amount),
                &key,
                Timestamp::now(),
            )
        })
        .await?;
    Ok(booked(receipt))
}

/// Moves a balance up or down, with the reason on the statement.
///
/// Money that tills may be spending at this moment, without having asked, is set aside and the
/// answer is 202: it goes on when they have acknowledged that there is less; see `/v1/debits`.
#[utoipa::path(post, path = "/v1/accounts/{id}/corrections", tag = "money",
    request_body = CorrectionJson,
    params(("id" = i64, Path, description = "The account's number"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 202, body = BookingJson),
        (status = 400, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn correct(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Body(correction): Body<CorrectionJson>,
) -> Result<Booked, Problem> {
    let CorrectionJson {
        amount,
        currency,
        reason,
        force,
    } = correction;
    let forced = if force { " forced" } else { "" };
    let key = request_key(
        &headers,
        &format!("correction {id} {amount} {currency:?} {reason}{forced}"),
    )?;
    let correction = Correction {
        amount: Money::from_ore(amount),
        reason,
        force,
    };
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            books.correct(AccountId(id), &correction, &key, Timestamp::now())
        })
        .await?;
    Ok(booked(receipt))
}

/// The key may stand in quotes, as the draft of the header wants it, or bare.
pub(super) fn request_key(headers: &HeaderMap, request: &str) -> Result<RequestKey, Problem> {
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .map(|text| text.trim().trim_matches('"'))
        .filter(|key| !key.is_empty() && key.len() <= KEY_MAX)
        .ok_or_else(|| {
            Problem::new(
                "key-missing",
                "send an Idempotency-Key of 1 to 255 characters",
            )
        })?;
    Ok(RequestKey {
        key: key.to_owned(),
        fingerprint: Fingerprint::of(request),
    })
}

pub(super) fn booked(receipt: Receipt) -> Booked {
    let replayed = HeaderValue::from_static(if receipt.replayed { "true" } else { "false" });
    (
        match receipt.pending {
            None => StatusCode::CREATED,
            Some(_) => StatusCode::ACCEPTED,
        },
        [(HeaderName::from_static("idempotent-replayed"), replayed)],
        Json(BookingJson::of(receipt)),
    )
}

const KEY_MAX: usize = 255;
