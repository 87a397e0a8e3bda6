//! The basket: what a customer buys, line by line.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::money::{Money, MoneyError, PurchaseAmount, PurchaseAmountError};

/// One line of a basket: so many pieces of one thing at one price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasketLine {
    quantity: u32,
    text: String,
    unit_price: Money,
    amount: Money,
}

impl BasketLine {
    /// A line of 1 to 99 pieces; `unit_price` is for one piece and above zero.
    pub fn new(quantity: u32, text: &str, unit_price: Money) -> Result<BasketLine, BasketError> {
        let text = text.trim();
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            return Err(BasketError::Quantity);
        }
        if text.is_empty() || text.chars().count() > TEXT_MAX || text.chars().any(char::is_control)
        {
            return Err(BasketError::Text);
        }
        PurchaseAmount::new(unit_price).map_err(BasketError::Amount)?;
        let amount = unit_price.checked_mul(quantity).ok_or(MoneyError::Range)?;
        Ok(BasketLine {
            quantity,
            text: text.to_owned(),
            unit_price,
            amount,
        })
    }

    /// How many pieces.
    pub fn quantity(&self) -> u32 {
        self.quantity
    }

    /// What it is called.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The price of one piece.
    pub fn unit_price(&self) -> Money {
        self.unit_price
    }

    /// The price of the line.
    pub fn amount(&self) -> Money {
        self.amount
    }
}

/// As statements show it, with the price of the line: `1x Ostehaps 3,00`.
impl fmt::Display for BasketLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x {} {}", self.quantity, self.text, self.amount.bare())
    }
}

/// Reads `1x Dagens ret 22,00`: quantity, text and the price of one piece.
impl FromStr for BasketLine {
    type Err = BasketError;

    fn from_str(line: &str) -> Result<BasketLine, BasketError> {
        let line = line.trim();
        let line = line.strip_suffix("kr.").unwrap_or(line).trim_end();
        let (quantity, rest) = line.split_once(['x', 'X']).ok_or(BasketError::Notation)?;
        let (text, price) = rest.trim().rsplit_once(' ').ok_or(BasketError::Notation)?;
        let quantity = quantity.trim();
        if quantity.is_empty() || !quantity.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BasketError::Notation);
        }
        let quantity = quantity.parse().map_err(|_| BasketError::Quantity)?;
        BasketLine::new(quantity, text, price.parse()?)
    }
}

/// What a customer buys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Basket {
    lines: Vec<BasketLine>,
}

impl Basket {
    /// The lines, in the order in which they were rung up.
    pub fn lines(&self) -> &[BasketLine] {
        &self.lines
    }

    /// Whether nothing was rung up.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line; more of the same thing at the same price becomes one line.
    pub fn add(&mut self, line: BasketLine) -> Result<(), BasketError> {
        let same = self
            .lines
            .iter_mut()
            .find(|known| known.text == line.text && known.unit_price == line.unit_price);
        if let Some(known) = same {
            *known = BasketLine::new(known.quantity + line.quantity, &line.text, line.unit_price)?;
            return Ok(());
        }
        if self.lines.len() == LINES_MAX {
            return Err(BasketError::Full);
        }
        self.lines.push(line);
        Ok(())
    }

    /// Takes one piece off a line, and the line away with its last piece.
    pub(crate) fn remove_one(&mut self, index: usize) -> Result<(), BasketError> {
        let line = self.lines.get_mut(index).ok_or(BasketError::NoSuchLine)?;
        if line.quantity > 1 {
            *line = BasketLine::new(line.quantity - 1, &line.text, line.unit_price)?;
        } else {
            self.lines.remove(index);
        }
        Ok(())
    }

    /// What the lines cost together so far; zero when there are none.
    pub fn sum(&self) -> Result<Money, BasketError> {
        Ok(
            Money::checked_sum(self.lines.iter().map(|line| line.amount))
                .ok_or(MoneyError::Range)?,
        )
    }

