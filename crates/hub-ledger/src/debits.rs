//! Money that operators take out of accounts, guarded against tills that may be spending it.
//!
//! A debit is booked at once when what the tills can still sell stays within what is left and the
//! overspend that the canteen accepts. Otherwise the money is set aside: the account holds it no
//! longer, so the tills' ceilings fall, and when they have acknowledged that, the debit goes on. It
//! can be cancelled until then, or forced, which is flagged.

use canteen::{AccountId, BusinessDay, Money};
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use sync_proto::SaleLine;

use crate::accounts::{AccountRow, find_account, may_be_paid_into, read_account, uncount};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::ceilings::{leaves_enough, outstanding};
use crate::closings::close_ready;
use crate::deposits::{Receipt, RequestKey};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::Reach;

/// The number of a debit that had to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DebitId(pub i64);

/// Whether a debit still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebitState {
    /// The money is set aside; tills may be spending it.
    Pending,
    /// The money has gone on.
    Posted,
    /// The money went back.
    Cancelled,
}

impl DebitState {
    const ALL: [DebitState; 3] = [
        DebitState::Pending,
        DebitState::Posted,
        DebitState::Cancelled,
    ];

    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            DebitState::Pending => "pending",
            DebitState::Posted => "posted",
            DebitState::Cancelled => "cancelled",
        }
    }
}

/// A debit that had to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebitRow {
    /// Its number.
    pub id: DebitId,
    /// The account that it takes from.
    pub account: AccountId,
    /// Why money moves.
    pub kind: BookingKind,
    /// How much.
    pub amount: Money,
    /// What it is called on the statement.
    pub text: String,
    /// Whether it still waits.
    pub state: DebitState,
    /// What tills may still sell on the account at this moment.
    pub outstanding: Money,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
}

/// Money about to be taken out.
pub(crate) struct Debit<'a> {
    pub(crate) kind: BookingKind,
    pub(crate) amount: Money,
    pub(crate) target: AccountId,
    pub(crate) text: &'a str,
    pub(crate) lines: &'a [SaleLine],
    /// How far below zero it may take the account; none: as far as the canteen accepts.
    pub(crate) floor: Option<Money>,
    pub(crate) force: bool,
}

impl HubLedger {
    /// Pays money out to the holder. What the account does not hold is not paid out.
    pub fn pay_out(
        &mut self,
        account: AccountId,
        amount: Money,
        message: &str,
        force: bool,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        let text = match message.trim() {
            "" => "Udbetaling".to_owned(),
            message => format!("Udbetaling: {message}"),
        };
        self.book_once(account, key, now, |db, account| {
            above_zero(amount)?;
            let debit = Debit {
                kind: BookingKind::Payout,
                amount,
                target: own_account(db, account.tenant, OwnAccount::Payouts, now)?,
                text: &text,
                lines: &[],
                floor: Some(Money::ZERO),
                force,
            };
            take_out(db, account, &debit, now)
        })
    }

    /// Moves money to another account of the same canteen's tenant.
    pub fn transfer(
        &mut self,
        account: AccountId,
        to: AccountId,
        amount: Money,
        force: bool,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        let text = format!("Overførsel til konto {to}");
        self.book_once(account, key, now, |db, account| {
            above_zero(amount)?;
            let target = read_account(db, to)?;
            if target.tenant != account.tenant {
                return Err(Refusal::not_found("account", to).into());
            }
            if target.id == account.id {
                return Err(Refusal::SameAccount.into());
            }
            may_be_paid_into(db, &target)??;
            let debit = Debit {
                kind: BookingKind::Transfer,
                amount,
                target: target.id,
                text: &text,
                lines: &[],
                floor: Some(Money::ZERO),
                force,
            };
            take_out(db, account, &debit, now)
        })
    }

    /// Gives the money of a debit that waits back to the account.
    pub fn cancel_debit(&mut self, id: DebitId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let debit = pending(&db, id)?;
        let account = read_account(&db, debit.account)?;
        let text = format!("Annulleret: {}", debit.text);
        let booking = move_on(&db, &account, &debit, account.id, &text, now)?;
        end(&db, &debit, DebitState::Cancelled, booking, now)?;
        if debit.kind == BookingKind::Order {
            uncount(&db, &account, debit.amount, debit.day)?;
        }
        touch_account(&db, account.canteen, account.id)?;
        go_on(&db, account.id, now)?;
        Ok(db.commit()?)
    }

    /// Lets a debit that waits go on although tills may be spending the money; this is flagged.
    pub fn force_debit(&mut self, id: DebitId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let debit = pending(&db, id)?;
        let account = read_account(&db, debit.account)?;
        let outstanding = outstanding(&db, account.id)?;
        let booking = post(&db, &account, &debit, now)?;
        note_forced(&db, &account, booking, outstanding, now)?;
        Ok(db.commit()?)
    }

