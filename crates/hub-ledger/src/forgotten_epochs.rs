//! Epochs that a restored store has forgotten.
//!
//! A till that was enrolled anew after the backup goes on in an epoch that the store has never heard
//! of. Its entries are served sales all the same. Whoever can sign with a key that the till was
//! enrolled with once is that till: the epoch begins with what comes, it is flagged, and a canteen
//! that is frozen waits for it as for every other one. Its token stays unknown; an operator gives the
//! till a new code, or retires the epoch.

use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{Batch, EntryHash, TillId, TillPublicKey};

use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::store::millis;
use crate::tills::{TillAccess, Watermark};

/// Begins the epoch of a batch that is signed with one of the till's keys; `None` when it is not.
pub(crate) fn begin_forgotten_epoch(
    db: &Connection,
    access: &TillAccess,
    batch: &Batch,
    now: Timestamp,
) -> Result<Option<(Watermark, Vec<EntryHash>)>, LedgerError> {
    for key in keys_of(db, &batch.till)? {
        let Ok(hashes) = batch.verify(&key) else {
            continue;
        };
        let hash = EntryHash::genesis(&batch.till, batch.epoch, &key);
        db.execute(
            "INSERT INTO till_epoch (till, epoch, public_key, seq, hash, enrolled_at, reported,
               forgotten)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, NULL, 1)",
            (
                batch.till.as_str(),
                batch.epoch.0.cast_signed(),
                key.0,
                hash.0,
                millis(now),
            ),
        )?;
        let origin = Origin {
            tenant: access.tenant,
            till: Some(batch.till.as_str()),
            epoch: Some(batch.epoch),
            seq: None,
        };
        let detail = format!(
            "the till sends entries of a ledger that is not known here (epoch {}): it was enrolled \
             after the backup that this store was restored from; they are booked, and the canteen \
             waits; make a new code (POST /v1/tills/{till}/enrolment-code), enter it at the till \
             (tillctl enrol), and when it shows `Standing good`, POST /v1/tills/{till}/retire",
            batch.epoch,
            till = batch.till
        );
        raise_flag(db, "forgotten_epoch", &origin, None, None, &detail, now)?;
        return Ok(Some((Watermark { key, seq: 0, hash }, hashes)));
    }
    Ok(None)
}

