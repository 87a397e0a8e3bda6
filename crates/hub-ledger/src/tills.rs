//! Tills: how they become known, how they are recognised, and how they are doing.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};
use sync_proto::{EnrolRequest, EntryHash, Epoch, TillId, TillPublicKey, TillReport};

use crate::ceilings::issue_to_new_epoch;
use crate::error::{LedgerError, Refusal};
use crate::siblings::plausible_address;
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::{CanteenId, Reach, TenantId, tenant_of};

/// The SHA-256 of a secret: all that the store keeps of codes and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a secret text.
    pub fn of(secret: &str) -> Fingerprint {
        Fingerprint(Sha256::digest(secret.as_bytes()).into())
    }
}

/// What makes a till.
#[derive(Debug, Clone)]
pub struct NewTill {
    /// Its name, unique at the hub.
    pub id: TillId,
    /// Where it stands.
    pub canteen: CanteenId,
    /// The fingerprint of its one-time code.
    pub code: Fingerprint,
}

/// A till as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TillRow {
    /// Its name.
    pub id: TillId,
    /// Where it stands.
    pub canteen: CanteenId,
    /// Who runs it.
    pub tenant: TenantId,
    /// The life of its ledger, once enrolled.
    pub epoch: Option<Epoch>,
    /// All its entries up to here are stored.
    pub accepted_through: u64,
    /// When it enrolled last.
    pub enrolled_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was heard last.
    pub seen_at: Option<Timestamp>,
    /// The version of its program.
    pub version: Option<String>,
    /// Entries that it still held back when it sent its last batch.
    pub unsent: Option<u64>,
}

/// A till that has shown its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TillAccess {
    /// Which till.
    pub till: TillId,
    /// Where it stands.
    pub canteen: CanteenId,
    /// Who runs it.
    pub tenant: TenantId,
    /// When it was heard last.
    pub seen_at: Option<Timestamp>,
}

/// What a till is told when it has enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The canteen's name.
    pub canteen: String,
}

impl HubLedger {
    /// Makes a till that waits for its enrolment.
    pub fn create_till(&mut self, new: &NewTill, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        tenant_of(&db, new.canteen)?;
        let made = db.execute(
            "INSERT INTO till (id, canteen, code_hash, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            (new.id.as_str(), new.canteen.0, new.code.0, millis(now)),
        )?;
        if made == 0 {
            return Err(Refusal::Exists {
                what: "till",
                id: new.id.to_string(),
            }
            .into());
        }
        Ok(db.commit()?)
    }

    /// Gives a till a new one-time code, for another machine or another epoch. The machine that is
    /// enrolled now goes on until the code is used.
    pub fn renew_code(&mut self, till: &TillId, code: Fingerprint) -> Result<(), LedgerError> {
        let db = self.change()?;
        let changed = db.execute(
            "UPDATE till SET code_hash = ?2, code_used_by = NULL, revoked_at = NULL WHERE id = ?1",
            (till.as_str(), code.0),
        )?;
        if changed == 0 {
            return Err(Refusal::not_found("till", till).into());
        }
        Ok(db.commit()?)
    }

