//! The hub's configuration file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::Money;
use hub_ledger::{BLOCK_GRACE, CanteenId, Fingerprint, OfflineBounds, TopUpRules};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::access::OperatorAccess;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program itself.
    pub hub: HubConfig,
    /// Who may use the operators' API.
    pub operator: Vec<OperatorConfig>,
    /// The card gateway.
    pub gateway: GatewayConfig,
    /// What tills may sell without asking.
    pub offline: OfflineConfig,
    /// Fetching entries from tills.
    pub pull: PullConfig,
    /// The times of automatic top-ups.
    pub top_up: TopUpConfig,
    /// Telling guardians and operators.
    pub notices: NoticesConfig,
}

/// `[hub]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The database file.
    pub database: PathBuf,
    /// What it logs.
    pub log: String,
}

impl Default for HubConfig {
    fn default() -> HubConfig {
        HubConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database: PathBuf::from("/var/lib/kasse-hub/hub.sqlite"),
            log: "info,refinery_core=warn".to_owned(),
        }
    }
}

/// `[[operator]]`
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// Who it is, for the log.
    pub name: String,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// The token itself, on a hub that only this machine can reach.
    pub token: Option<String>,
    /// The tenant that the operator is confined to.
    pub tenant: Option<String>,
}

impl std::fmt::Debug for OperatorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorConfig")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where the gateway is; empty charges nothing.
    pub url: String,
    /// A file with its secret key.
    pub secret_file: PathBuf,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            url: String::new(),
            secret_file: PathBuf::from("/etc/kasse/gateway-secret"),
        }
    }
}

/// `[offline]`, amounts in kroner as text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineConfig {
    /// The most that all tills together overspend on one account.
    #[serde(deserialize_with = "amount")]
    pub overspend_max: Money,
    /// The most that one till sells on one account before the hub has heard of it.
    #[serde(deserialize_with = "amount")]
    pub till_max: Money,
    /// An alarm is raised when the tills of a canteen can sell for more than this beyond what the
    /// accounts hold.
    #[serde(deserialize_with = "amount")]
    pub exposure_alarm: Money,
    /// Canteens with bounds of their own.
    pub canteen: Vec<CanteenBounds>,
    /// How many seconds after a block the account still pays for what tills sold that had not
    /// heard of it.
    pub block_grace: u64,
}

impl Default for OfflineConfig {
    fn default() -> OfflineConfig {
        let OfflineBounds {
            overspend_max,
            till_max,
        } = OfflineBounds::default();
        OfflineConfig {
            overspend_max,
            till_max,
            exposure_alarm: Money::from_kroner(20_000),
            canteen: Vec::new(),
            block_grace: BLOCK_GRACE.as_secs(),
        }
    }
}

/// `[[offline.canteen]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanteenBounds {
    /// The canteen's number.
    pub id: i64,
    /// As in `[offline]`.
    #[serde(deserialize_with = "amount")]
    pub overspend_max: Money,
    /// As in `[offline]`.
    #[serde(deserialize_with = "amount")]
    pub till_max: Money,
}

impl OfflineConfig {
    /// Canteens with bounds of their own.
    pub fn exceptions(&self) -> Vec<(CanteenId, OfflineBounds)> {
        let bounds = |canteen: &CanteenBounds| OfflineBounds {
            overspend_max: canteen.overspend_max,
            till_max: canteen.till_max,
        };
        let canteens = self.canteen.iter();
        canteens
            .map(|canteen| (CanteenId(canteen.id), bounds(canteen)))
            .collect()
    }

    /// The bounds that the store works by.
    pub fn bounds(&self) -> OfflineBounds {
        OfflineBounds {
            overspend_max: self.overspend_max,
            till_max: self.till_max,
        }
    }
}

impl OfflineConfig {
    /// How long after a block the account still pays.
    pub fn block_grace(&self) -> Duration {
        Duration::from_secs(self.block_grace)
    }
}

fn amount<'de, D: Deserializer<'de>>(input: D) -> Result<Money, D::Error> {
    let text = String::deserialize(input)?;
    text.parse().map_err(D::Error::custom)
}

/// `[pull]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullConfig {
    /// After how many seconds without a word a till that serves its entries is asked for them; 0
    /// asks none.
    pub silence: u64,
}

impl Default for PullConfig {
    fn default() -> PullConfig {
        PullConfig { silence: 30 }
    }
}

impl PullConfig {
    /// After which time a till is asked, if at all.
    pub fn silence(&self) -> Option<Duration> {
        (self.silence > 0).then(|| Duration::from_secs(self.silence))
    }
}

