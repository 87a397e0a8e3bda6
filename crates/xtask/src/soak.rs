//! `cargo xtask soak`: three real tills and one hub under fire, for as long as is wanted.

use anyhow::ensure;

use crate::arguments::Soak;
use crate::packages;
use crate::workspace;

/// Runs the soak test of `tilld` and shows what it says.
pub(crate) fn run(options: &Soak) -> anyhow::Result<()> {
    packages::require(packages::FOR_DEMO, options.no_install)?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--quiet", "--package", "tilld", "--test", "soak"])
        .args(["--", "--nocapture"])
        .env("SOAK_SECONDS", (options.minutes * 60).to_string());
    if let Some(seed) = options.seed {
        cargo.env("SEED", seed.to_string());
    }
    let status = cargo.status()?;
    ensure!(
        status.success(),
        "the soak has failed; what is wrong, and the seed, stand above"
    );
    Ok(())
}
