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

pub(super) mod pages;
pub(super) mod session;
pub(super) mod settings;

use canteen::{ChipId, ChipIdError, KeyVersion};
use chip_keys::{ChipKey, SiteKeys};
use zeroize::Zeroizing;

use super::{Exchange, ProofError, ProvenChip, Random, Step};
use session::{KeySlot, authenticate};
use settings::Settings;

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
        Err(ChipIdError::Random) => open_uid(exchange, &set.uid_key, random)?,
        Err(error) => return Err(error.into()),
    };
    let key = keys.reading_key(set, &uid).ok_or(ProofError::NotListed)?;
    let rnd_a = Zeroizing::new(random()?);
    let session = authenticate(exchange, KeySlot::Data, &key, &rnd_a)?;
    let settings = Settings::of(&session.read(exchange, pages::SETTINGS)?.1);
    let proven = ProvenChip {
        uid,
        key_version: version,
    };
    let is_safe = settings.is_safe();
    is_safe.then_some(proven).ok_or(ProofError::Unprotected)
}

/// The version of the keys on a chip that carries the mark.
pub(super) fn marked_version(
    exchange: &mut Exchange<'_>,
    mark: [u8; 3],
) -> Result<KeyVersion, ProofError> {
    match pages::read(exchange, pages::MARK) {
        Ok([a, b, c, version, ..]) if [a, b, c] == mark => Ok(KeyVersion(version)),
        // Four pages of something else, or a refusal.
        Ok(_) | Err(ProofError::Refused { .. }) => Err(ProofError::NoMark),
        Err(ProofError::Malformed { bytes, .. }) => Err(ProofError::Malformed {
            step: Step::Select,
            bytes,
        }),
        Err(error) => Err(error),
    }
}

/// The real UID behind a random one.
pub(super) fn open_uid(
    exchange: &mut Exchange<'_>,
    key: &ChipKey,
    random: &mut Random<'_>,
) -> Result<ChipId, ProofError> {
    let rnd_a = Zeroizing::new(random()?);
    let session = authenticate(exchange, KeySlot::Uid, key, &rnd_a)?;
    let [a, b, c, _check, d, e, f, g, ..] = session.read(exchange, pages::FIRST)?.1;
    Ok(ChipId::from_uid(&[a, b, c, d, e, f, g])?)
}

#[cfg(test)]
mod tests {
    use chip_keys::{Application, ChipKind, KeySet, ReadingKeys};
    use proptest::prelude::*;

    use super::*;
    use crate::auth::os_random;
    use crate::auth::virtual_ultralight::VirtualUltralight;

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
