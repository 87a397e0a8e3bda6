//! Readers behind the PC/SC service pcscd: they come, go and come back while the till runs.
//!
//! Three kinds of threads. The *watcher* waits for chips and for changes of the reader list, on a
//! context of its own that never touches a chip. Each reader's *worker* connects to chips, because
//! another program's transaction blocks that without a limit. The *supervisor* never calls PC/SC
//! and notices when one of the others hangs; it starts no replacement, since a new call would queue
//! up behind the same lock in pcscd, and the hanging one goes on by itself when the lock is freed.

mod command;
mod names;
mod stay;
mod usb;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::auth::Keyring;
use crate::outlet::Outlet;
use crate::{EventSink, Reader, ReaderListing, ReaderName};
use worker::PcscReader;

/// Opens every contactless reader that pcscd lists, or only those whose name contains `only`
/// (without the index that pcscd appends, in either case). Chips prove themselves by the keys on
/// `keyring`.
pub fn spawn(only: Option<String>, keyring: Keyring, sink: EventSink) -> PcscService {
    let own_name = match &only {
        Some(pattern) => format!("pcsc:{pattern}"),
        None => "pcsc".to_owned(),
    };
    let service = Arc::new(Service {
        outlet: Arc::new(Outlet::new(sink)),
        own_name: ReaderName(own_name.into()),
        only,
        keyring,
        stopped: AtomicBool::new(false),
        readers: Mutex::default(),
        heartbeat: Mutex::new(Instant::now()),
        stop_signal: Condvar::new(),
    });
    service.outlet.announce(&service.own_name);
    start_thread("pcsc-watcher", {
        let service = Arc::clone(&service);
        move || watch::run(&service)
    });
    start_thread("pcsc-supervisor", {
        let service = Arc::clone(&service);
        move || service.supervise()
    });
    PcscService { service }
}

/// The readers of one pcscd; dropping it stops their threads.
pub struct PcscService {
    service: Arc<Service>,
}

impl PcscService {
    /// Every reader that pcscd lists and the configuration wants, or the service itself while
    /// there is none, with its state.
    pub fn list(&self) -> Vec<ReaderListing> {
        self.service.outlet.list()
    }

    /// One reader, as long as it is listed.
    pub fn reader(&self, name: &ReaderName) -> Option<Arc<dyn Reader>> {
        let reader = self.service.readers().get(name).cloned()?;
        Some(reader)
    }
}

impl Drop for PcscService {
    fn drop(&mut self) {
        self.service.stopped.store(true, Ordering::Release);
        self.service.stop_signal.notify_all();
        for reader in self.service.readers().values() {
            reader.stop();
        }
    }
}

/// What the threads share.
struct Service {
    outlet: Arc<Outlet>,
    /// Under this name the service itself is told of while it has no reader.
    own_name: ReaderName,
    only: Option<String>,
    keyring: Keyring,
    stopped: AtomicBool,
    readers: Mutex<BTreeMap<ReaderName, Arc<PcscReader>>>,
    /// When the watcher was last seen at work.
    heartbeat: Mutex<Instant>,
    /// Ends the supervisor's and the watcher's pauses; waits on `heartbeat`.
    stop_signal: Condvar,
}

impl Service {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn readers(&self) -> MutexGuard<'_, BTreeMap<ReaderName, Arc<PcscReader>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        *self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Sleeps, unless the service is stopped.
    fn pause(&self, time: Duration) -> Instant {
        let heartbeat = self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let paused = self
            .stop_signal
            .wait_timeout_while(heartbeat, time, |_| !self.is_stopped());
        *paused.unwrap_or_else(PoisonError::into_inner).0
    }

    fn supervise(&self) {
        while !self.is_stopped() {
            let heartbeat = self.pause(SUPERVISION_PERIOD);
            let now = Instant::now();
            let watcher_silent = now.saturating_duration_since(heartbeat);
            let readers: Vec<_> = self.readers().values().cloned().collect();
            for reader in &readers {
                reader.give_up_late_answers(now);
                let silent = reader.busy_for(now).max(watcher_silent);
                if silent > BLOCKED_AFTER {
                    self.outlet.blocked(&reader.name(), silent.as_secs());
                } else {
                    self.outlet.unblocked(&reader.name());
                }
            }
            if readers.is_empty() && watcher_silent > BLOCKED_AFTER {
                let seconds = watcher_silent.as_secs();
                self.outlet.blocked(&self.own_name, seconds);
            }
        }
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::error!(%error, thread = name, "Could not start a reader's thread");
    }
}

/// For [`crate::fuzz`].
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_answer(answer: &[u8]) {
    command::take_any(answer);
}

const SUPERVISION_PERIOD: Duration = Duration::from_millis(250);
const BLOCKED_AFTER: Duration = Duration::from_secs(5);
