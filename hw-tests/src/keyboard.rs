//! A reader that types, made of the kernel's own parts: a USB-like keyboard through `/dev/uhid`, whose
//! key presses go the way that those of a real one go, from its reports to `/dev/input`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use canteen::ChipId;
use evdev::raw_stream::RawDevice;
use nix::fcntl::OFlag;
use till_readers::{NumberFormat, ReaderConfig};

use crate::hands::{Able, Hands, Shift};

/// Holds chips to a reader that types them in hex, once each.
#[derive(Debug)]
pub struct KeyboardHands {
    link: PathBuf,
    keyboard: Option<Keyboard>,
    flood: Option<Flood>,
    /// Another program at the same keyboard.
    listener: Option<RawDevice>,
    /// How long a key is down, and up.
    pace: Duration,
}

impl KeyboardHands {
    /// Plugs the reader in.
    pub fn start() -> anyhow::Result<KeyboardHands> {
        fs::create_dir_all("/dev/input/by-id")?;
        let mut hands = KeyboardHands {
            link: "/dev/input/by-id/usb-Kasse_wedge_0001-event-kbd".into(),
            keyboard: None,
            flood: None,
            listener: None,
            pace: PACE,
        };
        hands.replug()?;
        Ok(hands)
    }

    /// How the till opens it.
    pub fn config(&self) -> ReaderConfig {
        ReaderConfig::Keyboard {
            path: self.link.clone(),
            format: NumberFormat {
                is_hex: true,
                is_reversed: false,
                is_em4100: false,
            },
        }
    }

    /// Types a chip's number; when the reader said the last of it, which is that Enter is down.
    pub fn type_number(&mut self, uid: &[u8]) -> anyhow::Result<Instant> {
        let line = line(uid);
        self.type_keys(line.trim_end())?;
        let ended_at = Instant::now();
        self.type_keys("\n")?;
        Ok(ended_at)
    }

    fn type_keys(&mut self, text: &str) -> anyhow::Result<()> {
        let keyboard = self.keyboard.as_mut().context("the reader is unplugged")?;
        for letter in text.chars() {
            for usage in [usage(letter), 0] {
                keyboard.report(usage)?;
                thread::sleep(self.pace);
            }
        }
        Ok(())
    }
}

impl Hands for KeyboardHands {
    fn lay(&mut self, uid: &[u8]) -> anyhow::Result<Option<ChipId>> {
        self.type_keys(&line(uid))?;
        Ok(Some(ChipId::from_uid(uid)?))
    }

    /// Nothing is typed when a chip is lifted.
    fn lift(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// A computed machine may have to wait for its turn.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn can_be_asked(&self) -> Able {
        Able::No("it types a chip's number once, and cannot be asked")
    }

    fn tear(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        let line = line(uid);
        self.type_keys(&line[..line.len() / 2])?;
        Ok(Able::Yes)
    }

    fn lay_random(&mut self) -> anyhow::Result<Able> {
        self.type_keys("083A5C11\n")?;
        Ok(Able::Yes)
    }

