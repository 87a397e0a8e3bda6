//! The till's side of a PN532, frame by frame.

use chip_keys::Application;

use super::*;
use crate::ChipFault;
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
    till: Pn532,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let now = Instant::now();
        Bench {
            till: Pn532::new(Keyring::default(), now),
            now,
        }
    }

    /// Through the opening and two looks into an empty field.
    fn open() -> Bench {
        let mut bench = Bench::new();
        bench.expect(&format!("{WAKE}{SAM}"));
        bench.say(&[ACK, "0000FF02FED5151600"]);
        bench.expect("0000FF02FED4022A00");
        bench.say(&[ACK, "0000FF06FAD50332010607E800"]);
        bench.expect("0000FF06FAD43205FF0102F300");
        bench.say(&[ACK, "0000FF02FED533F800"]);
        bench.look(NONE);
        bench.look(NONE);
        assert_eq!(bench.told(), "opened PN532 1.6");
        bench
    }

    /// The next bytes that the till sends, in 500 ms.
    #[track_caller]
    fn expect(&mut self, bytes: &str) {
        assert_eq!(self.sent(), hex(bytes));
    }

    #[track_caller]
    fn sent(&mut self) -> Vec<u8> {
        for _ in 0..100 {
            if let Some(sent) = self.till.poll_transmit(self.now) {
                return sent;
            }
            self.now += Duration::from_millis(5);
        }
        panic!("nothing was sent");
    }

    fn say(&mut self, frames: &[&str]) {
        for frame in frames {
            self.now += Duration::from_millis(5);
            self.till.handle_bytes(&hex(frame), self.now);
        }
    }

    #[track_caller]
    fn look(&mut self, answer: &str) {
        self.expect(LOOK);
        self.say(&[ACK, answer]);
        if answer != NONE {
            self.expect("0000FF03FDD45200DA00");
            self.say(&[ACK, "0000FF03FDD55300D800"]);
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
    answers.iter().for_each(|answer| bench.look(answer));
    assert_eq!(bench.told(), expect);
}

const WAKE: &str = "55550000000000000000000000000000";
const SAM: &str = "0000FF05FBD4140100001700";
const ACK: &str = "0000FF00FF00";
const LOOK: &str = "0000FF04FCD44A0200E000";
const NONE: &str = "0000FF03FDD54B00E000";
const FOUR: &str = "0000FF0CF4D54B01010004080472BF9961A300";
const SEVEN: &str = "0000FF0FF1D54B01010044000704A1B2C3D4E5F6CA00";
const TWO: &str = "0000FF15EBD54B02010004080472BF9961020004080411223344E600";

#[test]
fn chips_are_told_once_and_have_left_after_two_misses() {
    check(&[FOUR, FOUR, FOUR], "came 72BF9961");
    check(&[FOUR, NONE, FOUR, NONE, NONE], "came 72BF9961, left");
    check(&[SEVEN, FOUR], "came 04A1B2C3D4E5F6, left, came 72BF9961");
}

#[test]
fn two_chips_are_refused() {
    check(&[TWO, TWO], "unreadable Several");
    check(&[FOUR, TWO], "came 72BF9961, left, unreadable Several");
}

#[test]
fn a_command_without_acknowledgement_is_sent_once_more() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.expect(LOOK);
    bench.say(&[ACK, FOUR]);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn an_answer_without_acknowledgement_is_not_believed() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.say(&[FOUR]);
    bench.expect(LOOK);
    bench.say(&[ACK, SEVEN]);
    assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
}

