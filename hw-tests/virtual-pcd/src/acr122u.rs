//! What an ACR122U makes of a command (ACS, ACR122U API 2.04; NXP UM0701-02): its own pseudo-APDUs, and
//! what it passes to the PN532 inside it.

use crc::{CRC_16_ISO_IEC_14443_3_A, Crc};

use crate::slot::Silence;

/// The chip in the field, as the reader's antenna meets it.
pub(crate) trait Chip {
    /// Its answer to reset, by which the reader's kind of chip is known.
    fn reset_answer(&self) -> Vec<u8>;
    /// Selects it anew.
    fn select(&mut self) -> Result<(), Silence>;
    /// Takes its power, and gives it back.
    fn cut_power(&mut self) -> Result<(), Silence>;
    /// What it says; nothing when it is mute.
    fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, Silence>;
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Acr122u {
    /// CIU_RxMode of its PN532.
    reception: u8,
}

impl Default for Acr122u {
    fn default() -> Acr122u {
        let reception = CHECKS;
        Acr122u { reception }
    }
}

impl Acr122u {
    /// The chip was powered up or reset by the resource manager, which ends with a search.
    pub(crate) fn handle_power(&mut self) {
        self.reception = CHECKS;
    }

    pub(crate) fn handle(
        &mut self,
        command: &[u8],
        chip: &mut impl Chip,
    ) -> Result<Vec<u8>, Silence> {
        match command {
            [0xFF, 0x00, 0x00, 0x00, length, 0xD4, body @ ..]
                if usize::from(*length) == body.len() + 1 =>
            {
                self.direct_transmit(body, chip)
            }
            // Light and buzzer: the answer's second byte is the light's state.
            [0xFF, 0x00, 0x40, light, 0x04, _, _, _, _] => Ok(vec![0x90, light & 0x03]),
            [0xFF, 0xCA, 0x00, 0x00, 0x00] => chip.ask(command),
            [0xFF, ..] => Ok(FAILED.to_vec()),
            _ if is_storage_chip(&chip.reset_answer()) => Ok(FAILED.to_vec()),
            _ => chip.ask(command),
        }
    }

    fn direct_transmit(&mut self, body: &[u8], chip: &mut impl Chip) -> Result<Vec<u8>, Silence> {
        let said = match *body {
            // Antenna off; the next search switches it on.
            [0x32, 0x01, on] => {
                if on & 0x01 == 0 {
                    chip.cut_power()?;
                }
                vec![0x33]
            }
            [0x32, 0x05, _, _, _] => vec![0x33],
            [0x4A, 0x01 | 0x02, 0x00] => self.list(chip)?,
            [0x06, 0x63, 0x03] => vec![0x07, self.reception],
            [0x08, 0x63, 0x03, value] => {
                self.reception = value;
                vec![0x09]
            }
            [0x42, ref frame @ ..] if !frame.is_empty() => self.communicate(frame, chip)?,
            // The PN532's frame for a wrong command, as the reader hands it on.
            _ => return Ok(vec![0x63, 0x7F]),
        };
        Ok([&[0xD5], &said[..], &[0x90, 0x00]].concat())
    }

    /// InListPassiveTarget.
    fn list(&mut self, chip: &mut impl Chip) -> Result<Vec<u8>, Silence> {
        chip.select()?;
        self.reception = CHECKS;
        let told = chip.ask(&READ_UID)?;
        let Some(uid) = told.strip_suffix(&[0x90, 0x00]) else {
            return Ok(vec![0x4B, 0x00]);
        };
        let select = select_answer(&chip.reset_answer());
        let head = [0x4B, 0x01, 0x01, 0x00, 0x44, select, uid.len() as u8];
        Ok([&head[..], uid].concat())
    }

