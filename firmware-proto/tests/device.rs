//! The reader's side: what it tells, how often, and when it keeps quiet.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::{Decoder, Frame, MAX_WIRE};
use firmware_proto::message::{
    Bytes, Chip, FieldState, FromDevice, FromHost, Identity, NackReason, Pattern, Technology,
    capability,
};

/// A reader on a bench: a field that the test fills, and no radio.
struct Bench {
    device: Device,
    field: Field,
    shown: Vec<Pattern>,
    now: u32,
}

struct Radio<'a>(&'a mut Field, &'a mut Vec<Pattern>);

impl Hardware for Radio<'_> {
    fn scan(&mut self) -> Field {
        *self.0
    }
    fn show(&mut self, pattern: Pattern, _: u16) {
        self.1.push(pattern);
    }
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize> {
        answer[..command.len()].copy_from_slice(command);
        Some(command.len())
    }
    fn exchange_frame(&mut self, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
        answer[..frame.len()].copy_from_slice(frame);
        answer[..frame.len()].reverse();
        Some(frame.len()).filter(|length| *length > 0)
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

impl Bench {
    fn new(capabilities: u32) -> Bench {
        let identity = Identity {
            version: 0,
            firmware: [1, 0, 0],
            hardware: 1,
            serial: *b"BENCH\0\0\0\0\0\0\0",
            capabilities,
            boot_id: 77,
            max_payload: 0,
        };
        // The clock wraps between the first telling of a tap and its repetition.
        let now = u32::MAX - 50;
        Bench {
            device: Device::new(identity),
            field: Field::Empty,
            shown: Vec::new(),
            now,
        }
    }

    fn open() -> Bench {
        Bench::open_with(0)
    }

    fn open_with(capabilities: u32) -> Bench {
        let mut bench = Bench::new(capabilities);
        let answer = bench.ask(FromHost::Hello {
            min: 1,
            max: 1,
            nonce: 5,
        });
        assert!(
            answer.starts_with("Hello(Identity { version: 1"),
            "{answer}"
        );
        bench
    }

    /// Lays something into the field and lets the device scan it often enough.
    fn lay(&mut self, field: Field) {
        self.field = field;
        for _ in 0..2 {
            self.device.handle_field(field, self.now);
        }
    }

    /// What the device answers, in Rust's own words; empty without an answer.
    fn ask(&mut self, question: FromHost<'_>) -> String {
        let mut wire = [0; MAX_WIRE];
        let bytes = question.encode(3, &mut wire).unwrap().to_vec();
        let mut hardware = Radio(&mut self.field, &mut self.shown);
        for byte in bytes {
            let mut wire = [0; MAX_WIRE];
            if let Some(answer) = self
                .device
                .handle_byte(byte, self.now, &mut hardware, &mut wire)
            {
                let (seq, answer) = understand(answer);
                assert_eq!(seq, 3, "an answer carries the number of its question");
                return answer;
            }
        }
        String::new()
    }

    /// What the device says by itself now.
    fn hear(&mut self) -> String {
        let mut wire = [0; MAX_WIRE];
        self.device
            .poll(self.now, &mut wire)
            .map(|bytes| understand(bytes).1)
            .unwrap_or_default()
    }

    fn pass(&mut self, milliseconds: u32) {
        self.now = self.now.wrapping_add(milliseconds);
    }
}

fn understand(bytes: &[u8]) -> (u8, String) {
    let mut decoder = Decoder::new();
    for &byte in bytes {
        if let Some(frame) = decoder.push(byte) {
            let frame: Frame<'_> = frame.unwrap();
            let text = match FromDevice::decode(&frame).unwrap() {
                FromDevice::Tag { event, age, chip } => {
                    format!("tag {event} {age} {:02X?}", chip.uid.as_slice())
                }
                FromDevice::Left { event, tag, .. } => format!("left {event} of {tag}"),
                FromDevice::Multi { event, state, .. } => format!("multi {event} {state:?}"),
                other => format!("{other:?}"),
            };
            return (frame.seq, text);
        }
    }
    panic!("no frame in {bytes:02X?}");
}

fn chip(last: u8) -> Field {
    Field::One(Chip {
        technology: Technology::Iso14443A,
        flags: 0,
        sak: 8,
        atqa: 4,
        uid: Bytes::new(&[1, 2, 3, last]).unwrap(),
        ats: Bytes::EMPTY,
    })
}

#[test]
fn a_tap_is_repeated_until_it_is_confirmed_and_then_never_again() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    assert_eq!(bench.hear(), "tag 1 0 [01, 02, 03, 04]");
    assert_eq!(bench.hear(), "");
    bench.pass(99);
    assert_eq!(bench.hear(), "");
    bench.pass(1);
    assert_eq!(bench.hear(), "tag 1 100 [01, 02, 03, 04]");
    assert_eq!(bench.ask(FromHost::Ack { event: 2 }), "");
    bench.pass(100);
    assert_eq!(bench.hear(), "tag 1 200 [01, 02, 03, 04]");
    assert_eq!(bench.ask(FromHost::Ack { event: 1 }), "");
    bench.pass(100);
    assert_eq!(bench.hear(), "");
}

