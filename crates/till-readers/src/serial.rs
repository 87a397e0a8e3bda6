//! Readers that speak the protocol of `firmware-proto` on a serial line.
//!
//! One thread a line opens it, talks over it and opens it again when it fails. What is said is
//! decided by a conversation without a line and without a clock.

mod conversation;
mod line;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crate::{EventSink, Reader, ReaderListing, ReaderName, Signal};
use line::Line;

/// A reader on a serial line. Dropping the last clone stops its thread.
#[derive(Clone)]
pub struct SerialReader {
    line: Arc<Line>,
    _last: Arc<StopWhenDropped>,
}

/// Opens a serial line and keeps opening it. Never fails and never waits.
pub fn open(path: PathBuf, sink: EventSink) -> SerialReader {
    let line = Arc::new(Line::new(path, sink));
    let thread = thread::Builder::new()
        .name("serial-reader".to_owned())
        .spawn({
            let line = Arc::clone(&line);
            move || line.run()
        });
    if let Err(error) = thread {
        tracing::error!(%error, "Could not start a serial reader's thread");
    }
    let _last = Arc::new(StopWhenDropped(Arc::clone(&line)));
    SerialReader { line, _last }
}

/// As [`open`], for one reader alone.
pub fn spawn(path: PathBuf, sink: EventSink) -> Arc<dyn Reader> {
    Arc::new(open(path, sink))
}

impl SerialReader {
    /// The reader with its state.
    pub fn listing(&self) -> ReaderListing {
        self.line.listing()
    }
}

impl Reader for SerialReader {
    fn name(&self) -> ReaderName {
        self.line.name().clone()
    }

    fn read_again(&self, token: u64) {
        self.line.read_again(token);
    }

    fn signal(&self, signal: Signal) {
        self.line.signal(signal);
    }
}

struct StopWhenDropped(Arc<Line>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}