    /// Lets all debits and closings go on that nothing is in the way of any more.
    pub fn post_debits(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let accounts: Vec<i64> = db
            .prepare("SELECT account FROM debit WHERE state = 'pending' UNION SELECT account FROM closing")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for account in accounts {
            go_on(&db, AccountId(account), now)?;
        }
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// The newest debits that had to wait, within reach, before a number, the newest first.
    pub fn list_debits(
        &self,
        reach: Reach,
        before: i64,
        limit: u32,
    ) -> Result<Vec<DebitRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT d.id, d.account, d.target, d.kind, d.amount, d.text, d.state, d.created_at,
               d.changed_at
             FROM debit d JOIN account a ON a.id = d.account
             WHERE d.id < ?1 AND (?2 IS NULL OR a.tenant = ?2) ORDER BY d.id DESC LIMIT ?3",
        )?;
        let mut rows = statement.query((before, reach.filter(), limit))?;
        let mut debits = Vec::new();
        while let Some(row) = rows.next()? {
            let stored = stored_from(row)?;
            debits.push(DebitRow {
                id: stored.id,
                account: stored.account,
                kind: stored.kind,
                amount: stored.amount,
                text: stored.text,
                state: stored.state,
                outstanding: outstanding(&self.db, stored.account)?,
                created_at: moment(row.get(7)?)?,
                changed_at: moment(row.get(8)?)?,
            });
        }
        Ok(debits)
    }

    /// Refuses a debit that is out of reach.
    pub fn check_debit_within(&self, reach: Reach, id: DebitId) -> Result<(), LedgerError> {
        let found = find(&self.db, id)?.ok_or_else(|| Refusal::not_found("debit", id.0))?;
        self.account_within(reach, found.account)
            .map_err(|_| Refusal::not_found("debit", id.0))?;
        Ok(())
    }
}

/// Takes money out, or sets it aside while tills may be spending it. Gives what stands on the
/// statement.
pub(crate) fn take_out(
    db: &Connection,
    account: &AccountRow,
    debit: &Debit<'_>,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    if let Some(floor) = debit.floor
        && account.balance.checked_sub(debit.amount) < Some(floor)
    {
        let balance = account.balance;
        return Err(Refusal::NotCovered { balance }.into());
    }
    let free = leaves_enough(db, account.id, debit.amount)?;
    let reserved = own_account(db, account.tenant, OwnAccount::Reserved, now)?;
    let at_once = free || debit.force;
    // A holder's statement is told of one side of a booking only, so money for another holder
    // always passes through the reserve.
    let passes_through = !at_once || debit.target.0 > 0;
    let booking = leave(
        db,
        account,
        debit,
        if passes_through {
            reserved
        } else {
            debit.target
        },
        now,
    )?;
    if passes_through {
        db.execute(
            "INSERT INTO debit (account, target, kind, amount, text, state, reserve, created_at,
               changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7, ?7)",
            (
                account.id.0,
                debit.target.0,
                debit.kind.code(),
                debit.amount.ore(),
                debit.text,
                booking.0,
                millis(now),
            ),
        )?;
        if at_once {
            let stored = pending(db, DebitId(db.last_insert_rowid()))?;
            post(db, account, &stored, now)?;
        }
    }
    if !free && debit.force {
        let outstanding = outstanding(db, account.id)?;
        note_forced(db, account, booking, outstanding, now)?;
    }
    Ok(booking)
}

fn leave(
    db: &Connection,
    account: &AccountRow,
    debit: &Debit<'_>,
    to: AccountId,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let lines = match debit.lines {
        [] => None,
        lines => Some(
            serde_json::to_string(lines).map_err(|_| LedgerError::Unreadable { what: "line" })?,
        ),
    };
    let movement = Movement {
        kind: debit.kind,
        from: account.id,
        to,
        amount: debit.amount,
        happened_at: now,
        day: BusinessDay::of(now),
        text: debit.text,
        lines: lines.as_deref(),
        till: None,
        reference: None,
    };
    book(db, &movement, now)
}

/// The debit that a booking was set aside for, if it still waits.
pub(crate) fn waits_for(
    db: &Connection,
    booking: BookingId,
) -> Result<Option<DebitId>, LedgerError> {
    let mut statement =
        db.prepare_cached("SELECT id FROM debit WHERE reserve = ?1 AND state = 'pending'")?;
    let mut rows = statement.query([booking.0])?;
    Ok(match rows.next()? {
        Some(row) => Some(DebitId(row.get(0)?)),
        None => None,
    })
}

/// Whether money of the account is set aside.
pub(crate) fn has_pending(db: &Connection, account: AccountId) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM debit WHERE account = ?1 AND state = 'pending'")?
        .exists([account.0])?)
}

/// Does what waited for tills: they may have acknowledged, or sold what they could.
pub(crate) fn go_on(
    db: &Connection,
    account: AccountId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    post_ready(db, account, now)?;
    close_ready(db, account, now)
}

