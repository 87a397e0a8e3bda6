//! Random choices that can be played again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (xorshift).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From the environment variable `SEED`, or the clock; printed either way.
    pub(crate) fn new() -> Dice {
        let given = std::env::var("SEED").ok();
        let seed = given.map_or_else(
            || {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_micros() as u64
            },
            |seed| seed.parse().unwrap(),
        );
        println!("SEED={seed}");
        Dice(seed | 1)
    }

    /// Dice of its own for somebody else.
    pub(crate) fn split(&mut self) -> Dice {
        Dice(self.draw() | 1)
    }

    /// A number from 0 to one below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// A place in a list of so many.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// A span of time.
    pub(crate) fn span(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
