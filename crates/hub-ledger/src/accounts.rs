//! Accounts and the persons behind them.

use canteen::{AccountId, BusinessDay, LimitMode, Limits, Money, Spent, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use sync_proto::StatusOf;

use crate::closings::forget_closing;
use crate::error::{LedgerError, Refusal};
use crate::feed::{RecordKind, touch, touch_account};
use crate::limit_shares::{forget_shares, reach_day};
use crate::replay::note_terms;
use crate::statuses::note_status_change;
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::{CanteenId, Reach, TenantId, not_empty, tenant_of};

/// A holder's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its number.
    pub id: AccountId,
    /// Who runs its canteen.
    pub tenant: TenantId,
    /// Its canteen.
    pub canteen: CanteenId,
    /// Whether it may buy.
    pub status: Status,
    /// When it was blocked or closed.
    pub blocked_at: Option<Timestamp>,
    /// The version of the status.
    pub status_rv: u64,
    /// What it holds; may be negative.
    pub balance: Money,
    /// What has been paid in during its life.
    pub paid_in: Money,
    /// How far below zero it may go.
    pub credit: Money,
    /// The holder's limits.
    pub limits: Limits,
    /// What counts against them.
    pub spent: Spent,
    /// The person; absent once erased, and where nobody asked for it.
    pub holder: Option<Holder>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The person behind an account, no more than a canteen needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name on the cashier's screen.
    pub name: String,
    /// The school, of a pupil.
    pub school: Option<String>,
    /// The class, of a pupil.
    pub class: Option<String>,
    /// A picture as a `data:` URL.
    pub photo: Option<String>,
}

/// Without the person: names do not belong in logs.
impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holder(personal)")
    }
}

/// What makes an account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its canteen.
    pub canteen: CanteenId,
    /// The person.
    pub holder: Holder,
    /// How far below zero it may go.
    pub credit: Money,
    /// The holder's limits.
    pub limits: Limits,
}

/// Limits to be changed; `None` leaves a limit as it is, `Some(None)` takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitsChange {
    /// In a business day.
    pub day: Option<Option<Money>>,
    /// In an ISO week.
    pub week: Option<Option<Money>>,
    /// In a calendar month.
    pub month: Option<Option<Money>>,
    /// How they hold over several tills; `None` leaves that as it is, so that a program which does
    /// not know of it changes nothing.
    pub mode: Option<LimitMode>,
}

