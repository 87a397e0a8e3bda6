//! What a canteen does all day: chips buy, or are refused for a reason that is told.

use std::time::{Duration, Instant};

use hw_tests::vpcd_card::ChipScript;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::rig::sale::{Outcome, Row, Sale};
use crate::rig::{
    BLOCKED, DAILY, MEAL, MONTHLY, ORDINARY, POOR, SNACK, Site, UNKNOWN, WEEKLY, eventually,
    finish_sale, fresh_id, sell_words,
};

#[track_caller]
fn check(site: &Site, chip: &str, lines: &[&str], expected: Outcome) -> Sale {
    let sale = site.sell(chip, lines);
    assert_eq!(sale.outcome, expected, "{chip} buys {lines:?}");
    let is_recorded = expected.decision != "unknown_chip";
    assert_eq!(sale.seq.is_some(), is_recorded, "{sale:?}");
    assert!(!sale.replayed, "{sale:?}");
    let known = site.ask(&["chip", "show", chip]).json;
    let known = &known["chip"];
    assert_eq!(sale.account, known["account"]["id"].as_i64(), "{sale:?}");
    assert_eq!(sale.holder.as_deref(), known["holder"].as_str(), "{sale:?}");
    assert_eq!(sale.account.is_some(), is_recorded, "{sale:?}");
    sale
}

#[test]
fn a_chip_buys_lunch_and_the_row_stands_on_the_statement_within_two_seconds() {
    let site = Site::open();
    assert_eq!(site.balance(ORDINARY), 149_50);
    let id = fresh_id();
    let sale = site.sell_as(ORDINARY, MEAL, Some(&id));
    let sold = Instant::now();
    assert_eq!(sale.outcome, Outcome::approved(127_50));
    assert_eq!((sale.id.as_str(), sale.replayed), (id.as_str(), false));

    let row = eventually("the sale to stand on the statement", || {
        let mut rows = site.statement(ORDINARY);
        rows.pop().filter(|row| row.kind == "sale")
    });
    let time = sold.elapsed();
    let expected = Row {
        kind: "sale".to_owned(),
        amount: -22_00,
        balance: 127_50,
        lines: vec![MEAL[0].to_owned()],
    };
    assert_eq!(row, expected);
    assert!(time < Duration::from_secs(2), "it took {time:?}");
    site.wait_until_agreed();
    assert_eq!(site.hub_balance(ORDINARY), 127_50);
}

#[test]
fn every_refusal_names_its_reason_and_figures() {
    let site = Site::open();
    check(
        &site,
        UNKNOWN,
        MEAL,
        Outcome::declined("unknown_chip", None),
    );
    check(
        &site,
        BLOCKED,
        MEAL,
        Outcome::declined("chip_blocked", Some(100_00)),
    );

    check(&site, DAILY, MEAL, Outcome::approved(38_00));
    check(
        &site,
        DAILY,
        MEAL,
        Outcome::over("limit_day", 38_00, 25_00, 3_00),
    );
    check(&site, DAILY, SNACK, Outcome::approved(35_00));
    check(
        &site,
        DAILY,
        SNACK,
        Outcome::over("limit_day", 35_00, 25_00, 0),
    );

    check(
        &site,
        WEEKLY,
        &["2x Dagens ret 22,00"],
        Outcome::approved(156_00),
    );
    check(
        &site,
        WEEKLY,
        MEAL,
        Outcome::over("limit_week", 156_00, 50_00, 6_00),
    );

    check(&site, MONTHLY, MEAL, Outcome::approved(178_00));
    check(
        &site,
        MONTHLY,
        MEAL,
        Outcome::over("limit_month", 178_00, 40_00, 18_00),
    );

    check(
        &site,
        POOR,
        MEAL,
        Outcome::declined("insufficient_funds", Some(7_00)),
    );
    check(&site, POOR, &["1x Ostehaps 7,00"], Outcome::approved(0));
    check(
        &site,
        POOR,
        &["1x Serviet 0,01"],
        Outcome::declined("insufficient_funds", Some(0)),
    );

    let unknown = &site.status()["unknown_chips"];
    assert_eq!(*unknown, 1, "a tap of an unknown chip is counted");
    site.wait_until_agreed();
}

#[test]
fn a_sale_without_a_usable_chip_ends_with_the_reason() {
    let site = Site::open();
    let nothing = |decision: &str| Outcome::declined(decision, None);

    let timed_out = site.ask(&sell_words(MEAL, None, "1")).sale();
    assert_eq!(timed_out.outcome, nothing("timed_out"));

    let waiting = site.begin(&sell_words(MEAL, None, "2"));
    let mute = site.lay_script(ChipScript::mute());
    assert_eq!(finish_sale(waiting).outcome, nothing("chip_unreadable"));
    mute.remove();

    let waiting = site.begin_sale(MEAL, None);
    kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(finish_sale(waiting).outcome, nothing("cancelled"));

    // A program that dies while it waits leaves no sale behind for the next chip to pay.
    let mut dying = site.begin_sale(MEAL, None);
    dying.kill().unwrap();
    dying.wait().unwrap();
    site.wait_for_shown("the sale to be given up", |shown| {
        shown["phase"] != "waiting"
    });
    let chip = site.lay_and_wait(ORDINARY);
    chip.remove();
    assert_eq!(site.balance(ORDINARY), 149_50);
    check(&site, ORDINARY, MEAL, Outcome::approved(127_50));
}

