//! Taking in what tills have written.
//!
//! A batch is one transaction. The watermark of the till's epoch says what is here already: since
//! every hash covers all entries before it, one equal hash proves that everything up to it is
//! equal.

use std::collections::BTreeMap;

use canteen::{AccountId, BusinessDay, Limits, Money, PurchaseAmount, Spent, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{
    Batch, BatchAnswer, BatchError, BatchRefusal, Decline, EntryBody, EntryError, EntryFate,
    EntryHash, EntryHeader, EntryResult, Epoch, Head, NumberedEntry, Sale, TillId, Void,
};

use crate::accounts::{AccountRow, find_account, write_spent};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::ceilings::{acknowledge, count_gross, reissue_and_tell};
use crate::chips::find_chip;
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::store::{HubLedger, hub_position, millis};
use crate::tills::{TillAccess, Watermark, move_watermark, note_report, watermark};
use crate::top_up_rules::TopUpRules;
use crate::top_ups::{Purchases, ask_for_top_up};

impl HubLedger {
    /// Stores and books what a till has sent, or says why nothing of it was stored.
    pub fn ingest(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Result<BatchAnswer, BatchRefusal>, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        if batch.till != access.till {
            return Ok(Err(BatchRefusal::NotEnrolled));
        }
        let Some(mark) = watermark(&db, &batch.till, batch.epoch)? else {
            return Ok(Err(BatchRefusal::NotEnrolled));
        };
        // No ledger ever gets that long, and numbers beyond it cannot be stored.
        if i64::try_from(batch.first_seq.saturating_add(batch.entries.len() as u64)).is_err() {
            return Ok(Err(BatchRefusal::BadChain));
        }
        let hashes = match batch.verify(&mark.key) {
            Ok(hashes) => hashes,
            Err(error) => return Ok(Err(refusal(&error))),
        };
        let known = match known_entries(&db, batch, &hashes, &mark)? {
            Ok(known) => known,
            Err(refusal) => {
                note_fork(&db, access, batch, &refusal, now)?;
                db.commit()?;
                return Ok(Err(refusal));
            }
        };
        let mut results: Vec<EntryResult> = batch.entries[..known]
            .iter()
            .map(|entry| EntryResult {
                seq: entry.seq,
                fate: EntryFate::Duplicate,
            })
            .collect();
        let (fresh, hashes) = (&batch.entries[known..], &hashes[known..]);
        let mut ingest = Ingest::begin(&db, access, batch.epoch, now)?;
        results.extend(ingest.take_all(fresh, hashes)?);
        ingest.finish(&rules)?;
        let accepted = match fresh.last() {
            Some(_) => batch.head,
            None => Head {
                seq: mark.seq,
                hash: mark.hash,
            },
        };
        if !fresh.is_empty() {
            move_watermark(&db, &batch.till, batch.epoch, accepted.seq, accepted.hash)?;
        }
        note_report(&db, &batch.till, &batch.report, now)?;
        let (hub_epoch, _) = hub_position(&db)?;
        db.commit()?;
        Ok(Ok(BatchAnswer {
            hub_epoch,
            accepted,
            // No backup of the hub has been verified by this program, so nothing may be pruned.
            durable_through: 0,
            results,
            hub_time: now.to_string(),
        }))
    }
}

fn refusal(error: &BatchError) -> BatchRefusal {
    match error {
        BatchError::TooMany { .. } => BatchRefusal::TooLarge,
        BatchError::Empty
        | BatchError::Numbering { .. }
        | BatchError::Chain { .. }
        | BatchError::Signature => BatchRefusal::BadChain,
    }
}

/// How many entries of the batch are stored already.
fn known_entries(
    db: &Connection,
    batch: &Batch,
    hashes: &[EntryHash],
    mark: &Watermark,
) -> Result<Result<usize, BatchRefusal>, LedgerError> {
    let before = batch.first_seq - 1;
    if before > mark.seq {
        return Ok(Err(BatchRefusal::Gap {
            expected: mark.seq + 1,
        }));
    }
    let known = usize::try_from(mark.seq - before)
        .unwrap_or(usize::MAX)
        .min(hashes.len());
    let (seq, theirs) = match known {
        0 => (before, batch.prev_hash),
        _ => (before + known as u64, hashes[known - 1]),
    };
    let stored = |seq| stored_hash(db, &batch.till, batch.epoch, mark, seq);
    if stored(seq)? == Some(theirs) {
        return Ok(Ok(known));
    }
    let mut agreed_through = 0;
    for (seq, hash) in (batch.first_seq..).zip(&hashes[..known]) {
        if stored(seq)? != Some(*hash) {
            break;
        }
        agreed_through = seq;
    }
    if agreed_through == 0 && stored(before)? == Some(batch.prev_hash) {
        agreed_through = before;
    }
    Ok(Err(BatchRefusal::Fork { agreed_through }))
}

/// The hash of an entry that is in the journal, or of what stands before the first one.
pub(crate) fn stored_hash(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    mark: &Watermark,
    seq: u64,
) -> Result<Option<EntryHash>, LedgerError> {
    if seq == mark.seq {
        return Ok(Some(mark.hash));
    }
    if seq == 0 {
        return Ok(Some(EntryHash::genesis(till, epoch, &mark.key)));
    }
    let Some(id) = journal_id(db, till, epoch, seq)? else {
        return Ok(None);
    };
    let hash = db
        .prepare_cached("SELECT hash FROM journal WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(hash.map(EntryHash))
}

/// Where an entry stands in the journal.
fn journal_id(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    seq: u64,
) -> Result<Option<i64>, LedgerError> {
    let Ok(seq) = i64::try_from(seq) else {
        return Ok(None);
    };
    Ok(db
        .prepare_cached(
            "SELECT first_id + (?3 - first_seq) FROM (
               SELECT first_id, first_seq, entries FROM batch
               WHERE till = ?1 AND epoch = ?2 AND first_seq <= ?3
               ORDER BY first_seq DESC LIMIT 1)
             WHERE ?3 < first_seq + entries",
        )?
        .query_row((till.as_str(), epoch.0.cast_signed(), seq), |row| {
            row.get(0)
        })
        .optional()?)
}

/// Two machines that write under one name are an alarm, not a line in a log.
fn note_fork(
    db: &Connection,
    access: &TillAccess,
    batch: &Batch,
    refusal: &BatchRefusal,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let BatchRefusal::Fork { agreed_through } = refusal else {
        return Ok(());
    };
    let known = db
        .prepare_cached(
            "SELECT 1 FROM flag WHERE code = 'fork' AND till = ?1 AND epoch = ?2 AND seq = ?3",
        )?
        .exists((
            batch.till.as_str(),
            batch.epoch.0.cast_signed(),
            batch.head.seq.cast_signed(),
        ))?;
    if known {
        return Ok(());
    }
    let origin = Origin {
        tenant: access.tenant,
        till: Some(batch.till.as_str()),
        epoch: Some(batch.epoch),
        seq: Some(batch.head.seq),
    };
    let detail = format!(
        "the till sent other entries under numbers that are stored already (agreed through \
         {agreed_through}); its disk was copied or restored: enrol it anew"
    );
    raise_flag(db, "fork", &origin, None, None, &detail, now)
}

/// One batch on its way into the books.
struct Ingest<'a> {
    db: &'a Connection,
    access: &'a TillAccess,
    epoch: Epoch,
    sales: AccountId,
    today: BusinessDay,
    now: Timestamp,
    /// The accounts whose record changed.
    touched: BTreeMap<i64, ()>,
    /// The purchases that may fire a top-up, by account.
    purchases: BTreeMap<i64, Purchases>,
    hub_epoch: u64,
    /// The highest cursor of this hub's feed that a booked entry carries.
    acknowledged: u64,
}

