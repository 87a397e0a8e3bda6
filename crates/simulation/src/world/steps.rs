//! One step after the other: who does what, and the end of a run.

use canteen::{AccountId, BusinessDay, COPENHAGEN, Money};
use hub_ledger::{
    ChargeAnswer, ChipRow, Correction, LedgerError, LimitsChange, Reach, Refusal, TopUpStage,
    TopUpWork,
};
use jiff::Timestamp;

use super::World;
use super::action::{Action, Card, Fate, Turn, Way, Whom};
use super::gateway::TRANSIT_MS;
use super::tally::{Fault, Invariant, Violation, broken};

impl World {
    /// Does one thing and checks everything. Gives what happened, in words.
    pub(crate) fn step(&mut self, action: Action) -> Result<String, Violation> {
        self.tally.steps += 1;
        match action {
            Action::Sell {
                till,
                account,
                chip,
                ore,
                way,
            } => {
                let till = self.till_at(till);
                let account = self.account_at(account);
                let chips = self.chips_of(account)?;
                let chip = chips[usize::from(chip) % chips.len()].uid;
                let done = self.sell(till, chip, ore, way)?;
                let name = &self.tills[till].id;
                Ok(format!(
                    "{name} sells for {} to account {account}: {done}",
                    Money::from_ore(ore)
                ))
            }
            Action::SellAgain { till } => {
                let till = self.till_at(till);
                self.told(till, "asks for its last purchase again", |world| {
                    world.sell_again(till)
                })
            }
            Action::Void { till, back } => {
                let till = self.till_at(till);
                self.told(till, "takes a sale back", |world| world.void(till, back))
            }
            Action::Push { till, most, way } => {
                let till = self.till_at(till);
                self.told(till, "sends", |world| world.push(till, most, way))
            }
            Action::Fetch { till, way } => {
                let till = self.till_at(till);
                self.told(till, "fetches", |world| world.fetch(till, way))
            }
            Action::FetchStatuses { till, way } => {
                let till = self.till_at(till);
                self.told(till, "asks for statuses", |world| {
                    world.fetch_statuses(till, way)
                })
            }
            Action::Z { till } => {
                let till = self.till_at(till);
                self.told(till, "writes a Z report", |world| world.write_z(till))
            }
            Action::AckFeed { till } => {
                let till = self.till_at(till);
                self.told(till, "writes down what it has applied", |world| {
                    world.ack_feed(till)
                })
            }
            Action::Arrive { which } => Ok(format!("late arrives {}", self.arrive(which)?)),
            Action::Line { till, up } => {
                let till = self.till_at(till);
                Ok(self.switch_line(till, up))
            }
            Action::Rest { till } => {
                let till = self.till_at(till);
                self.told(till, "empties its log", |world| world.rest(till))
            }
            Action::Restart { till } => {
                let till = self.till_at(till);
                self.tally.inject(Fault::TillRestart);
                let now_ms = self.now_ms;
                self.forget_answers(till);
                self.told(till, "restarts", |world| {
                    world.tills[till].restart(now_ms)?;
                    world.compare(till)
                })
            }
            Action::PowerCut { till } => {
                let till = self.till_at(till);
                self.tally.inject(Fault::TillPower);
                let now_ms = self.now_ms;
                self.forget_answers(till);
                self.told(till, "loses its power and starts again", |world| {
                    world.tills[till].cut_power(now_ms)?;
                    world.compare(till)
                })
            }
            Action::Clone { till } => {
                let till = self.till_at(till);
                self.told(till, "is copied", |world| world.clone_till(till))
            }
            Action::KeepDisk { till } => {
                let till = self.till_at(till);
                self.told(till, "has its disk copied to a shelf", |world| {
                    world.tills[till].keep_disk()?;
                    Ok("done".to_owned())
                })
            }
            Action::PutDiskBack { till } => {
                let till = self.till_at(till);
                self.told(till, "gets its old disk back", |world| {
                    world.put_disk_back(till)
                })
            }
            Action::Renew { till } => {
                let till = self.till_at(till);
                self.told(till, "is enrolled anew", |world| world.renew(till))
            }
            Action::CutNext { whom, cut } => Ok(match whom {
                Whom::Till(till) => {
                    let till = self.till_at(till);
                    self.tills[till].cut = Some(cut);
                    let name = &self.tills[till].id;
                    format!("in the next transaction of {name} the power fails ({cut:?})")
                }
                Whom::Hub => {
                    self.hub.cut = Some(cut);
                    format!("in the next transaction of the hub the power fails ({cut:?})")
                }
            }),
            Action::HubStops => {
                self.tally.inject(Fault::HubKilled);
                self.hub.kill()?;
                self.check_hub()?;
                Ok("the hub is killed and starts again".to_owned())
            }
            Action::Deposit { account, kroner } => self.deposit(account, kroner),
            Action::Correct {
                account,
                kroner,
                force,
            } => self.correct(account, kroner, force),
            Action::EndDebit { which, force } => self.end_debit(which, force),
            Action::Block { account, block } => {
                let account = self.account_at(account);
                let words = if block { "blocked" } else { "active again" };
                self.office(&format!("account {account} is {words}"), |hub, now| {
                    if block {
                        hub.block_account(account, now)
                    } else {
                        hub.reactivate_account(account, now)
                    }
                })
            }
            Action::BlockChip { account, block } => {
                let account = self.account_at(account);
                let chip = self.chips_of(account)?[0].number;
                let words = if block { "blocked" } else { "active again" };
                self.office(&format!("chip {chip} is {words}"), |hub, now| {
                    if block {
                        hub.block_chip(chip, now)
                    } else {
                        hub.reactivate_chip(chip, now)
                    }
                })
            }
            Action::ReplaceChip { account } => {
                let account = self.account_at(account);
                let chip = self.chips_of(account)?[0].number;
                let new = self.new_chip()?;
                self.office(&format!("chip {chip} is replaced"), |hub, now| {
                    hub.replace_chip(chip, &new, now).map(drop)
                })
            }
            Action::Limit {
                account,
                window,
                kroner,
            } => {
                let account = self.account_at(account);
                let limit = (kroner > 0).then(|| Money::from_kroner(kroner));
                let mut change = LimitsChange::default();
                let name = match window % 3 {
                    0 => {
                        change.day = Some(limit);
                        "daily"
                    }
                    1 => {
                        change.week = Some(limit);
                        "weekly"
                    }
                    _ => {
                        change.month = Some(limit);
                        "monthly"
                    }
                };
                let words = format!("account {account} has a {name} limit of {kroner} kr");
                self.office(&words, |hub, now| hub.change_limits(account, change, now))
            }
            Action::Credit { account, kroner } => {
                let account = self.account_at(account);
                let credit = Money::from_kroner(kroner);
                self.reckoning.set_credit(account, credit.ore());
                let words = format!("account {account} may go {kroner} kr below zero");
                self.office(&words, |hub, now| hub.change_credit(account, credit, now))
            }
            Action::Agree { account, kroner } => {
                let account = self.account_at(account);
                let card = self.card_of(account);
                let words = format!("account {account} agrees to top-ups of {kroner} kr");
                self.office(&words, |hub, now| {
                    if kroner > 0 {
                        hub.make_agreement(account, Money::from_kroner(kroner), &card, now)
                    } else {
                        hub.cancel_agreement(account, now)
                    }
                })
            }
            Action::TopUp { card, way } => {
                let done = self.work_on_top_up(card, way)?;
                self.check_hub()?;
                Ok(format!("the hub looks after top-ups: {done}"))
            }
            Action::Wait { seconds } => {
                self.pass(self.now_ms + i64::from(seconds) * 1000)?;
                Ok(format!("{seconds} s pass"))
            }
            Action::WaitFor { turn, turned } => {
                let at = next(turn, self.now());
                let at = if turned { at } else { at - 1500 };
                self.pass(at)?;
                Ok(format!("time passes until {}", self.now()))
            }
            Action::SetClock { till, seconds } => {
                let till = self.till_at(till);
                Ok(self.set_clock(till, i64::from(seconds) * 1000))
            }
        }
    }

