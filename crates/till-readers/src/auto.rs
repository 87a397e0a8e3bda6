//! Readers that nobody has named: the serial lines of this machine are looked through, and what
//! answers in a protocol of this crate is a reader from then on.
//!
//! A line that another entry of the configuration names is never opened here, nor one that a reader
//! was found on. A line on which nothing answers is greeted again, ever more seldom. What is found is
//! bound by the name that it was found under: its USB serial number (`by-id`) or, where it has none,
//! the port that it is plugged into (`by-path`); never by its turn. One that is bound by its port and is
//! plugged into another is bound there, and no longer listed where it was. An RDM6300 cannot be found, since
//! it hears nothing, and readers that type are keyboards like any other: both must be named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::auth::Keyring;
use crate::serial::{self, Protocol, SerialReader};
use crate::watchdog::{self, Watchdog, Watched, Work};
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
    watchdog: Watchdog,
    found: Mutex<Found>,
    changed: Condvar,
}

struct Found {
    readers: Vec<FoundReader>,
    is_stopped: bool,
    /// Which thread searches; one that hung and comes back has another number.
    turn: u64,
    has_thread: bool,
    /// When the thread was last seen between two greetings.
    beat: Instant,
    /// The line that is being greeted.
    greeted: Option<PathBuf>,
    /// Threads that hang, and at which line.
    hung: Vec<(u64, Option<PathBuf>)>,
}

struct FoundReader {
    line: PathBuf,
    protocol: Protocol,
    reader: SerialReader,
    found_at: Instant,
    missing_since: Option<Instant>,
    /// Whether it is one that was at another port before.
    has_moved: bool,
}

impl Search {
    /// Looks through the names in `lines` (`/dev/serial`), from now on; never waits.
    pub(crate) fn start(
        lines: PathBuf,
        em4100: bool,
        named: Vec<PathBuf>,
        keyring: Keyring,
        sink: EventSink,
        watchdog: Watchdog,
    ) -> Search {
        let found = Found {
            readers: Vec::new(),
            is_stopped: false,
            turn: 0,
            has_thread: false,
            beat: Instant::now(),
            greeted: None,
            hung: Vec::new(),
        };
        let shared = Arc::new(Shared {
            lines,
            protocols: [Protocol::Own, Protocol::Twn4 { em4100 }, Protocol::Pn532],
            named,
            keyring,
            sink,
            watchdog,
            found: Mutex::new(found),
            changed: Condvar::new(),
        });
        shared.give_away(&mut shared.found(), Instant::now());
        let watched: Weak<Shared> = Arc::downgrade(&shared);
        shared.watchdog.watch(watched);
        Search(shared)
    }

    /// What was found, with its state.
    pub(crate) fn list(&self) -> Vec<ReaderListing> {
        let found = self.0.found();
        let readers = found.readers.iter();
        readers.map(|found| found.reader.listing()).collect()
    }

