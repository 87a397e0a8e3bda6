//! Charges of which only the gateway knows: what they are, and what a person says of them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use canteen::AccountId;
use hub_ledger::{UnmatchedCharge, UnmatchedId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Currency;
use super::restore::everything;
use super::top_ups::TopUpJson;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// Charges of which nobody knows what they were for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnmatchedJson {
    /// The oldest ones, at most 500.
    charges: Vec<UnmatchedChargeJson>,
}

/// A charge of which nobody knows what it was for. Its card is not charged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnmatchedChargeJson {
    /// Its number.
    id: i64,
    /// The order's reference at the gateway.
    reference: String,
    /// The gateway's name for the charge.
    transaction: String,
    /// The gateway's name for the stored card.
    card: String,
    /// What was taken, in øre.
    amount: i64,
    currency: Currency,
    /// When it was taken.
    charged_at: String,
    /// When it was first listed.
    found_at: String,
    /// The accounts that have or had an agreement on the card: it was made for one of them.
    accounts: Vec<i64>,
}

/// Whose charge it was.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerJson {
    /// The account that it was made for; one that has or had an agreement on the card.
    #[schema(example = 10001)]
    account: i64,
}

/// Charges of which nobody knows what they were for.
///
/// No top-up is charged to their cards until somebody has said what each was. It takes the token of an
/// operator whom no tenant confines, as do its answers.
#[utoipa::path(get, path = "/v1/top-ups/unmatched", tag = "top-ups",
    responses((status = 200, body = UnmatchedJson), (status = 403, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<Json<UnmatchedJson>, Problem> {
    everything(reach)?;
    let charges = hub
        .books
        .read(|books| books.unmatched_charges(PAGE))
        .await?;
    let charges = charges.into_iter().map(UnmatchedChargeJson::from);
    Ok(Json(UnmatchedJson {
        charges: charges.collect(),
    }))
}

/// The charge was made for this account: it is credited there.
///
/// It goes back to the card if the account is blocked. What waited for the card goes on, unless another
/// charge of it is open.
#[utoipa::path(post, path = "/v1/top-ups/unmatched/{id}/take-in", tag = "top-ups",
    request_body = OwnerJson,
    params(("id" = i64, Path, description = "The charge's number")),
    responses((status = 200, description = "The top-up that it was for", body = TopUpJson),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The account never had an agreement on the card, or is blocked \
            while another of its top-ups is under way", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn take_in(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(owner): Body<OwnerJson>,
) -> Result<Json<TopUpJson>, Problem> {
    everything(reach)?;
    let row = hub
        .books
        .write(move |books| {
            let account = AccountId(owner.account);
            let top_up = books.take_in_unmatched(UnmatchedId(id), account, Timestamp::now())?;
            books.top_up_within(reach, top_up)
        })
        .await?;
    Ok(Json(TopUpJson::from(row)))
}

/// The charge was made for no account here, or was sent back at the gateway: nothing is credited.
///
/// What waited for the card goes on, unless another charge of it is open. Ask the gateway first: this
/// is not undone.
#[utoipa::path(post, path = "/v1/top-ups/unmatched/{id}/dismiss", tag = "top-ups",
    params(("id" = i64, Path, description = "The charge's number")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn dismiss(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    everything(reach)?;
    hub.books
        .write(move |books| books.dismiss_unmatched(UnmatchedId(id), Timestamp::now()))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<UnmatchedCharge> for UnmatchedChargeJson {
    fn from(unmatched: UnmatchedCharge) -> UnmatchedChargeJson {
        let charge = unmatched.charge;
        UnmatchedChargeJson {
            id: unmatched.id.0,
            reference: charge.reference,
            transaction: charge.transaction,
            card: charge.card,
            amount: charge.amount.ore(),
            currency: Currency::Dkk,
            charged_at: charge.charged_at.to_string(),
            found_at: unmatched.found_at.to_string(),
            accounts: unmatched.accounts.iter().map(|account| account.0).collect(),
        }
    }
}

const PAGE: u32 = 500;
