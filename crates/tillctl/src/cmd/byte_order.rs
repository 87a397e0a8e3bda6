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
    let has_number = |shape: NumberShape| shape.read(number).is_ok();
    if !NumberShape::ALL.into_iter().any(has_number) {
        let number = number.to_owned();
        return Err(Failure::ForeignNumber { number });
    }
    let list = list.map(|path| {
        let bytes = fs::read(path).map_err(|source| Failure::List {
            path: path.to_owned(),
            source,
        });
        bytes.map(written)
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
    if let ([shape, ..], true, false) = (
        &NumberShape::of(number, &chip)[..],
        list.is_some(),
        cli.json,
    ) {
        // Beside the list, which is written to a file.
        eprintln!("{} is {chip} written as: {shape}", plain(number));
    }
    report(&chip, number, list.as_deref())
}

/// A list as text. Spreadsheets put a mark in front of UTF-8, or write Latin-1.
fn written(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(other) => other.into_bytes().into_iter().map(char::from).collect(),
    }
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
        let rest = line.line.find([',', ';', '\t']).unwrap_or(line.line.len());
        match &line.uid {
            Some(uid) => format!("{uid}{}\n", columns(&line.line[rest..])),
            None => format!("cannot be read: {}\n", columns(&line.line)),
        }
    };
    lines.iter().map(line).collect()
}

/// A list's own tabs stay.
fn columns(text: &str) -> String {
    let columns: Vec<String> = text.split('\t').map(plain).collect();
    columns.join("\t")
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
    fn a_list_from_a_spreadsheet_is_read_with_its_letters() {
        assert_eq!(written("\u{feff}72BF9961;Åse".into()), "72BF9961;Åse");
        assert_eq!(written(b"72BF9961;\xc5se".to_vec()), "72BF9961;Åse");
        check(
            "72BF9961",
            Some("Nummer\tNavn\r\n72BF9961\tÅse\r\n"),
            "cannot be read: Nummer\tNavn\n72BF9961\tÅse\n",
            Exit::Findings,
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_finding() {
        let text = "cannot be read: 7x;Klasse 4\n";
        check("1925159265", Some("7x;Klasse 4\n"), text, Exit::Findings);
        let text = "1925159266 is not the chip that was tapped, 72BF9961, in any shape; is it the right chip?\n";
        check("1925159266", None, text, Exit::Findings);
    }
}
