//! Spending ceilings: what bounds how much several tills that cannot ask overspend together.
//!
//! A till may sell on an account until the sum of all its sales there reaches the ceiling that it
//! was given last. What the hub must assume a till can still sell, its *outstanding right*, is the
//! highest ceiling that may be in force there, less the sales that are booked. A ceiling is raised
//! only as far as the outstanding rights of all tills together stay within the balance and the
//! overspend that the canteen accepts; booking a sale lowers both sides alike, so that holds for
//! ever after.
//!
//! - **Sums are gross.** A void gives money back through the hub, never a right to the till, so a
//!   copied disk cannot make rights out of voids.
//! - **A lower ceiling frees room only when it is acknowledged**, by an entry of the till's own
//!   ledger that was written after the till had applied it; all sales under the higher ceiling
//!   stand before that entry, so they are booked by then.
//! - **A record that changes again takes its unacknowledged ceilings along** to its new version.
//!   Otherwise a till could pass the old version in a page from which the record was left out, and
//!   be taken to have read it.
//! - **A right outlives the till.** The rights of a revoked till, and of an epoch that was followed
//!   by another, go on counting: the machine may be selling somewhere without contact. Entries that
//!   still arrive use them up. The rest ends when an operator retires the till, which is flagged
//!   with the amount that is at risk from then on.

use canteen::{AccountId, Money, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{Epoch, TillId};

use crate::accounts::status_from;
use crate::bookings::BookingId;
use crate::debits::go_on;
use crate::error::{LedgerError, Refusal};
use crate::feed::{touch_account, touch_issued};
use crate::flags::{Origin, raise_flag};
use crate::limit_shares::{acknowledge_shares, move_shares, reissue_shares};
use crate::restore::{thaw_when_all_reported, unknown_right};
use crate::store::{HubLedger, HubReader, millis};
use crate::tenancy::{CanteenId, Reach, tenant_of};

/// What tills that cannot ask may do at a canteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfflineBounds {
    /// The most that all tills together overspend on one account.
    pub overspend_max: Money,
    /// The most that one till sells on one account before the hub has heard of it.
    pub till_max: Money,
}

impl Default for OfflineBounds {
    fn default() -> OfflineBounds {
        OfflineBounds {
            overspend_max: Money::from_kroner(200),
            till_max: Money::from_kroner(200),
        }
    }
}

impl HubLedger {
    /// Sets the bounds of all canteens, those of `exceptions` apart. Ceilings of canteens where that
    /// is new are issued anew.
    pub fn bound_offline_sales(
        &mut self,
        everywhere: OfflineBounds,
        exceptions: &[(CanteenId, OfflineBounds)],
    ) -> Result<(), LedgerError> {
        let canteens = self.list_canteens(Reach::Everything)?;
        let db = self.change()?;
        for (canteen, _) in exceptions {
            tenant_of(&db, *canteen)?;
        }
        for canteen in canteens {
            let exception = exceptions.iter().find(|(id, _)| *id == canteen.id);
            let bounds = exception.map_or(everywhere, |(_, bounds)| *bounds);
            if set_bounds(&db, canteen.id, bounds)? {
                for account in accounts_of(&db, canteen.id)? {
                    reissue_and_tell(&db, account)?;
                }
            }
        }
        Ok(db.commit()?)
    }