/// What became of an entry, before it is told to the till.
enum Fate {
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

impl<'a> Ingest<'a> {
    fn begin(
        db: &'a Connection,
        access: &'a TillAccess,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Ingest<'a>, LedgerError> {
        Ok(Ingest {
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

    fn take_all(
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

    fn take_sale(&mut self, header: &EntryHeader, sale: &Sale) -> Result<Fate, LedgerError> {
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
        let account = find_account(self.db, sale.account)?.filter(|account| {
            account.canteen == self.access.canteen && account.status != Status::Closed
        });
        let from = match &account {
            Some(account) => account.id,
            None => own_account(
                self.db,
                self.access.tenant,
                OwnAccount::UnknownAccount,
                self.now,
            )?,
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
        let moved = book(self.db, &movement, self.now)?;
        let mut flags = self.sale_flags(header, sale);
        match &account {
            None => flags.push((
                "unknown_account",
                format!("account {} is not open in this canteen", sale.account),
            )),
            Some(account) => {
                let till = &self.access.till;
                count_gross(self.db, till, self.epoch, account.id, sale.amount, moved.id)?;
                flags.extend(self.count_sale(header, sale, account, moved.balance_after)?);
            }
        }
        Ok(Fate::Booked {
            booking: moved.id,
            account: account.map(|account| account.id),
            flags,
        })
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

    /// Counts a booked sale against the limits and tells what the till should not have sold.
    fn count_sale(
        &mut self,
        header: &EntryHeader,
        sale: &Sale,
        account: &AccountRow,
        balance: Money,
    ) -> Result<Vec<(&'static str, String)>, LedgerError> {
        let mut flags = Vec::new();
        if balance.checked_add(account.credit) < Some(Money::ZERO) {
            flags.push(("overdrawn", format!("the balance is {balance}")));
        }
        if self.came_after_block(header, sale.chip, account)? {
            flags.push((
                "after_block",
                "the chip or the account was blocked".to_owned(),
            ));
        }
        let day = header.day.min(self.today);
        let base = account.spent.as_of(account.spent.on().max(day));
        match base.plus(sale.amount, day) {
            None => flags.push(("counters", "the counters are out of range".to_owned())),
            Some(spent) => {
                write_spent(self.db, account.id, &spent)?;
                if let Some(window) = exceeded(&account.limits, &spent, day) {
                    flags.push(("limit_exceeded_offline", format!("the {window} limit")));
                }
            }
        }
        self.touched.insert(account.id.0, ());
        self.note_purchase(account.id, sale.chip, header.day);
        Ok(flags)
    }

    /// Whether the till's clock puts the sale after the block. A clock that cannot be read counts
    /// as after.
    fn came_after_block(
        &self,
        header: &EntryHeader,
        chip: i64,
        account: &AccountRow,
    ) -> Result<bool, LedgerError> {
        let chip = find_chip(self.db, chip)?.filter(|chip| chip.account == account.id);
        let blocks = [account.blocked_at, chip.and_then(|chip| chip.blocked_at)];
        let sold_at = header.ts.parse::<Timestamp>().ok();
        Ok(blocks
            .into_iter()
            .flatten()
            .any(|blocked_at| sold_at.is_none_or(|sold_at| sold_at >= blocked_at)))
    }

    fn take_void(&mut self, header: &EntryHeader, void: &Void) -> Result<Fate, LedgerError> {
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
        let Some(id) = journal_id(self.db, &self.access.till, self.epoch, void.of_seq)? else {
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
        let counted_on = sale.day.min(self.today);
        let less = back
            .checked_neg()
            .and_then(|back| account.spent.plus(back, counted_on));
        if let Some(spent) = less {
            write_spent(self.db, account.id, &spent)?;
        }
        self.touched.insert(account.id.0, ());
        Ok(Some(account.id))
    }

    fn take_decline(
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
            chip,
            newest: day,
        });
        purchases.count += 1;
        purchases.chip = chip;
        purchases.newest = purchases.newest.max(day);
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
    fn finish(self, rules: &TopUpRules) -> Result<(), LedgerError> {
        let freed = acknowledge(self.db, &self.access.till, self.epoch, self.acknowledged)?;
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
    fn happened_at(&self, header: &EntryHeader) -> Timestamp {
        header.ts.parse().unwrap_or(self.now)
    }
}

/// A sale that is in the books.
struct Sold {
    booking: i64,
    from: AccountId,
    left: Money,
    day: BusinessDay,
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

/// The first window whose limit a sale of the day has passed.
fn exceeded(limits: &Limits, spent: &Spent, day: BusinessDay) -> Option<&'static str> {
    let over = |same: bool, spent: Money, limit: Option<Money>| {
        same && limit.is_some_and(|limit| spent > limit)
    };
    let on = spent.on();
    if over(on == day, spent.day(), limits.day) {
        return Some("daily");
    }
    if over(on.week() == day.week(), spent.week(), limits.week) {
        return Some("weekly");
    }
    over(on.month() == day.month(), spent.month(), limits.month).then_some("monthly")
}

/// The code of the decline that fires a top-up (`canteen::DeclineReason::code`).
const INSUFFICIENT_FUNDS: &str = "insufficient_funds";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sync_proto::{EntryTexts, Start};

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, kr, ore, sale, void};

    fn start() -> EntryBody {
        EntryBody::Start(Start {
            version: "1".to_owned(),
        })
    }

    fn fates(answer: &BatchAnswer) -> Vec<String> {
        answer
            .results
            .iter()
            .map(|result| match &result.fate {
                EntryFate::Booked => format!("{} booked", result.seq),
                EntryFate::Duplicate => format!("{} duplicate", result.seq),
                EntryFate::Flagged { codes } => format!("{} {}", result.seq, codes.join("+")),
                EntryFate::Quarantined { code } => format!("{} quarantined {code}", result.seq),
            })
            .collect()
    }

    #[track_caller]
    fn check(bed: &mut Bed, till: &TestTill, seqs: std::ops::RangeInclusive<u64>, expect: &[&str]) {
        let batch = till.batch(seqs.clone());
        let answer = bed.ingest(till, &batch).unwrap_or_else(|refusal| {
            panic!("{seqs:?} refused: {refusal:?}");
        });
        assert_eq!(fates(&answer), expect, "{seqs:?}");
        bed.check_books();
    }

    #[test]
    fn a_batch_is_booked_and_sending_it_again_books_nothing() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(start());
        till.write(sale(account, chip, kr(22)));
        check(&mut bed, &till, 1..=2, &["1 booked", "2 booked"]);
        check(&mut bed, &till, 1..=2, &["1 duplicate", "2 duplicate"]);
        assert_eq!(bed.balance(account), kr(78));
        assert_eq!(bed.journal_len(), 2);
    }

    #[test]
    fn overlapping_batches_book_each_entry_once() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        for _ in 0..8 {
            till.write(sale(account, chip, kr(5)));
        }
        check(
            &mut bed,
            &till,
            1..=5,
            &["1 booked", "2 booked", "3 booked", "4 booked", "5 booked"],
        );
        let overlap = [
            "3 duplicate",
            "4 duplicate",
            "5 duplicate",
            "6 booked",
            "7 booked",
            "8 booked",
        ];
        check(&mut bed, &till, 3..=8, &overlap);
        check(&mut bed, &till, 2..=3, &["2 duplicate", "3 duplicate"]);
        assert_eq!(bed.balance(account), kr(60));
    }

    #[test]
    fn a_gap_is_refused_and_says_what_must_come() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        for _ in 0..9 {
            till.write(sale(account, chip, kr(1)));
        }
        let refused = bed.ingest(&till, &till.batch(6..=9));
        assert_eq!(refused, Err(BatchRefusal::Gap { expected: 1 }));
        assert!(bed.ingest(&till, &till.batch(1..=5)).is_ok());
        let refused = bed.ingest(&till, &till.batch(7..=9));
        assert_eq!(refused, Err(BatchRefusal::Gap { expected: 6 }));
        assert!(bed.ingest(&till, &till.batch(6..=9)).is_ok());
        assert_eq!(bed.balance(account), kr(91));
        bed.check_books();
    }

    #[test]
    fn a_changed_byte_a_foreign_key_and_a_strange_number_are_refused() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(1)));
        let mut flipped = till.batch(1..=1);
        flipped.entries[0].texts.body = flipped.entries[0].texts.body.replace("100", "900");
        assert_eq!(bed.ingest(&till, &flipped), Err(BatchRefusal::BadChain));
        let mut resigned = till.batch(1..=1);
        resigned.signature = TestTill::stranger().sign(&resigned);
        assert_eq!(bed.ingest(&till, &resigned), Err(BatchRefusal::BadChain));
        let mut far = till.batch(1..=1);
        far.first_seq = u64::MAX;
        assert_eq!(bed.ingest(&till, &far), Err(BatchRefusal::BadChain));
        let mut foreign = till.batch(1..=1);
        foreign.epoch = Epoch(99);
        assert_eq!(bed.ingest(&till, &foreign), Err(BatchRefusal::NotEnrolled));
        assert_eq!(bed.journal_len(), 0);
    }

