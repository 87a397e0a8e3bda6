//! Chips that prove themselves, end to end: a virtual NTAG 424 DNA that shows a random UID, written
//! apart from the till in another language, lies on the reader of a real pcscd.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use hw_tests::pcscd::Driver;
use serde_json::{Value, json};

use crate::card::{Card, UID};
use crate::rig::sale::{Outcome, Sale};
use crate::rig::{DAILY, MEAL, ORDINARY, SNACK, Site, Wishes, eventually, finish_sale};

/// The chip's keys, as the hub gives them to who enrols it.
type Keys = [String; 5];

fn keys_of(site: &Site, account: i64) -> Keys {
    let path = format!("/v1/accounts/{account}/chip-keys");
    let answer = site.hub().post(&path, &json!({"chip": UID})).json();
    let keys = answer["versions"][0]["keys"].as_array().unwrap();
    let text = |at: usize| keys[at].as_str().unwrap().to_owned();
    [0, 1, 2, 3, 4].map(text)
}

/// The card of [`DAILY`]'s holder is enrolled with keys; gives them when the till knows.
fn enrol(site: &Site) -> Keys {
    site.hub().post("/v1/canteens/1/key-sets", &json!({}));
    let account = site.account(DAILY)["id"].as_i64().unwrap();
    let keys = keys_of(site, account);
    let path = format!("/v1/accounts/{account}/chips");
    let enrolled = json!({"chip": UID, "key_version": 1});
    let answer = site.hub().post(&path, &enrolled).json();
    assert_eq!(answer["key_version"], 1, "{answer}");
    eventually("the till to know that the card must prove itself", || {
        let shown = site.ask(&["chip", "show", UID]).json;
        (shown["chip"]["must_prove"] == true).then_some(())
    });
    keys
}

fn lay(site: &Site, keys: &Keys, more: &[&str]) -> Card {
    Card::lay(site, &[&[&*keys.join(",")], more].concat())
}

/// A sale to the card when it is laid on the reader once the till asks for it.
fn sell(site: &Site, lines: &[&str], keys: &Keys, more: &[&str]) -> Sale {
    let waiting = site.begin_sale(lines, None);
    let card = lay(site, keys, more);
    let sale = finish_sale(waiting);
    drop(card);
    wait_until_left(site);
    sale
}

/// The till has heard that the last chip is gone. The stock driver is asked for chips every 400 ms: of
/// one that comes between two questions, when the one before it was torn away, pcscd says nothing.
fn wait_until_left(site: &Site) {
    let request = json!({"do": "reader_watch", "after": 0, "wait_s": 0});
    eventually("the chip to have left", || {
        let mut socket = UnixStream::connect(site.control_socket()).unwrap();
        writeln!(socket, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let last = told["seen"].as_array().unwrap().last();
        last.is_some_and(|sight| sight["what"] == "left")
            .then_some(())
    });
}

fn with_wrong(keys: &Keys, number: usize) -> Keys {
    let mut wrong = keys.clone();
    wrong[number] = "77".repeat(16);
    wrong
}

#[test]
fn an_enrolled_card_buys_and_every_imitation_of_it_is_refused() {
    check(&Site::open());
}

/// What the own driver and the virtual card agree on could be one mistake made twice: this driver is
/// the vsmartcard project's, as Debian builds it.
#[test]
fn behind_a_driver_that_others_wrote_the_card_buys_and_every_imitation_is_refused() {
    check(&Site::open_with(Wishes {
        driver: Driver::Stock,
        ..Wishes::default()
    }));
}

fn check(site: &Site) {
    let keys = enrol(site);
    let recording = site.path("recording");
    let recording = recording.to_str().unwrap();

    let lunch = sell(site, MEAL, &keys, &["--record", recording]);
    assert_eq!(lunch.outcome, Outcome::approved(38_00));

    // The same card with another reading key, with another UID key, and its answers once more: none
    // of them says who it is, so nothing is recorded on anybody's account.
    let nobody = Outcome::declined("chip_auth_failed", None);
    for wrong in [3, 1] {
        let copy = sell(site, SNACK, &with_wrong(&keys, wrong), &[]);
        assert_eq!(
            (copy.outcome, copy.seq),
            (nobody.clone(), None),
            "key {wrong}"
        );
    }
    let replayed = sell(site, SNACK, &keys, &["--replay", recording]);
    assert_eq!((replayed.outcome, replayed.seq), (nobody, None));

    // Its bare UID, by a chip that says any UID.
    let bare = site.sell(UID, SNACK);
    wait_until_left(site);
    assert_eq!(
        bare.outcome,
        Outcome::declined("chip_auth_failed", Some(38_00))
    );
    assert!(bare.seq.is_some(), "the holder can ask why");
    let shown = site.shown();
    let detail = &shown["verdict"]["detail"];
    assert!(
        detail["da"].as_str().unwrap().contains("kan være en kopi"),
        "{shown}"
    );
    assert!(
        detail["en"].as_str().unwrap().contains("may be a copy"),
        "{shown}"
    );

    // Chips without keys pay by their UID as before, and the card itself goes on paying.
    assert_eq!(site.sell(ORDINARY, MEAL).outcome, Outcome::approved(127_50));
    wait_until_left(site);
    let snack = sell(site, SNACK, &keys, &[]);
    assert_eq!(snack.outcome, Outcome::approved(35_00));
    site.wait_until_agreed();
    assert_eq!(site.sales(DAILY), [-22_00, -3_00]);

    // No key has come into the till's log or, readable, onto its disk.
    let mut seen = site.till_log().to_lowercase().into_bytes();
    for entry in std::fs::read_dir(site.path("till")).unwrap() {
        seen.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    for key in &keys {
        let raw = hex::decode(key).unwrap();
        let holds = |part: &[u8]| seen.windows(part.len()).any(|window| window == part);
        assert!(!holds(key.as_bytes()) && !holds(&raw), "a key is readable");
    }
}

/// Whether the cashier is told that the card is not genuine.
fn is_refused(site: &Site, keys: &Keys) -> bool {
    sell(site, SNACK, keys, &[]).outcome.decision == "chip_auth_failed"
}

#[test]
fn a_card_whose_keys_are_revoked_is_refused_and_a_till_without_the_hub_still_proves() {
    let mut site = Site::open();
    let keys = enrol(&site);
    assert_eq!(
        sell(&site, SNACK, &keys, &[]).outcome,
        Outcome::approved(57_00)
    );
    // The keys were kept: a till that starts without the hub proves by them.
    site.stop_till();
    site.stop_hub();
    site.start_till();
    site.wait_for_readers(true);
    assert_eq!(
        sell(&site, SNACK, &keys, &[]).outcome,
        Outcome::approved(54_00)
    );
    site.start_hub();
    site.wait_for_line("online");
    // The next version is drawn before the first one goes.
    site.hub().post("/v1/canteens/1/key-sets", &json!({}));
    site.hub()
        .post("/v1/canteens/1/key-sets/1/revoke", &json!({}));
    eventually("the till to refuse the revoked keys", || {
        is_refused(&site, &keys).then_some(())
    });
    // Without any version in use the till has no key at all; the card is still no telephone.
    site.hub()
        .post("/v1/canteens/1/key-sets/2/revoke", &json!({}));
    eventually("the till to have erased all keys", || {
        let erased = !site.path("till").join("chip-keys.sealed").exists();
        erased.then_some(())
    });
    assert!(is_refused(&site, &keys));
    site.stop_till();
    site.start_till();
    site.wait_for_readers(true);
    assert!(is_refused(&site, &keys), "after a new start");
}
