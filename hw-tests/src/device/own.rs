//! A reader that speaks the protocol of `firmware-proto`: the state machine that firmware runs.

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::MAX_WIRE;
use firmware_proto::message::{Identity, Pattern, capability};

use super::{Air, SimulatedDevice, with_wrong_bit};

#[derive(Debug)]
pub(super) struct OwnReader {
    device: Powered,
    boots: u32,
    shown: Vec<Pattern>,
}

/// Without the state machine's insides, which say nothing to a person.
struct Powered(Device);

impl std::fmt::Debug for Powered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}

impl OwnReader {
    pub(super) fn new() -> OwnReader {
        OwnReader {
            device: device(1),
            boots: 1,
            shown: Vec::new(),
        }
    }
}

impl SimulatedDevice for OwnReader {
    fn power_up(&mut self) {
        self.boots += 1;
        self.device = device(self.boots);
    }

    fn turn(&mut self, field: Field, air: &mut dyn Air, heard: &[u8], now: u32) -> Vec<Vec<u8>> {
        let device = &mut self.device.0;
        device.handle_field(field, now);
        let mut wire = [0; MAX_WIRE];
        let mut said = Vec::new();
        for &byte in heard {
            let mut radio = Radio {
                field,
                shown: &mut self.shown,
                air: &mut *air,
            };
            let answer = device.handle_byte(byte, now, &mut radio, &mut wire);
            said.extend(answer.map(<[u8]>::to_vec));
        }
        said.extend(device.poll(now, &mut wire).map(<[u8]>::to_vec));
        said
    }

    fn garbled(&self, frame: &[u8]) -> Vec<u8> {
        with_wrong_bit(frame)
    }

    fn has_shown_approval(&self) -> bool {
        self.shown.contains(&Pattern::Approved)
    }
}

struct Radio<'a> {
    field: Field,
    shown: &'a mut Vec<Pattern>,
    air: &'a mut dyn Air,
}

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        self.field
    }
    fn show(&mut self, pattern: Pattern, _milliseconds: u16) {
        self.shown.push(pattern);
    }
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize> {
        let said = self.air.exchange(command)?;
        answer.get_mut(..said.len())?.copy_from_slice(&said);
        Some(said.len())
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

fn device(boot_id: u32) -> Powered {
    Powered(Device::new(Identity {
        version: 0,
        firmware: [1, 0, 0],
        hardware: 0,
        serial: *b"SIMULATED\0\0\0",
        capabilities: capability::LIGHT
            | capability::BEEPER
            | capability::COUNTS
            | capability::APDU,
        boot_id,
        max_payload: 0,
    }))
}
