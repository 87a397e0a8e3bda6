//! What a till's program does: sell, take back, send, follow the hub.

use canteen::{Decision, Money, PurchaseAmount, TopUpOutcome};
use sync_proto::{AuthoriseRequest, BatchRefusal, FeedRefusal, UploadFailure, UploadStep};
use till_ledger::{LedgerError, PurchaseRequest, VoidRequest, ZRequest};

use super::World;
use super::action::Way;
use super::disk::Order;
use super::message::{Answer, Request, read_snapshot};
use super::sheet::{Tap, What};
use super::tally::{Invariant, Violation, broken};
use super::till::rules;

impl World {
    /// A chip is tapped.
    pub(crate) fn sell(
        &mut self,
        till: usize,
        chip: canteen::ChipId,
        ore: i64,
        way: Way,
    ) -> Result<String, Violation> {
        let now_ms = self.now_ms;
        let at_till = &mut self.tills[till];
        if at_till.heard_ms.is_none() {
            return Ok("the till has no data yet".to_owned());
        }
        let amount = PurchaseAmount::new(Money::from_ore(ore));
        let amount = amount.map_err(|error| broken("pricing", &error))?;
        let request = PurchaseRequest {
            id: at_till.draw_id(now_ms),
            identity: canteen::ChipIdentity::Bare(chip),
            lines: Vec::new(),
            amount,
            online: at_till.online && at_till.line_is_up,
            feed_age: at_till.age(now_ms),
            ask_first: at_till.online && at_till.line_is_up,
        };
        at_till.last = Some(PurchaseRequest {
            ask_first: false,
            ..request.clone()
        });
        let asked = self.purchase(till, &request)?;
        let Asked::HubFirst(account) = asked else {
            return Ok(asked.words());
        };
        let position = self.tills[till].position()?;
        let question = AuthoriseRequest {
            account,
            need: amount.money(),
            entry_id: request.id,
            position,
        };
        let heard = self.ask(till, Request::Authorise(question), way)?;
        let again = PurchaseRequest {
            ask_first: false,
            online: heard,
            ..request
        };
        self.tills[till].last = Some(again.clone());
        let asked = self.purchase(till, &again)?;
        Ok(format!("the hub is asked for more, {}", asked.words()))
    }

    fn purchase(&mut self, till: usize, request: &PurchaseRequest) -> Result<Asked, Violation> {
        let Some(chip) = request.identity.chip() else {
            return Ok(Asked::Nobody);
        };
        let before = self.tills[till].sheet.clone();
        let known = before.own.iter().any(|own| own.id == request.id);
        let World { tills, tally, .. } = self;
        let done = tills[till].write(
            tally,
            self.now_ms,
            Order::LogFirst,
            |store, moment| store.purchase(request.clone(), moment),
            |_, _| {},
        )?;
        let recorded = match done {
            None => {
                self.check_bound()?;
                return Ok(Asked::Nobody);
            }
            Some(Err(error)) => return Err(broken("selling", &error)),
            Some(Ok(recorded)) => recorded,
        };
        if known && !recorded.replayed {
            let what = format!("{} is decided a second time", request.id);
            return Err(Violation::of(Invariant::Once, what));
        }
        let (found, top_up) = match recorded.decision {
            Decision::Approve { top_up, .. } => ("approved", top_up),
            Decision::Decline { reason, top_up } => (reason.code(), top_up),
        };
        let own = self.tills[till].sheet.own.iter();
        let entry = own.rev().find(|own| own.id == request.id).cloned();
        if !recorded.replayed {
            let day = match &entry {
                Some(entry) => entry.day,
                None => match self.tills[till].last_day() {
                    Some(day) => day.max(canteen::BusinessDay::of(self.now())),
                    None => canteen::BusinessDay::of(self.now()),
                },
            };
            let tap = Tap {
                chip,
                ore: request.amount.money().ore(),
                on: day,
                online: request.online,
                age: request.feed_age,
            };
            // Without an entry the day is a guess, and only the allowance does not depend on it.
            if entry.is_some() || found == "unknown_chip" {
                self.judge(till, &before, &tap, found)?;
            }
        }
        if let Some(account) = recorded.ask_for {
            return Ok(Asked::HubFirst(account));
        }
        let is_sale = entry.is_some_and(|own| matches!(own.what, What::Sale { .. }));
        if (found == "approved") != is_sale {
            let what = format!("{found} is not what is written of {}", request.id);
            return Err(Violation::of(Invariant::NoSaleLost, what));
        }
        if let Some(chip) = before.chip(chip) {
            self.check_limits(chip.account, till)?;
        }
        self.check_bound()?;
        let asks = if top_up == TopUpOutcome::Requested {
            ", asking for a top-up"
        } else {
            ""
        };
        Ok(Asked::Decided(format!("{found}{asks}")))
    }

