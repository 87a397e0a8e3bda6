//! What a technician does at the end of a day and when something is wrong: reports, single lines
//! taken back, the clock.

use serde_json::{Value, json};

use crate::rig::{MEAL, ORDINARY, POOR, Site, eventually, fresh_id};

#[track_caller]
fn check_totals(report: &Value, sales: (u64, i64), voids: (u64, i64), declines: u64) {
    let totals = |(count, amount): (u64, i64)| json!({"count": count, "amount": amount});
    assert_eq!(report["sales"], totals(sales), "{report}");
    assert_eq!(report["voids"], totals(voids), "{report}");
    assert_eq!(report["net"], sales.1 - voids.1, "{report}");
    assert_eq!(report["declines"], declines, "{report}");
}

#[test]
fn x_shows_and_z_writes_the_totals_of_the_day_under_consecutive_numbers() {
    let mut site = Site::open();
    let sale = site.sell(ORDINARY, &["1x Dagens ret 22,00", "2x Ostehaps 3,00"]);
    site.sell(POOR, MEAL);
    let void = site.ask(&["void", &sale.id, "--line", "2"]);
    assert_eq!(void.code, 0, "{void:?}");
    assert_eq!(void.json["amount"], 3_00, "{void:?}");

    let head = site.status()["head_seq"].clone();
    let x = site.ask(&["x"]);
    assert_eq!(x.code, 0, "{x:?}");
    check_totals(&x.json, (1, 28_00), (1, 3_00), 1);
    assert_eq!(x.json["through_seq"], head, "{x:?}");
    assert_eq!(x.json["number"], Value::Null, "{x:?}");
    assert_eq!(
        site.status()["head_seq"],
        head,
        "an X report writes nothing"
    );

    let id = fresh_id();
    let z = site.ask(&["z", "--id", &id]);
    assert_eq!(z.code, 0, "{z:?}");
    check_totals(&z.json, (1, 28_00), (1, 3_00), 1);
    assert_eq!(z.json["number"], 1, "{z:?}");
    assert_eq!(z.json["entry"]["seq"], head.as_u64().unwrap() + 1, "{z:?}");

    // The same id after a restart is the same report, also when more was sold since.
    site.sell(ORDINARY, MEAL);
    site.kill_till();
    site.start_till();
    site.wait_for_readers(true);
    let again = site.ask(&["z", "--id", &id]);
    assert_eq!(again.json["number"], 1, "{again:?}");
    assert_eq!(again.json["replayed"], true, "{again:?}");
    check_totals(&again.json, (1, 28_00), (1, 3_00), 1);
    let next = site.ask(&["z"]);
    assert_eq!(next.json["number"], 2, "{next:?}");
    check_totals(&next.json, (2, 50_00), (1, 3_00), 1);

    let tomorrow = site.ask(&["x", "--day", "9999-12-31"]);
    assert_eq!(tomorrow.code, 2, "{tomorrow:?}");
    assert_eq!(
        tomorrow.json["error"]["code"], "day_to_come",
        "{tomorrow:?}"
    );
    site.wait_until_agreed();
}

#[test]
fn a_sale_is_taken_back_by_the_piece_here_and_on_the_page_and_never_more_than_was_sold() {
    let site = Site::open();
    let sale = site.sell(ORDINARY, &["1x Dagens ret 22,00", "3x Ostehaps 3,00"]);
    assert_eq!(site.balance(ORDINARY), 118_50);
    let id = fresh_id();
    let words = ["void", &sale.id, "--line", "2x2", "--id", &id];
    let void = site.ask(&words);
    assert_eq!(void.json["amount"], 6_00, "{void:?}");
    // Its answer was lost, so it is asked for again.
    let again = site.ask(&words);
    assert_eq!(again.json["replayed"], true, "{again:?}");
    assert_eq!(site.balance(ORDINARY), 124_50);

    let too_many = site.ask(&["void", &sale.id, "--line", "2x2"]);
    assert_eq!(too_many.code, 1, "{too_many:?}");
    assert_eq!(too_many.json["error"]["code"], "void_refused");
    let message = too_many.json["error"]["message"].as_str().unwrap();
    assert_eq!(
        message,
        "line 2 of the sale has 1 pieces left to take back, not 2"
    );

    let shown = site.shown()["recent"][0].clone();
    assert_eq!(shown["amount"], "25,00", "{shown}");
    assert_eq!(shown["title"]["da"], "Delvis fortrudt", "{shown}");
    let left = json!([
        {"line": 0, "left": 1, "text": "Dagens ret", "unit_price": "22,00"},
        {"line": 1, "left": 1, "text": "Ostehaps", "unit_price": "3,00"},
    ]);
    assert_eq!(shown["pieces"], left, "{shown}");
    let piece = json!({"id": sale.id, "lines": [{"line": 0, "quantity": 1}]});
    site.page().post("/sales/void", &piece);
    let refused = site
        .page()
        .ask("POST", "/sales/void", Some(&piece.to_string()));
    assert_eq!(refused.status, 422, "{refused:?}");
    site.page().post("/sales/void", &json!({"id": sale.id}));
    assert_eq!(site.balance(ORDINARY), 149_50);
    let shown = site.shown()["recent"][0].clone();
    assert_eq!(shown["kind"], "voided", "{shown}");
    site.wait_until_agreed();
    assert_eq!(site.hub_balance(ORDINARY), 149_50);
}

#[test]
fn a_clock_that_goes_right_has_nothing_to_confirm() {
    let site = Site::open();
    let clock = eventually("the hub to tell its time", || {
        let clock = site.ask(&["clock"]);
        (!clock.json["hub"].is_null()).then_some(clock)
    });
    assert_eq!(clock.code, 0, "{clock:?}");
    assert_eq!(clock.json["state"], "right", "{clock:?}");
    let head = site.status()["head_seq"].clone();
    let confirmed = site.ask(&["clock", "confirm"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    assert_eq!(confirmed.json["entry"], Value::Null, "{confirmed:?}");
    assert_eq!(site.status()["head_seq"], head);
}
