//! Which readers the till opens, and how they are bound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use till_readers::{NumberFormat, ReaderConfig};
use toml::Spanned;

use super::{Fault, absolute, checked};

/// The table `[readers]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadersTable {
    pcsc: Option<bool>,
    pcsc_only: Option<String>,
    auto: Option<bool>,
    #[serde(default)]
    serial: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pn532: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    rdm6300: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    twn4: Vec<Spanned<PathBuf>>,
    twn4_em4100: Option<bool>,
    #[serde(default)]
    keyboard: Vec<Spanned<PathBuf>>,
    keyboard_number: Option<TypedNumber>,
    keyboard_em4100: Option<bool>,
}

/// How readers type a chip's number.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum TypedNumber {
    Decimal,
    DecimalReversed,
    Hex,
    HexReversed,
}

impl ReadersTable {
    pub(super) fn check(self) -> Result<Vec<ReaderConfig>, Fault> {
        self.named_once()?;
        let mut readers = Vec::new();
        if self.pcsc.unwrap_or(true) {
            let only = self.pcsc_only.filter(|only| !only.is_empty());
            readers.push(ReaderConfig::Pcsc { only });
        }
        for path in lines("readers.serial", self.serial)? {
            readers.push(ReaderConfig::Serial { path });
        }
        for path in lines("readers.pn532", self.pn532)? {
            readers.push(ReaderConfig::Pn532 { path });
        }
        for path in lines("readers.rdm6300", self.rdm6300)? {
            readers.push(ReaderConfig::Rdm6300 { path });
        }
        let em4100 = self.twn4_em4100.unwrap_or(false);
        for path in lines("readers.twn4", self.twn4)? {
            readers.push(ReaderConfig::Twn4 { path, em4100 });
        }
        if self.auto.unwrap_or(false) {
            let lines = SERIAL_LINES.into();
            readers.push(ReaderConfig::Auto { lines, em4100 });
        }
        let typed = self.keyboard_number.unwrap_or(TypedNumber::Decimal);
        let format = typed.format(self.keyboard_em4100.unwrap_or(false));
        for path in keyboards("readers.keyboard", self.keyboard)? {
            readers.push(ReaderConfig::Keyboard { path, format });
        }
        Ok(readers)
    }
}

impl ReadersTable {
    /// Refuses a line that is named twice: two drivers would take each other's answers.
    fn named_once(&self) -> Result<(), Fault> {
        let lists = [
            ("readers.serial", &self.serial),
            ("readers.pn532", &self.pn532),
            ("readers.rdm6300", &self.rdm6300),
            ("readers.twn4", &self.twn4),
            ("readers.keyboard", &self.keyboard),
        ];
        let mut named = BTreeMap::new();
        for (key, list) in lists {
            for path in list {
                let Some(before) = named.insert(path.get_ref(), key) else {
                    continue;
                };
                return checked(key, path, |path| {
                    Err(format!(
                        "{} stands in {before} already; a reader is named once, in the list of what it speaks",
                        path.display()
                    ))
                });
            }
        }
        Ok(())
    }
}

impl TypedNumber {
    fn format(self, is_em4100: bool) -> NumberFormat {
        let (is_hex, is_reversed) = match self {
            TypedNumber::Decimal => (false, false),
            TypedNumber::DecimalReversed => (false, true),
            TypedNumber::Hex => (true, false),
            TypedNumber::HexReversed => (true, true),
        };
        NumberFormat {
            is_hex,
            is_reversed,
            is_em4100,
        }
    }
}

fn lines(key: &'static str, paths: Vec<Spanned<PathBuf>>) -> Result<Vec<PathBuf>, Fault> {
    let path = |path: Spanned<PathBuf>| {
        checked(key, &path, |path| lasting(path))?;
        absolute(key, Some(path), "")
    };
    paths.into_iter().map(path).collect()
}

/// Refuses a name that the kernel gives in the order of plugging in: another reader may have it
/// tomorrow.
fn lasting(path: &Path) -> Result<(), String> {
    let name = path.to_string_lossy();
    let counted = ["/dev/ttyUSB", "/dev/ttyACM"];
    if counted.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!(
            "{name} may be another reader after the next start; allowed is a name that stays, from /dev/serial/by-id/ (the reader's USB serial number) or /dev/serial/by-path/ (the port that it is plugged into)"
        ));
    }
    Ok(())
}

/// Takes only names that a reader keeps: the others belong to whichever keyboard was found first, and
/// the cashier's own must not be taken.
fn keyboards(key: &'static str, paths: Vec<Spanned<PathBuf>>) -> Result<Vec<PathBuf>, Fault> {
    let path = |path: Spanned<PathBuf>| {
        checked(key, &path, |path| {
            let stays = ["/dev/input/by-id/", "/dev/input/by-path/"];
            let name = path.to_string_lossy();
            if stays.iter().any(|directory| name.starts_with(directory)) {
                return Ok(path.clone());
            }
            Err(format!(
                "{name} may be another keyboard after the next start; allowed is a name that stays, from /dev/input/by-id/ (the reader's USB name) or /dev/input/by-path/ (the port that it is plugged into)"
            ))
        })
    };
    paths.into_iter().map(path).collect()
}

