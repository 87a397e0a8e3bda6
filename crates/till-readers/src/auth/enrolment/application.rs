//! Keys on a chip with applications: NTAG 424 DNA and DESFire.
//!
//! What a chip holds is found out first, key by key: nothing is written before every key on it is
//! known, as one of the canteen's or as the factory's. Key 0, which may change the others, is
//! written last. So a chip that is torn away at any moment holds only known keys, and the same
//! enrolment goes on where it broke off. A chip writes a key whole or not at all.

use canteen::KeyVersion;
use chip_keys::{ChipKey, ChipKeys, ChipKind};
use zeroize::Zeroizing;

use super::{EnrolError, Enrolled, Enrolment, Held};
use crate::auth::apdu::{self, DONE};
use crate::auth::ev2::{self, Session};
use crate::auth::{Exchange, ProofError, READING_KEY, Random, Step, UID_KEY};

/// Writes the keys that the chip lacks, and has it prove itself by all that count.
pub(super) fn enrol(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    random: &mut Random<'_>,
) -> Result<Enrolled, EnrolError> {
    if enrolment.random_uid && enrolment.kind != ChipKind::Ntag424 {
        return Err(EnrolError::NoRandomUid);
    }
    apdu::select(exchange, &enrolment.kind.application())?;
    let found = find_keys(exchange, enrolment, random)?;
    let written = write_keys(exchange, enrolment, &found, random)?;
    prove(exchange, enrolment, random)?;
    if enrolment.random_uid {
        let mut session = open(exchange, 0, &enrolment.keys.keys[0], random)?;
        session.show_random_uid(exchange)?;
        prove(exchange, enrolment, random)?;
    }
    Ok(Enrolled {
        before: held(&found),
        written,
    })
}

/// A key as the chip holds it.
struct Found {
    key: ChipKey,
    version: Option<KeyVersion>,
}

/// Every key of the chip in the order of their numbers; also makes sure that it is the chip.
fn find_keys(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    random: &mut Random<'_>,
) -> Result<Vec<Found>, EnrolError> {
    let mut versions = Vec::new();
    for number in NUMBERS {
        // Only before an authentication is it answered without a MAC.
        versions.push(key_version(exchange, number)?);
    }
    let mut found = Vec::new();
    for (number, version) in NUMBERS.into_iter().zip(versions) {
        found.push(find_key(exchange, enrolment, number, version, random)?);
    }
    Ok(found)
}

