//! The reference of the hub: what its books must say, from what was paid in and what tills wrote.

use std::collections::{BTreeMap, BTreeSet};

use canteen::AccountId;
use hub_ledger::{CanteenId, Reach, TopUpStage};
use sync_proto::{Epoch, TillId};
use uuid::Uuid;

use super::World;
use super::sheet::What;
use super::tally::{Invariant, Violation};

/// What really happened to the money.
#[derive(Debug, Default)]
pub(crate) struct Reckoning {
    pub(crate) canteen: Option<CanteenId>,
    accounts: BTreeMap<AccountId, Purse>,
    /// How much of each till's ledger the hub must have.
    pub(crate) accepted: BTreeMap<(TillId, Epoch), u64>,
    /// What all tills could still sell when the hub changed last.
    outstanding: BTreeMap<AccountId, i64>,
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

    /// What is certain without tills: paid in, moved, topped up.
    pub(crate) fn from_the_office(&self, account: AccountId) -> i64 {
        let purse = self.accounts.get(&account).copied().unwrap_or_default();
        purse.central + purse.topped_up
    }

    fn floor(&self, account: AccountId) -> i64 {
        let purse = self.accounts.get(&account).copied().unwrap_or_default();
        -(purse.credit + purse.forced)
    }
}

impl World {
    /// What an account would hold if the hub had every entry (INV-4).
    pub(crate) fn true_balance(&self, account: AccountId) -> i64 {
        let sold: i64 = self
            .tills
            .iter()
            .map(|till| till.net(account, u64::MAX))
            .sum();
        self.reckoning.from_the_office(account) - sold
    }

    /// What the hub must have booked.
    pub(crate) fn booked_balance(&self, account: AccountId) -> i64 {
        let sold: i64 = self
            .tills
            .iter()
            .map(|till| till.net(account, self.accepted(till)))
            .sum();
        self.reckoning.from_the_office(account) - sold
    }

    pub(crate) fn accepted(&self, till: &super::Till) -> u64 {
        let key = (till.id.clone(), till.epoch);
        self.reckoning.accepted.get(&key).copied().unwrap_or(0)
    }

    /// INV-4, after every step.
    pub(crate) fn check_bound(&mut self) -> Result<(), Violation> {
        for account in self.accounts.clone() {
            self.tally.check(Invariant::Bound);
            let overspend = i64::from(self.scene.overspend_max) * 100;
            let floor = self.reckoning.floor(account) - overspend;
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

    /// INV-5, after every sale: a till keeps a limit by what it knows, so a window is passed at
    /// most once by each till that sold in it.
    ///
    /// Nothing is said about a window in which a till had not heard of a limit, or whose clock ran
    /// ahead of it.
    pub(crate) fn check_limits(&mut self, account: AccountId, at: usize) -> Result<(), Violation> {
        let Some(day) = self.tills[at].last_day() else {
            return Ok(());
        };
        for window in 0..3 {
            let mut sold = 0;
            let mut most = Some(0_i64);
            for till in &self.tills {
                let mut known = Some(0);
                for own in &till.sheet.own {
                    let is_same = match window {
                        0 => own.day == day,
                        1 => own.day.week() == day.week(),
                        _ => own.day.month() == day.month(),
                    };
                    match own.what {
                        What::Sale { account: of, ore } if of == account && is_same => {
                            sold += ore;
                            let limit = own.limits[window].filter(|_| !own.is_ahead);
                            known = known.zip(limit).map(|(one, other)| one.max(other));
                        }
                        What::Void {
                            account: of, ore, ..
                        } if of == account && is_same => sold -= ore,
                        What::Sale { .. } | What::Void { .. } | What::Nothing => {}
                    }
                }
                most = most.zip(known).map(|(sum, more)| sum.saturating_add(more));
            }
            let Some(most) = most else { continue };
            self.tally.check(Invariant::Limits);
            if sold > most {
                let what = format!(
                    "account {account} bought for {sold} øre in one window, all tills together know \
                     limits of {most}"
                );
                return Err(Violation::of(Invariant::Limits, what));
            }
        }
        Ok(())
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
        for account in self.accounts.clone() {
            self.check_account(account)?;
        }
        self.check_bound()
    }

    fn check_account(&mut self, account: AccountId) -> Result<(), Violation> {
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
        if outstanding > before.unwrap_or(0) && outstanding > room.max(0) {
            let what = format!(
                "tills may sell for {outstanding} øre on account {account}, there is room for {room}"
            );
            return Err(Violation::of(Invariant::HubSafety, what));
        }
        // What tills can still sell by what they know, the hub must expect of them.
        let mut held = 0;
        for till in &self.tills {
            let booked = till.sheet.gross(account, self.accepted(till));
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
            let wanted = self.accepted(till);
            if found != wanted {
                let what = format!("the hub has {found} entries of {}, not {wanted}", till.id);
                return Err(Violation::of(Invariant::NoSaleLost, what));
            }
        }
        Ok(())
    }

    /// Takes over what top-ups have credited, and holds them against what cards were charged.
    fn check_top_ups(&mut self) -> Result<(), Violation> {
        let rows = self.hub.read("listing top-ups", |ledger| {
            ledger.list_top_ups(Reach::Everything, None, u32::MAX)
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
            ledger.list_top_ups(Reach::Everything, None, u32::MAX)
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

    /// All sales and voids that were ever written, once each.
    pub(crate) fn written(&self) -> BTreeSet<Uuid> {
        let entries = self.tills.iter().flat_map(|till| &till.sheet.own);
        let money = entries.filter(|own| own.what != What::Nothing);
        money.map(|own| own.id).collect()
    }
}
