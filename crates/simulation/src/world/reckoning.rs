//! The reference of the hub: what its books must say, from what was paid in and what tills wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use canteen::{AccountId, BusinessDay};
use hub_ledger::{CanteenId, DebitRow, DebitState, Reach, TopUpStage};
use sync_proto::{Batch, Epoch, FeedPosition, TillId};
use uuid::Uuid;

use super::World;
use super::office::OfficeAct;
use super::sheet::{KnownLimits, Own, What};
use super::tally::{Invariant, Violation};
use super::window::Window;

/// What really happened to the money.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reckoning {
    pub(crate) canteen: Option<CanteenId>,
    accounts: BTreeMap<AccountId, Purse>,
    /// How much of each till's ledger the hub must have.
    pub(crate) accepted: BTreeMap<(TillId, Epoch), u64>,
    /// What all tills could still sell when the hub changed last.
    outstanding: BTreeMap<AccountId, i64>,
    /// Every sale and void that the hub must have.
    booked: BTreeMap<Uuid, Booked>,
    /// Ledgers that more than one machine has written, or whose disk was put back.
    pub(crate) doubtful: BTreeSet<(TillId, Epoch)>,
    /// How often that happened: each copy may spend one till's right once more.
    pub(crate) copies: i64,
    /// What a hub that was put back had booked of such ledgers and knows nothing of any more: it does
    /// not wait for every copy to send it again before it gives the money away.
    lost_of_copies: BTreeMap<AccountId, i64>,
    /// What was done at the hub that moved no money, and when.
    pub(crate) acts: Vec<(i64, OfficeAct)>,
    /// Every batch that the hub has stored.
    pub(crate) taken: Vec<Rc<Batch>>,
    /// Whether one of them held an entry from a time or a day that was still to come.
    pub(crate) is_early: bool,
    /// Whether the hub waited for tills when it changed last.
    was_frozen: bool,
    /// The sales among them that were taken back.
    taken_back: BTreeSet<Uuid>,
    /// Whether accounts and chips could buy, from when on.
    statuses: BTreeMap<Subject, Vec<(i64, bool)>>,
    /// The limits that are strict, and where the hub was when they became it.
    pub(crate) strict_since: BTreeMap<(AccountId, Window), FeedPosition>,
}

/// A sale or a void in the hub's books.
#[derive(Debug, Clone)]
struct Booked {
    what: What,
    day: BusinessDay,
    /// Whose ledger it came from.
    by: (TillId, Epoch),
    /// Whether the account bears it, and not the operator.
    counts: bool,
}

/// Whose status it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Account(AccountId),
    Chip(i64),
}

/// The money of an account that does not come from tills, in øre.
#[derive(Debug, Clone, Copy, Default)]
struct Purse {
    /// Paid in by people and moved by operators.
    central: i64,
    /// Credited by top-ups.
    topped_up: i64,
    /// How far below zero it may go.
    credit: i64,
    /// What was taken away although tills may have been spending it.
    forced: i64,
    /// What was lost with a hub that was put back, although tills may have been spending it.
    lost: i64,
}

impl Reckoning {
    pub(crate) fn open(&mut self, account: AccountId, ore: i64) {
        let purse = Purse {
            central: ore,
            ..Purse::default()
        };
        self.accounts.insert(account, purse);
    }

    fn purse(&mut self, account: AccountId) -> &mut Purse {
        self.accounts.entry(account).or_default()
    }

    /// Money was moved centrally.
    pub(crate) fn move_central(&mut self, account: AccountId, ore: i64) {
        self.purse(account).central += ore;
    }

    /// Money was taken away without the guard.
    pub(crate) fn force(&mut self, account: AccountId, ore: i64) {
        self.purse(account).forced += ore;
    }

    pub(crate) fn set_credit(&mut self, account: AccountId, ore: i64) {
        let purse = self.purse(account);
        // A credit line that ends takes away what tills may be spending.
        purse.forced += (purse.credit - ore).max(0);
        purse.credit = ore;
    }

    /// A restore took away what tills may be spending; below zero it brought something back.
    pub(crate) fn lose(&mut self, account: AccountId, ore: i64) {
        let purse = self.purse(account);
        purse.lost = ore.max(0);
    }

