//! The hub's store, as the asynchronous part of the program sees it.
//!
//! All writing happens on one thread of its own. Jobs that wait for the disk together share one
//! sync, so a hundred tills that send at the same moment cost little more than one. Reading happens
//! on as many threads as are asked for and never waits for the writer.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hub_ledger::{HubLedger, HubReader, LedgerError, TopUpRules};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tracing::error;

/// The hub's store; cheap to clone.
#[derive(Clone)]
pub struct Books {
    jobs: SyncSender<Job>,
    readers: Arc<Readers>,
    changes: watch::Receiver<u64>,
}

/// Why the store did not answer.
#[derive(Debug, Error)]
pub enum BooksError {
    /// The store failed or refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Too many jobs wait for the disk.
    #[error("too many requests wait for the disk; try again shortly")]
    Busy,
    /// The commit failed, or the writer has stopped: nobody knows whether it happened.
    #[error("the request was not confirmed by the disk; send it again")]
    Unconfirmed,
}

impl Books {
    /// Opens the store and starts its writer. The second value resolves when the writer stops.
    pub fn open(
        path: &Path,
        rules: TopUpRules,
    ) -> Result<(Books, oneshot::Receiver<()>), LedgerError> {
        let ledger = HubLedger::open(path, fresh_epoch(), rules)?;
        let (_, rv) = ledger.hub_position()?;
        let (publish, changes) = watch::channel(rv);
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let first = ledger.another()?;
        let (stopped, writer_stopped) = oneshot::channel();
        thread::Builder::new()
            .name("books".to_owned())
            .spawn(move || {
                write_jobs(ledger, &waiting, &publish);
                drop(stopped);
            })
            .map_err(|_| LedgerError::Unreadable { what: "thread" })?;
        let books = Books {
            jobs,
            readers: Arc::new(Readers {
                idle: Mutex::new(vec![first.another()?]),
                first: Mutex::new(first),
            }),
            changes,
        };
        Ok((books, writer_stopped))
    }

    /// Runs a call on the writer. When this returns, the change is on the disk.
    pub async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut HubLedger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, BooksError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |ledger| {
            let result = call(ledger);
            Box::new(move || {
                // Whoever asked may have gone; what was done stays done.
                let _ = answer.send(result);
            })
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => BooksError::Busy,
            TrySendError::Disconnected(_) => BooksError::Unconfirmed,
        })?;
        Ok(answered.await.map_err(|_| BooksError::Unconfirmed)??)
    }

    /// Runs a call on a reader, off the asynchronous threads.
    pub async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&HubReader) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, BooksError> {
        let readers = Arc::clone(&self.readers);
        let result = tokio::task::spawn_blocking(move || {
            let reader = readers.take()?;
            let result = call(&reader);
            readers.give_back(reader);
            result
        });
        Ok(result.await.map_err(|_| BooksError::Unconfirmed)??)
    }

    /// The version of the newest change, and a way to wait for the next.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// A call to run inside a group, giving what to do once the group is on the disk.
type Job = Box<dyn FnOnce(&mut HubLedger) -> Confirm + Send>;
type Confirm = Box<dyn FnOnce() + Send>;

fn write_jobs(mut ledger: HubLedger, waiting: &Receiver<Job>, publish: &watch::Sender<u64>) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter().take(GROUP_MAX - 1));
        let done = ledger.group(|ledger| {
            jobs.into_iter()
                .map(|job| job(ledger))
                .collect::<Vec<Confirm>>()
        });
        match done {
            Err(error) => error!(error = &error as &dyn std::error::Error, "Lost a commit"),
            Ok(confirms) => {
                if let Ok((_, rv)) = ledger.hub_position() {
                    publish.send_if_modified(|known| std::mem::replace(known, rv) != rv);
                }
                confirms.into_iter().for_each(|confirm| confirm());
            }
        }
    }
}

struct Readers {
    idle: Mutex<Vec<HubReader>>,
    first: Mutex<HubReader>,
}

impl Readers {
    fn take(&self) -> Result<HubReader, LedgerError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(reader) => Ok(reader),
            None => self
                .first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .another(),
        }
    }

    fn give_back(&self, reader: HubReader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS_KEPT {
            idle.push(reader);
        }
    }
}

fn fresh_epoch() -> u64 {
    // Without randomness the time still names this life of the store.
    getrandom::u64().unwrap_or_else(|_| jiff::Timestamp::now().as_microsecond().cast_unsigned())
}

/// Jobs that may wait; more are turned away, so that a slow disk does not eat the memory.
const JOBS_MAX: usize = 4096;
/// Jobs that share one sync at most.
const GROUP_MAX: usize = 256;
/// Readers that are kept open.
const READERS_KEPT: usize = 8;
