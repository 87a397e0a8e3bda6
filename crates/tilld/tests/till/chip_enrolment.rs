//! `tillctl chip enrol`, end to end: a virtual NTAG 424 DNA that remembers what was written on it
//! lies on the reader of a real pcscd, and the hub gives out its keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use hw_tests::device::DeviceKind;
use hw_tests::pty_reader::SimulatedReader;
use serde_json::{Value, json};

use crate::card::{Card, UID};
use crate::rig::sale::{Ctl, Outcome};
use crate::rig::{DAILY, MEAL, SNACK, Site, Wishes, eventually, finish_sale};

const TOKEN: &str = "operator-token-of-the-tests";

/// A canteen whose chips prove themselves, and an account for the card.
pub(crate) struct Bench {
    pub(crate) site: Site,
    account: i64,
}

impl Bench {
    fn open() -> Bench {
        Bench::at(Site::open())
    }

    pub(crate) fn at(site: Site) -> Bench {
        let account = site.account(DAILY)["id"].as_i64().unwrap();
        let bench = Bench { site, account };
        bench.draw_keys();
        fs::write(bench.site.path("token"), format!("{TOKEN}\n")).unwrap();
        bench
    }

    pub(crate) fn draw_keys(&self) {
        let drawn = self.site.hub().post("/v1/canteens/1/key-sets", &json!({}));
        assert_eq!(drawn.status, 201, "{drawn:?}");
    }

