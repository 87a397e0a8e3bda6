//! Entries on their way into the books.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay};
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{
    EntryBody, EntryError, EntryFate, EntryHash, EntryHeader, EntryResult, EntryTexts, Epoch,
    FeedAck, Hole, NumberedEntry, Start, StateReport,
};

use crate::accounts::find_account;
use crate::bookings::{BookingId, OwnAccount, own_account};
use crate::branches::{Line, entry_by_id, has_branches, id_of, index_entry};
use crate::ceilings::{acknowledge, reissue_and_tell};
use crate::debits::go_on;
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::limit_shares::note_strict_limits;
use crate::replay::{Since, replay};
use crate::restore::{
    is_frozen, note_first_life, note_other_life, take_report, thaw_when_all_reported,
};
use crate::statuses::acknowledge_statuses;
use crate::store::{hub_position, millis};
use crate::tills::TillAccess;
use crate::top_up_rules::TopUpRules;
use crate::top_ups::{Purchases, ask_for_top_up};
use crate::z_reports::hold_against_books;

/// One batch on its way into the books.
pub(super) struct Intake<'a> {
    pub(super) db: &'a Connection,
    pub(super) access: &'a TillAccess,
    pub(super) epoch: Epoch,
    pub(super) line: Line,
    pub(super) reading: Reading,
    /// The places of entries that the till has lost.
    pub(super) holes: &'a [Hole],
    /// Whether entries may have come before under other numbers.
    pub(super) looks_up_ids: bool,
    pub(super) sales: AccountId,
    pub(super) today: BusinessDay,
    pub(super) now: Timestamp,
    /// The accounts whose record changed.
    pub(super) touched: BTreeMap<i64, ()>,
    /// The accounts with news, and the place of the earliest in their order.
    pub(super) news: BTreeMap<i64, Since>,
    /// The sales that accounts have paid, by the numbers of their entries.
    pub(super) paid: Vec<(u64, BookingId)>,
    /// The purchases that may fire a top-up, by account.
    pub(super) purchases: BTreeMap<i64, Purchases>,
    pub(super) hub_epoch: u64,
    /// Whether the canteen waits for reports of its tills.
    frozen: bool,
    /// The highest cursor of this hub's feed that a booked entry carries.
    pub(super) acknowledged: u64,
    /// Whether the till's program keeps strict limits, as the last entry that tells of it says.
    keeps_strict_limits: Option<bool>,
}

/// How much of the entries is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All that is known here.
    Whole,
    /// Nothing.
    Nothing,
}

