//! The till in a canteen of real processes: its daemon, the hub, the card gateway simulator, the
//! real pcscd with a virtual reader, and `tillctl` as its users run it.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod backlog;
mod bad_input;
mod card;
mod chip_enrolment;
mod clock;
mod crash;
mod disk_short;
mod hard_cases;
mod line_down;
mod load;
mod lunch;
mod proof;
mod readers;
mod restored_hub;
mod rig;
mod runbook;
mod siblings;
mod signed;
mod strict_limits;
mod technician;
mod tls_door;
mod top_up;
mod ultralight;
mod ultralight_enrolment;
