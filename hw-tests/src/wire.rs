//! What a simulated reader says, on its way to the till, with the damage that a test orders.

use std::collections::VecDeque;

use crate::device::SimulatedDevice;

/// Bytes on their way.
#[derive(Debug)]
pub struct Wire {
    /// Bytes that come before everything that is said.
    noise: Vec<u8>,
    /// What happens to the next frames, and to how many.
    damage: VecDeque<(Damage, u32)>,
    is_slow: bool,
    is_flooding: bool,
    dice: u32,
    outgoing: VecDeque<u8>,
}

/// What can happen to a frame on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Its second half is lost.
    Cut,
    /// One bit or digit is wrong.
    Garbled,
    /// Other bytes come in the middle of it.
    Interrupted,
}

impl Wire {
    /// A wire that carries what it is given.
    pub fn new() -> Wire {
        Wire {
            noise: Vec::new(),
            damage: VecDeque::new(),
            is_slow: false,
            is_flooding: false,
            dice: 7,
            outgoing: VecDeque::new(),
        }
    }

    /// Forgets what is on its way.
    pub fn clear(&mut self) {
        self.outgoing.clear();
    }

    /// Has these bytes come before everything that is said; none is the end of it.
    pub fn set_noise(&mut self, noise: &[u8]) {
        self.noise = noise.to_vec();
    }

    /// Has this happen to the next frames; none is the end of all damage.
    pub fn damage(&mut self, damage: Damage, frames: u32) {
        match frames {
            0 => self.damage.clear(),
            _ => self.damage.push_back((damage, frames)),
        }
    }

    /// Has few bytes go out in each turn, or all.
    pub fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
    }

    /// Has bytes without end come between the frames, or stops that.
    pub fn set_flooding(&mut self, is_flooding: bool) {
        self.is_flooding = is_flooding;
    }

    /// Puts a frame on its way, with the damage that is due.
    pub fn say(&mut self, device: &dyn SimulatedDevice, frame: &[u8]) {
        self.outgoing.extend(&self.noise);
        let (half, rest) = frame.split_at(frame.len() / 2);
        let Some((damage, times)) = self.damage.front_mut() else {
            self.outgoing.extend(frame);
            return;
        };
        match damage {
            Damage::Cut => self.outgoing.extend(half),
            Damage::Garbled => self.outgoing.extend(device.garbled(frame)),
            Damage::Interrupted => {
                self.outgoing.extend(half);
                self.outgoing.extend(b"\xFE\x00#\x55");
                self.outgoing.extend(rest);
            }
        }
        *times -= 1;
        if *times == 0 {
            self.damage.pop_front();
        }
    }

    /// The bytes that arrive in this turn.
    pub fn arriving(&mut self) -> Vec<u8> {
        if self.is_flooding {
            self.flood();
        }
        let most = if self.is_slow { SLOW } else { usize::MAX };
        let length = self.outgoing.len().min(most);
        self.outgoing.drain(..length).collect()
    }

    fn flood(&mut self) {
        for _ in 0..FLOOD {
            // A linear congruential generator; any bytes will do.
            self.dice = self
                .dice
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            self.outgoing.push_back((self.dice >> 24) as u8);
        }
    }
}

impl Default for Wire {
    fn default() -> Wire {
        Wire::new()
    }
}

/// Bytes a turn.
const SLOW: usize = 3;
const FLOOD: usize = 256;
