//! Readers and their service break in the middle of the shift, and come back.

use std::thread;
use std::time::{Duration, Instant};

use hw_tests::device::DeviceKind;
use hw_tests::hands::{Hands, VirtualSerialHands};
use hw_tests::vpcd_card::{Answer, ChipScript};

use crate::rig::sale::Outcome;
use crate::rig::{
    DAILY, MEAL, ORDINARY, SNACK, Site, WEEKLY, Wishes, eventually, finish_sale, sell_words, uid,
};

#[test]
fn a_crash_of_pcscd_is_told_in_words_and_the_next_tap_after_it_sells() {
    let mut site = Site::open();
    assert_eq!(site.sell(ORDINARY, MEAL).outcome, Outcome::approved(127_50));
    for _ in 0..2 {
        site.pcscd.kill();
        let list = site.wait_for_readers(false);
        let reader = &list["readers"][0];
        let words = reader["text"].as_str().unwrap();
        assert!(words.contains("pcscd is not running"), "{list}");
        assert!(words.contains("systemctl start pcscd"), "{list}");
        assert_eq!(site.ask(&["reader", "list"]).code, 1);
        let shown = site.wait_for_shown("the page to say so", |shown| {
            shown["readers"][0]["ok"] == false
        });
        assert!(shown["readers"][0]["da"].is_string(), "{shown}");

        // A sale that nobody could pay ends with that reason, not with "no chip came".
        let nobody = site.ask(&sell_words(SNACK, None, "1"));
        assert_eq!(nobody.code, 69, "{nobody:?}");
        assert_eq!(nobody.json["error"]["code"], "no_reader", "{nobody:?}");

        site.pcscd.restart().unwrap();
        site.wait_for_readers(true);
        let before = site.balance(ORDINARY);
        assert_eq!(
            site.sell(ORDINARY, SNACK).outcome,
            Outcome::approved(before - 3_00)
        );
    }
    site.wait_until_agreed();
}

#[test]
fn a_sale_that_waits_while_pcscd_crashes_is_paid_when_it_is_back() {
    let mut site = Site::open();
    let waiting = site.begin_sale(MEAL, None);
    site.pcscd.kill();
    site.wait_for_readers(false);
    site.pcscd.restart().unwrap();
    site.wait_for_readers(true);
    let chip = site.lay(ORDINARY);
    assert_eq!(finish_sale(waiting).outcome, Outcome::approved(127_50));
    chip.remove();
    site.wait_until_agreed();
}

#[test]
fn a_chip_torn_away_in_mid_command_books_nothing_and_the_next_tap_pays() {
    let site = Site::open();
    let waiting = site.begin_sale(MEAL, None);
    for _ in 0..3 {
        let torn = site.lay_script(ChipScript::new(&uid(DAILY)).that_first([Answer::Leave]));
        eventually("the torn chip to be asked", || {
            (!torn.commands().is_empty()).then_some(())
        });
        torn.remove();
    }
    site.wait_for_shown("the till to go on waiting", |shown| {
        shown["phase"] == "waiting"
    });
    assert_eq!(site.balance(DAILY), 60_00);

    let chip = site.lay(ORDINARY);
    assert_eq!(finish_sale(waiting).outcome, Outcome::approved(127_50));
    chip.remove();
    site.wait_until_agreed();
    assert_eq!(site.sales(DAILY), [0; 0]);
    assert_eq!(site.sales(ORDINARY), [-22_00]);
}

#[test]
fn the_chip_that_lies_there_when_the_sale_comes_is_the_one_that_pays() {
    let site = Site::open();
    let first = site.lay_and_wait(DAILY);
    first.remove();
    let second = site.lay(WEEKLY);
    let sale = site.sell_to_laid(MEAL, None);
    assert_eq!(sale.outcome, Outcome::approved(178_00));
    second.remove();
    site.wait_until_agreed();
    assert_eq!(site.sales(DAILY), [0; 0]);
}

/// Each kind of reader on a serial line, with the key of its list in the settings and whether it
/// has a light.
const SERIAL_READERS: [(DeviceKind, &str, bool); 4] = [
    (DeviceKind::Own, "serial", true),
    (DeviceKind::Pn532, "pn532", false),
    (DeviceKind::Rdm6300, "rdm6300", false),
    (DeviceKind::Twn4, "twn4", true),
];

#[test]
fn a_serial_reader_that_is_unplugged_and_plugged_in_again_sells_again() {
    let dir = tempfile::tempdir().unwrap();
    let line = |key: &str| dir.path().join(key);
    let mut readers = SERIAL_READERS.map(|(kind, key, has_light)| {
        let hands = VirtualSerialHands::start(&line(key), kind).unwrap();
        (key, has_light, hands)
    });
    let site = Site::open_with(Wishes {
        serial: SERIAL_READERS.map(|(_, key, _)| (key, line(key))).to_vec(),
        ..Wishes::default()
    });
    let mut balance = site.balance(WEEKLY);
    for (key, has_light, hands) in &mut readers {
        balance -= 3_00;
        assert_eq!(sell_at(&site, hands), Outcome::approved(balance), "{key}");
        if *has_light {
            eventually(&format!("{key} to show the approval"), || {
                (hands.has_shown_approval().unwrap() == Some(true)).then_some(())
            });
        }
        hands.lift().unwrap();

        hands.unplug().unwrap();
        let path = line(key);
        eventually(&format!("the line of {key} to be missed"), || {
            let words = words_of(&site, key)?;
            let is_missed = words.contains(&format!("there is no {};", path.display()));
            (is_missed && words.contains("check the")).then_some(())
        });
        // The other readers do not care.
        let before = site.balance(ORDINARY);
        let sale = site.sell(ORDINARY, SNACK);
        assert_eq!(sale.outcome, Outcome::approved(before - 3_00), "{key}");

        hands.replug().unwrap();
        site.wait_for_readers(true);
        balance -= 3_00;
        assert_eq!(sell_at(&site, hands), Outcome::approved(balance), "{key}");
        hands.lift().unwrap();
    }
    site.wait_until_agreed();
}

/// Sells to a chip that is laid on a serial reader and stays there. A chip that lies there before
/// the reader has looked at its empty field is no tap, so it is tapped again, as people do.
fn sell_at(site: &Site, hands: &mut VirtualSerialHands) -> Outcome {
    let mut waiting = site.begin_sale(SNACK, None);
    let mut tapped_at = None;
    eventually("a tap to pay", || {
        if tapped_at.is_none_or(|at: Instant| at.elapsed() > TAP_TIME) {
            hands.lift().unwrap();
            thread::sleep(LIFT_TIME);
            hands.lay(&uid(WEEKLY)).unwrap();
            tapped_at = Some(Instant::now());
        }
        waiting.try_wait().unwrap()
    });
    finish_sale(waiting).outcome
}

/// What `tillctl` says about the faulty reader on a line.
fn words_of(site: &Site, key: &str) -> Option<String> {
    let list = site.ask(&["reader", "list"]).json;
    let mut readers = list["readers"].as_array()?.iter();
    let ending = format!("/{key}");
    let reader = readers.find(|reader| {
        let name = reader["name"].as_str();
        reader["ok"] == false && name.is_some_and(|name| name.ends_with(&ending))
    })?;
    Some(reader["text"].as_str()?.to_owned())
}

const TAP_TIME: Duration = Duration::from_secs(2);
const LIFT_TIME: Duration = Duration::from_millis(300);
