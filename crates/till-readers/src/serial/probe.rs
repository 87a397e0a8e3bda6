//! Greets what is on a serial line, to find out what it speaks.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Protocol;
use super::conversation::Happening;
use super::port::{exchange, open_serial};
use crate::ReaderFault;

/// Whether a reader on the line answers in this protocol: it is talked to as it would be for good,
/// until it works, is given up, or time is over.
pub(crate) fn answers(path: &Path, protocol: Protocol) -> Result<bool, ReaderFault> {
    let Some(baud) = protocol.baud() else {
        return Ok(false);
    };
    let mut port = open_serial(path, baud)?;
    let begin = Instant::now();
    let mut conversation = protocol.conversation(begin);
    while begin.elapsed() < LONGEST_GREETING && conversation.fault().is_none() {
        let talk = exchange(&mut port, conversation.as_mut());
        talk.map_err(|error| ReaderFault::LineFailed {
            reason: error.to_string(),
        })?;
        while let Some(happening) = conversation.poll_happening() {
            if matches!(happening, Happening::Opened { .. }) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Some readers begin to work only when their line is opened.
const LONGEST_GREETING: Duration = Duration::from_secs(4);
