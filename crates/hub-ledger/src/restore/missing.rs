//! The tills that a restored store waits for, and what an operator can do about each.

use canteen::Money;
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{Epoch, TillId};

use crate::error::LedgerError;
use crate::store::moment;
use crate::tenancy::CanteenId;
use crate::tills::till_from;

/// A till that a restored store waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTill {
    /// Its name.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// How the wait for it ends.
    pub next: NextStep,
    /// When it was heard last.
    pub seen_at: Option<Timestamp>,
    /// What it may still sell that the store does not reckon with, at most.
    pub at_risk: Money,
}

/// What ends the wait for a till's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The till reports by itself when it is on and has a line.
    SwitchOn,
    /// The till was enrolled after the backup, so the store does not know its token.
    NewCode,
    /// The ledger is not in use any more: the till was revoked, or goes on in another one.
    Retire,
}

impl NextStep {
    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            NextStep::SwitchOn => "switch_on",
            NextStep::NewCode => "new_code",
            NextStep::Retire => "retire",
        }
    }

    fn of(ledger: &Ledger) -> NextStep {
        if ledger.revoked {
            return NextStep::Retire;
        }
        if ledger.forgot && !ledger.heard {
            return NextStep::NewCode;
        }
        match ledger.current {
            true => NextStep::SwitchOn,
            false => NextStep::Retire,
        }
    }
}

/// How a ledger that is missing stands to its till.
struct Ledger {
    revoked: bool,
    /// Whether it is the till's last one, as far as the store knows.
    current: bool,
    /// Whether the till's last one has begun or reported in this life of the store.
    heard: bool,
    /// Whether the till has sent a ledger that the store had forgotten.
    forgot: bool,
}

pub(crate) fn missing_tills(
    db: &Connection,
    canteen: CanteenId,
) -> Result<Vec<MissingTill>, LedgerError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT e.till, e.epoch, t.seen_at, t.revoked_at IS NOT NULL, t.epoch IS e.epoch,
           EXISTS (SELECT 1 FROM till_epoch o, hub
             WHERE o.till = t.id AND o.epoch = t.epoch AND o.reported = hub.hub_epoch),
           EXISTS (SELECT 1 FROM till_epoch o WHERE o.till = t.id AND o.forgotten
             AND o.retired_at IS NULL)
         {MISSING} ORDER BY e.till, e.enrolled_at"
    ))?;
    let mut rows = statement.query([canteen.0])?;
    let mut missing = Vec::new();
    while let Some(row) = rows.next()? {
        let till = till_from(&row.get::<_, String>(0)?)?;
        let epoch = Epoch(row.get::<_, i64>(1)?.cast_unsigned());
        let ledger = Ledger {
            revoked: row.get(3)?,
            current: row.get(4)?,
            heard: row.get(5)?,
            forgot: row.get(6)?,
        };
        missing.push(MissingTill {
            at_risk: unknown_right(db, &till, epoch)?,
            till,
            epoch,
            next: NextStep::of(&ledger),
            seen_at: row.get::<_, Option<i64>>(2)?.map(moment).transpose()?,
        });
    }
    Ok(missing)
}

/// Whether any till of a canteen has yet to report. Every batch of a frozen canteen asks this.
pub(crate) fn is_any_missing(db: &Connection, canteen: CanteenId) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached(&format!("SELECT 1 {MISSING}"))?
        .exists([canteen.0])?)
}

/// What an epoch may sell that the store does not reckon with, at most, when it has not reported.
pub(crate) fn unknown_right(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
) -> Result<Money, LedgerError> {
    let ore = db
        .prepare_cached(
            "SELECT coalesce(sum(max(0, c.till_max - max(0, coalesce(r.highest - r.gross, 0)))), 0)
             FROM till t JOIN canteen c ON c.id = t.canteen
             JOIN till_epoch e ON e.till = t.id AND e.epoch = ?2
             JOIN account a ON a.canteen = c.id AND a.status <> 'closed'
             LEFT JOIN ceiling r ON r.account = a.id AND r.till = t.id AND r.epoch = ?2
             WHERE t.id = ?1 AND e.reported IS NOT (SELECT hub_epoch FROM hub)",
        )?
        .query_row((till.as_str(), epoch.0.cast_signed()), |row| row.get(0))?;
    Ok(Money::from_ore(ore))
}

const MISSING: &str = "FROM till t JOIN till_epoch e ON e.till = t.id
   WHERE t.canteen = ?1 AND e.retired_at IS NULL
     AND e.reported IS NOT (SELECT hub_epoch FROM hub)";
