//! The cashier page of a real till on a real screen: Chromium shows it, a mouse presses it, a chip
//! is laid on the reader, and hub and till come and go.
//!
//! What was seen is kept as pictures in `target/page-shots/`.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod browser;
#[allow(
    dead_code,
    unused_imports,
    reason = "the page's tests need a part of the rig only"
)]
#[path = "../till/rig/mod.rs"]
mod rig;
mod shift;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use browser::Screen;
use rig::{ORDINARY, POOR};
use shift::{
    BASKET, EVERYTHING, KIND, LATEST, LINE, LOST, PATIENCE, PHOTO, SHELVES, SOON, SPOIL, STAGE,
    Shift, TOTAL, approved, demo_shelves, now, stage, waiting,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_products_stand_by_category_as_they_come_from_the_hub() {
    let shift = Shift::begin().await;
    let shelves: Value = shift.screen.read(SHELVES).await;
    assert_eq!(shelves, demo_shelves());
    shift.look("01-ready").await;

    // A low screen has room for one shelf at a time.
    shift.screen.resize(1024, 480).await;
    shift.screen.press(".categories", "Drikke").await;
    shift.screen.press(".shelves", "Mælk").await;
    shift
        .screen
        .wait_for(BASKET, json!(["1× Mælk 4,00"]), SOON)
        .await;
    shift.screen.shoot("01-ready-low").await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_on_the_reader_pays_what_was_pressed_and_a_press_takes_it_back() {
    let shift = Shift::begin().await;
    let screen = &shift.screen;

    screen.press(".products", "Dagens ret").await;
    screen
        .wait_for(BASKET, json!(["1× Dagens ret 22,00"]), SOON)
        .await;
    screen.wait_for(TOTAL, json!("22,00"), SOON).await;
    shift.look("02-basket").await;

    screen.press(".actions", "Betal").await;
    screen.wait_for(STAGE, waiting("22,00 kr."), SOON).await;
    shift.look("03-waiting").await;

    let tapped = Instant::now();
    let chip = shift.site.lay(ORDINARY);
    screen
        .wait_for(
            STAGE,
            approved("22,00 kr.", "127,50 kr.", "Elev Demo 1"),
            SOON,
        )
        .await;
    screen.wait_for(PHOTO, true, SOON).await;
    println!("green {} ms after the tap", tapped.elapsed().as_millis());
    chip.remove();
    shift.check_colour("rgb(10, 107, 53)").await;
    shift
        .check_said(
            "assertive",
            &["Godkendt", "Approved", "127,50 kr.", "Elev Demo 1"],
        )
        .await;
    shift.look("04-approved").await;
    for (width, height) in [
        (1280, 800),
        (1366, 768),
        (1920, 1080),
        // On end: a tablet on its foot, and the least that is still a screen.
        (800, 1280),
        (480, 800),
    ] {
        screen.resize(width, height).await;
        shift
            .check_readable(&format!("04-approved at {width}x{height}"))
            .await;
        screen.shoot(&format!("04-approved-{width}")).await;
    }
    screen.resize(1024, 768).await;

    // A press by mistake is a question first.
    screen.press("#recent", "Fortryd").await;
    screen.shoot("05-undo").await;
    shift.check_readable("05-undo").await;
    screen.press("#recent", "Nej").await;
    screen
        .wait_for(
            LATEST,
            json!("approved 22,00 Godkendt\nElev Demo 1 Fortryd"),
            SOON,
        )
        .await;
    screen.press("#recent", "Fortryd").await;
    screen.press("#recent", "Ja, fortryd").await;
    screen
        .wait_for(LATEST, json!("voided 22,00 Fortrudt\nElev Demo 1"), SOON)
        .await;
    shift.look("06-undone").await;

    let chip = shift.site.lay(ORDINARY);
    let lying = stage(
        "chip",
        "Chip på læseren",
        "Aktiv",
        ("Saldo", "149,50 kr."),
        "Elev Demo 1",
    );
    screen.wait_for(STAGE, lying, SOON).await;
    shift.look("07-chip").await;
    chip.remove();
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_without_the_money_is_refused_in_red_with_what_is_missing() {
    let shift = Shift::begin().await;
    shift.ring_up("Dagens ret").await;
    let chip = shift.site.lay(POOR);
    let refused = stage(
        "declined",
        "Afvist",
        "Saldoen er 7,00 kr. – der mangler 15,00 kr.",
        ("Mangler", "15,00 kr."),
        "Elev Demo 4",
    );
    shift.screen.wait_for(STAGE, refused, SOON).await;
    chip.remove();
    shift.check_colour("rgb(176, 15, 29)").await;
    shift
        .check_said("assertive", &["Afvist", "Declined", "15,00 kr. missing"])
        .await;
    // What was rung up stays, so that the cashier can take something off.
    shift
        .screen
        .wait_for(BASKET, json!(["1× Dagens ret 22,00"]), SOON)
        .await;
    shift.look("08-declined").await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_banner_counts_the_sales_that_wait_while_the_hub_is_away() {
    let mut shift = Shift::begin().await;
    shift.screen.wait_for(LINE, json!("Online"), PATIENCE).await;
    let before = now();
    shift.site.stop_hub();
    let offline = format!("{LINE}.startsWith('Offline siden ')");
    shift.screen.wait_for(&offline, true, PATIENCE).await;
    let after = now();

    shift
        .sell(
            "Ostehaps",
            ORDINARY,
            approved("3,00 kr.", "146,50 kr.", "Elev Demo 1"),
        )
        .await;
    shift
        .sell(
            "Dagens ret",
            ORDINARY,
            approved("22,00 kr.", "124,50 kr.", "Elev Demo 1"),
        )
        .await;
    // A refusal waits to be sent, too, and is no sale.
    shift.ring_up("Dagens ret").await;
    let chip = shift.site.lay(POOR);
    shift.screen.wait_for(KIND, json!("declined"), SOON).await;
    chip.remove();

    let banner: String = shift.screen.read(LINE).await;
    let expected = [before, after].map(|time| format!("Offline siden {time} – 2 salg venter"));
    assert!(
        expected.contains(&banner),
        "{banner} is none of {expected:?}"
    );
    shift.look("09-offline").await;

    shift.site.start_hub();
    shift.screen.wait_for(LINE, json!("Online"), PATIENCE).await;
    shift.screen.shoot("10-online-again").await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_reader_that_works_the_page_is_not_ready_and_says_so() {
    let mut shift = Shift::begin().await;
    shift.site.pcscd.kill();
    let deaf = |kind, figure: Value| {
        let detail = "Ingen kan betale, før en læser er klar – gør, som der står i den røde besked";
        json!({
            "kind": kind, "title": "Ingen læser virker", "detail": detail,
            "label": figure[0], "amount": figure[1], "name": null,
        })
    };
    let idle = deaf("attention", json!([null, null]));
    shift.screen.wait_for(STAGE, idle, PATIENCE).await;
    shift.look("13-no-reader").await;
    shift.site.pcscd.restart().unwrap();
    shift.screen.wait_for(KIND, json!("ready"), PATIENCE).await;

    // A payment that waits is not lost by it.
    shift.ring_up("Ostehaps").await;
    shift.site.pcscd.kill();
    let open = deaf("waiting", json!(["At betale", "3,00 kr."]));
    shift.screen.wait_for(STAGE, open, PATIENCE).await;
    shift.look("14-no-reader-waiting").await;
    shift.site.pcscd.restart().unwrap();
    shift
        .screen
        .wait_for(STAGE, waiting("3,00 kr."), PATIENCE)
        .await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_is_killed_or_hangs_covers_the_page_until_it_is_back() {
    let mut shift = Shift::begin().await;
    shift.ring_up("Ostehaps").await;
    shift.site.kill_till();
    shift
        .screen
        .wait_for(LOST, true, Duration::from_secs(6))
        .await;
    shift.check_readable("lost").await;
    shift
        .check_said(
            "assertive",
            &["Kassen svarer ikke", "The till does not answer"],
        )
        .await;
    shift.screen.shoot("11-lost").await;
    let under: Value = shift
        .screen
        .read("document.elementFromPoint(900, 550).id")
        .await;
    assert_eq!(
        under,
        json!("lost"),
        "the page can be pressed though the till is gone"
    );
    // Only the stream that the till has dropped, and knocks at its closed door.
    for complaint in shift.screen.complaints() {
        let expected = complaint.starts_with("network: ") && complaint.ends_with("/events");
        assert!(expected, "{complaint}");
    }

    shift.site.start_till();
    shift.screen.wait_for(LOST, false, PATIENCE).await;
    shift.screen.wait_for(KIND, json!("ready"), PATIENCE).await;
    shift.screen.wait_for(BASKET, json!([]), SOON).await;
    shift.site.wait_for_readers(true);
    shift.screen.complaints();
    shift
        .sell(
            "Ostehaps",
            ORDINARY,
            approved("3,00 kr.", "146,50 kr.", "Elev Demo 1"),
        )
        .await;

    shift.freeze_till(Signal::SIGSTOP);
    shift
        .screen
        .wait_for(LOST, true, Duration::from_secs(10))
        .await;
    shift.freeze_till(Signal::SIGCONT);
    shift.screen.wait_for(LOST, false, PATIENCE).await;
    shift.screen.shoot("12-back").await;
    shift.screen.complaints();
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_types_as_a_keyboard_presses_nothing() {
    let shift = Shift::begin().await;
    let screen = &shift.screen;
    screen.press(".products", "Dagens ret").await;
    screen
        .wait_for(BASKET, json!(["1× Dagens ret 22,00"]), SOON)
        .await;
    let before: Value = screen.read(EVERYTHING).await;
    for button in [
        "#pay",
        "#clear",
        "#other",
        ".product",
        "#line",
        "[data-choose=en]",
        ".remove",
    ] {
        for typed in ["72BF9961\n", "1925159265 \n", "  \n\n  "] {
            screen
                .read::<Value>(&format!("document.querySelector('{button}').focus()"))
                .await;
            screen.type_keys(typed, Duration::from_millis(8)).await;
            // The page waits for silence after a key; so does the next burst.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let after: Value = screen.read(EVERYTHING).await;
            assert_eq!(after, before, "{typed:?} on {button} pressed something");
        }
    }
    let told =
        "[...document.querySelectorAll('#toasts p')].map((toast) => toast.firstChild.textContent)";
    let wedge = "En scanner eller læser skrev som et tastatur – det bruger kassen ikke";
    screen.wait_for(told, json!([wedge]), SOON).await;
    shift.look("13-keyboard").await;

    // The same key, pressed by a person, does what the button says.
    screen
        .read::<Value>("document.querySelector('#pay').focus()")
        .await;
    screen.type_keys("\n", Duration::from_millis(80)).await;
    screen.wait_for(KIND, json!("waiting"), SOON).await;
    screen.press(".actions", "Afbryd").await;
    screen.wait_for(KIND, json!("attention"), SOON).await;
    shift.look("14-cancelled").await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_is_typed_on_the_keypad() {
    let shift = Shift::begin().await;
    let screen = &shift.screen;
    screen.press(".actions", "Beløb").await;
    for key in ["1", "2", ",", "5", "0"] {
        screen.press("#keys", key).await;
    }
    screen
        .wait_for(
            "document.querySelector('#typed').textContent",
            json!("12,50"),
            SOON,
        )
        .await;
    screen.shoot("15-keypad").await;
    shift.check_readable("15-keypad").await;
    screen.press("#keypad", "Læg i kurv").await;
    screen
        .wait_for(BASKET, json!(["1× Diverse 12,50"]), SOON)
        .await;
    screen.press("#lines", "Fjern Diverse").await;
    screen.wait_for(BASKET, json!([]), SOON).await;
    shift.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tests_look_for_is_found_when_it_is_there() {
    let shift = Shift::begin().await;
    let screen = &shift.screen;
    screen.read::<Value>(SPOIL).await;
    let noted = |word: &str| {
        screen
            .complaints()
            .iter()
            .any(|complaint| complaint.contains(word))
    };
    rig::eventually("the policy to stop a script", || {
        noted("Content Security Policy").then_some(())
    });
    screen.read::<Value>("console.error('spoilt')").await;
    rig::eventually("the console's error", || noted("spoilt").then_some(()));
    screen
        .read::<Value>("setTimeout(() => { throw new Error('thrown'); }) && null")
        .await;
    rig::eventually("the uncaught error", || noted("thrown").then_some(()));
    let cut = screen.cut_texts().await;
    assert!(
        cut.iter().any(|cut| cut.text == "Kommunekantinen"),
        "{cut:?}"
    );
    let pale = screen.contrasts().await;
    let pale = pale
        .iter()
        .find(|pale| pale.text == "Bleg")
        .map(|pale| pale.ratio);
    // #777 on white, as WebAIM's checker has it.
    assert!(
        pale.is_some_and(|ratio| (4.47..4.49).contains(&ratio)),
        "{pale:?}"
    );
    assert!(shift.nameless_buttons().await > 0);
    shift.screen.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_browser_is_a_failure_with_advice() {
    let error = Screen::open_in(Path::new("/nowhere/chromium"), "about:blank")
        .await
        .err();
    let advice = "no browser at /nowhere/chromium; install the package chromium \
                  (apt-get install chromium)";
    assert_eq!(
        error.map(|error| error.to_string()).as_deref(),
        Some(advice)
    );
}
