//! A chip for the demo's virtual reader: a connection to one of its ports.
//!
//! Speaks the protocol of the vsmartcard project's virtual reader (its `doc/api.txt`): each message
//! is a length of two bytes, most significant first, and that many bytes. One byte alone is a
//! command of the reader (power off, power on, reset, get ATR); anything else is for the chip.
//! Connecting lays the chip on the reader, closing takes it away.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use anyhow::Context;

/// A chip on the reader; dropping it takes it away.
#[derive(Debug)]
pub(crate) struct Chip {
    connection: TcpStream,
    /// Ends with how often the chip was asked for its number.
    thread: Option<JoinHandle<u32>>,
}

impl Chip {
    /// Lays a chip on the slot that listens on `port`.
    pub(crate) fn lay(port: u16, uid: &[u8]) -> anyhow::Result<Chip> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("no virtual reader listens on port {port}; is the demo running?")
        })?;
        connection.set_nodelay(true)?;
        let thread = thread::spawn({
            let connection = connection.try_clone()?;
            let uid = uid.to_owned();
            move || answer_until_the_end(&connection, &uid)
        });
        Ok(Chip {
            connection,
            thread: Some(thread),
        })
    }

    /// Takes the chip away; says how often it was asked for its number.
    pub(crate) fn take_away(mut self) -> u32 {
        self.end()
    }

    fn end(&mut self) -> u32 {
        // Fails only when the reader has closed the connection.
        let _ = self.connection.shutdown(Shutdown::Both);
        let asked = self.thread.take().map(JoinHandle::join);
        asked.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of the connection is the end of the chip, from whichever side it comes.
fn answer_until_the_end(connection: &TcpStream, uid: &[u8]) -> u32 {
    let mut asked = 0;
    while let Ok(message) = hear(connection) {
        let answer = match message[..] {
            [POWER_OFF | POWER_ON | RESET] => continue,
            [GET_ATR] => STORAGE_CHIP_ATR.to_vec(),
            // PC/SC part 3, section 3.2.2.1.3: get data, the chip's own number.
            [0xFF, 0xCA, 0x00, 0x00, 0x00] => {
                asked += 1;
                [uid, OK].concat()
            }
            _ => NOT_SUPPORTED.to_vec(),
        };
        if say(connection, &answer).is_err() {
            break;
        }
    }
    asked
}

fn hear(mut connection: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    connection.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut message)?;
    Ok(message)
}

fn say(mut connection: &TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    connection.write_all(&[&length.to_be_bytes(), answer].concat())
}

const POWER_OFF: u8 = 0x00;
const POWER_ON: u8 = 0x01;
const RESET: u8 = 0x02;
const GET_ATR: u8 = 0x04;

/// PC/SC part 3: done.
const OK: &[u8] = &[0x90, 0x00];
/// PC/SC part 3: function not supported.
const NOT_SUPPORTED: &[u8] = &[0x6A, 0x81];

/// MIFARE Classic 1K as PC/SC part 3 names it.
const STORAGE_CHIP_ATR: [u8; 20] = [
    0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06, 0x03, 0x00, 0x01, 0x00,
    0x00, 0x00, 0x00, 0x6A,
];

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[track_caller]
    fn check(reader: &TcpStream, message: &[u8], answer: &[u8]) {
        say(reader, message).unwrap();
        assert_eq!(hear(reader).unwrap(), answer, "{message:02X?}");
    }

    #[test]
    fn a_chip_answers_its_reader_until_it_is_taken_away() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let chip = Chip::lay(port, &[0x72, 0xBF, 0x99, 0x61]).unwrap();
        let (reader, _) = listener.accept().unwrap();
        say(&reader, &[POWER_ON]).unwrap();
        check(&reader, &[GET_ATR], &STORAGE_CHIP_ATR);
        say(&reader, &[RESET]).unwrap();
        let uid = [0x72, 0xBF, 0x99, 0x61, 0x90, 0x00];
        check(&reader, &[0xFF, 0xCA, 0x00, 0x00, 0x00], &uid);
        check(&reader, &[0x00, 0xA4, 0x04, 0x00], &[0x6A, 0x81]);
        assert_eq!(chip.take_away(), 1);
        assert!(hear(&reader).is_err());
    }

    #[test]
    fn the_answer_to_reset_ends_in_its_check_byte() {
        let check = STORAGE_CHIP_ATR[1..].iter().fold(0, |sum, byte| sum ^ byte);
        assert_eq!(check, 0);
    }
}
