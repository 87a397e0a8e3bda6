//! Writes the canteen's keys on a chip, so that it can prove itself from then on.
//!
//! A chip that is torn away at any moment is enrolled by the same order again: how, differs from kind to
//! kind of chip.

mod application;
mod ultralight;

use canteen::{ChipId, KeyVersion};
use chip_keys::{ChipKeys, ChipKind, SiteKeys};
use thiserror::Error;

use super::identify::{Shown, Speaks};
use super::{Exchange, NoRandom, ProofError, Random, apdu, open_uid};
use crate::ChipFault;

/// What is to be written on a chip.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Of which kind the chip is.
    pub kind: ChipKind,
    /// Which chip, by its real UID.
    pub chip: ChipId,
    /// The keys that it is to hold from now on.
    pub keys: ChipKeys,
    /// Keys of other versions, which it may hold still.
    pub older: Vec<ChipKeys>,
    /// Whether it is to show another UID at every power-up, which cannot be taken back.
    pub random_uid: bool,
}

/// A chip that holds the canteen's keys and has proven itself by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// What it held before.
    pub before: Held,
    /// The numbers of the keys that were written now.
    pub written: Vec<u8>,
}

/// What a chip held when it was laid on the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The keys that every chip leaves the factory with.
    Factory,
    /// The keys of one version.
    Version(KeyVersion),
    /// Several: an enrolment broke off.
    Mixed,
}

/// A chip on the reader, before anything is written on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blank {
    /// Of which kind it is.
    pub kind: ChipKind,
    /// Its real UID; `None` when it shows a random one that none of the till's keys opens.
    pub uid: Option<ChipId>,
}

/// Something to be done with the chip in the field, alone with it.
#[derive(Debug, Clone)]
pub enum ChipTask {
    /// Find out which chip it is; nothing is written.
    Look,
    /// Write keys on it.
    Enrol(Box<Enrolment>),
}

/// What came of a [`ChipTask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChipReport {
    /// Of [`ChipTask::Look`].
    Looked(Blank),
    /// Of [`ChipTask::Enrol`].
    Enrolled(Enrolled),
}

/// Takes what came of a [`ChipTask`]; dropped uncalled when the reader goes before.
pub type Reply = Box<dyn FnOnce(Result<ChipReport, EnrolError>) + Send>;

impl ChipTask {
    pub(crate) fn run(
        &self,
        exchange: &mut Exchange<'_>,
        site: &[SiteKeys],
        shown: &Shown,
        random: &mut Random<'_>,
    ) -> Result<ChipReport, EnrolError> {
        match self {
            ChipTask::Look => look(exchange, site, shown, random).map(ChipReport::Looked),
            ChipTask::Enrol(enrolment) => {
                enrol(exchange, enrolment, shown, random).map(ChipReport::Enrolled)
            }
        }
    }
}

