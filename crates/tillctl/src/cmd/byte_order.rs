//! `tillctl reader byte-order`: how a foreign list writes chip numbers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use canteen::{ChipId, NumberShape};
use serde::Serialize;
use till_control::SightKind;

use crate::cli::Cli;
use crate::cmd::{Report, taps};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Screen, plain};

#[derive(Debug, Serialize)]
struct Found {
    uid: String,
    number: String,
    shapes: Vec<&'static str>,
    lines: Option<Vec<Line>>,
}

/// A line of the list and its chip.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    line: String,
    uid: Option<String>,
}

/// Waits for the known chip and says in which shape its number is.
pub(crate) async fn find(
    cli: &Cli,
    number: &str,
    list: Option<&Path>,
    seconds: u64,
) -> Result<Report, Failure> {
    // Before anybody is asked to tap.
    let list = list.map(|path| {
        fs::read_to_string(path).map_err(|source| Failure::List {
            path: path.to_owned(),
            source,
        })
    });
    let list = list.transpose()?;
    if !cli.json {
        eprintln!(
            "Hold the chip with the number {} to the reader.",
            plain(number)
        );
    }
    let mut tapped = None;
    taps::watch(cli, Duration::from_secs(seconds), |sight| {
        if let SightKind::Chip { uid: Some(uid), .. } = sight.what {
            tapped = Some(uid);
        }
        tapped.is_none()
    })
    .await?;
    let chip = tapped.ok_or(Failure::NoTap { seconds })?;
    report(&chip, number, list.as_deref())
}

fn report(chip: &ChipId, number: &str, list: Option<&str>) -> Result<Report, Failure> {
    let shapes = NumberShape::of(number, chip);
    let lines = match (&shapes[..], list) {
        ([shape, ..], Some(list)) => Some(list.lines().map(|line| read(*shape, line)).collect()),
        ([], _) | (_, None) => None,
    };
    let found = Found {
        uid: chip.to_string(),
        number: number.to_owned(),
        shapes: shapes.iter().map(|shape| code(*shape)).collect(),
        lines,
    };
    let unread = |lines: &Vec<Line>| lines.iter().any(|line| line.uid.is_none());
    let is_finding = shapes.is_empty() || found.lines.as_ref().is_some_and(unread);
    let text = text(&found, &shapes, Screen::stdout());
    Report::new(&found, text, Exit::unless(is_finding))
}

/// The chip of a line's first field; an empty line stays one.
fn read(shape: NumberShape, line: &str) -> Line {
    let field = line.split([',', ';', '\t']).next().unwrap_or_default();
    Line {
        line: line.to_owned(),
        uid: shape
            .read(field.trim_matches('"'))
            .ok()
            .map(|chip| chip.to_string()),
    }
}

fn text(found: &Found, shapes: &[NumberShape], screen: Screen) -> String {
    let Some(shape) = shapes.first() else {
        let no = screen.bad("is not the chip that was tapped");
        return format!(
            "{} {no}, {}, in any shape; is it the right chip?\n",
            plain(&found.number),
            found.uid
        );
    };
    let Some(lines) = &found.lines else {
        return format!(
            "{} is {} written as: {shape}\n",
            plain(&found.number),
            found.uid
        );
    };
    let line = |line: &Line| {
        let rest = line
            .line
            .find([',', ';', '\t'])
            .map_or("", |at| &line.line[at..]);
        let uid = line.uid.as_deref();
        format!("{}{}\n", uid.unwrap_or("cannot be read"), plain(rest))
    };
    lines.iter().map(line).collect()
}

fn code(shape: NumberShape) -> &'static str {
    match shape {
        NumberShape::Hex => "hex",
        NumberShape::HexReversed => "hex_reversed",
        NumberShape::Decimal => "decimal",
        NumberShape::DecimalReversed => "decimal_reversed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(number: &str, list: Option<&str>, text: &str, exit: Exit) {
        let chip = NumberShape::Hex.read("72BF9961").unwrap();
        let report = report(&chip, number, list).unwrap();
        assert_eq!(report.text, text);
        assert_eq!(report.exit, exit);
    }

    #[test]
    fn the_order_is_found_by_one_known_chip() {
        let text = "1637465970 is 72BF9961 written as: decimal, last byte most significant\n";
        check("1637465970", None, text, Exit::Fine);
        let text = "72bf9961 is 72BF9961 written as: hex, first byte first\n";
        check("72bf9961", None, text, Exit::Fine);
    }

    #[test]
    fn a_list_is_read_in_the_order_found() {
        let list = "2701822245;Klasse 4\n\"1637465970\",x\n";
        check(
            "1637465970",
            Some(list),
            "25890AA1;Klasse 4\n72BF9961,x\n",
            Exit::Fine,
        );
        let text = "A10A8925;Klasse 4\n6199BF72,x\n";
        check("1925159265", Some(list), text, Exit::Fine);
    }

    #[test]
    fn what_cannot_be_read_is_a_finding() {
        let text = "cannot be read;Klasse 4\n";
        check("1925159265", Some("7x;Klasse 4\n"), text, Exit::Findings);
        let text = "1925159266 is not the chip that was tapped, 72BF9961, in any shape; is it the right chip?\n";
        check("1925159266", None, text, Exit::Findings);
    }
}
