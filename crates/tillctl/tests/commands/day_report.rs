//! `tillctl x` and `tillctl z`.

use canteen::Money;
use serde_json::{Value, json};
use sync_proto::Totals;
use till_control::{Answer, Currency, DayReportAnswer, Request, read_request};

use crate::daemon::{Daemon, SALE, SALE_TEXT, check, only_json, place, stderr, stdout, till};

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
