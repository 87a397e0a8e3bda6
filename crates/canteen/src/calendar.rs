//! The canteen's calendar: business days, ISO weeks and months in Europe/Copenhagen.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use thiserror::Error;

/// The canteen's time zone, with its rules compiled in.
pub const COPENHAGEN: TimeZone = jiff::tz::get!("Europe/Copenhagen");

/// A day of business: from local midnight to local midnight, so 23, 24 or 25 hours long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusinessDay(Date);

impl BusinessDay {
    /// The day that a moment falls on.
    pub fn of(moment: Timestamp) -> BusinessDay {
        BusinessDay(COPENHAGEN.to_datetime(moment).date())
    }

    /// The day given by its date.
    pub const fn from_date(date: Date) -> BusinessDay {
        BusinessDay(date)
    }

    /// Its date.
    pub const fn date(self) -> Date {
        self.0
    }

    /// The ISO week that the day belongs to.
    pub fn week(self) -> Week {
        let week = self.0.iso_week_date();
        Week {
            year: week.year(),
            week: week.week(),
        }
    }

    /// The calendar month that the day belongs to.
    pub fn month(self) -> Month {
        Month {
            year: self.0.year(),
            month: self.0.month(),
        }
    }

    /// The moment at which the day begins, unless it is beyond the range of the calendar.
    pub fn begins(self) -> Option<Timestamp> {
        self.0
            .to_zoned(COPENHAGEN)
            .ok()
            .map(|zoned| zoned.timestamp())
    }

    /// The day after, unless it is beyond the range of the calendar.
    pub fn next(self) -> Option<BusinessDay> {
        self.0.checked_add(1.day()).ok().map(BusinessDay)
    }
}

/// `2026-11-20`.
impl fmt::Display for BusinessDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BusinessDay {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<BusinessDay, CalendarError> {
        let day = text
            .parse()
            .map(BusinessDay)
            .map_err(|_| CalendarError::Day)?;
        if day.to_string() == text {
            Ok(day)
        } else {
            Err(CalendarError::Day)
        }
    }
}

/// An ISO week, from Monday to Sunday; the year is the one that has its Thursday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Week {
    year: i16,
    week: i8,
}

/// `2026-W47`.
impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-W{:02}", self.year, self.week)
    }
}

impl FromStr for Week {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Week, CalendarError> {
        let parsed = text.split_once("-W").and_then(|(year, week)| {
            let (year, week) = (year.parse().ok()?, week.parse().ok()?);
            jiff::civil::ISOWeekDate::new(year, week, jiff::civil::Weekday::Monday).ok()?;
            Some(Week { year, week })
        });
        parsed
            .filter(|week| week.to_string() == text)
            .ok_or(CalendarError::Week)
    }
}

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

/// `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Month, CalendarError> {
        let first: BusinessDay = format!("{text}-01")
            .parse()
            .map_err(|_| CalendarError::Month)?;
        Ok(first.month())
    }
}

/// Why a text names no day, week or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CalendarError {
    /// Not a date.
    #[error("write a day as year-month-day, for example 2026-11-20")]
    Day,
    /// Not an ISO week.
    #[error("write a week as year-Wweek, for example 2026-W47")]
    Week,
    /// Not a month.
    #[error("write a month as year-month, for example 2026-11")]
    Month,
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[track_caller]
    fn check(utc: &str, day: &str, week: &str, month: &str) {
        let business_day = BusinessDay::of(utc.parse().unwrap());
        let shown = [
            business_day.to_string(),
            business_day.week().to_string(),
            business_day.month().to_string(),
        ];
        assert_eq!(shown, [day, week, month], "{utc}");
    }

    #[test]
    fn days_begin_at_local_midnight() {
        check("2026-11-20T22:59:59Z", "2026-11-20", "2026-W47", "2026-11");
        check("2026-11-20T23:00:00Z", "2026-11-21", "2026-W47", "2026-11");
        check("2026-07-01T21:59:59Z", "2026-07-01", "2026-W27", "2026-07");
        check("2026-07-01T22:00:00Z", "2026-07-02", "2026-W27", "2026-07");
    }

    #[test]
    fn weeks_begin_on_monday_and_belong_to_the_year_of_their_thursday() {
        check("2026-11-22T12:00:00Z", "2026-11-22", "2026-W47", "2026-11");
        check("2026-11-23T12:00:00Z", "2026-11-23", "2026-W48", "2026-11");
        check("2026-12-31T12:00:00Z", "2026-12-31", "2026-W53", "2026-12");
        check("2027-01-03T12:00:00Z", "2027-01-03", "2026-W53", "2027-01");
        check("2027-01-04T12:00:00Z", "2027-01-04", "2027-W01", "2027-01");
        check("2024-12-30T12:00:00Z", "2024-12-30", "2025-W01", "2024-12");
    }

    #[test]
    fn both_hours_of_the_autumn_night_are_one_day() {
        check("2026-10-25T00:30:00Z", "2026-10-25", "2026-W43", "2026-10");
        check("2026-10-25T01:30:00Z", "2026-10-25", "2026-W43", "2026-10");
    }

    #[test]
    fn daylight_saving_days_have_23_and_25_hours() {
        for (day, hours) in [
            (date(2026, 3, 29), 23),
            (date(2026, 10, 25), 25),
            (date(2028, 2, 29), 24),
        ] {
            let day = BusinessDay::from_date(day);
            let length = day.next().unwrap().begins().unwrap() - day.begins().unwrap();
            assert_eq!(
                length.total(jiff::Unit::Hour).unwrap(),
                f64::from(hours),
                "{day}"
            );
        }
    }

    #[test]
    fn texts_read_back() {
        assert_eq!(
            "2026-11-20".parse(),
            Ok(BusinessDay::from_date(date(2026, 11, 20)))
        );
        assert_eq!(
            "2026-W53".parse::<Week>().map(|w| w.to_string()),
            Ok("2026-W53".into())
        );
        assert_eq!(
            "2026-11".parse::<Month>().map(|m| m.to_string()),
            Ok("2026-11".into())
        );
        assert_eq!("2026-02-30".parse::<BusinessDay>(), Err(CalendarError::Day));
        assert_eq!("2025-W53".parse::<Week>(), Err(CalendarError::Week));
        assert_eq!("2026-13".parse::<Month>(), Err(CalendarError::Month));
    }
}
