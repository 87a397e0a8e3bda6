//! The windows that limits are for.

use std::cmp::Ordering;

use canteen::{BusinessDay, Limits, Money};

/// A window of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Window {
    Day,
    Week,
    Month,
}

impl Window {
    /// In the order in which limits are written.
    pub(crate) const ALL: [Window; 3] = [Window::Day, Window::Week, Window::Month];

    /// How the window of one day stands to that of another.
    pub(crate) fn compare(self, one: BusinessDay, other: BusinessDay) -> Ordering {
        match self {
            Window::Day => one.cmp(&other),
            Window::Week => one.week().cmp(&other.week()),
            Window::Month => one.month().cmp(&other.month()),
        }
    }

    /// The limit of the window.
    pub(crate) fn limit(self, limits: &Limits) -> Option<Money> {
        match self {
            Window::Day => limits.day,
            Window::Week => limits.week,
            Window::Month => limits.month,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
        }
    }
}
