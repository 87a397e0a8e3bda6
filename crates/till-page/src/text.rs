//! Text in the two languages of the screen.

use canteen::{BusinessDay, COPENHAGEN};
use jiff::Timestamp;
use serde::Serialize;

/// The same thing said in Danish and in English.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Text {
    /// Danish, which the screen shows first.
    pub da: String,
    /// English.
    pub en: String,
}

impl Text {
    /// The same thing said twice.
    pub fn new(da: impl Into<String>, en: impl Into<String>) -> Text {
        Text {
            da: da.into(),
            en: en.into(),
        }
    }
}

/// A moment as a cashier reads it: the time alone when it is of today, else with its date.
pub fn clock(moment: Timestamp, now: Timestamp) -> String {
    let format = if BusinessDay::of(moment) == BusinessDay::of(now) {
        "%H:%M"
    } else {
        "%d.%m.%Y %H:%M"
    };
    moment.to_zoned(COPENHAGEN).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(moment: &str, now: &str, expect: &str) {
        let moment = moment.parse().unwrap();
        assert_eq!(clock(moment, now.parse().unwrap()), expect);
    }

    #[test]
    fn a_moment_of_today_is_a_time_in_denmark() {
        check("2026-11-20T10:42:59Z", "2026-11-20T22:59:00Z", "11:42");
        check("2026-06-20T10:42:00Z", "2026-06-20T11:00:00Z", "12:42");
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let expect = "19.11.2026 23:30";
        check("2026-11-19T22:30:00Z", "2026-11-19T23:00:00Z", expect);
        check("2026-11-19T22:30:00Z", "2027-11-19T22:30:00Z", expect);
    }
}
