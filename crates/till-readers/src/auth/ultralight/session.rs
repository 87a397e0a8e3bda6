//! The mutual authentication of a MIFARE Ultralight AES, and the MAC that guards every message after it.

use chip_keys::ChipKey;
use zeroize::Zeroizing;

use super::pages;
use crate::auth::cipher::{self, Block, ZERO_IV};
use crate::auth::ev2::MAC_LABEL;
use crate::auth::{Exchange, ProofError, Step};

/// Which of the chip's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) enum KeySlot {
    /// DataProtKey, another one in every chip: guards the pages.
    Data,
    /// UIDRetrKey, the same in all chips of the site: guards the real UID behind a random one.
    Uid,
}

/// An authenticated stay: wraps commands and checks answers.
#[derive(Debug)]
pub(in crate::auth) struct Session {
    mac: ChipKey,
    counter: u16,
}

/// Both sides show that they know the key; `rnd_a` must never have been used before.
pub(in crate::auth) fn authenticate(
    exchange: &mut Exchange<'_>,
    slot: KeySlot,
    key: &ChipKey,
    rnd_a: &[u8; 16],
) -> Result<Session, ProofError> {
    let slot = match slot {
        KeySlot::Data => 0x00,
        KeySlot::Uid => 0x01,
    };
    let mut rnd_b = ask(exchange, Step::Challenge, &[AUTHENTICATE, slot], MORE)?;
    cipher::decrypt(key, &ZERO_IV, &mut *rnd_b);

    let mut token = cipher::token(rnd_a, &rnd_b);
    cipher::encrypt(key, &ZERO_IV, &mut *token);
    let mut respond = vec![MORE];
    respond.extend_from_slice(&*token);
    let mut proof = ask(exchange, Step::Response, &respond, DONE)?;
    cipher::decrypt(key, &ZERO_IV, &mut *proof);

    if !cipher::equal(&*cipher::rotated(rnd_a), &*proof) {
        return Err(ProofError::Forged);
    }
    let mac = cipher::session_key(key, &MAC_LABEL, rnd_a, &rnd_b);
    Ok(Session { mac, counter: 0 })
}

impl Session {
    /// Four pages, the first of which has this number.
    pub(in crate::auth) fn read(
        self,
        exchange: &mut Exchange<'_>,
        page: u8,
    ) -> Result<(Session, [u8; pages::FOUR]), ProofError> {
        let (session, pages) = self.ask(exchange, &[pages::READ, page])?;
        let bytes = pages.len();
        let step = Step::Message;
        let pages = pages
            .try_into()
            .map_err(|_| ProofError::Malformed { step, bytes })?;
        Ok((session, pages))
    }

    /// Writes four bytes.
    pub(in crate::auth) fn write(
        self,
        exchange: &mut Exchange<'_>,
        page: u8,
        bytes: [u8; 4],
    ) -> Result<Session, ProofError> {
        let [a, b, c, d] = bytes;
        let (session, said) = self.ask(exchange, &[pages::WRITE, page, a, b, c, d])?;
        match *said.as_slice() {
            // Its MAC alone says that it was done, or its word for that stands before it.
            [] | [pages::DONE] => Ok(session),
            [..] => Err(ProofError::Malformed {
                step: Step::Page { number: page },
                bytes: said.len(),
            }),
        }
    }

    /// Sends a command with its MAC; gives the answer's data once its MAC is right, and the session
    /// for the next command.
    ///
    /// An error ends the session. Going on under the same count would let the answer to one
    /// command be taken for the answer to another.
    fn ask(
        self,
        exchange: &mut Exchange<'_>,
        command: &[u8],
    ) -> Result<(Session, Vec<u8>), ProofError> {
        let answered = self.counter.checked_add(1).ok_or(ProofError::Exhausted)?;
        let next = self.counter.checked_add(2).ok_or(ProofError::Exhausted)?;
        let mut sealed = command.to_vec();
        sealed.extend(self.message_mac(self.counter, command));
        let answer = exchange(&sealed)?;
        if let [refusal] = *answer {
            return Err(refused(Step::Message, refusal));
        }
        let (data, mac) = answer
            .split_last_chunk::<8>()
            .ok_or(ProofError::Malformed {
                step: Step::Message,
                bytes: answer.len(),
            })?;
        if !cipher::equal(&self.message_mac(answered, data), mac) {
            return Err(ProofError::Forged);
        }
        let counter = next;
        Ok((Session { counter, ..self }, data.to_vec()))
    }

    fn message_mac(&self, counter: u16, message: &[u8]) -> [u8; 8] {
        cipher::short_cmac(&self.mac, &[&counter.to_le_bytes(), message])
    }
}

/// Sends a frame of the authentication and takes 16 bytes behind the one first byte that is right.
fn ask(
    exchange: &mut Exchange<'_>,
    step: Step,
    frame: &[u8],
    wanted: u8,
) -> Result<Zeroizing<Block>, ProofError> {
    let answer = exchange(frame)?;
    match (answer.as_slice(), step) {
        ([_], Step::Response) => Err(ProofError::WrongKey),
        ([refusal], step) => Err(refused(step, *refusal)),
        ([first, data @ ..], step) if *first == wanted => data
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| ProofError::Malformed {
                step,
                bytes: answer.len(),
            }),
        (_, step) => Err(ProofError::Malformed {
            step,
            bytes: answer.len(),
        }),
    }
}

/// A refusal (NAK) has four bits, which readers deliver as one byte.
fn refused(step: Step, refusal: u8) -> ProofError {
    let status = u16::from(refusal);
    ProofError::Refused { step, status }
}

