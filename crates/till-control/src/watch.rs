//! What readers have just told, for whoever tests them.

use canteen::ChipId;
use serde::{Deserialize, Serialize};
use sync_proto::wire;

/// What was told since a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderWatchAnswer {
    /// What to ask after next.
    pub next: u64,
    /// In the order in which it was told; empty when nothing came in time.
    pub seen: Vec<ReaderSight>,
}

/// One thing that a reader told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSight {
    /// Which reader.
    pub reader: String,
    /// When it was seen in the field: milliseconds since the daemon started.
    pub at_ms: u64,
    /// From the field to the event: what reading and proving the chip took, in microseconds.
    pub took_us: u64,
    /// What was told.
    #[serde(flatten)]
    pub what: SightKind,
}

/// What a reader can tell; `what` names it on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum SightKind {
    /// A chip came.
    Chip {
        /// The chip that it is or claims to be; `null` when it failed to prove itself under a
        /// random number.
        #[serde(with = "optional_chip")]
        uid: Option<ChipId>,
        /// `bare`, `proven` or `failed`.
        shown: String,
    },
    /// The chip left.
    Left,
    /// Something that is no usable chip.
    Unreadable {
        /// Whether its number is a random one.
        random: bool,
        /// Why, and what to do.
        text: String,
    },
    /// The reader works again.
    Ready,
    /// The reader does not work.
    Faulty {
        /// Why, and what to do.
        text: String,
    },
}

/// A chip that may be absent, as hex or null.
mod optional_chip {
    use serde::{Deserializer, Serializer};

    use super::{ChipId, Deserialize, Serialize, wire};

    #[derive(Serialize, Deserialize)]
    struct Chip(#[serde(with = "wire::chip")] ChipId);

    pub(super) fn serialize<S: Serializer>(
        chip: &Option<ChipId>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        chip.map(Chip).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<ChipId>, D::Error> {
        Ok(Option::<Chip>::deserialize(input)?.map(|Chip(chip)| chip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: SightKind, json: &str) {
        let sight = ReaderSight {
            reader: "pcsc:A".into(),
            at_ms: 7,
            took_us: 460,
            what,
        };
        let expect = format!(r#"{{"reader":"pcsc:A","at_ms":7,"took_us":460,{json}}}"#);
        assert_eq!(serde_json::to_string(&sight).unwrap(), expect);
        assert_eq!(serde_json::from_str::<ReaderSight>(&expect).unwrap(), sight);
    }

    #[test]
    fn what_readers_tell_is_named_by_what() {
        let uid = ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).ok();
        let shown = "bare".to_owned();
        check(
            SightKind::Chip { uid, shown },
            r#""what":"chip","uid":"72BF9961","shown":"bare""#,
        );
        let shown = "failed".to_owned();
        check(
            SightKind::Chip { uid: None, shown },
            r#""what":"chip","uid":null,"shown":"failed""#,
        );
        check(SightKind::Left, r#""what":"left""#);
    }
}
