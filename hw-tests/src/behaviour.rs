//! What every reader must do, whatever it is connected by.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::ChipId;
use till_readers::{ChipFault, Presence, ReaderEvent, ReaderFault, Signal};

use crate::bench::{Bench, faulty, left, left_or_torn, lost, unreadable};
use crate::dice::Dice;
use crate::hands::{Able, Hands, Shift};

/// One thing that a reader must do.
pub struct Behaviour {
    /// A true sentence about readers that have it.
    pub sentence: &'static str,
    run: fn(&mut Bench) -> anyhow::Result<Able>,
}

/// All of them, in the order in which they are tried.
pub const BEHAVIOURS: &[Behaviour] = &[
    behaviour("a connected reader becomes ready", Bench::opens),
    behaviour("a tap is told once, however long the chip lies", Bench::tap),
    behaviour("a chip that is lifted has left", Bench::remove),
    behaviour("the same chip again is another presence", Bench::tap_again),
    behaviour("a swapped chip is the next presence", Bench::swap),
    behaviour("reading again tells what is there now", Bench::read_again),
    behaviour("a random identifier is refused", Bench::random),
    behaviour("several chips are refused", Bench::several),
    behaviour("a chip torn away is no other chip", Bench::tear),
    behaviour("garbage before an answer costs no tap", Bench::garbage),
    behaviour("bytes inside an answer cost no tap", Bench::interrupted),
    behaviour("a wrong checksum is never a chip", Bench::garbled),
    behaviour("a flood of bytes is survived", Bench::flood),
    behaviour("slow bytes cost no tap", Bench::slow),
    behaviour("silence is noticed and overcome", Bench::silence),
    behaviour(
        "an unplugged reader is told and comes back",
        Bench::unplugged,
    ),
    behaviour("a service that ends is told and comes back", Bench::restart),
    behaviour(
        "a reader that another program holds is told",
        Bench::occupied,
    ),
    behaviour("a frozen service is told and comes back", Bench::frozen),
    behaviour("no other program hears the reader", Bench::overheard),
    behaviour("an approval is shown", Bench::signal),
    behaviour(
        "a working day of eight hours loses, doubles and swaps no tap",
        Bench::workday,
    ),
];

const fn behaviour(
    sentence: &'static str,
    run: fn(&mut Bench) -> anyhow::Result<Able>,
) -> Behaviour {
    Behaviour { sentence, run }
}

impl Behaviour {
    /// Tries it.
    pub fn run(&self, bench: &mut Bench) -> anyhow::Result<Able> {
        (self.run)(bench)
    }
}

impl Bench {
    fn opens(&mut self) -> anyhow::Result<Able> {
        let ready = |event: &ReaderEvent| match event {
            ReaderEvent::Ready { reader } => Some(reader.clone()),
            _ => None,
        };
        self.reader = Some(self.expect("ready", ready)?);
        // A virtual PC/SC reader has a second slot; only the first is used.
        self.settle();
        Ok(Able::Yes)
    }

    fn tap(&mut self) -> anyhow::Result<Able> {
        let laid = self.hands.lay(&UID_4)?;
        self.expect_chip(laid)?;
        self.expect_nothing(Duration::from_millis(700))?;
        Ok(Able::Yes)
    }

    fn remove(&mut self) -> anyhow::Result<Able> {
        self.lift()?;
        self.expect_nothing(Duration::from_millis(300))?;
        Ok(Able::Yes)
    }

    fn tap_again(&mut self) -> anyhow::Result<Able> {
        let mut earlier = Presence(0);
        for _ in 0..3 {
            let laid = self.hands.lay(&UID_7)?;
            let (presence, _) = self.expect_chip(laid)?;
            ensure!(presence > earlier, "{presence:?} after {earlier:?}");
            earlier = presence;
            self.hands.lift()?;
            ensure!(
                self.expect("left", left)? == presence,
                "another presence left"
            );
        }
        Ok(Able::Yes)
    }

    fn swap(&mut self) -> anyhow::Result<Able> {
        let laid = self.hands.lay(&UID_4)?;
        let (first, _) = self.expect_chip(laid)?;
        let laid = self.hands.lay(&UID_7)?;
        ensure!(self.expect("left", left)? == first, "another presence left");
        self.expect_chip(laid)?;
        self.lift()?;
        Ok(Able::Yes)
    }

    fn read_again(&mut self) -> anyhow::Result<Able> {
        ensure!(
            self.ask_again()? == Err(ChipFault::Absent),
            "a chip in an empty field"
        );
        let laid = self.hands.lay(&UID_4)?;
        let (_, chip) = self.expect_chip(laid)?;
        let able = self.hands.can_be_asked();
        if able != Able::Yes {
            self.lift()?;
            return Ok(able);
        }
        for _ in 0..3 {
            ensure!(self.ask_again()? == Ok(chip), "another chip than was told");
        }
        self.lift()?;
        ensure!(
            self.ask_again()? == Err(ChipFault::Absent),
            "a chip that has left"
        );
        Ok(Able::Yes)
    }