    /// Ends the rights of a till that is gone for good: of all its epochs when it is revoked, else
    /// of those that were followed by another. What it may still have sold is a risk from now on,
    /// and is flagged. Gives that amount.
    pub fn retire_till(&mut self, till: &TillId, now: Timestamp) -> Result<Money, LedgerError> {
        let db = self.change()?;
        let canteen: Option<i64> = db
            .query_row(
                "SELECT canteen FROM till WHERE id = ?1",
                [till.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        let canteen = CanteenId(canteen.ok_or_else(|| Refusal::not_found("till", till))?);
        let epochs: Vec<i64> = db
            .prepare(
                "UPDATE till_epoch SET retired_at = ?2 WHERE till = ?1 AND retired_at IS NULL
                   AND EXISTS (SELECT 1 FROM till t WHERE t.id = ?1
                     AND (t.revoked_at IS NOT NULL OR t.epoch IS NOT till_epoch.epoch)
                     -- In a ledger that a restored store had forgotten the till is still at work,
                     -- until it has begun another one.
                     AND (t.revoked_at IS NOT NULL OR NOT till_epoch.forgotten
                       OR EXISTS (SELECT 1 FROM till_epoch o, hub WHERE o.till = t.id
                         AND o.epoch = t.epoch AND o.reported = hub.hub_epoch)))
                 RETURNING epoch",
            )?
            .query_map((till.as_str(), millis(now)), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if epochs.is_empty() {
            return Err(Refusal::TillInUse.into());
        }
        let mut at_risk: i64 = 0;
        for epoch in epochs {
            let rights: Vec<(i64, i64)> = db
                .prepare_cached(
                    "SELECT account, highest - gross FROM ceiling
                     WHERE till = ?1 AND epoch = ?2 AND highest > gross",
                )?
                .query_map((till.as_str(), epoch), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            for (account, right) in rights {
                at_risk = at_risk.saturating_add(right);
                reissue_and_tell(&db, AccountId(account))?;
                go_on(&db, AccountId(account), now)?;
            }
            // Of a till that has not reported to a restored store, no more than the most is known.
            let unknown = unknown_right(&db, till, Epoch(epoch.cast_unsigned()))?;
            at_risk = at_risk.saturating_add(unknown.ore());
        }
        let at_risk = Money::from_ore(at_risk);
        let origin = Origin {
            tenant: tenant_of(&db, canteen)?,
            till: Some(till.as_str()),
            epoch: None,
            seq: None,
        };
        let detail = format!(
            "the till was retired while it may have sold for {at_risk} that the hub has not heard of"
        );
        raise_flag(&db, "retired_till", &origin, None, None, &detail, now)?;
        thaw_when_all_reported(&db, canteen, now)?;
        db.commit()?;
        Ok(at_risk)
    }
}

impl HubReader {
    /// What all tills together can still sell on an account, as far as the hub can exclude more.
    pub fn outstanding(&self, account: AccountId) -> Result<Money, LedgerError> {
        outstanding(&self.db, account)
    }
}

/// What an account allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    canteen: CanteenId,
    status: Status,
    /// What it holds, less what sales in quarantine are about, and how far below zero it may go.
    spendable: i64,
    overspend_max: i64,
    till_max: i64,
    /// Whether ceilings are kept as they are, since the hub does not know what it gave away.
    frozen: bool,
    /// Whether there are limits that only tills may sell under whose program keeps them strictly.
    strict: bool,
}

impl Terms {
    fn read(db: &Connection, account: AccountId) -> Result<Option<Terms>, LedgerError> {
        let mut statement = db.prepare_cached(
            "SELECT a.canteen, a.status, a.balance, a.credit, c.overspend_max, c.till_max,
               (SELECT coalesce(sum(q.amount), 0) FROM quarantine q
                WHERE q.account = a.id AND q.resolved_at IS NULL),
               c.frozen_at IS NOT NULL,
               a.limit_mode = 'strict'
                 AND coalesce(a.limit_day, a.limit_week, a.limit_month) IS NOT NULL
             FROM account a JOIN canteen c ON c.id = a.canteen
             WHERE a.id = ?1 AND a.kind = 'holder'",
        )?;
        let mut rows = statement.query([account.0])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let status: String = row.get(1)?;
        Ok(Some(Terms {
            canteen: CanteenId(row.get(0)?),
            status: status_from(&status)?,
            spendable: row
                .get::<_, i64>(2)?
                .saturating_add(row.get(3)?)
                .saturating_sub(row.get(6)?),
            overspend_max: row.get(4)?,
            till_max: row.get(5)?,
            frozen: row.get(7)?,
            strict: row.get(8)?,
        }))
    }

    /// What a till may sell on top of what is booked, given what the others can still sell.
    fn grant(&self, right: &Right, others: i64) -> i64 {
        match self.status {
            // It would drop the share and sell by the limits alone.
            Status::Active if self.strict && !right.keeps_strict_limits => 0,
            Status::Active => self
                .till_max
                .min(self.spendable)
                .min(self.room().saturating_sub(others))
                .max(0),
            Status::Blocked | Status::Closed => 0,
        }
    }

    /// What all tills together may have outstanding.
    fn room(&self) -> i64 {
        self.spendable.saturating_add(self.overspend_max)
    }
}

/// What one till may sell on an account in one epoch.
#[derive(Debug, Clone)]
struct Right {
    till: String,
    epoch: i64,
    /// Whether the till can be told of another ceiling.
    live: bool,
    keeps_strict_limits: bool,
    gross: i64,
    ceiling: Option<i64>,
    highest: i64,
}

impl Right {
    fn outstanding(&self) -> i64 {
        self.highest.saturating_sub(self.gross).max(0)
    }
}

/// Issues the ceilings of an account anew: to all tills, those that used it last first, or to one
/// epoch alone. Tells whether one has changed.
///
/// The caller gives the account's record a new version when one has, so that the tills hear of it.
pub(crate) fn reissue(
    db: &Connection,
    account: AccountId,
    only: Option<Epoch>,
) -> Result<bool, LedgerError> {
    let Some(terms) = Terms::read(db, account)? else {
        return Ok(false);
    };
    if terms.frozen {
        return Ok(false);
    }
    // Before the ceilings of money: what a till may sell without having heard of its share is what
    // it was given before. A new epoch keeps no share until it has said that it can.
    let mut changed = only.is_none() && reissue_shares(db, account)?;
    let mut rights = read_rights(db, account, terms.canteen)?;
    let mut all = rights
        .iter()
        .fold(0_i64, |sum, right| sum.saturating_add(right.outstanding()));
    for right in &mut rights {
        if !right.live || only.is_some_and(|only| only.0.cast_signed() != right.epoch) {
            continue;
        }
        let before = right.outstanding();
        let grant = terms.grant(right, all.saturating_sub(before));
        let ceiling = right.gross.saturating_add(grant);
        if right.ceiling == Some(ceiling) {
            continue;
        }
        right.ceiling = Some(ceiling);
        right.highest = right.highest.max(ceiling);
        all = all
            .saturating_sub(before)
            .saturating_add(right.outstanding());
        write_issue(db, account, right)?;
        changed = true;
    }
    Ok(changed)
}

/// Issues the ceilings of an account anew, and tells the tills when one has changed.
pub(crate) fn reissue_and_tell(db: &Connection, account: AccountId) -> Result<(), LedgerError> {
    if reissue(db, account, None)?
        && let Some(terms) = Terms::read(db, account)?
    {
        touch_issued(db, terms.canteen, account)?;
    }
    Ok(())
}

/// Gives the first ceilings to a new epoch, which hears of them by its snapshot.
pub(crate) fn issue_to_new_epoch(
    db: &Connection,
    canteen: CanteenId,
    epoch: Epoch,
) -> Result<(), LedgerError> {
    for account in accounts_of(db, canteen)? {
        reissue(db, account, Some(epoch))?;
    }
    Ok(())
}

/// Tells all tills of a canteen of all its accounts once more.
pub(crate) fn touch_all_accounts(db: &Connection, canteen: CanteenId) -> Result<(), LedgerError> {
    for account in accounts_of(db, canteen)? {
        touch_account(db, canteen, account)?;
    }
    Ok(())
}

/// The account's record has a new version: ceilings that are not acknowledged are read with it.
pub(crate) fn move_issues(db: &Connection, account: AccountId, rv: i64) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE ceiling SET rv = ?2 WHERE account = ?1 AND highest > ceiling")?
        .execute((account.0, rv))?;
    move_shares(db, account, rv)
}

/// Counts a sale that is not booked, or no longer counts one.
pub(crate) fn shift_gross(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: AccountId,
    amount: Money,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO ceiling (account, till, epoch, gross) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account, till, epoch) DO UPDATE SET gross = gross + ?4",
    )?
    .execute((
        account.0,
        till.as_str(),
        epoch.0.cast_signed(),
        amount.ore(),
    ))?;
    Ok(())
}