const AUTHENTICATE: u8 = 0x1A;
const MORE: u8 = 0xAF;
const DONE: u8 = 0x00;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::{hex, scripted};

    const RND_A: &str = "42BDF7E08E110F14B6D3323D14F1C2B9";
    const RND_B: &str = "0D2BBA17011098E9864C8AA5192AF796";
    const SESSION: &str = "D6B4F8AC7A66CFA041DC179A154543BF";

    fn session(counter: u16) -> Session {
        Session {
            mac: ChipKey::new(hex(SESSION)),
            counter,
        }
    }

    /// An honest chip's side of the authentication, with the factory key.
    fn chip(frame: &[u8]) -> Vec<u8> {
        let key = ChipKey::new([0; 16]);
        let (first, mut sealed): (u8, Block) = match frame {
            [0x1A, 0x01] => (MORE, hex(RND_B)),
            [0xAF, token @ ..] => {
                let mut token = token.to_vec();
                cipher::decrypt(&key, &ZERO_IV, &mut token);
                if token[16..] != *cipher::rotated(&hex(RND_B)) {
                    return vec![0x00];
                }
                (DONE, *cipher::rotated(&hex(RND_A)))
            }
            other => panic!("no such frame: {other:02X?}"),
        };
        cipher::encrypt(&key, &ZERO_IV, &mut sealed);
        [&[first], &sealed[..]].concat()
    }

    /// What NXP's documents show of an authentication with the factory key, byte for byte.
    #[track_caller]
    fn check_documented(rnd_a: &str, sealed_b: &str, sent: &str, proof: &str) {
        let known = [("1A00", sealed_b), (sent, proof)];
        let mut steps = scripted(&known);
        let key = ChipKey::factory();
        authenticate(&mut steps, KeySlot::Data, &key, &hex(rnd_a)).expect("a session");
    }

    #[test]
    fn authentications_are_those_of_the_data_sheet_and_of_an13452() {
        check_documented(
            "F29B0123F5C00DF612487BBF42468C7E",
            "AFD5A847B84862FF3874A7F07B8DDF351B",
            "AFCDF22C5F7A92F0AF0155612B9B236AC7A424BC5238D41AD041B8165B7D99E524",
            "002C743D6B1E128F8076BD197B76012CE8",
        );
        check_documented(
            RND_A,
            "AF374142DAFB0AB97183D846EB7ED379E0",
            "AF794693B2A31E7F10964A2BD834590AC485F84E9F8B13197AB32433346F60B821",
            "00A17673DCC20D27EE80584ACCFC39E0A3",
        );
    }

    fn start(exchange: &mut Exchange<'_>) -> Result<Session, ProofError> {
        authenticate(exchange, KeySlot::Uid, &ChipKey::new([0; 16]), &hex(RND_A))
    }

    #[test]
    fn an_authentication_gives_the_session_key_of_the_known_example() {
        let session = start(&mut |frame| Ok(chip(frame))).expect("a session");
        assert_eq!(session.mac, ChipKey::new(hex(SESSION)));
        assert_eq!(session.counter, 0);
    }

    #[test]
    fn the_first_command_carries_the_mac_of_the_known_example() {
        let mut sent = Vec::new();
        let told = session(0).ask(
            &mut |frame| {
                sent = frame.to_vec();
                Ok(Vec::new())
            },
            &[0x60],
        );
        assert_eq!(sent, hex::<Vec<u8>>("60 1D5DE802D6751670"));
        assert!(matches!(told, Err(ProofError::Malformed { bytes: 0, .. })));
    }

    #[test]
    fn an_answer_counts_once_and_only_unchanged() {
        let mut answer = vec![0x04, 0x95];
        answer.extend(session(0).message_mac(1, &[0x04, 0x95]));
        let asked = |session: Session, answer: &[u8]| {
            session.ask(&mut |_| Ok(answer.to_vec()), &[0x30, 0x00])
        };
        let (next, data) = asked(session(0), &answer).expect("an answer");
        assert_eq!((next.counter, data), (2, vec![0x04, 0x95]));
        assert!(matches!(asked(next, &answer), Err(ProofError::Forged)));
        for bit in 0..answer.len() * 8 {
            let mut flipped = answer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let told = asked(session(0), &flipped);
            assert!(matches!(told, Err(ProofError::Forged)), "bit {bit}");
        }
        for length in 0..answer.len() {
            assert!(
                asked(session(0), &answer[..length]).is_err(),
                "cut to {length}"
            );
        }
    }

    #[test]
    fn a_counter_never_starts_over() {
        let told = session(u16::MAX).ask(&mut |_| panic!("nothing may be sent"), &[0x60]);
        assert!(matches!(told, Err(ProofError::Exhausted)));
    }

    /// An authentication whose answer number `at` is changed on the way.
    fn tampered(at: usize, change: impl Fn(&mut Vec<u8>)) -> Result<Session, ProofError> {
        let mut step = 0;
        start(&mut |frame| {
            let mut answer = chip(frame);
            if step == at {
                change(&mut answer);
            }
            step += 1;
            Ok(answer)
        })
    }

    #[test]
    fn a_damaged_authentication_is_no_session() {
        for at in 0..2 {
            for length in 0..17 {
                let told = tampered(at, |answer| answer.truncate(length));
                assert!(told.is_err(), "answer {at} cut to {length}");
            }
            for bit in 0..17 * 8 {
                let told = tampered(at, |answer| answer[bit / 8] ^= 1 << (bit % 8));
                assert!(told.is_err(), "bit {bit} of answer {at}");
            }
        }
    }

    #[test]
    fn a_chip_with_another_key_is_told_as_such() {
        let other = ChipKey::new([1; 16]);
        let told = authenticate(
            &mut |frame| Ok(chip(frame)),
            KeySlot::Uid,
            &other,
            &hex(RND_A),
        );
        assert!(matches!(told, Err(ProofError::WrongKey)));
    }
}