/// `[top_up]`, all in seconds or counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopUpConfig {
    /// When an unanswered charge is looked up.
    pub look_up_after: Vec<u64>,
    /// Between two charges of one amount on one card.
    pub spacing: u64,
    /// Between two answers "not found" before a charge is sent again.
    pub not_found_apart: u64,
    /// How often one top-up is charged.
    pub attempts_max: u32,
    /// After a charge that did not leave.
    pub unsent_back_off: Vec<u64>,
    /// After declines that may pass.
    pub soft_back_off: Vec<u64>,
    /// Top-ups of one account in 24 hours.
    pub per_day_max: u32,
    /// Top-ups of one account in 30 days.
    pub per_month_max: u32,
    /// Purchases older than so many days fire nothing.
    pub late_days: u32,
}

impl Default for TopUpConfig {
    fn default() -> TopUpConfig {
        let rules = TopUpRules::default();
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs).collect();
        TopUpConfig {
            look_up_after: seconds(&rules.look_up_after),
            spacing: rules.spacing.as_secs(),
            not_found_apart: rules.not_found_apart.as_secs(),
            attempts_max: rules.attempts_max,
            unsent_back_off: seconds(&rules.unsent_back_off),
            soft_back_off: seconds(&rules.soft_back_off),
            per_day_max: rules.per_day_max,
            per_month_max: rules.per_month_max,
            late_days: rules.late_days,
        }
    }
}

impl Config {
    /// The rules of top-ups that the store works by.
    pub fn top_up_rules(&self) -> TopUpRules {
        TopUpRules {
            tell_settled: self.notices.settled,
            ..self.top_up.rules()
        }
    }
}

impl TopUpConfig {
    fn rules(&self) -> TopUpRules {
        let times = |seconds: &[u64]| seconds.iter().copied().map(Duration::from_secs).collect();
        TopUpRules {
            look_up_after: times(&self.look_up_after),
            spacing: Duration::from_secs(self.spacing),
            not_found_apart: Duration::from_secs(self.not_found_apart),
            attempts_max: self.attempts_max,
            unsent_back_off: times(&self.unsent_back_off),
            soft_back_off: times(&self.soft_back_off),
            per_day_max: self.per_day_max,
            per_month_max: self.per_month_max,
            late_days: self.late_days,
            // How long a gateway remembers is its own affair, and what is told stands elsewhere.
            ..TopUpRules::default()
        }
    }
}

/// `[notices]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoticesConfig {
    /// Where notices are posted to; empty posts none.
    pub url: String,
    /// A file with the secret that they are signed with.
    pub secret_file: PathBuf,
    /// Whether guardians are told of every top-up that went well, too.
    pub settled: bool,
}