impl HubLedger {
    /// Makes an account with nothing in it.
    pub fn create_account(
        &mut self,
        new: &NewAccount,
        now: Timestamp,
    ) -> Result<AccountId, LedgerError> {
        check_holder(&new.holder)?;
        check_limits(&new.limits)?;
        not_negative("the credit line", new.credit)?;
        let db = self.change()?;
        reach_day(&db, now)?;
        let tenant = tenant_of(&db, new.canteen)?;
        let id: i64 = db.query_row(
            "SELECT max(coalesce(max(id), 0), ?1) + 1 FROM account",
            [NUMBERS_BEGIN],
            |row| row.get(0),
        )?;
        db.execute(
            "INSERT INTO account (id, tenant, canteen, kind, credit, limit_day, limit_week,
               limit_month, spent_on, created_at, limit_mode)
             VALUES (?1, ?2, ?3, 'holder', ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                id,
                tenant.0,
                new.canteen.0,
                new.credit.ore(),
                new.limits.day.map(Money::ore),
                new.limits.week.map(Money::ore),
                new.limits.month.map(Money::ore),
                BusinessDay::of(now).to_string(),
                millis(now),
                new.limits.mode.code(),
            ),
        )?;
        write_holder(&db, AccountId(id), &new.holder)?;
        touch_account(&db, new.canteen, AccountId(id))?;
        touch(&db, new.canteen, RecordKind::Holder, &id.to_string())?;
        db.commit()?;
        Ok(AccountId(id))
    }

    /// Changes the limits.
    pub fn change_limits(
        &mut self,
        id: AccountId,
        change: LimitsChange,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        reach_day(&db, now)?;
        let account = read_account(&db, id)?;
        let limits = Limits {
            day: change.day.unwrap_or(account.limits.day),
            week: change.week.unwrap_or(account.limits.week),
            month: change.month.unwrap_or(account.limits.month),
            mode: change.mode.unwrap_or(account.limits.mode),
        };
        check_limits(&limits)?;
        db.execute(
            "UPDATE account SET limit_day = ?2, limit_week = ?3, limit_month = ?4, limit_mode = ?5
             WHERE id = ?1",
            (
                id.0,
                limits.day.map(Money::ore),
                limits.week.map(Money::ore),
                limits.month.map(Money::ore),
                limits.mode.code(),
            ),
        )?;
        forget_shares(&db, id, &limits)?;
        note_terms(&db, &account, &read_account(&db, id)?, now)?;
        touch_account(&db, account.canteen, id)?;
        Ok(db.commit()?)
    }

    /// Changes how far below zero the account may go.
    pub fn change_credit(
        &mut self,
        id: AccountId,
        credit: Money,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        not_negative("the credit line", credit)?;
        let db = self.change()?;
        let account = read_account(&db, id)?;
        db.execute(
            "UPDATE account SET credit = ?2 WHERE id = ?1",
            (id.0, credit.ore()),
        )?;
        note_terms(&db, &account, &read_account(&db, id)?, now)?;
        touch_account(&db, account.canteen, id)?;
        Ok(db.commit()?)
    }

    /// Changes what is known about the person.
    pub fn change_holder(&mut self, id: AccountId, holder: &Holder) -> Result<(), LedgerError> {
        check_holder(holder)?;
        let db = self.change()?;
        let account = read_account(&db, id)?;
        write_holder(&db, id, holder)?;
        touch(&db, account.canteen, RecordKind::Holder, &id.to_string())?;
        Ok(db.commit()?)
    }

    /// Blocks an account; again changes nothing.
    pub fn block_account(&mut self, id: AccountId, now: Timestamp) -> Result<(), LedgerError> {
        self.change_status(id, Status::Blocked, now)
    }

    /// Makes a blocked account active again.
    pub fn reactivate_account(&mut self, id: AccountId, now: Timestamp) -> Result<(), LedgerError> {
        self.change_status(id, Status::Active, now)
    }

    fn change_status(
        &mut self,
        id: AccountId,
        status: Status,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let account = read_account(&db, id)?;
        set_status(&db, &account, status, now)?;
        if status == Status::Active {
            forget_closing(&db, id)?;
        }
        Ok(db.commit()?)
    }
}

pub(crate) fn set_status(
    db: &Connection,
    account: &AccountRow,
    status: Status,
    now: Timestamp,
) -> Result<(), LedgerError> {
    if account.status == status {
        return Ok(());
    }
    if account.status == Status::Closed {
        return Err(Refusal::AccountClosed.into());
    }
    let id = account.id;
    let blocked_at = (status != Status::Active).then(|| millis(now));
    db.execute(
        "UPDATE account SET status = ?2, blocked_at = ?3 WHERE id = ?1",
        (id.0, status.code(), blocked_at),
    )?;
    let rv = touch_account(db, account.canteen, id)?;
    note_status_change(db, StatusOf::Account(id), status, rv, now)?;
    if status == Status::Closed {
        db.execute("DELETE FROM holder WHERE account = ?1", [id.0])?;
        touch(db, account.canteen, RecordKind::Holder, &id.to_string())?;
    }
    Ok(())
}

impl HubReader {
    /// One account.
    pub fn account(&self, id: AccountId) -> Result<AccountRow, LedgerError> {
        let mut account = read_account(&self.db, id)?;
        account.holder = find_holder(&self.db, id)?;
        Ok(account)
    }

