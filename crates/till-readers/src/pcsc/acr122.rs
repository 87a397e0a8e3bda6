//! Frames through an ACR122U, which is a PN532 behind PC/SC: its commands go by the maker's direct
//! transmit (ACS, ACR122U API 2.04, 5.1; NXP UM0701-02), as libnfc and nfcpy send them.
//!
//! No other reader is sent any of this: another maker's reader may take it for something else.

use crate::ChipFault;
use crate::auth::{ANEW, Exchange, Shown, Speaks};
use crate::serial::Seen;
use crate::serial::pn532::target;

/// Whether frames may be of use with a chip whose answer to reset names it so (PC/SC part 3,
/// supplemental document): an Ultralight, or one that the reader has no name for.
pub(super) fn may_take_frames(name: [u8; 2]) -> bool {
    match name {
        // Ultralight, Ultralight C, Ultralight EV1.
        [0x00, 0x03 | 0x3A | 0x3D] => true,
        // "Undefined", with the answer to select behind it.
        [0xFF, select] => Speaks::of_select(select) == Speaks::Frames,
        [..] => false,
    }
}

/// A chip that was selected anew, ready for frames.
#[derive(Debug)]
pub(super) struct Selected {
    /// What the chip shows to the PN532 itself.
    pub(super) shown: Shown,
    /// How answers were received before the reader's check of checksums was switched off.
    reception: u8,
}

/// Selects the chip anew: one that has been talked with, or has refused something, takes no first
/// frame. `None` when this reader passes nothing to its PN532.
pub(super) fn select(say: &mut Exchange<'_>) -> Result<Option<Selected>, ChipFault> {
    if pass(say, &RETRIES)?.is_none() {
        return Ok(None);
    }
    let shown = match pass(say, &LIST)?.as_deref().map(target::seen) {
        Some(Seen::Chip(shown)) => shown,
        Some(Seen::Unusable(fault)) => return Err(fault),
        Some(Seen::Nothing) | None => return Err(ChipFault::HoldStill),
    };
    let mut selected = Selected {
        shown,
        reception: target::CHECKS,
    };
    if selected.shown.speaks == Speaks::Frames {
        let [high, low] = target::RECEPTION;
        let reception = pass(say, &[0x06, high, low])?;
        let reception = reception.as_deref().and_then(target::register);
        selected.reception = reception.ok_or(ChipFault::HoldStill)?;
        set_reception(say, selected.reception & !target::CHECKS)?;
    }
    Ok(Some(selected))
}

impl Selected {
    /// Sends a frame and gives the chip's answer, or its refusal in one byte.
    pub(super) fn exchange(
        &mut self,
        say: &mut Exchange<'_>,
        frame: &[u8],
    ) -> Result<Vec<u8>, ChipFault> {
        if frame == ANEW {
            for field in [FIELD_OFF, FIELD_ON] {
                pass(say, &field)?.ok_or(ChipFault::HoldStill)?;
            }
            *self = select(say)?.ok_or(ChipFault::HoldStill)?;
            return Ok(self.shown.uid.clone());
        }
        let answer = pass(say, &[&[0x42], frame].concat())?;
        let heard = answer.as_deref().and_then(target::heard);
        heard.ok_or(ChipFault::HoldStill)
    }

    /// Leaves the reader as other programs expect it. They get over it if that fails, since every
    /// search for a chip sets the same.
    pub(super) fn leave(self, say: &mut Exchange<'_>) {
        if self.shown.speaks == Speaks::Frames
            && let Err(fault) = set_reception(say, self.reception)
        {
            tracing::debug!(?fault, "Could not leave a reader as it was");
        }
    }
}

fn set_reception(say: &mut Exchange<'_>, reception: u8) -> Result<(), ChipFault> {
    let [high, low] = target::RECEPTION;
    pass(say, &[0x08, high, low, reception])?
        .map(drop)
        .ok_or(ChipFault::HoldStill)
}

