//! Bookings: the one place where money moves, and the statements that tell of it.

use std::ops::RangeInclusive;

use canteen::{AccountId, BusinessDay, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use sync_proto::{SaleLine, TillId};

use crate::error::LedgerError;
use crate::replay::{Since, replay_later_sales};
use crate::store::{HubReader, millis, moment};
use crate::tenancy::TenantId;

/// The number of a booking, in the order of booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BookingId(pub i64);

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookingKind {
    /// A purchase at a till.
    Sale,
    /// A purchase taken back.
    Void,
    /// A purchase taken back by an operator.
    Refund,
    /// Money paid in by a person.
    Deposit,
    /// Money paid in by an automatic top-up.
    TopUp,
    /// An operator's correction.
    Correction,
    /// What an account held when it came to this hub.
    Opening,
    /// Money sent back to the holder.
    Payout,
    /// Money moved to another account, or from one.
    Transfer,
    /// A purchase in a web shop.
    Order,
    /// A deposit or a top-up taken back: charged back, or booked by mistake.
    DepositReversal,
}

impl BookingKind {
    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            BookingKind::Sale => "sale",
            BookingKind::Void => "void",
            BookingKind::Refund => "refund",
            BookingKind::Deposit => "deposit",
            BookingKind::TopUp => "top_up",
            BookingKind::Correction => "correction",
            BookingKind::Opening => "opening",
            BookingKind::Payout => "payout",
            BookingKind::Transfer => "transfer",
            BookingKind::Order => "order",
            BookingKind::DepositReversal => "deposit_reversal",
        }
    }

    /// Purchases come many at a time; their flags are found when all of them are booked.
    fn is_replayed_by_its_caller(self) -> bool {
        match self {
            BookingKind::Sale | BookingKind::Void | BookingKind::Refund => true,
            BookingKind::Deposit
            | BookingKind::TopUp
            | BookingKind::Correction
            | BookingKind::Opening
            | BookingKind::Payout
            | BookingKind::Transfer
            | BookingKind::Order
            | BookingKind::DepositReversal => false,
        }
    }

    pub(crate) fn from_code(code: &str) -> Option<BookingKind> {
        [
            BookingKind::Sale,
            BookingKind::Void,
            BookingKind::Refund,
            BookingKind::Deposit,
            BookingKind::TopUp,
            BookingKind::Correction,
            BookingKind::Opening,
            BookingKind::Payout,
            BookingKind::Transfer,
            BookingKind::Order,
            BookingKind::DepositReversal,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// A row of a holder's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookingRow {
    /// Its number.
    pub id: BookingId,
    /// Why the money moved.
    pub kind: BookingKind,
    /// When it happened, by the clock of the place where it happened.
    pub happened_at: Timestamp,
    /// The business day that it counts on.
    pub day: BusinessDay,
    /// What it is called on the statement.
    pub text: String,
    /// What was bought, of a sale.
    pub lines: Vec<SaleLine>,
    /// What it did to the balance: below zero for a purchase.
    pub amount: Money,
    /// The balance afterwards.
    pub balance_after: Money,
    /// The till, if it happened at one.
    pub till: Option<String>,
    /// The deposit that it takes back, of a reversal.
    pub reverses: Option<BookingId>,
}

/// The hub's own accounts, one of each for every tenant (till sales: for every till).
#[derive(Debug, Clone, Copy)]
pub(crate) enum OwnAccount<'a> {
    /// What a till has sold.
    TillSales(&'a TillId),
    /// Paid by card through a gateway.
    Gateway,
    /// Paid in by hand.
    Deposits,
    /// The other side of corrections.
    Corrections,
    /// The other side of opening balances.
    Opening,
    /// Sold on accounts that the hub does not know.
    UnknownAccount,
    /// Taken back beyond what was sold.
    RefundExcess,
    /// What the operator pays for: sold long after a block.
    Loss,
    /// Set aside until no till can spend it any more, or on its way to another holder.
    Reserved,
    /// Sent back to holders.
    Payouts,
    /// What web shops have sold.
    Orders,
}

impl<'a> OwnAccount<'a> {
    fn code(self) -> &'static str {
        match self {
            OwnAccount::TillSales(_) => "till_sales",
            OwnAccount::Gateway => "gateway",
            OwnAccount::Deposits => "deposits",
            OwnAccount::Corrections => "corrections",
            OwnAccount::Opening => "opening",
            OwnAccount::UnknownAccount => "suspense_unknown_account",
            OwnAccount::RefundExcess => "suspense_refund_excess",
            OwnAccount::Loss => "loss",
            OwnAccount::Reserved => "reserved",
            OwnAccount::Payouts => "payouts",
            OwnAccount::Orders => "order_sales",
        }
    }

    fn till(self) -> Option<&'a str> {
        match self {
            OwnAccount::TillSales(till) => Some(till.as_str()),
            OwnAccount::Gateway
            | OwnAccount::Deposits
            | OwnAccount::Corrections
            | OwnAccount::Opening
            | OwnAccount::UnknownAccount
            | OwnAccount::RefundExcess
            | OwnAccount::Loss
            | OwnAccount::Reserved
            | OwnAccount::Payouts
            | OwnAccount::Orders => None,
        }
    }
}

