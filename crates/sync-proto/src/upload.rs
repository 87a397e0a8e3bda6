//! When a till sends its next batch and how large it is; pure, time comes in as an argument.
//!
//! One batch is under way at a time. The size doubles with every success and halves when a batch
//! is too large or unanswered. After a failure the till waits, longer each time, for a random
//! part of the wait so that fifty tills do not come back at once.
//!
//! An entry that the hub cannot even take in would hold back everything after it for ever. When a
//! batch of it alone has failed three times with status 500, it goes up to be kept unread.

use std::time::Duration;

use crate::batch::BATCH_MAX_ENTRIES;

/// The state of a till's upload.
#[derive(Debug, Clone)]
pub struct Upload {
    size: usize,
    failures: u32,
    /// How often in a row the hub itself failed at a batch of one.
    alone: u32,
    /// The step under way is [`UploadStep::SendRaw`].
    raw: bool,
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
    /// Send one entry to be kept unread.
    SendRaw,
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
    /// The hub itself failed (status 500), perhaps at an entry of this batch.
    HubFailed,
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
            alone: 0,
            raw: false,
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
        self.raw = self.alone >= ALONE_MAX;
        if self.raw {
            return UploadStep::SendRaw;
        }
        UploadStep::Send { entries: self.size }
    }

    /// The hub stored the batch.
    pub fn handle_stored(&mut self) {
        self.under_way = false;
        self.failures = 0;
        self.alone = 0;
        self.not_before = Duration::ZERO;
        self.size = (self.size * 2).min(BATCH_MAX_ENTRIES);
    }

    /// The batch was not taken. `jitter` is a random number from 0 to 65535.
    pub fn handle_failure(&mut self, failure: UploadFailure, jitter: u16, now: Duration) {
        self.under_way = false;
        self.failures = self.failures.saturating_add(1);
        self.alone = match failure {
            // The ordinary way has its three turns again: a hub that is being repaired must not leave
            // good entries unread.
            _ if self.raw => 0,
            UploadFailure::HubFailed if self.size == 1 => self.alone + 1,
            // A line that fails in between says nothing about the entry.
            UploadFailure::Unanswered | UploadFailure::Busy { .. } => self.alone,
            UploadFailure::HubFailed | UploadFailure::TooLarge | UploadFailure::Refused => 0,
        };
        let wait = match failure {
            UploadFailure::TooLarge => {
                self.size = (self.size / 2).max(1);
                Duration::ZERO
            }
            UploadFailure::Unanswered | UploadFailure::HubFailed => {
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

/// How often a single entry is tried before it goes up unread.
const ALONE_MAX: u32 = 3;
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

    /// One step after another, each failing as told, until the till asks for something else.
    fn steps(upload: &mut Upload, failures: &[UploadFailure]) -> Vec<UploadStep> {
        let mut steps = Vec::new();
        for failure in failures {
            let now = upload.not_before;
            steps.push(upload.poll_step(1000, now));
            upload.handle_failure(*failure, 0, now);
        }
        steps
    }

    const fn send(entries: usize) -> UploadStep {
        UploadStep::Send { entries }
    }

    #[test]
    fn sy_22_an_entry_that_fails_alone_three_times_goes_up_to_be_kept_unread() {
        let mut upload = Upload::new();
        let shrinking = [send(50), send(25), send(12), send(6), send(3)];
        let seen = steps(&mut upload, &[UploadFailure::HubFailed; 5]);
        assert_eq!(seen, shrinking);
        let seen = steps(&mut upload, &[UploadFailure::HubFailed; 3]);
        assert_eq!(seen, [send(1), send(1), send(1)]);
        let now = upload.not_before;
        assert_eq!(upload.poll_step(1000, now), UploadStep::SendRaw);
        upload.handle_stored();
        assert_eq!(sent(&mut upload, now), 2);
    }

    #[test]
    fn a_hub_that_is_away_altogether_gets_the_ordinary_way_again() {
        let mut upload = Upload::new();
        steps(&mut upload, &[UploadFailure::HubFailed; 8]);
        let seen = steps(&mut upload, &[UploadFailure::HubFailed; 5]);
        let raw = UploadStep::SendRaw;
        assert_eq!(seen, [raw, send(1), send(1), send(1), raw]);
        // A line that is down counts for nothing either way.
        let mut upload = Upload::new();
        let down = UploadFailure::Unanswered;
        let seen = steps(&mut upload, &[down; 12]);
        assert!(!seen.contains(&UploadStep::SendRaw), "{seen:?}");
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
    fn sy_40_the_hubs_wish_to_wait_is_respected_and_two_tills_do_not_come_back_together() {
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
        let mut other = Upload::new();
        sent(&mut other, START);
        other.handle_failure(busy, u16::MAX, START);
        assert_ne!(other.poll_step(1, START), upload.poll_step(1, START));
        assert!(
            matches!(other.poll_step(1, START), UploadStep::WaitUntil(until) if until > Duration::from_secs(30))
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
