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
    /// When the chip was selected last.
    selected_at: u32,
    /// When it was talked with last, and how.
    talked: Option<(u32, Talked)>,
}

/// How a chip is talked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talked {
    /// By commands: it can be asked within them whether it is still there.
    ByApdus,
    /// By frames: only a selection asks it.
    ByFrames,
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
            selected_at: 0,
            talked: None,
        }
    }
}

impl SimulatedDevice for OwnReader {
    fn power_up(&mut self) {
        self.boots += 1;
        self.device = device(self.boots);
        self.talked = None;
    }

    fn turn(&mut self, field: Field, air: &mut dyn Air, heard: &[u8], now: u32) -> Vec<Vec<u8>> {
        let device = &mut self.device.0;
        let talked = self
            .talked
            .filter(|(at, _)| now.wrapping_sub(*at) < TALK_TIME);
        if talked.is_none() && now.wrapping_sub(self.selected_at) >= SCAN_EVERY {
            self.selected_at = now;
            air.select();
        }
        // A chip that is talked with by frames counts as present.
        if !matches!(talked, Some((_, Talked::ByFrames))) {
            device.handle_field(field, now);
        }
        let mut wire = [0; MAX_WIRE];
        let mut said = Vec::new();
        for &byte in heard {
            let mut radio = Radio {
                field,
                shown: &mut self.shown,
                air: &mut *air,
                talked: &mut self.talked,
                now,
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
    talked: &'a mut Option<(u32, Talked)>,
    now: u32,
}

impl Radio<'_> {
    fn talk(&mut self, bytes: &[u8], answer: &mut [u8], how: Talked) -> Option<usize> {
        *self.talked = Some((self.now, how));
        let said = self.air.exchange(bytes)?;
        answer.get_mut(..said.len())?.copy_from_slice(&said);
        Some(said.len())
    }
}

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        let is_talking =
            |(at, how)| how == Talked::ByApdus && self.now.wrapping_sub(at) < TALK_TIME;
        if !self.talked.is_some_and(is_talking) {
            *self.talked = None;
            self.air.select();
        }
        self.field
    }
    fn show(&mut self, pattern: Pattern, _milliseconds: u16) {
        self.talked.take_if(|(_, how)| *how == Talked::ByFrames);
        self.shown.push(pattern);
    }
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize> {
        self.talk(command, answer, Talked::ByApdus)
    }
    fn exchange_frame(&mut self, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
        if !frame.is_empty() {
            return self.talk(frame, answer, Talked::ByFrames);
        }
        *self.talked = Some((self.now, Talked::ByFrames));
        let uid = self.air.cut_power()?;
        self.air.select();
        answer.get_mut(..uid.len())?.copy_from_slice(&uid);
        Some(uid.len())
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
            | capability::APDU
            | capability::AIR,
        boot_id,
        max_payload: 0,
    }))
}

/// Milliseconds between two scans.
const SCAN_EVERY: u32 = 100;
/// Milliseconds after which what was agreed on with a chip may be ended by selecting it.
const TALK_TIME: u32 = 500;
