//! What tills and hub say to each other, and what becomes of it at the till.

use sync_proto::{BatchRefusal, FeedRefusal, UploadFailure, UploadStep};
use till_ledger::LedgerError;

use super::World;
use super::action::Way;
use super::disk::Order;
use super::message::{Answer, Request, read_snapshot};
use super::tally::{Invariant, Violation, broken};

impl World {
    /// Entries go up.
    pub(crate) fn push(&mut self, till: usize, most: u8, way: Way) -> Result<String, Violation> {
        let has_lost_entries = self.has_lost_entries();
        let at_till = &mut self.tills[till];
        let waiting = at_till.store()?.progress().waiting();
        let running = at_till.running(self.now_ms);
        if waiting == 0 && at_till.line_is_up && has_lost_entries {
            let is_forked = self.tills[till].is_forked;
            self.look_after_old_ledgers(till)?;
            if is_forked {
                self.look_after_branch(till, way)?;
                return Ok("it asks whether its branch is there".to_owned());
            }
            return Ok("there is nothing to send".to_owned());
        }
        let entries = match at_till.upload.poll_step(waiting, running) {
            UploadStep::Send { entries } => entries,
            // Nothing here fails in a way that calls for it.
            UploadStep::SendRaw => 1,
            UploadStep::WaitUntil(_) => return Ok("it waits a little".to_owned()),
            UploadStep::Idle => return Ok("there is nothing to send".to_owned()),
        };
        let entries = match most {
            0 => entries,
            most => entries.min(usize::from(most)),
        };
        let Some(batch) = at_till.batch(entries)? else {
            at_till.upload.handle_stored();
            return Ok("there is nothing to send".to_owned());
        };
        let (first, last) = (batch.first_seq, batch.head.seq);
        let (request, words) = if self.tills[till].is_forked {
            (
                Request::Branch(batch),
                format!("the branch {first} to {last}"),
            )
        } else {
            (Request::Batch(batch), format!("entries {first} to {last}"))
        };
        let heard = self.ask(till, request, way)?;
        Ok(format!("{words}{}", answered(heard)))
    }

    pub(crate) fn fail_upload(&mut self, till: usize, failure: UploadFailure) {
        self.drawn += 1;
        let jitter = (self.drawn.wrapping_mul(0x9e37)) as u16;
        let at_till = &mut self.tills[till];
        let running = at_till.running(self.now_ms);
        at_till.upload.handle_failure(failure, jitter, running);
    }

    /// Changes come down.
    pub(crate) fn fetch(&mut self, till: usize, way: Way) -> Result<String, Violation> {
        let at_till = &self.tills[till];
        if at_till.is_forked {
            return Ok("the hub tells it nothing any more".to_owned());
        }
        let position = at_till.position()?;
        let from = at_till.store()?.progress().feed;
        let (request, words) = if at_till.wants_snapshot {
            (Request::Snapshot(position), "a snapshot".to_owned())
        } else {
            let words = format!("changes after {}", from.cursor);
            (Request::Feed(from, position), words)
        };
        let heard = self.ask(till, request, way)?;
        let to = self.tills[till].sheet.feed.cursor;
        Ok(format!("{words}, is at {to}{}", answered(heard)))
    }

    /// Statuses come down ahead of everything else.
    pub(crate) fn fetch_statuses(&mut self, till: usize, way: Way) -> Result<String, Violation> {
        let from = self.tills[till].store()?.progress().feed;
        let heard = self.ask(till, Request::Statuses(from), way)?;
        Ok(format!("after {}{}", from.cursor, answered(heard)))
    }