    /// One reader that was found.
    pub(crate) fn reader(&self, name: &ReaderName) -> Option<Arc<dyn Reader>> {
        let found = self.0.found();
        let mut readers = found.readers.iter().map(|found| &found.reader);
        let reader = readers.find(|reader| reader.name() == *name)?;
        Some(Arc::new(reader.clone()))
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
    /// Has a new thread search, if there is none.
    fn give_away(self: &Arc<Self>, found: &mut Found, now: Instant) {
        if found.has_thread {
            return;
        }
        found.beat = now;
        let searching = Searching {
            shared: Arc::clone(self),
            turn: found.turn,
        };
        match watchdog::start("reader-search", searching) {
            Ok(()) => found.has_thread = true,
            // The watchdog tries again.
            Err(error) => tracing::error!(%error, "Could not start the search for readers"),
        }
    }

    fn run(&self, turn: u64) {
        let mut patience = Patience::default();
        while self.goes_on(turn, None) {
            self.let_go_of_strangers();
            self.let_go_of_moved(Instant::now());
            let lines = lines(&self.lines, Path::new("/sys"));
            patience.forget_all_but(&lines);
            for line in &lines {
                if !self.is_bound(line) && patience.is_due(line, Instant::now()) {
                    self.greet(turn, line);
                }
            }
            self.rest(turn, LOOK_PERIOD);
        }
    }

    /// Whether this thread is to search on; if so, at this line.
    fn goes_on(&self, turn: u64, line: Option<&Path>) -> bool {
        let mut found = self.found();
        if found.is_over(turn) {
            return false;
        }
        found.beat = Instant::now();
        found.greeted = line.map(Path::to_owned);
        true
    }

    fn rest(&self, turn: u64, time: Duration) {
        let paused = self
            .changed
            .wait_timeout_while(self.found(), time, |found| !found.is_over(turn));
        drop(paused);
    }

    fn greet(&self, turn: u64, line: &Path) {
        for protocol in self.protocols {
            if !self.goes_on(turn, Some(line)) {
                return;
            }
            match serial::answers(line, protocol) {
                Ok(true) => return self.bind(turn, protocol, line),
                Ok(false) => {}
                Err(fault) => {
                    tracing::debug!(line = %line.display(), %fault, "Serial line not greeted");
                    return;
                }
            }
        }
        tracing::debug!(line = %line.display(), "Nothing on the serial line is a known reader");
    }

    fn bind(&self, turn: u64, protocol: Protocol, line: &Path) {
        let mut found = self.found();
        if found.is_over(turn) {
            return;
        }
        let (sink, keyring) = (Arc::clone(&self.sink), self.keyring.clone());
        let line = line.to_owned();
        let reader = serial::open(protocol, line.clone(), keyring, sink, &self.watchdog);
        tracing::info!(reader = %reader.name(), "Reader found");
        found.readers.push(FoundReader {
            line,
            protocol,
            reader,
            found_at: Instant::now(),
            missing_since: None,
            has_moved: false,
        });
    }

    /// Something else is plugged in now where a reader was found: it is to be greeted anew.
    fn let_go_of_strangers(&self) {
        let is_stranger = |found: &mut FoundReader| {
            found.reader.listing().state == ReaderState::Faulty(ReaderFault::Silent)
        };
        let mut found = self.found();
        let strangers = found.readers.extract_if(.., is_stranger).collect();
        drop(found);
        self.let_go(strangers, "Reader given up");
    }

    /// A reader without a serial number has the name of its port. When it was moved to another one,
    /// it is there, and nothing is missing where it was.
    fn let_go_of_moved(&self, now: Instant) {
        let mut found = self.found();
        for reader in &mut found.readers {
            reader.note_whether_missing(now);
        }
        let moved = moved(&mut found.readers, |line| self.is_port(line));
        drop(found);
        self.let_go(moved, "Reader moved to another port");
    }

    fn let_go(&self, readers: Vec<FoundReader>, why: &str) {
        for gone in readers {
            let reader = gone.reader.name();
            tracing::info!(%reader, "{why}");
            drop(gone);
            (self.sink)(ReaderEvent::Removed { reader });
        }
    }

    /// Whether a name is that of a port, and not that of what is plugged in there.
    fn is_port(&self, line: &Path) -> bool {
        line.starts_with(self.lines.join("by-path"))
    }

    /// Whether a reader has the line, under this or another of its names, or a thread hangs there.
    fn is_bound(&self, line: &Path) -> bool {
        let Ok(device) = fs::canonicalize(line) else {
            return true;
        };
        let leads_there = |name: &Path| fs::canonicalize(name).is_ok_and(|to| to == device);
        let found = self.found();
        let hung = found.hung.iter().filter_map(|(_, line)| line.as_deref());
        let bound = found.readers.iter().map(|found| &*found.line);
        self.named.iter().any(|name| leads_there(name))
            || bound
                .chain(hung)
                .any(|name| name == line || leads_there(name))
    }

    /// A thread ends: if it hung, it does so no longer.
    fn end(&self, turn: u64) {
        self.found().hung.retain(|(hung, _)| *hung != turn);
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn is_over(&self, turn: u64) -> bool {
        self.is_stopped || self.turn != turn
    }
}

impl FoundReader {
    fn note_whether_missing(&mut self, now: Instant) {
        let state = self.reader.listing().state;
        let is_missing = matches!(state, ReaderState::Faulty(ReaderFault::LineMissing { .. }));
        self.missing_since = is_missing.then(|| self.missing_since.unwrap_or(now));
    }
}

/// Takes out those that are missing at their ports, and of whose kind another one came to another
/// port when they went; of several, those that went last.
fn moved(readers: &mut Vec<FoundReader>, is_port: impl Fn(&Path) -> bool) -> Vec<FoundReader> {
    let mut gone = Vec::new();
    for at in 0..readers.len() {
        let new = &readers[at];
        if new.has_moved || new.missing_since.is_some() || !is_port(&new.line) {
            continue;
        }
        let came_for = |old: &FoundReader| {
            let went = old.missing_since?;
            // A line is seen to be missing some time after the reader was unplugged.
            let is_since = new.found_at + LATEST_MISSED >= went && old.found_at < new.found_at;
            (is_since && old.protocol == new.protocol && is_port(&old.line)).then_some(went)
        };
        let lines = readers.iter().filter(|old| !gone.contains(&old.line));
        let last = lines
            .filter_map(|old| Some((came_for(old)?, old.line.clone())))
            .max();
        if let Some((_, line)) = last {
            readers[at].has_moved = true;
            gone.push(line);
        }
    }
    let is_gone = |reader: &mut FoundReader| gone.contains(&reader.line);
    readers.extract_if(.., is_gone).collect()
}

impl Watched for Shared {
    fn look(self: Arc<Self>, now: Instant) {
        let mut found = self.found();
        if found.is_stopped {
            return;
        }
        if found.has_thread && now.saturating_duration_since(found.beat) > LONGEST_GREETING {
            let line = found.greeted.take();
            let shown = line.as_deref().unwrap_or(&self.lines).display();
            tracing::error!(line = %shown, "The search for readers hangs; unplug what is there");
            let turn = found.turn;
            found.hung.push((turn, line));
            found.turn += 1;
            found.has_thread = false;
        }
        if found.hung.len() <= MOST_HUNG {
            self.give_away(&mut found, now);
        }
    }
}

/// A thread of the search.
struct Searching {
    shared: Arc<Shared>,
    turn: u64,
}

impl Work for Searching {
    fn run(&self) {
        self.shared.run(self.turn);
        self.shared.end(self.turn);
    }

    /// No reader is the search's own, so there is nothing that could be told of one.
    fn handle_panic(&self) {
        tracing::error!("The search for readers broke down and begins anew");
    }

    fn rest(&self, pause: Duration) -> bool {
        self.shared.rest(self.turn, pause);
        let goes_on = self.shared.goes_on(self.turn, None);
        if !goes_on {
            self.shared.end(self.turn);
        }
        goes_on
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
/// A line in one protocol, and opening and closing it.
const LONGEST_GREETING: Duration = Duration::from_secs(15);
/// So many threads may hang before no further one is risked.
const MOST_HUNG: usize = 3;
const LATEST_MISSED: Duration = Duration::from_secs(5);
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