#[test]
fn a_damaged_answer_is_asked_for_again_at_once() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.say(&[ACK, "0000FF0CF4D54B01010004080472BF9961A400"]);
    let before = bench.now;
    bench.expect(LOOK);
    assert!(bench.now - before <= DAMAGE_TIME);
    bench.say(&[ACK, FOUR]);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn damage_for_a_moment_loses_no_chip() {
    let mut bench = Bench::open();
    for _ in 0..2 * FAILURES_TO_LOSE {
        bench.expect(LOOK);
        bench.say(&[ACK, "0000FF0CF4D54B01010004080472BF9961A400"]);
        bench.expect(LOOK);
        bench.say(&[ACK, "0000FF0CF4D54B01010004080472BF9961A400"]);
        bench.expect("0000FF00FF00");
    }
    assert_eq!(bench.till.fault(), None);
    bench.look(FOUR);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn noise_before_an_answer_costs_nothing() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    let noisy = |frame| format!("41542B474D490D0A00FF0B01{frame}");
    bench.say(&[&noisy(ACK), &noisy(FOUR)]);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn bytes_like_a_head_cost_one_command_and_no_more() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.say(&["00FF40C0D5", ACK, FOUR]);
    assert_eq!(bench.told(), "");
    bench.expect(LOOK);
    bench.say(&[ACK, FOUR]);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_chip_that_stops_answering_is_aborted_and_then_lost() {
    let mut bench = Bench::open();
    bench.look(FOUR);
    for _ in 0..FAILURES_TO_LOSE {
        assert_eq!(bench.till.fault(), None);
        bench.expect(LOOK);
        bench.expect(LOOK);
        bench.expect("0000FF00FF00");
    }
    assert_eq!(bench.till.fault(), Some(ReaderFault::Lost));
    bench.till.handle_end();
    assert_eq!(bench.told(), "came 72BF9961, left");
}

#[test]
fn a_line_without_a_chip_is_silent() {
    let mut bench = Bench::new();
    for _ in 0..FAILURES_TO_LOSE {
        bench.expect(&format!("{WAKE}{SAM}"));
        bench.expect(&format!("{WAKE}{SAM}"));
        bench.expect("0000FF00FF00");
    }
    assert_eq!(bench.till.fault(), Some(ReaderFault::Silent));
}

#[test]
fn a_question_is_answered_by_the_next_look_and_not_by_the_one_under_way() {
    let mut bench = Bench::open();
    bench.look(FOUR);
    bench.expect(LOOK);
    bench.say(&[ACK]);
    bench.now += Duration::from_millis(1);
    bench.till.handle_read_again(7, bench.now);
    bench.say(&[FOUR]);
    assert_eq!(bench.told(), "came 72BF9961");
    bench.expect("0000FF03FDD45200DA00");
    bench.say(&[ACK, "0000FF03FDD55300D800"]);
    bench.look(FOUR);
    assert_eq!(bench.told(), "again 7 72BF9961");
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

/// Passes what the till sends to a chip on, until it releases it.
#[track_caller]
fn exchange(bench: &mut Bench, card: &mut VirtualCard) -> usize {
    for exchanges in 0.. {
        let sent = bench.sent();
        // Frame, D4, 40, the target's number, and a checksum with its end.
        let [0, 0, 0xFF, _, _, 0xD4, 0x40, 1, command @ .., _, 0] = &sent[..] else {
            assert_eq!(sent, hex("0000FF03FDD45200DA00"));
            bench.say(&[ACK, "0000FF03FDD55300D800"]);
            return exchanges;
        };
        let heard = card.handle(command);
        bench.say(&[ACK, &said(&[&[0x41, 0], &heard[..]].concat())]);
    }
    unreachable!()
}

/// One chip that shows the random UID 083A5C11 and takes commands.
const HIDDEN: &str = "0000FF12EED54B010103442004083A5C11067577810280CF00";

#[test]
fn a_chip_that_proves_itself_is_told_by_its_real_uid() {
    let (mut bench, mut card) = (proving_bench(), card());
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 6);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    // It lies there, and is not asked again.
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 0);
    // Somebody asks who is there.
    bench.till.handle_read_again(7, bench.now);
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 6);
    assert_eq!(bench.told(), "again 7 04958CAA5C5E80 proven");
    bench.look(NONE);
    bench.look(NONE);
    assert_eq!(bench.told(), "left");
}

#[test]
fn a_chip_that_does_not_know_its_key_has_failed_and_is_not_asked_over_and_over() {
    let (mut bench, mut card) = (proving_bench(), card());
    card.keys[3] = [0x77; 16];
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    exchange(&mut bench, &mut card);
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 0);
    assert_eq!(bench.told(), "came failed");
}

#[test]
fn a_chip_that_leaves_while_it_proves_itself_was_not_held_still() {
    let mut bench = proving_bench();
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    bench.sent();
    // Time-out of the chip.
    bench.say(&[ACK, "0000FF03FDD54101E900"]);
    bench.expect("0000FF03FDD45200DA00");
    assert_eq!(bench.told(), "unreadable HoldStill");
}

#[test]
fn a_step_of_a_proof_is_never_sent_twice() {
    let mut bench = proving_bench();
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    bench.sent();
    bench.expect("0000FF00FF00");
    bench.expect("0000FF03FDD45200DA00");
    assert_eq!(bench.told(), "unreadable HoldStill");
}

