//! Entries go up: in batches, unread where the hub fails at one, as a branch where the hub no
//! longer takes this ledger for the till's, and once more where the hub asks for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use sync_proto::{
    BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, BatchAnswer, BatchRefusal, EntryFate, Resend,
    TillReport, Upload, UploadFailure, UploadStep,
};
use till_ledger::{LedgerError, Moment};
use tracing::{info, warn};

use crate::contact::Alarm;
use crate::hub::HubError;
use crate::standing::Standing;
use crate::sync::{Sync, random_jitter};

/// The way that entries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Batches,
    Raw,
    Branch,
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
            self.send_again().await;
            let waiting = if self.hub.is_enrolled() {
                self.ledger.progress().waiting()
            } else {
                0
            };
            let sent = match upload.poll_step(waiting, started.elapsed()) {
                UploadStep::Send { entries } => self.send(self.way(), entries).await,
                UploadStep::SendRaw => self.send(Way::Raw, 1).await,
                UploadStep::WaitUntil(moment) => {
                    let wait = moment.saturating_sub(started.elapsed());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.wake.upload.notified() => {}
                    }
                    continue;
                }
                UploadStep::Idle => {
                    tokio::select! {
                        changed = head.changed() => if changed.is_err() { return },
                        () = self.wake.upload.notified() => {}
                    }
                    continue;
                }
            };
            match sent {
                Ok(()) => upload.handle_stored(),
                Err(failure) => upload.handle_failure(failure, random_jitter(), started.elapsed()),
            }
        }
    }

    /// A ledger that the hub does not take for the till's goes up as a branch.
    fn way(&self) -> Way {
        match self.contact.standing() {
            Standing::Good => Way::Batches,
            Standing::Forked { .. }
            | Standing::RolledBack { .. }
            | Standing::Revoked
            | Standing::NotEnrolled => Way::Branch,
        }
    }

    /// What the till tells of itself with every batch.
    pub(crate) fn report(&self) -> TillReport {
        TillReport {
            till_time: Timestamp::now().to_string(),
            unsent: self.ledger.progress().waiting(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: self.address.clone(),
        }
    }

    async fn push(&self, way: Way, batch: &Batch) -> Result<BatchAnswer, HubError> {
        match way {
            Way::Batches => self.hub.push(batch).await,
            Way::Raw => self.hub.push_raw(batch).await,
            Way::Branch => self.hub.push_branch(batch).await,
        }
    }

    async fn send(&self, way: Way, entries: usize) -> Result<(), UploadFailure> {
        let batch = match self
            .ledger
            .batch(entries, BATCH_MAX_BYTES, &self.key, self.report())
        {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) => {
                warn!(%error, "Cannot read entries to send");
                return Err(UploadFailure::Refused);
            }
        };
        match self.push(way, &batch).await {
            Ok(answer) => self.stored(way, &batch, answer).await,
            Err(error) => {
                // What a branch is refused for says nothing new of the till.
                if way == Way::Branch && error.standing().is_some() {
                    warn!(%error, "The hub does not take the entries of this ledger");
                    self.wake.undeliverable.store(true, Ordering::Relaxed);
                    return Err(UploadFailure::Refused);
                }
                self.note(&error).await;
                Err(self.upload_failure(error).await)
            }
        }
    }

    async fn stored(
        &self,
        way: Way,
        batch: &Batch,
        answer: BatchAnswer,
    ) -> Result<(), UploadFailure> {
        self.contact.answered(Timestamp::now());
        if way == Way::Raw {
            warn!(seq = batch.first_seq, "The hub keeps an entry unread");
        }
        for result in &answer.results {
            if let EntryFate::Quarantined { code } = &result.fate {
                warn!(seq = result.seq, code, "The hub keeps an entry unbooked");
            }
        }
        let acknowledged = self
            .ledger
            .acknowledge(answer.accepted, answer.durable_through, Moment::now())
            .await;
        if let Err(error) = acknowledged {
            warn!(%error, "Ignored the hub's acknowledgement");
            if let LedgerError::ForeignWatermark { .. } = error {
                let words = format!(
                    "the hub acknowledges what this till never wrote: {error} (runbook/cloned-till.md)"
                );
                self.contact.alarm(Alarm::ForeignWatermark, Some(words));
                if way != Way::Branch {
                    self.stand(self.standing_beside(answer.accepted.seq)).await;
                }
            }
            return Err(UploadFailure::Refused);
        }
        self.contact.alarm(Alarm::ForeignWatermark, None);
        self.wake.undeliverable.store(false, Ordering::Relaxed);
        let count = batch.entries.len() as u64;
        self.wake.sent.fetch_add(count, Ordering::Relaxed);
        info!(seq = answer.accepted.seq, count, "Sent entries");
        Ok(())
    }

    /// How the till stands when the hub has another entry under a number: another machine writes the
    /// main chain. Every batch that ends before the two part is stored already, and would be answered
    /// so for ever.
    fn standing_beside(&self, accepted_seq: u64) -> Standing {
        let progress = self.ledger.progress();
        if accepted_seq > progress.head.seq {
            Standing::RolledBack {
                known_through: accepted_seq,
            }
        } else {
            Standing::Forked {
                agreed_through: progress.acked,
            }
        }
    }

    async fn upload_failure(&self, error: HubError) -> UploadFailure {
        match error {
            HubError::Busy { retry_after } => UploadFailure::Busy { retry_after },
            HubError::Failed(_) => UploadFailure::HubFailed,
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
            HubError::Unreachable(_)
            | HubError::Certificate(_)
            | HubError::Untrusted(_)
            | HubError::NoHub(_)
            | HubError::Garbled(_)
            | HubError::NotSigned => UploadFailure::Unanswered,
            HubError::NotEnrolled
            | HubError::EnrolmentRefused(_)
            | HubError::Batch(_)
            | HubError::Feed(_)
            | HubError::Behind { .. }
            | HubError::NotKept(_) => UploadFailure::Refused,
        }
    }

    /// Sends what the hub wants to have once more; what it has stays as it is.
    async fn send_again(&self) {
        let wanted = self
            .wake
            .resend
            .lock()
            .ok()
            .and_then(|mut wish| wish.take());
        let Some(Resend { from_seq, to_seq }) = wanted else {
            return;
        };
        let mut after = from_seq.saturating_sub(1);
        while after < to_seq {
            let left = usize::try_from(to_seq - after).unwrap_or(usize::MAX);
            let most = left.min(BATCH_MAX_ENTRIES);
            let batch =
                self.ledger
                    .batch_after(after, most, BATCH_MAX_BYTES, &self.key, self.report());
            let batch = match batch {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(error) => return warn!(%error, "Cannot read entries to send once more"),
            };
            if let Err(error) = self.push(self.way(), &batch).await {
                return warn!(%error, "The hub did not get entries once more");
            }
            info!(
                from = after + 1,
                through = batch.head.seq,
                "Sent entries once more"
            );
            after = batch.head.seq;
        }
    }
}
