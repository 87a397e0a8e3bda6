//! The till's side of the own protocol against the state machine that firmware runs.

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::VERSION;
use firmware_proto::message::{Bytes, Pattern, Technology, capability, chip_flag};

use super::*;
use crate::auth::tests_of_identify::{
    UID, blank_card, card, enrolment, site, ultralight, ultralight_enrolment,
};
use crate::auth::virtual_card::VirtualCard;
use crate::auth::virtual_ultralight::VirtualUltralight;
use crate::serial::field::words;
use chip_keys::Application;

/// A till and a reader, joined by a line that a test can damage; time is counted, not waited.
struct Bench {
    till: OwnConversation,
    reader: Device,
    field: Field,
    /// What answers commands in the field.
    card: Option<VirtualCard>,
    /// What answers frames in the field.
    ultralight: Option<VirtualUltralight>,
    shown: Vec<Pattern>,
    start: Instant,
    elapsed: u32,
    /// Bytes on the line, to the reader and to the till.
    to_reader: Vec<u8>,
    to_till: Vec<u8>,
    told: Vec<Happening>,
}

struct Radio<'a> {
    field: Field,
    shown: &'a mut Vec<Pattern>,
    card: Option<&'a mut VirtualCard>,
    ultralight: Option<&'a mut VirtualUltralight>,
}

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        if let Some(chip) = self.ultralight.as_mut() {
            chip.select();
        }
        self.field
    }
    fn show(&mut self, pattern: Pattern, _: u16) {
        self.shown.push(pattern);
    }
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize> {
        let said = self.card.as_mut()?.handle(command);
        answer.get_mut(..said.len())?.copy_from_slice(&said);
        Some(said.len())
    }
    fn exchange_frame(&mut self, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
        let chip = self.ultralight.as_mut()?;
        if frame.is_empty() {
            chip.power_up();
            answer.get_mut(..UID.len())?.copy_from_slice(&UID);
            return Some(UID.len());
        }
        let said = chip.handle(frame);
        answer.get_mut(..said.len())?.copy_from_slice(&said);
        Some(said.len()).filter(|length| *length > 0)
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

impl Bench {
    fn new() -> Bench {
        let start = Instant::now() + Duration::from_secs(3600);
        Bench {
            till: OwnConversation::new(42, Keyring::default(), start),
            reader: device(1),
            field: Field::Empty,
            card: None,
            ultralight: None,
            shown: Vec::new(),
            start,
            elapsed: 0,
            to_reader: Vec::new(),
            to_till: Vec::new(),
            told: Vec::new(),
        }
    }

    fn open() -> Bench {
        let mut bench = Bench::new();
        bench.run(100);
        assert_eq!(bench.told(), "opened 1.0.0");
        bench
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(u64::from(self.elapsed))
    }

    fn run(&mut self, milliseconds: u32) {
        self.run_over(milliseconds, |_, _| {});
    }

    /// Lets time pass; `line` may damage what each side has just said.
    fn run_over(&mut self, milliseconds: u32, mut line: impl FnMut(&mut Vec<u8>, &mut Vec<u8>)) {
        for _ in 0..milliseconds / STEP {
            self.elapsed += STEP;
            let now = self.now();
            while let Some(bytes) = self.till.poll_transmit(now) {
                self.to_reader.extend(bytes);
            }
            line(&mut self.to_reader, &mut self.to_till);
            if self.elapsed.is_multiple_of(50) {
                self.reader.handle_field(self.field, self.elapsed);
            }
            let mut radio = Radio {
                field: self.field,
                shown: &mut self.shown,
                card: self.card.as_mut(),
                ultralight: self.ultralight.as_mut(),
            };
            let mut wire = [0; MAX_WIRE];
            for byte in self.to_reader.drain(..) {
                let answer = self
                    .reader
                    .handle_byte(byte, self.elapsed, &mut radio, &mut wire);
                self.to_till.extend(answer.unwrap_or_default());
            }
            let telling = self.reader.poll(self.elapsed, &mut wire);
            self.to_till.extend(telling.unwrap_or_default());
            line(&mut self.to_reader, &mut self.to_till);
            let bytes = std::mem::take(&mut self.to_till);
            self.till.handle_bytes(&bytes, now);
            while let Some(happening) = self.till.poll_happening() {
                self.told.push(happening);
            }
        }
    }

    /// Has the till hear of a tap that the reader knows nothing of.
    fn hear_tag(&mut self, age: u16) {
        let Field::One(chip) = a_chip() else {
            panic!("one chip")
        };
        let mut wire = [0; MAX_WIRE];
        let tag = FromDevice::Tag {
            event: 900,
            age,
            chip,
        };
        let (bytes, now) = (tag.encode(1, &mut wire).unwrap(), self.now());
        self.till.handle_bytes(bytes, now);
        self.run(STEP);
    }

    /// What the till was told since the last call.
    fn told(&mut self) -> String {
        let mut told = std::mem::take(&mut self.told).into_iter();
        words(|| told.next())
    }

    fn task(&mut self, token: u64, task: ChipTask) {
        let now = self.now();
        self.till.handle_task(token, task, now);
    }

    fn read_again(&mut self, token: u64) {
        let now = self.now();
        self.till.handle_read_again(token, now);
    }
}

fn device(boot_id: u32) -> Device {
    device_that_can(boot_id, capability::LIGHT | capability::APDU)
}

fn device_that_can(boot_id: u32, capabilities: u32) -> Device {
    Device::new(Identity {
        version: 0,
        firmware: [1, 0, 0],
        hardware: 1,
        serial: [0; 12],
        capabilities,
        boot_id,
        max_payload: 0,
    })
}

fn chip(technology: Technology, uid: &[u8]) -> Field {
    Field::One(Chip {
        technology,
        flags: 0,
        sak: 8,
        atqa: 4,
        uid: Bytes::new(uid).unwrap(),
        ats: Bytes::EMPTY,
    })
}

fn a_chip() -> Field {
    chip(Technology::Iso14443A, &[0x72, 0xBF, 0x99, 0x61])
}

/// What one thing in the field is told as.
#[track_caller]
fn check(field: Field, expect: &str) {
    let mut bench = Bench::open();
    bench.field = field;
    bench.run(300);
    assert_eq!(bench.told(), expect);
}

const STEP: u32 = 10;

#[test]
fn a_tap_and_its_end_are_told_once() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    bench.run(3000);
    assert_eq!(bench.told(), "came 72BF9961");
    bench.field = Field::Empty;
    bench.run(3000);
    assert_eq!(bench.told(), "left");
    assert_eq!(bench.till.fault(), None);
}

