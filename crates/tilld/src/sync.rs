//! The two conversations with the hub: entries go up, changes come down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use canteen::{AccountId, Money};
use jiff::Timestamp;
use sync_proto::{
    AuthoriseRequest, BATCH_MAX_BYTES, BatchRefusal, EnrolRequest, FeedRefusal, TillId, TillKey,
    TillReport, Upload, UploadFailure, UploadStep,
};
use till_ledger::{Ledger, Moment};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use uuid::Uuid;

use crate::contact::ContactBook;
use crate::hub::{Hub, HubError};
use crate::state_dir::{Enrolment, StateDir};

/// What both conversations share.
pub(crate) struct Sync {
    /// The till's name.
    pub(crate) till: TillId,
    /// Signs the heads.
    pub(crate) key: TillKey,
    /// The till's ledger.
    pub(crate) ledger: Ledger,
    /// The way to the hub.
    pub(crate) hub: Hub,
    /// Where contact is noted.
    pub(crate) contact: Arc<ContactBook>,
    /// Where the enrolment is kept.
    pub(crate) state: StateDir,
    /// The one-time code for the first contact.
    pub(crate) enrolment_code: Option<String>,
    /// The canteen's name, once known.
    pub(crate) canteen: watch::Sender<Option<String>>,
    /// What wakes the conversations.
    pub(crate) wake: Wake,
}

/// What wakes the conversations out of a wait.
#[derive(Default)]
pub(crate) struct Wake {
    upload: Notify,
    feed: Notify,
    urgent: AtomicBool,
    line_up: AtomicBool,
    sent: AtomicU64,
    applied: AtomicU64,
}

impl Wake {
    /// Something was written that must not wait.
    pub(crate) fn urgent(&self) {
        self.urgent.store(true, Ordering::Relaxed);
        self.upload.notify_one();
    }

    /// Somebody asks for everything now.
    pub(crate) fn now(&self) {
        self.line_up.store(true, Ordering::Relaxed);
        self.upload.notify_one();
        self.feed.notify_one();
    }

    /// How many entries were sent and changes applied since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.applied.load(Ordering::Relaxed),
        )
    }

    fn line_is_up(&self) {
        self.line_up.store(true, Ordering::Relaxed);
        self.upload.notify_one();
    }
}

/// What the feed's conversation remembers from page to page.
struct FeedRhythm {
    /// When contact was last written down.
    kept_at: Instant,
    /// When the hub's changes were last acknowledged by an entry of their own.
    acked_at: Option<Instant>,
    /// Changes were applied since.
    owes_ack: bool,
    /// Somebody may spend less since.
    ack_is_urgent: bool,
}

impl FeedRhythm {
    fn new() -> FeedRhythm {
        FeedRhythm {
            kept_at: Instant::now(),
            acked_at: None,
            owes_ack: false,
            ack_is_urgent: false,
        }
    }
}

