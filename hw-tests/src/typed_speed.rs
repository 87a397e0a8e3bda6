//! How long it takes from the Enter of a reader that types to the till's event: measured inside the
//! virtual machine, since only a kernel makes keys. The machine is computed, so a real one is faster.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::{ChipId, ChipIdentity};
use till_readers::{ReaderEvent, Readers};

use crate::dice::Dice;
use crate::keyboard::KeyboardHands;
use crate::machine::{self, Machine};

/// Types so many numbers in a virtual machine of this program; the times, in order.
pub fn measure() -> anyhow::Result<Vec<Duration>> {
    let program = std::env::current_exe()?;
    let printed = Machine::find()?.run(&program, &[(MARK, Path::new("/dev/null"))])?;
    ensure!(
        printed.lines().any(|line| line == machine::WELL),
        "the virtual machine failed: {printed}"
    );
    let time = |line: &str| {
        let figure = line.strip_prefix(FIGURE)?;
        figure.parse().ok().map(Duration::from_micros)
    };
    let mut times: Vec<Duration> = printed.lines().filter_map(time).collect();
    ensure!(times.len() == TAPS, "taps are missing: {printed}");
    times.sort();
    Ok(times)
}

/// Whether this machine was started by [`measure`].
pub fn is_asked_for() -> bool {
    Path::new("/").join(MARK).exists()
}

/// Types the numbers, and prints how long each took.
pub fn measure_inside() -> anyhow::Result<()> {
    let mut hands = KeyboardHands::start()?;
    let (sender, events) = mpsc::channel();
    let sink = move |event| {
        // The bench may have failed.
        let _ = sender.send((Instant::now(), event));
    };
    let _readers = Readers::open([hands.config()], Arc::new(sink));
    let ready = |event: &ReaderEvent| matches!(event, ReaderEvent::Ready { .. });
    next(&events, ready).context("the reader never became ready")?;
    let mut dice = Dice::new(1);
    for _ in 0..TAPS {
        let chip: ChipId = dice.chip(true);
        let ended_at = hands.type_number(chip.as_bytes())?;
        let chips = |event: &ReaderEvent| matches!(event, ReaderEvent::Chip { .. });
        let (told_at, event) = next(&events, chips)?;
        let ReaderEvent::Chip { identity, .. } = event else {
            bail!("no chip: {event:?}");
        };
        ensure!(
            identity == ChipIdentity::Bare(chip),
            "swapped: {identity:?}"
        );
        let time = told_at.saturating_duration_since(ended_at);
        println!("{FIGURE}{}", time.as_micros());
    }
    Ok(())
}

fn next(
    events: &Receiver<(Instant, ReaderEvent)>,
    is_wanted: impl Fn(&ReaderEvent) -> bool,
) -> anyhow::Result<(Instant, ReaderEvent)> {
    loop {
        let (at, event) = events.recv_timeout(PATIENCE).context("nothing was told")?;
        match event {
            event if is_wanted(&event) => return Ok((at, event)),
            ReaderEvent::Left { .. } => {}
            other => bail!("unexpected: {other:?}"),
        }
    }
}

/// A file of the machine.
const MARK: &str = "typed-speed";
const FIGURE: &str = "microseconds: ";
const TAPS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(30);
