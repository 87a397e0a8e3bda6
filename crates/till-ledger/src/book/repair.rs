//! Accounts whose own figures are not those of the entries.

use std::collections::BTreeSet;

use canteen::Spent;

use crate::account::{AccountRow, OwnEntry, account_row, own_entries_after, put_account};
use crate::book::{Book, CHECKED_AT_OPENING};
use crate::entry_row::read_texts;
use crate::error::LedgerError;

impl Book {
    /// The accounts of the last entries must hold what the entries say; those that do not are
    /// reckoned anew before anything is sold.
    pub(super) fn repair_accounts(&mut self) -> Result<(), LedgerError> {
        let from = self.tip.head.seq.saturating_sub(CHECKED_AT_OPENING);
        let touched = self.accounts_after(from)?;
        // An account whose figures the hub has not brought up to date for longer is left to
        // `verify`, so that opening stays quick.
        let mut stored = Vec::new();
        for id in touched {
            let row = account_row(&self.connection, id)?;
            stored.extend(row.filter(|row| row.incl_seq >= from));
        }
        let wanted = stored.iter().map(|row| row.id).collect();
        let entries = own_entries_after(&self.connection, from, &wanted, &self.holes)?;
        let mut wrong = Vec::new();
        for row in stored {
            let mut anew = row.clone();
            anew.fold(entries.get(&row.id).map_or(&[], Vec::as_slice))?;
            if !self.holes.is_empty() {
                anew = stricter(anew, &row);
            }
            if anew.own != row.own {
                wrong.push(anew);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        self.alone(|book| {
            wrong
                .iter()
                .try_for_each(|row| put_account(&book.connection, row))
        })?;
        self.repaired = wrong.iter().map(|row| row.id).collect();
        Ok(())
    }

    fn accounts_after(&self, seq: u64) -> Result<BTreeSet<canteen::AccountId>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT seq, header, body FROM entry WHERE seq > ?1")?;
        let mut rows = statement.query([seq.cast_signed()])?;
        let mut accounts = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let (seq, texts) = read_texts(row)?;
            let entry = OwnEntry::read(seq, &texts).ok().flatten();
            accounts.extend(entry.map(|entry| entry.account));
        }
        Ok(accounts)
    }
}

/// A lost entry may have been a sale that only the stored figures remember: of two figures the one
/// that lets less be sold is the one to trust.
fn stricter(mut anew: AccountRow, stored: &AccountRow) -> AccountRow {
    let (own, kept) = (&mut anew.own, &stored.own);
    own.balance = own.balance.min(kept.balance);
    own.gross = own.gross.max(kept.gross);
    own.sold = most_sold(own.sold, kept.sold);
    if own.spent.on() == kept.spent.on() && kept.spent.month() >= own.spent.month() {
        own.spent = kept.spent;
    }
    own.last_seq = own.last_seq.max(kept.last_seq);
    own.top_up_seq = own.top_up_seq.max(kept.top_up_seq);
    anew
}

fn most_sold(one: Spent, other: Spent) -> Spent {
    let on = one.on().max(other.on());
    let (one, other) = (one.as_of(on), other.as_of(on));
    Spent::new(
        on,
        one.day().max(other.day()),
        one.week().max(other.week()),
        one.month().max(other.month()),
    )
}
