//! Deposits, their reversals and corrections, each booked once however often it is sent.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use canteen::{AccountId, Money};
use hub_ledger::{BookingId, CardPayment, Correction, Fingerprint, Receipt, RequestKey};
use hub_payments::CardAgreement;
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
    /// The charge, when a guardian has paid with a card.
    #[serde(default)]
    card: Option<CardPaymentJson>,
}

/// What a guardian's card was charged as.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardPaymentJson {
    /// Your name for the charge, which the gateway keeps as the order's reference.
    reference: String,
    /// The gateway's name for the charge; each is paid in once.
    transaction: String,
    /// The gateway's name for the stored card, when it is one: an automatic top-up of the same amount
    /// on it then waits until the gateway no longer takes it for a repetition.
    #[serde(default)]
    card_agreement: Option<String>,
    /// When the card was charged, RFC 3339.
    #[schema(example = "2026-11-20T11:02:07Z")]
    charged_at: String,
}

/// A deposit to be taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReversalJson {
    /// Why, as it stands on the statement.
    #[schema(example = "indsigelse")]
    reason: String,
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
/// A deposit that a guardian made with a card carries the charge in `card`. Ask whether the account is
/// blocked before charging: nothing is paid into a blocked one.
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
    let DepositJson {
        amount,
        currency,
        card,
    } = deposit;
    let charge = card.as_ref().map(CardPaymentJson::fingerprint);
    let request = format!(
        "deposit {id} {amount} {currency:?}{}",
        charge.unwrap_or_default()
    );
    let key = request_key(&headers, &request)?;
    let payment = card.map(CardPayment::try_from).transpose()?;
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            let (account, amount) = (AccountId(id), Money::from_ore(amount));
            let now = Timestamp::now();
            match &payment {
                Some(payment) => books.deposit_by_card(account, amount, payment, &key, now),
                None => books.deposit(account, amount, &key, now),
            }
        })
        .await?;
    Ok(booked(receipt))
}

/// Takes back a deposit that was charged back or booked by mistake: the whole amount, once.
///
/// What an automatic top-up paid in is taken back in the same way. The money is gone whether the
/// account holds it or not, so the balance may fall below zero; when tills may be spending it at this
/// moment, that is flagged (`forced_debit`). The reversal stands on the statement and refers to the
/// deposit; what was reversed no longer counts towards the 100 kr that an agreement needs.
#[utoipa::path(post, path = "/v1/accounts/{id}/deposits/{booking}/reversal", tag = "money",
    request_body = ReversalJson,
    params(("id" = i64, Path, description = "The account's number"),
        ("booking" = i64, Path, description = "The deposit's number on the statement"),
        ("Idempotency-Key" = String, Header, description = "Your name for this request")),
    responses((status = 201, body = BookingJson), (status = 400, body = Problem),
        (status = 404, description = "The account has no such deposit", body = Problem),
        (status = 409, description = "It was reversed already", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn reverse(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path((id, deposit)): Path<(i64, i64)>,
    headers: HeaderMap,
    Body(reversal): Body<ReversalJson>,
) -> Result<Booked, Problem> {
    let reason = reversal.reason;
    let key = request_key(&headers, &format!("reversal {id} {deposit} {reason}"))?;
    let receipt = hub
        .books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            let deposit = BookingId(deposit);
            books.reverse_deposit(AccountId(id), deposit, &reason, &key, Timestamp::now())
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

impl CardPaymentJson {
    fn fingerprint(&self) -> String {
        let card = self.card_agreement.as_deref().unwrap_or_default();
        let (reference, transaction) = (&self.reference, &self.transaction);
        format!(
            " by card {reference:?} {transaction:?} {card:?} {}",
            self.charged_at
        )
    }
}

impl TryFrom<CardPaymentJson> for CardPayment {
    type Error = Problem;

    fn try_from(payment: CardPaymentJson) -> Result<CardPayment, Problem> {
        if let Some(card) = &payment.card_agreement {
            card.parse::<CardAgreement>()
                .map_err(|error| Problem::invalid("card.card_agreement", error.to_string()))?;
        }
        let charged_at = payment.charged_at.parse().map_err(|_| {
            Problem::invalid("card.charged_at", "it is a time like 2026-11-20T10:00:00Z")
        })?;
        Ok(CardPayment {
            reference: payment.reference,
            transaction: payment.transaction,
            card: payment.card_agreement,
            charged_at,
        })
    }
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
