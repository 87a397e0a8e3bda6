//! How the till is: its ledger, its line to the hub, its readers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{Epoch, TillId, wire};

/// How the till is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The till's name.
    pub till: TillId,
    /// The canteen it stands in, once the hub has said so.
    pub canteen: Option<String>,
    /// The version of the daemon.
    pub version: String,
    /// When the daemon started (RFC 3339, UTC).
    #[serde(with = "wire::text")]
    pub started_at: Timestamp,
    /// The epoch of the ledger.
    pub epoch: Epoch,
    /// Sequence number of the ledger's last entry; 0 when it is empty.
    pub head_seq: u64,
    /// The hub has everything up to and including this entry.
    pub acked_seq: u64,
    /// How many entries the hub does not have yet.
    pub waiting: u64,
    /// What hub and till know of each other's history.
    pub standing: StandingStatus,
    /// What somebody must look into, in words; empty when all is well.
    pub alarms: Vec<String>,
    /// The canteen's other tills, once the hub has told of any.
    #[serde(default)]
    pub siblings: Option<SiblingsStatus>,
    /// How the wall clock is: `right`, `back` or `forward`.
    pub clock: String,
    /// How many damaged entries were found at the last start.
    pub holes: u64,
    /// Whether a new life of the ledger is under way, once the hub has everything old.
    pub renewing: bool,
    /// The line to the hub.
    pub line: LineStatus,
    /// Whether sales can be written down, and what is wrong if not.
    pub journal: Condition,
    /// The readers.
    pub readers: Vec<ReaderState>,
    /// How many taps by unknown chips there were since the daemon started.
    pub unknown_chips: u64,
    /// The size of the database on disk, in bytes.
    pub database_bytes: u64,
}

/// What hub and till know of each other's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingStatus {
    /// How the till stands.
    pub state: StandingState,
    /// What is wrong and what to do; empty when nothing is.
    pub text: String,
}

/// How a till stands with its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandingState {
    /// Nothing is wrong.
    Good,
    /// The hub has other entries of this ledger: its disk was copied.
    Forked,
    /// More was written in this ledger than is in it: its disk was restored.
    RolledBack,
    /// An operator has revoked the till; it sells nothing.
    Revoked,
    /// The hub does not know this till, or no longer.
    NotEnrolled,
}

/// The canteen's other tills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingsStatus {
    /// While the hub is away: how many of them this till hears.
    pub heard: u64,
    /// How many of them let themselves be asked.
    pub open: u64,
    /// How many there are.
    pub of: u64,
}

/// The line to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineStatus {
    /// What it allows.
    pub state: LineState,
    /// Since when the hub answers or does not (RFC 3339, UTC).
    #[serde(with = "crate::optional::moment", default)]
    pub since: Option<Timestamp>,
    /// Since when the data is too old to sell everything (RFC 3339, UTC).
    #[serde(with = "crate::optional::moment", default)]
    pub restricted_since: Option<Timestamp>,
    /// For how many seconds the till has heard nothing new about accounts.
    pub data_age_s: Option<u64>,
    /// The hub's address; `null` when the till is not enrolled.
    pub hub: Option<String>,
    /// The life of the hub's database that the till follows; 0 before the first contact.
    pub hub_epoch: u64,
    /// The version of the last change applied.
    pub cursor: u64,
    /// What is wrong and what to do; empty when nothing is. Daemons that do not tell leave it out.
    #[serde(default)]
    pub text: String,
}

/// What the line to the hub allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// The till has never had data from a hub.
    Never,
    /// The hub answers.
    Online,
    /// The hub does not answer; sales go on.
    Offline,
    /// The data is so old that only a meal may be bought.
    Restricted,
    /// The data is so old that nothing may be sold.
    Stopped,
}

/// Whether a part works, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Whether it works.
    pub ok: bool,
    /// What is wrong and what to do; may be empty when it works.
    pub text: String,
}

/// The readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderListAnswer {
    /// One for each reader that is configured or plugged in.
    pub readers: Vec<ReaderState>,
}

/// A reader, working or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderState {
    /// Its name or port.
    pub name: String,
    /// How it is driven, for example `pcsc` or `serial`.
    pub kind: String,
    /// Whether it can read chips now.
    pub ok: bool,
    /// What is wrong and what to do, or what the reader says about itself.
    pub text: String,
}

/// What a synchronisation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// Whether the hub answered.
    pub online: bool,
    /// How many entries the hub took.
    pub sent: u64,
    /// How many entries it does not have yet.
    pub waiting: u64,
    /// How many changes were fetched and applied.
    pub applied: u64,
    /// What is wrong and what to do; empty when nothing is.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(since: Option<&str>, json: &str) {
        let line = LineStatus {
            state: LineState::Offline,
            since: since.map(|text| text.parse().unwrap()),
            restricted_since: None,
            data_age_s: Some(90),
            hub: None,
            hub_epoch: 0,
            cursor: 0,
            text: "nobody is there".into(),
        };
        assert_eq!(serde_json::to_string(&line).unwrap(), json);
        assert_eq!(serde_json::from_str::<LineStatus>(json).unwrap(), line);
    }

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        check(
            Some("2026-11-20T11:41:07+01:00"),
            r#"{"state":"offline","since":"2026-11-20T10:41:07Z","restricted_since":null,"data_age_s":90,"hub":null,"hub_epoch":0,"cursor":0,"text":"nobody is there"}"#,
        );
        check(
            None,
            r#"{"state":"offline","since":null,"restricted_since":null,"data_age_s":90,"hub":null,"hub_epoch":0,"cursor":0,"text":"nobody is there"}"#,
        );
    }
}
