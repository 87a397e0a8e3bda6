//! Numbers that look random and are the same for the same seed.

use canteen::ChipId;

/// A generator of such numbers (xorshift, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Dice(u32);

impl Dice {
    /// One that begins with this seed.
    pub fn new(seed: u32) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A number below that one, which is not 0.
    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.roll()) * u64::from(end)) >> 32) as u32
    }

    /// A number from the first to the last.
    pub fn between(&mut self, first: u32, last: u32) -> u32 {
        first + self.below(last - first + 1)
    }

    /// A chip that nobody had before, of 4 or of 7 bytes where those may be.
    pub fn chip(&mut self, may_be_long: bool) -> ChipId {
        let is_long = may_be_long && self.below(2) == 0;
        loop {
            let ([a, b, c, d], [e, f, g, _]) =
                (self.roll().to_be_bytes(), self.roll().to_be_bytes());
            let uid = if is_long {
                ChipId::from_uid(&[0x04, b, c, d, e, f, g])
            } else {
                ChipId::from_uid(&[a, b, c, d])
            };
            // Some first bytes are no identity.
            if let Ok(chip) = uid {
                return chip;
            }
        }
    }
}
