//! What a hub has lost that was put back, of ledgers that say nothing new: of those whose life has
//! ended, and of those that go up as branches.

use std::path::PathBuf;

use sync_proto::{BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, BatchRefusal, TillKey, TillReport};
use till_ledger::read_put_away;

use super::World;
use super::action::Way;
use super::message::{Answer, Request};
use super::sheet::Sheet;
use super::tally::{Fault, Violation, broken};

/// A ledger whose life has ended, on the disk of its machine.
pub(crate) struct OldLedger {
    /// Whose it was.
    pub(crate) machine: usize,
    pub(crate) path: PathBuf,
    pub(crate) key: TillKey,
    pub(crate) sheet: Sheet,
}

impl World {
    /// Whether the hub may lack what it has acknowledged. Tills ask now and then whatever they know;
    /// where nothing was put back, that changes nothing.
    pub(crate) fn has_lost_entries(&self) -> bool {
        self.tally.injected(Fault::Restore) > 0
    }

    /// Asks whether the hub has the last entry of a ledger that goes up as a branch; one that lacks it
    /// says from where on.
    pub(crate) fn look_after_branch(&mut self, till: usize, way: Way) -> Result<(), Violation> {
        let at_till = &self.tills[till];
        let head = at_till.store()?.progress().head.seq;
        if let Some(batch) = at_till.batch_after(head.saturating_sub(1), 1)? {
            self.ask(till, Request::Branch(batch), way)?;
        }
        Ok(())
    }

    /// Sends what the hub lacks of the ledgers that have ended at a machine. Gives whether it lacked
    /// anything.
    pub(crate) fn look_after_old_ledgers(&mut self, till: usize) -> Result<bool, Violation> {
        let mut has_lacked = false;
        for at in 0..self.old_ledgers.len() {
            if self.old_ledgers[at].machine == till && self.tills[till].line_is_up {
                has_lacked |= self.send_missing(at)?;
            }
        }
        Ok(has_lacked)
    }

    fn send_missing(&mut self, at: usize) -> Result<bool, Violation> {
        let unread = |error| broken("reading an old ledger", &error);
        let reader = read_put_away(&self.old_ledgers[at].path).map_err(unread)?;
        let mut after = reader.last_seq().map_err(unread)?.saturating_sub(1);
        let mut has_lacked = false;
        loop {
            let key = &self.old_ledgers[at].key;
            let report = TillReport::default();
            let batch = reader.batch(after, BATCH_MAX_ENTRIES, BATCH_MAX_BYTES, key, report);
            let Some(batch) = batch.map_err(unread)? else {
                return Ok(has_lacked);
            };
            let answer = self.serve_branch(&batch)?;
            self.check_hub()?;
            match answer {
                Some(Answer::Batch(Ok(_))) => after = batch.head.seq,
                Some(Answer::Batch(Err(BatchRefusal::Gap { expected }))) if expected <= after => {
                    has_lacked = true;
                    after = expected.saturating_sub(1);
                }
                // Nobody hears the answer; it is asked again another time.
                Some(_) | None => return Ok(true),
            }
        }
    }
}
