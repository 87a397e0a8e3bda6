//! Secrets on their way to one till, or at rest at the hub: HPKE (RFC 9180) to the key that signs.
//!
//! The signing key of a till or hub (Ed25519) is a key agreement key (X25519) as well, by the map
//! between the two curves, so that a till needs no second key and the hub none that it would have to
//! be told. That one key may serve both is shown in Thormarker, "On using the same key pair for
//! Ed25519 and an X25519 based KEM" (ePrint 2021/509).

use ed25519_dalek::{SigningKey, VerifyingKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::identity::{HubKey, HubPublicKey, TillKey, TillPublicKey};

/// A secret that only the holder of one key can read: the encapsulated key, then what is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SealedText", into = "SealedText")]
pub struct Sealed(Vec<u8>);

#[derive(Serialize, Deserialize)]
struct SealedText {
    sealed: String,
}

impl Sealed {
    /// As kept in a store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was kept in a store; whether it is anything is seen when it is opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Sealed {
        Sealed(bytes)
    }
}

impl TryFrom<SealedText> for Sealed {
    type Error = hex::FromHexError;

    fn try_from(text: SealedText) -> Result<Sealed, hex::FromHexError> {
        hex::decode(text.sealed).map(Sealed)
    }
}

impl From<Sealed> for SealedText {
    fn from(sealed: Sealed) -> SealedText {
        SealedText {
            sealed: hex::encode(sealed.0),
        }
    }
}

impl TillPublicKey {
    /// Seals a secret for this till; `about` says what it is, and must be said again to open it.
    pub fn seal(&self, about: &str, secret: &[u8]) -> Result<Sealed, SealError> {
        seal(&self.0, about, secret)
    }
}

impl TillKey {
    /// Opens what was sealed for this till.
    pub fn open(&self, about: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open(&self.0, about, sealed)
    }
}

impl HubPublicKey {
    /// Seals a secret for this hub alone.
    pub fn seal(&self, about: &str, secret: &[u8]) -> Result<Sealed, SealError> {
        seal(&self.0, about, secret)
    }
}

impl HubKey {
    /// Opens what was sealed for this hub.
    pub fn open(&self, about: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open(&self.0, about, sealed)
    }
}

/// Why a secret is not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The key is none.
    #[error("the key to seal for is not a key; enrol the till anew")]
    Key,
    /// It is sealed for another key, about something else, or damaged.
    #[error("what is sealed cannot be opened with this key")]
    Opening,
}

fn seal(key: &[u8; 32], about: &str, secret: &[u8]) -> Result<Sealed, SealError> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| SealError::Key)?;
    let key = <Agreement as Kem>::PublicKey::from_bytes(&key.to_montgomery().to_bytes())
        .map_err(|_| SealError::Key)?;
    let (encapsulated, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Agreement>(
        &OpModeS::Base,
        &key,
        PURPOSE,
        secret,
        about.as_bytes(),
    )
    .map_err(|_| SealError::Key)?;
    Ok(Sealed([&encapsulated.to_bytes()[..], &sealed].concat()))
}

fn open(key: &SigningKey, about: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let opening = |_| SealError::Opening;
    let scalar = Zeroizing::new(key.to_scalar_bytes());
    let key = <Agreement as Kem>::PrivateKey::from_bytes(&*scalar).map_err(opening)?;
    let (encapsulated, secret) = sealed
        .0
        .split_at_checked(ENCAPSULATED)
        .ok_or(SealError::Opening)?;
    let encapsulated =
        <Agreement as Kem>::EncappedKey::from_bytes(encapsulated).map_err(opening)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, Agreement>(
        &OpModeR::Base,
        &key,
        &encapsulated,
        PURPOSE,
        secret,
        about.as_bytes(),
    )
    .map(Zeroizing::new)
    .map_err(opening)
}

type Agreement = X25519HkdfSha256;
const ENCAPSULATED: usize = 32;
const PURPOSE: &[u8] = b"canteen-sealed-1";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a key of a chip";

    fn till(seed: u8) -> TillKey {
        TillKey::from_seed(&[seed; 32])
    }

    #[test]
    fn a_secret_is_opened_by_the_one_it_is_sealed_for() {
        let sealed = till(1).public().seal("keys", SECRET).unwrap();
        assert_eq!(*till(1).open("keys", &sealed).unwrap(), SECRET);
        assert_eq!(till(2).open("keys", &sealed), Err(SealError::Opening));
        assert_eq!(till(1).open("others", &sealed), Err(SealError::Opening));
        let hub = HubKey::from_seed(&[3; 32]);
        let kept = hub.public().seal("keys", SECRET).unwrap();
        assert_eq!(*hub.open("keys", &kept).unwrap(), SECRET);
    }

    #[test]
    fn a_secret_is_sealed_differently_each_time_and_never_in_the_clear() {
        let sealed = |_| till(1).public().seal("keys", SECRET).unwrap();
        let [one, two] = [0, 1].map(sealed);
        assert_ne!(one, two);
        let holds = |sealed: &Sealed| sealed.0.windows(SECRET.len()).any(|part| part == SECRET);
        assert!(!holds(&one));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealed = till(1).public().seal("keys", SECRET).unwrap();
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(
                till(1).open("keys", &changed),
                Err(SealError::Opening),
                "{at}"
            );
            let cut = Sealed(sealed.0[..at].to_vec());
            assert_eq!(till(1).open("keys", &cut), Err(SealError::Opening), "{at}");
        }
    }

    #[test]
    fn what_is_no_key_seals_nothing() {
        // No point of the curve has this coordinate.
        let mut none = [0; 32];
        none[0] = 2;
        assert_eq!(
            TillPublicKey(none).seal("keys", SECRET),
            Err(SealError::Key)
        );
    }

    #[test]
    fn a_sealed_secret_is_one_text_on_the_wire() {
        let text = r#"{"sealed":"0aff"}"#;
        let sealed: Sealed = serde_json::from_str(text).unwrap();
        assert_eq!(sealed.as_bytes(), [0x0A, 0xFF]);
        assert_eq!(serde_json::to_string(&sealed).unwrap(), text);
        assert!(serde_json::from_str::<Sealed>(r#"{"sealed":"0"}"#).is_err());
    }
}
