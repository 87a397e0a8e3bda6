//! The hub is away, or what comes back from it does not arrive.

use serde_json::json;

use crate::rig::link::Way;
use crate::rig::sale::Outcome;
use crate::rig::{
    DAILY, KNOWN, MEAL, MONTHLY, ORDINARY, POOR, SNACK, Site, WEEKLY, Wishes, eventually,
};

#[track_caller]
fn check(site: &Site, chip: &str, lines: &[&str], expected: Outcome) {
    let sale = site.sell(chip, lines);
    assert_eq!(sale.outcome, expected, "{chip} buys {lines:?}");
}

#[test]
fn sales_go_on_without_the_hub_and_all_arrive_once_when_it_is_back() {
    let mut site = Site::open();
    check(&site, MONTHLY, MEAL, Outcome::approved(178_00));
    site.wait_until_agreed();
    site.stop_hub();
    site.wait_for_line("offline");

    check(&site, ORDINARY, MEAL, Outcome::approved(127_50));
    check(&site, ORDINARY, SNACK, Outcome::approved(124_50));
    // What was spent before the line fell counts, and so does what was spent since.
    check(
        &site,
        MONTHLY,
        MEAL,
        Outcome::over("limit_month", 178_00, 40_00, 18_00),
    );
    check(&site, DAILY, MEAL, Outcome::approved(38_00));
    check(
        &site,
        DAILY,
        MEAL,
        Outcome::over("limit_day", 38_00, 25_00, 3_00),
    );
    check(&site, POOR, SNACK, Outcome::approved(4_00));
    check(
        &site,
        POOR,
        &["1x Stor grovbolle 5,00"],
        Outcome::declined("insufficient_funds", Some(4_00)),
    );

    let status = site.status();
    assert_eq!(status["line"]["state"], "offline", "{status}");
    assert!(status["line"]["since"].is_string(), "{status}");
    assert_eq!(status["waiting"], 7, "{status}");
    let line = site.shown()["line"].clone();
    assert_eq!(line["state"], "offline", "{line}");
    assert_eq!(line["waiting"], 4, "{line}");
    let words = line["text"]["da"].as_str().unwrap();
    assert!(words.starts_with("Offline siden "), "{words}");
    assert!(words.ends_with("4 salg venter"), "{words}");

    // A restart in the dark forgets none of it.
    let since = status["line"]["since"].clone();
    site.kill_till();
    site.start_till();
    site.wait_for_readers(true);
    let status = site.status();
    assert_eq!(status["line"]["state"], "offline", "{status}");
    assert!(
        status["line"]["since"].as_str() <= since.as_str(),
        "{status}"
    );
    check(
        &site,
        DAILY,
        MEAL,
        Outcome::over("limit_day", 38_00, 25_00, 3_00),
    );
    check(&site, WEEKLY, MEAL, Outcome::approved(178_00));

    site.start_hub();
    site.wait_for_line("online");
    site.wait_until_agreed();
    for (chip, sales) in [
        (ORDINARY, &[-22_00, -3_00][..]),
        (DAILY, &[-22_00]),
        (WEEKLY, &[-22_00]),
        (MONTHLY, &[-22_00]),
        (POOR, &[-3_00]),
    ] {
        assert_eq!(site.sales(chip), sales, "{chip}");
    }
    assert_eq!(site.hub_balance(ORDINARY), 124_50);
}

#[test]
fn sy_10_a_hub_that_crashes_under_the_tills_hands_loses_and_doubles_nothing() {
    let mut site = Site::open();
    let chip = site.lay_and_wait(WEEKLY);
    let mut sold = 0;
    for _ in 0..4 {
        for _ in 0..3 {
            let sale = site.sell_to_laid(&["1x Frugt 0,50"], None);
            assert!(sale.is_approved(), "{sale:?}");
            sold += 1;
        }
        site.kill_hub();
        let sale = site.sell_to_laid(&["1x Frugt 0,50"], None);
        assert!(sale.is_approved(), "{sale:?}");
        sold += 1;
        site.start_hub();
    }
    chip.remove();
    site.wait_until_agreed();
    assert_eq!(site.sales(WEEKLY), vec![-50; sold]);
}

