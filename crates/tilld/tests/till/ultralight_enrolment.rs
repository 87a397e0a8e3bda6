//! `tillctl chip enrol` with a virtual MIFARE Ultralight AES that remembers what was written on it, at every
//! kind of reader that passes frames on.

use std::path::Path;
use std::time::{Duration, Instant};

use hw_tests::device::DeviceKind;
use hw_tests::pcscd::Model;
use hw_tests::pty_reader::SimulatedReader;
use serde_json::json;

use crate::card::{Card, UID};
use crate::chip_enrolment::{Bench, held};
use crate::rig::sale::{Ctl, Outcome};
use crate::rig::{Site, Wishes, eventually, finish_sale};

/// A canteen with an ACR122U whose chips prove themselves.
fn bench_with(serial: Vec<(&'static str, std::path::PathBuf)>) -> Bench {
    Bench::at(Site::open_with(Wishes {
        serial,
        model: Model::Acr122u,
        ..Wishes::default()
    }))
}

fn lay(port: u16, memory: &Path, more: &[&str]) -> Card {
    let remembering = ["--memory", memory.to_str().unwrap()];
    Card::lay_ultralight_at(port, &[&remembering, more].concat())
}

/// The mark and the settings of an enrolled card, and no key of the factory.
#[track_caller]
fn check_closed(memory: &Path, version: u8, hides_uid: bool) {
    let pages = held(memory)["pages"].as_str().unwrap().to_owned();
    let page = |number: usize| &pages[number * 8..][..8];
    assert_eq!(page(0x04), format!("ca17ae{version:02x}"));
    let flags = 0x02 | u8::from(hides_uid);
    assert_eq!(page(0x29), format!("{flags:02x}000004"));
    assert_eq!(page(0x2A), "00050001");
    for number in 0x30..=0x37 {
        assert_ne!(page(number), "00000000", "page {number:02X}");
    }
}

/// What the card on that reader pays: little, so that a day's limit takes a sale at each.
fn buy(bench: &Bench, port: u16, memory: &Path) -> Outcome {
    bench.wait_until_known();
    let waiting = bench.site.begin_sale(&["1x Mælk 2,00"], None);
    let card = lay(port, memory, &[]);
    let sale = finish_sale(waiting);
    drop(card);
    sale.outcome
}

#[test]
fn a_card_is_enrolled_at_every_reader_that_passes_frames_and_buys_there() {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [
        (DeviceKind::Pn532, "pn532"),
        (DeviceKind::Twn4, "twn4"),
        (DeviceKind::Own, "serial"),
    ];
    let serial = kinds.map(|(kind, key)| {
        let line = dir.path().join(key);
        let reader = SimulatedReader::start(&line, kind).unwrap();
        let port = reader.open_card_port().unwrap();
        (key, line, reader, port)
    });
    let lines = serial.iter().map(|(key, line, ..)| (*key, line.clone()));
    let bench = bench_with(lines.collect());
    let mut readers: Vec<(&str, u16)> = serial
        .iter()
        .map(|(key, _, _, port)| (*key, *port))
        .collect();
    readers.push(("pcsc", bench.site.reader_port()));
    let mut balance = 60_00;
    for (key, port) in readers {
        let memory = bench.memory(&format!("card-{key}"));
        // A new card from the factory, which is torn away in the middle of its keys and laid there again.
        let waiting = bench.begin(&[]);
        let mut torn = lay(port, &memory, &["--tear", "12"]);
        eventually("the card to be torn away", || torn.has_left().then_some(()));
        let card = lay(port, &memory, &[]);
        let told = Ctl::read(waiting.wait_with_output().unwrap());
        bench.check_enrolled(&told, 1);
        assert_eq!(told.json["written"], json!([3, 1]), "{key}");
        drop(card);
        check_closed(&memory, 1, false);

        balance -= 2_00;
        assert_eq!(
            buy(&bench, port, &memory),
            Outcome::approved(balance),
            "{key}"
        );

        // There is nothing to write any more but that it is to hide its UID, by which it is found then.
        let card = lay(port, &memory, &[]);
        let again = bench.begin(&["--random-uid", "--yes"]);
        let told = Ctl::read(again.wait_with_output().unwrap());
        drop(card);
        bench.check_enrolled(&told, 1);
        assert_eq!(told.json["written"], json!([]), "{key}");
        check_closed(&memory, 1, true);
        let card = lay(port, &memory, &[]);
        let told = Ctl::read(bench.begin(&[]).wait_with_output().unwrap());
        drop(card);
        bench.check_enrolled(&told, 1);
        balance -= 2_00;
        assert_eq!(
            buy(&bench, port, &memory),
            Outcome::approved(balance),
            "{key}"
        );
    }

    // The next version is written over the first one, and the card goes on hiding its UID.
    bench.draw_keys();
    let (port, memory) = (bench.site.reader_port(), bench.memory("card-pcsc"));
    let card = lay(port, &memory, &[]);
    let told = Ctl::read(bench.begin(&["--chip", UID]).wait_with_output().unwrap());
    drop(card);
    bench.check_enrolled(&told, 2);
    assert_eq!(told.json["before"], "version");
    check_closed(&memory, 2, true);
    eventually("the renewed card to be believed", || {
        (buy(&bench, port, &memory).decision == "approved").then_some(())
    });

    // No key is in the till's log or, readable, on its disk.
    let mut seen = bench.site.till_log().to_lowercase().into_bytes();
    for entry in std::fs::read_dir(bench.site.path("till")).unwrap() {
        seen.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    let holds = |part: &[u8]| seen.windows(part.len()).any(|window| window == part);
    let pages = hex::decode(held(&memory)["pages"].as_str().unwrap()).unwrap();
    for key in pages[0x30 * 4..0x38 * 4].as_chunks::<16>().0 {
        let mut key = *key;
        key.reverse();
        assert!(
            !holds(hex::encode(key).as_bytes()) && !holds(&key),
            "a key is readable"
        );
    }
}

#[test]
fn a_card_torn_away_after_any_frame_is_enrolled_when_it_comes_back() {
    let bench = bench_with(Vec::new());
    let port = bench.site.reader_port();
    for after in 0.. {
        let memory = bench.memory(&format!("card-{after}"));
        let mut card = lay(port, &memory, &["--tear", &after.to_string()]);
        let mut command = bench.begin(&[]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut is_over = false;
        while !card.has_left() && !is_over {
            assert!(Instant::now() < deadline, "after {after} frames");
            is_over = command.try_wait().unwrap().is_some();
            std::thread::sleep(Duration::from_millis(5));
        }
        // Where it was torn away before, it is laid there again and the same command goes on.
        let again = (!is_over).then(|| lay(port, &memory, &[]));
        let told = Ctl::read(command.wait_with_output().unwrap());
        bench.check_enrolled(&told, 1);
        check_closed(&memory, 1, false);
        drop((card, again));
        if is_over {
            assert!(
                after > 20,
                "a whole enrolment takes more than {after} frames"
            );
            break;
        }
    }
    let memory = bench.memory("card-7");
    assert_eq!(buy(&bench, port, &memory), Outcome::approved(58_00));
}

#[test]
fn a_card_of_another_canteen_and_a_plain_one_are_refused_and_left_as_they_were() {
    let bench = bench_with(Vec::new());
    let port = bench.site.reader_port();
    let refused = |card: Card, code: &str| {
        let told = Ctl::read(bench.begin(&[]).wait_with_output().unwrap());
        drop(card);
        assert_eq!(
            (told.code, &told.json["error"]["code"]),
            (1, &json!(code)),
            "{told:?}"
        );
    };
    let foreign = "77".repeat(16);
    let words = [&*foreign, &*foreign, "--open"];
    refused(Card::lay_ultralight_at(port, &words), "other_canteen");
    let unmarked = [&*foreign, &*foreign, "--open", "--version", "9"];
    refused(Card::lay_ultralight_at(port, &unmarked), "other_canteen");
    refused(Card::lay_ultralight_at(port, &["--bare"]), "chip_kind");
}
