//! The offline protocol: a hub and a few tills that sell from one account.
//!
//! What is abstracted, and why nothing is lost by it:
//!
//! - **The network.** The hub may take in any slice of a till's journal at any time, repeatedly or
//!   never: that is loss, repetition, reordering and partition at once. Feed pages lie in a set
//!   and may reach a till late, repeatedly or never.
//! - **Crashes.** Every step of a till or of the hub is one durable transaction, so a crash means
//!   that the step happened or that it did not.
//! - **Money** is a few kroner, and one account: ceilings of different accounts never touch.
//!
//! One limit is known and kept as a row (I8): when a till is cloned and the hub is restored to a
//! moment before it could tell the two apart, the clone may speak for both, and the overspend is no
//! longer bounded by R + C but by what the forgotten branch has sold since the backup.
//!
//! The till's decision is not a copy: it is [`canteen::decide`].

mod action;
mod claims;
mod hub;
mod promises;
mod rows;
mod rules;
mod telling;
mod till;
mod walks;
mod world;

pub use action::Action;
pub use hub::{Hub, Standing};
pub use rows::rows;
pub use rules::{
    AfterRestore, Cap, Counting, FeedAck, Ingest, KeepAck, Overlay, Payouts, Prune, Room, Rules,
    Scope,
};
pub use till::{Cursor, Entry, EntryId, Kind, Page, Till};
pub use walks::walks;
pub use world::{Ceilings, Left, World};

/// Amounts of the model: whole kroner, few of them.
pub type Kroner = i16;

/// The true balance never falls below the claimed bound (INV-4).
pub const BOUND: &str = "BOUND";

/// No entry is booked twice (INV-2).
pub const ONCE: &str = "ONCE";

/// What the hub acknowledges to a till is booked (INV-3).
pub const ACKSAFE: &str = "ACKSAFE";

/// From every reachable state a sync without losses books every served sale exactly once and
/// leaves the account with exactly the money it should have (INV-1, INV-2).
pub const DRAIN: &str = "DRAIN";

/// What a till has sold and not sent, and may still sell, is never more than the hub reckons with
/// (the lemma (i) under INV-4).
pub const COVERED: &str = "COVERED";
