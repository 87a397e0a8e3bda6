//! What must hold whatever comes over the line: run by the fuzz targets of `fuzz/`, and over the
//! inputs that these have kept by `tests/fuzz.rs`.

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::{Decoder, Frame, MAX_PAYLOAD, MAX_WIRE};
use firmware_proto::message::{
    Bytes, Chip, FromDevice, FromHost, Identity, Pattern, Technology, capability,
};

/// Frames and messages: the first byte says how many of the rest are noise, what follows is the
/// payload of a frame, after its kind and its number.
///
/// A frame is found at its last byte, whatever came before it. A message that is understood and
/// said again is the same message.
pub(crate) fn frames(input: &[u8]) {
    let (first, rest) = input
        .split_first()
        .map_or((0, input), |(first, rest)| (*first, rest));
    let (noise, said) = rest.split_at(usize::from(first).min(rest.len()));
    let mut decoder = Decoder::new();
    for byte in noise {
        if let Some(Ok(frame)) = decoder.push(*byte) {
            understand(&frame);
        }
    }
    let [kind, seq, payload @ ..] = said else {
        return;
    };
    let frame = Frame {
        kind: *kind,
        seq: *seq,
        payload: payload.get(..MAX_PAYLOAD).unwrap_or(payload),
    };
    understand(&frame);
    let mut wire = [0; MAX_WIRE];
    let bytes = frame.encode(&mut wire).expect("a payload that fits");
    let mut found = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if let Some(Ok(seen)) = decoder.push(*byte) {
            found.push((at, seen.kind, seen.seq, seen.payload.to_vec()));
        }
    }
    let expect = (
        bytes.len() - 1,
        frame.kind,
        frame.seq,
        frame.payload.to_vec(),
    );
    assert_eq!(found.last(), Some(&expect));
}

fn understand(frame: &Frame<'_>) {
    let mut wire = [0; MAX_WIRE];
    if let Ok(message) = FromHost::decode(frame) {
        let again = message
            .encode(frame.seq, &mut wire)
            .expect("a message that came");
        decoded(again, |frame| {
            assert_eq!(FromHost::decode(frame), Ok(message))
        });
    }
    if let Ok(message) = FromDevice::decode(frame) {
        let again = message
            .encode(frame.seq, &mut wire)
            .expect("a message that came");
        decoded(again, |frame| {
            assert_eq!(FromDevice::decode(frame), Ok(message))
        });
    }
}

fn decoded(bytes: &[u8], look: impl Fn(&Frame<'_>)) {
    let mut decoder = Decoder::new();
    let mut frames = 0;
    for byte in bytes {
        if let Some(frame) = decoder.push(*byte) {
            look(&frame.expect("a frame that was just made"));
            frames += 1;
        }
    }
    assert_eq!(frames, 1);
}

/// A reader to which anything is said and whose field anything is laid into: each byte of the input
/// is something that happens, what it needs follows it.
///
/// All that the reader says is a whole frame with a message that the till understands, it says
/// nothing unasked before the first hello, and never more than an event each time.
pub(crate) fn device(input: &[u8]) {
    let mut device = Device::new(Identity {
        version: 0,
        firmware: [1, 0, 0],
        hardware: 1,
        serial: *b"ANY\0\0\0\0\0\0\0\0\0",
        capabilities: capability::AIR,
        boot_id: 1,
        max_payload: 0,
    });
    let mut radio = Radio(Field::Empty);
    let (mut now, mut rest, mut greeted) = (u32::MAX - 500, input, false);
    while let Some((&step, after)) = rest.split_first() {
        let length = (usize::from(step >> 3) * 4).min(after.len());
        let (taken, after) = if step & 7 > 2 {
            after.split_at(length)
        } else {
            (&[][..], after)
        };
        rest = after;
        let mut wire = [0; MAX_WIRE];
        match step & 7 {
            0 => now = now.wrapping_add(u32::from(step >> 3) * 20),
            1 | 2 => device.handle_field(radio.0, now),
            3 => radio.0 = field(taken),
            4 => hear(&mut device, taken, now, &mut radio, &mut greeted),
            _ => {
                let [kind, payload @ ..] = taken else {
                    continue;
                };
                let payload = payload.get(..MAX_PAYLOAD).unwrap_or(payload);
                let frame = Frame {
                    kind: *kind,
                    seq: 3,
                    payload,
                };
                let bytes = frame
                    .encode(&mut wire)
                    .expect("a payload that fits")
                    .to_vec();
                hear(&mut device, &bytes, now, &mut radio, &mut greeted);
            }
        }
        let mut wire = [0; MAX_WIRE];
        if let Some(bytes) = device.poll(now, &mut wire) {
            assert!(greeted, "nobody has said hello");
            decoded(bytes, |frame| {
                let told = FromDevice::decode(frame).expect("a message");
                let is_event = matches!(
                    told,
                    FromDevice::Tag { .. } | FromDevice::Left { .. } | FromDevice::Multi { .. }
                );
                assert!(is_event, "unasked: {told:?}");
            });
        }
    }
}

fn hear(device: &mut Device, bytes: &[u8], now: u32, radio: &mut Radio, greeted: &mut bool) {
    for byte in bytes {
        let mut wire = [0; MAX_WIRE];
        if let Some(answer) = device.handle_byte(*byte, now, radio, &mut wire) {
            decoded(answer, |frame| {
                let said = FromDevice::decode(frame).expect("a message");
                assert!(
                    *greeted || matches!(said, FromDevice::Hello(..) | FromDevice::Nack(_)),
                    "before the hello: {said:?}"
                );
            });
            // Whatever it answered, a hello among it opened the conversation.
            *greeted |= is_hello(answer);
        }
    }
}

fn is_hello(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new();
    bytes.iter().any(|byte| {
        matches!(decoder.push(*byte), Some(Ok(frame)) if matches!(FromDevice::decode(&frame), Ok(FromDevice::Hello(..))))
    })
}

fn field(bytes: &[u8]) -> Field {
    let chip = |uid: &[u8]| {
        Some(Chip {
            technology: Technology::Iso14443A,
            flags: 0,
            sak: 0x20,
            atqa: 0x0344,
            uid: Bytes::new(uid)?,
            ats: Bytes::EMPTY,
        })
    };
    match bytes {
        [] => Field::Empty,
        [_] => Field::Several,
        [_, _] => Field::Unreadable,
        uid => chip(uid).map_or(Field::Unreadable, Field::One),
    }
}

struct Radio(Field);

impl Hardware for Radio {
    fn scan(&mut self) -> Field {
        self.0
    }
    fn show(&mut self, _: Pattern, _: u16) {}
    fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Option<usize> {
        let length = command.len().min(answer.len());
        answer[..length].copy_from_slice(&command[..length]);
        Some(length)
    }
    fn exchange_frame(&mut self, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
        self.exchange(frame, answer).filter(|length| *length > 0)
    }
    fn enter_boot(&mut self) -> bool {
        true
    }
}
