//! The real command against a socket that answers as it is told: what is printed, and the exit
//! codes that the help promises.

// Clippy allows it in tests, but does not see that all of this file is one.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use canteen::{Account, AccountId, ChipId, Limits, Money, Spent, Status, TopUpOutcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sync_proto::{Epoch, TillId, Totals, VoidLine};
use tempfile::TempDir;
use till_control::{
    AccountFacts, Answer, ChipAnswer, ChipFacts, ClockAnswer, ClockCondition, Condition, Currency,
    DayReportAnswer, EnrolAnswer, EntryPlace, ErrorAnswer, ErrorCode, FirstBad, LedgerEntry,
    LedgerPage, LineState, LineStatus, Message, ReaderListAnswer, ReaderSight, ReaderState,
    ReaderWatchAnswer, Request, SellAnswer, SellDecision, SellReason, SiblingsStatus, SightKind,
    StandingState, StandingStatus, StatusAnswer, SyncAnswer, VerifyAnswer, VoidAnswer, closed,
    read_request, write_answer,
};
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use uuid::Uuid;

/// One end of a socket that plays the daemon for one connection and returns what it was asked.
struct Daemon {
    room: TempDir,
    thread: JoinHandle<Option<Request>>,
}

impl Daemon {
    fn start<F, Fut>(play: F) -> Daemon
    where
        F: FnOnce(BufReader<OwnedReadHalf>, OwnedWriteHalf) -> Fut + Send + 'static,
        Fut: Future<Output = Option<Request>>,
    {
        let room = tempfile::tempdir().unwrap();
        let path = socket(room.path());
        let (listens, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                listens.send(()).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let (requests, answers) = stream.into_split();
                play(BufReader::new(requests), answers).await
            })
        });
        listening.recv().unwrap();
        Daemon { room, thread }
    }

    fn answering(answer: Answer) -> Daemon {
        Daemon::start(async move |mut requests, mut answers| {
            let asked = read_request(&mut requests).await.unwrap();
            write_answer(&mut answers, &answer).await.unwrap();
            asked
        })
    }

    fn tillctl(&self, args: &[&str]) -> Command {
        tillctl(&socket(self.room.path()), args)
    }

    fn asked(self) -> Option<Request> {
        self.thread.join().unwrap()
    }
}

fn socket(room: &Path) -> PathBuf {
    room.join("tilld.sock")
}

