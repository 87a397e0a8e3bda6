//! Changes come down: page after page, blocks ahead of them, a snapshot where pages do not lead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sync_proto::{FeedPage, FeedRefusal, Resend};
use till_ledger::{ClockRequest, ClockState, Moment};
use tracing::{info, warn};
use uuid::Uuid;

use crate::contact::Alarm;
use crate::hub::HubError;
use crate::standing::Standing;
use crate::sync::{Sync, back_off, local};

/// What the feed's conversation remembers from page to page.
struct FeedRhythm {
    /// When contact was last written down.
    kept_at: Instant,
    /// When the hub's changes were last acknowledged by an entry of their own.
    acked_at: Option<Instant>,
    /// Changes were applied since.
    owes_ack: bool,
    /// Somebody may spend less since.
    ack_is_urgent: bool,
    /// Which statuses have come, and when they were last asked for.
    denied: Option<(Instant, u64)>,
    /// More changes waited than fitted into the last page.
    backlog: bool,
    /// What was sent once more, and when, so that a page that repeats the wish is not one.
    resent: Option<(Resend, Instant)>,
}

impl FeedRhythm {
    fn new() -> FeedRhythm {
        FeedRhythm {
            kept_at: Instant::now(),
            acked_at: None,
            owes_ack: false,
            ack_is_urgent: false,
            denied: None,
            backlog: false,
            resent: None,
        }
    }

    /// How long the hub's changes stay without an acknowledgement of their own; none when there is
    /// nothing to acknowledge.
    fn ack_due_in(&self, now: Instant) -> Option<Duration> {
        let pause = if self.ack_is_urgent {
            URGENT_ACK_EVERY
        } else {
            ACK_EVERY
        };
        let ago = self.acked_at.map(|at| now.saturating_duration_since(at));
        let due_in = ago.map_or(Duration::ZERO, |ago| pause.saturating_sub(ago));
        self.owes_ack.then_some(due_in)
    }

    /// How long the hub may keep the next page until there is something in it: an acknowledgement is
    /// looked at between pages, and somebody may be waiting for it. The hub counts in whole seconds.
    fn page_wait(&self, now: Instant) -> Duration {
        let due_in = self.ack_due_in(now).unwrap_or(FEED_WAIT);
        // Never none, so that a hub which answers at once is not asked all the time.
        Duration::from_secs(due_in.as_secs() + 1).min(FEED_WAIT)
    }
}

