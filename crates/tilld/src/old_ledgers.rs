//! Ledgers that say nothing new, and a hub that may have lost what they said: when the hub was put
//! back to an older state, it lacks sales that it acknowledged before.
//!
//! The till's own ledger is told so by the hub. One whose life has ended is not, nor one that goes up
//! as a branch: there the till asks by sending the last entry once more. A hub that has it answers so;
//! another one says from where on it lacks them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sync_proto::{BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, BatchRefusal};
use till_ledger::{LedgerError, Moment, Reader, read_put_away};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::contact::Alarm;
use crate::hub::HubError;
use crate::standing::Standing;
use crate::sync::{Sync, local};

/// What the till asked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// The life of the hub that the till has heard of.
    hub_epoch: u64,
    standing: Standing,
    at: Instant,
}

impl Sync {
    /// Sees to it that the hub has everything of ended ledgers and of branches, for as long as the
    /// program runs.
    pub(crate) async fn run_old_ledgers(self: Arc<Sync>) {
        let mut last: Option<Look> = None;
        loop {
            tokio::time::sleep(TICK).await;
            let look = Look {
                hub_epoch: self.ledger.progress().feed.hub_epoch,
                standing: self.contact.standing(),
                at: Instant::now(),
            };
            let is_due = last.is_none_or(|last| {
                let is_news = (last.hub_epoch, last.standing) != (look.hub_epoch, look.standing);
                is_news || look.at - last.at >= LOOK_EVERY
            });
            let can_ask = self.hub.is_enrolled() && self.hub_answers();
            if !can_ask || !(self.wake.old_ledgers.swap(false, Ordering::Relaxed) || is_due) {
                continue;
            }
            match self.look_after_all().await {
                Ok(()) => last = Some(look),
                Err(error) => {
                    warn!(%error, "Cannot ask whether the hub has everything of before");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn look_after_all(&self) -> Result<(), HubError> {
        self.look_after_old_ledgers().await?;
        self.look_after_branch().await
    }

    /// Goes back to the entry from which on the hub lacks this ledger, when it goes up as a branch.
    async fn look_after_branch(&self) -> Result<(), HubError> {
        let progress = self.ledger.progress();
        if self.contact.standing().is_good() || progress.waiting() > 0 || progress.head.seq == 0 {
            return Ok(());
        }
        let batch = self
            .ledger
            .batch_after(
                progress.head.seq - 1,
                1,
                BATCH_MAX_BYTES,
                &self.key,
                self.report(),
            )
            .map_err(local)?;
        let Some(batch) = batch else { return Ok(()) };
        match self.hub.push_branch(&batch).await {
            Ok(_) => Ok(()),
            Err(HubError::Batch(BatchRefusal::Gap { expected })) => {
                info!(expected, "The hub has lost entries of this ledger");
                let resumed = self.ledger.resume_from(expected, Moment::now()).await;
                self.wake.line_is_up();
                resumed.map_err(local)
            }
            // What a branch is refused for is told where entries go up.
            Err(error) if error.standing().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends what the hub lacks of every ledger whose life has ended. What it takes none of is told.
    async fn look_after_old_ledgers(&self) -> Result<(), HubError> {
        let mut refused = None;
        for path in self.state.old_ledgers().map_err(local)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let sent = match read_put_away(&path) {
                Ok(reader) => self.send_missing(reader).await,
                Err(error) => Err(local(error)),
            };
            match sent {
                Ok(0) => {}
                Ok(count) => info!(ledger = %name, count, "Sent entries of an old ledger again"),
                Err(error) if error.is_contact() => {
                    warn!(ledger = %name, %error, "An old ledger is not at the hub");
                    refused = Some(format!(
                        "the hub does not take the old ledger {name}, whose sales it may lack ({error}); \
                         keep the file and show it to the operator (runbook/hub-restored.md)"
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        self.contact.alarm(Alarm::OldLedger, refused);
        Ok(())
    }

    /// Gives how many entries went up.
    async fn send_missing(&self, reader: Reader) -> Result<u64, HubError> {
        let mut after = reader.last_seq().map_err(local)?.saturating_sub(1);
        let mut has_gone_back = false;
        let mut sent = 0;
        while let Some(batch) = self.batch_of(&reader, after).map_err(local)? {
            match self.hub.push_branch(&batch).await {
                Ok(_) => {
                    sent += if has_gone_back {
                        batch.entries.len() as u64
                    } else {
                        0
                    };
                    after = batch.head.seq;
                }
                // Always further back, so that this ends.
                Err(HubError::Batch(BatchRefusal::Gap { expected })) if expected <= after => {
                    has_gone_back = true;
                    after = expected.saturating_sub(1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn batch_of(&self, reader: &Reader, after: u64) -> Result<Option<Batch>, LedgerError> {
        reader.batch(
            after,
            BATCH_MAX_ENTRIES,
            BATCH_MAX_BYTES,
            &self.key,
            self.report(),
        )
    }
}

/// How often the till looks whether there is something to ask about.
const TICK: Duration = Duration::from_secs(2);
/// How long it waits after a question that came to nothing.
const PAUSE: Duration = Duration::from_secs(20);
/// How often it asks when nothing has happened that it knows of.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