    /// One account, if it is within reach.
    pub fn account_within(&self, reach: Reach, id: AccountId) -> Result<AccountRow, LedgerError> {
        let account = self.account(id)?;
        if reach.covers(account.tenant) {
            return Ok(account);
        }
        Err(Refusal::not_found("account", id).into())
    }

    /// Accounts after a number, in order, at most `limit`.
    pub fn list_accounts(
        &self,
        reach: Reach,
        canteen: Option<CanteenId>,
        after: AccountId,
        limit: u32,
    ) -> Result<Vec<AccountRow>, LedgerError> {
        let sql = format!(
            "{SELECT_ACCOUNT} WHERE a.kind = 'holder' AND a.id > ?1
               AND (?2 IS NULL OR a.tenant = ?2) AND (?3 IS NULL OR a.canteen = ?3)
             ORDER BY a.id LIMIT ?4"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query((
            after.0,
            reach.filter(),
            canteen.map(|canteen| canteen.0),
            limit,
        ))?;
        let mut accounts = Vec::new();
        while let Some(row) = rows.next()? {
            accounts.push(account_from(row)?);
        }
        Ok(accounts)
    }
}

/// The account without its holder: photos have no place in the way of a sale.
pub(crate) fn find_account(
    db: &Connection,
    id: AccountId,
) -> Result<Option<AccountRow>, LedgerError> {
    let mut statement = db.prepare_cached(ACCOUNT_BY_ID)?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(account_from).transpose()
}

pub(crate) fn read_account(db: &Connection, id: AccountId) -> Result<AccountRow, LedgerError> {
    Ok(find_account(db, id)?.ok_or_else(|| Refusal::not_found("account", id))?)
}

