//! Automatic top-ups for operators and integrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use canteen::{AccountId, Money};
use hub_ledger::{Agreement, Reach, TopUpId, TopUpRow};
use hub_payments::CardAgreement;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Currency;
use crate::access::Operator;
use crate::body::{Body, Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// An automatic top-up agreement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgreementJson {
    /// What is charged each time, in øre.
    amount: i64,
    currency: Currency,
    /// The gateway's name for the stored card.
    card_agreement: String,
    /// Whether the 100 kr that must be paid in first have been.
    armed: bool,
    /// Whether the card is unusable, so that a new agreement is needed.
    disabled: bool,
    /// `idle`, `pending` or `failed`.
    state: &'static str,
    /// Whether it waits until the operator has found out what an earlier charge of the card was for;
    /// `state` is `failed` then.
    held: bool,
    /// After a failure, when the next top-up may be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    /// When it was made.
    made_at: String,
}

/// What makes an agreement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAgreementJson {
    /// Whole kroner from 50 to 1000, in øre.
    #[schema(example = 30000)]
    amount: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// The gateway's name for the stored card.
    card_agreement: String,
}

/// A top-up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopUpJson {
    /// Its name; the booking carries it too.
    id: String,
    /// The account.
    account: i64,
    /// How much, in øre.
    amount: i64,
    currency: Currency,
    /// `intent`, `requested`, `unknown`, `settled`, `failed`, `cancelled`, `refunding`,
    /// `refunded` or `stuck`.
    state: &'static str,
    /// How often the card was charged for it.
    attempts: u32,
    /// How many more purchases asked for it while it was under way.
    coalesced: u32,
    /// Why it failed, was given up or is stuck: `hard`, `soft`, `blocked`, `card_held`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The gateway's code for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The gateway's words for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Its row on the statement, once settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<i64>,
    /// When something is done about it next.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    /// When it was asked for.
    created_at: String,
    /// When it changed last.
    changed_at: String,
}

/// A page of top-ups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopUpsJson {
    top_ups: Vec<TopUpJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which top-ups to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of an account.
    account: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// At most so many, 100 unless told, 500 at most.
    limit: Option<u32>,
}

/// The agreement of an account.
#[utoipa::path(get, path = "/v1/accounts/{id}/top-up-agreement", tag = "top-ups",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = AgreementJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn show_agreement(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<AgreementJson>, Problem> {
    read_agreement(&hub, reach, id).await
}

/// Makes an agreement. To change the card or the amount, cancel it and make a new one.
#[utoipa::path(post, path = "/v1/accounts/{id}/top-up-agreement", tag = "top-ups",
    request_body = NewAgreementJson,
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 201, body = AgreementJson), (status = 409, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn agree(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(new): Body<NewAgreementJson>,
) -> Result<(StatusCode, Json<AgreementJson>), Problem> {
    let Currency::Dkk = new.currency;
    let card: CardAgreement =
        new.card_agreement
            .parse()
            .map_err(|error: hub_payments::IdentityError| {
                Problem::invalid("card_agreement", error.to_string())
            })?;
    hub.books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            let amount = Money::from_ore(new.amount);
            books.make_agreement(AccountId(id), amount, card.as_str(), Timestamp::now())
        })
        .await?;
    Ok((StatusCode::CREATED, read_agreement(&hub, reach, id).await?))
}

/// Cancels the agreement. A charge under way is still booked when it succeeds.
#[utoipa::path(delete, path = "/v1/accounts/{id}/top-up-agreement", tag = "top-ups",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 204), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn cancel_agreement(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    hub.books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            books.cancel_agreement(AccountId(id), Timestamp::now())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The newest top-ups, the newest first.
#[utoipa::path(get, path = "/v1/top-ups", tag = "top-ups", params(ListQuery),
    responses((status = 200, body = TopUpsJson), (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<ListQuery>,
) -> Result<Json<TopUpsJson>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let account = query.account.map(AccountId);
    let before: Option<TopUpId> = query
        .cursor
        .map(|cursor| cursor.parse())
        .transpose()
        .map_err(|_| Problem::invalid("cursor", "the cursor is not one of this list"))?;
    let rows = hub
        .books
        .read(move |books| books.list_top_ups(reach, account, before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    Ok(Json(TopUpsJson {
        next_cursor: rows.last().filter(|_| full).map(|row| row.id.to_string()),
        top_ups: rows.into_iter().map(TopUpJson::from).collect(),
    }))
}

/// Ends a stuck top-up that a person has found never to have taken money.
///
/// Look at the gateway first. Money that its settlement file shows later is still booked.
#[utoipa::path(post, path = "/v1/top-ups/{id}/give-up", tag = "top-ups",
    params(("id" = String, Path, description = "The top-up's name")),
    responses((status = 200, body = TopUpJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn give_up(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<String>,
) -> Result<Json<TopUpJson>, Problem> {
    let id: TopUpId = id
        .parse()
        .map_err(|_| Problem::new("not-found", "there is no such top-up"))?;
    let row = hub
        .books
        .write(move |books| {
            books.top_up_within(reach, id)?;
            books.give_up_top_up(id, Timestamp::now())?;
            books.top_up_within(reach, id)
        })
        .await?;
    Ok(Json(TopUpJson::from(row)))
}

async fn read_agreement(hub: &Hub, reach: Reach, id: i64) -> Result<Json<AgreementJson>, Problem> {
    let agreement = hub
        .books
        .read(move |books| {
            let account = books.account_within(reach, AccountId(id))?;
            books.agreement(&account, Timestamp::now())
        })
        .await?;
    let agreement = agreement
        .ok_or_else(|| Problem::new("not-found", "the account has no top-up agreement"))?;
    Ok(Json(AgreementJson::from(agreement)))
}

impl From<Agreement> for AgreementJson {
    fn from(agreement: Agreement) -> AgreementJson {
        AgreementJson {
            amount: agreement.amount.ore(),
            currency: Currency::Dkk,
            card_agreement: agreement.card,
            armed: agreement.armed,
            disabled: agreement.disabled,
            state: agreement.state.code(),
            held: agreement.held,
            retry_at: agreement.retry_at.map(|at| at.to_string()),
            made_at: agreement.made_at.to_string(),
        }
    }
}

impl From<TopUpRow> for TopUpJson {
    fn from(row: TopUpRow) -> TopUpJson {
        TopUpJson {
            id: row.id.to_string(),
            account: row.account.0,
            amount: row.amount.ore(),
            currency: Currency::Dkk,
            state: row.stage.code(),
            attempts: row.attempts,
            coalesced: row.coalesced,
            failure: row.failure,
            code: row.code,
            detail: row.detail,
            booking: row.booking.map(|booking| booking.0),
            due_at: row.due_at.map(|at| at.to_string()),
            created_at: row.created_at.to_string(),
            changed_at: row.changed_at.to_string(),
        }
    }
}
