//! `tillctl status`.

use std::process::Command;

use serde_json::{Value, json};
use sync_proto::Epoch;
use till_control::{
    Answer, Condition, LineState, LineStatus, Request, SiblingsStatus, StandingState,
    StandingStatus, StatusAnswer,
};

use crate::daemon::{Daemon, check, only_json, stdout, till};
use crate::reader::reader;

#[test]
fn status_tells_how_the_till_is() {
    check(
        &["status"],
        &Answer::Status(Box::new(status())),
        &Request::Status,
        0,
        "\
Till           kasse-1
Canteen        Demo-kantinen
Version        0.1.0, running since 2026-11-20 11:00:00
Journal        ok
Ledger         812 entries in epoch 0000000000000008
Sent           up to entry 800, 12 waiting
Standing       good
Line           offline, sales go on, since 2026-11-20 11:02:13, data 1 min 30 s old: the hub does not answer (connection refused)
Hub            http://127.0.0.1:8080 (epoch 5, cursor 77)
Database       1.2 MB
Siblings       hears 1 of 2 tills
Reader         Demo reader 00 00 (pcsc): ok
Unknown chips  3 since the start
",
        &status_json(),
    );
}

#[test]
fn a_till_that_cannot_sell_is_a_finding() {
    let mut stopped = status();
    stopped.line.state = LineState::Stopped;
    let mut full = status();
    full.journal = Condition {
        ok: false,
        text: "the disk is full".into(),
    };
    let mut revoked = status();
    revoked.standing = StandingStatus {
        state: StandingState::Revoked,
        text: "an operator has revoked this till".into(),
    };
    for (answer, line) in [
        (revoked, "an operator has revoked this till"),
        (stopped, "stopped: the data is too old to sell"),
        (full, "faulty: the disk is full"),
    ] {
        let daemon = Daemon::answering(Answer::Status(Box::new(answer)));
        let output = daemon.tillctl(&["status"]).output().unwrap();
        assert!(stdout(&output).contains(line), "{output:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn the_socket_may_come_from_the_environment() {
    let daemon = Daemon::answering(Answer::Status(Box::new(status())));
    let output = Command::new(env!("CARGO_BIN_EXE_tillctl"))
        .env("TILLCTL_SOCKET", daemon.socket())
        .args(["status", "--json"])
        .output()
        .unwrap();
    assert_eq!(only_json(&output), status_json());
    assert_eq!(daemon.asked(), Some(Request::Status));
}

fn status() -> StatusAnswer {
    StatusAnswer {
        till: till(),
        canteen: Some("Demo-kantinen".into()),
        version: "0.1.0".into(),
        started_at: "2026-11-20T10:00:00Z".parse().unwrap(),
        epoch: Epoch(8),
        head_seq: 812,
        acked_seq: 800,
        waiting: 12,
        standing: StandingStatus {
            state: StandingState::Good,
            text: String::new(),
        },
        alarms: Vec::new(),
        siblings: Some(SiblingsStatus {
            heard: 1,
            open: 2,
            of: 2,
        }),
        clock: "right".into(),
        holes: 0,
        renewing: false,
        line: LineStatus {
            state: LineState::Offline,
            since: Some("2026-11-20T10:02:13Z".parse().unwrap()),
            restricted_since: None,
            data_age_s: Some(90),
            hub: Some("http://127.0.0.1:8080".into()),
            hub_epoch: 5,
            cursor: 77,
            text: "the hub does not answer (connection refused)".into(),
        },
        journal: Condition {
            ok: true,
            text: String::new(),
        },
        readers: vec![reader(true, "")],
        unknown_chips: 3,
        database_bytes: 1_250_000,
    }
}

fn status_json() -> Value {
    json!({
        "till": "kasse-1", "canteen": "Demo-kantinen", "version": "0.1.0",
        "started_at": "2026-11-20T10:00:00Z", "epoch": "0000000000000008",
        "head_seq": 812, "acked_seq": 800, "waiting": 12,
        "standing": {"state": "good", "text": ""}, "alarms": [],
        "siblings": {"heard": 1, "open": 2, "of": 2}, "clock": "right", "holes": 0, "renewing": false,
        "line": {"state": "offline", "since": "2026-11-20T10:02:13Z", "restricted_since": null, "data_age_s": 90,
                 "hub": "http://127.0.0.1:8080", "hub_epoch": 5, "cursor": 77,
                 "text": "the hub does not answer (connection refused)"},
        "journal": {"ok": true, "text": ""},
        "readers": [{"name": "Demo reader 00 00", "kind": "pcsc", "ok": true, "text": ""}],
        "unknown_chips": 3, "database_bytes": 1_250_000,
    })
}
