//! The hub as the till reaches it: one method per path, every failure with its kind.

use std::io::Read;
use std::sync::RwLock;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use sync_proto::{
    AuthoriseRequest, Batch, BatchAnswer, BatchRefusal, Change, EnrolAnswer, EnrolRequest,
    FeedPage, FeedPosition, FeedRecords, FeedRefusal, SnapshotHeader, SnapshotTrailer, TillId,
    TillPosition,
};
use thiserror::Error;

use crate::config::Config;
use crate::contact::Standing;

/// The way to the hub.
pub(crate) struct Hub {
    http: Client,
    url: String,
    till: TillId,
    token: RwLock<Option<String>>,
}

/// A whole snapshot, checked.
pub(crate) struct Snapshot {
    /// What it stands for.
    pub(crate) header: SnapshotHeader,
    /// Its records.
    pub(crate) changes: Vec<Change>,
}

/// Why the hub did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum HubError {
    /// No answer: the line or the hub is down.
    #[error("the hub does not answer ({0})")]
    Unreachable(String),
    /// The hub asks to wait.
    #[error("the hub is busy and asks to wait {} s", retry_after.as_secs())]
    Busy {
        /// For how long.
        retry_after: Duration,
    },
    /// The hub does not know this till, or no longer.
    #[error("the hub does not know this till; enrol it with a new code from the operator")]
    NotEnrolled,
    /// The hub refuses the code for the first contact.
    #[error("the hub refuses the enrolment ({0}); ask the operator for a new code")]
    EnrolmentRefused(String),
    /// The hub refused a batch.
    #[error("the hub refuses the entries: {}", batch_words(.0))]
    Batch(BatchRefusal),
    /// The hub refused a page.
    #[error("the hub gives no changes: {}", feed_words(.0))]
    Feed(FeedRefusal),
    /// The answer is not what the protocol says; it may be the login page of a school's network.
    #[error("the hub's answer cannot be used ({0})")]
    Garbled(String),
    /// The answer is good, and this till cannot write it down.
    #[error("the hub's answer cannot be kept here ({0})")]
    NotKept(String),
}

impl HubError {
    /// What it says of the till, if anything.
    pub(crate) fn standing(&self) -> Option<Standing> {
        match self {
            HubError::NotEnrolled
            | HubError::Batch(BatchRefusal::NotEnrolled | BatchRefusal::Revoked)
            | HubError::Feed(FeedRefusal::NotEnrolled | FeedRefusal::Revoked) => {
                Some(Standing::NotEnrolled)
            }
            HubError::Batch(BatchRefusal::Fork { .. })
            | HubError::Feed(FeedRefusal::Fork { .. } | FeedRefusal::Rollback { .. }) => {
                Some(Standing::Forked)
            }
            HubError::Unreachable(_)
            | HubError::Busy { .. }
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::Garbled(_)
            | HubError::NotKept(_) => None,
        }
    }

    /// Whether the hub was reached at all.
    pub(crate) fn is_contact(&self) -> bool {
        match self {
            HubError::Unreachable(_) | HubError::Garbled(_) => false,
            HubError::Busy { .. }
            | HubError::NotEnrolled
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::NotKept(_) => true,
        }
    }
}

