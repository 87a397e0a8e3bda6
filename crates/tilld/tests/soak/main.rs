//! Three real tills and one real hub under load, while lines are cut and processes killed at
//! random: at every moment no account is overspent by more than the hub allows, and afterwards
//! ledgers, balances and flags are equal on all sides, to the øre.
//!
//! `SOAK_SECONDS` says how long; `SEED` plays the same dice again.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]
mod books;
mod cashier;
mod chaos;
mod dice;
#[allow(
    dead_code,
    unused_imports,
    reason = "the rig is that of the tests of one till, and has more than is used here"
)]
#[path = "../till/rig/mod.rs"]
mod rig;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use books::Books;
use cashier::Cashier;
use chaos::Chaos;
use dice::Dice;
use rig::{Site, Wishes};

/// So long the last balances are on their way at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// As shipped: what all tills together may overspend on one account.
const OVERSPEND_MAX: i64 = 200_00;
const ACCOUNTS: usize = 8;
const FIRST_DEPOSIT: i64 = 300_00;

#[test]
fn three_tills_under_fire_agree_with_the_hub_to_the_ore() {
    let length = std::env::var("SOAK_SECONDS")
        .ok()
        .map_or(45, |text| text.parse().unwrap());
    let mut dice = Dice::new();
    let wishes = Wishes {
        link: true,
        ..Wishes::default()
    };
    let first = Site::open_with(Wishes {
        link: true,
        ..Wishes::default()
    });
    let canteen = first.hub().json("/v1/canteens")["canteens"][0]["id"].clone();
    let books = Arc::new(Books::new(OVERSPEND_MAX));
    for number in 0..ACCOUNTS {
        let account = open_account(&first, &canteen, number);
        books.open(account, chip(number), FIRST_DEPOSIT);
    }
    let third = json!({"id": "kasse-3", "canteen": canteen});
    let third = first.hub().post("/v1/tills", &third).json();
    let code = third["enrolment_code"].as_str().unwrap();
    let tills = vec![
        first.open_till("kasse-2", "DEMO-KASSE-2", &wishes),
        first.open_till("kasse-3", code, &wishes),
    ];
    let mut chaos = Chaos::new(first, tills, Arc::clone(&books), dice.split());
    chaos.wait_until_all_know(&chip(ACCOUNTS - 1));

    let stop = Arc::new(AtomicBool::new(false));
    let cashiers: Vec<_> = (0..3)
        .map(|till| {
            let cashier = Cashier::new(
                chaos.till(till),
                till,
                Arc::clone(&books),
                dice.split(),
                Arc::clone(&stop),
            );
            thread::spawn(move || cashier.work())
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(length);
    while Instant::now() < end && !cashiers.iter().any(thread::JoinHandle::is_finished) {
        chaos.strike();
    }
    chaos.heal();
    stop.store(true, Ordering::Relaxed);
    for cashier in cashiers {
        cashier
            .join()
            .expect("a cashier, who says above what is wrong");
    }

    chaos.settle();
    println!("{}", chaos.told());
    println!("{}", books.told());
    for till in 0..3 {
        chaos.till(till).wait_until_sent();
        let verdict = chaos.till(till).ask(&["ledger", "verify"]);
        assert_eq!(verdict.json["ok"], true, "{verdict:?}");
        check_entries(chaos.hub(), chaos.till(till));
    }
    for number in 0..ACCOUNTS {
        check_account(&chaos, &books, &chip(number));
    }
    check_flags(chaos.hub(), &books);
    assert!(books.sales() > 0, "nothing was sold");
}

fn open_account(site: &Site, canteen: &Value, number: usize) -> i64 {
    let holder = json!({"name": format!("Elev {}", 100 + number)});
    let account = site.hub().post(
        "/v1/accounts",
        &json!({"canteen": canteen, "holder": holder}),
    );
    let account = account.json()["id"].as_i64().unwrap();
    site.hub()
        .with(&format!("Idempotency-Key: opening-{number}"))
        .post(
            &format!("/v1/accounts/{account}/deposits"),
            &json!({"amount": FIRST_DEPOSIT}),
        );
    site.hub().post(
        &format!("/v1/accounts/{account}/chips"),
        &json!({"chip": chip(number)}),
    );
    account
}

fn chip(number: usize) -> String {
    format!("7A50AB{number:02X}")
}

/// Hub and till have the same number of entries.
fn check_entries(hub: &Site, till: &Site) {
    let status = till.status();
    let name = status["till"].as_str().unwrap();
    let seen = hub.hub().json(&format!("/v1/tills/{name}"));
    assert_eq!(seen["accepted_through"], status["head_seq"], "{name}");
}

/// Every sale that a cashier heard of stands on the statement once, and all sides have the balance
/// that follows.
fn check_account(chaos: &Chaos, books: &Books, chip: &str) {
    let account = books.account(chip);
    let expected = books.balance(account);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let hub = chaos.hub().hub_balance(chip);
        let tills = [0, 1, 2].map(|till| chaos.till(till).balance(chip));
        if hub == expected && tills == [expected; 3] {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{chip} holds {expected} by the true books, {hub} at the hub and {tills:?} at the \
             tills, which say {:?}",
            [0, 1, 2].map(|till| chaos.till(till).status())
        );
        thread::sleep(Duration::from_millis(100));
    }
    let rows = chaos
        .hub()
        .hub()
        .json(&format!("/v1/accounts/{account}/statement"));
    let rows = rows["rows"].as_array().unwrap();
    let mut booked: Vec<(String, String, i64)> = rows
        .iter()
        .filter(|row| row["till"].is_string())
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("till"), text("kind"), row["amount"].as_i64().unwrap())
        })
        .collect();
    booked.sort();
    assert_eq!(booked, books.rows(account), "the statement of {chip}");
    let lowest = rows
        .iter()
        .map(|row| row["balance_after"].as_i64().unwrap());
    assert!(
        lowest.min().unwrap() >= -OVERSPEND_MAX,
        "the hub's own books overspend {chip}"
    );
}

/// Page after page: many hours overdraw more than one of them holds.
fn all_flags(hub: &Site) -> Vec<Value> {
    let mut flags = Vec::new();
    let mut path = "/v1/flags?limit=500".to_owned();
    loop {
        let page = hub.hub().json(&path);
        flags.extend(page["flags"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else {
            return flags;
        };
        path = format!("/v1/flags?limit=500&cursor={cursor}");
    }
}

/// The hub flags what was overdrawn, and nothing else went wrong.
fn check_flags(hub: &Site, books: &Books) {
    let flags = all_flags(hub);
    let codes: BTreeSet<&str> = flags
        .iter()
        .map(|flag| flag["code"].as_str().unwrap())
        .collect();
    println!("flags: {} ({codes:?})", flags.len());
    assert!(
        codes.iter().all(|code| *code == "overdrawn"),
        "{codes:?} of {flags:?}"
    );
    let ours = books.accounts();
    let overdrawn = flags
        .iter()
        .filter_map(|flag| flag["account"].as_i64())
        .filter(|account| ours.contains(account))
        .collect::<BTreeSet<_>>();
    assert!(
        books.below_zero().is_subset(&overdrawn),
        "{:?} are below zero, {overdrawn:?} are flagged",
        books.below_zero()
    );
    let quarantine = hub.hub().json("/v1/quarantine");
    assert_eq!(quarantine["entries"], Value::Array(vec![]));
}