/// Money about to move.
#[derive(Debug, Clone)]
pub(crate) struct Movement<'a> {
    pub(crate) kind: BookingKind,
    pub(crate) from: AccountId,
    pub(crate) to: AccountId,
    pub(crate) amount: Money,
    pub(crate) happened_at: Timestamp,
    pub(crate) day: BusinessDay,
    pub(crate) text: &'a str,
    pub(crate) lines: Option<&'a str>,
    pub(crate) till: Option<&'a TillId>,
    pub(crate) reference: Option<&'a str>,
}

impl<'a> Movement<'a> {
    /// At the hub, now and without a till.
    pub(crate) fn at_hub(
        kind: BookingKind,
        (from, to): (AccountId, AccountId),
        amount: Money,
        text: &'a str,
        now: Timestamp,
    ) -> Movement<'a> {
        Movement {
            kind,
            from,
            to,
            amount,
            happened_at: now,
            day: BusinessDay::of(now),
            text,
            lines: None,
            till: None,
            reference: None,
        }
    }
}

/// Moves money from one account to another; nothing else in this crate changes a balance.
pub(crate) fn book(
    db: &Connection,
    movement: &Movement<'_>,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let from_after = add(db, movement.from, -movement.amount.ore())?;
    let to_after = add(db, movement.to, movement.amount.ore())?;
    let holder = [(movement.from, from_after), (movement.to, to_after)]
        .into_iter()
        .find(|(account, _)| account.0 > 0);
    db.prepare_cached(
        "INSERT INTO booking (kind, from_account, to_account, amount, holder, balance_after,
           happened_at, booked_at, day, text, lines, till, reference)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute((
        movement.kind.code(),
        movement.from.0,
        movement.to.0,
        movement.amount.ore(),
        holder.map(|(account, _)| account.0),
        holder.map(|(_, after)| after.ore()),
        millis(movement.happened_at),
        millis(now),
        movement.day.to_string(),
        movement.text,
        movement.lines,
        movement.till.map(TillId::as_str),
        movement.reference,
    ))?;
    let booking = BookingId(db.last_insert_rowid());
    if let Some((holder, _)) = holder.filter(|_| !movement.kind.is_replayed_by_its_caller()) {
        let since = Since::new(movement.day, movement.happened_at);
        replay_later_sales(db, holder, since, now)?;
    }
    Ok(booking)
}

fn add(db: &Connection, account: AccountId, ore: i64) -> Result<Money, LedgerError> {
    let balance = db
        .prepare_cached(
            "UPDATE account SET balance = balance + ?2 WHERE id = ?1 RETURNING balance",
        )?
        .query_row((account.0, ore), |row| row.get(0))?;
    Ok(Money::from_ore(balance))
}

const OWN_ACCOUNT: &str = "SELECT id FROM account
 WHERE tenant = ?1 AND kind = ?2 AND till IS NULL AND kind <> 'holder'";
const OWN_ACCOUNT_OF_TILL: &str = "SELECT id FROM account
 WHERE tenant = ?1 AND kind = ?2 AND till = ?3 AND kind <> 'holder'";

