//! What one till is told of a record, made from the state of this moment.

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{
    AccountRecord, Change, ChipRecord, Epoch, HolderRecord, LimitSharesRecord, ProductRecord,
    Record,
};

use super::Key;
use super::versions::{RecordKind, account_version};
use crate::accounts::{AccountRow, find_account, find_holder};
use crate::agreements::top_up_record;
use crate::ceilings::ceiling_of;
use crate::chips::chip_by_uid;
use crate::error::LedgerError;
use crate::limit_shares::shares_of;
use crate::positions::Ceilings;
use crate::products::find_product;
use crate::tenancy::CanteenId;
use crate::tills::{TillAccess, accepted_through};

/// The record of one account for one till, with its ceiling.
pub(crate) fn account_change(
    db: &Connection,
    till: &TillAccess,
    epoch: Epoch,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Option<Change>, LedgerError> {
    let Some(rv) = account_version(db, account)? else {
        return Ok(None);
    };
    let records = Records::new(db, till, Ceilings::Given(epoch), now)?;
    Ok(Some(Change {
        rv,
        record: records.account(account.id)?,
    }))
}

/// Makes records for one till, all from the same moment.
pub(super) struct Records<'a> {
    db: &'a Connection,
    till: &'a TillAccess,
    ceilings: Ceilings,
    canteen: CanteenId,
    incl_seq: u64,
    now: Timestamp,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        db: &'a Connection,
        till: &'a TillAccess,
        ceilings: Ceilings,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        Ok(Records {
            db,
            till,
            ceilings,
            canteen: till.canteen,
            incl_seq: accepted_through(db, &till.till)?,
            now,
        })
    }

    pub(super) fn change(&self, key: &Key) -> Result<Change, LedgerError> {
        let record = match key.kind {
            RecordKind::Account => self.account(account_number(&key.id)?)?,
            RecordKind::Chip => self.chip(&key.id)?,
            RecordKind::Holder => self.holder(account_number(&key.id)?)?,
            RecordKind::Product => self.product(&key.id)?,
            RecordKind::ChipKeys => Record::ChipKeys,
        };
        Ok(Change { rv: key.rv, record })
    }

    fn account(&self, id: AccountId) -> Result<Record, LedgerError> {
        let Some(account) = find_account(self.db, id)? else {
            return Ok(Record::AccountGone { id });
        };
        let top_up = top_up_record(self.db, &account, self.now)?;
        Ok(Record::Account(AccountRecord {
            id,
            position: account.balance,
            incl_seq: self.incl_seq,
            status: account.status,
            status_rv: account.status_rv,
            credit: account.credit,
            limits: account.limits.into(),
            spent: account.spent.into(),
            ceiling: self.ceiling(id)?,
            shares: self.shares(&account)?,
            top_up,
        }))
    }

    fn ceiling(&self, account: AccountId) -> Result<Option<Money>, LedgerError> {
        let Ceilings::Given(epoch) = self.ceilings else {
            return Ok(None);
        };
        let issued = ceiling_of(self.db, &self.till.till, epoch, account)?;
        Ok(issued.map(|(ceiling, _)| ceiling))
    }

    fn shares(&self, account: &AccountRow) -> Result<Option<LimitSharesRecord>, LedgerError> {
        match self.ceilings {
            Ceilings::Given(epoch) => shares_of(self.db, &self.till.till, epoch, account),
            Ceilings::Withheld | Ceilings::None => Ok(None),
        }
    }

    fn chip(&self, uid: &str) -> Result<Record, LedgerError> {
        let Some(chip) = chip_by_uid(self.db, self.canteen, uid)? else {
            return Err(LedgerError::Unreadable { what: "chip" });
        };
        Ok(Record::Chip(ChipRecord {
            number: chip.number,
            uid: chip.uid,
            card: chip.card,
            account: chip.account,
            status: chip.status,
            must_prove: chip.key_version.is_some(),
            status_rv: chip.status_rv,
        }))
    }

    fn holder(&self, account: AccountId) -> Result<Record, LedgerError> {
        Ok(match find_holder(self.db, account)? {
            None => Record::HolderGone { account },
            Some(holder) => Record::Holder(HolderRecord {
                account,
                name: holder.name,
                photo: holder.photo,
            }),
        })
    }

    fn product(&self, id: &str) -> Result<Record, LedgerError> {
        let id: i64 = id
            .parse()
            .map_err(|_| LedgerError::Unreadable { what: "product" })?;
        Ok(match find_product(self.db, id)? {
            None => Record::ProductGone { id },
            Some(row) => Record::Product(ProductRecord {
                id,
                name: row.product.name,
                category: row.product.category,
                price: row.product.price,
                position: row.product.position,
            }),
        })
    }
}

fn account_number(id: &str) -> Result<AccountId, LedgerError> {
    id.parse()
        .map(AccountId)
        .map_err(|_| LedgerError::Unreadable { what: "account" })
}
