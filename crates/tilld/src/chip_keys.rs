//! The keys by which chips prove themselves: fetched sealed, kept sealed, open in memory only.
//!
//! What lies on the disk is the hub's letter as it came. It is opened with the till's own key, so a
//! till whose key comes from the service manager's sealed credentials keeps no readable chip key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use canteen::{ChipId, KeyVersion};
use chip_keys::{
    Application, ChipKey, ChipKind, KeySet, ReadingKeys, SYSTEM_NAME, SiteKeys, SiteKeysError,
};
use sync_proto::{
    ApplicationKeys, Change, ChipKeyText, KeyDelivery, KeySetText, MarkedKeys, Record, SealError,
    Sealed, TillKey,
};
use thiserror::Error;
use till_ledger::Ledger;
use till_readers::Readers;
use tracing::{info, warn};

use crate::state_dir::{StateDir, StateError};

/// The keys of this till's canteen, as its readers use them.
pub(crate) struct KeyCase {
    readers: Arc<Readers>,
    ledger: Ledger,
    /// The hub has others than this till, or may have.
    is_owed: AtomicBool,
    /// The till has none.
    is_empty: AtomicBool,
}

impl KeyCase {
    /// A case with what was kept at the last contact.
    pub(crate) fn open(
        readers: Arc<Readers>,
        ledger: Ledger,
        state: &StateDir,
        key: &TillKey,
    ) -> KeyCase {
        let case = KeyCase {
            readers,
            ledger,
            is_owed: AtomicBool::new(true),
            is_empty: AtomicBool::new(true),
        };
        match state.chip_keys() {
            Ok(None) => {}
            Ok(Some(sealed)) => {
                if let Err(error) = case.put(&sealed, key) {
                    warn!(%error, "The kept chip keys cannot be used; waiting for new ones");
                }
            }
            Err(error) => warn!(%error, "The kept chip keys cannot be read; waiting for new ones"),
        }
        case.handle_new_chips();
        case
    }

    /// The chips may be others than before. Where some must prove themselves and the till has no
    /// key, all of their kind fail: one that shows a random UID is no telephone.
    pub(crate) fn handle_new_chips(&self) {
        if !self.is_empty.load(Ordering::Relaxed) {
            return;
        }
        let keys = match self.ledger.any_must_prove() {
            Ok(true) => ChipKind::ALL.map(SiteKeys::withdrawn).into(),
            Ok(false) => Vec::new(),
            Err(error) => {
                warn!(%error, "Cannot look up whether chips must prove themselves");
                return;
            }
        };
        self.readers.put_keys(keys);
    }

