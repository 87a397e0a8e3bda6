//! Fetching the entries of tills that serve them: the same bytes as those that tills push, into the
//! same books, so that it does not matter who was first.

use std::sync::Arc;
use std::time::Duration;

use hub_ledger::Reachable;
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use sync_proto::{
    BATCH_MAX_ENTRIES, Batch, BatchRefusal, CALLER, CALLER_HUB, CALLER_NONCE, CALLER_SIGNATURE,
    CALLER_TIME, HubKey, journal_path, pull_message,
};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::books::{Books, BooksError};

/// Fetches entries from tills.
#[derive(Clone)]
pub struct Puller {
    books: Books,
    http: Client,
    key: Arc<HubKey>,
}

/// What was fetched from a till.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// How many entries it served.
    pub(crate) entries: u64,
    /// The hub has its entries up to here.
    pub(crate) accepted_through: u64,
}

/// Why nothing, or not everything, was fetched.
#[derive(Debug, Error)]
pub enum PullError {
    /// The till does not answer.
    #[error("{address} does not answer ({reason})")]
    Unreachable {
        /// Where it was asked.
        address: String,
        /// Why.
        reason: String,
    },
    /// It answers something else than entries.
    #[error("{address} answers {what}; is it another machine, or its clock wrong?")]
    NoEntries {
        /// Where it was asked.
        address: String,
        /// What it said.
        what: String,
    },
    /// The entries cannot be stored.
    #[error("the entries cannot be stored: {0:?}")]
    Refused(BatchRefusal),
    /// The hub's own store does not answer.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The operating system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Puller {
    /// Signs what it asks with the hub's key.
    pub fn new(books: Books, key: Arc<HubKey>) -> reqwest::Result<Puller> {
        let http = Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(ANSWER_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("hubd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Puller { books, http, key })
    }

    /// Looks after tills that were not heard for `silence`, until the program ends.
    pub async fn run(self, silence: Duration, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(silence) => {}
                // An error means that the program has ended already.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            if let Err(error) = self.look_after_silent(silence).await {
                warn!(%error, "Cannot look which tills are silent");
            }
        }
    }

    async fn look_after_silent(&self, silence: Duration) -> Result<(), BooksError> {
        let since = Timestamp::now()
            .checked_sub(silence)
            .unwrap_or(Timestamp::MIN);
        let silent = self.books.read(move |books| books.silent_tills(since));
        for till in silent.await? {
            let name = till.access.till.clone();
            match self.pull(till).await {
                Ok(pulled) if pulled.entries > 0 => {
                    info!(till = %name, entries = pulled.entries, "Fetched entries");
                }
                Ok(_) => {}
                Err(error) => debug!(till = %name, %error, "Cannot fetch entries"),
            }
        }
        Ok(())
    }

    /// Fetches everything that a till has and the hub has not.
    pub(crate) async fn pull(&self, mut till: Reachable) -> Result<Pulled, PullError> {
        let mut entries = 0;
        while let Some(batch) = self.fetch(&till).await? {
            let access = till.access.clone();
            let came = batch.entries.len() as u64;
            let answer = self
                .books
                .write(move |books| books.ingest(&access, &batch, Timestamp::now()))
                .await?;
            let through = answer.map_err(PullError::Refused)?.accepted.seq;
            entries += came;
            // A till that serves the same again and again is not asked for ever.
            if through <= till.accepted_through {
                break;
            }
            till.accepted_through = through;
        }
        Ok(Pulled {
            entries,
            accepted_through: till.accepted_through,
        })
    }

    async fn fetch(&self, till: &Reachable) -> Result<Option<Batch>, PullError> {
        let path = journal_path(till.epoch, till.accepted_through, BATCH_MAX_ENTRIES);
        let time = Timestamp::now().to_string();
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| PullError::Random)?;
        let nonce = hex::encode(nonce);
        let message = pull_message(&till.access.till, CALLER_HUB, &path, &time, &nonce);
        let asking = self
            .http
            .get(format!("{}{path}", till.address))
            .header(CALLER, CALLER_HUB)
            .header(CALLER_TIME, time)
            .header(CALLER_NONCE, nonce)
            .header(CALLER_SIGNATURE, self.key.sign(&message).to_string());
        let unreachable = |error: reqwest::Error| PullError::Unreachable {
            address: till.address.clone(),
            reason: error.without_url().to_string(),
        };
        let no_entries = |what: String| PullError::NoEntries {
            address: till.address.clone(),
            what,
        };
        let mut answer = asking.send().await.map_err(unreachable)?;
        match answer.status() {
            StatusCode::NO_CONTENT => return Ok(None),
            StatusCode::OK => {}
            other => return Err(no_entries(format!("status {other}"))),
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_MAX {
                return Err(no_entries(format!("more than {ANSWER_MAX} bytes")));
            }
        }
        let batch: Batch =
            serde_json::from_slice(&body).map_err(|error| no_entries(error.to_string()))?;
        Ok(Some(batch))
    }
}

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// More than the largest batch, with its escapes.
const ANSWER_MAX: usize = 8 << 20;
