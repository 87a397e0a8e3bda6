//! Proves that a chip is one of the site's own, and reads its real UID.
//!
//! A UID is a claim: it is sent in the clear, and chips that say any UID cost next to nothing. A
//! chip that knows a secret key can be believed. [`prove`] does so for NTAG 424 DNA and DESFire
//! Light, EV2 and EV3, [`prove_desfire_ev1`] for DESFire EV1, `ultralight` for MIFARE Ultralight AES.
//!
//! Nothing here does input or output: commands go out and answers come in through [`Exchange`],
//! random numbers through [`Random`]. So recorded exchanges can be replayed in tests, and any
//! reader that passes commands through will do.
//!
//! It is written on the `aes` and `cmac` crates: a till needs the reading side of three commands,
//! which is less to review than a library that also writes chips and keys.

mod apdu;
mod cipher;
mod enrolment;
mod ev1;
mod ev2;
mod identify;
mod refusal;
mod talk;
mod ultralight;
#[cfg(test)]
mod vectors;
#[cfg(test)]
pub(crate) mod virtual_card;
#[cfg(test)]
pub(crate) mod virtual_ultralight;

use canteen::{ChipId, KeyVersion};
use chip_keys::{ChipKey, KeySet, SiteKeys};
use zeroize::Zeroizing;

use crate::ChipFault;

pub use enrolment::{Blank, ChipReport, ChipTask, EnrolError, Enrolled, Enrolment, Held, Reply};
pub use identify::Keyring;
#[cfg(test)]
pub(crate) use identify::tests as tests_of_identify;
pub(crate) use identify::{Shown, Speaks, identify};
pub use refusal::{NoRandom, ProofError, Step};
pub(crate) use talk::{Aim, Talk, Told, Turn};

/// Sends one command to the chip and waits for its whole answer, status included.
pub type Exchange<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, ChipFault> + 'a;

/// Said to an [`Exchange`] in the place of a command: the chip is to lose its power for a moment and to be
/// selected anew. The answer is the UID that it shows then. Only a chip that takes frames is told so.
pub(crate) const ANEW: &[u8] = &[];

/// Draws a random number that was never used before and that nobody can guess: a repeated one
/// lets a recorded chip be believed. [`os_random`] is the one to use outside tests.
pub type Random<'a> = dyn FnMut() -> Result<[u8; 16], NoRandom> + 'a;

/// A chip that has shown that it knows its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenChip {
    /// The real UID, also where the chip shows a random one.
    pub uid: ChipId,
    /// The version of the reading key that it knows; an old one should be renewed.
    pub key_version: KeyVersion,
}

/// Proves the chip in the field and reads its real UID.
///
/// The UID key, common to the site, opens the UID; then the chip must know the reading key that
/// belongs to that UID. Only the second step is proof: the UID key is in every chip, so one opened
/// chip is enough to know it.
pub fn prove(
    exchange: &mut Exchange<'_>,
    keys: &SiteKeys,
    random: &mut Random<'_>,
) -> Result<ProvenChip, ProofError> {
    apdu::select(exchange, keys.application())?;
    let (uid, version) = open_uid(exchange, keys, random)?;
    // A chip mostly has both keys of one version; one whose renewal broke off has not.
    let (same, others): (Vec<_>, Vec<_>) =
        keys.newest_first().partition(|set| set.version == version);
    let sets = same.into_iter().chain(others);
    prove_reading_key(exchange, keys, sets, uid, random, |exchange, key, rnd_a| {
        ev2::authenticate(exchange, READING_KEY, key, rnd_a).map(drop)
    })
}

/// Proves a DESFire EV1, whose UID the reader has found out before.
///
/// The UID is as good as proven afterwards, since the key belongs to it.
pub fn prove_desfire_ev1(
    exchange: &mut Exchange<'_>,
    keys: &SiteKeys,
    uid: ChipId,
    random: &mut Random<'_>,
) -> Result<ProvenChip, ProofError> {
    apdu::select(exchange, keys.application())?;
    let sets = keys.newest_first();
    prove_reading_key(exchange, keys, sets, uid, random, |exchange, key, rnd_a| {
        ev1::authenticate(exchange, READING_KEY, key, rnd_a).map(drop)
    })
}

