//! MIFARE Ultralight AES, end to end: a virtual one, written apart from the till in another language,
//! lies on simulated readers that let frames through, and on others.

use hw_tests::device::DeviceKind;
use hw_tests::pcscd::Model;
use hw_tests::pty_reader::SimulatedReader;
use serde_json::json;
use tempfile::TempDir;

use crate::card::{Card, UID};
use crate::rig::sale::Outcome;
use crate::rig::{DAILY, MEAL, ORDINARY, SNACK, Site, Wishes, eventually, finish_sale};

/// A canteen with simulated readers, and a card of [`DAILY`]'s holder that must prove itself.
struct Bench {
    site: Site,
    /// What each is called here, and the port where chips are laid on it.
    readers: Vec<(&'static str, u16)>,
    /// DataProtKey and UIDRetrKey.
    keys: [String; 2],
    _simulated: Vec<SimulatedReader>,
    _lines: TempDir,
}

impl Bench {
    /// With these on serial lines beside one of PC/SC.
    fn open(kinds: &[(DeviceKind, &'static str)], model: Model) -> Bench {
        let lines = tempfile::tempdir().unwrap();
        let mut serial = Vec::new();
        let mut readers = Vec::new();
        let mut simulated = Vec::new();
        for (kind, key) in kinds {
            let line = lines.path().join(key);
            let reader = SimulatedReader::start(&line, *kind).unwrap();
            readers.push((*key, reader.open_card_port().unwrap()));
            simulated.push(reader);
            serial.push((*key, line));
        }
        let site = Site::open_with(Wishes {
            serial,
            model,
            ..Wishes::default()
        });
        readers.push(("pcsc", site.reader_port()));
        let keys = enrol(&site);
        Bench {
            site,
            readers,
            keys,
            _simulated: simulated,
            _lines: lines,
        }
    }

    fn port(&self, wanted: &str) -> u16 {
        let mut readers = self.readers.iter();
        readers.find(|(key, _)| *key == wanted).unwrap().1
    }

    /// A sale to a card of these keys when it is laid there once the till asks for it.
    fn sell(&self, port: u16, lines: &[&str], keys: &[String; 2], more: &[&str]) -> Outcome {
        let words = [&[&*keys[0], &*keys[1]], more].concat();
        self.sell_to(port, lines, &words)
    }

    fn sell_to(&self, port: u16, lines: &[&str], words: &[&str]) -> Outcome {
        let waiting = self.site.begin_sale(lines, None);
        let card = Card::lay_ultralight_at(port, words);
        let sale = finish_sale(waiting);
        drop(card);
        sale.outcome
    }
}

/// The supplier has set the card up with the keys that the hub gives for it; from then on it must
/// prove itself.
fn enrol(site: &Site) -> [String; 2] {
    site.hub().post("/v1/canteens/1/key-sets", &json!({}));
    let account = site.account(DAILY)["id"].as_i64().unwrap();
    let asked = json!({"chip": UID, "kind": "ultralight_aes"});
    let path = format!("/v1/accounts/{account}/chip-keys");
    let answer = site.hub().post(&path, &asked).json();
    let keys = &answer["versions"][0]["keys"];
    let keys = [3, 1].map(|number: usize| keys[number].as_str().unwrap().to_owned());
    let enrolled = json!({"chip": UID, "key_version": 1});
    let path = format!("/v1/accounts/{account}/chips");
    assert_eq!(site.hub().post(&path, &enrolled).json()["key_version"], 1);
    eventually("the till to know that the card must prove itself", || {
        let shown = site.ask(&["chip", "show", UID]).json;
        (shown["chip"]["must_prove"] == true).then_some(())
    });
    keys
}

#[test]
fn a_card_buys_where_frames_go_through_and_every_imitation_of_it_is_refused() {
    let kinds = [
        (DeviceKind::Pn532, "pn532"),
        (DeviceKind::Twn4, "twn4"),
        (DeviceKind::Own, "serial"),
    ];
    let bench = Bench::open(&kinds, Model::Acr122u);
    let (site, keys) = (&bench.site, &bench.keys);
    let nobody = Outcome::declined("chip_auth_failed", None);
    let mut balance = 60_00;
    for (key, port) in &bench.readers {
        let recording = site.path(&format!("recording-{key}"));
        let recording = recording.to_str().unwrap();
        balance -= 3_00;
        let bought = bench.sell(*port, SNACK, keys, &["--record", recording]);
        assert_eq!(bought, Outcome::approved(balance), "{key}");

        // Another data key, another UID key, no MAC, and its own answers once more: none of them says
        // who it is.
        let wrong = || "77".repeat(16);
        for (what, keys, more) in [
            ("data key", [wrong(), keys[1].clone()], &[][..]),
            ("UID key", [keys[0].clone(), wrong()], &[]),
            ("version", keys.clone(), &["--version", "2"]),
            ("no MAC", keys.clone(), &["--no-mac"]),
            ("replay", keys.clone(), &["--replay", recording]),
        ] {
            assert_eq!(
                bench.sell(*port, SNACK, &keys, more),
                nobody,
                "{key}: {what}"
            );
        }

        // Its bare UID, by a chip that says any UID and knows nothing.
        let bare = bench.sell_to(*port, SNACK, &["--bare"]);
        assert_eq!(
            bare,
            Outcome::declined("chip_auth_failed", Some(balance)),
            "{key}"
        );

        // With its real UID in the clear it proves itself as well; a copy is told whose it claims to be.
        let copy = bench.sell(*port, SNACK, &[wrong(), wrong()], &["--open"]);
        assert_eq!(
            copy,
            Outcome::declined("chip_auth_failed", Some(balance)),
            "{key}"
        );
        balance -= 3_00;
        let bought = bench.sell(*port, SNACK, keys, &["--open"]);
        assert_eq!(bought, Outcome::approved(balance), "{key}");
    }
    // A chip without keys pays at the same reader by its UID, as before.
    assert_eq!(site.sell(ORDINARY, MEAL).outcome, Outcome::approved(127_50));
    site.wait_until_agreed();
    assert_eq!(site.sales(DAILY), [-3_00; 8]);

    // No key has come into the till's log or, readable, onto its disk.
    let mut seen = site.till_log().to_lowercase().into_bytes();
    for entry in std::fs::read_dir(site.path("till")).unwrap() {
        seen.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    for key in keys {
        let raw = hex::decode(key).unwrap();
        let holds = |part: &[u8]| seen.windows(part.len()).any(|window| window == part);
        assert!(!holds(key.as_bytes()) && !holds(&raw), "a key is readable");
    }
}

#[test]
fn a_card_on_a_reader_that_lets_no_frames_through_is_refused_in_words() {
    let bench = Bench::open(&[], Model::Plain);
    let (site, port) = (&bench.site, bench.port("pcsc"));
    let refused = Outcome::declined("chip_auth_failed", Some(60_00));
    // All that such a reader can tell is the UID.
    assert_eq!(bench.sell(port, MEAL, &bench.keys, &["--open"]), refused);
    assert_eq!(site.sell(UID, MEAL).outcome, refused);
    site.wait_until_agreed();
    assert_eq!(site.sales(DAILY), [0; 0]);

    // It cannot be given keys there, and is told where.
    let card = Card::lay_ultralight_at(port, &[&*bench.keys[0], &*bench.keys[1], "--open"]);
    let token = site.path("token");
    std::fs::write(&token, "somebody").unwrap();
    let (token, settings) = (token.to_str().unwrap(), site.path("till.toml"));
    let words = [
        "chip",
        "enrol",
        "--account",
        "1",
        "--token-file",
        token,
        "--settings",
        settings.to_str().unwrap(),
        "--chip",
        UID,
    ];
    let told = site.ask(&words);
    drop(card);
    assert_eq!(
        (told.code, &told.json["error"]["code"]),
        (1, &json!("chip_kind")),
        "{told:?}"
    );
    let words = told.json["error"]["message"].as_str().unwrap();
    assert!(
        words.contains("PN532, TWN4, ACR122U or the own protocol only"),
        "{words}"
    );
}
