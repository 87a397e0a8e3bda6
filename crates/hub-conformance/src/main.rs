//! The command that holds a hub to the protocol.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use hub_conformance::{Target, Verdict, run};
use sync_proto::TillId;

/// Plays a till against a hub and reports whether it keeps to the protocol, case by case.
///
/// For a hub with demo data: the played till buys for a few kroner, and its ledger is forked at the
/// end. Make a till for it and hand over its one-time code.
///
/// Exit codes: 0 every case that was tried holds, 1 a case is violated, 2 the command line is
/// wrong, 3 the suite could not begin.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The hub's address, for example http://127.0.0.1:8080.
    #[arg(long)]
    hub: String,
    /// The till to play, as the hub knows it.
    #[arg(long)]
    till: TillId,
    /// The one-time code that the hub made for the till.
    #[arg(long)]
    code: String,
}

fn main() -> ExitCode {
    match play(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hub-conformance: {error:#}");
            ExitCode::from(COULD_NOT_BEGIN)
        }
    }
}

fn play(arguments: Arguments) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS implementation is installed already"))?;
    let target = Target {
        url: arguments.hub.trim_end_matches('/').to_owned(),
        till: arguments.till,
        code: arguments.code,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let reports = runtime.block_on(run(&target, |report| println!("{report}")))?;
    let count = |is: fn(&Verdict) -> bool| reports.iter().filter(|r| is(&r.verdict)).count();
    let violated = count(|verdict| matches!(verdict, Verdict::Violated(_)));
    println!(
        "\n{} hold, {violated} violated, {} not tried",
        count(|verdict| *verdict == Verdict::Holds),
        count(|verdict| matches!(verdict, Verdict::NotTried(_)))
    );
    Ok(if violated == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const COULD_NOT_BEGIN: u8 = 3;
