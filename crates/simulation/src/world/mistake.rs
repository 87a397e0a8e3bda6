//! Bugs that are put in by hand, at the seam between a world and the stores: whoever claims that
//! the simulation finds bugs must show it.
//!
//! The product has no switch for any of them; what a wrong program would have written is written
//! into its files from outside.

use std::time::Duration;

use canteen::BusinessDay;
use hub_ledger::TillAccess;
use rusqlite::{Connection, OpenFlags};
use sync_proto::{FeedPosition, TillPosition};

use super::World;
use super::tally::{Violation, broken};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The hub takes a question for changes as the proof that all before them are applied.
    AckOutOfBand,
    /// A till drops a sale from its own figures when the hub has acknowledged it, before the hub's
    /// position contains it.
    OverlayDropped,
    /// Sums of sales are counted net of voids, at the tills and at the hub.
    NetOfVoids,
    /// The hub reckons a till's smaller share of a strict limit as given up before the till has heard.
    ShareTakenBack,
    /// When a day ends, the hub forgets what it granted tills ahead of strict limits.
    AheadForgotten,
    /// A hub that was put back goes on with the ceilings of its backup, and waits for no till.
    Unfrozen,
    /// A charge that nobody can place does not hold its card.
    CardNotHeld,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Mistake; 7] = [
        Mistake::AckOutOfBand,
        Mistake::OverlayDropped,
        Mistake::NetOfVoids,
        Mistake::ShareTakenBack,
        Mistake::AheadForgotten,
        Mistake::Unfrozen,
        Mistake::CardNotHeld,
    ];

    /// The word for it on a command line.
    pub fn code(self) -> &'static str {
        match self {
            Mistake::AckOutOfBand => "ack-out-of-band",
            Mistake::OverlayDropped => "overlay-dropped",
            Mistake::NetOfVoids => "net-of-voids",
            Mistake::ShareTakenBack => "share-taken-back-unheard",
            Mistake::AheadForgotten => "grant-ahead-forgotten",
            Mistake::Unfrozen => "restore-without-freeze",
            Mistake::CardNotHeld => "card-not-held",
        }
    }

    /// Reads [`Mistake::code`].
    pub fn from_code(code: &str) -> Option<Mistake> {
        Mistake::ALL.into_iter().find(|known| known.code() == code)
    }
}

impl World {
    /// The hub hears a till ask for changes after a cursor.
    pub(crate) fn make_mistake_at_feed(
        &mut self,
        access: &TillAccess,
        from: FeedPosition,
        position: &TillPosition,
    ) -> Result<(), Violation> {
        if self.mistake != Some(Mistake::AckOutOfBand) {
            return Ok(());
        }
        let db = open(&self.hub.path(), None)?;
        let done = db.execute(
            "UPDATE ceiling SET highest = ceiling
             WHERE till = ?1 AND epoch = ?2 AND rv <= ?3 AND highest > ceiling",
            (
                access.till.as_str(),
                position.epoch.0.cast_signed(),
                from.cursor.cast_signed(),
            ),
        );
        done.map(drop)
            .map_err(|error| broken("making a mistake", &error))
    }

    /// A till hears that its entries are at the hub.
    pub(crate) fn make_mistake_at_ack(&mut self, till: usize) -> Result<(), Violation> {
        if self.mistake != Some(Mistake::OverlayDropped) {
            return Ok(());
        }
        let acked = self.tills[till].store()?.progress().acked;
        let db = open(&self.tills[till].path(), Some("unix-excl"))?;
        let done = db.execute(
            "UPDATE account SET balance = position WHERE last_seq > incl_seq AND last_seq <= ?1",
            [acked.cast_signed()],
        );
        done.map(drop)
            .map_err(|error| broken("making a mistake", &error))
    }

    /// A till has taken a sale back.
    pub(crate) fn make_mistake_at_void(
        &mut self,
        till: usize,
        account: canteen::AccountId,
        ore: i64,
    ) -> Result<(), Violation> {
        if self.mistake != Some(Mistake::NetOfVoids) {
            return Ok(());
        }
        let db = open(&self.tills[till].path(), Some("unix-excl"))?;
        let done = db.execute(
            "UPDATE account SET gross = max(gross_incl, gross - ?2) WHERE id = ?1",
            (account.0, ore),
        );
        done.map(drop)
            .map_err(|error| broken("making a mistake", &error))
    }
}

impl World {
    /// The hub is about to hear a till, on what may be a new day.
    pub(crate) fn make_mistake_at_hearing(&mut self) -> Result<(), Violation> {
        let mistaken = match self.mistake {
            Some(Mistake::ShareTakenBack) => {
                "UPDATE limit_share SET highest = ceiling, ahead_highest = ahead, carried = 0
                 WHERE ?1 <> ''"
            }
            Some(Mistake::AheadForgotten) => {
                "UPDATE limit_share SET ahead = 0, ahead_highest = 0, carried = 0
                 WHERE account IN (SELECT id FROM account WHERE shares_on < ?1)"
            }
            Some(
                Mistake::AckOutOfBand
                | Mistake::OverlayDropped
                | Mistake::NetOfVoids
                | Mistake::Unfrozen
                | Mistake::CardNotHeld,
            )
            | None => return Ok(()),
        };
        let today = BusinessDay::of(self.now()).to_string();
        let db = open(&self.hub.path(), None)?;
        let done = db.execute(mistaken, [today]);
        done.map(drop)
            .map_err(|error| broken("making a mistake", &error))
    }

    /// The hub begins a new life.
    pub(crate) fn make_mistake_at_restore(&mut self) -> Result<(), Violation> {
        if self.mistake != Some(Mistake::Unfrozen) {
            return Ok(());
        }
        let db = open(&self.hub.path(), None)?;
        let done = db.execute_batch(
            "UPDATE canteen SET frozen_at = NULL;
             UPDATE till_epoch SET reported = (SELECT hub_epoch FROM hub);",
        );
        done.map_err(|error| broken("making a mistake", &error))
    }

    /// The hub has taken in what the gateway lists.
    pub(crate) fn make_mistake_at_import(&mut self) -> Result<(), Violation> {
        if self.mistake != Some(Mistake::CardNotHeld) {
            return Ok(());
        }
        let db = open(&self.hub.path(), None)?;
        let done = db.execute_batch(
            "UPDATE unmatched_charge SET resolved_at = found_at, resolution = 'dismissed';",
        );
        done.map_err(|error| broken("making a mistake", &error))
    }
}

fn open(path: &std::path::Path, vfs: Option<&str>) -> Result<Connection, Violation> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    };
    let db = db.map_err(|error| broken("making a mistake", &error))?;
    // Like the till itself: the log is left to the connection that it belongs to.
    let quiet = db.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
        true,
    );
    quiet.map_err(|error| broken("making a mistake", &error))?;
    let patient = db.busy_timeout(Duration::from_secs(1));
    patient.map_err(|error| broken("making a mistake", &error))?;
    Ok(db)
}
