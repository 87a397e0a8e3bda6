//! Tills that were copied, put back from a copy, revoked, or switched off while they begin anew.

use std::fs;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::rig::sale::Outcome;
use crate::rig::{MEAL, Site, WEEKLY, copy_files, eventually};

/// Sells one piece of fruit at a price of its own, in øre.
pub(crate) fn sell_at(site: &Site, ore: i64) -> bool {
    let line = format!("1x Frugt {},{:02}", ore / 100, ore % 100);
    let sale = site.sell(WEEKLY, &[&line]);
    match sale.outcome.decision.as_str() {
        "approved" => true,
        "offline_allowance" => false,
        other => panic!("{other}"),
    }
}

/// The sales on the statement, however they came.
pub(crate) fn booked(site: &Site) -> Vec<i64> {
    let account = site.hub_account(WEEKLY)["id"].clone();
    let statement = site
        .hub()
        .json(&format!("/v1/accounts/{account}/statement"));
    let rows = statement["rows"].as_array().unwrap();
    let sales = rows.iter().filter(|row| row["kind"] == "sale");
    let mut amounts: Vec<i64> = sales.map(|row| -row["amount"].as_i64().unwrap()).collect();
    amounts.sort_unstable();
    amounts
}

#[track_caller]
pub(crate) fn wait_until_booked(site: &Site, mut sold: Vec<i64>) {
    sold.sort_unstable();
    let mut last = Vec::new();
    let is_so = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("every sale to be booked once", || {
            last = booked(site);
            (last == sold).then_some(())
        });
    }));
    assert!(is_so.is_ok(), "sold {sold:?}, booked {last:?}");
}

/// Money enough that only ceilings are in the way.
pub(crate) fn make_rich(site: &Site) {
    let account = site.hub_account(WEEKLY)["id"].clone();
    let change = json!({ "limits": { "week": null } }).to_string();
    let changed = site
        .hub()
        .ask("PATCH", &format!("/v1/accounts/{account}"), Some(&change));
    assert_eq!(changed.status, 200, "{changed:?}");
    let payer = site.hub().with("Idempotency-Key: rich");
    payer.post(
        &format!("/v1/accounts/{account}/deposits"),
        &json!({ "amount": 300_00 }),
    );
    site.wait_for_balance(WEEKLY, 500_00);
}

/// The operator is sure that nobody sells on the epochs before this one any more.
pub(crate) fn retire_old_epochs(site: &Site) {
    site.hub().post("/v1/tills/kasse-1/retire", &json!({}));
}

pub(crate) fn enrol_anew(site: &Site, code: &str) {
    let answer = site.ask(&["enrol", "--code", code]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.json["begins_anew"], true, "{answer:?}");
}

