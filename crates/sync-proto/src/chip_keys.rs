//! The keys by which a canteen's chips prove themselves, as the hub gives them to one till: always
//! [`Sealed`](crate::Sealed), never in the feed.
//!
//! A till gets no master key, only the key of each chip of its own canteen: whoever steals a till can
//! copy these chips until their version is revoked, and make no others.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// All keys of a canteen that are in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDelivery {
    /// For each kind of chip the keys on it.
    pub applications: Vec<ApplicationKeys>,
    /// The same for chips without applications. They stand apart because a till that does not know
    /// them would refuse a delivery with such keys among the others, and prove no chip any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marked: Vec<MarkedKeys>,
}

/// The keys of one kind of chip that carries a mark at the beginning of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedKeys {
    /// The mark of three bytes in hex, in the order of the chip's memory.
    pub mark: String,
    /// The versions, newest first.
    pub sets: Vec<KeySetText>,
}

/// The keys of one kind of chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationKeys {
    /// The application's name of ISO/IEC 7816-4 in hex; absent where it has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The application's number of three bytes in hex, most significant byte first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The versions, newest first.
    pub sets: Vec<KeySetText>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySetText {
    /// Which version.
    pub version: u8,
    /// Opens the real UID; in all chips of the canteen.
    pub uid_key: ChipKeyText,
    /// The key of each chip by its UID in hex.
    pub chips: BTreeMap<String, ChipKeyText>,
}

/// The keys of one chip, for who writes them on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentKeys {
    /// The version to write, and then all others that the chip may carry already.
    pub versions: Vec<ChipKeyVersion>,
}

/// All keys of one chip in one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipKeyVersion {
    /// Which version.
    pub version: u8,
    /// The keys in the order of their numbers.
    pub keys: [ChipKeyText; 5],
}

/// A key in hex: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct ChipKeyText(String);

impl ChipKeyText {
    /// A key in words.
    pub fn of(key: &[u8; 16]) -> ChipKeyText {
        ChipKeyText(hex::encode(key))
    }

    /// The key; `None` when the text is none.
    pub fn key(&self) -> Option<zeroize::Zeroizing<[u8; 16]>> {
        let mut key = zeroize::Zeroizing::new([0; 16]);
        hex::decode_to_slice(&self.0, &mut *key).ok()?;
        Some(key)
    }
}

impl fmt::Debug for ChipKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipKeyText(secret)")
    }
}

impl KeyDelivery {
    /// Says what is sealed, besides the till that it is for; see [`crate::TillPublicKey::seal`].
    pub const ABOUT: &str = "chip-keys";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_as_it_was_written_and_never_printed() {
        let key = ChipKeyText::of(&[0xAB; 16]);
        let delivery = KeyDelivery {
            applications: vec![ApplicationKeys {
                name: Some("D2760000850101".into()),
                number: None,
                sets: vec![KeySetText {
                    version: 2,
                    uid_key: key.clone(),
                    chips: [("04958CAA5C5E80".to_owned(), key.clone())].into(),
                }],
            }],
            marked: vec![MarkedKeys {
                mark: "CA17AE".into(),
                sets: vec![KeySetText {
                    version: 2,
                    uid_key: key.clone(),
                    chips: [("04958CAA5C5E81".to_owned(), key)].into(),
                }],
            }],
        };
        let text = serde_json::to_string(&delivery).unwrap();
        assert_eq!(
            serde_json::from_str::<KeyDelivery>(&text).unwrap(),
            delivery
        );
        assert!(text.contains("abababab"));
        assert!(!format!("{delivery:?}").contains("abab"));
    }

    /// A till or a hub of before marked chips: neither side knows of `marked`.
    #[test]
    fn a_delivery_goes_between_versions_that_know_marked_chips_and_those_that_do_not() {
        #[derive(Deserialize)]
        struct Before {
            applications: Vec<ApplicationKeys>,
        }
        let old = r#"{"applications":[]}"#;
        let read: KeyDelivery = serde_json::from_str(old).unwrap();
        assert_eq!(read.marked, []);
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
        let marked = vec![MarkedKeys {
            mark: "CA17AE".into(),
            sets: Vec::new(),
        }];
        let new = serde_json::to_string(&KeyDelivery { marked, ..read }).unwrap();
        let read: Before = serde_json::from_str(&new).unwrap();
        assert_eq!(read.applications, []);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "00", "zz".repeat(16).as_str(), "00".repeat(17).as_str()] {
            assert_eq!(ChipKeyText(text.to_owned()).key(), None);
        }
        assert_eq!(*ChipKeyText::of(&[7; 16]).key().unwrap(), [7; 16]);
    }
}
