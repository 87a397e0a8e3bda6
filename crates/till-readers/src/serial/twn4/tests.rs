//! The till's side of a TWN4, line by line.

use chip_keys::Application;

use super::command::ANSWER_TIME;
use super::*;
use crate::auth::EnrolError;
use crate::auth::tests_of_identify::{
    UID, blank_card, card, enrolment, site, ultralight, ultralight_enrolment,
};
use crate::auth::virtual_card::VirtualCard;
use crate::auth::virtual_ultralight::VirtualUltralight;
use crate::serial::crc_a;
use crate::serial::field::{hex, words};

/// A till, and a time that passes when told.
struct Bench {
    till: Twn4,
    now: Instant,
}

impl Bench {
    fn new(em4100: bool) -> Bench {
        let now = Instant::now();
        Bench {
            till: Twn4::new(em4100, Keyring::default(), now),
            now,
        }
    }

    /// Through the opening without checksums and two looks into an empty field.
    fn open() -> Bench {
        let mut bench = Bench::new(false);
        bench.check("", "");
        bench.check("0004FF", "000454574E34");
        bench.check("05020000000001000000", "00");
        bench.check("0400030000", "00");
        bench.check(LOOK, "0000");
        bench.check(LOOK, "0000");
        assert_eq!(bench.told(), "opened TWN4");
        bench
    }

    /// As [`Bench::open`], with a search at 125 kHz in each look.
    fn open_with_em4100() -> Bench {
        let mut bench = Bench::new(true);
        bench.check("", "");
        bench.check("0004FF", "000454574E34");
        // SearchTag looks at 125 kHz alone.
        bench.check("05020100000000000000", "00");
        bench.check("0400030000", "00");
        for _ in 0..2 {
            bench.check("050010", NONE);
            bench.check(LOOK, NONE);
        }
        bench
    }

    /// The next line that the till sends, in a second.
    #[track_caller]
    fn expect(&mut self, line: &str) {
        assert_eq!(self.sent(), format!("{line}\r"));
    }

    #[track_caller]
    fn sent(&mut self) -> String {
        for _ in 0..200 {
            if let Some(sent) = self.till.poll_transmit(self.now) {
                return String::from_utf8(sent).expect("ASCII");
            }
            self.now += Duration::from_millis(5);
        }
        panic!("nothing was sent");
    }

    fn say(&mut self, line: &str) {
        self.now += Duration::from_millis(5);
        self.till.handle_bytes(line.as_bytes(), self.now);
    }

    #[track_caller]
    fn check(&mut self, line: &str, answer: &str) {
        self.expect(line);
        if !answer.is_empty() {
            self.say(&format!("{answer}\r"));
        }
    }

    fn told(&mut self) -> String {
        words(|| self.till.poll_happening())
    }
}

/// What looks are told as, after an empty field.
#[track_caller]
fn check(answers: &[&str], expect: &str) {
    let mut bench = Bench::open();
    for answer in answers {
        bench.check(LOOK, answer);
    }
    assert_eq!(bench.told(), expect);
}

const LOOK: &str = "1208FF";
const NONE: &str = "0000";
const FOUR: &str = "000101050472BF9961";
const SEVEN: &str = "000101080704A1B2C3D4E5F6";
const THREE: &str = "000103180704D7A79A97378007042DA79A973780070450A79A973780";

#[test]
fn chips_are_told_once_and_have_left_after_two_misses() {
    check(&[FOUR, FOUR, FOUR], "came 72BF9961");
    check(&[FOUR, NONE, FOUR, NONE, NONE], "came 72BF9961, left");
    check(&[SEVEN, FOUR], "came 04A1B2C3D4E5F6, left, came 72BF9961");
}

#[test]
fn several_chips_are_refused() {
    check(&[THREE], "unreadable Several");
}

#[test]
fn a_reader_with_checksums_is_found_out() {
    let mut bench = Bench::new(false);
    bench.check("", "");
    // It does not answer what has no checksum.
    bench.check("0004FF", "");
    // CRC-16/MCRF4XX by another program.
    bench.check("0004FF2B51", "000454574E34AD26");
    bench.check("050200000000010000007D87", "00870F");
    assert_eq!(bench.till.check, Some(Check::Crc));
}