    #[test]
    fn other_entries_under_known_numbers_are_a_fork_and_raise_one_flag() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(start());
        let mut clone = till.clone();
        till.write(sale(account, chip, kr(1)));
        till.write(sale(account, chip, kr(2)));
        clone.write(sale(account, chip, kr(3)));
        clone.write(sale(account, chip, kr(4)));
        clone.write(sale(account, chip, kr(5)));
        check(
            &mut bed,
            &till,
            1..=3,
            &["1 booked", "2 booked", "3 booked"],
        );
        for seqs in [1..=4, 2..=4, 1..=3] {
            let refused = bed.ingest(&till, &clone.batch(seqs));
            assert_eq!(refused, Err(BatchRefusal::Fork { agreed_through: 1 }));
        }
        let refused = bed.ingest(&till, &clone.batch(4..=4));
        assert_eq!(refused, Err(BatchRefusal::Fork { agreed_through: 0 }));
        assert_eq!(bed.balance(account), kr(97));
        assert_eq!(
            bed.flags(),
            ["fork", "fork"],
            "one for each head that was claimed"
        );
    }

    #[test]
    fn an_unreadable_entry_is_kept_byte_for_byte_and_the_rest_is_booked() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(1)));
        let odd = EntryTexts {
            header: till.header("gift"),
            body: "{\"from\": \"tomorrow\"}".to_owned(),
        };
        till.write_texts(odd.clone());
        till.write_texts(EntryTexts {
            header: "{".to_owned(),
            body: String::new(),
        });
        till.write(sale(account, chip, Money::ZERO));
        till.write(sale(account, chip, kr(2)));
        let expect = [
            "1 booked",
            "2 quarantined unknown_kind",
            "3 quarantined unreadable_header",
            "4 quarantined amount",
            "5 booked",
        ];
        check(&mut bed, &till, 1..=5, &expect);
        let kept = bed.quarantine();
        assert_eq!(kept.len(), 3);
        assert_eq!((&kept[2].header, &kept[2].body), (&odd.header, &odd.body));
        assert_eq!(bed.balance(account), kr(997));
    }

    #[test]
    fn a_sale_is_booked_whatever_the_hub_knows_by_then() {
        let mut bed = Bed::new();
        let (poor, poor_chip) = bed.account(kr(10));
        let (lost, lost_chip) = bed.account(kr(100));
        let (closed, closed_chip) = bed.account(Money::ZERO);
        bed.ledger.block_chip(lost_chip, NOW).unwrap();
        bed.ledger.close_account(closed, NOW).unwrap();
        let mut till = bed.till("kasse-1");
        till.write(sale(poor, poor_chip, kr(22)));
        till.write(sale(lost, lost_chip, kr(22)));
        till.write(sale(closed, closed_chip, kr(22)));
        till.write(sale(AccountId(424_242), 1, kr(22)));
        let expect = [
            "1 overdrawn",
            "2 after_block",
            "3 unknown_account",
            "4 unknown_account",
        ];
        check(&mut bed, &till, 1..=4, &expect);
        assert_eq!(bed.balance(poor), kr(-12));
        assert_eq!(bed.balance(lost), kr(78));
        assert_eq!(bed.own_balance("suspense_unknown_account"), kr(-44));
        assert_eq!(bed.own_balance("till_sales"), kr(88));
    }

    #[test]
    fn a_sale_from_before_the_block_is_not_held_against_anyone() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(22)));
        let later = NOW + std::time::Duration::from_secs(60);
        bed.ledger.block_chip(chip, later).unwrap();
        check(&mut bed, &till, 1..=1, &["1 booked"]);
    }

    #[test]
    fn an_account_of_another_canteen_is_unknown_here() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account_elsewhere(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(22)));
        check(&mut bed, &till, 1..=1, &["1 unknown_account"]);
        assert_eq!(bed.balance(account), kr(100));
    }

    #[test]
    fn limits_that_offline_sales_pass_are_flagged_by_window() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        let limits = crate::LimitsChange {
            day: Some(Some(kr(25))),
            ..Default::default()
        };
        bed.ledger.change_limits(account, limits).unwrap();
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(25)));
        till.write(sale(account, chip, ore(1)));
        check(
            &mut bed,
            &till,
            1..=2,
            &["1 booked", "2 limit_exceeded_offline"],
        );
        assert_eq!(bed.ledger.account(account).unwrap().spent.day(), ore(25_01));
    }

    #[test]
    fn a_void_gives_back_no_more_than_the_sale() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let of = till.write(sale(account, chip, kr(30)));
        let void = |amount, of| void(account, of, 1, amount);
        till.write(void(kr(10), of));
        till.write(void(kr(25), of));
        till.write(void(kr(1), of));
        till.write(void(kr(1), uuid::Uuid::from_u128(7)));
        let expect = [
            "1 booked",
            "2 booked",
            "3 refund_excess",
            "4 refund_excess",
            "5 unknown_sale",
        ];
        check(&mut bed, &till, 1..=5, &expect);
        assert_eq!(bed.balance(account), kr(100));
        assert_eq!(bed.own_balance("suspense_refund_excess"), kr(7));
        assert_eq!(
            bed.ledger.account(account).unwrap().spent.day(),
            Money::ZERO
        );
    }

    #[test]
    fn the_watermark_only_goes_up_to_what_is_on_disk() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(30)));
        let lost = bed.ledger.group(|ledger| {
            let answer = ledger
                .ingest(&till.access, &till.batch(1..=1), NOW)
                .unwrap();
            assert!(answer.is_ok());
            // As if the machine stopped before the commit.
            ledger.db.execute_batch("ROLLBACK").unwrap();
        });
        assert!(lost.is_err());
        assert_eq!(bed.balance(account), kr(100));
        check(&mut bed, &till, 1..=1, &["1 booked"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However the same entries are cut, repeated and reordered, the books end up equal.
        #[test]
        fn delivery_does_not_matter(
            amounts in prop::collection::vec((1i64..60_00, 0usize..3, any::<bool>()), 1..20),
            cuts in prop::collection::vec((1u64..20, 0u64..6), 1..12),
        ) {
            let mut bed = Bed::new();
            let accounts: Vec<_> = (0..3).map(|_| bed.account(kr(200))).collect();
            let mut till = bed.till("kasse-1");
            for (amount, who, voided) in &amounts {
                let (account, chip) = accounts[*who];
                let of = till.write(sale(account, chip, ore(*amount)));
                if *voided {
                    till.write(EntryBody::Void(Void {
                        lines: Vec::new(),
                        of,
                        of_seq: till.last_seq(),
                        account,
                        amount: ore(*amount),
                        balance_after: Money::ZERO,
                    }));
                }
            }
            let last = till.last_seq();
            for (from, len) in cuts {
                let to = (from + len).min(last);
                if from <= to {
                    let _ = bed.ingest(&till, &till.batch(from..=to));
                }
                bed.check_books();
            }
            let mut next = 1;
            while next <= last {
                let to = (next + 3).min(last);
                prop_assert!(bed.ingest(&till, &till.batch(next..=to)).is_ok());
                next = to + 1;
            }
            bed.check_books();
            prop_assert_eq!(bed.journal_len(), last);
            for (who, (account, _)) in accounts.iter().enumerate() {
                let spent: i64 = amounts
                    .iter()
                    .filter(|(_, whose, voided)| *whose == who && !voided)
                    .map(|(amount, _, _)| amount)
                    .sum();
                prop_assert_eq!(bed.balance(*account), ore(200_00 - spent));
            }
        }
    }
}
