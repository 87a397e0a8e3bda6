//! Readers behind the PC/SC service pcscd: they come, go and come back while the till runs.
//!
//! Three kinds of threads. The *watcher* waits for chips and for changes of the reader list, on a
//! context of its own that never touches a chip. Each reader's *worker* connects to chips, because
//! another program's transaction blocks that without a limit. The *watchdog* of all drivers never calls
//! PC/SC and notices when one of the others hangs; it starts no replacement, since a new call would queue
//! up behind the same lock in pcscd, and the hanging one goes on by itself when the lock is freed.

mod acr122;
mod command;
mod names;
mod stay;
mod usb;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::auth::Keyring;
use crate::outlet::Outlet;
use crate::watchdog::{self, HUNG_AFTER, Watchdog, Watched, Work};
use crate::{EventSink, Reader, ReaderFault, ReaderListing, ReaderName};
use worker::PcscReader;

/// Opens every contactless reader that pcscd lists, or only those whose name contains `only`
/// (without the index that pcscd appends, in either case). Chips prove themselves by the keys on
/// `keyring`.
pub(crate) fn spawn(
    only: Option<String>,
    keyring: Keyring,
    sink: EventSink,
    watchdog: &Watchdog,
) -> PcscService {
    let own_name = match &only {
        Some(pattern) => format!("pcsc:{pattern}"),
        None => "pcsc".to_owned(),
    };
    let own_name = ReaderName(own_name.into());
    let service = Arc::new(Service::new(own_name, only, keyring, sink));
    service.outlet.announce(&service.own_name);
    start_work("pcsc-watcher", Watching(Arc::clone(&service)));
    let watched: Weak<Service> = Arc::downgrade(&service);
    watchdog.watch(watched);
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
    /// Ends the watcher's pauses; waits on `heartbeat`.
    stop_signal: Condvar,
}

impl Service {
    fn new(
        own_name: ReaderName,
        only: Option<String>,
        keyring: Keyring,
        sink: EventSink,
    ) -> Service {
        Service {
            outlet: Arc::new(Outlet::new(sink)),
            own_name,
            only,
            keyring,
            stopped: AtomicBool::new(false),
            readers: Mutex::default(),
            heartbeat: Mutex::new(Instant::now()),
            stop_signal: Condvar::new(),
        }
    }

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
    fn pause(&self, time: Duration) {
        let heartbeat = self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Whether it was woken or not, the caller looks whether the service is stopped.
        let _ = self
            .stop_signal
            .wait_timeout_while(heartbeat, time, |_| !self.is_stopped());
    }

    /// Forgets every reader: the watcher that knew them is gone.
    fn forget_readers(&self) {
        let readers = std::mem::take(&mut *self.readers());
        readers.values().for_each(|reader| reader.leave());
    }
}

impl Watched for Service {
    fn look(self: Arc<Self>, now: Instant) {
        if self.is_stopped() {
            return;
        }
        let heartbeat = *self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let watcher_silent = now.saturating_duration_since(heartbeat);
        let readers: Vec<_> = self.readers().values().cloned().collect();
        for reader in &readers {
            reader.give_up_late_answers(now);
            let silent = reader.busy_for(now).max(watcher_silent);
            if silent > HUNG_AFTER {
                self.outlet.blocked(&reader.name(), silent.as_secs());
            } else {
                self.outlet.unblocked(&reader.name());
            }
        }
        if readers.is_empty() && watcher_silent > HUNG_AFTER {
            let seconds = watcher_silent.as_secs();
            self.outlet.blocked(&self.own_name, seconds);
        }
    }
}

/// The watcher's thread.
struct Watching(Arc<Service>);

impl Work for Watching {
    fn run(&self) {
        watch::run(&self.0);
    }

    fn handle_panic(&self) {
        self.0.forget_readers();
        self.0
            .outlet
            .faulty(&self.0.own_name, ReaderFault::BrokeDown);
    }

    fn rest(&self, pause: Duration) -> bool {
        self.0.beat();
        self.0.pause(pause);
        !self.0.is_stopped()
    }
}

fn start_work(name: &str, work: impl Work) {
    if let Err(error) = watchdog::start(name, work) {
        tracing::error!(%error, thread = name, "Could not start a reader's thread");
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

/// For [`crate::fuzz`]: who a chip of the Ultralight kind is found to be at an ACR122U.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_passage(
    say: &mut crate::auth::Exchange<'_>,
    keys: &[chip_keys::SiteKeys],
) -> Result<canteen::ChipIdentity, crate::ChipFault> {
    command::identify_any(say, keys)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_watcher_that_panics_leaves_no_reader_behind() {
        let (sender, told) = mpsc::channel();
        let sink: EventSink = Arc::new(move |event| {
            let _ = sender.send(format!("{event:?}"));
        });
        let own_name = ReaderName("pcsc".into());
        let service = Service::new(own_name, None, Keyring::default(), sink);
        let service = Arc::new(service);
        let name = ReaderName("pcsc:A".into());
        let (keyring, outlet) = (Keyring::default(), Arc::clone(&service.outlet));
        let reader = PcscReader::start(name.clone(), c"A 00 00".into(), keyring, outlet);
        service.outlet.ready(&name);
        service.readers().insert(name, reader);
        let watching = Watching(Arc::clone(&service));
        watching.handle_panic();
        assert!(watching.rest(Duration::from_millis(1)));
        let expect = [
            r#"Ready { reader: ReaderName("pcsc:A") }"#,
            r#"Removed { reader: ReaderName("pcsc:A") }"#,
            r#"Faulty { reader: ReaderName("pcsc"), fault: BrokeDown }"#,
        ];
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expect);
        assert!(service.readers().is_empty());
        service.stopped.store(true, Ordering::Release);
        assert!(!watching.rest(Duration::from_secs(60)));
    }

    #[test]
    fn what_hangs_is_told_by_whoever_looks() {
        let (sender, told) = mpsc::channel();
        let sink: EventSink = Arc::new(move |event| {
            let _ = sender.send(format!("{event:?}"));
        });
        let own_name = ReaderName("pcsc".into());
        let service = Arc::new(Service::new(own_name, None, Keyring::default(), sink));
        service.outlet.announce(&service.own_name);
        Arc::clone(&service).look(Instant::now());
        Arc::clone(&service).look(Instant::now() + HUNG_AFTER + Duration::from_secs(1));
        let told: Vec<String> = told.try_iter().collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("Blocked"), "{told:?}");
    }
}
