//! Writing the canteen's keys on a chip.

use canteen::ChipId;
use serde::{Deserialize, Serialize};
use sync_proto::wire;

/// The kinds of chips that can be given keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChipKind {
    /// NTAG 424 DNA.
    Ntag424,
    /// DESFire EV2 or EV3 with the application for canteens.
    Desfire,
    /// MIFARE Ultralight AES; a command of before does not know it, and a daemon of before never says it.
    UltralightAes,
}

/// A chip that lies on a reader and can be given keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipLookAnswer {
    /// On which reader.
    pub reader: String,
    /// Of which kind it is.
    pub kind: ChipKind,
    /// Its real UID; `null` when it shows a random one that no key of the till opens.
    #[serde(with = "optional_chip", default)]
    pub uid: Option<ChipId>,
}

/// A chip that holds the canteen's keys and has proven itself by them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipEnrolAnswer {
    /// Its real UID.
    #[serde(with = "wire::chip")]
    pub chip: ChipId,
    /// The version of the keys that it holds now.
    pub version: u8,
    /// What it held before.
    pub before: Held,
    /// The numbers of the keys that were written now.
    pub written: Vec<u8>,
}

/// What a chip held before it was enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The keys that every chip leaves the factory with.
    Factory,
    /// The keys of a version of this canteen.
    Version,
    /// Several: an enrolment broke off.
    Mixed,
}

mod optional_chip {
    use canteen::ChipId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use sync_proto::wire;

    #[derive(Serialize, Deserialize)]
    struct Uid(#[serde(with = "wire::chip")] ChipId);

    #[allow(clippy::ref_option, reason = "serde hands it over like this")]
    pub(super) fn serialize<S: Serializer>(
        uid: &Option<ChipId>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        uid.map(Uid).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<ChipId>, D::Error> {
        Ok(Option::<Uid>::deserialize(input)?.map(|Uid(chip)| chip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_in_words() {
        let uid = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).ok();
        let look_at = |kind, uid| ChipLookAnswer {
            reader: "pcsc:A".into(),
            kind,
            uid,
        };
        let look = |uid| look_at(ChipKind::Ntag424, uid);
        for (answer, json) in [
            (
                look(uid),
                r#"{"reader":"pcsc:A","kind":"ntag424","uid":"04010203040506"}"#,
            ),
            (
                look(None),
                r#"{"reader":"pcsc:A","kind":"ntag424","uid":null}"#,
            ),
            (
                look_at(ChipKind::UltralightAes, None),
                r#"{"reader":"pcsc:A","kind":"ultralight_aes","uid":null}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), json);
            assert_eq!(
                serde_json::from_str::<ChipLookAnswer>(json).unwrap(),
                answer
            );
        }
        let done = ChipEnrolAnswer {
            chip: uid.unwrap(),
            version: 3,
            before: Held::Mixed,
            written: vec![1, 0],
        };
        let json = r#"{"chip":"04010203040506","version":3,"before":"mixed","written":[1,0]}"#;
        assert_eq!(serde_json::to_string(&done).unwrap(), json);
        assert_eq!(serde_json::from_str::<ChipEnrolAnswer>(json).unwrap(), done);
    }
}
