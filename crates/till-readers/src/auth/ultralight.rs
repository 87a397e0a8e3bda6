//! MIFARE Ultralight AES (NXP data sheet MF0AES(H)20, AN13452): the mutual authentication, the MAC
//! that guards every message after it, and the proof made of them.
//!
//! These are raw frames of ISO/IEC 14443-3, which PC/SC has no common way to send (an ACR122U has its
//! own); a reader that can passes them through. The chip must be set up to demand the MAC (SEC_MSG_ACT): without it a
//! relay can speak after an honest authentication. It must keep its keys from being written over
//! (AUTH0), since single pages of a key that can be are found out one by one; and it must break off
//! who guesses (AUTHLIM). What is not set up so is not believed, whatever it knows.
//!
//! The site's chips carry a mark and the version of their keys in page 04, which anybody may read:
//! it says by which key to ask, and a chip has no second try within one stay. It is never believed;
//! a chip without it is one of another kind.

use canteen::{ChipId, ChipIdError, KeyVersion};
use zeroize::Zeroizing;

use super::cipher::{self, Block, ZERO_IV};
use super::ev2::MAC_LABEL;
use super::{Exchange, ProofError, ProvenChip, Random, Step};
use chip_keys::{ChipKey, KeySet, SiteKeys};

/// Which of the chip's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeySlot {
    /// DataProtKey, another one in every chip: guards the pages.
    Data,
    /// UIDRetrKey, the same in all chips of the site: guards the real UID behind a random one.
    Uid,
}

/// An authenticated stay: wraps commands and checks answers.
#[derive(Debug)]
struct Session {
    mac: ChipKey,
    counter: u16,
}

/// Proves the chip in the field, which shows `uid`; a random one is opened with the UID key first.
pub(super) fn prove(
    exchange: &mut Exchange<'_>,
    keys: &SiteKeys,
    mark: [u8; 3],
    uid: &[u8],
    random: &mut Random<'_>,
) -> Result<ProvenChip, ProofError> {
    let version = marked_version(exchange, mark)?;
    let mut sets = keys.newest_first();
    let set = sets.find(|set| set.version == version);
    let set = set.ok_or(ProofError::WrongKey)?;
    let uid = match ChipId::from_uid(uid) {
        Ok(uid) => uid,
        Err(ChipIdError::Random) => open_uid(exchange, set, random)?,
        Err(error) => return Err(error.into()),
    };
    let key = keys.reading_key(set, &uid).ok_or(ProofError::NotListed)?;
    let rnd_a = Zeroizing::new(random()?);
    let session = authenticate(exchange, KeySlot::Data, &key, &rnd_a)?;
    let settings = session.read(exchange, SETTINGS)?.1;
    check_settings(&settings)?;
    Ok(ProvenChip {
        uid,
        key_version: version,
    })
}

/// The version of the keys on a chip that carries the mark.
fn marked_version(exchange: &mut Exchange<'_>, mark: [u8; 3]) -> Result<KeyVersion, ProofError> {
    let answer = exchange(&[READ, FIRST_USER_PAGE])?;
    match *answer.as_slice() {
        [a, b, c, version, ..] if [a, b, c] == mark && answer.len() == PAGES => {
            Ok(KeyVersion(version))
        }
        // A refusal, or four pages of something else.
        [_] => Err(ProofError::NoMark),
        _ if answer.len() == PAGES => Err(ProofError::NoMark),
        _ => Err(ProofError::Malformed {
            step: Step::Select,
            bytes: answer.len(),
        }),
    }
}

fn open_uid(
    exchange: &mut Exchange<'_>,
    set: &KeySet,
    random: &mut Random<'_>,
) -> Result<ChipId, ProofError> {
    let rnd_a = Zeroizing::new(random()?);
    let session = authenticate(exchange, KeySlot::Uid, &set.uid_key, &rnd_a)?;
    let [a, b, c, _check, d, e, f, g, ..] = session.read(exchange, FIRST_PAGE)?.1;
    Ok(ChipId::from_uid(&[a, b, c, d, e, f, g])?)
}

/// The pages 29 and 2A: whether messages carry a MAC, from which page on writing needs the key, and
/// how often a wrong key may be tried.
fn check_settings(pages: &[u8; PAGES]) -> Result<(), ProofError> {
    let [flags, _, _, first_guarded, _, _, low, high, ..] = *pages;
    let tries = u16::from_le_bytes([low, high & 0x03]);
    let is_safe = flags & DEMANDS_MAC != 0 && first_guarded <= LOCKS && tries > 0;
    is_safe.then_some(()).ok_or(ProofError::Unprotected)
}