    /// What is true of a hub that was put back to this: what happened to tills stays.
    pub(crate) fn after_restore(mut self, now: &Reckoning) -> Reckoning {
        self.doubtful = now.doubtful.clone();
        self.copies = now.copies;
        // An epoch of after the backup is waited for by nobody, as if it were a copy.
        for key in now.accepted.keys() {
            if !self.accepted.contains_key(key) && self.doubtful.insert(key.clone()) {
                self.copies += 1;
            }
        }
        self.lost_of_copies = now.lost_of_copies.clone();
        for (id, booked) in &now.booked {
            if let What::Sale { account, ore, .. } = booked.what
                && self.doubtful.contains(&booked.by)
                && !self.booked.contains_key(id)
            {
                *self.lost_of_copies.entry(account).or_insert(0) += ore;
            }
        }
        self.is_early |= now.is_early;
        self.was_frozen = true;
        for purse in self.accounts.values_mut() {
            purse.lost = 0;
        }
        self
    }

    /// What is certain without tills: paid in, moved, topped up.
    pub(crate) fn office_balance(&self, account: AccountId) -> i64 {
        let purse = self.accounts.get(&account).copied().unwrap_or_default();
        purse.central + purse.topped_up
    }

    /// The hub has an entry from now on.
    fn take_in(&mut self, own: &Own, by: (TillId, Epoch)) {
        if self.booked.contains_key(&own.id) {
            return;
        }
        let counts = match own.what {
            What::Nothing => return,
            What::Sale { account, chip, .. } => !self.is_lost(account, chip, own.at_ms),
            What::Void { of, .. } => {
                let sale = self.booked.get(&of);
                self.taken_back.insert(of) && sale.is_some_and(|sale| sale.counts)
            }
        };
        let what = own.what;
        let day = own.day;
        self.booked.insert(
            own.id,
            Booked {
                what,
                day,
                by,
                counts,
            },
        );
    }

    /// Whether the hub has what an entry did.
    pub(crate) fn has(&self, own: &Own) -> bool {
        own.what == What::Nothing || self.booked.contains_key(&own.id)
    }

    /// Whether it is booked, and not on the account.
    pub(crate) fn is_borne(&self, own: &Own) -> bool {
        let booked = self.booked.get(&own.id);
        booked.is_some_and(|booked| !booked.counts)
    }

    /// DENY-03: whether a sale came so long after a block that the operator bears it.
    fn is_lost(&self, account: AccountId, chip: i64, at_ms: i64) -> bool {
        let subjects = [Subject::Account(account), Subject::Chip(chip)];
        let since = subjects.iter().filter_map(|subject| {
            let changes = self.statuses.get(subject)?;
            let until = changes.iter().take_while(|(at, _)| *at <= at_ms);
            // The beginning of the last stretch of blocks.
            until.fold(None, |since, (at, active)| match active {
                true => None,
                false => since.or(Some(*at)),
            })
        });
        since.min().is_some_and(|since| at_ms > since + GRACE_MS)
    }

    fn note_status(&mut self, subject: Subject, at_ms: i64, active: bool) {
        let changes = self.statuses.entry(subject).or_default();
        if changes.last().is_none_or(|(_, last)| *last != active) {
            changes.push((at_ms, active));
        }
    }

    /// What entries in the books did to an account.
    fn booked_sales(&self, account: AccountId) -> i64 {
        let counted = self.booked.values().filter(|booked| booked.counts);
        counted.map(|booked| booked.what.taken_from(account)).sum()
    }

    /// The same in the window of a day.
    pub(crate) fn booked_in(&self, account: AccountId, window: Window, on: BusinessDay) -> i64 {
        let counted = self.booked.values().filter(|booked| booked.counts);
        let counted = counted.filter(|booked| window.compare(booked.day, on).is_eq());
        counted.map(|booked| booked.what.taken_from(account)).sum()
    }

    pub(crate) fn floor(&self, account: AccountId) -> i64 {
        let purse = self.accounts.get(&account).copied().unwrap_or_default();
        -(purse.credit + purse.forced + purse.lost)
    }
}

impl World {
    /// What an account would hold if the hub had every entry (INV-4).
    pub(crate) fn true_balance(&self, account: AccountId) -> i64 {
        let waiting = self.unbooked().map(|own| own.what.taken_from(account));
        self.booked_balance(account) - waiting.sum::<i64>()
    }

    /// What the hub must have booked.
    pub(crate) fn booked_balance(&self, account: AccountId) -> i64 {
        self.reckoning.office_balance(account) - self.reckoning.booked_sales(account)
    }