    fn random(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_random()?;
        if able == Able::Yes {
            let fault = self.expect("unreadable", unreadable)?;
            ensure!(
                matches!(fault, ChipFault::Identity(_)),
                "refused for another reason: {fault}"
            );
            self.hands.lift()?;
            self.expect_nothing(Duration::from_millis(300))?;
        }
        Ok(able)
    }

    fn several(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_several()?;
        if able == Able::Yes {
            let fault = self.expect("unreadable", unreadable)?;
            ensure!(
                fault == ChipFault::Several,
                "refused for another reason: {fault}"
            );
            self.hands.lift()?;
            self.expect_nothing(Duration::from_millis(300))?;
        }
        Ok(able)
    }

    fn tear(&mut self) -> anyhow::Result<Able> {
        let torn = ChipId::from_uid(&UID_4)?;
        for _ in 0..3 {
            let able = self.hands.tear(&UID_4)?;
            if able != Able::Yes {
                return Ok(able);
            }
            // It may be told as unreadable, or as the chip that it was, if the reader had it
            // already; never as another, and never as still there.
            let mut is_there = false;
            while let Some(event) = self.next(Duration::from_millis(1500)) {
                match event {
                    ReaderEvent::Unreadable {
                        fault: ChipFault::HoldStill,
                        ..
                    } => {}
                    ReaderEvent::Chip { identity, .. } if identity.chip() == Some(torn) => {
                        is_there = true
                    }
                    ReaderEvent::Left { .. } => is_there = false,
                    other => bail!("unexpected: {other:?}"),
                }
            }
            ensure!(!is_there, "the torn chip never left");
            self.hands.lift()?;
            self.tap_and_lift(&UID_7)?;
        }
        Ok(Able::Yes)
    }

    fn garbage(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_disturbed(&UID_4)?;
        if able == Able::Yes {
            self.expect_chip(Some(ChipId::from_uid(&UID_4)?))?;
            self.lift()?;
        }
        Ok(able)
    }

    fn interrupted(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_interrupted(&UID_4)?;
        if able == Able::Yes {
            self.expect_chip(Some(ChipId::from_uid(&UID_4)?))?;
            self.lift()?;
        }
        Ok(able)
    }

    fn garbled(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_garbled(&UID_4)?;
        if able == Able::Yes {
            self.expect_no_chip(Duration::from_secs(1))?;
            ensure!(
                self.ask_again()?.is_err(),
                "a chip that nobody can have read"
            );
            self.hands.lift()?;
            self.hands.clear_line()?;
            self.wait_until_well()?;
            self.tap_and_lift(&UID_7)?;
        }
        Ok(able)
    }

    fn flood(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.flood()?;
        if able == Able::Yes {
            self.expect_no_chip(Duration::from_secs(1))?;
            self.hands.clear_line()?;
            self.wait_until_well()?;
            self.tap_and_lift(&UID_4)?;
        }
        Ok(able)
    }

    fn slow(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.slow_down()?;
        if able == Able::Yes {
            for uid in [&UID_4[..], &UID_7] {
                let laid = self.hands.lay(uid)?;
                let (_, chip) = self.expect_chip(laid)?;
                if self.hands.can_be_asked() == Able::Yes {
                    ensure!(self.ask_again()? == Ok(chip), "another chip than was told");
                }
                self.lift()?;
            }
            self.hands.clear_line()?;
        }
        Ok(able)
    }

    fn silence(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.fall_silent(&UID_4)?;
        if able != Able::Yes {
            return Ok(able);
        }
        let answer = self.ask_again()?;
        ensure!(answer.is_err(), "a silent reader told a chip");
        let noticed = |event: &ReaderEvent| match event {
            ReaderEvent::Faulty { .. } | ReaderEvent::Unreadable { .. } => Some(()),
            _ => None,
        };
        self.expect_within(Duration::from_secs(12), "noticed", noticed)?;
        self.hands.speak_again()?;
        self.wait_until_well()?;
        self.tap_and_lift(&UID_7)?;
        Ok(Able::Yes)
    }

    fn unplugged(&mut self) -> anyhow::Result<Able> {
        self.broken(|hands| hands.unplug(), |hands| hands.replug())
    }

    fn restart(&mut self) -> anyhow::Result<Able> {
        self.broken(|hands| hands.break_off(), |hands| hands.mend())
    }