#[test]
fn a_tap_too_short_for_its_first_frame_still_arrives_before_its_end() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.lay(Field::Empty);
    assert_eq!(bench.hear(), "tag 1 0 [01, 02, 03, 04]");
    bench.ask(FromHost::Ack { event: 1 });
    assert_eq!(bench.hear(), "left 2 of 1");
    bench.ask(FromHost::Ack { event: 2 });
    assert_eq!(bench.hear(), "");
}

#[test]
fn a_stale_tap_is_never_told() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.pass(1001);
    assert_eq!(bench.hear(), "");
    // The till still learns by its pings that something lies there.
    assert!(
        bench
            .ask(FromHost::Ping { echo: 1 })
            .contains("state: One, event: 1")
    );
}

#[test]
fn what_happened_before_hello_is_never_told() {
    let mut bench = Bench::new(0);
    bench.lay(chip(4));
    assert_eq!(bench.hear(), "");
    let refused = bench.ask(FromHost::Ping { echo: 1 });
    assert!(
        refused.contains(&format!("{:?}", NackReason::NoHello)),
        "{refused}"
    );
    bench.ask(FromHost::Hello {
        min: 1,
        max: 2,
        nonce: 9,
    });
    assert_eq!(bench.hear(), "");
    // The chip was never lifted, so its end is no news either.
    bench.lay(Field::Empty);
    assert_eq!(bench.hear(), "");
    bench.lay(chip(4));
    assert_eq!(bench.hear(), "tag 2 0 [01, 02, 03, 04]");
}

#[test]
fn the_same_hello_again_voids_nothing_and_another_one_voids_all() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.ask(FromHost::Hello {
        min: 1,
        max: 1,
        nonce: 5,
    });
    assert_eq!(bench.hear(), "tag 1 0 [01, 02, 03, 04]");
    bench.ask(FromHost::Hello {
        min: 1,
        max: 1,
        nonce: 6,
    });
    bench.pass(100);
    assert_eq!(bench.hear(), "");
    assert!(
        bench
            .ask(FromHost::Ping { echo: 1 })
            .contains("state: One, event: 0")
    );
    // The till never heard of this chip, so its leaving is no news.
    bench.lay(Field::Empty);
    assert_eq!(bench.hear(), "");
}

#[test]
fn a_till_of_another_version_is_told_which_ones_there_are() {
    let mut bench = Bench::new(0);
    let answer = bench.ask(FromHost::Hello {
        min: 2,
        max: 9,
        nonce: 5,
    });
    assert!(answer.contains("Version { min: 1, max: 1 }"), "{answer}");
}

#[test]
fn one_missed_scan_is_no_removal() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.ask(FromHost::Ack { event: 1 });
    bench.device.handle_field(Field::Empty, bench.now);
    bench.device.handle_field(chip(4), bench.now);
    bench.device.handle_field(Field::Empty, bench.now);
    assert_eq!(bench.hear(), "");
    bench.device.handle_field(Field::Empty, bench.now);
    assert_eq!(bench.hear(), "left 2 of 1");
}

#[test]
fn a_swap_ends_the_first_stay() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.ask(FromHost::Ack { event: 1 });
    bench.lay(chip(5));
    assert_eq!(bench.hear(), "left 2 of 1");
    bench.ask(FromHost::Ack { event: 2 });
    assert_eq!(bench.hear(), "tag 3 0 [01, 02, 03, 05]");
}

