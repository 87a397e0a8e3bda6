//! Why a command was not carried out, what to do about it and how the command then ends.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use canteen::{BasketError, ChipNumberError};
use serde::Serialize;
use thiserror::Error;
use till_control::{ControlError, ErrorAnswer, ErrorCode};
use uuid::Uuid;

use crate::exit::Exit;

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A `--line` that is no line of a sale.
    #[error("cannot read --line {line:?}")]
    Line {
        line: String,
        #[source]
        source: BasketError,
    },
    /// The lines cannot be sold together.
    #[error("cannot sell these lines together")]
    Basket(#[source] BasketError),
    /// The text is no chip number.
    #[error("cannot read the chip number {number:?}")]
    ChipNumber {
        number: String,
        #[source]
        source: ChipNumberError,
    },
    /// The text is no number of a chip in any shape.
    #[error("{number:?} is no chip number in any shape: neither hex digits nor a decimal")]
    ForeignNumber { number: String },
    /// The file with foreign numbers cannot be read.
    #[error("cannot read the list {}", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nobody tapped a chip in time.
    #[error("no chip was tapped within {seconds} s")]
    NoTap { seconds: u64 },
    /// The till's settings do not say where the hub is.
    #[error("cannot read in {} where the hub is: {why}", path.display())]
    Settings {
        /// The settings.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no operator's token.
    #[error("cannot read the operator's token: {why}")]
    Token {
        /// What is wrong.
        why: String,
    },
    /// A random UID was not confirmed.
    #[error("a random UID cannot be undone, and was not confirmed; nothing was written")]
    NotConfirmed,
    /// The chip hides its UID from this till.
    #[error("the chip shows a random UID that no key of this till opens; nothing was written")]
    HiddenUid,
    /// The hub was not asked, or gave no answer.
    #[error("the hub does not answer ({why})")]
    HubSilent {
        /// What is wrong.
        why: String,
    },
    /// The hub refused.
    #[error("the hub refuses ({status}): {detail}")]
    HubRefused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// The chip holds the new keys, and the hub does not know it.
    #[error("the chip holds its keys, but the hub was not told")]
    NotRegistered(#[source] Box<Failure>),
    /// The daemon cannot be asked.
    #[error(transparent)]
    Control(ControlError),
    /// The daemon took the sale and then fell silent.
    #[error("it is not known whether sale {id} was booked")]
    SaleUnknown {
        id: Uuid,
        #[source]
        source: ControlError,
    },
    /// The daemon took the void and then fell silent.
    #[error("it is not known whether sale {sale} was taken back")]
    VoidUnknown {
        sale: Uuid,
        id: Uuid,
        #[source]
        source: ControlError,
    },
    /// The daemon took the order for a Z report and then fell silent.
    #[error("it is not known whether the Z report was written")]
    ReportUnknown {
        id: Uuid,
        #[source]
        source: ControlError,
    },
    /// The daemon refused.
    #[error("{}", .0.message)]
    Refused(ErrorAnswer),
    /// The daemon answered something else than was asked.
    #[error("tilld answered something else than was asked")]
    OtherAnswer,
    /// The answer cannot be printed.
    #[error("cannot print the answer as JSON")]
    Print(#[from] serde_json::Error),
    /// The system refused what every program needs.
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl Failure {
    /// The message with its causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What is wrong with an enrolment, for the canteen: in Danish, before the rest.
    pub(crate) fn danish(&self) -> Option<&'static str> {
        match self {
            Failure::NotConfirmed => Some("Tilfældigt UID blev ikke bekræftet. Intet er skrevet."),
            Failure::HiddenUid => Some(
                "Chippen skjuler sit UID. Intet er skrevet. Skriv dets UID med --chip (står på kontoen).",
            ),
            Failure::NotRegistered(_) => Some(
                "Chippen har fået sine nøgler, men hubben ved det ikke. Kør samme kommando igen.",
            ),
            Failure::Refused(error) => danish(error.code),
            Failure::Line { .. }
            | Failure::Basket(_)
            | Failure::ChipNumber { .. }
            | Failure::ForeignNumber { .. }
            | Failure::List { .. }
            | Failure::NoTap { .. }
            | Failure::Settings { .. }
            | Failure::Token { .. }
            | Failure::HubSilent { .. }
            | Failure::HubRefused { .. }
            | Failure::Control(_)
            | Failure::SaleUnknown { .. }
            | Failure::VoidUnknown { .. }
            | Failure::ReportUnknown { .. }
            | Failure::OtherAnswer
            | Failure::Print(_)
            | Failure::Start(_) => None,
        }
    }

    /// What a person can do about it, where the message does not say so itself; may be empty.
    pub(crate) fn advice(&self) -> String {
        match self {
            Failure::SaleUnknown { id, .. } => format!(
                "repeat the same command with --id {id}: it never sells twice and tells what \
                 became of the sale"
            ),
            Failure::VoidUnknown { id, .. } => format!(
                "repeat the same command with --id {id}: it never takes anything back twice and \
                 tells what became of the void"
            ),
            Failure::ReportUnknown { id, .. } => format!(
                "repeat the same command with --id {id}: it never writes twice and prints the \
                 report if it was written"
            ),
            Failure::Refused(error) => error.advice.clone(),
            Failure::OtherAnswer => "tillctl and tilld should be of the same version".to_owned(),
            Failure::NoTap { .. } => {
                "see `tillctl reader list`, then try again and hold the chip to a reader".to_owned()
            }
            Failure::NotConfirmed => "answer JA, or give --yes".to_owned(),
            Failure::HiddenUid => {
                "give its real UID with --chip; the hub shows it at the account".to_owned()
            }
            Failure::HubRefused { status: 401, .. } => {
                "use a token that the hub's settings know".to_owned()
            }
            Failure::NotRegistered(_) => {
                "give the same command again: what is written is not written twice".to_owned()
            }
            Failure::Control(ControlError::Missing { .. } | ControlError::NotRunning { .. }) => {
                "see why with `systemctl status tilld` and `journalctl -u tilld`".to_owned()
            }
            Failure::List { .. }
            | Failure::Line { .. }
            | Failure::Basket(_)
            | Failure::ChipNumber { .. }
            | Failure::ForeignNumber { .. }
            | Failure::Settings { .. }
            | Failure::Token { .. }
            | Failure::HubSilent { .. }
            | Failure::HubRefused { .. }
            | Failure::Control(_)
            | Failure::Print(_)
            | Failure::Start(_) => String::new(),
        }
    }

    /// The stable word for it in `--json`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Failure::Line { .. } | Failure::Basket(_) => ErrorCode::BadLine.code(),
            Failure::ChipNumber { .. } | Failure::ForeignNumber { .. } => {
                ErrorCode::BadChipNumber.code()
            }
            Failure::List { .. } => "list_unreadable",
            Failure::NoTap { .. } => "no_tap",
            Failure::Settings { .. } => "settings_unreadable",
            Failure::Token { .. } => "no_token",
            Failure::NotConfirmed => "not_confirmed",
            Failure::HiddenUid => "hidden_uid",
            Failure::HubSilent { .. } => "hub_silent",
            Failure::HubRefused { .. } => "hub_refused",
            Failure::NotRegistered(_) => "not_registered",
            Failure::Control(error) => match error {
                ControlError::Denied { .. } => ErrorCode::Forbidden.code(),
                ControlError::Missing { .. }
                | ControlError::NotRunning { .. }
                | ControlError::Connect { .. }
                | ControlError::Closed
                | ControlError::Silent { .. } => "unavailable",
                ControlError::Answer(_) => ErrorCode::Internal.code(),
            },
            Failure::SaleUnknown { .. }
            | Failure::VoidUnknown { .. }
            | Failure::ReportUnknown { .. } => "outcome_unknown",
            Failure::Refused(error) => error.code.code(),
            Failure::OtherAnswer | Failure::Print(_) | Failure::Start(_) => {
                ErrorCode::Internal.code()
            }
        }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Line { .. }
            | Failure::Basket(_)
            | Failure::ChipNumber { .. }
            | Failure::ForeignNumber { .. }
            | Failure::List { .. }
            | Failure::Settings { .. }
            | Failure::Token { .. }
            | Failure::NotConfirmed => Exit::Usage,
            Failure::HiddenUid | Failure::HubRefused { .. } | Failure::NotRegistered(_) => {
                Exit::Findings
            }
            Failure::NoTap { .. } | Failure::HubSilent { .. } => Exit::Unavailable,
            Failure::Control(error)
            | Failure::SaleUnknown { source: error, .. }
            | Failure::VoidUnknown { source: error, .. }
            | Failure::ReportUnknown { source: error, .. } => control_exit(error),
            Failure::Refused(error) => refused_exit(error.code),
            Failure::OtherAnswer | Failure::Print(_) | Failure::Start(_) => Exit::Internal,
        }
    }
}

