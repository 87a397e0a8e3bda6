//! The memory of a MIFARE Ultralight AES: pages of four bytes, read four at a time and written one by one
//! (data sheet MF0AES(H)20, memory organisation, READ and WRITE).

use crate::auth::{Exchange, ProofError, Step};

/// Reads four pages from this one on, without a MAC.
pub(in crate::auth) fn read(
    exchange: &mut Exchange<'_>,
    page: u8,
) -> Result<[u8; FOUR], ProofError> {
    let answer = exchange(&[READ, page])?;
    match answer.as_slice() {
        [refusal] => Err(ProofError::Refused {
            step: Step::Message,
            status: u16::from(*refusal),
        }),
        pages => pages.try_into().map_err(|_| ProofError::Malformed {
            step: Step::Message,
            bytes: pages.len(),
        }),
    }
}

/// Writes one page, without a MAC.
pub(in crate::auth) fn write(
    exchange: &mut Exchange<'_>,
    page: u8,
    bytes: [u8; 4],
) -> Result<(), ProofError> {
    let [a, b, c, d] = bytes;
    let step = Step::Page { number: page };
    let answer = exchange(&[WRITE, page, a, b, c, d])?;
    match *answer.as_slice() {
        [DONE] => Ok(()),
        [refusal] => Err(ProofError::Refused {
            step,
            status: u16::from(refusal),
        }),
        [..] => Err(ProofError::Malformed {
            step,
            bytes: answer.len(),
        }),
    }
}

/// What a read answers with: four pages.
pub(in crate::auth) const FOUR: usize = 16;
pub(super) const READ: u8 = 0x30;
pub(super) const WRITE: u8 = 0xA2;
/// ACK, of four bits like a refusal.
pub(super) const DONE: u8 = 0x0A;

/// The UID, with a check byte inside.
pub(in crate::auth) const FIRST: u8 = 0x00;
/// The canteens' mark, and the version of the keys.
pub(in crate::auth) const MARK: u8 = 0x04;
/// The lock bytes; the settings and the keys come behind them.
pub(in crate::auth) const LOCKS: u8 = 0x28;
/// CFG0, and CFG1 behind it.
pub(in crate::auth) const SETTINGS: u8 = 0x29;
/// DataProtKey, its last byte first.
pub(in crate::auth) const DATA_KEY: u8 = 0x30;
/// UIDRetrKey, its last byte first.
pub(in crate::auth) const UID_KEY: u8 = 0x34;
/// Where it ends.
pub(in crate::auth) const LAST_KEY: u8 = 0x37;