#[test]
fn what_cannot_identify_anybody_is_refused_with_its_reason() {
    check(Field::Several, "unreadable Several");
    check(Field::Unreadable, "unreadable HoldStill");
    check(
        chip(Technology::Iso14443A, &[8, 1, 2, 3]),
        "unreadable Identity(Random)",
    );
    check(
        chip(Technology::Iso14443A, &[1, 2, 3]),
        "unreadable Identity(Length { bytes: 3 })",
    );
    check(
        chip(Technology::Iso14443B, &[1, 2, 3, 4]),
        "unreadable Technology",
    );
    check(
        chip(Technology::Other(9), &[1, 2, 3, 4]),
        "unreadable Technology",
    );
}

#[test]
fn a_third_of_all_frames_lost_loses_and_doubles_no_tap() {
    let mut bench = Bench::open();
    let mut dice = 7u32;
    for _ in 0..50 {
        for field in [a_chip(), Field::Empty] {
            bench.field = field;
            bench.run_over(1500, |to_reader, to_till| {
                for line in [to_reader, to_till] {
                    dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if dice >> 16 < 0x10000 / 3 {
                        line.clear();
                    }
                }
            });
        }
        assert_eq!(bench.told(), "came 72BF9961, left");
    }
}

#[test]
fn a_confirmation_that_is_lost_makes_no_second_tap() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    bench.run_over(450, |to_reader, _| to_reader.clear());
    bench.run(500);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn the_age_of_a_tap_decides_whether_it_is_told() {
    for (age, expect) in [(0, "came 72BF9961"), (1000, "came 72BF9961"), (1001, "")] {
        let mut bench = Bench::open();
        bench.hear_tag(age);
        assert_eq!(bench.told(), expect, "{age} ms");
    }
}

#[test]
fn a_tap_that_arrives_before_the_answer_to_the_hello_is_not_told() {
    let mut bench = Bench::new();
    bench.hear_tag(0);
    bench.run(100);
    assert_eq!(bench.told(), "opened 1.0.0");
}

#[test]
fn a_question_whose_answer_is_lost_is_asked_again() {
    let mut bench = Bench::new();
    bench.run_over(300, |_, to_till| to_till.clear());
    bench.run(400);
    assert_eq!(bench.told(), "opened 1.0.0");
    bench.read_again(1);
    bench.run_over(300, |_, to_till| to_till.clear());
    bench.run(400);
    assert_eq!(bench.told(), "again 1 Absent");
}

