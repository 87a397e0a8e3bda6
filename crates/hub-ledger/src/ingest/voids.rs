//! Sales that are taken back at the till.

use canteen::{AccountId, Money, PurchaseAmount};
use rusqlite::OptionalExtension;
use sync_proto::{EntryHeader, Void};

use super::intake::{Fate, Intake};
use super::journal_id;
use crate::accounts::{find_account, uncount};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::branches::entry_by_id;
use crate::error::LedgerError;
use crate::refunds::{Sold, came_to_closed, read_sold};

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
        self.tell_counted_on(void.account)?;
        let sale = self.sold(void)?;
        let most = match &sale {
            Some(sale) => sale.returnable(self.db, &void.lines)?,
            None => Money::ZERO,
        };
        let back = void.amount.min(most);
        let excess = void.amount.checked_sub(back).unwrap_or(Money::ZERO);
        let mut flags = Vec::new();
        let mut booked = None;
        let mut account = None;
        if let Some(sale) = &sale
            && back > Money::ZERO
        {
            booked = Some(self.move_back(header, void, sale.from, back)?);
            account = self.uncount(header, sale, back)?;
            sale.note_taken_back(self.db, back, &void.lines)?;
            flags.extend(came_to_closed(self.db, sale.from, back)?);
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

    /// The till counts the void on the account that it sold to, whoever bears it here: its next
    /// record has to say that the void is in, or the till shows the money for ever.
    fn tell_counted_on(&mut self, account: AccountId) -> Result<(), LedgerError> {
        let known = find_account(self.db, account)?;
        if known.is_some_and(|known| known.canteen == self.access.canteen) {
            self.touched.insert(account.0, ());
        }
        Ok(())
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
        book(self.db, &movement, self.now)
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
        let booking: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT b.id FROM journal j LEFT JOIN quarantine q ON q.journal = j.id
                 JOIN booking b ON b.id = coalesce(j.booking, q.booking)
                 WHERE j.id = ?1 AND b.kind = 'sale' AND b.reference = ?2",
            )?
            .query_row((id, void.of.to_string()), |row| row.get(0))
            .optional()?;
        match booking {
            Some(booking) => read_sold(self.db, BookingId(booking)),
            None => Ok(None),
        }
    }

    /// Takes what was voided on the day of the sale out of the counters of the limits.
    fn uncount(
        &mut self,
        header: &EntryHeader,
        sale: &Sold,
        back: Money,
    ) -> Result<Option<AccountId>, LedgerError> {
        let Some(account) = find_account(self.db, sale.from)? else {
            return Ok(None);
        };
        if header.day == sale.day {
            uncount(self.db, &account, back, sale.day.min(self.today))?;
        }
        self.note_news(account.id, header);
        self.touched.insert(account.id.0, ());
        Ok(Some(account.id))
    }
}
