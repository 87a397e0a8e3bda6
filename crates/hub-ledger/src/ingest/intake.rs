//! Entries on their way into the books.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay};
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{
    EntryBody, EntryError, EntryFate, EntryHash, EntryHeader, EntryResult, Epoch, NumberedEntry,
};

use crate::accounts::find_account;
use crate::bookings::{BookingId, OwnAccount, own_account};
use crate::ceilings::{acknowledge, reissue_and_tell};
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::statuses::acknowledge_statuses;
use crate::store::{hub_position, millis};
use crate::tills::TillAccess;
use crate::top_up_rules::TopUpRules;
use crate::top_ups::{Purchases, ask_for_top_up};

/// One batch on its way into the books.
pub(super) struct Intake<'a> {
    pub(super) db: &'a Connection,
    pub(super) access: &'a TillAccess,
    pub(super) epoch: Epoch,
    pub(super) sales: AccountId,
    pub(super) today: BusinessDay,
    pub(super) now: Timestamp,
    /// The accounts whose record changed.
    pub(super) touched: BTreeMap<i64, ()>,
    /// The purchases that may fire a top-up, by account.
    pub(super) purchases: BTreeMap<i64, Purchases>,
    pub(super) hub_epoch: u64,
    /// The highest cursor of this hub's feed that a booked entry carries.
    pub(super) acknowledged: u64,
}

/// What became of an entry, before it is told to the till.
pub(super) enum Fate {
    Noted,
    Booked {
        booking: BookingId,
        account: Option<AccountId>,
        flags: Vec<(&'static str, String)>,
    },
    Quarantined {
        code: &'static str,
        detail: String,
    },
}

impl<'a> Intake<'a> {
    pub(super) fn begin(
        db: &'a Connection,
        access: &'a TillAccess,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Intake<'a>, LedgerError> {
        Ok(Intake {
            db,
            access,
            epoch,
            sales: own_account(db, access.tenant, OwnAccount::TillSales(&access.till), now)?,
            today: BusinessDay::of(now),
            now,
            touched: BTreeMap::new(),
            purchases: BTreeMap::new(),
            hub_epoch: hub_position(db)?.0,
            acknowledged: 0,
        })
    }

    pub(super) fn take_all(
        &mut self,
        entries: &[NumberedEntry],
        hashes: &[EntryHash],
    ) -> Result<Vec<EntryResult>, LedgerError> {
        let Some(first) = entries.first() else {
            return Ok(Vec::new());
        };
        let first_id: i64 = self
            .db
            .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM journal")?
            .query_row([], |row| row.get(0))?;
        self.db
            .prepare_cached(
                "INSERT INTO batch (till, epoch, first_seq, entries, first_id, received_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                self.access.till.as_str(),
                self.epoch.0.cast_signed(),
                first.seq.cast_signed(),
                i64::try_from(entries.len()).unwrap_or(i64::MAX),
                first_id,
                millis(self.now),
            ))?;
        let mut results = Vec::with_capacity(entries.len());
        for ((entry, hash), id) in entries.iter().zip(hashes).zip(first_id..) {
            let fate = self.take(entry)?;
            self.write_journal(id, entry, hash, &fate)?;
            results.push(EntryResult {
                seq: entry.seq,
                fate: self.report(id, entry.seq, fate)?,
            });
        }
        Ok(results)
    }

    fn take(&mut self, entry: &NumberedEntry) -> Result<Fate, LedgerError> {
        let (header, body) = match entry.texts.read() {
            Ok(read) => read,
            Err(error) => return Ok(unreadable(&error)),
        };
        let fate = match body {
            EntryBody::Sale(sale) => self.take_sale(&header, &sale),
            EntryBody::Void(void) => self.take_void(&header, &void),
            EntryBody::Decline(decline) => self.take_decline(&header, &decline),
            EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => Ok(Fate::Noted),
        }?;
        match &fate {
            Fate::Noted | Fate::Booked { .. } if header.fc.hub_epoch == self.hub_epoch => {
                self.acknowledged = self.acknowledged.max(header.fc.cursor);
            }
            Fate::Noted | Fate::Booked { .. } | Fate::Quarantined { .. } => {}
        }
        Ok(fate)
    }

