//! The automatic top-up: a hub, a card gateway, and accounts that share one card.
//!
//! A tick of the model's clock is as long as a charge may be under way at most when the scope's
//! transit is 1. All ages stop counting where they can make no difference any more, so the model
//! has no horizon: it runs on for ever in finitely many states.
//!
//! - **The network** may lose a request, or bring it at any time within the transit.
//!   An answer reaches the hub, or the hub stops waiting for it: that is loss and delay at once.
//! - **Crashes** of the hub may happen between any two steps; what it had not written is gone.
//! - **The gateway** looks charges up by reference (assumption A1), perhaps only some time after
//!   it made them (the rules bear a lag as long as the window, and no longer), refuses a second charge of the
//!   same amount on the same card within the window, and may decline.
//!
//! When a purchase fires a top-up is not a copy: it is [`canteen::top_up_due`].

mod action;
mod gateway;
mod recovery;
mod rows;
mod rules;
mod telling;
mod turn;
mod world;

pub use action::Action;
pub use gateway::{Charge, Gateway, Reference, Request, Verdict};
pub use rows::{rows, walks};
pub use rules::{
    AfterTimeout, Booking, Credit, Identical, NotFound, Rules, Scope, Spacing, Triggers, Write,
};
pub use turn::{Hand, Stage, Turn};
pub use world::{Holding, TopUps, World};

/// At most one approved charge per top-up (INV-13).
pub const ONE_CHARGE: &str = "INV-13";

/// Once everything has been recovered, what was charged was credited or refunded, and the other
/// way round (INV-14).
pub const CREDITED: &str = "INV-14";

/// At most one active top-up per account (INV-15).
pub const ONE_ACTIVE: &str = "INV-15";

/// The hub never provokes the refusal of an identical charge (INV-16).
pub const UNPROVOKED: &str = "INV-16";

/// Nothing is ever credited to a blocked account.
pub const NO_CREDIT_WHEN_BLOCKED: &str = "TOP-28";
