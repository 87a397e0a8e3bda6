//! Proofs that the till and its hub keep their promises: models, small enough that a checker can try
//! everything that may happen, and worlds with the real stores.
//!
//! [`ceilings`] is the offline protocol: a hub and a few tills that sell from one account while
//! messages are lost, repeated, late and out of order, images are cloned and the hub is restored
//! from a backup. [`top_up`] is the automatic top-up: a hub, a card gateway and two accounts on
//! one card, with crashes and lost answers. Each of the two is checked twice: exhaustively in small scopes
//! ([`check`]) and by seeded walks in larger ones ([`walk`]). [`strict_limits`] is how tills share a
//! limit that is never exceeded, checked exhaustively.
//!
//! [`world`] is not a model: it is the real stores of tills and hub in one process, with lines, clocks
//! and disks that fail as a seed says, held against a plain reference after every step.
//!
//! A [`rows`] table names what must hold and, just as important, which wrong variants of the
//! rules must be caught: a checker that finds nothing proves nothing. What is promised
//! has a name, such as INV-4, which a broken promise is told by.

mod chance;

pub mod ceilings;
pub mod check;
pub mod rows;
pub mod strict_limits;
pub mod top_up;
pub mod walk;
pub mod world;
