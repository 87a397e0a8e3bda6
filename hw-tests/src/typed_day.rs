//! A working day at a reader that types, in simulated time: eight hours of taps, of which every third
//! goes wrong in one of the ways in which typing can. A number that was typed whole is told once,
//! under its own identity, and leaves; any other is never a chip.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use canteen::{ChipId, ChipIdentity};
use till_readers::serial::{Conversation, Happening, Protocol};
use till_readers::{ChipFault, KeyEvent, NumberFormat, Typed};

use crate::dice::Dice;
use crate::workday::Diary;

/// Works eight hours; the same seed is the same day.
pub fn work(seed: u32) -> anyhow::Result<Diary> {
    let epoch = Instant::now();
    let format = NumberFormat {
        is_hex: true,
        is_reversed: false,
        is_em4100: false,
    };
    let mut day = TypedDay {
        till: Protocol::Keyboard(format).conversation(epoch),
        epoch,
        now: 0,
        told: Vec::new(),
        dice: Dice::new(seed),
        diary: Diary::default(),
    };
    day.pass(3000);
    let opened = day.take_told();
    ensure!(opened == ["opened"], "the reader is not ready: {opened:?}");
    while day.now < EIGHT_HOURS {
        let at = day.now;
        day.customer().with_context(|| format!("at {at} ms"))?;
    }
    day.diary.waits.sort_unstable();
    Ok(day.diary)
}

struct TypedDay {
    till: Box<dyn Conversation>,
    epoch: Instant,
    /// Milliseconds since the epoch.
    now: u64,
    told: Vec<(u64, String)>,
    dice: Dice,
    diary: Diary,
}

/// What can go wrong with one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// The reader types the number again while the chip lies there.
    Repeated,
    /// The chip is pulled away, and the reader stops in the middle.
    Half,
    /// Somebody leans on another key.
    OtherKey,
    /// The kernel lost keys.
    Lost,
    /// The chip is held to it twice.
    Twice,
}

impl TypedDay {
    fn customer(&mut self) -> anyhow::Result<()> {
        self.pass_between(2000, 70_000);
        let told = self.take_told();
        ensure!(told.is_empty(), "nobody was there: {told:?}");
        let chip = self.dice.chip(true);
        let mishap = match self.dice.below(15) {
            0 => Some(Mishap::Repeated),
            1 => Some(Mishap::Half),
            2 => Some(Mishap::OtherKey),
            3 => Some(Mishap::Lost),
            4 => Some(Mishap::Twice),
            _ => None,
        };
        let expected = match mishap {
            None => {
                let typed_at = self.now;
                let expected = self.tap(chip);
                let came = self.told.first().map(|(at, _)| at - typed_at);
                self.diary.waits.extend(came);
                expected
            }
            Some(mishap) => self.mishap(chip, mishap),
        };
        self.pass(2000);
        let told = self.take_told();
        ensure!(told == expected, "{mishap:?}: {told:?}, not {expected:?}");
        Ok(())
    }

    fn tap(&mut self, chip: ChipId) -> Vec<String> {
        self.type_keys(&line(chip));
        self.diary.taps += 1;
        vec![format!("came {chip}"), "left".to_owned()]
    }

    fn mishap(&mut self, chip: ChipId, mishap: Mishap) -> Vec<String> {
        self.diary.mishaps += 1;
        let keys = line(chip);
        let (half, rest) = keys.split_at(keys.len() / 2);
        match mishap {
            Mishap::Repeated => {
                for _ in 0..self.dice.between(1, 5) {
                    self.type_keys(&keys);
                    self.pass_between(100, 1000);
                }
                self.tap(chip)
            }
            Mishap::Half => {
                self.type_keys(half);
                self.pass_between(700, 3000);
                self.tap(chip)
            }
            Mishap::OtherKey => {
                self.type_keys(&format!("{half}X{rest}"));
                vec![format!("unreadable {:?}", ChipFault::Typed(Typed::Keys))]
            }
            Mishap::Lost => {
                self.type_keys(half);
                let now = self.instant();
                self.till.handle_bytes(&KeyEvent::LOST.to_bytes(), now);
                self.type_keys(rest);
                Vec::new()
            }
            Mishap::Twice => {
                let first = self.tap(chip);
                self.pass_between(1600, 5000);
                [first, self.tap(chip)].concat()
            }
        }
    }

    fn type_keys(&mut self, text: &str) {
        for letter in text.chars() {
            for value in [1, 0] {
                let event = KeyEvent {
                    kind: 1,
                    code: code(letter),
                    value,
                };
                let now = self.instant();
                self.till.handle_bytes(&event.to_bytes(), now);
            }
            self.pass(10);
        }
    }

    fn pass_between(&mut self, first: u32, last: u32) {
        let milliseconds = self.dice.between(first, last);
        self.pass(u64::from(milliseconds));
    }

    fn pass(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds;
        while self.now < until {
            self.now = until.min(self.now + 50);
            let now = self.instant();
            while self.till.poll_transmit(now).is_some() {}
            while let Some(happening) = self.till.poll_happening() {
                self.told.push((self.now, words(happening)));
            }
        }
    }

    fn take_told(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        told.into_iter().map(|(_, told)| told).collect()
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }
}

fn words(happening: Happening) -> String {
    match happening {
        Happening::Opened { .. } => "opened".to_owned(),
        Happening::Came {
            identity: ChipIdentity::Bare(chip),
            ..
        } => format!("came {chip}"),
        Happening::Left { .. } => "left".to_owned(),
        Happening::Unreadable { fault, .. } => format!("unreadable {fault:?}"),
        other => format!("{other:?}"),
    }
}

fn line(chip: ChipId) -> String {
    format!("{chip}\n")
}

/// The key's number in linux/input-event-codes.h.
fn code(letter: char) -> u16 {
    let keys = "1234567890";
    match letter {
        'A' => 30,
        'B' => 48,
        'C' => 46,
        'D' => 32,
        'E' => 18,
        'F' => 33,
        'X' => 45,
        '\n' => 28,
        digit => 2 + keys.find(digit).unwrap_or_default() as u16,
    }
}

const EIGHT_HOURS: u64 = 8 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_typing_loses_doubles_and_swaps_no_tap() {
        for seed in 1..4 {
            let diary = work(seed).unwrap_or_else(|error| panic!("{seed}: {error:#}"));
            assert!(diary.taps > 500 && diary.mishaps > 100, "{diary:?}");
        }
        assert_eq!(work(1).unwrap(), work(1).unwrap());
    }
}
