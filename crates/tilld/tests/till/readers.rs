//! Readers and their service break in the middle of the shift, and come back.

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

#[test]
fn a_serial_reader_that_is_unplugged_and_plugged_in_again_sells_again() {
    let dir = tempfile::tempdir().unwrap();
    let line = dir.path().join("reader");
    let mut hands = VirtualSerialHands::start(&line).unwrap();
    let site = Site::open_with(Wishes {
        serial: Some(line),
        ..Wishes::default()
    });
    let sell = |hands: &mut VirtualSerialHands| {
        let waiting = site.begin_sale(MEAL, None);
        hands.lay(&uid(WEEKLY)).unwrap();
        let sale = finish_sale(waiting);
        hands.lift().unwrap();
        sale.outcome
    };
    assert_eq!(sell(&mut hands), Outcome::approved(178_00));
    eventually("the reader to show the approval", || {
        (hands.has_shown_approval().unwrap() == Some(true)).then_some(())
    });

    hands.break_off().unwrap();
    eventually("the serial line to be missed", || {
        let list = site.ask(&["reader", "list"]).json;
        let mut readers = list["readers"].as_array().unwrap().iter();
        let words = readers.find(|reader| reader["ok"] == false)?["text"].as_str()?;
        let is_missed = words.contains("there is no serial line") && words.contains("check the");
        is_missed.then_some(())
    });
    // The other reader does not care.
    let sale = site.sell(ORDINARY, SNACK);
    assert_eq!(sale.outcome, Outcome::approved(146_50));

    hands.mend().unwrap();
    site.wait_for_readers(true);
    assert_eq!(sell(&mut hands), Outcome::approved(156_00));
    site.wait_until_agreed();
}
