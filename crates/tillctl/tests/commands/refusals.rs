//! What is refused, by the daemon or before it is asked, and with which exit code.

use std::path::Path;

use serde_json::json;
use till_control::{Answer, ErrorAnswer, ErrorCode, SyncAnswer};

use crate::daemon::{Daemon, SALE_TEXT, only_json, socket, stderr, stdout, tillctl};

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
        "error: tilld is not running, or --socket is wrong: there is no {}\n  see why with `systemctl status tilld` and `journalctl -u tilld`\n",
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
