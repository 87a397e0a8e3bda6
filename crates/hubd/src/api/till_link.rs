//! What tills use: enrolment, batches, feed, snapshot and ceilings.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hub_ledger::{Asking, Fingerprint, TillAccess};
use jiff::Timestamp;
use serde::Deserialize;
use sync_proto::{
    AuthoriseRequest, Batch, BatchAnswer, EnrolAnswer, EnrolRequest, EntryHash, FeedPage,
    FeedPosition, FeedRecords, FeedRefusal, IdentityError, TillPosition,
};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use utoipa::IntoParams;

use super::entries::check_proto;
use crate::access::Till;
use crate::body::{Body, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// Makes a till known, once.
///
/// The same till with the same key may ask again, in case the answer was lost; the token that it
/// was given before stops working.
#[utoipa::path(post, path = "/v1/enrolments", tag = "till-link",
    request_body(content = Object, description = "`EnrolRequest` of sync-proto"),
    responses((status = 200, description = "`EnrolAnswer` of sync-proto", body = Object),
        (status = 403, description = "Name and code do not fit", body = Problem)))]
pub(crate) async fn enrol(
    State(hub): State<Hub>,
    Body(request): Body<EnrolRequest>,
) -> Result<Json<EnrolAnswer>, Problem> {
    let token = draw_secret()?;
    let fingerprint = Fingerprint::of(&token);
    let till = request.till.clone();
    let enrolment = hub
        .books
        .write(move |books| books.enrol(&request, fingerprint, Timestamp::now()))
        .await?;
    info!(till = %till, "Enrolled a till");
    Ok(Json(EnrolAnswer {
        token,
        hub_key: hub.key.public(),
        canteen: enrolment.canteen,
    }))
}