/// What the daemon refuses, where the canteen reads along.
fn danish(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::NoChip => "Der ligger ingen chip på læseren.",
        ErrorCode::ChipTorn => {
            "Chippen blev løftet for tidligt. Den er ikke ødelagt: læg den på igen, og kør kommandoen igen."
        }
        ErrorCode::ChipKind => {
            "Denne chip kan ikke få nøgler ved denne læser. Brug en NTAG 424 DNA eller en DESFire til kantiner; en MIFARE Ultralight AES kun ved PN532, TWN4, ACR122U eller den egne protokol."
        }
        ErrorCode::OtherCanteen => {
            "Chippen har en anden kantines nøgler og kan ikke bruges her. Intet er skrevet. Tag en anden chip."
        }
        ErrorCode::UnknownChipKey => {
            "Chippen har en nøgle, som ingen her kender. Intet er skrevet. Tag en anden chip."
        }
        ErrorCode::OtherChip => {
            "Der ligger en anden chip på læseren end den ventede. Intet er skrevet."
        }
        ErrorCode::ChipRefused => {
            "Chippen afviste det. Læg den på igen, og kør kommandoen igen; ellers tag en anden chip."
        }
        ErrorCode::BadRequest
        | ErrorCode::BadLine
        | ErrorCode::BadChipNumber
        | ErrorCode::UnknownSale
        | ErrorCode::VoidRefused
        | ErrorCode::DayToCome
        | ErrorCode::ClockDiffers
        | ErrorCode::NoReader
        | ErrorCode::Busy
        | ErrorCode::Forbidden
        | ErrorCode::JournalUnavailable
        | ErrorCode::Internal => return None,
    })
}

