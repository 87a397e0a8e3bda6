//! Shares of strict limits: what keeps several tills that cannot ask from exceeding a limit together.
//!
//! A limit is handed out like money of which nothing may be overspent (`ceilings.rs`), for every
//! window by itself. What tills can still sell in the window of the hub's day, together with what is
//! booked in it, stays within the limit; and so does what they were granted ahead for a window that
//! is still to come. A till's sales count on the day that it wrote on them.
//!
//! - **A share has two figures.** Its ceiling holds in the window that it was issued in, and counts
//!   gross like every ceiling. What was granted ahead holds in each later window, so that a till
//!   without contact sells on after midnight; the hub need do nothing at midnight. In an earlier
//!   window a share holds nothing: a till whose clock is behind cannot use today's right for
//!   yesterday.
//! - **When a window turns**, a till may be selling by what it was granted ahead until it
//!   acknowledges the new share; that is carried along undiminished, since the hub cannot tell which
//!   of its late sales used it.
//! - **A till's clock may be ahead.** What is booked on a later day is taken off what is granted
//!   ahead.
//! - **The till that was used last, or asked last, comes first**: all that is left goes there, at most
//!   what a till may sell unheard. What another till holds is lowered, and is there to be given when
//!   that till has acknowledged it.
//! - **A till that has not yet heard that limits are strict** may sell as far as its ceiling of money
//!   reaches, and that much is reckoned as its share. One whose program does not keep strict limits
//!   is given no ceiling of money on such accounts.

use canteen::{AccountId, BusinessDay, LimitMode, LimitShare, LimitShares, Limits, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{Epoch, LimitSharesRecord, TillId};

use crate::accounts::{AccountRow, find_account};
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::spent_by_day::spent_as_booked;
use crate::store::HubReader;
use crate::tenancy::CanteenId;

mod holder;
mod window;

use self::holder::{Left, Share, issue, read_holders, write_share};
use self::window::Window;

impl HubReader {
    /// Whether a till may have to acknowledge less of an account's strict limits before another can
    /// be given more.
    pub fn awaits_shares(&self, account: AccountId) -> Result<bool, LedgerError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT 1 FROM limit_share WHERE account = ?1
                   AND (highest > ceiling OR ahead_highest > ahead OR carried > 0)",
            )?
            .exists([account.0])?)
    }
}

/// Moves the hub's day on to that of a moment.
pub(crate) fn reach_day(db: &Connection, now: Timestamp) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE hub SET day = ?1 WHERE day < ?1")?
        .execute([BusinessDay::of(now).to_string()])?;
    Ok(())
}

fn hub_day(db: &Connection) -> Result<Option<BusinessDay>, LedgerError> {
    let day: String = db
        .prepare_cached("SELECT day FROM hub")?
        .query_row([], |row| row.get(0))?;
    match day.as_str() {
        "" => Ok(None),
        text => read_day(text).map(Some),
    }
}

fn read_day(text: &str) -> Result<BusinessDay, LedgerError> {
    text.parse()
        .map_err(|_| LedgerError::Unreadable { what: "day" })
}

/// The day in whose windows an account's shares were issued last.
fn shares_on(db: &Connection, account: AccountId) -> Result<Option<BusinessDay>, LedgerError> {
    let on: Option<String> = db
        .prepare_cached("SELECT shares_on FROM account WHERE id = ?1")?
        .query_row([account.0], |row| row.get(0))?;
    on.as_deref().map(read_day).transpose()
}

/// What is to be known of an account whose limits are strict.
struct Strict {
    account: AccountId,
    limits: Limits,
    till_max: i64,
    /// What sales in quarantine are about, and what is kept back for an order.
    set_aside: i64,
}

impl Strict {
    fn read(db: &Connection, account: &AccountRow) -> Result<Strict, LedgerError> {
        let (till_max, set_aside) = db
            .prepare_cached(
                "SELECT c.till_max, a.limit_wish + (SELECT coalesce(sum(q.amount), 0)
                   FROM quarantine q WHERE q.account = a.id AND q.resolved_at IS NULL)
                 FROM account a JOIN canteen c ON c.id = a.canteen WHERE a.id = ?1",
            )?
            .query_row([account.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Strict {
            account: account.id,
            limits: account.limits,
            till_max,
            set_aside,
        })
    }
}