#[test]
fn what_the_chip_refuses_is_sent_once_more() {
    let mut bench = Bench::open();
    bench.expect(LOOK);
    bench.say(&[ACK, "0000FF01FF7F8100"]);
    bench.look(FOUR);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_chip_is_given_its_keys_and_proves_itself_by_them() {
    let (mut bench, mut card) = (proving_bench(), blank_card());
    bench.till.handle_task(5, ChipTask::Look, bench.now);
    bench.look(NONE);
    assert_eq!(
        bench.told(),
        "worked 5 no chip is on the reader; hold the chip to it"
    );
    bench.till.handle_task(6, ChipTask::Look, bench.now);
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    exchange(&mut bench, &mut card);
    let looked = bench.told();
    assert!(
        looked.starts_with("worked 6 Looked(Blank { kind: Ntag424"),
        "{looked}"
    );
    bench
        .till
        .handle_task(7, ChipTask::Enrol(enrolment()), bench.now);
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 31);
    assert_eq!(
        bench.told(),
        "worked 7 Enrolled(Enrolled { before: Factory, written: [4, 3, 2, 1, 0] })"
    );
    assert_eq!((card.keys[1], card.keys[3]), ([0x11; 16], [0x22; 16]));
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    assert_eq!(exchange(&mut bench, &mut card), 6);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
}

#[test]
fn a_task_is_done_with_one_chip_that_takes_commands_or_refused() {
    let refused = |answers: &[&str]| {
        let mut bench = proving_bench();
        bench.till.handle_task(1, ChipTask::Look, bench.now);
        answers.iter().for_each(|answer| bench.look(answer));
        bench.told()
    };
    assert_eq!(
        refused(&[TWO]),
        "worked 1 there are several chips on the reader; hold only one chip to it, unreadable Several"
    );
    assert_eq!(
        refused(&[FOUR, FOUR]),
        format!("worked 1 {}, came 72BF9961", EnrolError::Kind)
    );
}

#[test]
fn a_task_ends_with_the_line_or_the_chip_and_never_waits_for_ever() {
    let mut bench = proving_bench();
    bench.till.handle_task(1, ChipTask::Look, bench.now);
    bench.expect(LOOK);
    bench.say(&[ACK, HIDDEN]);
    bench.sent();
    bench.till.handle_task(2, ChipTask::Look, bench.now);
    // Time-out of the chip.
    bench.say(&[ACK, "0000FF03FDD54101E900"]);
    bench.expect("0000FF03FDD45200DA00");
    assert_eq!(
        bench.told(),
        "worked 1 the chip was not read; hold it still on the reader"
    );
    bench.now += Duration::from_secs(11);
    bench.till.poll_transmit(bench.now);
    let faulty = ChipFault::ReaderFaulty;
    assert_eq!(bench.told(), format!("worked 2 {faulty}"));
    bench.till.handle_task(3, ChipTask::Look, bench.now);
    bench.till.handle_end();
    assert_eq!(bench.told(), format!("worked 3 {faulty}"));
}

/// A bench where a MIFARE Ultralight AES must prove itself.
fn frames_bench() -> Bench {
    bench_with(Application::ultralight_aes())
}

/// Switches the check of checksums off, and passes so many frames on.
#[track_caller]
fn frames(bench: &mut Bench, chip: &mut VirtualUltralight, times: usize) {
    bench.expect("0000FF03FDD45401D700");
    // "Not in this context": it was awake.
    bench.say(&[ACK, &said(&[0x55, 0x27])]);
    bench.expect("0000FF04FCD4066303C000");
    bench.say(&[ACK, &said(&[0x07, 0x88])]);
    bench.expect("0000FF05FBD408630308B600");
    bench.say(&[ACK, &said(&[0x09])]);
    for _ in 0..times {
        let sent = bench.sent();
        let [0, 0, 0xFF, _, _, 0xD4, 0x42, frame @ .., _, 0] = &sent[..] else {
            panic!("no frame: {sent:02X?}")
        };
        bench.say(&[ACK, &said(&communicated(chip, frame))]);
    }
    bench.expect("0000FF03FDD45200DA00");
    bench.say(&[ACK, "0000FF03FDD55300D800"]);
}

/// The answer to InCommunicateThru while checksums are not checked.
fn communicated(chip: &mut VirtualUltralight, frame: &[u8]) -> Vec<u8> {
    let heard = chip.handle(frame);
    let heard = match heard.len() {
        1 => heard,
        _ => crc_a::with_checksum(&heard),
    };
    [&[0x43, 0], &heard[..]].concat()
}

