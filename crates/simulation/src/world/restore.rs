//! The hub's database is put back from a backup: what the hub forgets, what tills and the gateway
//! do not, and how it comes back from that.

use std::collections::BTreeMap;

use canteen::AccountId;
use hub_ledger::Reach;
use rusqlite::Connection;

use super::World;
use super::disk::Image;
use super::reckoning::Reckoning;
use super::tally::{Fault, Invariant, Violation, broken};

/// A backup, and what was true when it was made.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    image: Image,
    reckoning: Reckoning,
}

impl World {
    /// Somebody makes a backup of the hub.
    pub(crate) fn back_hub_up(&mut self) -> Result<String, Violation> {
        self.backup = Some(Backup {
            image: self.hub.image()?,
            reckoning: self.reckoning.clone(),
        });
        Ok("the hub is backed up".to_owned())
    }

    /// The backup takes the place of the hub's database.
    pub(crate) fn restore_hub(&mut self) -> Result<String, Violation> {
        let Some(backup) = self.backup.clone() else {
            return Ok("the hub has no backup".to_owned());
        };
        self.tally.inject(Fault::Restore);
        let before = self.margins()?;
        // Whoever waited for an answer of the hub's earlier life has given up.
        self.pass(self.now_ms + AWAY_MS)?;
        self.hub.cut = None;
        self.hub.start_from(&backup.image)?;
        self.reckoning = backup.reckoning.after_restore(&self.reckoning);
        self.drawn += 1;
        let (fresh, now) = (1000 + self.drawn, self.now());
        let World { hub, tally, .. } = self;
        let begun = hub.insist(tally, "beginning a new life", |ledger| {
            ledger.begin_new_life(fresh, now)
        })?;
        begun.map_err(|refusal| broken("beginning a new life", &refusal))?;
        self.begin_strict_limits()?;
        self.make_mistake_at_restore()?;
        self.check_top_ups()?;
        for (account, after) in self.margins()? {
            let lost = before.get(&account).map_or(0, |before| before - after);
            self.reckoning.lose(account, lost);
        }
        self.check_hub()?;
        Ok("the hub is put back from its backup".to_owned())
    }

    /// How far each account is above the floor that its overspend may not pass (INV-4). What a
    /// restore takes away of that was there when tills were told what they may sell.
    fn margins(&self) -> Result<BTreeMap<AccountId, i64>, Violation> {
        let waiting = self.waiting_debits()?;
        let margins = self.accounts.iter().map(|account| {
            let of_account = waiting.iter().filter(|debit| debit.account == *account);
            let reserved: i64 = of_account.map(|debit| debit.amount.ore()).sum();
            let margin = self.true_balance(*account) - self.reckoning.floor(*account) + reserved;
            (*account, margin)
        });
        Ok(margins.collect())
    }

    /// Whether the hub waits for reports of tills.
    pub(crate) fn is_frozen(&self) -> Result<bool, Violation> {
        let restore = self.hub.read("looking at the freeze", |ledger| {
            ledger.restore(Reach::Everything)
        })?;
        Ok(!restore.frozen.is_empty())
    }