/// Issues the shares of an account's strict limits anew. Tells whether one has changed.
pub(crate) fn reissue_shares(db: &Connection, account: AccountId) -> Result<bool, LedgerError> {
    let account = find_account(db, account)?;
    let Some(account) = account.filter(|account| account.limits.mode == LimitMode::Strict) else {
        return Ok(false);
    };
    let Some(today) = hub_day(db)? else {
        return Ok(false);
    };
    let since = shares_on(db, account.id)?;
    let on = since.map_or(today, |since| since.max(today));
    let mut changed = since != Some(on);
    if changed {
        // What was asked for yesterday is not waited for.
        db.prepare_cached("UPDATE account SET shares_on = ?2, limit_wish = 0 WHERE id = ?1")?
            .execute((account.id.0, on.to_string()))?;
    }
    let strict = Strict::read(db, &account)?;
    let booked = spent_as_booked(db, account.id, on)?;
    for window in Window::ALL {
        let Some(limit) = window.limit(&strict.limits) else {
            continue;
        };
        let mut holders = read_holders(db, &account, window)?;
        if since.is_some_and(|since| window.has_turned(since, on)) {
            let shares = holders
                .iter_mut()
                .filter_map(|holder| holder.share.as_mut());
            shares.for_each(Share::turn);
        }
        let limit = limit.ore().saturating_sub(strict.set_aside);
        let left = Left {
            now: limit.saturating_sub(window.spent(&booked.now).ore()),
            later: limit.saturating_sub(window.spent(&booked.later).ore()),
        };
        let issued = issue(&holders, left, strict.till_max);
        for (holder, share) in holders.iter().zip(issued) {
            let Some(share) = share else { continue };
            changed |= write_share(db, strict.account, window, holder, &share)?;
        }
    }
    Ok(changed)
}

/// The account's record has a new version: shares that are not acknowledged are read with it.
pub(crate) fn move_shares(db: &Connection, account: AccountId, rv: i64) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE limit_share SET rv = ?2 WHERE account = ?1
           AND (highest > ceiling OR ahead_highest > ahead OR carried > 0)",
    )?
    .execute((account.0, rv))?;
    Ok(())
}

/// An epoch has applied the feed up to a cursor: what was in force before is not any more. Gives the
/// accounts on which that makes room.
pub(crate) fn acknowledge_shares(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    cursor: i64,
) -> Result<Vec<AccountId>, LedgerError> {
    let mut freed: Vec<AccountId> = db
        .prepare_cached(
            "UPDATE limit_share SET highest = ceiling, ahead_highest = ahead, carried = 0
             WHERE till = ?1 AND epoch = ?2 AND rv <= ?3
               AND (highest > ceiling OR ahead_highest > ahead OR carried > 0)
             RETURNING account",
        )?
        .query_map((till.as_str(), epoch.0.cast_signed(), cursor), |row| {
            row.get(0).map(AccountId)
        })?
        .collect::<Result<_, _>>()?;
    freed.sort_unstable();
    freed.dedup();
    Ok(freed)
}

/// The shares that an epoch was given last, as its till is told of them.
pub(crate) fn shares_of(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: &AccountRow,
) -> Result<Option<LimitSharesRecord>, LedgerError> {
    if account.limits.mode != LimitMode::Strict {
        return Ok(None);
    }
    let Some(on) = shares_on(db, account.id)? else {
        return Ok(None);
    };
    let share = |window: Window| -> Result<Option<LimitShare>, LedgerError> {
        if window.limit(&account.limits).is_none() {
            return Ok(None);
        }
        Ok(db
            .prepare_cached(
                "SELECT ceiling, ahead FROM limit_share
                 WHERE account = ?1 AND window = ?2 AND till = ?3 AND epoch = ?4",
            )?
            .query_row(
                (
                    account.id.0,
                    window.code(),
                    till.as_str(),
                    epoch.0.cast_signed(),
                ),
                |row| {
                    Ok(LimitShare {
                        ceiling: Money::from_ore(row.get(0)?),
                        ahead: Money::from_ore(row.get(1)?),
                    })
                },
            )
            .optional()?)
    };
    let shares = LimitShares {
        on,
        day: share(Window::Day)?,
        week: share(Window::Week)?,
        month: share(Window::Month)?,
    };
    Ok(Some(shares.into()))
}

