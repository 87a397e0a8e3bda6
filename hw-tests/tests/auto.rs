//! Readers that nobody has named, found on pseudo-terminals behind directories like udev's.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hw_tests::device::DeviceKind;
use hw_tests::pty_reader::SimulatedReader;
use tempfile::TempDir;
use till_readers::{ReaderConfig, ReaderEvent, ReaderFault, ReaderState, Readers};

/// Serial lines, and a till that looks through them.
struct Bench {
    root: TempDir,
    events: Mutex<Receiver<ReaderEvent>>,
}

impl Bench {
    fn new() -> (Bench, impl Fn(ReaderEvent) + Send + Sync) {
        let root = tempfile::tempdir().unwrap();
        for directory in ["by-id", "by-path"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let (sender, events) = mpsc::channel();
        let events = Mutex::new(events);
        let sink = move |event| {
            let _ = sender.send(event);
        };
        (Bench { root, events }, sink)
    }

    fn auto(&self) -> ReaderConfig {
        ReaderConfig::Auto {
            lines: self.root.path().to_owned(),
            em4100: false,
        }
    }

    fn line(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn plug(&self, name: &str, kind: DeviceKind) -> SimulatedReader {
        SimulatedReader::start(&self.line(name), kind).unwrap()
    }

    /// Waits until exactly these readers are there.
    #[track_caller]
    fn wait_for(&self, readers: &Readers, expect: &[(&str, &str, ReaderState)]) {
        let expect: BTreeMap<String, ReaderState> = expect
            .iter()
            .map(|(scheme, name, state)| {
                let name = format!("{scheme}:{}", self.line(name).display());
                (name, state.clone())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let seen: BTreeMap<String, ReaderState> = readers
                .list()
                .into_iter()
                .map(|listing| (listing.name.to_string(), listing.state))
                .collect();
            if seen == expect {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{seen:#?} instead of {expect:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the chip on this reader.
    #[track_caller]
    fn expect_chip(&self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let events = self.events.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let ReaderEvent::Chip { reader, .. } = events.recv_timeout(left).unwrap() {
                assert!(reader.0.ends_with(name), "{reader}");
                return;
            }
        }
    }
}

fn same_device(bench: &Bench, name: &str, other: &str) {
    let device = fs::read_link(bench.line(name)).unwrap();
    symlink(device, bench.line(other)).unwrap();
}

#[test]
fn what_is_plugged_in_is_found_by_what_it_answers() {
    let (bench, sink) = Bench::new();
    let own = bench.plug("by-id/own", DeviceKind::Own);
    same_device(&bench, "by-id/own", "by-path/port-1");
    let _pn532 = bench.plug("by-path/port-2", DeviceKind::Pn532);
    let printer = bench.plug("by-id/printer", DeviceKind::Own);
    printer.set_dead(true);
    let readers = Readers::open([bench.auto()], Arc::new(sink));
    // Without a serial number the port is the name.
    let first = [
        ("serial", "by-path/port-1", ReaderState::Ready),
        ("pn532", "by-path/port-2", ReaderState::Ready),
    ];
    bench.wait_for(&readers, &first);
    let _twn4 = bench.plug("by-id/twn4", DeviceKind::Twn4);
    let [own_line, pn532_line] = first;
    let all = [
        own_line,
        pn532_line,
        ("twn4", "by-id/twn4", ReaderState::Ready),
    ];
    bench.wait_for(&readers, &all);
    own.lay(&[0x72, 0xBF, 0x99, 0x61]);
    bench.expect_chip("by-path/port-1");
}

#[test]
fn a_line_that_is_named_elsewhere_is_left_alone() {
    let (bench, sink) = Bench::new();
    let _own = bench.plug("by-id/own", DeviceKind::Own);
    same_device(&bench, "by-id/own", "by-path/port-1");
    let mute = bench.plug("by-id/rdm6300", DeviceKind::Rdm6300);
    let named = [
        ReaderConfig::Serial {
            path: bench.line("by-path/port-1"),
        },
        ReaderConfig::Rdm6300 {
            path: bench.line("by-id/rdm6300"),
        },
    ];
    let configs = [bench.auto()].into_iter().chain(named);
    let readers = Readers::open(configs, Arc::new(sink));
    let expect = [
        ("serial", "by-path/port-1", ReaderState::Ready),
        ("rdm6300", "by-id/rdm6300", ReaderState::Ready),
    ];
    bench.wait_for(&readers, &expect);
    // A stranger beside them takes several looks.
    let _pn532 = bench.plug("by-path/port-2", DeviceKind::Pn532);
    let [own, rdm6300] = expect;
    let all = [
        own,
        rdm6300,
        ("pn532", "by-path/port-2", ReaderState::Ready),
    ];
    bench.wait_for(&readers, &all);
    mute.lay(&[0x00, 0x63, 0xE9, 0xAE]);
    bench.expect_chip("by-id/rdm6300");
}

#[test]
fn a_reader_that_was_found_keeps_its_name_and_gives_way_to_another_kind() {
    let (bench, sink) = Bench::new();
    let mut own = bench.plug("by-id/reader", DeviceKind::Own);
    let readers = Readers::open([bench.auto()], Arc::new(sink));
    bench.wait_for(&readers, &[("serial", "by-id/reader", ReaderState::Ready)]);
    own.unplug();
    let path = bench.line("by-id/reader");
    let missing = ReaderState::Faulty(ReaderFault::LineMissing { path });
    bench.wait_for(&readers, &[("serial", "by-id/reader", missing)]);
    own.plug().unwrap();
    bench.wait_for(&readers, &[("serial", "by-id/reader", ReaderState::Ready)]);
    drop(own);
    assert!(!Path::new(&bench.line("by-id/reader")).exists());
    let _twn4 = bench.plug("by-id/reader", DeviceKind::Twn4Plain);
    bench.wait_for(&readers, &[("twn4", "by-id/reader", ReaderState::Ready)]);
}

#[test]
fn a_reader_without_a_serial_number_is_moved_to_another_port_and_missing_nowhere() {
    let (bench, sink) = Bench::new();
    let _other = bench.plug("by-path/port-9", DeviceKind::Pn532);
    let mut moved = bench.plug("by-path/port-1", DeviceKind::Pn532);
    let mut named = bench.plug("by-id/reader-A1", DeviceKind::Pn532);
    let readers = Readers::open([bench.auto()], Arc::new(sink));
    let ready = |name| ("pn532", name, ReaderState::Ready);
    bench.wait_for(
        &readers,
        &[
            ready("by-path/port-9"),
            ready("by-path/port-1"),
            ready("by-id/reader-A1"),
        ],
    );
    let missing = |name| {
        let path = bench.line(name);
        (
            "pn532",
            name,
            ReaderState::Faulty(ReaderFault::LineMissing { path }),
        )
    };
    named.unplug();
    moved.unplug();
    bench.wait_for(
        &readers,
        &[
            ready("by-path/port-9"),
            missing("by-path/port-1"),
            missing("by-id/reader-A1"),
        ],
    );
    // Another kind at another port is not the reader that is missing.
    let _own = bench.plug("by-path/port-3", DeviceKind::Own);
    let own = ("serial", "by-path/port-3", ReaderState::Ready);
    bench.wait_for(
        &readers,
        &[
            ready("by-path/port-9"),
            missing("by-path/port-1"),
            missing("by-id/reader-A1"),
            own.clone(),
        ],
    );
    let _moved = bench.plug("by-path/port-2", DeviceKind::Pn532);
    // The one with a serial number would have its name at every port.
    let there = [
        ready("by-path/port-9"),
        missing("by-id/reader-A1"),
        own,
        ready("by-path/port-2"),
    ];
    bench.wait_for(&readers, &there);
    let removed = format!("pn532:{}", bench.line("by-path/port-1").display());
    let told = bench.events.lock().unwrap();
    let is_removed = |event| match event {
        ReaderEvent::Removed { reader } => *reader.0 == *removed,
        _ => false,
    };
    while !is_removed(told.recv_timeout(Duration::from_secs(20)).unwrap()) {}
}
