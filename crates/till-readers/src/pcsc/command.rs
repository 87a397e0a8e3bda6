//! One command to a chip through the `pcsc` crate, and what its answers and errors mean.

use std::ffi::CStr;

use canteen::ChipIdentity;
use chip_keys::SiteKeys;
use pcsc::{Card, Context, Disposition, Error, Protocols, ShareMode, Transaction};

use super::{acr122, names};
use crate::auth::{self, ChipReport, ChipTask, EnrolError, Exchange, Shown, Speaks};
use crate::{ChipFault, Signal};

/// Why a command brought nothing, and whether another try may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) fault: ChipFault,
    pub(super) next: Next,
}

/// What to do after [`Trouble`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The answer would be the same.
    Stop,
    /// The field was weak: try again.
    Retry,
    /// The exchange failed in a way that can stick to the chip: cut its power, then try again.
    RetryUnpowered,
    /// The connection to the service is dead for ever: try again over a new one.
    RetryAnew,
}

/// Finds out who the chip on `reader` is, alone with it.
pub(super) fn identify(
    context: &Context,
    reader: &CStr,
    keys: &[SiteKeys],
    after: Disposition,
) -> Result<ChipIdentity, Trouble> {
    let mut card = context
        .connect(reader, ShareMode::Shared, Protocols::ANY)
        .map_err(Trouble::of)?;
    let speaks = if keys.is_empty() {
        Speaks::Nothing
    } else {
        speaks(&card, reader)
    };
    let told = alone(&mut card, |transaction| {
        let uid = uid_in(&transmit(transaction, &READ_UID).map_err(Trouble::of)?)?;
        let shown = Shown { uid, speaks };
        let mut trouble = None;
        let mut say = |command: &[u8]| say(transaction, command, &mut trouble);
        identify_by(&mut say, keys, &shown).map_err(|fault| {
            let next = match fault {
                ChipFault::Identity(_) | ChipFault::Several => Next::Stop,
                _ => Next::Retry,
            };
            trouble.unwrap_or(Trouble { fault, next })
        })
    });
    leave(card, after);
    told
}

/// As in [`identify`], within the transaction.
fn identify_by(
    say: &mut Exchange<'_>,
    keys: &[SiteKeys],
    shown: &Shown,
) -> Result<ChipIdentity, ChipFault> {
    if shown.speaks != Speaks::Frames || !shown.may_prove(keys) {
        return auth::identify(say, keys, shown, &mut auth::os_random);
    }
    let Some(mut chip) = acr122::select(say)? else {
        return shown.claim();
    };
    let shown = chip.shown.clone();
    let mut exchange = |frame: &[u8]| chip.exchange(say, frame);
    let told = auth::identify(&mut exchange, keys, &shown, &mut auth::os_random);
    chip.leave(say);
    told
}

/// Does a task with the chip on `reader`, alone with it.
pub(super) fn work(
    context: &Context,
    reader: &CStr,
    keys: &[SiteKeys],
    task: &ChipTask,
) -> Result<Result<ChipReport, EnrolError>, Trouble> {
    let mut card = context.connect(reader, ShareMode::Shared, Protocols::ANY)?;
    let speaks = speaks(&card, reader);
    let told = alone(&mut card, |transaction| {
        let uid = uid_in(&transmit(transaction, &READ_UID)?)?;
        let shown = Shown { uid, speaks };
        let mut trouble = None;
        let mut say = |command: &[u8]| say(transaction, command, &mut trouble);
        let done = work_by(&mut say, keys, &shown, task);
        match trouble {
            Some(trouble) => Err(trouble),
            None => Ok(done),
        }
    });
    leave(card, Disposition::LeaveCard);
    told
}

/// As in [`work`], within the transaction.
fn work_by(
    say: &mut Exchange<'_>,
    keys: &[SiteKeys],
    shown: &Shown,
    task: &ChipTask,
) -> Result<ChipReport, EnrolError> {
    if shown.speaks != Speaks::Frames {
        return task.run(say, keys, shown, &mut auth::os_random);
    }
    let mut chip = acr122::select(say)?.ok_or(EnrolError::Reader)?;
    let shown = chip.shown.clone();
    let mut exchange = |frame: &[u8]| chip.exchange(say, frame);
    let done = task.run(&mut exchange, keys, &shown, &mut auth::os_random);
    chip.leave(say);
    done
}