    /// How far the changes are applied is written down.
    pub(crate) fn ack_feed(&mut self, till: usize) -> Result<String, Violation> {
        if !self.tills[till].owes_ack {
            return Ok("there is nothing to acknowledge".to_owned());
        }
        let now_ms = self.now_ms;
        let World { tills, tally, .. } = self;
        let id = tills[till].draw_id(now_ms);
        let done = tills[till].write(
            tally,
            now_ms,
            Order::LogFirst,
            |store, moment| store.feed_ack(id, moment),
            |_, _| {},
        )?;
        match done {
            None => Ok("its power fails".to_owned()),
            Some(Err(error)) => Err(broken("acknowledging changes", &error)),
            Some(Ok(entry)) => {
                self.tills[till].owes_ack = false;
                Ok(format!("entry {}", entry.seq))
            }
        }
    }

    /// A till takes an answer in.
    pub(crate) fn hear(&mut self, till: usize, answer: &Answer) -> Result<(), Violation> {
        match answer {
            Answer::Batch(Ok(stored)) => self.hear_stored(till, stored),
            Answer::Batch(Err(refusal)) => self.hear_refusal(till, refusal),
            Answer::Page(Ok(page)) => self.hear_page(till, page),
            Answer::Page(Err(FeedRefusal::SnapshotRequired)) => {
                self.tills[till].wants_snapshot = true;
                Ok(())
            }
            Answer::Page(Err(FeedRefusal::Fork { agreed_through })) => {
                self.hear_fork(till, Some(*agreed_through))
            }
            Answer::Page(Err(
                FeedRefusal::Rollback { .. } | FeedRefusal::NotEnrolled | FeedRefusal::Revoked,
            )) => self.hear_fork(till, None),
            Answer::Snapshot(lines) => self.hear_snapshot(till, lines),
            Answer::Records(Some(records)) => {
                let World { tills, tally, .. } = self;
                let done = tills[till].write(
                    tally,
                    self.now_ms,
                    Order::LogFirst,
                    |store, moment| match store.apply_records(records, moment) {
                        Err(LedgerError::OtherHubEpoch { .. }) => Ok(None),
                        other => other.map(Some),
                    },
                    |sheet, _| sheet.take_records(records),
                )?;
                applied(done)
            }
            Answer::Records(None) => Ok(()),
            Answer::Statuses(list) => {
                let World { tills, tally, .. } = self;
                let done = tills[till].write(
                    tally,
                    self.now_ms,
                    Order::LogFirst,
                    |store, moment| match store.apply_denylist(list, moment) {
                        Err(LedgerError::OtherHubEpoch { .. }) => Ok(None),
                        other => other.map(Some),
                    },
                    |sheet, _| sheet.take_statuses(list),
                )?;
                applied(done)
            }
        }
    }

    fn hear_stored(
        &mut self,
        till: usize,
        stored: &sync_proto::BatchAnswer,
    ) -> Result<(), Violation> {
        let at_till = &self.tills[till];
        let is_doubtful = self.is_doubtful(&at_till.id, at_till.epoch);
        let World { tills, tally, .. } = self;
        let (accepted, durable) = (stored.accepted, stored.durable_through);
        let done = tills[till].write(
            tally,
            self.now_ms,
            Order::LogFirst,
            |store, moment| store.acknowledge(accepted, durable, moment),
            |_, _| {},
        )?;
        match done {
            None => return Ok(()),
            // What another machine wrote is not believed to be stored here, and says that
            // there is one.
            Some(Err(LedgerError::ForeignWatermark { .. })) if is_doubtful => {
                self.fail_upload(till, UploadFailure::Refused);
                let acked = self.tills[till].store()?.progress().acked;
                return self.hear_fork(till, Some(acked));
            }
            Some(done) => done.map_err(|error| broken("hearing an acknowledgement", &error))?,
        }
        self.tills[till].upload.handle_stored();
        self.tally.check(Invariant::NoSaleLost);
        let at_till = &self.tills[till];
        let acked = at_till.store()?.progress().acked as usize;
        let mut told_stored = at_till.sheet.own.iter().take(acked);
        if let Some(own) = told_stored.find(|own| !self.reckoning.has(own)) {
            let what = format!(
                "{} hears that {} is stored, and it is not",
                at_till.id, own.id
            );
            return Err(Violation::of(Invariant::NoSaleLost, what));
        }
        self.make_mistake_at_ack(till)
    }

