//! The bytes of version 1. **The test wins**: where this file and the code differ, the code is
//! wrong, and where this file and `SPEC.md` differ, `SPEC.md` is wrong. Readers in the field speak
//! these bytes; none of them may ever change.
//!
//! The bytes were not written by this crate. They were calculated from the tables of `SPEC.md` by a
//! separate Python program: the checksum bit by bit (polynomial 8408 reflected, initial value and
//! final complement FFFF, checked with `123456789` = 906E), the byte stuffing by splitting at the
//! zeros. The first three frames come from an earlier, third calculation, and are the same.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use firmware_proto::frame::{Decoder, Frame, FrameError, MAX_WIRE};
use firmware_proto::message::{
    Bytes, Chip, FieldState, FromDevice, FromHost, Identity, Nack, NackReason, Pattern, Technology,
    capability, chip_flag,
};

/// Kind, number and payload of a frame.
type Seen = (u8, u8, Vec<u8>);

#[test]
fn frames_have_these_bytes() {
    check_frame(0x10, 1, &hex("0472BF9961"), "000B0110010472BF9961428100");
    check_frame(0x01, 0, &[], "0003010103C88500");
    check_frame(
        0x10,
        7,
        &hex("0704A1B2C3D4E5F6"),
        "000E0110070704A1B2C3D4E5F68AA900",
    );
    let zeros = format!("00040140FF{}03606900", "01".repeat(95));
    check_frame(0x40, 255, &[0x00; 96], &zeros);
    let ones = format!("0066014080{}057900", "FF".repeat(96));
    check_frame(0x40, 128, &[0xFF; 96], &ones);
}

#[test]
fn a_frame_of_another_version_is_told_apart_from_a_damaged_one() {
    let bytes = hex(VERSION_2);
    assert_eq!(decode(&bytes), Some(Err(FrameError::Version(2))));
}

#[test]
fn the_till_says_it_with_these_bytes() {
    let hello = FromHost::Hello {
        min: 1,
        max: 1,
        nonce: 0x1234_5678,
    };
    check_host(hello, 1, "000C010101010178563412E9E500");
    check_host(
        FromHost::Hello {
            min: 0,
            max: 3,
            nonce: 0,
        },
        2,
        "0004010102020301010103D25700",
    );
    check_host(
        FromHost::Ping { echo: 0xA1B2_C3D4 },
        3,
        "000A010203D4C3B2A108D400",
    );
    check_host(FromHost::Read, 4, "00060103045CF000");
    check_host(FromHost::Ack { event: 513 }, 5, "000801900501028B2900");
    let approved = FromHost::Feedback {
        pattern: Pattern::Approved,
        milliseconds: 200,
    };
    check_host(approved, 6, "000601200601C803198600");
    let bytes = &[0xFF, 0xCA, 0x00, 0x00, 0x00];
    check_host(
        FromHost::Apdu { event: 7, bytes },
        7,
        "00050130070703FFCA010103C90E00",
    );
    let bytes = &[0x30, 0x04];
    check_host(
        FromHost::Air { event: 7, bytes },
        25,
        "000501311907053004DD9200",
    );
    let bytes = &[];
    check_host(
        FromHost::Air { event: 7, bytes },
        26,
        "000501311A07039D2F00",
    );
    check_host(FromHost::EnterBoot, 8, "000A01F008424F4F54593B00");
    let nack = Nack {
        kind: 0x10,
        reason: NackReason::UnknownKind,
    };
    check_host(FromHost::Nack(nack), 9, "0008017F091001893400");
}

#[test]
fn the_reader_says_it_with_these_bytes() {
    let identity = Identity {
        version: 1,
        firmware: [1, 2, 3],
        hardware: 5,
        serial: *b"KR-000000042",
        capabilities: capability::LIGHT | capability::BEEPER | capability::COUNTS,
        boot_id: 0xDEAD_BEEF,
        max_payload: 96,
    };
    check_device(
        FromDevice::Hello(identity, 0x1234_5678),
        1,
        "000901810101010203050E4B522D3030303030303034320701010CEFBEADDE607856341255DE00",
    );
    let pong = FromDevice::Pong {
        echo: 0xA1B2_C3D4,
        uptime: 1000,
        state: FieldState::One,
        event: 0x0102,
    };
    check_device(pong, 3, "000A018203D4C3B2A1E8030106010201BD4900");
    let empty = FromDevice::Field {
        state: FieldState::Empty,
        event: 0,
        chip: None,
    };
    check_device(empty, 4, "0004018304010103D11600");
    let one = FromDevice::Field {
        state: FieldState::One,
        event: 0x0102,
        chip: Some(classic()),
    };
    check_device(one, 4, "000801830401020101030804060472BF996103A62B00");
    let tag = FromDevice::Tag {
        event: 0x0201,
        age: 25,
        chip: classic(),
    };
    check_device(tag, 20, "00070110140102190201030804060472BF996103870100");
    let ntag = Chip {
        technology: Technology::Iso14443A,
        flags: chip_flag::TAKES_COMMANDS,
        sak: 0x20,
        atqa: 0x0344,
        uid: Bytes::new(&hex("04A1B2C3D4E5F6")).unwrap(),
        ats: Bytes::new(&hex("0677810280")).unwrap(),
    };
    check_device(
        FromDevice::Tag {
            event: 0x0102,
            age: 65535,
            chip: ntag,
        },
        21,
        "001D0110150201FFFF01012044030704A1B2C3D4E5F60506778102802FBA00",
    );
    let left = FromDevice::Left {
        event: 0x0103,
        age: 0,
        tag: 0x0201,
    };
    check_device(left, 22, "00060111160301010501022AF600");
    let multi = FromDevice::Multi {
        event: 0x0104,
        age: 10,
        state: FieldState::Several,
    };
    check_device(multi, 23, "000701121704010A04021CBF00");
    check_device(FromDevice::FeedbackShown, 6, "000601A006D95600");
    let bytes = &hex("72BF99619000");
    check_device(
        FromDevice::Apdu { event: 7, bytes },
        7,
        "000501B007070672BF99619003F75B00",
    );
    for (seq, bytes, wire) in [
        (
            25,
            "CA17AE01000000000000000000000000",
            "000501B1190705CA17AE010101010101010101010101038B2300",
        ),
        (25, "00", "000501B119070103A31000"),
        (26, "083A5C11", "000501B11A0707083A5C11D37000"),
    ] {
        let bytes = &hex(bytes);
        check_device(FromDevice::Air { event: 7, bytes }, seq, wire);
    }
    let log = FromDevice::Log {
        level: 1,
        text: b"antenna weak",
    };
    check_device(log, 24, "001301401801616E74656E6E61207765616BE85700");
    check_device(FromDevice::Booting, 8, "000601F108887500");
    let nack = Nack {
        kind: 0x01,
        reason: NackReason::Version { min: 1, max: 1 },
    };
    check_device(FromDevice::Nack(nack), 1, "000A017F0101030101E71B00");
}

