//! Automatic top-up: asked for by a purchase, charged once whatever happens on the way.

use serde_json::{Value, json};

use crate::rig::sale::Outcome;
use crate::rig::{MEAL, ORDINARY, SNACK, Site, Wishes, eventually};

const THREE_MEALS: &[&str] = &["3x Dagens ret 22,00"];
const FOUR_MEALS: &[&str] = &["4x Dagens ret 22,00"];

/// Looks an unanswered charge up soon, so that the test need not wait.
fn site_that_looks_up_soon() -> Site {
    let seconds = |times: [i64; 3]| toml::Value::from(times.to_vec());
    Site::open_with(Wishes {
        hub: vec![("top_up", "look_up_after", seconds([1, 2, 4]))],
        ..Wishes::default()
    })
}

/// Agreement and amount of every charge that took money.
fn taken(site: &Site) -> Vec<(String, i64)> {
    let charges = site.charges().into_iter();
    let charges = charges.filter(|charge| charge["took_money"] == true);
    let facts = |charge: Value| {
        let agreement = charge["agreement"].as_str().unwrap().to_owned();
        (agreement, charge["amount"].as_i64().unwrap())
    };
    charges.map(facts).collect()
}

fn once() -> Vec<(String, i64)> {
    vec![("demo-card-1".to_owned(), 300_00)]
}

fn top_ups(site: &Site) -> Vec<Value> {
    let account = site.account(ORDINARY)["id"].as_i64().unwrap();
    let list = site.hub().json(&format!("/v1/top-ups?account={account}"));
    list["top_ups"].as_array().unwrap().clone()
}

fn top_up_rows(site: &Site) -> Vec<i64> {
    let rows = site.statement(ORDINARY).into_iter();
    let rows = rows.filter(|row| row.kind == "top_up");
    rows.map(|row| row.amount).collect()
}

#[test]
fn a_purchase_under_fifty_kroner_is_topped_up_once_and_a_second_one_asks_for_none() {
    let site = Site::open();
    site.script_gateway(&json!({"outcome": "approve", "delay_seconds": 3}));
    // Exactly 50,00 does not fire; one øre less does.
    let exactly = site.sell(ORDINARY, &["1x Fest 99,50"]);
    assert_eq!(exactly.outcome, Outcome::approved(50_00));
    let under = site.sell(ORDINARY, &["1x Serviet 0,01"]);
    assert_eq!(
        under.outcome,
        Outcome::approved(49_99).with_top_up("requested")
    );
    let second = site.sell(ORDINARY, SNACK);
    assert_eq!(
        second.outcome,
        Outcome::approved(46_99).with_top_up("pending")
    );
    assert_eq!(site.account(ORDINARY)["top_up"]["state"], "pending");

    site.wait_for_balance(ORDINARY, 346_99);
    site.wait_until_agreed();
    assert_eq!(taken(&site), once());
    assert_eq!(site.charges().len(), 1);
    assert_eq!(top_up_rows(&site), [300_00]);
    assert_eq!(site.account(ORDINARY)["top_up"]["state"], "idle");
    let third = site.sell(ORDINARY, MEAL);
    assert_eq!(third.outcome, Outcome::approved(324_99));
    assert_eq!(top_ups(&site).len(), 1);
}

#[test]
fn a_purchase_that_the_balance_does_not_cover_asks_for_the_top_up_and_is_paid_after_it() {
    let site = Site::open();
    let first = site.sell(ORDINARY, FOUR_MEALS);
    assert_eq!(first.outcome, Outcome::approved(61_50));
    let refused = site.sell(ORDINARY, FOUR_MEALS);
    // 61,50 is not under 50 kr., so the refusal asks for nothing.
    assert_eq!(
        refused.outcome,
        Outcome::declined("insufficient_funds", Some(61_50))
    );
    let meal = site.sell(ORDINARY, MEAL);
    assert_eq!(
        meal.outcome,
        Outcome::approved(39_50).with_top_up("requested")
    );
    site.wait_for_balance(ORDINARY, 339_50);
    let paid = site.sell(ORDINARY, FOUR_MEALS);
    assert_eq!(paid.outcome, Outcome::approved(251_50));
    site.wait_until_agreed();
    assert_eq!(taken(&site), once());
}