#[test]
fn garbage_between_frames_changes_nothing() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    let mut byte = 0u8;
    bench.run_over(2000, |to_reader, to_till| {
        byte = byte.wrapping_add(37);
        to_reader.splice(..0, [byte, byte ^ 0x5A]);
        to_till.splice(..0, *b"AT+GMI\r\n");
    });
    assert_eq!(bench.told(), "came 72BF9961");
    assert_eq!(bench.till.fault(), None);
}

#[test]
fn a_reader_that_never_answers_is_silent_and_one_that_stops_is_lost() {
    let mut bench = Bench::new();
    bench.run_over(1000, |to_reader, _| to_reader.clear());
    assert_eq!(bench.till.fault(), Some(ReaderFault::Silent));
    let mut bench = Bench::open();
    bench.run_over(2500, |to_reader, _| to_reader.clear());
    assert_eq!(bench.till.fault(), None);
    bench.run_over(2000, |to_reader, _| to_reader.clear());
    assert_eq!(bench.till.fault(), Some(ReaderFault::Lost));
}

#[test]
fn a_chip_that_lay_there_before_the_hello_is_not_told() {
    let mut bench = Bench::new();
    bench.field = a_chip();
    bench.reader.handle_field(a_chip(), 0);
    bench.run(1000);
    assert_eq!(bench.told(), "opened 1.0.0");
    bench.read_again(1);
    bench.run(100);
    assert_eq!(bench.told(), "again 1 72BF9961");
    bench.field = Field::Empty;
    bench.run(200);
    bench.field = a_chip();
    bench.run(200);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_tap_held_up_for_more_than_a_second_is_not_told() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    let mut held_up = Vec::new();
    bench.run_over(900, |_, to_till| held_up.append(to_till));
    assert!(!held_up.is_empty());
    bench.field = Field::Empty;
    bench.run_over(1200, |_, to_till| to_till.clear());
    bench.run(2000);
    assert_eq!(bench.told(), "");
    // The reader repeats a tap that is younger; its age is told with it.
    bench.field = a_chip();
    bench.run_over(500, |_, to_till| to_till.clear());
    let before = bench.now();
    bench.run(200);
    let Some(Happening::Came { seen_at, .. }) = bench.told.first() else {
        panic!()
    };
    assert!(before.duration_since(*seen_at) >= Duration::from_millis(400));
}

#[test]
fn reading_again_tells_what_is_there_at_that_moment() {
    let mut bench = Bench::open();
    bench.read_again(1);
    bench.run(50);
    assert_eq!(bench.told(), "again 1 Absent");
    bench.field = a_chip();
    bench.run(200);
    // Swapped since the last scan: the new chip is answered, whatever the old one was.
    bench.field = chip(Technology::Iso14443A, &[1, 2, 3, 4]);
    bench.read_again(2);
    bench.run(300);
    assert_eq!(
        bench.told(),
        "came 72BF9961, again 2 01020304, left, came 01020304"
    );
    bench.field = Field::Several;
    bench.read_again(3);
    bench.run(20);
    assert!(bench.told().starts_with("again 3 Several"));
}

#[test]
fn reading_again_is_always_answered() {
    let mut bench = Bench::open();
    (0..10).for_each(|token| bench.read_again(token));
    bench.run_over(4000, |to_reader, _| to_reader.clear());
    let told = bench.told();
    assert_eq!(told.matches("ReaderFaulty").count(), 10, "{told}");
    bench.read_again(10);
    bench.till.handle_end();
    bench.run(STEP);
    assert_eq!(bench.told(), "again 10 ReaderFaulty");
}

#[test]
fn a_reader_that_starts_anew_is_greeted_anew() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    bench.run(200);
    assert_eq!(bench.told(), "came 72BF9961");
    bench.reader = device(2);
    bench.field = Field::Empty;
    bench.run(1500);
    assert_eq!(bench.told(), "left, opened 1.0.0");
    bench.field = a_chip();
    bench.run(200);
    assert_eq!(bench.told(), "came 72BF9961");
}

#[test]
fn a_leaving_that_the_reader_gave_up_telling_is_noticed_by_a_ping() {
    let mut bench = Bench::open();
    bench.field = a_chip();
    bench.run(200);
    bench.field = Field::Empty;
    bench.run_over(1500, |_, to_till| to_till.clear());
    bench.run(1500);
    assert_eq!(bench.told(), "came 72BF9961, left");
}