/// One command to the chip and its whole answer; notes what the service met.
fn say(
    transaction: &Transaction<'_>,
    command: &[u8],
    trouble: &mut Option<Trouble>,
) -> Result<Vec<u8>, ChipFault> {
    match transmit(transaction, command) {
        // A chip that is torn away leaves an empty answer, or one without its status.
        Ok(answer) if answer.len() < STATUS => Err(ChipFault::HoldStill),
        Ok(answer) => Ok(answer),
        Err(error) => {
            let met = trouble.insert(Trouble::of(error));
            Err(met.fault.clone())
        }
    }
}

/// What can be sent to the chip through this reader.
fn speaks(card: &Card, reader: &CStr) -> Speaks {
    match card.status2_owned() {
        Ok(status) => speaks_by(status.atr(), &reader.to_string_lossy()),
        Err(_) => Speaks::Nothing,
    }
}

/// APDUs, unless the answer to reset is that of a storage chip (PC/SC part 3, 3.1.3.2.3.2). What a
/// reader makes of a command for such a chip differs from maker to maker, and PC/SC has no common way
/// to send it a frame: only where the reader is known to have one is it spoken to.
fn speaks_by(atr: &[u8], reader: &str) -> Speaks {
    let Some(at) = atr
        .windows(STORAGE_CHIP.len())
        .position(|part| part == STORAGE_CHIP)
    else {
        return Speaks::Apdus;
    };
    // Behind it the standard's number, then the chip's name.
    match atr.get(at + STORAGE_CHIP.len()..) {
        Some(&[_, high, low, ..])
            if names::is_acr122(reader) && acr122::may_take_frames([high, low]) =>
        {
            Speaks::Frames
        }
        Some(_) | None => Speaks::Nothing,
    }
}

/// Shows a signal on an ACR122U, which needs a chip in its field for it.
pub(super) fn show(context: &Context, reader: &CStr, signal: Signal) -> Result<(), Error> {
    let command = match signal {
        Signal::Approved => ACR122_APPROVED,
        Signal::Declined => ACR122_DECLINED,
        // Its light shows by itself whether a chip lies on it.
        Signal::Waiting | Signal::Idle => return Ok(()),
    };
    exchange(context, reader, &command, Disposition::LeaveCard).map(drop)
}

fn exchange(
    context: &Context,
    reader: &CStr,
    command: &[u8],
    after: Disposition,
) -> Result<Vec<u8>, Error> {
    let mut card = context.connect(reader, ShareMode::Shared, Protocols::ANY)?;
    let answer = alone(&mut card, |transaction| transmit(transaction, command));
    leave(card, after);
    answer
}

/// Talks to a chip while no other program may.
fn alone<T, E: From<Error>>(
    card: &mut Card,
    talk: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = card.transaction()?;
    let told = talk(&transaction);
    if let Err((transaction, error)) = transaction.end(Disposition::LeaveCard) {
        tracing::debug!(%error, "Could not end a transaction");
        drop(transaction);
    }
    told
}

fn transmit(transaction: &Transaction<'_>, command: &[u8]) -> Result<Vec<u8>, Error> {
    let mut room = [0; LONGEST_ANSWER];
    transaction.transmit(command, &mut room).map(<[u8]>::to_vec)
}

/// A card that is merely dropped is reset, and a random UID would change by that.
fn leave(card: Card, after: Disposition) {
    if let Err((card, error)) = card.disconnect(after) {
        tracing::debug!(%error, "Could not disconnect from a chip");
        drop(card);
    }
}