/// Lets the debits of an account go on that nothing is in the way of any more.
pub(crate) fn post_ready(
    db: &Connection,
    account: AccountId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    if !has_pending(db, account)? {
        return Ok(());
    }
    let waiting: Vec<StoredDebit> = {
        let mut statement = db.prepare_cached(&format!(
            "{SELECT_DEBIT} WHERE account = ?1 AND state = 'pending' ORDER BY id"
        ))?;
        let mut rows = statement.query([account.0])?;
        let mut waiting = Vec::new();
        while let Some(row) = rows.next()? {
            waiting.push(stored_from(row)?);
        }
        waiting
    };
    for debit in waiting {
        let account = read_account(db, account)?;
        // The money is set aside already, so nothing more leaves.
        if !leaves_enough(db, account.id, Money::ZERO)? || !is_covered(&account, &debit) {
            continue;
        }
        let welcome = match find_account(db, debit.target)? {
            Some(target) => may_be_paid_into(db, &target)?.is_ok(),
            None => true,
        };
        if welcome {
            post(db, &account, &debit, now)?;
        }
    }
    Ok(())
}

/// Whether what was set aside is not spent twice: tills may have sold for it since.
fn is_covered(account: &AccountRow, debit: &StoredDebit) -> bool {
    match debit.kind {
        BookingKind::Payout | BookingKind::Transfer => account.balance >= Money::ZERO,
        BookingKind::Order => account.balance.checked_add(account.credit) >= Some(Money::ZERO),
        BookingKind::Correction
        | BookingKind::Sale
        | BookingKind::Void
        | BookingKind::Refund
        | BookingKind::Deposit
        | BookingKind::DepositReversal
        | BookingKind::TopUp
        | BookingKind::Opening => true,
    }
}

fn post(
    db: &Connection,
    account: &AccountRow,
    debit: &StoredDebit,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let target = find_account(db, debit.target)?;
    let text = match &target {
        Some(_) => format!("Overførsel fra konto {}", account.id),
        None => debit.text.clone(),
    };
    let booking = move_on(db, account, debit, debit.target, &text, now)?;
    end(db, debit, DebitState::Posted, booking, now)?;
    if let Some(target) = target {
        touch_account(db, target.canteen, target.id)?;
        post_ready(db, target.id, now)?;
    }
    Ok(booking)
}

fn move_on(
    db: &Connection,
    account: &AccountRow,
    debit: &StoredDebit,
    to: AccountId,
    text: &str,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let movement = Movement::at_hub(
        debit.kind,
        (
            own_account(db, account.tenant, OwnAccount::Reserved, now)?,
            to,
        ),
        debit.amount,
        text,
        now,
    );
    book(db, &movement, now)
}

fn end(
    db: &Connection,
    debit: &StoredDebit,
    state: DebitState,
    booking: BookingId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    db.execute(
        "UPDATE debit SET state = ?2, booking = ?3, changed_at = ?4 WHERE id = ?1",
        (debit.id.0, state.code(), booking.0, millis(now)),
    )?;
    Ok(())
}

fn note_forced(
    db: &Connection,
    account: &AccountRow,
    booking: BookingId,
    outstanding: Money,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let origin = Origin::hub(account.tenant);
    let detail = format!(
        "money was taken out by force although tills may still sell for {outstanding} on the account"
    );
    let (account, booking) = (Some(account.id), Some(booking));
    raise_flag(db, "forced_debit", &origin, account, booking, &detail, now)
}

fn above_zero(amount: Money) -> Result<(), Refusal> {
    if amount <= Money::ZERO || amount > DEBIT_MAX {
        let max = DEBIT_MAX;
        return Err(Refusal::DebitAmount { amount, max });
    }
    Ok(())
}

struct StoredDebit {
    id: DebitId,
    account: AccountId,
    target: AccountId,
    kind: BookingKind,
    amount: Money,
    text: String,
    state: DebitState,
    /// The day that it was asked for on.
    day: BusinessDay,
}

fn find(db: &Connection, id: DebitId) -> Result<Option<StoredDebit>, LedgerError> {
    let mut statement = db.prepare_cached(&format!("{SELECT_DEBIT} WHERE id = ?1"))?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(stored_from).transpose()
}

fn pending(db: &Connection, id: DebitId) -> Result<StoredDebit, LedgerError> {
    let found = find(db, id)?.filter(|debit| debit.state == DebitState::Pending);
    Ok(found.ok_or_else(|| Refusal::not_found("pending debit", id.0))?)
}

fn stored_from(row: &Row<'_>) -> Result<StoredDebit, LedgerError> {
    let unreadable = || LedgerError::Unreadable { what: "debit" };
    let (kind, state): (String, String) = (row.get(3)?, row.get(6)?);
    Ok(StoredDebit {
        id: DebitId(row.get(0)?),
        account: AccountId(row.get(1)?),
        target: AccountId(row.get(2)?),
        kind: BookingKind::from_code(&kind).ok_or_else(unreadable)?,
        amount: Money::from_ore(row.get(4)?),
        text: row.get(5)?,
        state: DebitState::ALL
            .into_iter()
            .find(|known| known.code() == state)
            .ok_or_else(unreadable)?,
        day: BusinessDay::of(moment(row.get(7)?)?),
    })
}

const SELECT_DEBIT: &str = "SELECT id, account, target, kind, amount, text, state, created_at
 FROM debit";
/// The most that one payout or transfer can be.
const DEBIT_MAX: Money = Money::from_kroner(100_000);

#[cfg(test)]
mod tests;
