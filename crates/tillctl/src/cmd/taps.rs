//! `tillctl reader test`: taps as they come.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use canteen::{ChipId, NumberShape};
use serde::Serialize;
use till_control::{Answer, ReaderSight, Request, SightKind, WATCH_MAX_S};

use crate::cli::Cli;
use crate::cmd::{Report, connect, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Screen, plain};

/// Watches for a while, shows each tap as it comes, and sums up.
pub(crate) async fn test(cli: &Cli, seconds: u64) -> Result<Report, Failure> {
    let mut judge = Judge::default();
    let screen = Screen::stdout();
    let time = Duration::from_secs(seconds);
    watch(cli, time, |sight| {
        let text = match judge.take(sight) {
            Some(Shown::Tap(tap)) => tap_text(tap, screen),
            Some(Shown::Note(note)) => {
                format!(
                    "{}: {}\n",
                    plain(&note.reader),
                    screen.bad(&plain(&note.text))
                )
            }
            None => return true,
        };
        if !cli.json {
            let mut out = std::io::stdout().lock();
            // A reader of the output that has seen enough is no error.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
        true
    })
    .await?;
    let flagged = judge.taps.iter().any(|tap| !tap.flags.is_empty());
    let found = flagged || judge.taps.is_empty() || !judge.notes.is_empty();
    let text = format!("{} taps in {seconds} s\n", judge.taps.len());
    Report::new(&judge, text, Exit::unless(found))
}

/// Hands over what readers tell, until the time is over or `wants_more` says no.
pub(super) async fn watch(
    cli: &Cli,
    time: Duration,
    mut wants_more: impl FnMut(&ReaderSight) -> bool,
) -> Result<(), Failure> {
    let mut client = connect(cli).await?;
    let deadline = Instant::now() + time;
    let mut after = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let seconds = u32::try_from(left.as_secs() + 1).unwrap_or(WATCH_MAX_S);
        let wait_s = seconds.min(WATCH_MAX_S);
        let request = Request::ReaderWatch { after, wait_s };
        let answer = client.request(&request).await.map_err(Failure::Control)?;
        let Answer::ReaderWatch(told) = answer else {
            return Err(refused(answer));
        };
        after = Some(told.next);
        if !told.seen.iter().all(&mut wants_more) {
            return Ok(());
        }
    }
}

/// A tap in every shape, with what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Tap {
    reader: String,
    at_ms: u64,
    took_us: u64,
    uid: Option<String>,
    shown: String,
    technology: &'static str,
    hex: Option<String>,
    hex_reversed: Option<String>,
    decimal: Option<String>,
    decimal_reversed: Option<String>,
    flags: Vec<&'static str>,
}

/// What was no usable chip, or a reader that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Note {
    reader: String,
    at_ms: u64,
    text: String,
    random: bool,
}

enum Shown<'a> {
    Tap(&'a Tap),
    Note(&'a Note),
}

/// Knows what came before, and so what is odd.
#[derive(Debug, Default, Serialize)]
struct Judge {
    taps: Vec<Tap>,
    notes: Vec<Note>,
    /// The chip that lies at each reader.
    #[serde(skip)]
    present: BTreeMap<String, Option<ChipId>>,
    /// The chip that left each reader last, and when.
    #[serde(skip)]
    left: BTreeMap<String, (Option<ChipId>, u64)>,
}

impl Judge {
    fn take(&mut self, sight: &ReaderSight) -> Option<Shown<'_>> {
        match &sight.what {
            SightKind::Chip { uid, shown } => {
                let tap = self.tap(sight, *uid, shown);
                self.present.insert(sight.reader.clone(), *uid);
                self.taps.push(tap);
                self.taps.last().map(Shown::Tap)
            }
            SightKind::Left => {
                let chip = self.present.remove(&sight.reader).flatten();
                self.left.insert(sight.reader.clone(), (chip, sight.at_ms));
                None
            }
            SightKind::Unreadable { random, text } => self.note(sight, text, *random),
            SightKind::Faulty { text } => self.note(sight, text, false),
            SightKind::Ready => None,
        }
    }

    fn note(&mut self, sight: &ReaderSight, text: &str, random: bool) -> Option<Shown<'_>> {
        self.notes.push(Note {
            reader: sight.reader.clone(),
            at_ms: sight.at_ms,
            text: text.to_owned(),
            random,
        });
        self.notes.last().map(Shown::Note)
    }

    fn tap(&self, sight: &ReaderSight, uid: Option<ChipId>, shown: &str) -> Tap {
        let shape = |shape: NumberShape| uid.map(|chip| shape.write(&chip));
        Tap {
            reader: sight.reader.clone(),
            at_ms: sight.at_ms,
            took_us: sight.took_us,
            uid: uid.map(|chip| chip.to_string()),
            shown: shown.to_owned(),
            technology: technology(&sight.reader, uid),
            hex: shape(NumberShape::Hex),
            hex_reversed: shape(NumberShape::HexReversed),
            decimal: shape(NumberShape::Decimal),
            decimal_reversed: shape(NumberShape::DecimalReversed),
            flags: self.flags(sight, uid),
        }
    }

    fn flags(&self, sight: &ReaderSight, uid: Option<ChipId>) -> Vec<&'static str> {
        let mut flags = Vec::new();
        let since = |at: u64| sight.at_ms.saturating_sub(at);
        if self.present.get(&sight.reader) == Some(&uid) {
            flags.push("duplicate");
        }
        let left = self.left.get(&sight.reader);
        if left.is_some_and(|(chip, at)| *chip == uid && since(*at) < FLICKER_MS) {
            flags.push("flicker");
        }
        let elsewhere = |tap: &Tap| {
            let is_it = tap.uid.is_some() && tap.uid == uid.map(|chip| chip.to_string());
            is_it && tap.reader != sight.reader && since(tap.at_ms) < TWO_READERS_MS
        };
        if self.taps.iter().any(elsewhere) {
            flags.push("two_readers");
        }
        flags
    }
}

