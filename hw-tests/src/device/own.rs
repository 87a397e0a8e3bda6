//! A reader that speaks the protocol of `firmware-proto`: the state machine that firmware runs.

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::MAX_WIRE;
use firmware_proto::message::{Identity, Pattern, capability};

use super::{SimulatedDevice, with_wrong_bit};

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

    fn turn(&mut self, field: Field, heard: &[u8], now: u32) -> Vec<Vec<u8>> {
        let device = &mut self.device.0;
        device.handle_field(field, now);
        let mut wire = [0; MAX_WIRE];
        let mut said = Vec::new();
        for &byte in heard {
            let mut radio = Radio(field, &mut self.shown);
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

struct Radio<'a>(Field, &'a mut Vec<Pattern>);

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        self.0
    }
    fn show(&mut self, pattern: Pattern, _milliseconds: u16) {
        self.1.push(pattern);
    }
    fn exchange(&mut self, _command: &[u8], _answer: &mut [u8]) -> Option<usize> {
        None
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
        capabilities: capability::LIGHT | capability::BEEPER | capability::COUNTS,
        boot_id,
        max_payload: 0,
    }))
}
