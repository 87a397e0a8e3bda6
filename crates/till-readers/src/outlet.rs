//! Where all events leave: keeps each reader's state for the list, and says nothing twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::{
    EventSink, Presence, ReaderEvent, ReaderFault, ReaderListing, ReaderName, ReaderState,
};

/// The way out for one driver's events.
pub(crate) struct Outlet {
    sink: EventSink,
    states: Mutex<BTreeMap<ReaderName, ReaderState>>,
    /// Held while a state changes and is told, so that the last one told is the last one noted.
    telling: Mutex<()>,
}

impl Outlet {
    pub(crate) fn new(sink: EventSink) -> Outlet {
        Outlet {
            sink,
            states: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    /// Lists a reader before anything is known of it.
    pub(crate) fn announce(&self, reader: &ReaderName) {
        self.states()
            .entry(reader.clone())
            .or_insert(ReaderState::Opening);
    }

    /// Passes on what does not change the reader's own state.
    pub(crate) fn tell(&self, event: ReaderEvent) {
        (self.sink)(event);
    }

    pub(crate) fn ready(&self, reader: &ReaderName) {
        self.change(reader, |_| Some(ReaderState::Ready));
    }

    pub(crate) fn faulty(&self, reader: &ReaderName, fault: ReaderFault) {
        self.change(reader, |_| Some(ReaderState::Faulty(fault)));
    }

    /// Notes a blocked reader, unless something worse is already known.
    pub(crate) fn blocked(&self, reader: &ReaderName, seconds: u64) {
        self.change(reader, |state| {
            let is_well = matches!(state, Some(ReaderState::Ready | ReaderState::Opening));
            is_well.then_some(ReaderState::Faulty(ReaderFault::Blocked { seconds }))
        });
    }

    /// Takes [`Outlet::blocked`] back.
    pub(crate) fn unblocked(&self, reader: &ReaderName) {
        self.change(reader, |state| {
            let is_blocked = matches!(
                state,
                Some(ReaderState::Faulty(ReaderFault::Blocked { .. }))
            );
            is_blocked.then_some(ReaderState::Ready)
        });
    }

    /// The reader's thread works again after [`ReaderFault::BrokeDown`].
    pub(crate) fn recovered(&self, reader: &ReaderName) {
        self.change(reader, |state| {
            let broke_down = state == Some(&ReaderState::Faulty(ReaderFault::BrokeDown));
            broke_down.then_some(ReaderState::Ready)
        });
    }

    pub(crate) fn removed(&self, reader: &ReaderName) {
        let _telling = self.telling();
        if self.states().remove(reader).is_some() {
            info!(%reader, "Reader removed");
            (self.sink)(ReaderEvent::Removed {
                reader: reader.clone(),
            });
        }
    }

    pub(crate) fn list(&self) -> Vec<ReaderListing> {
        let listing = |(name, state): (&ReaderName, &ReaderState)| ReaderListing {
            name: name.clone(),
            state: state.clone(),
        };
        self.states().iter().map(listing).collect()
    }

    fn change(
        &self,
        reader: &ReaderName,
        next: impl FnOnce(Option<&ReaderState>) -> Option<ReaderState>,
    ) {
        let _telling = self.telling();
        let fresh = {
            let mut states = self.states();
            let Some(fresh) = next(states.get(reader)) else {
                return;
            };
            if states.insert(reader.clone(), fresh.clone()).as_ref() == Some(&fresh) {
                return;
            }
            fresh
        };
        let reader = reader.clone();
        match fresh {
            ReaderState::Opening => {}
            ReaderState::Ready => {
                info!(%reader, "Reader ready");
                (self.sink)(ReaderEvent::Ready { reader });
            }
            ReaderState::Faulty(fault) => {
                warn!(%reader, %fault, "Reader faulty");
                (self.sink)(ReaderEvent::Faulty { reader, fault });
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<ReaderName, ReaderState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// A number that no other stay of this process has.
    pub(crate) fn next() -> Presence {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Presence(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    fn check(steps: impl FnOnce(&Outlet, &ReaderName), expect: &[&str]) {
        let (sender, told) = mpsc::channel();
        let outlet = Outlet::new(Arc::new(move |event| sender.send(event).unwrap()));
        steps(&outlet, &ReaderName("pcsc:A".into()));
        let told: Vec<String> = told
            .try_iter()
            .map(|event| match event {
                ReaderEvent::Faulty { fault, .. } => format!("{fault:?}"),
                ReaderEvent::Ready { .. } => "Ready".to_owned(),
                ReaderEvent::Removed { .. } => "Removed".to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn a_state_is_told_once() {
        check(
            |outlet, reader| {
                outlet.announce(reader);
                outlet.faulty(reader, ReaderFault::ServiceDown);
                outlet.faulty(reader, ReaderFault::ServiceDown);
                outlet.ready(reader);
                outlet.ready(reader);
                outlet.removed(reader);
                outlet.removed(reader);
            },
            &["ServiceDown", "Ready", "Removed"],
        );
    }

    #[test]
    fn being_blocked_hides_no_other_fault() {
        check(
            |outlet, reader| {
                outlet.unblocked(reader);
                outlet.ready(reader);
                outlet.blocked(reader, 5);
                outlet.blocked(reader, 6);
                outlet.unblocked(reader);
                outlet.faulty(reader, ReaderFault::Lost);
                outlet.blocked(reader, 5);
                outlet.unblocked(reader);
            },
            &["Ready", "Blocked { seconds: 5 }", "Ready", "Lost"],
        );
    }

    #[test]
    fn a_thread_that_begins_anew_hides_no_other_fault() {
        check(
            |outlet, reader| {
                outlet.faulty(reader, ReaderFault::BrokeDown);
                outlet.recovered(reader);
                outlet.faulty(reader, ReaderFault::BrokeDown);
                outlet.faulty(reader, ReaderFault::Lost);
                outlet.recovered(reader);
            },
            &["BrokeDown", "Ready", "BrokeDown", "Lost"],
        );
    }
}
