//! Strict limits: a till sells only inside its own part of a limit, so that tills which cannot ask
//! each other never exceed it together.
//!
//! A till's *share* of a limit is issued by the hub like money. For the windows of the day that it
//! was issued for it is a ceiling: the highest sum of sales, counted gross over the till's whole
//! ledger. For every later window it is an amount that was granted ahead, so that a till without
//! contact sells on after midnight. In an earlier window nothing may be sold: its limit may be used
//! up elsewhere.

use crate::account::{Limits, Spent};
use crate::calendar::BusinessDay;
use crate::money::Money;

/// How limits hold over several tills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitMode {
    /// Each till refuses what exceeds a limit as far as it knows; tills that cannot ask may exceed
    /// it together.
    #[default]
    Lenient,
    /// Each till sells inside its own share; a limit is never exceeded, and a till without a share
    /// refuses.
    Strict,
}

impl LimitMode {
    /// The word for it on the wire and in the store.
    pub fn code(self) -> &'static str {
        match self {
            LimitMode::Lenient => "lenient",
            LimitMode::Strict => "strict",
        }
    }

    /// Reads [`LimitMode::code`].
    pub fn from_code(code: &str) -> Option<LimitMode> {
        [LimitMode::Lenient, LimitMode::Strict]
            .into_iter()
            .find(|mode| mode.code() == code)
    }
}

/// A till's share of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitShare {
    /// The highest sum of the till's sales on the account, for the window it was issued in.
    pub ceiling: Money,
    /// What the till may sell in each later window.
    pub ahead: Money,
}

/// A till's shares of an account's limits, issued together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitShares {
    /// The day in whose windows the ceilings hold.
    pub on: BusinessDay,
    /// Of the daily limit.
    pub day: Option<LimitShare>,
    /// Of the weekly limit.
    pub week: Option<LimitShare>,
    /// Of the monthly limit.
    pub month: Option<LimitShare>,
}

/// What a till may sell of an account's strict limits, and what it has sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictLimits {
    /// The till's shares; `None` while it was given none.
    pub shares: Option<LimitShares>,
    /// All its sales on the account, counted gross.
    pub gross: Money,
    /// The same by the windows that they fell in.
    pub sold: Spent,
}

impl StrictLimits {
    /// What the till may still sell on a day, never below zero; `None` when no limit is set.
    pub fn left(&self, limits: &Limits, on: BusinessDay) -> Option<Money> {
        let Limits {
            day, week, month, ..
        } = limits;
        let shares = self.shares.as_ref();
        let since = shares.map_or(on, |shares| shares.on);
        let sold = self.sold.as_of(on);
        [
            day.map(|_| {
                let share = shares.and_then(|shares| shares.day);
                self.left_of(share, since.cmp(&on), sold.day())
            }),
            week.map(|_| {
                let share = shares.and_then(|shares| shares.week);
                self.left_of(share, since.week().cmp(&on.week()), sold.week())
            }),
            month.map(|_| {
                let share = shares.and_then(|shares| shares.month);
                self.left_of(share, since.month().cmp(&on.month()), sold.month())
            }),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// `issued` is how the window that the share was issued in stands to the one of the purchase.
    fn left_of(
        &self,
        share: Option<LimitShare>,
        issued: std::cmp::Ordering,
        sold_in_window: Money,
    ) -> Money {
        let Some(share) = share else {
            return Money::ZERO;
        };
        let left = match issued {
            std::cmp::Ordering::Equal => share.ceiling.checked_sub(self.gross),
            std::cmp::Ordering::Less => share.ahead.checked_sub(sold_in_window),
            std::cmp::Ordering::Greater => None,
        };
        left.unwrap_or(Money::ZERO).max(Money::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> BusinessDay {
        text.parse().unwrap()
    }

    fn kr(kroner: i32) -> Money {
        Money::from_kroner(kroner)
    }

    /// A till that has sold for 100 kr in all, 30 of it on `sold_on`, with 20 kr left of each
    /// share of Friday 20 November and so much granted ahead.
    #[track_caller]
    fn check(sold_on: &str, on: &str, ahead: [i32; 3], expect: i32) {
        let share = |ahead| {
            Some(LimitShare {
                ceiling: kr(120),
                ahead: kr(ahead),
            })
        };
        let strict = StrictLimits {
            shares: Some(LimitShares {
                on: day("2026-11-20"),
                day: share(ahead[0]),
                week: share(ahead[1]),
                month: share(ahead[2]),
            }),
            gross: kr(100),
            sold: Spent::new(day(sold_on), kr(30), kr(30), kr(30)),
        };
        let limits = Limits {
            day: Some(kr(50)),
            week: Some(kr(50)),
            month: Some(kr(50)),
            mode: LimitMode::Strict,
        };
        assert_eq!(strict.left(&limits, day(on)), Some(kr(expect)), "on {on}");
    }

    #[test]
    fn in_the_windows_of_its_day_a_share_is_a_ceiling() {
        check("2026-11-20", "2026-11-20", [0, 0, 0], 20);
    }

    #[test]
    fn a_later_window_begins_with_what_was_granted_ahead() {
        check("2026-11-20", "2026-11-21", [15, 0, 0], 15);
        check("2026-11-20", "2026-11-21", [50, 0, 0], 20);
        check("2026-11-20", "2026-11-23", [50, 15, 0], 15);
        check("2026-11-20", "2026-12-01", [50, 50, 12], 12);
    }

    #[test]
    fn what_was_sold_in_a_later_window_is_taken_off_what_was_granted_ahead() {
        check("2026-11-21", "2026-11-21", [45, 0, 0], 15);
        check("2026-11-23", "2026-11-23", [45, 40, 0], 10);
        check("2026-11-23", "2026-11-23", [20, 40, 0], 0);
    }

    #[test]
    fn in_an_earlier_window_nothing_is_left() {
        check("2026-11-19", "2026-11-19", [50, 50, 50], 0);
    }

    #[test]
    fn a_limit_without_a_share_leaves_nothing_and_no_limit_leaves_everything() {
        let strict = StrictLimits {
            shares: None,
            gross: Money::ZERO,
            sold: Spent::nothing(day("2026-11-20")),
        };
        let mut limits = Limits {
            week: Some(kr(50)),
            ..Limits::default()
        };
        assert_eq!(strict.left(&limits, day("2026-11-20")), Some(Money::ZERO));
        limits.week = None;
        assert_eq!(strict.left(&limits, day("2026-11-20")), None);
    }
}