    fn told(
        &mut self,
        till: usize,
        what: &str,
        done: impl FnOnce(&mut World) -> Result<String, Violation>,
    ) -> Result<String, Violation> {
        let done = done(self)?;
        Ok(format!("{} {what}: {done}", self.tills[till].id))
    }

    fn compare(&mut self, till: usize) -> Result<String, Violation> {
        let World { tills, tally, .. } = self;
        tills[till].compare(tally)?;
        tills[till].verify(tally)?;
        Ok("all is there".to_owned())
    }

    fn switch_line(&mut self, till: usize, up: bool) -> String {
        let at_till = &mut self.tills[till];
        if at_till.line_is_up && !up {
            self.tally.inject(Fault::Partition);
        }
        at_till.line_is_up = up;
        let running = at_till.running(self.now_ms);
        if up {
            at_till.upload.handle_urgent(running);
        }
        let words = if up { "is up" } else { "is down" };
        format!("the line of {} {words}", at_till.id)
    }

    fn set_clock(&mut self, till: usize, off_ms: i64) -> String {
        let at_till = &mut self.tills[till];
        if off_ms < at_till.clock_off_ms {
            self.tally.inject(Fault::ClockBack);
        }
        if off_ms > at_till.clock_off_ms {
            self.tally.inject(Fault::ClockAhead);
        }
        at_till.clock_off_ms = off_ms;
        format!("the clock of {} is {} s off", at_till.id, off_ms / 1000)
    }

