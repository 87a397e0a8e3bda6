//! What damage on the line does: one frame may be lost, none may be changed, none may be held up.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use firmware_proto::frame::{Decoder, Frame, FrameError, MAX_PAYLOAD, MAX_WIRE};
use firmware_proto::message::{FromDevice, FromHost};
use proptest::prelude::*;

type Seen = (u8, u8, Vec<u8>);

fn encode((kind, seq, payload): &Seen) -> Vec<u8> {
    let frame = Frame {
        kind: *kind,
        seq: *seq,
        payload,
    };
    frame.encode(&mut [0; MAX_WIRE]).unwrap().to_vec()
}

fn decode(bytes: &[u8]) -> Vec<Seen> {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for &byte in bytes {
        if let Some(Ok(frame)) = decoder.push(byte) {
            seen.push((frame.kind, frame.seq, frame.payload.to_vec()));
        }
    }
    seen
}

fn three() -> [Seen; 3] {
    [
        (
            0x10,
            1,
            vec![1, 0, 0, 0, 1, 0, 8, 4, 0, 4, 0x72, 0xBF, 0x99, 0x61, 0],
        ),
        (0x11, 2, vec![0x03, 0x01, 0, 0, 1, 2]),
        (0x82, 3, vec![0; 40]),
    ]
}

/// Damages the middle one of three frames in every way at every byte.
#[track_caller]
fn check(damage: impl Fn(&mut Vec<u8>, usize)) {
    let frames = three();
    let [first, middle, last] = frames.each_ref().map(encode);
    for at in 0..middle.len() {
        let mut damaged = middle.clone();
        damage(&mut damaged, at);
        let seen = decode(&[&first[..], &damaged, &last].concat());
        let is_lost = seen == [frames[0].clone(), frames[2].clone()];
        // A lost or doubled delimiter changes nothing, since there are two.
        assert!(is_lost || seen == frames, "damage at {at}: {seen:02X?}");
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_own_frame() {
    for bit in 0..8 {
        check(|bytes, at| bytes[at] ^= 1 << bit);
    }
}

#[test]
fn a_lost_byte_costs_at_most_its_own_frame() {
    check(|bytes, at| {
        bytes.remove(at);
    });
}

#[test]
fn an_inserted_byte_costs_at_most_its_own_frame() {
    for value in [0x00, 0x01, 0x0B, 0x7F, 0xFF] {
        check(|bytes, at| bytes.insert(at, value));
    }
}

#[test]
fn a_frame_cut_off_by_the_next_one_costs_only_itself() {
    check(|bytes, at| bytes.truncate(at));
}

#[test]
fn a_frame_is_handed_over_with_its_last_byte() {
    let bytes = encode(&three()[0]);
    let mut decoder = Decoder::new();
    for (at, &byte) in bytes.iter().enumerate() {
        assert_eq!(
            decoder.push(byte).is_some(),
            at == bytes.len() - 1,
            "byte {at}"
        );
    }
}

#[test]
fn endless_noise_without_a_delimiter_is_one_error() {
    let mut decoder = Decoder::new();
    assert!((0..100_000).all(|_| decoder.push(0x55).is_none()));
    assert_eq!(decoder.push(0), Some(Err(FrameError::TooLong)));
    // The frame that follows is whole again.
    let bytes = encode(&three()[0]);
    let (last, before) = bytes.split_last().unwrap();
    assert!(before.iter().all(|&byte| decoder.push(byte).is_none()));
    assert!(decoder.push(*last).unwrap().is_ok());
}

#[test]
fn a_payload_that_is_too_long_is_refused() {
    let payload = [0; MAX_PAYLOAD + 1];
    let frame = Frame {
        kind: 1,
        seq: 1,
        payload: &payload,
    };
    assert_eq!(frame.encode(&mut [0; MAX_WIRE]), Err(FrameError::TooLong));
    let apdu = FromHost::Apdu {
        event: 1,
        bytes: &payload[..MAX_PAYLOAD - 1],
    };
    assert_eq!(apdu.encode(1, &mut [0; MAX_WIRE]), Err(FrameError::TooLong));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(kind: u8, seq: u8, payload in payload()) {
        let frame = (kind, seq, payload);
        let wire = encode(&frame);
        prop_assert!(wire[1..wire.len() - 1].iter().all(|&byte| byte != 0));
        prop_assert_eq!(decode(&wire), [frame]);
    }

    #[test]
    fn noise_is_no_frame_and_harms_none_that_follows(noise: Vec<u8>, payload in payload()) {
        let frame = (0x10, 9, payload);
        let seen = decode(&[noise, encode(&frame)].concat());
        prop_assert_eq!(seen.last(), Some(&frame));
    }

    #[test]
    fn no_payload_makes_a_message_panic(kind: u8, payload in payload()) {
        let frame = Frame { kind, seq: 0, payload: &payload };
        if let Ok(message) = FromHost::decode(&frame) {
            prop_assert!(message.encode(0, &mut [0; MAX_WIRE]).is_ok());
        }
        if let Ok(message) = FromDevice::decode(&frame) {
            prop_assert!(message.encode(0, &mut [0; MAX_WIRE]).is_ok());
        }
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(0xFF), any::<u8>()];
    prop::collection::vec(byte, 0..=MAX_PAYLOAD)
}
