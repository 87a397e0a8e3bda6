//! Entries that come in beside the ordinary batches.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use sync_proto::{Batch, BatchAnswer, BatchRefusal, PROTO};
use tracing::warn;

use crate::access::Till;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// Stores and books a batch of any epoch of a till, without its token: the till was revoked, has
/// ended the epoch, or its disk was copied or restored.
///
/// Entries under numbers that others have already are kept apart. All are booked once, by their ids.
/// A hub that was restored takes an epoch that it has forgotten from whoever signs with a key that the
/// till was enrolled with.
#[utoipa::path(post, path = "/v1/tills/{till}/branch", tag = "till-link",
    params(("till" = String, Path, description = "The till's name")),
    request_body(content = Object, description = "`Batch` of sync-proto, zstd allowed"),
    responses((status = 200, description = "`BatchAnswer` of sync-proto: everything is stored", body = Object),
        (status = 400, description = "Numbers, hashes or signature are wrong", body = Problem),
        (status = 401, description = "The epoch is not known, nor the key", body = Problem),
        (status = 409, description = "Gap", body = Problem),
        (status = 413, description = "Too large", body = Problem)))]
pub(crate) async fn branch(
    State(hub): State<Hub>,
    Path(till): Path<String>,
    Body(batch): Body<Batch>,
) -> Result<Json<BatchAnswer>, Problem> {
    check_proto(&batch)?;
    if batch.till.as_str() != till {
        return Err(BatchRefusal::NotEnrolled.into());
    }
    let (entries, epoch) = (batch.entries.len(), batch.epoch);
    let answer = hub
        .books
        .write(move |books| books.ingest_branch(&batch, Timestamp::now()))
        .await?;
    let through = answer.as_ref().map(|answer| answer.accepted.seq).ok();
    warn!(till, %epoch, entries, through, refusal = ?answer.as_ref().err(), "Took a branch");
    Ok(Json(answer?))
}

/// Stores a batch without reading its entries, when the hub fails on one of them every time.
#[utoipa::path(post, path = "/v1/tills/{till}/raw", tag = "till-link",
    params(("till" = String, Path, description = "The till's name")),
    request_body(content = Object, description = "`Batch` of sync-proto, zstd allowed"),
    responses((status = 200, description = "`BatchAnswer` of sync-proto: everything is in quarantine", body = Object),
        (status = 400, description = "Numbers, hashes or signature are wrong", body = Problem),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Gap or fork", body = Problem),
        (status = 413, description = "Too large", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn raw(
    State(hub): State<Hub>,
    Till(access): Till,
    Body(batch): Body<Batch>,
) -> Result<Json<BatchAnswer>, Problem> {
    check_proto(&batch)?;
    let till = access.till.clone();
    let entries = batch.entries.len();
    let answer = hub
        .books
        .write(move |books| books.ingest_raw(&access, &batch, Timestamp::now()))
        .await?;
    warn!(till = %till, entries, refusal = ?answer.as_ref().err(), "Took entries without reading them");
    Ok(Json(answer?))
}

pub(crate) fn check_proto(batch: &Batch) -> Result<(), Problem> {
    if batch.proto == PROTO {
        return Ok(());
    }
    Err(Problem::invalid(
        "proto",
        format!("this hub speaks version {PROTO}"),
    ))
}