#[test]
fn a_reader_that_never_answers_is_silent() {
    let mut bench = Bench::new(false);
    bench.check("", "");
    for _ in 0..2 {
        bench.check("0004FF", "");
        bench.check("0004FF2B51", "");
    }
    for _ in 0..100 {
        bench.now += Duration::from_millis(5);
        assert_eq!(bench.till.poll_transmit(bench.now), None);
    }
    assert_eq!(bench.till.fault(), Some(ReaderFault::Silent));
}

#[test]
fn a_reader_that_stops_answering_is_lost() {
    let mut bench = Bench::open();
    bench.check(LOOK, FOUR);
    for _ in 0..FAILURES_TO_LOSE {
        assert_eq!(bench.till.fault(), None);
        bench.check(LOOK, "");
    }
    bench.now += ANSWER_TIME;
    bench.till.poll_transmit(bench.now);
    assert_eq!(bench.till.fault(), Some(ReaderFault::Lost));
    bench.till.handle_end();
    assert_eq!(bench.told(), "came 72BF9961, left");
}

#[test]
fn an_answer_that_comes_too_late_answers_nothing() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.now += ANSWER_TIME;
    assert_eq!(bench.till.poll_transmit(bench.now), None);
    bench.now += QUIET_TIME / 2;
    assert_eq!(bench.till.poll_transmit(bench.now), None);
    bench.say(&format!("{FOUR}\r"));
    bench.check(LOOK, SEVEN);
    assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
}

#[test]
fn noise_before_an_answer_costs_nothing() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.say(&format!("AT+GMI\r\n\x00\x0B\x01{FOUR}\r"));
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_damaged_answer_is_asked_for_again_soon() {
    let mut bench = Bench::open();
    bench.check(LOOK, "000101050472BF99");
    let before = bench.now;
    bench.check(LOOK, FOUR);
    assert!(bench.now - before < Duration::from_millis(200));
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn damage_for_a_moment_loses_no_reader() {
    let mut bench = Bench::open();
    for _ in 0..2 * FAILURES_TO_LOSE {
        bench.check(LOOK, "000101050472BF99");
    }
    assert_eq!(bench.till.fault(), None);
    bench.check(LOOK, FOUR);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_firmware_that_cannot_count_is_asked_for_one_chip() {
    let mut bench = Bench::open();
    bench.check(LOOK, "01");
    bench.check("05020000000001000000", "00");
    bench.check("050010", "000180200472BF9961");
    bench.check("050010", "0000");
    bench.check("050010", "0000");
    bench.check("050010", "00018138070102030405060A");
    assert_eq!(bench.told(), "came 72BF9961, left, unreadable Technology");
}

#[test]
fn em4100_chips_are_looked_for_when_configured_and_counted_with_the_others() {
    let mut bench = Bench::open_with_em4100();
    for (high, low) in [
        (NONE, "0001402805010063E9AE"),
        (FOUR, "0001402805010063E9AE"),
        (FOUR, NONE),
    ] {
        bench.check("050010", low);
        bench.check(LOOK, high);
    }
    assert_eq!(
        bench.told(),
        "opened TWN4, came 0063E9AE, left, unreadable Several, came 72BF9961"
    );
}

/// Through an opening where chips must prove themselves.
fn proving_bench() -> Bench {
    bench_with(Application::ntag_424())
}

fn bench_with(application: Application) -> Bench {
    let mut bench = Bench::open();
    let keyring = Keyring::default();
    keyring.put(vec![site(application)]);
    bench.till.prover = Prover::new(keyring);
    bench
}

/// The line of an answer that brings what a chip said.
fn said(heard: &[u8]) -> String {
    line_of(&[&[0, 1, heard.len() as u8], heard].concat())
}

fn line_of(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{digits}\r")
}

/// Passes what the till sends to a chip on, so many times.
#[track_caller]
fn exchange(bench: &mut Bench, card: &mut VirtualCard, times: usize) {
    for _ in 0..times {
        let sent = hex(bench.sent().trim_end());
        let [0x12, 0x03, length, command @ .., 0xFF] = &sent[..] else {
            panic!("nothing for the chip: {sent:02X?}")
        };
        assert_eq!(usize::from(*length), command.len());
        bench.say(&said(&card.handle(command)));
    }
}

/// One chip that shows a random UID.
const HIDDEN: &str = "0001010504083A5C11";
const SELECT: &str = "120904083A5C11";
const SAK: &str = "1205";

#[test]
fn a_chip_that_proves_itself_is_told_by_its_real_uid() {
    let (mut bench, mut card) = (proving_bench(), card());
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "0001");
    bench.check(SAK, "000120");
    exchange(&mut bench, &mut card, 6);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    // It lies there, and is not asked again until somebody asks who is there.
    bench.check(LOOK, HIDDEN);
    bench.till.handle_read_again(7, bench.now);
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "0001");
    bench.check(SAK, "000120");
    exchange(&mut bench, &mut card, 6);
    assert_eq!(bench.told(), "again 7 04958CAA5C5E80 proven");
    bench.check(LOOK, NONE);
    bench.check(LOOK, NONE);
    assert_eq!(bench.told(), "left");
}