/// The UID in the answer to [`READ_UID`]; a chip that is torn away leaves short and empty ones.
fn uid_in(answer: &[u8]) -> Result<Vec<u8>, Trouble> {
    let weak = Trouble {
        fault: ChipFault::HoldStill,
        next: Next::Retry,
    };
    let Some((uid, status)) = answer.split_last_chunk::<2>() else {
        return Err(weak);
    };
    match u16::from_be_bytes(*status) {
        0x9000 if uid.is_empty() => Err(weak),
        0x9000 => Ok(uid.to_vec()),
        // "Operation failed" and "wrong length" of PC/SC part 3: seen with chips at the edge.
        0x6300 | 0x6282 | 0x6700 => Err(weak),
        status => Err(Trouble {
            fault: ChipFault::Unsupported { status },
            next: Next::Stop,
        }),
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::of(error)
    }
}

/// Takes an answer of any kind.
#[cfg(any(test, fuzzing))]
pub(super) fn take_any(answer: &[u8]) {
    if let Ok(uid) = uid_in(answer) {
        // Never the status, and never less than a chip said.
        assert_eq!(answer.len(), uid.len() + 2);
    }
}

/// Finds out who a chip is that takes frames, if the reader passes any.
#[cfg(any(test, fuzzing))]
pub(super) fn identify_any(
    say: &mut Exchange<'_>,
    keys: &[SiteKeys],
) -> Result<ChipIdentity, ChipFault> {
    let shown = Shown {
        uid: vec![4, 1, 2, 3, 4, 5, 6],
        speaks: Speaks::Frames,
    };
    identify_by(say, keys, &shown)
}

impl Trouble {
    fn of(error: Error) -> Trouble {
        let (fault, next) = match error {
            Error::NoSmartcard => (ChipFault::Absent, Next::Stop),
            Error::RemovedCard | Error::ResetCard | Error::CommDataLost | Error::NotReady => {
                (ChipFault::HoldStill, Next::Retry)
            }
            Error::NotTransacted => (ChipFault::HoldStill, Next::RetryUnpowered),
            Error::UnresponsiveCard | Error::UnpoweredCard => (ChipFault::Mute, Next::Retry),
            Error::ProtoMismatch | Error::UnsupportedCard | Error::InvalidAtr => {
                (ChipFault::Mute, Next::Stop)
            }
            Error::SharingViolation => (ChipFault::ReaderInUse, Next::Retry),
            Error::UnknownReader | Error::ReaderUnavailable => {
                (ChipFault::ReaderFaulty, Next::Stop)
            }
            // CommError, NoService, ServiceStopped, InvalidHandle and whatever else may come.
            _ => (ChipFault::ReaderFaulty, Next::RetryAnew),
        };
        Trouble { fault, next }
    }
}

/// PC/SC part 3, "get data": the UID of the chip in the field.
const READ_UID: [u8; 5] = [0xFF, 0xCA, 0x00, 0x00, 0x00];
/// ACR122U manual, light and buzzer control: green with one beep of 100 ms.
const ACR122_APPROVED: [u8; 9] = [0xFF, 0x00, 0x40, 0x0E, 0x04, 0x01, 0x00, 0x01, 0x01];
/// Red, with two beeps of 200 ms.
const ACR122_DECLINED: [u8; 9] = [0xFF, 0x00, 0x40, 0x0D, 0x04, 0x02, 0x02, 0x02, 0x01];
/// The registered application of PC/SC in a storage chip's answer to reset.
const STORAGE_CHIP: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x06];
/// The status word's length.
const STATUS: usize = 2;
/// A short answer of ISO/IEC 7816-4 with its status word.
const LONGEST_ANSWER: usize = 258;

#[cfg(test)]
mod tests {
    use canteen::ChipIdError;

    use super::*;

    #[track_caller]
    fn check(answer: &[u8], expect: Result<&str, (ChipFault, Next)>) {
        let claim = |uid| {
            Shown {
                uid,
                speaks: Speaks::Nothing,
            }
            .claim()
        };
        let read = uid_in(answer)
            .and_then(|uid| {
                claim(uid).map_err(|fault| Trouble {
                    fault,
                    next: Next::Stop,
                })
            })
            .map(|identity| identity.chip().expect("a claim").to_string())
            .map_err(|trouble| (trouble.fault, trouble.next));
        assert_eq!(read, expect.map(str::to_owned), "{answer:02X?}");
    }

