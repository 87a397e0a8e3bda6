//! Who may buy: changes of statuses, how tills hear of them ahead of everything else, and which
//! tills know.

use std::time::Duration;

use canteen::{AccountId, Status};
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{
    Denylist, Epoch, FEED_PAGE_MAX, FeedPosition, FeedRefusal, StatusChange, StatusOf, TillId,
};

use crate::accounts::{read_account, status_from};
use crate::chips::find_chip;
use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, HubReader, hub_position, millis, moment};
use crate::tenancy::CanteenId;
use crate::tills::{TillAccess, till_from};

/// How long after a block the account still pays, unless told otherwise.
pub const BLOCK_GRACE: Duration = Duration::from_secs(3600);

/// A status and the tills that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSpread {
    /// Whether it may buy.
    pub status: Status,
    /// When it was blocked or closed.
    pub blocked_at: Option<Timestamp>,
    /// The tills of the canteen that may be selling.
    pub tills: Vec<StatusAtTill>,
}

/// What one till knows of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAtTill {
    /// The till.
    pub till: TillId,
    /// Whether it has applied the status.
    pub knows: bool,
    /// When it was heard last.
    pub seen_at: Option<Timestamp>,
}

impl HubLedger {
    /// Sets at all canteens how long after a block the account still pays for what tills sold that
    /// had not heard of it. What they sold later is the operator's loss.
    pub fn set_block_grace(&mut self, grace: Duration) -> Result<(), LedgerError> {
        let db = self.change()?;
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        db.execute("UPDATE canteen SET block_grace = ?1", [grace])?;
        Ok(db.commit()?)
    }

    /// Notes which statuses a till says it has applied.
    pub fn note_statuses(&mut self, till: &TillId, through: u64) -> Result<(), LedgerError> {
        let db = self.change()?;
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        db.execute(
            "UPDATE till_epoch SET statuses = max(statuses, ?2)
             WHERE till = ?1 AND epoch = (SELECT epoch FROM till WHERE id = ?1)",
            (till.as_str(), through),
        )?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// Whether it is known already that the till has applied these statuses.
    pub fn are_statuses_noted(&self, till: &TillId, through: u64) -> Result<bool, LedgerError> {
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        Ok(self
            .db
            .prepare_cached(
                "SELECT 1 FROM till t JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
                 WHERE t.id = ?1 AND e.statuses >= ?2",
            )?
            .exists((till.as_str(), through))?)
    }

    /// The statuses that changed after a version, at most a page of them. A full page is followed
    /// by another.
    pub fn denylist(
        &self,
        till: &TillAccess,
        after: FeedPosition,
        now: Timestamp,
    ) -> Result<Result<Denylist, FeedRefusal>, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let (hub_epoch, rv) = hub_position(&db)?;
        if after.hub_epoch != hub_epoch || after.cursor > rv {
            return Ok(Err(FeedRefusal::SnapshotRequired));
        }
        let changes = changed_statuses(&db, till.canteen, after.cursor)?;
        let to = match changes.last() {
            Some(last) if changes.len() == FEED_PAGE_MAX => last.status_rv,
            Some(_) | None => rv,
        };
        Ok(Ok(Denylist {
            hub_epoch,
            hub_time: now.to_string(),
            to,
            changes,
        }))
    }

    /// An account's status, and which tills know of it.
    pub fn account_status(&self, id: AccountId) -> Result<StatusSpread, LedgerError> {
        let account = read_account(&self.db, id)?;
        Ok(StatusSpread {
            status: account.status,
            blocked_at: account.blocked_at,
            tills: tills_that_know(&self.db, account.canteen, account.status_rv)?,
        })
    }

    /// A chip's status, and which tills know of it.
    pub fn chip_status(&self, number: i64) -> Result<StatusSpread, LedgerError> {
        let chip = find_chip(&self.db, number)?;
        let chip = chip.ok_or_else(|| Refusal::not_found("chip", number))?;
        Ok(StatusSpread {
            status: chip.status,
            blocked_at: chip.blocked_at,
            tills: tills_that_know(&self.db, chip.canteen, chip.status_rv)?,
        })
    }
}

