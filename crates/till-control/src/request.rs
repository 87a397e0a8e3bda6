//! What may be asked of the daemon.

use std::time::Duration;

use canteen::{BusinessDay, ChipId};
use serde::{Deserialize, Serialize};
use sync_proto::{EnrolmentKeys, VoidLine, wire};
use uuid::Uuid;

use crate::chip_enrolment::ChipKind;
use crate::optional::day as optional_day;

/// Where the daemon listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/kasse/tilld.sock";

/// The longest that one answer about readers is waited for, in seconds.
pub const WATCH_MAX_S: u32 = 10;

/// The most entries that one page of the ledger carries.
pub const LEDGER_PAGE_MAX: u32 = 500;

/// A question or an order; `do` names it on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// How the till is.
    Status,
    /// The readers, with what is wrong with each.
    ReaderList,
    /// What readers tell after a number, waited for; without a number, what to ask after.
    ReaderWatch {
        /// The number that the last answer gave.
        #[serde(default)]
        after: Option<u64>,
        /// How long to wait for something, in seconds; more than [`WATCH_MAX_S`] counts as that.
        wait_s: u32,
    },
    /// What the till knows about a chip.
    ChipShow {
        /// The chip number in any shape that people type.
        number: String,
    },
    /// Which chip lies on a reader, if it is of a kind that can be given keys.
    ChipLook {
        /// Only on this reader; without it, on any.
        #[serde(default)]
        reader: Option<String>,
    },
    /// Writes keys on the chip that lies on a reader, and has it prove itself by them. What it holds
    /// already is not written again, so the request can be repeated.
    ChipEnrol {
        /// On which reader.
        reader: String,
        /// Of which kind the chip is.
        kind: ChipKind,
        /// Which chip, by its real UID.
        #[serde(with = "wire::chip")]
        chip: ChipId,
        /// The keys to write, then those of other versions that it may hold still.
        keys: EnrolmentKeys,
        /// Whether it is to show another UID at every power-up, for ever.
        random_uid: bool,
    },
    /// Entries of the ledger, the newest first.
    LedgerList {
        /// How many at most; more than [`LEDGER_PAGE_MAX`] counts as that.
        limit: u32,
        /// Only entries with a sequence number below this one.
        #[serde(default)]
        before: Option<u64>,
    },
    /// Checks every entry of the ledger and its hash chain.
    LedgerVerify,
    /// Sends waiting entries and fetches changes now.
    SyncNow,
    /// Shows the hub a new one-time code: makes the till known, or begins a new life of its ledger
    /// once everything old is at the hub.
    Enrol {
        /// The code that the operator made.
        code: String,
    },
    /// Sells to the next chip that is tapped.
    Sell {
        /// Names the sale for ever. An id that stands in the ledger gives the recorded answer
        /// and sells nothing; without an id the daemon draws one.
        #[serde(default)]
        id: Option<Uuid>,
        /// What is bought: `QUANTITYx TEXT PRICE`, the price being that of one piece.
        lines: Vec<String>,
        /// How long to wait for a chip, in seconds.
        timeout_s: u32,
    },
    /// Takes back a sale of this till and this day, or some pieces of it.
    Void {
        /// The sale's id.
        id: Uuid,
        /// Names the void for ever. An id that stands in the ledger gives the recorded answer and
        /// takes nothing back; without an id the daemon draws one.
        #[serde(default)]
        void: Option<Uuid>,
        /// What to take back, each line by its place from 0; nothing is all that is left.
        #[serde(default)]
        lines: Vec<VoidLine>,
    },
    /// The totals of a business day as they are now (X); nothing is written.
    XReport {
        /// The day; `None` is the till's today.
        #[serde(default, with = "optional_day")]
        day: Option<BusinessDay>,
    },
    /// Writes the totals of a business day down under the next number (Z).
    ZReport {
        /// Names the report for ever, as that of a sale does.
        #[serde(default)]
        id: Option<Uuid>,
        /// The day; `None` is the till's today.
        #[serde(default, with = "optional_day")]
        day: Option<BusinessDay>,
    },
    /// Whether the clock can be believed.
    Clock,
    /// A person has looked at the clock and says that it is right.
    ClockConfirm,
}

