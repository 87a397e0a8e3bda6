//! Exact amounts of Danish kroner.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use thiserror::Error;

/// An amount in whole øre, positive or negative.
///
/// Arithmetic is checked: an overflow is `None`, never a wrong amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// No money.
    pub const ZERO: Money = Money(0);

    /// An amount given in øre.
    pub const fn from_ore(ore: i64) -> Money {
        Money(ore)
    }

    /// An amount given in whole kroner.
    pub const fn from_kroner(kroner: i32) -> Money {
        Money(kroner as i64 * 100)
    }

    /// The amount in øre.
    pub const fn ore(self) -> i64 {
        self.0
    }

    /// The sum, unless it is out of range.
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The difference, unless it is out of range.
    pub fn checked_sub(self, other: Money) -> Option<Money> {
        self.0.checked_sub(other.0).map(Money)
    }

    /// The amount times a quantity, unless it is out of range.
    pub fn checked_mul(self, quantity: u32) -> Option<Money> {
        self.0.checked_mul(i64::from(quantity)).map(Money)
    }

    /// The amount with the other sign, unless it is out of range.
    pub fn checked_neg(self) -> Option<Money> {
        self.0.checked_neg().map(Money)
    }

    /// The sum of many amounts, unless it is out of range.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Money>) -> Option<Money> {
        amounts
            .into_iter()
            .try_fold(Money::ZERO, Money::checked_add)
    }

    /// Whether the amount has no øre.
    pub fn is_whole_kroner(self) -> bool {
        self.0 % 100 == 0
    }

    /// The amount without a currency, as price lists and statements print it: `1.234,50`.
    pub fn bare(self) -> impl fmt::Display {
        Bare(self)
    }
}

/// Danish notation with the currency: `149,50 kr.`, `-1.234,50 kr.`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kr.", self.bare())
    }
}

struct Bare(Money);

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ore = self.0.0.unsigned_abs();
        let kroner = (ore / 100).to_string();
        let mut text = String::new();
        for (i, digit) in kroner.chars().enumerate() {
            if i > 0 && (kroner.len() - i).is_multiple_of(3) {
                text.push('.');
            }
            text.push(digit);
        }
        let sign = if self.0.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{text},{:02}", ore % 100)
    }
}

/// Reads Danish notation: `22`, `22,5`, `22,00`, `1.234,50`, each with or without `kr.`.
impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Money, MoneyError> {
        let trimmed = text.trim();
        let amount = trimmed
            .strip_suffix("kr.")
            .or_else(|| trimmed.strip_suffix("kr"))
            .unwrap_or(trimmed)
            .trim_end();
        let (sign, unsigned) = match amount.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", amount),
        };
        let (kroner, ore) = unsigned.split_once(',').unwrap_or((unsigned, "00"));
        if !is_digits(ore) {
            return Err(MoneyError::Notation);
        }
        if ore.len() > 2 {
            return Err(MoneyError::Decimals);
        }
        let kroner = without_thousand_dots(kroner)?;
        let exact = Decimal::from_str_exact(&format!("{sign}{kroner}.{ore}"))
            .map_err(|_| MoneyError::Range)?;
        exact
            .checked_mul(Decimal::ONE_HUNDRED)
            .and_then(|ore| i64::try_from(ore).ok())
            .map(Money)
            .ok_or(MoneyError::Range)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn without_thousand_dots(kroner: &str) -> Result<String, MoneyError> {
    let mut groups = kroner.split('.');
    let first = groups.next().unwrap_or_default();
    if !is_digits(first) {
        return Err(MoneyError::Notation);
    }
    let mut digits = first.to_owned();
    for group in groups {
        if first.len() > 3 || group.len() != 3 || !is_digits(group) {
            return Err(MoneyError::Notation);
        }
        digits.push_str(group);
    }
    Ok(digits)
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// Not written as an amount.
    #[error("write an amount in kroner and øre with a comma, for example 22,00 or 1.234,50")]
    Notation,
    /// More than two digits after the comma.
    #[error("an amount has at most two digits after the comma")]
    Decimals,
    /// Too large to be kept exactly.
    #[error("the amount is too large")]
    Range,
}