/// Counts a booked sale.
pub(crate) fn count_gross(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: AccountId,
    amount: Money,
    booking: BookingId,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO ceiling (account, till, epoch, gross, used) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (account, till, epoch) DO UPDATE SET gross = gross + ?4, used = ?5",
    )?
    .execute((
        account.0,
        till.as_str(),
        epoch.0.cast_signed(),
        amount.ore(),
        booking.0,
    ))?;
    Ok(())
}

/// Notes that an epoch has applied the feed up to a cursor, and gives the accounts on which that
/// makes room.
pub(crate) fn acknowledge(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    cursor: u64,
) -> Result<Vec<AccountId>, LedgerError> {
    let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
    let counts = db
        .prepare_cached(
            "UPDATE till_epoch SET acked = ?3
             WHERE till = ?1 AND epoch = ?2 AND acked < ?3 AND heeds_from <= ?3",
        )?
        .execute((till.as_str(), epoch.0.cast_signed(), cursor))?;
    if counts == 0 {
        return Ok(Vec::new());
    }
    let mut freed = acknowledge_shares(db, till, epoch, cursor)?;
    let by_ceilings = db
        .prepare_cached(
            "UPDATE ceiling SET highest = ceiling
             WHERE till = ?1 AND epoch = ?2 AND rv <= ?3 AND highest > ceiling
             RETURNING account",
        )?
        .query_map((till.as_str(), epoch.0.cast_signed(), cursor), |row| {
            row.get(0).map(AccountId)
        })?
        .collect::<Result<Vec<_>, _>>()?;
    freed.extend(by_ceilings);
    freed.sort_unstable();
    freed.dedup();
    Ok(freed)
}

