//! A chip of the virtual PC/SC reader: a connection to one of its ports.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A chip lying on the reader; dropping it takes it away.
#[derive(Debug)]
pub struct VirtualChip {
    connection: TcpStream,
    commands: Arc<Mutex<Vec<Answered>>>,
    thread: Option<JoinHandle<()>>,
}

/// A command, and when it was answered.
type Answered = (Instant, Vec<u8>);

/// What a chip does with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answers with these bytes, status word included.
    Say(Vec<u8>),
    /// It answers with these bytes, late.
    SayAfter(Duration, Vec<u8>),
    /// It is pulled away before it answers.
    Leave,
    /// It says nothing and stays.
    Nothing,
}

/// What a chip is like.
#[derive(Debug, Clone)]
pub struct ChipScript {
    /// The answer to reset; an empty one makes a mute chip.
    pub atr: Vec<u8>,
    /// The unique identifier, told to the command `FF CA 00 00 00`.
    pub uid: Vec<u8>,
    /// Answers to the first commands, before the chip behaves.
    pub first: VecDeque<Answer>,
}

impl ChipScript {
    /// A storage chip that behaves.
    pub fn new(uid: &[u8]) -> ChipScript {
        ChipScript {
            atr: STORAGE_CHIP_ATR.to_vec(),
            uid: uid.to_vec(),
            first: VecDeque::new(),
        }
    }

    /// A chip that gives these answers first.
    pub fn that_first(mut self, answers: impl IntoIterator<Item = Answer>) -> ChipScript {
        self.first = answers.into_iter().collect();
        self
    }

    /// A chip that cannot be powered up.
    pub fn mute() -> ChipScript {
        ChipScript {
            atr: Vec::new(),
            uid: Vec::new(),
            first: VecDeque::new(),
        }
    }

    fn answer(&mut self, command: &[u8]) -> Answer {
        if let Some(answer) = self.first.pop_front() {
            return answer;
        }
        match command {
            [0xFF, 0xCA, 0x00, 0x00, 0x00] => Answer::Say([&self.uid[..], &[0x90, 0x00]].concat()),
            // The light and the buzzer of an ACR122U.
            [0xFF, 0x00, 0x40, ..] => Answer::Say(vec![0x90, 0x02]),
            _ => Answer::Say(vec![0x6A, 0x81]),
        }
    }
}

impl VirtualChip {
    /// Lays a chip on the slot that listens on `port`.
    pub fn insert(port: u16, script: ChipScript) -> io::Result<VirtualChip> {
        let connection = connect(port)?;
        connection.set_nodelay(true)?;
        let commands = Arc::new(Mutex::new(Vec::new()));
        let thread = thread::Builder::new()
            .name("virtual-chip".to_owned())
            .spawn({
                let connection = connection.try_clone()?;
                let commands = Arc::clone(&commands);
                move || {
                    // The end of the connection is the end of the chip, from whichever side.
                    let _ = serve(&connection, script, &commands);
                    let _ = connection.shutdown(Shutdown::Both);
                }
            })?;
        Ok(VirtualChip {
            connection,
            commands,
            thread: Some(thread),
        })
    }

    /// The commands that the chip was given, without those of the reader itself.
    pub fn commands(&self) -> Vec<Vec<u8>> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands
            .iter()
            .map(|(_, command)| command.clone())
            .collect()
    }

    /// When it last answered a command before that.
    pub fn answered_before(&self, moment: Instant) -> Option<Instant> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = commands.iter().rev().map(|(at, _)| *at);
        answered.into_iter().find(|at| *at <= moment)
    }

    /// Takes the chip away.
    pub fn remove(self) {}
}

impl Drop for VirtualChip {
    fn drop(&mut self) {
        // Fails only when the reader has closed the connection.
        let _ = self.connection.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A reader that has just started may not listen yet.
fn connect(port: u16) -> io::Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

fn serve(
    mut connection: &TcpStream,
    mut script: ChipScript,
    commands: &Mutex<Vec<Answered>>,
) -> io::Result<()> {
    loop {
        let message = hear(connection)?;
        let answer = match message[..] {
            [POWER_OFF | POWER_ON | RESET] => continue,
            [GET_ATR] => Answer::Say(script.atr.clone()),
            _ => {
                let answer = script.answer(&message);
                commands
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((Instant::now(), message));
                answer
            }
        };
        let bytes = match answer {
            Answer::Say(bytes) => bytes,
            Answer::SayAfter(time, bytes) => {
                thread::sleep(time);
                bytes
            }
            Answer::Leave => return Ok(()),
            Answer::Nothing => continue,
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        connection.write_all(&[&length.to_be_bytes()[..], &bytes].concat())?;
    }
}

fn hear(mut connection: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    connection.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut message)?;
    Ok(message)
}

const POWER_OFF: u8 = 0x00;
const POWER_ON: u8 = 0x01;
const RESET: u8 = 0x02;
const GET_ATR: u8 = 0x04;

/// MIFARE Classic 1K as PC/SC part 3 names it.
const STORAGE_CHIP_ATR: [u8; 20] = [
    0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06, 0x03, 0x00, 0x01, 0x00,
    0x00, 0x00, 0x00, 0x6A,
];