impl Sync {
    /// Follows the hub's changes for as long as the program runs.
    pub(crate) async fn run_feed(self: Arc<Sync>) {
        let mut failures = 0;
        let mut rhythm = FeedRhythm::new();
        loop {
            match self.follow(&mut rhythm).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    if let HubError::Behind { .. } = error {
                        self.contact
                            .alarm(Alarm::HubBehind, Some(error.to_string()));
                    }
                    self.note(&error).await;
                    failures += 1;
                    let wait = match error {
                        HubError::Busy { retry_after } => retry_after.min(FEED_WAIT_MAX),
                        _ if !self.contact.standing().is_good() => NO_FEED_WAIT,
                        _ => back_off(failures),
                    };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.wake.feed.notified() => {}
                    }
                }
            }
        }
    }

    /// One step down: enrol, fetch a snapshot, or one page of changes.
    async fn follow(&self, rhythm: &mut FeedRhythm) -> Result<(), HubError> {
        if !self.hub.is_enrolled() {
            self.enrol().await?;
        }
        if self.own_mark_differs() {
            return Err(HubError::NotKept(self.contact.standing().words()));
        }
        if self.keys.is_owed() {
            self.fetch_keys().await?;
        }
        let position = self.ledger.progress().feed;
        if position.hub_epoch == 0 {
            return self.fetch_snapshot().await;
        }
        self.fetch_statuses(rhythm).await?;
        let page = match self
            .hub
            .feed(
                position,
                self.ledger.position().map_err(local)?,
                rhythm.page_wait(Instant::now()),
            )
            .await
        {
            Err(HubError::Feed(FeedRefusal::SnapshotRequired)) => {
                return self.fetch_snapshot().await;
            }
            other => other?,
        };
        self.heard().await;
        self.keys.note(&page.changes);
        if self.keys.is_owed() {
            // Before a chip must prove itself, its key should be here.
            self.fetch_keys().await?;
        }
        let count = page.changes.len() as u64;
        let moves = page.to != position.cursor;
        rhythm.backlog = page.more;
        self.wish(&page, rhythm);
        if moves
            || self.tells_news_of_siblings(&page)
            || self.ledger.progress().time.hub(Moment::now()).is_none()
            || rhythm.kept_at.elapsed() > CONTACT_KEPT_EVERY
        {
            let applied = self
                .ledger
                .apply_page(page, Moment::now())
                .await
                .map_err(local)?;
            rhythm.kept_at = Instant::now();
            rhythm.owes_ack |= moves;
            rhythm.ack_is_urgent |= applied.urgent;
            self.wake.applied.fetch_add(count, Ordering::Relaxed);
        }
        self.acknowledge_feed(rhythm).await
    }

    /// Fetches the keys of the canteen's chips. What is wrong with them is told, and holds up
    /// nothing else: chips that must prove themselves are refused meanwhile.
    async fn fetch_keys(&self) -> Result<(), HubError> {
        let taken = match self.hub.chip_keys().await {
            Ok(sealed) => self.keys.take(sealed.as_ref(), &self.state, &self.key),
            Err(
                error @ (HubError::Unreachable(_)
                | HubError::Certificate(_)
                | HubError::Untrusted(_)
                | HubError::Busy { .. }),
            ) => return Err(error),
            Err(error) => {
                warn!(%error, "The hub gives no chip keys");
                return Ok(());
            }
        };
        if let Err(error) = taken {
            warn!(%error, "The hub's chip keys cannot be used");
        }
        Ok(())
    }

    /// Tells the hub by an entry how far its changes are applied: soon when it waits to hear that
    /// somebody may spend less, else now and then.
    async fn acknowledge_feed(&self, rhythm: &mut FeedRhythm) -> Result<(), HubError> {
        if rhythm.ack_due_in(Instant::now()) != Some(Duration::ZERO) {
            return Ok(());
        }
        self.ledger
            .feed_ack(Uuid::now_v7(), Moment::now())
            .await
            .map_err(local)?;
        rhythm.acked_at = Some(Instant::now());
        rhythm.owes_ack = false;
        rhythm.ack_is_urgent = false;
        Ok(())
    }

    /// Asks for the newest statuses beside the feed: while it is behind, and once a minute in any
    /// case.
    async fn fetch_statuses(&self, rhythm: &mut FeedRhythm) -> Result<(), HubError> {
        let feed = self.ledger.progress().feed;
        let pause = if rhythm.backlog {
            BACKLOG_DENY_EVERY
        } else {
            DENY_EVERY
        };
        if rhythm.denied.is_some_and(|(at, _)| at.elapsed() < pause) {
            return Ok(());
        }
        let known = rhythm.denied.map_or(0, |(_, to)| to);
        let after = known.max(feed.cursor);
        let stand = self.ledger.position().map_err(local)?;
        let list = match self.hub.denylist(feed.hub_epoch, after, stand).await {
            // The feed is told the same and knows what to do.
            Err(HubError::Feed(FeedRefusal::SnapshotRequired)) => return Ok(()),
            other => other?,
        };
        rhythm.denied = Some((Instant::now(), list.to));
        if list.hub_epoch != feed.hub_epoch || list.changes.is_empty() {
            return Ok(());
        }
        let applied = self
            .ledger
            .apply_denylist(list, Moment::now())
            .await
            .map_err(local)?;
        if applied.records > 0 {
            info!(count = applied.records, "Statuses came ahead of the feed");
        }
        Ok(())
    }

    fn wish(&self, page: &FeedPage, rhythm: &mut FeedRhythm) {
        let Some(wish) = page.resend else { return };
        let is_same = |(last, at): (Resend, Instant)| last == wish && at.elapsed() < RESEND_EVERY;
        if rhythm.resent.is_some_and(is_same) {
            return;
        }
        rhythm.resent = Some((wish, Instant::now()));
        if let Ok(mut waiting) = self.wake.resend.lock() {
            *waiting = Some(wish);
        }
        self.wake.upload.notify_one();
    }

    fn tells_news_of_siblings(&self, page: &FeedPage) -> bool {
        let Some(told) = &page.siblings else {
            return false;
        };
        let known = self.ledger.siblings();
        let known = known.iter().map(|stand| &stand.sibling);
        !told.iter().eq(known)
    }

    /// A till whose own mark says that its disk was put back takes nothing more to spend.
    fn own_mark_differs(&self) -> bool {
        let own = self.rolled_back.is_some();
        own && matches!(self.contact.standing(), Standing::RolledBack { .. })
    }

    async fn heard(&self) {
        let was_online = self
            .contact
            .now(Timestamp::now())
            .contact
            .is_some_and(|contact| contact.online);
        if !self.contact.standing().is_good() {
            info!("The hub takes this till for what it is again");
            self.stand(Standing::Good).await;
        }
        self.contact.heard(Timestamp::now());
        self.contact.alarm(Alarm::HubBehind, None);
        self.look_at_clock().await;
        if !was_online {
            info!("The hub answers");
            self.wake.line_is_up();
        }
    }

    /// What the hub says of the time ends what the till doubted.
    async fn look_at_clock(&self) {
        if self.ledger.progress().clock == ClockState::Right {
            return;
        }
        let request = ClockRequest {
            id: Uuid::now_v7(),
            confirmed: false,
        };
        if let Err(error) = self.ledger.check_clock(request, Moment::now()).await {
            warn!(%error, "The clock could not be looked at");
        }
    }

    async fn fetch_snapshot(&self) -> Result<(), HubError> {
        let snapshot = self
            .hub
            .snapshot(self.ledger.position().map_err(local)?)
            .await?;
        let feed = self.ledger.progress().feed;
        let (hub_epoch, as_of) = (snapshot.header.hub_epoch, snapshot.header.as_of);
        if hub_epoch == feed.hub_epoch && as_of < feed.cursor {
            // What it has forgotten it may give away a second time: nothing of it is taken.
            return Err(HubError::Behind {
                cursor: feed.cursor,
                as_of,
            });
        }
        let count = snapshot.changes.len() as u64;
        self.ledger
            .apply_snapshot(snapshot.header, snapshot.changes, Moment::now())
            .await
            .map_err(local)?;
        self.keys.handle_new_chips();
        self.wake.applied.fetch_add(count, Ordering::Relaxed);
        info!(count, "Took a snapshot of accounts");
        self.heard().await;
        Ok(())
    }
}

