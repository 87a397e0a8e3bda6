//! From what a reader sees of a chip to who it is: every reader comes through here.

use std::sync::{Arc, PoisonError, RwLock};

use canteen::{ChipId, ChipIdentity};
use chip_keys::{Application, SiteKeys};

use super::{Exchange, ProofError, ProvenChip, Random, Step, prove, prove_desfire_ev1, ultralight};
use crate::ChipFault;

/// The site's keys, as all readers of a till share them; one set for each kind of application
/// that chips of the site carry. Empty until the till has been given any.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Arc<RwLock<Arc<[SiteKeys]>>>);

impl Keyring {
    /// From the next chip on these keys count, and no others.
    pub fn put(&self, keys: Vec<SiteKeys>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    /// The keys that count now.
    pub fn now(&self) -> Arc<[SiteKeys]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a reader sees of a chip of ISO/IEC 14443 type A before anything is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The UID that it sends in the clear, which may be a random one.
    pub(crate) uid: Vec<u8>,
    /// What can be sent to it through this reader.
    pub(crate) speaks: Speaks,
}

/// What can be sent to a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Commands of ISO/IEC 7816-4.
    Apdus,
    /// Frames of ISO/IEC 14443-3, as they go over the air but for their checksums.
    Frames,
    /// It is to be found out before anything is sent.
    Unasked,
    /// Nothing.
    Nothing,
}

impl Speaks {
    /// By the chip's answer to its selection (SAK; ISO/IEC 14443-3, 6.5.3.4, and NXP's AN10833).
    pub(crate) fn of_select(sak: u8) -> Speaks {
        match sak {
            _ if sak & TAKES_APDUS != 0 => Speaks::Apdus,
            // The Ultralight family, and no other of NXP's storage chips.
            0x00 => Speaks::Frames,
            _ => Speaks::Nothing,
        }
    }

    /// Whether a chip that is spoken to so may have its keys there.
    fn suits(self, application: &Application) -> bool {
        match (application, self) {
            (_, Speaks::Unasked) => true,
            (Application::Named(_) | Application::Numbered(_), Speaks::Apdus)
            | (Application::Marked(_), Speaks::Frames) => true,
            (Application::Named(_) | Application::Numbered(_), Speaks::Frames)
            | (Application::Marked(_), Speaks::Apdus)
            | (_, Speaks::Nothing) => false,
        }
    }
}

impl Shown {
    /// Who the chip says that it is.
    pub(crate) fn claim(&self) -> Result<ChipIdentity, ChipFault> {
        Ok(ChipIdentity::Bare(ChipId::from_uid(&self.uid)?))
    }

    /// Whether there is anything to prove by.
    pub(crate) fn may_prove(&self, keys: &[SiteKeys]) -> bool {
        keys.iter()
            .any(|site| self.speaks.suits(site.application()))
    }

    fn failed(&self) -> ChipIdentity {
        ChipIdentity::Failed {
            claimed: ChipId::from_uid(&self.uid).ok(),
        }
    }
}

