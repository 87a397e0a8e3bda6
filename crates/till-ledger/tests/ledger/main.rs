//! The ledger through its public face, on real files.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod handle;
mod model;
mod offline_balance;
mod record;
mod sync;
mod world;
