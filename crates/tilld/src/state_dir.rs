//! The directory that makes a till this till: its key, its token, its ledger.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::unistd::{User, geteuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sync_proto::{Epoch, Head, HubPublicKey, Sealed, TillId, TillKey};
use thiserror::Error;

use crate::hub::Credentials;
use crate::standing::Standing;

/// The till's state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
}

/// What the hub gave this till when it was enrolled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolment {
    /// The till it was given to.
    pub(crate) till: TillId,
    /// The life of the ledger it was given for.
    pub(crate) epoch: Epoch,
    /// The hub that gave it.
    pub(crate) hub_url: String,
    /// Sent with every request; a secret.
    pub(crate) token: String,
    /// What the hub signs its answers with; absent from enrolments by programs that did not ask for
    /// it, which are to be made again.
    #[serde(default)]
    pub(crate) hub_key: Option<HubPublicKey>,
    /// The canteen's name.
    pub(crate) canteen: String,
    /// The fingerprint of the code that was used, so that another one in the settings is seen.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// When it was given, by the time that the till believed: it cannot be earlier than this.
    #[serde(default)]
    pub(crate) at: Option<Timestamp>,
}

/// How the till stands, for one life of its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptStanding {
    /// The life of the ledger.
    pub(crate) epoch: Epoch,
    /// How it stands.
    #[serde(flatten)]
    pub(crate) standing: Standing,
}

/// How far the ledger was at some time, written down beside it: a ledger that holds less, or
/// something else there, was put back from a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The life of the ledger.
    pub(crate) epoch: Epoch,
    /// Its last entry.
    pub(crate) head: Head,
}

/// A new life of the ledger that is under way: everything old goes up first.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renewal {
    /// The one-time code; a secret.
    pub(crate) code: String,
    /// The life that ends.
    pub(crate) from: Epoch,
    /// The life that begins.
    pub(crate) to: Epoch,
}

/// Without the code, which must not reach a log.
impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// What a one-time code is known by where it must not be readable.
pub(crate) fn fingerprint(code: &str) -> String {
    hex::encode(Sha256::digest(code.as_bytes()))
}

impl Enrolment {
    /// What the two know each other by, if it is all there.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        Some(Credentials {
            token: self.token.clone(),
            hub_key: self.hub_key?,
        })
    }
}

/// Without the token, which must not reach a log.
impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("till", &self.till)
            .field("epoch", &self.epoch)
            .field("canteen", &self.canteen)
            .finish_non_exhaustive()
    }
}

