//! What must hold whatever comes over a line: run by the fuzz targets of `fuzz/`, and over the
//! inputs that these have kept by the tests. Nothing here is part of the product.
//!
//! A decoder never panics, never holds a complete frame back, and is back in step within one frame.
//! A conversation answers each question once, tells of one stay at a time, and forgets nothing that
//! it has told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use canteen::{ChipId, ChipIdentity, KeyVersion};
use chip_keys::{Application, ChipKey, ChipKeys, ChipKind, KeySet, ReadingKeys, SiteKeys};
use firmware_proto::frame::{Decoder, Frame, MAX_PAYLOAD, MAX_WIRE};

use crate::auth::{self, ChipTask, Enrolment, Keyring};
use crate::serial::fuzz;
use crate::serial::{Conversation, Happening, Protocol};
use crate::{ChipFault, NumberFormat, Presence, Signal, keyboard};

/// The frames of the PN532.
pub fn pn532(input: &[u8]) {
    let (noise, said) = split(input);
    fuzz::pn532_frames(noise, said);
}

/// The frames of the RDM6300.
pub fn rdm6300(input: &[u8]) {
    let (noise, said) = split(input);
    fuzz::rdm6300_frames(noise, said);
}

/// The lines of the TWN4, and what is made of them.
pub fn twn4(input: &[u8]) {
    let (noise, said) = split(input);
    fuzz::twn4_lines(noise, said);
}

/// What a reader that types types, and whatever else keys can do.
pub fn keyboard(input: &[u8]) {
    keyboard::fuzz::keys(input);
}

/// What a chip answers through PC/SC.
pub fn pcsc(input: &[u8]) {
    crate::pcsc::fuzz_answer(input);
}

/// What an ACR122U answers while it passes frames on to a chip: pieces of the input, each with its length
/// first, which is odd for one that stands in what the PN532 inside says.
pub fn acr122(input: &[u8]) {
    let mut rest = input;
    let mut say = |command: &[u8]| {
        let (length, piece) = piece(&mut rest)?;
        let code = command.get(6).copied().unwrap_or_default();
        Ok(match length % 2 {
            0 => piece.to_vec(),
            _ => [&[0xD5, code.wrapping_add(1)], piece, &[0x90, 0x00]].concat(),
        })
    };
    let told = crate::pcsc::fuzz_passage(&mut say, &[keys(Application::ultralight_aes())]);
    let is_proven = matches!(told, Ok(ChipIdentity::Proven { .. }));
    assert!(!is_proven, "{told:?}");
}

/// The next piece of an input, and the length that stands before it.
fn piece<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), ChipFault> {
    let (&length, after) = rest.split_first().ok_or(ChipFault::HoldStill)?;
    let (piece, after) = after.split_at(usize::from(length).min(after.len()));
    *rest = after;
    Ok((length, piece))
}

/// What a chip answers while it proves itself: pieces of the input, each with its length first.
pub fn proof(input: &[u8]) {
    let mut rest = input;
    let mut exchange = |_: &[u8]| piece(&mut rest).map(|(_, answer)| answer.to_vec());
    let mut random = || Ok([7; 16]);
    // Nobody who does not know the keys is believed, and a fuzzer does not.
    let proven = auth::prove(&mut exchange, &keys(Application::ntag_424()), &mut random);
    assert!(proven.is_err(), "{proven:?}");
}

/// The till's side of the own protocol against a reader that says anything, in frames or not.
pub fn own(input: &[u8]) {
    let now = Instant::now();
    talk(input, fuzz::own(keyring(), now), now, |asked, said| {
        let [kind, seq, payload @ ..] = said else {
            return Vec::new();
        };
        // A fuzzer hardly guesses the number of the question.
        let seq = if *seq == 0 { last_seq(asked) } else { *seq };
        let payload = payload.get(..MAX_PAYLOAD).unwrap_or(payload);
        let kind = *kind;
        let frame = Frame { kind, seq, payload };
        frame
            .encode(&mut [0; MAX_WIRE])
            .map_or(Vec::new(), <[u8]>::to_vec)
    });
}

