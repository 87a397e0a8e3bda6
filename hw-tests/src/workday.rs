//! A working day at a serial reader in simulated time: the reader, its line and the till's side of
//! the conversation on one clock that a program turns, so that eight hours take seconds.
//!
//! Taps come as in a canteen, every few seconds to every minute, and things go wrong as they do in
//! one: chips flicker at the edge of the field, frames are cut, garbled and interrupted, two chips
//! and telephones are held to the reader, the plug is pulled, the power fails. Each tap must be
//! told once, under its own identity, and must leave; each question is answered once, by the chip
//! that lies there.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::{ChipId, ChipIdentity};
use firmware_proto::device::Field;
use till_readers::Presence;
use till_readers::serial::{Conversation, Happening};

use crate::device::{DeviceKind, Silence, SimulatedDevice, field_of};
use crate::dice::Dice;
use crate::wire::{Damage, Wire};

/// What a day was like.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Diary {
    /// Chips that were laid and told.
    pub taps: u32,
    /// Questions for the chip that were answered.
    pub answers: u32,
    /// Things that went wrong on the line, in the field or with the power.
    pub mishaps: u32,
    /// From the tap to the event, in milliseconds, of taps without a mishap; in order.
    pub waits: Vec<u64>,
}

impl fmt::Display for Diary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diary {
            taps,
            answers,
            mishaps,
            waits,
        } = self;
        let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
        let slowest = waits.last().copied().unwrap_or_default();
        write!(
            f,
            "eight hours: {taps} taps, {answers} questions, {mishaps} mishaps; \
             from tap to event {median} ms in the middle, {slowest} ms at most"
        )
    }
}

/// A reader and the till on one clock.
pub struct SimulatedLine {
    kind: DeviceKind,
    device: Box<dyn SimulatedDevice>,
    till: Box<dyn Conversation>,
    wire: Wire,
    field: Field,
    /// What the till has said and the reader has not heard yet.
    to_reader: Vec<u8>,
    epoch: Instant,
    /// Milliseconds since the epoch.
    now: u64,
    happened: Vec<(u64, Happening)>,
}

impl SimulatedLine {
    /// A reader that has just been plugged in.
    pub fn new(kind: DeviceKind) -> SimulatedLine {
        let epoch = Instant::now();
        SimulatedLine {
            kind,
            device: kind.device(),
            till: kind.protocol().conversation(epoch),
            wire: Wire::new(),
            field: Field::Empty,
            to_reader: Vec::new(),
            epoch,
            now: 0,
            happened: Vec::new(),
        }
    }

    /// Fills the field.
    pub fn set(&mut self, field: Field) {
        self.field = field;
    }

    /// Asks for the chip in the field.
    pub fn read_again(&mut self, token: u64) {
        self.till.handle_read_again(token, self.instant());
    }

    /// Pulls the plug and puts it in again.
    pub fn replug(&mut self) {
        self.device.power_up();
        self.wire.clear();
        self.open_again();
    }

    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds;
        while self.now < until {
            self.turn();
        }
    }

    /// Takes what has happened, each with its time.
    pub fn take_happened(&mut self) -> Vec<(u64, Happening)> {
        std::mem::take(&mut self.happened)
    }

    fn turn(&mut self) {
        self.now += TURN;
        let heard = std::mem::take(&mut self.to_reader);
        let milliseconds = self.now as u32;
        for frame in self
            .device
            .turn(self.field, &mut Silence, &heard, milliseconds)
        {
            self.wire.say(&*self.device, &frame);
        }
        let arriving = self.wire.arriving();
        let now = self.instant();
        if !arriving.is_empty() {
            self.till.handle_bytes(&arriving, now);
        }
        while let Some(bytes) = self.till.poll_transmit(now) {
            self.to_reader.extend(bytes);
        }
        self.note();
        if self.till.fault().is_some() {
            self.open_again();
        }
    }

    /// As the reader's thread does when the line or the reader has failed.
    fn open_again(&mut self) {
        self.till.handle_end();
        self.note();
        self.to_reader.clear();
        self.till = self.kind.protocol().conversation(self.instant());
    }

    fn note(&mut self) {
        while let Some(happening) = self.till.poll_happening() {
            self.happened.push((self.now, happening));
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }
}

/// Works eight hours at a reader of this kind; the same seed is the same day.
pub fn work(kind: DeviceKind, seed: u32) -> anyhow::Result<Diary> {
    let mut day = Workday {
        line: SimulatedLine::new(kind),
        kind,
        dice: Dice::new(seed),
        last_token: 0,
        diary: Diary::default(),
    };
    day.open()?;
    while day.line.now < EIGHT_HOURS {
        let at = day.line.now;
        day.customer().with_context(|| format!("at {at} ms"))?;
    }
    day.diary.waits.sort_unstable();
    Ok(day.diary)
}

