//! `tillctl ledger`.

use canteen::Money;
use serde_json::json;
use till_control::{Answer, Currency, FirstBad, LedgerEntry, LedgerPage, Request, VerifyAnswer};

use crate::daemon::{SALE, SALE_TEXT, check};

#[test]
fn the_ledger_is_listed_the_newest_first() {
    let entry = |seq, amount: Option<i64>, text: &str| LedgerEntry {
        seq,
        id: Some(SALE),
        time: Some("2026-11-20T10:41:07.120Z".into()),
        day: Some("2026-11-20".into()),
        kind: if amount.is_some() { "sale" } else { "start" }.into(),
        account: amount.map(|_| 7),
        amount: amount.map(Money::from_ore),
        text: text.into(),
        acked: amount.is_none(),
    };
    let entries = vec![
        entry(12, Some(14_00), "1x Ostehaps\x1b[2J 3,00"),
        entry(11, None, "version 0.1.0"),
    ];
    check(
        &["ledger", "list", "--limit", "2", "--before", "13"],
        &Answer::Ledger(LedgerPage {
            currency: Currency::Dkk,
            entries,
        }),
        &Request::LedgerList {
            limit: 2,
            before: Some(13),
        },
        0,
        "\
SEQ  TIME                 KIND   ACCOUNT     AMOUNT  SENT  ID                                    TEXT
 12  2026-11-20 11:41:07  sale         7  14,00 kr.  no    01990000-0000-7000-8000-000000000001  1x Ostehaps\u{fffd}[2J 3,00
 11  2026-11-20 11:41:07  start        -          -  yes   01990000-0000-7000-8000-000000000001  version 0.1.0
older: tillctl ledger list --before 11
",
        &json!({"currency": "DKK", "entries": [
            {"seq": 12, "id": SALE_TEXT, "time": "2026-11-20T10:41:07.120Z", "day": "2026-11-20",
             "kind": "sale", "account": 7, "amount": 14_00, "text": "1x Ostehaps\x1b[2J 3,00",
             "acked": false},
            {"seq": 11, "id": SALE_TEXT, "time": "2026-11-20T10:41:07.120Z", "day": "2026-11-20",
             "kind": "start", "account": null, "amount": null, "text": "version 0.1.0",
             "acked": true}]}),
    );
}

#[test]
fn a_damaged_ledger_is_a_finding() {
    check(
        &["ledger", "verify"],
        &Answer::Verify(VerifyAnswer {
            entries: 812,
            ok: true,
            first_bad: None,
            findings: vec![],
        }),
        &Request::LedgerVerify,
        0,
        "ok: 812 entries, nothing wrong\n",
        &json!({"entries": 812, "ok": true, "first_bad": null, "findings": []}),
    );
    check(
        &["ledger", "verify"],
        &Answer::Verify(VerifyAnswer {
            entries: 812,
            ok: false,
            first_bad: Some(FirstBad {
                seq: 17,
                what: "its hash is not the one of its bytes".into(),
            }),
            findings: vec!["account 7: the sum is off by 1,00 kr.".into()],
        }),
        &Request::LedgerVerify,
        1,
        "\
damaged: 812 entries
  first at entry 17: its hash is not the one of its bytes
  account 7: the sum is off by 1,00 kr.
",
        &json!({"entries": 812, "ok": false,
            "first_bad": {"seq": 17, "what": "its hash is not the one of its bytes"},
            "findings": ["account 7: the sum is off by 1,00 kr."]}),
    );
}