/// The till's side of a PN532 that says anything.
pub fn pn532_talk(input: &[u8]) {
    polled(Protocol::Pn532, input, fuzz::pn532_answer);
}

/// The till's side of an RDM6300 that says anything.
pub fn rdm6300_talk(input: &[u8]) {
    polled(Protocol::Rdm6300, input, fuzz::rdm6300_frame);
}

/// The till's side of a TWN4 that says anything.
pub fn twn4_talk(input: &[u8]) {
    let em4100 = input.first().is_some_and(|first| first % 2 == 1);
    polled(Protocol::Twn4 { em4100 }, input, fuzz::twn4_line);
}

/// The till's side of a keyboard on which anything is typed, in lines or not.
pub fn keyboard_talk(input: &[u8]) {
    let flags = input.first().copied().unwrap_or_default();
    let format = NumberFormat {
        is_hex: flags & 1 > 0,
        is_reversed: flags & 2 > 0,
        is_em4100: flags & 4 > 0,
    };
    polled(Protocol::Keyboard(format), input, |said| {
        let digits: String = said.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = match said {
            // As a decimal, else as it is.
            [a, b, c, d] => format!("{:010}", u32::from_be_bytes([*a, *b, *c, *d])),
            _ => digits,
        };
        keyboard::typed(&(digits + "\n"))
    });
}

fn polled(protocol: Protocol, input: &[u8], framed: fn(&[u8]) -> Vec<u8>) {
    let now = Instant::now();
    let till = protocol.proving_conversation(keyring(), now);
    talk(input, till, now, |_, said| framed(said));
}

fn last_seq(asked: &[u8]) -> u8 {
    let mut decoder = Decoder::new();
    let mut seq = 0;
    for byte in asked {
        if let Some(Ok(frame)) = decoder.push(*byte) {
            seq = frame.seq;
        }
    }
    seq
}

/// The first byte says how many of the rest are noise.
fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(first).min(rest.len()))
}

/// Each byte of the input is something that happens; what it needs follows it.
fn talk(
    input: &[u8],
    mut till: Box<dyn Conversation>,
    begin: Instant,
    framed: impl Fn(&[u8], &[u8]) -> Vec<u8>,
) {
    let (mut now, mut rest) = (begin, input);
    let mut watch = Watch::default();
    let mut asked = Vec::new();
    while let Some((&step, after)) = rest.split_first() {
        rest = after;
        let length = (usize::from(step >> 3) * 2).min(rest.len());
        match step & 7 {
            0 => now += Duration::from_millis(u64::from(step >> 3) * 20),
            1 => {
                watch.asked += 1;
                till.handle_read_again(watch.asked, now);
            }
            2 if (step >> 3).is_multiple_of(2) => till.handle_signal(Signal::Approved),
            2 => {
                watch.tasks += 1;
                till.handle_task(watch.tasks, task(step >> 4), now);
            }
            3 | 4 => {
                let (bytes, after) = rest.split_at(length);
                rest = after;
                till.handle_bytes(bytes, now);
            }
            _ => {
                let (bytes, after) = rest.split_at(length);
                rest = after;
                till.handle_bytes(&framed(&asked, bytes), now);
            }
        }
        now += Duration::from_millis(1);
        let mut turns = 0;
        while let Some(bytes) = till.poll_transmit(now) {
            asked = bytes;
            turns += 1;
            assert!(turns < 100, "it never stops talking");
        }
        watch.look(&mut *till);
    }
    till.handle_end();
    watch.look(&mut *till);
    watch.end();
}

/// What a conversation has told so far.
#[derive(Default)]
struct Watch {
    asked: u64,
    tasks: u64,
    done: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    present: Option<Presence>,
    newest: Option<Presence>,
}

