//! Keys for a chip on one of the till's readers, as a technician's command orders it.
//!
//! The keys come with the order and are gone with it: the till keeps none of them, and fetches the one
//! that it needs later like those of all other chips.

use std::time::Duration;

use canteen::{ChipId, KeyVersion};
use chip_keys::{ChipKey, ChipKeys, ChipKind};
use sync_proto::{ChipKeyVersion, EnrolmentKeys};
use till_control::{Answer, ChipEnrolAnswer, ChipLookAnswer, ErrorAnswer, ErrorCode};
use till_readers::auth::{
    Blank, ChipReport, ChipTask, EnrolError, Enrolled, Enrolment, Held, ProofError,
};
use till_readers::{ChipFault, ReaderName, ReaderState, Readers};
use tokio::sync::oneshot;
use tracing::info;

/// Looks for the chip, on one reader or on all that work.
pub(crate) async fn look(readers: &Readers, only: Option<&str>) -> Result<Answer, ErrorAnswer> {
    let mut found = None;
    for reader in working(readers, only)? {
        let looked = match work(readers, &reader, ChipTask::Look).await {
            Ok(ChipReport::Looked(looked)) => looked,
            Ok(ChipReport::Enrolled(_)) => continue,
            Err(EnrolError::Talk(ProofError::Exchange(ChipFault::Absent))) => continue,
            // It may be one of several, and the chip lies on another.
            Err(EnrolError::Reader) if only.is_none() => continue,
            Err(error) => return Err(refusal(&error)),
        };
        if found.replace((reader, looked)).is_some() {
            let several = ChipFault::Several.to_string();
            return Err(ErrorAnswer::new(ErrorCode::ChipRefused, several, ""));
        }
    }
    let (reader, Blank { kind, uid }) = found.ok_or_else(|| {
        ErrorAnswer::new(
            ErrorCode::NoChip,
            "no chip lies on a reader at which chips can be enrolled",
            "lay the chip on a reader that is no RDM6300 and does not type; see: tillctl reader list",
        )
    })?;
    let kind = match kind {
        ChipKind::Ntag424 => till_control::ChipKind::Ntag424,
        ChipKind::Desfire => till_control::ChipKind::Desfire,
        ChipKind::UltralightAes => till_control::ChipKind::UltralightAes,
    };
    Ok(Answer::ChipLook(ChipLookAnswer {
        reader: reader.to_string(),
        kind,
        uid,
    }))
}

/// What is ordered; `None` when the keys are none.
pub(crate) fn enrolment(
    kind: till_control::ChipKind,
    chip: ChipId,
    keys: &EnrolmentKeys,
    random_uid: bool,
) -> Option<Enrolment> {
    let kind = match kind {
        till_control::ChipKind::Ntag424 => ChipKind::Ntag424,
        till_control::ChipKind::Desfire => ChipKind::Desfire,
        till_control::ChipKind::UltralightAes => ChipKind::UltralightAes,
    };
    let versions: Option<Vec<ChipKeys>> = keys.versions.iter().map(chip_keys).collect();
    let mut versions = versions?.into_iter();
    let keys = versions.next()?;
    let is_public = keys.keys.iter().any(ChipKey::is_factory_key) || keys.version.0 == 0;
    (!is_public).then(|| Enrolment {
        kind,
        chip,
        keys,
        older: versions.collect(),
        random_uid,
    })
}

