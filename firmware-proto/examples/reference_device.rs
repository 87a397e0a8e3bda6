//! The reference reader: a program that speaks the reader's side on its standard input and output,
//! for whoever writes a till, or wants to see what a firmware should say.
//!
//! ```text
//! cargo build -p firmware-proto --example reference_device
//! socat pty,link=/tmp/kasse-reader,raw,echo=0 exec:"target/debug/examples/reference_device /tmp/field"
//! echo 72BF9961 > /tmp/field      # lays a chip into the field; an empty file lifts it
//! ```
//!
//! The file may also say `several` or `unreadable`. What the till has shown goes to standard error.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::MAX_WIRE;
use firmware_proto::message::{Bytes, Chip, Identity, Pattern, Technology, capability};

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: reference_device FIELD_FILE");
        return ExitCode::from(2);
    };
    match serve(&file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the line failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The main loop, until the till's end of the line is closed.
fn serve(file: &Path) -> io::Result<()> {
    let (sender, line) = mpsc::channel();
    thread::spawn(move || {
        for byte in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(byte).is_err() {
                return;
            }
        }
    });
    let begin = Instant::now();
    let mut device = Device::new(identity());
    let mut wire = [0; MAX_WIRE];
    loop {
        let heard = line.recv_timeout(SCAN_EVERY);
        let now = begin.elapsed().as_millis() as u32;
        device.handle_field(field(file), now);
        match heard {
            Ok(byte) => {
                if let Some(answer) = device.handle_byte(byte, now, &mut Desk(file), &mut wire) {
                    say(answer)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some(event) = device.poll(now, &mut wire) {
            say(event)?;
        }
    }
}

fn say(bytes: &[u8]) -> io::Result<()> {
    let mut line = io::stdout().lock();
    line.write_all(bytes)?;
    line.flush()
}

fn identity() -> Identity {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Identity {
        version: 0,
        firmware: [1, 0, 0],
        hardware: 0,
        serial: *b"REFERENCE\0\0\0",
        capabilities: capability::LIGHT | capability::BEEPER | capability::COUNTS,
        // Another one at every start.
        boot_id: since.map_or(1, |since| since.subsec_nanos() ^ std::process::id()),
        max_payload: 0,
    }
}

/// What the file says lies in the field; one that cannot be read is an empty field.
fn field(file: &Path) -> Field {
    let text = fs::read_to_string(file).unwrap_or_default();
    match text.trim() {
        "" => Field::Empty,
        "several" => Field::Several,
        digits => chip(digits).map_or(Field::Unreadable, Field::One),
    }
}

fn chip(digits: &str) -> Option<Chip> {
    let pairs = digits.as_bytes().chunks(2);
    let uid: Option<Vec<u8>> = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(Chip {
        technology: Technology::Iso14443A,
        flags: 0,
        sak: 0x08,
        atqa: 0x0004,
        uid: Bytes::new(&uid?)?,
        ats: Bytes::EMPTY,
    })
}

/// The hardware: a file, and a person who reads standard error.
struct Desk<'a>(&'a Path);

impl Hardware for Desk<'_> {
    fn scan(&mut self) -> Field {
        field(self.0)
    }
    fn show(&mut self, pattern: Pattern, milliseconds: u16) {
        eprintln!("shows {pattern:?} for {milliseconds} ms");
    }
    fn exchange(&mut self, _command: &[u8], _answer: &mut [u8]) -> Option<usize> {
        None
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

const SCAN_EVERY: Duration = Duration::from_millis(20);