    pub(crate) fn chips_of(&self, account: AccountId) -> Result<Vec<ChipRow>, Violation> {
        let chips = self
            .hub
            .read("listing chips", |ledger| ledger.chips_of(account))?;
        if chips.is_empty() {
            let what = format!("account {account} has no chip");
            return Err(Violation::of(Invariant::Works, what));
        }
        Ok(chips)
    }

    /// Something that an operator or a guardian does; the hub may refuse it.
    fn office(
        &mut self,
        words: &str,
        op: impl Fn(&mut hub_ledger::HubLedger, Timestamp) -> Result<(), LedgerError>,
    ) -> Result<String, Violation> {
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, words, |ledger| op(ledger, now))?;
        self.note_statuses()?;
        self.check_hub()?;
        Ok(match done {
            Ok(()) => words.to_owned(),
            Err(refusal) => format!("{words}: refused, {refusal}"),
        })
    }

    fn deposit(&mut self, account: u8, kroner: i32) -> Result<String, Violation> {
        let account = self.account_at(account);
        let amount = Money::from_kroner(kroner);
        let key = self.request_key();
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "paying in", |ledger| {
            ledger.deposit(account, amount, &key, now)
        })?;
        let words = format!("{kroner} kr are paid into account {account}");
        let words = match done {
            Ok(_) => {
                self.reckoning.move_central(account, amount.ore());
                words
            }
            Err(refusal @ (Refusal::AccountBlocked | Refusal::AccountClosed)) => {
                format!("{words}: refused, {refusal}")
            }
            Err(refusal) => return Err(broken("paying in", &refusal)),
        };
        self.check_hub()?;
        Ok(words)
    }

    fn correct(&mut self, account: u8, kroner: i32, force: bool) -> Result<String, Violation> {
        let account = self.account_at(account);
        let amount = Money::from_kroner(kroner);
        let correction = Correction {
            amount,
            reason: "prøve".to_owned(),
            force,
        };
        let key = self.request_key();
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "correcting", |ledger| {
            ledger.correct(account, &correction, &key, now)
        })?;
        let words = format!("account {account} is corrected by {kroner} kr");
        let words = match done {
            Ok(_) => {
                self.reckoning.move_central(account, amount.ore());
                if force {
                    self.reckoning.force(account, -amount.ore());
                    format!("{words}, by force")
                } else {
                    words
                }
            }
            Err(refusal) => format!("{words}: refused, {refusal}"),
        };
        self.check_hub()?;
        Ok(words)
    }

    /// A debit that waits for the tills is given back, or goes on all the same.
    fn end_debit(&mut self, which: u8, force: bool) -> Result<String, Violation> {
        let waiting = self.waiting_debits()?;
        if waiting.is_empty() {
            return Ok("no debit waits".to_owned());
        }
        let debit = &waiting[usize::from(which) % waiting.len()];
        let (id, account, ore) = (debit.id, debit.account, debit.amount.ore());
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "ending a debit", |ledger| {
            if force {
                ledger.force_debit(id, now)
            } else {
                ledger.cancel_debit(id, now)
            }
        })?;
        // A refusal is the second answer after a lost one: it waits no more.
        drop(done);
        if force {
            self.reckoning.force(account, ore);
        } else {
            self.reckoning.move_central(account, ore);
        }
        self.check_hub()?;
        let words = if force {
            "goes on by force"
        } else {
            "is given back"
        };
        Ok(format!("a debit of {ore} øre on account {account} {words}"))
    }

    /// What the hub's worker does with the first thing that is due.
    fn work_on_top_up(&mut self, card: Card, way: Way) -> Result<String, Violation> {
        let now = self.now();
        let World { hub, tally, .. } = self;
        if hub
            .write(tally, "ending waits", |ledger| ledger.end_waits(now))?
            .is_none()
        {
            return Ok("its power fails".to_owned());
        }
        let mut work = Vec::new();
        if std::mem::take(&mut self.hub.is_fresh) {
            work = self.hub.read("looking for interrupted charges", |ledger| {
                ledger.interrupted_top_ups()
            })?;
        }
        work.extend(
            self.hub
                .read("looking for top-ups", |ledger| ledger.due_top_ups(now, 1))?,
        );
        let Some(first) = work.into_iter().next() else {
            return Ok("nothing is due".to_owned());
        };
        match first {
            TopUpWork::Charge(id) => self.charge(id, card, way),
            TopUpWork::LookUp(order) => {
                let answer = match (way.request, way.answer) {
                    (Fate::Arrives | Fate::Twice, Fate::Arrives | Fate::Twice) => {
                        self.gateway.look_up(&order)
                    }
                    _ => ChargeAnswer::Unknown,
                };
                let words = format!("looked up {}: {}", order.reference, word(&answer));
                let World { hub, tally, .. } = self;
                hub.write(tally, "recording a look-up", |ledger| {
                    ledger.record_look_up(&order, &answer, now)
                })?;
                Ok(words)
            }
            TopUpWork::Refund(id) => {
                let reference = self.draw_name();
                let World { hub, tally, .. } = self;
                let begun = hub.write(tally, "beginning a refund", |ledger| {
                    ledger.begin_refund(id, &reference, now)
                })?;
                let Some(Some(order)) = begun else {
                    return Ok("no refund is begun".to_owned());
                };
                let answer = match way.request {
                    Fate::Arrives | Fate::Twice => self.gateway.refund(&order),
                    Fate::Lost | Fate::Late => hub_ledger::RefundAnswer::Again,
                };
                let answer = match way.answer {
                    Fate::Arrives | Fate::Twice => answer,
                    Fate::Lost | Fate::Late => hub_ledger::RefundAnswer::Again,
                };
                let World { hub, tally, .. } = self;
                hub.write(tally, "recording a refund", |ledger| {
                    ledger.record_refund(id, &answer, now)
                })?;
                Ok(format!("refunds {}: {answer:?}", order.transaction))
            }
        }
    }

    fn charge(
        &mut self,
        id: hub_ledger::TopUpId,
        card: Card,
        way: Way,
    ) -> Result<String, Violation> {
        let now = self.now();
        let reference = self.draw_name();
        let World { hub, tally, .. } = self;
        let begun = hub.write(tally, "beginning a charge", |ledger| {
            ledger.begin_charge(id, &reference, now)
        })?;
        let Some(order) = begun else {
            return Ok("its power fails".to_owned());
        };
        let Some(order) = order else {
            return Ok("nothing is charged now".to_owned());
        };
        self.tally.check(Invariant::Spacing);
        let mut answer = match way.request {
            Fate::Arrives => self.gateway.charge(&order, card, self.now_ms)?,
            Fate::Twice => {
                self.gateway.charge(&order, card, self.now_ms)?;
                self.gateway.charge(&order, card, self.now_ms)?
            }
            Fate::Lost => {
                self.tally.inject(Fault::ChargeLost);
                ChargeAnswer::Unknown
            }
            Fate::Late => {
                self.tally.inject(Fault::ChargeLate);
                let drawn = i64::try_from(self.drawn).unwrap_or(0);
                let at_ms = self.now_ms + 1000 + drawn * 7919 % TRANSIT_MS;
                self.gateway.charge_later(order.clone(), card, at_ms);
                ChargeAnswer::Unknown
            }
        };
        match way.answer {
            Fate::Arrives | Fate::Twice => {}
            Fate::Lost | Fate::Late => {
                self.tally.inject(Fault::ChargeUnanswered);
                answer = ChargeAnswer::Unknown;
            }
        }
        if matches!(answer, ChargeAnswer::Declined { .. }) {
            self.tally.inject(Fault::ChargeDeclined);
        }
        let words = format!(
            "charges {} on {} as {}: {}",
            order.amount,
            order.card,
            order.reference,
            word(&answer)
        );
        let World { hub, tally, .. } = self;
        let heard = hub.write(tally, "recording a charge", |ledger| {
            ledger.record_charge(&order, &answer, now)
        })?;
        Ok(match heard {
            Some(()) => words,
            None => format!("{words}, and its power fails"),
        })
    }

    /// Lets everything come to an end on clear lines, and checks what must be true then.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.lose_letters();
        self.hub.cut = None;
        for till in &mut self.tills {
            till.cut = None;
            till.line_is_up = true;
        }
        for _ in 0..ROUNDS_MAX {
            let mut is_quiet = true;
            for till in 0..self.tills.len() {
                self.pass(self.now_ms + 31_000)?;
                let running = self.tills[till].running(self.now_ms);
                self.tills[till].upload.handle_line_up();
                self.tills[till].upload.handle_urgent(running);
                // What a till sends, the tills before it have yet to hear of.
                let has_sent = self.tills[till].store()?.progress().waiting() > 0;
                self.push(till, 0, Way::CLEAR)?;
                let before = self.tills[till].sheet.feed;
                self.fetch(till, Way::CLEAR)?;
                let progress = self.tills[till].store()?.progress();
                let is_settled =
                    !has_sent && progress.waiting() == 0 && self.tills[till].sheet.feed == before;
                is_quiet &= is_settled;
                // An acknowledgement changes nothing but the ceilings.
                if !is_settled {
                    self.ack_feed(till)?;
                }
            }
            is_quiet &= self.finish_top_ups()?;
            if is_quiet {
                return self.check_settled();
            }
        }
        Err(Violation::of(Invariant::Works, self.still_under_way()?))
    }

    /// What keeps a world from its end, in words.
    fn still_under_way(&self) -> Result<String, Violation> {
        let mut words = "after a long time on clear lines something is still under way".to_owned();
        for (till, machine) in self.tills.iter().zip(1..) {
            let waiting = till.store()?.progress().waiting();
            if waiting > 0 {
                let name = &till.id;
                words.push_str(&format!(
                    "; machine {machine} ({name}) has {waiting} entries to send"
                ));
            }
        }
        Ok(words)
    }

    /// Works until nothing is under way about top-ups but what a person must look at.
    fn finish_top_ups(&mut self) -> Result<bool, Violation> {
        for _ in 0..TOP_UP_STEPS_MAX {
            let next = self
                .hub
                .read("looking ahead", |ledger| ledger.next_top_up_moment())?;
            let Some(next) = next else { return Ok(true) };
            if next.as_millisecond() > self.now_ms + 6 * 3600 * 1000 {
                return Ok(true);
            }
            self.pass(next.as_millisecond() + 1)?;
            self.work_on_top_up(Card::Pays, Way::CLEAR)?;
            self.check_hub()?;
            let rows = self.hub.read("listing top-ups", |ledger| {
                ledger.list_top_ups(Reach::Everything, None, u32::MAX)
            })?;
            let is_over = |stage| match stage {
                TopUpStage::Settled
                | TopUpStage::Failed
                | TopUpStage::Cancelled
                | TopUpStage::Refunded
                | TopUpStage::Stuck => true,
                TopUpStage::Intent
                | TopUpStage::Requested
                | TopUpStage::Unknown
                | TopUpStage::Refunding => false,
            };
            if rows.iter().all(|row| is_over(row.stage)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn check_settled(&mut self) -> Result<(), Violation> {
        self.check_hub()?;
        self.check_charged()?;
        self.check_days()?;
        self.tally.check(Invariant::Once);
        if let Some(own) = self.unbooked().next() {
            let what = format!("in the end the hub does not have {own:?}");
            return Err(Violation::of(Invariant::Once, what));
        }
        for account in self.accounts.clone() {
            self.tally.check(Invariant::Once);
            let row = self
                .hub
                .read("reading an account", |ledger| ledger.account(account))?;
            let (found, wanted) = (row.balance.ore(), self.true_balance(account));
            if found != wanted {
                let what = format!(
                    "in the end account {account} holds {found} øre at the hub, not {wanted}"
                );
                return Err(Violation::of(Invariant::Once, what));
            }
            for till in self.tills.iter().filter(|till| !till.is_forked) {
                self.tally.check(Invariant::View);
                let day = BusinessDay::of(self.now());
                let shown = till.sheet.shown(account, day).map(|shown| shown.balance);
                if shown != Some(found) {
                    let what = format!(
                        "in the end {} shows {shown:?} of account {account}, not {found}",
                        till.id
                    );
                    return Err(Violation::of(Invariant::View, what));
                }
            }
        }
        let World { tills, tally, .. } = self;
        for till in tills.iter() {
            till.verify(tally)?;
        }
        self.check_bookings()
    }

    /// INV-12: what a till says of its days is what the hub has of them.
    fn check_days(&mut self) -> Result<(), Violation> {
        let reports = self.hub.read("listing Z reports", |ledger| {
            ledger.list_z_reports(Reach::Everything, i64::MAX, u32::MAX)
        })?;
        for row in reports {
            let Some(books) = row.books else { continue };
            self.tally.check(Invariant::Completeness);
            if !books.agree_with(&row.report) {
                let what = format!("{} says {:?}, the hub has {books:?}", row.till, row.report);
                return Err(Violation::of(Invariant::Completeness, what));
            }
        }
        Ok(())
    }

    /// Every sale and every void stands on a statement, and nothing else.
    fn check_bookings(&mut self) -> Result<(), Violation> {
        use hub_ledger::BookingKind;
        let counted = self.counted_bookings();
        let days = BusinessDay::from_date(jiff::civil::Date::MIN)
            ..=BusinessDay::from_date(jiff::civil::Date::MAX);
        let mut booked = 0;
        for account in self.accounts.clone() {
            let days = days.clone();
            let rows = self.hub.read("reading a statement", |ledger| {
                ledger.statement(account, days)
            })?;
            let of_tills = rows
                .iter()
                .filter(|row| matches!(row.kind, BookingKind::Sale | BookingKind::Void));
            booked += of_tills.count();
        }
        self.tally.check(Invariant::Once);
        if booked != counted {
            let what = format!("{booked} sales and voids stand on statements, not {counted}");
            return Err(Violation::of(Invariant::Once, what));
        }
        Ok(())
    }
}

/// When something turns next in Copenhagen.
fn next(turn: Turn, now: Timestamp) -> i64 {
    let today = BusinessDay::of(now);
    let offset = COPENHAGEN.to_offset(now);
    let mut day = today;
    for _ in 0..200 {
        let Some(tomorrow) = day.next() else { break };
        day = tomorrow;
        let Some(begins) = day.begins() else { break };
        let has_turned = match turn {
            Turn::Day => true,
            Turn::Week => day.week() != today.week(),
            Turn::Month => day.month() != today.month(),
            Turn::Clock => COPENHAGEN.to_offset(begins) != offset,
        };
        if has_turned {
            return begins.as_millisecond();
        }
    }
    now.as_millisecond()
}

fn word(answer: &ChargeAnswer) -> &'static str {
    match answer {
        ChargeAnswer::Paid { .. } => "paid",
        ChargeAnswer::Declined { .. } => "declined",
        ChargeAnswer::Pending => "pending",
        ChargeAnswer::NotFound => "not found",
        ChargeAnswer::NotSent => "not sent",
        ChargeAnswer::Refused { .. } => "refused",
        ChargeAnswer::Busy { .. } => "busy",
        ChargeAnswer::Unknown => "nobody knows",
    }
}

const ROUNDS_MAX: usize = 40;
const TOP_UP_STEPS_MAX: usize = 60;