fn find_key(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    number: u8,
    version: u8,
    random: &mut Random<'_>,
) -> Result<Found, EnrolError> {
    for candidate in candidates(enrolment, number, version) {
        match open(exchange, number, &candidate.key, random) {
            Ok(session) => {
                if number == UID_KEY && session.card_uid(exchange)? != enrolment.chip {
                    return Err(EnrolError::OtherChip);
                }
                return Ok(candidate);
            }
            Err(ProofError::WrongKey) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(match number {
        0 => EnrolError::OtherCanteen,
        number => EnrolError::UnknownKey { number },
    })
}

/// What a key may be, the likeliest first: the version beside it is a hint and never believed.
fn candidates(enrolment: &Enrolment, number: u8, version: u8) -> Vec<Found> {
    let sets = std::iter::once(&enrolment.keys).chain(&enrolment.older);
    let of_set = |set: &ChipKeys| Found {
        key: set.keys[usize::from(number)].clone(),
        version: Some(set.version),
    };
    let mut candidates: Vec<Found> = sets.map(of_set).collect();
    candidates.push(Found {
        key: ChipKey::factory(),
        version: None,
    });
    let is_said = |found: &Found| found.version.map_or(0, |version| version.0) == version;
    candidates.sort_by_key(|found| !is_said(found));
    // A chip makes its reader wait after many wrong keys.
    candidates.truncate(MOST_TRIES);
    candidates
}

fn key_version(exchange: &mut Exchange<'_>, number: u8) -> Result<u8, EnrolError> {
    let command = apdu::native(KEY_VERSION, &[number]);
    match apdu::ask(exchange, Step::KeyVersion, &command, DONE) {
        Ok([version]) => Ok(version),
        // It carries the name of the application and does not speak its commands, or has fewer keys.
        Err(ProofError::Refused { .. }) => Err(EnrolError::Kind),
        Err(error) => Err(error.into()),
    }
}

/// Writes what differs, key 0 last; gives the numbers of what was written.
fn write_keys(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    found: &[Found],
    random: &mut Random<'_>,
) -> Result<Vec<u8>, EnrolError> {
    let wanted = &enrolment.keys;
    let of = |number: u8| {
        (
            &found[usize::from(number)],
            &wanted.keys[usize::from(number)],
        )
    };
    let lacks = |number: &u8| {
        let (found, wanted) = of(*number);
        found.key != *wanted
    };
    let missing: Vec<u8> = NUMBERS.into_iter().rev().filter(lacks).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let mut session = open(exchange, 0, &found[0].key, random)?;
    for number in missing.iter().copied().filter(|number| *number != 0) {
        let (found, new) = of(number);
        session.change_key(exchange, number, &found.key, new, wanted.version)?;
    }
    if missing.contains(&0) {
        session.change_own_key(exchange, &wanted.keys[0], wanted.version)?;
    }
    Ok(missing)
}

/// The whole proof as at a sale, and that key 0 is known.
fn prove(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    random: &mut Random<'_>,
) -> Result<(), EnrolError> {
    let keys = &enrolment.keys.keys;
    open(exchange, 0, &keys[0], random)?;
    let uid = &keys[usize::from(UID_KEY)];
    let told = open(exchange, UID_KEY, uid, random)?.card_uid(exchange)?;
    if told != enrolment.chip {
        return Err(EnrolError::OtherChip);
    }
    open(
        exchange,
        READING_KEY,
        &keys[usize::from(READING_KEY)],
        random,
    )?;
    Ok(())
}

fn open(
    exchange: &mut Exchange<'_>,
    number: u8,
    key: &ChipKey,
    random: &mut Random<'_>,
) -> Result<Session, ProofError> {
    let rnd_a = Zeroizing::new(random()?);
    ev2::authenticate(exchange, number, key, &rnd_a)
}

fn held(found: &[Found]) -> Held {
    let first = found.first().and_then(|found| found.version);
    let is_same = found.iter().all(|found| found.version == first);
    match (is_same, first) {
        (true, None) => Held::Factory,
        (true, Some(version)) => Held::Version(version),
        (false, _) => Held::Mixed,
    }
}

const KEY_VERSION: u8 = 0x64;
const NUMBERS: [u8; 5] = [0, 1, 2, 3, 4];
const MOST_TRIES: usize = 6;

#[cfg(test)]
mod tests {
    use canteen::ChipId;
    use chip_keys::{MasterBytes, MasterSet};

    use super::*;
    use crate::ChipFault;
    use crate::auth::virtual_card::VirtualCard;
    use crate::auth::{os_random, tests_of_identify};

    const UID: [u8; 7] = tests_of_identify::UID;
    const FACTORY: [[u8; 16]; 5] = [[0; 16]; 5];

    fn chip() -> ChipId {
        ChipId::from_uid(&UID).expect("a chip")
    }

    fn keys(version: u8) -> ChipKeys {
        let mut bytes = [version; 48];
        bytes[16..32].fill(0x40 | version);
        bytes[32..].fill(0x80 | version);
        let set = MasterSet::new(KeyVersion(version), &MasterBytes(bytes)).expect("a set");
        set.chip_keys(ChipKind::Ntag424, &chip())
    }

    fn bytes(keys: &ChipKeys) -> Vec<[u8; 16]> {
        keys.keys.iter().map(|key| *key.as_bytes()).collect()
    }

    fn holding(keys: &[[u8; 16]], versions: [u8; 5]) -> VirtualCard {
        let mut card = VirtualCard::new(&UID, keys.to_vec());
        card.versions = versions.into();
        card
    }

    fn enrolment(random_uid: bool) -> Enrolment {
        Enrolment {
            kind: ChipKind::Ntag424,
            chip: chip(),
            keys: keys(3),
            older: vec![keys(2), keys(1)],
            random_uid,
        }
    }

    fn enrolled(card: &mut VirtualCard, wanted: &Enrolment) -> Result<Enrolled, EnrolError> {
        enrol(&mut card.exchange(), wanted, &mut os_random)
    }

    /// What came of it, and that the chip holds the wanted keys if it was enrolled.
    #[track_caller]
    fn check(mut card: VirtualCard, expect: Result<(Held, &[u8]), EnrolError>) {
        let before = card.keys.clone();
        let told = enrolled(&mut card, &enrolment(false));
        let holds = if expect.is_ok() {
            bytes(&keys(3))
        } else {
            before
        };
        assert_eq!(card.keys, holds);
        let expect = expect.map(|(before, written)| Enrolled {
            before,
            written: written.to_vec(),
        });
        assert_eq!(told, expect);
        assert!(!card.shows_random);
    }

    #[test]
    fn a_chip_fresh_from_the_factory_is_given_all_keys_the_master_key_last() {
        check(
            holding(&FACTORY, [0; 5]),
            Ok((Held::Factory, &[4, 3, 2, 1, 0])),
        );
    }

    #[test]
    fn a_chip_with_older_keys_is_given_the_new_ones_and_one_with_new_ones_is_left_alone() {
        for version in [1, 2] {
            let held = Held::Version(KeyVersion(version));
            let card = holding(&bytes(&keys(version)), [version; 5]);
            check(card, Ok((held, &[4, 3, 2, 1, 0])));
        }
        let held = Held::Version(KeyVersion(3));
        check(holding(&bytes(&keys(3)), [3; 5]), Ok((held, &[])));
    }

    #[test]
    fn what_is_written_beside_a_key_is_a_hint_only() {
        let card = holding(&bytes(&keys(1)), [9, 0, 3, 3, 1]);
        let held = Held::Version(KeyVersion(1));
        check(card, Ok((held, &[4, 3, 2, 1, 0])));
    }

    #[test]
    fn a_chip_that_is_not_the_canteens_is_refused_and_left_as_it_was() {
        check(
            holding(&[[0x77; 16]; 5], [1; 5]),
            Err(EnrolError::OtherCanteen),
        );
        for number in 1..5 {
            let mut held = bytes(&keys(1));
            held[number] = [0x77; 16];
            let number = number as u8;
            check(
                holding(&held, [1; 5]),
                Err(EnrolError::UnknownKey { number }),
            );
        }
        let mut swapped = holding(&FACTORY, [0; 5]);
        swapped.uid[6] ^= 1;
        check(swapped, Err(EnrolError::OtherChip));
        let mut telephone = holding(&FACTORY, [0; 5]);
        telephone.select = vec![0];
        let none = ProofError::NoApplication { status: 0x6E00 };
        check(telephone, Err(none.into()));
        let mut plain = holding(&FACTORY, [0; 5]);
        plain.versions.clear();
        check(plain, Err(EnrolError::Kind));
    }

    /// Enrols a chip that is torn away after so many of its answers; whether that was the end.
    fn torn(card: &mut VirtualCard, wanted: &Enrolment, after: usize, heard: bool) -> bool {
        let mut step = 0;
        let mut exchange = |command: &[u8]| {
            step += 1;
            match step <= after {
                true => Ok(card.handle(command)),
                // It may have done what it was told, and left before it said so.
                false if step == after + 1 && heard => {
                    card.handle(command);
                    Err(ChipFault::HoldStill)
                }
                false => Err(ChipFault::HoldStill),
            }
        };
        enrol(&mut exchange, wanted, &mut os_random).is_ok()
    }

    #[test]
    fn a_chip_torn_away_after_any_command_is_enrolled_the_next_time() {
        let fresh: [VirtualCard; 2] =
            [holding(&FACTORY, [0; 5]), holding(&bytes(&keys(1)), [1; 5])];
        for (fresh, heard) in fresh.iter().flat_map(|card| [(card, false), (card, true)]) {
            let mut after = 0;
            loop {
                let mut card = fresh.clone();
                let whole = torn(&mut card, &enrolment(true), after, heard);
                card.handle(&[]);
                let again = enrolled(&mut card, &enrolment(true));
                again.unwrap_or_else(|error| panic!("after {after}: {error}"));
                assert_eq!(card.keys, bytes(&keys(3)), "after {after}");
                assert!(card.shows_random, "after {after}");
                if whole {
                    break;
                }
                after += 1;
            }
            assert!(after > 30, "{after} commands");
        }
    }

    #[test]
    fn a_chip_torn_away_twice_is_enrolled_the_third_time() {
        for first in 0..40 {
            let mut card = holding(&bytes(&keys(1)), [1; 5]);
            torn(&mut card, &enrolment(false), first, true);
            torn(&mut card, &enrolment(false), 26, true);
            let again = enrolled(&mut card, &enrolment(false));
            again.unwrap_or_else(|error| panic!("after {first}: {error}"));
            assert_eq!(card.keys, bytes(&keys(3)));
        }
    }

    #[test]
    fn an_answer_changed_on_the_way_never_enrols_and_costs_no_chip() {
        for at in 0..42 {
            let mut card = holding(&FACTORY, [0; 5]);
            let mut step = 0;
            let mut exchange = |command: &[u8]| {
                let mut answer = card.handle(command);
                // The version beside a key is a hint that may be wrong.
                if step == at && answer.len() != 3 {
                    answer[0] ^= 0x10;
                }
                step += 1;
                Ok(answer)
            };
            let told = enrol(&mut exchange, &enrolment(true), &mut os_random);
            let is_hint = (1..6).contains(&at);
            assert_eq!(told.is_ok(), is_hint || step <= at, "answer {at}: {told:?}");
            enrolled(&mut card, &enrolment(true)).expect("enrolled");
        }
    }

    #[test]
    fn a_random_uid_is_switched_on_only_when_it_is_asked_for_and_can_be() {
        let mut card = holding(&FACTORY, [0; 5]);
        enrolled(&mut card, &enrolment(true)).expect("enrolled");
        assert!(card.shows_random);
        let mut desfire = holding(&FACTORY, [0; 5]);
        desfire.select = vec![0x90, 0x5A, 0, 0, 3, 0xEE, 0x17, 0xCA, 0];
        let with = |random_uid| Enrolment {
            kind: ChipKind::Desfire,
            ..enrolment(random_uid)
        };
        let told = enrolled(&mut desfire, &with(true));
        assert_eq!(told, Err(EnrolError::NoRandomUid));
        assert_eq!(desfire.keys, FACTORY);
        enrolled(&mut desfire, &with(false)).expect("enrolled");
    }
}
