//! The keyboard itself: opened for the till alone.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use evdev::{KeyCode, raw_stream::RawDevice};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::typing::KeyEvent;
use crate::ReaderFault;

/// An input device that no other program gets keys from.
pub(crate) struct Keyboard {
    device: RawDevice,
    /// Events that were taken from the kernel and not yet from here.
    taken: VecDeque<u8>,
    wait: Duration,
}

impl Keyboard {
    /// Opens it and takes it for the till; a [`Read::read`] waits so long for a key.
    pub(crate) fn open(path: &Path, wait: Duration) -> Result<Keyboard, ReaderFault> {
        let flags = OFlag::O_NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(path);
        let device = file.and_then(|file| RawDevice::from_fd(file.into()));
        let mut device = device.map_err(|error| fault(path, &error))?;
        let keys = device.supported_keys();
        if !keys.is_some_and(|keys| NEEDED.iter().all(|key| keys.contains(*key))) {
            return Err(ReaderFault::NoKeyboard {
                path: path.to_owned(),
            });
        }
        device.grab().map_err(|error| fault(path, &error))?;
        Ok(Keyboard {
            device,
            taken: VecDeque::new(),
            wait,
        })
    }

    /// Waits for keys; whether any have come.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(self.wait).unwrap_or(PollTimeout::ZERO);
        Ok(poll(&mut fds, wait)? > 0)
    }
}

impl Read for Keyboard {
    /// Whole events in the shape of [`KeyEvent::to_bytes`], as far as there is room.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.taken.is_empty() {
            if !self.wait()? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            for event in self.device.fetch_events()? {
                let event = KeyEvent {
                    kind: event.event_type().0,
                    code: event.code(),
                    value: event.value(),
                };
                self.taken.extend(event.to_bytes());
            }
        }
        self.taken.read(room)
    }
}

impl Write for Keyboard {
    /// Nothing is ever said to a keyboard.
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(path: &Path, error: &io::Error) -> ReaderFault {
    let path = path.to_owned();
    match error.kind() {
        _ if !path.exists() => ReaderFault::LineMissing { path },
        io::ErrorKind::PermissionDenied => ReaderFault::KeyboardRefused { path },
        io::ErrorKind::ResourceBusy => ReaderFault::LineInUse { path },
        // A file that takes no command of an input device.
        _ if error.raw_os_error() == Some(nix::libc::ENOTTY) => ReaderFault::NoKeyboard { path },
        _ => ReaderFault::LineFailed {
            reason: error.to_string(),
        },
    }
}

/// Mice and power buttons have keys, too.
const NEEDED: [KeyCode; 3] = [KeyCode::KEY_0, KeyCode::KEY_9, KeyCode::KEY_ENTER];
