//! Customers at several readers at once, through the till's drivers as the till opens them: how
//! many taps were lost, doubled or swapped, and how long an event takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::{ChipId, ChipIdentity};
use till_readers::{ReaderConfig, ReaderEvent, ReaderName, Readers};

use crate::device::DeviceKind;
use crate::dice::Dice;
use crate::hands::VirtualPcscHands;
use crate::pcscd::Driver;
use crate::pty_reader::SimulatedReader;

/// A reader at which customers queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Station {
    /// A virtual reader behind a pcscd of its own. There can be one.
    Pcsc,
    /// A simulated reader behind a pseudo-terminal.
    Serial(DeviceKind),
}

/// What one station saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The reader's kind, as in the till's configuration.
    pub name: &'static str,
    /// How many taps were told, each once and under its own identity.
    pub taps: usize,
    /// How often the chip was asked for again, and was the same.
    pub answers: usize,
    /// From the chip being laid to the event, in order.
    pub waits: Vec<Duration>,
    /// Of these, what passed after the reader, or the chip behind pcscd, had said the last byte of
    /// it, in order.
    pub own_times: Vec<Duration>,
}

/// Serves so many customers at each station, all stations at once, and ends at the first fault.
/// Where there is a PC/SC station, `socket` is what `PCSCLITE_CSOCK_NAME` says. `progress` is told
/// a station's name and how many it has served, ten times on the way.
pub fn serve(
    stations: &[Station],
    socket: &Path,
    taps: usize,
    progress: fn(&str, usize),
) -> anyhow::Result<Vec<Seen>> {
    let dir = tempfile::tempdir()?;
    let mut counters = Vec::new();
    for (number, station) in stations.iter().enumerate() {
        let path = dir.path().join(format!("reader-{number}"));
        let (place, config) = match station {
            Station::Pcsc => (
                Place::Pcsc(VirtualPcscHands::start(socket, FRIENDLY_NAME, Driver::Own)?),
                ReaderConfig::Pcsc {
                    only: Some(FRIENDLY_NAME.to_owned()),
                },
            ),
            Station::Serial(kind) => (
                Place::Serial(SimulatedReader::start(&path, *kind)?, *kind),
                kind.config(path),
            ),
        };
        let (sender, events) = mpsc::channel();
        counters.push((*station, place, config, sender, events));
    }
    let exits = Exits::default();
    let sink = {
        let exits = exits.clone();
        Arc::new(move |event| exits.pass(event))
    };
    let configs: Vec<ReaderConfig> = counters
        .iter()
        .map(|(_, _, config, ..)| config.clone())
        .collect();
    let mut queues = Vec::new();
    for (station, place, config, sender, events) in counters {
        exits.add(prefix(&config), sender);
        queues.push((station, place, events));
    }
    let readers = Arc::new(Readers::open(configs, sink));
    let (results, ends) = mpsc::channel();
    for (number, (station, place, events)) in queues.into_iter().enumerate() {
        let readers = Arc::clone(&readers);
        let dice = Dice::new(number as u32 + 1);
        let results = results.clone();
        thread::spawn(move || {
            let queue = Queue {
                name: station.name(),
                place,
                events,
                readers,
                dice,
                last_token: 0,
            };
            let end = queue.serve(taps, progress);
            // Nobody listens any more once another station has failed.
            let _ = results.send((number, end.with_context(|| station.name())));
        });
    }
    drop(results);
    let mut seen = BTreeMap::new();
    while seen.len() < stations.len() {
        let (number, end) = ends.recv().context("a station's customers panicked")?;
        seen.insert(number, end?);
    }
    Ok(seen.into_values().collect())
}

/// Where a chip is laid.
enum Place {
    Pcsc(VirtualPcscHands),
    Serial(SimulatedReader, DeviceKind),
}

/// The customers of one station.
struct Queue {
    name: &'static str,
    place: Place,
    events: Receiver<Timed>,
    readers: Arc<Readers>,
    dice: Dice,
    last_token: u64,
}

