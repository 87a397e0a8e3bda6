//! A void: a sale of the same till and day is taken back, whole or by the piece.

use canteen::{AccountId, Money};
use sync_proto::{EntryBody, Sale, Void, VoidLine};
use uuid::Uuid;

use crate::account::{Moved, OwnEntry, account_row, put_own};
use crate::book::prepare;
use crate::entry_row::read_texts;
use crate::error::LedgerError;
use crate::moment::Moment;
use crate::page::{EntryRef, Page};

/// A cashier takes a sale back, or some pieces of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidRequest {
    /// Made when the cashier asks; the same id again gives the recorded answer.
    pub id: Uuid,
    /// The id of the sale.
    pub of: Uuid,
    /// The pieces to take back; empty is the whole sale, or what is left of it.
    pub lines: Vec<VoidLine>,
}

/// A sale is taken back, on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// The account that got the money back.
    pub account: AccountId,
    /// How much.
    pub amount: Money,
    /// What the till believes the account to hold now.
    pub balance_after: Money,
    /// The entry.
    pub entry: EntryRef,
    /// Whether it was taken back earlier under the same id.
    pub replayed: bool,
}

/// What is left of a sale once its voids are taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleLeft {
    /// How many pieces of each line, in the order of the sale.
    pub pieces: Vec<u32>,
    /// How much money.
    pub amount: Money,
}

impl SaleLeft {
    pub(crate) fn of(sale: &Sale) -> SaleLeft {
        SaleLeft {
            pieces: sale.lines.iter().map(|line| line.quantity).collect(),
            amount: sale.amount,
        }
    }

    /// Takes a void off; `None` when more was given back than there was.
    pub(crate) fn after(mut self, void: &Void) -> Option<SaleLeft> {
        self.amount = self.amount.checked_sub(void.amount)?;
        for line in &void.lines {
            let index = usize::try_from(line.line).unwrap_or(usize::MAX);
            if let Some(pieces) = self.pieces.get_mut(index) {
                *pieces = pieces.saturating_sub(line.quantity);
            }
        }
        // A void without lines gives back all that was left.
        if self.amount <= Money::ZERO {
            self.pieces.fill(0);
        }
        (self.amount >= Money::ZERO).then_some(self)
    }
}

/// A sale that may be taken back, and what is left of it.
struct Voidable {
    seq: u64,
    sale: Sale,
    left: SaleLeft,
}

impl Voidable {
    /// What taking back these pieces gives back.
    fn amount(&mut self, lines: &[VoidLine]) -> Result<Money, LedgerError> {
        if lines.is_empty() {
            return Ok(self.left.amount);
        }
        let range = LedgerError::Range {
            account: self.sale.account,
        };
        let mut amounts = Vec::with_capacity(lines.len());
        for wanted in lines {
            let index = usize::try_from(wanted.line).unwrap_or(usize::MAX);
            let left = self.left.pieces.get(index).copied().unwrap_or(0);
            let after = left.checked_sub(wanted.quantity);
            let line = self.sale.lines.get(index);
            let (Some(line), Some(after), 1..) = (line, after, wanted.quantity) else {
                return Err(LedgerError::NotSoMany {
                    line: wanted.line,
                    left,
                    wanted: wanted.quantity,
                });
            };
            amounts.push(line.unit_price.checked_mul(wanted.quantity));
            if let Some(pieces) = self.left.pieces.get_mut(index) {
                *pieces = after;
            }
        }
        let amounts: Option<Vec<Money>> = amounts.into_iter().collect();
        let amount = amounts.and_then(Money::checked_sum);
        amount
            .filter(|amount| *amount <= self.left.amount && *amount > Money::ZERO)
            .ok_or(range)
    }
}

impl Page<'_> {
    pub(crate) fn void(
        &mut self,
        request: &VoidRequest,
        now: Moment,
    ) -> Result<Voided, LedgerError> {
        if let Some(seq) = self.find(request.id)? {
            return self.repeat_void(request, seq);
        }
        let mut voidable = self.voidable(request.of, now)?;
        let amount = voidable.amount(&request.lines)?;
        let (of_seq, account) = (voidable.seq, voidable.sale.account);
        let row = account_row(self.connection, account)?;
        let row = row.ok_or(LedgerError::Corrupt { seq: of_seq })?;
        let day = self.business_day(now)?;
        let own = row.own.after(&OwnEntry {
            seq: self.draft.head.seq + 1,
            account,
            day,
            what: Moved::Void(amount),
            asks_for_top_up: false,
        });
        let own = own.ok_or(LedgerError::Range { account })?;
        let body = EntryBody::Void(Void {
            lines: request.lines.clone(),
            of: request.of,
            of_seq,
            account,
            amount,
            balance_after: own.balance,
        });
        let entry = self.append(request.id, &body, day, now)?;
        put_own(self.connection, account, &own)?;
        Ok(Voided {
            account,
            amount,
            balance_after: own.balance,
            entry,
            replayed: false,
        })
    }

    fn voidable(&self, of: Uuid, now: Moment) -> Result<Voidable, LedgerError> {
        let no_such_sale = || LedgerError::NoSuchSale { of };
        let seq = self.find(of)?.ok_or_else(no_such_sale)?;
        let (header, body) = self.entry(seq)?.read()?;
        let EntryBody::Sale(sale) = body else {
            return Err(no_such_sale());
        };
        let today = self.business_day(now)?;
        if header.day != today {
            return Err(LedgerError::SaleOfAnotherDay {
                day: header.day,
                today,
            });
        }
        let account = sale.account;
        let (mut left, mut last) = (SaleLeft::of(&sale), seq);
        for (seq, void) in self.voids_of(of, seq)? {
            left = left.after(&void).ok_or(LedgerError::Range { account })?;
            last = seq;
        }
        if left.amount <= Money::ZERO {
            return Err(LedgerError::VoidedBefore { seq: last });
        }
        Ok(Voidable { seq, sale, left })
    }

    /// Voids come after their sale on the same day, so there is little to look through.
    fn voids_of(&self, of: Uuid, after: u64) -> Result<Vec<(u64, Void)>, LedgerError> {
        let mut statement = prepare(
            self.connection,
            "SELECT seq, header, body FROM entry
             WHERE seq > ?1 AND instr(body, ?2) > 0 ORDER BY seq",
        )?;
        let mut rows = statement.query((after.cast_signed(), of.to_string()))?;
        let mut voids = Vec::new();
        while let Some(row) = rows.next()? {
            let (seq, texts) = read_texts(row)?;
            if let Ok((_, EntryBody::Void(void))) = texts.read()
                && void.of == of
            {
                voids.push((seq, void));
            }
        }
        Ok(voids)
    }

    fn repeat_void(&self, request: &VoidRequest, seq: u64) -> Result<Voided, LedgerError> {
        let (_, body) = self.entry(seq)?.read()?;
        match body {
            EntryBody::Void(void) if void.of == request.of && void.lines == request.lines => {
                Ok(Voided {
                    account: void.account,
                    amount: void.amount,
                    balance_after: void.balance_after,
                    entry: self.reference(seq, request.id),
                    replayed: true,
                })
            }
            EntryBody::Void(_)
            | EntryBody::Sale(_)
            | EntryBody::Decline(_)
            | EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => Err(LedgerError::IdTaken {
                id: request.id,
                seq,
            }),
        }
    }
}