/// Whether money may be paid into the account: it is active, and so is one of its chips, if it
/// has any.
pub(crate) fn may_be_paid_into(
    db: &Connection,
    account: &AccountRow,
) -> Result<Result<(), Refusal>, LedgerError> {
    match account.status {
        Status::Active => {}
        Status::Blocked => return Ok(Err(Refusal::AccountBlocked)),
        Status::Closed => return Ok(Err(Refusal::AccountClosed)),
    }
    let (in_use, active): (i64, i64) = db
        .prepare_cached(
            "SELECT count(*), coalesce(sum(status = 'active'), 0) FROM chip
             WHERE account = ?1 AND status <> 'closed'",
        )?
        .query_row([account.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if in_use > 0 && active == 0 {
        return Ok(Err(Refusal::AccountBlocked));
    }
    Ok(Ok(()))
}

pub(crate) fn find_holder(
    db: &Connection,
    account: AccountId,
) -> Result<Option<Holder>, LedgerError> {
    Ok(db
        .prepare_cached("SELECT name, school, class, photo FROM holder WHERE account = ?1")?
        .query_row([account.0], |row| {
            Ok(Holder {
                name: row.get(0)?,
                school: row.get(1)?,
                class: row.get(2)?,
                photo: row.get(3)?,
            })
        })
        .optional()?)
}

pub(crate) fn write_spent(
    db: &Connection,
    id: AccountId,
    spent: &Spent,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE account SET spent_on = ?2, spent_day = ?3, spent_week = ?4, spent_month = ?5
         WHERE id = ?1",
    )?
    .execute((
        id.0,
        spent.on().to_string(),
        spent.day().ore(),
        spent.week().ore(),
        spent.month().ore(),
    ))?;
    Ok(())
}

/// Takes what was taken back out of the counters of the limits.
pub(crate) fn uncount(
    db: &Connection,
    account: &AccountRow,
    amount: Money,
    counted_on: BusinessDay,
) -> Result<(), LedgerError> {
    let less = amount
        .checked_neg()
        .and_then(|back| account.spent.plus(back, counted_on));
    match less {
        Some(spent) => write_spent(db, account.id, &spent),
        None => Ok(()),
    }
}

fn account_from(row: &Row<'_>) -> Result<AccountRow, LedgerError> {
    let money = |n: usize| row.get(n).map(Money::from_ore);
    let optional_money =
        |n: usize| Ok::<_, LedgerError>(row.get::<_, Option<i64>>(n)?.map(Money::from_ore));
    let status: String = row.get(3)?;
    let on: String = row.get(11)?;
    let on = on
        .parse()
        .map_err(|_| LedgerError::Unreadable { what: "day" })?;
    let mode: String = row.get(17)?;
    let mode = LimitMode::from_code(&mode).ok_or(LedgerError::Unreadable { what: "limit mode" })?;
    let name: Option<String> = row.get(18)?;
    let (school, class, photo) = (row.get(19)?, row.get(20)?, row.get(21)?);
    Ok(AccountRow {
        id: AccountId(row.get(0)?),
        tenant: TenantId(row.get(1)?),
        canteen: CanteenId(row.get(2)?),
        status: status_from(&status)?,
        blocked_at: row.get::<_, Option<i64>>(4)?.map(moment).transpose()?,
        status_rv: row.get::<_, i64>(16)?.cast_unsigned(),
        balance: money(5)?,
        paid_in: money(6)?,
        credit: money(7)?,
        limits: Limits {
            day: optional_money(8)?,
            week: optional_money(9)?,
            month: optional_money(10)?,
            mode,
        },
        spent: Spent::new(on, money(12)?, money(13)?, money(14)?),
        created_at: moment(row.get(15)?)?,
        holder: name.map(|name| Holder {
            name,
            school,
            class,
            photo,
        }),
    })
}

pub(crate) fn status_from(code: &str) -> Result<Status, LedgerError> {
    Status::from_code(code).ok_or(LedgerError::Unreadable { what: "status" })
}

fn write_holder(db: &Connection, id: AccountId, holder: &Holder) -> Result<(), LedgerError> {
    db.execute(
        "INSERT INTO holder (account, name, school, class, photo) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (account) DO UPDATE SET name = ?2, school = ?3, class = ?4, photo = ?5",
        (
            id.0,
            &holder.name,
            &holder.school,
            &holder.class,
            &holder.photo,
        ),
    )?;
    Ok(())
}

fn check_holder(holder: &Holder) -> Result<(), Refusal> {
    not_empty("the holder's name", &holder.name)
}

fn check_limits(limits: &Limits) -> Result<(), Refusal> {
    for (what, limit) in [
        ("the daily limit", limits.day),
        ("the weekly limit", limits.week),
        ("the monthly limit", limits.month),
    ] {
        not_negative(what, limit.unwrap_or(Money::ZERO))?;
    }
    Ok(())
}

fn not_negative(what: &'static str, amount: Money) -> Result<(), Refusal> {
    if amount < Money::ZERO {
        return Err(Refusal::Negative { what, amount });
    }
    Ok(())
}

/// Holders' accounts are numbered from 1001, so that a number is not taken for an amount.
const NUMBERS_BEGIN: i64 = 1000;

macro_rules! account_columns {
    () => {
        "SELECT a.id, a.tenant, a.canteen, a.status, a.blocked_at, a.balance, a.paid_in, a.credit,
           a.limit_day, a.limit_week, a.limit_month, a.spent_on, a.spent_day, a.spent_week,
           a.spent_month, a.created_at, a.status_rv, a.limit_mode"
    };
}
const SELECT_ACCOUNT: &str = concat!(
    account_columns!(),
    ", h.name, h.school, h.class, h.photo
     FROM account a LEFT JOIN holder h ON h.account = a.id"
);
const ACCOUNT_BY_ID: &str = concat!(
    account_columns!(),
    ", NULL, NULL, NULL, NULL FROM account a WHERE a.id = ?1 AND a.kind = 'holder'"
);
