//! All readers of a till under one roof.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use chip_keys::SiteKeys;

use crate::auth::{ChipTask, Keyring, Reply};
use crate::auto::Search;
use crate::pcsc::{self, PcscService};
use crate::serial::{self, Protocol};
use crate::watchdog::Watchdog;
use crate::{
    ChipFault, EventSink, Reader, ReaderConfig, ReaderEvent, ReaderListing, ReaderName, Signal,
};

/// The readers of a till, opened together; dropping them stops their threads.
pub struct Readers {
    sink: EventSink,
    keyring: Keyring,
    /// Looks after the threads of all of them.
    _watchdog: Watchdog,
    services: Vec<PcscService>,
    lines: Vec<serial::SerialReader>,
    searches: Vec<Search>,
}

impl Readers {
    /// Opens readers and keeps opening them: one that is missing or fails comes back by itself.
    /// Never fails and never waits; what happens is told to `sink`.
    pub fn open(configs: impl IntoIterator<Item = ReaderConfig>, sink: EventSink) -> Readers {
        let watchdog = Watchdog::start();
        let mut readers = Readers {
            sink,
            keyring: Keyring::default(),
            _watchdog: watchdog.clone(),
            services: Vec::new(),
            lines: Vec::new(),
            searches: Vec::new(),
        };
        let configs: Vec<ReaderConfig> = configs.into_iter().collect();
        let named: Vec<PathBuf> = configs.iter().filter_map(line).cloned().collect();
        for config in configs {
            let (sink, keyring) = (Arc::clone(&readers.sink), readers.keyring.clone());
            let (protocol, path) = match config {
                ReaderConfig::Pcsc { only } => {
                    let service = pcsc::spawn(only, keyring, sink, &watchdog);
                    readers.services.push(service);
                    continue;
                }
                ReaderConfig::Auto { lines, em4100 } => {
                    let search = Search::start(
                        lines,
                        em4100,
                        named.clone(),
                        keyring,
                        sink,
                        watchdog.clone(),
                    );
                    readers.searches.push(search);
                    continue;
                }
                ReaderConfig::Serial { path } => (Protocol::Own, path),
                ReaderConfig::Pn532 { path } => (Protocol::Pn532, path),
                ReaderConfig::Rdm6300 { path } => (Protocol::Rdm6300, path),
                ReaderConfig::Twn4 { path, em4100 } => (Protocol::Twn4 { em4100 }, path),
                ReaderConfig::Keyboard { path, format } => (Protocol::Keyboard(format), path),
            };
            let line = serial::open(protocol, path, keyring, sink, &watchdog);
            readers.lines.push(line);
        }
        readers
    }

    /// The keys by which chips prove themselves from now on; none when empty.
    pub fn put_keys(&self, keys: Vec<SiteKeys>) {
        self.keyring.put(keys);
    }

    /// Every reader that is configured or connected, with its state.
    pub fn list(&self) -> Vec<ReaderListing> {
        let services = self.services.iter().flat_map(PcscService::list);
        let lines = self.lines.iter().map(serial::SerialReader::listing);
        let found = self.searches.iter().flat_map(Search::list);
        services.chain(lines).chain(found).collect()
    }

    /// One reader, as long as it is connected.
    pub fn reader(&self, name: &ReaderName) -> Option<Arc<dyn Reader>> {
        let line = self.lines.iter().find(|line| line.name() == *name);
        match line {
            Some(line) => Some(Arc::new(line.clone())),
            None => self
                .services
                .iter()
                .find_map(|service| service.reader(name))
                .or_else(|| self.searches.iter().find_map(|search| search.reader(name))),
        }
    }

    /// As [`Reader::read_again`]; a reader that is not connected answers that it is faulty.
    pub fn read_again(&self, name: &ReaderName, token: u64) {
        if let Some(reader) = self.reader(name) {
            reader.read_again(token);
            return;
        }
        let (sink, reader) = (Arc::clone(&self.sink), name.clone());
        // The sink may wait for the very caller, so it is never called on the caller's thread.
        let answer = move || {
            let (identity, seen_at) = (Err(ChipFault::ReaderFaulty), Instant::now());
            sink(ReaderEvent::ReadAgain {
                reader,
                token,
                identity,
                seen_at,
            });
        };
        if let Err(error) = thread::Builder::new()
            .name("reader-missing".to_owned())
            .spawn(answer)
        {
            tracing::error!(%error, "Could not answer for a reader that is gone");
        }
    }

    /// As [`Reader::work_on_chip`]; the reply of a reader that is not connected is dropped.
    pub fn work_on_chip(&self, name: &ReaderName, task: ChipTask, reply: Reply) {
        if let Some(reader) = self.reader(name) {
            reader.work_on_chip(task, reply);
        }
    }

    /// As [`Reader::signal`]; nothing happens at a reader that is not connected.
    pub fn signal(&self, name: &ReaderName, signal: Signal) {
        if let Some(reader) = self.reader(name) {
            reader.signal(signal);
        }
    }
}

/// The line that an entry names.
fn line(config: &ReaderConfig) -> Option<&PathBuf> {
    match config {
        ReaderConfig::Pcsc { .. } | ReaderConfig::Auto { .. } => None,
        ReaderConfig::Serial { path }
        | ReaderConfig::Pn532 { path }
        | ReaderConfig::Rdm6300 { path }
        | ReaderConfig::Twn4 { path, .. }
        | ReaderConfig::Keyboard { path, .. } => Some(path),
    }
}
