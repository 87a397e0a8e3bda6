//! What the conversations with the hub share: who the till is, what wakes them, what they note.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use canteen::{AccountId, Money};
use jiff::Timestamp;
use sync_proto::{AuthoriseRequest, EnrolRequest, Resend, TillId, TillKey};
use till_ledger::{Ledger, Moment};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::chip_keys::KeyCase;
use crate::contact::ContactBook;
use crate::hub::{Hub, HubError};
use crate::standing::Standing;
use crate::state_dir::{Enrolment, KeptStanding, Renewal, StateDir, fingerprint};

/// What all conversations share.
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
    pub(crate) enrolment_code: RwLock<Option<String>>,
    /// Where hub and siblings may fetch this till's entries, if anywhere.
    pub(crate) address: Option<String>,
    /// The till's own mark knows of more entries than its ledger has.
    pub(crate) rolled_back: Option<u64>,
    /// A new life of the ledger that is under way.
    pub(crate) renewal: watch::Sender<Option<Renewal>>,
    /// The canteen's name, once known.
    pub(crate) canteen: watch::Sender<Option<String>>,
    /// The keys of the canteen's chips.
    pub(crate) keys: KeyCase,
    /// What wakes the conversations.
    pub(crate) wake: Wake,
}

/// What wakes the conversations out of a wait.
#[derive(Default)]
pub(crate) struct Wake {
    pub(crate) upload: Notify,
    pub(crate) feed: Notify,
    pub(crate) urgent: AtomicBool,
    pub(crate) line_up: AtomicBool,
    pub(crate) sent: AtomicU64,
    pub(crate) applied: AtomicU64,
    /// The hub does not take this ledger's entries in any way.
    pub(crate) undeliverable: AtomicBool,
    /// Somebody wants to know now whether the hub has what it has acknowledged.
    pub(crate) old_ledgers: AtomicBool,
    /// What the hub wants to have once more.
    pub(crate) resend: Mutex<Option<Resend>>,
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
        self.old_ledgers.store(true, Ordering::Relaxed);
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

    /// The hub answers again.
    pub(crate) fn line_is_up(&self) {
        self.line_up.store(true, Ordering::Relaxed);
        self.upload.notify_one();
    }
}

impl Sync {
    /// Whether the hub answers, whatever it thinks of this till.
    pub(crate) fn hub_answers(&self) -> bool {
        self.contact.now(Timestamp::now()).answers
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

    /// Makes this till known to the hub.
    pub(crate) async fn enrol(&self) -> Result<(), HubError> {
        let code = self
            .enrolment_code
            .read()
            .ok()
            .and_then(|code| code.clone());
        let code = code.ok_or(HubError::NotEnrolled)?;
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
            code: Some(fingerprint(&code)),
            at: Some(self.ledger.progress().time.at(Moment::now())),
        };
        self.state.keep_enrolment(&enrolment).map_err(local)?;
        self.hub.set_credentials(enrolment.credentials());
        self.stand(Standing::Good).await;
        self.canteen.send_replace(Some(answer.canteen));
        self.wake.line_is_up();
        info!(%epoch, hub_key = %answer.hub_key, "Enrolled at the hub");
        Ok(())
    }

    /// Notes what went wrong, and what that says of the till.
    pub(crate) async fn note(&self, error: &HubError) {
        let now = Timestamp::now();
        let known = self.contact.now(now).trouble;
        if error.is_contact() {
            self.contact.answered(now);
            match error.standing() {
                Some(standing) => self.stand(standing).await,
                None => self.contact.troubled(error.to_string()),
            }
        } else {
            self.contact.lost(now, error.to_string());
        }
        // The same again, every few seconds for days, would push everything else out of the log.
        let is_news = self.contact.now(now).trouble != known;
        match (is_news, error.is_contact()) {
            (true, true) => warn!(%error, "The hub refuses"),
            (true, false) => warn!(%error, "The hub does not answer; sales go on"),
            (false, _) => debug!(%error, "The hub still does not do what it is asked"),
        }
    }
}

impl Sync {
    /// From now on the till stands so. What follows from it is done once.
    pub(crate) async fn stand(&self, standing: Standing) {
        let before = self.contact.standing();
        if !self.contact.stands(standing) {
            return;
        }
        let kept = KeptStanding {
            epoch: self.ledger.identity().epoch,
            standing,
        };
        if let Err(error) = self.state.keep_standing(&kept) {
            warn!(%error, "How the till stands could not be kept");
        }
        match standing {
            Standing::Good => {}
            Standing::Forked { agreed_through } if before.is_good() => {
                // The hub may have acknowledged entries of another copy: all after the fork go up.
                self.resume_after(agreed_through).await;
            }
            Standing::Revoked => self.forget_people().await,
            Standing::Forked { .. } | Standing::RolledBack { .. } | Standing::NotEnrolled => {}
        }
        self.wake.line_is_up();
    }

    async fn resume_after(&self, seq: u64) {
        let head = self.ledger.progress().head.seq;
        let resumed = self.ledger.resume_from(seq.min(head) + 1, Moment::now());
        if let Err(error) = resumed.await {
            warn!(%error, "Entries after a fork cannot be sent");
        }
    }

    /// A till that was revoked keeps nobody's data, and no key of a chip.
    pub(crate) async fn forget_people(&self) {
        if let Err(error) = self.keys.take(None, &self.state, &self.key) {
            warn!(%error, "Chip keys could not be erased; it is tried at the next start");
        }
        match self.ledger.forget_people(Moment::now()).await {
            Ok(()) => info!("Erased what the till knew of people"),
            Err(error) => {
                warn!(%error, "People could not be erased; it is tried at the next start")
            }
        }
    }
}

/// A failure of the till's own disk on the way: the hub's answer could not be kept.
pub(crate) fn local(error: impl std::fmt::Display) -> HubError {
    HubError::NotKept(error.to_string())
}

/// How long to wait after so many failures, never the same for two tills.
pub(crate) fn back_off(failures: u32) -> Duration {
    let most = (FEED_WAIT_FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(8)))
        .min(FEED_WAIT_MAX);
    FEED_WAIT_FIRST / 2 + most * u32::from(random_jitter()) / u32::from(u16::MAX)
}

/// Spreads what many tills do.
pub(crate) fn random_jitter() -> u16 {
    let mut bytes = [0; 2];
    // Without random numbers all tills wait equally long, which is all that jitter is against.
    let _ = getrandom::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

const FEED_WAIT_FIRST: Duration = Duration::from_millis(400);
const FEED_WAIT_MAX: Duration = Duration::from_secs(10);