impl Hub {
    /// A client for the configured hub; nothing is sent yet.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Hub> {
        let mut http = Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(ANSWER_WAIT)
            .tcp_keepalive(KEEP_ALIVE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tilld/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path).map_err(|error| {
                anyhow::anyhow!("cannot read hub.ca_file {}: {error}", path.display())
            })?;
            http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(Hub {
            http: http.build()?,
            url: config.hub_url.clone(),
            till: config.till.clone(),
            token: RwLock::new(None),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the till has a token to show.
    pub(crate) fn has_token(&self) -> bool {
        self.token.read().is_ok_and(|token| token.is_some())
    }

    /// From now on the till shows this token.
    pub(crate) fn set_token(&self, token: Option<String>) {
        if let Ok(mut known) = self.token.write() {
            *known = token;
        }
    }

    /// Makes the till known to the hub.
    pub(crate) async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, HubError> {
        let sending = self
            .http
            .post(format!("{}/v1/enrolments", self.url))
            .json(request);
        let response = send(sending).await?;
        match response.status() {
            status if status.is_success() => read_json(response).await,
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(HubError::EnrolmentRefused(problem_title(response).await))
            }
            _ => Err(failure(response).await),
        }
    }

    /// Sends entries.
    pub(crate) async fn push(&self, batch: &Batch) -> Result<BatchAnswer, HubError> {
        let json =
            serde_json::to_vec(batch).map_err(|error| HubError::Garbled(error.to_string()))?;
        let body = zstd::encode_all(json.as_slice(), ZSTD_LEVEL)
            .map_err(|error| HubError::Garbled(error.to_string()))?;
        let sending = self
            .authorised(self.http.post(self.path("batches")))
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "zstd")
            .body(body);
        let response = send(sending).await?;
        if response.status().is_success() {
            return read_json(response).await;
        }
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(HubError::Batch(BatchRefusal::TooLarge));
        }
        refusal(response, HubError::Batch).await
    }

    /// Asks for leave to sell more on an account; `None` when nothing more can be given.
    pub(crate) async fn authorise(
        &self,
        request: &AuthoriseRequest,
    ) -> Result<Option<FeedRecords>, HubError> {
        let sending = self
            .authorised(self.http.post(self.path("authorise")))
            .json(request)
            .timeout(AUTHORISE_WAIT);
        let response = send(sending).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => read_json(response).await.map(Some),
            _ => refusal(response, HubError::Feed).await,
        }
    }

    /// Asks for changes after a position and waits for some up to `wait`; `stand` is where the
    /// till itself stands.
    pub(crate) async fn feed(
        &self,
        after: FeedPosition,
        stand: TillPosition,
        wait: Duration,
    ) -> Result<FeedPage, HubError> {
        let sending = self
            .authorised(self.http.get(self.path("feed")))
            .query(&[
                ("hub_epoch", after.hub_epoch),
                ("cursor", after.cursor),
                ("wait", wait.as_secs()),
            ])
            .query(&stand)
            .timeout(wait + FEED_MARGIN);
        let response = send(sending).await?;
        if response.status().is_success() {
            let page: FeedPage = read_json(response).await?;
            return check_page(page, after);
        }
        refusal(response, HubError::Feed).await
    }

    /// Fetches everything a till needs.
    pub(crate) async fn snapshot(&self, stand: TillPosition) -> Result<Snapshot, HubError> {
        let sending = self
            .authorised(self.http.get(self.path("snapshot")))
            .query(&stand)
            .timeout(SNAPSHOT_WAIT);
        let response = send(sending).await?;
        if response.status().is_success() {
            return read_snapshot(&read_body(response).await?);
        }
        refusal(response, HubError::Feed).await
    }

    fn path(&self, last: &str) -> String {
        format!("{}/v1/tills/{}/{last}", self.url, self.till)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let token = self.token.read().ok().and_then(|token| token.clone());
        let request = request.header(ACCEPT_ENCODING, "zstd");
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

fn batch_words(refusal: &BatchRefusal) -> String {
    match refusal {
        BatchRefusal::Gap { expected } => format!("it expects entry {expected} first"),
        BatchRefusal::Fork { agreed_through } => fork_words(*agreed_through),
        BatchRefusal::BadChain => "they do not hold together; they are sent again".into(),
        BatchRefusal::NotEnrolled => "it does not know this till; enrol it with a new code".into(),
        BatchRefusal::Revoked => "an operator has revoked this till".into(),
        BatchRefusal::TooLarge => "they are too many at once".into(),
    }
}

fn feed_words(refusal: &FeedRefusal) -> String {
    match refusal {
        FeedRefusal::SnapshotRequired => "the till must take a snapshot".into(),
        FeedRefusal::NotEnrolled => "it does not know this till; enrol it with a new code".into(),
        FeedRefusal::Revoked => "an operator has revoked this till".into(),
        FeedRefusal::Fork { agreed_through } => fork_words(*agreed_through),
        FeedRefusal::Rollback { accepted_seq } => format!(
            "it has entries up to {accepted_seq}, more than this till: its disk was restored; enrol it \
             with a new code and an empty state directory, and keep the old one"
        ),
    }
}

fn fork_words(agreed_through: u64) -> String {
    format!(
        "it has other entries after {agreed_through} than this till: its disk was copied; enrol it with \
         a new code and an empty state directory, and keep the old one"
    )
}

async fn send(request: RequestBuilder) -> Result<Response, HubError> {
    request.send().await.map_err(unreachable)
}

fn unreachable(error: reqwest::Error) -> HubError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    HubError::Unreachable(cause.to_string())
}