    pub(crate) fn memory(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Starts the command; the card may lie there already or come.
    pub(crate) fn begin(&self, more: &[&str]) -> Child {
        self.begin_for(self.account, more)
    }

    fn begin_for(&self, account: i64, more: &[&str]) -> Child {
        let (account, token) = (account.to_string(), self.site.path("token"));
        let settings = self.site.path("till.toml");
        let words = [
            "chip",
            "enrol",
            "--account",
            &account,
            "--token-file",
            token.to_str().unwrap(),
            "--settings",
            settings.to_str().unwrap(),
        ];
        self.site.begin(&[&words, more].concat())
    }

    /// Enrols the card with this memory.
    fn enrol(&self, memory: &Path, more: &[&str]) -> Ctl {
        let card = Card::remembering(&self.site, memory, &[]);
        let told = Ctl::read(self.begin(more).wait_with_output().unwrap());
        drop(card);
        told
    }

    /// What is told to one who enrols the card for an account that is not there; nothing is written.
    fn enrol_for_nobody(&self, memory: &Path) -> Ctl {
        let card = Card::remembering(&self.site, memory, &[]);
        let told = Ctl::read(self.begin_for(999_999, &[]).wait_with_output().unwrap());
        drop(card);
        told
    }

    #[track_caller]
    pub(crate) fn check_enrolled(&self, told: &Ctl, version: u8) {
        assert_eq!(
            (told.code, &told.json["chip"]),
            (0, &json!(UID)),
            "{told:?}"
        );
        assert_eq!(told.json["version"], version);
        let path = format!("/v1/accounts/{}/chips", self.account);
        let chips = self.site.hub().json(&path);
        assert_eq!(chips["chips"][0]["key_version"], version, "{chips}");
    }

    pub(crate) fn wait_until_known(&self) {
        eventually("the till to know that the card must prove itself", || {
            let shown = self.site.ask(&["chip", "show", UID]).json;
            (shown["chip"]["must_prove"] == true).then_some(())
        });
    }

    /// What the card pays, once the till has its key.
    fn buy(&self, memory: &Path, lines: &[&str]) -> Outcome {
        self.wait_until_known();
        let waiting = self.site.begin_sale(lines, None);
        let card = Card::remembering(&self.site, memory, &[]);
        let sale = finish_sale(waiting);
        drop(card);
        sale.outcome
    }
}

pub(crate) fn held(memory: &Path) -> Value {
    serde_json::from_slice(&fs::read(memory).unwrap()).unwrap()
}

/// What programs say of how they were called.
fn called(pid: u32) -> String {
    let files = ["cmdline", "environ"].map(|file| fs::read(format!("/proc/{pid}/{file}")).unwrap());
    String::from_utf8_lossy(&files.concat()).into_owned()
}

#[test]
fn a_card_from_the_factory_is_enrolled_and_buys_lunch() {
    let bench = Bench::open();
    let memory = bench.memory("card");
    // The command waits for the card; nobody can read the token off it meanwhile.
    let waiting = bench.begin(&[]);
    assert!(!called(waiting.id()).contains(TOKEN));
    let card = Card::remembering(&bench.site, &memory, &[]);
    let told = Ctl::read(waiting.wait_with_output().unwrap());
    drop(card);
    bench.check_enrolled(&told, 1);
    assert_eq!(told.json["before"], "factory");
    assert_eq!(told.json["written"], json!([4, 3, 2, 1, 0]));
    assert_eq!(held(&memory)["random_uid"], false);
    assert_eq!(bench.buy(&memory, MEAL), Outcome::approved(38_00));

    // Once more, now for a UID that nobody can follow; nothing is written twice.
    let unsure = bench.enrol(&memory, &["--random-uid"]);
    assert_eq!(
        (unsure.code, held(&memory)["random_uid"].clone()),
        (2, json!(false))
    );
    assert_eq!(unsure.json["error"]["code"], "not_confirmed");
    let told = bench.enrol(&memory, &["--random-uid", "--yes"]);
    bench.check_enrolled(&told, 1);
    assert_eq!(
        (&told.json["before"], &told.json["written"]),
        (&json!("version"), &json!([]))
    );
    assert_eq!(held(&memory)["random_uid"], true);
    // It shows another UID now, and is found by it all the same.
    bench.check_enrolled(&bench.enrol(&memory, &[]), 1);
    assert_eq!(bench.buy(&memory, SNACK), Outcome::approved(35_00));

    // The next version is written over the first one, also when that one is revoked already: then
    // the till cannot open the card's UID, and is told it.
    bench.draw_keys();
    bench
        .site
        .hub()
        .post("/v1/canteens/1/key-sets/1/revoke", &json!({}));
    eventually("the till to have forgotten the first version", || {
        let hidden = bench.enrol_for_nobody(&memory);
        (hidden.json["error"]["code"] == "hidden_uid").then_some(())
    });
    let told = bench.enrol(&memory, &["--chip", UID]);
    bench.check_enrolled(&told, 2);
    assert_eq!(told.json["written"], json!([4, 3, 2, 1, 0]));
    // It is genuine, and its holder has spent what one day allows.
    eventually("the renewed card to be believed", || {
        (bench.buy(&memory, SNACK).decision == "limit_day").then_some(())
    });

    // Neither a key nor the token is in the till's log or, readable, on its disk.
    let mut seen = bench.site.till_log().to_lowercase().into_bytes();
    for entry in fs::read_dir(bench.site.path("till")).unwrap() {
        seen.extend(fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    let holds = |part: &[u8]| seen.windows(part.len()).any(|window| window == part);
    assert!(!holds(TOKEN.as_bytes()), "the token is readable");
    for key in held(&memory)["keys"].as_array().unwrap() {
        let key = key.as_str().unwrap();
        let raw = hex::decode(key).unwrap();
        assert!(!holds(key.as_bytes()) && !holds(&raw), "a key is readable");
    }
}

#[test]
fn a_card_torn_away_after_any_command_is_enrolled_when_it_comes_back() {
    let bench = Bench::open();
    for after in 0.. {
        let memory = bench.memory(&format!("card-{after}"));
        let tear = after.to_string();
        let mut card = Card::remembering(&bench.site, &memory, &["--tear", &tear]);
        let mut command = bench.begin(&[]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut is_over = false;
        while !card.has_left() && !is_over {
            assert!(Instant::now() < deadline, "after {after} commands");
            is_over = command.try_wait().unwrap().is_some();
            std::thread::sleep(Duration::from_millis(5));
        }
        // Where it was torn away before, it is laid there again and the same command goes on.
        let again = (!is_over).then(|| Card::remembering(&bench.site, &memory, &[]));
        let told = Ctl::read(command.wait_with_output().unwrap());
        bench.check_enrolled(&told, 1);
        let held = held(&memory);
        assert_eq!(
            held["versions"],
            json!([1, 1, 1, 1, 1]),
            "after {after} commands"
        );
        drop((card, again));
        if is_over {
            assert!(
                after > 30,
                "a whole enrolment takes more than {after} commands"
            );
            break;
        }
    }
    assert_eq!(
        bench.buy(&bench.memory("card-7"), MEAL),
        Outcome::approved(38_00)
    );
}

#[test]
fn a_card_that_is_not_the_canteens_is_refused_in_clear_words_and_left_as_it_was() {
    let bench = Bench::open();
    let memory = bench.memory("card");
    let refused = |held: &Value, code: &str| {
        fs::write(&memory, held.to_string()).unwrap();
        let told = bench.enrol(&memory, &[]);
        assert_eq!(
            (told.code, &told.json["error"]["code"]),
            (1, &json!(code)),
            "{told:?}"
        );
        assert_eq!(self::held(&memory), *held);
        told.json["error"]["message"].as_str().unwrap().to_owned()
    };
    let factory = "00".repeat(16);
    let foreign = "77".repeat(16);
    let with =
        |keys: [&str; 5]| json!({"keys": keys, "versions": [1, 1, 1, 1, 1], "random_uid": false});
    let words = refused(&with([&foreign; 5]), "other_canteen");
    assert!(words.contains("another canteen's keys"), "{words}");
    let one = with([&factory, &factory, &factory, &foreign, &factory]);
    let words = refused(&one, "unknown_chip_key");
    assert!(words.contains("key 3"), "{words}");

    // A chip that can prove nothing, and none at all.
    let chip = bench.site.lay(DAILY);
    let told = Ctl::read(bench.begin(&[]).wait_with_output().unwrap());
    assert_eq!(
        (told.code, &told.json["error"]["code"]),
        (1, &json!("chip_kind"))
    );
    drop(chip);
    let told = Ctl::read(bench.begin(&["--timeout", "1"]).wait_with_output().unwrap());
    assert_eq!(
        (told.code, &told.json["error"]["code"]),
        (69, &json!("no_chip"))
    );

    // An operator whom the hub does not know.
    fs::write(bench.site.path("token"), "somebody").unwrap();
    fs::remove_file(&memory).unwrap();
    let told = bench.enrol(&memory, &[]);
    assert_eq!(
        (told.code, &told.json["error"]["code"]),
        (1, &json!("hub_refused"))
    );
    assert!(!memory.exists(), "nothing was written");
}

/// The kinds of readers on a serial line that pass commands on, with the key of their list.
const SERIAL_READERS: [(DeviceKind, &str); 3] = [
    (DeviceKind::Pn532, "pn532"),
    (DeviceKind::Twn4, "twn4"),
    (DeviceKind::Own, "serial"),
];

#[test]
fn a_card_is_enrolled_at_every_kind_of_serial_reader_and_buys_there() {
    let dir = tempfile::tempdir().unwrap();
    let readers = SERIAL_READERS.map(|(kind, key)| {
        let line = dir.path().join(key);
        let reader = SimulatedReader::start(&line, kind).unwrap();
        let port = reader.open_card_port().unwrap();
        (key, line, reader, port)
    });
    let lines = readers.iter().map(|(key, line, ..)| (*key, line.clone()));
    let bench = Bench::at(Site::open_with(Wishes {
        serial: lines.collect(),
        ..Wishes::default()
    }));
    let mut balance = 60_00;
    for (key, line, _reader, port) in &readers {
        let memory = bench.memory(&format!("card-{key}"));
        let remembering = ["--memory", memory.to_str().unwrap()];
        // A new card from the factory, which is torn away in the middle and laid there again.
        let waiting = bench.begin(&[]);
        let mut torn = Card::lay_at(*port, &[&remembering[..], &["--tear", "26"]].concat());
        eventually("the card to be torn away", || torn.has_left().then_some(()));
        let card = Card::lay_at(*port, &remembering);
        let told = Ctl::read(waiting.wait_with_output().unwrap());
        bench.check_enrolled(&told, 1);
        assert_eq!(held(&memory)["versions"], json!([1, 1, 1, 1, 1]), "{key}");
        drop(card);

        // What lies there is said by name of its reader; there is nothing to write any more.
        let name = format!("{key}:{}", line.display());
        let card = Card::lay_at(*port, &remembering);
        let again = bench.begin(&["--reader", &name]);
        let told = Ctl::read(again.wait_with_output().unwrap());
        bench.check_enrolled(&told, 1);
        assert_eq!(told.json["written"], json!([]), "{key}");
        drop(card);

        bench.wait_until_known();
        let waiting = bench.site.begin_sale(SNACK, None);
        let card = Card::lay_at(*port, &remembering);
        balance -= 3_00;
        let sale = finish_sale(waiting);
        assert_eq!(sale.outcome, Outcome::approved(balance), "{key}");
        drop(card);
    }
}
