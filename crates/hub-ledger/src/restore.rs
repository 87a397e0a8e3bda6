//! A store that was restored from a backup, and how it finds out what tills may sell.
//!
//! A backup does not know what the hub gave away after it was made. The restored store therefore
//! begins a new life and its canteens are *frozen*: it tells tills their positions without any ceiling, so that
//! they keep those that they have, raises none, and takes no money away that tills may be spending.
//! A till that sees the new life sends what the store has lost, then reports the ceilings in force
//! with it, in entries of its own ledger; when those are booked, so is every sale before them. A
//! canteen's freeze ends when each of its tills that is not retired has reported.

use canteen::Money;
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{Epoch, StateReport, TillId};

use crate::ceilings::{accounts_of, touch_all_accounts};
use crate::debits::go_on;
use crate::error::{LedgerError, Refusal};
use crate::flags::{Origin, raise_flag};
use crate::limit_shares::forget_all_shares;
use crate::store::{HubLedger, HubReader, hub_position, millis, moment};
use crate::tenancy::{CanteenId, Reach, TenantId, tenant_of};
use crate::tills::TillAccess;

mod missing;

pub(crate) use missing::unknown_right;
pub use missing::{MissingTill, NextStep};
use missing::{is_any_missing, missing_tills};

/// Which life of the store this is, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Drawn when the life began.
    pub hub_epoch: u64,
    /// Rises while the program runs.
    pub lease: u64,
}

/// How far a restored store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The life of the store.
    pub hub_epoch: u64,
    /// Since when no card is charged; `None` when they are.
    pub top_ups_paused_at: Option<Timestamp>,
    /// How many charges nobody knows the purpose of; their cards are held.
    pub unmatched_charges: u32,
    /// The canteens within reach that wait for reports.
    pub frozen: Vec<FrozenCanteen>,
}

/// A canteen whose ceilings are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenCanteen {
    /// Its number.
    pub canteen: CanteenId,
    /// Its name.
    pub name: String,
    /// Since when.
    pub frozen_at: Timestamp,
    /// The tills that have not reported.
    pub missing: Vec<MissingTill>,
    /// What they may still sell that the store does not reckon with, at most.
    pub at_risk: Money,
}

impl HubReader {
    /// Which life of the store this is.
    pub fn life(&self) -> Result<Life, LedgerError> {
        life(&self.db)
    }

    /// How far a restored store is, as far as one may see.
    pub fn restore(&self, reach: Reach) -> Result<Restore, LedgerError> {
        let sql = "SELECT top_ups_paused_at FROM hub";
        let paused_at: Option<i64> = self.db.query_row(sql, [], |row| row.get(0))?;
        let mut statement = self.db.prepare_cached(
            "SELECT id, name, frozen_at FROM canteen
             WHERE frozen_at IS NOT NULL AND (?1 IS NULL OR tenant = ?1) ORDER BY id",
        )?;
        let mut rows = statement.query([reach.filter()])?;
        let mut frozen = Vec::new();
        while let Some(row) = rows.next()? {
            let canteen = CanteenId(row.get(0)?);
            let missing = missing_tills(&self.db, canteen)?;
            frozen.push(FrozenCanteen {
                canteen,
                name: row.get(1)?,
                frozen_at: moment(row.get(2)?)?,
                at_risk: sum_at_risk(&missing),
                missing,
            });
        }
        let sql = "SELECT count(*) FROM unmatched_charge WHERE resolved_at IS NULL";
        let unmatched_charges = self.db.query_row(sql, [], |row| row.get(0))?;
        Ok(Restore {
            unmatched_charges,
            hub_epoch: life(&self.db)?.hub_epoch,
            top_ups_paused_at: paused_at.map(moment).transpose()?,
            frozen,
        })
    }
}

impl HubLedger {
    /// Counts the lease up, now and then while the program runs.
    pub fn renew_lease(&mut self) -> Result<Life, LedgerError> {
        let db = self.change()?;
        db.execute("UPDATE hub SET lease = lease + 1", [])?;
        let life = life(&db)?;
        db.commit()?;
        Ok(life)
    }