impl Default for NoticesConfig {
    fn default() -> NoticesConfig {
        NoticesConfig {
            url: String::new(),
            secret_file: PathBuf::from("/etc/kasse/notices-secret"),
            settled: TopUpRules::default().tell_settled,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path:?} cannot be read; check the path and its owner")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the text names line, key and what is allowed.
    #[error("{}: {text}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        text: String,
    },
    /// A value is well formed and cannot be used.
    #[error("{}: {key}: {advice}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong and what is allowed.
        advice: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            text: error.to_string(),
        })?;
        config.check().map_err(|(key, advice)| ConfigError::Value {
            path: path.to_owned(),
            key,
            advice,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, advice: &str| Err((key.to_owned(), advice.to_owned()));
        if !is_log_filter(&self.hub.log) {
            let advice = "is no filter; allowed are error, warn, info, debug, trace, or a list such as \
                          info,hubd=debug";
            return wrong("hub.log", advice);
        }
        for (n, operator) in self.operator.iter().enumerate() {
            let key = |name: &str| format!("operator[{n}].{name}");
            match (&operator.token, &operator.token_file) {
                (None, None) => {
                    return wrong(&key("token_file"), "is missing; name a file with the token");
                }
                (Some(_), Some(_)) => {
                    return wrong(
                        &key("token"),
                        "is given beside token_file; keep one of them",
                    );
                }
                (Some(_), None) if !self.hub.listen.ip().is_loopback() => {
                    let advice = "stands in the file, which is allowed only when hub.listen is a \
                                  loopback address; use token_file";
                    return wrong(&key("token"), advice);
                }
                (Some(token), None) if token.len() < TOKEN_MIN => {
                    return wrong(&key("token"), "is too short; use at least 16 characters");
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        let of_canteens = self.offline.canteen.iter().flat_map(|canteen| {
            [
                ("offline.canteen.overspend_max", canteen.overspend_max),
                ("offline.canteen.till_max", canteen.till_max),
            ]
        });
        let everywhere = [
            ("offline.overspend_max", self.offline.overspend_max),
            ("offline.till_max", self.offline.till_max),
        ];
        for (key, amount) in everywhere.into_iter().chain(of_canteens) {
            if amount < Money::ZERO || amount > OFFLINE_MAX {
                return wrong(key, "is out of bounds; allowed is 0,00 to 10000,00");
            }
        }
        if self.offline.exposure_alarm < Money::ZERO {
            return wrong(
                "offline.exposure_alarm",
                "is below zero; allowed is 0,00 or more",
            );
        }
        if self.top_up.look_up_after.is_empty() {
            return wrong(
                "top_up.look_up_after",
                "is empty; give at least one number of seconds",
            );
        }
        if self.top_up.unsent_back_off.is_empty() {
            return wrong(
                "top_up.unsent_back_off",
                "is empty; give at least one number of seconds",
            );
        }
        if self.top_up.attempts_max == 0 {
            return wrong("top_up.attempts_max", "is 0; allowed is 1 or more");
        }
        if self.pull.silence > YEAR {
            return wrong("pull.silence", "is more than a year; give seconds, or 0");
        }
        if self.top_up.spacing > YEAR || self.top_up.not_found_apart > YEAR {
            return wrong("top_up.spacing", "is more than a year; give seconds");
        }
        Ok(())
    }

    /// Reads the operators' tokens.
    pub fn operators(&self, path: &Path) -> Result<Vec<OperatorAccess>, ConfigError> {
        let mut operators = Vec::new();
        for (n, operator) in self.operator.iter().enumerate() {
            let token = match (&operator.token, &operator.token_file) {
                (Some(token), _) => token.clone(),
                (None, Some(file)) => read_token(path, n, file)?,
                (None, None) => continue,
            };
            operators.push(OperatorAccess {
                name: operator.name.clone(),
                token: Fingerprint::of(&token),
                tenant: operator.tenant.clone(),
            });
        }
        Ok(operators)
    }
}

/// A bare word that is no level would be taken for a part of the program, whose every line is logged and
/// nobody else's.
fn is_log_filter(text: &str) -> bool {
    let is_known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let parts = || text.split(',').map(str::trim);
    parts().all(|part| !part.is_empty() && is_known(part)) && EnvFilter::try_new(text).is_ok()
}

fn read_token(path: &Path, n: usize, file: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
        path: file.to_owned(),
        source,
    })?;
    let token = text.trim();
    if token.len() < TOKEN_MIN || token.contains(char::is_whitespace) {
        return Err(ConfigError::Value {
            path: path.to_owned(),
            key: format!("operator[{n}].token_file"),
            advice: "names a file that is not one line of at least 16 characters".to_owned(),
        });
    }
    Ok(token.to_owned())
}

/// More is no bound.
const OFFLINE_MAX: Money = Money::from_kroner(10_000);
const TOKEN_MIN: usize = 16;
const YEAR: u64 = 366 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../config/hub.toml");

    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let error = Config::parse(Path::new("hub.toml"), text)
            .unwrap_err()
            .to_string();
        for part in expect {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }

    #[test]
    fn the_shipped_file_says_what_is_so_without_it() {
        let config = Config::parse(Path::new("hub.toml"), SHIPPED).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_line_of_the_shipped_file_has_a_comment_and_its_examples_parse() {
        let mut commented = false;
        for line in SHIPPED.lines() {
            let key = line.contains(" = ");
            assert!(!key || commented, "no comment before {line:?}");
            commented = line.starts_with("# ");
        }
        let examples: String = SHIPPED
            .lines()
            .map(|line| match line.strip_prefix("#") {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();
        let config = Config::parse(Path::new("hub.toml"), &examples).unwrap();
        assert_eq!(config.operator.len(), 1);
        assert!(config.operator[0].token_file.is_some() && config.operator[0].tenant.is_some());
    }

    #[test]
    fn mistakes_are_told_with_file_line_key_and_what_is_allowed() {
        check(
            "[hub]\nlisen = \"127.0.0.1:1\"\n",
            &["hub.toml", "line 2", "lisen", "listen"],
        );
        check("[hub]\nlisten = 8080\n", &["line 2", "listen"]);
        check(
            "[top_up]\nspacing = \"12 min\"\n",
            &["line 2", "spacing", "u64"],
        );
        check(
            "[top_up]\nattempts_max = 0\n",
            &["top_up.attempts_max", "1 or more"],
        );
        check(
            "[offline]\noverspend_max = \"-1,00\"\n",
            &["offline.overspend_max", "0,00 to 10000,00"],
        );
        check(
            "[offline]\ntill_max = 200\n",
            &["line 2", "till_max", "string"],
        );
        for log in ["loud", "", "info,hubd=loud"] {
            let text = format!("[hub]\nlog = \"{log}\"\n");
            check(&text, &["hub.log", "is no filter", "info,hubd=debug"]);
        }
        check(
            "[[operator]]\nname = \"a\"\n",
            &["operator[0].token_file", "missing"],
        );
        check(
            "[[operator]]\nname = \"a\"\ntoken = \"short\"\n",
            &["at least 16"],
        );
        let open = "[hub]\nlisten = \"0.0.0.0:80\"\n[[operator]]\nname = \"a\"\n\
                    token = \"0123456789abcdef\"\n";
        check(open, &["operator[0].token", "loopback"]);
    }
}