fn tillctl(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillctl"));
    command
        .env_remove("TILLCTL_SOCKET")
        .arg("--socket")
        .arg(socket)
        .args(args)
        .stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Exactly one JSON object on exactly one line, and nothing on standard error.
#[track_caller]
fn only_json(output: &Output) -> Value {
    assert_eq!(stderr(output), "");
    let line = stdout(output).strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    let value: Value = serde_json::from_str(line).unwrap();
    assert!(value.is_object(), "{line}");
    value
}

/// Runs a command twice, for people and for programs, against a daemon with one answer.
#[track_caller]
fn check(args: &[&str], answer: &Answer, asked: &Request, exit: i32, text: &str, json: &Value) {
    let daemon = Daemon::answering(answer.clone());
    let output = daemon.tillctl(args).output().unwrap();
    assert_eq!(daemon.asked().as_ref(), Some(asked));
    assert_eq!(stdout(&output), text);
    assert_eq!(output.status.code(), Some(exit), "{output:?}");

    let daemon = Daemon::answering(answer.clone());
    let output = daemon.tillctl(args).arg("--json").output().unwrap();
    assert_eq!(daemon.asked().as_ref(), Some(asked));
    assert_eq!(&only_json(&output), json);
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
}

fn place(seq: u64) -> EntryPlace {
    EntryPlace {
        till: till(),
        epoch: Epoch(8),
        seq,
        id: SALE,
    }
}

fn till() -> TillId {
    "kasse-1".parse().unwrap()
}

const SALE: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
const SALE_TEXT: &str = "01990000-0000-7000-8000-000000000001";

fn reader(ok: bool, text: &str) -> ReaderState {
    ReaderState {
        name: "Demo reader 00 00".into(),
        kind: "pcsc".into(),
        ok,
        text: text.into(),
    }
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
fn a_faulty_reader_is_a_finding_with_its_cause() {
    let list = |readers| Answer::ReaderList(ReaderListAnswer { readers });
    check(
        &["reader", "list"],
        &list(vec![reader(true, "ACR1252")]),
        &Request::ReaderList,
        0,
        "NAME               KIND  STATE\nDemo reader 00 00  pcsc  ok: ACR1252\n",
        &json!({"readers": [
            {"name": "Demo reader 00 00", "kind": "pcsc", "ok": true, "text": "ACR1252"}]}),
    );
    check(
        &["reader", "list"],
        &list(vec![
            reader(true, ""),
            reader(false, "unplugged: plug it in"),
        ]),
        &Request::ReaderList,
        1,
        "\
NAME               KIND  STATE
Demo reader 00 00  pcsc  ok
Demo reader 00 00  pcsc  faulty: unplugged: plug it in
",
        &json!({"readers": [
            {"name": "Demo reader 00 00", "kind": "pcsc", "ok": true, "text": ""},
            {"name": "Demo reader 00 00", "kind": "pcsc", "ok": false,
             "text": "unplugged: plug it in"}]}),
    );
    check(
        &["reader", "list"],
        &list(vec![]),
        &Request::ReaderList,
        1,
        "no reader: plug one in, or see [readers] in till.toml\n",
        &json!({"readers": []}),
    );
}

fn chip_facts() -> ChipFacts {
    let on = "2026-11-20".parse().unwrap();
    let kroner = Money::from_kroner;
    let account = Account {
        id: AccountId(7),
        status: Status::Blocked,
        balance: Money::from_ore(149_50),
        credit: Money::ZERO,
        limits: Limits {
            day: Some(kroner(40)),
            ..Limits::default()
        },
        spent: Spent::new(on, kroner(14), kroner(14), kroner(30)),
        strict: None,
        allowance: None,
        top_up: None,
    };
    ChipFacts {
        uid: ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap(),
        decimal: Some(1_925_159_265),
        card: None,
        number: 9,
        status: Status::Active,
        must_prove: false,
        account: AccountFacts::of(&account, on),
        holder: Some("Demo Elev".into()),
    }
}

/// A daemon whose reader tells these things, one at a time, once it is asked for what is new.
fn telling(sights: Vec<ReaderSight>) -> Daemon {
    Daemon::start(async move |mut requests, mut answers| {
        let (mut next, mut left) = (7, sights.into_iter());
        loop {
            let asked = read_request(&mut requests).await.ok()??;
            let Request::ReaderWatch { after, wait_s } = asked else {
                return Some(asked);
            };
            let mut seen = Vec::new();
            match after {
                None => {}
                Some(after) => {
                    assert_eq!(after, next);
                    match left.next() {
                        Some(sight) => seen.push(sight),
                        None => tokio::time::sleep(Duration::from_secs(wait_s.into())).await,
                    }
                    next += seen.len() as u64;
                }
            }
            let answer = Answer::ReaderWatch(ReaderWatchAnswer { next, seen });
            write_answer(&mut answers, &answer).await.ok()?;
        }
    })
}

fn sight(at_ms: u64, what: SightKind) -> ReaderSight {
    ReaderSight {
        reader: "pcsc:ACS ACR1252".into(),
        at_ms,
        took_us: 1460,
        what,
    }
}

fn tap(at_ms: u64) -> ReaderSight {
    let uid = ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).ok();
    let shown = "bare".to_owned();
    sight(at_ms, SightKind::Chip { uid, shown })
}

#[test]
fn a_tap_is_shown_in_every_shape_and_what_is_odd_is_flagged() {
    let sights = || {
        let text = "the chip cannot be used: the UID is random".to_owned();
        let random = true;
        vec![
            tap(100),
            sight(300, SightKind::Left),
            tap(500),
            sight(900, SightKind::Unreadable { random, text }),
        ]
    };
    let daemon = telling(sights());
    let output = daemon
        .tillctl(&["reader", "test", "--seconds", "1"])
        .output()
        .unwrap();
    let text = stdout(&output);
    for part in [
        "72BF9961 (ISO/IEC 14443 A, bare), 1.46 ms",
        "6199BF72",
        "1925159265",
        "1637465970",
        "flicker",
        "the UID is random",
        "2 taps in 1 s",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(output.status.code(), Some(1));
    let daemon = telling(sights());
    let output = daemon
        .tillctl(&["--json", "reader", "test", "--seconds", "1"])
        .output()
        .unwrap();
    let json = only_json(&output);
    assert_eq!(json["taps"][1]["flags"], json!(["flicker"]));
    assert_eq!(json["taps"][0]["decimal_reversed"], "1637465970");
    assert_eq!(json["notes"][0]["random"], true);
}

#[test]
fn the_byte_order_of_a_list_is_found_with_one_known_chip() {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "1637465970;Ane\n2701822245;Bo\n").unwrap();
    let daemon = telling(vec![sight(1, SightKind::Left), tap(100)]);
    let path = list.path().to_str().unwrap();
    let output = daemon
        .tillctl(&["reader", "byte-order", "1637465970", "--list", path])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "72BF9961;Ane\n25890AA1;Bo\n");
    assert_eq!(output.status.code(), Some(0));
    let daemon = telling(vec![]);
    let output = daemon
        .tillctl(&["--json", "reader", "byte-order", "1", "--seconds", "1"])
        .output()
        .unwrap();
    assert_eq!(only_json(&output)["error"]["code"], "no_tap");
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn a_chip_is_shown_with_its_account() {
    let request = Request::ChipShow {
        number: "1925159265".into(),
    };
    check(
        &["chip", "show", "1925159265"],
        &Answer::Chip(Box::new(ChipAnswer {
            asked: "72BF9961".into(),
            chip: Some(chip_facts()),
        })),
        &request,
        0,
        "\
Chip     72BF9961, decimal 1925159265
Status   active
Holder   Demo Elev
Account  7, blocked
Balance  149,50 kr.
Day      14,00 kr. of 40,00 kr. spent
Week     14,00 kr. spent, no limit
Month    30,00 kr. spent, no limit
Top-up   no agreement
",
        &json!({"asked": "72BF9961", "chip": {
            "uid": "72BF9961", "decimal": 1_925_159_265, "card": null, "number": 9,
            "status": "active", "must_prove": false, "holder": "Demo Elev",
            "account": {"id": 7, "status": "blocked", "currency": "DKK", "balance": 149_50,
                "credit": 0, "allowance": null, "share": null, "top_up": null,
                "limits": {"day": 40_00, "week": null, "month": null},
                "spent": {"on": "2026-11-20", "day": 14_00, "week": 14_00, "month": 30_00}}}}),
    );
    check(
        &["chip", "show", "1925159265"],
        &Answer::Chip(Box::new(ChipAnswer {
            asked: "72BF9961".into(),
            chip: None,
        })),
        &request,
        1,
        "unknown to this till: 72BF9961\n",
        &json!({"asked": "72BF9961", "chip": null}),
    );
}

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

fn approved() -> SellAnswer {
    SellAnswer {
        decision: SellDecision::Approved,
        reason: None,
        id: SALE,
        currency: Currency::Dkk,
        total: Money::from_ore(34_00),
        account: Some(AccountId(7)),
        holder: Some("Elev Demo".into()),
        balance_after: Some(Money::from_ore(46_00)),
        limit: None,
        left: None,
        entry: Some(place(813)),
        top_up: TopUpOutcome::Requested,
        replayed: false,
        message: Message::new("Godkendt", "Approved"),
    }
}

fn declined() -> SellAnswer {
    SellAnswer {
        decision: SellDecision::Declined,
        reason: Some(SellReason::LimitDay),
        holder: None,
        balance_after: Some(Money::from_ore(80_00)),
        limit: Some(Money::from_ore(40_00)),
        left: Some(Money::from_ore(26_00)),
        top_up: TopUpOutcome::None,
        replayed: true,
        message: Message::new("Dagens grænse er nået", "The daily limit is reached"),
        ..approved()
    }
}

const SELL: [&str; 9] = [
    "sell",
    "--line",
    "1x Dagens ret 22,00",
    "--line",
    "2x Yoghurt 6,00",
    "--timeout",
    "5",
    "--id",
    SALE_TEXT,
];

fn sell_request() -> Request {
    Request::Sell {
        id: Some(SALE),
        lines: vec!["1x Dagens ret 22,00".into(), "2x Yoghurt 6,00".into()],
        timeout_s: 5,
    }
}

#[test]
fn an_approved_sale_ends_well() {
    check(
        &SELL,
        &Answer::Sell(Box::new(approved())),
        &sell_request(),
        0,
        "\
Sale     approved
Total    34,00 kr.
Account  7, Elev Demo
Balance  46,00 kr.
Top-up   asked for
Screen   Approved
Entry    813 of kasse-1
Id       01990000-0000-7000-8000-000000000001
",
        &json!({"decision": "approved", "reason": null, "id": SALE_TEXT, "currency": "DKK",
            "total": 34_00, "account": 7, "holder": "Elev Demo", "balance_after": 46_00, "limit": null, "left": null,
            "entry": {"till": "kasse-1", "epoch": "0000000000000008", "seq": 813,
                      "id": SALE_TEXT},
            "top_up": "requested", "replayed": false,
            "message": {"da": "Godkendt", "en": "Approved"}}),
    );
}

#[test]
fn a_declined_sale_names_the_limit_and_what_is_left() {
    check(
        &SELL,
        &Answer::Sell(Box::new(declined())),
        &sell_request(),
        1,
        "\
Sale     declined, limit_day (recorded before; nothing was sold now)
Total    34,00 kr.
Account  7
Balance  80,00 kr.
Limit    40,00 kr.
Left     26,00 kr.
Screen   The daily limit is reached
Entry    813 of kasse-1
Id       01990000-0000-7000-8000-000000000001
",
        &json!({"decision": "declined", "reason": "limit_day", "id": SALE_TEXT,
            "currency": "DKK", "total": 34_00, "account": 7, "holder": null, "balance_after": 80_00, "limit": 40_00,
            "left": 26_00,
            "entry": {"till": "kasse-1", "epoch": "0000000000000008", "seq": 813,
                      "id": SALE_TEXT},
            "top_up": "none", "replayed": true,
            "message": {"da": "Dagens grænse er nået", "en": "The daily limit is reached"}}),
    );
}

#[test]
fn every_sale_gets_an_id_of_its_own_before_it_is_sent() {
    let id = || {
        let daemon = Daemon::answering(Answer::Sell(Box::new(approved())));
        let output = daemon.tillctl(&SELL[..3]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let Some(Request::Sell { id: Some(id), .. }) = daemon.asked() else {
            panic!("no id was sent");
        };
        assert_eq!(id.get_version_num(), 7);
        id
    };
    assert_ne!(id(), id());
}

#[test]
fn a_line_that_cannot_be_sold_never_reaches_the_daemon() {
    let nowhere = Path::new("/nonexistent/tilld.sock");
    let refused = |lines: &[&str], expect: &str| {
        let mut args = vec!["sell", "--json"];
        for line in lines {
            args.extend(["--line", line]);
        }
        let output = tillctl(nowhere, &args).output().unwrap();
        let error = only_json(&output)["error"].clone();
        assert_eq!(error["code"], "bad_line");
        assert_eq!(error["message"], expect);
        assert_eq!(output.status.code(), Some(2));
    };
    refused(
        &["Dagens ret"],
        "cannot read --line \"Dagens ret\": write a line as quantity, text and price of one \
         piece, for example 1x Dagens ret 22,00",
    );
    refused(
        &["0x Dagens ret 22,00"],
        "cannot read --line \"0x Dagens ret 22,00\": a line has 1 to 99 pieces",
    );
    refused(
        &["-1x Dagens ret 22,00"],
        "cannot read --line \"-1x Dagens ret 22,00\": write a line as quantity, text and price \
         of one piece, for example 1x Dagens ret 22,00",
    );
    refused(
        &["1x Yoghurt 6,00", "1x Dagens ret 22,005"],
        "cannot read --line \"1x Dagens ret 22,005\": an amount has at most two digits after \
         the comma",
    );
    refused(
        &["1x Dagens ret 0,00"],
        "cannot read --line \"1x Dagens ret 0,00\": a purchase costs more than zero, not 0,00 kr.",
    );
    refused(
        &["1x Dagens ret -5,00"],
        "cannot read --line \"1x Dagens ret -5,00\": a purchase costs more than zero, \
         not -5,00 kr.",
    );
    refused(
        &["99x Dagens ret 2.000,00"],
        "cannot sell these lines together: a purchase costs at most 100.000,00 kr., \
         not 198.000,00 kr.",
    );
}

fn wait_for_sale(play: impl FnOnce(&Child)) -> (Output, Option<Request>) {
    let (tells, told) = std::sync::mpsc::channel();
    let daemon = Daemon::start(async move |mut requests, mut answers| {
        let asked = read_request(&mut requests).await.unwrap();
        tells.send(()).unwrap();
        closed(&mut requests).await;
        let answer = SellAnswer::without_chip(
            SALE,
            Money::from_ore(34_00),
            SellReason::Cancelled,
            Message::new("Salget er annulleret", "The sale is cancelled"),
        );
        // A command that was killed does not read it.
        let _ = write_answer(&mut answers, &Answer::Sell(Box::new(answer))).await;
        asked
    });
    let child = daemon
        .tillctl(&SELL)
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    told.recv().unwrap();
    play(&child);
    let output = child.wait_with_output().unwrap();
    (output, daemon.asked())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn an_interrupted_sale_is_cancelled_and_says_so() {
    for sent in [Signal::SIGINT, Signal::SIGTERM] {
        let (output, asked) = wait_for_sale(|child| signal(child, sent));
        assert_eq!(asked, Some(sell_request()));
        let answer = only_json(&output);
        assert_eq!(answer["decision"], "declined");
        assert_eq!(answer["reason"], "cancelled");
        assert_eq!(answer["total"], 34_00);
        assert_eq!(answer["entry"], Value::Null);
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_killed_command_cancels_its_sale_too() {
    // Joining the daemon proves that it saw the connection close.
    let (output, asked) = wait_for_sale(|child| signal(child, Signal::SIGKILL));
    assert_eq!(asked, Some(sell_request()));
    assert_eq!(output.status.code(), None);
}

#[test]
fn a_sale_whose_answer_is_lost_can_be_asked_for_again() {
    let daemon = Daemon::start(async |mut requests, _| read_request(&mut requests).await.unwrap());
    let output = daemon.tillctl(&SELL).output().unwrap();
    daemon.asked();
    assert_eq!(stdout(&output), "");
    assert_eq!(
        stderr(&output),
        format!(
            "\
Hold the chip to the reader (5 s; Ctrl-C cancels).
error: it is not known whether sale {SALE_TEXT} was booked: tilld closed the connection without an answer: see its log (journalctl -u tilld)
  repeat the same command with --id {SALE_TEXT}: it never sells twice and tells what became of the sale
"
        )
    );
    assert_eq!(output.status.code(), Some(69));
}

const VOID_TEXT: &str = "01990000-0000-7000-8000-000000000002";

#[test]
fn a_sale_is_taken_back_whole_or_by_the_piece() {
    let void = |lines: &[(u32, u32)]| Request::Void {
        id: SALE,
        void: Some(VOID_TEXT.parse().unwrap()),
        lines: lines
            .iter()
            .map(|&(line, quantity)| VoidLine { line, quantity })
            .collect(),
    };
    for (lines, asked) in [
        (&[][..], void(&[])),
        (&["--line", "2"], void(&[(1, 1)])),
        (&["--line", "2x3", "--line", "1"], void(&[(1, 3), (0, 1)])),
    ] {
        let mut args = vec!["void", SALE_TEXT, "--id", VOID_TEXT];
        args.extend(lines);
        check_void(&args, &asked);
    }
    // Without an id it draws one, so that the void can be asked for again.
    let daemon = Daemon::start(async |mut requests, _| read_request(&mut requests).await.unwrap());
    let output = daemon.tillctl(&["void", SALE_TEXT]).output().unwrap();
    let Some(Request::Void { void: Some(id), .. }) = daemon.asked() else {
        panic!("no id was drawn");
    };
    assert!(stderr(&output).contains(&format!("--id {id}: it never takes")));
    assert_eq!(output.status.code(), Some(69));
}

#[track_caller]
fn check_void(args: &[&str], asked: &Request) {
    check(
        args,
        &Answer::Void(Box::new(VoidAnswer {
            sale: SALE,
            account: AccountId(7),
            currency: Currency::Dkk,
            amount: Money::from_ore(34_00),
            balance_after: Money::from_ore(80_00),
            entry: place(814),
            replayed: false,
            message: Message::new("Salget er taget tilbage", "The sale was taken back"),
        })),
        asked,
        0,
        "\
Sale     taken back
Account  7
Amount   34,00 kr.
Balance  80,00 kr.
Screen   The sale was taken back
Entry    814 of kasse-1
Id       01990000-0000-7000-8000-000000000001
",
        &json!({"sale": SALE_TEXT, "account": 7, "currency": "DKK", "amount": 34_00,
            "balance_after": 80_00,
            "entry": {"till": "kasse-1", "epoch": "0000000000000008", "seq": 814,
                      "id": SALE_TEXT},
            "replayed": false,
            "message": {"da": "Salget er taget tilbage", "en": "The sale was taken back"}}),
    );
}

fn day_report(number: Option<u64>) -> DayReportAnswer {
    DayReportAnswer {
        till: till(),
        canteen: Some("Demo-kantinen".into()),
        number,
        day: "2026-11-20".parse().unwrap(),
        made_at: Some("2026-11-20T12:30:00Z".parse().unwrap()),
        through_seq: 814,
        currency: Currency::Dkk,
        sales: Totals {
            count: 12,
            amount: Money::from_ore(1_264_00),
        },
        voids: Totals {
            count: 1,
            amount: Money::from_ore(22_00),
        },
        net: Money::from_ore(1_242_00),
        declines: 3,
        entry: number.map(|_| place(815)),
        replayed: false,
    }
}

fn day_report_json() -> Value {
    json!({"till": "kasse-1", "canteen": "Demo-kantinen", "number": null, "day": "2026-11-20",
        "made_at": "2026-11-20T12:30:00Z", "through_seq": 814, "currency": "DKK",
        "sales": {"count": 12, "amount": 1_264_00}, "voids": {"count": 1, "amount": 22_00},
        "net": 1_242_00, "declines": 3, "entry": null, "replayed": false})
}

#[test]
fn an_x_report_shows_the_totals_in_danish_and_in_english() {
    check(
        &["x"],
        &Answer::DayReport(Box::new(day_report(None))),
        &Request::XReport { day: None },
        0,
        "\
X-rapport (gemmes ikke)
Demo-kantinen, kasse-1
Dato                              2026-11-20
Udskrevet                2026-11-20 13:30:00
Salg                 12         1.264,00 kr.
Fortrudt              1            22,00 kr.
I alt                           1.242,00 kr.
Afvist                3
Til og med post                          814

X report (not recorded)
Demo-kantinen, kasse-1
Date                              2026-11-20
Printed                  2026-11-20 13:30:00
Sales                12         1.264,00 kr.
Taken back            1            22,00 kr.
Total                           1.242,00 kr.
Declined              3
Through entry                            814
",
        &day_report_json(),
    );
}

#[test]
fn a_z_report_has_a_number_and_an_entry() {
    let mut json = day_report_json();
    json["number"] = json!(7);
    json["entry"] = json!({"till": "kasse-1", "epoch": "0000000000000008", "seq": 815,
        "id": SALE_TEXT});
    let request = Request::ZReport {
        id: Some(SALE),
        day: Some("2026-11-20".parse().unwrap()),
    };
    let answer = Answer::DayReport(Box::new(day_report(Some(7))));
    let args = ["z", "--day", "2026-11-20", "--id", SALE_TEXT];
    let daemon = Daemon::answering(answer.clone());
    let output = daemon.tillctl(&args).output().unwrap();
    assert_eq!(daemon.asked(), Some(request.clone()));
    assert!(stdout(&output).starts_with("Z-rapport nr. 7\nDemo-kantinen, kasse-1\n"));
    assert!(stdout(&output).contains("\nZ report no. 7\n"));

    let daemon = Daemon::answering(answer);
    let output = daemon.tillctl(&args).arg("--json").output().unwrap();
    assert_eq!(daemon.asked(), Some(request));
    assert_eq!(only_json(&output), json);

    let daemon = Daemon::start(async |mut requests, _| read_request(&mut requests).await.unwrap());
    let output = daemon.tillctl(&["z"]).output().unwrap();
    let Some(Request::ZReport { id: Some(id), .. }) = daemon.asked() else {
        panic!("no id was drawn");
    };
    assert!(stderr(&output).contains(&format!("--id {id}: it never writes twice")));
    assert_eq!(output.status.code(), Some(69));
}

fn clock(state: ClockCondition, entry: Option<EntryPlace>) -> Answer {
    Answer::Clock(Box::new(ClockAnswer {
        state,
        shows: "2026-11-20T10:00:00Z".parse().unwrap(),
        believed: "2026-11-21T10:00:00Z".parse().unwrap(),
        hub: None,
        day: "2026-11-21".parse().unwrap(),
        entry,
    }))
}

#[test]
fn a_clock_that_is_not_believed_is_a_finding_until_it_is_confirmed() {
    check(
        &["clock"],
        &clock(ClockCondition::Back, None),
        &Request::Clock,
        1,
        "\
Clock     shows a time that has been: set it, then tillctl clock confirm
Shows     2026-11-20 11:00:00
Believed  2026-11-21 11:00:00
Hub       not known
Day       2026-11-21
",
        &json!({"state": "back", "shows": "2026-11-20T10:00:00Z",
            "believed": "2026-11-21T10:00:00Z", "hub": null, "day": "2026-11-21", "entry": null}),
    );
    check(
        &["clock", "confirm"],
        &clock(ClockCondition::Right, Some(place(816))),
        &Request::ClockConfirm,
        0,
        "\
Clock      right
Shows      2026-11-20 11:00:00
Believed   2026-11-21 11:00:00
Hub        not known
Day        2026-11-21
Confirmed  entry 816 of kasse-1
",
        &json!({"state": "right", "shows": "2026-11-20T10:00:00Z",
            "believed": "2026-11-21T10:00:00Z", "hub": null, "day": "2026-11-21",
            "entry": {"till": "kasse-1", "epoch": "0000000000000008", "seq": 816,
                      "id": SALE_TEXT}}),
    );
}

#[test]
fn refusals_end_with_the_code_that_the_help_promises() {
    for (code, exit) in [
        (ErrorCode::BadRequest, 2),
        (ErrorCode::BadLine, 2),
        (ErrorCode::BadChipNumber, 2),
        (ErrorCode::UnknownSale, 1),
        (ErrorCode::VoidRefused, 1),
        (ErrorCode::ClockDiffers, 1),
        (ErrorCode::DayToCome, 2),
        (ErrorCode::NoReader, 69),
        (ErrorCode::Busy, 75),
        (ErrorCode::Forbidden, 77),
        (ErrorCode::JournalUnavailable, 70),
        (ErrorCode::Internal, 70),
    ] {
        let answer = Answer::Error(ErrorAnswer::new(code, "it did not work", "try a hammer"));
        let daemon = Daemon::answering(answer.clone());
        let output = daemon.tillctl(&["void", SALE_TEXT]).output().unwrap();
        assert_eq!(
            stderr(&output),
            "error: it did not work\n  try a hammer\n",
            "{code:?}"
        );
        assert_eq!(stdout(&output), "");
        assert_eq!(output.status.code(), Some(exit), "{code:?}");

        let daemon = Daemon::answering(answer);
        let output = daemon
            .tillctl(&["void", SALE_TEXT, "--json"])
            .output()
            .unwrap();
        let expect = json!({"error": {"code": code.code(), "message": "it did not work",
            "advice": "try a hammer"}});
        assert_eq!(only_json(&output), expect);
        assert_eq!(output.status.code(), Some(exit), "{code:?}");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_said_plainly() {
    let room = tempfile::tempdir().unwrap();
    let path = socket(room.path());
    let output = tillctl(&path, &["status"]).output().unwrap();
    let expect = format!(
        "error: tilld is not running, or --socket is wrong: there is no {}\n",
        path.display()
    );
    assert_eq!(stderr(&output), expect);
    assert_eq!(output.status.code(), Some(69));

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let output = tillctl(&path, &["status", "--json"]).output().unwrap();
    let error = only_json(&output)["error"].clone();
    assert_eq!(error["code"], "unavailable");
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn the_socket_may_come_from_the_environment() {
    let daemon = Daemon::answering(Answer::Status(Box::new(status())));
    let output = Command::new(env!("CARGO_BIN_EXE_tillctl"))
        .env("TILLCTL_SOCKET", socket(daemon.room.path()))
        .args(["status", "--json"])
        .output()
        .unwrap();
    assert_eq!(only_json(&output), status_json());
    assert_eq!(daemon.asked(), Some(Request::Status));
}

#[test]
fn what_cannot_be_understood_is_a_usage_error() {
    let nowhere = Path::new("/nonexistent/tilld.sock");
    for args in [
        &["chip", "show", "hello"][..],
        &["chip", "show", "123"],
        &["void", "not-a-uuid"],
        &["void", SALE_TEXT, "--line", "0"],
        &["void", SALE_TEXT, "--line", "2x0"],
        &["void", SALE_TEXT, "--line", "2y1"],
        &["z", "--day", "20-11-2026"],
        &["x", "--day", "2026-11-31"],
        &["clock", "set"],
        &["sell"],
        &["sell", "--line", "1x Dagens ret 22,00", "--timeout", "0"],
        &["sell", "--line", "1x Dagens ret 22,00", "--id", "7"],
        &["ledger", "list", "--limit", "0"],
        &["ledger", "list", "--limit", "501"],
        &["ledger", "burn"],
        &["open-drawer"],
    ] {
        let output = tillctl(nowhere, args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).starts_with("error: "), "{output:?}");
        assert_eq!(stdout(&output), "");

        let output = tillctl(nowhere, args).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = only_json(&output)["error"].clone();
        let code = error["code"].as_str().unwrap();
        assert!(["usage", "bad_chip_number"].contains(&code), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
    }
}

#[test]
fn a_daemon_of_another_kind_is_not_believed() {
    let sync = SyncAnswer {
        online: true,
        sent: 0,
        waiting: 0,
        applied: 0,
        text: String::new(),
    };
    let daemon = Daemon::answering(Answer::Sync(sync));
    let output = daemon.tillctl(&["status"]).output().unwrap();
    assert_eq!(
        stderr(&output),
        "error: tilld answered something else than was asked\n  tillctl and tilld should be of \
         the same version\n"
    );
    assert_eq!(output.status.code(), Some(70));
}

#[test]
fn help_is_an_answer_and_tells_the_exit_codes() {
    let output = tillctl(Path::new("/nonexistent"), &["--help"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    for code in [
        "   0  ", "   1  ", "   2  ", "  69  ", "  70  ", "  75  ", "  77  ",
    ] {
        assert!(stdout(&output).contains(code), "{code:?}");
    }
}