    /// Whether the hub is to be asked.
    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Relaxed)
    }

    /// Looks for news of keys among the hub's changes.
    pub(crate) fn note(&self, changes: &[Change]) {
        if changes
            .iter()
            .any(|change| change.record == Record::ChipKeys)
        {
            self.is_owed.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps and uses what the hub gave; nothing when the canteen's chips prove nothing.
    pub(crate) fn take(
        &self,
        sealed: Option<&Sealed>,
        state: &StateDir,
        key: &TillKey,
    ) -> Result<(), ChipKeysError> {
        match sealed {
            Some(sealed) => {
                self.put(sealed, key)?;
                state.keep_chip_keys(sealed)?;
                info!("Took new chip keys");
            }
            None => {
                self.is_empty.store(true, Ordering::Relaxed);
                self.handle_new_chips();
                state.forget_chip_keys()?;
            }
        }
        self.is_owed.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn put(&self, sealed: &Sealed, key: &TillKey) -> Result<(), ChipKeysError> {
        let text = key.open(KeyDelivery::ABOUT, sealed)?;
        let delivery: KeyDelivery =
            serde_json::from_slice(&text).map_err(|_| ChipKeysError::Shape)?;
        self.readers.put_keys(site_keys(&delivery)?);
        self.is_empty.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Why chip keys from the hub cannot be used. None of the texts says anything of a key.
#[derive(Debug, Error)]
pub(crate) enum ChipKeysError {
    /// They were sealed for another till, or for this one before it was enrolled anew.
    #[error("they are sealed for another key than this till's")]
    Seal(#[from] SealError),
    /// They are not written as keys are.
    #[error("they are not written as chip keys are")]
    Shape,
    /// They could prove nothing.
    #[error(transparent)]
    Keys(#[from] SiteKeysError),
    /// They cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

fn site_keys(delivery: &KeyDelivery) -> Result<Vec<SiteKeys>, ChipKeysError> {
    let applications = delivery.applications.iter().map(of_application);
    let marked = delivery.marked.iter().map(of_marked);
    applications.chain(marked).collect()
}

fn of_application(keys: &ApplicationKeys) -> Result<SiteKeys, ChipKeysError> {
    let shape = |_| ChipKeysError::Shape;
    let application = match (&keys.name, &keys.number) {
        (Some(name), None) => Application::Named(hex::decode(name).map_err(shape)?),
        (None, Some(number)) => {
            let mut bytes = [0; 3];
            hex::decode_to_slice(number, &mut bytes).map_err(shape)?;
            Application::Numbered(bytes)
        }
        (Some(_), Some(_)) | (None, None) => return Err(ChipKeysError::Shape),
    };
    of_kind(application, &keys.sets)
}

fn of_marked(keys: &MarkedKeys) -> Result<SiteKeys, ChipKeysError> {
    let mut mark = [0; 3];
    hex::decode_to_slice(&keys.mark, &mut mark).map_err(|_| ChipKeysError::Shape)?;
    of_kind(Application::Marked(mark), &keys.sets)
}

fn of_kind(application: Application, sets: &[KeySetText]) -> Result<SiteKeys, ChipKeysError> {
    let sets = sets.iter().map(of_set).collect::<Result<_, _>>()?;
    Ok(SiteKeys::new(application, SYSTEM_NAME, sets)?)
}

fn of_set(set: &KeySetText) -> Result<KeySet, ChipKeysError> {
    let of_chip = |(uid, key): (&String, &ChipKeyText)| Ok((chip(uid)?, chip_key(key)?));
    let listed: Result<_, ChipKeysError> = set.chips.iter().map(of_chip).collect();
    Ok(KeySet {
        version: KeyVersion(set.version),
        uid_key: chip_key(&set.uid_key)?,
        reading_keys: ReadingKeys::Listed(listed?),
    })
}

fn chip(uid: &str) -> Result<ChipId, ChipKeysError> {
    let bytes = hex::decode(uid).map_err(|_| ChipKeysError::Shape)?;
    ChipId::from_known(&bytes).map_err(|_| ChipKeysError::Shape)
}

fn chip_key(text: &ChipKeyText) -> Result<ChipKey, ChipKeysError> {
    let key = text.key().ok_or(ChipKeysError::Shape)?;
    Ok(ChipKey::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "04958CAA5C5E80";

    fn delivery(name: Option<&str>, number: Option<&str>, uid: &str, byte: u8) -> KeyDelivery {
        KeyDelivery {
            applications: vec![ApplicationKeys {
                name: name.map(str::to_owned),
                number: number.map(str::to_owned),
                sets: vec![KeySetText {
                    version: 1,
                    uid_key: ChipKeyText::of(&[1; 16]),
                    chips: [(uid.to_owned(), ChipKeyText::of(&[byte; 16]))].into(),
                }],
            }],
            marked: Vec::new(),
        }
    }

    #[track_caller]
    fn check(delivery: &KeyDelivery, expect: Option<&str>) {
        let error = site_keys(delivery).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expect);
    }

    #[test]
    fn a_delivery_becomes_the_sites_keys() {
        check(&delivery(Some("D2760000850101"), None, UID, 2), None);
        check(&delivery(None, Some("CA17EE"), UID, 2), None);
        // One number that no UID is does not cost the till the keys of all other chips.
        check(&delivery(Some("D2760000850101"), None, "0863E6C3", 2), None);
        let keys = site_keys(&delivery(None, Some("CA17EE"), UID, 2)).unwrap();
        assert_eq!(*keys[0].application(), Application::desfire());
    }

    #[test]
    fn keys_of_marked_chips_stand_beside_those_of_applications() {
        let mut both = delivery(None, Some("CA17EE"), UID, 2);
        let marked = |mark: &str| {
            vec![MarkedKeys {
                mark: mark.to_owned(),
                sets: both.applications[0].sets.clone(),
            }]
        };
        let (good, bad) = (marked("CA17AE"), marked("CA17"));
        both.marked = good;
        let keys = site_keys(&both).unwrap();
        assert_eq!(*keys[1].application(), Application::ultralight_aes());
        both.marked = bad;
        check(&both, Some("they are not written as chip keys are"));
    }

    #[test]
    fn what_is_no_delivery_is_refused_and_not_repeated() {
        let shape = Some("they are not written as chip keys are");
        check(&delivery(None, None, UID, 2), shape);
        check(&delivery(Some("D2"), Some("CA17EE"), UID, 2), shape);
        check(&delivery(Some("D"), None, UID, 2), shape);
        check(&delivery(None, Some("CA17"), UID, 2), shape);
        check(&delivery(Some("D2"), None, "0495", 2), shape);
        let factory = site_keys(&delivery(Some("D2"), None, UID, 0)).unwrap_err();
        assert!(matches!(factory, ChipKeysError::Keys(_)), "{factory}");
    }
}
