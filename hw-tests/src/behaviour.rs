//! What every reader must do, whatever it is connected by.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::{ChipId, ChipIdentity};
use till_readers::{
    ChipFault, LONGEST_ANSWER, Presence, ReaderConfig, ReaderEvent, ReaderFault, ReaderName,
    Readers, Signal,
};

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

/// A reader on the bench, opened as the till opens it.
pub struct Bench {
    readers: Readers,
    reader: Option<ReaderName>,
    events: Receiver<ReaderEvent>,
    hands: Box<dyn Hands>,
    last_token: u64,
}

impl Behaviour {
    /// Tries it.
    pub fn run(&self, bench: &mut Bench) -> anyhow::Result<Able> {
        (self.run)(bench)
    }
}

impl Bench {
    /// Opens the reader.
    pub fn open(config: ReaderConfig, hands: Box<dyn Hands>) -> Bench {
        let (sender, events) = mpsc::channel();
        let sink = move |event| {
            // The bench may have gone.
            let _ = sender.send(event);
        };
        let readers = Readers::open([config], std::sync::Arc::new(sink));
        Bench {
            readers,
            reader: None,
            events,
            hands,
            last_token: 0,
        }
    }

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
        self.hands.lift()?;
        self.expect("left", left)?;
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
        self.hands.lift()?;
        self.expect("left", left)?;
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
            self.hands.lift()?;
            self.expect("left", left)?;
            return Ok(able);
        }
        for _ in 0..3 {
            ensure!(self.ask_again()? == Ok(chip), "another chip than was told");
        }
        self.hands.lift()?;
        self.expect("left", left)?;
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
            let laid = self.hands.lay(&UID_7)?;
            self.expect_chip(laid)?;
            self.hands.lift()?;
            self.expect("left", left)?;
        }
        Ok(Able::Yes)
    }

    fn garbage(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_disturbed(&UID_4)?;
        if able == Able::Yes {
            self.expect_chip(Some(ChipId::from_uid(&UID_4)?))?;
            self.hands.lift()?;
            self.expect("left", left)?;
        }
        Ok(able)
    }

    fn interrupted(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.lay_interrupted(&UID_4)?;
        if able == Able::Yes {
            self.expect_chip(Some(ChipId::from_uid(&UID_4)?))?;
            self.hands.lift()?;
            self.expect("left", left)?;
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
            let laid = self.hands.lay(&UID_7)?;
            self.expect_chip(laid)?;
            self.hands.lift()?;
            self.expect("left", left)?;
        }
        Ok(able)
    }

    fn flood(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.flood()?;
        if able == Able::Yes {
            self.expect_no_chip(Duration::from_secs(1))?;
            self.hands.clear_line()?;
            self.wait_until_well()?;
            let laid = self.hands.lay(&UID_4)?;
            self.expect_chip(laid)?;
            self.hands.lift()?;
            self.expect("left", left)?;
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
                self.hands.lift()?;
                self.expect("left", left)?;
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
        let laid = self.hands.lay(&UID_7)?;
        self.expect_chip(laid)?;
        self.hands.lift()?;
        self.expect("left", left)?;
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
                self.hands.lift()?;
                self.expect("left", left)?;
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
            let laid = self.hands.lay(&UID_7)?;
            self.expect_chip(laid)?;
            self.hands.lift()?;
            self.expect("left", left)?;
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
            let laid = self.hands.lay(&UID_7)?;
            self.expect_chip(laid)?;
            self.hands.lift()?;
            self.expect("left", left)?;
        }
        Ok(able)
    }

    fn overheard(&mut self) -> anyhow::Result<Able> {
        let able = self.hands.listen_in()?;
        let laid = self.hands.lay(&UID_4)?;
        self.expect_chip(laid)?;
        self.hands.lift()?;
        self.expect("left", left)?;
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
        self.hands.lift()?;
        self.expect("left", left)?;
        Ok(able)
    }

    /// Asks for the chip and waits for the answer.
    fn ask_again(&mut self) -> anyhow::Result<Result<ChipId, ChipFault>> {
        self.last_token += 1;
        let expected = self.last_token;
        let asked_at = Instant::now();
        self.readers.read_again(&self.name()?, expected);
        let deadline = asked_at + LONGEST_ANSWER;
        while let Some(event) = self.next(deadline.saturating_duration_since(Instant::now())) {
            if let ReaderEvent::ReadAgain {
                token,
                identity,
                seen_at,
                ..
            } = event
            {
                ensure!(
                    token == expected,
                    "an answer to {token} instead of {expected}"
                );
                ensure!(seen_at >= asked_at, "an answer from before the question");
                return match identity {
                    Ok(identity) => claimed(identity).map(Ok),
                    Err(fault) => Ok(Err(fault)),
                };
            }
            // A reader that breaks meanwhile is told, too.
            ensure!(
                !matches!(event, ReaderEvent::Chip { .. }),
                "unexpected: {event:?}"
            );
        }
        bail!("no answer in {LONGEST_ANSWER:?}")
    }

    /// Waits until the reader is ready, and has nothing more to tell of what it was before.
    fn wait_until_well(&mut self) -> anyhow::Result<()> {
        let name = self.name()?;
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let is_ready = |listing: &till_readers::ReaderListing| {
                listing.name == name && listing.state == till_readers::ReaderState::Ready
            };
            if self.readers.list().iter().any(is_ready) {
                self.settle();
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "not ready again: {:?}",
                self.readers.list()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn expect_chip(&mut self, laid: Option<ChipId>) -> anyhow::Result<(Presence, ChipId)> {
        let chip = |event: &ReaderEvent| match event {
            ReaderEvent::Chip {
                presence,
                identity,
                seen_at,
                ..
            } => Some((*presence, *identity, seen_at.elapsed())),
            _ => None,
        };
        let (presence, identity, age) = self.expect("chip", chip)?;
        let chip = claimed(identity)?;
        ensure!(
            laid.is_none_or(|laid| laid == chip),
            "{chip} was told instead of {laid:?}"
        );
        ensure!(
            age < Duration::from_secs(1),
            "the tap was told {age:?} late"
        );
        Ok((presence, chip))
    }

    /// Waits for the next event, which must be the one that `pick` takes.
    fn expect<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&ReaderEvent) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.expect_within(self.hands.patience(), what, pick)
    }

    fn expect_within<T>(
        &mut self,
        time: Duration,
        what: &str,
        pick: impl Fn(&ReaderEvent) -> Option<T>,
    ) -> anyhow::Result<T> {
        let Some(event) = self.next(time) else {
            bail!("not {what} in {time:?}")
        };
        match pick(&event) {
            Some(picked) => Ok(picked),
            None => bail!("not {what}, but {event:?}"),
        }
    }

    fn expect_nothing(&mut self, time: Duration) -> anyhow::Result<()> {
        match self.next(time) {
            Some(event) => bail!("unexpected: {event:?}"),
            None => Ok(()),
        }
    }

    /// Nothing in this time may be a chip or look like one; the reader may well be told faulty, or
    /// to have typed what is none.
    fn expect_no_chip(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + time;
        while let Some(event) = self.next(deadline.saturating_duration_since(Instant::now())) {
            match event {
                ReaderEvent::Ready { .. }
                | ReaderEvent::Faulty { .. }
                | ReaderEvent::Unreadable {
                    fault: ChipFault::Typed(_),
                    ..
                } => {}
                other => bail!("unexpected: {other:?}"),
            }
        }
        Ok(())
    }

    /// Forgets what is told until nothing is told any more.
    fn settle(&mut self) {
        while self.next(Duration::from_millis(200)).is_some() {}
    }

    /// The next event of the reader on the bench; other slots and the service do not count.
    fn next(&mut self, time: Duration) -> Option<ReaderEvent> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    let is_ready = matches!(event, ReaderEvent::Ready { .. });
                    match &self.reader {
                        Some(reader) if event.reader() == reader => return Some(event),
                        None if is_ready => return Some(event),
                        Some(_) | None => {}
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn name(&self) -> anyhow::Result<ReaderName> {
        self.reader
            .clone()
            .ok_or_else(|| anyhow::anyhow!("the reader never became ready"))
    }
}