/// Writes the keys.
pub(crate) async fn enrol(
    readers: &Readers,
    reader: &str,
    enrolment: Option<Enrolment>,
) -> Result<Answer, ErrorAnswer> {
    let enrolment = enrolment.ok_or_else(|| {
        ErrorAnswer::new(
            ErrorCode::BadRequest,
            "the keys are not written as a chip's keys are",
            "use the tillctl that came with this tilld",
        )
    })?;
    let (chip, version) = (enrolment.chip, enrolment.keys.version);
    let reader = working(readers, Some(reader))?.remove(0);
    let task = ChipTask::Enrol(Box::new(enrolment));
    match work(readers, &reader, task).await {
        Ok(ChipReport::Enrolled(Enrolled { before, written })) => {
            info!(%reader, version = version.0, "Wrote keys on a chip");
            let before = match before {
                Held::Factory => till_control::Held::Factory,
                Held::Version(_) => till_control::Held::Version,
                Held::Mixed => till_control::Held::Mixed,
            };
            Ok(Answer::ChipEnrol(ChipEnrolAnswer {
                chip,
                version: version.0,
                before,
                written,
            }))
        }
        Ok(ChipReport::Looked(_)) => {
            Err(refusal(&EnrolError::Talk(ChipFault::ReaderFaulty.into())))
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// The readers that work, never none of them; only the one of that name.
fn working(readers: &Readers, only: Option<&str>) -> Result<Vec<ReaderName>, ErrorAnswer> {
    let listings = readers.list().into_iter();
    let names: Vec<ReaderName> = listings
        .filter(|listing| listing.state == ReaderState::Ready)
        .map(|listing| listing.name)
        .filter(|name| only.is_none_or(|only| *name.0 == *only))
        .collect();
    if names.is_empty() {
        let message = match only {
            Some(only) => format!("there is no working reader of the name {only:?}"),
            None => "no reader works".to_owned(),
        };
        let advice = "see: tillctl reader list";
        return Err(ErrorAnswer::new(ErrorCode::NoReader, message, advice));
    }
    Ok(names)
}

async fn work(
    readers: &Readers,
    reader: &ReaderName,
    task: ChipTask,
) -> Result<ChipReport, EnrolError> {
    let (reply, done) = oneshot::channel();
    let tell = move |told| {
        // Nobody waits any longer; the same order again finds what was done.
        let _ = reply.send(told);
    };
    readers.work_on_chip(reader, task, Box::new(tell));
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(Ok(told)) => told,
        Ok(Err(_)) | Err(_) => Err(ChipFault::ReaderFaulty.into()),
    }
}

fn chip_keys(version: &ChipKeyVersion) -> Option<ChipKeys> {
    let mut keys = Vec::new();
    for text in &version.keys {
        keys.push(ChipKey::new(*text.key()?));
    }
    Some(ChipKeys {
        version: KeyVersion(version.version),
        keys: keys.try_into().ok()?,
    })
}

fn refusal(error: &EnrolError) -> ErrorAnswer {
    let (code, advice) = match error {
        EnrolError::Kind | EnrolError::NoRandomUid => (ErrorCode::ChipKind, ""),
        EnrolError::OtherCanteen => (ErrorCode::OtherCanteen, ""),
        EnrolError::UnknownKey { .. } => (ErrorCode::UnknownChipKey, ""),
        EnrolError::OtherChip => (
            ErrorCode::OtherChip,
            "lay only the chip that is meant there",
        ),
        EnrolError::Reader => (ErrorCode::NoReader, "see: tillctl reader list"),
        EnrolError::Talk(ProofError::Exchange(fault)) => match fault {
            ChipFault::Absent | ChipFault::Mute | ChipFault::HoldStill => {
                (ErrorCode::ChipTorn, GO_ON)
            }
            ChipFault::ReaderInUse | ChipFault::ReaderFaulty => (ErrorCode::NoReader, GO_ON),
            ChipFault::Identity(_)
            | ChipFault::Unsupported { .. }
            | ChipFault::Technology
            | ChipFault::Typed(_)
            | ChipFault::Several => (ErrorCode::ChipKind, ""),
        },
        EnrolError::Talk(ProofError::Malformed { .. } | ProofError::Pausing) => {
            (ErrorCode::ChipTorn, GO_ON)
        }
        EnrolError::Talk(
            ProofError::Random(_)
            | ProofError::NoApplication { .. }
            | ProofError::NoSuchKey
            | ProofError::NoMark
            | ProofError::Unprotected
            | ProofError::WrongKey
            | ProofError::NotListed
            | ProofError::Forged
            | ProofError::Refused { .. }
            | ProofError::Identity(_)
            | ProofError::Exhausted,
        ) => (ErrorCode::ChipRefused, GO_ON),
    };
    ErrorAnswer::new(code, error.to_string(), advice)
}

const GO_ON: &str =
    "nothing is lost: lay the same chip on the reader again and give the same command again";
/// Under what the caller waits.
const PATIENCE: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use sync_proto::ChipKeyText;

    use super::*;

    fn keys(version: u8, key: [u8; 16]) -> EnrolmentKeys {
        let keys = [(); 5].map(|()| ChipKeyText::of(&key));
        EnrolmentKeys {
            versions: vec![ChipKeyVersion { version, keys }],
        }
    }

    #[track_caller]
    fn check(keys: &EnrolmentKeys, is_taken: bool) {
        let chip = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).unwrap();
        let taken = enrolment(till_control::ChipKind::Ntag424, chip, keys, false);
        assert_eq!(taken.is_some(), is_taken);
    }

    #[test]
    fn only_secret_keys_with_a_version_are_written() {
        check(&keys(1, [7; 16]), true);
        check(&keys(1, [0; 16]), false);
        check(&keys(0, [7; 16]), false);
        check(&EnrolmentKeys { versions: vec![] }, false);
        let text = serde_json::to_string(&keys(1, [7; 16])).unwrap();
        let short = serde_json::from_str(&text.replacen("0707", "", 1)).unwrap();
        check(&short, false);
    }

    #[tokio::test]
    async fn a_till_without_readers_says_so() {
        let readers = Readers::open([], std::sync::Arc::new(|_| {}));
        let told = look(&readers, None).await.unwrap_err();
        assert_eq!(told.code, ErrorCode::NoReader);
        let named = look(&readers, Some("pcsc:A")).await.unwrap_err();
        assert!(named.message.contains("\"pcsc:A\""), "{}", named.message);
    }
}