    /// Sales and voids on any disk that the hub does not have yet.
    pub(crate) fn unbooked(&self) -> impl Iterator<Item = &Own> {
        let mut seen = BTreeSet::new();
        let waiting = self.tills.iter().flat_map(|till| {
            let known = if self.is_doubtful(&till.id, till.epoch) {
                0
            } else {
                self.accepted(&till.id, till.epoch)
            };
            let known = usize::try_from(known).unwrap_or(usize::MAX);
            till.sheet.own.iter().skip(known)
        });
        let old = self.old_ledgers.iter().flat_map(|old| &old.sheet.own);
        waiting.chain(old).filter(move |own| {
            let is_new = !self.reckoning.booked.contains_key(&own.id) && seen.insert(own.id);
            is_new
                && match own.what {
                    What::Sale { .. } => true,
                    // What the operator bears gives the account nothing back, and neither does a
                    // second void of one sale.
                    What::Void { of, .. } => {
                        let sale = self.reckoning.booked.get(&of);
                        sale.is_none_or(|sale| sale.counts)
                            && !self.reckoning.taken_back.contains(&of)
                    }
                    What::Nothing => false,
                }
        })
    }

    /// The hub has the entries of a batch from now on, and a till's main chain up to a number.
    pub(crate) fn accept(&mut self, batch: &Batch, through: u64) -> Result<(), Violation> {
        let key = (batch.till.clone(), batch.epoch);
        self.reckoning.accepted.insert(key, through);
        for entry in &batch.entries {
            let own = Own::read(&entry.texts, self.now_ms, |_| KnownLimits::default())?;
            self.reckoning.is_early |= own.is_ahead || own.at_ms > self.now_ms;
            self.reckoning
                .take_in(&own, (batch.till.clone(), batch.epoch));
        }
        let taken = &mut self.reckoning.taken;
        let is_known =
            |known: &Rc<Batch>| known.first_seq == batch.first_seq && known.head == batch.head;
        if !taken.iter().any(is_known) {
            taken.push(Rc::new(batch.clone()));
        }
        Ok(())
    }

    /// Whether a branch was stored before the power failed is told by the sum that its account
    /// holds: its money is there whole or not at all.
    pub(crate) fn adopt_if_booked(&mut self, batch: &Batch, mark: u64) -> Result<(), Violation> {
        let before = self.reckoning.clone();
        self.accept(batch, mark)?;
        for account in self.accounts.clone() {
            let row = self
                .hub
                .read("reading an account", |ledger| ledger.account(account))?;
            if row.balance.ore() != self.booked_balance(account) {
                self.reckoning = before;
                let key = (batch.till.clone(), batch.epoch);
                self.reckoning.accepted.insert(key, mark);
                return Ok(());
            }
        }
        Ok(())
    }

    /// How much of the main chain of a till's current epoch the hub has.
    pub(crate) fn watermark(&self, till: &TillId) -> Result<u64, Violation> {
        let rows = self.hub.read("listing tills", |ledger| {
            ledger.list_tills(Reach::Everything)
        })?;
        let row = rows.iter().find(|row| row.id == *till);
        Ok(row.map_or(0, |row| row.accepted_through))
    }

    /// The same of any epoch: of one that is over only entries that come as a branch are heard.
    pub(crate) fn watermark_of(&self, till: &TillId, epoch: Epoch) -> Result<u64, Violation> {
        let rows = self.hub.read("listing tills", |ledger| {
            ledger.list_tills(Reach::Everything)
        })?;
        let row = rows.iter().find(|row| row.id == *till);
        let row = row.filter(|row| row.epoch == Some(epoch));
        Ok(row.map_or(self.accepted(till, epoch), |row| row.accepted_through))
    }

    /// Takes down who may buy.
    pub(crate) fn note_statuses(&mut self) -> Result<(), Violation> {
        for account in self.accounts.clone() {
            let row = self
                .hub
                .read("reading an account", |ledger| ledger.account(account))?;
            let chips = self.chips_of(account)?;
            let now_ms = self.now_ms;
            let of_account = (Subject::Account(account), row.status);
            let of_chips = chips
                .iter()
                .map(|chip| (Subject::Chip(chip.number), chip.status));
            for (subject, status) in of_chips.chain([of_account]) {
                let active = status == canteen::Status::Active;
                self.reckoning.note_status(subject, now_ms, active);
            }
        }
        Ok(())
    }

    pub(crate) fn accepted(&self, till: &TillId, epoch: Epoch) -> u64 {
        let key = (till.clone(), epoch);
        self.reckoning.accepted.get(&key).copied().unwrap_or(0)
    }