impl Watch {
    fn look(&mut self, till: &mut dyn Conversation) {
        while let Some(happening) = till.poll_happening() {
            match happening {
                Happening::Came { presence, .. } => {
                    assert_eq!(self.present, None, "two at a time");
                    assert!(
                        Some(presence) > self.newest,
                        "a number that was used before"
                    );
                    self.present = Some(presence);
                    self.newest = Some(presence);
                }
                Happening::Left { presence } => {
                    assert_eq!(self.present, Some(presence), "another one left");
                    self.present = None;
                }
                Happening::ReadAgain { token, .. } => {
                    assert!(token <= self.asked, "nobody asked {token}");
                    assert!(self.answered.insert(token), "{token} is answered twice");
                }
                Happening::Unreadable { .. } => {
                    assert_eq!(self.present, None, "unreadable beside a chip");
                }
                Happening::Worked { token, report } => {
                    assert!(token <= self.tasks, "nobody gave the task {token}");
                    assert!(self.done.insert(token), "{token} is done twice");
                    assert!(!matches!(report, Ok(auth::ChipReport::Enrolled(_))));
                }
                Happening::Opened { .. } | Happening::Log { .. } => {}
            }
        }
    }

    fn end(&self) {
        assert_eq!(self.present, None, "it never left");
        let everything: BTreeSet<u64> = (1..=self.asked).collect();
        assert_eq!(self.answered, everything, "questions without an answer");
        let everything: BTreeSet<u64> = (1..=self.tasks).collect();
        assert_eq!(self.done, everything, "tasks of which nothing became");
    }
}

/// To look at a chip, or to write keys that a fuzzer does not know.
fn task(kind: u8) -> ChipTask {
    if kind.is_multiple_of(2) {
        return ChipTask::Look;
    }
    let key = |number: u8| ChipKey::new([0x30 | number; 16]);
    ChipTask::Enrol(Box::new(Enrolment {
        kind: match kind % 4 {
            1 => ChipKind::Ntag424,
            _ => ChipKind::UltralightAes,
        },
        chip: ChipId::from_uid(&[4, 1, 2, 3, 4, 5, 6]).expect("a UID as it must be"),
        keys: ChipKeys {
            version: KeyVersion(1),
            keys: [0, 1, 2, 3, 4].map(key),
        },
        older: Vec::new(),
        random_uid: false,
    }))
}

fn keyring() -> Keyring {
    let ring = Keyring::default();
    ring.put(vec![
        keys(Application::ntag_424()),
        keys(Application::ultralight_aes()),
    ]);
    ring
}

fn keys(application: Application) -> SiteKeys {
    let set = KeySet {
        version: KeyVersion(1),
        uid_key: ChipKey::new([0x11; 16]),
        reading_keys: ReadingKeys::Master(ChipKey::new([0x22; 16])),
    };
    SiteKeys::new(application, b"fuzz", vec![set]).expect("keys as they must be")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Runs what the fuzzer has kept of a target.
    #[track_caller]
    fn check(target: &str, run: fn(&[u8])) {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let mut inputs = 0;
        for file in fs::read_dir(&kept).unwrap() {
            run(&fs::read(file.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "nothing is kept in {}", kept.display());
    }

    #[test]
    fn every_input_that_was_kept_is_taken() {
        check("pn532", pn532);
        check("rdm6300", rdm6300);
        check("twn4", twn4);
        check("pcsc", pcsc);
        check("acr122", acr122);
        check("proof", proof);
        check("own", own);
        check("pn532_talk", pn532_talk);
        check("rdm6300_talk", rdm6300_talk);
        check("twn4_talk", twn4_talk);
        check("keyboard", keyboard);
        check("keyboard_talk", keyboard_talk);
    }

    proptest::proptest! {
        #[test]
        fn any_input_is_taken(input in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            for run in [
                pn532, rdm6300, twn4, pcsc, acr122, proof, own, pn532_talk, rdm6300_talk, twn4_talk,
                keyboard, keyboard_talk,
            ] {
                run(&input);
            }
        }

        #[test]
        fn each_whole_number_is_given_once_whatever_is_typed_around_it(
            keys in proptest::collection::vec(
                proptest::prop_oneof![12 => 0..16_u8, 2 => 16..18_u8, 1 => proptest::num::u8::ANY],
                0..200,
            ),
        ) {
            keyboard(&keys);
        }
    }
}
