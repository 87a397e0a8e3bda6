//! Deposits that are taken back: the bank charged them back, or they were booked by mistake.
//!
//! A reversal is a booking of its own that refers to the deposit: the whole amount, from where it was
//! booked to where it came from, once. The money is gone whether the account still holds it or not,
//! so nothing can stand in the way of it. What was reversed arms no top-up agreement any more.

use canteen::{AccountId, Money, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::accounts::{AccountRow, read_account};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::closings::successor;
use crate::debits::{Debit, go_on, take_out};
use crate::deposits::{Receipt, RequestKey};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::store::HubLedger;
use crate::tenancy::not_empty;

impl HubLedger {
    /// Takes back a deposit, or what a top-up paid in, with the reason on the statement. The balance
    /// may fall below zero by that; when tills may be spending the money, that is flagged.
    ///
    /// Of an account that was moved, the successor pays; of one that is closed, the operator.
    pub fn reverse_deposit(
        &mut self,
        account: AccountId,
        deposit: BookingId,
        reason: &str,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        not_empty("the reason", reason)?;
        let text = format!("Tilbageført indbetaling: {}", reason.trim());
        self.book_once(account, key, now, |db, account| {
            reverse(db, account, deposit, &text, now)
        })
    }
}

/// Books a reversal; the caller tells tills of the account.
pub(crate) fn reverse(
    db: &Connection,
    account: &AccountRow,
    deposit: BookingId,
    text: &str,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let (amount, source) = find_deposit(db, account.id, deposit)?;
    if let Some(reversal) = reversal_of(db, deposit)? {
        return Err(Refusal::DepositReversed { reversal }.into());
    }
    let payer = payer(db, account)?;
    let booking = match &payer {
        Some(payer) => {
            let debit = Debit {
                kind: BookingKind::DepositReversal,
                amount,
                target: source,
                text,
                lines: &[],
                floor: None,
                force: true,
            };
            take_out(db, payer, &debit, now)?
        }
        None => lose(db, account, amount, source, text, now)?,
    };
    db.execute(
        "INSERT INTO deposit_reversal (deposit, reversal) VALUES (?1, ?2)",
        (deposit.0, booking.0),
    )?;
    db.execute(
        "UPDATE account SET paid_in = paid_in - ?2 WHERE id = ?1",
        (account.id.0, amount.ore()),
    )?;
    if let Some(payer) = payer.filter(|payer| payer.id != account.id) {
        touch_account(db, payer.canteen, payer.id)?;
        go_on(db, payer.id, now)?;
    }
    Ok(booking)
}

/// How much a deposit of the account was, and which of the hub's own accounts it came from.
fn find_deposit(
    db: &Connection,
    account: AccountId,
    deposit: BookingId,
) -> Result<(Money, AccountId), LedgerError> {
    let found = db
        .prepare_cached(
            "SELECT amount, from_account FROM booking
             WHERE id = ?1 AND to_account = ?2 AND kind IN ('deposit', 'top_up')",
        )?
        .query_row((deposit.0, account.0), |row| {
            Ok((Money::from_ore(row.get(0)?), AccountId(row.get(1)?)))
        })
        .optional()?;
    Ok(found.ok_or_else(|| Refusal::not_found("deposit", deposit.0))?)
}

/// What took a deposit back, if anything did.
pub(crate) fn reversal_of(
    db: &Connection,
    deposit: BookingId,
) -> Result<Option<BookingId>, LedgerError> {
    let reversal: Option<i64> = db
        .prepare_cached("SELECT reversal FROM deposit_reversal WHERE deposit = ?1")?
        .query_row([deposit.0], |row| row.get(0))
        .optional()?;
    Ok(reversal.map(BookingId))
}

/// The account that the money is taken from: this one, or the one that it was moved to in the end.
fn payer(db: &Connection, account: &AccountRow) -> Result<Option<AccountRow>, LedgerError> {
    let mut payer = account.clone();
    while payer.status == Status::Closed {
        let Some(next) = successor(db, payer.id)? else {
            return Ok(None);
        };
        payer = read_account(db, next)?;
    }
    Ok(Some(payer))
}

/// Nobody is left to pay: the operator does.
fn lose(
    db: &Connection,
    account: &AccountRow,
    amount: Money,
    source: AccountId,
    text: &str,
    now: Timestamp,
) -> Result<BookingId, LedgerError> {
    let movement = Movement::at_hub(
        BookingKind::DepositReversal,
        (
            own_account(db, account.tenant, OwnAccount::Loss, now)?,
            source,
        ),
        amount,
        text,
        now,
    );
    let booking = book(db, &movement, now)?;
    let origin = Origin::hub(account.tenant);
    let detail = format!("{amount} were taken back from an account that is closed");
    let (account, lost) = (Some(account.id), Some(booking));
    raise_flag(db, "reversal_lost", &origin, account, lost, &detail, now)?;
    Ok(booking)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use canteen::BusinessDay;

    use super::*;
    use crate::seller::{bound, sellers};
    use crate::testbed::{Bed, NOW, kr, sale};
    use crate::{Reach, Rest};

    /// The newest deposit or top-up of the account.
    fn newest_deposit(bed: &Bed, account: AccountId) -> BookingId {
        let day = BusinessDay::of(NOW);
        let rows = bed.ledger.statement(account, day..=day).unwrap();
        let deposits = rows.iter().rev();
        let mut deposits =
            deposits.filter(|row| matches!(row.kind, BookingKind::Deposit | BookingKind::TopUp));
        deposits.next().unwrap().id
    }

    fn reverse(bed: &mut Bed, account: AccountId, deposit: BookingId) -> Result<Receipt, Refusal> {
        let key = bed.key();
        let later = NOW + Duration::from_secs(60);
        let reversed = bed
            .ledger
            .reverse_deposit(account, deposit, "indsigelse", &key, later);
        bed.check_books();
        match reversed {
            Ok(receipt) => Ok(receipt),
            Err(LedgerError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_reversal_takes_the_whole_deposit_back_and_refers_to_it() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(10));
        bed.pay_in(account, kr(100));
        let deposit = newest_deposit(&bed, account);
        let receipt = reverse(&mut bed, account, deposit).unwrap();
        let row = &receipt.booking;
        assert_eq!(
            (row.kind, row.amount, row.balance_after, row.reverses),
            (
                BookingKind::DepositReversal,
                kr(-100),
                kr(10),
                Some(deposit)
            )
        );
        assert_eq!(row.text, "Tilbageført indbetaling: indsigelse");
        assert_eq!(receipt.pending, None);
        assert_eq!(bed.own_balance("deposits"), Money::ZERO);
        let day = BusinessDay::of(NOW);
        let rows = bed.ledger.statement(account, day..=day).unwrap();
        assert_eq!(rows.last(), Some(row), "it stands on the statement");
    }

    #[test]
    fn a_deposit_is_reversed_once_and_the_same_request_is_answered_alike() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(0));
        bed.pay_in(account, kr(100));
        let deposit = newest_deposit(&bed, account);
        let key = bed.key();
        let ask = |bed: &mut Bed| {
            bed.ledger
                .reverse_deposit(account, deposit, "indsigelse", &key, NOW)
                .unwrap()
        };
        let (first, second) = (ask(&mut bed), ask(&mut bed));
        assert_eq!((first.replayed, second.replayed), (false, true));
        assert_eq!(first.booking, second.booking);
        let reversal = first.booking.id;
        assert_eq!(
            reverse(&mut bed, account, deposit),
            Err(Refusal::DepositReversed { reversal })
        );
        assert_eq!(bed.balance(account), Money::ZERO);
    }

    #[test]
    fn only_a_deposit_of_the_account_is_reversed() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(60));
        let (other, _) = bed.account(kr(0));
        bed.pay_in(other, kr(100));
        let mut till = bed.till("kasse-1");
        bed.send(&mut till, [sale(account, chip, kr(10))]);
        let of_other = newest_deposit(&bed, other);
        for booking in [of_other, BookingId(1), BookingId(999)] {
            let refused = reverse(&mut bed, account, booking);
            assert!(
                matches!(refused, Err(Refusal::NotFound { .. })),
                "{refused:?}"
            );
        }
        let sales = bed
            .ledger
            .statement(account, BusinessDay::of(NOW)..=BusinessDay::of(NOW));
        let sale = sales.unwrap().last().unwrap().id;
        assert!(reverse(&mut bed, account, sale).is_err());
        assert_eq!(
            (bed.balance(account), bed.balance(other)),
            (kr(50), kr(100))
        );
    }

    #[test]
    fn what_was_spent_already_is_owed_and_what_tills_may_be_spending_is_flagged() {
        let mut bed = Bed::new();
        bound(&mut bed, Money::ZERO, kr(200));
        let payer = bed.account(kr(0));
        bed.pay_in(payer.0, kr(200));
        let deposit = newest_deposit(&bed, payer.0);
        let [mut till] = sellers(&mut bed);
        assert!(till.sell(payer, kr(60)));
        till.push_all(&mut bed);
        assert!(till.left(payer.0) > Money::ZERO);
        reverse(&mut bed, payer.0, deposit).unwrap();
        assert_eq!(bed.balance(payer.0), kr(-60));
        assert_eq!(bed.ledger.account(payer.0).unwrap().paid_in, Money::ZERO);
        assert_eq!(bed.flags(), ["forced_debit"]);
    }

    #[test]
    fn of_an_account_that_was_moved_the_successor_pays_and_of_a_closed_one_the_operator() {
        let mut bed = Bed::new();
        let (moved, _) = bed.account(kr(0));
        let (closed, _) = bed.account(kr(0));
        let (heir, _) = bed.account(kr(0));
        for account in [moved, closed] {
            bed.pay_in(account, kr(100));
        }
        let deposits = [moved, closed].map(|account| newest_deposit(&bed, account));
        for (account, rest) in [(moved, Rest::Moved(heir)), (closed, Rest::PaidOut)] {
            assert!(bed.ledger.close_account(account, rest, NOW).unwrap());
        }
        reverse(&mut bed, moved, deposits[0]).unwrap();
        reverse(&mut bed, closed, deposits[1]).unwrap();
        let balances = [moved, closed, heir].map(|account| bed.balance(account));
        assert_eq!(balances, [kr(0), kr(0), kr(0)]);
        assert_eq!(bed.own_balance("loss"), kr(-100));
        assert_eq!(bed.flags(), ["reversal_lost"]);
        let flags = bed
            .ledger
            .list_flags(Reach::Everything, Some("reversal_lost"), i64::MAX, 10);
        assert_eq!(flags.unwrap()[0].account, Some(closed));
    }
}