pub(crate) fn old_ledgers(site: &Site) -> usize {
    let files = fs::read_dir(site.path("till")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let old = names.filter(|name| name.starts_with("ledger-") && name.ends_with(".db"));
    old.count()
}

#[test]
fn sy_23_a_copied_till_is_named_both_copies_sales_are_booked_once_and_ceilings_stop() {
    let mut first = Site::open();
    make_rich(&first);
    assert!(sell_at(&first, 1_01));
    first.wait_until_agreed();
    first.stop_till();
    let mut copy = first.copy_till();
    first.start_till();
    first.wait_for_standing("good");
    first.wait_for_line("online");
    assert!(sell_at(&first, 1_02));
    first.wait_until_sent();
    copy.start_till();
    copy.wait_for_standing("forked");
    copy.wait_for_readers(true);

    // Told to the technician at the till and to the operator at the hub.
    let status = copy.status();
    let words = status["standing"]["text"].as_str().unwrap();
    assert!(words.contains("runbook/cloned-till.md"), "{words}");
    let notices = copy.shown()["notices"].to_string();
    assert!(notices.contains("disk er kopieret"), "{notices}");
    let flags = first.hub().json("/v1/flags").to_string();
    assert!(flags.contains("fork"), "{flags}");

    // Both go on; the copy inside what it was allowed before it was a copy.
    let mut sold = vec![1_01, 1_02];
    for price in [1_03, 1_04] {
        assert!(sell_at(&first, price));
        sold.push(price);
    }
    let mut price = 30_01;
    while sell_at(&copy, price) {
        sold.push(price);
        price += 1;
    }
    // 200 kr. is what one till is given ahead.
    assert_eq!(price, 30_07);
    copy.wait_until_sent();
    wait_until_booked(&first, sold.clone());

    // With a new code the copy becomes the till, and the other one is nobody any more.
    enrol_anew(&copy, &first.new_code());
    copy.wait_for_standing("good");
    copy.wait_for_line("online");
    copy.wait_for_readers(true);
    assert_eq!(old_ledgers(&copy), 1);
    assert!(sell_at(&copy, 1_05));
    sold.push(1_05);
    first.wait_for_standing("not_enrolled");
    assert!(sell_at(&first, 1_06));
    sold.push(1_06);
    for site in [&first, &copy] {
        site.wait_until_sent();
    }
    wait_until_booked(&first, sold);
    let verdict = copy.ask(&["ledger", "verify"]);
    assert_eq!(verdict.json["ok"], true, "{verdict:?}");
}

/// A copy whose next batch ends before its entries part from the other's is told that the hub has
/// all of it and more: it must not send the same batch for ever.
#[test]
fn a_copy_with_more_to_send_than_one_batch_finds_out_that_it_is_one() {
    let mut first = Site::open();
    make_rich(&first);
    first.wait_until_agreed();
    first.stop_hub();
    let mut sold: Vec<i64> = (1_01..=1_53).collect();
    for price in &sold {
        assert!(sell_at(&first, *price));
    }
    first.stop_till();
    let mut copy = first.copy_till();
    // It goes on in the dark, and further than the other one.
    copy.start_till();
    copy.wait_for_readers(true);
    for price in 2_01..=2_08 {
        assert!(sell_at(&copy, price));
        sold.push(price);
    }
    copy.stop_till();
    first.start_hub();
    first.start_till();
    first.wait_for_readers(true);
    assert!(sell_at(&first, 3_01));
    sold.push(3_01);
    first.wait_until_sent();
    copy.start_till();
    copy.wait_for_standing("forked");
    copy.wait_until_sent();
    wait_until_booked(&first, sold);
}

#[test]
fn sy_24_a_till_whose_disk_was_put_back_says_so_also_in_the_dark_and_loses_no_sale() {
    let mut site = Site::open();
    assert!(sell_at(&site, 1_01));
    site.wait_until_sent();
    site.stop_till();
    let kept = site.path("kept");
    copy_files(&site.path("till"), &kept);
    site.start_till();
    site.wait_for_line("online");
    site.wait_for_readers(true);
    assert!(sell_at(&site, 1_02));
    site.wait_until_sent();
    site.stop_till();
    site.stop_hub();
    // The ledger alone is put back, as from a backup of databases.
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(kept.join(name), site.path("till").join(name)).unwrap();
    }
    site.start_till();
    site.wait_for_readers(true);
    site.wait_for_standing("rolled_back");
    let words = site.status()["standing"]["text"].clone();
    assert!(words.to_string().contains("runbook/rolled-back-disk.md"));
    assert!(sell_at(&site, 1_03));
    site.start_hub();
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01, 1_02, 1_03]);
    assert_eq!(site.status()["standing"]["state"], "rolled_back");

    enrol_anew(&site, &site.new_code());
    site.wait_for_standing("good");
    site.wait_for_line("online");
    site.wait_for_readers(true);
    assert!(sell_at(&site, 1_04));
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01, 1_02, 1_03, 1_04]);
}

#[test]
fn a_revoked_till_sells_nothing_keeps_nobody_and_still_sends_what_it_sold() {
    let mut site = Site::open();
    site.stop_hub();
    site.wait_for_line("offline");
    assert!(sell_at(&site, 1_01));
    site.stop_till();
    site.start_hub();
    let revoked = site.hub().post("/v1/tills/kasse-1/revoke", &json!({}));
    assert!(revoked.status < 300, "{revoked:?}");
    site.start_till();
    site.wait_for_standing("revoked");
    site.wait_for_readers(true);
    assert_eq!(site.ask(&["status"]).code, 1);
    eventually("the people to be forgotten", || {
        let known = site.ask(&["chip", "show", WEEKLY]).json;
        known["chip"].is_null().then_some(())
    });
    let sale = site.sell(WEEKLY, MEAL);
    assert_eq!(sale.outcome, Outcome::declined("unknown_chip", None));
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01]);
    // Nothing of it comes back with a restart in the dark.
    site.stop_hub();
    site.kill_till();
    site.start_till();
    site.wait_for_standing("revoked");
    site.start_hub();

    enrol_anew(&site, &site.new_code());
    site.wait_for_standing("good");
    site.wait_until_open();
    assert!(sell_at(&site, 1_02));
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01, 1_02]);
}

