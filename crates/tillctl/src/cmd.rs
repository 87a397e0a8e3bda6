//! One file per noun: what is asked, and how the answer is shown.

mod byte_order;
mod chip;
mod chip_enrol;
mod clock;
mod day_report;
mod enrol;
mod ledger;
mod reader;
mod sell;
mod status;
mod sync;
mod taps;
mod void;

use serde::Serialize;
use till_control::{Answer, Client, Request};

use crate::cli::{Cli, Noun};
use crate::exit::Exit;
use crate::failure::Failure;

/// What a command prints and how it ends.
#[derive(Debug)]
pub(crate) struct Report {
    /// One JSON object on one line.
    pub(crate) json: String,
    /// The same for people, lines with their ends.
    pub(crate) text: String,
    /// How the command ends.
    pub(crate) exit: Exit,
}

impl Report {
    fn new(answer: &impl Serialize, text: String, exit: Exit) -> Result<Report, Failure> {
        let json = serde_json::to_string(answer)?;
        Ok(Report { json, text, exit })
    }
}

/// Carries out a command.
pub(crate) async fn run(cli: &Cli) -> Result<Report, Failure> {
    match &cli.noun {
        Noun::Status => status::show(cli).await,
        Noun::Reader(verb) => reader::run(cli, verb).await,
        Noun::Chip(verb) => chip::run(cli, verb).await,
        Noun::Ledger(verb) => ledger::run(cli, *verb).await,
        Noun::Sync(verb) => sync::run(cli, *verb).await,
        Noun::Enrol { code } => enrol::enrol(cli, code).await,
        Noun::Sell { lines, timeout, id } => sell::sell(cli, lines, *timeout, *id).await,
        Noun::Void { sale, lines, id } => void::void(cli, *sale, lines, *id).await,
        Noun::X { day } => day_report::x(cli, *day).await,
        Noun::Z { day, id } => day_report::z(cli, *day, *id).await,
        Noun::Clock { verb } => clock::run(cli, *verb).await,
    }
}

/// Asks what changes nothing and can be asked again.
async fn ask(cli: &Cli, request: &Request) -> Result<Answer, Failure> {
    let mut client = connect(cli).await?;
    client.request(request).await.map_err(Failure::Control)
}

async fn connect(cli: &Cli) -> Result<Client, Failure> {
    Client::connect(&cli.socket).await.map_err(Failure::Control)
}

/// An answer that is not of the kind asked for: a refusal, or a daemon of another version.
fn refused(answer: Answer) -> Failure {
    if let Answer::Error(error) = answer {
        Failure::Refused(error)
    } else {
        Failure::OtherAnswer
    }
}