fn control_exit(error: &ControlError) -> Exit {
    match error {
        ControlError::Missing { .. }
        | ControlError::NotRunning { .. }
        | ControlError::Connect { .. }
        | ControlError::Closed
        | ControlError::Silent { .. } => Exit::Unavailable,
        ControlError::Denied { .. } => Exit::Denied,
        ControlError::Answer(_) => Exit::Internal,
    }
}

fn refused_exit(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::BadLine
        | ErrorCode::BadChipNumber
        | ErrorCode::DayToCome => Exit::Usage,
        ErrorCode::UnknownSale
        | ErrorCode::VoidRefused
        | ErrorCode::ClockDiffers
        | ErrorCode::ChipTorn
        | ErrorCode::ChipKind
        | ErrorCode::OtherCanteen
        | ErrorCode::UnknownChipKey
        | ErrorCode::OtherChip
        | ErrorCode::ChipRefused => Exit::Findings,
        ErrorCode::NoReader | ErrorCode::NoChip => Exit::Unavailable,
        ErrorCode::Busy => Exit::Busy,
        ErrorCode::Forbidden => Exit::Denied,
        ErrorCode::JournalUnavailable | ErrorCode::Internal => Exit::Internal,
    }
}

/// What `--json` prints when a command was not carried out.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorObject {
    error: ErrorDetails,
}

#[derive(Debug, Serialize)]
struct ErrorDetails {
    code: &'static str,
    message: String,
    advice: String,
}

impl ErrorObject {
    /// A command line that cannot be understood.
    pub(crate) fn usage(error: &clap::Error) -> ErrorObject {
        let rendered = error.render().to_string();
        // The first paragraph says what is wrong; the usage that follows is for people.
        let message = rendered.split("\n\n").next().unwrap_or_default();
        let message = message.trim_start_matches("error: ").trim();
        ErrorObject {
            error: ErrorDetails {
                code: "usage",
                message: message.to_owned(),
                advice: "see tillctl --help".to_owned(),
            },
        }
    }

    /// The object on one line.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("three texts are always JSON")
    }
}

impl From<&Failure> for ErrorObject {
    fn from(failure: &Failure) -> ErrorObject {
        ErrorObject {
            error: ErrorDetails {
                code: failure.code(),
                message: failure.chain(),
                advice: failure.advice(),
            },
        }
    }
}