    /// Holds a decision against the reference, one rule after the other.
    fn judge(
        &mut self,
        till: usize,
        before: &super::sheet::Sheet,
        tap: &Tap,
        found: &str,
    ) -> Result<(), Violation> {
        let name = self.tills[till].id.clone();
        let World { tally, .. } = self;
        if let Some(chip) = before.chip(tap.chip)
            && found == "approved"
        {
            tally.check(Invariant::TillSafety);
            let sold = before.gross(chip.account, u64::MAX) + tap.ore;
            let ceiling = before.ceiling(chip.account).unwrap_or(0);
            if sold > ceiling {
                let what =
                    format!("{name} has sold for {sold} øre in all, its ceiling is {ceiling}");
                return Err(Violation::of(Invariant::TillSafety, what));
            }
            tally.check(Invariant::Blocked);
            if chip.status != canteen::Status::Active {
                let what = format!("{name} sells to a chip that it knows to be blocked");
                return Err(Violation::of(Invariant::Blocked, what));
            }
        }
        tally.check(Invariant::Decision);
        let wanted = before.verdict(tap, &rules());
        if found != wanted {
            let what = format!("{name} decides {found}, not {wanted}, about {tap:?}");
            return Err(Violation::of(Invariant::Decision, what));
        }
        Ok(())
    }

    /// The last purchase is asked for again, as after an answer that nobody heard.
    pub(crate) fn sell_again(&mut self, till: usize) -> Result<String, Violation> {
        let Some(request) = self.tills[till].last.clone() else {
            return Ok("there was none".to_owned());
        };
        Ok(self.purchase(till, &request)?.words())
    }

    /// A sale is taken back.
    pub(crate) fn void(&mut self, till: usize, back: u8) -> Result<String, Violation> {
        let now_ms = self.now_ms;
        let at_till = &mut self.tills[till];
        let mut sales = at_till.sales.iter().rev();
        let Some(of) = sales
            .nth(usize::from(back))
            .or(at_till.sales.first())
            .copied()
        else {
            return Ok("there is none".to_owned());
        };
        let is_voided = |sheet: &super::sheet::Sheet| {
            sheet.own.iter().any(|own| match own.what {
                What::Void { of: voided, .. } => voided == of,
                What::Sale { .. } | What::Nothing => false,
            })
        };
        let voided_before = is_voided(&at_till.sheet);
        let request = VoidRequest {
            id: at_till.draw_id(now_ms),
            of,
            lines: Vec::new(),
        };
        let World { tills, tally, .. } = self;
        let done = tills[till].write(
            tally,
            now_ms,
            Order::LogFirst,
            |store, moment| store.void(request.clone(), moment),
            |_, _| {},
        )?;
        self.check_bound()?;
        match done {
            None => Ok("its power fails".to_owned()),
            Some(Ok(_)) if voided_before => {
                let what = format!("sale {of} is taken back twice");
                Err(Violation::of(Invariant::Once, what))
            }
            Some(Ok(voided)) => {
                self.make_mistake_at_void(till, voided.account, voided.amount.ore())?;
                Ok(format!("{} back to {}", voided.amount, voided.account))
            }
            Some(Err(
                error @ (LedgerError::VoidedBefore { .. } | LedgerError::SaleOfAnotherDay { .. }),
            )) => Ok(error.to_string()),
            Some(Err(error)) => Err(broken("taking a sale back", &error)),
        }
    }

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

    /// The totals of the day are written down, and held against the reference.
    pub(crate) fn write_z(&mut self, till: usize) -> Result<String, Violation> {
        let now_ms = self.now_ms;
        let World { tills, tally, .. } = self;
        let request = ZRequest {
            id: tills[till].draw_id(now_ms),
            day: None,
        };
        let done = tills[till].write(
            tally,
            now_ms,
            Order::LogFirst,
            |store, moment| store.z_report(request, moment),
            |_, _| {},
        )?;
        let report = match done {
            None => return Ok("its power fails".to_owned()),
            Some(Err(error)) => return Err(broken("writing a Z report", &error)),
            Some(Ok(done)) => done.report,
        };
        tally.check(Invariant::Completeness);
        let mut wanted = [(0, 0); 2];
        for own in &tills[till].sheet.own {
            let (of, ore) = match own.what {
                What::Sale { ore, .. } => (0, ore),
                What::Void { ore, .. } => (1, ore),
                What::Nothing => continue,
            };
            if own.day == report.day {
                wanted[of] = (wanted[of].0 + 1, wanted[of].1 + ore);
            }
        }
        let found = [report.sales, report.voids].map(|sum| (sum.count, sum.amount.ore()));
        if found != wanted {
            let what = format!("the Z report says {found:?}, the entries {wanted:?}");
            return Err(Violation::of(Invariant::Completeness, what));
        }
        Ok(format!("number {} of {}", report.number, report.day))
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

    /// The log is emptied.
    pub(crate) fn rest(&mut self, till: usize) -> Result<String, Violation> {
        let World { tills, tally, .. } = self;
        let done = tills[till].write(
            tally,
            self.now_ms,
            Order::FileFirst,
            |store, moment| store.rest(moment),
            |_, _| {},
        )?;
        match done {
            None => Ok("its power fails".to_owned()),
            Some(done) => {
                done.map_err(|error| broken("resting", &error))?;
                Ok("done".to_owned())
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
            // SYNC-07: what another machine wrote is not believed to be stored here, and says that
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

/// What became of a tap.
enum Asked {
    /// It was decided.
    Decided(String),
    /// The hub is to be asked for a higher ceiling on the account.
    HubFirst(canteen::AccountId),
    /// The power failed; nobody saw an answer.
    Nobody,
}

impl Asked {
    fn words(&self) -> String {
        match self {
            Asked::Decided(words) => words.clone(),
            Asked::HubFirst(_) => "the hub would be asked".to_owned(),
            Asked::Nobody => "the power fails".to_owned(),
        }
    }
}

fn answered(heard: bool) -> &'static str {
    if heard { "" } else { ", and hears nothing" }
}
