#![no_std]
//! What a till and its own chip reader say to each other over a serial line.
//!
//! `SPEC.md` is the protocol, to be implemented from alone; this crate is the codec for both sides
//! ([`frame`], [`message`]) and the reader's side as a state machine ([`device`]), used by real
//! firmware and by the simulated reader alike. Nothing here allocates, blocks or knows a clock.

pub mod device;
pub mod frame;
pub mod message;
