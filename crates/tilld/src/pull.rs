//! The door through which the hub and the canteen's other tills fetch this till's entries. Shut
//! unless the settings open it; it only reads, and only for callers that sign.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use sync_proto::{
    BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, CALLER, CALLER_HUB, CALLER_NONCE, CALLER_SIGNATURE,
    CALLER_SKEW_MAX, CALLER_TIME, Epoch, HeadSignature, HubSignature, pull_message,
};
use tracing::{info, warn};

use crate::sync::Sync;

/// Answers who may fetch entries.
pub(crate) struct Pull {
    sync: Arc<Sync>,
    callers: Mutex<Callers>,
}

/// Who has asked lately.
#[derive(Default)]
struct Callers {
    /// Numbers that were used, until their time is too old to be used again.
    nonces: HashMap<String, Instant>,
    /// When a caller's minute began, and how often it has asked in it.
    minutes: HashMap<String, (Instant, u32)>,
}

/// Why a caller gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It does not say who it is, or not in the right way.
    Unsigned,
    /// It is nobody whom the hub told of, or the signature is not its own.
    Stranger,
    /// Its clock and this till's are too far apart.
    Time,
    /// The request was heard before.
    Repeated,
    /// It asks too often.
    TooOften,
    /// It asks for another life of the ledger.
    OtherEpoch,
    /// The ledger cannot be read.
    Unreadable,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, words) = match self {
            Refused::Unsigned => (StatusCode::UNAUTHORIZED, "sign the request"),
            Refused::Stranger => (StatusCode::FORBIDDEN, "not for this caller"),
            Refused::Time => (StatusCode::FORBIDDEN, "the clocks differ by too much"),
            Refused::Repeated => (StatusCode::FORBIDDEN, "this request was heard before"),
            Refused::TooOften => (StatusCode::TOO_MANY_REQUESTS, "ask less often"),
            Refused::OtherEpoch => (StatusCode::NOT_FOUND, "no such epoch"),
            Refused::Unreadable => (StatusCode::INTERNAL_SERVER_ERROR, "cannot be read"),
        };
        (status, words).into_response()
    }
}

#[derive(Deserialize)]
struct Asked {
    epoch: Epoch,
    after: u64,
    limit: usize,
}

/// Serves callers for as long as the program runs.
pub(crate) async fn serve(sync: Arc<Sync>, address: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on pull.listen {address}: {error}"))?;
    info!(address = %listener.local_addr()?, "Hub and siblings may fetch entries");
    let pull = Arc::new(Pull {
        sync,
        callers: Mutex::default(),
    });
    let router = Router::new()
        .route("/v1/journal", get(journal))
        .with_state(pull);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            warn!(%error, "Nobody can fetch entries any more");
        }
    });
    Ok(())
}

async fn journal(
    State(pull): State<Arc<Pull>>,
    uri: Uri,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let question = uri.path_and_query().map_or("", |known| known.as_str());
    pull.admit(question, &headers)?;
    if asked.epoch != pull.sync.ledger.identity().epoch {
        return Err(Refused::OtherEpoch);
    }
    let sync = Arc::clone(&pull.sync);
    let batch = tokio::task::spawn_blocking(move || {
        let most = asked.limit.clamp(1, BATCH_MAX_ENTRIES);
        let report = sync.report();
        sync.ledger
            .batch_after(asked.after, most, BATCH_MAX_BYTES, &sync.key, report)
    });
    let batch = batch.await.map_err(|_| Refused::Unreadable)?;
    let batch = match batch {
        Ok(Some(batch)) => batch,
        // Also what a caller believes to be there and is not.
        Ok(None) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => {
            warn!(%error, after = asked.after, "Entries that were asked for cannot be read");
            return Err(Refused::Unreadable);
        }
    };
    let json = serde_json::to_vec(&batch).map_err(|_| Refused::Unreadable)?;
    let takes_zstd = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.contains("zstd"));
    if !takes_zstd {
        return Ok(([(CONTENT_TYPE, "application/json")], json).into_response());
    }
    let packed = zstd::encode_all(json.as_slice(), ZSTD_LEVEL).map_err(|_| Refused::Unreadable)?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_ENCODING, "zstd"),
    ];
    Ok((headers, packed).into_response())
}

