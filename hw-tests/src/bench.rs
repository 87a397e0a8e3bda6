//! A reader on the bench: what is asked of it, and what it must tell.

use std::sync::mpsc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use canteen::{ChipId, ChipIdentity};
use till_readers::{
    ChipFault, LONGEST_ANSWER, Presence, ReaderConfig, ReaderEvent, ReaderFault, ReaderName,
    Readers,
};

use crate::hands::Hands;

/// A reader on the bench, opened as the till opens it.
pub struct Bench {
    pub(crate) readers: Readers,
    pub(crate) reader: Option<ReaderName>,
    events: Receiver<ReaderEvent>,
    pub(crate) hands: Box<dyn Hands>,
    last_token: u64,
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

    /// Lays a chip, and lifts it when it was told.
    pub(crate) fn tap_and_lift(&mut self, uid: &[u8]) -> anyhow::Result<()> {
        let laid = self.hands.lay(uid)?;
        self.expect_chip(laid)?;
        self.lift()
    }

    /// Lifts the chip that was told.
    pub(crate) fn lift(&mut self) -> anyhow::Result<()> {
        self.hands.lift()?;
        self.expect("left", left)?;
        Ok(())
    }

    /// Asks for the chip and waits for the answer.
    pub(crate) fn ask_again(&mut self) -> anyhow::Result<Result<ChipId, ChipFault>> {
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
    pub(crate) fn wait_until_well(&mut self) -> anyhow::Result<()> {
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

    pub(crate) fn expect_chip(
        &mut self,
        laid: Option<ChipId>,
    ) -> anyhow::Result<(Presence, ChipId)> {
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
    pub(crate) fn expect<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&ReaderEvent) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.expect_within(self.hands.patience(), what, pick)
    }

    pub(crate) fn expect_within<T>(
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

    pub(crate) fn expect_nothing(&mut self, time: Duration) -> anyhow::Result<()> {
        match self.next(time) {
            Some(event) => bail!("unexpected: {event:?}"),
            None => Ok(()),
        }
    }

    /// Nothing in this time may be a chip or look like one; the reader may well be told faulty, or
    /// to have typed what is none.
    pub(crate) fn expect_no_chip(&mut self, time: Duration) -> anyhow::Result<()> {
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
    pub(crate) fn settle(&mut self) {
        while self.next(Duration::from_millis(200)).is_some() {}
    }

    /// The next event of the reader on the bench; other slots and the service do not count.
    pub(crate) fn next(&mut self, time: Duration) -> Option<ReaderEvent> {
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

    pub(crate) fn name(&self) -> anyhow::Result<ReaderName> {
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

pub(crate) fn left(event: &ReaderEvent) -> Option<Presence> {
    match event {
        ReaderEvent::Left { presence, .. } => Some(*presence),
        _ => None,
    }
}

/// `None` inside is a chip that was torn away while it was read.
pub(crate) fn left_or_torn(event: &ReaderEvent) -> Option<Option<Presence>> {
    match event {
        ReaderEvent::Unreadable {
            fault: ChipFault::HoldStill,
            ..
        } => Some(None),
        other => left(other).map(Some),
    }
}

pub(crate) fn unreadable(event: &ReaderEvent) -> Option<ChipFault> {
    match event {
        ReaderEvent::Unreadable { fault, .. } => Some(fault.clone()),
        _ => None,
    }
}

pub(crate) fn faulty(event: &ReaderEvent) -> Option<ReaderFault> {
    match event {
        ReaderEvent::Faulty { fault, .. } => Some(fault.clone()),
        _ => None,
    }
}

/// A reader that the list has lost, or whose line or service is told to be gone.
pub(crate) fn lost(event: &ReaderEvent) -> Option<()> {
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