/// Every till asks this every few seconds. Most chips have never changed their status, and are not in
/// the indexes that hold for a status above zero.
const CHANGED_STATUSES: &str = "
 SELECT id, NULL, status, status_rv FROM account
   WHERE canteen = ?1 AND status_rv > ?2 AND status_rv > 0
 UNION ALL
 SELECT NULL, number, status, status_rv FROM chip
   WHERE canteen = ?1 AND status_rv > ?2 AND status_rv > 0
 ORDER BY 4 LIMIT ?3";

fn changed_statuses(
    db: &Connection,
    canteen: CanteenId,
    after: u64,
) -> Result<Vec<StatusChange>, LedgerError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(FEED_PAGE_MAX).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(CHANGED_STATUSES)?;
    let mut rows = statement.query((canteen.0, after, limit))?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let status: String = row.get(2)?;
        changes.push(StatusChange {
            status_rv: row.get::<_, i64>(3)?.cast_unsigned(),
            of: match row.get::<_, Option<i64>>(0)? {
                Some(account) => StatusOf::Account(AccountId(account)),
                None => StatusOf::Chip(row.get(1)?),
            },
            status: status_from(&status)?,
        });
    }
    Ok(changes)
}

fn tills_that_know(
    db: &Connection,
    canteen: CanteenId,
    status_rv: u64,
) -> Result<Vec<StatusAtTill>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT t.id, max(e.statuses, e.acked) >= ?2, t.seen_at
         FROM till t JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
         WHERE t.canteen = ?1 AND e.retired_at IS NULL ORDER BY t.id",
    )?;
    let mut rows = statement.query((canteen.0, status_rv.cast_signed()))?;
    let mut tills = Vec::new();
    while let Some(row) = rows.next()? {
        tills.push(StatusAtTill {
            till: till_from(&row.get::<_, String>(0)?)?,
            knows: row.get(1)?,
            seen_at: row.get::<_, Option<i64>>(2)?.map(moment).transpose()?,
        });
    }
    Ok(tills)
}

