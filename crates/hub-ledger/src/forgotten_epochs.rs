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
            "INSERT INTO till_epoch (till, epoch, public_key, seq, hash, enrolled_at, reported)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, NULL)",
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
             after the backup that this store was restored from; they are booked; give the till a new \
             code, then retire what it has left",
            batch.epoch
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
    use crate::{Fingerprint, NewTill};

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
        let request = EnrolRequest {
            till: id,
            code: "new".to_owned(),
            epoch: Epoch(2),
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
        let restore = bed.ledger.restore(crate::Reach::Everything).unwrap();
        let missing = restore.frozen[0].missing.iter();
        let missing: Vec<_> = missing
            .map(|missing| (missing.till.as_str(), missing.epoch, missing.ended))
            .collect();
        let ended = ("kasse-1", till.batch(1..=1).epoch, true);
        assert_eq!(missing, [ended, ("kasse-2", Epoch(1), false)]);
        bed.check_books();
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
