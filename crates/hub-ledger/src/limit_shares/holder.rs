//! What tills can sell under a strict limit, and how the shares of it are dealt out.

use canteen::AccountId;
use rusqlite::Connection;

use super::window::Window;
use crate::accounts::AccountRow;
use crate::error::LedgerError;

/// What an epoch of a till can sell on an account.
#[derive(Debug)]
pub(super) struct Holder {
    till: String,
    epoch: i64,
    /// Whether it can be told of another share.
    can_be_told: bool,
    /// Whether it keeps its shares.
    keeps: bool,
    gross: i64,
    /// What its ceilings of money still allow.
    money: i64,
    pub(super) share: Option<Share>,
}

/// A till's share as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    ceiling: i64,
    highest: i64,
    ahead: i64,
    ahead_highest: i64,
    carried: i64,
}

impl Share {
    /// The window has turned: nothing was issued in the new one yet.
    pub(super) fn turn(&mut self) {
        self.carried = self.carried.max(self.ahead_highest);
        self.ceiling = 0;
        self.highest = 0;
    }
}

impl Holder {
    /// What it can still sell in the window of the account's day.
    pub(super) fn outstanding(&self) -> i64 {
        self.bounded(|share| {
            let by_ceiling = share.highest.saturating_sub(self.gross);
            by_ceiling.max(share.carried)
        })
    }

    /// What it can sell in a window that is still to come.
    pub(super) fn ahead(&self) -> i64 {
        self.bounded(|share| share.ahead_highest.max(share.carried))
    }

    fn bounded(&self, of: impl FnOnce(&Share) -> i64) -> i64 {
        match &self.share {
            Some(share) if self.keeps && self.can_be_told => of(share).max(0),
            // Its ceiling of money is never raised again.
            Some(share) if self.keeps => of(share).clamp(0, self.money),
            Some(_) | None => self.money,
        }
    }

    fn is_issued_to(&self) -> bool {
        self.keeps && self.can_be_told
    }

    /// Its share before it is issued anew; at first, what it may sell without having heard.
    fn before(&self) -> Share {
        self.share.unwrap_or(Share {
            ceiling: 0,
            highest: 0,
            ahead: 0,
            ahead_highest: 0,
            carried: self.money,
        })
    }
}

/// What is left of a limit by the books.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// In the window of the day.
    pub(super) now: i64,
    /// In the fullest of the later ones.
    pub(super) later: i64,
}

/// The shares after issuing them anew, in the order of the holders.
pub(super) fn issue(holders: &[Holder], left: Left, till_max: i64) -> Vec<Option<Share>> {
    let sum = |of: fn(&Holder) -> i64, wanted: fn(&Holder) -> bool| {
        let holders = holders.iter().filter(|holder| wanted(holder));
        holders.fold(0_i64, |sum, holder| sum.saturating_add(of(holder)))
    };
    let fixed = |holder: &Holder| !holder.is_issued_to();
    // What goes to whom once every till has acknowledged that it has less.
    let fixed_now = sum(Holder::outstanding, fixed);
    let mut for_now = left.now.saturating_sub(fixed_now).max(0);
    let mut for_later = left.later.saturating_sub(sum(Holder::ahead, fixed)).max(0);
    // What all can still sell at this moment.
    let mut now = sum(Holder::outstanding, |_| true);
    let mut later = sum(Holder::ahead, |_| true);
    let take = |from: &mut i64| {
        let part = till_max.min(*from);
        *from -= part;
        part
    };
    let mut issued = Vec::with_capacity(holders.len());
    for holder in holders {
        if fixed(holder) {
            issued.push(holder.share);
            continue;
        }
        let (target_now, target_later) = (take(&mut for_now), take(&mut for_later));
        let (before_now, before_later) = (holder.outstanding(), holder.ahead());
        let room_now = left.now.saturating_sub(now.saturating_sub(before_now));
        let room_later = left
            .later
            .saturating_sub(later.saturating_sub(before_later));
        let mut share = holder.before();
        share.ceiling = holder.gross.saturating_add(target_now.min(room_now).max(0));
        share.highest = share.highest.max(share.ceiling);
        share.ahead = target_later.min(room_later).max(0);
        share.ahead_highest = share.ahead_highest.max(share.ahead);
        let after = Holder {
            till: String::new(),
            share: Some(share),
            ..*holder
        };
        now = now
            .saturating_sub(before_now)
            .saturating_add(after.outstanding());
        later = later
            .saturating_sub(before_later)
            .saturating_add(after.ahead());
        issued.push(Some(share));
    }
    issued
}

pub(super) fn read_holders(
    db: &Connection,
    account: &AccountRow,
    window: Window,
) -> Result<Vec<Holder>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT t.id, e.epoch, t.epoch IS e.epoch AND t.revoked_at IS NULL AS live,
           e.strict_limits, coalesce(c.gross, 0), max(0, coalesce(c.highest - c.gross, 0)),
           s.ceiling, s.highest, s.ahead, s.ahead_highest, s.carried
         FROM till t JOIN till_epoch e ON e.till = t.id
         LEFT JOIN ceiling c ON c.account = ?1 AND c.till = e.till AND c.epoch = e.epoch
         LEFT JOIN limit_share s ON s.account = ?1 AND s.window = ?3
           AND s.till = e.till AND s.epoch = e.epoch
         WHERE t.canteen = ?2 AND e.retired_at IS NULL AND (live OR c.highest > c.gross)
         ORDER BY max(coalesce(c.used, 0), coalesce(c.asked, 0)) DESC, c.asked DESC, t.id",
    )?;
    let rows = statement.query_map((account.id.0, account.canteen.0, window.code()), |row| {
        let ceiling: Option<i64> = row.get(6)?;
        let share = match ceiling {
            None => None,
            Some(ceiling) => Some(Share {
                ceiling,
                highest: row.get(7)?,
                ahead: row.get(8)?,
                ahead_highest: row.get(9)?,
                carried: row.get(10)?,
            }),
        };
        Ok(Holder {
            till: row.get(0)?,
            epoch: row.get(1)?,
            can_be_told: row.get(2)?,
            keeps: row.get(3)?,
            gross: row.get(4)?,
            money: row.get(5)?,
            share,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Tells whether the share is another one for the till.
pub(super) fn write_share(
    db: &Connection,
    account: AccountId,
    window: Window,
    holder: &Holder,
    share: &Share,
) -> Result<bool, LedgerError> {
    db.prepare_cached(
        "INSERT INTO limit_share
           (account, window, till, epoch, ceiling, highest, ahead, ahead_highest, carried)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (account, window, till, epoch) DO UPDATE SET
           ceiling = ?5, highest = ?6, ahead = ?7, ahead_highest = ?8, carried = ?9",
    )?
    .execute((
        account.0,
        window.code(),
        &holder.till,
        holder.epoch,
        share.ceiling,
        share.highest,
        share.ahead,
        share.ahead_highest,
        share.carried,
    ))?;
    let told = |share: Share| (share.ceiling, share.ahead);
    Ok(holder.share.map(told) != Some(told(*share)))
}
