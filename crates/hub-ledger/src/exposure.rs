//! What the tills of a canteen can sell beyond what the accounts hold, and the alarm about it.

use canteen::Money;
use jiff::Timestamp;

use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::store::{HubLedger, HubReader, millis};
use crate::tenancy::{CanteenId, Reach};

impl HubLedger {
    /// Flags every canteen that is exposed for more than `alarm`, once until it is less again.
    pub fn watch_exposure(&mut self, alarm: Money, now: Timestamp) -> Result<(), LedgerError> {
        let canteens = self.list_canteens(Reach::Everything)?;
        let exposed = canteens
            .into_iter()
            .map(|canteen| Ok((self.exposure(canteen.id)?, canteen)))
            .collect::<Result<Vec<_>, LedgerError>>()?;
        let db = self.change()?;
        for (exposure, canteen) in exposed {
            let since = (exposure > alarm).then(|| millis(now));
            let changed = db
                .prepare_cached(
                    "UPDATE canteen SET exposed_since = ?2
                     WHERE id = ?1 AND (exposed_since IS NULL) = (?2 IS NOT NULL)",
                )?
                .execute((canteen.id.0, since))?;
            if changed == 0 || since.is_none() {
                continue;
            }
            let origin = Origin::hub(canteen.tenant);
            let detail = format!(
                "without contact the tills of {} can sell for {exposure} beyond what the accounts \
                 hold; the alarm is set to {alarm}",
                canteen.name
            );
            raise_flag(&db, "exposure", &origin, None, None, &detail, now)?;
        }
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// What the tills of a canteen can still sell beyond what the accounts hold, if all of them
    /// sold all that they may without asking.
    pub fn exposure(&self, canteen: CanteenId) -> Result<Money, LedgerError> {
        let ore = self
            .db
            .prepare_cached(EXPOSURE)?
            .query_row([canteen.0], |row| row.get(0))?;
        Ok(Money::from_ore(ore))
    }
}

/// From the accounts of the canteen: other canteens' ceilings are many more.
const EXPOSURE: &str = "
 SELECT coalesce(sum(max(0, outstanding - max(balance, 0))), 0) FROM (
   SELECT a.balance AS balance, sum(max(0, c.highest - c.gross)) AS outstanding
   FROM account a CROSS JOIN ceiling c ON c.account = a.id
   JOIN till_epoch e ON e.till = c.till AND e.epoch = c.epoch
   WHERE a.canteen = ?1 AND e.retired_at IS NULL GROUP BY a.id)";

#[cfg(test)]
mod tests {
    #[test]
    fn the_exposure_of_a_canteen_is_reckoned_from_its_own_accounts() {
        let plan = Bed::new().plan(super::EXPOSURE);
        let scans = plan.iter().filter(|step| step.starts_with("SCAN"));
        assert_eq!(scans.count(), 1, "only the sum itself: {plan:?}");
        let of_canteen = plan.iter().any(|step| step.contains("account_of_canteen"));
        assert!(of_canteen, "{plan:?}");
    }

    use super::*;
    use crate::ceilings::OfflineBounds;
    use crate::seller::sellers;
    use crate::testbed::{Bed, NOW, kr};

    fn flags(bed: &Bed) -> Vec<String> {
        let flags = bed
            .ledger
            .list_flags(Reach::Everything, Some("exposure"), i64::MAX, 100);
        flags.unwrap().into_iter().map(|flag| flag.detail).collect()
    }

    #[test]
    fn an_exposed_canteen_is_flagged_once_until_it_is_less_again() {
        let mut bed = Bed::new();
        bed.account(kr(50));
        let [_first, _second] = sellers(&mut bed);
        let exposure = bed.ledger.exposure(bed.canteen).unwrap();
        assert!(exposure > Money::ZERO);
        bed.ledger.watch_exposure(exposure, NOW).unwrap();
        assert!(flags(&bed).is_empty());
        for _ in 0..2 {
            bed.ledger.watch_exposure(Money::ZERO, NOW).unwrap();
            assert_eq!(flags(&bed).len(), 1, "{:?}", flags(&bed));
        }
        bed.ledger.watch_exposure(exposure, NOW).unwrap();
        bed.ledger.watch_exposure(Money::ZERO, NOW).unwrap();
        assert_eq!(flags(&bed).len(), 2);
    }
    #[test]
    fn a_canteen_may_have_bounds_of_its_own() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(50));
        let strict = OfflineBounds {
            overspend_max: Money::ZERO,
            ..OfflineBounds::default()
        };
        let bounds = OfflineBounds::default();
        let canteen = bed.canteen;
        bed.ledger
            .bound_offline_sales(bounds, &[(canteen, strict)])
            .unwrap();
        let [_first, _second] = sellers(&mut bed);
        assert_eq!(bed.ledger.outstanding(account).unwrap(), kr(50));
        bed.ledger.bound_offline_sales(bounds, &[]).unwrap();
        assert_eq!(bed.ledger.outstanding(account).unwrap(), kr(100));
        let nowhere = bed
            .ledger
            .bound_offline_sales(bounds, &[(CanteenId(99), strict)]);
        assert!(nowhere.is_err());
    }
}