    fn hear_refusal(&mut self, till: usize, refusal: &BatchRefusal) -> Result<(), Violation> {
        self.fail_upload(till, UploadFailure::Refused);
        match refusal {
            BatchRefusal::Fork { agreed_through } => self.hear_fork(till, Some(*agreed_through)),
            BatchRefusal::NotEnrolled | BatchRefusal::Revoked => self.hear_fork(till, None),
            BatchRefusal::Gap { expected } => {
                let now_ms = self.now_ms;
                self.tills[till].resume_from(*expected, now_ms)
            }
            BatchRefusal::BadChain | BatchRefusal::TooLarge => {
                let what = format!("{} is refused: {refusal:?}", self.tills[till].id);
                Err(Violation::of(Invariant::Works, what))
            }
        }
    }

    /// The till hears that its ledger is not what the hub has under its name.
    fn hear_fork(&mut self, till: usize, agreed_through: Option<u64>) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let at_till = &self.tills[till];
        if !self.is_doubtful(&at_till.id, at_till.epoch) {
            let what = format!("{} is taken for another till", at_till.id);
            return Err(Violation::of(Invariant::Works, what));
        }
        let at_till = &mut self.tills[till];
        if let Some(agreed_through) = agreed_through
            && !at_till.is_forked
        {
            at_till.resume_from(agreed_through + 1, now_ms)?;
        }
        at_till.is_forked = true;
        Ok(())
    }

    fn hear_page(&mut self, till: usize, page: &sync_proto::FeedPage) -> Result<(), Violation> {
        let World { tills, tally, .. } = self;
        let before = tills[till].sheet.feed;
        let done = tills[till].write(
            tally,
            self.now_ms,
            Order::LogFirst,
            |store, moment| match store.apply_page(page, moment) {
                Err(LedgerError::FeedGap { .. } | LedgerError::OtherHubEpoch { .. }) => Ok(None),
                other => other.map(Some),
            },
            |sheet, _| sheet.take_page(page),
        )?;
        applied(done)?;
        self.note_contact(till, before)
    }

    fn hear_snapshot(&mut self, till: usize, lines: &[u8]) -> Result<(), Violation> {
        let Some((header, changes)) = read_snapshot(lines)? else {
            return Ok(());
        };
        let World { tills, tally, .. } = self;
        let before = tills[till].sheet.feed;
        let done = tills[till].write(
            tally,
            self.now_ms,
            Order::LogFirst,
            |store, moment| store.apply_snapshot(&header, &changes, moment).map(Some),
            |sheet, _| sheet.take_snapshot(&header, &changes),
        )?;
        let is_applied = done.is_some();
        applied(done)?;
        if is_applied {
            self.tills[till].wants_snapshot = false;
        }
        self.note_contact(till, before)
    }

    /// The till has heard how accounts stand.
    fn note_contact(
        &mut self,
        till: usize,
        before: sync_proto::FeedPosition,
    ) -> Result<(), Violation> {
        let at_till = &mut self.tills[till];
        at_till.heard_ms = Some(self.now_ms);
        at_till.owes_ack |= at_till.sheet.feed != before;
        self.tally.check(Invariant::Monotone);
        if at_till.sheet.feed.hub_epoch == before.hub_epoch
            && at_till.sheet.feed.cursor < before.cursor
        {
            let what = format!("{} goes back to {:?}", at_till.id, at_till.sheet.feed);
            return Err(Violation::of(Invariant::Monotone, what));
        }
        Ok(())
    }
}

fn applied(
    done: Option<Result<Option<till_ledger::Applied>, LedgerError>>,
) -> Result<(), Violation> {
    match done {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(broken("applying changes", &error)),
    }
}

fn answered(heard: bool) -> &'static str {
    if heard { "" } else { ", and hears nothing" }
}