/// The keys that a till was ever enrolled with.
fn keys_of(db: &Connection, till: &TillId) -> Result<Vec<TillPublicKey>, LedgerError> {
    let mut statement =
        db.prepare_cached("SELECT DISTINCT public_key FROM till_epoch WHERE till = ?1")?;
    let keys = statement.query_map([till.as_str()], |row| row.get(0).map(TillPublicKey))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use sync_proto::{BatchRefusal, EnrolRequest, Epoch, TillKey};

    use crate::testbed::{Bed, NOW, TestTill, kr, sale};
    use crate::{Fingerprint, LedgerError, NewTill, NextStep, Refusal};

    /// Makes the till anew, as the operator of a restored store does, and enrols it in an epoch of
    /// the same machine or of another one.
    fn make_again(bed: &mut Bed, till: &TestTill, key: [u8; 32]) {
        let id = till.access.till.clone();
        let new = NewTill {
            id: id.clone(),
            canteen: till.access.canteen,
            code: Fingerprint::of("new"),
        };
        bed.ledger.create_till(&new, NOW).unwrap();
        enrol(bed, till, "new", key, Epoch(2));
    }

    fn enrol(bed: &mut Bed, till: &TestTill, code: &str, key: [u8; 32], epoch: Epoch) {
        let request = EnrolRequest {
            till: till.access.till.clone(),
            code: code.to_owned(),
            epoch,
            public_key: TillKey::from_seed(&key).public(),
        };
        let token = Fingerprint::of("new token");
        bed.ledger.enrol(&request, token, NOW).unwrap();
    }

    /// A till that was made after the backup has sold for 1 and 2 kr.
    fn forgotten(bed: &mut Bed) -> (canteen::AccountId, TestTill) {
        let (account, chip) = bed.account(kr(100));
        bed.till("kasse-2");
        let backup = bed.back_up();
        let mut till = bed.till("kasse-1");
        for price in [1, 2] {
            till.write(sale(account, chip, kr(price)));
        }
        bed.ingest(&till, &till.batch(1..=2)).unwrap();
        bed.restore(backup);
        let refused = bed.ledger.ingest_branch(&till.batch(1..=2), NOW).unwrap();
        assert_eq!(refused, Err(BatchRefusal::NotEnrolled));
        (account, till)
    }

    #[test]
    fn what_a_till_sold_in_an_epoch_of_after_the_backup_is_booked_once_by_its_key() {
        let mut bed = Bed::new();
        let (account, till) = forgotten(&mut bed);
        make_again(&mut bed, &till, till.key_seed());
        let mut send = |seqs| bed.ledger.ingest_branch(&till.batch(seqs), NOW).unwrap();
        // Nothing is kept of what has no beginning.
        for _ in 0..2 {
            assert_eq!(send(2..=2), Err(BatchRefusal::Gap { expected: 1 }));
        }
        assert!(send(1..=1).is_ok() && send(2..=2).is_ok() && send(1..=2).is_ok());
        assert_eq!(bed.balance(account), kr(97));
        assert_eq!(bed.flags(), ["forgotten_epoch", "restored"]);
        let ended = ("kasse-1".to_owned(), 1, NextStep::Retire);
        let absent = ("kasse-2".to_owned(), 1, NextStep::SwitchOn);
        assert_eq!(missing(&bed), [ended, absent]);
        bed.check_books();
    }

    /// The tills that a frozen canteen waits for, their ledgers, and what is to be done.
    fn missing(bed: &Bed) -> Vec<(String, u64, NextStep)> {
        let restore = bed.ledger.restore(crate::Reach::Everything).unwrap();
        let missing = restore.frozen.iter().flat_map(|frozen| &frozen.missing);
        let mut missing: Vec<_> = missing
            .map(|missing| (missing.till.to_string(), missing.epoch.0, missing.next))
            .collect();
        missing.sort_by_key(|(till, epoch, _)| (till.clone(), *epoch));
        missing
    }

    #[test]
    fn the_wait_for_a_forgotten_ledger_ends_by_a_new_code_and_then_by_retiring() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        // The till knows nothing but its first ledger; the backup, only another one.
        let till = bed.till("kasse-1");
        enrol(&mut bed, &till, "kasse-1", till.key_seed(), Epoch(7));
        let forget = "DELETE FROM ceiling; DELETE FROM till_epoch WHERE epoch = 1";
        bed.ledger.db.execute_batch(forget).unwrap();
        let backup = bed.back_up();
        let mut till = bed.enrol_again("kasse-1");
        till.write(sale(account, chip, kr(1)));
        bed.ingest(&till, &till.batch(1..=1)).unwrap();
        bed.restore(backup);
        let step = |epoch, next| ("kasse-1".to_owned(), epoch, next);
        assert_eq!(missing(&bed), [step(7, NextStep::SwitchOn)]);
        let sent = bed.ledger.ingest_branch(&till.batch(1..=1), NOW).unwrap();
        assert!(sent.is_ok(), "{sent:?}");

        // It is at work in the forgotten one, and nobody may give that up by mistake.
        let both = |next| [step(1, next), step(7, next)];
        assert_eq!(missing(&bed), both(NextStep::NewCode));
        let retired = bed.ledger.retire_till(&till.access.till, NOW);
        assert!(
            matches!(retired, Err(LedgerError::Refused(Refusal::TillInUse))),
            "{retired:?}"
        );

        enrol(&mut bed, &till, "kasse-1", till.key_seed(), Epoch(9));
        assert_eq!(missing(&bed), both(NextStep::Retire));
        bed.ledger.retire_till(&till.access.till, NOW).unwrap();
        assert_eq!(missing(&bed), []);
        assert_eq!(bed.balance(account), kr(99));
        bed.check_books();
    }

    #[test]
    fn a_till_that_was_revoked_is_waited_for_until_it_is_retired() {
        let mut bed = Bed::new();
        let till = bed.till("kasse-1");
        let backup = bed.back_up();
        bed.restore(backup);
        bed.ledger.revoke_till(&till.access.till, NOW).unwrap();
        let revoked = ("kasse-1".to_owned(), 1, NextStep::Retire);
        assert_eq!(missing(&bed), [revoked]);
        bed.ledger.retire_till(&till.access.till, NOW).unwrap();
        assert_eq!(missing(&bed), []);
    }

    #[test]
    fn another_machine_under_the_name_of_a_till_begins_no_forgotten_epoch() {
        let mut bed = Bed::new();
        let (account, till) = forgotten(&mut bed);
        make_again(&mut bed, &till, [77; 32]);
        let answer = bed.ledger.ingest_branch(&till.batch(1..=2), NOW).unwrap();
        assert_eq!(answer, Err(BatchRefusal::NotEnrolled));
        assert_eq!(bed.balance(account), kr(100));
    }
}