/// A till with keys, and a reader that lets a chip of the site prove itself.
fn proving_bench() -> Bench {
    let mut bench = Bench::new();
    let keyring = Keyring::default();
    keyring.put(vec![site(Application::ntag_424())]);
    bench.till = OwnConversation::new(42, keyring, bench.start);
    bench.card = Some(card());
    bench.run(100);
    assert_eq!(bench.told(), "opened 1.0.0");
    bench
}

/// The site's chip, showing a random UID.
fn hidden_chip() -> Field {
    let Field::One(chip) = chip(Technology::Iso14443A, &[8, 1, 2, 3]) else {
        panic!("one chip")
    };
    Field::One(Chip {
        flags: chip_flag::TAKES_COMMANDS,
        ..chip
    })
}

#[test]
fn a_chip_that_proves_itself_is_told_by_its_real_uid() {
    let mut bench = proving_bench();
    bench.field = hidden_chip();
    bench.run(500);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    bench.read_again(1);
    bench.run(300);
    assert_eq!(bench.told(), "again 1 04958CAA5C5E80 proven");
    bench.field = Field::Empty;
    bench.run(500);
    assert_eq!(bench.told(), "left");
}

#[test]
fn a_chip_that_does_not_know_its_key_has_failed() {
    let mut bench = proving_bench();
    bench.card.as_mut().unwrap().keys[3] = [0x77; 16];
    bench.field = hidden_chip();
    bench.run(500);
    assert_eq!(bench.told(), "came failed");
    bench.card = Some(card());
    bench.read_again(1);
    bench.run(300);
    assert_eq!(bench.told(), "again 1 04958CAA5C5E80 proven");
}

#[test]
fn a_chip_that_leaves_while_it_proves_itself_was_not_held_still() {
    let mut bench = proving_bench();
    bench.field = hidden_chip();
    bench.card = None;
    bench.run(500);
    assert_eq!(bench.told(), "unreadable HoldStill");
    bench.read_again(1);
    bench.run(300);
    assert_eq!(bench.told(), "again 1 HoldStill");
}

#[test]
fn a_step_of_a_proof_is_never_sent_twice() {
    let mut bench = proving_bench();
    bench.field = hidden_chip();
    let mut sent = 0;
    bench.run_over(900, |to_reader, to_till| {
        let is = |line: &[u8], kind| line.windows(2).any(|two| two == [VERSION, kind]);
        sent += u32::from(is(to_reader, message::APDU));
        if is(to_till, message::APDU_ANSWER) {
            to_till.clear();
        }
    });
    // Seen by the line twice, on its way and at its end.
    assert_eq!(sent, 1);
    bench.run(1500);
    assert_eq!(bench.told(), "unreadable HoldStill");
}

#[test]
fn without_leave_to_send_commands_a_chip_is_who_it_claims_to_be() {
    let mut bench = proving_bench();
    bench.reader = device_that_can(2, capability::LIGHT);
    bench.run(1500);
    assert_eq!(bench.told(), "opened 1.0.0");
    bench.field = hidden_chip();
    bench.run(300);
    assert_eq!(bench.told(), "unreadable Identity(Random)");
}

/// A till with the keys of MIFARE Ultralight AES, and one on a reader that passes frames.
fn airing_bench(capabilities: u32) -> Bench {
    let mut bench = Bench::new();
    let keyring = Keyring::default();
    keyring.put(vec![site(Application::ultralight_aes())]);
    bench.till = OwnConversation::new(42, keyring, bench.start);
    bench.reader = device_that_can(1, capabilities);
    bench.ultralight = Some(ultralight());
    bench.run(100);
    assert_eq!(bench.told(), "opened 1.0.0");
    let Field::One(chip) = chip(Technology::Iso14443A, &[8, 1, 2, 3]) else {
        panic!("one chip")
    };
    bench.field = Field::One(Chip { sak: 0, ..chip });
    bench
}

#[test]
fn a_chip_without_a_system_proves_itself_by_frames() {
    let mut bench = airing_bench(capability::AIR);
    bench.run(500);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    for token in 1..3 {
        bench.read_again(token);
        bench.run(300);
        let again = format!("again {token} 04958CAA5C5E80 proven");
        assert_eq!(bench.told(), again);
    }
    bench.ultralight.as_mut().unwrap().keys[0] = [0x77; 16];
    bench.read_again(3);
    bench.run(300);
    assert_eq!(bench.told(), "again 3 failed");
    // It has fallen silent.
    bench.ultralight = None;
    bench.read_again(4);
    bench.run(300);
    assert_eq!(bench.told(), "again 4 HoldStill");
}