impl Queue {
    fn serve(mut self, taps: usize, progress: fn(&str, usize)) -> anyhow::Result<Seen> {
        let reader = self.ready()?;
        let mut seen = Seen {
            name: self.name,
            taps: 0,
            answers: 0,
            waits: Vec::new(),
            own_times: Vec::new(),
        };
        for tap in 0..taps {
            self.customer(&reader, &mut seen)
                .with_context(|| format!("customer {tap}"))?;
            if taps >= 10 && (tap + 1).is_multiple_of(taps / 10) {
                progress(self.name, tap + 1);
            }
        }
        // Whatever is told twice comes now.
        if let Some((_, event)) = self.next(Duration::from_millis(600)) {
            bail!("told although nobody was there: {event:?}");
        }
        seen.waits.sort();
        seen.own_times.sort();
        Ok(seen)
    }

    fn customer(&mut self, reader: &ReaderName, seen: &mut Seen) -> anyhow::Result<()> {
        let is_long = !matches!(self.place, Place::Serial(_, DeviceKind::Rdm6300));
        let chip = self.dice.chip(is_long);
        // Chips do not come in step with the reader's looks.
        thread::sleep(Duration::from_millis(u64::from(self.dice.below(20))));
        let bare = ChipIdentity::Bare(chip);
        let laid_at = Instant::now();
        self.place.lay(chip)?;
        let (told_at, presence) = match self.next(PATIENCE) {
            Some((
                at,
                ReaderEvent::Chip {
                    identity: told,
                    presence,
                    ..
                },
            )) => {
                ensure!(told == bare, "swapped: {told:?} instead of {chip}");
                (at, presence)
            }
            other => bail!("lost: {other:?} instead of {chip}"),
        };
        seen.taps += 1;
        seen.waits.push(told_at - laid_at);
        let said_at = self.place.said_before(told_at);
        let said_at = said_at.context("the reader never said anything")?;
        seen.own_times
            .push(told_at.saturating_duration_since(said_at.max(laid_at)));
        if self.dice.below(4) == 0 {
            self.last_token += 1;
            self.readers.read_again(reader, self.last_token);
            match self.next(PATIENCE) {
                Some((
                    _,
                    ReaderEvent::ReadAgain {
                        token,
                        identity: told,
                        ..
                    },
                )) => {
                    ensure!(token == self.last_token, "an answer to another question");
                    ensure!(told == Ok(bare), "swapped: {told:?} instead of {chip}");
                    seen.answers += 1;
                }
                other => bail!("not answered: {other:?}"),
            }
        }
        self.place.lift();
        match self.next(PATIENCE) {
            Some((_, ReaderEvent::Left { presence: left, .. })) => {
                ensure!(left == presence, "another presence left");
            }
            other => bail!("doubled, or never left: {other:?}"),
        }
        Ok(())
    }

    fn ready(&self) -> anyhow::Result<ReaderName> {
        let deadline = Instant::now() + PATIENCE;
        let mut ready = None;
        // A virtual PC/SC reader has a second slot; the first is used.
        while let Some((_, event)) = self.next(deadline.saturating_duration_since(Instant::now())) {
            if let ReaderEvent::Ready { reader } = event {
                ready = Some(reader);
                break;
            }
        }
        while self.next(Duration::from_millis(200)).is_some() {}
        ready.context("the reader never became ready")
    }

    fn next(&self, time: Duration) -> Option<Timed> {
        self.events.recv_timeout(time).ok()
    }
}

impl Place {
    fn lay(&mut self, chip: ChipId) -> anyhow::Result<()> {
        match self {
            Place::Pcsc(hands) => hands.lay_chip(chip.as_bytes()),
            Place::Serial(reader, _) => {
                reader.lay(chip.as_bytes());
                Ok(())
            }
        }
    }

    fn lift(&mut self) {
        match self {
            Place::Pcsc(hands) => hands.lift_chip(),
            Place::Serial(reader, _) => reader.set(firmware_proto::device::Field::Empty),
        }
    }