#[test]
fn a_chip_that_lies_there_pays_a_programs_sales_and_a_second_one_waits_its_turn() {
    let site = Site::open();
    let chip = site.lay_and_wait(ORDINARY);
    let first = site.sell_to_laid(MEAL, None);
    assert_eq!(first.outcome, Outcome::approved(127_50));
    let second = site.sell_to_laid(SNACK, None);
    assert_eq!(second.outcome, Outcome::approved(124_50));
    chip.remove();

    let waiting = site.begin_sale(SNACK, None);
    let busy = site.ask(&sell_words(SNACK, None, "15"));
    assert_eq!(busy.code, 75, "{busy:?}");
    assert_eq!(busy.json["error"]["code"], "busy", "{busy:?}");
    let chip = site.lay(ORDINARY);
    assert_eq!(finish_sale(waiting).outcome, Outcome::approved(121_50));
    chip.remove();
    site.wait_until_agreed();
}

#[test]
fn the_same_id_gives_the_recorded_decision_also_after_a_restart() {
    let mut site = Site::open();
    let sold = site.sell_as(ORDINARY, MEAL, Some(&fresh_id()));
    let refused = site.sell_as(POOR, MEAL, Some(&fresh_id()));
    assert_eq!(sold.outcome, Outcome::approved(127_50));
    assert_eq!(
        refused.outcome,
        Outcome::declined("insufficient_funds", Some(7_00))
    );
    for restart in [false, true] {
        if restart {
            site.stop_till();
            site.start_till();
        }
        for known in [&sold, &refused] {
            let again = site.ask(&sell_words(MEAL, Some(&known.id), "1")).sale();
            let recorded = Sale {
                replayed: true,
                ..known.clone()
            };
            assert_eq!(again, recorded);
        }
    }
    // The id belongs to that sale and to no other.
    let other = site.ask(&sell_words(SNACK, Some(&sold.id), "1"));
    assert_eq!(other.code, 2, "{other:?}");
    assert_eq!(other.json["error"]["code"], "bad_request", "{other:?}");
    site.wait_until_agreed();
    assert_eq!(site.sales(ORDINARY), [-22_00]);
}

#[test]
fn the_cashier_rings_up_on_the_page_and_a_chip_pays_once() {
    let site = Site::open();
    let page = site.page();
    let product = |name: &str| {
        let shown = site.shown();
        let products = shown["products"].as_array().unwrap();
        let found = products.iter().find(|product| product["name"] == name);
        found.unwrap()["id"].as_i64().unwrap()
    };
    page.post("/basket/lines", &json!({"product": product("Dagens ret")}));
    page.post("/basket/lines", &json!({"line": "2x Ostehaps 3,00"}));
    page.post("/basket/lines/remove", &json!({"index": 1}));
    assert_eq!(site.shown()["basket"]["total"], "25,00");

    let chip = site.lay_and_wait(ORDINARY);
    let shown = site.shown();
    assert_eq!(shown["chip"]["balance"], "149,50 kr.", "{shown}");
    page.post("/checkout/pay", &json!({}));
    let shown = site.wait_for_shown("the verdict", |shown| !shown["verdict"].is_null());
    assert_eq!(shown["verdict"]["kind"], "approved", "{shown}");
    assert_eq!(
        shown["verdict"]["figure"]["amount"], "124,50 kr.",
        "{shown}"
    );
    assert_eq!(shown["basket"]["lines"], Value::Array(vec![]), "{shown}");

    // The chip has paid; the next basket may be another customer's.
    page.post("/basket/lines", &json!({"line": "1x Ostehaps 3,00"}));
    page.post("/checkout/pay", &json!({}));
    site.wait_for_shown("the till to ask for a chip", |shown| {
        shown["phase"] == "waiting"
    });
    assert_eq!(site.balance(ORDINARY), 124_50);
    chip.remove();
    let chip = site.lay(ORDINARY);
    let shown = site.wait_for_shown("the second verdict", |shown| {
        shown["verdict"]["figure"]["amount"] == "121,50 kr."
    });
    chip.remove();

    let sale = shown["recent"][0]["id"].as_str().unwrap();
    page.post("/sales/void", &json!({"id": sale}));
    assert_eq!(site.balance(ORDINARY), 124_50);
    let again = page.ask(
        "POST",
        "/sales/void",
        Some(&json!({"id": sale}).to_string()),
    );
    assert_eq!(again.status, 422, "{again:?}");
    site.wait_until_agreed();
    assert_eq!(site.hub_balance(ORDINARY), 124_50);
}

#[test]
fn a_sale_is_taken_back_once_and_only_by_its_own_id() {
    let site = Site::open();
    let sale = site.sell(DAILY, MEAL);
    assert!(sale.is_approved());
    let refund = site.ask(&["void", &sale.id]);
    assert_eq!(refund.code, 0, "{refund:?}");
    assert_eq!(refund.json["amount"], 22_00);
    assert_eq!(refund.json["balance_after"], 60_00);
    // What was taken back no longer counts against the limit.
    check(&site, DAILY, MEAL, Outcome::approved(38_00));

    let again = site.ask(&["void", &sale.id]);
    let is_harmless = again.json["replayed"] == true || again.code == 1;
    assert!(is_harmless, "{again:?}");
    let nobody = site.ask(&["void", &fresh_id()]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert_eq!(nobody.json["error"]["code"], "unknown_sale", "{nobody:?}");
    site.wait_until_agreed();
    assert_eq!(site.hub_balance(DAILY), 38_00);
    let rows = site.statement(DAILY);
    let voids = rows.iter().filter(|row| row.kind == "void").count();
    assert_eq!(voids, 1, "{rows:?}");
}
