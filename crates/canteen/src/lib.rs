//! The rules of a canteen: money, chips, accounts, limits, the calendar, the purchase decision,
//! the checkout and the automatic top-up.
//!
//! Everything here is pure: no input or output, no clock, no serialisation. Time comes in as an
//! argument, facts come in as plain values, decisions come out.

mod account;
mod basket;
mod calendar;
mod checkout;
mod chip;
mod decide;
mod money;
mod number_shape;
mod proof;
mod strict_limits;
mod top_up;

pub use account::{Account, AccountId, Limits, Spent, Status};
pub use basket::{Basket, BasketError, BasketLine};
pub use calendar::{BusinessDay, COPENHAGEN, CalendarError, Month, Week};
pub use checkout::{
    Action, Checkout, CheckoutError, Ending, Moment, Origin, Phase, PresenceId, PurchaseOrder,
    SaleId,
};
pub use chip::{CardNumber, ChipId, ChipIdError, ChipNumber, ChipNumberError};
pub use decide::{
    ChipHolding, Contact, Decision, DeclineReason, LimitFacts, OfflineRules, Purchase, decide,
    decide_order,
};
pub use money::{Money, MoneyError, PurchaseAmount, PurchaseAmountError};
pub use number_shape::{NumberShape, NumberShapeError};
pub use proof::{ChipIdentity, KeyVersion};
pub use strict_limits::{LimitMode, LimitShare, LimitShares, StrictLimits};
pub use top_up::{
    TOP_UP_ARMED_FROM, TOP_UP_THRESHOLD, TopUp, TopUpOutcome, TopUpState, is_armed, top_up_due,
};
