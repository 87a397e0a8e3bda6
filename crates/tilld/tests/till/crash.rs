//! The till is killed at any moment, as a power cut would; its disk is all that it has.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::rig::sale::{Outcome, Sale};
use crate::rig::{MEAL, ORDINARY, Site, Wishes, eventually, fresh_id, put, sell_words};

/// A small generator (xorshift), so that a failing run can be played again by its seed.
struct Dice(u64);

impl Dice {
    /// From the environment variable `SEED`, or the clock; printed either way.
    fn new() -> Dice {
        let given = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_micros() as u64
        });
        println!("SEED={seed}");
        Dice(seed | 1)
    }

    fn below(&mut self, end: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % end.as_micros() as u64)
    }
}

/// Asks for a sale over the socket itself, so that the time of the kill counts from the request.
fn request_sale(site: &Site, id: &str, line: &str) -> UnixStream {
    let mut socket = UnixStream::connect(site.control_socket()).unwrap();
    let request = json!({"do": "sell", "id": id, "lines": [line], "timeout_s": 10});
    writeln!(socket, "{request}").unwrap();
    socket
}

/// So long after its request that about a third of the kills comes after the answer, on this
/// machine as it is.
fn longest_delay(site: &Site) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            // Too dear for anybody, so that the ledger has nothing but a refusal of it.
            let socket = request_sale(site, &fresh_id(), "1x Fest 999,00");
            let sale = heard(socket).unwrap();
            assert_eq!(sale.outcome.decision, "insufficient_funds");
            begun.elapsed()
        })
        .collect();
    times.sort();
    (times[2] * 3 / 2).max(Duration::from_millis(30))
}

/// What the till said before it died, if it came to that.
fn heard(socket: UnixStream) -> Option<Sale> {
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).ok()?;
    let answer: Value = serde_json::from_str(&line).ok()?;
    Sale::read(&answer)
}

#[test]
fn obt_23_a_sale_cut_short_by_a_kill_is_booked_once_or_not_at_all() {
    let mut dice = Dice::new();
    let mut site = Site::open();
    let chip = site.lay_and_wait(ORDINARY);
    let longest = longest_delay(&site);
    let mut sold = BTreeMap::new();
    let (mut answered, mut booked_unheard) = (0, 0);
    for round in 1..=KILLS {
        let id = fresh_id();
        // Every price is another, so that each sale can be told on the statement.
        let line = format!("1x Frugt {},{:02}", round / 100, round % 100);
        let socket = request_sale(&site, &id, &line);
        thread::sleep(dice.below(longest));
        site.kill_till();
        let before = heard(socket);

        site.start_till();
        let again = {
            site.wait_for_readers(true);
            site.ask(&sell_words(&[&line], Some(&id), "15")).sale()
        };
        assert!(again.is_approved(), "round {round}: {again:?}");
        if let Some(before) = before {
            answered += 1;
            assert!(before.is_approved(), "round {round}: {before:?}");
            let recorded = Sale {
                replayed: true,
                ..before
            };
            assert_eq!(again, recorded, "round {round}");
        } else if again.replayed {
            booked_unheard += 1;
        }
        sold.insert(id, i64::from(round));
    }
    chip.remove();
    println!(
        "{KILLS} kills within {longest:?}: {answered} sales were answered before, \
         {booked_unheard} booked unheard"
    );
    assert!(
        answered > 0 && answered < KILLS,
        "the kills came all too late or too early"
    );

    site.wait_until_agreed();
    let in_ledger = ledger_sales(&site);
    assert_eq!(in_ledger, sold);
    let amounts: Vec<i64> = (1..=i64::from(KILLS)).map(|price| -price).collect();
    assert_eq!(site.sales(ORDINARY), amounts);
    let total: i64 = amounts.iter().sum();
    assert_eq!(site.balance(ORDINARY), 149_50 + total);
}

/// All sales of the ledger by id; an id that stands there twice fails the test.
fn ledger_sales(site: &Site) -> BTreeMap<String, i64> {
    let page = site.ask(&["ledger", "list", "--limit", "500"]).json;
    let mut sales = BTreeMap::new();
    for entry in page["entries"].as_array().unwrap() {
        if entry["kind"] == "sale" {
            let id = entry["id"].as_str().unwrap().to_owned();
            let amount = entry["amount"].as_i64().unwrap();
            let before = sales.insert(id, amount);
            assert_eq!(before, None, "twice in the ledger: {entry}");
        }
    }
    sales
}

#[test]
fn a_till_killed_during_its_very_first_start_starts_again() {
    let mut dice = Dice::new();
    let mut site = Site::lay_out(&Wishes::default());
    let settings = site.path("till.toml");
    let mut till: toml::Table = std::fs::read_to_string(&settings).unwrap().parse().unwrap();
    for round in 0..FIRST_STARTS {
        let fresh = site.path(&format!("first-{round}"));
        put(
            &mut till,
            "till",
            "state_dir",
            fresh.to_string_lossy().into_owned(),
        );
        std::fs::write(&settings, till.to_string()).unwrap();
        site.begin_till();
        thread::sleep(dice.below(Duration::from_millis(80)));
        site.kill_till();
        site.start_till();
        let verdict = site.ask(&["ledger", "verify"]);
        assert_eq!(verdict.json["ok"], true, "round {round}: {verdict:?}");
        site.stop_till();
    }
}

#[test]
fn a_till_killed_while_it_enrols_enrols_again_with_the_same_code() {
    let mut dice = Dice::new();
    let mut site = Site::open_without_till();
    for _ in 0..6 {
        site.begin_till();
        thread::sleep(dice.below(Duration::from_millis(170)));
        site.kill_till();
    }
    site.start_till();
    site.wait_until_open();
    let sale = site.sell(ORDINARY, MEAL);
    assert_eq!(sale.outcome, Outcome::approved(127_50));
    site.wait_until_agreed();
}

#[test]
fn a_till_that_is_asked_to_stop_keeps_what_it_sold_and_leaves_no_socket() {
    let mut site = Site::open();
    let sale = site.sell(ORDINARY, MEAL);
    assert!(sale.is_approved());
    site.stop_till();
    assert!(!site.control_socket().exists());
    site.start_till();
    eventually("the balance after the restart", || {
        (site.balance(ORDINARY) == 127_50).then_some(())
    });
    site.wait_until_agreed();
}

const KILLS: u32 = 45;
const FIRST_STARTS: u32 = 12;

/// The reader's service may have been in the middle of something with the chip for the till.
#[test]
fn a_chip_that_lay_there_when_the_till_died_pays_after_its_start() {
    let mut dice = Dice::new();
    let mut site = Site::open();
    let laid = site.lay(ORDINARY);
    for _ in 0..KILLS_BESIDE_A_CHIP {
        let socket = request_sale(&site, &fresh_id(), "1x Fest 999,00");
        thread::sleep(dice.below(Duration::from_millis(20)));
        site.kill_till();
        drop(socket);
        site.start_till();
        thread::sleep(dice.below(Duration::from_millis(50)));
        let sale = heard(request_sale(&site, &fresh_id(), "1x Fest 999,00")).unwrap();
        assert_eq!(sale.outcome.decision, "insufficient_funds", "{sale:?}");
    }
    laid.remove();
}

const KILLS_BESIDE_A_CHIP: usize = 10;
