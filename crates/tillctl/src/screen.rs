//! How answers are laid out for people: aligned columns, and colour where a terminal shows it.

use std::io::IsTerminal;

use canteen::{COPENHAGEN, Money};
use jiff::Timestamp;

/// Where text goes, which decides whether it may have colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    /// Standard output.
    pub(crate) fn stdout() -> Screen {
        Screen::of(std::io::stdout().is_terminal())
    }

    /// Standard error.
    pub(crate) fn stderr() -> Screen {
        Screen::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Screen {
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Screen {
            colour: terminal && !unwanted && !dumb,
        }
    }

    /// A word for what is well.
    pub(crate) fn good(self, word: &str) -> String {
        self.painted(word, GREEN)
    }

    /// A word for what a person should look at.
    pub(crate) fn bad(self, word: &str) -> String {
        self.painted(word, RED)
    }

    /// A word for what is well or not.
    pub(crate) fn judged(self, ok: bool, word: &str) -> String {
        if ok { self.good(word) } else { self.bad(word) }
    }

    fn painted(self, word: &str, colour: &str) -> String {
        if self.colour {
            format!("{colour}{word}{PLAIN}")
        } else {
            word.to_owned()
        }
    }
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Facts one below the other: a name, and what it is.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    rows: Vec<(String, String)>,
}

impl Facts {
    /// Adds a fact.
    pub(crate) fn add(&mut self, name: &str, what: impl Into<String>) -> &mut Facts {
        self.rows.push((name.to_owned(), what.into()));
        self
    }

    /// The facts, aligned.
    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| width(name)).max();
        let width = width.unwrap_or_default();
        self.rows
            .iter()
            .map(|(name, what)| format!("{}  {what}\n", padded(name, width, Side::Left)))
            .collect()
    }
}

/// Which side of a column the text stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// Rows under headings, aligned; the last column is as wide as it likes.
pub(crate) fn table<const N: usize>(heads: [(&str, Side); N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(|(head, _)| width(head));
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .into_iter()
            .zip(widths)
            .zip(heads)
            .map(|((cell, width), (_, side))| padded(cell, width, side))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(heads.map(|(head, _)| head).to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Text from elsewhere without anything that could steer a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A moment by the canteen's clock.
pub(crate) fn moment(at: Timestamp) -> String {
    let local = at.to_zoned(COPENHAGEN);
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// An amount that may be absent.
pub(crate) fn amount_or(amount: Option<Money>, absent: &str) -> String {
    amount.map_or_else(|| absent.to_owned(), |amount| amount.to_string())
}

/// A span of time in the two units that matter.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A size in the unit that matters, with one decimal.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1000 => return format!("{bytes} B"),
        1000..1_000_000 => (1000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

fn padded(text: &str, to: usize, side: Side) -> String {
    let missing = " ".repeat(to.saturating_sub(width(text)));
    match side {
        Side::Left => format!("{text}{missing}"),
        Side::Right => format!("{missing}{text}"),
    }
}

/// How many columns a text takes; painted words stand only in last columns.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: impl AsRef<str>, expect: &str) {
        assert_eq!(shown.as_ref(), expect);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let heads = [
            ("SEQ", Side::Right),
            ("KIND", Side::Left),
            ("TEXT", Side::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        check(
            table(
                heads,
                &[row(["9", "sale", "1x Mælk 5,00"]), row(["12345", "øl", ""])],
            ),
            "  SEQ  KIND  TEXT\n    9  sale  1x Mælk 5,00\n12345  øl\n",
        );
        let mut facts = Facts::default();
        facts.add("Till", "kasse-1").add("Version", "0.1.0");
        check(facts.text(), "Till     kasse-1\nVersion  0.1.0\n");
    }

    #[test]
    fn figures_are_in_units_that_people_read() {
        check(span(0), "0 s");
        check(span(59), "59 s");
        check(span(61), "1 min 1 s");
        check(span(7260), "2 h 1 min");
        check(span(3 * 86_400 + 3600), "3 d 1 h");
        check(size(999), "999 B");
        check(size(1_250_000), "1.2 MB");
        check(size(u64::MAX), "18446744073.7 GB");
    }

    #[test]
    fn moments_are_by_the_clock_on_the_wall() {
        check(
            moment("2026-07-01T10:00:00Z".parse().unwrap()),
            "2026-07-01 12:00:00",
        );
        check(
            moment("2026-11-20T10:00:00Z".parse().unwrap()),
            "2026-11-20 11:00:00",
        );
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        check(
            plain("Ostehaps\x1b[2J\n3,00"),
            "Ostehaps\u{fffd}[2J\u{fffd}3,00",
        );
    }

    #[test]
    fn colour_is_only_for_terminals() {
        check(Screen { colour: false }.good("ok"), "ok");
        check(Screen { colour: true }.good("ok"), "\x1b[32mok\x1b[0m");
        check(Screen::of(false).bad("faulty"), "faulty");
    }
}