#[test]
fn several_chips_are_told_as_such() {
    let mut bench = Bench::open();
    bench.lay(Field::Several);
    assert_eq!(bench.hear(), "multi 1 Several");
    bench.ask(FromHost::Ack { event: 1 });
    bench.lay(Field::Unreadable);
    assert_eq!(bench.hear(), "multi 2 Unreadable");
}

#[test]
fn reading_again_looks_into_the_field_at_that_moment() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    bench.ask(FromHost::Ack { event: 1 });
    let answer = bench.ask(FromHost::Read);
    assert!(
        answer.starts_with("Field { state: One, event: 1, chip: Some"),
        "{answer}"
    );
    // Changed since the last scan of the main loop.
    bench.field = Field::Empty;
    let answer = bench.ask(FromHost::Read);
    assert_eq!(answer, "Field { state: Empty, event: 0, chip: None }");
    bench.field = chip(5);
    let answer = bench.ask(FromHost::Read);
    assert!(
        answer.starts_with("Field { state: One, event: 3, chip: Some"),
        "{answer}"
    );
}

#[test]
fn commands_reach_only_the_chip_that_they_are_meant_for() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    let bytes = &[0x90, 0x60];
    let answer = bench.ask(FromHost::Apdu { event: 1, bytes });
    assert_eq!(answer, "Apdu { event: 1, bytes: [144, 96] }");
    for event in [0, 2] {
        let answer = bench.ask(FromHost::Apdu { event, bytes });
        assert!(answer.contains("ChipGone"), "{answer}");
    }
}

#[test]
fn frames_go_where_the_reader_has_said_that_it_passes_them() {
    let mut bench = Bench::open();
    bench.lay(chip(4));
    let bytes = &[0x30, 0x04];
    let answer = bench.ask(FromHost::Air { event: 1, bytes });
    assert!(answer.contains("NotSupported"), "{answer}");

    let mut bench = Bench::open_with(capability::AIR);
    bench.lay(chip(4));
    let answer = bench.ask(FromHost::Air { event: 1, bytes });
    assert_eq!(answer, "Air { event: 1, bytes: [4, 48] }");
    for event in [0, 2] {
        let answer = bench.ask(FromHost::Air { event, bytes });
        assert!(answer.contains("ChipGone"), "{answer}");
    }
    // It does not answer.
    let answer = bench.ask(FromHost::Air {
        event: 1,
        bytes: &[],
    });
    assert!(answer.contains("ChipGone"), "{answer}");
}

#[test]
fn questions_that_cannot_be_understood_are_refused_and_do_no_harm() {
    let mut bench = Bench::open();
    for (kind, payload, reason) in [
        (0x55, &[][..], "UnknownKind"),
        (0x02, &[1], "Payload"),
        (0xF0, b"BOOM", "Payload"),
    ] {
        let frame = Frame {
            kind,
            seq: 3,
            payload,
        };
        let bytes = frame.encode(&mut [0; MAX_WIRE]).unwrap().to_vec();
        let mut wire = [0; MAX_WIRE];
        let mut hardware = Radio(&mut bench.field, &mut bench.shown);
        let mut answer = None;
        for byte in bytes {
            let said = bench.device.handle_byte(byte, 0, &mut hardware, &mut wire);
            answer = said.map(|bytes| understand(bytes).1).or(answer);
        }
        assert!(answer.unwrap().contains(reason), "{kind:02X}");
    }
    assert!(bench.ask(FromHost::EnterBoot).contains("NotSupported"));
    let pattern = Pattern::Declined;
    assert_eq!(
        bench.ask(FromHost::Feedback {
            pattern,
            milliseconds: 1
        }),
        "FeedbackShown"
    );
    assert_eq!(bench.shown, [Pattern::Declined]);
    let state = FieldState::Empty;
    assert!(
        bench
            .ask(FromHost::Ping { echo: 8 })
            .contains(&format!("{state:?}"))
    );
}

#[test]
fn a_till_that_confirms_nothing_does_not_fill_the_reader() {
    let mut bench = Bench::open();
    for last in 0..=255 {
        bench.lay(chip(last));
    }
    assert!(bench.hear().starts_with("left") || bench.hear().starts_with("tag"));
    bench.pass(1001);
    assert_eq!(bench.hear(), "");
}
