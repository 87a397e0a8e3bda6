//! The secrets that one version of a canteen's chip keys is made from; only the hub has them.

use canteen::{ChipId, KeyVersion};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::ChipKey;
use crate::site_keys::ChipKind;

/// The master keys of one version.
#[derive(Debug, Clone)]
pub struct MasterSet {
    /// Which version.
    pub version: KeyVersion,
    uid: ChipKey,
    reading: ChipKey,
    change: ChipKey,
}

/// All keys of one chip in the order of their numbers: what is written on it when it is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipKeys {
    /// Their version, which is written with them.
    pub version: KeyVersion,
    /// Key 0 may change the others; 1 opens the UID, 3 proves the chip; 2 and 4 are not used.
    pub keys: [ChipKey; 5],
}

/// The bytes of a set, as they are drawn and kept: sealed, and nowhere else.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterBytes(pub [u8; 48]);

impl MasterSet {
    /// Takes drawn or kept bytes. `None` for bytes that no drawing gives: a key known to everyone,
    /// or one key for two purposes.
    pub fn new(version: KeyVersion, bytes: &MasterBytes) -> Option<MasterSet> {
        let [uid, reading, change] = *bytes.0.as_chunks::<16>().0 else {
            return None;
        };
        let [uid, reading, change] = [uid, reading, change].map(ChipKey::new);
        let is_sound = ![&uid, &reading, &change]
            .into_iter()
            .any(ChipKey::is_factory_key)
            && uid != reading
            && uid != change
            && reading != change;
        is_sound.then_some(MasterSet {
            version,
            uid,
            reading,
            change,
        })
    }

    /// The key that opens the UID, the same in all chips.
    pub fn uid_key(&self) -> &ChipKey {
        &self.uid
    }

    /// The key that proves one chip.
    pub fn reading_key(&self, kind: ChipKind, chip: &ChipId) -> ChipKey {
        diversified(&self.reading, kind, chip, &[])
    }

    /// All keys of one chip.
    pub fn chip_keys(&self, kind: ChipKind, chip: &ChipId) -> ChipKeys {
        let change = |number| diversified(&self.change, kind, chip, &[number]);
        ChipKeys {
            version: self.version,
            keys: [
                change(0),
                self.uid.clone(),
                change(2),
                self.reading_key(kind, chip),
                change(4),
            ],
        }
    }
}

/// AN10922 over UID, application, the system's name and what the key is for.
fn diversified(master: &ChipKey, kind: ChipKind, chip: &ChipId, purpose: &[u8]) -> ChipKey {
    let application = kind.application();
    let input = [
        chip.as_bytes(),
        application.as_bytes(),
        SYSTEM_NAME,
        purpose,
    ];
    master
        .diversified(&input.concat())
        .expect("a UID, an application of 7 bytes, the name and a byte are 25 bytes at most")
}

/// Keeps equal master keys of two systems from making equal chips.
pub const SYSTEM_NAME: &[u8] = b"kantine";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn bytes(of: [u8; 3]) -> MasterBytes {
        let mut bytes = [0; 48];
        for (part, byte) in bytes.chunks_mut(16).zip(of) {
            part.fill(byte);
        }
        MasterBytes(bytes)
    }

    fn chip(uid: &str) -> ChipId {
        ChipId::from_uid(&hex::<Vec<u8>>(uid)).expect("a chip")
    }

    #[test]
    fn every_key_of_a_chip_is_its_own_but_the_one_that_opens_the_uid() {
        let set = MasterSet::new(KeyVersion(3), &bytes([1, 2, 3])).expect("sound");
        let one = set.chip_keys(ChipKind::Ntag424, &chip("04958CAA5C5E80"));
        let two = set.chip_keys(ChipKind::Ntag424, &chip("04958CAA5C5E81"));
        for number in 0..5 {
            assert_eq!(
                one.keys[number] == two.keys[number],
                number == 1,
                "{number}"
            );
            for other in 0..number {
                assert_ne!(one.keys[number], one.keys[other]);
            }
        }
        let desfire = set.reading_key(ChipKind::Desfire, &chip("04958CAA5C5E80"));
        assert_ne!(one.keys[3], desfire);
    }

    /// CMAC by another program: 22 bytes and more are plain CMAC in AN10922.
    #[test]
    fn a_chips_keys_are_those_of_another_program() {
        let set = MasterSet::new(KeyVersion(1), &bytes([1, 2, 3])).expect("sound");
        let keys = set.chip_keys(ChipKind::Ntag424, &chip("04958CAA5C5E80"));
        let expect = EXPECTED.map(|key| ChipKey::new(hex(key)));
        assert_eq!(keys.keys, expect);
    }

    #[test]
    fn bytes_that_prove_nothing_make_no_set() {
        for of in [
            [0, 2, 3],
            [1, 0, 3],
            [1, 2, 0],
            [1, 1, 3],
            [1, 2, 1],
            [1, 2, 2],
        ] {
            assert!(
                MasterSet::new(KeyVersion(1), &bytes(of)).is_none(),
                "{of:?}"
            );
        }
    }

    const EXPECTED: [&str; 5] = [
        "FF7C06B76FB9F2569A4D86026CCF6415",
        "01010101010101010101010101010101",
        "951FCBBF263FDCA5D8F3B5A65E03BB35",
        "6B3A8AEA9BD20C4C338EA4B8CCA2278C",
        "25A0DEF6D5F75BFCB0A7D6634C77C444",
    ];
}
