//! `tillctl sell`.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use canteen::{AccountId, Money, TopUpOutcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use till_control::{
    Answer, Currency, Message, Request, SellAnswer, SellDecision, SellReason, closed, read_request,
    write_answer,
};

use crate::daemon::{Daemon, SALE, SALE_TEXT, check, only_json, place, stderr, stdout, tillctl};

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

fn sell_request() -> Request {
    Request::Sell {
        id: Some(SALE),
        lines: vec!["1x Dagens ret 22,00".into(), "2x Yoghurt 6,00".into()],
        timeout_s: 5,
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
