//! Holds a central server to the protocol between till and hub: plays a till against its address
//! and tells, case by case, whether it does what a till relies on.
//!
//! The suite knows nothing of the hub but its address, a till's name and the one-time code for it.
//! It buys for a few kroner on an account of the till's own replica, so let it loose on a hub with
//! demo data only. What it does ends with a fork of the played till's ledger: give the till a new
//! code afterwards, or forget it.

mod cases;
mod link;
mod played_till;
mod verdict;

use anyhow::Context;
use sync_proto::TillId;

pub use verdict::{Report, Verdict};

/// Which hub, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The hub's address, for example `https://hub.example`.
    pub url: String,
    /// The till to play.
    pub till: TillId,
    /// The one-time code that the hub made for it.
    pub code: String,
}

/// Plays a till and reports every case. An error means that it could not even begin.
pub async fn run(target: &Target, told: impl FnMut(&Report)) -> anyhow::Result<Vec<Report>> {
    let till = played_till::PlayedTill::enrol(target)
        .await
        .context("the till cannot be enrolled")?;
    cases::run_all(till, told).await
}
