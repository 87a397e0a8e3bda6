//! The thread that writes: what waits shares a flush, and a quiet moment empties the log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sync_proto::{Batch, Change, Denylist, FeedPage, FeedRecords, Head, SnapshotHeader};
use tokio::sync::{oneshot, watch};

use crate::error::LedgerError;
use crate::feed::Applied;
use crate::machine::serve_this_thread_first;
use crate::moment::Moment;
use crate::page::{Write, Written};
use crate::sibling::SiblingView;
use crate::store::{Progress, Store};

pub(super) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

#[derive(Debug)]
pub(super) enum Job {
    Write(Write, Moment, Reply<Written>),
    Page(FeedPage, Moment, Reply<Applied>),
    Records(FeedRecords, Moment, Reply<Applied>),
    Denylist(Denylist, Moment, Reply<Applied>),
    Sibling(Box<Batch>, Reply<usize>),
    Forget(Moment, Reply<()>),
    Snapshot(SnapshotHeader, Vec<Change>, Moment, Reply<Applied>),
    Acknowledge(Head, u64, Moment, Reply<()>),
    Resume(u64, Moment, Reply<()>),
    Close(Reply<()>),
}

/// The thread that writes.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) tell: watch::Sender<Progress>,
    pub(super) tell_siblings: watch::Sender<Arc<SiblingView>>,
    /// The last rest failed, so the next one waits.
    pub(super) tired: bool,
}

/// What the queue gave.
enum Next {
    Job(Job),
    Quiet,
    Gone,
}

impl Writer {
    pub(super) fn work(mut self, queue: &Receiver<Job>) {
        match serve_this_thread_first(PRIORITY) {
            Ok(()) => tracing::debug!("The ledger's thread is served before ordinary ones"),
            Err(error) => tracing::info!(
                %error,
                "The ledger's thread is an ordinary one; allow it LimitRTPRIO=10"
            ),
        }
        let mut group = Vec::with_capacity(TOGETHER);
        loop {
            let mut job = match self.wait(queue) {
                Next::Job(job) => Some(job),
                Next::Quiet => {
                    self.rest();
                    continue;
                }
                Next::Gone => break,
            };
            // What waits is taken along: it shares the flush. Nobody is waited for.
            while let Some(next) = job.take() {
                match next {
                    Job::Write(write, now, reply) => group.push((write, now, reply)),
                    other => {
                        self.commit(&mut group);
                        if let Some(reply) = self.other(other) {
                            let saved = self.save();
                            // Whoever closed it may open its file at once.
                            drop(self);
                            let _ = reply.send(saved);
                            return;
                        }
                    }
                }
                if group.len() < TOGETHER {
                    job = queue.try_recv().ok();
                }
            }
            self.commit(&mut group);
            if self.store.needs_rest() {
                self.rest();
            }
        }
        if let Err(error) = self.save() {
            tracing::warn!(%error, "What the hub acknowledged last could not be kept");
        }
    }

    fn wait(&self, queue: &Receiver<Job>) -> Next {
        let wants_rest = self.store.wants_rest();
        let patience = if wants_rest && !self.tired {
            QUIET
        } else if wants_rest || self.store.is_unsaved() {
            LONG_QUIET
        } else {
            return queue.recv().map_or(Next::Gone, Next::Job);
        };
        match queue.recv_timeout(patience) {
            Ok(job) => Next::Job(job),
            Err(RecvTimeoutError::Timeout) => Next::Quiet,
            Err(RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    fn commit(&mut self, group: &mut Vec<(Write, Moment, Reply<Written>)>) {
        if group.is_empty() {
            return;
        }
        let mut writes = Vec::with_capacity(group.len());
        let mut replies = Vec::with_capacity(group.len());
        for (write, now, reply) in group.drain(..) {
            writes.push((write, now));
            replies.push(reply);
        }
        let answers = self.store.together(&writes);
        self.publish();
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever asked may have given up; the entry holds all the same.
            let _ = reply.send(answer);
        }
    }

    /// Does what is not an entry; hands back the reply to a wish to close.
    fn other(&mut self, job: Job) -> Option<Reply<()>> {
        match job {
            Job::Write(write, now, reply) => self.commit(&mut vec![(write, now, reply)]),
            Job::Page(page, now, reply) => {
                let applied = self.store.apply_page(&page, now);
                self.answer(reply, applied);
            }
            Job::Records(records, now, reply) => {
                let applied = self.store.apply_records(&records, now);
                self.answer(reply, applied);
            }
            Job::Denylist(list, now, reply) => {
                let applied = self.store.apply_denylist(&list, now);
                self.answer(reply, applied);
            }
            Job::Sibling(batch, reply) => {
                let heard = self.store.hear_sibling(&batch);
                self.answer(reply, heard);
            }
            Job::Forget(now, reply) => {
                let forgotten = self.store.forget_people(now);
                self.answer(reply, forgotten);
            }
            Job::Snapshot(header, changes, now, reply) => {
                let applied = self.store.apply_snapshot(&header, &changes, now);
                self.answer(reply, applied);
            }
            Job::Acknowledge(accepted, durable_through, now, reply) => {
                let done = self.store.acknowledge(accepted, durable_through, now);
                self.answer(reply, done);
            }
            Job::Resume(expected, now, reply) => {
                let done = self.store.resume_from(expected, now);
                self.answer(reply, done);
            }
            Job::Close(reply) => return Some(reply),
        }
        None
    }

    fn answer<T>(&mut self, reply: Reply<T>, answer: Result<T, LedgerError>) {
        self.publish();
        let _ = reply.send(answer);
    }

    /// Siblings first: whoever is woken by the progress sees them as they are.
    fn publish(&self) {
        let siblings = self.store.siblings();
        self.tell_siblings.send_if_modified(|told| {
            let changed = !Arc::ptr_eq(told, &siblings);
            *told = siblings;
            changed
        });
        let progress = self.store.progress();
        self.tell.send_if_modified(|told| {
            let changed = *told != progress;
            *told = progress;
            changed
        });
    }

    fn rest(&mut self) {
        let now = Moment::now();
        let rested = if self.store.wants_rest() {
            self.store.rest(now)
        } else {
            self.store.save(now)
        };
        self.tired = rested.is_err();
        if let Err(error) = rested {
            tracing::warn!(%error, "The ledger's log could not be emptied");
        }
        self.publish();
    }

    fn save(&mut self) -> Result<(), LedgerError> {
        if self.store.is_unsaved() {
            self.store.save(Moment::now())?;
        }
        Ok(())
    }
}

/// The most entries in one commit.
const TOGETHER: usize = 64;
/// As `systemd/` allows it; above ordinary threads, below the kernel's own.
const PRIORITY: i32 = 10;
const QUIET: Duration = Duration::from_millis(20);
const LONG_QUIET: Duration = Duration::from_secs(60);