impl Sync {
    /// Sends entries for as long as the program runs.
    pub(crate) async fn run_upload(self: Arc<Sync>) {
        let started = Instant::now();
        let mut upload = Upload::new();
        let mut head = self.ledger.watch();
        loop {
            if self.wake.urgent.swap(false, Ordering::Relaxed) {
                upload.handle_urgent(started.elapsed());
            }
            if self.wake.line_up.swap(false, Ordering::Relaxed) {
                upload.handle_line_up();
            }
            let waiting = if self.hub.is_enrolled() {
                self.waiting()
            } else {
                0
            };
            match upload.poll_step(waiting, started.elapsed()) {
                UploadStep::Send { entries } => match self.send(entries).await {
                    Ok(()) => upload.handle_stored(),
                    Err(failure) => {
                        upload.handle_failure(failure, random_jitter(), started.elapsed());
                    }
                },
                UploadStep::WaitUntil(moment) => {
                    let wait = moment.saturating_sub(started.elapsed());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.wake.upload.notified() => {}
                    }
                }
                UploadStep::Idle => {
                    tokio::select! {
                        changed = head.changed() => if changed.is_err() { return },
                        () = self.wake.upload.notified() => {}
                    }
                }
            }
        }
    }

    /// Follows the hub's changes for as long as the program runs.
    pub(crate) async fn run_feed(self: Arc<Sync>) {
        let mut failures = 0;
        let mut rhythm = FeedRhythm::new();
        loop {
            match self.follow(&mut rhythm).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    self.note(&error);
                    failures += 1;
                    let wait = match error {
                        HubError::Busy { retry_after } => retry_after.min(FEED_WAIT_MAX),
                        _ => back_off(failures),
                    };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.wake.feed.notified() => {}
                    }
                }
            }
        }
    }

    fn waiting(&self) -> u64 {
        self.ledger.progress().waiting()
    }

    async fn send(&self, entries: usize) -> Result<(), UploadFailure> {
        let report = TillReport {
            till_time: Timestamp::now().to_string(),
            unsent: self.waiting(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: None,
        };
        let batch = match self
            .ledger
            .batch(entries, BATCH_MAX_BYTES, &self.key, report)
        {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) => {
                warn!(%error, "Cannot read entries to send");
                return Err(UploadFailure::Refused);
            }
        };
        let count = batch.entries.len() as u64;
        match self.hub.push(&batch).await {
            Ok(answer) => {
                self.contact.answered(Timestamp::now());
                for result in &answer.results {
                    if let sync_proto::EntryFate::Quarantined { code } = &result.fate {
                        warn!(seq = result.seq, code, "The hub keeps an entry unbooked");
                    }
                }
                if let Err(error) = self
                    .ledger
                    .acknowledge(answer.accepted, answer.durable_through, Moment::now())
                    .await
                {
                    warn!(%error, "Ignored the hub's acknowledgement");
                    self.contact
                        .troubled(format!("the hub acknowledges what is not here: {error}"));
                    return Err(UploadFailure::Refused);
                }
                self.wake.sent.fetch_add(count, Ordering::Relaxed);
                info!(seq = answer.accepted.seq, count, "Sent entries");
                Ok(())
            }
            Err(error) => {
                self.note(&error);
                Err(self.upload_failure(error).await)
            }
        }
    }

    async fn upload_failure(&self, error: HubError) -> UploadFailure {
        match error {
            HubError::Busy { retry_after } => UploadFailure::Busy { retry_after },
            HubError::Batch(BatchRefusal::TooLarge) => UploadFailure::TooLarge,
            HubError::Batch(BatchRefusal::Gap { expected }) => {
                match self.ledger.resume_from(expected, Moment::now()).await {
                    Ok(()) => UploadFailure::Unanswered,
                    Err(error) => {
                        warn!(%error, expected, "The hub asks for entries that are not here");
                        UploadFailure::Refused
                    }
                }
            }
            HubError::Unreachable(_) | HubError::NotSigned | HubError::Garbled(_) => {
                UploadFailure::Unanswered
            }
            HubError::NotEnrolled
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::NotKept(_) => UploadFailure::Refused,
        }
    }

    /// One step down: enrol, fetch a snapshot, or one page of changes.
    async fn follow(&self, rhythm: &mut FeedRhythm) -> Result<(), HubError> {
        if !self.hub.is_enrolled() {
            self.enrol().await?;
        }
        let position = self.ledger.progress().feed;
        if position.hub_epoch == 0 {
            return self.fetch_snapshot().await;
        }
        let page = match self
            .hub
            .feed(position, self.ledger.position().map_err(local)?, FEED_WAIT)
            .await
        {
            Err(HubError::Feed(FeedRefusal::SnapshotRequired)) => {
                return self.fetch_snapshot().await;
            }
            other => other?,
        };
        self.heard();
        let count = page.changes.len() as u64;
        let moves = page.to != position.cursor;
        if moves || rhythm.kept_at.elapsed() > CONTACT_KEPT_EVERY {
            let applied = self
                .ledger
                .apply_page(page, Moment::now())
                .await
                .map_err(local)?;
            rhythm.kept_at = Instant::now();
            rhythm.owes_ack |= moves;
            rhythm.ack_is_urgent |= applied.urgent;
            self.wake.applied.fetch_add(count, Ordering::Relaxed);
        }
        self.acknowledge_feed(rhythm).await
    }

    /// Tells the hub by an entry how far its changes are applied: soon when it waits to hear that
    /// somebody may spend less, else now and then.
    async fn acknowledge_feed(&self, rhythm: &mut FeedRhythm) -> Result<(), HubError> {
        let pause = if rhythm.ack_is_urgent {
            URGENT_ACK_EVERY
        } else {
            ACK_EVERY
        };
        if !rhythm.owes_ack || rhythm.acked_at.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        self.ledger
            .feed_ack(Uuid::now_v7(), Moment::now())
            .await
            .map_err(local)?;
        *rhythm = FeedRhythm {
            kept_at: rhythm.kept_at,
            acked_at: Some(Instant::now()),
            ..FeedRhythm::new()
        };
        Ok(())
    }

    /// Asks the hub for a higher ceiling on an account and applies what it gives. Whether that is
    /// enough, the next decision tells.
    pub(crate) async fn ask_for_more(&self, account: AccountId, need: Money, entry_id: Uuid) {
        let asked = async {
            let position = self.ledger.position().map_err(local)?;
            let request = AuthoriseRequest {
                account,
                need,
                entry_id,
                position,
            };
            let Some(records) = self.hub.authorise(&request).await? else {
                return Ok(());
            };
            self.ledger
                .apply_records(records, Moment::now())
                .await
                .map_err(local)?;
            Ok::<(), HubError>(())
        };
        if let Err(error) = asked.await {
            info!(%error, account = account.0, "No higher ceiling for an account");
        }
    }

    fn heard(&self) {
        let was_online = self
            .contact
            .now(Timestamp::now())
            .contact
            .is_some_and(|contact| contact.online);
        self.contact.heard(Timestamp::now());
        if !was_online {
            info!("The hub answers");
            self.wake.line_is_up();
        }
    }

    async fn fetch_snapshot(&self) -> Result<(), HubError> {
        let snapshot = self
            .hub
            .snapshot(self.ledger.position().map_err(local)?)
            .await?;
        let count = snapshot.changes.len() as u64;
        self.ledger
            .apply_snapshot(snapshot.header, snapshot.changes, Moment::now())
            .await
            .map_err(local)?;
        self.wake.applied.fetch_add(count, Ordering::Relaxed);
        info!(count, "Took a snapshot of accounts");
        self.heard();
        Ok(())
    }

    async fn enrol(&self) -> Result<(), HubError> {
        let Some(code) = &self.enrolment_code else {
            return Err(HubError::NotEnrolled);
        };
        let epoch = self.ledger.identity().epoch;
        let request = EnrolRequest {
            till: self.till.clone(),
            code: code.clone(),
            epoch,
            public_key: self.key.public(),
        };
        let answer = self.hub.enrol(&request).await?;
        let enrolment = Enrolment {
            till: self.till.clone(),
            epoch,
            hub_url: self.hub.url().to_owned(),
            token: answer.token,
            hub_key: Some(answer.hub_key),
            canteen: answer.canteen.clone(),
        };
        self.state.keep_enrolment(&enrolment).map_err(local)?;
        self.hub.set_credentials(enrolment.credentials());
        self.canteen.send_replace(Some(answer.canteen));
        self.wake.line_is_up();
        info!(%epoch, hub_key = %answer.hub_key, "Enrolled at the hub");
        Ok(())
    }

    fn note(&self, error: &HubError) {
        let now = Timestamp::now();
        let was_online = self
            .contact
            .now(now)
            .contact
            .is_some_and(|contact| contact.online);
        if error.is_contact() {
            self.contact.answered(now);
            match error.standing() {
                Some(standing) => self.contact.stands(standing, error.to_string()),
                None => self.contact.troubled(error.to_string()),
            }
            warn!(%error, "The hub refuses");
        } else {
            self.contact.lost(now, error.to_string());
            if was_online {
                warn!(%error, "The hub does not answer; sales go on");
            }
        }
    }
}

