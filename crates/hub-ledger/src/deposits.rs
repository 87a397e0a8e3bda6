//! Money that comes in other ways than a till: deposits, opening balances, corrections.

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::accounts::{AccountRow, may_be_paid_into, read_account};
use crate::bookings::{
    BookingId, BookingKind, BookingRow, Movement, OwnAccount, book, own_account, read_booking,
};
use crate::debits::{Debit, DebitId, go_on, take_out, waits_for};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
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

/// A balance to be moved by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// How far, below zero to take money out.
    pub amount: Money,
    /// Why, as it stands on the statement.
    pub reason: String,
    /// Take money out although tills may be spending it at this moment.
    pub force: bool,
}

/// The answer to a request that books money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was booked.
    pub booking: BookingRow,
    /// Whether it was booked by an earlier request of the same name.
    pub replayed: bool,
    /// What the money waits under, when it is set aside because tills may be spending it.
    pub pending: Option<DebitId>,
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
        self.book_once(account, key, now, |db, account| {
            check_deposit(amount)?;
            may_be_paid_into(db, account)??;
            pay_in(db, account, Paid::ByHand, amount, "Indbetaling", None, now)
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
        self.book_once(account, key, now, |db, account| {
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

    /// Moves the balance up or down, with the reason on the statement. Money that tills may be
    /// spending at this moment is set aside until they have acknowledged that, or taken out by
    /// force, which is flagged.
    pub fn correct(
        &mut self,
        account: AccountId,
        correction: &Correction,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        not_empty("the reason", &correction.reason)?;
        let text = format!("Korrektion: {}", correction.reason);
        self.book_once(account, key, now, |db, account| {
            let own = own_account(db, account.tenant, OwnAccount::Corrections, now)?;
            let kind = BookingKind::Correction;
            if correction.amount >= Money::ZERO {
                return shift(db, account, own, kind, correction.amount, &text, now);
            }
            let amount = correction_size(correction.amount)?;
            let debit = Debit {
                kind,
                amount,
                target: own,
                text: &text,
                lines: &[],
                floor: None,
                force: correction.force,
            };
            take_out(db, account, &debit, now)
        })
    }

    pub(crate) fn book_once(
        &mut self,
        account: AccountId,
        key: &RequestKey,
        now: Timestamp,
        book: impl FnOnce(&Connection, &AccountRow) -> Result<BookingId, LedgerError>,
    ) -> Result<Receipt, LedgerError> {
        let db = self.change()?;
        let account = read_account(&db, account)?;
        if let Some(receipt) = receipt_of_before(&db, account.tenant, key)? {
            return Ok(receipt);
        }
        let booking = book(&db, &account)?;
        let receipt = remember(&db, account.tenant, key, booking)?;
        touch_account(&db, account.canteen, account.id)?;
        go_on(&db, account.id, now)?;
        db.commit()?;
        Ok(receipt)
    }
}

pub(crate) fn check_deposit(amount: Money) -> Result<(), Refusal> {
    if amount <= Money::ZERO || amount > DEPOSIT_MAX || !amount.is_whole_kroner() {
        let max = DEPOSIT_MAX;
        return Err(Refusal::DepositAmount { amount, max });
    }
    Ok(())
}

/// Keeps the answer to a request.
pub(crate) fn remember(
    db: &Connection,
    tenant: TenantId,
    key: &RequestKey,
    booking: BookingId,
) -> Result<Receipt, LedgerError> {
    db.execute(
        "INSERT INTO request_key (tenant, key, fingerprint, booking) VALUES (?1, ?2, ?3, ?4)",
        (tenant.0, &key.key, key.fingerprint.0, booking.0),
    )?;
    Ok(Receipt {
        booking: read_booking(db, booking)?,
        replayed: false,
        pending: waits_for(db, booking)?,
    })
}

/// The answer to a request that came before.
pub(crate) fn receipt_of_before(
    db: &Connection,
    tenant: TenantId,
    key: &RequestKey,
) -> Result<Option<Receipt>, LedgerError> {
    let Some(booking) = booked_before(db, tenant, key)? else {
        return Ok(None);
    };
    Ok(Some(Receipt {
        booking: read_booking(db, booking)?,
        replayed: true,
        pending: waits_for(db, booking)?,
    }))
}

/// How money came in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paid {
    /// By a person.
    ByHand,
    /// By a person, with a card.
    WithCard,
    /// By an automatic top-up.
    ByTopUp,
}

/// Books money that was paid in, and counts it towards the arming of the top-up agreement.
pub(crate) fn pay_in(
    db: &Connection,
    account: &AccountRow,
    paid: Paid,
    amount: Money,
    text: &str,
    reference: Option<&str>,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let (kind, own) = match paid {
        Paid::ByHand => (BookingKind::Deposit, OwnAccount::Deposits),
        Paid::WithCard => (BookingKind::Deposit, OwnAccount::Gateway),
        Paid::ByTopUp => (BookingKind::TopUp, OwnAccount::Gateway),
    };
    let movement = Movement {
        reference,
        ..Movement::at_hub(
            kind,
            (own_account(db, account.tenant, own, now)?, account.id),
            amount,
            text,
            now,
        )
    };
    let booking = book(db, &movement, now)?;
    db.execute(
        "UPDATE account SET paid_in = paid_in + ?2 WHERE id = ?1",
        (account.id.0, amount.ore()),
    )?;
    Ok(booking)
}

fn correction_size(amount: Money) -> Result<Money, Refusal> {
    let size = Money::from_ore(amount.ore().saturating_abs());
    if size == Money::ZERO || size > CORRECTION_MAX {
        return Err(Refusal::CorrectionAmount {
            amount,
            max: CORRECTION_MAX,
        });
    }
    Ok(size)
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
    let size = correction_size(amount)?;
    let (from, to) = if amount > Money::ZERO {
        (own, account.id)
    } else {
        (account.id, own)
    };
    let movement = Movement::at_hub(kind, (from, to), size, text, now);
    book(db, &movement, now)
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

#[cfg(test)]
mod tests {
    use canteen::BusinessDay;

    use super::*;
    use crate::testbed::{Bed, NOW, kr, ore, sale, void};

    #[track_caller]
    fn check(amount: Money, ok: bool) {
        let mut bed = Bed::new();
        let (account, _) = bed.account(Money::ZERO);
        let key = bed.key();
        let deposited = bed.ledger.deposit(account, amount, &key, NOW);
        assert_eq!(deposited.is_ok(), ok, "{amount}");
        if let Err(error) = deposited {
            let refused = matches!(error, LedgerError::Refused(Refusal::DepositAmount { .. }));
            assert!(refused, "{error}");
        }
        assert_eq!(bed.balance(account), if ok { amount } else { Money::ZERO });
        bed.check_books();
    }

    #[test]
    fn a_deposit_is_whole_kroner_above_zero() {
        check(kr(1), true);
        check(kr(10_000), true);
        check(kr(0), false);
        check(kr(-100), false);
        check(ore(1), false);
        check(ore(100_50), false);
        check(kr(10_001), false);
        check(ore(i64::MAX), false);
        check(ore(i64::MIN), false);
    }

    #[test]
    fn the_same_request_books_once_and_another_under_its_key_is_refused() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(Money::ZERO);
        let key = bed.key();
        let first = bed.ledger.deposit(account, kr(100), &key, NOW).unwrap();
        let second = bed.ledger.deposit(account, kr(100), &key, NOW).unwrap();
        assert_eq!((first.replayed, second.replayed), (false, true));
        assert_eq!(first.booking, second.booking);
        let other = RequestKey {
            fingerprint: Fingerprint::of("another request"),
            ..key
        };
        let reused = bed.ledger.deposit(account, kr(200), &other, NOW);
        assert!(matches!(
            reused,
            Err(LedgerError::Refused(Refusal::KeyReused))
        ));
        assert_eq!(bed.balance(account), kr(100));
    }

    #[test]
    fn nothing_is_paid_into_a_blocked_account() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(Money::ZERO);
        let try_deposit = |bed: &mut Bed| {
            let key = bed.key();
            match bed.ledger.deposit(account, kr(50), &key, NOW) {
                Ok(_) => "booked",
                Err(LedgerError::Refused(Refusal::AccountBlocked)) => "blocked",
                Err(error) => panic!("{error}"),
            }
        };
        bed.ledger.block_account(account, NOW).unwrap();
        assert_eq!(try_deposit(&mut bed), "blocked");
        bed.ledger.reactivate_account(account, NOW).unwrap();
        bed.ledger.block_chip(chip, NOW).unwrap();
        assert_eq!(try_deposit(&mut bed), "blocked");
        let new = bed.chip();
        bed.ledger.replace_chip(chip, &new, NOW).unwrap();
        assert_eq!(try_deposit(&mut bed), "booked");
        assert_eq!(bed.balance(account), kr(50));
    }

    #[test]
    fn a_statement_tells_what_happened_row_by_row() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(ore(49_50));
        bed.pay_in(account, kr(100));
        let mut till = bed.till("kasse-1");
        let of = bed.send(&mut till, [sale(account, chip, kr(22))])[0];
        bed.send(&mut till, [void(account, of, 1, kr(22))]);
        let key = bed.key();
        let correction = Correction {
            amount: ore(-50),
            reason: "afrunding".to_owned(),
            force: false,
        };
        bed.ledger.correct(account, &correction, &key, NOW).unwrap();
        let day = BusinessDay::of(NOW);
        let rows = bed.ledger.statement(account, day..=day).unwrap();
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let lines: Vec<_> = row.lines.iter().map(|line| line.text.as_str()).collect();
                format!(
                    "{} {} [{}] {} {}",
                    row.kind.code(),
                    row.text,
                    lines.join(", "),
                    row.amount.bare(),
                    row.balance_after.bare()
                )
            })
            .collect();
        let expect = [
            "opening Startsaldo [] 49,50 49,50",
            "deposit Indbetaling [] 100,00 149,50",
            "sale Køb [Dagens ret] -22,00 127,50",
            "void Tilbageført køb [] 22,00 149,50",
            "correction Korrektion: afrunding [] -0,50 149,00",
        ];
        assert_eq!(shown, expect);
        let tomorrow = day.next().unwrap();
        assert!(
            bed.ledger
                .statement(account, tomorrow..=tomorrow)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_books_refuse_to_be_edited() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        bed.send(&mut till, [sale(account, chip, kr(22))]);
        for table in ["journal", "batch", "booking"] {
            let column = if table == "booking" { "text" } else { "rowid" };
            let column = if table == "batch" { "entries" } else { column };
            for sql in [
                format!("DELETE FROM {table}"),
                format!("UPDATE {table} SET {column} = 7"),
            ] {
                let error = bed.ledger.db.execute(&sql, []).unwrap_err().to_string();
                assert!(error.contains("append-only"), "{sql}: {error}");
            }
        }
        bed.check_books();
    }
}