/// A till that is killed at any moment of its new life goes on where it was.
#[test]
fn a_till_killed_while_it_begins_anew_begins_once_and_loses_nothing() {
    let mut site = Site::open();
    let mut sold = Vec::new();
    for turn in 0..6_u32 {
        let price = 1_01 + i64::from(turn);
        assert!(sell_at(&site, price));
        sold.push(price);
        enrol_anew(&site, &site.new_code());
        std::thread::sleep(Duration::from_millis(u64::from(turn) * 150));
        site.kill_till();
        site.start_till();
        eventually("the new life to begin", || {
            let status = site.try_status()?;
            let is_done = status["renewing"] == false && status["standing"]["state"] == "good";
            (is_done && status["line"]["state"] == "online").then_some(())
        });
        site.wait_until_open();
        assert_eq!(old_ledgers(&site), turn as usize + 1);
        site.wait_until_sent();
        wait_until_booked(&site, sold.clone());
        retire_old_epochs(&site);
    }
    site.wait_until_agreed();
}

#[test]
fn a_code_that_the_hub_refuses_changes_nothing() {
    let site = Site::open();
    assert!(sell_at(&site, 1_01));
    enrol_anew(&site, "WRONG-CODE");
    eventually("the refusal to be told", || {
        let status = site.try_status()?;
        let alarms = status["alarms"].to_string();
        (status["renewing"] == false && alarms.contains("refuses the new code")).then_some(())
    });
    site.wait_for_line("online");
    site.wait_for_readers(true);
    assert_eq!(old_ledgers(&site), 0);
    assert!(sell_at(&site, 1_02));
    site.wait_until_agreed();
    wait_until_booked(&site, vec![1_01, 1_02]);
}

/// Changes what a till that is switched off knows of its place in the hub's feed.
fn move_cursor(site: &Site, change: &str) {
    let ledger = Connection::open(site.path("till/ledger.db")).unwrap();
    let moved = ledger.execute(&format!("UPDATE progress SET {change}"), []);
    assert_eq!(moved.unwrap(), 1);
}

#[test]
fn sy_15_a_till_whose_cursor_leads_nowhere_takes_a_snapshot_and_forgets_what_is_gone() {
    let mut site = Site::open();
    assert!(sell_at(&site, 1_01));
    site.wait_until_agreed();
    site.stop_till();
    // The cursor is one of an earlier life of the hub's database.
    move_cursor(&site, "hub_epoch = hub_epoch + 1");
    let products = "/v1/canteens/1/products";
    let product = site.hub().json(products)["products"][0].clone();
    let path = format!("/v1/products/{}", product["id"]);
    assert_eq!(site.hub().ask("DELETE", &path, None).status, 204);
    site.start_till();
    site.wait_for_line("online");
    site.wait_for_readers(true);
    let name = product["name"].as_str().unwrap();
    site.wait_for_shown("the product to be gone", |shown| {
        let shown = shown["products"].as_array().unwrap();
        !shown.is_empty() && shown.iter().all(|it| it["name"] != name)
    });
    assert!(sell_at(&site, 1_02));
    site.wait_until_agreed();
    wait_until_booked(&site, vec![1_01, 1_02]);
}

/// As when the hub's whole machine is put back to an earlier state, so that it cannot know.
#[test]
fn a_hub_that_knows_less_than_it_has_told_is_named_and_its_data_is_not_taken() {
    let mut site = Site::open();
    assert!(sell_at(&site, 1_01));
    site.wait_until_agreed();
    site.stop_till();
    move_cursor(&site, "cursor = cursor + 1000000");
    site.start_till();
    site.wait_for_readers(true);
    eventually("the till to say that the hub knows less", || {
        let alarms = site.try_status()?["alarms"].to_string();
        let is_named = alarms.contains("hubd restore") && alarms.contains("hub-restored.md");
        is_named.then_some(())
    });
    site.wait_for_shown("the alarm on the page", |shown| {
        shown["notices"]
            .to_string()
            .contains("Till and hub do not agree")
    });
    assert!(sell_at(&site, 1_02));
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01, 1_02]);
    // It asks now and then, and does not press the hub.
    let asked = site.till_log().matches("The hub refuses").count();
    assert!(asked < 60, "asked {asked} times");
}
