//! Two tills of one canteen and a limit that is strict: 50 kr a day, wherever they are spent.

use serde_json::json;

use crate::rig::{MEAL, SNACK, Site, eventually};

/// 75,00 kr., strictly at most 50 kr. a day.
const STRICT: &str = "D1E2F3A4";
const LIMIT: i64 = 50_00;

/// What a till may sell of the limit, as far as it knows.
fn share(till: &Site) -> i64 {
    till.account(STRICT)["share"].as_i64().unwrap()
}

fn decision(till: &Site, lines: &[&str]) -> String {
    till.sell(STRICT, lines).outcome.decision
}

#[track_caller]
fn check_refused(till: &Site, lines: &[&str]) {
    let sale = till.sell(STRICT, lines);
    assert_eq!(sale.outcome.decision, "limit_not_here", "{sale:?}");
    assert!(sale.seq.is_some(), "a guardian may ask why: {sale:?}");
    let shown = till.shown().to_string();
    let words = "Grænsen kan ikke bruges ved denne kasse lige nu";
    assert!(shown.contains(words), "{shown}");
}

#[test]
fn lim_05_two_tills_never_sell_more_than_a_strict_limit_together() {
    let mut first = Site::open();
    let second = first.open_sibling();
    eventually("one till to have all of the limit", || {
        (share(&first) == LIMIT && share(&second) == 0).then_some(())
    });
    for till in [&first, &second] {
        till.wait_until_sent();
    }
    first.stop_hub();
    for till in [&first, &second] {
        till.wait_for_line("offline");
    }
    // The other till knows that nothing is spent, and that what is left is not its to sell.
    check_refused(&second, MEAL);
    check_refused(&second, SNACK);
    assert_eq!(decision(&first, MEAL), "approved");
    assert_eq!(share(&first), 28_00);

    // With the line back, the hub moves the rest to where it is asked for.
    first.start_hub();
    for till in [&first, &second] {
        till.wait_for_line("online");
        till.wait_until_sent();
    }
    eventually("the other till to sell the rest", || {
        (decision(&second, MEAL) == "approved").then_some(())
    });
    assert_eq!(share(&first), 0);
    assert_eq!(decision(&second, SNACK), "approved");
    second.wait_until_sent();

    // Three kroner are left, of which the first till has none.
    first.stop_hub();
    for till in [&first, &second] {
        till.wait_for_line("offline");
    }
    let refused = decision(&first, SNACK);
    assert!(refused != "approved", "{refused}");
    assert_eq!(decision(&second, SNACK), "approved");
    for till in [&first, &second] {
        let refused = decision(till, &["1x Frugt 0,50"]);
        assert!(refused != "approved", "{refused}");
    }

    first.start_hub();
    for till in [&first, &second] {
        till.wait_for_line("online");
        till.wait_until_sent();
    }
    assert_eq!(first.sales(STRICT).iter().sum::<i64>(), -LIMIT);
    let flags = first.hub().json("/v1/flags").to_string();
    assert!(!flags.contains("limit_exceeded_offline"), "{flags}");
}

#[test]
fn a_guardian_chooses_how_limits_hold_and_an_older_program_leaves_that_as_it_is() {
    let site = Site::open();
    let path = format!("/v1/accounts/{}", site.account(STRICT)["id"]);
    let mode = || site.hub().json(&path)["limits"]["mode"].clone();
    let change = |limits: serde_json::Value| {
        let body = json!({ "limits": limits }).to_string();
        let answer = site.hub().ask("PATCH", &path, Some(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    assert_eq!(mode(), "strict");
    change(json!({ "day": 60_00 }));
    assert_eq!(mode(), "strict");
    eventually("the till to hear of the limit", || {
        (share(&site) == 60_00).then_some(())
    });
    change(json!({ "mode": "lenient" }));
    assert_eq!(mode(), "lenient");
    eventually("the till to hear that it is lenient", || {
        site.account(STRICT)["share"].is_null().then_some(())
    });
    change(json!({ "mode": "strict" }));
    eventually("the till to have its share again", || {
        (site.account(STRICT)["share"] == 60_00).then_some(())
    });
    let wrong = json!({ "limits": { "mode": "harsh" } }).to_string();
    let refused = site.hub().ask("PATCH", &path, Some(&wrong));
    assert!((400..500).contains(&refused.status), "{refused:?}");
}