/// How long the hub may hold a request for changes; a dead line shows within this and a margin.
const FEED_WAIT: Duration = Duration::from_secs(10);
const FEED_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a till that gets nothing asks whether that has changed.
const NO_FEED_WAIT: Duration = Duration::from_secs(30);
/// The least time between two acknowledgements that the hub waits for.
const URGENT_ACK_EVERY: Duration = Duration::from_secs(1);
/// How often changes are acknowledged that nobody waits for.
const ACK_EVERY: Duration = Duration::from_secs(60);
/// A quiet hub's contact is written down this often, so that a restart knows of it.
const CONTACT_KEPT_EVERY: Duration = Duration::from_secs(600);
/// How often statuses are asked for beside the feed.
const DENY_EVERY: Duration = Duration::from_secs(60);
/// The same while more changes wait than fit into a page.
const BACKLOG_DENY_EVERY: Duration = Duration::from_secs(2);
/// How long a wish for entries that was granted counts as the same one.
const RESEND_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether changes wait to be acknowledged, and urgently; how many milliseconds ago the last
    /// acknowledgement was; when the next is due, and how long a page may be waited for.
    #[track_caller]
    fn check(
        (owes_ack, ack_is_urgent): (bool, bool),
        acked_ms_ago: Option<u64>,
        due_in_ms: Option<u64>,
        page_wait_s: u64,
    ) {
        let begun = Instant::now();
        let now = begun + Duration::from_millis(acked_ms_ago.unwrap_or(0));
        let rhythm = FeedRhythm {
            owes_ack,
            ack_is_urgent,
            acked_at: acked_ms_ago.map(|_| begun),
            ..FeedRhythm::new()
        };
        assert_eq!(
            rhythm.ack_due_in(now),
            due_in_ms.map(Duration::from_millis),
            "{acked_ms_ago:?}"
        );
        let page_wait = Duration::from_secs(page_wait_s);
        assert_eq!(rhythm.page_wait(now), page_wait, "{acked_ms_ago:?}");
    }

    const NOTHING: (bool, bool) = (false, false);
    const CHANGES: (bool, bool) = (true, false);
    const URGENT: (bool, bool) = (true, true);

    #[test]
    fn an_acknowledgement_that_was_put_off_is_not_kept_waiting_by_the_next_page() {
        check(URGENT, None, Some(0), 1);
        check(URGENT, Some(0), Some(1_000), 2);
        check(URGENT, Some(1), Some(999), 1);
        check(URGENT, Some(999), Some(1), 1);
        check(URGENT, Some(1_000), Some(0), 1);
        check(URGENT, Some(60_000), Some(0), 1);
    }

    #[test]
    fn what_nobody_waits_for_is_acknowledged_now_and_then() {
        check(NOTHING, None, None, 10);
        check(NOTHING, Some(1), None, 10);
        check(CHANGES, None, Some(0), 1);
        check(CHANGES, Some(5_000), Some(55_000), 10);
        check(CHANGES, Some(57_500), Some(2_500), 3);
        check(CHANGES, Some(60_000), Some(0), 1);
    }
}