/// The number of one of the hub's own accounts, made when it is needed first.
pub(crate) fn own_account(
    db: &Connection,
    tenant: TenantId,
    own: OwnAccount<'_>,
    now: Timestamp,
) -> Result<AccountId, LedgerError> {
    let found = match own.till() {
        Some(till) => db
            .prepare_cached(OWN_ACCOUNT_OF_TILL)?
            .query_row((tenant.0, own.code(), till), |row| row.get(0)),
        None => db
            .prepare_cached(OWN_ACCOUNT)?
            .query_row((tenant.0, own.code()), |row| row.get(0)),
    };
    let found = found.optional()?;
    if let Some(id) = found {
        return Ok(AccountId(id));
    }
    let id: i64 = db.query_row(
        "INSERT INTO account (id, tenant, kind, till, created_at)
         VALUES ((SELECT min(coalesce(min(id), 0), 0) - 1 FROM account), ?1, ?2, ?3, ?4)
         RETURNING id",
        (tenant.0, own.code(), own.till(), millis(now)),
        |row| row.get(0),
    )?;
    Ok(AccountId(id))
}

impl HubReader {
    /// The rows of an account's statement, in the order of booking.
    pub fn statement(
        &self,
        account: AccountId,
        days: RangeInclusive<BusinessDay>,
    ) -> Result<Vec<BookingRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "{SELECT_BOOKING} WHERE holder = ?1 AND day BETWEEN ?2 AND ?3 ORDER BY id"
        ))?;
        let mut rows =
            statement.query((account.0, days.start().to_string(), days.end().to_string()))?;
        let mut bookings = Vec::new();
        while let Some(row) = rows.next()? {
            bookings.push(booking_from(row)?);
        }
        Ok(bookings)
    }
}

pub(crate) fn read_booking(db: &Connection, id: BookingId) -> Result<BookingRow, LedgerError> {
    let mut statement = db.prepare_cached(&format!("{SELECT_BOOKING} WHERE id = ?1"))?;
    let mut rows = statement.query([id.0])?;
    let row = rows
        .next()?
        .ok_or(LedgerError::Unreadable { what: "booking" })?;
    booking_from(row)
}

fn booking_from(row: &Row<'_>) -> Result<BookingRow, LedgerError> {
    let unreadable = |what| LedgerError::Unreadable { what };
    let kind: String = row.get(1)?;
    let day: String = row.get(3)?;
    let lines: Option<String> = row.get(5)?;
    let lines = match lines {
        Some(json) => serde_json::from_str(&json).map_err(|_| unreadable("line"))?,
        None => Vec::new(),
    };
    Ok(BookingRow {
        id: BookingId(row.get(0)?),
        kind: BookingKind::from_code(&kind).ok_or_else(|| unreadable("booking"))?,
        happened_at: moment(row.get(2)?)?,
        day: day.parse().map_err(|_| unreadable("day"))?,
        text: row.get(4)?,
        lines,
        amount: Money::from_ore(row.get(6)?),
        balance_after: Money::from_ore(row.get::<_, Option<i64>>(7)?.unwrap_or(0)),
        till: row.get(8)?,
        reverses: row.get::<_, Option<i64>>(9)?.map(BookingId),
    })
}

const SELECT_BOOKING: &str = "SELECT id, kind, happened_at, day, text, lines,
   CASE WHEN from_account = holder THEN -amount ELSE amount END, balance_after, till,
   (SELECT deposit FROM deposit_reversal WHERE reversal = booking.id)
 FROM booking";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;

    #[test]
    fn the_hubs_own_accounts_are_found_by_an_index_with_every_batch() {
        let bed = Bed::new();
        for (sql, index) in [
            (OWN_ACCOUNT, "own_account_of_tenant (tenant=? AND kind=?)"),
            (
                OWN_ACCOUNT_OF_TILL,
                "own_account (tenant=? AND kind=? AND till=?)",
            ),
        ] {
            let plan = bed.plan(sql);
            assert!(plan.len() == 1 && plan[0].ends_with(index), "{plan:?}");
        }
    }
}
