//! Sales and declined purchases.

use canteen::{AccountId, BusinessDay, Money, PurchaseAmount, Status};
use jiff::Timestamp;
use sync_proto::{Decline, EntryHeader, Sale, StatusOf};

use super::intake::{Fate, Intake};
use crate::accounts::{AccountRow, find_account, write_spent};
use crate::bookings::{BookingKind, Movement, OwnAccount, book, own_account};
use crate::branches::Line;
use crate::ceilings::count_gross;
use crate::chips::find_chip;
use crate::closings::successor;
use crate::error::LedgerError;
use crate::statuses::{block_grace, blocked_since};
use crate::store::later;
use crate::top_ups::Purchases;

impl Intake<'_> {
    pub(super) fn take_sale(
        &mut self,
        seq: u64,
        header: &EntryHeader,
        sale: &Sale,
    ) -> Result<Fate, LedgerError> {
        if let Err(error) = PurchaseAmount::new(sale.amount) {
            return Ok(Fate::Quarantined {
                code: "amount",
                detail: error.to_string(),
            });
        }
        let Ok(lines) = serde_json::to_string(&sale.lines) else {
            return Ok(Fate::Quarantined {
                code: "lines",
                detail: "the lines cannot be written down".to_owned(),
            });
        };
        let account = self.payer(sale.account)?;
        let block = match &account {
            Some(account) => self.block(header, sale.chip, account)?,
            None => None,
        };
        let from = match (&account, block) {
            (None, _) => self.own(OwnAccount::UnknownAccount)?,
            (Some(_), Some(Block { lost: true, .. })) => self.own(OwnAccount::Loss)?,
            (Some(account), _) => account.id,
        };
        let id = header.id.to_string();
        let movement = Movement {
            kind: BookingKind::Sale,
            from,
            to: self.sales,
            amount: sale.amount,
            happened_at: self.happened_at(header),
            day: header.day,
            text: "Køb",
            lines: Some(&lines),
            till: Some(&self.access.till),
            reference: Some(&id),
        };
        let booking = book(self.db, &movement, self.now)?;
        let mut flags = self.sale_flags(header, sale);
        flags.extend(block.map(|block| ("after_block", block.detail())));
        match &account {
            None => flags.push((
                "unknown_account",
                format!("account {} is not open in this canteen", sale.account),
            )),
            Some(account) => {
                if self.line == Line::Main {
                    let till = &self.access.till;
                    // The till has counted it on the account that it knows.
                    let counted_on = sale.account;
                    count_gross(self.db, till, self.epoch, counted_on, sale.amount, booking)?;
                }
                self.touched.insert(account.id.0, ());
                if from == account.id {
                    self.note_news(account.id, header);
                    self.paid.push((seq, booking));
                    flags.extend(self.count_sale(header, sale, account)?);
                }
            }
        }
        Ok(Fate::Booked {
            booking,
            account: account.map(|account| account.id),
            flags,
        })
    }

    /// The open account that pays: where it was closed and moved, the one that it was moved to.
    fn payer(&self, id: AccountId) -> Result<Option<AccountRow>, LedgerError> {
        let mut next = Some(id);
        for _ in 0..MOVES_MAX {
            let Some(id) = next else { break };
            let account =
                find_account(self.db, id)?.filter(|account| account.canteen == self.access.canteen);
            match account {
                Some(account) if account.status == Status::Closed => {
                    next = successor(self.db, account.id)?;
                }
                found => return Ok(found),
            }
        }
        Ok(None)
    }

    fn own(&self, own: OwnAccount<'_>) -> Result<AccountId, LedgerError> {
        own_account(self.db, self.access.tenant, own, self.now)
    }

    /// What is odd about the sale itself.
    fn sale_flags(&self, header: &EntryHeader, sale: &Sale) -> Vec<(&'static str, String)> {
        let mut flags = Vec::new();
        let lines = Money::checked_sum(sale.lines.iter().map(|line| line.amount));
        if !sale.lines.is_empty() && lines != Some(sale.amount) {
            flags.push((
                "lines_differ",
                "the lines do not add up to the amount".to_owned(),
            ));
        }
        if header.day > self.today {
            flags.push((
                "day_in_future",
                format!("the till counted it on {}; check its clock", header.day),
            ));
        }
        flags
    }

    /// Counts a booked sale against the limits.
    fn count_sale(
        &mut self,
        header: &EntryHeader,
        sale: &Sale,
        account: &AccountRow,
    ) -> Result<Option<(&'static str, String)>, LedgerError> {
        self.note_purchase(account.id, sale.chip, header.day);
        let day = header.day.min(self.today);
        let base = account.spent.as_of(account.spent.on().max(day));
        match base.plus(sale.amount, day) {
            None => Ok(Some((
                "counters",
                "the counters are out of range".to_owned(),
            ))),
            Some(spent) => {
                write_spent(self.db, account.id, &spent)?;
                Ok(None)
            }
        }
    }

    /// The block that the sale came after, by the till's clock; one that cannot be read counts as
    /// now.
    fn block(
        &self,
        header: &EntryHeader,
        chip: i64,
        account: &AccountRow,
    ) -> Result<Option<Block>, LedgerError> {
        let sold_at = self.happened_at(header);
        let chip = find_chip(self.db, chip)?.filter(|chip| chip.account == account.id);
        let mut since = blocked_since(self.db, StatusOf::Account(account.id), sold_at)?;
        if let Some(chip) = chip {
            let chip = blocked_since(self.db, StatusOf::Chip(chip.number), sold_at)?;
            since = since.into_iter().chain(chip).min();
        }
        let Some(since) = since else { return Ok(None) };
        let grace = block_grace(self.db, account.canteen)?;
        Ok(Some(Block {
            since,
            lost: sold_at > later(since, grace),
        }))
    }

    pub(super) fn take_decline(
        &mut self,
        header: &EntryHeader,
        decline: &Decline,
    ) -> Result<Fate, LedgerError> {
        if decline.reason == INSUFFICIENT_FUNDS {
            self.note_purchase(decline.account, decline.chip, header.day);
        }
        Ok(Fate::Noted)
    }

    fn note_purchase(&mut self, account: AccountId, chip: i64, day: BusinessDay) {
        let purchases = self.purchases.entry(account.0).or_insert(Purchases {
            count: 0,
            chip: Some(chip),
            newest: day,
        });
        purchases.count += 1;
        purchases.chip = Some(chip);
        purchases.newest = purchases.newest.max(day);
    }
}

/// A block that a sale came after.
#[derive(Debug, Clone, Copy)]
struct Block {
    since: Timestamp,
    /// Whether the till had so long to hear of it that the account does not pay.
    lost: bool,
}

impl Block {
    fn detail(self) -> String {
        let since = self.since;
        match self.lost {
            false => format!("the chip or the account was blocked at {since}; the account paid"),
            true => {
                format!("the chip or the account was blocked at {since}; charged to the operator")
            }
        }
    }
}

/// The code of the decline that fires a top-up (`canteen::DeclineReason::code`).
const INSUFFICIENT_FUNDS: &str = "insufficient_funds";
/// How often an account is followed to where it was moved.
const MOVES_MAX: usize = 16;
