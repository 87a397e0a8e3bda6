//! The technician's command: asks a till's daemon over its control socket and prints what it says.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | carried out, nothing wrong; for `sell`: approved |
//! | 1 | carried out, with findings: declined, chip unknown or not enrolled, reader faulty, … |
//! | 2 | the command line, a line of a sale or a chip number cannot be read |
//! | 69 | the daemon, or the reader that the order needs, is not there |
//! | 70 | anything else went wrong |
//! | 75 | another sale is under way: try again |
//! | 77 | the caller may not command this till |
//!
//! All decisions are the daemon's; there is one file per noun in `cmd/`.

mod cli;
mod cmd;
mod exit;
mod failure;
mod operator;
mod screen;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::cmd::Report;
use crate::exit::Exit;
use crate::failure::{ErrorObject, Failure};
use crate::screen::Screen;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Start)
        .and_then(|runtime| runtime.block_on(cmd::run(&cli)));
    match outcome {
        Ok(report) => print(&cli, &report),
        Err(failure) => refuse(&cli, &failure),
    }
}

fn print(cli: &Cli, report: &Report) -> ExitCode {
    if cli.json {
        write_stdout(&format!("{}\n", report.json));
    } else {
        write_stdout(&report.text);
    }
    report.exit.into()
}

fn refuse(cli: &Cli, failure: &Failure) -> ExitCode {
    if cli.json {
        write_stdout(&format!("{}\n", ErrorObject::from(failure).to_json()));
    } else {
        let mut text = String::new();
        if let Some(danish) = failure.danish() {
            text.push_str(&format!("{} {danish}\n", Screen::stderr().bad("fejl:")));
        }
        text.push_str(&format!(
            "{} {}\n",
            Screen::stderr().bad("error:"),
            failure.chain()
        ));
        let advice = failure.advice();
        if !advice.is_empty() {
            text.push_str(&format!("  {advice}\n"));
        }
        write_stderr(&text);
    }
    failure.exit().into()
}

/// Help and version are what was asked for; anything else is a usage error, which a program that
/// asked for JSON gets as JSON too.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        write_stdout(&format!("{}\n", ErrorObject::usage(error).to_json()));
    } else if error.print().is_err() {
        return Exit::Internal.into();
    }
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Fine.into()
    }
}

/// A reader of the output that has seen enough (`| head`) is no error.
fn write_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn write_stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
