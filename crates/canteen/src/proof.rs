//! Who a chip on the reader is, and whether it has shown that it is not a copy.

use crate::chip::ChipId;

/// Tells a site's successive sets of chip keys apart; the byte that is also stored with a key on
/// the chip when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(pub u8);

/// What a reader found out about the chip in its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipIdentity {
    /// The UID that the chip sends in the clear: a claim, which every copy can make.
    Bare(ChipId),
    /// The chip has shown that it knows its own key.
    Proven {
        /// Its real UID, also where it shows a random one.
        chip: ChipId,
        /// The version of the key that it knows.
        key_version: KeyVersion,
    },
    /// The chip is of a kind that proves itself, and could not.
    Failed {
        /// The UID that it sends in the clear; none when that is a random one.
        claimed: Option<ChipId>,
    },
}

impl ChipIdentity {
    /// The chip that it is, or claims to be.
    pub fn chip(&self) -> Option<ChipId> {
        match self {
            ChipIdentity::Bare(chip) | ChipIdentity::Proven { chip, .. } => Some(*chip),
            ChipIdentity::Failed { claimed } => *claimed,
        }
    }

    /// Whether it is more than a claim.
    pub fn is_proven(&self) -> bool {
        match self {
            ChipIdentity::Proven { .. } => true,
            ChipIdentity::Bare(_) | ChipIdentity::Failed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proof_is_more_than_a_claim() {
        let chip = ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).unwrap();
        let key_version = KeyVersion(1);
        for (identity, claims, proven) in [
            (ChipIdentity::Bare(chip), Some(chip), false),
            (ChipIdentity::Proven { chip, key_version }, Some(chip), true),
            (
                ChipIdentity::Failed {
                    claimed: Some(chip),
                },
                Some(chip),
                false,
            ),
            (ChipIdentity::Failed { claimed: None }, None, false),
        ] {
            assert_eq!((identity.chip(), identity.is_proven()), (claims, proven));
        }
    }
}