    fn lay_several(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("it types several chips one after the other"))
    }

    fn lay_disturbed(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        self.type_keys("X12X")?;
        // The pause that a number begins after.
        thread::sleep(Duration::from_millis(700));
        self.type_keys(&line(uid))?;
        Ok(Able::Yes)
    }

    fn lay_interrupted(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No(
            "a key inside a number spoils it, and it is typed once",
        ))
    }

    fn lay_garbled(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("what it types carries no checksum"))
    }

    fn flood(&mut self) -> anyhow::Result<Able> {
        let keyboard = self.keyboard.as_ref().context("the reader is unplugged")?;
        self.flood = Some(Flood::start(keyboard.copy()?)?);
        Ok(Able::Yes)
    }

    fn slow_down(&mut self) -> anyhow::Result<Able> {
        self.pace = SLOW_PACE;
        Ok(Able::Yes)
    }

    fn clear_line(&mut self) -> anyhow::Result<()> {
        self.pace = PACE;
        if let Some(flood) = self.flood.take() {
            flood.stop()?;
            thread::sleep(Duration::from_millis(700));
        }
        Ok(())
    }

    fn unplug(&mut self) -> anyhow::Result<Able> {
        self.keyboard = None;
        fs::remove_file(&self.link)?;
        Ok(Able::Yes)
    }

    fn replug(&mut self) -> anyhow::Result<()> {
        let keyboard = Keyboard::plug()?;
        symlink(keyboard.node()?, &self.link)?;
        self.keyboard = Some(keyboard);
        Ok(())
    }

    fn listen_in(&mut self) -> anyhow::Result<Able> {
        let flags = OFlag::O_NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(&self.link)?;
        let mut device = RawDevice::from_fd(file.into())?;
        ensure!(device.grab().is_err(), "two programs have the keyboard");
        self.listener = Some(device);
        Ok(Able::Yes)
    }

    fn has_overheard(&mut self) -> anyhow::Result<bool> {
        let mut listener = self.listener.take().context("nobody listens")?;
        match listener.fetch_events() {
            Ok(events) => Ok(events.count() > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn workday(&mut self) -> anyhow::Result<Shift> {
        let diary = crate::typed_day::work(1)?;
        println!("{diary}");
        Ok(Shift::Worked)
    }

    fn fall_silent(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No(
            "it types only when a chip comes, so its silence says nothing",
        ))
    }

    fn can_show(&self) -> Able {
        Able::No("it has no light and no sound that the till could switch")
    }
}

/// A keyboard of the kernel's; dropping it unplugs it.
#[derive(Debug)]
struct Keyboard {
    uhid: File,
}

impl Keyboard {
    fn plug() -> anyhow::Result<Keyboard> {
        let mut uhid = File::options().read(true).write(true).open("/dev/uhid")?;
        uhid.write_all(&create_event())
            .context("plug a keyboard in")?;
        Ok(Keyboard { uhid })
    }

    /// The same keyboard for another thread.
    fn copy(&self) -> anyhow::Result<Keyboard> {
        let uhid = self.uhid.try_clone()?;
        Ok(Keyboard { uhid })
    }

    /// What the kernel calls it in `/dev/input`, as soon as it does.
    fn node(&self) -> anyhow::Result<PathBuf> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for entry in fs::read_dir("/sys/class/input")? {
                let entry = entry?;
                let unique = fs::read_to_string(entry.path().join("device/uniq"));
                let node = Path::new("/dev/input").join(entry.file_name());
                if unique.is_ok_and(|unique| unique.trim() == UNIQUE) && node.exists() {
                    return Ok(node);
                }
            }
            ensure!(Instant::now() < deadline, "the kernel made no keyboard");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Says which key is down; 0 is none.
    fn report(&mut self, usage: u8) -> anyhow::Result<()> {
        let report = [0, 0, usage, 0, 0, 0, 0, 0];
        let mut event = Vec::from(UHID_INPUT2.to_ne_bytes());
        event.extend(8_u16.to_ne_bytes());
        event.extend(report);
        self.uhid.write_all(&event).context("press a key")
    }
}

/// Keys that nobody would call a number, without end.
#[derive(Debug)]
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Flood {
    fn start(mut keyboard: Keyboard) -> anyhow::Result<Flood> {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut letters = "1234X5678\n90ABXCDEF".chars().cycle();
                while !is_over.load(Ordering::Acquire) {
                    for letter in letters.by_ref().take(100) {
                        keyboard.report(usage(letter))?;
                        keyboard.report(0)?;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
        })?;
        Ok(Flood { is_over, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Release);
        let done = self.thread.join();
        done.unwrap_or_else(|_| Err(anyhow::anyhow!("the flood panicked")))
    }
}

/// What is typed for a chip.
fn line(uid: &[u8]) -> String {
    let digits: String = uid.iter().map(|byte| format!("{byte:02X}")).collect();
    digits + "\n"
}

/// The key's number in the HID usage tables, page 7.
fn usage(letter: char) -> u8 {
    match letter {
        '1'..='9' => letter as u8 - b'1' + 0x1E,
        '0' => 0x27,
        'A'..='Z' => letter as u8 - b'A' + 0x04,
        _ => 0x28,
    }
}

/// `UHID_CREATE2` of linux/uhid.h.
fn create_event() -> Vec<u8> {
    let text = |text: &str, length: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(length, 0);
        bytes
    };
    let mut event = Vec::from(UHID_CREATE2.to_ne_bytes());
    event.extend(text("Kasse wedge", 128));
    event.extend(text("", 64));
    event.extend(text(UNIQUE, 64));
    event.extend((REPORT_DESCRIPTOR.len() as u16).to_ne_bytes());
    event.extend(BUS_USB.to_ne_bytes());
    // Vendor and product of nobody, version, country.
    for number in [0x1209_u32, 0x0001, 1, 0] {
        event.extend(number.to_ne_bytes());
    }
    event.extend(REPORT_DESCRIPTOR);
    event
}

const UNIQUE: &str = "kasse-wedge-0001";
const UHID_CREATE2: u32 = 11;
const UHID_INPUT2: u32 = 12;
const BUS_USB: u16 = 3;
const PACE: Duration = Duration::from_millis(2);
const SLOW_PACE: Duration = Duration::from_millis(60);

/// A keyboard's, from appendix B.1 of the "Device Class Definition for HID 1.11", without its lights.
const REPORT_DESCRIPTOR: [u8; 45] = [
    0x05, 0x01, 0x09, 0x06, 0xA1, 0x01, 0x05, 0x07, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0x00, 0x25, 0x01,
    0x75, 0x01, 0x95, 0x08, 0x81, 0x02, 0x95, 0x01, 0x75, 0x08, 0x81, 0x01, 0x95, 0x06, 0x75, 0x08,
    0x15, 0x00, 0x25, 0x65, 0x05, 0x07, 0x19, 0x00, 0x29, 0x65, 0x81, 0x00, 0xC0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_is_typed_in_hex_with_enter() {
        assert_eq!(line(&[0x04, 0xA1]), "04A1\n");
        let keys: Vec<u8> = line(&[0x04, 0xA1]).chars().map(usage).collect();
        assert_eq!(keys, [0x27, 0x21, 0x04, 0x1E, 0x28]);
    }

    #[test]
    fn the_kernel_is_told_of_a_keyboard_in_its_own_layout() {
        let event = create_event();
        assert_eq!(event.len(), 4 + 128 + 64 + 64 + 2 + 2 + 4 * 4 + 45);
        assert_eq!(&event[4 + 256..4 + 258], 45_u16.to_ne_bytes());
    }
}
