//! Why a chip proves nothing, or does not do what it is told.

use std::fmt;

use canteen::ChipIdError;
use thiserror::Error;

use crate::ChipFault;

/// Why a chip is not proven. None of these may be taken for a proof, nor be answered by falling
/// back to the bare UID of a chip that was enrolled with keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The exchange with the chip broke off; tells nothing about the chip.
    #[error(transparent)]
    Exchange(#[from] ChipFault),
    /// No random number could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The chip has no application of the site, or speaks no such commands at all.
    #[error(
        "the chip is none of this site's secured chips (it answers {status:04X} to the selection)"
    )]
    NoApplication {
        /// The chip's status word.
        status: u16,
    },
    /// The chip does not carry the site's mark.
    #[error("the chip is none of this site's secured chips (it does not carry their mark)")]
    NoMark,
    /// The chip knows its key and is set up so that others may find it out.
    #[error("the chip's settings leave its keys unprotected; have it set up again")]
    Unprotected,
    /// The chip has the application, but not as many keys as the site's chips.
    #[error("the chip was not set up for this site; have it enrolled")]
    NoSuchKey,
    /// The chip's keys are not the site's, of no version: another site's chip, a chip not set up,
    /// or a copy.
    #[error(
        "the chip has other keys than this site; refuse it, and have it enrolled again if it should be one of the site's"
    )]
    WrongKey,
    /// The till was not given this chip's key.
    #[error("the till has no key for this chip; check when the till last had contact with the hub")]
    NotListed,
    /// The chip agreed and could not show that it knows the key: an imitation, a replayed
    /// recording, or bytes changed on the way.
    #[error("the chip could not prove that it is genuine; try once more, then refuse it")]
    Forged,
    /// The chip makes its reader wait after too many wrong keys.
    #[error("the chip pauses after wrong keys; leave it on the reader until it answers again")]
    Pausing,
    /// The chip refused a step in another way.
    #[error("the chip refused {step} (it answers {status:04X})")]
    Refused {
        /// At which step.
        step: Step,
        /// The chip's status word.
        status: u16,
    },
    /// The answer does not have the shape that it must have.
    #[error(
        "the chip's answer to {step} cannot be right ({bytes} bytes); hold it still and try again"
    )]
    Malformed {
        /// At which step.
        step: Step,
        /// How long the answer was.
        bytes: usize,
    },
    /// The proven UID identifies nobody.
    #[error("the chip cannot be used: {0}")]
    Identity(#[from] ChipIdError),
    /// The counter of an authenticated stay has come to its end.
    #[error("too many messages with one chip; lift it and hold it to the reader again")]
    Exhausted,
}

/// No random number could be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the operating system gives no random numbers; restart the till")]
pub struct NoRandom;

/// A step of the talk with a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Choosing the application.
    Select,
    /// The chip's random number.
    Challenge,
    /// The reader's answer to it, and the chip's proof.
    Response,
    /// The real UID.
    CardUid,
    /// A message after the authentication.
    Message,
    /// The version that is written beside a key.
    KeyVersion,
    /// Writing a key.
    ChangeKey {
        /// The key's number.
        number: u8,
    },
    /// Switching the random UID on.
    RandomUid,
    /// Writing a page of a chip that has no applications.
    Page {
        /// The page's number.
        number: u8,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Page { number } => return write!(f, "the writing of its page {number:02X}"),
            Step::ChangeKey { number } => return write!(f, "its new key {number}"),
            Step::KeyVersion => "the question for a key's version",
            Step::RandomUid => "the change to random UIDs",
            Step::Select => "the selection",
            Step::Challenge => "the request for its random number",
            Step::Response => "the till's proof",
            Step::CardUid => "the request for its UID",
            Step::Message => "a message",
        })
    }
}