/// Keeps a change of a status; the caller has given the record its new version.
pub(crate) fn note_status_change(
    db: &Connection,
    of: StatusOf,
    status: Status,
    rv: i64,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (account, chip) = subject(of);
    db.prepare_cached(
        "INSERT INTO status_change (account, chip, status, at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((account, chip, status.code(), millis(now)))?;
    let sql = match of {
        StatusOf::Account(_) => "UPDATE account SET status_rv = ?2 WHERE id = ?1",
        StatusOf::Chip(_) => "UPDATE chip SET status_rv = ?2 WHERE number = ?1",
    };
    db.prepare_cached(sql)?.execute((account.or(chip), rv))?;
    Ok(())
}

/// Notes that an epoch has applied everything up to a cursor, statuses among it.
pub(crate) fn acknowledge_statuses(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    cursor: u64,
) -> Result<(), LedgerError> {
    let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
    db.prepare_cached(
        "UPDATE till_epoch SET statuses = ?3 WHERE till = ?1 AND epoch = ?2 AND statuses < ?3",
    )?
    .execute((till.as_str(), epoch.0.cast_signed(), cursor))?;
    Ok(())
}

/// Since when it had been blocked or closed at a moment, if it was.
pub(crate) fn blocked_since(
    db: &Connection,
    of: StatusOf,
    at: Timestamp,
) -> Result<Option<Timestamp>, LedgerError> {
    let (account, chip) = subject(of);
    let sql = match of {
        StatusOf::Account(_) => {
            "SELECT min(at) FROM status_change WHERE account = ?1 AND at <= ?2 AND status <> 'active'
               AND id > coalesce((SELECT max(id) FROM status_change
                 WHERE account = ?1 AND at <= ?2 AND status = 'active'), 0)"
        }
        StatusOf::Chip(_) => {
            "SELECT min(at) FROM status_change WHERE chip = ?1 AND at <= ?2 AND status <> 'active'
               AND id > coalesce((SELECT max(id) FROM status_change
                 WHERE chip = ?1 AND at <= ?2 AND status = 'active'), 0)"
        }
    };
    let since: Option<i64> = db
        .prepare_cached(sql)?
        .query_row((account.or(chip), millis(at)), |row| row.get(0))?;
    since.map(moment).transpose()
}

/// How long after a block the account still pays.
pub(crate) fn block_grace(db: &Connection, canteen: CanteenId) -> Result<Duration, LedgerError> {
    let grace: i64 = db
        .prepare_cached("SELECT block_grace FROM canteen WHERE id = ?1")?
        .query_row([canteen.0], |row| row.get(0))?;
    Ok(Duration::from_millis(grace.cast_unsigned()))
}

fn subject(of: StatusOf) -> (Option<i64>, Option<i64>) {
    match of {
        StatusOf::Account(account) => (Some(account.0), None),
        StatusOf::Chip(chip) => (None, Some(chip)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_every_till_asks_every_few_seconds_goes_through_changed_statuses_only() {
        let plan = Bed::new().plan(super::CHANGED_STATUSES);
        for index in ["account_by_status", "chip_by_status"] {
            let searched = format!("USING INDEX {index} (canteen=? AND status_rv>?)");
            let found = plan.iter().any(|step| step.ends_with(&searched));
            assert!(found, "{plan:?}");
        }
        assert!(
            !plan.iter().any(|step| step.starts_with("SCAN")),
            "{plan:?}"
        );
    }

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, kr, sale, void};

    fn after(minutes: u64) -> Timestamp {
        NOW + Duration::from_secs(minutes * 60)
    }

    fn denylist(bed: &Bed, till: &TestTill, cursor: u64) -> Denylist {
        let (hub_epoch, _) = bed.ledger.hub_position().unwrap();
        let after = FeedPosition { hub_epoch, cursor };
        bed.ledger
            .denylist(&till.access, after, NOW)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn deny_01_of_each_chip_and_account_the_newest_status_is_told_with_a_rising_version() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let (elsewhere, _) = bed.account_elsewhere(kr(100));
        let till = bed.till("kasse-1");
        assert_eq!(denylist(&bed, &till, 0).changes, []);
        bed.ledger.block_chip(chip, NOW).unwrap();
        bed.ledger.reactivate_chip(chip, NOW).unwrap();
        bed.ledger.block_account(account, NOW).unwrap();
        bed.ledger.block_account(elsewhere, NOW).unwrap();
        bed.ledger.block_chip(chip, NOW).unwrap();
        let list = denylist(&bed, &till, 0);
        let told: Vec<_> = list.changes.iter().map(|c| (c.of, c.status)).collect();
        let expect = [
            (StatusOf::Account(account), Status::Blocked),
            (StatusOf::Chip(chip), Status::Blocked),
        ];
        assert_eq!(told, expect);
        assert!(list.changes[0].status_rv < list.changes[1].status_rv);
        assert_eq!(list.to, bed.ledger.hub_position().unwrap().1);
        assert_eq!(denylist(&bed, &till, list.to).changes, []);
        // The feed tells the same version, so that a till can tell which of the two is newer.
        let row = bed.ledger.account(account).unwrap();
        assert_eq!(row.status_rv, list.changes[0].status_rv);
    }

    #[test]
    fn a_version_of_another_hub_needs_a_snapshot() {
        let mut bed = Bed::new();
        let till = bed.till("kasse-1");
        let (hub_epoch, rv) = bed.ledger.hub_position().unwrap();
        for (hub_epoch, cursor) in [(hub_epoch + 1, 0), (hub_epoch, rv + 1)] {
            let after = FeedPosition { hub_epoch, cursor };
            let refused = bed.ledger.denylist(&till.access, after, NOW).unwrap();
            assert_eq!(refused, Err(FeedRefusal::SnapshotRequired));
        }
    }

    #[test]
    fn deny_02_the_operator_sees_which_tills_know_of_a_block() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let [mut one, two] = ["kasse-1", "kasse-2"].map(|name| bed.till(name));
        bed.till("kasse-3");
        bed.ledger.block_chip(chip, NOW).unwrap();
        let knowing = |bed: &Bed| {
            let spread = bed.ledger.chip_status(chip).unwrap();
            let names = spread.tills.iter().filter(|till| till.knows);
            (
                names.map(|till| till.till.to_string()).collect::<Vec<_>>(),
                spread.tills.len(),
            )
        };
        assert_eq!(knowing(&bed), (Vec::new(), 3));
        // One has applied it and writes an entry, another has asked for what comes after it.
        let (hub_epoch, cursor) = bed.ledger.hub_position().unwrap();
        one.feed = FeedPosition { hub_epoch, cursor };
        bed.send(&mut one, [sale(account, chip, kr(1))]);
        assert_eq!(knowing(&bed), (vec!["kasse-1".to_owned()], 3));
        bed.ledger.note_statuses(&two.access.till, cursor).unwrap();
        assert_eq!(knowing(&bed).0, ["kasse-1", "kasse-2"]);
        bed.ledger.reactivate_chip(chip, NOW).unwrap();
        assert_eq!(knowing(&bed).0, [""; 0]);
    }

    #[track_caller]
    fn check(blocks: &[(u64, bool)], sold: u64, paid: i32, lost: i32, flags: &[&str]) {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        for (at, block) in blocks {
            match block {
                true => bed.ledger.block_chip(chip, after(*at)).unwrap(),
                false => bed.ledger.reactivate_chip(chip, after(*at)).unwrap(),
            }
        }
        let mut till = bed.till("kasse-1");
        bed.send_at(&mut till, [sale(account, chip, kr(22))], after(sold));
        assert_eq!(bed.balance(account), kr(100 - paid), "{blocks:?} {sold}");
        assert_eq!(bed.own_balance("loss"), kr(-lost), "{blocks:?} {sold}");
        assert_eq!(bed.flags(), flags, "{blocks:?} {sold}");
    }

    #[test]
    fn deny_03_sales_long_after_the_block_are_the_operators_loss() {
        let blocked = &[(0, true)];
        check(blocked, 0, 22, 0, &["after_block"]);
        check(blocked, 60, 22, 0, &["after_block"]);
        check(blocked, 61, 0, 22, &["after_block"]);
        // What counts is the status at the moment of the sale, not at its arrival.
        check(&[(10, true)], 9, 22, 0, &[]);
        let again = &[(0, true), (90, false)];
        check(again, 80, 0, 22, &["after_block"]);
        check(again, 95, 22, 0, &[]);
        let twice = &[(0, true), (90, false), (100, true)];
        check(twice, 150, 22, 0, &["after_block"]);
    }

    #[test]
    fn a_loss_counts_against_the_tills_ceiling_and_not_against_the_limits() {
        let mut bed = Bed::new();
        bed.ledger.set_block_grace(Duration::ZERO).unwrap();
        let (account, chip) = bed.account(kr(100));
        bed.ledger.block_account(account, NOW).unwrap();
        let mut till = bed.till("kasse-1");
        let of = bed.send_at(&mut till, [sale(account, chip, kr(22))], after(1))[0];
        assert_eq!(bed.ledger.account(account).unwrap().spent.day(), kr(0));
        let sql = "SELECT gross FROM ceiling WHERE account = ?1";
        let gross: i64 = bed
            .ledger
            .db
            .query_row(sql, [account.0], |row| row.get(0))
            .unwrap();
        assert_eq!(gross, 22_00);
        // What is taken back goes where it came from.
        bed.send(&mut till, [void(account, of, 1, kr(22))]);
        assert_eq!(bed.own_balance("loss"), kr(0));
        assert_eq!(bed.balance(account), kr(100));
    }
    #[test]
    fn blocks_of_an_older_store_are_told_and_held_against_late_sales() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        bed.ledger.block_chip(chip, NOW).unwrap();
        bed.reopen_from_version(4);
        let list = denylist(&bed, &till, 0);
        assert_eq!(list.changes.len(), 1);
        assert!(list.changes[0].status_rv > 0);
        bed.send_at(&mut till, [sale(account, chip, kr(22))], after(61));
        assert_eq!(bed.own_balance("loss"), kr(-22));
    }
}
