//! A new life of the ledger: everything old goes up, the hub is shown a new one-time code, the old
//! file is kept under the name of its epoch, and an empty one begins.
//!
//! Each step is kept before the next one, so that a till that is switched off in between goes on
//! where it was. Selling stops only for the moments in which the hub is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use sync_proto::{BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, BatchRefusal, EnrolRequest, Epoch};
use till_ledger::{Ledger, LedgerError, Moment};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Config;
use crate::hub::HubError;
use crate::state_dir::{Enrolment, Renewal, StateDir, fingerprint};
use crate::sync::{Sync, local};

/// Draws the name of a new life.
pub(crate) fn draw_epoch() -> anyhow::Result<Epoch> {
    let mut epoch = [0; 8];
    getrandom::fill(&mut epoch).context("the operating system gives no random numbers")?;
    Ok(Epoch(u64::from_be_bytes(epoch)))
}

/// Begins a new life when the settings hold a code that this till was not enrolled with: somebody
/// has asked the operator for it and put it there.
pub(crate) fn wish_of_settings(
    config: &Config,
    state: &StateDir,
    from: Epoch,
) -> anyhow::Result<Option<Renewal>> {
    if let Some(renewal) = state.renewal()? {
        return Ok(Some(renewal).filter(|renewal| renewal.from == from));
    }
    let Some(code) = &config.enrolment_code else {
        return Ok(None);
    };
    let Some(enrolment) = state.enrolment(&config.till, from)? else {
        return Ok(None);
    };
    let is_new = enrolment.code.is_some_and(|used| used != fingerprint(code));
    if !is_new {
        return Ok(None);
    }
    begin(state, code.clone(), from).map(Some)
}

/// Writes down that a new life shall begin.
pub(crate) fn begin(state: &StateDir, code: String, from: Epoch) -> anyhow::Result<Renewal> {
    let renewal = Renewal {
        code,
        from,
        to: draw_epoch()?,
    };
    state.keep_renewal(&renewal)?;
    info!(from = %from, to = %renewal.to, "A new life of the ledger is asked for");
    Ok(renewal)
}

/// Puts the old ledger away once the hub knows the new life. Goes on wherever it was interrupted.
pub(crate) fn put_old_ledger_away(config: &Config, state: &StateDir) -> anyhow::Result<()> {
    let Some(renewal) = state.renewal()? else {
        return Ok(());
    };
    if state.enrolment(&config.till, renewal.to)?.is_none() {
        return Ok(());
    }
    let path = state.ledger();
    match till_ledger::put_away(&path, renewal.from, &state.old_ledger(renewal.from)) {
        Ok(()) => info!(epoch = %renewal.from, "The old ledger is kept beside the new one"),
        Err(LedgerError::NotFound { .. }) => {}
        Err(error) => return Err(error).context("cannot put the old ledger away"),
    }
    Ok(())
}

/// The life that an empty ledger begins.
pub(crate) fn next_epoch(config: &Config, state: &StateDir) -> anyhow::Result<Epoch> {
    if let Some(renewal) = state.renewal()?
        && state.enrolment(&config.till, renewal.to)?.is_some()
    {
        return Ok(renewal.to);
    }
    draw_epoch()
}

/// The ledger is open: nothing is left of a renewal that led to it.
pub(crate) fn forget_done(state: &StateDir, epoch: Epoch) -> anyhow::Result<()> {
    if state.renewal()?.is_some_and(|renewal| renewal.to == epoch) {
        state.end_renewal()?;
        info!(%epoch, "A new life of the ledger has begun");
    }
    Ok(())
}

impl Sync {
    /// Comes back when everything old is at the hub, so that the new life can begin.
    pub(crate) async fn ready_to_renew(self: Arc<Sync>, not_before: Instant) {
        let mut renewal = self.renewal.subscribe();
        loop {
            let wanted = renewal.borrow_and_update().is_some();
            let is_sent = self.ledger.progress().waiting() == 0;
            let undeliverable = self.wake.undeliverable.load(Ordering::Relaxed);
            let online = self.hub_answers();
            if wanted && online && (is_sent || undeliverable) && Instant::now() >= not_before {
                return;
            }
            tokio::select! {
                changed = renewal.changed() => if changed.is_err() { std::future::pending().await },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The last of the old life goes up and the hub is shown the code. Nothing is sold meanwhile.
    pub(crate) async fn renew(&self) -> Result<(), RenewalError> {
        let Some(renewal) = self.renewal.borrow().clone() else {
            return Ok(());
        };
        self.drain().await?;
        let request = EnrolRequest {
            till: self.till.clone(),
            code: renewal.code.clone(),
            epoch: renewal.to,
            public_key: self.key.public(),
        };
        let answer = match self.hub.enrol(&request).await {
            Err(HubError::EnrolmentRefused(why)) => {
                // The same code will not do the next time either.
                self.state.end_renewal().map_err(local)?;
                return Err(RenewalError::Refused(why));
            }
            other => other?,
        };
        let enrolment = Enrolment {
            till: self.till.clone(),
            epoch: renewal.to,
            hub_url: self.hub.url().to_owned(),
            token: answer.token,
            hub_key: Some(answer.hub_key),
            canteen: answer.canteen,
            code: Some(fingerprint(&renewal.code)),
            at: Some(self.ledger.progress().time.at(Moment::now())),
        };
        self.state.keep_enrolment(&enrolment).map_err(local)?;
        info!(epoch = %renewal.to, "The hub knows the new life of the ledger");
        Ok(())
    }

    async fn drain(&self) -> Result<(), RenewalError> {
        loop {
            let report = self.report();
            let batch = self
                .ledger
                .batch(BATCH_MAX_ENTRIES, BATCH_MAX_BYTES, &self.key, report)
                .map_err(local)?;
            let Some(batch) = batch else { return Ok(()) };
            match self.hub.push_branch(&batch).await {
                Ok(answer) => self
                    .ledger
                    .acknowledge(answer.accepted, answer.durable_through, Moment::now())
                    .await
                    .map_err(local)?,
                Err(HubError::Batch(BatchRefusal::Gap { expected })) => self
                    .ledger
                    .resume_from(expected, Moment::now())
                    .await
                    .map_err(local)?,
                // A hub that has forgotten this epoch knows the key when the new one has begun, and is
                // sent the old ledger then (`old_ledgers.rs`).
                Err(error) if error.standing().is_some() => {
                    warn!(%error, waiting = self.ledger.progress().waiting(),
                        "The hub takes no entries of the old ledger yet; they are sent from its file");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Why a new life cannot begin now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    /// The hub refuses the code.
    #[error(
        "the hub refuses the new code ({0}); the till goes on as it was, ask the operator for another code"
    )]
    Refused(String),
    /// The hub cannot be asked, or its answer cannot be kept; it is tried again.
    #[error("the new life of the ledger must wait")]
    Later(#[from] HubError),
}

/// Ends a life and closes its ledger.
pub(crate) async fn close(ledger: &Ledger) {
    if let Err(error) = ledger.close().await {
        warn!(%error, "The ledger was not closed properly; nothing recorded is lost");
    }
}

const LOOK: Duration = Duration::from_millis(500);
