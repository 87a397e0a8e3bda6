//! `tillctl chip enrol`: the canteen's keys for the chip on a reader.
//!
//! In this order, so that the command may be given again wherever it broke off: the keys are
//! written and proven, the hub is told, and only then a random UID is switched on. A chip that
//! hides its UID is always one that the hub knows.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use canteen::{ChipId, ChipIdError, ChipNumber, ChipNumberError, NumberShape};
use serde::Serialize;
use sync_proto::EnrolmentKeys;
use till_control::{
    Answer, ChipEnrolAnswer, ChipLookAnswer, Client, ErrorAnswer, ErrorCode, Held, Request,
};

use crate::cli::{Cli, EnrolChip};
use crate::cmd::{Report, connect, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::screen::Screen;

/// What became of the chip.
#[derive(Debug, Serialize)]
struct Done {
    chip: String,
    account: i64,
    version: u8,
    before: Held,
    written: Vec<u8>,
    random_uid: bool,
}

pub(crate) async fn enrol(cli: &Cli, wanted: &EnrolChip) -> Result<Report, Failure> {
    let named = wanted.chip.as_deref().map(named_chip).transpose()?;
    let operator = Operator::new(&wanted.settings, wanted.token_file.as_deref())?;
    if wanted.random_uid && !wanted.yes {
        confirm(cli)?;
    }
    let mut reader = Bench {
        client: connect(cli).await?,
        wanted,
        is_quiet: cli.json,
    };
    reader.say(LAY);
    let found = reader.wait_for_chip().await?;
    let chip = match (found.uid, named) {
        (Some(shown), Some(named)) if shown != named => return Err(other_chip()),
        (Some(chip), _) | (None, Some(chip)) => chip,
        (None, None) => return Err(Failure::HiddenUid),
    };
    let keys = operator
        .chip_keys(wanted.account, &chip, found.kind)
        .await?;
    let done = reader.write(&found, chip, &keys, false).await?;
    operator
        .register(wanted.account, &chip, done.version)
        .await
        .map_err(|error| Failure::NotRegistered(Box::new(error)))?;
    if wanted.random_uid {
        reader.write(&found, chip, &keys, true).await?;
    }
    report(wanted, done)
}

/// The till's reader, and who waits for the chip on it.
struct Bench<'a> {
    client: Client,
    wanted: &'a EnrolChip,
    is_quiet: bool,
}

