//! Closing accounts: blocked first, and closed when no till can sell on them any more.

use canteen::{AccountId, Money, Status};
use jiff::Timestamp;
use rusqlite::Connection;

use crate::accounts::{AccountRow, find_account, may_be_paid_into, read_account, set_status};
use crate::bookings::{BookingKind, OwnAccount, own_account};
use crate::ceilings::outstanding;
use crate::chips::move_chips;
use crate::debits::{Debit, has_pending, take_out};
use crate::error::{LedgerError, Refusal};
use crate::restore::is_frozen;
use crate::store::{HubLedger, HubReader, millis, moment};

/// What becomes of what an account holds when it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It must be empty.
    Nothing,
    /// It is paid out.
    PaidOut,
    /// It goes to another account of the canteen, with the chips, and so does what tills still send.
    Moved(AccountId),
}

/// An account on its way to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// What becomes of what it holds then.
    pub rest: Rest,
    /// Since when it waits.
    pub since: Timestamp,
}

impl HubLedger {
    /// Closes an account for good and erases the person: at once when no till can sell on it, else
    /// it is blocked and closed when all tills have acknowledged that or are retired. Tells whether
    /// it is closed.
    pub fn close_account(
        &mut self,
        id: AccountId,
        rest: Rest,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let db = self.change()?;
        let account = read_account(&db, id)?;
        if account.status == Status::Closed {
            return Ok(true);
        }
        check_rest(&db, &account, rest)?;
        set_status(&db, &account, Status::Blocked, now)?;
        let (word, successor) = match rest {
            Rest::Nothing => ("nothing", None),
            Rest::PaidOut => ("paid_out", None),
            Rest::Moved(to) => ("moved", Some(to.0)),
        };
        db.execute(
            "INSERT INTO closing (account, rest, successor, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (account) DO UPDATE SET rest = ?2, successor = ?3",
            (id.0, word, successor, millis(now)),
        )?;
        close_ready(&db, id, now)?;
        let closed = read_account(&db, id)?.status == Status::Closed;
        db.commit()?;
        Ok(closed)
    }
}

impl HubReader {
    /// How an account is being closed, if it is.
    pub fn closing(&self, account: AccountId) -> Result<Option<Closing>, LedgerError> {
        find(&self.db, account)
    }
}

/// Reactivating an account keeps it.
pub(crate) fn forget_closing(db: &Connection, account: AccountId) -> Result<(), LedgerError> {
    db.execute("DELETE FROM closing WHERE account = ?1", [account.0])?;
    Ok(())
}

/// Closes an account that was to be closed, when no till can sell on it any more.
pub(crate) fn close_ready(
    db: &Connection,
    id: AccountId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(closing) = find(db, id)? else {
        return Ok(());
    };
    if outstanding(db, id)? > Money::ZERO || has_pending(db, id)? || is_claimed(db, id)? {
        return Ok(());
    }
    let account = read_account(db, id)?;
    if is_frozen(db, account.canteen)? {
        return Ok(());
    }
    if check_rest(db, &account, closing.rest).is_err() {
        // Tills have sold more than there was, or the successor was closed: a person must decide.
        return Ok(());
    }
    settle(db, &account, closing.rest, now)?;
    let account = read_account(db, id)?;
    set_status(db, &account, Status::Closed, now)?;
    forget_closing(db, id)
}

/// Whether a sale in quarantine is about the account.
fn is_claimed(db: &Connection, account: AccountId) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM quarantine WHERE account = ?1 AND resolved_at IS NULL")?
        .exists([account.0])?)
}

fn settle(
    db: &Connection,
    account: &AccountRow,
    rest: Rest,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (kind, target, text) = match rest {
        Rest::Nothing => return Ok(()),
        Rest::PaidOut => (
            BookingKind::Payout,
            own_account(db, account.tenant, OwnAccount::Payouts, now)?,
            "Udbetaling ved lukning".to_owned(),
        ),
        Rest::Moved(to) => {
            move_chips(db, account.id, to)?;
            db.execute(
                "UPDATE account SET moved_to = ?2 WHERE id = ?1",
                (account.id.0, to.0),
            )?;
            (
                BookingKind::Transfer,
                to,
                format!("Overførsel til konto {to}"),
            )
        }
    };
    if account.balance == Money::ZERO {
        return Ok(());
    }
    let debit = Debit {
        kind,
        amount: account.balance,
        target,
        text: &text,
        lines: &[],
        floor: Some(Money::ZERO),
        // No till can sell on the account any more.
        force: false,
    };
    take_out(db, account, &debit, now)?;
    Ok(())
}

fn check_rest(db: &Connection, account: &AccountRow, rest: Rest) -> Result<(), LedgerError> {
    let balance = account.balance;
    match rest {
        Rest::Nothing if balance != Money::ZERO => Err(Refusal::BalanceLeft { balance }.into()),
        Rest::Nothing => Ok(()),
        Rest::PaidOut | Rest::Moved(_) if balance < Money::ZERO => {
            Err(Refusal::BalanceLeft { balance }.into())
        }
        Rest::PaidOut => Ok(()),
        Rest::Moved(to) => {
            let successor = find_account(db, to)?
                .filter(|successor| successor.canteen == account.canteen)
                .ok_or_else(|| Refusal::not_found("account", to))?;
            if successor.id == account.id {
                return Err(Refusal::SameAccount.into());
            }
            may_be_paid_into(db, &successor)??;
            Ok(())
        }
    }
}

/// The account that a closed one was moved to.
pub(crate) fn successor(
    db: &Connection,
    account: AccountId,
) -> Result<Option<AccountId>, LedgerError> {
    let to: Option<i64> = db
        .prepare_cached("SELECT moved_to FROM account WHERE id = ?1")?
        .query_row([account.0], |row| row.get(0))?;
    Ok(to.map(AccountId))
}

fn find(db: &Connection, account: AccountId) -> Result<Option<Closing>, LedgerError> {
    let mut statement =
        db.prepare_cached("SELECT rest, successor, since FROM closing WHERE account = ?1")?;
    let mut rows = statement.query([account.0])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let rest: String = row.get(0)?;
    let rest = match (rest.as_str(), row.get::<_, Option<i64>>(1)?) {
        ("nothing", None) => Rest::Nothing,
        ("paid_out", None) => Rest::PaidOut,
        ("moved", Some(to)) => Rest::Moved(AccountId(to)),
        _ => return Err(LedgerError::Unreadable { what: "closing" }),
    };
    Ok(Some(Closing {
        rest,
        since: moment(row.get(2)?)?,
    }))
}
