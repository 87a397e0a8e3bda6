//! A mark beside the ledger of how far it was: a ledger that holds less than its mark, or other
//! entries there, was put back from a copy.

use std::sync::Arc;
use std::time::Duration;

use sync_proto::Head;
use till_ledger::{Ledger, LedgerError};
use tracing::{error, warn};

use crate::state_dir::{Mark, StateDir};
use crate::sync::Sync;

/// The last entry that the mark knows of, when the ledger does not have it.
pub(crate) fn lost_entries(state: &StateDir, ledger: &Ledger) -> Result<Option<u64>, LedgerError> {
    let mark = match state.mark(ledger.identity().epoch) {
        Ok(Some(mark)) => mark,
        Ok(None) => return Ok(None),
        Err(error) => {
            warn!(%error, "The mark beside the ledger cannot be read; it is written anew");
            return Ok(None);
        }
    };
    let Head { seq, hash } = mark.head;
    let has_it = seq <= ledger.progress().head.seq && ledger.hash_at(seq)? == hash;
    if !has_it {
        error!(
            seq,
            "The ledger was put back from a copy; see the runbook page rolled-back-disk.md"
        );
    }
    Ok((!has_it).then_some(seq))
}

impl Sync {
    /// Writes the mark for as long as the program runs. One that knows better stays.
    pub(crate) async fn run_mark(self: Arc<Sync>) {
        loop {
            self.keep_mark();
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Writes down how far the ledger is.
    pub(crate) fn keep_mark(&self) {
        let mark = Mark {
            epoch: self.ledger.identity().epoch,
            head: self.ledger.progress().head,
        };
        let known = self.state.mark(mark.epoch).ok().flatten();
        if self.rolled_back.is_some() || known == Some(mark) {
            return;
        }
        if let Err(error) = self.state.keep_mark(&mark) {
            warn!(%error, "The mark beside the ledger cannot be written");
        }
    }
}

const EVERY: Duration = Duration::from_secs(60);