#[test]
fn a_chip_that_does_not_know_its_key_has_failed() {
    let (mut bench, mut card) = (proving_bench(), card());
    card.keys[1] = [0x77; 16];
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "0001");
    bench.check(SAK, "000120");
    exchange(&mut bench, &mut card, 3);
    bench.check(LOOK, HIDDEN);
    assert_eq!(bench.told(), "came failed");
}

#[test]
fn a_storage_chip_is_asked_for_its_kind_once() {
    let mut bench = proving_bench();
    bench.check(LOOK, SEVEN);
    bench.check("12090704A1B2C3D4E5F6", "0001");
    bench.check(SAK, "000100");
    bench.check(LOOK, SEVEN);
    bench.check(LOOK, SEVEN);
    assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
}

#[test]
fn a_chip_that_leaves_while_it_proves_itself_was_not_held_still() {
    let mut bench = proving_bench();
    for answers in [&["0000"][..], &["0001", "000120", "0000"]] {
        bench.check(LOOK, HIDDEN);
        for answer in answers {
            bench.sent();
            bench.say(&format!("{answer}\r"));
        }
        assert_eq!(bench.told(), "unreadable HoldStill");
        bench.check(LOOK, NONE);
        bench.check(LOOK, NONE);
    }
}

#[test]
fn a_firmware_that_lets_nothing_through_leaves_chips_to_their_uid() {
    let mut bench = proving_bench();
    bench.check(LOOK, SEVEN);
    bench.check("12090704A1B2C3D4E5F6", "01");
    bench.check(LOOK, SEVEN);
    assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
}

#[test]
fn a_search_that_is_refused_is_no_empty_field() {
    check(&[FOUR, "05", "05", "05", FOUR], "came 72BF9961");
    // Nor is the other search of the same look.
    let mut bench = Bench::open_with_em4100();
    for _ in 0..3 {
        bench.check("050010", "05");
    }
    assert_eq!(bench.told(), "opened TWN4");
    bench.check("050010", NONE);
    bench.check(LOOK, FOUR);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_question_is_answered_by_the_next_look_and_not_by_the_one_under_way() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.now += Duration::from_millis(1);
    bench.till.handle_read_again(7, bench.now);
    bench.say(&format!("{FOUR}\r"));
    assert_eq!(bench.told(), "came 72BF9961");
    bench.check(LOOK, FOUR);
    assert_eq!(bench.told(), "again 7 72BF9961");
}

#[test]
fn an_approval_is_green_and_beeps_and_only_the_newest_signal_matters() {
    let mut bench = Bench::open();
    bench.till.handle_signal(Signal::Declined);
    bench.till.handle_signal(Signal::Approved);
    bench.check("040301", "00");
    bench.check("040202", "00");
    bench.check("040764600978007800", "00");
    bench.check(LOOK, NONE);
    assert_eq!(bench.told(), "");
}

#[test]
fn a_chip_is_given_its_keys_through_the_reader() {
    let (mut bench, mut card) = (proving_bench(), blank_card());
    bench.till.handle_task(5, ChipTask::Look, bench.now);
    bench.check(LOOK, NONE);
    assert_eq!(
        bench.told(),
        "worked 5 no chip is on the reader; hold the chip to it"
    );
    bench
        .till
        .handle_task(6, ChipTask::Enrol(enrolment()), bench.now);
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "0001");
    bench.check(SAK, "000120");
    exchange(&mut bench, &mut card, 31);
    assert_eq!(
        bench.told(),
        "worked 6 Enrolled(Enrolled { before: Factory, written: [4, 3, 2, 1, 0] })"
    );
    assert_eq!((card.keys[1], card.keys[3]), ([0x11; 16], [0x22; 16]));
}

