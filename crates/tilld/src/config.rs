//! The till's settings, from one TOML file; an error names file, line, key and what is allowed.

mod hub;
mod readers;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::{Money, OfflineRules};
use serde::Deserialize;
use sync_proto::TillId;
use thiserror::Error;
use till_readers::ReaderConfig;
use toml::Spanned;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use hub::HubTable;
use readers::ReadersTable;

/// What a till needs to know to start.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The till's name at the hub.
    pub(crate) till: TillId,
    /// Where the ledger and the till's key lie.
    pub(crate) state_dir: PathBuf,
    /// How much of the disk is kept as ballast, in bytes.
    pub(crate) ballast_bytes: u64,
    /// Where `tillctl` finds the daemon.
    pub(crate) control_socket: PathBuf,
    /// The hub, without a slash at the end.
    pub(crate) hub_url: String,
    /// The one-time code for the first contact.
    pub(crate) enrolment_code: Option<String>,
    /// Certificates to trust instead of the system's own.
    pub(crate) ca_file: Option<PathBuf>,
    /// Where hub and siblings may fetch entries; `None` is nowhere.
    pub(crate) pull: Option<PullDoor>,
    /// Where the cashier page listens; a loopback address.
    pub(crate) page: SocketAddr,
    /// The chip readers.
    pub(crate) readers: Vec<ReaderConfig>,
    /// How long a basket waits for a chip.
    pub(crate) chip_wait: Duration,
    /// What may be sold without contact.
    pub(crate) offline: OfflineRules,
    /// What is logged.
    pub(crate) log_filter: String,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
}

/// Where entries may be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullDoor {
    /// The address that is listened on.
    pub(crate) listen: SocketAddr,
    /// What others call it (`http://HOST:PORT`).
    pub(crate) address: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is wrong.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which key, for example `page.listen`.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

impl Config {
    /// Reads and checks the file.
    pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text).map_err(|fault| fault.in_file(path, &text))
    }

    fn parse(text: &str) -> Result<Config, Fault> {
        let file: File = toml::from_str(text).map_err(|error| Fault {
            at: error.span().unwrap_or(0..0),
            key: None,
            problem: plain(error.message()),
        })?;
        file.check()
    }
}

/// What is wrong, before its place is put in words.
struct Fault {
    at: Range<usize>,
    key: Option<&'static str>,
    problem: String,
}

impl Fault {
    fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let before = text.get(..self.at.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let key = self
            .key
            .map_or_else(|| key_of_line(text, line), str::to_owned);
        ConfigError::Line {
            path: path.to_owned(),
            line,
            key,
            problem: self.problem,
        }
    }
}

