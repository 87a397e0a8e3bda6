//! The watcher: waits for chips and for readers, and survives the service.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pcsc::{Context, Error, PNP_NOTIFICATION, Scope, State};

use super::worker::PcscReader;
use super::{Service, names, usb};
use crate::watchdog::HUNG_AFTER;
use crate::{Reader, ReaderFault, ReaderName};

/// Watches until the service is stopped.
pub(super) fn run(service: &Service) {
    let mut watcher = Watcher {
        service,
        readers: BTreeMap::new(),
    };
    let mut pause = FIRST_PAUSE;
    let mut refusals = 0;
    while !service.is_stopped() {
        service.beat();
        // A context is dead for ever once the service has gone, even if it came back.
        let error = match Context::establish(Scope::User) {
            Ok(context) => {
                let (worked, error) = watcher.watch(&context);
                if worked {
                    pause = FIRST_PAUSE;
                }
                error
            }
            Err(error) => error,
        };
        if service.is_stopped() {
            return;
        }
        tracing::debug!(%error, "No connection to pcscd");
        refusals = if error == Error::SecurityViolation {
            refusals + 1
        } else {
            0
        };
        watcher.fail(&service_fault(refusals));
        service.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The library reports a service that dies or begins while it is greeted as one that refuses: only a
/// refusal that is repeated for more than a second is one.
fn service_fault(refusals: u32) -> ReaderFault {
    match refusals {
        0..=4 => ReaderFault::ServiceDown,
        _ => ReaderFault::ServiceRefused,
    }
}

struct Watcher<'a> {
    service: &'a Service,
    readers: BTreeMap<CString, Arc<PcscReader>>,
}

impl Watcher<'_> {
    /// Watches over one context until it fails; says whether it worked at all.
    fn watch(&mut self, context: &Context) -> (bool, Error) {
        let mut worked = false;
        let mut states = vec![pcsc::ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
        while !self.service.is_stopped() {
            self.service.beat();
            // At every wake-up: older services miss an arrival between listing and waiting.
            match context.list_readers_owned() {
                Ok(listed) => self.reconcile(listed, &mut states),
                // The list grew between asking for its length and for itself.
                Err(Error::InsufficientBuffer) => continue,
                Err(error) => return (worked, error),
            }
            worked = true;
            states
                .iter_mut()
                .for_each(pcsc::ReaderState::sync_current_state);
            let woken = Instant::now();
            match context.get_status_change(LONGEST_WAIT, &mut states) {
                Ok(()) => {
                    if !self.handle(&states) && woken.elapsed() < SHORT_WAIT {
                        // Whatever woke the watcher for nothing must not do so without a pause.
                        self.service.pause(SHORT_WAIT);
                    }
                }
                Err(Error::Timeout | Error::Cancelled) => {}
                // One of the readers has gone since it was listed.
                Err(Error::UnknownReader) => states.truncate(1),
                Err(error) => return (worked, error),
            }
        }
        (worked, Error::Cancelled)
    }

    /// Makes the watched readers those that are listed and wanted.
    fn reconcile(&mut self, listed: Vec<CString>, states: &mut Vec<pcsc::ReaderState>) {
        let only = self.service.only.as_deref();
        let wanted: Vec<CString> = listed
            .into_iter()
            .filter(|name| names::is_wanted(&name.to_string_lossy(), only))
            .collect();
        let gone: Vec<CString> = self
            .readers
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name);
        }
        states.retain(|state| {
            state.name() == PNP_NOTIFICATION() || wanted.iter().any(|name| **name == *state.name())
        });
        for name in wanted {
            if !states.iter().any(|state| state.name() == &*name) {
                states.push(pcsc::ReaderState::new(name.clone(), State::UNAWARE));
            }
            if !self.readers.contains_key(&name) {
                self.add(name);
            }
        }
        let (outlet, own_name) = (&self.service.outlet, &self.service.own_name);
        if self.readers.is_empty() {
            outlet.faulty(own_name, usb::diagnose(Path::new("/sys")));
        } else {
            outlet.removed(own_name);
        }
    }

    fn add(&mut self, listed: CString) {
        let name = ReaderName(format!("pcsc:{}", listed.to_string_lossy()).into());
        self.service.outlet.announce(&name);
        let outlet = Arc::clone(&self.service.outlet);
        let reader = PcscReader::start(
            name.clone(),
            listed.clone(),
            self.service.keyring.clone(),
            outlet,
        );
        self.service.readers().insert(name, Arc::clone(&reader));
        self.readers.insert(listed, reader);
    }

    fn remove(&mut self, listed: &CStr) {
        let Some(reader) = self.readers.remove(listed) else {
            return;
        };
        let name = reader.name();
        self.service.readers().remove(&name);
        reader.leave();
    }

    /// Handles what changed; says whether anything did.
    fn handle(&self, states: &[pcsc::ReaderState]) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for state in states
            .iter()
            .filter(|state| state.event_state().contains(State::CHANGED))
        {
            match self.readers.get(state.name()) {
                Some(reader) => {
                    changed = true;
                    self.handle_state(reader, state.event_state(), state.event_count(), now);
                }
                // The notification of readers that come and go: they are listed at every turn.
                None => continue,
            }
        }
        changed
    }

    fn handle_state(&self, reader: &PcscReader, state: State, count: u32, now: Instant) {
        let (outlet, name) = (&self.service.outlet, reader.name());
        if state.intersects(State::UNKNOWN | State::UNAVAILABLE) {
            reader.field.handle_empty(&name, outlet);
            outlet.faulty(&name, ReaderFault::Unavailable);
            return;
        }
        if reader.busy_for(now) <= HUNG_AFTER {
            outlet.ready(&name);
        }
        if !state.contains(State::PRESENT) {
            reader.field.handle_empty(&name, outlet);
        } else if state.contains(State::MUTE) {
            reader.field.handle_mute(&name, outlet, count, now);
        } else if let Some((presence, seen_at)) =
            reader.field.handle_chip(&name, outlet, count, now)
        {
            reader.read(presence, seen_at);
        }
    }

    /// The service is gone: nothing can be said of any reader.
    fn fail(&self, fault: &ReaderFault) {
        let outlet = &self.service.outlet;
        if self.readers.is_empty() {
            outlet.faulty(&self.service.own_name, fault.clone());
        }
        for reader in self.readers.values() {
            let name = reader.name();
            reader.field.handle_empty(&name, outlet);
            outlet.faulty(&name, fault.clone());
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Also the longest that a new reader waits to be found where the service does not announce it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const SHORT_WAIT: Duration = Duration::from_millis(20);
