//! The real command against a socket that answers as it is told: what is printed, and the exit
//! codes that the help promises.

// Clippy allows it in tests, but does not see that all of this file is one.
#![allow(clippy::unwrap_used)]

mod chip;
mod clock;
mod daemon;
mod day_report;
mod hub;
mod ledger;
mod reader;
mod refusals;
mod sell;
mod status;
mod void;
