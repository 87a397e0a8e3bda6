//! The keys by which a till knows the chips of its site.

use std::collections::BTreeMap;

use canteen::{ChipId, KeyVersion};
use thiserror::Error;

use crate::key::{ChipKey, LONGEST_INPUT};

/// Where on the chip the site's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Application {
    /// By the name of ISO/IEC 7816-4, up to 16 bytes.
    Named(Vec<u8>),
    /// By DESFire's number of three bytes, written as on paper, most significant byte first.
    Numbered([u8; 3]),
    /// On a chip without applications, by a mark of three bytes at the beginning of its memory; the
    /// version of its keys stands behind it.
    Marked([u8; 3]),
}

/// The kinds of chips that the hub makes keys for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipKind {
    /// NTAG 424 DNA, which tills enrol.
    Ntag424,
    /// DESFire, set up by who delivers it.
    Desfire,
    /// MIFARE Ultralight AES, set up by who delivers it.
    UltralightAes,
}

impl ChipKind {
    /// All of them.
    pub const ALL: [ChipKind; 3] = [
        ChipKind::Ntag424,
        ChipKind::Desfire,
        ChipKind::UltralightAes,
    ];

    /// Where the keys are.
    pub fn application(self) -> Application {
        match self {
            ChipKind::Ntag424 => Application::ntag_424(),
            ChipKind::Desfire => Application::desfire(),
            ChipKind::UltralightAes => Application::ultralight_aes(),
        }
    }
}

impl Application {
    /// The only application of an NTAG 424 DNA.
    pub fn ntag_424() -> Application {
        Application::Named(vec![0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x01])
    }

    /// The application that canteens set up on a DESFire.
    pub fn desfire() -> Application {
        Application::Numbered([0xCA, 0x17, 0xEE])
    }

    /// The mark that canteens put on a MIFARE Ultralight AES, in its page 04.
    pub fn ultralight_aes() -> Application {
        Application::Marked([0xCA, 0x17, 0xAE])
    }

    /// The bytes that take part in a chip's diversified key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Application::Named(name) => name,
            Application::Numbered(number) | Application::Marked(number) => number,
        }
    }
}

/// One version of a site's keys.
#[derive(Debug, Clone)]
pub struct KeySet {
    /// Which version.
    pub version: KeyVersion,
    /// Key no. 1, the same in all chips of the site: it only opens the real UID.
    pub uid_key: ChipKey,
    /// Key no. 3, another one in every chip: it proves the chip.
    pub reading_keys: ReadingKeys,
}

/// How the till comes to the key that proves one chip.
#[derive(Debug, Clone)]
pub enum ReadingKeys {
    /// From a master key by AN10922, over UID, application and system name. Whoever steals such a
    /// till can make every chip of the site.
    Master(ChipKey),
    /// From the hub, which alone keeps the master. Whoever steals such a till can copy the chips
    /// that are listed, and no others.
    Listed(BTreeMap<ChipId, ChipKey>),
}

/// All keys of a site that are in use, newest first.
#[derive(Debug, Clone)]
pub struct SiteKeys {
    application: Application,
    system_name: Vec<u8>,
    sets: Vec<KeySet>,
}

impl SiteKeys {
    /// The longest line of versions: each refused one costs a chip an attempt, and a chip makes
    /// its reader wait after too many.
    const MOST_VERSIONS: usize = 4;

    /// Takes the sets newest first. The system name is any constant of the operator that keeps
    /// equal master keys of two systems from making equal chips; it may be empty.
    pub fn new(
        application: Application,
        system_name: &[u8],
        sets: Vec<KeySet>,
    ) -> Result<SiteKeys, SiteKeysError> {
        if !(1..=LONGEST_NAME).contains(&application.as_bytes().len()) {
            return Err(SiteKeysError::ApplicationName);
        }
        let most = LONGEST_INPUT - LONGEST_UID - application.as_bytes().len();
        if system_name.len() > most {
            return Err(SiteKeysError::SystemName { most });
        }
        if !(1..=Self::MOST_VERSIONS).contains(&sets.len()) {
            return Err(SiteKeysError::Versions { found: sets.len() });
        }
        for (at, set) in sets.iter().enumerate() {
            check_set(set)?;
            if sets[..at].iter().any(|newer| newer.version == set.version) {
                return Err(SiteKeysError::SameVersion {
                    version: set.version,
                });
            }
        }
        let system_name = system_name.to_vec();
        Ok(SiteKeys {
            application,
            system_name,
            sets,
        })
    }

