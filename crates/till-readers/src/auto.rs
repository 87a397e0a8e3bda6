//! Readers that nobody has named: the serial lines of this machine are looked through, and what
//! answers in a protocol of this crate is a reader from then on.
//!
//! A line that another entry of the configuration names is never opened here, nor one that a reader
//! was found on. A line on which nothing answers is greeted again, ever more seldom. What is found is
//! bound by the name that it was found under: its USB serial number (`by-id`) or, where it has none,
//! the port that it is plugged into (`by-path`); never by its turn. An RDM6300 cannot be found, since
//! it hears nothing, and readers that type are keyboards like any other: both must be named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::auth::Keyring;
use crate::serial::{self, Protocol, SerialReader};
use crate::{EventSink, Reader, ReaderEvent, ReaderFault, ReaderListing, ReaderName, ReaderState};

/// A running search; dropping it ends it and its readers.
pub(crate) struct Search(Arc<Shared>);

struct Shared {
    /// Where udev names serial lines.
    lines: PathBuf,
    /// What is greeted, in this order.
    protocols: [Protocol; 3],
    /// The lines of other entries.
    named: Vec<PathBuf>,
    keyring: Keyring,
    sink: EventSink,
    found: Mutex<Found>,
    changed: Condvar,
}

#[derive(Default)]
struct Found {
    readers: Vec<(PathBuf, SerialReader)>,
    is_stopped: bool,
}