impl StateDir {
    /// Opens the directory and makes it when it is missing.
    pub(crate) fn open(path: &Path) -> Result<StateDir, StateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| StateError::File {
                path: path.to_owned(),
                source,
            })?;
        Ok(StateDir {
            path: path.to_owned(),
        })
    }

    /// Where the ledger is.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.path.join("ledger.db")
    }

    /// The till's key; drawn at the first start.
    pub(crate) fn key(&self) -> Result<TillKey, StateError> {
        let path = self.path.join("till.key");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mut seed = [0; 32];
                hex::decode_to_slice(text.trim(), &mut seed)
                    .map_err(|_| StateError::Key { path: path.clone() })?;
                Ok(TillKey::from_seed(&seed))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|_| StateError::Random)?;
                self.write_secret(&path, hex::encode(seed).as_bytes())?;
                Ok(TillKey::from_seed(&seed))
            }
            Err(source) => Err(StateError::File { path, source }),
        }
    }

    /// What the hub gave, if this till is enrolled for this ledger.
    pub(crate) fn enrolment(
        &self,
        till: &TillId,
        epoch: Epoch,
    ) -> Result<Option<Enrolment>, StateError> {
        let kept: Option<Enrolment> = self.read(ENROLMENT)?;
        Ok(kept.filter(|known| known.till == *till && known.epoch == epoch))
    }

    /// Keeps what the hub gave.
    pub(crate) fn keep_enrolment(&self, enrolment: &Enrolment) -> Result<(), StateError> {
        self.write(ENROLMENT, enrolment)
    }

    /// How the till stood when it stopped.
    pub(crate) fn standing(&self, epoch: Epoch) -> Result<Standing, StateError> {
        let kept: Option<KeptStanding> = self.read(STANDING)?;
        let kept = kept.filter(|kept| kept.epoch == epoch);
        Ok(kept.map_or(Standing::Good, |kept| kept.standing))
    }

    /// Keeps how the till stands.
    pub(crate) fn keep_standing(&self, kept: &KeptStanding) -> Result<(), StateError> {
        if kept.standing.lasts() {
            self.write(STANDING, kept)
        } else {
            self.remove(STANDING)
        }
    }

    /// How far this life of the ledger was when somebody last looked.
    pub(crate) fn mark(&self, epoch: Epoch) -> Result<Option<Mark>, StateError> {
        let mark: Option<Mark> = self.read(MARK)?;
        Ok(mark.filter(|mark| mark.epoch == epoch))
    }

    /// Writes down how far the ledger is.
    pub(crate) fn keep_mark(&self, mark: &Mark) -> Result<(), StateError> {
        self.write(MARK, mark)
    }

    /// The new life that is under way.
    pub(crate) fn renewal(&self) -> Result<Option<Renewal>, StateError> {
        self.read(RENEWAL)
    }

    /// Begins a new life, or goes on with it after a restart.
    pub(crate) fn keep_renewal(&self, renewal: &Renewal) -> Result<(), StateError> {
        self.write(RENEWAL, renewal)
    }

    /// The new life has begun, or cannot begin.
    pub(crate) fn end_renewal(&self) -> Result<(), StateError> {
        self.remove(RENEWAL)
    }

    /// Where a ledger is kept when its life has ended.
    pub(crate) fn old_ledger(&self, epoch: Epoch) -> PathBuf {
        self.path.join(format!("ledger-{epoch}.db"))
    }

    /// The ledgers whose life has ended.
    pub(crate) fn old_ledgers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let file = file?;
            let name = file.file_name();
            let epoch = name.to_str().and_then(|name| {
                let epoch = name.strip_prefix("ledger-")?.strip_suffix(".db")?;
                epoch.parse::<Epoch>().ok()
            });
            if epoch.is_some() {
                found.push(file.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|source| StateError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::File { path, source }),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(|source| StateError::Damaged {
            path: path.clone(),
            source,
        })?;
        self.write_secret(&path, &text)
    }

    /// The chip keys as the hub sealed them, if there are any.
    pub(crate) fn chip_keys(&self) -> Result<Option<Sealed>, StateError> {
        let path = self.path.join(CHIP_KEYS);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(Sealed::from_bytes(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::File { path, source }),
        }
    }

    /// Keeps the chip keys as the hub sealed them.
    pub(crate) fn keep_chip_keys(&self, sealed: &Sealed) -> Result<(), StateError> {
        self.write_secret(&self.path.join(CHIP_KEYS), sealed.as_bytes())
    }

    /// Keeps no chip keys any longer.
    pub(crate) fn forget_chip_keys(&self) -> Result<(), StateError> {
        self.remove(CHIP_KEYS)
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StateError::File { path, source }),
        }
    }

    /// Writes the whole file or leaves the old one, also through a power cut.
    fn write_secret(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        let fresh = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| StateError::File {
            path: path.to_owned(),
            source,
        })
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    /// A file cannot be read or written.
    #[error("cannot use {}; {}", path.display(), advice(source))]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("{} is no till key (64 hex digits); restore it, or remove it and enrol anew", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// A file holds something else than the till wrote.
    #[error("{} is damaged; keep it aside, and see whether the till must be enrolled anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
}

/// What a technician can do about it.
fn advice(error: &io::Error) -> String {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    match error.kind() {
        PermissionDenied => format!(
            "it must belong to the user that tilld runs as, which is now {}",
            running_user()
        ),
        AlreadyExists | NotADirectory => "till.state_dir must be a directory".to_owned(),
        StorageFull | QuotaExceeded => "make room on its disk (runbook/full-disk.md)".to_owned(),
        ReadOnlyFilesystem => {
            "its disk can only be read; see journalctl -k for what happened to it".to_owned()
        }
        _ => "till.state_dir must be a directory on a disk of this machine".to_owned(),
    }
}

