//! The hub as the till reaches it: one method per path, every failure with its kind.

use std::sync::RwLock;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, StatusCode};
use sha2::{Digest, Sha256};
use sync_proto::{
    AuthoriseRequest, Batch, BatchAnswer, BatchRefusal, Change, Denylist, EnrolAnswer,
    EnrolRequest, FeedPage, FeedPosition, FeedRecords, FeedRefusal, HubPublicKey, Sealed,
    SnapshotHeader, SnapshotTrailer, TillId, TillPosition,
};
use thiserror::Error;

use crate::answer::{Answer, ask};
use crate::certificate::{CertificateDates, TillTime, Vouching, tls};
use crate::config::Config;
use crate::standing::Standing;

/// The way to the hub.
pub(crate) struct Hub {
    http: Client,
    /// For the first contact, whose answer nothing but the certificate vouches for.
    first_contact: Client,
    url: String,
    till: TillId,
    credentials: RwLock<Option<Credentials>>,
}

/// What till and hub know each other by.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Sent with every request; a secret.
    pub(crate) token: String,
    /// What the hub signs its answers with.
    pub(crate) hub_key: HubPublicKey,
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
    /// The hub itself failed at what it was asked.
    #[error("the hub fails ({0})")]
    Failed(String),
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
    /// The hub has told this till more than it knows itself, in the same life of its database.
    #[error(
        "the hub knows less than it has told this till (change {as_of}, and {cursor} before): an older \
         copy of its database was put in place without `hubd restore`; sales go on (runbook page \
         hub-restored.md)"
    )]
    Behind {
        /// The last change that the till has from it.
        cursor: u64,
        /// The last change that it knows.
        as_of: u64,
    },
    /// The hub's certificate does not count at the time that the till goes by.
    #[error(
        "the hub's certificate does not count now ({0}); set this till's clock if it is wrong (runbook \
         page clock.md), else ask whoever runs the hub for a new certificate"
    )]
    Certificate(CertificateDates),
    /// Who answers cannot show that it is the hub.
    #[error(
        "the certificate of what answers is not trusted ({0}); see that hub.url names the hub as its \
         certificate does, and hub.ca_file its authority when that is not a public one; a network \
         that inspects the line shows a certificate of its own, too"
    )]
    Untrusted(String),
    /// What answers at the configured address is something else.
    #[error(
        "what answers is no hub (status {0}); see that hub.url is right and that no login page of the \
         network answers in its place"
    )]
    NoHub(StatusCode),
    /// The answer is not from the hub, or was changed on its way.
    #[error(
        "what answers is not the hub that this till was enrolled at, or the network changes what the \
         hub says; sales go on without it: ask whoever runs the network not to inspect the till's line"
    )]
    NotSigned,
    /// The answer is not what the protocol says; it may be the login page of a school's network.
    #[error(
        "the hub's answer cannot be used ({0}); see that hub.url is right and that no login page of the \
         network answers in its place"
    )]
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
            | HubError::Batch(BatchRefusal::NotEnrolled)
            | HubError::Feed(FeedRefusal::NotEnrolled) => Some(Standing::NotEnrolled),
            HubError::Batch(BatchRefusal::Revoked) | HubError::Feed(FeedRefusal::Revoked) => {
                Some(Standing::Revoked)
            }
            HubError::Batch(BatchRefusal::Fork { agreed_through })
            | HubError::Feed(FeedRefusal::Fork { agreed_through }) => Some(Standing::Forked {
                agreed_through: *agreed_through,
            }),
            HubError::Feed(FeedRefusal::Rollback { accepted_seq }) => Some(Standing::RolledBack {
                known_through: *accepted_seq,
            }),
            HubError::Unreachable(_)
            | HubError::Failed(_)
            | HubError::Busy { .. }
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::Behind { .. }
            | HubError::Certificate(_)
            | HubError::Untrusted(_)
            | HubError::NoHub(_)
            | HubError::NotSigned
            | HubError::Garbled(_)
            | HubError::NotKept(_) => None,
        }
    }

    /// Whether the hub was reached at all.
    pub(crate) fn is_contact(&self) -> bool {
        match self {
            HubError::Unreachable(_)
            | HubError::Failed(_)
            | HubError::Certificate(_)
            | HubError::Untrusted(_)
            | HubError::NoHub(_)
            | HubError::NotSigned
            | HubError::Garbled(_) => false,
            HubError::Busy { .. }
            | HubError::NotEnrolled
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::Behind { .. }
            | HubError::NotKept(_) => true,
        }
    }
}