/// What became of an entry, before it is told to the till.
pub(super) enum Fate {
    Noted,
    /// It came before, in another chain.
    Known,
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
        line: Line,
        now: Timestamp,
    ) -> Result<Intake<'a>, LedgerError> {
        Ok(Intake {
            db,
            access,
            epoch,
            line,
            reading: Reading::Whole,
            holes: &[],
            looks_up_ids: has_branches(db, &access.till)?,
            sales: own_account(db, access.tenant, OwnAccount::TillSales(&access.till), now)?,
            today: BusinessDay::of(now),
            now,
            touched: BTreeMap::new(),
            news: BTreeMap::new(),
            paid: Vec::new(),
            purchases: BTreeMap::new(),
            hub_epoch: hub_position(db)?.0,
            frozen: is_frozen(db, access.canteen)?,
            acknowledged: 0,
            keeps_strict_limits: None,
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
        self.write_batch(first.seq, entries.len(), first_id)?;
        let mut results = Vec::with_capacity(entries.len());
        for ((entry, hash), id) in entries.iter().zip(hashes).zip(first_id..) {
            let fate = self.take(entry)?;
            self.write_journal(id, entry, hash, &fate)?;
            if self.looks_up_ids
                && let Some(named) = id_of(&entry.texts.header)
            {
                index_entry(self.db, &self.access.till, named, id)?;
            }
            results.push(EntryResult {
                seq: entry.seq,
                fate: self.report(id, entry, fate)?,
            });
        }
        Ok(results)
    }

    /// Notes where the entries stand.
    fn write_batch(
        &self,
        first_seq: u64,
        entries: usize,
        first_id: i64,
    ) -> Result<(), LedgerError> {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        let received_at = millis(self.now);
        match self.line {
            Line::Main => self
                .db
                .prepare_cached(
                    "INSERT INTO batch (till, epoch, first_seq, entries, first_id, received_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((
                    self.access.till.as_str(),
                    self.epoch.0.cast_signed(),
                    first_seq.cast_signed(),
                    entries,
                    first_id,
                    received_at,
                ))?,
            Line::Branch(branch) => self
                .db
                .prepare_cached(
                    "INSERT INTO branch_batch (branch, first_seq, entries, first_id, received_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    branch,
                    first_seq.cast_signed(),
                    entries,
                    first_id,
                    received_at,
                ))?,
        };
        Ok(())
    }

    /// The till has lost the texts of an entry, and its hash is all that there is.
    fn take_hole(&self, hole: &Hole) -> Result<Fate, LedgerError> {
        let detail = format!(
            "the till cannot read its entry {} any more: {}",
            hole.seq, hole.reason
        );
        let origin = self.origin(hole.seq);
        raise_flag(self.db, "hole", &origin, None, None, &detail, self.now)?;
        Ok(Fate::Quarantined {
            code: "hole",
            detail,
        })
    }

    /// What a till says that it may sell counts in place of what a backup knew, and from a branch it
    /// says nothing of the machine that writes the main chain.
    fn note_report(&self, report: &StateReport) -> Result<Fate, LedgerError> {
        if self.line == Line::Main {
            take_report(self.db, self.access, self.epoch, report)?;
        }
        Ok(Fate::Noted)
    }

    fn note_life(&self, header: &EntryHeader, body: &EntryBody) -> Result<(), LedgerError> {
        let told_in = header.fc.hub_epoch;
        if !self.frozen || self.line != Line::Main || told_in == 0 {
            return Ok(());
        }
        let is_report = matches!(body, EntryBody::StateReport(_));
        if told_in != self.hub_epoch {
            note_other_life(self.db, &self.access.till, self.epoch)?;
        } else if !is_report {
            note_first_life(self.db, &self.access.till, self.epoch)?;
        }
        Ok(())
    }

    fn origin(&self, seq: u64) -> Origin<'a> {
        Origin {
            tenant: self.access.tenant,
            till: Some(self.access.till.as_str()),
            epoch: Some(self.epoch),
            seq: Some(seq),
        }
    }

    /// What is to be done with an entry whose id came before.
    fn recognise(&self, texts: &EntryTexts) -> Result<Option<Fate>, LedgerError> {
        let Some(id) = id_of(&texts.header) else {
            return Ok(None);
        };
        let Some(journal) = entry_by_id(self.db, &self.access.till, id)? else {
            return Ok(None);
        };
        let same = self
            .db
            .prepare_cached("SELECT header = ?2 AND body = ?3 FROM journal WHERE id = ?1")?
            .query_row((journal, &texts.header, &texts.body), |row| row.get(0))?;
        if same {
            return Ok(Some(Fate::Known));
        }
        Ok(Some(Fate::Quarantined {
            code: "id_collision",
            detail: format!("another entry came before under the id {id}"),
        }))
    }

    fn take(&mut self, entry: &NumberedEntry) -> Result<Fate, LedgerError> {
        let lost = entry.texts.is_empty();
        if let Some(hole) = self.holes.iter().find(|hole| hole.seq == entry.seq && lost) {
            return self.take_hole(hole);
        }
        if self.looks_up_ids
            && let Some(fate) = self.recognise(&entry.texts)?
        {
            return Ok(fate);
        }
        if self.reading == Reading::Nothing {
            return Ok(Fate::Quarantined {
                code: "raw",
                detail: "the till could not bring it in otherwise; it was not read".to_owned(),
            });
        }
        self.take_texts(entry.seq, &entry.texts)
    }

    /// Books what the texts of an entry say.
    pub(super) fn take_texts(&mut self, seq: u64, texts: &EntryTexts) -> Result<Fate, LedgerError> {
        let (header, body) = match texts.read() {
            Ok(read) => read,
            Err(error) => return Ok(unreadable(&error)),
        };
        self.note_life(&header, &body)?;
        let fate = match body {
            EntryBody::Sale(sale) => self.take_sale(seq, &header, &sale),
            EntryBody::Void(void) => self.take_void(&header, &void),
            EntryBody::Decline(decline) => self.take_decline(&header, &decline),
            EntryBody::StateReport(report) => self.note_report(&report),
            EntryBody::ZReport(report) => {
                hold_against_books(self.db, &self.origin(seq), self.line, &report, self.now)?;
                Ok(Fate::Noted)
            }
            EntryBody::Start(Start { strict_limits, .. })
            | EntryBody::FeedAck(FeedAck { strict_limits }) => {
                self.keeps_strict_limits = Some(strict_limits);
                Ok(Fate::Noted)
            }
            EntryBody::ClockEvent(_) => Ok(Fate::Noted),
        }?;
        match &fate {
            Fate::Noted | Fate::Booked { .. }
                if header.fc.hub_epoch == self.hub_epoch && self.line == Line::Main =>
            {
                self.acknowledged = self.acknowledged.max(header.fc.cursor);
            }
            Fate::Noted | Fate::Known | Fate::Booked { .. } | Fate::Quarantined { .. } => {}
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
            Fate::Noted | Fate::Known | Fate::Quarantined { .. } => None,
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
    fn report(
        &mut self,
        journal: i64,
        entry: &NumberedEntry,
        fate: Fate,
    ) -> Result<EntryFate, LedgerError> {
        self.raise_flags(entry.seq, &fate)?;
        match fate {
            Fate::Noted => Ok(EntryFate::Booked),
            Fate::Known => Ok(EntryFate::Duplicate),
            Fate::Booked { flags, .. } if flags.is_empty() => Ok(EntryFate::Booked),
            Fate::Booked { flags, .. } => Ok(EntryFate::Flagged {
                codes: flags.iter().map(|(code, _)| (*code).to_owned()).collect(),
            }),
            Fate::Quarantined { code, detail } => {
                let claim = self.claim(&entry.texts)?;
                self.db.execute(
                    "INSERT INTO quarantine (code, at, tenant, till, epoch, seq, journal, detail,
                       account, amount)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    (
                        code,
                        millis(self.now),
                        self.access.tenant.0,
                        self.access.till.as_str(),
                        self.epoch.0.cast_signed(),
                        entry.seq.cast_signed(),
                        journal,
                        detail,
                        claim.map(|(account, _)| account.0),
                        claim.map(|(_, amount)| amount.ore()),
                    ),
                )?;
                Ok(EntryFate::Quarantined {
                    code: code.to_owned(),
                })
            }
        }
    }

    pub(super) fn raise_flags(&self, seq: u64, fate: &Fate) -> Result<(), LedgerError> {
        let Fate::Booked {
            booking,
            account,
            flags,
        } = fate
        else {
            return Ok(());
        };
        let origin = self.origin(seq);
        for (code, detail) in flags {
            let booking = Some(*booking);
            raise_flag(self.db, code, &origin, *account, booking, detail, self.now)?;
        }
        Ok(())
    }

    /// There is news of an account's money.
    pub(super) fn note_news(&mut self, account: AccountId, header: &EntryHeader) {
        let since = Since::new(header.day, self.happened_at(header));
        let first = self.news.entry(account.0).or_insert(since);
        *first = since.min(*first);
    }

    /// Finds the flags that follow from the order of things, and gives those of the entries.
    fn replay(&self) -> Result<BTreeMap<u64, Vec<&'static str>>, LedgerError> {
        let mut found = BTreeMap::new();
        for (account, first) in &self.news {
            if let Some(account) = find_account(self.db, AccountId(*account))? {
                found.extend(replay(self.db, &account, *first, self.now)?);
            }
        }
        let paid = self.paid.iter();
        Ok(paid
            .filter_map(|(seq, booking)| Some((*seq, found.remove(booking)?)))
            .filter(|(_, codes)| !codes.is_empty())
            .collect())
    }

    /// Fires the top-ups that the purchases ask for, takes note of what the till has applied, and
    /// tells all tills what changed. Gives the flags that are known only now.
    pub(super) fn finish(
        self,
        rules: &TopUpRules,
    ) -> Result<BTreeMap<u64, Vec<&'static str>>, LedgerError> {
        let flagged = self.replay()?;
        if let Some(keeps) = self.keeps_strict_limits.filter(|_| self.line == Line::Main) {
            let till = self.access;
            note_strict_limits(self.db, till.canteen, &till.till, self.epoch, keeps)?;
        }
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
        if self.frozen {
            thaw_when_all_reported(self.db, self.access.canteen, self.now)?;
        }
        for account in &freed {
            if !self.touched.contains_key(&account.0) {
                reissue_and_tell(self.db, *account)?;
            }
        }
        let touched = self.touched.keys().map(|account| AccountId(*account));
        for account in touched.chain(freed) {
            go_on(self.db, account, self.now)?;
        }
        Ok(flagged)
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
