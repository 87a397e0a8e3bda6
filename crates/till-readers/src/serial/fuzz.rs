//! The drivers' insides for [`crate::fuzz`], and frames as readers make them, written by the makers'
//! manuals and not by the drivers' encoders.

use std::time::Instant;

use super::conversation::Conversation;
use super::own::OwnConversation;
use super::{pn532, rdm6300, twn4};
use crate::auth::Keyring;

/// A conversation whose hello has the nonce 7, so that the same input is the same talk.
pub(crate) fn own(keyring: Keyring, now: Instant) -> Box<dyn Conversation> {
    Box::new(OwnConversation::new(7, keyring, now))
}

/// A frame that the till asks for anew, after having thrown away what came before, is found at its
/// last byte; and one of those that follow each other without end is found, too.
pub(crate) fn pn532_frames(noise: &[u8], said: &[u8]) {
    let said = said.get(..200).unwrap_or(said);
    let Some((&code, data)) = said.split_first() else {
        return;
    };
    let mut decoder = pn532::Decoder::default();
    decoder.push(noise);
    while decoder.poll().is_some() {}
    let answer = pn532_answer(said);
    let (checked, postamble) = answer.split_at(answer.len() - 1);
    // A head that noise made by chance holds up no more than the longest frame, unless the frames
    // are made of heads themselves; those are found once the till has asked anew.
    let enough = pn532::MAX_BODY / checked.len() + 2;
    let heads = answer.windows(2).filter(|two| *two == [0x00, 0xFF]).count();
    let is_found = heads > 1
        || (0..enough).any(|_| {
            decoder.push(&answer);
            std::iter::from_fn(|| decoder.poll())
                .any(|found| found == Ok(pn532::Frame::Answer(code, data.to_vec())))
        });
    assert!(is_found, "it never came back into step");
    decoder.clear();
    decoder.push(checked);
    let found = std::iter::from_fn(|| decoder.poll()).last();
    assert_eq!(found, Some(Ok(pn532::Frame::Answer(code, data.to_vec()))));
    decoder.push(postamble);
    assert_eq!(decoder.poll(), None);
}

/// UM0701-02, 6.2.1: an answer of the chip, its code first.
pub(crate) fn pn532_answer(said: &[u8]) -> Vec<u8> {
    // An empty one stands for the acknowledgement.
    if said.is_empty() {
        return vec![0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00];
    }
    let length = said.len() as u8 + 1;
    let sum = said
        .iter()
        .fold(0xD5_u8, |sum, byte| sum.wrapping_add(*byte));
    let head = [0x00, 0x00, 0xFF, length, 0_u8.wrapping_sub(length), 0xD5];
    [&head[..], said, &[0_u8.wrapping_sub(sum), 0x00]].concat()
}

/// A frame is found at its last byte, whatever came before it.
pub(crate) fn rdm6300_frames(noise: &[u8], said: &[u8]) {
    let now = Instant::now();
    let mut decoder = rdm6300::Decoder::default();
    for byte in noise {
        decoder.push(*byte, now);
    }
    let frame = rdm6300_frame(said);
    let mut found = Vec::new();
    for (at, byte) in frame.iter().enumerate() {
        let decoded = decoder.push(*byte, now);
        found.extend(decoded.map(|frame| (at, frame.map(|frame| frame.sent))));
    }
    let last = frame.len() - 1;
    assert_eq!(found.pop(), Some((last, Ok(five(said)))));
}

/// The five bytes of a chip as the module sends them.
pub(crate) fn rdm6300_frame(said: &[u8]) -> Vec<u8> {
    let sent = five(said);
    let check = sent.iter().fold(0, |check, byte| check ^ byte);
    let digits = sent
        .iter()
        .chain([&check])
        .map(|byte| format!("{byte:02X}"));
    format!("\u{2}{}\u{3}", digits.collect::<String>()).into_bytes()
}

fn five(said: &[u8]) -> [u8; 5] {
    let mut sent = [0; 5];
    sent.iter_mut()
        .zip(said)
        .for_each(|(place, byte)| *place = *byte);
    sent
}

/// A line is found at its end once the one before it has ended.
pub(crate) fn twn4_lines(noise: &[u8], said: &[u8]) {
    let said = said.get(..290).unwrap_or(said);
    let mut decoder = twn4::Decoder::default();
    for byte in noise {
        if let Some(line) = decoder.push(*byte) {
            twn4::read(&line);
        }
    }
    if said.is_empty() {
        return;
    }
    decoder.push(b'\r');
    let line = twn4_line(said);
    let mut found = Vec::new();
    for (at, byte) in line.iter().enumerate() {
        found.extend(decoder.push(*byte).map(|line| (at, line)));
    }
    assert_eq!(found, [(line.len() - 1, said.to_vec())]);
    twn4::read(said);
}

/// Bytes in hex, without a checksum.
pub(crate) fn twn4_line(said: &[u8]) -> Vec<u8> {
    let digits: String = said.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{digits}\r").into_bytes()
}
