//! When a till sends its next batch and how large it is; pure, time comes in as an argument.
//!
//! One batch is under way at a time. The size doubles with every success and halves when a batch
//! is too large or unanswered. After a failure the till waits, longer each time, for a random
//! part of the wait so that fifty tills do not come back at once.

use std::time::Duration;

use crate::batch::BATCH_MAX_ENTRIES;

/// The state of a till's upload.
#[derive(Debug, Clone)]
pub struct Upload {
    size: usize,
    failures: u32,
    not_before: Duration,
    under_way: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadStep {
    /// Send a batch of at most so many entries.
    Send {
        /// The most entries to take.
        entries: usize,
    },
    /// Nothing before this moment.
    WaitUntil(Duration),
    /// Nothing to do until something is written or a batch is answered.
    Idle,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// No answer, or an answer of no use: try again later with a smaller batch.
    Unanswered,
    /// The batch is too large for the hub.
    TooLarge,
    /// The hub asked to wait.
    Busy {
        /// For how long.
        retry_after: Duration,
    },
    /// The hub answered and refused: trying again at once would not help.
    Refused,
}

impl Upload {
    /// A till that has not sent anything yet.
    pub fn new() -> Upload {
        Upload {
            size: FIRST_SIZE,
            failures: 0,
            not_before: Duration::ZERO,
            under_way: false,
        }
    }

    /// What to do at `now` with so many entries waiting. Moments are time since the program
    /// started.
    pub fn poll_step(&mut self, waiting: u64, now: Duration) -> UploadStep {
        if self.under_way || waiting == 0 {
            return UploadStep::Idle;
        }
        if now < self.not_before {
            return UploadStep::WaitUntil(self.not_before);
        }
        self.under_way = true;
        UploadStep::Send { entries: self.size }
    }

    /// The hub stored the batch.
    pub fn handle_stored(&mut self) {
        self.under_way = false;
        self.failures = 0;
        self.not_before = Duration::ZERO;
        self.size = (self.size * 2).min(BATCH_MAX_ENTRIES);
    }

    /// The batch was not taken. `jitter` is a random number from 0 to 65535.
    pub fn handle_failure(&mut self, failure: UploadFailure, jitter: u16, now: Duration) {
        self.under_way = false;
        self.failures = self.failures.saturating_add(1);
        let wait = match failure {
            UploadFailure::TooLarge => {
                self.size = (self.size / 2).max(1);
                Duration::ZERO
            }
            UploadFailure::Unanswered => {
                self.size = (self.size / 2).max(1);
                self.back_off(jitter)
            }
            UploadFailure::Refused => self.back_off(jitter),
            UploadFailure::Busy { retry_after } => retry_after.min(MAX_WAIT) + self.part(jitter),
        };
        self.not_before = now + wait;
    }

    /// Something that must not wait was written (a request for a top-up), or a person asked: a
    /// long wait is cut short.
    pub fn handle_urgent(&mut self, now: Duration) {
        self.not_before = self.not_before.min(now + URGENT_WAIT);
    }

    /// The line is back: send at once.
    pub fn handle_line_up(&mut self) {
        self.failures = 0;
        self.not_before = Duration::ZERO;
    }

    fn back_off(&self, jitter: u16) -> Duration {
        let doubled = FIRST_WAIT * 2u32.saturating_pow(self.failures.saturating_sub(1).min(16));
        let most = doubled.min(MAX_WAIT);
        MIN_WAIT + most * u32::from(jitter) / u32::from(u16::MAX)
    }

    fn part(&self, jitter: u16) -> Duration {
        FIRST_WAIT * u32::from(jitter) / u32::from(u16::MAX)
    }
}

impl Default for Upload {
    fn default() -> Upload {
        Upload::new()
    }
}

const FIRST_SIZE: usize = 50;
const MIN_WAIT: Duration = Duration::from_millis(200);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(300);
const URGENT_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn sent(upload: &mut Upload, now: Duration) -> usize {
        match upload.poll_step(1000, now) {
            UploadStep::Send { entries } => entries,
            other => panic!("expected a batch at {now:?}, got {other:?}"),
        }
    }

    #[test]
    fn batches_grow_with_success_up_to_the_largest() {
        let mut upload = Upload::new();
        let sizes: Vec<usize> = (0..5)
            .map(|_| {
                let size = sent(&mut upload, START);
                upload.handle_stored();
                size
            })
            .collect();
        assert_eq!(sizes, [50, 100, 200, 400, 500]);
    }

    #[test]
    fn batches_shrink_to_one_when_they_are_too_large() {
        let mut upload = Upload::new();
        for expect in [50, 25, 12, 6, 3, 1, 1] {
            assert_eq!(sent(&mut upload, START), expect);
            upload.handle_failure(UploadFailure::TooLarge, 0, START);
        }
    }

    #[test]
    fn one_batch_is_under_way_at_a_time() {
        let mut upload = Upload::new();
        sent(&mut upload, START);
        assert_eq!(upload.poll_step(1000, START), UploadStep::Idle);
        upload.handle_stored();
        assert_eq!(upload.poll_step(0, START), UploadStep::Idle);
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_are_never_equal_for_two_tills() {
        let mut upload = Upload::new();
        let mut now = START;
        let mut longest = Vec::new();
        for _ in 0..12 {
            sent(&mut upload, now);
            upload.handle_failure(UploadFailure::Unanswered, u16::MAX, now);
            let UploadStep::WaitUntil(until) = upload.poll_step(1, now) else {
                panic!("no wait after a failure");
            };
            longest.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        let wait = |jitter| {
            let mut upload = Upload::new();
            sent(&mut upload, START);
            upload.handle_failure(UploadFailure::Unanswered, jitter, START);
            upload.poll_step(1, START)
        };
        assert_ne!(wait(1000), wait(60_000));
    }

    #[test]
    fn the_hubs_wish_to_wait_is_respected() {
        let mut upload = Upload::new();
        sent(&mut upload, START);
        let busy = UploadFailure::Busy {
            retry_after: Duration::from_secs(30),
        };
        upload.handle_failure(busy, 0, START);
        assert_eq!(
            upload.poll_step(1, START),
            UploadStep::WaitUntil(Duration::from_secs(30))
        );
    }

    #[test]
    fn an_urgent_entry_cuts_a_long_wait_short() {
        let mut upload = Upload::new();
        for _ in 0..10 {
            upload.handle_failure(UploadFailure::Unanswered, u16::MAX, START);
        }
        upload.handle_urgent(START);
        assert_eq!(
            upload.poll_step(1, START),
            UploadStep::WaitUntil(URGENT_WAIT)
        );
        upload.handle_line_up();
        assert_eq!(sent(&mut upload, START), 1.max(upload.size));
    }
}
