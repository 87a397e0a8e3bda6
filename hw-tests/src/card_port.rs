//! A port on which chips that are programs (`cards/`) are laid on a simulated reader, in the protocol
//! of the vsmartcard project: each message with its length in two bytes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use firmware_proto::device::Field;
use firmware_proto::message::{Bytes, Chip, Technology, chip_flag};

use crate::device::Air;

/// An open port, and the chip that lies there.
#[derive(Debug)]
pub struct CardPort {
    listener: TcpListener,
    card: Option<Card>,
}

/// A chip under power.
#[derive(Debug)]
struct Card {
    line: TcpStream,
    chip: Chip,
}

impl CardPort {
    /// Opens any port of this machine.
    pub fn open() -> io::Result<CardPort> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let card = None;
        Ok(CardPort { listener, card })
    }

    /// The port's number.
    pub fn number(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The field with the chip that lies there now, if any does.
    pub fn field(&mut self) -> Option<Field> {
        self.card.take_if(|card| card.has_left());
        if self.card.is_none() {
            let (line, _) = self.listener.accept().ok()?;
            // One that ends while it is powered up has only flickered.
            self.card = Card::power_up(line).ok();
        }
        self.card.as_ref().map(|card| Field::One(card.chip))
    }
}

impl Air for CardPort {
    fn select(&mut self) {
        // One that has gone is noticed at the next look.
        let _ = self.card.as_mut().map(|card| card.say(&[RESET]));
    }

    fn cut_power(&mut self) -> Option<Vec<u8>> {
        if let Some(Err(_)) = self.card.as_mut().map(Card::cut_power) {
            self.card = None;
        }
        let card = self.card.as_ref();
        card.map(|card| card.chip.uid.as_slice().to_vec())
    }

    fn exchange(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let answer = self.card.as_mut()?.ask(frame).ok();
        if answer.is_none() {
            self.card = None;
        }
        answer.filter(|answer| !answer.is_empty())
    }
}

impl Card {
    fn power_up(line: TcpStream) -> io::Result<Card> {
        line.set_nonblocking(false)?;
        line.set_nodelay(true)?;
        line.set_read_timeout(Some(PATIENCE))?;
        let chip = Chip {
            technology: Technology::Iso14443A,
            flags: 0,
            sak: 0,
            atqa: 0x0044,
            uid: Bytes::EMPTY,
            ats: Bytes::EMPTY,
        };
        let mut card = Card { line, chip };
        card.say(&[POWER_ON])?;
        let reset = card.ask(&[GET_RESET])?;
        card.look_at_uid()?;
        let has_system = !reset.windows(5).any(|part| part == STORAGE_CHIP);
        if has_system {
            card.chip.flags = chip_flag::TAKES_COMMANDS;
            card.chip.sak = 0x20;
            card.chip.atqa = 0x0344;
        }
        Ok(card)
    }

    fn cut_power(&mut self) -> io::Result<()> {
        self.say(&[POWER_OFF])?;
        self.say(&[POWER_ON])?;
        self.look_at_uid()
    }

    /// What it shows since its last power-up.
    fn look_at_uid(&mut self) -> io::Result<()> {
        let uid = self.ask(&READ_UID)?;
        let uid = uid.strip_suffix(&[0x90, 0x00]).and_then(Bytes::new);
        self.chip.uid = uid.ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        let whole = [&length.to_be_bytes()[..], message].concat();
        self.line.write_all(&whole)
    }

    fn ask(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.say(message)?;
        let mut length = [0; 2];
        self.line.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        self.line.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// A chip never speaks unasked, so all that can come of it now is its end.
    fn has_left(&self) -> bool {
        let looked = self.line.set_nonblocking(true);
        let peeked = self.line.peek(&mut [0]);
        let is_there = matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        looked.is_err() || !is_there || self.line.set_nonblocking(false).is_err()
    }
}

const POWER_OFF: u8 = 0x00;
const POWER_ON: u8 = 0x01;
/// It is selected anew.
const RESET: u8 = 0x02;
const GET_RESET: u8 = 0x04;
const READ_UID: [u8; 5] = [0xFF, 0xCA, 0x00, 0x00, 0x00];
/// The registered application of PC/SC in a storage chip's answer to reset.
const STORAGE_CHIP: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x06];
/// A program on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(5);