/// A refusal that the protocol knows, or a failure that it does not.
async fn refusal<T, R: DeserializeOwned>(
    response: Response,
    known: impl Fn(R) -> HubError,
) -> Result<T, HubError> {
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Err(HubError::NotEnrolled);
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(failure(response).await);
    }
    let body = read_body(response).await?;
    match serde_json::from_slice(&body) {
        Ok(refusal) => Err(known(refusal)),
        Err(_) => Err(HubError::Garbled(format!("status {status}"))),
    }
}

async fn failure(response: Response) -> HubError {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let seconds = seconds
            .and_then(|text| text.parse().ok())
            .unwrap_or(BUSY_WAIT);
        return HubError::Busy {
            retry_after: Duration::from_secs(seconds),
        };
    }
    HubError::Unreachable(format!("status {status}"))
}

async fn problem_title(response: Response) -> String {
    #[derive(Deserialize)]
    struct Problem {
        title: String,
    }
    let status = response.status();
    match read_json::<Problem>(response).await {
        Ok(problem) => problem.title,
        Err(_) => format!("status {status}"),
    }
}

async fn read_json<T: DeserializeOwned>(response: Response) -> Result<T, HubError> {
    let body = read_body(response).await?;
    serde_json::from_slice(&body).map_err(|error| HubError::Garbled(error.to_string()))
}