struct Workday {
    line: SimulatedLine,
    kind: DeviceKind,
    dice: Dice,
    last_token: u64,
    diary: Diary,
}

/// What can go wrong with one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Nothing,
    /// The chip is missed by one look of the reader's antenna, again and again.
    Flicker,
    Noise,
    Line(Damage),
    Slow,
    Flood,
    TwoChips,
    Telephone,
    Unplugged,
    PowerFailure,
}

/// What the till was told while one customer was there.
#[derive(Debug, Default)]
struct Told {
    came: Vec<(u64, Presence, ChipIdentity)>,
    left: Vec<Presence>,
    unreadable: u32,
    answers: Vec<(u64, Option<ChipIdentity>)>,
}

impl Workday {
    fn open(&mut self) -> anyhow::Result<()> {
        self.line.pass(3000);
        let is_opened =
            |(_, happening): &(u64, Happening)| matches!(happening, Happening::Opened { .. });
        ensure!(
            self.line.take_happened().iter().any(is_opened),
            "the reader never became ready"
        );
        Ok(())
    }

    fn customer(&mut self) -> anyhow::Result<()> {
        self.line.pass(u64::from(self.dice.between(800, 70_000)));
        ensure_silent(&self.take_told())?;
        let mishap = self.mishap();
        if mishap != Mishap::Nothing {
            self.diary.mishaps += 1;
        }
        match mishap {
            Mishap::TwoChips => self.refused(Field::Several),
            Mishap::Telephone => self.refused(field_of(&TELEPHONE)),
            Mishap::Unplugged | Mishap::PowerFailure => self.cut_off(mishap),
            Mishap::Nothing
            | Mishap::Flicker
            | Mishap::Noise
            | Mishap::Line(_)
            | Mishap::Slow
            | Mishap::Flood => self.tap(mishap),
        }
        .with_context(|| format!("{mishap:?}"))
    }

    /// Two customers of three are as they should be.
    fn mishap(&mut self) -> Mishap {
        let mishap = match self.dice.below(33) {
            0 => Mishap::Noise,
            1 => Mishap::Line(Damage::Cut),
            2 => Mishap::Line(Damage::Garbled),
            3 => Mishap::Line(Damage::Interrupted),
            4 => Mishap::Slow,
            5 => Mishap::Flood,
            6 => Mishap::TwoChips,
            7 => Mishap::Telephone,
            8 => Mishap::Unplugged,
            9 => Mishap::PowerFailure,
            10 => Mishap::Flicker,
            _ => Mishap::Nothing,
        };
        let is_possible = match (self.kind, mishap) {
            // 125 kHz chips drown each other, and no telephone speaks there.
            (DeviceKind::Rdm6300, Mishap::TwoChips | Mishap::Telephone) => false,
            // Nothing tells what is damaged: the till's second reading guards the sale.
            (DeviceKind::Twn4Plain, Mishap::Line(_) | Mishap::Flood | Mishap::Noise) => false,
            _ => true,
        };
        if is_possible { mishap } else { Mishap::Nothing }
    }

    fn tap(&mut self, mishap: Mishap) -> anyhow::Result<()> {
        let chip = self.chip();
        let frames = self.dice.between(1, 2);
        match mishap {
            Mishap::Noise => self.line.wire.set_noise(b"AT+GMI\r\n\x00\xFF\x0B\x01"),
            Mishap::Line(damage) => self.line.wire.damage(damage, frames),
            Mishap::Slow => self.line.wire.set_slow(true),
            Mishap::Flood => self.line.wire.set_flooding(true),
            Mishap::Nothing
            | Mishap::Flicker
            | Mishap::TwoChips
            | Mishap::Telephone
            | Mishap::Unplugged
            | Mishap::PowerFailure => {}
        }
        let laid_at = self.line.now;
        self.line.set(field_of(chip.as_bytes()));
        if mishap == Mishap::Flood {
            self.line.pass(u64::from(self.dice.between(50, 400)));
            self.line.wire.set_flooding(false);
            self.line.wire.clear();
        }
        if mishap == Mishap::Nothing {
            self.line.pass(u64::from(self.dice.between(300, 2500)));
        } else {
            self.line.pass(4000);
        }
        if mishap == Mishap::Flicker {
            self.flicker(chip);
        }
        let questions = self.ask_some();
        self.line.pass(1500);
        self.line.wire.damage(Damage::Cut, 0);
        self.line.wire.set_noise(b"");
        self.line.set(Field::Empty);
        self.line.pass(900);
        self.line.wire.set_slow(false);
        let told = self.take_told();
        let [(came_at, presence, came)] = told.came[..] else {
            bail!("one chip was laid: {told:?}");
        };
        let bare = ChipIdentity::Bare(chip);
        ensure!(came == bare, "another chip was told: {told:?}");
        ensure!(told.left == [presence], "it left once: {told:?}");
        ensure!(told.unreadable == 0, "it can be read: {told:?}");
        let answered: Vec<u64> = told.answers.iter().map(|(token, _)| *token).collect();
        ensure!(answered == questions, "{questions:?} were asked: {told:?}");
        let is_mine = |(_, answer): &(u64, Option<ChipIdentity>)| *answer == Some(bare);
        ensure!(told.answers.iter().all(is_mine), "it lay there: {told:?}");
        self.diary.taps += 1;
        self.diary.answers += questions.len() as u32;
        if mishap == Mishap::Nothing {
            self.diary.waits.push(came_at - laid_at);
        }
        Ok(())
    }