/// What is paid in one purchase: always above zero and at most 100.000 kr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurchaseAmount(Money);

impl PurchaseAmount {
    /// The most that one purchase can be.
    pub const MAX: Money = Money::from_kroner(100_000);

    /// Accepts an amount above zero and at most [`PurchaseAmount::MAX`].
    pub fn new(amount: Money) -> Result<PurchaseAmount, PurchaseAmountError> {
        if amount <= Money::ZERO {
            return Err(PurchaseAmountError::NotPositive { amount });
        }
        if amount > Self::MAX {
            return Err(PurchaseAmountError::TooLarge { amount });
        }
        Ok(PurchaseAmount(amount))
    }

    /// The amount.
    pub fn money(self) -> Money {
        self.0
    }
}

/// Why an amount cannot be what a purchase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PurchaseAmountError {
    /// Zero or less.
    #[error("a purchase costs more than zero, not {amount}")]
    NotPositive {
        /// What was asked for.
        amount: Money,
    },
    /// More than a canteen sells at once.
    #[error("a purchase costs at most {max}, not {amount}", max = PurchaseAmount::MAX)]
    TooLarge {
        /// What was asked for.
        amount: Money,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(typed: &str, expect: Result<i64, MoneyError>) {
        assert_eq!(typed.parse::<Money>().map(Money::ore), expect, "{typed:?}");
    }

    #[test]
    fn danish_amounts_are_read_exactly() {
        check("149,50 kr.", Ok(149_50));
        check("149,50kr", Ok(149_50));
        check("22,00", Ok(22_00));
        check("22,5", Ok(22_50));
        check("22", Ok(22_00));
        check(" 0,01 ", Ok(1));
        check("-14,00", Ok(-14_00));
        check("1.234,50", Ok(1_234_50));
        check("1.234", Ok(1_234_00));
        check("12.345.678,90", Ok(12_345_678_90));
        check("92.233.720.368.547.758,07", Ok(i64::MAX));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "kr.",
            ",50",
            "22,",
            "22.00",
            "1.23,00",
            "1234.567,00",
            "1 234",
            "--1",
        ] {
            check(text, Err(MoneyError::Notation));
        }
        check("+22,00", Err(MoneyError::Notation));
        check("tyve", Err(MoneyError::Notation));
        check("22,005", Err(MoneyError::Decimals));
        check("92.233.720.368.547.758,08", Err(MoneyError::Range));
        check(
            "99999999999999999999999999999999999999",
            Err(MoneyError::Range),
        );
    }

    #[test]
    fn amounts_print_as_people_write_them() {
        for (ore, expect) in [
            (149_50, "149,50 kr."),
            (0, "0,00 kr."),
            (5, "0,05 kr."),
            (-14_00, "-14,00 kr."),
            (1_234_50, "1.234,50 kr."),
            (100_000_00, "100.000,00 kr."),
            (i64::MIN, "-92.233.720.368.547.758,08 kr."),
        ] {
            assert_eq!(Money::from_ore(ore).to_string(), expect);
        }
    }

    #[test]
    fn a_purchase_is_above_zero_and_within_range() {
        for (ore, ok) in [
            (0, false),
            (-1, false),
            (1, true),
            (100_000_00, true),
            (100_000_01, false),
        ] {
            assert_eq!(
                PurchaseAmount::new(Money::from_ore(ore)).is_ok(),
                ok,
                "{ore}"
            );
        }
        assert!(PurchaseAmount::new(Money::from_ore(i64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn every_printed_amount_reads_back(ore: i64) {
            let money = Money::from_ore(ore);
            prop_assert_eq!(money.to_string().parse::<Money>(), Ok(money));
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Money>();
        }
    }
}
