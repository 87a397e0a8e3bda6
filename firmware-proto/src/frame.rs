//! Frames: how messages are cut out of a stream of bytes (`SPEC.md`, "Frames").

use crc::{CRC_16_IBM_SDLC, Crc, NoTable};
use thiserror::Error;

/// One frame, its payload not yet understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload means.
    pub kind: u8,
    /// Numbers a side's frames; an answer carries the number of its question.
    pub seq: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Writes the frame as it goes over the line, delimiters included.
    pub fn encode<'b>(&self, wire: &'b mut Wire) -> Result<&'b [u8], FrameError> {
        let length = self.payload.len();
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong);
        }
        let mut body = [0; MAX_BODY];
        body[..HEAD].copy_from_slice(&[VERSION, self.kind, self.seq]);
        body[HEAD..HEAD + length].copy_from_slice(self.payload);
        let crc = CHECKSUM.checksum(&body[..HEAD + length]);
        body[HEAD + length..HEAD + length + TAIL].copy_from_slice(&crc.to_le_bytes());
        let stuffed = stuff(&body[..HEAD + length + TAIL], &mut wire[1..]);
        // The leading delimiter keeps a damaged frame from dragging this one down with it.
        wire[0] = DELIMITER;
        wire[1 + stuffed] = DELIMITER;
        Ok(&wire[..stuffed + 2])
    }
}

/// Cuts frames out of bytes as they come.
#[derive(Debug, Clone)]
pub struct Decoder {
    bytes: [u8; MAX_STUFFED],
    length: usize,
    overflowed: bool,
    /// The last frame was handed out: the next byte starts a new one.
    done: bool,
}

impl Decoder {
    /// Nothing received yet.
    pub const fn new() -> Decoder {
        Decoder {
            bytes: [0; MAX_STUFFED],
            length: 0,
            overflowed: false,
            done: false,
        }
    }

    /// Takes the next byte; gives a frame, or why there is none, when one has ended.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, FrameError>> {
        if core::mem::take(&mut self.done) {
            self.length = 0;
            self.overflowed = false;
        }
        if byte != DELIMITER {
            match self.bytes.get_mut(self.length) {
                Some(place) => {
                    *place = byte;
                    self.length += 1;
                }
                None => self.overflowed = true,
            }
            return None;
        }
        self.done = true;
        if self.overflowed {
            return Some(Err(FrameError::TooLong));
        }
        // Between the closing delimiter of one frame and the opening one of the next.
        if self.length == 0 {
            return None;
        }
        Some(parse(&mut self.bytes[..self.length]))
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

/// Why some bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Fewer bytes than the smallest frame has.
    #[error("the frame is too short")]
    TooShort,
    /// More bytes than the largest frame has.
    #[error("the frame is too long")]
    TooLong,
    /// The byte stuffing points outside the frame.
    #[error("the frame's byte stuffing is broken")]
    Stuffing,
    /// The bytes were changed on their way.
    #[error("the frame's checksum is wrong")]
    Checksum,
    /// The frame is whole, in another version of the protocol.
    #[error("the frame is of version {0} of the protocol")]
    Version(u8),
}

/// Room for one frame with its delimiters.
pub type Wire = [u8; MAX_WIRE];

/// The version of the frame's layout.
pub const VERSION: u8 = 1;
/// The most bytes a payload has.
pub const MAX_PAYLOAD: usize = 96;
/// The most bytes a frame takes on the line.
pub const MAX_WIRE: usize = MAX_STUFFED + 2;

fn parse(stuffed: &mut [u8]) -> Result<Frame<'_>, FrameError> {
    let length = unstuff(stuffed)?;
    if length < HEAD + TAIL {
        return Err(FrameError::TooShort);
    }
    let (checked, crc) = stuffed[..length].split_at(length - TAIL);
    if crc != CHECKSUM.checksum(checked).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    match *checked {
        [VERSION, kind, seq, ref payload @ ..] => Ok(Frame { kind, seq, payload }),
        [version, ..] => Err(FrameError::Version(version)),
        [] => Err(FrameError::TooShort),
    }
}

/// Consistent overhead byte stuffing (Cheshire and Baker, 1999): every zero becomes the distance to
/// the next one. A body is shorter than 254 bytes, so one byte is added, never more.
fn stuff(body: &[u8], out: &mut [u8]) -> usize {
    let mut mark = 0;
    let mut at = 1;
    for &byte in body {
        if byte == 0 {
            out[mark] = (at - mark) as u8;
            mark = at;
        } else {
            out[at] = byte;
        }
        at += 1;
    }
    out[mark] = (at - mark) as u8;
    at
}

/// Undoes [`stuff`] in place; says how many bytes the body has.
fn unstuff(bytes: &mut [u8]) -> Result<usize, FrameError> {
    let mut from = 0;
    let mut to = 0;
    while from < bytes.len() {
        let distance = usize::from(bytes[from]);
        let next = from + distance;
        if distance == 0 || next > bytes.len() {
            return Err(FrameError::Stuffing);
        }
        bytes.copy_within(from + 1..next, to);
        to += distance - 1;
        from = next;
        if from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Ok(to)
}

const DELIMITER: u8 = 0;
const HEAD: usize = 3;
const TAIL: usize = 2;
const MAX_BODY: usize = HEAD + MAX_PAYLOAD + TAIL;
const MAX_STUFFED: usize = MAX_BODY + 1;
/// Also called X-25 and ISO/IEC 14443-3 CRC_B; without a table, which would cost 512 bytes.
const CHECKSUM: Crc<u16, NoTable> = Crc::<u16, NoTable>::new(&CRC_16_IBM_SDLC);
