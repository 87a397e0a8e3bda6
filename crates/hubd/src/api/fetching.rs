//! Entries that an operator wants to have now, or once more, and backups that make them safe.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub_ledger::{BackupId, Reach};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::Resend;
use utoipa::ToSchema;

use super::tills::till_id;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::pull::PullError;
use crate::server::Hub;

/// What was fetched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledJson {
    /// How many entries the till served.
    entries: u64,
    /// All its entries up to here are stored.
    accepted_through: u64,
}

/// Fetches a till's entries now, if the till serves them.
#[utoipa::path(post, path = "/v1/tills/{till}/pull", tag = "tills",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 200, body = PulledJson), (status = 404, body = Problem),
        (status = 409, description = "The till does not serve its entries", body = Problem),
        (status = 502, description = "The till does not answer", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn pull(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
) -> Result<Json<PulledJson>, Problem> {
    let till = till_id(&till)?;
    let reachable = hub
        .books
        .read(move |books| {
            books.till_within(reach, &till)?;
            books.reachable_till(&till)
        })
        .await?;
    let reachable = reachable.ok_or_else(|| {
        Problem::new(
            "not-served",
            "the till says no address; set [pull] listen in its configuration",
        )
    })?;
    let pulled = hub.puller.pull(reachable).await?;
    Ok(Json(PulledJson {
        entries: pulled.entries,
        accepted_through: pulled.accepted_through,
    }))
}

/// Entries that are wanted once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResendJson {
    /// The first one.
    #[schema(minimum = 1)]
    from_seq: u64,
    /// The last one.
    to_seq: u64,
}

/// Asks a till for entries once more. It hears of it with its next page; what comes is held against
/// what is stored, and nothing is booked twice.
#[utoipa::path(post, path = "/v1/tills/{till}/resend", tag = "tills", request_body = ResendJson,
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 202), (status = 422, body = Problem), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn resend(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
    Body(wanted): Body<ResendJson>,
) -> Result<StatusCode, Problem> {
    let till = till_id(&till)?;
    if wanted.from_seq == 0 || wanted.from_seq > wanted.to_seq {
        return Err(Problem::invalid(
            "from_seq",
            "the first entry is 1 or more and not after the last one",
        ));
    }
    let wanted = Resend {
        from_seq: wanted.from_seq,
        to_seq: wanted.to_seq,
    };
    hub.books
        .write(move |books| {
            books.till_within(reach, &till)?;
            books.ask_for_resend(&till, wanted)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// A backup.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupJson {
    /// Its number.
    id: i64,
}

/// Tells that a backup of the hub's database begins.
#[utoipa::path(post, path = "/v1/backups", tag = "oversight",
    responses((status = 201, body = BackupJson), (status = 403, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn begin_backup(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<(StatusCode, Json<BackupJson>), Problem> {
    only_for_all(reach)?;
    let id = hub
        .books
        .write(|books| books.begin_backup(Timestamp::now()))
        .await?;
    Ok((StatusCode::CREATED, Json(BackupJson { id: id.0 })))
}

/// Tells that a backup was read back and is whole: tills may forget, in time, what was stored when it
/// began.
#[utoipa::path(post, path = "/v1/backups/{id}/verified", tag = "oversight",
    params(("id" = i64, Path, description = "The backup's number")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn backup_is_verified(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    only_for_all(reach)?;
    hub.books
        .write(move |books| books.backup_is_verified(BackupId(id), Timestamp::now()))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A backup holds the books of all tenants.
fn only_for_all(reach: Reach) -> Result<(), Problem> {
    match reach {
        Reach::Everything => Ok(()),
        Reach::Tenant(_) => Err(Problem::new(
            "forbidden",
            "backups are told of by an operator who is not confined to a tenant",
        )),
    }
}

impl From<PullError> for Problem {
    fn from(error: PullError) -> Problem {
        match error {
            PullError::Unreachable { .. } | PullError::NoEntries { .. } => {
                Problem::new("till-silent", error.to_string())
            }
            PullError::Refused(refusal) => refusal.into(),
            PullError::Books(error) => error.into(),
            PullError::Random => Problem::new("internal", error.to_string()),
        }
    }
}