fn running_user() -> String {
    let uid = geteuid();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("number {uid}"),
    }
}

const CHIP_KEYS: &str = "chip-keys.sealed";
const ENROLMENT: &str = "enrolment.json";
const STANDING: &str = "standing.json";
const MARK: &str = "mark.json";
const RENEWAL: &str = "renewal.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sync_proto::HubKey;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_is_for_the_till_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("kasse")).unwrap();
        let first = state.key().unwrap().public();
        assert_eq!(state.key().unwrap().public(), first);
        let mode = fs::metadata(dir.path().join("kasse/till.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_enrolment_holds_for_its_till_and_ledger_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let till: TillId = "kasse-1".parse().unwrap();
        assert_eq!(state.enrolment(&till, Epoch(1)).unwrap(), None);
        let enrolment = Enrolment {
            till: till.clone(),
            epoch: Epoch(1),
            hub_url: "http://127.0.0.1:8080".into(),
            token: "secret".into(),
            hub_key: Some(HubKey::from_seed(&[7; 32]).public()),
            canteen: "Demokantinen".into(),
            code: Some(fingerprint("DEMO")),
            at: Some("2026-11-20T10:00:00Z".parse().unwrap()),
        };
        state.keep_enrolment(&enrolment).unwrap();
        assert_eq!(
            state.enrolment(&till, Epoch(1)).unwrap(),
            Some(enrolment.clone())
        );
        assert_eq!(state.enrolment(&till, Epoch(2)).unwrap(), None);
        assert!(!format!("{enrolment:?}").contains("secret"));
    }

    #[test]
    fn an_enrolment_without_the_hubs_key_is_to_be_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"till":"kasse-1","epoch":"0000000000000001","hub_url":"http://127.0.0.1:8080",
            "token":"secret","canteen":"Demokantinen"}"#;
        fs::write(dir.path().join(ENROLMENT), old).unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let known = state.enrolment(&"kasse-1".parse().unwrap(), Epoch(1));
        let known = known.unwrap().unwrap();
        assert_eq!(known.canteen, "Demokantinen");
        assert!(known.credentials().is_none());
    }

    #[test]
    fn how_a_till_stands_holds_for_its_ledger_only_and_goes_when_all_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let forked = Standing::Forked { agreed_through: 7 };
        let kept = |epoch, standing| KeptStanding {
            epoch: Epoch(epoch),
            standing,
        };
        state.keep_standing(&kept(1, forked)).unwrap();
        assert_eq!(state.standing(Epoch(1)).unwrap(), forked);
        assert_eq!(state.standing(Epoch(2)).unwrap(), Standing::Good);
        state.keep_standing(&kept(1, Standing::Good)).unwrap();
        assert_eq!(state.standing(Epoch(1)).unwrap(), Standing::Good);
        assert_eq!(state.renewal().unwrap(), None);
        state.end_renewal().unwrap();
    }

    #[test]
    fn chip_keys_are_kept_sealed_and_for_the_till_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.chip_keys().unwrap(), None);
        let secret = b"0123456789abcdef";
        let key = state.key().unwrap();
        let sealed = key.public().seal("chip-keys", secret).unwrap();
        state.keep_chip_keys(&sealed).unwrap();
        assert_eq!(state.chip_keys().unwrap(), Some(sealed.clone()));
        assert_eq!(*key.open("chip-keys", &sealed).unwrap(), secret);
        let path = dir.path().join(CHIP_KEYS);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = fs::read(path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        state.forget_chip_keys().unwrap();
        state.forget_chip_keys().unwrap();
        assert_eq!(state.chip_keys().unwrap(), None);
    }

    #[test]
    fn a_damaged_key_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("till.key"), "zz").unwrap();
        let error = StateDir::open(dir.path()).unwrap().key().unwrap_err();
        assert!(matches!(error, StateError::Key { .. }), "{error}");
    }
}
