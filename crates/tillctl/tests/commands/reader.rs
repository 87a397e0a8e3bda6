//! `tillctl reader`.

use std::time::Duration;

use canteen::ChipId;
use serde_json::json;
use till_control::{
    Answer, ReaderListAnswer, ReaderSight, ReaderState, ReaderWatchAnswer, Request, SightKind,
    read_request, write_answer,
};

use crate::daemon::{Daemon, check, only_json, stdout};

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
    // What cannot be a number is refused before anybody looks for the chip.
    let daemon = telling(vec![]);
    let output = daemon
        .tillctl(&["--json", "reader", "byte-order", "Kortnummer"])
        .output()
        .unwrap();
    assert_eq!(only_json(&output)["error"]["code"], "bad_chip_number");
    assert_eq!(output.status.code(), Some(2));
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

pub(crate) fn reader(ok: bool, text: &str) -> ReaderState {
    ReaderState {
        name: "Demo reader 00 00".into(),
        kind: "pcsc".into(),
        ok,
        text: text.into(),
    }
}