impl Search {
    /// Looks through the names in `lines` (`/dev/serial`), from now on; never waits.
    pub(crate) fn start(
        lines: PathBuf,
        em4100: bool,
        named: Vec<PathBuf>,
        keyring: Keyring,
        sink: EventSink,
    ) -> Search {
        let shared = Arc::new(Shared {
            lines,
            protocols: [Protocol::Own, Protocol::Twn4 { em4100 }, Protocol::Pn532],
            named,
            keyring,
            sink,
            found: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("reader-search".to_owned());
        let run = {
            let shared = Arc::clone(&shared);
            move || shared.run()
        };
        if let Err(error) = thread.spawn(run) {
            tracing::error!(%error, "Could not start the search for readers");
        }
        Search(shared)
    }

    /// What was found, with its state.
    pub(crate) fn list(&self) -> Vec<ReaderListing> {
        let found = self.0.found();
        found
            .readers
            .iter()
            .map(|(_, reader)| reader.listing())
            .collect()
    }

    /// One reader that was found.
    pub(crate) fn reader(&self, name: &ReaderName) -> Option<Arc<dyn Reader>> {
        let found = self.0.found();
        let reader = found
            .readers
            .iter()
            .find(|(_, reader)| reader.name() == *name);
        reader.map(|(_, reader)| Arc::new(reader.clone()) as Arc<dyn Reader>)
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let mut found = self.0.found();
        found.is_stopped = true;
        found.readers.clear();
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut patience = Patience::default();
        while !self.found().is_stopped {
            self.let_go_of_strangers();
            let lines = lines(&self.lines, Path::new("/sys"));
            patience.forget_all_but(&lines);
            for line in &lines {
                if self.found().is_stopped {
                    return;
                }
                if !self.is_bound(line) && patience.is_due(line, Instant::now()) {
                    self.greet(line);
                }
            }
            let found = self.found();
            let pause = self
                .changed
                .wait_timeout_while(found, LOOK_PERIOD, |found| !found.is_stopped);
            drop(pause);
        }
    }

    fn greet(&self, line: &Path) {
        for protocol in self.protocols {
            match serial::answers(line, protocol) {
                Ok(true) => return self.bind(protocol, line),
                Ok(false) => {}
                Err(fault) => {
                    tracing::debug!(line = %line.display(), %fault, "Serial line not greeted");
                    return;
                }
            }
        }
        tracing::debug!(line = %line.display(), "Nothing on the serial line is a known reader");
    }

    fn bind(&self, protocol: Protocol, line: &Path) {
        let mut found = self.found();
        if found.is_stopped {
            return;
        }
        let sink = Arc::clone(&self.sink);
        let reader = serial::open(protocol, line.to_owned(), self.keyring.clone(), sink);
        tracing::info!(reader = %reader.name(), "Reader found");
        found.readers.push((line.to_owned(), reader));
    }

    /// Something else is plugged in now where a reader was found: it is to be greeted anew.
    fn let_go_of_strangers(&self) {
        let is_stranger = |(_, reader): &mut (PathBuf, SerialReader)| {
            reader.listing().state == ReaderState::Faulty(ReaderFault::Silent)
        };
        let strangers: Vec<(PathBuf, SerialReader)> =
            self.found().readers.extract_if(.., is_stranger).collect();
        for (_, stranger) in strangers {
            let reader = stranger.name();
            tracing::info!(%reader, "Reader given up");
            drop(stranger);
            (self.sink)(ReaderEvent::Removed { reader });
        }
    }

    /// Whether a reader has the line, under this or another of its names.
    fn is_bound(&self, line: &Path) -> bool {
        let Ok(device) = fs::canonicalize(line) else {
            return true;
        };
        let leads_there = |name: &Path| fs::canonicalize(name).is_ok_and(|to| to == device);
        let found = self.found();
        self.named.iter().any(|name| leads_there(name))
            || found
                .readers
                .iter()
                .any(|(name, _)| name == line || leads_there(name))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a line is greeted again on which nothing has answered.
#[derive(Default)]
struct Patience(BTreeMap<PathBuf, (Instant, Duration)>);

impl Patience {
    /// Whether it is time; if so, the next time is twice as far away.
    fn is_due(&mut self, line: &Path, now: Instant) -> bool {
        let (next, pause) = self.0.entry(line.to_owned()).or_insert((now, FIRST_PAUSE));
        if now < *next {
            return false;
        }
        *next = now + *pause;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        true
    }

    /// A line that comes back is another one.
    fn forget_all_but(&mut self, lines: &[PathBuf]) {
        self.0.retain(|line, _| lines.contains(line));
    }
}

/// One lasting name for each serial line in `root`; `sys` is where sysfs is mounted.
fn lines(root: &Path, sys: &Path) -> Vec<PathBuf> {
    let mut lines: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (device, name) in names(&root.join("by-path")) {
        lines.insert(device, name);
    }
    for (device, name) in names(&root.join("by-id")) {
        // Adapters without a serial number are all called alike, and one of them has the name.
        if has_serial_number(&device, sys) || !lines.contains_key(&device) {
            lines.insert(device, name);
        }
    }
    lines.into_values().collect()
}

/// What names in a directory lead to.
fn names(directory: &Path) -> Vec<(PathBuf, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let led = names.into_iter().filter_map(|name| {
        let device = fs::canonicalize(&name).ok()?;
        Some((device, name))
    });
    led.collect()
}

fn has_serial_number(device: &Path, sys: &Path) -> bool {
    let Some(name) = device.file_name() else {
        return false;
    };
    let Ok(place) = fs::canonicalize(sys.join("class/tty").join(name).join("device")) else {
        return false;
    };
    let usb = place
        .ancestors()
        .find(|place| place.join("idVendor").is_file());
    usb.is_some_and(|usb| usb.join("serial").is_file())
}

const LOOK_PERIOD: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_is_named_by_its_serial_number_or_else_by_its_port() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["dev", "serial/by-id", "serial/by-path", "sys/class/tty"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for (tty, serial, id) in [
            ("ttyACM0", Some("A1"), Some("usb-Kasse_reader_A1-if00")),
            ("ttyUSB0", None, Some("usb-1a86_USB_Serial-if00")),
            ("ttyUSB1", None, None),
            ("ttyS7", None, Some("other")),
        ] {
            let device = at("dev").join(tty);
            fs::write(&device, "").unwrap();
            if let Some(id) = id {
                symlink(&device, at("serial/by-id").join(id)).unwrap();
            }
            if tty == "ttyS7" {
                continue;
            }
            symlink(&device, at("serial/by-path").join(format!("usb-{tty}"))).unwrap();
            let usb = at("sys/devices").join(tty);
            fs::create_dir_all(usb.join("interface")).unwrap();
            fs::write(usb.join("idVendor"), "1209\n").unwrap();
            if let Some(serial) = serial {
                fs::write(usb.join("serial"), serial).unwrap();
            }
            let class = at("sys/class/tty").join(tty);
            fs::create_dir_all(&class).unwrap();
            symlink(usb.join("interface"), class.join("device")).unwrap();
        }
        let expect = [
            "serial/by-id/usb-Kasse_reader_A1-if00",
            "serial/by-id/other",
            "serial/by-path/usb-ttyUSB0",
            "serial/by-path/usb-ttyUSB1",
        ];
        assert_eq!(lines(&at("serial"), &at("sys")), expect.map(at));
        assert_eq!(lines(&at("nowhere"), &at("sys")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_line_that_says_nothing_is_greeted_ever_more_seldom() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        let line = PathBuf::from("by-id/printer");
        let mut due = Vec::new();
        for second in 0..200 {
            if patience.is_due(&line, now + Duration::from_secs(second)) {
                due.push(second);
            }
        }
        assert_eq!(due, [0, 2, 6, 14, 30, 62, 122, 182]);
        patience.forget_all_but(&[]);
        assert!(patience.is_due(&line, now));
    }
}
