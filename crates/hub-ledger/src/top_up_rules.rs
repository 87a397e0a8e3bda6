//! When top-ups are charged, looked up and tried again.

use std::time::Duration;

use canteen::Money;

/// The smallest amount of an automatic top-up: what lifts an empty account to the threshold.
pub const TOP_UP_AMOUNT_MIN: Money = Money::from_kroner(50);

/// The largest amount of an automatic top-up.
pub const TOP_UP_AMOUNT_MAX: Money = Money::from_kroner(1000);

/// The times and counts of automatic top-ups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpRules {
    /// After a charge without a clear answer, when it is looked up; after the last of these every
    /// `spacing`.
    pub look_up_after: Vec<Duration>,
    /// The least time between two charges of one amount on one card: the gateway's window for
    /// identical transactions and the longest that a request may be under way.
    pub spacing: Duration,
    /// Two answers "not found" must be this far apart before a charge is sent again.
    pub not_found_apart: Duration,
    /// "Not found" that comes later than this after the charge proves nothing: gateways forget.
    pub not_found_believed: Duration,
    /// How often one top-up is charged at most.
    pub attempts_max: u32,
    /// After a charge that provably did not leave, when it is tried again.
    pub unsent_back_off: Vec<Duration>,
    /// After soft failures in a row, when the next top-up may be tried; one more failure than
    /// there are entries ends the agreement.
    pub soft_back_off: Vec<Duration>,
    /// The most top-ups of one account in 24 hours.
    pub per_day_max: u32,
    /// The most top-ups of one account in 30 days.
    pub per_month_max: u32,
    /// Purchases older than this many days fire nothing.
    pub late_days: u32,
    /// Whether guardians are told of every top-up that went well, too.
    pub tell_settled: bool,
}

impl Default for TopUpRules {
    fn default() -> TopUpRules {
        TopUpRules {
            look_up_after: [5, 30, 120].map(Duration::from_secs).to_vec(),
            spacing: Duration::from_secs(12 * 60),
            not_found_apart: Duration::from_secs(60),
            not_found_believed: Duration::from_secs(3600),
            attempts_max: 3,
            unsent_back_off: [30, 60, 120, 300, 600].map(Duration::from_secs).to_vec(),
            soft_back_off: [24, 72]
                .map(|hours| Duration::from_secs(hours * 3600))
                .to_vec(),
            per_day_max: 2,
            per_month_max: 15,
            late_days: 31,
            tell_settled: false,
        }
    }
}

impl TopUpRules {
    /// When to look a charge up for the `look_ups + 1`th time, counted from when it was sent.
    pub(crate) fn look_up_at(&self, look_ups: u32) -> Duration {
        let look_ups = look_ups as usize;
        match self.look_up_after.get(look_ups) {
            Some(after) => *after,
            None => {
                let later = (look_ups - self.look_up_after.len()) as u32;
                self.spacing + self.not_found_apart * later
            }
        }
    }

    /// How long to wait after the `unsent`th charge in a row that did not leave.
    pub(crate) fn unsent_wait(&self, unsent: u32) -> Duration {
        let place = (unsent.saturating_sub(1) as usize).min(self.unsent_back_off.len().max(1) - 1);
        self.unsent_back_off
            .get(place)
            .copied()
            .unwrap_or(self.spacing)
    }

    /// How long to wait after the `failures`th soft failure in a row; `None` ends the agreement.
    pub(crate) fn soft_wait(&self, failures: u32) -> Option<Duration> {
        self.soft_back_off
            .get(failures.saturating_sub(1) as usize)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_follow_the_schedule_and_then_the_spacing() {
        let rules = TopUpRules::default();
        let seconds: Vec<u64> = (0..6).map(|n| rules.look_up_at(n).as_secs()).collect();
        assert_eq!(seconds, [5, 30, 120, 720, 780, 840]);
    }

    #[test]
    fn waits_grow_and_the_third_soft_failure_ends_the_agreement() {
        let rules = TopUpRules::default();
        let unsent: Vec<u64> = (1..8).map(|n| rules.unsent_wait(n).as_secs()).collect();
        assert_eq!(unsent, [30, 60, 120, 300, 600, 600, 600]);
        let soft: Vec<Option<u64>> = (1..4)
            .map(|n| rules.soft_wait(n).map(|wait| wait.as_secs() / 3600))
            .collect();
        assert_eq!(soft, [Some(24), Some(72), None]);
    }
}
