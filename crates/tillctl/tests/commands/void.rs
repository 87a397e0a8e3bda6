//! `tillctl void`.

use canteen::{AccountId, Money};
use serde_json::json;
use sync_proto::VoidLine;
use till_control::{Answer, Currency, Message, Request, VoidAnswer, read_request};

use crate::daemon::{Daemon, SALE, SALE_TEXT, check, place, stderr};

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

const VOID_TEXT: &str = "01990000-0000-7000-8000-000000000002";
