//! A card gateway to develop and demonstrate against: a real HTTP server that takes no money.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;
use hub_payments::CardAgreement;
use hub_payments::simulator::{Opening, Simulator};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// A card gateway in the shape of Nexi Checkout that takes no money.
///
/// Point the hub's card gateway address at it. Open its address in a browser to see the charges
/// and how to script declines, lost answers and other faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The address and port to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,

    /// Let other machines in. There is no login on the control surface, so leave this off outside
    /// a closed test network.
    #[arg(long)]
    allow_remote: bool,

    /// Keep agreements and charges in this file, so that a restart forgets none of them.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Let only callers in that send the secret key in this file. Without it any key will do.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Start with this card agreement; may be given several times.
    #[arg(long = "agreement", value_name = "ID")]
    agreements: Vec<CardAgreement>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    ensure!(
        arguments.allow_remote || arguments.listen.ip().is_loopback(),
        "{} can be reached by other machines; use 127.0.0.1, or add --allow-remote",
        arguments.listen
    );
    run(arguments).await
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let opening = Opening {
        secret: arguments
            .secret_file
            .as_ref()
            .map(read_secret)
            .transpose()?,
        state_file: arguments.state,
        agreements: arguments.agreements,
    };
    let simulator = Simulator::open(arguments.listen, opening)
        .await
        .with_context(|| format!("cannot start on {}", arguments.listen))?;
    // On standard output and at once, since scripts wait for this line.
    writeln!(
        io::stdout(),
        "card-gateway-simulator listens on {}",
        simulator.url()
    )?;
    info!(url = simulator.url(), "Listening");
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    simulator.stop().await;
    info!("Stopped");
    Ok(())
}

fn read_secret(path: &PathBuf) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the secret key in {}", path.display()))?;
    let key = text.trim();
    ensure!(!key.is_empty(), "{} holds no secret key", path.display());
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent_and_bad_agreements_are_refused() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let parse = |agreement| {
            Arguments::try_parse_from(["card-gateway-simulator", "--agreement", agreement])
        };
        let arguments = parse("demo-card").expect("good arguments");
        assert!(arguments.listen.ip().is_loopback());
        assert!(parse("../x").is_err());
    }
}