    /// Loses the reader with a chip on it, twice.
    fn broken(
        &mut self,
        lose: impl Fn(&mut dyn Hands) -> anyhow::Result<Able>,
        find: impl Fn(&mut dyn Hands) -> anyhow::Result<()>,
    ) -> anyhow::Result<Able> {
        for _ in 0..2 {
            let laid = self.hands.lay(&UID_4)?;
            let (presence, _) = self.expect_chip(laid)?;
            let able = lose(&mut *self.hands)?;
            if able != Able::Yes {
                self.lift()?;
                return Ok(able);
            }
            ensure!(
                self.expect("left", left)? == presence,
                "another presence left"
            );
            self.expect("lost", lost)?;
            ensure!(
                self.ask_again()? == Err(ChipFault::ReaderFaulty),
                "a chip of a lost reader"
            );
            find(&mut *self.hands)?;
            self.wait_until_well()?;
            self.tap_and_lift(&UID_7)?;
        }
        Ok(Able::Yes)
    }

    fn workday(&mut self) -> anyhow::Result<Able> {
        let taps = match self.hands.workday()? {
            Shift::Worked => return Ok(Able::Yes),
            Shift::Impossible(reason) => return Ok(Able::No(reason)),
            Shift::WithoutPauses { taps } => taps,
        };
        let mut dice = Dice::new(1);
        for tap in 0..taps {
            let chip = dice.chip(true);
            let laid = self.hands.lay(chip.as_bytes())?;
            let (presence, _) = self
                .expect_chip(laid)
                .with_context(|| format!("tap {tap}"))?;
            if dice.below(4) == 0 {
                ensure!(self.ask_again()? == Ok(chip), "another chip than was told");
            }
            self.hands.lift()?;
            // A reader that looks at that very moment may ask to hold still; that is no tap.
            let gone = self.expect("left or torn away", left_or_torn)?;
            let gone = match gone {
                Some(presence) => presence,
                None => self.expect("left", left)?,
            };
            ensure!(gone == presence, "another presence left");
        }
        Ok(Able::Yes)
    }

    fn occupied(&mut self) -> anyhow::Result<Able> {
        let laid = self.hands.lay(&UID_4)?;
        let (presence, chip) = self.expect_chip(laid)?;
        let name = self.name()?;
        let listed = name.0.strip_prefix("pcsc:").unwrap_or(&name.0).to_owned();
        let able = self.hands.occupy(&listed)?;
        if able == Able::Yes {
            // Answered in time, although the call into the reader does not come back.
            ensure!(
                self.ask_again()? == Err(ChipFault::ReaderFaulty),
                "a chip of a held reader"
            );
            let fault = self.expect_within(Duration::from_secs(8), "faulty", faulty)?;
            ensure!(
                matches!(fault, ReaderFault::Blocked { .. }),
                "another fault: {fault}"
            );
            self.hands.vacate()?;
            self.wait_until_well()?;
            ensure!(self.ask_again()? == Ok(chip), "another chip than before");
        }
        self.hands.lift()?;
        ensure!(
            self.expect("left", left)? == presence,
            "another presence left"
        );
        Ok(able)
    }

    fn frozen(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.freeze()?;
        if able == Able::Yes {
            let fault = self.expect_within(Duration::from_secs(8), "faulty", faulty)?;
            ensure!(
                matches!(fault, ReaderFault::Blocked { .. }),
                "another fault: {fault}"
            );
            ensure!(
                self.ask_again()? == Err(ChipFault::ReaderFaulty),
                "a chip of a frozen reader"
            );
            self.hands.thaw()?;
            self.wait_until_well()?;
            self.tap_and_lift(&UID_7)?;
        }
        Ok(able)
    }

    fn overheard(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.listen_in()?;
        self.tap_and_lift(&UID_4)?;
        if able == Able::Yes {
            ensure!(
                !self.hands.has_overheard()?,
                "another program heard the chip"
            );
        }
        Ok(able)
    }

    fn signal(&mut self) -> anyhow::Result<Able> {
        if let Able::No(reason) = self.hands.can_show() {
            return Ok(Able::No(reason));
        }
        let laid = self.hands.lay(&UID_4)?;
        self.expect_chip(laid)?;
        self.readers.signal(&self.name()?, Signal::Approved);
        let deadline = Instant::now() + self.hands.patience();
        let able = loop {
            match self.hands.has_shown_approval()? {
                Some(true) => break Able::Yes,
                Some(false) if Instant::now() > deadline => bail!("no approval was shown"),
                Some(false) => std::thread::sleep(Duration::from_millis(5)),
                None => break Able::No("look at the reader: only a person sees its light"),
            }
        };
        self.lift()?;
        Ok(able)
    }
}

const UID_4: [u8; 4] = [0x72, 0xBF, 0x99, 0x61];
const UID_7: [u8; 7] = [0x04, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6];
