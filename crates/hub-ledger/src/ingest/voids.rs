//! Sales that are taken back at the till.

use canteen::{AccountId, BusinessDay, Money, PurchaseAmount};
use rusqlite::OptionalExtension;
use sync_proto::{EntryHeader, Void};

use super::intake::{Fate, Intake};
use super::journal_id;
use crate::accounts::{find_account, uncount};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::branches::entry_by_id;
use crate::error::LedgerError;

impl Intake<'_> {
    pub(super) fn take_void(
        &mut self,
        header: &EntryHeader,
        void: &Void,
    ) -> Result<Fate, LedgerError> {
        if let Err(error) = PurchaseAmount::new(void.amount) {
            return Ok(Fate::Quarantined {
                code: "amount",
                detail: error.to_string(),
            });
        }
        let sale = self.sold(void)?;
        let left = match &sale {
            Some(sale) => sale.left,
            None => Money::ZERO,
        };
        let back = void.amount.min(left);
        let excess = void.amount.checked_sub(back).unwrap_or(Money::ZERO);
        let mut flags = Vec::new();
        let mut booked = None;
        let mut account = None;
        if let Some(sale) = &sale
            && back > Money::ZERO
        {
            booked = Some(self.move_back(header, void, sale.from, back)?);
            account = self.uncount(sale, back)?;
            self.db
                .prepare_cached(
                    "INSERT INTO taken_back (sale, amount) VALUES (?1, ?2)
                     ON CONFLICT (sale) DO UPDATE SET amount = amount + ?2",
                )?
                .execute((sale.booking, back.ore()))?;
        }
        if excess > Money::ZERO {
            let suspense = own_account(
                self.db,
                self.access.tenant,
                OwnAccount::RefundExcess,
                self.now,
            )?;
            let moved = self.move_back(header, void, suspense, excess)?;
            booked.get_or_insert(moved);
            flags.push(match &sale {
                Some(_) => (
                    "refund_excess",
                    format!("{excess} more than was left of the sale"),
                ),
                None => (
                    "unknown_sale",
                    format!("there is no sale {} to take back", void.of_seq),
                ),
            });
        }
        let Some(booking) = booked else {
            return Ok(Fate::Noted);
        };
        Ok(Fate::Booked {
            booking,
            account,
            flags,
        })
    }

    fn move_back(
        &self,
        header: &EntryHeader,
        void: &Void,
        to: AccountId,
        amount: Money,
    ) -> Result<BookingId, LedgerError> {
        let of = void.of.to_string();
        let movement = Movement {
            kind: BookingKind::Void,
            from: self.sales,
            to,
            amount,
            happened_at: self.happened_at(header),
            day: header.day,
            text: "Tilbageført køb",
            lines: None,
            till: Some(&self.access.till),
            reference: Some(&of),
        };
        Ok(book(self.db, &movement, self.now)?.id)
    }

    /// The sale that a void takes back, if this till has sold it.
    fn sold(&self, void: &Void) -> Result<Option<Sold>, LedgerError> {
        let till = &self.access.till;
        let id = match self.looks_up_ids {
            true => entry_by_id(self.db, till, void.of)?,
            false => journal_id(self.db, till, self.epoch, void.of_seq)?,
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let row: Option<(i64, i64, i64, i64, String)> = self
            .db
            .prepare_cached(
                "SELECT b.id, b.from_account, b.amount, coalesce(t.amount, 0), b.day
                 FROM journal j JOIN booking b ON b.id = j.booking
                 LEFT JOIN taken_back t ON t.sale = b.id
                 WHERE j.id = ?1 AND b.kind = 'sale' AND b.reference = ?2",
            )?
            .query_row((id, void.of.to_string()), |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            })
            .optional()?;
        let Some((booking, from, amount, taken_back, day)) = row else {
            return Ok(None);
        };
        Ok(Some(Sold {
            booking,
            from: AccountId(from),
            left: Money::from_ore(amount - taken_back),
            day: day
                .parse()
                .map_err(|_| LedgerError::Unreadable { what: "day" })?,
        }))
    }

    /// Takes a voided sale out of the counters of the limits.
    fn uncount(&mut self, sale: &Sold, back: Money) -> Result<Option<AccountId>, LedgerError> {
        let Some(account) = find_account(self.db, sale.from)? else {
            return Ok(None);
        };
        uncount(self.db, &account, back, sale.day.min(self.today))?;
        self.touched.insert(account.id.0, ());
        Ok(Some(account.id))
    }
}

/// A sale that is in the books.
struct Sold {
    booking: i64,
    from: AccountId,
    left: Money,
    day: BusinessDay,
}
