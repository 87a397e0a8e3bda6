//! The keys of a canteen's chips, as versions: made, in use, revoked. The secrets come and go sealed.

use canteen::{AccountId, ChipId, KeyVersion, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{Sealed, TillId, TillPublicKey};

use crate::accounts::read_account;
use crate::chips::{NewChip, chip_by_uid, insert_chip, set_key_version};
use crate::error::{LedgerError, Refusal};
use crate::feed::{RecordKind, touch};
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::{CanteenId, tenant_of};

/// One version of a canteen's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetRow {
    /// Which version; later ones are higher.
    pub version: KeyVersion,
    /// The master keys, for the hub's own key to open.
    pub sealed: Sealed,
    /// When they were drawn.
    pub made_at: Timestamp,
    /// When chips stopped proving themselves by it.
    pub revoked_at: Option<Timestamp>,
    /// How many chips in use were enrolled with it.
    pub chips: u64,
}

impl HubLedger {
    /// Keeps a new version of a canteen's keys, sealed by `seal`, which is told the version.
    pub fn add_key_set<E>(
        &mut self,
        canteen: CanteenId,
        seal: impl FnOnce(KeyVersion) -> Result<Sealed, E>,
        now: Timestamp,
    ) -> Result<Result<KeyVersion, E>, LedgerError> {
        let db = self.change()?;
        tenant_of(&db, canteen)?;
        let (last, in_use): (u8, u8) = db.query_row(
            "SELECT coalesce(max(version), 0), count(*) FILTER (WHERE revoked_at IS NULL)
             FROM key_set WHERE canteen = ?1",
            [canteen.0],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let version = match last.checked_add(1) {
            Some(version) if usize::from(in_use) < KEY_SETS_MAX => KeyVersion(version),
            Some(_) | None => return Err(Refusal::KeySets { most: KEY_SETS_MAX }.into()),
        };
        let sealed = match seal(version) {
            Ok(sealed) => sealed,
            Err(error) => return Ok(Err(error)),
        };
        db.execute(
            "INSERT INTO key_set (canteen, version, sealed, made_at) VALUES (?1, ?2, ?3, ?4)",
            (canteen.0, version.0, sealed.as_bytes(), millis(now)),
        )?;
        tell_tills(&db, canteen)?;
        db.commit()?;
        Ok(Ok(version))
    }

    /// Has chips prove themselves by a version no longer; again changes nothing. Chips that know
    /// no other version are refused until they are enrolled anew.
    pub fn revoke_key_set(
        &mut self,
        canteen: CanteenId,
        version: KeyVersion,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let found = db.execute(
            "UPDATE key_set SET revoked_at = coalesce(revoked_at, ?3)
             WHERE canteen = ?1 AND version = ?2",
            (canteen.0, version.0, millis(now)),
        )?;
        if found == 0 {
            return Err(Refusal::not_found("key set", version.0).into());
        }
        tell_tills(&db, canteen)?;
        Ok(db.commit()?)
    }

    /// Notes that a chip carries keys of a version, and must prove itself from now on; gives it to
    /// the account unless the account has it already, so that it may be said twice.
    pub fn enrol_chip(
        &mut self,
        account: AccountId,
        new: &NewChip,
        version: KeyVersion,
        now: Timestamp,
    ) -> Result<i64, LedgerError> {
        let db = self.change()?;
        let canteen = read_account(&db, account)?.canteen;
        let in_use = in_use(&db, canteen)?;
        if !in_use.contains(&version) {
            return Err(Refusal::not_found("key set", version.0).into());
        }
        let known = chip_by_uid(&db, canteen, &new.uid.to_string())?;
        let number = match known {
            Some(chip) if chip.account == account && chip.status != Status::Closed => {
                set_key_version(&db, &chip, version)?;
                chip.number
            }
            Some(_) | None => insert_chip(&db, account, new, now)?,
        };
        tell_tills(&db, canteen)?;
        db.commit()?;
        Ok(number)
    }
}

impl HubReader {
    /// All versions of a canteen's keys, the newest first.
    pub fn key_sets(&self, canteen: CanteenId) -> Result<Vec<KeySetRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT k.version, k.sealed, k.made_at, k.revoked_at,
               (SELECT count(*) FROM chip c WHERE c.canteen = k.canteen
                  AND c.key_version = k.version AND c.status <> 'closed')
             FROM key_set k WHERE k.canteen = ?1 ORDER BY k.version DESC",
        )?;
        let mut rows = statement.query([canteen.0])?;
        let mut sets = Vec::new();
        while let Some(row) = rows.next()? {
            sets.push(KeySetRow {
                version: KeyVersion(row.get(0)?),
                sealed: Sealed::from_bytes(row.get(1)?),
                made_at: moment(row.get(2)?)?,
                revoked_at: row.get::<_, Option<i64>>(3)?.map(moment).transpose()?,
                chips: row.get::<_, i64>(4)?.cast_unsigned(),
            });
        }
        Ok(sets)
    }

    /// The chips of a canteen that must prove themselves.
    pub fn proving_chips(&self, canteen: CanteenId) -> Result<Vec<ChipId>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT uid FROM chip
             WHERE canteen = ?1 AND key_version IS NOT NULL AND status <> 'closed' ORDER BY uid",
        )?;
        let rows = statement.query_map([canteen.0], |row| row.get::<_, String>(0))?;
        rows.map(|uid| {
            let bytes = hex::decode(uid?).unwrap_or_default();
            ChipId::from_known(&bytes).map_err(|_| LedgerError::Unreadable { what: "chip" })
        })
        .collect()
    }

    /// The key that a till was enrolled with.
    pub fn till_key(&self, till: &TillId) -> Result<Option<TillPublicKey>, LedgerError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT e.public_key FROM till t
                 JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch
                 WHERE t.id = ?1 AND t.revoked_at IS NULL",
            )?
            .query_row([till.as_str()], |row| row.get(0))
            .optional()?
            .map(TillPublicKey))
    }
}