/// The ceiling that an epoch was given last on an account, and what of it is left by the books.
pub(crate) fn ceiling_of(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: AccountId,
) -> Result<Option<(Money, Money)>, LedgerError> {
    let found: Option<(Option<i64>, i64)> = db
        .prepare_cached(
            "SELECT ceiling, gross FROM ceiling WHERE account = ?1 AND till = ?2 AND epoch = ?3",
        )?
        .query_row((account.0, till.as_str(), epoch.0.cast_signed()), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(found.and_then(|(ceiling, gross)| {
        let ceiling = ceiling?;
        let left = ceiling.saturating_sub(gross);
        Some((Money::from_ore(ceiling), Money::from_ore(left)))
    }))
}

/// Whether money can be taken away: what the tills may still sell stays within what is left and the
/// overspend that the canteen accepts.
pub(crate) fn leaves_enough(
    db: &Connection,
    account: AccountId,
    amount: Money,
) -> Result<bool, LedgerError> {
    let Some(terms) = Terms::read(db, account)? else {
        return Ok(true);
    };
    // Nobody knows what tills may be spending; what is to be taken out waits.
    if terms.frozen {
        return Ok(false);
    }
    let left = terms.room().saturating_sub(amount.ore());
    Ok(outstanding(db, account)?.ore() <= left)
}

pub(crate) fn outstanding(db: &Connection, account: AccountId) -> Result<Money, LedgerError> {
    let ore = db
        .prepare_cached(
            "SELECT coalesce(sum(max(0, c.highest - c.gross)), 0) FROM ceiling c
             JOIN till_epoch e ON e.till = c.till AND e.epoch = c.epoch
             WHERE c.account = ?1 AND e.retired_at IS NULL",
        )?
        .query_row([account.0], |row| row.get(0))?;
    Ok(Money::from_ore(ore))
}

fn read_rights(
    db: &Connection,
    account: AccountId,
    canteen: CanteenId,
) -> Result<Vec<Right>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT t.id, e.epoch, t.epoch IS e.epoch AND t.revoked_at IS NULL AS live,
           coalesce(c.gross, 0), c.ceiling, coalesce(c.highest, 0), e.strict_limits
         FROM till t JOIN till_epoch e ON e.till = t.id
         LEFT JOIN ceiling c ON c.account = ?1 AND c.till = e.till AND c.epoch = e.epoch
         WHERE t.canteen = ?2 AND e.retired_at IS NULL AND (live OR c.highest > c.gross)
         ORDER BY coalesce(c.used, 0) DESC, t.id",
    )?;
    let rows = statement.query_map((account.0, canteen.0), |row| {
        Ok(Right {
            till: row.get(0)?,
            epoch: row.get(1)?,
            live: row.get(2)?,
            keeps_strict_limits: row.get(6)?,
            gross: row.get(3)?,
            ceiling: row.get(4)?,
            highest: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn write_issue(db: &Connection, account: AccountId, right: &Right) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO ceiling (account, till, epoch, ceiling, highest) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (account, till, epoch) DO UPDATE SET ceiling = ?4, highest = ?5",
    )?
    .execute((
        account.0,
        &right.till,
        right.epoch,
        right.ceiling,
        right.highest,
    ))?;
    Ok(())
}

/// Tells whether they are other than before.
fn set_bounds(
    db: &Connection,
    canteen: CanteenId,
    bounds: OfflineBounds,
) -> Result<bool, LedgerError> {
    for (what, amount) in [
        ("the most that is overspent", bounds.overspend_max),
        ("the most that one till sells", bounds.till_max),
    ] {
        if amount < Money::ZERO {
            return Err(Refusal::Negative { what, amount }.into());
        }
    }
    let changed = db
        .prepare_cached(
            "UPDATE canteen SET overspend_max = ?2, till_max = ?3
             WHERE id = ?1 AND (overspend_max, till_max) IS NOT (?2, ?3)",
        )?
        .execute((canteen.0, bounds.overspend_max.ore(), bounds.till_max.ore()))?;
    Ok(changed > 0)
}

pub(crate) fn accounts_of(
    db: &Connection,
    canteen: CanteenId,
) -> Result<Vec<AccountId>, LedgerError> {
    let mut statement =
        db.prepare_cached("SELECT id FROM account WHERE canteen = ?1 ORDER BY id")?;
    let rows = statement.query_map([canteen.0], |row| row.get(0).map(AccountId))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
