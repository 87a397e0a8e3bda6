//! Notices to guardians and operators: what was told, and what nobody has taken.

use axum::Json;
use axum::extract::State;
use canteen::AccountId;
use hub_ledger::{Audience, NoticeFilter, NoticeRow, Reach};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Currency;
use super::oversight::PageQuery;
use crate::access::Operator;
use crate::body::{Path, Query};
use crate::notice::Texts;
use crate::problem::Problem;
use crate::server::Hub;

/// A notice.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticeJson {
    /// Its name, which is the `Idempotency-Key` that it is delivered under.
    id: String,
    /// `settled`, `declined`, `card_unusable`, `disarmed`, `refunded`, `card_held` or `stuck`.
    reason: &'static str,
    /// `guardian` or `operator`.
    audience: &'static str,
    /// The account.
    account: i64,
    /// How much money it is about, in øre.
    amount: i64,
    currency: Currency,
    /// The day of what it tells of; the same is told once a day.
    #[schema(example = "2026-11-20")]
    day: String,
    /// What a person reads.
    texts: Texts,
    /// The top-up that it is about.
    top_up: String,
    /// `waiting`, `delivered`, or `given_up` after a week.
    state: &'static str,
    /// How often it was sent in vain.
    attempts: u32,
    /// Why it could not be delivered the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// When it is sent next.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    /// When the receiver took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<String>,
    /// When it was written.
    created_at: String,
}

/// A page of notices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticesPage {
    notices: Vec<NoticeJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which notices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoticesQuery {
    /// Only those that nobody has taken.
    #[serde(default)]
    undelivered: bool,
    /// Where the page before ended.
    cursor: Option<String>,
    /// At most so many, 100 unless told, 500 at most.
    limit: Option<u32>,
}

/// The newest notices, the newest first.
///
/// With `undelivered=true`, those that the receiver has not taken: they are tried again for a week.
#[utoipa::path(get, path = "/v1/notices", tag = "oversight", params(NoticesQuery),
    responses((status = 200, body = NoticesPage)), security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<NoticesQuery>,
) -> Result<Json<NoticesPage>, Problem> {
    page(&hub, reach, query, NoticeFilter::default()).await
}

/// The newest notices to the guardians of an account, the newest first, as a portal shows them.
#[utoipa::path(get, path = "/v1/accounts/{id}/notices", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number"), NoticesQuery),
    responses((status = 200, body = NoticesPage), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn of_account(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Query(query): Query<NoticesQuery>,
) -> Result<Json<NoticesPage>, Problem> {
    let account = AccountId(id);
    hub.books
        .read(move |books| books.account_within(reach, account))
        .await?;
    let filter = NoticeFilter {
        account: Some(account),
        audience: Some(Audience::Guardian),
        undelivered: false,
    };
    page(&hub, reach, query, filter).await
}

async fn page(
    hub: &Hub,
    reach: Reach,
    query: NoticesQuery,
    filter: NoticeFilter,
) -> Result<Json<NoticesPage>, Problem> {
    let NoticesQuery {
        undelivered,
        cursor,
        limit,
    } = query;
    let filter = NoticeFilter {
        undelivered,
        ..filter
    };
    let page = PageQuery { cursor, limit };
    let (before, limit) = (page.before()?, page.limit());
    let rows = hub
        .books
        .read(move |books| books.list_notices(reach, filter, before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    let last = rows.last().filter(|_| full);
    Ok(Json(NoticesPage {
        next_cursor: last.map(|row| row.id.0.to_string()),
        notices: rows.iter().map(NoticeJson::of).collect(),
    }))
}

impl NoticeJson {
    fn of(row: &NoticeRow) -> NoticeJson {
        let state = match (row.delivered_at, row.due_at) {
            (Some(_), _) => "delivered",
            (None, Some(_)) => "waiting",
            (None, None) => "given_up",
        };
        NoticeJson {
            id: row.name.to_string(),
            reason: row.reason.code(),
            audience: row.reason.audience().code(),
            account: row.account.0,
            amount: row.amount.ore(),
            currency: Currency::Dkk,
            day: row.day.to_string(),
            texts: Texts::of(row),
            top_up: row.top_up.to_string(),
            state,
            attempts: row.attempts,
            failure: row.failure.clone(),
            due_at: row.due_at.map(|at| at.to_string()),
            delivered_at: row.delivered_at.map(|at| at.to_string()),
            created_at: row.created_at.to_string(),
        }
    }
}
