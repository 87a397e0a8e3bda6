//! A void: a sale of the same till and day is taken back.

use canteen::{AccountId, Money};
use sync_proto::{EntryBody, EntryTexts, Sale, Void};
use uuid::Uuid;

use crate::account::{Moved, OwnEntry, account_row, put_own};
use crate::book::{EntryRef, Page, prepare};
use crate::error::LedgerError;
use crate::moment::Moment;

/// A cashier takes a sale back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidRequest {
    /// Made when the cashier asks; the same id again gives the recorded answer.
    pub id: Uuid,
    /// The id of the sale.
    pub of: Uuid,
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

impl Page<'_> {
    pub(crate) fn void(
        &mut self,
        request: &VoidRequest,
        now: Moment,
    ) -> Result<Voided, LedgerError> {
        if let Some(seq) = self.find(request.id)? {
            return self.repeat_void(request, seq);
        }
        let (of_seq, sale) = self.voidable(request.of, now)?;
        let row = account_row(self.connection, sale.account)?;
        let row = row.ok_or(LedgerError::Corrupt { seq: of_seq })?;
        let day = self.business_day(now)?;
        let own = row.own.after(&OwnEntry {
            seq: self.draft.head.seq + 1,
            account: sale.account,
            day,
            what: Moved::Void(sale.amount),
            asks_for_top_up: false,
        });
        let own = own.ok_or(LedgerError::Range {
            account: sale.account,
        })?;
        let body = EntryBody::Void(Void {
            lines: Vec::new(),
            of: request.of,
            of_seq,
            account: sale.account,
            amount: sale.amount,
            balance_after: own.balance,
        });
        let entry = self.append(request.id, &body, day, now)?;
        put_own(self.connection, sale.account, &own)?;
        Ok(Voided {
            account: sale.account,
            amount: sale.amount,
            balance_after: own.balance,
            entry,
            replayed: false,
        })
    }

    fn voidable(&self, of: Uuid, now: Moment) -> Result<(u64, Sale), LedgerError> {
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
        match self.voided_by(of, seq)? {
            Some(seq) => Err(LedgerError::VoidedBefore { seq }),
            None => Ok((seq, sale)),
        }
    }

    /// A void comes after its sale on the same day, so there is little to look through.
    fn voided_by(&self, of: Uuid, after: u64) -> Result<Option<u64>, LedgerError> {
        let mut statement = prepare(
            self.connection,
            "SELECT seq, header, body FROM entry
             WHERE seq > ?1 AND instr(body, ?2) > 0 ORDER BY seq",
        )?;
        let mut rows = statement.query((after.cast_signed(), of.to_string()))?;
        while let Some(row) = rows.next()? {
            let texts = EntryTexts {
                header: row.get(1)?,
                body: row.get(2)?,
            };
            if matches!(texts.read(), Ok((_, EntryBody::Void(void))) if void.of == of) {
                return Ok(Some(row.get::<_, i64>(0)?.cast_unsigned()));
            }
        }
        Ok(None)
    }

    fn repeat_void(&self, request: &VoidRequest, seq: u64) -> Result<Voided, LedgerError> {
        let (_, body) = self.entry(seq)?.read()?;
        match body {
            EntryBody::Void(void) if void.of == request.of => Ok(Voided {
                account: void.account,
                amount: void.amount,
                balance_after: void.balance_after,
                entry: self.reference(seq, request.id),
                replayed: true,
            }),
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
