//! Who may buy: what tills hear of it ahead of everything else, and which tills know.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use canteen::AccountId;
use hub_ledger::{Asking, StatusSpread};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{Denylist, FeedPosition};
use tokio::time::{Instant, sleep_until};
use utoipa::{IntoParams, ToSchema};

use super::till_link::{PositionQuery, WAIT_MAX, note_till, receive};
use crate::access::{Operator, Till};
use crate::body::{Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// Which statuses a till has, and how long it wants to wait for more.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DenylistQuery {
    /// The life of the hub's database that the version is from.
    hub_epoch: u64,
    /// The version that the answer before told to ask after; 0 for all.
    #[serde(default)]
    after: u64,
    /// How many seconds to wait for a change, at most 25.
    #[serde(default)]
    wait: u64,
}

/// The newest statuses, however much waits in the feed; waits for a change when asked to.
///
/// At most 1000 at once: a full answer is followed by another. Of two statuses of one account or
/// chip the one with the higher `status_rv` holds, whichever way they come.
#[utoipa::path(get, path = "/v1/tills/{till}/denylist", tag = "till-link",
    params(("till" = String, Path, description = "The till's name"), DenylistQuery, PositionQuery),
    responses((status = 200, description = "`Denylist` of sync-proto", body = Object),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Fork or rollback", body = Problem),
        (status = 410, description = "A snapshot is required", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn denylist(
    State(hub): State<Hub>,
    Till(access): Till,
    Query(query): Query<DenylistQuery>,
    Query(position): Query<PositionQuery>,
) -> Result<Json<Denylist>, Problem> {
    note_till(&hub, &access).await?;
    let deadline = Instant::now() + Duration::from_secs(query.wait).min(WAIT_MAX);
    let after = FeedPosition {
        hub_epoch: query.hub_epoch,
        cursor: query.after,
    };
    receive(&hub, &access, Asking::Statuses, position.read()?).await?;
    let mut changes = hub.books.changes();
    let mut stopping = hub.stopping.clone();
    let mut noted = false;
    loop {
        changes.borrow_and_update();
        let till = access.clone();
        let (list, known) = hub
            .books
            .read(move |books| {
                let list = books.denylist(&till, after, Timestamp::now())?;
                let known = books.are_statuses_noted(&till.till, after.cursor)?;
                Ok(list.map(|list| (list, known)))
            })
            .await??;
        if !known && !noted {
            noted = true;
            let till = access.till.clone();
            hub.books
                .write(move |books| books.note_statuses(&till, after.cursor))
                .await?;
        }
        if !list.changes.is_empty() || Instant::now() >= deadline || *stopping.borrow() {
            return Ok(Json(list));
        }
        tokio::select! {
            // An error means that the writer is gone; the next read tells.
            _ = changes.changed() => {}
            _ = stopping.changed() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// A status and the tills that it concerns.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusJson {
    /// `active`, `blocked` or `closed`.
    status: &'static str,
    /// When it was blocked or closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_at: Option<String>,
    /// How many of the tills have applied this status.
    acknowledged: usize,
    /// The tills of the canteen that may be selling.
    tills: Vec<StatusAtTillJson>,
}

/// What one till knows of a status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusAtTillJson {
    /// The till's name.
    till: String,
    /// Whether it has applied the status.
    acknowledged: bool,
    /// When it was heard last.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<String>,
}

/// An account's status, and which tills know of it.
#[utoipa::path(get, path = "/v1/accounts/{id}/status", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = StatusJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn of_account(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<StatusJson>, Problem> {
    let spread = hub
        .books
        .read(move |books| {
            books.account_within(reach, AccountId(id))?;
            books.account_status(AccountId(id))
        })
        .await?;
    Ok(Json(spread.into()))
}

/// A chip's status, and which tills know of it.
#[utoipa::path(get, path = "/v1/chips/{number}/status", tag = "chips",
    params(("number" = i64, Path, description = "The hub's number of the chip")),
    responses((status = 200, body = StatusJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn of_chip(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(number): Path<i64>,
) -> Result<Json<StatusJson>, Problem> {
    let spread = hub
        .books
        .read(move |books| {
            books.chip_within(reach, number)?;
            books.chip_status(number)
        })
        .await?;
    Ok(Json(spread.into()))
}

impl From<StatusSpread> for StatusJson {
    fn from(spread: StatusSpread) -> StatusJson {
        StatusJson {
            status: spread.status.code(),
            blocked_at: spread.blocked_at.map(|at| at.to_string()),
            acknowledged: spread.tills.iter().filter(|till| till.knows).count(),
            tills: spread
                .tills
                .into_iter()
                .map(|till| StatusAtTillJson {
                    till: till.till.to_string(),
                    acknowledged: till.knows,
                    seen_at: till.seen_at.map(|at| at.to_string()),
                })
                .collect(),
        }
    }
}