#[test]
fn the_example_of_the_specification_is_made_of_these_bytes() {
    let (_, example) = include_str!("../SPEC.md").split_once("## Example").unwrap();
    let mut wire = Vec::new();
    for line in example.lines().filter(|line| line.len() > 5) {
        let bytes = line[5..].split("  ").next().unwrap();
        wire.extend(
            bytes
                .split(' ')
                .map_while(|byte| u8::from_str_radix(byte, 16).ok()),
        );
    }
    let mut decoder = Decoder::new();
    let kinds: Vec<u8> = wire
        .iter()
        .filter_map(|&byte| decoder.push(byte).map(|frame| frame.unwrap().kind))
        .collect();
    assert_eq!(kinds, [0x01, 0x81, 0x10, 0x90, 0x11]);
}

const VERSION_2: &str = "000B0210010472BF9961920B00";

fn classic() -> Chip {
    Chip {
        technology: Technology::Iso14443A,
        flags: 0,
        sak: 0x08,
        atqa: 0x0004,
        uid: Bytes::new(&hex("72BF9961")).unwrap(),
        ats: Bytes::EMPTY,
    }
}

/// Rows of the table "Vectors" in the specification.
fn rows() -> Vec<&'static str> {
    let (_, table) = include_str!("../SPEC.md").split_once("## Vectors").unwrap();
    let (table, _) = table.split_once("## Example").unwrap();
    let row = |line: &'static str| line.strip_suffix("` |")?.rsplit_once("| `");
    table
        .lines()
        .filter_map(row)
        .map(|(_, bytes)| bytes)
        .collect()
}

#[track_caller]
fn check_row(wire: &str) {
    assert!(rows().contains(&wire), "SPEC.md has no row {wire}");
}

#[test]
fn every_row_of_the_specification_is_a_frame_of_its_own() {
    let rows = rows();
    assert_eq!(rows.len(), 33);
    for (at, row) in rows.iter().enumerate() {
        assert!(!rows[..at].contains(row), "{row} stands there twice");
        let seen = decode(&hex(row)).unwrap();
        assert_eq!(seen.is_err(), *row == VERSION_2, "{row}");
    }
}

#[track_caller]
fn check_frame(kind: u8, seq: u8, payload: &[u8], wire: &str) {
    check_row(wire);
    let frame = Frame { kind, seq, payload };
    assert_eq!(frame.encode(&mut [0; MAX_WIRE]), Ok(&hex(wire)[..]));
    assert_eq!(decode(&hex(wire)), Some(Ok((kind, seq, payload.to_vec()))));
}

#[track_caller]
fn check_host(message: FromHost<'_>, seq: u8, wire: &str) {
    check_row(wire);
    assert_eq!(message.encode(seq, &mut [0; MAX_WIRE]), Ok(&hex(wire)[..]));
    let (kind, seen, payload) = decode(&hex(wire)).unwrap().unwrap();
    assert_eq!((kind, seen), (message.kind(), seq));
    assert_eq!(
        FromHost::decode(&Frame {
            kind,
            seq,
            payload: &payload
        }),
        Ok(message)
    );
}

#[track_caller]
fn check_device(message: FromDevice<'_>, seq: u8, wire: &str) {
    check_row(wire);
    assert_eq!(message.encode(seq, &mut [0; MAX_WIRE]), Ok(&hex(wire)[..]));
    let (kind, seen, payload) = decode(&hex(wire)).unwrap().unwrap();
    assert_eq!(seen, seq);
    assert_eq!(
        FromDevice::decode(&Frame {
            kind,
            seq,
            payload: &payload
        }),
        Ok(message)
    );
}

/// The last thing that the bytes brought.
fn decode(wire: &[u8]) -> Option<Result<Seen, FrameError>> {
    let mut decoder = Decoder::new();
    let mut last = None;
    for &byte in wire {
        if let Some(result) = decoder.push(byte) {
            last = Some(result.map(|frame| (frame.kind, frame.seq, frame.payload.to_vec())));
        }
    }
    last
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}