/// A command to the PN532; `None` when the reader refuses to pass it, or it was not understood.
fn pass(say: &mut Exchange<'_>, command: &[u8]) -> Result<Option<Vec<u8>>, ChipFault> {
    let Ok(length) = u8::try_from(command.len() + 1) else {
        return Ok(None);
    };
    let answer = say(&[&[0xFF, 0x00, 0x00, 0x00, length, TO_PN532], command].concat())?;
    let code = command.first().map(|code| code.wrapping_add(1));
    Ok(match answer.as_slice() {
        [FROM_PN532, same, data @ .., 0x90, 0x00] if Some(*same) == code => Some(data.to_vec()),
        [..] => None,
    })
}

const TO_PN532: u8 = 0xD4;
const FROM_PN532: u8 = 0xD5;
/// RFConfiguration: two more calls for a chip, since one that was selected does not hear the first.
const RETRIES: [u8; 5] = [0x32, 0x05, 0xFF, 0x01, 0x02];
/// RFConfiguration: the power that the chip lives on.
const FIELD_OFF: [u8; 3] = [0x32, 0x01, 0x00];
const FIELD_ON: [u8; 3] = [0x32, 0x01, 0x01];
/// InListPassiveTarget: one, type A at 106 kbit/s.
const LIST: [u8; 3] = [0x4A, 0x01, 0x00];

#[cfg(test)]
mod tests {
    use canteen::ChipIdentity;
    use chip_keys::Application;

    use super::*;
    use crate::auth::tests_of_identify::{UID, site, ultralight, ultralight_enrolment};
    use crate::auth::virtual_ultralight::VirtualUltralight;
    use crate::auth::{ChipTask, identify, os_random};
    use crate::serial::with_checksum;

    const HIDDEN: [u8; 4] = [0x08, 0x3A, 0x5C, 0x11];

    /// An ACR122U with a chip on it, and what it was sent.
    struct Reader {
        chip: VirtualUltralight,
        uid: Vec<u8>,
        select: u8,
        reception: u8,
        sent: Vec<Vec<u8>>,
    }

    impl Reader {
        fn new(chip: VirtualUltralight) -> Reader {
            let sent = Vec::new();
            Reader {
                chip,
                uid: HIDDEN.to_vec(),
                select: 0x00,
                reception: 0x80,
                sent,
            }
        }

        fn handle(&mut self, command: &[u8]) -> Vec<u8> {
            self.sent.push(command.to_vec());
            let [0xFF, 0, 0, 0, length, 0xD4, body @ ..] = command else {
                return vec![0x63, 0x00];
            };
            assert_eq!(usize::from(*length), body.len() + 1);
            let said = match body {
                [0x32, 0x05, 0xFF, 0x01, 0x02] | [0x32, 0x01, 0x01] => vec![0x33],
                [0x32, 0x01, 0x00] => {
                    self.chip.power_up();
                    vec![0x33]
                }
                [0x4A, 0x01, 0x00] => {
                    self.chip.select();
                    self.reception = 0x80;
                    let length = self.uid.len() as u8;
                    [&[0x4B, 1, 1, 0, 0x44, self.select, length], &self.uid[..]].concat()
                }
                [0x06, 0x63, 0x03] => vec![0x07, self.reception],
                [0x08, 0x63, 0x03, value] => {
                    self.reception = *value;
                    vec![0x09]
                }
                [0x42, frame @ ..] => match self.chip.handle(frame) {
                    mute if mute.is_empty() => vec![0x43, 0x01],
                    refusal if refusal.len() == 1 => vec![0x43, 0x00, refusal[0]],
                    said => [&[0x43, 0x00], &with_checksum(&said)[..]].concat(),
                },
                other => panic!("{other:02X?}"),
            };
            [&[0xD5], &said[..], &[0x90, 0x00]].concat()
        }

        /// Who the chip is found to be.
        fn identify(&mut self) -> Result<ChipIdentity, ChipFault> {
            let keys = [site(Application::ultralight_aes())];
            let mut say = |command: &[u8]| Ok(self.handle(command));
            let mut chip = select(&mut say)?.expect("a passage");
            let shown = chip.shown.clone();
            let mut exchange = |frame: &[u8]| chip.exchange(&mut say, frame);
            let told = identify(&mut exchange, &keys, &shown, &mut os_random);
            chip.leave(&mut say);
            told
        }
    }