/// Finds out which chip lies there and whether it is of a kind that can be enrolled.
pub(crate) fn look(
    exchange: &mut Exchange<'_>,
    site: &[SiteKeys],
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<Blank, EnrolError> {
    match shown.speaks {
        Speaks::Frames => return ultralight::look(exchange, site, shown, random),
        Speaks::Unasked | Speaks::Nothing => return Err(EnrolError::Kind),
        Speaks::Apdus => {}
    }
    for kind in ChipKind::ALL {
        match apdu::select(exchange, &kind.application()) {
            Ok(()) => {}
            Err(ProofError::NoApplication { .. } | ProofError::NoMark) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Ok(uid) = ChipId::from_uid(&shown.uid) {
            let uid = Some(uid);
            return Ok(Blank { kind, uid });
        }
        let mut its_keys = site
            .iter()
            .filter(|keys| *keys.application() == kind.application());
        let uid = match its_keys.next().map(|keys| open_uid(exchange, keys, random)) {
            Some(Ok((uid, _version))) => Some(uid),
            None | Some(Err(ProofError::WrongKey)) => None,
            Some(Err(error)) => return Err(error.into()),
        };
        return Ok(Blank { kind, uid });
    }
    Err(EnrolError::Kind)
}

fn enrol(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<Enrolled, EnrolError> {
    match (enrolment.kind, shown.speaks) {
        (ChipKind::Ntag424 | ChipKind::Desfire, Speaks::Apdus) => {
            application::enrol(exchange, enrolment, random)
        }
        (ChipKind::UltralightAes, Speaks::Frames) => {
            ultralight::enrol(exchange, enrolment, shown, random)
        }
        (
            ChipKind::Ntag424 | ChipKind::Desfire | ChipKind::UltralightAes,
            Speaks::Apdus | Speaks::Frames | Speaks::Unasked | Speaks::Nothing,
        ) => Err(EnrolError::Kind),
    }
}

/// Why a chip was not enrolled, or not to the end. Whatever the reason, it holds known keys only
/// and the enrolment can be done again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnrolError {
    /// The talk with the chip did not come to its end.
    #[error(transparent)]
    Talk(#[from] ProofError),
    /// The chip is of a kind that cannot be enrolled, or not at this reader.
    #[error(
        "this chip cannot be given keys at this reader; use NTAG 424 DNA, or DESFire prepared for canteens (MIFARE Ultralight AES: at a PN532, TWN4, ACR122U or the own protocol only)"
    )]
    Kind,
    /// Key 0 is none that this canteen ever had.
    #[error(
        "the chip holds another canteen's keys, which cannot be written over; use another chip"
    )]
    OtherCanteen,
    /// The chip may be the canteen's own, and one of its keys is none that is known.
    #[error("the chip's key {number} is not known here, so it cannot be changed; use another chip")]
    UnknownKey {
        /// Its number.
        number: u8,
    },
    /// The chip on the reader is not the one whose keys these are.
    #[error("another chip lies on the reader than the one to be enrolled; nothing was written")]
    OtherChip,
    /// A DESFire is given no random UID here.
    #[error("a DESFire cannot be given a random UID here; enrol this chip without it")]
    NoRandomUid,
    /// The reader passes no commands on to chips.
    #[error(
        "this reader passes nothing on to a chip, so none can be enrolled at it; use one of PC/SC, a PN532 or a TWN4"
    )]
    Reader,
}

impl From<ChipFault> for EnrolError {
    fn from(fault: ChipFault) -> EnrolError {
        EnrolError::Talk(fault.into())
    }
}

impl From<NoRandom> for EnrolError {
    fn from(error: NoRandom) -> EnrolError {
        EnrolError::Talk(error.into())
    }
}

#[cfg(test)]
mod tests {
    use chip_keys::Application;

    use super::*;
    use crate::auth::virtual_card::VirtualCard;
    use crate::auth::{os_random, tests_of_identify};

    const UID: [u8; 7] = tests_of_identify::UID;

    fn chip() -> ChipId {
        ChipId::from_uid(&UID).expect("a chip")
    }

    /// As it leaves the factory.
    fn fresh() -> VirtualCard {
        VirtualCard::new(&UID, vec![[0; 16]; 5])
    }

    #[track_caller]
    fn check_look(
        mut card: VirtualCard,
        shown: &[u8],
        site: &[SiteKeys],
        expect: Result<Option<ChipId>, EnrolError>,
    ) {
        let shown = Shown {
            uid: shown.to_vec(),
            speaks: Speaks::Apdus,
        };
        let told = look(&mut card.exchange(), site, &shown, &mut os_random);
        assert_eq!(told.map(|found| found.uid), expect);
    }

    #[test]
    fn a_look_tells_the_real_uid_where_the_tills_keys_open_it() {
        let random = [0x08, 1, 2, 3];
        let site = [tests_of_identify::site(Application::ntag_424())];
        let mut own = tests_of_identify::card();
        own.keys[3] = [0x55; 16];
        check_look(own.clone(), &random, &site, Ok(Some(chip())));
        check_look(own.clone(), &random, &[], Ok(None));
        check_look(fresh(), &random, &site, Ok(None));
        check_look(own, &UID, &[], Ok(Some(chip())));
        let mut telephone = fresh();
        telephone.select = vec![0];
        check_look(telephone, &random, &site, Err(EnrolError::Kind));
        let storage = Shown {
            uid: UID.to_vec(),
            speaks: Speaks::Nothing,
        };
        let mut silent = |_: &[u8]| -> Result<Vec<u8>, ChipFault> { panic!("nothing may be sent") };
        let told = look(&mut silent, &site, &storage, &mut os_random);
        assert_eq!(told, Err(EnrolError::Kind));
    }
}