    /// An operator does not wait for tills any longer.
    pub(crate) fn unfreeze(&mut self) -> Result<String, Violation> {
        let restore = self.hub.read("looking at the freeze", |ledger| {
            ledger.restore(Reach::Everything)
        })?;
        let Some(frozen) = restore.frozen.first() else {
            return Ok("the hub waits for no till".to_owned());
        };
        let canteen = frozen.canteen;
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "ending a freeze", |ledger| {
            ledger.unfreeze(canteen, now)
        })?;
        // A refusal is the second answer after a lost one: it is frozen no more.
        drop(done);
        // What the missing ones may sell, the hub does not reckon with, as if they were copies.
        self.reckoning.copies += i64::try_from(frozen.missing.len()).unwrap_or(0);
        self.check_hub()?;
        Ok(format!(
            "the freeze ends without {} tills",
            frozen.missing.len()
        ))
    }

    /// An operator takes in what the gateway has charged, and lets cards be charged again; or places
    /// a charge.
    pub(crate) fn resume_top_ups(&mut self) -> Result<String, Violation> {
        let restore = self.hub.read("looking at the pause", |ledger| {
            ledger.restore(Reach::Everything)
        })?;
        if restore.top_ups_paused_at.is_none() {
            return self.place_charge(self.drawn.is_multiple_of(3));
        }
        let list = self.gateway.list();
        let now = self.now();
        let World { hub, tally, .. } = self;
        let imported = hub.insist(tally, "taking charges in", |ledger| {
            ledger.import_charges(&list, now)
        })?;
        let imported = imported.map_err(|refusal| broken("taking charges in", &refusal))?;
        self.gateway.await_person(&imported.unmatched);
        self.look_at_charges()?;
        self.make_mistake_at_import()?;
        let World { hub, tally, .. } = self;
        let resumed = hub.insist(tally, "resuming top-ups", |ledger| ledger.resume_top_ups())?;
        resumed.map_err(|refusal| broken("resuming top-ups", &refusal))?;
        self.check_hub()?;
        Ok(format!(
            "{} charges are taken in, {} are known, cards are charged again",
            imported.taken_in, imported.known
        ))
    }

    /// An operator has found out what the oldest charge was for that the hub could not place.
    pub(crate) fn place_charge(&mut self, sends_back: bool) -> Result<String, Violation> {
        let unmatched = self.hub.read("listing unmatched charges", |ledger| {
            ledger.unmatched_charges(1)
        })?;
        let Some(unmatched) = unmatched.into_iter().next() else {
            return Ok("every charge has its place".to_owned());
        };
        let reference = &unmatched.charge.reference;
        let account = self.gateway.place(reference, sends_back);
        let now = self.now();
        let World { hub, tally, .. } = self;
        let placed = hub.insist(tally, "placing a charge", |ledger| match account {
            Some(account) => ledger
                .take_in_unmatched(unmatched.id, account, now)
                .map(drop),
            None => ledger.dismiss_unmatched(unmatched.id, now),
        })?;
        // A refusal may be the second answer after a lost one; otherwise the charge stays open.
        drop(placed);
        self.look_at_charges()?;
        self.check_hub()?;
        Ok(match account {
            Some(account) => format!("{reference} is credited to account {account}"),
            None => format!("{reference} is sent back at the gateway"),
        })
    }

    /// At the end every charge has its place: one that the hub cannot credit any more is sent back.
    pub(crate) fn place_all_charges(&mut self) -> Result<(), Violation> {
        for sends_back in [false, true] {
            for _ in 0..self.open_charges()?.len() {
                self.place_charge(sends_back)?;
            }
        }
        match self.open_charges()?.as_slice() {
            [] => Ok(()),
            open => {
                let what = format!("in the end nobody can say what {open:?} were for");
                Err(Violation::of(Invariant::Works, what))
            }
        }
    }

    /// Which charges the hub has for which top-ups, and which it cannot place.
    fn look_at_charges(&mut self) -> Result<(), Violation> {
        let (attempts, open) = (self.attempts()?, self.open_charges()?);
        self.gateway.rename(&attempts, &open);
        Ok(())
    }

    fn open_charges(&self) -> Result<Vec<String>, Violation> {
        let open = self.hub.read("listing unmatched charges", |ledger| {
            ledger.unmatched_charges(u32::MAX)
        })?;
        Ok(open.into_iter().map(|open| open.charge.reference).collect())
    }

    /// The top-ups that charges are for, by our names of the charges.
    fn attempts(&self) -> Result<BTreeMap<String, String>, Violation> {
        let read = || {
            let db = Connection::open(self.hub.path())?;
            let mut statement = db.prepare("SELECT reference, top_up FROM top_up_attempt")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| broken("reading attempts", &error))
    }

    /// At the end the hub waits only for tills that are gone for good, and not for those either.
    /// Gives whether it still did.
    pub(crate) fn end_freeze(&mut self) -> Result<bool, Violation> {
        let restore = self.hub.read("looking at the freeze", |ledger| {
            ledger.restore(Reach::Everything)
        })?;
        let Some(frozen) = restore.frozen.first() else {
            return Ok(false);
        };
        for missing in &frozen.missing {
            if !self.is_doubtful(&missing.till, missing.epoch) {
                let what = format!(
                    "in the end the hub waits for a report of {}, which has sent everything",
                    missing.till
                );
                return Err(Violation::of(Invariant::Works, what));
            }
        }
        self.unfreeze()?;
        Ok(true)
    }
}

/// How long it takes until a person has put a backup back.
const AWAY_MS: i64 = 15 * 60 * 1000;