/// Random numbers of the operating system.
pub fn os_random() -> Result<[u8; 16], NoRandom> {
    let mut number = [0; 16];
    getrandom::fill(&mut number).map_err(|_| NoRandom)?;
    Ok(number)
}

fn open_uid(
    exchange: &mut Exchange<'_>,
    keys: &SiteKeys,
    random: &mut Random<'_>,
) -> Result<(ChipId, KeyVersion), ProofError> {
    for set in keys.newest_first() {
        let rnd_a = Zeroizing::new(random()?);
        match ev2::authenticate(exchange, UID_KEY, &set.uid_key, &rnd_a) {
            Ok(session) => return Ok((session.card_uid(exchange)?, set.version)),
            Err(ProofError::WrongKey) => {}
            Err(other) => return Err(other),
        }
    }
    Err(ProofError::WrongKey)
}

fn prove_reading_key<'k>(
    exchange: &mut Exchange<'_>,
    keys: &SiteKeys,
    sets: impl Iterator<Item = &'k KeySet>,
    uid: ChipId,
    random: &mut Random<'_>,
    authenticate: fn(&mut Exchange<'_>, &ChipKey, &[u8; 16]) -> Result<(), ProofError>,
) -> Result<ProvenChip, ProofError> {
    let mut outcome = Err(ProofError::NotListed);
    for set in sets {
        let Some(key) = keys.reading_key(set, &uid) else {
            continue;
        };
        let rnd_a = Zeroizing::new(random()?);
        match authenticate(exchange, &key, &rnd_a) {
            Ok(()) => {
                return Ok(ProvenChip {
                    uid,
                    key_version: set.version,
                });
            }
            Err(ProofError::WrongKey) => outcome = Err(ProofError::WrongKey),
            Err(other) => return Err(other),
        }
    }
    outcome
}

