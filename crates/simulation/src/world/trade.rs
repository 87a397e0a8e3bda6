//! What people do at a till: buy, take back, close the day.

use canteen::{Decision, Money, PurchaseAmount, TopUpOutcome};
use sync_proto::AuthoriseRequest;
use till_ledger::{LedgerError, PurchaseRequest, VoidRequest, ZRequest};

use super::World;
use super::action::Way;
use super::disk::Order;
use super::message::Request;
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
