//! The checksum of frames of ISO/IEC 14443-3 type A (CRC_A), where a reader leaves it to the till.

use crc::{CRC_16_ISO_IEC_14443_3_A, Crc};

/// A frame with its checksum behind it.
pub(crate) fn with_checksum(frame: &[u8]) -> Vec<u8> {
    [frame, &CRC_A.checksum(frame).to_le_bytes()].concat()
}

/// What a frame says whose checksum is right.
pub(super) fn checked(frame: &[u8]) -> Option<Vec<u8>> {
    let (said, sum) = frame.split_last_chunk::<2>()?;
    let is_right = !said.is_empty() && CRC_A.checksum(said).to_le_bytes() == *sum;
    is_right.then(|| said.to_vec())
}

const CRC_A: Crc<u16> = Crc::<u16>::new(&CRC_16_ISO_IEC_14443_3_A);

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of ISO/IEC 14443-3, annex B.
    #[test]
    fn a_checksum_is_that_of_the_standard() {
        assert_eq!(with_checksum(&[0x00, 0x00]), [0x00, 0x00, 0xA0, 0x1E]);
        assert_eq!(with_checksum(&[0x12, 0x34]), [0x12, 0x34, 0x26, 0xCF]);
        assert_eq!(checked(&[0x12, 0x34, 0x26, 0xCF]), Some(vec![0x12, 0x34]));
        for damaged in [&[][..], &[0x12], &[0x26, 0xCF], &[0x12, 0x34, 0x26, 0xCE]] {
            assert_eq!(checked(damaged), None);
        }
    }
}