/// A card that is refused: the outcome at the gateway, the code on the top-up, and whether the
/// agreement is at an end.
#[track_caller]
fn check_refused(outcome: &str, code: &str, disabled: bool) {
    let site = Site::open();
    site.script_gateway(&json!({"outcome": outcome}));
    let sale = site.sell(ORDINARY, &["5x Dagens ret 22,00"]);
    assert_eq!(
        sale.outcome,
        Outcome::approved(39_50).with_top_up("requested")
    );
    eventually("the refusal to reach the till", || {
        (site.account(ORDINARY)["top_up"]["state"] == "failed").then_some(())
    });
    let top_ups = top_ups(&site);
    assert_eq!(top_ups.len(), 1, "{top_ups:?}");
    assert_eq!(top_ups[0]["state"], "failed", "{top_ups:?}");
    assert_eq!(top_ups[0]["code"], code, "{top_ups:?}");
    let agreement = site.hub_account(ORDINARY)["top_up"].clone();
    assert_eq!(agreement["state"], "failed", "{agreement}");
    assert_eq!(agreement["disabled"], disabled, "{agreement}");

    let next = site.sell(ORDINARY, SNACK);
    assert_eq!(next.outcome, Outcome::approved(36_50).with_top_up("failed"));
    site.wait_until_agreed();
    assert_eq!(taken(&site), []);
    assert_eq!(site.charges().len(), 1);
    assert_eq!(top_up_rows(&site), [0; 0]);
    assert_eq!(site.hub_balance(ORDINARY), 36_50);
}

#[test]
fn a_card_without_funds_moves_no_money_and_is_told_at_till_and_hub() {
    check_refused("no_funds", "51", false);
}

#[test]
fn an_expired_card_moves_no_money_and_ends_the_agreement() {
    check_refused("expired", "54", true);
}

#[test]
fn a_charge_whose_answer_is_lost_is_looked_up_and_not_repeated() {
    for outcome in [
        "answer_lost",
        "server_error_after_charge",
        "malformed_answer",
    ] {
        let site = site_that_looks_up_soon();
        site.script_gateway(&json!({"outcome": outcome}));
        let sale = site.sell(ORDINARY, &["5x Dagens ret 22,00"]);
        assert_eq!(
            sale.outcome,
            Outcome::approved(39_50).with_top_up("requested")
        );
        site.wait_for_balance(ORDINARY, 339_50);
        site.wait_until_agreed();
        assert_eq!(taken(&site), once(), "{outcome}");
        assert_eq!(site.charges().len(), 1, "{outcome}");
        assert_eq!(top_up_rows(&site), [300_00], "{outcome}");
        assert_eq!(top_ups(&site)[0]["state"], "settled", "{outcome}");
    }
}

#[test]
fn a_hub_killed_while_a_charge_is_under_way_charges_once() {
    let mut site = site_that_looks_up_soon();
    site.script_gateway(&json!({"outcome": "approve", "answer_delay_seconds": 2}));
    let sale = site.sell(ORDINARY, &["5x Dagens ret 22,00"]);
    assert_eq!(
        sale.outcome,
        Outcome::approved(39_50).with_top_up("requested")
    );
    eventually("the charge to reach the gateway", || {
        (!site.charges().is_empty()).then_some(())
    });
    site.kill_hub();
    site.start_hub();
    site.wait_for_balance(ORDINARY, 339_50);
    site.wait_until_agreed();
    assert_eq!(taken(&site), once());
    assert_eq!(top_up_rows(&site), [300_00]);
}

#[test]
fn a_purchase_without_the_hub_is_topped_up_when_it_is_back() {
    let mut site = Site::open();
    site.stop_hub();
    site.wait_for_line("offline");
    let first = site.sell(ORDINARY, THREE_MEALS);
    assert_eq!(first.outcome, Outcome::approved(83_50));
    let under = site.sell(ORDINARY, &["2x Dagens ret 22,00"]);
    assert_eq!(
        under.outcome,
        Outcome::approved(39_50).with_top_up("requested")
    );
    let second = site.sell(ORDINARY, SNACK);
    assert_eq!(second.outcome.balance, Some(36_50));
    assert_ne!(second.outcome.top_up, "none");
    assert_eq!(taken(&site), []);
    site.start_hub();
    site.wait_for_balance(ORDINARY, 336_50);
    site.wait_until_agreed();
    assert_eq!(taken(&site), once());
    assert_eq!(top_up_rows(&site), [300_00]);
}