/// The body, unpacked, never more than [`BODY_MAX`].
async fn read_body(mut response: Response) -> Result<Vec<u8>, HubError> {
    let encoding = response
        .headers()
        .get(CONTENT_ENCODING)
        .map(|value| value.as_bytes().to_vec());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(HubError::Garbled(format!(
                "an answer of more than {BODY_MAX} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    match encoding.as_deref() {
        None | Some(b"identity") => Ok(body),
        Some(b"zstd") => unpack(&body),
        Some(other) => Err(HubError::Garbled(format!(
            "an answer packed by {}",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, HubError> {
    let garbled = |error: std::io::Error| HubError::Garbled(error.to_string());
    let decoder = zstd::Decoder::new(packed).map_err(garbled)?;
    let mut body = Vec::new();
    decoder
        .take(BODY_MAX as u64 + 1)
        .read_to_end(&mut body)
        .map_err(garbled)?;
    if body.len() > BODY_MAX {
        return Err(HubError::Garbled(format!(
            "an answer that unpacks to more than {BODY_MAX} bytes"
        )));
    }
    Ok(body)
}

fn check_page(page: FeedPage, after: FeedPosition) -> Result<FeedPage, HubError> {
    let ordered = page.changes.windows(2).all(|pair| pair[0].rv <= pair[1].rv);
    let inside = page
        .changes
        .iter()
        .all(|change| change.rv > after.cursor && change.rv <= page.to);
    if page.hub_epoch != after.hub_epoch || page.from != after.cursor || page.to < page.from {
        return Err(HubError::Garbled("a page for another position".into()));
    }
    if !ordered || !inside {
        return Err(HubError::Garbled(
            "a page whose changes are out of order".into(),
        ));
    }
    Ok(page)
}

/// Header, records, trailer; nothing of it counts unless the trailer agrees.
fn read_snapshot(body: &[u8]) -> Result<Snapshot, HubError> {
    let garbled = |what: &str| HubError::Garbled(format!("a snapshot {what}"));
    let text = body.strip_suffix(b"\n").unwrap_or(body);
    let last = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .ok_or_else(|| garbled("cut short"))?;
    let (before, trailer) = (&body[..=last], &text[last + 1..]);
    let trailer: SnapshotTrailer =
        serde_json::from_slice(trailer).map_err(|_| garbled("cut short"))?;
    if !trailer.end || trailer.sha256 != hex::encode(Sha256::digest(before)) {
        return Err(garbled("whose check sum is wrong"));
    }
    let mut lines = before
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    let header = lines.next().ok_or_else(|| garbled("without a header"))?;
    let header: SnapshotHeader =
        serde_json::from_slice(header).map_err(|_| garbled("without a header"))?;
    let changes: Vec<Change> = lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| garbled(&format!("with a record that cannot be read: {error}")))?;
    if changes.len() as u64 != trailer.records {
        return Err(garbled("with records missing"));
    }
    Ok(Snapshot { header, changes })
}

/// Writes a snapshot as a hub does, for tests.
#[cfg(test)]
fn write_snapshot(header: &SnapshotHeader, changes: &[Change]) -> Vec<u8> {
    fn line(out: &mut Vec<u8>, value: &impl serde::Serialize) {
        serde_json::to_writer(&mut *out, value).unwrap();
        out.push(b'\n');
    }
    let mut body = Vec::new();
    line(&mut body, header);
    changes.iter().for_each(|change| line(&mut body, change));
    let trailer = SnapshotTrailer {
        end: true,
        records: changes.len() as u64,
        sha256: hex::encode(Sha256::digest(&body)),
    };
    line(&mut body, &trailer);
    body
}

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(15);
const FEED_MARGIN: Duration = Duration::from_secs(5);
const SNAPSHOT_WAIT: Duration = Duration::from_secs(120);
/// A customer waits: the till decides without the hub after this.
const AUTHORISE_WAIT: Duration = Duration::from_millis(800);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const BUSY_WAIT: u64 = 5;
const BODY_MAX: usize = 64 << 20;
const ZSTD_LEVEL: i32 = 3;

#[cfg(test)]
mod tests {
    use sync_proto::{ProductRecord, Record};

    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            hub_epoch: 8,
            as_of: 190,
            hub_time: "2026-11-20T10:41:09Z".into(),
        }
    }

    fn changes() -> Vec<Change> {
        (1..=3)
            .map(|id| Change {
                rv: id as u64,
                record: Record::Product(ProductRecord {
                    id,
                    name: "Dagens ret".into(),
                    category: "Varmt".into(),
                    price: canteen::Money::from_kroner(22),
                    position: id,
                }),
            })
            .collect()
    }

    #[test]
    fn a_whole_snapshot_is_read() {
        let snapshot = read_snapshot(&write_snapshot(&header(), &changes())).unwrap();
        assert_eq!((snapshot.header, snapshot.changes), (header(), changes()));
        assert!(
            read_snapshot(&write_snapshot(&header(), &[]))
                .unwrap()
                .changes
                .is_empty()
        );
    }

    #[test]
    fn a_snapshot_cut_at_any_byte_is_refused() {
        let whole = write_snapshot(&header(), &changes());
        for end in 0..whole.len() - 1 {
            assert!(read_snapshot(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_snapshot_with_any_bit_flipped_is_refused_or_says_the_same() {
        let whole = write_snapshot(&header(), &changes());
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1;
            if let Ok(snapshot) = read_snapshot(&flipped) {
                assert_eq!(snapshot.changes, changes(), "flipped at {index}");
            }
        }
    }

    #[test]
    fn an_answer_that_unpacks_to_too_much_is_refused() {
        let bomb = zstd::encode_all(&*vec![0; BODY_MAX + 1], 19).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpack(&bomb), Err(HubError::Garbled(_))));
    }

    #[test]
    fn a_page_for_another_position_is_refused() {
        let after = FeedPosition {
            hub_epoch: 8,
            cursor: 0,
        };
        let page = |hub_epoch, from, changes: Vec<Change>| FeedPage {
            siblings: None,
            resend: None,
            hub_epoch,
            from,
            to: 3,
            more: false,
            hub_time: String::new(),
            changes,
        };
        assert!(check_page(page(8, 0, changes()), after).is_ok());
        assert!(check_page(page(9, 0, changes()), after).is_err());
        assert!(check_page(page(8, 1, changes()), after).is_err());
        let mut reversed = changes();
        reversed.reverse();
        assert!(check_page(page(8, 0, reversed), after).is_err());
    }
}
