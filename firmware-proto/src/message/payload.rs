//! A payload, written and read number by number.

use super::{Bytes, MessageError};
use crate::frame::{Frame, FrameError, MAX_PAYLOAD, Wire};

/// Collects a payload; one that is too long is refused by [`Frame::encode`].
pub(super) struct Writer {
    bytes: [u8; MAX_PAYLOAD],
    length: usize,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer {
            bytes: [0; MAX_PAYLOAD],
            length: 0,
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }

    pub(super) fn finish<'b>(
        &self,
        kind: u8,
        seq: u8,
        wire: &'b mut Wire,
    ) -> Result<&'b [u8], FrameError> {
        let payload = self.bytes.get(..self.length).ok_or(FrameError::TooLong)?;
        Frame { kind, seq, payload }.encode(wire)
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MessageError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MessageError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<Bytes<N>, MessageError> {
        let length = usize::from(self.u8()?);
        Bytes::new(self.take(length)?).ok_or(MessageError::Value)
    }
}