/// Finds out who the chip is. A fault means that nothing is known and another try may help.
///
/// A chip without the site's application or mark is no chip that proves itself, and its UID is taken for
/// what it is. One that has it and does not know the keys has failed, whatever UID
/// it shows.
pub(crate) fn identify(
    exchange: &mut Exchange<'_>,
    keys: &[SiteKeys],
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<ChipIdentity, ChipFault> {
    let suiting = |site: &&SiteKeys| shown.speaks.suits(site.application());
    for site in keys.iter().filter(suiting) {
        match prove_by(exchange, site, shown, random) {
            Ok(proven) => {
                return Ok(ChipIdentity::Proven {
                    chip: proven.uid,
                    key_version: proven.key_version,
                });
            }
            Err(ProofError::NoApplication { .. } | ProofError::NoMark) => {}
            Err(ProofError::Exchange(fault)) => return Err(fault),
            Err(ProofError::Identity(error)) => return Err(error.into()),
            // A chip torn away leaves answers cut short; a pausing one answers after a moment.
            Err(ProofError::Malformed { .. } | ProofError::Pausing) => {
                return Err(ChipFault::HoldStill);
            }
            Err(
                error @ (ProofError::Random(_)
                | ProofError::NoSuchKey
                | ProofError::Unprotected
                | ProofError::WrongKey
                | ProofError::NotListed
                | ProofError::Forged
                | ProofError::Refused { .. }
                | ProofError::Exhausted),
            ) => {
                tracing::debug!(%error, "Chip did not prove itself");
                return Ok(shown.failed());
            }
        }
    }
    shown.claim()
}

/// The proof of the kind of chip that the keys are for.
fn prove_by(
    exchange: &mut Exchange<'_>,
    site: &SiteKeys,
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<ProvenChip, ProofError> {
    if let Application::Marked(mark) = site.application() {
        return ultralight::prove(exchange, site, *mark, &shown.uid, random);
    }
    match prove(exchange, site, random) {
        Err(ProofError::Refused {
            step: Step::Challenge,
            status: UNKNOWN_COMMAND,
        }) => prove_older(exchange, site, shown, random),
        proof => proof,
    }
}

/// A DESFire EV1 knows the older authentication only, and tells no UID behind a random one.
fn prove_older(
    exchange: &mut Exchange<'_>,
    site: &SiteKeys,
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<ProvenChip, ProofError> {
    match (site.application(), ChipId::from_uid(&shown.uid)) {
        (Application::Numbered(_), Ok(uid)) => prove_desfire_ev1(exchange, site, uid, random),
        (Application::Numbered(_) | Application::Named(_) | Application::Marked(_), _) => {
            Err(ProofError::Refused {
                step: Step::Challenge,
                status: UNKNOWN_COMMAND,
            })
        }
    }
}

/// Bit 5 of SAK: the chip speaks ISO/IEC 14443-4.
const TAKES_APDUS: u8 = 0x20;
/// 911C: a DESFire does not know the command.
const UNKNOWN_COMMAND: u16 = 0x911C;

#[cfg(test)]
pub(crate) mod tests {
    use canteen::KeyVersion;
    use chip_keys::{ChipKey, ChipKeys, ChipKind, KeySet, ReadingKeys};

    use super::*;
    use crate::auth::talk::{Aim, Talk, Told, Turn};
    use crate::auth::virtual_card::VirtualCard;
    use crate::auth::virtual_ultralight::VirtualUltralight;
    use crate::auth::{Enrolment, os_random};

    pub(crate) const UID: [u8; 7] = [0x04, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80];
    const RANDOM_UID: [u8; 4] = [0x08, 0x3A, 0x5C, 0x11];

    /// The keys of a site whose chips have the UID key 11… and the reading key 22….
    pub(crate) fn site(application: Application) -> SiteKeys {
        let chip = ChipId::from_uid(&UID).expect("a chip");
        let listed = [(chip, ChipKey::new([0x22; 16]))].into();
        let set = KeySet {
            version: KeyVersion(1),
            uid_key: ChipKey::new([0x11; 16]),
            reading_keys: ReadingKeys::Listed(listed),
        };
        SiteKeys::new(application, b"", vec![set]).expect("keys")
    }

    /// A MIFARE Ultralight AES of that site.
    pub(crate) fn ultralight() -> VirtualUltralight {
        VirtualUltralight::new(UID, [0x22; 16], [0x11; 16])
    }

    /// A chip of that site.
    pub(crate) fn card() -> VirtualCard {
        VirtualCard::new(
            &UID,
            vec![[9; 16], [0x11; 16], [9; 16], [0x22; 16], [9; 16]],
        )
    }

    /// A chip as it leaves the factory.
    pub(crate) fn blank_card() -> VirtualCard {
        VirtualCard::new(&UID, vec![[0; 16]; 5])
    }

    /// What makes [`card`] of a [`blank_card`].
    pub(crate) fn enrolment() -> Box<Enrolment> {
        let keys = [9, 0x11, 9, 0x22, 9].map(|byte| ChipKey::new([byte; 16]));
        Box::new(Enrolment {
            kind: ChipKind::Ntag424,
            chip: ChipId::from_uid(&UID).expect("a chip"),
            keys: ChipKeys {
                version: KeyVersion(1),
                keys,
            },
            older: Vec::new(),
            random_uid: false,
        })
    }

    /// What makes [`ultralight`], but for its random UID, of one from the factory.
    pub(crate) fn ultralight_enrolment() -> Box<Enrolment> {
        Box::new(Enrolment {
            kind: ChipKind::UltralightAes,
            ..*enrolment()
        })
    }

    fn shown(uid: &[u8]) -> Shown {
        Shown {
            uid: uid.to_vec(),
            speaks: Speaks::Apdus,
        }
    }

    fn both() -> [SiteKeys; 2] {
        [
            site(Application::ntag_424()),
            site(Application::Numbered([0x12, 0x34, 0x56])),
        ]
    }

    fn proven() -> Result<ChipIdentity, ChipFault> {
        Ok(ChipIdentity::Proven {
            chip: ChipId::from_uid(&UID).expect("a chip"),
            key_version: KeyVersion(1),
        })
    }

    /// Who a chip is, when asked at once and when its answers come one by one.
    #[track_caller]
    fn check(
        card: &VirtualCard,
        shown: &Shown,
        keys: &[SiteKeys],
        expect: Result<ChipIdentity, ChipFault>,
    ) {
        let mut at_once = card.clone();
        let told = identify(&mut at_once.exchange(), keys, shown, &mut os_random);
        assert_eq!(told, expect);
        let mut card = card.clone();
        let mut talk = Talk::new(Aim::Identify, keys.into(), shown.clone());
        let told = loop {
            match talk.turn() {
                Turn::Send(command) => {
                    assert_eq!(talk.turn(), Turn::Send(command.clone()), "asked twice");
                    talk.handle_answer(card.handle(&command));
                }
                Turn::Done(told) => break told,
            }
        };
        assert_eq!(told, Told::Identified(expect));
    }

    #[test]
    fn a_chip_of_the_site_is_proven_whatever_uid_it_shows() {
        check(&card(), &shown(&RANDOM_UID), &both(), proven());
        check(&card(), &shown(&UID), &both(), proven());
    }

    #[test]
    fn a_chip_that_does_not_know_the_keys_has_failed() {
        for key in [1, 3] {
            let mut copy = card();
            copy.keys[key] = [0x77; 16];
            let failed = |claimed| Ok(ChipIdentity::Failed { claimed });
            check(&copy, &shown(&RANDOM_UID), &both(), failed(None));
            let claimed = ChipId::from_uid(&UID).ok();
            check(&copy, &shown(&UID), &both(), failed(claimed));
        }
    }

    #[test]
    fn a_chip_without_the_application_is_who_it_claims_to_be() {
        let mut other = card();
        other.select = vec![0];
        let claim = ChipIdentity::Bare(ChipId::from_uid(&UID).expect("a chip"));
        check(&other, &shown(&UID), &both(), Ok(claim));
        let random = Err(ChipFault::Identity(canteen::ChipIdError::Random));
        check(&other, &shown(&RANDOM_UID), &both(), random);
    }

    #[test]
    fn a_desfire_is_proven_by_its_numbered_application() {
        let mut desfire = card();
        desfire.select = vec![0x90, 0x5A, 0, 0, 3, 0x56, 0x34, 0x12, 0];
        check(&desfire, &shown(&RANDOM_UID), &both(), proven());
        desfire.is_ev1 = true;
        check(&desfire, &shown(&UID), &both(), proven());
        desfire.keys[3] = [0x77; 16];
        let claimed = ChipId::from_uid(&UID).ok();
        check(
            &desfire,
            &shown(&UID),
            &both(),
            Ok(ChipIdentity::Failed { claimed }),
        );
    }

    #[test]
    fn every_chip_of_the_site_fails_when_its_keys_are_withdrawn() {
        let withdrawn = ChipKind::ALL.map(SiteKeys::withdrawn);
        let failed = |claimed| Ok(ChipIdentity::Failed { claimed });
        check(&card(), &shown(&RANDOM_UID), &withdrawn, failed(None));
        let claimed = ChipId::from_uid(&UID).ok();
        check(&card(), &shown(&UID), &withdrawn, failed(claimed));
        // A telephone is none of them.
        let mut other = card();
        other.select = vec![0];
        let random = Err(ChipFault::Identity(canteen::ChipIdError::Random));
        check(&other, &shown(&RANDOM_UID), &withdrawn, random);
    }

    #[test]
    fn a_chip_is_sent_only_what_it_and_the_reader_can_speak() {
        let frames = |uid: &[u8]| Shown {
            uid: uid.to_vec(),
            speaks: Speaks::Frames,
        };
        let keys = [both().to_vec(), vec![site(Application::ultralight_aes())]].concat();
        let told = |chip: &mut VirtualUltralight, shown: &Shown| {
            let mut exchange = |frame: &[u8]| Ok(chip.handle(frame));
            identify(&mut exchange, &keys, shown, &mut os_random)
        };
        assert_eq!(told(&mut ultralight(), &frames(&RANDOM_UID)), proven());
        let mut copy = ultralight();
        copy.keys[0] = [0x77; 16];
        let failed = Ok(ChipIdentity::Failed { claimed: None });
        assert_eq!(told(&mut copy, &frames(&RANDOM_UID)), failed);
        // One of another kind is who it claims to be, and a random UID is nobody's.
        let mut other = ultralight();
        other.mark = [0; 4];
        assert_eq!(told(&mut other, &frames(&UID)), frames(&UID).claim());
        let random = Err(ChipFault::Identity(canteen::ChipIdError::Random));
        assert_eq!(told(&mut other, &frames(&RANDOM_UID)), random);
    }

    #[test]
    fn nothing_is_sent_without_keys_or_to_a_chip_that_takes_no_commands() {
        let claim = shown(&UID).claim();
        let mut silent = |command: &[u8]| -> Result<Vec<u8>, ChipFault> {
            panic!("nothing may be sent, not {command:02X?}")
        };
        let told = identify(&mut silent, &[], &shown(&UID), &mut os_random);
        assert_eq!(told, claim);
        let storage = Shown {
            speaks: Speaks::Nothing,
            ..shown(&UID)
        };
        let told = identify(&mut silent, &both(), &storage, &mut os_random);
        assert_eq!(told, claim);
    }

    #[test]
    fn a_torn_answer_is_no_failed_proof() {
        for at in 0..6 {
            let (mut card, mut step) = (card(), 0);
            let mut exchange = |command: &[u8]| {
                step += 1;
                let answer = card.handle(command);
                Ok(if step > at { Vec::new() } else { answer })
            };
            let told = identify(&mut exchange, &both(), &shown(&UID), &mut os_random);
            assert_eq!(told, Err(ChipFault::HoldStill), "torn at {at}");
        }
    }

    #[test]
    fn keys_on_a_ring_count_for_all_who_hold_it() {
        let ring = Keyring::default();
        let other = ring.clone();
        assert!(other.now().is_empty());
        ring.put(both().into());
        assert_eq!(other.now().len(), 2);
    }
}