    /// Whether there is or was another machine with the same ledger.
    pub(crate) fn is_doubtful(&self, till: &TillId, epoch: Epoch) -> bool {
        self.reckoning.doubtful.contains(&(till.clone(), epoch))
    }

    /// By how much copies widen a bound: K·C + L. Each copy may spend one till's right once more (K·C).
    /// When the hub was put back, what it had booked since the backup of ledgers with copies may be
    /// spent again (L): the report of one copy ends the wait for all, and the others' sales come later.
    pub(crate) fn allowed_to_copies(&self, account: AccountId) -> i64 {
        let lost = self.reckoning.lost_of_copies.get(&account);
        let rights = self.reckoning.copies * i64::from(self.scene.till_max) * 100;
        rights + lost.copied().unwrap_or(0)
    }

    /// INV-4, after every step: an account is never further below zero than R, its credit, what was
    /// taken by force, what a restore took away, and what copies may spend.
    pub(crate) fn check_bound(&mut self) -> Result<(), Violation> {
        let waiting = self.waiting_debits()?;
        for account in self.accounts.clone() {
            self.tally.check(Invariant::Bound);
            let overspend = i64::from(self.scene.overspend_max) * 100;
            // What is set aside for a debit that waits is still there if the tills spend it.
            let of_account = waiting.iter().filter(|debit| debit.account == account);
            let reserved: i64 = of_account.map(|debit| debit.amount.ore()).sum();
            let copies = self.allowed_to_copies(account);
            let floor = self.reckoning.floor(account) - overspend - reserved - copies;
            let balance = self.true_balance(account);
            if balance < floor {
                let what = format!(
                    "account {account} is really at {balance} øre, at least {floor} was promised"
                );
                return Err(Violation::of(Invariant::Bound, what));
            }
        }
        Ok(())
    }

    /// Debits that wait for tills.
    pub(crate) fn waiting_debits(&self) -> Result<Vec<DebitRow>, Violation> {
        let mut debits = self.hub.read("listing debits", |ledger| {
            ledger.list_debits(Reach::Everything, i64::MAX, u32::MAX)
        })?;
        debits.retain(|debit| debit.state == DebitState::Pending);
        Ok(debits)
    }

    /// Everything that must hold of the hub after it did something.
    pub(crate) fn check_hub(&mut self) -> Result<(), Violation> {
        self.check_watermarks()?;
        self.check_top_ups()?;
        self.tally.check(Invariant::Conservation);
        let sum = self
            .hub
            .read("summing balances", |ledger| ledger.sum_of_balances())?;
        if sum.ore() != 0 {
            let what = format!("all balances together are {sum}");
            return Err(Violation::of(Invariant::Conservation, what));
        }
        let is_frozen = self.is_frozen()?;
        for account in self.accounts.clone() {
            self.check_account(account, is_frozen)?;
        }
        self.reckoning.was_frozen = is_frozen;
        self.check_bound()
    }

    fn check_account(&mut self, account: AccountId, is_frozen: bool) -> Result<(), Violation> {
        self.tally.check(Invariant::Once);
        let (row, outstanding) = self.hub.read("reading an account", |ledger| {
            Ok((ledger.account(account)?, ledger.outstanding(account)?))
        })?;
        let (found, wanted) = (row.balance.ore(), self.booked_balance(account));
        if found != wanted {
            let what = format!("account {account} holds {found} øre at the hub, not {wanted}");
            return Err(Violation::of(Invariant::Once, what));
        }
        self.tally.check(Invariant::HubSafety);
        let outstanding = outstanding.ore();
        let before = self.reckoning.outstanding.insert(account, outstanding);
        let room = found + row.credit.ore() + i64::from(self.scene.overspend_max) * 100;
        // A hub that waits for tills takes over what they may sell, and gives nothing.
        let gives = !is_frozen && !self.reckoning.was_frozen;
        if gives && outstanding > before.unwrap_or(0) && outstanding > room.max(0) {
            let what = format!(
                "tills may sell for {outstanding} øre on account {account}, there is room for {room}"
            );
            return Err(Violation::of(Invariant::HubSafety, what));
        }
        if is_frozen {
            return Ok(());
        }
        // A copy of a till sells beside what the hub knows of; that is what the bound is widened by.
        if self.reckoning.copies > 0 {
            return Ok(());
        }
        // What tills can still sell by what they know, the hub must expect of them.
        let mut held = 0;
        for till in &self.tills {
            let booked = till
                .sheet
                .gross(account, self.accepted(&till.id, till.epoch));
            let sold = till.sheet.gross(account, u64::MAX);
            let ceiling = till.sheet.ceiling(account).unwrap_or(0);
            held += ceiling.max(sold) - booked.min(ceiling.max(sold));
        }
        if held > outstanding {
            let what = format!(
                "tills can sell or have sold {held} øre on account {account} that the hub has not \
                 booked, it expects {outstanding}"
            );
            return Err(Violation::of(Invariant::HubSafety, what));
        }
        Ok(())
    }