/// How the chip was read, as far as the kind of reader says it.
fn technology(reader: &str, uid: Option<ChipId>) -> &'static str {
    let is_long = uid.is_some_and(|chip| chip.as_bytes().len() > 4);
    match reader.split(':').next() {
        Some("rdm6300") => "EM4100, 125 kHz",
        Some("pcsc" | "pn532") => "ISO/IEC 14443 A",
        _ if is_long => "ISO/IEC 14443 A",
        _ => "ISO/IEC 14443 A or EM4100",
    }
}

fn tap_text(tap: &Tap, screen: Screen) -> String {
    let none = "random, failed to prove itself";
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| none.to_owned());
    let mut text = format!(
        "{}: {} ({}, {}), {}.{:02} ms\n  {}: {}\n  {}: {}\n  {}: {}\n",
        plain(&tap.reader),
        shown(&tap.hex),
        tap.technology,
        plain(&tap.shown),
        tap.took_us / 1000,
        tap.took_us % 1000 / 10,
        NumberShape::HexReversed,
        shown(&tap.hex_reversed),
        NumberShape::Decimal,
        shown(&tap.decimal),
        NumberShape::DecimalReversed,
        shown(&tap.decimal_reversed),
    );
    for flag in &tap.flags {
        text += &format!("  {}\n", screen.bad(flag));
    }
    text
}

const FLICKER_MS: u64 = 500;
const TWO_READERS_MS: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    /// What readers tell, in rows of reader, time and chip (`-` is its leaving); the flags of each
    /// tap.
    #[track_caller]
    fn check(rows: &[(&str, u64, &str)], expect: &[&[&str]]) {
        let mut judge = Judge::default();
        for (reader, at_ms, chip) in rows {
            let what = match *chip {
                "-" => SightKind::Left,
                digits => SightKind::Chip {
                    uid: NumberShape::Hex.read(digits).ok(),
                    shown: "bare".to_owned(),
                },
            };
            judge.take(&ReaderSight {
                reader: (*reader).to_owned(),
                at_ms: *at_ms,
                took_us: 460,
                what,
            });
        }
        let flags: Vec<&[&str]> = judge.taps.iter().map(|tap| &tap.flags[..]).collect();
        assert_eq!(flags, expect);
    }

    const A: &str = "72BF9961";
    const B: &str = "25890AA1";

    #[test]
    fn taps_apart_are_not_flagged() {
        check(
            &[
                ("x", 0, A),
                ("x", 300, "-"),
                ("x", 900, A),
                ("x", 1000, "-"),
                ("x", 1100, B),
            ],
            &[&[], &[], &[]],
        );
    }

    #[test]
    fn what_is_odd_is_flagged() {
        check(&[("x", 0, A), ("x", 300, A)], &[&[], &["duplicate"]]);
        check(
            &[("x", 0, A), ("x", 300, "-"), ("x", 700, A)],
            &[&[], &["flicker"]],
        );
        check(&[("x", 0, A), ("y", 900, A)], &[&[], &["two_readers"]]);
    }
}
