//! The end of a run: everything comes to rest on clear lines, and what must be true then is checked.

use canteen::BusinessDay;
use hub_ledger::{Reach, TopUpStage};

use super::World;
use super::action::{Card, Way};
use super::tally::{Invariant, Violation};

impl World {
    /// Lets everything come to an end on clear lines, and checks what must be true then.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.lose_letters();
        self.hub.cut = None;
        for till in &mut self.tills {
            till.cut = None;
            till.line_is_up = true;
        }
        self.resume_top_ups()?;
        self.place_all_charges()?;
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
                let at_till = &self.tills[till];
                let owes_snapshot = at_till.wants_snapshot && !at_till.is_forked;
                let is_settled = !has_sent
                    && progress.waiting() == 0
                    && at_till.sheet.feed == before
                    && !owes_snapshot;
                is_quiet &= is_settled && !self.look_after_old_ledgers(till)?;
                // An acknowledgement changes nothing but the ceilings.
                if !is_settled {
                    self.ack_feed(till)?;
                }
            }
            is_quiet &= self.finish_top_ups()?;
            if is_quiet && !self.end_freeze()? {
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
                ledger.list_top_ups(Reach::Everything, None, None, u32::MAX)
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
        self.check_bookings()?;
        self.check_convergence()
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
        let mut booked = 0;
        for account in self.accounts.clone() {
            let rows = self.statement(&self.hub, account)?;
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

const ROUNDS_MAX: usize = 40;
const TOP_UP_STEPS_MAX: usize = 60;