/// The chip that it is or claims to be.
fn claimed(identity: ChipIdentity) -> anyhow::Result<ChipId> {
    let chip = identity.chip();
    chip.ok_or_else(|| anyhow::anyhow!("a chip without a UID: {identity:?}"))
}

fn left(event: &ReaderEvent) -> Option<Presence> {
    match event {
        ReaderEvent::Left { presence, .. } => Some(*presence),
        _ => None,
    }
}

/// `None` inside is a chip that was torn away while it was read.
fn left_or_torn(event: &ReaderEvent) -> Option<Option<Presence>> {
    match event {
        ReaderEvent::Unreadable {
            fault: ChipFault::HoldStill,
            ..
        } => Some(None),
        other => left(other).map(Some),
    }
}

fn unreadable(event: &ReaderEvent) -> Option<ChipFault> {
    match event {
        ReaderEvent::Unreadable { fault, .. } => Some(fault.clone()),
        _ => None,
    }
}

fn faulty(event: &ReaderEvent) -> Option<ReaderFault> {
    match event {
        ReaderEvent::Faulty { fault, .. } => Some(fault.clone()),
        _ => None,
    }
}

/// A reader that the list has lost, or whose line or service is told to be gone.
fn lost(event: &ReaderEvent) -> Option<()> {
    match event {
        ReaderEvent::Removed { .. }
        | ReaderEvent::Faulty {
            fault:
                ReaderFault::ServiceDown
                | ReaderFault::LineMissing { .. }
                | ReaderFault::LineFailed { .. },
            ..
        } => Some(()),
        _ => None,
    }
}

const UID_4: [u8; 4] = [0x72, 0xBF, 0x99, 0x61];
const UID_7: [u8; 7] = [0x04, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6];