/// The key on a line with the table that it stands in.
fn key_of_line(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let is_table = |line: &&&str| line.trim_start().starts_with('[');
    let table = lines
        .iter()
        .rev()
        .find(is_table)
        .map(|line| line.trim().trim_matches(['[', ']']));
    let key = lines
        .last()
        .and_then(|line| line.split_once('='))
        .map(|(key, _)| key.trim());
    match (table, key) {
        (Some(table), Some(key)) => format!("{table}.{key}"),
        (Some(table), None) => format!("[{table}]"),
        (None, Some(key)) => key.to_owned(),
        (None, None) => "the file".to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    till: Option<TillTable>,
    hub: Option<HubTable>,
    #[serde(default)]
    pull: PullTable,
    #[serde(default)]
    page: PageTable,
    #[serde(default)]
    readers: ReadersTable,
    #[serde(default)]
    checkout: CheckoutTable,
    #[serde(default)]
    offline: OfflineTable,
    #[serde(default)]
    log: LogTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TillTable {
    id: Spanned<String>,
    state_dir: Option<Spanned<PathBuf>>,
    ballast_mib: Option<Spanned<u64>>,
    control_socket: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PullTable {
    listen: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PageTable {
    listen: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CheckoutTable {
    chip_wait_seconds: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct OfflineTable {
    restricted_after_hours: Option<Spanned<u64>>,
    meal_price: Option<Spanned<String>>,
    stopped_after_days: Option<Spanned<u64>>,
    purchase_max: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LogTable {
    filter: Option<Spanned<String>>,
    format: Option<LogFormat>,
}

impl File {
    fn check(self) -> Result<Config, Fault> {
        let till = self.till.ok_or_else(|| section_missing("till.id"))?;
        let hub = self.hub.ok_or_else(|| section_missing("hub.url"))?;
        let hub = hub.check()?;
        Ok(Config {
            till: checked("till.id", &till.id, |id| id.parse::<TillId>())?,
            state_dir: absolute("till.state_dir", till.state_dir, STATE_DIR)?,
            ballast_bytes: within("till.ballast_mib", till.ballast_mib, 1..=4096, 256)? << 20,
            control_socket: absolute("till.control_socket", till.control_socket, CONTROL_SOCKET)?,
            hub_url: hub.url,
            enrolment_code: hub.enrolment_code,
            ca_file: hub.ca_file,
            pull: self.pull.check()?,
            page: page_address(self.page.listen)?,
            readers: self.readers.check()?,
            chip_wait: Duration::from_secs(within(
                "checkout.chip_wait_seconds",
                self.checkout.chip_wait_seconds,
                5..=300,
                30,
            )?),
            offline: self.offline.check()?,
            log_filter: log_filter(self.log.filter)?,
            log_format: self.log.format.unwrap_or(LogFormat::Text),
        })
    }
}

impl PullTable {
    fn check(self) -> Result<Option<PullDoor>, Fault> {
        let Some(listen) = self.listen else {
            return match self.address {
                None => Ok(None),
                Some(address) => checked("pull.address", &address, |_| {
                    Err("nothing is served there; set pull.listen, too, or leave both out")
                }),
            };
        };
        let address = self.address.map(|address| {
            checked("pull.address", &address, |text| {
                let url: Option<reqwest::Url> = text.parse().ok();
                let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
                match url.filter(|url| url.path() == "/" && url.query().is_none()) {
                    Some(_) => Ok(text.trim_end_matches('/').to_owned()),
                    None => Err(format!(
                        "{text:?} is no address; allowed is http://HOST:PORT"
                    )),
                }
            })
        });
        let address = address.transpose()?;
        let door = checked("pull.listen", &listen, |text| {
            let listen: SocketAddr = text
                .parse()
                .map_err(|_| format!("{text:?} is no address; allowed is IP:PORT"))?;
            let reachable = !listen.ip().is_unspecified() && listen.port() != 0;
            match address.or_else(|| reachable.then(|| format!("http://{listen}"))) {
                Some(address) => Ok(PullDoor { listen, address }),
                None => Err(format!(
                    "{listen} is no address that others could ask; set pull.address, too"
                )),
            }
        })?;
        Ok(Some(door))
    }
}

impl OfflineTable {
    fn check(self) -> Result<OfflineRules, Fault> {
        let default = OfflineRules::default();
        let days_at = self.stopped_after_days.as_ref().map(Spanned::span);
        let hours = within(
            "offline.restricted_after_hours",
            self.restricted_after_hours,
            1..=720,
            72,
        )?;
        let days = within(
            "offline.stopped_after_days",
            self.stopped_after_days,
            1..=90,
            14,
        )?;
        if days * 24 < hours {
            return Err(Fault {
                at: days_at.unwrap_or(0..0),
                key: Some("offline.stopped_after_days"),
                problem: format!(
                    "{days} days are shorter than restricted_after_hours ({hours}); allowed is at least as long"
                ),
            });
        }
        Ok(OfflineRules {
            restricted_after: Duration::from_secs(hours * 3600),
            meal_price: price("offline.meal_price", self.meal_price, default.meal_price)?,
            stopped_after: Duration::from_secs(days * 24 * 3600),
            purchase_max: price(
                "offline.purchase_max",
                self.purchase_max,
                default.purchase_max,
            )?,
        })
    }
}

fn checked<T, V, E: fmt::Display>(
    key: &'static str,
    value: &Spanned<V>,
    check: impl FnOnce(&V) -> Result<T, E>,
) -> Result<T, Fault> {
    check(value.get_ref()).map_err(|error| Fault {
        at: value.span(),
        key: Some(key),
        problem: error.to_string(),
    })
}

fn absolute(
    key: &'static str,
    value: Option<Spanned<PathBuf>>,
    default: &str,
) -> Result<PathBuf, Fault> {
    let Some(value) = value else {
        return Ok(default.into());
    };
    checked(key, &value, |path| {
        if path.is_absolute() {
            Ok(path.clone())
        } else {
            Err(format!(
                "{:?} is not an absolute path; allowed is a path that begins with /",
                path
            ))
        }
    })
}

fn within(
    key: &'static str,
    value: Option<Spanned<u64>>,
    allowed: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, Fault> {
    let Some(value) = value else {
        return Ok(default);
    };
    checked(key, &value, |&number| {
        if allowed.contains(&number) {
            Ok(number)
        } else {
            Err(format!(
                "{number} is not allowed; {} to {} is",
                allowed.start(),
                allowed.end()
            ))
        }
    })
}

fn price(
    key: &'static str,
    value: Option<Spanned<String>>,
    default: Money,
) -> Result<Money, Fault> {
    let Some(value) = value else {
        return Ok(default);
    };
    checked(key, &value, |text| match text.parse::<Money>() {
        Ok(money) if money > Money::ZERO => Ok(money),
        Ok(money) => Err(format!("{money} is not allowed; an amount above zero is")),
        Err(error) => Err(error.to_string()),
    })
}

fn page_address(value: Option<Spanned<String>>) -> Result<SocketAddr, Fault> {
    let Some(value) = value else {
        return Ok(SocketAddr::from(([127, 0, 0, 1], 8070)));
    };
    checked("page.listen", &value, |text| {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(address),
            Ok(address) => Err(format!(
                "{address} can be reached from other machines; allowed are 127.0.0.1:PORT and [::1]:PORT"
            )),
            Err(_) => Err(format!(
                "{text:?} is no address; allowed are 127.0.0.1:PORT and [::1]:PORT"
            )),
        }
    })
}

fn log_filter(value: Option<Spanned<String>>) -> Result<String, Fault> {
    let Some(value) = value else {
        return Ok("info".to_owned());
    };
    checked("log.filter", &value, |text| match unknown_level(text) {
        None => Ok(text.clone()),
        Some(why) => Err(format!(
            "{text:?} is no filter ({why}); allowed are error, warn, info, debug, trace, or a list such as info,tilld=debug"
        )),
    })
}

/// What is wrong with a filter. A bare word that is no level would be taken for a part of the program,
/// whose every line is logged and nobody else's.
fn unknown_level(filter: &str) -> Option<String> {
    let no_level = |part: &&str| {
        !part.contains('=') && (part.is_empty() || part.parse::<LevelFilter>().is_err())
    };
    if let Some(word) = filter.split(',').map(str::trim).find(no_level) {
        return Some(format!("{word:?} is no level"));
    }
    let error = EnvFilter::try_new(filter).err()?;
    Some(error.to_string())
}

fn section_missing(key: &'static str) -> Fault {
    Fault {
        at: 0..0,
        key: Some(key),
        problem: "is missing and must be set".to_owned(),
    }
}

/// What the TOML reader says of a value, in the words of a settings file.
fn plain(message: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: "];
    let told = wrong
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .and_then(|told| told.rsplit_once(", expected "));
    let Some((found, expected)) = told else {
        return message.to_owned();
    };
    let allowed = match expected {
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotation marks",
        "a sequence" => "a list in brackets, each name in quotation marks",
        "u64" => "a whole number from 0 on",
        other => other,
    };
    format!("{found} is not allowed; {allowed} is")
}

const STATE_DIR: &str = "/var/lib/kasse";
const CONTROL_SOCKET: &str = "/run/kasse/tilld.sock";

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_shipped_file_is_valid_and_says_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/till.toml");
        let shipped = Config::load(&path).unwrap();
        let least = Config::parse(LEAST).map_err(|fault| fault.problem).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{least:?}"));
    }

    #[test]
    fn an_error_names_file_line_key_and_what_is_allowed() {
        check(LEAST, "ok");
        check(
            &format!("{LEAST}[page]\nlisten = \"0.0.0.0:8070\"\n"),
            "till.toml:6: page.listen: 0.0.0.0:8070 can be reached from other machines; allowed are 127.0.0.1:PORT and [::1]:PORT",
        );
        check(
            &format!("{LEAST}[checkout]\n# a comment\nchip_wait_seconds = 4\n"),
            "till.toml:7: checkout.chip_wait_seconds: 4 is not allowed; 5 to 300 is",
        );
        check(
            &format!("{LEAST}[readers]\npcsc = \"yes\"\n"),
            "till.toml:6: readers.pcsc: string \"yes\" is not allowed; true or false is",
        );
        check(
            &format!("{LEAST}[log]\nformat = \"xml\"\n"),
            "till.toml:6: log.format: unknown variant `xml`, expected `text` or `json`",
        );
        check(
            &format!("{LEAST}[offline]\nmeal_price = \"60,005\"\n"),
            "till.toml:6: offline.meal_price: an amount has at most two digits after the comma",
        );
        check(
            &format!("{LEAST}[offline]\nstopped_after_days = 2\n"),
            "till.toml:6: offline.stopped_after_days: 2 days are shorter than restricted_after_hours (72); allowed is at least as long",
        );
        check(
            "[till]\nid = \"Kasse 1\"\n[hub]\nurl = \"https://hub.example.invalid\"\n",
            "till.toml:2: till.id: a till's name has 1 to 32 lower-case letters, digits and hyphens",
        );
    }

    #[test]
    fn the_door_for_siblings_is_shut_unless_it_is_opened_and_has_an_address() {
        let door = |text: &str| {
            let config = Config::parse(&format!("{LEAST}[pull]\n{text}"));
            config.map(|config| config.pull.map(|door| door.address))
        };
        let opened = |text: &str| door(text).map_err(|fault| fault.problem).unwrap();
        assert_eq!(opened(""), None);
        let plain = Some("http://127.0.0.1:8471".to_owned());
        assert_eq!(opened("listen = \"127.0.0.1:8471\""), plain);
        let named = "listen = \"0.0.0.0:8471\"\naddress = \"http://kasse-1.invalid:8471/\"";
        assert_eq!(
            opened(named),
            Some("http://kasse-1.invalid:8471".to_owned())
        );
        check(
            &format!("{LEAST}[pull]\nlisten = \"0.0.0.0:8471\"\n"),
            "till.toml:6: pull.listen: 0.0.0.0:8471 is no address that others could ask; set pull.address, too",
        );
        check(
            &format!("{LEAST}[pull]\nlisten = \"127.0.0.1:1\"\naddress = \"kasse\"\n"),
            "till.toml:7: pull.address: \"kasse\" is no address; allowed is http://HOST:PORT",
        );
        check(
            &format!("{LEAST}[pull]\naddress = \"http://kasse-1.invalid:8471\"\n"),
            "till.toml:6: pull.address: nothing is served there; set pull.listen, too, or leave both out",
        );
    }

    #[test]
    fn a_misspelt_or_missing_key_is_an_error() {
        check(
            &format!("{LEAST}[page]\nlitsen = \"127.0.0.1:1\"\n"),
            "till.toml:6: page.litsen: unknown field `litsen`, expected `listen`",
        );
        check(
            "[hub]\nurl = \"https://h.invalid\"\n",
            "till.toml:1: till.id: is missing and must be set",
        );
        check(
            "[till]\nid = \"kasse-1\"\n[readers]\n",
            "till.toml:1: hub.url: is missing and must be set",
        );
        check(
            "[till]\nid = \"kasse-1\"\n[hub]\n",
            "till.toml:3: [hub]: missing field `url`",
        );
    }

    #[test]
    fn a_value_of_another_kind_is_told_as_people_write_settings() {
        check(
            &format!("{LEAST}[readers]\nserial = \"/dev/kasse-reader\"\n"),
            "till.toml:6: readers.serial: string \"/dev/kasse-reader\" is not allowed; a list in brackets, each name in quotation marks is",
        );
        check(
            &format!("{LEAST}[offline]\nmeal_price = 60\n"),
            "till.toml:6: offline.meal_price: integer `60` is not allowed; text in quotation marks is",
        );
        check(
            &format!("{LEAST}[checkout]\nchip_wait_seconds = -5\n"),
            "till.toml:6: checkout.chip_wait_seconds: integer `-5` is not allowed; a whole number from 0 on is",
        );
    }

    #[test]
    fn a_log_filter_that_would_log_nothing_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,tilld=debug",
            "tilld::sync=trace",
        ] {
            check(&format!("{LEAST}[log]\nfilter = \"{good}\"\n"), "ok");
        }
        for (bad, why) in [
            ("loud", "\"loud\" is no level"),
            ("inf, tilld=debug", "\"inf\" is no level"),
            ("", "\"\" is no level"),
            (
                "info,tilld=loud",
                "error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
            ),
        ] {
            check(
                &format!("{LEAST}[log]\nfilter = \"{bad}\"\n"),
                &format!(
                    "till.toml:6: log.filter: {bad:?} is no filter ({why}); allowed are error, warn, info, debug, trace, or a list such as info,tilld=debug"
                ),
            );
        }
    }
}