    /// Makes a till known, once. The same till with the same key may use its code again, so that
    /// a lost answer does no harm; the token that was given before stops working.
    pub fn enrol(
        &mut self,
        request: &EnrolRequest,
        token: Fingerprint,
        now: Timestamp,
    ) -> Result<Enrolment, LedgerError> {
        let db = self.change()?;
        let key = request.public_key;
        let canteen: Option<(i64, String)> = db
            .query_row(
                "SELECT c.id, c.name FROM till t JOIN canteen c ON c.id = t.canteen
                 WHERE t.id = ?1 AND t.code_hash = ?2 AND t.revoked_at IS NULL
                   AND (t.code_used_by IS NULL OR t.code_used_by = ?3)",
                (
                    request.till.as_str(),
                    Fingerprint::of(&request.code).0,
                    key.0,
                ),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((canteen_id, canteen)) = canteen else {
            return Err(Refusal::Enrolment.into());
        };
        let is_new = begin_epoch(&db, request, now)?;
        db.execute(
            "UPDATE till SET code_used_by = ?2, token_hash = ?3, epoch = ?4, enrolled_at = ?5
             WHERE id = ?1",
            (
                request.till.as_str(),
                key.0,
                token.0,
                request.epoch.0.cast_signed(),
                millis(now),
            ),
        )?;
        if is_new {
            issue_to_new_epoch(&db, CanteenId(canteen_id), request.epoch)?;
        }
        db.commit()?;
        Ok(Enrolment { canteen })
    }

    /// Takes a till's token away. What it has sent stays, and what it may still be selling goes on
    /// counting until it is retired.
    pub fn revoke_till(&mut self, till: &TillId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        db.execute(
            "INSERT INTO revoked_token (token_hash, till)
             SELECT token_hash, id FROM till WHERE id = ?1 AND token_hash IS NOT NULL",
            [till.as_str()],
        )?;
        let changed = db.execute(
            "UPDATE till SET revoked_at = ?2, token_hash = NULL WHERE id = ?1",
            (till.as_str(), millis(now)),
        )?;
        if changed == 0 {
            return Err(Refusal::not_found("till", till).into());
        }
        Ok(db.commit()?)
    }

    /// Notes that a till was heard.
    pub fn note_till(&mut self, till: &TillId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        db.execute(
            "UPDATE till SET seen_at = ?2 WHERE id = ?1",
            (till.as_str(), millis(now)),
        )?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// The till that a token belongs to.
    pub fn till_by_token(&self, token: Fingerprint) -> Result<Option<TillAccess>, LedgerError> {
        let found: Option<(String, i64, i64, Option<i64>)> = self
            .db
            .prepare_cached(
                "SELECT t.id, t.canteen, c.tenant, t.seen_at
                 FROM till t JOIN canteen c ON c.id = t.canteen
                 WHERE t.token_hash = ?1 AND t.revoked_at IS NULL",
            )?
            .query_row([token.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((till, canteen, tenant, seen_at)) = found else {
            return Ok(None);
        };
        Ok(Some(TillAccess {
            till: till_from(&till)?,
            canteen: CanteenId(canteen),
            tenant: TenantId(tenant),
            seen_at: seen_at.map(moment).transpose()?,
        }))
    }

    /// Whether an operator took this token away from the till.
    pub fn is_revoked(&self, till: &TillId, token: Fingerprint) -> Result<bool, LedgerError> {
        Ok(self
            .db
            .prepare_cached("SELECT 1 FROM revoked_token WHERE token_hash = ?1 AND till = ?2")?
            .exists((token.0, till.as_str()))?)
    }

    /// All tills within reach.
    pub fn list_tills(&self, reach: Reach) -> Result<Vec<TillRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT t.id, t.canteen, c.tenant, t.epoch, coalesce(e.seq, 0), t.enrolled_at,
               t.revoked_at, t.seen_at, t.version, t.unsent
             FROM till t JOIN canteen c ON c.id = t.canteen
             LEFT JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
             WHERE ?1 IS NULL OR c.tenant = ?1 ORDER BY t.id",
        )?;
        let mut rows = statement.query([reach.filter()])?;
        let mut tills = Vec::new();
        while let Some(row) = rows.next()? {
            let time = |n: usize| row.get::<_, Option<i64>>(n)?.map(moment).transpose();
            tills.push(TillRow {
                id: till_from(&row.get::<_, String>(0)?)?,
                canteen: CanteenId(row.get(1)?),
                tenant: TenantId(row.get(2)?),
                epoch: row
                    .get::<_, Option<i64>>(3)?
                    .map(|epoch| Epoch(epoch.cast_unsigned())),
                accepted_through: row.get::<_, i64>(4)?.cast_unsigned(),
                enrolled_at: time(5)?,
                revoked_at: time(6)?,
                seen_at: time(7)?,
                version: row.get(8)?,
                unsent: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
            });
        }
        Ok(tills)
    }

    /// One till, if it is within reach.
    pub fn till_within(&self, reach: Reach, till: &TillId) -> Result<TillRow, LedgerError> {
        let found = self
            .list_tills(reach)?
            .into_iter()
            .find(|row| row.id == *till);
        Ok(found.ok_or_else(|| Refusal::not_found("till", till))?)
    }
}

/// A till that is known by its name alone.
pub(crate) fn till_by_name(
    db: &Connection,
    till: &TillId,
) -> Result<Option<TillAccess>, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT t.canteen, c.tenant FROM till t JOIN canteen c ON c.id = t.canteen
             WHERE t.id = ?1",
        )?
        .query_row([till.as_str()], |row| {
            Ok(TillAccess {
                till: till.clone(),
                canteen: CanteenId(row.get(0)?),
                tenant: TenantId(row.get(1)?),
                seen_at: None,
            })
        })
        .optional()?)
}

/// The watermark of an epoch, and the key that signs its heads.
pub(crate) struct Watermark {
    pub(crate) key: TillPublicKey,
    pub(crate) seq: u64,
    pub(crate) hash: EntryHash,
}

pub(crate) fn watermark(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
) -> Result<Option<Watermark>, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT public_key, seq, hash FROM till_epoch WHERE till = ?1 AND epoch = ?2",
        )?
        .query_row((till.as_str(), epoch.0.cast_signed()), |row| {
            Ok(Watermark {
                key: TillPublicKey(row.get(0)?),
                seq: row.get::<_, i64>(1)?.cast_unsigned(),
                hash: EntryHash(row.get(2)?),
            })
        })
        .optional()?)
}

/// The watermark of the epoch that the till is enrolled with.
pub(crate) fn accepted_through(db: &Connection, till: &TillId) -> Result<u64, LedgerError> {
    let seq: Option<i64> = db
        .prepare_cached(
            "SELECT e.seq FROM till t JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
             WHERE t.id = ?1",
        )?
        .query_row([till.as_str()], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(0).cast_unsigned())
}