    fn said_before(&self, moment: Instant) -> Option<Instant> {
        match self {
            Place::Pcsc(hands) => hands.answered_before(moment),
            Place::Serial(reader, _) => reader.sent_before(moment),
        }
    }
}

/// Takes each event to the station that it came from.
#[derive(Clone, Default)]
struct Exits(Arc<Mutex<Vec<Exit>>>);

/// How its readers' names begin, and where their events go.
type Exit = (String, Sender<Timed>);

/// An event, and when it came out of the driver.
type Timed = (Instant, ReaderEvent);

impl Exits {
    fn add(&self, prefix: String, sender: Sender<Timed>) {
        let mut exits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exits.push((prefix, sender));
    }

    fn pass(&self, event: ReaderEvent) {
        let at = Instant::now();
        let exits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &event.reader().0;
        if let Some((_, exit)) = exits.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            // Its customers may have gone home.
            let _ = exit.send((at, event));
        }
    }
}

fn prefix(config: &ReaderConfig) -> String {
    match config {
        ReaderConfig::Pcsc { .. } => format!("pcsc:{FRIENDLY_NAME}"),
        ReaderConfig::Serial { path } => format!("serial:{}", path.display()),
        ReaderConfig::Pn532 { path } => format!("pn532:{}", path.display()),
        ReaderConfig::Rdm6300 { path } => format!("rdm6300:{}", path.display()),
        ReaderConfig::Auto { .. } => String::new(),
        ReaderConfig::Twn4 { path, .. } => format!("twn4:{}", path.display()),
        ReaderConfig::Keyboard { path, .. } => format!("keyboard:{}", path.display()),
    }
}

impl Station {
    /// The four readers of a large canteen.
    pub const FOUR: [Station; 4] = [
        Station::Pcsc,
        Station::Serial(DeviceKind::Own),
        Station::Serial(DeviceKind::Pn532),
        Station::Serial(DeviceKind::Twn4),
    ];

    /// One of each driver.
    pub const EACH: [Station; 5] = [
        Station::Pcsc,
        Station::Serial(DeviceKind::Own),
        Station::Serial(DeviceKind::Pn532),
        Station::Serial(DeviceKind::Rdm6300),
        Station::Serial(DeviceKind::Twn4),
    ];

    fn name(self) -> &'static str {
        match self {
            Station::Pcsc => "pcsc",
            Station::Serial(DeviceKind::Own) => "serial",
            Station::Serial(DeviceKind::Pn532) => "pn532",
            Station::Serial(DeviceKind::Rdm6300) => "rdm6300",
            Station::Serial(DeviceKind::Twn4 | DeviceKind::Twn4Plain) => "twn4",
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Seen {
            name,
            taps,
            answers,
            waits,
            own_times,
        } = self;
        write!(
            f,
            "{name:8} {taps:6} taps, {answers:5} asked again; tap to event {} in the middle, {} of a \
             hundred; of it the till's own {}, {}",
            milliseconds(at(waits, 50)),
            milliseconds(at(waits, 99)),
            milliseconds(at(own_times, 50)),
            milliseconds(at(own_times, 99)),
        )
    }
}

/// The time at so many hundredths of them, which are in order.
pub fn at(times: &[Duration], hundredths: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    let index = times.len() * hundredths / 100;
    times.get(index.min(last)).copied().unwrap_or_default()
}

/// With two digits behind the point.
pub fn milliseconds(time: Duration) -> String {
    let hundredths = time.as_micros() / 10;
    format!("{}.{:02} ms", hundredths / 100, hundredths % 100)
}

/// Not one whose light is driven by commands, which take a reader's time.
const FRIENDLY_NAME: &str = "Virtual PICC";
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_from_the_order() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(milliseconds(at(&times, 50)), "51.00 ms");
        assert_eq!(milliseconds(at(&times, 99)), "100.00 ms");
        assert_eq!(at(&[], 50), Duration::ZERO);
        assert_eq!(milliseconds(Duration::from_micros(2345)), "2.34 ms");
    }
}