    fn write_journal(
        &self,
        id: i64,
        entry: &NumberedEntry,
        hash: &EntryHash,
        fate: &Fate,
    ) -> Result<(), LedgerError> {
        let booking = match fate {
            Fate::Booked { booking, .. } => Some(booking.0),
            Fate::Noted | Fate::Quarantined { .. } => None,
        };
        self.db
            .prepare_cached(
                "INSERT INTO journal (id, seq, hash, header, body, booking)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                id,
                entry.seq.cast_signed(),
                hash.0,
                &entry.texts.header,
                &entry.texts.body,
                booking,
            ))?;
        Ok(())
    }

    /// Keeps what the operator should see and tells the till.
    fn report(&self, journal: i64, seq: u64, fate: Fate) -> Result<EntryFate, LedgerError> {
        let origin = Origin {
            tenant: self.access.tenant,
            till: Some(self.access.till.as_str()),
            epoch: Some(self.epoch),
            seq: Some(seq),
        };
        match fate {
            Fate::Noted => Ok(EntryFate::Booked),
            Fate::Booked { flags, .. } if flags.is_empty() => Ok(EntryFate::Booked),
            Fate::Booked {
                booking,
                account,
                flags,
            } => {
                for (code, detail) in &flags {
                    raise_flag(
                        self.db,
                        code,
                        &origin,
                        account,
                        Some(booking),
                        detail,
                        self.now,
                    )?;
                }
                Ok(EntryFate::Flagged {
                    codes: flags.iter().map(|(code, _)| (*code).to_owned()).collect(),
                })
            }
            Fate::Quarantined { code, detail } => {
                self.db.execute(
                    "INSERT INTO quarantine (code, at, tenant, till, epoch, seq, journal, detail)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    (
                        code,
                        millis(self.now),
                        self.access.tenant.0,
                        self.access.till.as_str(),
                        self.epoch.0.cast_signed(),
                        seq.cast_signed(),
                        journal,
                        detail,
                    ),
                )?;
                Ok(EntryFate::Quarantined {
                    code: code.to_owned(),
                })
            }
        }
    }

    /// Fires the top-ups that the purchases ask for, takes note of what the till has applied, and
    /// tells all tills what changed.
    pub(super) fn finish(self, rules: &TopUpRules) -> Result<(), LedgerError> {
        let freed = acknowledge(self.db, &self.access.till, self.epoch, self.acknowledged)?;
        acknowledge_statuses(self.db, &self.access.till, self.epoch, self.acknowledged)?;
        for (account, purchases) in &self.purchases {
            let Some(account) = find_account(self.db, AccountId(*account))? else {
                continue;
            };
            if account.canteen == self.access.canteen {
                ask_for_top_up(self.db, &account, purchases, rules, self.now)?;
            }
        }
        for account in self.touched.keys() {
            if let Some(account) = find_account(self.db, AccountId(*account))? {
                touch_account(self.db, account.canteen, account.id)?;
            }
        }
        for account in freed {
            if !self.touched.contains_key(&account.0) {
                reissue_and_tell(self.db, account)?;
            }
        }
        Ok(())
    }

    /// When it happened by the till's clock, or now when that cannot be read.
    pub(super) fn happened_at(&self, header: &EntryHeader) -> Timestamp {
        header.ts.parse().unwrap_or(self.now)
    }
}

fn unreadable(error: &EntryError) -> Fate {
    let code = match error {
        EntryError::Header(_) => "unreadable_header",
        EntryError::Body(_) => "unreadable_body",
        EntryError::UnknownKind { .. } => "unknown_kind",
    };
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Fate::Quarantined {
        code,
        detail: format!("{error}{cause}"),
    }
}