    /// Begins a new life of a store that was restored from a backup, and freezes it.
    pub fn begin_new_life(&mut self, fresh: u64, now: Timestamp) -> Result<Life, LedgerError> {
        let db = self.change()?;
        let before = life(&db)?.hub_epoch;
        // JSON readers keep 53 bits of a number.
        let drawn = (fresh & ((1 << 53) - 1)).max(1);
        let hub_epoch = if drawn == before { drawn ^ 2 } else { drawn };
        db.execute(
            "UPDATE hub SET hub_epoch = ?1, lease = lease + 1, top_ups_paused_at = ?2",
            (hub_epoch.cast_signed(), millis(now)),
        )?;
        db.execute("UPDATE canteen SET frozen_at = ?1", [millis(now)])?;
        // Nothing that a till applied in the earlier life says anything about this one.
        db.execute("UPDATE till_epoch SET acked = 0, heeds_from = NULL", [])?;
        forget_all_shares(&db)?;
        let detail = format!(
            "the store was restored: ceilings wait for the tills' reports, and top-ups for the \
             gateway's list (life {hub_epoch} after {before})"
        );
        for tenant in tenants(&db)? {
            flag(&db, "restored", tenant, None, &detail, now)?;
        }
        for canteen in canteens(&db)? {
            thaw_when_all_reported(&db, canteen, now)?;
        }
        let life = life(&db)?;
        db.commit()?;
        Ok(life)
    }

    /// Ends the freeze of a canteen before every till has reported. What the missing ones may still
    /// sell is a risk from now on, and is flagged. Gives that amount.
    pub fn unfreeze(&mut self, canteen: CanteenId, now: Timestamp) -> Result<Money, LedgerError> {
        let db = self.change()?;
        let tenant = tenant_of(&db, canteen)?;
        if !is_frozen(&db, canteen)? {
            return Err(Refusal::NotFrozen.into());
        }
        let missing = missing_tills(&db, canteen)?;
        for till in &missing {
            let detail = format!(
                "the freeze ended without the till's report: it may sell for {} more than the hub \
                 reckons with",
                till.at_risk
            );
            flag(&db, "unfrozen", tenant, Some(till), &detail, now)?;
        }
        thaw(&db, canteen, now)?;
        db.commit()?;
        Ok(sum_at_risk(&missing))
    }
}

/// Whether the ceilings of a canteen are kept as they are.
pub(crate) fn is_frozen(db: &Connection, canteen: CanteenId) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM canteen WHERE id = ?1 AND frozen_at IS NOT NULL")?
        .exists([canteen.0])?)
}

/// Whether no card is to be charged.
pub(crate) fn are_top_ups_paused(db: &Connection) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM hub WHERE top_ups_paused_at IS NOT NULL")?
        .exists([])?)
}

/// An entry of a frozen canteen's till was written in another life: its ledger is older than this
/// life, although it was enrolled in it, and has to report.
pub(crate) fn note_other_life(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE till_epoch SET reported = NULL WHERE till = ?1 AND epoch = ?2")?
        .execute((till.as_str(), epoch.0.cast_signed()))?;
    Ok(())
}

/// A till whose first words in this life are no report has heard of no earlier one: it was enrolled
/// before the backup, and has held no ceiling yet that it could report.
pub(crate) fn note_first_life(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE till_epoch SET reported = (SELECT hub_epoch FROM hub)
         WHERE till = ?1 AND epoch = ?2 AND reported IS NOT (SELECT hub_epoch FROM hub)
           AND NOT EXISTS (SELECT 1 FROM report_part p, hub
             WHERE p.till = ?1 AND p.epoch = ?2 AND p.hub_epoch = hub.hub_epoch)",
    )?
    .execute((till.as_str(), epoch.0.cast_signed()))?;
    Ok(())
}