/// Both sides show that they know the key; `rnd_a` must never have been used before.
fn authenticate(
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
    fn read(
        self,
        exchange: &mut Exchange<'_>,
        page: u8,
    ) -> Result<(Session, [u8; PAGES]), ProofError> {
        let (session, pages) = self.ask(exchange, &[READ, page])?;
        let bytes = pages.len();
        let step = Step::Message;
        let pages = pages
            .try_into()
            .map_err(|_| ProofError::Malformed { step, bytes })?;
        Ok((session, pages))
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

/// What a read answers with: four pages of four bytes.
const PAGES: usize = 16;
/// The UID, with a check byte inside.
const FIRST_PAGE: u8 = 0x00;
const FIRST_USER_PAGE: u8 = 0x04;
/// The lock bytes; the settings and the keys come behind them.
const LOCKS: u8 = 0x28;
const SETTINGS: u8 = 0x29;
/// SEC_MSG_ACT.
const DEMANDS_MAC: u8 = 0x02;
const READ: u8 = 0x30;
const AUTHENTICATE: u8 = 0x1A;
const MORE: u8 = 0xAF;
const DONE: u8 = 0x00;

#[cfg(test)]
mod tests {
    use chip_keys::{Application, ChipKind, ReadingKeys};
    use proptest::prelude::*;

    use super::*;
    use crate::auth::os_random;
    use crate::auth::vectors::{hex, scripted};
    use crate::auth::virtual_ultralight::VirtualUltralight;

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

    const UID: [u8; 7] = [0x04, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80];
    const RANDOM_UID: [u8; 4] = [0x08, 0x3A, 0x5C, 0x11];
    const MARK: [u8; 3] = [0xCA, 0x17, 0xAE];

    /// The keys of a site whose chips have the UID key 11… and the data key 22….
    fn site(versions: &[u8]) -> SiteKeys {
        let uid = ChipId::from_uid(&UID).expect("a chip");
        let set = |&version: &u8| KeySet {
            version: KeyVersion(version),
            uid_key: ChipKey::new([0x10 | version; 16]),
            reading_keys: ReadingKeys::Listed([(uid, ChipKey::new([0x20 | version; 16]))].into()),
        };
        let sets = versions.iter().map(set).collect();
        SiteKeys::new(Application::ultralight_aes(), b"", sets).expect("keys")
    }

    fn card() -> VirtualUltralight {
        VirtualUltralight::new(UID, [0x21; 16], [0x11; 16])
    }

    /// With its UID in the clear.
    fn open_card() -> VirtualUltralight {
        let mut card = card();
        card.settings[0] = 0x02;
        card
    }

    fn tried(
        card: &mut VirtualUltralight,
        keys: &SiteKeys,
        uid: &[u8],
    ) -> Result<ProvenChip, ProofError> {
        let mut exchange = |frame: &[u8]| Ok(card.handle(frame));
        prove(&mut exchange, keys, MARK, uid, &mut os_random)
    }

    /// What becomes of a chip with its random UID, and of the same one with its real UID in the clear.
    #[track_caller]
    fn check(change: impl Fn(&mut VirtualUltralight), expect: Result<(), ProofError>) {
        for (mut card, uid) in [(card(), &RANDOM_UID[..]), (open_card(), &UID[..])] {
            change(&mut card);
            let told = tried(&mut card, &site(&[2, 1]), uid);
            let proven = ProvenChip {
                uid: ChipId::from_uid(&UID).expect("a chip"),
                key_version: KeyVersion(1),
            };
            assert_eq!(told, expect.clone().map(|()| proven));
        }
    }

    #[test]
    fn a_chip_of_the_site_is_proven_with_its_real_uid() {
        check(|_| {}, Ok(()));
    }

    #[test]
    fn a_chip_without_the_mark_is_one_of_another_kind() {
        check(|card| card.mark = [0; 4], Err(ProofError::NoMark));
        let mut refusing = |_: &[u8]| Ok(vec![0x00]);
        let told = prove(&mut refusing, &site(&[1]), MARK, &UID, &mut os_random);
        assert_eq!(told, Err(ProofError::NoMark));
    }

    #[test]
    fn a_chip_with_other_keys_is_refused() {
        check(|card| card.keys[0] = [0x77; 16], Err(ProofError::WrongKey));
        check(|card| card.keys = [[0; 16]; 2], Err(ProofError::WrongKey));
        // The version beside the mark is no key.
        check(|card| card.mark[3] = 2, Err(ProofError::WrongKey));
        check(|card| card.mark[3] = 9, Err(ProofError::WrongKey));
        let withdrawn = SiteKeys::withdrawn(ChipKind::UltralightAes);
        let told = tried(&mut card(), &withdrawn, &RANDOM_UID);
        assert_eq!(told, Err(ProofError::WrongKey));
    }

    #[test]
    fn a_genuine_chip_that_claims_another_uid_is_refused() {
        let other = [4, 1, 2, 3, 4, 5, 6];
        let told = tried(&mut open_card(), &site(&[1]), &other);
        assert_eq!(told, Err(ProofError::NotListed));
        let keys = [[0x21; 16], [0x22; 16]].map(ChipKey::new);
        let uids = [UID, other].map(|uid| ChipId::from_uid(&uid).expect("a chip"));
        let set = KeySet {
            version: KeyVersion(1),
            uid_key: ChipKey::new([0x11; 16]),
            reading_keys: ReadingKeys::Listed(uids.into_iter().zip(keys).collect()),
        };
        let both = SiteKeys::new(Application::ultralight_aes(), b"", vec![set]).expect("keys");
        let told = tried(&mut open_card(), &both, &other);
        assert_eq!(told, Err(ProofError::WrongKey));
    }

    #[test]
    fn a_chip_whose_keys_are_open_to_others_is_refused() {
        for (at, value) in [(3, 0x3C), (3, 0x29), (6, 0x00)] {
            let change = |card: &mut VirtualUltralight| {
                card.settings[at] = value;
                if at == 6 {
                    card.settings[7] = 0xFC;
                }
            };
            check(change, Err(ProofError::Unprotected));
        }
        // One that demands no MAC does not understand what carries one.
        let step = Step::Message;
        let told = Err(ProofError::Refused { step, status: 0 });
        check(|card| card.settings[0] &= 0x01, told);
    }

    /// An honest talk whose answer number `at` is changed on the way.
    fn proof_tampered(at: usize, change: impl Fn(&mut Vec<u8>)) -> Result<ProvenChip, ProofError> {
        let (mut card, mut step) = (card(), 0);
        let mut exchange = |frame: &[u8]| {
            let mut answer = card.handle(frame);
            if step == at {
                change(&mut answer);
            }
            step += 1;
            Ok(answer)
        };
        prove(
            &mut exchange,
            &site(&[1]),
            MARK,
            &RANDOM_UID,
            &mut os_random,
        )
    }

    fn recorded() -> Vec<Vec<u8>> {
        let (mut card, mut answers) = (card(), Vec::new());
        let mut exchange = |frame: &[u8]| {
            answers.push(card.handle(frame));
            Ok(answers[answers.len() - 1].clone())
        };
        let proven = prove(
            &mut exchange,
            &site(&[1]),
            MARK,
            &RANDOM_UID,
            &mut os_random,
        );
        proven.expect("proven");
        answers
    }

    #[test]
    fn every_bit_that_is_flipped_and_every_byte_that_is_missing_is_noticed() {
        let lengths: Vec<usize> = recorded().iter().map(Vec::len).collect();
        assert_eq!(lengths, [16, 17, 17, 24, 17, 17, 24]);
        for (at, length) in lengths.into_iter().enumerate() {
            // What stands behind the mark on its page is read by nobody.
            let bits = if at == 0 { 4 * 8 } else { length * 8 };
            for bit in 0..bits {
                let told = proof_tampered(at, |answer| answer[bit / 8] ^= 1 << (bit % 8));
                assert!(told.is_err(), "bit {bit} of answer {at}");
            }
            for cut in 0..length {
                let told = proof_tampered(at, |answer| answer.truncate(cut));
                assert!(told.is_err(), "answer {at} cut to {cut}");
            }
        }
    }

    #[test]
    fn a_recording_is_forged_the_next_time() {
        let mut answers = recorded().into_iter();
        let mut exchange = |_: &[u8]| Ok(answers.next().unwrap_or_default());
        let told = prove(
            &mut exchange,
            &site(&[1]),
            MARK,
            &RANDOM_UID,
            &mut os_random,
        );
        assert_eq!(told, Err(ProofError::Forged));
    }

    proptest! {
        /// The chip is honest for some exchanges, then noise comes instead.
        #[test]
        fn no_noise_is_ever_a_proof(
            noise in prop::collection::vec(
                (0_usize..4).prop_flat_map(|kind| {
                    prop::collection::vec(any::<u8>(), [16, 17, 24, 1][kind])
                }),
                0..8,
            ),
            first in prop_oneof![Just(None), Just(Some(0xAF)), Just(Some(0x00))],
            honest in 0_usize..7,
        ) {
            let (mut card, mut step) = (card(), 0);
            let mut noise = noise.into_iter();
            let mut exchange = |frame: &[u8]| {
                step += 1;
                if step <= honest {
                    return Ok(card.handle(frame));
                }
                let mut answer = noise.next().unwrap_or_default();
                if let (Some(byte), Some(first)) = (answer.first_mut(), first) {
                    *byte = first;
                }
                Ok(answer)
            };
            let told = prove(&mut exchange, &site(&[1]), MARK, &RANDOM_UID, &mut os_random);
            prop_assert!(told.is_err());
        }
    }
}
