//! `tillctl chip show`.

use canteen::{Account, AccountId, ChipId, Limits, Money, Spent, Status};
use serde_json::json;
use till_control::{AccountFacts, Answer, ChipAnswer, ChipFacts, Request};

use crate::daemon::check;

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
