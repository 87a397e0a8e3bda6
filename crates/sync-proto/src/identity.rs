//! Who speaks: tills, their epochs, the hub's epoch, and the till's signing key.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a till: 1 to 32 lower-case letters, digits and hyphens, unique at the hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TillId(String);

impl TillId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TillId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<TillId, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(TillId(text.to_owned()))
        } else {
            Err(IdentityError::TillId)
        }
    }
}

impl TryFrom<String> for TillId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<TillId, IdentityError> {
        text.parse()
    }
}

impl From<TillId> for String {
    fn from(till: TillId) -> String {
        till.0
    }
}

/// One life of a till's ledger, drawn at random: a restored or cloned till draws a new one, so
/// that no sequence number is ever used twice within an epoch. Sixteen hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl FromStr for Epoch {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Epoch, IdentityError> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Epoch).ok_or(IdentityError::Epoch)
    }
}

impl TryFrom<String> for Epoch {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Epoch, IdentityError> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> String {
        epoch.to_string()
    }
}

/// The till's secret key; made on the till and never leaves it.
pub struct TillKey(pub(crate) SigningKey);

impl TillKey {
    /// A key from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> TillKey {
        TillKey(SigningKey::from_bytes(seed))
    }

    /// The half that the hub may know.
    pub fn public(&self) -> TillPublicKey {
        TillPublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> HeadSignature {
        HeadSignature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for TillKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TillKey(secret)")
    }
}

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"), &hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<$name, IdentityError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| IdentityError::Hex { bytes: $len })?;
                Ok($name(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentityError;

            fn try_from(text: String) -> Result<$name, IdentityError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}
pub(crate) use hex_bytes;

hex_bytes!(
    /// The half of a till's key that the hub knows (Ed25519, 32 bytes as hex).
    TillPublicKey,
    32
);
hex_bytes!(
    /// A till's signature over a head of its ledger (Ed25519, 64 bytes as hex).
    HeadSignature,
    64
);

impl TillPublicKey {
    /// Whether the till signed this message.
    pub fn verifies(&self, message: &[u8], signature: &HeadSignature) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else {
            return false;
        };
        key.verify(message, &Signature::from_bytes(&signature.0))
            .is_ok()
    }
}

/// The hub's secret key; signs what tills are told.
pub struct HubKey(pub(crate) SigningKey);

impl HubKey {
    /// A key from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> HubKey {
        HubKey(SigningKey::from_bytes(seed))
    }

    /// The half that tills keep.
    pub fn public(&self) -> HubPublicKey {
        HubPublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> HubSignature {
        HubSignature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for HubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubKey(secret)")
    }
}

hex_bytes!(
    /// The half of the hub's key that tills keep from their enrolment on (Ed25519, as hex).
    HubPublicKey,
    32
);
hex_bytes!(
    /// The hub's signature over an answer (Ed25519, 64 bytes as hex).
    HubSignature,
    64
);

impl HubPublicKey {
    /// Whether the hub signed this message.
    pub fn verifies(&self, message: &[u8], signature: &HubSignature) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else {
            return false;
        };
        key.verify(message, &Signature::from_bytes(&signature.0))
            .is_ok()
    }
}

/// Why a text names no till, epoch, key, hash or signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Not the name of a till.
    #[error("a till's name has 1 to 32 lower-case letters, digits and hyphens")]
    TillId,
    /// Not an epoch.
    #[error("an epoch has 16 hex digits")]
    Epoch,
    /// Not that many bytes in hex.
    #[error("expected {bytes} bytes in hex")]
    Hex {
        /// How many bytes it has.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let key = TillKey::from_seed(&[7; 32]);
        let signature = key.sign(b"head");
        assert!(key.public().verifies(b"head", &signature));
        assert!(!key.public().verifies(b"heap", &signature));
        assert!(
            !TillKey::from_seed(&[8; 32])
                .public()
                .verifies(b"head", &signature)
        );
        assert!(!TillPublicKey([0xFF; 32]).verifies(b"head", &signature));
    }

    #[test]
    fn names_and_epochs_are_checked_when_they_come_in() {
        assert!("kasse-1".parse::<TillId>().is_ok());
        for bad in ["", "Kasse", "kasse 1", "../etc", &"k".repeat(33)] {
            assert_eq!(bad.parse::<TillId>(), Err(IdentityError::TillId), "{bad}");
        }
        assert_eq!("00000000000000ff".parse(), Ok(Epoch(255)));
        for bad in ["ff", "+0000000000000ff", "00000000000000fg"] {
            assert_eq!(bad.parse::<Epoch>(), Err(IdentityError::Epoch), "{bad}");
        }
    }
}