#[test]
fn sy_02_a_lost_answer_makes_nothing_arrive_twice() {
    let site = Site::open_with(Wishes {
        link: true,
        ..Wishes::default()
    });
    let link = site.link.as_ref().unwrap();
    link.set(Way::AnswersLost { every: 2 });
    let chip = site.lay_and_wait(WEEKLY);
    let lines = (1..=12).map(|price| format!("1x Frugt 0,{price:02}"));
    for line in lines {
        let sale = site.sell_to_laid(&[&line], None);
        assert!(sale.is_approved(), "{sale:?}");
        // One batch each, so that many answers can be lost.
        eventually("the sale to stand on the statement", || {
            let expected = -line.rsplit_once(',')?.1.parse::<i64>().ok()?;
            (site.sales(WEEKLY).last() == Some(&expected)).then_some(())
        });
    }
    chip.remove();
    link.set(Way::Through);
    site.wait_until_agreed();
    assert!(link.lost() >= 5, "only {} answers were lost", link.lost());
    let expected: Vec<i64> = (1..=12).map(|price| -price).collect();
    assert_eq!(site.sales(WEEKLY), expected);
    for chip in KNOWN {
        assert_eq!(site.hub_balance(chip), site.balance(chip), "{chip}");
    }
}

/// What needs no signature, since the till only waits because of it.
fn asks_to_wait(way: &Way) -> bool {
    let Way::Says(bytes) = way else { return false };
    String::from_utf8_lossy(bytes).contains(" 429 ")
}

/// Everything that may come back on port 80 of a school, or from a hub that is being repaired.
#[test]
fn sy_21_a_hub_that_talks_nonsense_stops_no_sale_and_loses_none() {
    let answer = |head: &str, body: &str| {
        let length = body.len();
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
        Way::Says(text.into_bytes())
    };
    let too_much = r#"{"hub_epoch":1,"accepted":{"seq":900000,"hash":"0000000000000000000000000000000000000000000000000000000000000000"},"durable_through":900000,"results":[],"hub_time":"2026-11-20T10:00:00Z"}"#;
    let gap = r#"{"code":"gap","expected":900000}"#;
    let nonsense = [
        answer("500 Internal Server Error", "oh no"),
        answer(
            "200 OK",
            "<html>Please log in to the school's network</html>",
        ),
        answer("200 OK", ""),
        answer("200 OK", "{}"),
        answer("200 OK\r\nContent-Encoding: zstd", "not zstd at all"),
        answer("200 OK", too_much),
        answer("404 Not Found", "nothing here"),
        answer("400 Bad Request", "{}"),
        answer("422 Unprocessable Content", r#"{"code":"unknown"}"#),
        answer("409 Conflict", gap),
        answer("429 Too Many Requests\r\nRetry-After: 99999999999", ""),
        answer("302 Found\r\nLocation: http://127.0.0.1:1/", ""),
        Way::Says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"hub".to_vec()),
        Way::Says(b"\x15\x03\x01 this is not HTTP\r\n\r\n".to_vec()),
        Way::Says(Vec::new()),
        Way::CutInHalf,
        Way::Silence,
    ];
    let site = Site::open_with(Wishes {
        link: true,
        ..Wishes::default()
    });
    let link = site.link.as_ref().unwrap();
    let chip = site.lay_and_wait(WEEKLY);
    let count = nonsense.len();
    for (turn, way) in nonsense.into_iter().enumerate() {
        link.set(way.clone());
        let sale = site.sell_to_laid(&["1x Frugt 0,50"], None);
        let left = 200_00 - 50 * (i64::try_from(turn).unwrap() + 1);
        assert_eq!(sale.outcome, Outcome::approved(left), "with {way:?}");
        site.page().post("/sync/now", &json!({}));
        eventually(&format!("both conversations to meet {way:?}"), || {
            (link.batches() > 0 && link.others() > 0).then_some(())
        });
        if !asks_to_wait(&way) {
            site.wait_for_line("offline");
        }
        let waiting = site.status()["waiting"].as_u64().unwrap();
        assert!(waiting > turn as u64, "{way:?} made the till forget sales");
    }
    chip.remove();
    let verdict = site.ask(&["ledger", "verify"]);
    assert_eq!(verdict.json["ok"], true, "{verdict:?}");

    link.set(Way::Through);
    site.ask(&["sync", "now"]);
    site.wait_for_line("online");
    site.wait_until_agreed();
    assert_eq!(site.sales(WEEKLY), vec![-50; count]);
}
