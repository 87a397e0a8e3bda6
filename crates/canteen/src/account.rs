//! Accounts as the till sees them: balance, status, limits and what has been spent.

use std::fmt;

use crate::calendar::BusinessDay;
use crate::money::Money;
use crate::strict_limits::{LimitMode, StrictLimits};
use crate::top_up::TopUp;

/// The number of an account; carries nothing personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a chip or an account may buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// May buy (Aktiv).
    Active,
    /// Blocked until it is reactivated (Spærret).
    Blocked,
    /// Closed for good.
    Closed,
}

impl Status {
    /// The word for it on the wire and in the store.
    pub fn code(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Blocked => "blocked",
            Status::Closed => "closed",
        }
    }

    /// Reads [`Status::code`].
    pub fn from_code(code: &str) -> Option<Status> {
        [Status::Active, Status::Blocked, Status::Closed]
            .into_iter()
            .find(|s| s.code() == code)
    }
}

/// The most that may be spent in each window; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// In a business day.
    pub day: Option<Money>,
    /// In an ISO week.
    pub week: Option<Money>,
    /// In a calendar month.
    pub month: Option<Money>,
    /// How they hold over several tills.
    pub mode: LimitMode,
}

/// What has been spent in the day, week and month of one business day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    on: BusinessDay,
    day: Money,
    week: Money,
    month: Money,
}

impl Spent {
    /// Nothing spent in the windows of a day.
    pub fn nothing(on: BusinessDay) -> Spent {
        Spent {
            on,
            day: Money::ZERO,
            week: Money::ZERO,
            month: Money::ZERO,
        }
    }

    /// Counters kept for the windows of a day.
    pub fn new(on: BusinessDay, day: Money, week: Money, month: Money) -> Spent {
        Spent {
            on,
            day,
            week,
            month,
        }
    }

    /// The same counters as of another day: a window that has ended counts from zero.
    #[must_use]
    pub fn as_of(self, on: BusinessDay) -> Spent {
        let kept = |same: bool, amount| if same { amount } else { Money::ZERO };
        Spent {
            on,
            day: kept(self.on == on, self.day),
            week: kept(self.on.week() == on.week(), self.week),
            month: kept(self.on.month() == on.month(), self.month),
        }
    }

    /// The counters after spending an amount (or giving it back, when negative) on a day;
    /// only the windows that the day shares with the counters change. `None` on overflow.
    pub fn plus(self, amount: Money, on: BusinessDay) -> Option<Spent> {
        let add = |same: bool, spent: Money| {
            if same {
                spent.checked_add(amount)
            } else {
                Some(spent)
            }
        };
        Some(Spent {
            on: self.on,
            day: add(self.on == on, self.day)?,
            week: add(self.on.week() == on.week(), self.week)?,
            month: add(self.on.month() == on.month(), self.month)?,
        })
    }

    /// The day whose windows these are.
    pub fn on(&self) -> BusinessDay {
        self.on
    }

    /// Spent in the day.
    pub fn day(&self) -> Money {
        self.day
    }

    /// Spent in the week.
    pub fn week(&self) -> Money {
        self.week
    }

    /// Spent in the month.
    pub fn month(&self) -> Money {
        self.month
    }
}

/// All that the decision looks at in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Whether it may buy.
    pub status: Status,
    /// What the till knows the account to hold: the hub's position less this till's own sales
    /// that the position does not contain yet.
    pub balance: Money,
    /// How far below zero the account may go (0 for pupils).
    pub credit: Money,
    /// The holder's limits.
    pub limits: Limits,
    /// What counts against the limits.
    pub spent: Spent,
    /// What this till may sell of the limits when they are strict; `None` when they are lenient.
    pub strict: Option<StrictLimits>,
    /// The highest sum of sales that the hub lets this till make on the account, if it set one,
    /// less the sales made: what may still be sold without contact.
    pub allowance: Option<Money>,
    /// The automatic top-up agreement, if there is one.
    pub top_up: Option<TopUp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> BusinessDay {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(from: &str, to: &str, expect: [i64; 3]) {
        let ten = Money::from_kroner(10);
        let spent = Spent::new(day(from), ten, ten, ten).as_of(day(to));
        let shown = [spent.day(), spent.week(), spent.month()].map(|m| m.ore() / 100);
        assert_eq!(shown, expect, "{from} → {to}");
    }

    #[test]
    fn each_window_ends_on_its_own() {
        check("2026-11-20", "2026-11-20", [10, 10, 10]);
        check("2026-11-20", "2026-11-21", [0, 10, 10]);
        check("2026-11-22", "2026-11-23", [0, 0, 10]);
        check("2026-07-31", "2026-08-01", [0, 10, 0]);
        check("2026-12-31", "2027-01-01", [0, 10, 0]);
        check("2026-11-20", "2027-11-20", [0, 0, 0]);
    }

    #[test]
    fn a_refund_of_an_earlier_day_only_touches_the_windows_it_shares() {
        let spent = Spent::nothing(day("2026-11-20"));
        let later = spent
            .plus(Money::from_kroner(5), day("2026-11-19"))
            .unwrap();
        assert_eq!(
            [later.day(), later.week()],
            [Money::ZERO, Money::from_kroner(5)]
        );
        assert!(
            spent
                .plus(Money::from_ore(i64::MAX), day("2026-11-20"))
                .is_some()
        );
        let full = Spent::new(
            day("2026-11-20"),
            Money::from_ore(i64::MAX),
            Money::ZERO,
            Money::ZERO,
        );
        assert_eq!(full.plus(Money::from_ore(1), day("2026-11-20")), None);
    }
}
