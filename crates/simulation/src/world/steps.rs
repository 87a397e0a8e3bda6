//! One step after the other: who does what.

use canteen::{AccountId, BusinessDay, COPENHAGEN, LimitMode, Money};
use hub_ledger::{ChargeAnswer, ChipRow, LimitsChange, TopUpWork};
use jiff::Timestamp;

use super::World;
use super::action::{Action, Card, Fate, Turn, Way, Whom};
use super::gateway::TRANSIT_MS;
use super::office::OfficeAct;
use super::tally::{Fault, Invariant, Violation};

impl World {
    /// Does one thing and checks everything. Gives what happened, in words.
    pub(crate) fn step(&mut self, action: Action) -> Result<String, Violation> {
        self.tally.steps += 1;
        // No two things happen at one moment.
        self.pass(self.now_ms + 1)?;
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
            Action::BackHubUp => self.back_hub_up(),
            Action::RestoreHub => self.restore_hub(),
            Action::Unfreeze => self.unfreeze(),
            Action::ResumeTopUps => self.resume_top_ups(),
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
                let act = if block {
                    OfficeAct::Block(account)
                } else {
                    OfficeAct::Reactivate(account)
                };
                self.office(&format!("account {account} is {words}"), act)
            }
            Action::BlockChip { account, block } => {
                let account = self.account_at(account);
                let chip = self.chips_of(account)?[0].number;
                let words = if block { "blocked" } else { "active again" };
                let act = if block {
                    OfficeAct::BlockChip(chip)
                } else {
                    OfficeAct::ReactivateChip(chip)
                };
                self.office(&format!("chip {chip} is {words}"), act)
            }
            Action::ReplaceChip { account } => {
                let account = self.account_at(account);
                let chip = self.chips_of(account)?[0].number;
                let new = self.new_chip()?;
                let act = OfficeAct::ReplaceChip(chip, new);
                self.office(&format!("chip {chip} is replaced"), act)
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
                self.office(&words, OfficeAct::Limits(account, change))
            }
            Action::Strictness { account, strict } => {
                let account = self.account_at(account);
                let (mode, words) = match strict {
                    true => (LimitMode::Strict, "strict"),
                    false => (LimitMode::Lenient, "lenient"),
                };
                let change = LimitsChange {
                    mode: Some(mode),
                    ..LimitsChange::default()
                };
                let words = format!("the limits of account {account} are {words}");
                self.office(&words, OfficeAct::Limits(account, change))
            }
            Action::Credit { account, kroner } => {
                let account = self.account_at(account);
                let credit = Money::from_kroner(kroner);
                self.reckoning.set_credit(account, credit.ore());
                let words = format!("account {account} may go {kroner} kr below zero");
                self.office(&words, OfficeAct::Credit(account, credit))
            }
            Action::Agree { account, kroner } => {
                let account = self.account_at(account);
                let words = format!("account {account} agrees to top-ups of {kroner} kr");
                let act = if kroner > 0 {
                    let card = self.card_of(account);
                    OfficeAct::Agree(account, Money::from_kroner(kroner), card)
                } else {
                    OfficeAct::EndAgreement(account)
                };
                self.office(&words, act)
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

    /// What the hub's worker does with the first thing that is due.
    pub(crate) fn work_on_top_up(&mut self, card: Card, way: Way) -> Result<String, Violation> {
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
                let words = format!("looked up {}: {}", order.reference, answer.word());
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
        let account = self.hub.read("looking whom a charge is for", |ledger| {
            ledger.top_up_within(hub_ledger::Reach::Everything, id)
        })?;
        let account = account.account;
        self.tally.check(Invariant::Held);
        self.tally.check(Invariant::Spacing);
        let mut answer = match way.request {
            Fate::Arrives => self.gateway.charge(&order, account, card, self.now_ms)?,
            Fate::Twice => {
                self.gateway.charge(&order, account, card, self.now_ms)?;
                self.gateway.charge(&order, account, card, self.now_ms)?
            }
            Fate::Lost => {
                self.tally.inject(Fault::ChargeLost);
                ChargeAnswer::Unknown
            }
            Fate::Late => {
                self.tally.inject(Fault::ChargeLate);
                let drawn = i64::try_from(self.drawn).unwrap_or(0);
                let at_ms = self.now_ms + 1000 + drawn * 7919 % TRANSIT_MS;
                self.gateway
                    .charge_later(order.clone(), account, card, at_ms);
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
            answer.word()
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