    /// What the purchase costs; an empty basket costs nothing and cannot be paid.
    pub fn total(&self) -> Result<PurchaseAmount, BasketError> {
        if self.is_empty() {
            return Err(BasketError::Empty);
        }
        PurchaseAmount::new(self.sum()?).map_err(BasketError::Amount)
    }
}

/// Why something cannot be rung up or paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BasketError {
    /// Not written as a line.
    #[error(
        "write a line as quantity, text and price of one piece, for example 1x Dagens ret 22,00"
    )]
    Notation,
    /// Not 1 to 99 pieces.
    #[error("a line has 1 to {QUANTITY_MAX} pieces")]
    Quantity,
    /// No text, too much of it, or control characters in it.
    #[error("a line's text has 1 to {TEXT_MAX} characters and no control characters")]
    Text,
    /// The price cannot be read.
    #[error(transparent)]
    Price(#[from] MoneyError),
    /// The price or total is zero, negative or too large.
    #[error(transparent)]
    Amount(PurchaseAmountError),
    /// Too many lines.
    #[error("a basket has at most {LINES_MAX} lines")]
    Full,
    /// No line stands there.
    #[error("there is no such line in the basket")]
    NoSuchLine,
    /// Nothing to pay.
    #[error("the basket is empty")]
    Empty,
}

const QUANTITY_MAX: u32 = 99;
const TEXT_MAX: usize = 60;
const LINES_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let shown = match line.parse::<BasketLine>() {
            Ok(line) => line.to_string(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expect, "{line:?}");
    }

    #[test]
    fn a_line_is_quantity_text_and_price_of_one_piece() {
        check("1x Dagens ret 22,00", "1x Dagens ret 22,00");
        check("2x Yoghurt 6,00", "2x Yoghurt 12,00");
        check(" 3 X Mælk 0,5l 5 kr. ", "3x Mælk 0,5l 15,00");
        check("1x Extra stor 1.000,00", "1x Extra stor 1.000,00");
    }

    #[test]
    fn a_line_that_cannot_be_sold_says_why() {
        check("Dagens ret 22,00", "Notation");
        check("1x 22,00", "Notation");
        check("", "Notation");
        check("-1x Dagens ret 22,00", "Notation");
        check("0x Dagens ret 22,00", "Quantity");
        check("100x Dagens ret 22,00", "Quantity");
        check("1x Dagens ret tyve", "Price(Notation)");
        check("1x Dagens ret 22,005", "Price(Decimals)");
        check("1x Dagens ret 99999999999999999999,00", "Price(Range)");
        check(
            "1x Dagens ret 0,00",
            "Amount(NotPositive { amount: Money(0) })",
        );
        check(
            "1x Dagens ret -5,00",
            "Amount(NotPositive { amount: Money(-500) })",
        );
        check(
            "1x Dagens ret 100.000,01",
            "Amount(TooLarge { amount: Money(10000001) })",
        );
        check(&format!("1x {} 1,00", "a".repeat(61)), "Text");
    }

    #[test]
    fn more_of_the_same_becomes_one_line() {
        let mut basket = Basket::default();
        for line in ["1x Ostehaps 3,00", "1x Yoghurt 6,00", "2x Ostehaps 3,00"] {
            basket.add(line.parse().unwrap()).unwrap();
        }
        let shown: Vec<String> = basket.lines().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["3x Ostehaps 9,00", "1x Yoghurt 6,00"]);
        assert_eq!(basket.total().unwrap().money(), Money::from_kroner(15));
        basket.remove_one(0).unwrap();
        basket.remove_one(1).unwrap();
        assert_eq!(basket.sum(), Ok(Money::from_kroner(6)));
        assert_eq!(basket.remove_one(1), Err(BasketError::NoSuchLine));
    }

    #[test]
    fn an_empty_or_overgrown_basket_cannot_be_paid() {
        let mut basket = Basket::default();
        assert_eq!(basket.total(), Err(BasketError::Empty));
        basket.add("1x Fest 100.000,00".parse().unwrap()).unwrap();
        assert!(basket.total().is_ok());
        basket.add("1x Serviet 0,01".parse().unwrap()).unwrap();
        assert!(matches!(basket.total(), Err(BasketError::Amount(_))));
    }
}