impl Bench<'_> {
    /// Says it on the screen, which a program that wants JSON has none of.
    fn say(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer, Failure> {
        let answer = self.client.request(request).await;
        match answer.map_err(Failure::Control)? {
            Answer::Error(error) => Err(Failure::Refused(error)),
            answer => Ok(answer),
        }
    }

    async fn wait_for_chip(&mut self) -> Result<ChipLookAnswer, Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.wanted.timeout);
        let request = Request::ChipLook {
            reader: self.wanted.reader.clone(),
        };
        loop {
            match self.ask(&request).await {
                Ok(Answer::ChipLook(found)) => return Ok(found),
                Ok(answer) => return Err(refused(answer)),
                Err(Failure::Refused(error)) if is_passing(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Has the keys written; a chip that is lifted meanwhile is waited for.
    async fn write(
        &mut self,
        found: &ChipLookAnswer,
        chip: ChipId,
        keys: &EnrolmentKeys,
        random_uid: bool,
    ) -> Result<ChipEnrolAnswer, Failure> {
        let request = Request::ChipEnrol {
            reader: found.reader.clone(),
            kind: found.kind,
            chip,
            keys: keys.clone(),
            random_uid,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.ask(&request).await {
                Ok(Answer::ChipEnrol(done)) => return Ok(done),
                Ok(answer) => return Err(refused(answer)),
                Err(Failure::Refused(error))
                    if error.code == ErrorCode::ChipTorn && tries < TRIES =>
                {
                    self.say(LIFTED);
                    let again = self.wait_for_chip().await?;
                    if again.uid.is_some_and(|uid| uid != chip) || again.reader != found.reader {
                        return Err(other_chip());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether it may be otherwise in a moment.
fn is_passing(error: &ErrorAnswer) -> bool {
    matches!(error.code, ErrorCode::NoChip | ErrorCode::ChipTorn)
}

fn named_chip(text: &str) -> Result<ChipId, Failure> {
    let named = match ChipNumber::parse(text) {
        Ok(ChipNumber::Chip(chip)) => Ok(chip),
        // A UID of 7 bytes may happen to have no letter.
        Ok(ChipNumber::Card(_)) => {
            let uid = NumberShape::Hex.read(text);
            uid.map_err(|_| ChipNumberError::Identity(ChipIdError::Blank))
        }
        Err(error) => Err(error),
    };
    named.map_err(|source| Failure::ChipNumber {
        number: text.to_owned(),
        source,
    })
}

fn confirm(cli: &Cli) -> Result<(), Failure> {
    if cli.json || !io::stdin().is_terminal() {
        return Err(Failure::NotConfirmed);
    }
    eprint!("{CONFIRM}");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "ja" | "yes") => Ok(()),
        _ => Err(Failure::NotConfirmed),
    }
}

fn other_chip() -> Failure {
    Failure::Refused(ErrorAnswer::new(
        ErrorCode::OtherChip,
        "another chip lies on the reader than the one to be enrolled; nothing was written on it",
        "lay only the chip that is meant there, and give the command again",
    ))
}

fn report(wanted: &EnrolChip, done: ChipEnrolAnswer) -> Result<Report, Failure> {
    let done = Done {
        chip: done.chip.to_string(),
        account: wanted.account,
        version: done.version,
        before: done.before,
        written: done.written,
        random_uid: wanted.random_uid,
    };
    Report::new(&done, text(&done, Screen::stdout()), Exit::Fine)
}

fn text(done: &Done, screen: Screen) -> String {
    let (da, en) = match (done.before, done.written.is_empty()) {
        (Held::Factory, _) => ("ny chip", "a new chip"),
        (_, true) => ("havde nøglerne allerede", "held the keys already"),
        (Held::Version, false) => ("havde ældre nøgler", "held older keys"),
        (Held::Mixed, false) => (
            "var blevet afbrudt før",
            "an enrolment had broken off before",
        ),
    };
    let (da_uid, en_uid) = match done.random_uid {
        true => (
            " Den viser fra nu af et nyt UID, hver gang.",
            " It shows another UID each time from now on.",
        ),
        false => ("", ""),
    };
    let Done {
        chip,
        account,
        version,
        ..
    } = done;
    format!(
        "{}: chippen {chip} beviser sig fra nu af med nøgleversion {version} på konto {account} \
         ({da}).{da_uid} Den må løftes; kassen kender den om få sekunder.\n\
         {}: the chip {chip} proves itself by keys of version {version} on account {account} from \
         now on ({en}).{en_uid} It may be lifted; the till knows it in a few seconds.\n",
        screen.good("Færdig"),
        screen.good("Done"),
    )
}

const LAY: &str = "\
Læg chippen på læseren, og lad den ligge, til der står Færdig. Løftes den for tidligt, er den ikke
ødelagt: læg den på igen. Kommandoen kan altid køres igen.
Lay the chip on the reader and leave it there until it says Done. A chip that is lifted too early is
not broken: lay it there again. The command may be given again at any time.";
const LIFTED: &str = "\
Chippen blev løftet. Læg den samme chip på igen; der fortsættes, hvor det slap.
The chip was lifted. Lay the same chip on the reader again; it goes on where it broke off.";
const CONFIRM: &str = "\
Tilfældigt UID kan ALDRIG gøres om, og andre systemer (døre, print) kender så ikke chippen længere.
A random UID can NEVER be undone, and other systems (doors, printers) no longer know the chip.
Skriv JA / type YES: ";
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A chip that breaks off each time is a bad one.
const TRIES: u32 = 8;