/// Stores and books a batch of entries.
#[utoipa::path(post, path = "/v1/tills/{till}/batches", tag = "till-link",
    params(("till" = String, Path, description = "The till's name")),
    request_body(content = Object, description = "`Batch` of sync-proto, zstd allowed"),
    responses((status = 200, description = "`BatchAnswer` of sync-proto: everything is stored", body = Object),
        (status = 400, description = "Numbers, hashes or signature are wrong", body = Problem),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Gap or fork", body = Problem),
        (status = 413, description = "Too large", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn push(
    State(hub): State<Hub>,
    Till(access): Till,
    Body(batch): Body<Batch>,
) -> Result<Json<BatchAnswer>, Problem> {
    check_proto(&batch)?;
    let till = access.till.clone();
    let (entries, unsent) = (batch.entries.len(), batch.report.unsent);
    let answer = hub
        .books
        .write(move |books| books.ingest(&access, &batch, Timestamp::now()))
        .await?;
    match answer {
        Ok(answer) => {
            info!(till = %till, entries, unsent, through = answer.accepted.seq, "Stored a batch");
            Ok(Json(answer))
        }
        Err(refusal) => {
            warn!(till = %till, entries, refusal = ?refusal, "Refused a batch");
            Err(refusal.into())
        }
    }
}

/// Where a till stands in the feed and how long it wants to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedQuery {
    /// The life of the hub's database that the cursor is from; 0 before the first contact.
    #[serde(default)]
    hub_epoch: u64,
    /// The last change applied.
    #[serde(default)]
    cursor: u64,
    /// How many seconds to wait for a change, at most 25.
    #[serde(default)]
    wait: u64,
}

/// What changed after a cursor; waits for a change when asked to.
#[utoipa::path(get, path = "/v1/tills/{till}/feed", tag = "till-link",
    params(("till" = String, Path, description = "The till's name"), FeedQuery, PositionQuery),
    responses((status = 200, description = "`FeedPage` of sync-proto", body = Object),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Fork or rollback", body = Problem),
        (status = 410, description = "A snapshot is required", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn feed(
    State(hub): State<Hub>,
    Till(access): Till,
    Query(query): Query<FeedQuery>,
    Query(position): Query<PositionQuery>,
) -> Result<Json<FeedPage>, Problem> {
    note_till(&hub, &access).await?;
    let deadline = Instant::now() + Duration::from_secs(query.wait).min(WAIT_MAX);
    let from = FeedPosition {
        hub_epoch: query.hub_epoch,
        cursor: query.cursor,
    };
    let position = position.read()?;
    receive(&hub, &access, Asking::Feed(from), position).await?;
    let mut deadline = deadline;
    let mut changes = hub.books.changes();
    let mut stopping = hub.stopping.clone();
    loop {
        changes.borrow_and_update();
        let till = access.clone();
        let (page, withheld) = hub
            .books
            .read(move |books| {
                let page = books.feed(&till, from, position.as_ref(), Timestamp::now())?;
                let withheld = match &page {
                    Ok(page) => !page.more && books.has_changes(till.canteen, page.to)?,
                    Err(_) => false,
                };
                Ok(page.map(|page| (page, withheld)))
            })
            .await??;
        if !page.changes.is_empty() || Instant::now() >= deadline || *stopping.borrow() {
            return Ok(Json(page));
        }
        if withheld {
            // What the till is sending may be on its way; if not, it must ask again from where it
            // stands by then.
            deadline = deadline.min(Instant::now() + WITHHELD_WAIT);
        }
        tokio::select! {
            // An error means that the writer is gone; the next read tells.
            _ = changes.changed() => {}
            _ = stopping.changed() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Where a till stands; all five, or none from a till that heeds no ceilings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PositionQuery {
    /// The life of its ledger, 16 hex digits.
    epoch: Option<String>,
    /// Its last entry.
    head_seq: Option<String>,
    /// The hash of its last entry.
    head_hash: Option<String>,
    /// The last entry that the hub has acknowledged.
    acked_seq: Option<String>,
    /// The till's own hash of that entry.
    acked_hash: Option<String>,
}

impl PositionQuery {
    pub(super) fn read(&self) -> Result<Option<TillPosition>, Problem> {
        let parts = [
            &self.epoch,
            &self.head_seq,
            &self.head_hash,
            &self.acked_seq,
            &self.acked_hash,
        ];
        if parts.iter().all(|part| part.is_none()) {
            return Ok(None);
        }
        let text = |name: &str, part: &Option<String>| {
            part.clone()
                .ok_or_else(|| Problem::invalid(name, "a till's position is told as a whole"))
        };
        let number = |name: &str, part: &Option<String>| {
            text(name, part)?
                .parse::<u64>()
                .map_err(|_| Problem::invalid(name, "this is no number of an entry"))
        };
        let hash = |name: &str, part: &Option<String>| {
            text(name, part)?
                .parse::<EntryHash>()
                .map_err(|error| Problem::invalid(name, error.to_string()))
        };
        Ok(Some(TillPosition {
            epoch: text("epoch", &self.epoch)?
                .parse()
                .map_err(|error: IdentityError| Problem::invalid("epoch", error.to_string()))?,
            head_seq: number("head_seq", &self.head_seq)?,
            head_hash: hash("head_hash", &self.head_hash)?,
            acked_seq: number("acked_seq", &self.acked_seq)?,
            acked_hash: hash("acked_hash", &self.acked_hash)?,
        }))
    }
}

/// Takes note of where the till stands, when that is news; a copied or restored disk ends here.
pub(super) async fn receive(
    hub: &Hub,
    access: &TillAccess,
    asking: Asking,
    position: Option<TillPosition>,
) -> Result<(), Problem> {
    let now = Timestamp::now();
    let till = access.clone();
    let received = hub
        .books
        .read(move |books| books.is_received(&till, asking, position.as_ref(), now))
        .await?;
    if received {
        return Ok(());
    }
    let till = access.clone();
    let answer = hub
        .books
        .write(move |books| books.receive(&till, asking, position.as_ref(), now))
        .await?;
    if let Err(refusal) = &answer {
        warn!(till = %access.till, refusal = ?refusal, "Refused a till that asked for data");
    }
    Ok(answer?)
}

/// Gives a till leave to sell more on an account than its ceiling allows, when that can be.
#[utoipa::path(post, path = "/v1/tills/{till}/authorise", tag = "till-link",
    params(("till" = String, Path, description = "The till's name")),
    request_body(content = Object, description = "`AuthoriseRequest` of sync-proto"),
    responses((status = 200, description = "`FeedRecords` of sync-proto: the account with a ceiling that allows it", body = Object),
        (status = 204, description = "It cannot be given"),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Fork or rollback", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn authorise(
    State(hub): State<Hub>,
    Till(access): Till,
    Body(request): Body<AuthoriseRequest>,
) -> Result<Response, Problem> {
    let till = access.till.clone();
    let (account, entry) = (request.account, request.entry_id);
    // A raise that comes too late for the purchase reaches the till by its feed.
    let answer = tokio::time::timeout(AUTHORISE_WAIT, raise(&hub, &access, &request));
    let Ok(answer) = answer.await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    match answer? {
        Ok(Some(records)) => {
            info!(till = %till, account = %account, entry = %entry, "Raised a ceiling");
            Ok(Json(records).into_response())
        }
        Ok(None) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(refusal) => {
            warn!(till = %till, refusal = ?refusal, "Refused a till that asked for a ceiling");
            Err(refusal.into())
        }
    }
}

/// Raises a ceiling, if need be after another till has given back what it held of a strict limit.
async fn raise(
    hub: &Hub,
    access: &TillAccess,
    request: &AuthoriseRequest,
) -> Result<Result<Option<FeedRecords>, FeedRefusal>, Problem> {
    let mut changes = hub.books.changes();
    loop {
        changes.borrow_and_update();
        let (till, asked) = (access.clone(), request.clone());
        let answer = hub
            .books
            .write(move |books| books.authorise(&till, &asked, Timestamp::now()))
            .await?;
        let account = request.account;
        let given = !matches!(answer, Ok(None));
        if given
            || !hub
                .books
                .read(move |books| books.awaits_shares(account))
                .await?
        {
            return Ok(answer);
        }
        if changes.changed().await.is_err() {
            return Ok(answer);
        }
    }
}

/// Everything that a new till needs, as lines of JSON.
#[utoipa::path(get, path = "/v1/tills/{till}/snapshot", tag = "till-link",
    params(("till" = String, Path, description = "The till's name"), PositionQuery),
    responses((status = 200, description = "Lines: `SnapshotHeader`, `Change`…, `SnapshotTrailer` of sync-proto",
            body = String, content_type = "application/x-ndjson"),
        (status = 401, description = "Not enrolled", body = Problem),
        (status = 409, description = "Fork or rollback", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn snapshot(
    State(hub): State<Hub>,
    Till(access): Till,
    Query(position): Query<PositionQuery>,
) -> Result<Response, Problem> {
    note_till(&hub, &access).await?;
    let position = position.read()?;
    receive(&hub, &access, Asking::Snapshot, position).await?;
    let lines = hub
        .books
        .read(move |books| {
            let mut lines = Vec::new();
            let now = Timestamp::now();
            let done = books.snapshot(&access, position.as_ref(), now, &mut lines)?;
            Ok(done.map(|()| lines))
        })
        .await?;
    // Writing to memory does not fail: the till has moved on since it asked, and asks again.
    let lines = lines.map_err(|error| Problem::new("busy", error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// Notes that the till is alive, once a minute at most.
pub(super) async fn note_till(hub: &Hub, access: &TillAccess) -> Result<(), Problem> {
    let now = Timestamp::now();
    let fresh = access
        .seen_at
        .is_some_and(|seen_at| now.duration_since(seen_at) < SEEN_EVERY);
    if !fresh {
        let till = access.till.clone();
        hub.books
            .write(move |books| books.note_till(&till, now))
            .await?;
    }
    Ok(())
}

pub(crate) fn draw_secret() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| Problem::new("internal", "the system gives no random numbers"))?;
    Ok(hex::encode(bytes))
}

/// The longest that a request for the feed is held open.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(25);
/// How long a till that cannot prove where it stands is kept waiting, at most.
const WITHHELD_WAIT: Duration = Duration::from_millis(500);
/// The cashier waits for this.
const AUTHORISE_WAIT: Duration = Duration::from_millis(600);
const SEEN_EVERY: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