impl Request {
    /// How long an answer may take before something is wrong with the daemon.
    pub fn patience(&self) -> Duration {
        match self {
            Request::Status
            | Request::ReaderList
            | Request::ReaderWatch { .. }
            | Request::ChipShow { .. }
            | Request::LedgerList { .. }
            | Request::Enrol { .. }
            | Request::Void { .. }
            | Request::Clock
            | Request::ClockConfirm => QUICK,
            // A chip that lies badly is slow, and each key is tried.
            Request::ChipLook { .. } | Request::ChipEnrol { .. } => CHIP,
            Request::LedgerVerify
            | Request::SyncNow
            | Request::XReport { .. }
            | Request::ZReport { .. } => LONG,
            Request::Sell { timeout_s, .. } => Duration::from_secs(u64::from(*timeout_s)) + QUICK,
        }
    }
}

/// For what only looks at memory or a few rows; a full disk's retries fit in.
const QUICK: Duration = Duration::from_secs(15);
/// For a talk with a chip; the daemon gives it up before.
const CHIP: Duration = Duration::from_secs(60);
/// For what reads the whole ledger or talks to the hub.
const LONG: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: &Request) {
        assert_eq!(&serde_json::from_str::<Request>(json).unwrap(), expect);
        let written = serde_json::to_string(expect).unwrap();
        assert_eq!(&serde_json::from_str::<Request>(&written).unwrap(), expect);
    }

    #[test]
    fn requests_are_named_by_do() {
        check(r#"{"do":"status"}"#, &Request::Status);
        check(r#"{"do":"reader_list"}"#, &Request::ReaderList);
        check(
            r#"{"do":"ledger_list","limit":20}"#,
            &Request::LedgerList {
                limit: 20,
                before: None,
            },
        );
        check(
            r#"{"do":"enrol","code":"ABCD-EFGH"}"#,
            &Request::Enrol {
                code: "ABCD-EFGH".into(),
            },
        );
        check(
            r#"{"do":"sell","lines":["1x Dagens ret 22,00"],"timeout_s":30}"#,
            &Request::Sell {
                id: None,
                lines: vec!["1x Dagens ret 22,00".into()],
                timeout_s: 30,
            },
        );
        check(
            r#"{"do":"void","id":"01990000-0000-7000-8000-000000000001"}"#,
            &Request::Void {
                id: "01990000-0000-7000-8000-000000000001".parse().unwrap(),
                void: None,
                lines: vec![],
            },
        );
        check(
            r#"{"do":"void","id":"01990000-0000-7000-8000-000000000001",
                "lines":[{"line":1,"quantity":2}]}"#,
            &Request::Void {
                id: "01990000-0000-7000-8000-000000000001".parse().unwrap(),
                void: None,
                lines: vec![VoidLine {
                    line: 1,
                    quantity: 2,
                }],
            },
        );
        check(r#"{"do":"x_report"}"#, &Request::XReport { day: None });
        check(
            r#"{"do":"z_report","day":"2026-11-20"}"#,
            &Request::ZReport {
                id: None,
                day: Some("2026-11-20".parse().unwrap()),
            },
        );
        check(r#"{"do":"chip_look"}"#, &Request::ChipLook { reader: None });
        check(
            r#"{"do":"chip_enrol","reader":"pcsc:A","kind":"ntag424","chip":"04010203040506",
                "keys":{"versions":[]},"random_uid":false}"#,
            &Request::ChipEnrol {
                reader: "pcsc:A".into(),
                kind: ChipKind::Ntag424,
                chip: ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).unwrap(),
                keys: EnrolmentKeys { versions: vec![] },
                random_uid: false,
            },
        );
        check(r#"{"do":"clock"}"#, &Request::Clock);
        check(r#"{"do":"clock_confirm"}"#, &Request::ClockConfirm);
    }

    #[test]
    fn an_unknown_order_is_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"do":"open_drawer"}"#).is_err());
    }

    #[test]
    fn a_sale_is_waited_for_longer_than_the_chip() {
        let sell = Request::Sell {
            id: None,
            lines: vec![],
            timeout_s: 30,
        };
        assert!(sell.patience() > Duration::from_secs(30));
    }
}