/// A frame of the reader.
fn said(data: &[u8]) -> String {
    let said = [&[0xD5], data].concat();
    let length = said.len() as u8;
    let sum = said.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let head = [0, 0, 0xFF, length, length.wrapping_neg()];
    let frame = [&head[..], &said, &[sum.wrapping_neg(), 0]].concat();
    frame.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// One chip of the Ultralight family that shows the random UID 083A5C11.
fn lay_ultralight(bench: &mut Bench) {
    bench.expect(LOOK);
    let listed = said(&[0x4B, 1, 1, 0x00, 0x44, 0x00, 4, 0x08, 0x3A, 0x5C, 0x11]);
    bench.say(&[ACK, &listed]);
}

#[test]
fn a_chip_that_speaks_frames_proves_itself_with_the_check_of_checksums_switched_off() {
    let (mut bench, mut chip) = (frames_bench(), ultralight());
    lay_ultralight(&mut bench);
    frames(&mut bench, &mut chip, 7);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    // The next search has switched it on again; somebody asks who is there.
    bench.till.handle_read_again(7, bench.now);
    lay_ultralight(&mut bench);
    let mut chip = ultralight();
    frames(&mut bench, &mut chip, 7);
    assert_eq!(bench.told(), "again 7 04958CAA5C5E80 proven");
}

#[test]
fn a_chip_that_refuses_the_proof_has_failed_and_a_damaged_answer_is_no_refusal() {
    let (mut bench, mut chip) = (frames_bench(), ultralight());
    chip.keys[1] = [0x77; 16];
    lay_ultralight(&mut bench);
    frames(&mut bench, &mut chip, 3);
    assert_eq!(bench.told(), "came failed");

    let mut bench = frames_bench();
    lay_ultralight(&mut bench);
    bench.sent();
    bench.say(&[ACK, &said(&[0x55])]);
    bench.sent();
    bench.say(&[ACK, &said(&[0x07, 0x88])]);
    bench.sent();
    bench.say(&[ACK, &said(&[0x09])]);
    bench.sent();
    bench.say(&[ACK, &said(&[0x43, 0, 0xCA, 0x17, 0xAE, 0x01, 0x00])]);
    bench.expect("0000FF03FDD45200DA00");
    assert_eq!(bench.told(), "unreadable HoldStill");
}

#[test]
fn a_frame_is_never_sent_twice() {
    let mut bench = frames_bench();
    lay_ultralight(&mut bench);
    bench.sent();
    bench.say(&[ACK, &said(&[0x55])]);
    bench.sent();
    bench.say(&[ACK, &said(&[0x07, 0x88])]);
    bench.sent();
    bench.say(&[ACK, &said(&[0x09])]);
    bench.sent();
    bench.expect("0000FF00FF00");
    bench.expect("0000FF03FDD45200DA00");
    assert_eq!(bench.told(), "unreadable HoldStill");
}

/// Has a MIFARE Ultralight AES from the factory enrolled; what is found when it has its power again is
/// changed by `find`. How often it lost it, and what was told.
fn enrol_ultralight(
    chip: &mut VirtualUltralight,
    find: impl Fn(Vec<u8>) -> Vec<u8>,
) -> (usize, String) {
    let mut bench = Bench::open();
    let task = ChipTask::Enrol(ultralight_enrolment());
    bench.till.handle_task(6, task, bench.now);
    let listed = |uid: &[u8]| {
        let head = [0x4B, 1, 1, 0x00, 0x44, 0x00, uid.len() as u8];
        [&head[..], uid].concat()
    };
    bench.expect(LOOK);
    bench.say(&[ACK, &said(&listed(&UID))]);
    let (mut outages, mut is_unchecked, mut is_awake) = (0, false, false);
    loop {
        let sent = bench.sent();
        let [0, 0, 0xFF, _, _, 0xD4, body @ .., _, 0] = &sent[..] else {
            panic!("no frame: {sent:02X?}")
        };
        let answer = match body {
            [0x54, 0x01] => {
                is_awake = true;
                vec![0x55, 0x00]
            }
            [0x06, 0x63, 0x03] => vec![0x07, 0x80],
            [0x08, 0x63, 0x03, 0x00] => {
                is_unchecked = true;
                vec![0x09]
            }
            [0x32, 0x01, 0x00] => {
                outages += 1;
                vec![0x33]
            }
            [0x32, 0x01, 0x01] => vec![0x33],
            [0x4A, 0x02, 0x00] => {
                (is_unchecked, is_awake) = (false, false);
                find(listed(&chip.power_up()))
            }
            [0x42, frame @ ..] => {
                assert!(is_unchecked && is_awake, "not ready for {frame:02X?}");
                communicated(chip, frame)
            }
            [0x52, 0x00] => return (outages, bench.told()),
            other => panic!("{other:02X?}"),
        };
        bench.say(&[ACK, &said(&answer)]);
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
    let two = |found: Vec<u8>| [&[0x4B, 2], &found[2..], &found[2..]].concat();
    for changed in [
        |_: Vec<u8>| vec![0x4B, 0],
        two,
        |mut found: Vec<u8>| {
            found[5] = 0x20;
            found
        },
    ] {
        let (_, said) = enrol_ultralight(&mut VirtualUltralight::fresh(UID), changed);
        assert_eq!(said, still);
    }
    let other = |mut found: Vec<u8>| {
        found[8] ^= 1;
        found
    };
    let (_, said) = enrol_ultralight(&mut VirtualUltralight::fresh(UID), other);
    assert_eq!(said, format!("worked 6 {}", EnrolError::OtherChip));
}