#[test]
fn a_chip_or_a_firmware_that_takes_no_commands_is_told_as_such() {
    let mut bench = proving_bench();
    bench.till.handle_task(1, ChipTask::Look, bench.now);
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "0001");
    bench.check(SAK, "000108");
    assert_eq!(bench.told(), format!("worked 1 {}", EnrolError::Kind));
    bench.till.handle_task(2, ChipTask::Look, bench.now);
    bench.check(LOOK, HIDDEN);
    bench.check(SELECT, "04");
    assert_eq!(bench.told(), format!("worked 2 {}", EnrolError::Reader));
}

/// What the chip says to a frame that the till sent.
#[track_caller]
fn say_frame(bench: &mut Bench, chip: &mut VirtualUltralight, sent: &[u8]) {
    let [0x12, 0x07, length, frame @ .., 0xFF, 50, 0] = sent else {
        panic!("no frame: {sent:02X?}")
    };
    assert_eq!(usize::from(*length), frame.len());
    let heard = chip.handle(&crc_a::checked(frame).unwrap());
    let heard = match heard.len() {
        1 => heard,
        _ => crc_a::with_checksum(&heard),
    };
    bench.say(&said(&heard));
}

/// Has a MIFARE Ultralight AES from the factory enrolled; answers to the search that finds it anew are
/// changed by `find`. How often it lost its power, and what was told.
fn enrol_ultralight(
    chip: &mut VirtualUltralight,
    find: impl Fn(Vec<u8>) -> Vec<u8>,
) -> (usize, String) {
    let mut bench = proving_bench();
    let task = ChipTask::Enrol(ultralight_enrolment());
    bench.till.handle_task(6, task, bench.now);
    bench.check(LOOK, "000101080704958CAA5C5E80");
    bench.check("12090704958CAA5C5E80", "0001");
    bench.check(SAK, "000100");
    let mut outages = 0;
    loop {
        let sent = hex(bench.sent().trim_end());
        match sent[..2] {
            [0x05, 0x01] => {
                outages += 1;
                bench.say("00\r");
                bench.expect(LOOK);
                let uid = chip.power_up();
                let found = [&[0, 1, 1, uid.len() as u8 + 1, uid.len() as u8], &uid[..]].concat();
                bench.say(&line_of(&find(found)));
            }
            [0x12, 0x09] => bench.say("0001\r"),
            [0x12, 0x05] => bench.say("000100\r"),
            [0x12, 0x07] => say_frame(&mut bench, chip, &sent),
            // The next look.
            _ => return (outages, bench.told()),
        }
    }
}

#[test]
fn an_ultralight_is_given_its_keys_and_loses_its_power_for_a_moment() {
    let mut chip = VirtualUltralight::fresh(UID);
    let told = "worked 6 Enrolled(Enrolled { before: Factory, written: [3, 1] })";
    let (outages, said) = enrol_ultralight(&mut chip, |found| found);
    assert_eq!((outages, said.as_str()), (1, told));
    chip.power_up();
    assert_eq!(chip.keys, [[0x22; 16], [0x11; 16]]);
}

#[test]
fn an_ultralight_that_does_not_come_back_alone_is_not_enrolled() {
    let still = "worked 6 the chip was not read; hold it still on the reader";
    let (_, said) = enrol_ultralight(&mut VirtualUltralight::fresh(UID), |_| vec![0, 0]);
    assert_eq!(said, still);
    let two = hex("0001020A04010203040401020305");
    let (_, said) = enrol_ultralight(&mut VirtualUltralight::fresh(UID), |_| two.clone());
    assert_eq!(said, still);
    let other = |mut found: Vec<u8>| {
        found[6] ^= 1;
        found
    };
    let (_, said) = enrol_ultralight(&mut VirtualUltralight::fresh(UID), other);
    assert_eq!(said, format!("worked 6 {}", EnrolError::OtherChip));
}

#[test]
fn a_chip_that_speaks_frames_proves_itself_by_frames_with_their_checksums() {
    for (uid_key, times, expect) in [
        ([0x11; 16], 7, "came 04958CAA5C5E80 proven"),
        ([0x77; 16], 3, "came failed"),
    ] {
        let mut bench = bench_with(Application::ultralight_aes());
        let mut chip = ultralight();
        chip.keys[1] = uid_key;
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000100");
        for _ in 0..times {
            let sent = hex(bench.sent().trim_end());
            say_frame(&mut bench, &mut chip, &sent);
        }
        assert_eq!(bench.told(), expect);
        // It lies there and is not asked again.
        bench.check(LOOK, HIDDEN);
        bench.check(LOOK, HIDDEN);
    }
}