    #[test]
    fn a_whole_answer_is_a_chip() {
        check(&[0x72, 0xBF, 0x99, 0x61, 0x90, 0x00], Ok("72BF9961"));
        check(
            &[4, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x90, 0x00],
            Ok("04A1B2C3D4E5F6"),
        );
    }

    /// What can be sent to a chip with this name at this reader, by answers to reset of PC/SC part 3.
    #[track_caller]
    fn check_speaks(name: [u8; 2], reader: &str, expect: Speaks) {
        let front = [0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C];
        let id = [0xA0, 0x00, 0x00, 0x03, 0x06, 0x03];
        let mut atr = [&front[..], &id, &name, &[0, 0, 0, 0]].concat();
        atr.push(atr[1..].iter().fold(0, |sum, byte| sum ^ byte));
        assert_eq!(speaks_by(&atr, reader), expect, "{name:02X?} at {reader}");
    }

    const ACR122: &str = "ACS ACR122U PICC Interface 00 00";

    #[test]
    fn frames_go_to_ultralights_at_an_acr122_and_nowhere_else() {
        for other in [
            "ACS ACR1252 1S CL Reader PICC 00 00",
            "HID Global OMNIKEY 5022 00 00",
        ] {
            check_speaks([0x00, 0x03], other, Speaks::Nothing);
            assert_eq!(speaks_by(&NTAG_424, other), Speaks::Apdus);
        }
        for ultralight in [[0x00, 0x03], [0x00, 0x3A], [0x00, 0x3D], [0xFF, 0x00]] {
            check_speaks(ultralight, ACR122, Speaks::Frames);
        }
        // Classic 1K and 4K, Mini, Topaz, one that is undefined.
        for other in [[0, 1], [0, 2], [0, 0x26], [0xF0, 0x04], [0xFF, 0x28]] {
            check_speaks(other, ACR122, Speaks::Nothing);
        }
        assert_eq!(speaks_by(&NTAG_424, ACR122), Speaks::Apdus);
        assert_eq!(speaks_by(&[], ACR122), Speaks::Apdus);
        assert_eq!(speaks_by(&STORAGE_CHIP, ACR122), Speaks::Nothing);
    }

    /// A chip with one historical byte.
    const NTAG_424: [u8; 6] = [0x3B, 0x81, 0x80, 0x01, 0x80, 0x80];

    #[test]
    fn a_torn_answer_asks_for_another_try() {
        for answer in [
            &[][..],
            &[0x90],
            &[0x90, 0x00],
            &[0x63, 0x00],
            &[0x72, 0xBF, 0x63, 0x00],
        ] {
            check(answer, Err((ChipFault::HoldStill, Next::Retry)));
        }
    }

    #[test]
    fn what_is_no_identity_is_refused_at_once() {
        let refused = |error| Err((ChipFault::Identity(error), Next::Stop));
        check(&[0x08, 1, 2, 3, 0x90, 0x00], refused(ChipIdError::Random));
        check(
            &[0x88, 4, 2, 3, 0x90, 0x00],
            refused(ChipIdError::Truncated),
        );
        check(&[0, 0, 0, 0, 0x90, 0x00], refused(ChipIdError::Blank));
        check(
            &[1, 2, 3, 0x90, 0x00],
            refused(ChipIdError::Length { bytes: 3 }),
        );
        check(
            &[0x6A, 0x81],
            Err((ChipFault::Unsupported { status: 0x6A81 }, Next::Stop)),
        );
    }

    #[test]
    fn an_error_of_the_service_calls_for_a_new_connection() {
        for error in [Error::CommError, Error::NoService, Error::InvalidHandle] {
            assert_eq!(Trouble::of(error).next, Next::RetryAnew, "{error}");
        }
        assert_eq!(Trouble::of(Error::NoSmartcard).next, Next::Stop);
    }

    #[test]
    fn an_exchange_that_failed_is_tried_again_on_a_chip_without_power() {
        let next = |error| Trouble::of(error).next;
        assert_eq!(next(Error::NotTransacted), Next::RetryUnpowered);
        assert_eq!(next(Error::RemovedCard), Next::Retry);
    }
}