impl Hub {
    /// A client for the configured hub; nothing is sent yet.
    pub(crate) fn new(config: &Config, time: &TillTime) -> anyhow::Result<Hub> {
        Ok(Hub {
            http: client(config, time, Vouching::Signature)?,
            first_contact: client(config, time, Vouching::Certificate)?,
            url: config.hub_url.clone(),
            till: config.till.clone(),
            credentials: RwLock::new(None),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the till and the hub know each other.
    pub(crate) fn is_enrolled(&self) -> bool {
        self.credentials().is_some()
    }

    /// From now on the till shows this token and believes this key.
    pub(crate) fn set_credentials(&self, credentials: Option<Credentials>) {
        if let Ok(mut known) = self.credentials.write() {
            *known = credentials;
        }
    }

    /// Makes the till known to the hub. The hub's key comes with the answer, which only the code
    /// and the line vouch for.
    pub(crate) async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, HubError> {
        let sending = self
            .first_contact
            .post(format!("{}/v1/enrolments", self.url))
            .json(request);
        let answer = ask(&self.first_contact, sending).await?;
        match answer.status {
            status if status.is_success() => answer.json(),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(answer.enrolment_refusal())
            }
            status if status.is_redirection() => Err(HubError::NoHub(status)),
            _ => Err(answer.failure()),
        }
    }

    /// Sends entries.
    pub(crate) async fn push(&self, batch: &Batch) -> Result<BatchAnswer, HubError> {
        let sending = self.packed("batches", batch)?;
        batch_answer(&self.ask(sending).await?)
    }

    /// Sends entries to be kept unread.
    pub(crate) async fn push_raw(&self, batch: &Batch) -> Result<BatchAnswer, HubError> {
        let sending = self.packed("raw", batch)?;
        batch_answer(&self.ask(sending).await?)
    }

    /// Sends entries of a ledger that the hub no longer takes for this till's; the signed head says
    /// enough of where they come from.
    pub(crate) async fn push_branch(&self, batch: &Batch) -> Result<BatchAnswer, HubError> {
        let credentials = self.credentials().ok_or(HubError::NotEnrolled)?;
        let sending = self.packed("branch", batch)?;
        let sending = sending.header(ACCEPT_ENCODING, "zstd");
        let answer = ask(&self.http, sending).await?;
        batch_answer(&answer.check(&self.till, &credentials.hub_key)?)
    }

    fn packed(&self, last: &str, batch: &Batch) -> Result<RequestBuilder, HubError> {
        let json =
            serde_json::to_vec(batch).map_err(|error| HubError::Garbled(error.to_string()))?;
        let body = zstd::encode_all(json.as_slice(), ZSTD_LEVEL)
            .map_err(|error| HubError::Garbled(error.to_string()))?;
        Ok(self
            .http
            .post(self.path(last))
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "zstd")
            .body(body))
    }

    /// Asks for the newest statuses after a version.
    pub(crate) async fn denylist(
        &self,
        hub_epoch: u64,
        after: u64,
        stand: TillPosition,
    ) -> Result<Denylist, HubError> {
        let sending = self
            .http
            .get(self.path("denylist"))
            .query(&[("hub_epoch", hub_epoch), ("after", after)])
            .query(&stand);
        let answer = self.ask(sending).await?;
        if answer.status.is_success() {
            return answer.json();
        }
        answer.refusal(HubError::Feed)
    }

    /// Asks for leave to sell more on an account; `None` when nothing more can be given.
    pub(crate) async fn authorise(
        &self,
        request: &AuthoriseRequest,
    ) -> Result<Option<FeedRecords>, HubError> {
        let sending = self
            .http
            .post(self.path("authorise"))
            .json(request)
            .timeout(AUTHORISE_WAIT);
        let answer = self.ask(sending).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => answer.json().map(Some),
            _ => answer.refusal(HubError::Feed),
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
            .http
            .get(self.path("feed"))
            .query(&[
                ("hub_epoch", after.hub_epoch),
                ("cursor", after.cursor),
                ("wait", wait.as_secs()),
            ])
            .query(&stand)
            .timeout(wait + FEED_MARGIN);
        let answer = self.ask(sending).await?;
        if answer.status.is_success() {
            return check_page(answer.json()?, after);
        }
        answer.refusal(HubError::Feed)
    }

    /// Fetches everything a till needs.
    pub(crate) async fn snapshot(&self, stand: TillPosition) -> Result<Snapshot, HubError> {
        let sending = self
            .http
            .get(self.path("snapshot"))
            .query(&stand)
            .timeout(SNAPSHOT_WAIT);
        let answer = self.ask(sending).await?;
        if answer.status.is_success() {
            return read_snapshot(&answer.body);
        }
        answer.refusal(HubError::Feed)
    }

    /// Fetches the keys of the canteen's chips; `None` when no chip there proves itself.
    ///
    /// The number in the question keeps an older answer from being taken for this one, with keys
    /// that were revoked since.
    pub(crate) async fn chip_keys(&self) -> Result<Option<Sealed>, HubError> {
        let mut once = [0; 16];
        getrandom::fill(&mut once).map_err(|error| HubError::NotKept(error.to_string()))?;
        let sending = self
            .http
            .get(self.path("chip-keys"))
            .query(&[("once", hex::encode(once))])
            .timeout(SNAPSHOT_WAIT);
        let answer = self.ask(sending).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => answer.json().map(Some),
            _ => answer.refusal(HubError::Feed),
        }
    }

