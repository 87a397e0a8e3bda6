//! An RDM6300: says the number of the EM4100 that is near, every 60 ms, and hears nothing.

use firmware_proto::device::Field;

use super::{Air, SimulatedDevice, to_hex, with_wrong_digit};

#[derive(Debug)]
pub(super) struct Rdm6300 {
    next: u32,
}

impl Rdm6300 {
    pub(super) fn new() -> Rdm6300 {
        Rdm6300 { next: 0 }
    }
}

impl SimulatedDevice for Rdm6300 {
    fn power_up(&mut self) {}

    fn turn(&mut self, field: Field, _air: &mut dyn Air, _heard: &[u8], now: u32) -> Vec<Vec<u8>> {
        let number = match field {
            Field::One(chip) => <[u8; 4]>::try_from(chip.uid.as_slice()).ok(),
            // Two chips drown each other.
            Field::Several | Field::Empty | Field::Unreadable => None,
        };
        let Some(number) = number.filter(|_| now >= self.next) else {
            return Vec::new();
        };
        self.next = now + PERIOD;
        vec![frame(VERSION, number)]
    }

    fn garbled(&self, frame: &[u8]) -> Vec<u8> {
        with_wrong_digit(frame)
    }
}

fn frame(version: u8, number: [u8; 4]) -> Vec<u8> {
    let check = number.iter().fold(version, |check, byte| check ^ byte);
    let digits = to_hex(&[&[version], &number[..], &[check]].concat());
    [b"\x02", digits.as_bytes(), b"\x03"].concat()
}

const VERSION: u8 = 0x01;
const PERIOD: u32 = 60;

#[cfg(test)]
mod tests {
    use super::super::{Silence, field_of};
    use super::*;

    #[test]
    fn frames_are_those_of_real_cards() {
        assert_eq!(
            frame(0x62, [0xE3, 0x08, 0x6C, 0xED]),
            b"\x0262E3086CED08\x03"
        );
        assert_eq!(
            frame(0x01, [0x00, 0x63, 0xE9, 0xAE]),
            b"\x02010063E9AE25\x03"
        );
    }

    #[test]
    fn a_number_is_repeated_while_the_chip_is_near() {
        let mut reader = Rdm6300::new();
        let mut said = 0;
        for now in (0..600).step_by(10) {
            said += reader
                .turn(field_of(&[0x00, 0x63, 0xE9, 0xAE]), &mut Silence, &[], now)
                .len();
        }
        assert_eq!(said, 10);
        assert!(reader.turn(Field::Empty, &mut Silence, &[], 700).is_empty());
    }
}
