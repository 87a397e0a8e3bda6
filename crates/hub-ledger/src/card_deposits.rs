//! Deposits that guardians make with a card, as the portal reports them.
//!
//! The portal has charged the card; the hub books the money against the gateway and remembers the
//! charge. A top-up of the same amount on the same card waits as it would for one of its own, since
//! the gateway takes the second for a repetition.

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::Connection;

use crate::accounts::may_be_paid_into;
use crate::bookings::BookingId;
use crate::deposits::{Paid, Receipt, RequestKey, check_deposit, pay_in};
use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, millis};
use crate::tenancy::not_empty;
use crate::top_ups::{Resolution, resolve};

/// A charge that a guardian has made in the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPayment {
    /// The portal's name for it.
    pub reference: String,
    /// The gateway's name for it.
    pub transaction: String,
    /// The gateway's name for the stored card, when it is one.
    pub card: Option<String>,
    /// When the card was charged.
    pub charged_at: Timestamp,
}

impl HubLedger {
    /// Pays in what a guardian's card was charged: whole kroner, above zero, never into a blocked
    /// account, and each charge once.
    pub fn deposit_by_card(
        &mut self,
        account: AccountId,
        amount: Money,
        payment: &CardPayment,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        not_empty("the charge's reference", &payment.reference)?;
        not_empty("the gateway's transaction", &payment.transaction)?;
        if let Some(card) = &payment.card {
            not_empty("the card agreement", card)?;
        }
        self.book_once(account, key, now, |db, account| {
            check_deposit(amount)?;
            may_be_paid_into(db, account)??;
            if is_booked(db, &payment.transaction)? {
                return Err(Refusal::Exists {
                    what: "booking of the gateway's transaction",
                    id: payment.transaction.clone(),
                }
                .into());
            }
            let reference = Some(payment.reference.as_str());
            let text = "Indbetaling med kort";
            let booking = pay_in(db, account, Paid::WithCard, amount, text, reference, now)?;
            remember(db, booking, amount, payment, now)?;
            resolve(db, &payment.transaction, Resolution::PaidIn, now)?;
            Ok(booking)
        })
    }
}

/// Whether the gateway's charge is a deposit in the books.
pub(crate) fn is_paid_in(db: &Connection, transaction: &str) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM card_deposit WHERE gateway_transaction = ?1")?
        .exists([transaction])?)
}

/// Whether the gateway's charge was paid in already, by hand or as a top-up.
fn is_booked(db: &Connection, transaction: &str) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM card_deposit WHERE gateway_transaction = ?1
             UNION ALL SELECT 1 FROM top_up WHERE gateway_transaction = ?1",
        )?
        .exists([transaction])?)
}

fn remember(
    db: &Connection,
    booking: BookingId,
    amount: Money,
    payment: &CardPayment,
    now: Timestamp,
) -> Result<(), LedgerError> {
    // A clock that is ahead would keep the card from top-ups for as long.
    let charged_at = payment.charged_at.min(now);
    db.execute(
        "INSERT INTO card_deposit (booking, reference, gateway_transaction, card, amount, charged_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            booking.0,
            &payment.reference,
            &payment.transaction,
            &payment.card,
            amount.ore(),
            millis(charged_at),
        ),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, NOW, kr};

    fn payment(transaction: &str) -> CardPayment {
        CardPayment {
            reference: "portal-1".to_owned(),
            transaction: transaction.to_owned(),
            card: None,
            charged_at: NOW,
        }
    }

    #[test]
    fn a_deposit_by_card_comes_from_the_gateway_and_counts_as_paid_in() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(0));
        let key = bed.key();
        let receipt = bed
            .ledger
            .deposit_by_card(account, kr(100), &payment("t-1"), &key, NOW)
            .unwrap();
        assert_eq!(receipt.booking.text, "Indbetaling med kort");
        assert_eq!(bed.own_balance("gateway"), kr(-100));
        assert_eq!(bed.ledger.account(account).unwrap().paid_in, kr(100));
        bed.check_books();
    }

    #[test]
    fn one_charge_of_the_gateway_is_paid_in_once() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(0));
        let first = bed.key();
        for _ in 0..2 {
            bed.ledger
                .deposit_by_card(account, kr(100), &payment("t-1"), &first, NOW)
                .unwrap();
        }
        let second = bed.key();
        let again = bed
            .ledger
            .deposit_by_card(account, kr(100), &payment("t-1"), &second, NOW);
        let refused = matches!(again, Err(LedgerError::Refused(Refusal::Exists { .. })));
        assert!(refused, "{again:?}");
        assert_eq!(bed.balance(account), kr(100));
    }
}
