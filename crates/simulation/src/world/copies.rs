//! Copied and restored disks, and how a till comes back from them.

use sync_proto::{EnrolRequest, Epoch};

use super::World;
use super::action::Way;
use super::office::OfficeAct;
use super::old_ledgers::OldLedger;
use super::tally::{Fault, Violation, broken};

impl World {
    /// Two machines go on under one name.
    pub(crate) fn clone_till(&mut self, till: usize) -> Result<String, Violation> {
        if self.tills.len() >= MACHINES_MAX {
            return Ok("there are too many machines already".to_owned());
        }
        let copy = self.tills[till].copied(self.tills.len(), self.now_ms)?;
        self.doubt(till);
        self.tally.inject(Fault::Clone);
        self.tills.push(copy);
        Ok(format!("there are {} machines now", self.tills.len()))
    }

    /// A disk is put back to what it was; what it lost is gone, unless the hub has it.
    pub(crate) fn put_disk_back(&mut self, till: usize) -> Result<String, Violation> {
        self.forget_answers(till);
        let now_ms = self.now_ms;
        if !self.tills[till].put_disk_back(now_ms)? {
            return Ok("there is no copy".to_owned());
        }
        self.doubt(till);
        self.tally.inject(Fault::Rollback);
        let World { tills, tally, .. } = self;
        tills[till].compare(tally)?;
        Ok(format!(
            "it ends with entry {}",
            tills[till].sheet.own.len()
        ))
    }

    fn doubt(&mut self, till: usize) {
        let at_till = &self.tills[till];
        let key = (at_till.id.clone(), at_till.epoch);
        self.reckoning.doubtful.insert(key);
        self.reckoning.copies += 1;
    }

    /// The old ledger goes up to its last entry, then an operator's code begins an empty one.
    pub(crate) fn renew(&mut self, till: usize) -> Result<String, Violation> {
        let at_till = &self.tills[till];
        if !at_till.is_forked || !at_till.line_is_up {
            return Ok("it need not be, or cannot".to_owned());
        }
        self.forget_answers(till);
        for _ in 0..PUSHES_MAX {
            if self.tills[till].store()?.progress().waiting() == 0 {
                break;
            }
            self.tills[till].upload.handle_line_up();
            self.push(till, 0, Way::CLEAR)?;
        }
        if self.tills[till].store()?.progress().waiting() > 0 {
            return Ok("its old entries are still on their way".to_owned());
        }
        self.drawn += 1;
        let epoch = Epoch(1000 + self.drawn);
        let code = format!("code of {epoch}");
        let now_ms = self.now_ms;
        let id = self.tills[till].id.clone();
        let (path, sheet) = self.tills[till].begin_anew(epoch, now_ms)?;
        self.old_ledgers.push(OldLedger {
            machine: till,
            path,
            key: self.tills[till].key(),
            sheet,
        });
        let request = EnrolRequest {
            till: id.clone(),
            code: code.clone(),
            epoch,
            public_key: self.tills[till].public_key(),
        };
        let token = self.tills[till].token;
        let enrolled = self.act("enrolling a till anew", OfficeAct::Renew(request, token))?;
        enrolled.map_err(|refusal| broken("enrolling a till anew", &refusal))?;
        // Machines that went by the name before are strangers now.
        for other in 0..self.tills.len() {
            let key = (self.tills[other].id.clone(), self.tills[other].epoch);
            if key.0 == id && key.1 != epoch {
                self.reckoning.doubtful.insert(key);
            }
        }
        self.reckoning.accepted.insert((id, epoch), 0);
        self.check_hub()?;
        Ok(format!("in epoch {epoch}"))
    }
}

/// Tills and their copies.
const MACHINES_MAX: usize = 6;
const PUSHES_MAX: usize = 20;