    /// InCommunicateThru. While checksums are checked, a refusal of four bits, which has none, is a wrong
    /// one; while they are not, they stand behind what the chip said.
    fn communicate(&self, frame: &[u8], chip: &mut impl Chip) -> Result<Vec<u8>, Silence> {
        let checks = self.reception & CHECKS != 0;
        let said = chip.ask(frame)?;
        Ok(match said.len() {
            0 => vec![0x43, TIME_OVER],
            1 if checks => vec![0x43, WRONG_CHECKSUM],
            1 => vec![0x43, 0x00, said[0]],
            _ if checks => [&[0x43, 0x00], &said[..]].concat(),
            _ => {
                let sum = CRC_A.checksum(&said).to_le_bytes();
                [&[0x43, 0x00], &said[..], &sum].concat()
            }
        })
    }
}

/// The name of a storage chip behind the identifier of PC/SC in its answer to reset.
fn storage_name(reset: &[u8]) -> Option<[u8; 2]> {
    let at = reset.windows(5).position(|part| part == STORAGE_CHIP)?;
    reset.get(at + 6..at + 8)?.try_into().ok()
}

fn is_storage_chip(reset: &[u8]) -> bool {
    storage_name(reset).is_some()
}

/// SEL_RES of a chip of this kind.
fn select_answer(reset: &[u8]) -> u8 {
    match storage_name(reset) {
        Some([0x00, 0x03]) => 0x00,
        Some([0x00, 0x02]) => 0x18,
        Some([..]) => 0x08,
        None => 0x20,
    }
}

const STORAGE_CHIP: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x06];
const READ_UID: [u8; 5] = [0xFF, 0xCA, 0x00, 0x00, 0x00];
/// "The operation failed."
const FAILED: [u8; 2] = [0x63, 0x00];
/// RxCRCEn in CIU_RxMode.
const CHECKS: u8 = 0x80;
const TIME_OVER: u8 = 0x01;
const WRONG_CHECKSUM: u8 = 0x02;
const CRC_A: Crc<u16> = Crc::<u16>::new(&CRC_16_ISO_IEC_14443_3_A);

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ultralight that answers a read with bytes of ISO/IEC 14443-3's example, and refuses the rest.
    #[derive(Default)]
    struct Ultralight {
        selections: u32,
    }

    impl Chip for Ultralight {
        fn reset_answer(&self) -> Vec<u8> {
            let front = [0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C];
            [
                &front[..],
                &STORAGE_CHIP,
                &[0x03, 0x00, 0x03, 0, 0, 0, 0, 0x68],
            ]
            .concat()
        }

        fn select(&mut self) -> Result<(), Silence> {
            self.selections += 1;
            Ok(())
        }

        fn cut_power(&mut self) -> Result<(), Silence> {
            Ok(())
        }

        fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, Silence> {
            Ok(match command {
                [0xFF, 0xCA, ..] => vec![4, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80, 0x90, 0x00],
                [0x30, _] => vec![0x12, 0x34],
                [0x50, ..] => vec![],
                _ => vec![0x00],
            })
        }
    }

    #[track_caller]
    fn check(reader: &mut Acr122u, command: &[u8], expect: &[u8]) {
        let said = reader.handle(command, &mut Ultralight::default());
        assert_eq!(said, Ok(expect.to_vec()), "{command:02X?}");
    }

    fn direct(body: &[u8]) -> Vec<u8> {
        let length = body.len() as u8 + 1;
        [&[0xFF, 0, 0, 0, length, 0xD4], body].concat()
    }

    #[test]
    fn frames_pass_by_direct_transmit_and_no_other_way() {
        let mut reader = Acr122u::default();
        check(
            &mut reader,
            &direct(&[0x42, 0x30, 4]),
            b"\xD5\x43\0\x12\x34\x90\0",
        );
        check(&mut reader, &[0x30, 4], &FAILED);
        check(&mut reader, &[0x90, 0x5A, 0, 0, 0], &FAILED);
        // A length that is none of its own, and a command that the PN532 does not know.
        check(
            &mut reader,
            &[0xFF, 0, 0, 0, 9, 0xD4, 0x42, 0x30, 4],
            &FAILED,
        );
        check(&mut reader, &direct(&[0x99]), b"\x63\x7F");
    }

    #[test]
    fn a_refusal_is_a_wrong_checksum_until_checksums_are_the_tills() {
        let mut reader = Acr122u::default();
        let refused = direct(&[0x42, 0x60]);
        check(&mut reader, &refused, b"\xD5\x43\x02\x90\0");
        check(
            &mut reader,
            &direct(&[0x06, 0x63, 3]),
            b"\xD5\x07\x80\x90\0",
        );
        check(&mut reader, &direct(&[0x08, 0x63, 3, 0]), b"\xD5\x09\x90\0");
        check(&mut reader, &refused, b"\xD5\x43\0\0\x90\0");
        let read = direct(&[0x42, 0x30, 4]);
        check(&mut reader, &read, b"\xD5\x43\0\x12\x34\x26\xCF\x90\0");
        check(&mut reader, &direct(&[0x42, 0x50]), b"\xD5\x43\x01\x90\0");
        // A search sets it back.
        let listed = b"\xD5\x4B\x01\x01\0\x44\0\x07\x04\x95\x8C\xAA\x5C\x5E\x80\x90\0";
        check(&mut reader, &direct(&[0x4A, 1, 0]), listed);
        check(&mut reader, &refused, b"\xD5\x43\x02\x90\0");
    }

    #[test]
    fn light_and_buzzer_are_the_readers_own() {
        let approved = [0xFF, 0, 0x40, 0x0E, 4, 1, 0, 1, 1];
        check(&mut Acr122u::default(), &approved, &[0x90, 0x02]);
    }
}