    fn path(&self, last: &str) -> String {
        format!("{}/v1/tills/{}/{last}", self.url, self.till)
    }

    /// Asks as the till that it is, and believes only what the hub has signed.
    async fn ask(&self, request: RequestBuilder) -> Result<Answer, HubError> {
        let credentials = self.credentials().ok_or(HubError::NotEnrolled)?;
        let request = request
            .header(ACCEPT_ENCODING, "zstd")
            .bearer_auth(&credentials.token);
        let answer = ask(&self.http, request).await?;
        answer.check(&self.till, &credentials.hub_key)
    }

    /// What the hub signs with, once the two know each other.
    pub(crate) fn hub_key(&self) -> Option<HubPublicKey> {
        self.credentials().map(|known| known.hub_key)
    }

    fn credentials(&self) -> Option<Credentials> {
        self.credentials.read().ok().and_then(|known| known.clone())
    }
}

fn client(config: &Config, time: &TillTime, vouching: Vouching) -> anyhow::Result<Client> {
    let http = Client::builder()
        .connect_timeout(CONNECT_WAIT)
        .timeout(ANSWER_WAIT)
        .tcp_keepalive(KEEP_ALIVE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tilld/", env!("CARGO_PKG_VERSION")))
        .no_proxy();
    if !config.hub_url.starts_with("https:") {
        return Ok(http.build()?);
    }
    let tls = tls(config.ca_file.as_deref(), time.clone(), vouching)?;
    Ok(http.tls_backend_preconfigured(tls).build()?)
}

fn batch_answer(answer: &Answer) -> Result<BatchAnswer, HubError> {
    if answer.status.is_success() {
        return answer.json();
    }
    if answer.status == StatusCode::PAYLOAD_TOO_LARGE {
        return Err(HubError::Batch(BatchRefusal::TooLarge));
    }
    answer.refusal(HubError::Batch)
}

fn batch_words(refusal: &BatchRefusal) -> String {
    match refusal {
        BatchRefusal::Gap { expected } => format!("it expects entry {expected} first"),
        BatchRefusal::Fork { agreed_through } => Standing::Forked {
            agreed_through: *agreed_through,
        }
        .words(),
        BatchRefusal::BadChain => "they do not hold together; they are sent again".into(),
        BatchRefusal::NotEnrolled => Standing::NotEnrolled.words(),
        BatchRefusal::Revoked => Standing::Revoked.words(),
        BatchRefusal::TooLarge => "they are too many at once".into(),
    }
}

fn feed_words(refusal: &FeedRefusal) -> String {
    match refusal {
        FeedRefusal::SnapshotRequired => "the till must take a snapshot".into(),
        FeedRefusal::NotEnrolled => Standing::NotEnrolled.words(),
        FeedRefusal::Revoked => Standing::Revoked.words(),
        FeedRefusal::Fork { agreed_through } => Standing::Forked {
            agreed_through: *agreed_through,
        }
        .words(),
        FeedRefusal::Rollback { accepted_seq } => Standing::RolledBack {
            known_through: *accepted_seq,
        }
        .words(),
    }
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
    fn sy_16_a_snapshot_cut_at_any_byte_is_refused() {
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
