//! Serial lines that cannot be opened: the list says why.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hw_tests::device::DeviceKind;
use hw_tests::pty_reader::SimulatedReader;
use till_readers::{ReaderConfig, ReaderFault, ReaderState, Readers};

#[test]
fn a_line_that_does_not_exist_is_named() {
    let path = PathBuf::from("/dev/no-such-reader");
    check(
        &path,
        &ReaderState::Faulty(ReaderFault::LineMissing { path: path.clone() }),
    );
}

#[test]
fn a_line_that_another_program_holds_is_named_and_opens_when_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reader");
    let _reader = SimulatedReader::start(&path, DeviceKind::Own).unwrap();
    let first = open(&path);
    wait_for(&first, &ReaderState::Ready);
    let second = open(&path);
    let in_use = ReaderFault::LineInUse { path: path.clone() };
    wait_for(&second, &ReaderState::Faulty(in_use));
    drop(first);
    wait_for(&second, &ReaderState::Ready);
}

#[test]
fn a_line_without_a_reader_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reader");
    let reader = SimulatedReader::start(&path, DeviceKind::Own).unwrap();
    reader.set_dead(true);
    let readers = open(&path);
    wait_for(&readers, &ReaderState::Faulty(ReaderFault::Silent));
    reader.set_dead(false);
    wait_for(&readers, &ReaderState::Ready);
}

#[test]
fn what_is_no_line_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "no line").unwrap();
    let no_line = ReaderFault::NoLine { path: path.clone() };
    check(&path, &ReaderState::Faulty(no_line));
}

#[track_caller]
fn check(path: &Path, expect: &ReaderState) {
    wait_for(&open(path), expect);
}

fn open(path: &Path) -> Readers {
    let path = path.to_owned();
    Readers::open([ReaderConfig::Serial { path }], Arc::new(|_| {}))
}

#[track_caller]
fn wait_for(readers: &Readers, expect: &ReaderState) {
    let deadline = Instant::now() + Duration::from_secs(8);
    loop {
        let state = readers.list().remove(0).state;
        if state == *expect {
            return;
        }
        assert!(Instant::now() < deadline, "{state:?} instead of {expect:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