    /// Keys of no version: the site's chips have the application, and the till has no key (any
    /// more) by which one of them could prove itself. So all of them fail, and none is taken for a
    /// chip of another kind.
    pub fn withdrawn(kind: ChipKind) -> SiteKeys {
        SiteKeys {
            application: kind.application(),
            system_name: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// Where on the chip they are.
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// All of them.
    pub fn newest_first(&self) -> impl Iterator<Item = &KeySet> {
        self.sets.iter()
    }

    /// The key that proves this chip; `None` if the till was not given it.
    pub fn reading_key(&self, set: &KeySet, chip: &ChipId) -> Option<ChipKey> {
        match &set.reading_keys {
            ReadingKeys::Listed(keys) => keys.get(chip).cloned(),
            ReadingKeys::Master(master) => {
                let application = self.application.as_bytes();
                let input = [chip.as_bytes(), application, &self.system_name].concat();
                master.diversified(&input)
            }
        }
    }
}

fn check_set(set: &KeySet) -> Result<(), SiteKeysError> {
    let version = set.version;
    let (factory_key, shared) = match &set.reading_keys {
        ReadingKeys::Master(master) => (master.is_factory_key(), *master == set.uid_key),
        ReadingKeys::Listed(keys) => (
            keys.values().any(ChipKey::is_factory_key),
            keys.values().any(|key| *key == set.uid_key),
        ),
    };
    if factory_key || set.uid_key.is_factory_key() {
        return Err(SiteKeysError::FactoryKey { version });
    }
    if shared {
        return Err(SiteKeysError::Shared { version });
    }
    Ok(())
}

/// Why keys cannot be a site's keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SiteKeysError {
    /// The application's name is empty or too long.
    #[error("the application's name must have 1 to 16 bytes")]
    ApplicationName,
    /// The system name does not fit into the diversification.
    #[error("the system name may have at most {most} bytes beside this application")]
    SystemName {
        /// How many bytes fit.
        most: usize,
    },
    /// There are no versions, or too many.
    #[error("a site has 1 to 4 versions of its keys, not {found}; retire the oldest")]
    Versions {
        /// How many were given.
        found: usize,
    },
    /// Two sets have the same version.
    #[error("there are two sets of keys of version {}", version.0)]
    SameVersion {
        /// Which version.
        version: KeyVersion,
    },
    /// A key is the one that every chip leaves the factory with.
    #[error("version {} holds the factory key (all zero), which proves nothing; set other keys", version.0)]
    FactoryKey {
        /// Which version.
        version: KeyVersion,
    },
    /// The key that is in all chips is a reading key too.
    #[error("version {} uses one key for the UID and for reading; a single opened chip would give away all", version.0)]
    Shared {
        /// Which version.
        version: KeyVersion,
    },
}

const LONGEST_NAME: usize = 16;
const LONGEST_UID: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn key(byte: u8) -> ChipKey {
        ChipKey::new([byte; 16])
    }

    fn set(version: u8, uid_key: u8, master: u8) -> KeySet {
        KeySet {
            version: KeyVersion(version),
            uid_key: key(uid_key),
            reading_keys: ReadingKeys::Master(key(master)),
        }
    }

    fn check(sets: Vec<KeySet>, expect: Option<SiteKeysError>) {
        assert_eq!(
            SiteKeys::new(Application::ntag_424(), b"canteen", sets).err(),
            expect
        );
    }

    #[test]
    fn only_keys_that_prove_something_are_a_sites_keys() {
        let version = KeyVersion(2);
        check(vec![set(2, 1, 2), set(1, 3, 4)], None);
        check(vec![], Some(SiteKeysError::Versions { found: 0 }));
        check(
            (0..5).map(|v| set(v, 1, 2)).collect(),
            Some(SiteKeysError::Versions { found: 5 }),
        );
        check(
            vec![set(2, 1, 2), set(2, 3, 4)],
            Some(SiteKeysError::SameVersion { version }),
        );
        check(
            vec![set(2, 0, 2)],
            Some(SiteKeysError::FactoryKey { version }),
        );
        check(
            vec![set(2, 1, 0)],
            Some(SiteKeysError::FactoryKey { version }),
        );
        check(vec![set(2, 7, 7)], Some(SiteKeysError::Shared { version }));
    }

    #[test]
    fn listed_keys_are_held_to_the_same_rules() {
        let chip = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).expect("a chip");
        let listed = |byte| KeySet {
            reading_keys: ReadingKeys::Listed(BTreeMap::from([(chip, key(byte))])),
            ..set(9, 1, 2)
        };
        let version = KeyVersion(9);
        check(vec![listed(5)], None);
        check(vec![listed(0)], Some(SiteKeysError::FactoryKey { version }));
        check(vec![listed(1)], Some(SiteKeysError::Shared { version }));
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let tried =
            |application, name: &[u8]| SiteKeys::new(application, name, vec![set(1, 1, 2)]).err();
        assert_eq!(tried(Application::ntag_424(), &[1; 14]), None);
        assert_eq!(
            tried(Application::ntag_424(), &[1; 15]),
            Some(SiteKeysError::SystemName { most: 14 })
        );
        assert_eq!(tried(Application::Numbered([1, 2, 3]), &[1; 18]), None);
        let named = |length| Application::Named(vec![1; length]);
        assert_eq!(tried(named(16), &[1; 5]), None);
        assert_eq!(tried(named(17), &[]), Some(SiteKeysError::ApplicationName));
        assert_eq!(tried(named(0), &[]), Some(SiteKeysError::ApplicationName));
    }

    /// UID, application and system name of the example of AN10922.
    #[test]
    fn a_chips_key_is_made_from_uid_application_and_system_name() {
        let master = ChipKey::new(hex("00112233445566778899AABBCCDDEEFF"));
        let set = KeySet {
            reading_keys: ReadingKeys::Master(master),
            ..set(1, 1, 2)
        };
        let application = Application::Numbered(hex("3042F5"));
        let keys = SiteKeys::new(application, b"NXP Abu", vec![set.clone()]).expect("keys");
        let chip = ChipId::from_uid(&hex::<Vec<u8>>("04782E21801D80")).expect("a chip");
        let expect = ChipKey::new(hex("A8DD63A3B89D54B37CA802473FDA9175"));
        assert_eq!(keys.reading_key(&set, &chip), Some(expect));
    }
}