/// Where udev gives serial lines their lasting names.
const SERIAL_LINES: &str = "/dev/serial";

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const LEAST: &str = "[till]\nid = \"kasse-1\"\n[hub]\nurl = \"https://hub.example.invalid\"\n";

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let shown = match Config::parse(text) {
            Ok(_) => "ok".to_owned(),
            Err(fault) => fault.in_file(Path::new("till.toml"), text).to_string(),
        };
        assert_eq!(shown, expect);
    }

    fn readers(text: &str) -> Vec<ReaderConfig> {
        let text = format!("{LEAST}[readers]\npcsc = false\n{text}");
        let config = Config::parse(&text).map_err(|fault| fault.problem).unwrap();
        config.readers
    }

    #[test]
    fn readers_on_serial_lines_are_listed_by_what_they_speak() {
        let text = format!(
            "{LEAST}[readers]\npcsc = false\nserial = [\"/dev/a\"]\npn532 = [\"/dev/b\"]\nrdm6300 = [\"/dev/c\", \"/dev/d\"]\ntwn4 = [\"/dev/e\"]\ntwn4_em4100 = true\n"
        );
        let config = Config::parse(&text).map_err(|fault| fault.problem).unwrap();
        let path = PathBuf::from;
        let expect = [
            ReaderConfig::Serial {
                path: path("/dev/a"),
            },
            ReaderConfig::Pn532 {
                path: path("/dev/b"),
            },
            ReaderConfig::Rdm6300 {
                path: path("/dev/c"),
            },
            ReaderConfig::Rdm6300 {
                path: path("/dev/d"),
            },
            ReaderConfig::Twn4 {
                path: path("/dev/e"),
                em4100: true,
            },
        ];
        assert_eq!(config.readers, expect);
        for key in ["serial", "pn532", "rdm6300", "twn4"] {
            check(
                &format!("{LEAST}[readers]\n{key} = [\"ttyUSB0\"]\n"),
                &format!(
                    "till.toml:6: readers.{key}: \"ttyUSB0\" is not an absolute path; allowed is a path that begins with /"
                ),
            );
        }
    }

    #[test]
    fn a_reader_is_bound_by_its_serial_number_or_its_port_never_by_its_turn() {
        for key in ["serial", "pn532", "rdm6300", "twn4"] {
            for counted in ["/dev/ttyUSB0", "/dev/ttyACM12"] {
                check(
                    &format!("{LEAST}[readers]\n{key} = [\"{counted}\"]\n"),
                    &format!(
                        "till.toml:6: readers.{key}: {counted} may be another reader after the next start; allowed is a name that stays, from /dev/serial/by-id/ (the reader's USB serial number) or /dev/serial/by-path/ (the port that it is plugged into)"
                    ),
                );
            }
        }
        let stays = [
            "/dev/serial/by-id/usb-Kasse_reader_A1B2C3D4-if00",
            "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
            "/dev/kasse-reader",
            "/dev/ttyS0",
            "/dev/ttyAMA0",
        ];
        let text = format!("{LEAST}[readers]\npcsc = false\nserial = {stays:?}\n");
        let config = Config::parse(&text).map_err(|fault| fault.problem).unwrap();
        let expect = stays.map(|path| ReaderConfig::Serial { path: path.into() });
        assert_eq!(config.readers, expect);
    }

    #[test]
    fn a_reader_is_named_once() {
        for (lists, key) in [
            (
                "serial = [\"/dev/a\"]\npn532 = [\"/dev/b\", \"/dev/a\"]",
                "pn532",
            ),
            (
                "pcsc = false\nserial = [\"/dev/b\", \"/dev/a\", \"/dev/a\"]",
                "serial",
            ),
        ] {
            check(
                &format!("{LEAST}[readers]\n{lists}\n"),
                &format!(
                    "till.toml:7: readers.{key}: /dev/a stands in readers.serial already; a reader is named once, in the list of what it speaks"
                ),
            );
        }
    }

    #[test]
    fn serial_lines_are_looked_through_only_when_that_is_wanted() {
        assert_eq!(readers("auto = false\n"), []);
        let lines = PathBuf::from("/dev/serial");
        let em4100 = true;
        assert_eq!(
            readers("auto = true\ntwn4_em4100 = true\n"),
            [ReaderConfig::Auto { lines, em4100 }]
        );
    }

    #[test]
    fn a_keyboard_is_a_reader_only_under_a_name_that_stays() {
        let by_id = "/dev/input/by-id/usb-Kasse_wedge_0001-event-kbd";
        for (number, is_hex, is_reversed) in [
            ("decimal", false, false),
            ("decimal-reversed", false, true),
            ("hex", true, false),
            ("hex-reversed", true, true),
        ] {
            let text = format!(
                "keyboard = [\"{by_id}\"]\nkeyboard_number = \"{number}\"\nkeyboard_em4100 = true\n"
            );
            let format = NumberFormat {
                is_hex,
                is_reversed,
                is_em4100: true,
            };
            let path = by_id.into();
            assert_eq!(readers(&text), [ReaderConfig::Keyboard { path, format }]);
        }
        let format = NumberFormat::DECIMAL;
        let path: PathBuf = "/dev/input/by-path/pci-0000:00:14.0-usb-0:2:1.0-event-kbd".into();
        let text = format!("keyboard = [{path:?}]\n");
        assert_eq!(readers(&text), [ReaderConfig::Keyboard { path, format }]);
        for counted in ["/dev/input/event3", "/dev/hidraw0", "by-id/usb"] {
            check(
                &format!("{LEAST}[readers]\nkeyboard = [\"{counted}\"]\n"),
                &format!(
                    "till.toml:6: readers.keyboard: {counted} may be another keyboard after the next start; allowed is a name that stays, from /dev/input/by-id/ (the reader's USB name) or /dev/input/by-path/ (the port that it is plugged into)"
                ),
            );
        }
        check(
            &format!("{LEAST}[readers]\nkeyboard_number = \"octal\"\n"),
            "till.toml:6: readers.keyboard_number: unknown variant `octal`, expected one of `decimal`, `decimal-reversed`, `hex`, `hex-reversed`",
        );
    }
}