/// Takes over what a till says that it may sell, in place of what the backup knew.
pub(crate) fn take_report(
    db: &Connection,
    access: &TillAccess,
    epoch: Epoch,
    report: &StateReport,
) -> Result<(), LedgerError> {
    let till = &access.till;
    let (hub_epoch, _) = hub_position(db)?;
    let epoch_key = epoch.0.cast_signed();
    let awaited = db
        .prepare_cached(
            "SELECT 1 FROM till_epoch WHERE till = ?1 AND epoch = ?2 AND reported IS NOT ?3",
        )?
        .exists((till.as_str(), epoch_key, hub_epoch.cast_signed()))?;
    if !awaited || report.hub_epoch != hub_epoch {
        return Ok(());
    }
    let parts_before = count_parts(db, till, epoch, hub_epoch)?;
    // Once ceilings are issued again, the newest of them count, and those that are acknowledged.
    let counts = is_frozen(db, access.canteen)?;
    if counts && parts_before == 0 {
        db.execute(
            "UPDATE ceiling SET ceiling = NULL, highest = NULL, rv = 0
             WHERE till = ?1 AND epoch = ?2",
            (till.as_str(), epoch_key),
        )?;
    }
    for state in report.accounts.iter().filter(|_| counts) {
        // An account that was made after the backup is not here; its sales are in suspense.
        db.prepare_cached(
            "INSERT INTO ceiling (account, till, epoch, gross, ceiling, highest)
             SELECT id, ?2, ?3, ?4, ?5, ?5 FROM account WHERE id = ?1
             ON CONFLICT (account, till, epoch) DO UPDATE SET gross = ?4, ceiling = ?5, highest = ?5",
        )?
        .execute((
            state.account.0,
            till.as_str(),
            epoch_key,
            state.gross.ore(),
            state.ceiling.map(Money::ore),
        ))?;
    }
    db.execute(
        "INSERT INTO report_part (till, epoch, hub_epoch, part) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
        (
            till.as_str(),
            epoch_key,
            hub_epoch.cast_signed(),
            report.part,
        ),
    )?;
    if count_parts(db, till, epoch, hub_epoch)? >= report.parts {
        db.execute(
            "UPDATE till_epoch SET reported = ?3 WHERE till = ?1 AND epoch = ?2",
            (till.as_str(), epoch_key, hub_epoch.cast_signed()),
        )?;
    }
    Ok(())
}

/// Ends the freeze when nobody is missing any more.
pub(crate) fn thaw_when_all_reported(
    db: &Connection,
    canteen: CanteenId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    if is_frozen(db, canteen)? && !is_any_missing(db, canteen)? {
        thaw(db, canteen, now)?;
    }
    Ok(())
}

fn thaw(db: &Connection, canteen: CanteenId, now: Timestamp) -> Result<(), LedgerError> {
    db.execute(
        "UPDATE canteen SET frozen_at = NULL WHERE id = ?1",
        [canteen.0],
    )?;
    touch_all_accounts(db, canteen)?;
    // Money that was to be taken out has waited.
    for account in accounts_of(db, canteen)? {
        go_on(db, account, now)?;
    }
    Ok(())
}

fn count_parts(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    hub_epoch: u64,
) -> Result<u32, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT count(*) FROM report_part WHERE till = ?1 AND epoch = ?2 AND hub_epoch = ?3",
        )?
        .query_row(
            (
                till.as_str(),
                epoch.0.cast_signed(),
                hub_epoch.cast_signed(),
            ),
            |row| row.get(0),
        )?)
}

fn life(db: &Connection) -> Result<Life, LedgerError> {
    Ok(db
        .prepare_cached("SELECT hub_epoch, lease FROM hub")?
        .query_row([], |row| {
            Ok(Life {
                hub_epoch: row.get::<_, i64>(0)?.cast_unsigned(),
                lease: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })?)
}

fn canteens(db: &Connection) -> Result<Vec<CanteenId>, LedgerError> {
    let mut statement = db.prepare("SELECT id FROM canteen ORDER BY id")?;
    let rows = statement.query_map([], |row| row.get(0).map(CanteenId))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn tenants(db: &Connection) -> Result<Vec<TenantId>, LedgerError> {
    let mut statement = db.prepare("SELECT id FROM tenant ORDER BY id")?;
    let rows = statement.query_map([], |row| row.get(0).map(TenantId))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn flag(
    db: &Connection,
    code: &str,
    tenant: TenantId,
    till: Option<&MissingTill>,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let origin = Origin {
        tenant,
        till: till.map(|till| till.till.as_str()),
        epoch: till.map(|till| till.epoch),
        seq: None,
    };
    raise_flag(db, code, &origin, None, None, detail, now)
}

/// Amounts beyond all counting are as good as the largest one.
fn sum_at_risk(missing: &[MissingTill]) -> Money {
    let amounts = missing.iter().map(|till| till.at_risk.ore());
    Money::from_ore(amounts.fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests;
