//! Moments: when something happens, by the wall clock and by the time since the machine booted.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use canteen::BusinessDay;
use jiff::Timestamp;
use uuid::Uuid;

use crate::error::LedgerError;
use crate::machine;

/// A moment as the till's machine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, in milliseconds since 1970 (UTC). May be wrong and may jump.
    pub utc_ms: i64,
    /// Milliseconds since the machine booted. Never jumps.
    pub boot_ms: u64,
    /// Which boot that was.
    pub boot: Uuid,
}

impl Moment {
    /// Reads the machine's clocks.
    pub fn now() -> Moment {
        static BOOT: OnceLock<Uuid> = OnceLock::new();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let utc_ms = since_1970.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(0));
        Moment {
            utc_ms,
            boot_ms: machine::boot_ms(),
            boot: *BOOT.get_or_init(this_boot),
        }
    }

    /// RFC 3339 with milliseconds, in UTC.
    pub(crate) fn to_rfc3339(self) -> Result<String, LedgerError> {
        let stamp = timestamp(self.utc_ms)?;
        Ok(format!("{stamp:.3}"))
    }
}

/// Without a boot id from the kernel each run of the program counts as a boot of its own.
fn this_boot() -> Uuid {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Uuid::parse_str(text.trim()).unwrap_or_else(|_| Uuid::now_v7())
}

fn timestamp(utc_ms: i64) -> Result<Timestamp, LedgerError> {
    Timestamp::from_millisecond(utc_ms).map_err(|_| LedgerError::Clock { utc_ms })
}

/// What the hub's clock showed at a moment of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HubClock {
    pub(crate) utc_ms: i64,
    pub(crate) boot_ms: u64,
    pub(crate) boot: Uuid,
}

impl HubClock {
    /// The hub's clock as it was told; `None` when the text is no time.
    pub(crate) fn told(hub_time: &str, now: Moment) -> Option<HubClock> {
        let stamp: Timestamp = hub_time.parse().ok()?;
        Some(HubClock {
            utc_ms: stamp.as_millisecond(),
            boot_ms: now.boot_ms,
            boot: now.boot,
        })
    }

    /// What it shows now, as long as the machine has not been booted since.
    pub(crate) fn at(self, now: Moment) -> Option<i64> {
        let passed = now.boot_ms.checked_sub(self.boot_ms)?;
        let passed = i64::try_from(passed).ok()?;
        (self.boot == now.boot)
            .then(|| self.utc_ms.checked_add(passed))
            .flatten()
    }
}

/// The business day of a time that is believed; never earlier than the day of the last entry.
pub(crate) fn business_day(
    utc_ms: i64,
    last: Option<BusinessDay>,
) -> Result<BusinessDay, LedgerError> {
    let day = BusinessDay::of(timestamp(utc_ms)?);
    Ok(last.map_or(day, |last| day.max(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Uuid = Uuid::from_u128(1);
    const HOUR: i64 = 3_600_000;

    fn moment(utc: &str, boot_ms: u64) -> Moment {
        let stamp: Timestamp = utc.parse().unwrap();
        Moment {
            utc_ms: stamp.as_millisecond(),
            boot_ms,
            boot: BOOT,
        }
    }

    fn day_of(
        now: Moment,
        hub: Option<HubClock>,
        last: Option<BusinessDay>,
    ) -> Result<BusinessDay, LedgerError> {
        let hub_ms = hub.and_then(|clock| clock.at(now));
        business_day(crate::clock::Clock::default().believed(now, hub_ms), last)
    }

    #[track_caller]
    fn check(utc: &str, hub: Option<&str>, last: Option<&str>, expect: &str) {
        let clock = hub.map(|hub| HubClock::told(hub, moment(utc, 1000)).unwrap());
        let later = Moment {
            boot_ms: 1000 + HOUR.cast_unsigned(),
            utc_ms: moment(utc, 0).utc_ms + HOUR,
            boot: BOOT,
        };
        let last = last.map(|day| day.parse().unwrap());
        let day = day_of(later, clock, last).unwrap();
        assert_eq!(day.to_string(), expect);
    }

    #[test]
    fn a_day_is_local_and_never_goes_backwards() {
        check("2026-11-20T21:30:00Z", None, None, "2026-11-20");
        check("2026-11-20T22:30:00Z", None, None, "2026-11-21");
        check(
            "2025-11-20T10:00:00Z",
            None,
            Some("2026-11-20"),
            "2026-11-20",
        );
        check(
            "2026-10-25T00:30:00Z",
            None,
            Some("2026-10-25"),
            "2026-10-25",
        );
    }

    #[test]
    fn the_hubs_clock_goes_before_the_machines() {
        let wrong = "1970-01-01T00:00:10Z";
        check(wrong, Some("2026-11-20T10:00:00Z"), None, "2026-11-20");
        check(wrong, Some("2026-11-20T22:30:00Z"), None, "2026-11-21");
    }

    #[test]
    fn another_boot_forgets_the_hubs_clock() {
        let clock = HubClock::told("2026-11-20T10:00:00Z", moment("2026-11-20T10:00:00Z", 5));
        let mut later = moment("2026-11-25T10:00:00Z", 7);
        later.boot = Uuid::from_u128(2);
        let day = day_of(later, clock, None).unwrap();
        assert_eq!(day.to_string(), "2026-11-25");
    }

    #[test]
    fn a_clock_out_of_range_is_an_error() {
        let mut never = moment("2026-11-25T10:00:00Z", 7);
        never.utc_ms = i64::MAX;
        assert!(day_of(never, None, None).is_err());
    }
}
