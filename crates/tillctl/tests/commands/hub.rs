//! What the command asks of the till about its hub: `tillctl enrol` and `tillctl sync`.

use serde_json::json;
use till_control::{Answer, EnrolAnswer, Request, SyncAnswer};

use crate::daemon::check;

#[test]
fn enrol_says_what_happens_now() {
    check(
        &["enrol", "--code", "ABCD-EFGH"],
        &Answer::Enrol(EnrolAnswer {
            begins_anew: true,
            waiting: 7,
            text: "an empty ledger begins later".into(),
        }),
        &Request::Enrol {
            code: "ABCD-EFGH".into(),
        },
        0,
        "Waiting  7 entries\nNext     an empty ledger begins later\n",
        &json!({"begins_anew": true, "waiting": 7, "text": "an empty ledger begins later"}),
    );
}

#[test]
fn a_hub_that_lacks_entries_is_a_finding() {
    let synced = |online, waiting, text: &str| {
        Answer::Sync(SyncAnswer {
            online,
            sent: 3,
            waiting,
            applied: 1,
            text: text.into(),
        })
    };
    check(
        &["sync", "now"],
        &synced(true, 0, ""),
        &Request::SyncNow,
        0,
        "Hub      answered\nSent     3 entries\nWaiting  0 entries\nFetched  1 changes\n",
        &json!({"online": true, "sent": 3, "waiting": 0, "applied": 1, "text": ""}),
    );
    check(
        &["sync", "now"],
        &synced(false, 9, "no route"),
        &Request::SyncNow,
        1,
        "\
Hub      did not answer
Sent     3 entries
Waiting  9 entries
Fetched  1 changes
Note     no route
",
        &json!({"online": false, "sent": 3, "waiting": 9, "applied": 1, "text": "no route"}),
    );
}