/// The keys' numbers on the chip; number 0 is the one that may change the others, and no till's.
const UID_KEY: u8 = 1;
const READING_KEY: u8 = 3;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use canteen::ChipIdError;
    use chip_keys::{Application, ReadingKeys};
    use proptest::prelude::*;

    use super::virtual_card::{self, VirtualCard};
    use super::*;

    const UID: [u8; 7] = [0x04, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80];
    const APPLICATION: [u8; 7] = [0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x01];
    /// UID, application and this are 16 bytes and more, where AN10922 is plain CMAC.
    const SYSTEM: &[u8] = b"canteen";

    fn chip() -> ChipId {
        ChipId::from_uid(&UID).expect("a chip")
    }

    /// The byte that all of a version's keys are made of: UID key, master key.
    fn key_bytes(version: u8) -> ([u8; 16], [u8; 16]) {
        ([version; 16], [0x80 | version; 16])
    }

    fn key_set(version: u8) -> KeySet {
        let (uid_key, master) = key_bytes(version);
        KeySet {
            version: KeyVersion(version),
            uid_key: ChipKey::new(uid_key),
            reading_keys: ReadingKeys::Master(ChipKey::new(master)),
        }
    }

    fn site(versions: &[u8]) -> SiteKeys {
        let sets = versions.iter().map(|&version| key_set(version)).collect();
        SiteKeys::new(Application::ntag_424(), SYSTEM, sets).expect("keys")
    }

    /// A chip as the site's provisioning leaves it; its reading key is made without our code.
    fn card(uid_version: u8, reading_version: u8) -> VirtualCard {
        let input = [&[0x01][..], &UID, &APPLICATION, SYSTEM].concat();
        let reading_key = virtual_card::cmac(key_bytes(reading_version).1, &input);
        let uid_key = key_bytes(uid_version).0;
        VirtualCard::new(
            &UID,
            vec![[0xEE; 16], uid_key, [0; 16], reading_key, [0; 16]],
        )
    }

    /// Repeatable random numbers, another one each time.
    fn counted() -> impl FnMut() -> Result<[u8; 16], NoRandom> {
        let mut last = 0xC0FFEE_u128 << 64;
        move || {
            last = last
                .wrapping_mul(0x5851_F42D_4C95_7F2D)
                .wrapping_add(0x1405_7B7E_F767_814F);
            Ok(last.to_be_bytes())
        }
    }

    fn check(versions: &[u8], mut card: VirtualCard, expect: Result<u8, ProofError>) {
        let outcome = prove(&mut card.exchange(), &site(versions), &mut counted());
        let expect = expect.map(|version| ProvenChip {
            uid: chip(),
            key_version: KeyVersion(version),
        });
        assert_eq!(outcome, expect);
    }

    #[test]
    fn a_chip_of_the_site_is_proven_with_its_real_uid() {
        check(&[1], card(1, 1), Ok(1));
    }

    #[test]
    fn a_chip_with_older_keys_is_proven_until_they_are_retired() {
        check(&[3, 2, 1], card(3, 3), Ok(3));
        check(&[3, 2, 1], card(1, 1), Ok(1));
        check(&[3, 2], card(1, 1), Err(ProofError::WrongKey));
    }

    #[test]
    fn a_chip_whose_renewal_broke_off_is_proven_by_its_reading_key() {
        check(&[2, 1], card(2, 1), Ok(1));
        check(&[2, 1], card(1, 2), Ok(2));
    }

    #[test]
    fn a_chip_of_the_right_version_is_asked_no_wrong_key_of_its_own() {
        let mut card = card(1, 1);
        prove(&mut card.exchange(), &site(&[3, 2, 1]), &mut counted()).expect("proven");
        assert_eq!(card.refused, 2, "the newer UID keys, and no reading key");
    }

    #[test]
    fn a_copy_that_knows_only_the_common_key_is_refused() {
        let mut copy = card(1, 1);
        copy.keys[3] = [0x77; 16];
        check(&[1], copy, Err(ProofError::WrongKey));
    }

    #[test]
    fn a_genuine_chip_that_claims_another_uid_is_refused() {
        let mut swapped = card(1, 1);
        swapped.uid[6] ^= 0x01;
        check(&[1], swapped, Err(ProofError::WrongKey));
    }

    #[test]
    fn a_chip_fresh_from_the_factory_is_refused() {
        check(
            &[1],
            VirtualCard::new(&UID, vec![[0; 16]; 5]),
            Err(ProofError::WrongKey),
        );
        check(
            &[1],
            VirtualCard::new(&UID, vec![[0; 16]]),
            Err(ProofError::NoSuchKey),
        );
    }

    #[test]
    fn a_chip_without_the_application_is_refused() {
        let mut other = card(1, 1);
        other.select = vec![0];
        check(
            &[1],
            other,
            Err(ProofError::NoApplication { status: 0x6E00 }),
        );
    }

    #[test]
    fn a_chip_with_a_blank_uid_is_refused() {
        let mut blank = card(1, 1);
        blank.uid = vec![0; 7];
        check(&[1], blank, Err(ProofError::Identity(ChipIdError::Blank)));
    }

    #[test]
    fn a_uid_of_another_length_is_refused() {
        for length in [0, 4, 6, 8, 10] {
            let mut odd = card(1, 1);
            odd.uid = vec![0x04; length];
            let (step, bytes) = (Step::CardUid, 24);
            check(&[1], odd, Err(ProofError::Malformed { step, bytes }));
        }
    }

    #[test]
    fn listed_keys_prove_listed_chips_only() {
        let card = card(1, 1);
        let listed = |uid: ChipId| {
            let keys = BTreeMap::from([(uid, ChipKey::new(card.keys[3]))]);
            let set = KeySet {
                reading_keys: ReadingKeys::Listed(keys),
                ..key_set(1)
            };
            SiteKeys::new(Application::ntag_424(), SYSTEM, vec![set]).expect("keys")
        };
        let tried = |keys| prove(&mut card.clone().exchange(), &keys, &mut counted());
        let expect = ProvenChip {
            uid: chip(),
            key_version: KeyVersion(1),
        };
        assert_eq!(tried(listed(chip())), Ok(expect));
        let another = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).expect("a chip");
        assert_eq!(tried(listed(another)), Err(ProofError::NotListed));
    }

    #[test]
    fn a_desfire_ev1_is_proven_by_the_uid_it_showed() {
        let mut card = card(1, 1);
        let tried = |card: &mut VirtualCard, uid, versions: &[u8]| {
            prove_desfire_ev1(&mut card.exchange(), &site(versions), uid, &mut counted())
        };
        let expect = ProvenChip {
            uid: chip(),
            key_version: KeyVersion(1),
        };
        assert_eq!(tried(&mut card, chip(), &[1]), Ok(expect));
        assert_eq!(tried(&mut card, chip(), &[3, 2, 1]), Ok(expect));
        let another = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).expect("a chip");
        assert_eq!(tried(&mut card, another, &[1]), Err(ProofError::WrongKey));
    }

    /// An honest exchange whose answer number `at` is changed on the way.
    fn tampered(at: usize, change: impl Fn(&mut Vec<u8>)) -> Result<ProvenChip, ProofError> {
        let mut card = card(1, 1);
        let mut step = 0;
        let mut exchange = |command: &[u8]| {
            let mut answer = card.handle(command);
            if step == at {
                change(&mut answer);
            }
            step += 1;
            Ok(answer)
        };
        prove(&mut exchange, &site(&[1]), &mut counted())
    }

    /// The answers of a whole honest exchange.
    fn recorded() -> Vec<Vec<u8>> {
        let mut card = card(1, 1);
        let mut answers = Vec::new();
        let mut exchange = |command: &[u8]| {
            answers.push(card.handle(command));
            Ok(answers[answers.len() - 1].clone())
        };
        prove(&mut exchange, &site(&[1]), &mut counted()).expect("proven");
        answers
    }

    #[test]
    fn a_proof_takes_six_exchanges() {
        let lengths: Vec<usize> = recorded().iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 18, 34, 26, 18, 34]);
    }

    #[test]
    fn every_flipped_bit_of_every_answer_is_refused() {
        for (at, answer) in recorded().iter().enumerate() {
            for bit in 0..answer.len() * 8 {
                let outcome = tampered(at, |answer| answer[bit / 8] ^= 1 << (bit % 8));
                assert!(outcome.is_err(), "bit {bit} of answer {at}");
            }
        }
    }

    #[test]
    fn every_answer_cut_or_lengthened_is_refused() {
        for (at, answer) in recorded().iter().enumerate() {
            for length in 0..answer.len() {
                let outcome = tampered(at, |answer| answer.truncate(length));
                assert!(outcome.is_err(), "answer {at} cut to {length}");
            }
            for more in 1..40 {
                let longer = tampered(at, |answer| answer.resize(answer.len() + more, 0));
                assert!(longer.is_err(), "answer {at} with {more} bytes behind");
                let front = tampered(at, |answer| *answer = [&vec![0; more][..], answer].concat());
                assert!(front.is_err(), "answer {at} with {more} bytes in front");
            }
        }
    }

    #[test]
    fn a_recording_of_a_proof_is_forged_the_next_time() {
        let replay = |random: &mut Random<'_>| {
            let mut answers = recorded().into_iter();
            let mut exchange = |_: &[u8]| Ok(answers.next().unwrap_or_default());
            prove(&mut exchange, &site(&[1]), random)
        };
        assert_eq!(replay(&mut os_random), Err(ProofError::Forged));
        // The recording is whole: only the fresh random number stands against it.
        assert!(replay(&mut counted()).is_ok());
    }

    #[test]
    fn a_recording_of_the_second_step_alone_is_forged_too() {
        let recording = recorded();
        let mut card = card(1, 1);
        let mut step = 0;
        let mut exchange = |command: &[u8]| {
            step += 1;
            let answer = card.handle(command);
            Ok(if step > 4 {
                recording[step - 1].clone()
            } else {
                answer
            })
        };
        let outcome = prove(&mut exchange, &site(&[1]), &mut os_random);
        assert_eq!(outcome, Err(ProofError::Forged));
    }

    #[test]
    fn a_chip_that_sends_back_what_it_hears_is_refused() {
        let mut heard = Vec::new();
        let mut exchange = |command: &[u8]| {
            let answer = match command {
                [0x00, ..] => vec![0x90, 0x00],
                [0x90, 0x71, ..] => [&[0; 16][..], &[0x91, 0xAF]].concat(),
                _ => [&command[5..command.len() - 1], &[0x91, 0x00]].concat(),
            };
            heard.push(command.len());
            Ok(answer)
        };
        let outcome = prove(&mut exchange, &site(&[1]), &mut counted());
        assert_eq!(outcome, Err(ProofError::Forged));
        assert_eq!(heard, [13, 8, 38]);
    }

    #[test]
    fn a_chip_that_leaves_is_told_as_such_at_every_step() {
        for at in 0..recorded().len() {
            let mut card = card(1, 1);
            let mut step = 0;
            let mut exchange = |command: &[u8]| {
                step += 1;
                if step > at {
                    Err(ChipFault::HoldStill)
                } else {
                    Ok(card.handle(command))
                }
            };
            let outcome = prove(&mut exchange, &site(&[1]), &mut counted());
            assert_eq!(outcome, Err(ProofError::Exchange(ChipFault::HoldStill)));
            assert_eq!(step, at + 1, "nothing is sent after it");
        }
    }

    #[test]
    fn without_random_numbers_nothing_is_proven() {
        let mut card = card(1, 1);
        let outcome = prove(&mut card.exchange(), &site(&[1]), &mut || Err(NoRandom));
        assert_eq!(outcome, Err(ProofError::Random(NoRandom)));
    }

    #[test]
    fn every_proof_draws_random_numbers_of_its_own() {
        let drawn: Vec<_> = (0..4).map(|_| os_random().expect("random")).collect();
        assert!((1..4).all(|i| !drawn[..i].contains(&drawn[i])));
        let mut draws = 0;
        let mut random = counted();
        let mut card = card(1, 1);
        let mut counting = || {
            draws += 1;
            random()
        };
        prove(&mut card.exchange(), &site(&[1]), &mut counting).expect("proven");
        assert_eq!(draws, 2);
    }

    #[test]
    fn an_error_says_what_a_person_can_do() {
        assert_eq!(
            ProofError::Refused {
                step: Step::CardUid,
                status: 0x911E
            }
            .to_string(),
            "the chip refused the request for its UID (it answers 911E)"
        );
        assert_eq!(
            ProofError::from(ChipFault::HoldStill).to_string(),
            "the chip was not read; hold it still on the reader"
        );
    }

    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let status = prop_oneof![
            Just(vec![]),
            Just(vec![0x90, 0x00]),
            Just(vec![0x91, 0x00]),
            Just(vec![0x91, 0xAF]),
            Just(vec![0x91, 0xAE]),
        ];
        let length = prop_oneof![Just(0_usize), Just(16), Just(24), Just(32), 0_usize..300];
        let data = length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
        (data, status).prop_map(|(data, status)| [data, status].concat())
    }

    proptest! {
        /// The chip is honest for some exchanges, then noise comes instead.
        #[test]
        fn no_noise_is_ever_a_proof(answers in prop::collection::vec(answer(), 0..16), honest in 0_usize..6) {
            let mut card = card(1, 1);
            let mut step = 0;
            let mut noise = answers.into_iter();
            let mut exchange = |command: &[u8]| {
                step += 1;
                Ok(if step > honest { noise.next().unwrap_or_default() } else { card.handle(command) })
            };
            prop_assert!(prove(&mut exchange, &site(&[2, 1]), &mut counted()).is_err());
        }
    }
}
