//! The ledger through its public face, on real files.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod day_report;
mod handle;
mod hard_cases;
mod model;
mod offline_balance;
mod record;
mod siblings;
mod strict_limits;
mod sync;
mod world;
