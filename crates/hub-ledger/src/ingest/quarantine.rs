//! Entries that could not be booked when they came, and what becomes of them later.

use canteen::{AccountId, Money, PurchaseAmount};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{EntryTexts, Epoch};

use super::intake::{Fate, Intake};
use crate::accounts::find_account;
use crate::bookings::BookingId;
use crate::branches::{Line, entry_by_id, id_of};
use crate::ceilings::shift_gross;
use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, HubReader, millis};
use crate::tenancy::Reach;
use crate::tills::till_by_name;
use crate::z_reports::Glance;

/// What reading an entry in quarantine again has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// It is booked now.
    Booked(BookingId),
    /// It moves no money, and that is known now.
    Noted,
}

impl HubLedger {
    /// Reads an entry in quarantine again, as a newer program may, and books it once.
    pub fn process_quarantined(&mut self, id: i64, now: Timestamp) -> Result<Reread, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let kept = read_kept(&db, id)?;
        let Some(access) = till_by_name(
            &db,
            &kept
                .till
                .parse()
                .map_err(|_| LedgerError::Unreadable { what: "till" })?,
        )?
        else {
            return Err(Refusal::not_found("till", kept.till).into());
        };
        let line = line_of(&db, kept.journal)?;
        if let Some(named) = id_of(&kept.texts.header)
            && entry_by_id(&db, &access.till, named)?.is_some_and(|first| first != kept.journal)
        {
            let detail = "another entry came before under the same id".to_owned();
            return Err(Refusal::StillUnreadable { detail }.into());
        }
        release(&db, &kept, line)?;
        let mut intake = Intake::begin(&db, &access, kept.epoch, line, now)?;
        let fate = intake.take_texts(kept.seq, &kept.texts)?;
        let booking = match &fate {
            Fate::Quarantined { detail, .. } => {
                let detail = detail.clone();
                return Err(Refusal::StillUnreadable { detail }.into());
            }
            Fate::Booked { booking, .. } => Some(*booking),
            Fate::Noted | Fate::Known => None,
        };
        intake.raise_flags(kept.seq, &fate)?;
        db.execute(
            "UPDATE quarantine SET resolved_at = ?2, booking = ?3 WHERE id = ?1",
            (id, millis(now), booking.map(|booking| booking.0)),
        )?;
        if let Some(account) = kept.account {
            intake.touched.insert(account, ());
        }
        intake.finish(&rules)?;
        db.commit()?;
        Ok(booking.map_or(Reread::Noted, Reread::Booked))
    }
}

impl HubReader {
    /// Refuses an entry in quarantine that is out of reach.
    pub fn check_quarantined_within(&self, reach: Reach, id: i64) -> Result<(), LedgerError> {
        let within = self
            .db
            .prepare_cached(
                "SELECT 1 FROM quarantine WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)",
            )?
            .exists((id, reach.filter()))?;
        match within {
            true => Ok(()),
            false => Err(Refusal::not_found("entry in quarantine", id).into()),
        }
    }
}

struct Kept {
    journal: i64,
    till: String,
    epoch: Epoch,
    seq: u64,
    texts: EntryTexts,
    account: Option<i64>,
    amount: Option<i64>,
}

fn read_kept(db: &Connection, id: i64) -> Result<Kept, LedgerError> {
    let kept = db
        .query_row(
            "SELECT q.journal, q.till, q.epoch, q.seq, j.header, j.body, q.account, q.amount
             FROM quarantine q JOIN journal j ON j.id = q.journal
             WHERE q.id = ?1 AND q.resolved_at IS NULL",
            [id],
            |row| {
                Ok(Kept {
                    journal: row.get(0)?,
                    till: row.get(1)?,
                    epoch: Epoch(row.get::<_, i64>(2)?.cast_unsigned()),
                    seq: row.get::<_, i64>(3)?.cast_unsigned(),
                    texts: EntryTexts {
                        header: row.get(4)?,
                        body: row.get(5)?,
                    },
                    account: row.get(6)?,
                    amount: row.get(7)?,
                })
            },
        )
        .optional()?;
    Ok(kept.ok_or_else(|| Refusal::not_found("entry in quarantine", id))?)
}

fn line_of(db: &Connection, journal: i64) -> Result<Line, LedgerError> {
    let branch: Option<i64> = db
        .query_row(
            "SELECT branch FROM branch_batch WHERE first_id <= ?1 AND ?1 < first_id + entries",
            [journal],
            |row| row.get(0),
        )
        .optional()?;
    Ok(branch.map_or(Line::Main, Line::Branch))
}

/// The sale is counted anew when it is booked.
fn release(db: &Connection, kept: &Kept, line: Line) -> Result<(), LedgerError> {
    if let (Some(account), Some(amount), Line::Main) = (kept.account, kept.amount, line) {
        let till = kept
            .till
            .parse()
            .map_err(|_| LedgerError::Unreadable { what: "till" })?;
        let less = Money::from_ore(-amount);
        shift_gross(db, &till, kept.epoch, AccountId(account), less)?;
    }
    Ok(())
}

