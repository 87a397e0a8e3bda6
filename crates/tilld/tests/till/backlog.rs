//! More than a day in the dark, and twenty thousand sales to be sent.

use std::time::{Duration, Instant};

use canteen::{ChipId, ChipIdentity, Decision, Money, PurchaseAmount};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::{Value, json};
use till_ledger::{Ledger, Moment, PurchaseRequest, StoreOptions};
use uuid::Uuid;

use crate::rig::{Site, eventually, uid};

/// Each buys so often, for one øre.
const ACCOUNTS: u32 = 40;
const SALES_EACH: u32 = 500;
const FIRST_DEPOSIT: i64 = 100_00;
/// So many sales wait for the medium together.
const TOGETHER: u32 = 50;
const EARLIER_BOOT: Uuid = Uuid::from_u128(7);

fn chip(number: u32) -> String {
    format!("7A50AC{number:02X}")
}

fn open_account(site: &Site, canteen: &Value, number: u32) {
    let holder = json!({"name": format!("Elev {}", 100 + number)});
    let account = json!({"canteen": canteen, "holder": holder});
    let account = site.hub().post("/v1/accounts", &account).json()["id"].clone();
    site.hub()
        .with(&format!("Idempotency-Key: opening-{number}"))
        .post(
            &format!("/v1/accounts/{account}/deposits"),
            &json!({"amount": FIRST_DEPOSIT}),
        );
    let chip = json!({"chip": chip(number)});
    site.hub()
        .post(&format!("/v1/accounts/{account}/chips"), &chip);
}

/// Sells as the till's own program does, and as fast as the medium goes.
fn sell_many(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let path = site.path("till/ledger.db");
    runtime.block_on(async {
        let ledger = Ledger::open(&path, StoreOptions::default()).unwrap();
        for number in 0..ACCOUNTS {
            let chip = ChipId::from_known(&uid(&chip(number))).unwrap();
            for _ in 0..SALES_EACH / TOGETHER {
                let sales = (0..TOGETHER).map(|_| sell_one(&ledger, chip));
                futures::future::join_all(sales).await;
            }
        }
        ledger.close().await.unwrap();
    });
}

async fn sell_one(ledger: &Ledger, chip: ChipId) {
    let request = PurchaseRequest {
        id: Uuid::now_v7(),
        identity: ChipIdentity::Bare(chip),
        lines: Vec::new(),
        amount: PurchaseAmount::new(Money::from_ore(1)).unwrap(),
        online: false,
        feed_age: Duration::from_secs(3600),
        ask_first: false,
    };
    let recorded = ledger.purchase(request, Moment::now()).await.unwrap();
    assert!(
        matches!(recorded.decision, Decision::Approve { .. }),
        "{recorded:?}"
    );
}

/// The hub was heard so long ago, before the machine was booted.
fn age(site: &Site, hours: i64) {
    let then = Timestamp::now() - SignedDuration::from_hours(hours);
    let ledger = Connection::open(site.path("till/ledger.db")).unwrap();
    let changed = ledger.execute(
        "UPDATE progress SET hub_clock_ms = ?1, hub_clock_boot = ?2",
        (then.as_millisecond(), EARLIER_BOOT.into_bytes()),
    );
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn sy_33_twenty_thousand_sales_of_a_day_in_the_dark_are_told_of_and_all_arrive_once() {
    let mut site = Site::open();
    let canteen = site.hub().json("/v1/canteens")["canteens"][0]["id"].clone();
    for number in 0..ACCOUNTS {
        open_account(&site, &canteen, number);
    }
    eventually("the last account to arrive", || {
        let known = site.ask(&["chip", "show", &chip(ACCOUNTS - 1)]).json;
        (!known["chip"].is_null()).then_some(())
    });
    site.wait_until_agreed();
    site.stop_till();
    site.stop_hub();
    sell_many(&site);
    let backlog = u64::from(ACCOUNTS * SALES_EACH);

    // A day and some hours later: both are on the page and in the technician's status.
    age(&site, 30);
    site.start_till();
    site.wait_for_readers(true);
    let shown = site.wait_for_shown("both notices", |shown| {
        let notices = shown["notices"].to_string();
        notices.contains("Very many sales wait") && notices.contains("more than a day old")
    });
    let line = &shown["line"];
    assert_eq!(line["state"], "offline", "{line}");
    assert_eq!(line["waiting"], backlog, "{line}");
    let status = site.status();
    assert!(status["waiting"].as_u64().unwrap() >= backlog, "{status}");
    assert_eq!(status["line"]["state"], "offline", "{status}");
    assert!(status["line"]["since"].is_string(), "{status}");
    let old = status["line"]["data_age_s"].as_u64().unwrap();
    assert!((29 * 3600..31 * 3600).contains(&old), "{status}");

    // After three days only a meal is sold, and both say since when.
    site.stop_till();
    age(&site, 80);
    site.start_till();
    site.wait_for_readers(true);
    site.wait_for_line("restricted");
    let status = site.status();
    assert!(status["line"]["restricted_since"].is_string(), "{status}");
    assert_eq!(site.shown()["line"]["state"], "restricted");
    let meal = site.sell(&chip(0), &["1x Buffet 90,00"]);
    assert_eq!(meal.outcome.decision, "stale_data");
    site.stop_till();
    age(&site, 30);
    site.start_till();
    site.wait_for_readers(true);

    // Online again, sales go on while the backlog drains.
    let laid = site.lay_and_wait(&chip(0));
    let begun = Instant::now();
    site.start_hub();
    let (mut meanwhile, mut times) = (0, Vec::new());
    let mut left = backlog;
    let mut moved = Instant::now();
    while left > 0 {
        // Few enough that they do not hold up the backlog themselves.
        if meanwhile < MEANWHILE_MAX {
            let asked = Instant::now();
            let sale = site.sell_to_laid(&["1x Frugt 0,01"], None);
            assert!(sale.is_approved(), "{sale:?}");
            times.push(asked.elapsed());
            meanwhile += 1;
        }
        let waiting = site.status()["waiting"].as_u64().unwrap();
        if waiting < left {
            moved = Instant::now();
        }
        left = waiting;
        assert!(moved.elapsed() < STUCK, "{left} entries are stuck");
    }
    let took = begun.elapsed();
    laid.remove();
    times.sort();
    println!(
        "{backlog} entries in {took:?}; {meanwhile} sales meanwhile by `tillctl`, {:?} each, the \
         slowest {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    site.wait_until_agreed();
    for number in 0..ACCOUNTS {
        let extra = if number == 0 { meanwhile } else { 0 };
        let left = FIRST_DEPOSIT - i64::from(SALES_EACH) - extra;
        assert_eq!(site.hub_balance(&chip(number)), left, "{}", chip(number));
    }
    eventually("the notices to go", || {
        let notices = site.shown()["notices"].to_string();
        (!notices.contains("Very many") && !notices.contains("a day old")).then_some(())
    });
    site.wait_for_line("online");
}

const MEANWHILE_MAX: i64 = 200;
/// A backlog that gets no shorter for so long does not drain.
const STUCK: Duration = Duration::from_secs(120);