/// A failure of the till's own disk on the way: the hub's answer could not be kept.
fn local(error: impl std::fmt::Display) -> HubError {
    HubError::NotKept(error.to_string())
}

fn back_off(failures: u32) -> Duration {
    let most = (FEED_WAIT_FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(8)))
        .min(FEED_WAIT_MAX);
    FEED_WAIT_FIRST / 2 + most * u32::from(random_jitter()) / u32::from(u16::MAX)
}

fn random_jitter() -> u16 {
    let mut bytes = [0; 2];
    // Without random numbers all tills wait equally long, which is all that jitter is against.
    let _ = getrandom::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

/// How long the hub may hold a request for changes; a dead line shows within this and a margin.
const FEED_WAIT: Duration = Duration::from_secs(10);
const FEED_WAIT_FIRST: Duration = Duration::from_millis(400);
const FEED_WAIT_MAX: Duration = Duration::from_secs(10);
/// The least time between two acknowledgements that the hub waits for.
const URGENT_ACK_EVERY: Duration = Duration::from_secs(1);
/// How often changes are acknowledged that nobody waits for.
const ACK_EVERY: Duration = Duration::from_secs(60);
/// A quiet hub's contact is written down this often, so that a restart knows of it.
const CONTACT_KEPT_EVERY: Duration = Duration::from_secs(600);