    /// The hub has what it must have of every ledger, no more and no less.
    fn check_watermarks(&mut self) -> Result<(), Violation> {
        let rows = self.hub.read("listing tills", |ledger| {
            ledger.list_tills(Reach::Everything)
        })?;
        for till in &self.tills {
            self.tally.check(Invariant::NoSaleLost);
            let row = rows.iter().find(|row| row.id == till.id);
            let found = row.map_or(0, |row| row.accepted_through);
            let wanted = self.accepted(&till.id, till.epoch);
            if row.is_some_and(|row| row.epoch == Some(till.epoch)) && found != wanted {
                let what = format!("the hub has {found} entries of {}, not {wanted}", till.id);
                return Err(Violation::of(Invariant::NoSaleLost, what));
            }
        }
        Ok(())
    }

    /// Takes over what top-ups have credited, and holds them against what cards were charged.
    pub(crate) fn check_top_ups(&mut self) -> Result<(), Violation> {
        let rows = self.hub.read("listing top-ups", |ledger| {
            ledger.list_top_ups(Reach::Everything, None, None, u32::MAX)
        })?;
        for purse in self.reckoning.accounts.values_mut() {
            purse.topped_up = 0;
        }
        let mut active = BTreeMap::new();
        for row in &rows {
            self.tally.check(Invariant::OneCharge);
            let (times, kept) = self.gateway.paid(row.id);
            if times > 1 {
                let what = format!("top-up {} was charged {times} times", row.id);
                return Err(Violation::of(Invariant::OneCharge, what));
            }
            match row.stage {
                TopUpStage::Settled => {
                    self.tally.check(Invariant::Credited);
                    if kept != row.amount.ore() {
                        let what =
                            format!("a top-up credited {}, the card paid {kept} øre", row.amount);
                        return Err(Violation::of(Invariant::Credited, what));
                    }
                    self.reckoning.purse(row.account).topped_up += row.amount.ore();
                }
                TopUpStage::Intent
                | TopUpStage::Requested
                | TopUpStage::Unknown
                | TopUpStage::Refunding
                | TopUpStage::Stuck => *active.entry(row.account).or_insert(0) += 1,
                TopUpStage::Failed | TopUpStage::Cancelled | TopUpStage::Refunded => {}
            }
        }
        for (account, count) in active {
            self.tally.check(Invariant::OneActive);
            if count > 1 {
                let what = format!("account {account} has {count} top-ups under way");
                return Err(Violation::of(Invariant::OneActive, what));
            }
        }
        Ok(())
    }

    /// At the end: every card that was charged was credited or paid back.
    pub(crate) fn check_charged(&mut self) -> Result<(), Violation> {
        let rows = self.hub.read("listing top-ups", |ledger| {
            ledger.list_top_ups(Reach::Everything, None, None, u32::MAX)
        })?;
        for id in self.gateway.paid_top_ups() {
            self.tally.check(Invariant::Credited);
            let row = rows.iter().find(|row| row.id == id);
            let (_, kept) = self.gateway.paid(id);
            let is_right = match row.map(|row| row.stage) {
                Some(TopUpStage::Settled) => kept > 0,
                Some(TopUpStage::Refunded) => kept == 0,
                Some(
                    TopUpStage::Intent
                    | TopUpStage::Requested
                    | TopUpStage::Unknown
                    | TopUpStage::Refunding
                    | TopUpStage::Stuck
                    | TopUpStage::Failed
                    | TopUpStage::Cancelled,
                )
                | None => false,
            };
            if !is_right {
                let what = format!("a card was charged for {row:?}");
                return Err(Violation::of(Invariant::Credited, what));
            }
        }
        Ok(())
    }

    /// How many bookings must stand on the statements of holders.
    pub(crate) fn counted_bookings(&self) -> usize {
        let booked = self.reckoning.booked.values();
        booked.filter(|booked| booked.counts).count()
    }
}

/// How long after a block the account still pays.
const GRACE_MS: i64 = 3_600_000;
