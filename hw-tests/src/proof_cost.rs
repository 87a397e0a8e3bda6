//! What a chip's proof costs the till itself, as a multiple of the bare cipher work in it.
//!
//! A recorded chip gives its answers at once, so only the till's own part is timed; the floor is that
//! part's key schedules and blocks of AES and nothing else, timed in the same run. The air between
//! chip and reader takes tens of milliseconds and is no part of either.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use anyhow::{Context, ensure};
use canteen::{ChipId, KeyVersion};
use chip_keys::{Application, ChipKey, KeySet, ReadingKeys, SiteKeys};
use till_readers::auth;

/// The cost in thousandths of the floor: the median of many rounds that take turns.
pub fn measure() -> anyhow::Result<u128> {
    let keys = site()?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let floor = time(|| {
            bare();
            Ok(())
        })?;
        let proof = time(|| prove(&keys))?;
        ratios.push(proof.as_nanos() * 1000 / floor.as_nanos().max(1));
    }
    ratios.sort_unstable();
    ratios
        .get(ROUNDS / 2)
        .copied()
        .context("some rounds were timed")
}

fn time(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    for _ in 0..PROOFS {
        once()?;
    }
    Ok(begin.elapsed())
}

/// The keys of the recorded chip: 11… opens its UID, 22… proves it.
fn site() -> anyhow::Result<SiteKeys> {
    let chip = ChipId::from_uid(&UID)?;
    let set = KeySet {
        version: KeyVersion(1),
        uid_key: ChipKey::new([0x11; 16]),
        reading_keys: ReadingKeys::Listed([(chip, ChipKey::new([0x22; 16]))].into()),
    };
    Ok(SiteKeys::new(Application::ntag_424(), b"", vec![set])?)
}

fn prove(keys: &SiteKeys) -> anyhow::Result<()> {
    let (mut answers, mut numbers) = (ANSWERS.iter(), RANDOM.iter());
    let mut exchange = |_: &[u8]| Ok(answers.next().map_or_else(Vec::new, |it| it.to_vec()));
    let mut random = || numbers.next().copied().ok_or(auth::NoRandom);
    let proven = auth::prove(&mut exchange, keys, &mut random)?;
    ensure!(proven.uid.as_bytes() == UID, "another chip was proven");
    Ok(())
}

/// As much AES as the proof cannot do without.
fn bare() {
    let mut block = [0x5A; 16];
    for schedule in 0..SCHEDULES {
        let aes = Aes128::new((&black_box([schedule; 16])).into());
        let blocks = BLOCKS / SCHEDULES + u8::from(schedule < BLOCKS % SCHEDULES);
        for _ in 0..blocks {
            aes.encrypt_block((&mut block).into());
        }
    }
    black_box(block);
}

/// Two authentications of 11 blocks (3 messages of 1, 2 and 2; two session keys of 2 and a subkey),
/// and the UID's 7: a MAC of 1 and one of 2 with their subkeys, a vector, a block.
const BLOCKS: u8 = 2 * 11 + 7;
/// For each message, session key and MAC one.
const SCHEDULES: u8 = 2 * 5 + 4;
const ROUNDS: usize = 41;
const PROOFS: usize = 500;

const UID: [u8; 7] = [0x04, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80];
/// The till's random numbers in the recorded proof: those of AN12196.
const RANDOM: [[u8; 16]; 2] = [
    0x13C5DB8A_5930439F_C3DEF9A4_C675360F_u128.to_be_bytes(),
    0xB98F4C50_CF1C2E08_4FD150E3_3992B048_u128.to_be_bytes(),
];
/// What `cards/ntag424.py` answered to them.
const ANSWERS: [&[u8]; 6] = [
    &[0x90, 0x00],
    &[
        0x3D, 0x09, 0x48, 0x90, 0xA2, 0x4F, 0xD5, 0x90, 0x42, 0x62, 0x63, 0xBC, 0xE0, 0xC5, 0x92,
        0x9C, 0x91, 0xAF,
    ],
    &[
        0xF5, 0x40, 0xED, 0x49, 0x85, 0xAD, 0x8D, 0xD3, 0x05, 0xC3, 0x17, 0x2E, 0xAD, 0x2A, 0x2B,
        0x02, 0x4E, 0x87, 0x9A, 0x08, 0xDB, 0x5F, 0xE9, 0x0D, 0x97, 0x43, 0x58, 0xF9, 0x6D, 0xEB,
        0xBF, 0x1A, 0x91, 0x00,
    ],
    &[
        0xE1, 0x90, 0x6C, 0x97, 0xA3, 0x23, 0xB5, 0x5F, 0xE6, 0xDB, 0x75, 0xD7, 0xDC, 0xAB, 0xB3,
        0xCE, 0xFC, 0x9C, 0x1B, 0xC9, 0xA7, 0xA7, 0xBE, 0x31, 0x91, 0x00,
    ],
    &[
        0x68, 0x1E, 0x2C, 0x1B, 0xFA, 0x43, 0x48, 0xDF, 0x64, 0xEF, 0x79, 0xCB, 0xA2, 0xEC, 0xE5,
        0xD7, 0x91, 0xAF,
    ],
    &[
        0x68, 0x29, 0x5E, 0x77, 0xE6, 0x74, 0x25, 0x62, 0x45, 0xC3, 0xF5, 0xC2, 0xDE, 0x17, 0x44,
        0xF7, 0xD1, 0xB5, 0xE0, 0x32, 0xA0, 0x59, 0xAA, 0x4D, 0xC3, 0x1A, 0x59, 0xEC, 0xE6, 0x10,
        0x7A, 0xCD, 0x91, 0x00,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_chip_is_proven_by_its_own_key_only() {
        prove(&site().unwrap()).unwrap();
        let other = [(ChipId::from_uid(&UID).unwrap(), ChipKey::new([0x23; 16]))].into();
        let set = KeySet {
            version: KeyVersion(1),
            uid_key: ChipKey::new([0x11; 16]),
            reading_keys: ReadingKeys::Listed(other),
        };
        let keys = SiteKeys::new(Application::ntag_424(), b"", vec![set]).unwrap();
        prove(&keys).unwrap_err();
    }
}
