//! The hub of a world: the real store on a disk whose power may fail.

use std::path::{Path, PathBuf};

use hub_ledger::{HubLedger, LedgerError, Refusal, TopUpRules};

use super::action::Cut;
use super::disk::{Image, Order};
use super::tally::{Fault, Tally, Violation, broken};

/// The hub.
pub(crate) struct Hub {
    ledger: Option<HubLedger>,
    dir: PathBuf,
    /// Which file it is in; a disk that lost its power is read under a new name.
    generation: u32,
    /// What becomes of the next transaction.
    pub(crate) cut: Option<Cut>,
    /// It has started since it last looked after interrupted charges.
    pub(crate) is_fresh: bool,
}

impl Hub {
    /// Opens the store that was put into a directory.
    pub(crate) fn open(dir: &Path) -> Result<Hub, Violation> {
        let mut hub = Hub {
            ledger: None,
            dir: dir.to_owned(),
            generation: 0,
            cut: None,
            is_fresh: true,
        };
        hub.start()?;
        Ok(hub)
    }

    /// Where its file is now.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(format!("hub-{}", self.generation))
    }

    fn start(&mut self) -> Result<(), Violation> {
        let opened = HubLedger::open(&self.path(), HUB_EPOCH, TopUpRules::default());
        self.ledger = Some(opened.map_err(|error| broken("opening the hub", &error))?);
        self.is_fresh = true;
        Ok(())
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        what: &str,
        op: impl FnOnce(&HubLedger) -> Result<T, LedgerError>,
    ) -> Result<T, Violation> {
        op(self.ledger()?).map_err(|error| broken(what, &error))
    }

    fn ledger(&self) -> Result<&HubLedger, Violation> {
        let missing = || Violation::of(super::tally::Invariant::Works, "the hub is not open");
        self.ledger.as_ref().ok_or_else(missing)
    }

    /// Runs a transaction; `None` when the power failed in it, so that nobody hears how it ended.
    pub(crate) fn write<T>(
        &mut self,
        tally: &mut Tally,
        what: &str,
        op: impl FnOnce(&mut HubLedger) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, Violation> {
        match self.attempt(tally, op)? {
            Some(done) => done.map(Some).map_err(|error| broken(what, &error)),
            None => Ok(None),
        }
    }

    /// Asks until there is an answer, as a person or a program with a request key does.
    pub(crate) fn insist<T>(
        &mut self,
        tally: &mut Tally,
        what: &str,
        mut op: impl FnMut(&mut HubLedger) -> Result<T, LedgerError>,
    ) -> Result<Result<T, Refusal>, Violation> {
        loop {
            match self.attempt(tally, &mut op)? {
                Some(Ok(done)) => return Ok(Ok(done)),
                Some(Err(LedgerError::Refused(refusal))) => return Ok(Err(refusal)),
                Some(Err(error)) => return Err(broken(what, &error)),
                None => {}
            }
        }
    }

    fn attempt<T>(
        &mut self,
        tally: &mut Tally,
        op: impl FnOnce(&mut HubLedger) -> Result<T, LedgerError>,
    ) -> Result<Option<Result<T, LedgerError>>, Violation> {
        let path = self.path();
        let cut = self.cut.take();
        let before = cut.map(|_| take(&path)).transpose()?;
        let ledger = self.ledger.as_mut();
        let Some(ledger) = ledger else {
            return Err(Violation::of(
                super::tally::Invariant::Works,
                "the hub is not open",
            ));
        };
        let done = op(ledger);
        let (Some(cut), Some(before)) = (cut, before) else {
            return Ok(Some(done));
        };
        let after = take(&path)?;
        let left = Image::torn(&before, &after, cut, Order::LogFirst);
        tally.inject(Fault::HubCut);
        if left != before && left != after {
            tally.inject(Fault::TornWrite);
        }
        self.start_from(&left)?;
        Ok(None)
    }

    /// What its disk holds.
    pub(crate) fn image(&self) -> Result<Image, Violation> {
        take(&self.path())
    }

    /// Kills the program and starts it again.
    pub(crate) fn kill(&mut self) -> Result<(), Violation> {
        let image = take(&self.path())?;
        self.start_from(&image)
    }

    /// Starts on what a disk holds.
    pub(crate) fn start_from(&mut self, image: &Image) -> Result<(), Violation> {
        let old = self.path();
        self.ledger = None;
        self.generation += 1;
        let put = image.put(&self.path());
        put.map_err(|error| broken("writing the hub's disk", &error))?;
        let _ = std::fs::remove_file(old);
        self.start()
    }
}

fn take(path: &Path) -> Result<Image, Violation> {
    Image::take(path).map_err(|error| broken("reading the hub's disk", &error))
}

const HUB_EPOCH: u64 = 7;
