//! Pages of the ledger and what a check of it found.

use canteen::{BusinessDay, Money};
use serde::{Deserialize, Serialize};
use sync_proto::{EntryBody, EntryError, EntryHeader, NumberedEntry, wire};
use uuid::Uuid;

use crate::sale::Currency;

/// Entries of the ledger, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPage {
    /// The currency of all amounts.
    pub currency: Currency,
    /// The entries.
    pub entries: Vec<LedgerEntry>,
}

/// An entry as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its sequence number in the epoch.
    pub seq: u64,
    /// Its id; a sale is voided by it. `null` when the entry cannot be read at all.
    pub id: Option<Uuid>,
    /// The till's clock when it was written (RFC 3339, UTC).
    pub time: Option<String>,
    /// The business day that it counts on (`2026-11-20`).
    pub day: Option<String>,
    /// `sale`, `decline`, `void`, `start`, a newer kind, or `unreadable`.
    pub kind: String,
    /// The account's number, when it is about one.
    pub account: Option<i64>,
    /// What it is about, in øre and never negative: what a sale cost, a decline would have cost,
    /// a void gave back.
    #[serde(with = "wire::optional_money", default)]
    pub amount: Option<Money>,
    /// What was bought, why it was declined, and the like.
    pub text: String,
    /// Whether the hub has it.
    pub acked: bool,
}

impl LedgerEntry {
    /// Reads an entry; one that this program cannot read is listed all the same and says so.
    pub fn read(entry: &NumberedEntry, acked_seq: u64) -> LedgerEntry {
        let read = entry
            .texts
            .read_header()
            .map(|header| (entry.texts.read().map(|(_, body)| body), header));
        let acked = entry.seq <= acked_seq;
        match read {
            Ok((body, header)) => LedgerEntry {
                seq: entry.seq,
                acked,
                ..LedgerEntry::readable(header, body)
            },
            Err(error) => LedgerEntry {
                seq: entry.seq,
                id: None,
                time: None,
                day: None,
                kind: "unreadable".into(),
                account: None,
                amount: None,
                text: error.to_string(),
                acked,
            },
        }
    }

    fn readable(header: EntryHeader, body: Result<EntryBody, EntryError>) -> LedgerEntry {
        let (account, amount, text) = match body {
            Ok(EntryBody::Sale(sale)) => (
                Some(sale.account),
                Some(sale.amount),
                sale.lines
                    .iter()
                    .map(|line| format!("{}x {} {}", line.quantity, line.text, line.amount.bare()))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            Ok(EntryBody::Decline(decline)) => {
                (Some(decline.account), Some(decline.amount), decline.reason)
            }
            Ok(EntryBody::Void(void)) => (
                Some(void.account),
                Some(void.amount),
                format!("takes back entry {}", void.of_seq),
            ),
            Ok(EntryBody::FeedAck(_)) => {
                let position = format!("applied the hub's changes up to {}", header.fc.cursor);
                (None, None, position)
            }
            Ok(EntryBody::StateReport(report)) => {
                let text = format!(
                    "ceilings of {} accounts for a hub that began anew (part {} of {})",
                    report.accounts.len(),
                    report.part,
                    report.parts
                );
                (None, None, text)
            }
            Ok(EntryBody::ZReport(report)) => {
                let text = format!(
                    "Z report {} of {}: {} sales, {} voids",
                    report.number, report.day, report.sales.count, report.voids.count
                );
                (None, Some(report.sales.amount), text)
            }
            Ok(EntryBody::ClockEvent(event)) => {
                let text = format!("clock shows {} instead of {}", event.found, event.expected);
                (None, None, text)
            }
            Ok(EntryBody::Start(start)) => (None, None, format!("version {}", start.version)),
            Err(error) => (None, None, error.to_string()),
        };
        LedgerEntry {
            seq: 0,
            id: Some(header.id),
            time: Some(header.ts),
            day: Some(BusinessDay::to_string(&header.day)),
            kind: header.kind,
            account: account.map(|account| account.0),
            amount,
            text,
            acked: false,
        }
    }
}

/// What a check of the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// How many entries were checked.
    pub entries: u64,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The first entry at which the chain does not hold.
    pub first_bad: Option<FirstBad>,
    /// Everything else that is wrong, in words.
    pub findings: Vec<String>,
}

/// The first entry at which the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBad {
    /// Its sequence number.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use sync_proto::EntryTexts;

    use super::*;

    #[track_caller]
    fn check(header: &str, body: &str, expect: (&str, Option<i64>, Option<i64>, &str)) {
        let entry = NumberedEntry {
            seq: 5,
            texts: EntryTexts {
                header: header.into(),
                body: body.into(),
            },
        };
        let listed = LedgerEntry::read(&entry, 4);
        let seen = (
            listed.kind.as_str(),
            listed.account,
            listed.amount.map(Money::ore),
            listed.text.as_str(),
        );
        assert_eq!(seen, expect);
        assert_eq!((listed.seq, listed.acked), (5, false));
        assert!(LedgerEntry::read(&entry, 5).acked);
    }

    fn header(kind: &str) -> String {
        format!(
            r#"{{"id":"01990000-0000-7000-8000-000000000001","ts":"2026-11-20T10:41:07.120Z","bt":1,"boot":"01990000-0000-7000-8000-000000000002","day":"2026-11-20","fc":{{"hub_epoch":1,"cursor":2}},"type":"{kind}","v":1}}"#
        )
    }

    #[test]
    fn entries_are_listed_in_the_words_of_a_statement() {
        check(
            &header("sale"),
            r#"{"account":7,"chip":9,"amount":1400,"lines":[{"quantity":1,"text":"Ostehaps","unit_price":300,"amount":300},{"quantity":1,"text":"Yoghurt","unit_price":600,"amount":600},{"quantity":1,"text":"Stor grovbolle","unit_price":500,"amount":500}],"balance_after":13550,"online":true,"top_up":"none"}"#,
            (
                "sale",
                Some(7),
                Some(14_00),
                "1x Ostehaps 3,00, 1x Yoghurt 6,00, 1x Stor grovbolle 5,00",
            ),
        );
        check(
            &header("decline"),
            r#"{"account":7,"chip":9,"amount":2200,"reason":"insufficient_funds","balance":1000,"online":true,"top_up":"requested"}"#,
            ("decline", Some(7), Some(22_00), "insufficient_funds"),
        );
        check(
            &header("void"),
            r#"{"of":"01990000-0000-7000-8000-000000000001","of_seq":3,"account":7,"amount":1400,"balance_after":14950}"#,
            ("void", Some(7), Some(14_00), "takes back entry 3"),
        );
        check(
            &header("start"),
            r#"{"version":"0.1.0"}"#,
            ("start", None, None, "version 0.1.0"),
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_listed_and_says_so() {
        check(
            &header("hologram"),
            "{}",
            (
                "hologram",
                None,
                None,
                "entries of kind \"hologram\" version 1 are not known here",
            ),
        );
        check(
            "not json",
            "{}",
            (
                "unreadable",
                None,
                None,
                "the entry's header cannot be read",
            ),
        );
    }
}
