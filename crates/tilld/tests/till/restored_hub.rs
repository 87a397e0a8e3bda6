//! The hub's database is replaced by yesterday's copy, with real programs on both sides.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::hard_cases::{booked, enrol_anew, make_rich, old_ledgers, sell_at, wait_until_booked};
use crate::rig::{Site, WEEKLY, eventually};

/// The files of the hub's database, but for what it writes anew.
fn database(site: &Site) -> [PathBuf; 2] {
    ["hub.sqlite", "hub.sqlite-wal"].map(|name| site.path(name))
}

fn back_up(site: &Site) -> [Option<Vec<u8>>; 2] {
    database(site).map(|file| fs::read(file).ok())
}

/// Puts a backup in place as the runbook says.
fn put_back(site: &Site, backup: &[Option<Vec<u8>>; 2]) {
    for (file, bytes) in database(site).iter().zip(backup) {
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            None => drop(fs::remove_file(file)),
        }
    }
    drop(fs::remove_file(site.path("hub.sqlite-shm")));
}

fn missing(site: &Site) -> Vec<Value> {
    let restore = site.hub().json("/v1/restore");
    let frozen = restore["frozen"].as_array().unwrap();
    let missing = frozen
        .iter()
        .flat_map(|canteen| canteen["missing"].as_array().unwrap());
    missing.map(|missing| missing["till"].clone()).collect()
}

