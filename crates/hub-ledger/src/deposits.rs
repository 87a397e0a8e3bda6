//! Money that comes in other ways than a till: deposits, opening balances, corrections.

use canteen::{AccountId, BusinessDay, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::accounts::{AccountRow, may_be_paid_into, read_account};
use crate::bookings::{
    BookingId, BookingKind, BookingRow, Movement, OwnAccount, book, own_account, read_booking,
};
use crate::error::{LedgerError, Refusal};
use crate::feed::{RecordKind, touch};
use crate::store::HubLedger;
use crate::tenancy::{TenantId, not_empty};
use crate::tills::Fingerprint;

/// What a caller names a request by, so that sending it again books nothing twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's name for the request.
    pub key: String,
    /// The fingerprint of the whole request.
    pub fingerprint: Fingerprint,
}

/// The answer to a request that books money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was booked.
    pub booking: BookingRow,
    /// Whether it was booked by an earlier request of the same name.
    pub replayed: bool,
}

impl HubLedger {
    /// Pays money in: whole kroner, above zero, never into a blocked account.
    pub fn deposit(
        &mut self,
        account: AccountId,
        amount: Money,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        self.book_once(account, key, |db, account| {
            if amount <= Money::ZERO || amount > DEPOSIT_MAX || !amount.is_whole_kroner() {
                return Err(Refusal::DepositAmount {
                    amount,
                    max: DEPOSIT_MAX,
                }
                .into());
            }
            may_be_paid_into(db, account)??;
            pay_in(
                db,
                account,
                BookingKind::Deposit,
                amount,
                "Indbetaling",
                None,
                now,
            )
        })
    }

    /// Books what an account held before it came to this hub; it does not count as paid in.
    pub fn open_balance(
        &mut self,
        account: AccountId,
        amount: Money,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        self.book_once(account, key, |db, account| {
            let own = own_account(db, account.tenant, OwnAccount::Opening, now)?;
            shift(
                db,
                account,
                own,
                BookingKind::Opening,
                amount,
                "Startsaldo",
                now,
            )
        })
    }

    /// Moves the balance up or down, with the reason on the statement.
    pub fn correct(
        &mut self,
        account: AccountId,
        amount: Money,
        reason: &str,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        not_empty("the reason", reason)?;
        let text = format!("Korrektion: {reason}");
        self.book_once(account, key, |db, account| {
            let own = own_account(db, account.tenant, OwnAccount::Corrections, now)?;
            shift(
                db,
                account,
                own,
                BookingKind::Correction,
                amount,
                &text,
                now,
            )
        })
    }

    fn book_once(
        &mut self,
        account: AccountId,
        key: &RequestKey,
        book: impl FnOnce(&Connection, &AccountRow) -> Result<BookingId, LedgerError>,
    ) -> Result<Receipt, LedgerError> {
        let db = self.change()?;
        let account = read_account(&db, account)?;
        if let Some(booking) = booked_before(&db, account.tenant, key)? {
            return Ok(Receipt {
                booking: read_booking(&db, booking)?,
                replayed: true,
            });
        }
        let booking = book(&db, &account)?;
        db.execute(
            "INSERT INTO request_key (tenant, key, fingerprint, booking) VALUES (?1, ?2, ?3, ?4)",
            (account.tenant.0, &key.key, key.fingerprint.0, booking.0),
        )?;
        touch(
            &db,
            account.canteen,
            RecordKind::Account,
            &account.id.to_string(),
        )?;
        let booking = read_booking(&db, booking)?;
        db.commit()?;
        Ok(Receipt {
            booking,
            replayed: false,
        })
    }
}

/// Books money that was paid in, and counts it towards the arming of the top-up agreement.
pub(crate) fn pay_in(
    db: &Connection,
    account: &AccountRow,
    kind: BookingKind,
    amount: Money,
    text: &str,
    reference: Option<&str>,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let own = match kind {
        BookingKind::TopUp => OwnAccount::Gateway,
        BookingKind::Deposit
        | BookingKind::Sale
        | BookingKind::Void
        | BookingKind::Correction
        | BookingKind::Opening => OwnAccount::Deposits,
    };
    let movement = Movement {
        kind,
        from: own_account(db, account.tenant, own, now)?,
        to: account.id,
        amount,
        happened_at: now,
        day: BusinessDay::of(now),
        text,
        lines: None,
        till: None,
        reference,
    };
    let moved = book(db, &movement, now)?;
    db.execute(
        "UPDATE account SET paid_in = paid_in + ?2 WHERE id = ?1",
        (account.id.0, amount.ore()),
    )?;
    Ok(moved.id)
}

/// Moves an amount into the account, or out of it when the amount is negative.
fn shift(
    db: &Connection,
    account: &AccountRow,
    own: AccountId,
    kind: BookingKind,
    amount: Money,
    text: &str,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let size = Money::from_ore(amount.ore().saturating_abs());
    if size == Money::ZERO || size > CORRECTION_MAX {
        return Err(Refusal::CorrectionAmount {
            amount,
            max: CORRECTION_MAX,
        }
        .into());
    }
    let (from, to) = if amount > Money::ZERO {
        (own, account.id)
    } else {
        (account.id, own)
    };
    let movement = Movement {
        kind,
        from,
        to,
        amount: size,
        happened_at: now,
        day: BusinessDay::of(now),
        text,
        lines: None,
        till: None,
        reference: None,
    };
    Ok(book(db, &movement, now)?.id)
}

fn booked_before(
    db: &Connection,
    tenant: TenantId,
    key: &RequestKey,
) -> Result<Option<BookingId>, LedgerError> {
    let found: Option<([u8; 32], i64)> = db
        .query_row(
            "SELECT fingerprint, booking FROM request_key WHERE tenant = ?1 AND key = ?2",
            (tenant.0, &key.key),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match found {
        None => Ok(None),
        Some((fingerprint, booking)) if fingerprint == key.fingerprint.0 => {
            Ok(Some(BookingId(booking)))
        }
        Some(_) => Err(Refusal::KeyReused.into()),
    }
}

/// The most that one deposit can be.
const DEPOSIT_MAX: Money = Money::from_kroner(10_000);
/// The most that one correction or opening balance can move.
const CORRECTION_MAX: Money = Money::from_kroner(100_000);
