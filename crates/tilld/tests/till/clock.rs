//! A till whose clock cannot be believed, and its hub behind real TLS.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::Value;
use uuid::Uuid;

use crate::rig::{MEAL, Site, WEEKLY, eventually};
use crate::tls_door::TlsDoor;

/// The till takes its clock for one that has jumped ahead since so many days ago, before the machine
/// was booted: as it does after a coin cell has run empty, or after holidays.
fn doubt_clock(site: &Site, days: i64) {
    let then = Timestamp::now() - SignedDuration::from_hours(24 * days);
    let ledger = Connection::open(site.path("till/ledger.db")).unwrap();
    let boot = Uuid::from_u128(7).into_bytes();
    let changed = ledger
        .execute(
            "UPDATE clock SET state = 'forward', utc_ms = ?1, boot_ms = 0, boot = ?2",
            (then.as_millisecond(), boot),
        )
        .unwrap();
    assert_eq!(changed, 1);
    // It was enrolled before that.
    let path = site.path("till/enrolment.json");
    let mut enrolment: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let enrolled = then - SignedDuration::from_hours(24);
    enrolment["at"] = enrolled.to_string().into();
    fs::write(path, enrolment.to_string()).unwrap();
    // What the hub told was before that, too, and says nothing after another start of the machine.
    let forgotten = ledger
        .execute(
            "UPDATE progress SET hub_clock_boot = ?1, hub_clock_ms = ?2
             WHERE hub_clock_boot IS NOT NULL",
            (boot, then.as_millisecond()),
        )
        .unwrap();
    assert_eq!(forgotten, 1);
}

/// The till says what is wrong with the certificate and what to do.
#[track_caller]
fn wait_for_refusal(site: &Site) {
    let mut words = String::new();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the certificate to be refused", || {
            words = site.status()["line"]["text"].as_str()?.to_owned();
            let is_so = words.contains("certificate does not count now");
            (is_so && words.contains("runbook page clock.md")).then_some(())
        });
    }));
    assert!(told.is_ok(), "{words}");
}

#[test]
fn sy_38_a_till_that_does_not_believe_its_clock_reaches_its_hub_and_learns_the_time() {
    let mut site = Site::open_without_till();
    let door = TlsDoor::to(site.hub_port(), &site.path("ca.pem"));
    site.go_by_tls(door.port(), "ca.pem");
    site.start_till();
    site.wait_until_open();
    assert!(site.sell(WEEKLY, MEAL).is_approved());
    site.wait_until_sent();

    // A certificate that has ended is none to a till that believes its clock.
    door.show(-30, -1);
    wait_for_refusal(&site);
    site.wait_for_line("offline");
    assert!(site.sell(WEEKLY, MEAL).is_approved());

    // Nor is one that had ended when the clock was last believed.
    site.stop_till();
    doubt_clock(&site, 3);
    door.show(-30, -5);
    site.start_till();
    site.wait_for_readers(true);
    wait_for_refusal(&site);
    assert_eq!(site.ask(&["clock"]).json["state"], "forward");
    assert_ne!(site.status()["line"]["state"], "online");
    assert!(site.sell(WEEKLY, &["1x Frugt 1,01"]).is_approved());

    // One that counted then is taken, and the hub tells the time.
    door.show(-30, -1);
    site.wait_until_sent();
    eventually("the clock to be believed again", || {
        (site.ask(&["clock"]).json["state"] == "right").then_some(())
    });
    let log = site.till_log();
    assert!(log.contains("by the last time that was believed"), "{log}");

    // From then on the till knows that it has ended.
    door.show(-30, -1);
    site.wait_for_line("offline");
    door.show(-30, 60);
    site.wait_for_line("online");
    site.wait_until_agreed();
    assert_eq!(site.sales(WEEKLY), [-22_00, -22_00, -1_01]);
}

#[test]
fn a_till_is_not_enrolled_at_a_hub_whose_certificate_has_ended() {
    let mut site = Site::open_without_till();
    let door = TlsDoor::to(site.hub_port(), &site.path("ca.pem"));
    door.show(-30, -1);
    site.go_by_tls(door.port(), "ca.pem");
    site.start_till();
    wait_for_refusal(&site);
    assert!(!site.path("till/enrolment.json").exists());
    door.show(-30, 60);
    site.wait_until_open();
    let enrolment = fs::read_to_string(site.path("till/enrolment.json")).unwrap();
    assert!(enrolment.contains("\"at\""), "{enrolment}");
}
