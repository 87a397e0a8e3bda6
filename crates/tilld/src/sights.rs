//! The last things that readers told, for whoever tests them at the control socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use canteen::{ChipIdError, ChipIdentity};
use till_control::{ReaderSight, ReaderWatchAnswer, SightKind};
use till_readers::{ChipFault, ReaderEvent};
use tokio::sync::watch;

/// What readers told, the newest last.
pub(crate) struct Sights {
    started: Instant,
    ring: Mutex<Ring>,
    /// The number of the newest, so that a watcher wakes up.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    /// How many there were in all.
    told: u64,
    kept: VecDeque<ReaderSight>,
}

impl Default for Sights {
    fn default() -> Sights {
        Sights {
            started: Instant::now(),
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl Sights {
    /// Notes what a reader tells, as it tells it.
    pub(crate) fn note(&self, event: &ReaderEvent, now: Instant) {
        let (seen_at, what) = match event {
            ReaderEvent::Chip {
                identity, seen_at, ..
            } => (*seen_at, chip(*identity)),
            ReaderEvent::Unreadable { fault, seen_at, .. } => (*seen_at, unreadable(fault)),
            ReaderEvent::Left { .. } => (now, SightKind::Left),
            ReaderEvent::Ready { .. } => (now, SightKind::Ready),
            ReaderEvent::Faulty { fault, .. } => {
                let text = fault.to_string();
                (now, SightKind::Faulty { text })
            }
            ReaderEvent::Removed { .. } => {
                let text = "the reader is unplugged".to_owned();
                (now, SightKind::Faulty { text })
            }
            ReaderEvent::ReadAgain { .. } => return,
        };
        let sight = ReaderSight {
            reader: event.reader().to_string(),
            at_ms: whole(seen_at.saturating_duration_since(self.started).as_millis()),
            took_us: whole(now.saturating_duration_since(seen_at).as_micros()),
            what,
        };
        let mut ring = self.ring();
        if ring.kept.len() == MOST_KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(sight);
        ring.told += 1;
        // Under the lock: of two readers, the later one's number stays.
        self.newest.send_replace(ring.told);
    }

    /// What was told after that number, or will be within the time; without a number, what to ask
    /// after from now on.
    pub(crate) async fn watch(&self, after: Option<u64>, time: Duration) -> ReaderWatchAnswer {
        let Some(after) = after else {
            let next = self.ring().told;
            return ReaderWatchAnswer {
                next,
                seen: Vec::new(),
            };
        };
        let mut newest = self.newest.subscribe();
        // The time is over, or there is something; the sender lives as long as this.
        let _ = tokio::time::timeout(time, newest.wait_for(|told| *told > after)).await;
        let ring = self.ring();
        let missed = usize::try_from(ring.told.saturating_sub(after)).unwrap_or(usize::MAX);
        let seen = ring.kept.len().saturating_sub(missed);
        ReaderWatchAnswer {
            next: ring.told,
            seen: ring.kept.range(seen..).cloned().collect(),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chip(identity: ChipIdentity) -> SightKind {
    let shown = match identity {
        ChipIdentity::Bare(_) => "bare",
        ChipIdentity::Proven { .. } => "proven",
        ChipIdentity::Failed { .. } => "failed",
    };
    SightKind::Chip {
        uid: identity.chip(),
        shown: shown.to_owned(),
    }
}

fn unreadable(fault: &ChipFault) -> SightKind {
    SightKind::Unreadable {
        random: *fault == ChipFault::Identity(ChipIdError::Random),
        text: fault.to_string(),
    }
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A watcher asks again as soon as it was answered.
const MOST_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use till_readers::{Presence, ReaderName};

    use super::*;

    fn left() -> ReaderEvent {
        ReaderEvent::Left {
            reader: ReaderName("pcsc:A".into()),
            presence: Presence(1),
        }
    }

    #[tokio::test]
    async fn a_watcher_is_told_what_came_after_its_number() {
        let sights = Sights::default();
        sights.note(&left(), Instant::now());
        let begin = sights.watch(None, Duration::ZERO).await;
        assert_eq!((begin.next, begin.seen.len()), (1, 0));
        let nothing = sights.watch(Some(1), Duration::from_millis(5)).await;
        assert_eq!((nothing.next, nothing.seen.len()), (1, 0));
        let (seen, ()) = tokio::join!(sights.watch(Some(1), Duration::from_secs(5)), async {
            sights.note(&left(), Instant::now());
        });
        assert_eq!((seen.next, seen.seen.len()), (2, 1));
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_what_is_still_kept() {
        let sights = Sights::default();
        for _ in 0..MOST_KEPT + 10 {
            sights.note(&left(), Instant::now());
        }
        let seen = sights.watch(Some(0), Duration::ZERO).await;
        assert_eq!((seen.next, seen.seen.len()), (266, MOST_KEPT));
    }
}