#[test]
fn sy_25_a_hub_put_back_to_yesterday_says_what_to_do_and_gets_every_sale_back_once() {
    let mut site = Site::open();
    let mut second = site.open_sibling();
    make_rich(&site);
    second.wait_for_balance(WEEKLY, 500_00);
    let mut sold = vec![1_01, 1_02];
    assert!(sell_at(&site, 1_01));
    assert!(sell_at(&second, 1_02));
    for till in [&site, &second] {
        till.wait_until_sent();
    }
    site.stop_hub();
    let yesterday = back_up(&site);
    site.start_hub();
    for till in [&site, &second] {
        till.wait_for_line("online");
    }
    assert!(sell_at(&site, 1_03));
    assert!(sell_at(&second, 1_04));
    sold.extend([1_03, 1_04]);
    for till in [&site, &second] {
        till.wait_until_sent();
    }
    wait_until_booked(&site, sold.clone());

    // One till is switched off, the hub gets its old database, and says what it is.
    second.stop_till();
    site.stop_hub();
    put_back(&site, &yesterday);
    let refused = site.run_hubd(&[]);
    assert!(!refused.status.success(), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    for words in [
        "older copy",
        "`hubd restore`",
        "runbook page hub-restored.md",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // The till that is left sells on, and says since when and why it is alone.
    site.wait_for_line("offline");
    assert!(sell_at(&site, 1_05));
    sold.push(1_05);
    let status = site.status();
    let words = status["line"]["text"].as_str().unwrap();
    assert!(words.contains("does not answer"), "{status}");
    assert!(status["line"]["since"].is_string(), "{status}");
    let line = site.shown()["line"]["text"].to_string();
    assert!(line.contains("Offline siden"), "{line}");

    let asked = site.run_hubd(&["restore"]);
    assert!(!asked.status.success(), "{asked:?}");
    assert!(!site.run_hubd(&[]).status.success());
    let restored = site.run_hubd(&["restore", "--yes"]);
    assert!(restored.status.success(), "{restored:?}");
    site.start_hub();

    // The hub has everything of the till that is on, and waits for the other one.
    site.wait_for_line("online");
    eventually("the first till to report", || {
        (missing(&site) == ["kasse-2"]).then_some(())
    });
    let restore = site.hub().json("/v1/restore");
    let to_do = restore["to_do"].to_string();
    for words in ["switch on the tills", "hub-restored.md", "top-ups/import"] {
        assert!(to_do.contains(words), "{restore}");
    }
    site.wait_until_sent();
    wait_until_booked(&site, vec![1_01, 1_02, 1_03, 1_05]);

    // Inside what it was allowed before, and no further: 200 kr. is what one till is given ahead.
    let mut price = 30_01;
    while sell_at(&site, price) {
        sold.push(price);
        price += 1;
    }
    let ahead: i64 = (30_01..price).sum();
    assert!((90_00..=200_00).contains(&ahead), "{ahead} øre");
    assert_eq!(missing(&site), ["kasse-2"]);

    second.start_till();
    second.wait_for_line("online");
    second.wait_for_readers(true);
    eventually("the freeze to end", || {
        missing(&site).is_empty().then_some(())
    });
    assert!(sell_at(&second, 1_06));
    sold.push(1_06);
    for till in [&site, &second] {
        till.wait_until_sent();
    }
    wait_until_booked(&site, sold.clone());

    // What was paid in since the copy is to be entered again, and nothing here was: all agree.
    let left = 500_00 - sold.iter().sum::<i64>();
    assert!(left >= 0, "{left}");
    for till in [&site, &second] {
        eventually("till and hub to have the same balance", || {
            (till.balance(WEEKLY) == left && site.hub_balance(WEEKLY) == left).then_some(())
        });
        let verdict = till.ask(&["ledger", "verify"]);
        assert_eq!(verdict.json["ok"], true, "{verdict:?}");
        assert_eq!(till.status()["standing"]["state"], "good");
    }
    // With nothing frozen any more the till gets more to spend again.
    assert!(sell_at(&site, 30_50));
    sold.push(30_50);
    site.wait_until_sent();
    wait_until_booked(&site, sold.clone());
    assert_eq!(booked(&site).len(), sold.len());
    let to_do = site.hub().json("/v1/restore")["to_do"].to_string();
    assert!(!to_do.contains("switch on the tills"), "{to_do}");
}

/// Puts a backup in place and begins the hub's new life.
fn restore(site: &mut Site, backup: &[Option<Vec<u8>>; 2]) {
    site.stop_hub();
    put_back(site, backup);
    let restored = site.run_hubd(&["restore", "--yes"]);
    assert!(restored.status.success(), "{restored:?}");
    site.start_hub();
}

#[test]
fn a_till_that_was_enrolled_anew_after_the_backup_loses_no_sale_of_either_ledger() {
    let mut site = Site::open();
    make_rich(&site);
    let mut sold = vec![1_01];
    assert!(sell_at(&site, 1_01));
    site.wait_until_agreed();
    site.stop_hub();
    let backup = back_up(&site);
    site.start_hub();
    site.wait_for_line("online");

    // After the backup: sales in the old ledger, a new one, and sales in that.
    assert!(sell_at(&site, 1_02));
    site.wait_until_sent();
    enrol_anew(&site, &site.new_code());
    eventually("the new ledger", || (old_ledgers(&site) == 1).then_some(()));
    site.wait_for_standing("good");
    site.wait_for_line("online");
    site.wait_for_readers(true);
    assert!(sell_at(&site, 1_03));
    sold.extend([1_02, 1_03]);
    site.wait_until_agreed();
    wait_until_booked(&site, sold.clone());

    // The hub has never heard of the new ledger, nor of what the old one has sold since.
    restore(&mut site, &backup);
    site.wait_for_standing("not_enrolled");
    wait_until_booked(&site, sold.clone());
    let flags = site.hub().json("/v1/flags").to_string();
    assert!(flags.contains("forgotten_epoch"), "{flags}");

    // Nobody is left guessing what ends the wait, and nobody can end it too early.
    let steps = || -> Vec<Value> {
        let restore = site.hub().json("/v1/restore");
        let missing = restore["frozen"][0]["missing"].as_array().cloned();
        let missing = missing.unwrap_or_default().into_iter();
        missing.map(|missing| missing["next"].clone()).collect()
    };
    assert_eq!(steps(), ["new_code", "new_code"]);
    let retire = || site.hub().ask("POST", "/v1/tills/kasse-1/retire", None);
    assert!(retire().body.contains("/problems/till-in-use"));

    // It sells on inside what it was allowed, and all of it arrives.
    assert!(sell_at(&site, 1_04));
    sold.push(1_04);
    site.wait_until_sent();
    wait_until_booked(&site, sold.clone());

    // With a new code it is a till like every other one again.
    enrol_anew(&site, &site.new_code());
    eventually("the newest ledger", || {
        (old_ledgers(&site) == 2).then_some(())
    });
    site.wait_for_standing("good");
    site.wait_for_line("online");
    site.wait_for_readers(true);
    assert!(sell_at(&site, 1_05));
    sold.push(1_05);
    site.wait_until_sent();
    wait_until_booked(&site, sold.clone());
    assert_eq!(booked(&site).len(), sold.len());
    let verdict = site.ask(&["ledger", "verify"]);
    assert_eq!(verdict.json["ok"], true, "{verdict:?}");
    assert_eq!(steps(), ["retire", "retire"]);
    assert!(retire().json()["at_risk"].is_i64());
    assert_eq!(steps(), [""; 0]);
}

#[test]
fn a_branch_that_the_hub_acknowledged_before_it_was_put_back_is_sent_once_more() {
    let mut first = Site::open();
    make_rich(&first);
    assert!(sell_at(&first, 1_01));
    first.wait_until_agreed();
    first.stop_hub();
    let backup = back_up(&first);
    first.start_hub();
    first.wait_for_line("online");

    // A copy sells, and is told that it is one.
    first.stop_till();
    let mut copy = first.copy_till();
    first.start_till();
    first.wait_for_line("online");
    first.wait_for_readers(true);
    assert!(sell_at(&first, 1_02));
    first.wait_until_sent();
    copy.start_till();
    copy.wait_for_standing("forked");
    copy.wait_for_readers(true);
    assert!(sell_at(&copy, 1_03));
    copy.wait_until_sent();
    let sold = vec![1_01, 1_02, 1_03];
    wait_until_booked(&first, sold.clone());

    // The copy hears nothing of the hub's new life, and is asked by a technician to look.
    restore(&mut first, &backup);
    first.wait_for_line("online");
    first.wait_until_sent();
    eventually("the copy to send its branch once more", || {
        copy.ask(&["sync", "now"]);
        let mut found = booked(&first);
        found.sort_unstable();
        (found == sold).then_some(())
    });
}
