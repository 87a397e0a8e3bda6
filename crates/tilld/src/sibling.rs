//! While the hub is away the till asks the canteen's other tills what they have sold, so that
//! nobody buys twice for the same money.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::{Client, StatusCode};
use sync_proto::{
    BATCH_MAX_ENTRIES, Batch, CALLER, CALLER_NONCE, CALLER_SIGNATURE, CALLER_TIME, TillId,
    journal_path, pull_message,
};
use till_ledger::SiblingStand;
use tracing::{debug, info, warn};

use crate::answer::ask;
use crate::contact::Hears;
use crate::sync::Sync;

/// Why a sibling's entries are not here.
#[derive(Debug, thiserror::Error)]
enum SiblingError {
    /// It does not answer, or with something else.
    #[error("it does not answer ({0})")]
    Silent(String),
    /// It refuses.
    #[error("it refuses with status {0}")]
    Refused(StatusCode),
    /// What it gave is not believed, or cannot be kept.
    #[error(transparent)]
    NotHeard(#[from] till_ledger::LedgerError),
    /// There are no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
}

impl Sync {
    /// Asks the siblings for as long as the program runs and the hub does not answer.
    pub(crate) async fn run_siblings(self: Arc<Sync>, http: Client) {
        let mut heard: BTreeMap<TillId, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(EVERY).await;
            if self.hub_answers() {
                heard.clear();
                self.contact.hears(None);
                continue;
            }
            let siblings = self.ledger.siblings();
            for stand in &siblings {
                let till = &stand.sibling.till;
                match self.hear(&http, stand.clone()).await {
                    Ok(entries) => {
                        if heard.insert(till.clone(), Instant::now()).is_none() {
                            info!(sibling = %till, entries, "Hears a sibling while the hub is away");
                        }
                    }
                    Err(SiblingError::NotHeard(error)) => {
                        warn!(sibling = %till, %error, "A sibling's entries are left alone");
                    }
                    Err(error) => debug!(sibling = %till, %error, "Does not hear a sibling"),
                }
            }
            heard.retain(|till, at| {
                let known = siblings.iter().any(|stand| stand.sibling.till == *till);
                known && at.elapsed() < HEARD_LATELY
            });
            self.contact.hears((!siblings.is_empty()).then_some(Hears {
                heard: heard.len(),
                of: siblings.len(),
            }));
        }
    }

    /// Fetches what a sibling has written since it was last heard; how many entries.
    async fn hear(&self, http: &Client, stand: SiblingStand) -> Result<usize, SiblingError> {
        let silent = || SiblingError::Silent("it told no address".into());
        let address = stand.sibling.address.clone().ok_or_else(silent)?;
        let mut after = stand.heard.seq;
        let mut entries = 0;
        for _ in 0..BATCHES_AT_ONCE {
            let Some(batch) = self.fetch(http, &address, &stand, after).await? else {
                break;
            };
            after = batch.head.seq;
            entries += self.ledger.hear_sibling(batch).await?;
        }
        Ok(entries)
    }

    async fn fetch(
        &self,
        http: &Client,
        address: &str,
        stand: &SiblingStand,
        after: u64,
    ) -> Result<Option<Batch>, SiblingError> {
        let path = journal_path(stand.sibling.epoch, after, BATCH_MAX_ENTRIES);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| SiblingError::Random)?;
        let (nonce, time) = (hex::encode(nonce), Timestamp::now().to_string());
        let caller = self.till.as_str();
        let message = pull_message(&stand.sibling.till, caller, &path, &time, &nonce);
        let request = http
            .get(format!("{}{path}", address.trim_end_matches('/')))
            .header(ACCEPT_ENCODING, "zstd")
            .header(CALLER, caller)
            .header(CALLER_TIME, &time)
            .header(CALLER_NONCE, &nonce)
            .header(CALLER_SIGNATURE, self.key.sign(&message).to_string());
        let silent = |error: crate::hub::HubError| SiblingError::Silent(error.to_string());
        let answer = ask(http, request).await.map_err(silent)?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => answer.json().map(Some).map_err(silent),
            status => Err(SiblingError::Refused(status)),
        }
    }
}

/// The way to siblings: in the same building, so that a silent one is found out soon.
pub(crate) fn client() -> anyhow::Result<Client> {
    Ok(Client::builder()
        .connect_timeout(CONNECT_WAIT)
        .timeout(ANSWER_WAIT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tilld/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .build()?)
}

/// Well inside what a sibling allows.
const EVERY: Duration = Duration::from_secs(3);
const HEARD_LATELY: Duration = Duration::from_secs(15);
const BATCHES_AT_ONCE: usize = 10;
const CONNECT_WAIT: Duration = Duration::from_secs(2);
const ANSWER_WAIT: Duration = Duration::from_secs(5);
