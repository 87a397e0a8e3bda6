//! The project's own commands: try the till, test everything, measure it.
//!
//! Run as `cargo xtask …`. Depends on nothing that needs a system library, because it is what
//! installs them.

mod arguments;
mod bench;
mod chip;
mod demo;
mod http;
mod lunch;
mod packages;
mod part;
mod ports;
mod settings;
mod signal;
mod site;
mod soak;
mod suite;
mod till;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use arguments::{Command, HELP};

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("xtask: {error}\n\nSee: cargo xtask help");
            return ExitCode::from(USAGE);
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if signal::caught() => {
            eprintln!("xtask: stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::Demo(options) => demo::run(options),
        Command::Tap(options) => tap(options),
        Command::Test(options) => suite::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Simulate(words) => simulate(words),
        Command::Soak(options) => soak::run(options),
    }
}

/// Lays a chip on the demo's reader and takes it away again.
fn tap(options: &arguments::Tap) -> anyhow::Result<()> {
    let chip = chip::Chip::lay(options.port, &options.uid)?;
    println!("{} lies on the reader", options.number);
    std::thread::sleep(Duration::from_secs(u64::from(options.seconds)));
    let answered = chip.take_away();
    if answered == 0 {
        anyhow::bail!(
            "nobody read the chip in {} s; is the till running (cargo xtask demo)?",
            options.seconds
        );
    }
    println!("{} was read and taken away", options.number);
    Ok(())
}

/// Runs seeded worlds, built for speed.
fn simulate(words: &[String]) -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--profile", "simulation"]);
    cargo.args(["--package", "simulation", "--bin", "simulate", "--"]);
    let status = cargo.args(words).status();
    let status = status.context("failed to run cargo")?;
    anyhow::ensure!(status.success(), "the simulation ended with {status}");
    Ok(())
}

/// The exit code of a command line that cannot be understood.
const USAGE: u8 = 2;
/// The exit code after Ctrl-C, as shells write it.
const INTERRUPTED: u8 = 130;
