//! Strict limits: a hub and a few tills that sell of one account's limit of a day, over some days.
//!
//! What is abstracted, and why nothing is lost by it:
//!
//! - **The network.** The hub takes a journal in entry by entry whenever it likes or never, and
//!   pages reach a till late or never: that is loss, reordering and partition at once. Repetition
//!   is the business of [`crate::ceilings`], whose rules about entries and pages hold here, too.
//! - **Windows.** A week and a month are longer days, and each has shares of its own.
//! - **Money** is plenty: what is left of it bounds a sale by itself. Only a till that has not heard
//!   that the limit is strict sells as far as its ceiling of money reaches.
//!
//! Every clock goes forward by itself: the hub's and the tills' may be days apart. The till's decision
//! about its share is not a copy: it is [`canteen::StrictLimits::left`].

mod rows;
mod rules;
mod world;

pub use rows::rows;
pub use rules::{Counting, Earlier, Heard, Later, Program, Room, Rules, Scope, Turn};
pub use world::{Action, Entry, Hub, Page, StrictLimit, Till, World};

/// Amounts of the model: whole kroner, few of them.
pub type Kroner = i16;

/// On no day on which anything was sold by a share is more sold than the limit (INV-5, LIM-05).
pub const LIMIT: &str = "LIMIT";

/// What a till has sold and not sent, and may still sell, on the hub's day or a later one, is never
/// more than the hub reckons with.
pub const RECKONED: &str = "RECKONED";
