//! Looks after the threads of all drivers.
//!
//! A thread that panics begins anew after a pause that grows; one that hangs is noticed from outside,
//! by the watchdog's own thread, which never calls into a reader. Either is told in words: no reader
//! is shown as ready that nobody serves.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// What a driver's thread does.
pub(crate) trait Work: Send + 'static {
    /// Works until the driver is stopped.
    fn run(&self);

    /// The work broke off in a panic: what it has left behind is ended, and told.
    fn handle_panic(&self);

    /// Waits before the work begins anew; false when it is not to.
    fn rest(&self, pause: Duration) -> bool;
}

/// Starts a driver's thread.
pub(crate) fn start(name: &str, work: impl Work) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || keep(&work)).map(drop)
}

fn keep(work: &impl Work) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        // What a panic leaves half done lies behind locks, and is ended by `handle_panic`.
        if catch_unwind(AssertUnwindSafe(|| work.run())).is_ok() {
            return;
        }
        if begun.elapsed() > WELL_AFTER {
            pause = FIRST_PAUSE;
        }
        let rested = catch_unwind(AssertUnwindSafe(|| {
            work.handle_panic();
            work.rest(pause)
        }));
        match rested {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A driver whose threads may hang.
pub(crate) trait Watched: Send + Sync {
    /// Notices what hangs, and does what can be done; called every quarter of a second.
    fn look(self: Arc<Self>, now: Instant);
}

/// Looks at all that it was given, until its last clone is dropped.
#[derive(Clone)]
pub(crate) struct Watchdog(Arc<Mutex<Vec<Weak<dyn Watched>>>>);

impl Watchdog {
    pub(crate) fn start() -> Watchdog {
        let watchdog = Watchdog(Arc::default());
        let watched = Arc::downgrade(&watchdog.0);
        let thread = thread::Builder::new().name("reader-watchdog".to_owned());
        if let Err(error) = thread.spawn(move || watch(&watched)) {
            tracing::error!(%error, "Could not start the readers' watchdog");
        }
        watchdog
    }

    /// Looks at this driver from now on, as long as it lives.
    pub(crate) fn watch(&self, driver: Weak<dyn Watched>) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|driver| driver.strong_count() > 0);
        watched.push(driver);
    }
}

fn watch(watched: &Weak<Mutex<Vec<Weak<dyn Watched>>>>) {
    let mut was_late = false;
    loop {
        let begun = Instant::now();
        thread::sleep(PERIOD);
        let Some(all) = watched.upgrade() else { return };
        let all: Vec<Weak<dyn Watched>> =
            all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        // When the whole program was stopped for a while, nobody has hung: they get one more turn.
        was_late = !was_late && now.saturating_duration_since(begun) > LATE_AFTER;
        if was_late {
            continue;
        }
        for driver in all.iter().filter_map(Weak::upgrade) {
            if catch_unwind(AssertUnwindSafe(|| driver.look(now))).is_err() {
                tracing::error!("Could not look after a reader");
            }
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so long a panic is not one more of the same.
const WELL_AFTER: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(250);
const LATE_AFTER: Duration = Duration::from_secs(1);

/// For so long a thread may be in one call before it hangs.
pub(crate) const HUNG_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender, TryRecvError};

    use super::*;

    /// Panics some times, and tells what is done with it.
    struct Panics {
        times: Mutex<u32>,
        told: Sender<String>,
        is_stopped: bool,
    }

    impl Work for Panics {
        fn run(&self) {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            if *times == 0 {
                self.told.send("worked".to_owned()).unwrap();
                return;
            }
            *times -= 1;
            panic!("as the test wants it");
        }

        fn handle_panic(&self) {
            self.told.send("panicked".to_owned()).unwrap();
        }

        fn rest(&self, pause: Duration) -> bool {
            self.told.send(format!("{pause:?}")).unwrap();
            !self.is_stopped
        }
    }

    #[track_caller]
    fn check(times: u32, is_stopped: bool, expect: &[&str]) {
        let (told, heard) = mpsc::channel();
        let times = Mutex::new(times);
        keep(&Panics {
            times,
            told,
            is_stopped,
        });
        assert_eq!(heard.iter().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_thread_that_panics_begins_anew_after_a_growing_pause() {
        check(0, false, &["worked"]);
        let expect = [
            "panicked", "100ms", "panicked", "200ms", "panicked", "400ms", "panicked", "800ms",
            "panicked", "1.6s", "panicked", "2s", "panicked", "2s", "worked",
        ];
        check(7, false, &expect);
        check(7, true, &["panicked", "100ms"]);
    }

    struct Looked(Sender<()>);

    impl Watched for Looked {
        fn look(self: Arc<Self>, _now: Instant) {
            let _ = self.0.send(());
            panic!("as the test wants it");
        }
    }

    #[test]
    fn the_watchdog_outlives_a_panic_of_its_own_and_ends_with_its_last_clone() {
        let (sender, looks) = mpsc::channel();
        let driver = Arc::new(Looked(sender));
        let watchdog = Watchdog::start();
        let weak: Weak<Looked> = Arc::downgrade(&driver);
        watchdog.clone().watch(weak);
        for _ in 0..2 {
            looks.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        let list = Arc::downgrade(&watchdog.0);
        drop(watchdog);
        drop(driver);
        while list.upgrade().is_some() || looks.try_recv() != Err(TryRecvError::Disconnected) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