    fn flicker(&mut self, chip: ChipId) {
        for _ in 0..20 {
            self.line.set(Field::Empty);
            self.line.pass(TURN);
            self.line.set(field_of(chip.as_bytes()));
            self.line.pass(u64::from(self.dice.between(100, 300)));
        }
    }

    /// What lies there is no chip to pay with.
    fn refused(&mut self, field: Field) -> anyhow::Result<()> {
        self.line.set(field);
        self.line.pass(u64::from(self.dice.between(300, 2500)));
        let questions = self.ask_some();
        self.line.pass(1000);
        self.line.set(Field::Empty);
        self.line.pass(900);
        let told = self.take_told();
        ensure!(told.came.is_empty() && told.left.is_empty(), "{told:?}");
        ensure!(told.unreadable == 1, "it is told once: {told:?}");
        ensure!(told.answers.len() == questions.len(), "{told:?}");
        ensure!(
            told.answers.iter().all(|(_, chip)| chip.is_none()),
            "{told:?}"
        );
        self.diary.answers += questions.len() as u32;
        Ok(())
    }

    /// The chip is told, then the reader fails and comes back with the chip still lying there: it
    /// is no tap, whoever it belongs to.
    fn cut_off(&mut self, mishap: Mishap) -> anyhow::Result<()> {
        let chip = self.chip();
        self.line.set(field_of(chip.as_bytes()));
        self.line.pass(2000);
        match mishap {
            Mishap::PowerFailure => self.line.device.power_up(),
            _ => self.line.replug(),
        }
        self.line.pass(8000);
        self.line.set(Field::Empty);
        self.line.pass(1500);
        let told = self.take_told();
        let [(_, presence, came)] = told.came[..] else {
            bail!("one chip was laid: {told:?}");
        };
        let bare = ChipIdentity::Bare(chip);
        ensure!(came == bare && told.left == [presence], "{told:?}");
        self.diary.taps += 1;
        Ok(())
    }

    fn ask_some(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        for _ in 0..self.dice.below(3) {
            self.last_token += 1;
            tokens.push(self.last_token);
            self.line.read_again(self.last_token);
            self.line.pass(u64::from(self.dice.between(1, 200)));
        }
        tokens
    }

    fn chip(&mut self) -> ChipId {
        self.dice.chip(self.kind != DeviceKind::Rdm6300)
    }

    fn take_told(&mut self) -> Told {
        let mut told = Told::default();
        for (at, happening) in self.line.take_happened() {
            match happening {
                Happening::Came {
                    presence, identity, ..
                } => told.came.push((at, presence, identity)),
                Happening::Left { presence } => told.left.push(presence),
                Happening::Unreadable { .. } => told.unreadable += 1,
                Happening::ReadAgain { token, identity } => {
                    told.answers.push((token, identity.ok()))
                }
                Happening::Opened { .. } | Happening::Worked { .. } | Happening::Log { .. } => {}
            }
        }
        told
    }
}

fn ensure_silent(told: &Told) -> anyhow::Result<()> {
    let is_silent = told.came.is_empty() && told.left.is_empty() && told.answers.is_empty();
    ensure!(
        is_silent && told.unreadable == 0,
        "nobody was there: {told:?}"
    );
    Ok(())
}

/// Milliseconds.
const TURN: u64 = 10;
const EIGHT_HOURS: u64 = 8 * 3_600_000;
/// A 4-byte identifier that starts with 08 is drawn anew at every tap (ISO/IEC 14443-3).
const TELEPHONE: [u8; 4] = [0x08, 0x3A, 0x5C, 0x11];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_day() {
        let day = |seed| work(DeviceKind::Rdm6300, seed).unwrap();
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn a_day_is_worked_without_a_tap_lost_doubled_or_swapped() {
        for kind in [
            DeviceKind::Own,
            DeviceKind::Pn532,
            DeviceKind::Rdm6300,
            DeviceKind::Twn4,
            DeviceKind::Twn4Plain,
        ] {
            let diary = work(kind, 2).unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
            assert!(
                diary.taps > 500 && diary.mishaps > 100,
                "{kind:?} {diary:?}"
            );
        }
    }
}