impl Pull {
    fn admit(&self, question: &str, headers: &HeaderMap) -> Result<(), Refused> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let part = |name| header(name).ok_or(Refused::Unsigned);
        let (caller, time) = (part(CALLER)?, part(CALLER_TIME)?);
        let (nonce, signature) = (part(CALLER_NONCE)?, part(CALLER_SIGNATURE)?);
        if hex::decode(nonce).map_or(0, |bytes| bytes.len()) != NONCE_BYTES {
            return Err(Refused::Unsigned);
        }
        let message = pull_message(&self.sync.till, caller, question, time, nonce);
        if !self.is_signed(caller, &message, signature) {
            return Err(Refused::Stranger);
        }
        let stamp: Timestamp = time.parse().map_err(|_| Refused::Unsigned)?;
        let apart = Timestamp::now().duration_since(stamp).unsigned_abs();
        if apart > CALLER_SKEW_MAX {
            return Err(Refused::Time);
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.note(caller, nonce, Instant::now())
    }

    fn is_signed(&self, caller: &str, message: &[u8], signature: &str) -> bool {
        if caller == CALLER_HUB {
            let signature: Option<HubSignature> = signature.parse().ok();
            let known = self.sync.hub.hub_key().zip(signature);
            return known.is_some_and(|(key, signature)| key.verifies(message, &signature));
        }
        let Ok(signature) = signature.parse::<HeadSignature>() else {
            return false;
        };
        let siblings = self.sync.ledger.siblings();
        let mut callers = siblings.iter().map(|stand| &stand.sibling);
        let sibling = callers.find(|sibling| sibling.till.as_str() == caller);
        sibling.is_some_and(|sibling| sibling.public_key.verifies(message, &signature))
    }
}

impl Callers {
    /// Each request once, and not too many; only callers that have signed come so far.
    fn note(&mut self, caller: &str, nonce: &str, now: Instant) -> Result<(), Refused> {
        self.nonces.retain(|_, until| *until > now);
        self.minutes
            .retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        let nonce = nonce.to_ascii_lowercase();
        if self.nonces.contains_key(&nonce) {
            return Err(Refused::Repeated);
        }
        let (_, asked) = self.minutes.entry(caller.to_owned()).or_insert((now, 0));
        if *asked >= ASKED_MAX {
            return Err(Refused::TooOften);
        }
        *asked += 1;
        self.nonces.insert(nonce, now + CALLER_SKEW_MAX * 2);
        Ok(())
    }
}

const NONCE_BYTES: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);
/// How often one caller may ask in a minute.
const ASKED_MAX: u32 = 60;
const ZSTD_LEVEL: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once_and_a_caller_may_not_ask_for_ever() {
        let mut callers = Callers::default();
        let start = Instant::now();
        let mut ask =
            |caller: &str, nonce: u32, at| callers.note(caller, &format!("{nonce:x}"), at);
        assert_eq!(ask("kasse-2", 1, start), Ok(()));
        assert_eq!(ask("kasse-2", 1, start), Err(Refused::Repeated));
        assert_eq!(ask("kasse-3", 1, start), Err(Refused::Repeated));
        for nonce in 2..=ASKED_MAX {
            assert_eq!(ask("kasse-2", nonce, start), Ok(()));
        }
        assert_eq!(ask("kasse-2", 100, start), Err(Refused::TooOften));
        assert_eq!(ask("kasse-3", 100, start), Ok(()));
        assert_eq!(ask("kasse-2", 101, start + MINUTE), Ok(()));
        // A number is remembered for as long as its time would be taken.
        assert_eq!(
            ask("kasse-2", 1, start + CALLER_SKEW_MAX),
            Err(Refused::Repeated)
        );
    }
}