    #[test]
    fn a_chip_proves_itself_as_often_as_it_is_asked_and_the_reader_is_left_as_it_was() {
        let mut reader = Reader::new(ultralight());
        for _ in 0..2 {
            let told = reader.identify().expect("known");
            assert_eq!(
                told.chip().map(|chip| chip.as_bytes().to_vec()),
                Some(UID.to_vec())
            );
            assert!(matches!(told, ChipIdentity::Proven { .. }));
            assert_eq!(reader.reception, 0x80);
        }
        // One that does not know the key has said so, which is another thing than silence.
        reader.chip.keys[0] = [0x77; 16];
        let failed = ChipIdentity::Failed { claimed: None };
        assert_eq!(reader.identify(), Ok(failed));
        assert_eq!(reader.reception, 0x80);
    }

    #[test]
    fn a_chip_is_given_its_keys_and_is_selected_anew_without_a_sign_of_the_old_ones() {
        let mut reader = Reader::new(VirtualUltralight::fresh(UID));
        reader.uid = UID.to_vec();
        let mut say = |command: &[u8]| Ok(reader.handle(command));
        let mut chip = select(&mut say).expect("found").expect("a passage");
        let shown = chip.shown.clone();
        let mut exchange = |frame: &[u8]| chip.exchange(&mut say, frame);
        let task = ChipTask::Enrol(ultralight_enrolment());
        let told = task.run(&mut exchange, &[], &shown, &mut os_random);
        chip.leave(&mut say);
        assert!(told.is_ok(), "{told:?}");
        assert_eq!(reader.chip.keys, [[0x22; 16], [0x11; 16]]);
        assert_eq!(reader.reception, 0x80);
        assert!(matches!(reader.identify(), Ok(ChipIdentity::Proven { .. })));
    }

    #[test]
    fn a_plain_ultralight_is_asked_for_the_mark_alone() {
        let mut reader = Reader::new(ultralight());
        reader.chip.mark = [0; 4];
        let random = ChipFault::Identity(canteen::ChipIdError::Random);
        assert_eq!(reader.identify(), Err(random));
        let sent: Vec<&[u8]> = reader.sent.iter().map(|sent| &sent[6..]).collect();
        let expect: [&[u8]; 6] = [
            &RETRIES,
            &LIST,
            &[0x06, 0x63, 0x03],
            &[0x08, 0x63, 0x03, 0x00],
            &[0x42, 0x30, 0x04],
            &[0x08, 0x63, 0x03, 0x80],
        ];
        assert_eq!(sent, expect);
    }

    #[test]
    fn a_reader_that_passes_nothing_is_asked_once() {
        for refusal in [
            &[0x63, 0x00][..],
            &[0x6A, 0x81],
            &[0x63, 0x7F],
            &[0x90, 0x00],
        ] {
            let mut asked = 0;
            let mut say = |_: &[u8]| {
                asked += 1;
                Ok(refusal.to_vec())
            };
            assert!(matches!(select(&mut say), Ok(None)), "{refusal:02X?}");
            assert_eq!(asked, 1);
        }
    }

    #[test]
    fn an_answer_that_is_cut_or_changed_is_no_passage_for_frames() {
        for at in 1..4 {
            for length in 0..6 {
                let (mut reader, mut step) = (Reader::new(ultralight()), 0);
                let mut say = |command: &[u8]| {
                    let mut answer = reader.handle(command);
                    if step == at {
                        answer.truncate(length.min(answer.len() - 1));
                    }
                    step += 1;
                    Ok(answer)
                };
                let told = select(&mut say).map(drop);
                assert_eq!(told, Err(ChipFault::HoldStill), "{at} cut to {length}");
            }
        }
    }

    #[test]
    fn a_chip_that_is_no_ultralight_after_all_is_sent_no_frame() {
        let mut reader = Reader::new(ultralight());
        reader.select = 0x08;
        let random = ChipFault::Identity(canteen::ChipIdError::Random);
        assert_eq!(reader.identify(), Err(random));
        assert_eq!(reader.sent.len(), 2);
    }
}
