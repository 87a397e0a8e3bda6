//! Commands to the chip and what its status words mean (NTAG 424 DNA data sheet, section 10;
//! native DESFire commands wrapped in ISO/IEC 7816-4, where 91xx carries the native status).

use chip_keys::Application;

use super::{Exchange, ProofError, Step};

/// Selects the site's application on the chip.
pub(super) fn select(
    exchange: &mut Exchange<'_>,
    application: &Application,
) -> Result<(), ProofError> {
    let (command, done) = match application {
        Application::Named(name) => (command_with([0x00, 0xA4, 0x04, 0x00], name), ISO_DONE),
        Application::Numbered(number) => {
            let mut sent = *number;
            sent.reverse();
            (command_with([0x90, 0x5A, 0x00, 0x00], &sent), DONE)
        }
        // Its chips have no applications and take no such commands.
        Application::Marked(_) => return Err(ProofError::NoMark),
    };
    ask::<0>(exchange, Step::Select, &command, done).map(|[]| ())
}

/// A native command with its data.
pub(super) fn native(code: u8, data: &[u8]) -> Vec<u8> {
    command_with([0x90, code, 0x00, 0x00], data)
}

/// Sends a command and takes exactly `N` bytes of data and the one status that is right here.
pub(super) fn ask<const N: usize>(
    exchange: &mut Exchange<'_>,
    step: Step,
    command: &[u8],
    wanted: u16,
) -> Result<[u8; N], ProofError> {
    let answer = exchange(command)?;
    let malformed = || ProofError::Malformed {
        step,
        bytes: answer.len(),
    };
    let (data, status) = answer.split_last_chunk::<2>().ok_or_else(malformed)?;
    let status = u16::from_be_bytes(*status);
    if status != wanted {
        return Err(refusal(step, status));
    }
    data.try_into().map_err(|_| malformed())
}

fn refusal(step: Step, status: u16) -> ProofError {
    match (step, status) {
        (Step::Challenge | Step::Response, AUTHENTICATION_ERROR) => ProofError::WrongKey,
        (Step::Challenge | Step::Response, AUTHENTICATION_DELAY) => ProofError::Pausing,
        (Step::Challenge, NO_SUCH_KEY) => ProofError::NoSuchKey,
        (Step::Select, status) => ProofError::NoApplication { status },
        (step, status) => ProofError::Refused { step, status },
    }
}

/// Header, length, data, and a last byte that asks for as much answer as there is.
///
/// The longest data is an application's name, whose length is checked where it is made, or the
/// 32 bytes of an authentication.
fn command_with(header: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut command = header.to_vec();
    if !data.is_empty() {
        command.push(data.len() as u8);
        command.extend_from_slice(data);
    }
    command.push(0x00);
    command
}

/// 91AF: the chip waits for more.
pub(super) const MORE: u16 = 0x91AF;
/// 9100: done, natively.
pub(super) const DONE: u16 = 0x9100;
const ISO_DONE: u16 = 0x9000;
const AUTHENTICATION_ERROR: u16 = 0x91AE;
const AUTHENTICATION_DELAY: u16 = 0x91AD;
const NO_SUCH_KEY: u16 = 0x9140;

/// Native command codes.
pub(super) const ADDITIONAL_FRAME: u8 = 0xAF;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::{hex, scripted};

    fn check(command: &str, application: &Application, answer: &str, expect: Option<u16>) {
        let outcome = select(&mut scripted(&[(command, answer)]), application);
        let refused = match outcome {
            Ok(()) => None,
            Err(ProofError::NoApplication { status }) => Some(status),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(refused, expect);
    }

    #[test]
    fn an_application_is_selected_by_name_or_by_number() {
        let numbered = Application::Numbered(hex("3042F5"));
        check(
            "00A4040007D276000085010100",
            &Application::ntag_424(),
            "9000",
            None,
        );
        check("905A000003F5423000", &numbered, "9100", None);
        check("905A000003F5423000", &numbered, "91A0", Some(0x91A0));
        check(
            "00A4040007D276000085010100",
            &Application::ntag_424(),
            "6A82",
            Some(0x6A82),
        );
        check(
            "00A4040007D276000085010100",
            &Application::ntag_424(),
            "9100",
            Some(0x9100),
        );
    }

    #[test]
    fn a_status_is_told_by_what_a_person_can_do_about_it() {
        let told = |step, status: u16| {
            ask::<0>(&mut |_| Ok(status.to_be_bytes().to_vec()), step, &[], DONE)
                .expect_err("a refusal")
        };
        assert!(matches!(told(Step::Response, 0x91AE), ProofError::WrongKey));
        assert!(matches!(told(Step::Challenge, 0x91AD), ProofError::Pausing));
        assert!(matches!(
            told(Step::Challenge, 0x9140),
            ProofError::NoSuchKey
        ));
        assert!(matches!(
            told(Step::CardUid, 0x91AE),
            ProofError::Refused {
                step: Step::CardUid,
                status: 0x91AE
            }
        ));
    }

    #[test]
    fn an_answer_without_a_status_is_malformed() {
        for answer in [&[][..], &[0x91]] {
            let told = ask::<0>(&mut |_| Ok(answer.to_vec()), Step::CardUid, &[], DONE);
            assert!(matches!(
                told,
                Err(ProofError::Malformed {
                    step: Step::CardUid,
                    ..
                })
            ));
        }
    }
}
