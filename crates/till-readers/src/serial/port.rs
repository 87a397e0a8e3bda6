//! What a line is opened as, and bytes over it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serialport::{ClearBuffer, SerialPort, TTYPort};

use super::Protocol;
use super::conversation::Conversation;
use crate::ReaderFault;
use crate::keyboard::Keyboard;

/// A line that is open.
pub(super) trait Port: Read + Write {}

impl Port for TTYPort {}

impl Port for Keyboard {}

/// Opens the line of a reader that speaks so.
pub(super) fn open(protocol: Protocol, path: &Path) -> Result<Box<dyn Port>, ReaderFault> {
    Ok(match protocol.baud() {
        Some(baud) => Box::new(open_serial(path, baud)?),
        None => Box::new(Keyboard::open(path, READ_TIME)?),
    })
}

/// Opens a serial line for this program alone; reading waits for [`READ_TIME`].
pub(super) fn open_serial(path: &Path, baud: u32) -> Result<TTYPort, ReaderFault> {
    let port = serialport::new(path.to_string_lossy(), baud).timeout(READ_TIME);
    let port = port
        .open_native()
        .map_err(|error| serial_fault(path, &error))?;
    // What was sent before is void; a line that cannot be cleared only brings noise.
    if let Err(error) = port.clear(ClearBuffer::Input) {
        tracing::debug!(%error, "Could not clear a serial line");
    }
    Ok(port)
}

fn serial_fault(path: &Path, error: &serialport::Error) -> ReaderFault {
    let path = path.to_owned();
    match error.kind() {
        _ if !path.exists() => ReaderFault::LineMissing { path },
        serialport::ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            ReaderFault::LineRefused { path }
        }
        // The lock is taken by another program, or the kernel keeps it for one.
        serialport::ErrorKind::Io(io::ErrorKind::ResourceBusy)
        | serialport::ErrorKind::NoDevice => ReaderFault::LineInUse { path },
        _ if error.description.contains("exclusive lock") => ReaderFault::LineInUse { path },
        _ if is_no_line(&path, error) => ReaderFault::NoLine { path },
        _ => ReaderFault::LineFailed {
            reason: error.to_string(),
        },
    }
}

/// A directory, a file, or a device that takes no command of a serial line.
fn is_no_line(path: &Path, error: &serialport::Error) -> bool {
    let is_device = fs::metadata(path).is_ok_and(|it| it.file_type().is_char_device());
    !is_device || error.description == nix::errno::Errno::ENOTTY.desc()
}

/// Sends what is due and takes what has come, waiting for it a moment.
pub(super) fn exchange(
    port: &mut (impl Read + Write + ?Sized),
    conversation: &mut dyn Conversation,
) -> io::Result<()> {
    while let Some(bytes) = conversation.poll_transmit(Instant::now()) {
        match port.write_all(&bytes) {
            // The reader takes nothing: what is lost is asked again, and then given up.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
            result => result?,
        }
    }
    let mut room = [0; 256];
    match port.read(&mut room) {
        // The end of a line that is gone; there is no end of a line that is there.
        Ok(0) => Err(io::ErrorKind::BrokenPipe.into()),
        Ok(length) => {
            conversation.handle_bytes(&room[..length], Instant::now());
            Ok(())
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Also how late a question may be sent that comes while the line is being read.
const READ_TIME: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, expect: fn(std::path::PathBuf) -> ReaderFault) {
        let fault = open_serial(path, 115_200).err();
        assert_eq!(fault, Some(expect(path.to_owned())));
    }

    #[test]
    fn what_is_no_serial_line_is_told_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        fs::write(&file, "").unwrap();
        for path in [&file, dir.path(), Path::new("/dev/null")] {
            check(path, |path| ReaderFault::NoLine { path });
        }
        check(&dir.path().join("nothing"), |path| {
            ReaderFault::LineMissing { path }
        });
    }
}