#[test]
fn a_chip_without_a_system_is_given_its_keys_through_the_reader() {
    let mut bench = airing_bench(capability::AIR);
    let Field::One(chip) = bench.field else {
        panic!("one chip")
    };
    let uid = Bytes::new(&UID).unwrap();
    bench.field = Field::One(Chip { uid, ..chip });
    bench.ultralight = Some(VirtualUltralight::fresh(UID));
    bench.run(500);
    assert_eq!(bench.told(), "came 04958CAA5C5E80");
    bench.task(6, ChipTask::Enrol(ultralight_enrolment()));
    bench.run(2000);
    let told = bench.told();
    assert!(told.starts_with("worked 6 Enrolled("), "{told}");
    bench.read_again(1);
    bench.run(500);
    assert_eq!(bench.told(), "again 1 04958CAA5C5E80 proven");
}

#[test]
fn a_reader_that_passes_no_frames_is_asked_for_none() {
    let mut bench = airing_bench(capability::APDU);
    bench.run(500);
    assert_eq!(bench.told(), "unreadable Identity(Random)");
}

#[test]
fn a_chip_of_another_kind_is_sent_no_frames() {
    let mut bench = airing_bench(capability::AIR);
    bench.field = a_chip();
    let mut sent = 0;
    bench.run_over(500, |to_reader, _| {
        let is_frame = |two: &[u8]| two == [VERSION, message::AIR];
        sent += usize::from(to_reader.windows(2).any(is_frame));
    });
    assert_eq!((bench.told().as_str(), sent), ("came 72BF9961", 0));
}

#[test]
fn signals_are_shown_and_only_the_newest_matters() {
    let mut bench = Bench::open();
    bench.till.handle_signal(Signal::Waiting);
    bench.till.handle_signal(Signal::Approved);
    bench.run(100);
    assert_eq!(bench.shown, [Pattern::Approved]);
}

#[test]
fn a_reader_of_another_version_is_named() {
    let mut bench = Bench::new();
    let nack = Nack {
        kind: message::HELLO,
        reason: NackReason::Version { min: 2, max: 3 },
    };
    bench.till.poll_transmit(bench.start).unwrap();
    let mut wire = [0; MAX_WIRE];
    let bytes = FromDevice::Nack(nack).encode(1, &mut wire).unwrap();
    bench.till.handle_bytes(bytes, bench.start);
    assert_eq!(
        bench.till.fault(),
        Some(ReaderFault::Version { min: 2, max: 3 })
    );
}

#[test]
fn a_chip_is_given_its_keys_through_the_reader() {
    let mut bench = proving_bench();
    bench.card = Some(blank_card());
    bench.task(5, ChipTask::Look);
    bench.run(300);
    let absent = ChipFault::Absent;
    assert_eq!(bench.told(), format!("worked 5 {absent}"));
    bench.field = hidden_chip();
    bench.run(500);
    assert_eq!(bench.told(), "came failed");
    bench.task(6, ChipTask::Enrol(enrolment()));
    bench.run(2000);
    assert_eq!(
        bench.told(),
        "worked 6 Enrolled(Enrolled { before: Factory, written: [4, 3, 2, 1, 0] })"
    );
    bench.read_again(1);
    bench.run(500);
    assert_eq!(bench.told(), "again 1 04958CAA5C5E80 proven");
}

#[test]
fn a_reader_without_leave_to_send_commands_does_no_task() {
    let mut bench = proving_bench();
    bench.reader = device_that_can(2, capability::LIGHT);
    bench.run(1500);
    assert_eq!(bench.told(), "opened 1.0.0");
    bench.task(1, ChipTask::Look);
    bench.run(100);
    assert_eq!(bench.told(), format!("worked 1 {}", EnrolError::Reader));
}

#[test]
fn a_task_ends_with_the_chip_or_the_line() {
    let mut bench = proving_bench();
    bench.field = hidden_chip();
    bench.run(500);
    assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
    bench.task(1, ChipTask::Enrol(enrolment()));
    bench.run(20);
    bench.field = Field::Empty;
    bench.run(2000);
    assert_eq!(
        bench.told(),
        format!("worked 1 {}, left", ChipFault::HoldStill)
    );
    bench.task(2, ChipTask::Look);
    bench.till.handle_end();
    let told = words(|| bench.till.poll_happening());
    assert_eq!(told, format!("worked 2 {}", ChipFault::ReaderFaulty));
}
