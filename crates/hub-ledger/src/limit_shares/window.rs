//! The windows of limits.

use canteen::{BusinessDay, Limits, Money, Spent};

/// The windows of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    Day,
    Week,
    Month,
}

impl Window {
    pub(super) const ALL: [Window; 3] = [Window::Day, Window::Week, Window::Month];

    pub(super) fn code(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
        }
    }

    pub(super) fn limit(self, limits: &Limits) -> Option<Money> {
        match self {
            Window::Day => limits.day,
            Window::Week => limits.week,
            Window::Month => limits.month,
        }
    }

    pub(super) fn spent(self, spent: &Spent) -> Money {
        match self {
            Window::Day => spent.day(),
            Window::Week => spent.week(),
            Window::Month => spent.month(),
        }
    }

    /// Whether a day stands in an earlier window than another.
    pub(super) fn has_turned(self, from: BusinessDay, to: BusinessDay) -> bool {
        match self {
            Window::Day => from < to,
            Window::Week => from.week() < to.week(),
            Window::Month => from.month() < to.month(),
        }
    }
}