/// Whether an epoch's shares allow a sale by the books, in the window of the hub's day.
pub(crate) fn shares_allow(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: &AccountRow,
    need: Money,
) -> Result<bool, LedgerError> {
    if account.limits.mode != LimitMode::Strict {
        return Ok(true);
    }
    let wanted = Window::ALL
        .into_iter()
        .filter(|window| window.limit(&account.limits).is_some())
        .count();
    let enough: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM limit_share s
             LEFT JOIN ceiling c ON c.account = s.account AND c.till = s.till AND c.epoch = s.epoch
             WHERE s.account = ?1 AND s.till = ?2 AND s.epoch = ?3
               AND s.ceiling - coalesce(c.gross, 0) >= ?4",
        )?
        .query_row(
            (
                account.id.0,
                till.as_str(),
                epoch.0.cast_signed(),
                need.ore(),
            ),
            |row| row.get(0),
        )?;
    Ok(usize::try_from(enough) == Ok(wanted))
}

/// The holder of an account stands at this till and asks for more: what is left of strict limits goes
/// there first, and not to an order.
pub(crate) fn prefer(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    account: AccountId,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE ceiling SET asked = (SELECT coalesce(max(id), 0) FROM booking)
         WHERE account = ?1 AND till = ?2 AND epoch = ?3",
    )?
    .execute((account.0, till.as_str(), epoch.0.cast_signed()))?;
    keep_for_order(db, account, Money::ZERO)
}

/// Keeps so much of strict limits back for an order.
pub(crate) fn keep_for_order(
    db: &Connection,
    account: AccountId,
    amount: Money,
) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE account SET limit_wish = ?2 WHERE id = ?1 AND limit_wish <> ?2")?
        .execute((account.0, amount.ore()))?;
    Ok(())
}

/// What is left of an account's strict limits that no till can be selling, for an order of a day;
/// `None` when nothing bounds it.
pub(crate) fn left_for_order(
    db: &Connection,
    account: &AccountRow,
    on: BusinessDay,
) -> Result<Option<Money>, LedgerError> {
    if account.limits.mode != LimitMode::Strict {
        return Ok(None);
    }
    let booked = spent_as_booked(db, account.id, on)?;
    let mut least: Option<i64> = None;
    for window in Window::ALL {
        let Some(limit) = window.limit(&account.limits) else {
            continue;
        };
        let used = window.spent(&booked.now);
        let holders = read_holders(db, account, window)?;
        let tills = holders.iter().fold(0_i64, |sum, holder| {
            sum.saturating_add(holder.outstanding())
        });
        let left = limit.ore().saturating_sub(used.ore()).saturating_sub(tills);
        least = Some(least.map_or(left, |least| least.min(left)));
    }
    Ok(least.map(|left| Money::from_ore(left.max(0))))
}

/// Limits have changed: shares of what is no longer limited, or no longer strictly, are forgotten.
pub(crate) fn forget_shares(
    db: &Connection,
    account: AccountId,
    limits: &Limits,
) -> Result<(), LedgerError> {
    for window in Window::ALL {
        if limits.mode == LimitMode::Strict && window.limit(limits).is_some() {
            continue;
        }
        db.execute(
            "DELETE FROM limit_share WHERE account = ?1 AND window = ?2",
            (account.0, window.code()),
        )?;
    }
    Ok(())
}

/// A store that begins a new life does not know what it gave away: every till may sell as far as its
/// ceiling of money reaches, until it has acknowledged shares of this life.
pub(crate) fn forget_all_shares(db: &Connection) -> Result<(), LedgerError> {
    db.execute("DELETE FROM limit_share", [])?;
    Ok(())
}

/// Notes whether the program that writes an epoch's ledger keeps strict limits. When that is news,
/// all tills of the canteen hear of the accounts with strict limits once more: what it applied before
/// says nothing.
pub(crate) fn note_strict_limits(
    db: &Connection,
    canteen: CanteenId,
    till: &TillId,
    epoch: Epoch,
    keeps: bool,
) -> Result<(), LedgerError> {
    let news = db
        .prepare_cached(
            "UPDATE till_epoch SET strict_limits = ?3
             WHERE till = ?1 AND epoch = ?2 AND strict_limits <> ?3",
        )?
        .execute((till.as_str(), epoch.0.cast_signed(), keeps))?;
    if news == 0 {
        return Ok(());
    }
    db.execute(
        "DELETE FROM limit_share WHERE till = ?1 AND epoch = ?2",
        (till.as_str(), epoch.0.cast_signed()),
    )?;
    let accounts: Vec<AccountId> = db
        .prepare_cached("SELECT id FROM account WHERE canteen = ?1 AND limit_mode = 'strict'")?
        .query_map([canteen.0], |row| row.get(0).map(AccountId))?
        .collect::<Result<_, _>>()?;
    for account in accounts {
        touch_account(db, canteen, account)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