/// Entries up to here are in a verified backup.
pub(crate) fn durable_through(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
) -> Result<u64, LedgerError> {
    let seq: i64 = db
        .prepare_cached("SELECT durable_through FROM till_epoch WHERE till = ?1 AND epoch = ?2")?
        .query_row((till.as_str(), epoch.0.cast_signed()), |row| row.get(0))?;
    Ok(seq.cast_unsigned())
}

pub(crate) fn move_watermark(
    db: &Connection,
    till: &TillId,
    epoch: Epoch,
    seq: u64,
    hash: EntryHash,
) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE till_epoch SET seq = ?3, hash = ?4 WHERE till = ?1 AND epoch = ?2")?
        .execute((
            till.as_str(),
            epoch.0.cast_signed(),
            seq.cast_signed(),
            hash.0,
        ))?;
    Ok(())
}

pub(crate) fn note_report(
    db: &Connection,
    till: &TillId,
    report: &TillReport,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let unsent = i64::try_from(report.unsent).unwrap_or(i64::MAX);
    let address = report.address.as_deref().and_then(plausible_address);
    db.prepare_cached(
        "UPDATE till SET seen_at = ?2, version = ?3, unsent = ?4, address = ?5 WHERE id = ?1",
    )?
    .execute((till.as_str(), millis(now), &report.version, unsent, address))?;
    Ok(())
}

pub(crate) fn till_from(name: &str) -> Result<TillId, LedgerError> {
    name.parse()
        .map_err(|_| LedgerError::Unreadable { what: "till" })
}

/// Makes the epoch known and tells whether it is new.
fn begin_epoch(
    db: &Connection,
    request: &EnrolRequest,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let EnrolRequest {
        till,
        epoch,
        public_key,
        ..
    } = request;
    if let Some(known) = watermark(db, till, *epoch)? {
        // Another machine that claims a known epoch is a clone: it must draw its own.
        if known.key != *public_key {
            return Err(Refusal::Enrolment.into());
        }
        db.execute(
            "UPDATE till_epoch SET retired_at = NULL WHERE till = ?1 AND epoch = ?2",
            (till.as_str(), epoch.0.cast_signed()),
        )?;
        return Ok(false);
    }
    let genesis = EntryHash::genesis(till, *epoch, public_key);
    db.execute(
        "INSERT INTO till_epoch (till, epoch, public_key, seq, hash, enrolled_at, reported)
         VALUES (?1, ?2, ?3, 0, ?4, ?5, (SELECT hub_epoch FROM hub))",
        (
            till.as_str(),
            epoch.0.cast_signed(),
            public_key.0,
            genesis.0,
            millis(now),
        ),
    )?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use sync_proto::TillKey;

    use super::*;
    use crate::testbed::{Bed, NOW};

    const CODE: &str = "DEMO-KASSE";

    fn request(code: &str, seed: u8, epoch: u64) -> EnrolRequest {
        EnrolRequest {
            till: "kasse-9".parse().unwrap(),
            code: code.to_owned(),
            epoch: Epoch(epoch),
            public_key: TillKey::from_seed(&[seed; 32]).public(),
        }
    }

    #[track_caller]
    fn check(bed: &mut Bed, code: &str, seed: u8, epoch: u64, token: &str, ok: bool) {
        let enrolled = bed
            .ledger
            .enrol(&request(code, seed, epoch), Fingerprint::of(token), NOW);
        assert_eq!(enrolled.is_ok(), ok, "{code} {seed} {epoch}: {enrolled:?}");
    }

    fn is_known(bed: &Bed, token: &str) -> bool {
        bed.ledger
            .till_by_token(Fingerprint::of(token))
            .unwrap()
            .is_some()
    }

    #[test]
    fn a_code_makes_one_machine_known() {
        let mut bed = Bed::new();
        let new = NewTill {
            id: "kasse-9".parse().unwrap(),
            canteen: bed.canteen,
            code: Fingerprint::of(CODE),
        };
        bed.ledger.create_till(&new, NOW).unwrap();
        check(&mut bed, "WRONG", 1, 1, "a", false);
        check(&mut bed, CODE, 1, 1, "a", true);
        check(&mut bed, CODE, 2, 2, "b", false);
        // The answer was lost: the same machine asks again, and the first token ends.
        check(&mut bed, CODE, 1, 1, "c", true);
        assert_eq!((is_known(&bed, "a"), is_known(&bed, "c")), (false, true));
        bed.ledger
            .renew_code(&new.id, Fingerprint::of("NEW-CODE"))
            .unwrap();
        assert!(
            is_known(&bed, "c"),
            "the machine goes on until the new code is used"
        );
        check(&mut bed, CODE, 1, 1, "d", false);
        check(&mut bed, "NEW-CODE", 2, 1, "d", false);
        check(&mut bed, "NEW-CODE", 2, 2, "d", true);
        assert_eq!((is_known(&bed, "c"), is_known(&bed, "d")), (false, true));
        bed.ledger.revoke_till(&new.id, NOW).unwrap();
        assert!(!is_known(&bed, "d"));
        check(&mut bed, "NEW-CODE", 2, 2, "e", false);
    }
}