impl Intake<'_> {
    /// Whose money an entry seems to be about that cannot be booked: the till has counted the sale,
    /// so the hub does, and the money is reckoned as spent until somebody knows better.
    pub(super) fn claim(
        &mut self,
        texts: &EntryTexts,
    ) -> Result<Option<(AccountId, Money)>, LedgerError> {
        let Some(entry) = Glance::at(&texts.header, &texts.body) else {
            return Ok(None);
        };
        let (Some(account), Some(amount)) = (entry.account, entry.amount) else {
            return Ok(None);
        };
        if entry.kind != "sale" || PurchaseAmount::new(amount).is_err() {
            return Ok(None);
        }
        let account = find_account(self.db, AccountId(account))?
            .filter(|account| account.canteen == self.access.canteen);
        let Some(account) = account else {
            return Ok(None);
        };
        if self.line == Line::Main {
            shift_gross(self.db, &self.access.till, self.epoch, account.id, amount)?;
        }
        self.touched.insert(account.id.0, ());
        Ok(Some((account.id, amount)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::{bound, sellers};
    use crate::testbed::{Bed, NOW, TestTill, kr, sale, void};

    fn process(bed: &mut Bed, id: i64) -> Result<Reread, &'static str> {
        match bed.ledger.process_quarantined(id, NOW) {
            Ok(reread) => Ok(reread),
            Err(LedgerError::Refused(refusal)) => Err(refusal.code()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends everything without its being read.
    fn send_raw(bed: &mut Bed, till: &TestTill, first: u64) {
        let batch = till.batch(first..=till.last_seq());
        bed.ledger
            .ingest_raw(&till.access, &batch, NOW)
            .unwrap()
            .unwrap();
    }

    #[test]
    fn sy_30_an_entry_in_quarantine_is_booked_once_when_it_can_be_read() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let of = till.write(sale(account, chip, kr(22)));
        send_raw(&mut bed, &till, 1);
        assert_eq!(bed.balance(account), kr(100));
        let id = bed.quarantine()[0].id;
        let Ok(Reread::Booked(booking)) = process(&mut bed, id) else {
            panic!("it is a sale");
        };
        assert_eq!(bed.balance(account), kr(78));
        assert_eq!(bed.quarantine()[0].booking, Some(booking));
        assert_eq!(process(&mut bed, id), Err("not-found"), "once");
        assert_eq!(bed.balance(account), kr(78));
        // What takes it back finds it.
        bed.send(&mut till, [void(account, of, 1, kr(22))]);
        assert_eq!(bed.balance(account), kr(100));
        assert_eq!(bed.flags(), [""; 0]);
        bed.check_books();
    }

    #[test]
    fn sy_30_an_entry_that_this_program_does_not_know_either_stays_as_it_is() {
        let mut bed = Bed::new();
        let mut till = bed.till("kasse-1");
        till.write_texts(EntryTexts {
            header: till.header("gift"),
            body: "{}".to_owned(),
        });
        till.write(sale(AccountId(9), 1, Money::ZERO));
        bed.send(&mut till, []);
        for kept in bed.quarantine() {
            assert_eq!(process(&mut bed, kept.id), Err("still-unreadable"));
            assert_eq!(kept.resolved_at, None);
        }
        assert_eq!(bed.quarantine().len(), 2);
    }

    #[test]
    fn tu_52_a_sale_in_quarantine_fires_the_top_up_when_it_is_booked() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(-40));
        bed.pay_in(account, kr(100));
        bed.ledger
            .make_agreement(account, kr(200), "demo-card-1", NOW)
            .unwrap();
        let mut till = bed.till("kasse-1");
        till.write(sale(account, chip, kr(30)));
        send_raw(&mut bed, &till, 1);
        let asked = |bed: &Bed| {
            let rows = bed
                .ledger
                .list_top_ups(crate::Reach::Everything, Some(account), None, 9);
            rows.unwrap().len()
        };
        assert_eq!(asked(&bed), 0);
        let id = bed.quarantine()[0].id;
        process(&mut bed, id).unwrap();
        assert_eq!(asked(&bed), 1);
    }

    #[test]
    fn a_sale_in_quarantine_is_reckoned_as_spent_until_it_is_booked() {
        let mut bed = Bed::new();
        bound(&mut bed, Money::ZERO, kr(200));
        let payer = bed.account(kr(100));
        let [mut one, mut two] = sellers(&mut bed);
        assert!(one.sell(payer, kr(60)));
        send_raw(&mut bed, &one.till, 1);
        one.acked = one.till.last_seq();
        for _ in 0..2 {
            for till in [&mut one, &mut two] {
                till.catch_up(&mut bed);
                till.write_feed_ack();
                till.push_all(&mut bed);
            }
        }
        // 60 of the 100 kr are gone although no booking says so.
        let left = |one: &crate::seller::Seller, two: &crate::seller::Seller| {
            one.left(payer.0).checked_add(two.left(payer.0)).unwrap()
        };
        assert_eq!(bed.balance(payer.0), kr(100));
        assert_eq!(left(&one, &two), kr(40));
        let outstanding = bed.ledger.outstanding(payer.0).unwrap();
        assert_eq!(outstanding, kr(40));
        let id = bed.quarantine()[0].id;
        process(&mut bed, id).unwrap();
        one.catch_up(&mut bed);
        two.catch_up(&mut bed);
        assert_eq!(bed.balance(payer.0), kr(40));
        assert_eq!(left(&one, &two), kr(40));
        bed.check_books();
    }
}
