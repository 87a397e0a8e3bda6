//! A small world: tills, a hub, a card gateway, lines, clocks and disks, all driven by one seed.
//!
//! The stores are the real ones on real SQLite files; nothing has a thread, a socket or a clock of
//! its own. After every step everything is held against a plain reference: what each till must
//! show and decide (`sheet.rs`), and what the hub's books must say (`reckoning.rs`).

mod action;
mod convergence;
mod conversation;
mod copies;
mod disk;
mod gateway;
mod hub;
mod limits;
mod message;
mod mistake;
mod office;
mod old_ledgers;
mod plan;
mod reckoning;
mod restore;
mod run;
mod scene;
mod settle;
mod sheet;
mod steps;
mod tally;
mod till;
mod trade;
mod window;

use std::path::Path;

use canteen::{AccountId, BusinessDay, COPENHAGEN};
use jiff::Timestamp;
use tempfile::TempDir;

pub use action::{Action, Card, Cut, Fate, Turn, Way, Whom};
pub use mistake::Mistake;
pub use run::{Failure, Run, Runs, Telling};
pub use scene::{Blanks, Scene};
pub use tally::{Fault, Invariant, Tally, Violation};

use disk::Image;
use gateway::Gateway;
use hub::Hub;
use message::Letter;
use old_ledgers::OldLedger;
use reckoning::Reckoning;
use restore::Backup;
use till::Till;

/// Everything there is.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) tills: Vec<Till>,
    pub(crate) old_ledgers: Vec<OldLedger>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) gateway: Gateway,
    pub(crate) reckoning: Reckoning,
    pub(crate) tally: Tally,
    pub(crate) mistake: Option<Mistake>,
    /// The true time, in milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// Messages that are late.
    letters: Vec<Letter>,
    /// Numbers everything that must have a name of its own.
    drawn: u64,
    scene: Scene,
    /// The newest backup of the hub.
    backup: Option<Backup>,
    /// The hub's disk before anything happened, and the number of its last booking.
    first: Image,
    first_bookings: i64,
    _dir: TempDir,
}

impl World {
    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn till_at(&self, till: u8) -> usize {
        usize::from(till) % self.tills.len()
    }

    fn account_at(&self, account: u8) -> AccountId {
        self.accounts[usize::from(account) % self.accounts.len()]
    }

    fn draw_name(&mut self) -> String {
        self.drawn += 1;
        format!("name-{}", self.drawn)
    }

    /// Lets time pass, and what is under way at the gateway arrive.
    fn pass(&mut self, until_ms: i64) -> Result<(), Violation> {
        let before = self.now();
        self.now_ms = self.now_ms.max(until_ms);
        let after = self.now();
        let (old, new) = (BusinessDay::of(before), BusinessDay::of(after));
        let offset = |at| COPENHAGEN.to_offset(at);
        for (turned, fault) in [
            (old != new, Fault::Midnight),
            (old.week() != new.week(), Fault::NewWeek),
            (old.month() != new.month(), Fault::NewMonth),
            (offset(before) != offset(after), Fault::SummerTime),
        ] {
            if turned {
                self.tally.inject(fault);
            }
        }
        self.gateway.receive(self.now_ms)
    }
}

/// A directory that is gone with the run; in memory where the machine has such a place.
pub(crate) fn directory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("canteen-world-");
    match builder.tempdir_in(memory) {
        Ok(made) => Ok(made),
        Err(_) => builder.tempdir(),
    }
}