fn in_use(db: &Connection, canteen: CanteenId) -> Result<Vec<KeyVersion>, LedgerError> {
    let mut statement =
        db.prepare_cached("SELECT version FROM key_set WHERE canteen = ?1 AND revoked_at IS NULL")?;
    let rows = statement.query_map([canteen.0], |row| row.get(0).map(KeyVersion))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every till of the canteen hears that its keys have changed, and fetches them.
fn tell_tills(db: &Connection, canteen: CanteenId) -> Result<(), LedgerError> {
    touch(db, canteen, RecordKind::ChipKeys, "all")?;
    Ok(())
}

/// A chip makes its reader wait after too many wrong keys, so a till tries no more versions.
const KEY_SETS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use sync_proto::Record;

    use super::*;
    use crate::testbed::{Bed, NOW};

    fn add(bed: &mut Bed, secret: &[u8]) -> Result<KeyVersion, LedgerError> {
        let seal = |_| Ok::<_, Infallible>(Sealed::from_bytes(secret.to_vec()));
        let added = bed.ledger.add_key_set(bed.canteen, seal, NOW)?;
        Ok(added.unwrap_or_else(|never| match never {}))
    }

    fn versions(bed: &Bed) -> Vec<(u8, bool, u64)> {
        let sets = bed.ledger.key_sets(bed.canteen).unwrap();
        let row = |set: KeySetRow| (set.version.0, set.revoked_at.is_some(), set.chips);
        sets.into_iter().map(row).collect()
    }

    #[test]
    fn versions_rise_and_a_revoked_one_never_comes_back() {
        let mut bed = Bed::new();
        assert_eq!(add(&mut bed, b"one").unwrap(), KeyVersion(1));
        assert_eq!(add(&mut bed, b"two").unwrap(), KeyVersion(2));
        bed.ledger
            .revoke_key_set(bed.canteen, KeyVersion(2), NOW)
            .unwrap();
        assert_eq!(add(&mut bed, b"three").unwrap(), KeyVersion(3));
        assert_eq!(versions(&bed), [(3, false, 0), (2, true, 0), (1, false, 0)]);
        let sets = bed.ledger.key_sets(bed.canteen).unwrap();
        assert_eq!(sets[0].sealed.as_bytes(), b"three");
        let unknown = bed.ledger.revoke_key_set(bed.canteen, KeyVersion(9), NOW);
        assert!(matches!(
            unknown,
            Err(LedgerError::Refused(Refusal::NotFound { .. }))
        ));
    }

    #[test]
    fn only_so_many_versions_are_in_use_at_once() {
        let mut bed = Bed::new();
        for _ in 0..KEY_SETS_MAX {
            add(&mut bed, b"a set").unwrap();
        }
        let refused = add(&mut bed, b"one more");
        assert!(matches!(
            refused,
            Err(LedgerError::Refused(Refusal::KeySets { .. }))
        ));
        bed.ledger
            .revoke_key_set(bed.canteen, KeyVersion(1), NOW)
            .unwrap();
        assert_eq!(add(&mut bed, b"one more").unwrap(), KeyVersion(5));
    }

    #[test]
    fn an_enrolled_chip_must_prove_itself_and_may_be_enrolled_again() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(canteen::Money::from_kroner(100));
        let chip = bed.chip();
        let early = bed.ledger.enrol_chip(account, &chip, KeyVersion(1), NOW);
        assert!(matches!(
            early,
            Err(LedgerError::Refused(Refusal::NotFound { .. }))
        ));
        add(&mut bed, b"one").unwrap();
        add(&mut bed, b"two").unwrap();
        let new = NewChip {
            key_version: Some(KeyVersion(1)),
            ..chip
        };
        let number = bed
            .ledger
            .enrol_chip(account, &new, KeyVersion(1), NOW)
            .unwrap();
        assert_eq!(bed.ledger.proving_chips(bed.canteen).unwrap(), [chip.uid]);
        // The number of an EM4100 proves nothing, and costs the other chips nothing.
        let odd = NewChip {
            uid: ChipId::from_em4100([0x08, 0x63, 0xE6, 0xC3]).unwrap(),
            ..new
        };
        bed.ledger
            .enrol_chip(account, &odd, KeyVersion(1), NOW)
            .unwrap();
        let listed = bed.ledger.proving_chips(bed.canteen).unwrap();
        assert!(listed.contains(&chip.uid) && listed.contains(&odd.uid));
        let again = bed.ledger.enrol_chip(account, &new, KeyVersion(2), NOW);
        assert_eq!(again.unwrap(), number);
        assert_eq!(versions(&bed), [(2, false, 1), (1, false, 1)]);
        let (other, _) = bed.account(canteen::Money::from_kroner(100));
        let taken = bed.ledger.enrol_chip(other, &new, KeyVersion(2), NOW);
        assert!(matches!(
            taken,
            Err(LedgerError::Refused(Refusal::Exists { .. }))
        ));
    }

    #[test]
    fn a_chip_that_paid_by_its_uid_must_prove_itself_once_it_is_enrolled() {
        let mut bed = Bed::new();
        let (account, number) = bed.account(canteen::Money::from_kroner(100));
        add(&mut bed, b"one").unwrap();
        let chips = bed.ledger.chips_of(account).unwrap();
        assert_eq!(chips[0].key_version, None);
        let new = NewChip {
            uid: chips[0].uid,
            card: None,
            key_version: Some(KeyVersion(1)),
        };
        let enrolled = bed.ledger.enrol_chip(account, &new, KeyVersion(1), NOW);
        assert_eq!(enrolled.unwrap(), number);
        let chips = bed.ledger.chips_of(account).unwrap();
        assert_eq!(chips[0].key_version, Some(KeyVersion(1)));
    }

    #[test]
    fn tills_hear_that_keys_have_changed_and_never_the_keys() {
        let mut bed = Bed::new();
        let till = bed.till("kasse-1");
        let (account, _) = bed.account(canteen::Money::from_kroner(100));
        add(&mut bed, b"secret").unwrap();
        let new = bed.chip();
        bed.ledger
            .enrol_chip(account, &new, KeyVersion(1), NOW)
            .unwrap();
        let mut told = Vec::new();
        let written = bed.ledger.snapshot(&till.access, None, NOW, &mut told);
        written.unwrap().unwrap();
        let told = String::from_utf8(told).unwrap();
        let news = serde_json::to_string(&Record::ChipKeys).unwrap();
        assert!(told.contains(news.trim_matches(['{', '}'])), "{told}");
        assert!(!told.contains("secret") && !told.contains(&hex::encode("secret")));
        let key = bed.ledger.till_key(&till.access.till).unwrap();
        assert!(key.is_some());
    }
}
