//! The rules of a canteen: money, chips, accounts, limits, the calendar, the purchase decision,
//! the checkout and the automatic top-up.
//!
//! Everything here is pure: no input or output, no clock, no serialisation. Time comes in as an
//! argument, facts come in as plain values, decisions come out.

mod chip;

pub use chip::{CardNumber, ChipId, ChipIdError, ChipNumber, ChipNumberError};
