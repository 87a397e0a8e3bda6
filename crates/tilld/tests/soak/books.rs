//! What is true: everything that cashiers were told and operators paid in, reckoned apart from
//! the product.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The true books.
#[derive(Debug)]
pub(crate) struct Books {
    overspend_max: i64,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    accounts: BTreeMap<i64, Account>,
    sales: BTreeMap<String, Sale>,
    declines: BTreeMap<String, u64>,
    unheard: u64,
    lowest: i64,
}

#[derive(Debug)]
struct Account {
    chip: String,
    paid_in: i64,
    /// The balance, with deposits and voids counted from the moment that they are asked for:
    /// whoever may spend them knows of them later than that.
    balance: i64,
}

#[derive(Debug)]
struct Sale {
    account: i64,
    till: String,
    amount: i64,
    voided: bool,
}

impl Books {
    /// Empty books of a hub that allows so much to be overspent.
    pub(crate) fn new(overspend_max: i64) -> Books {
        Books {
            overspend_max,
            facts: Mutex::default(),
        }
    }

    /// An account with a first deposit.
    pub(crate) fn open(&self, account: i64, chip: String, balance: i64) {
        let account_of = Account {
            chip,
            paid_in: balance,
            balance,
        };
        self.facts().accounts.insert(account, account_of);
    }

    /// Money is about to be paid in.
    pub(crate) fn deposit(&self, account: i64, amount: i64) {
        let mut facts = self.facts();
        let account = facts.accounts.get_mut(&account).unwrap();
        account.paid_in += amount;
        account.balance += amount;
    }

    /// A cashier was told that a sale is approved, and serves. This is where the bound must hold.
    pub(crate) fn serve(&self, id: &str, till: &str, chip: &str, amount: i64, unheard: bool) {
        let mut facts = self.facts();
        let (&number, account) = facts
            .accounts
            .iter_mut()
            .find(|(_, account)| account.chip == chip)
            .unwrap();
        account.balance -= amount;
        let balance = account.balance;
        assert!(
            balance >= -self.overspend_max,
            "{chip} is overspent by {} at {till}",
            -balance
        );
        facts.lowest = facts.lowest.min(balance);
        facts.unheard += u64::from(unheard);
        let sale = Sale {
            account: number,
            till: till.to_owned(),
            amount,
            voided: false,
        };
        let before = facts.sales.insert(id.to_owned(), sale);
        assert!(before.is_none(), "{id} was served twice");
    }

    /// A sale is about to be taken back.
    pub(crate) fn void(&self, id: &str) {
        let mut facts = self.facts();
        let sale = facts.sales.get_mut(id).unwrap();
        sale.voided = true;
        let (account, amount) = (sale.account, sale.amount);
        facts.accounts.get_mut(&account).unwrap().balance += amount;
    }

    /// A sale was declined.
    pub(crate) fn decline(&self, reason: &str) {
        *self.facts().declines.entry(reason.to_owned()).or_default() += 1;
    }

    /// The chips.
    pub(crate) fn chips(&self) -> Vec<String> {
        let facts = self.facts();
        facts
            .accounts
            .values()
            .map(|account| account.chip.clone())
            .collect()
    }

    /// The accounts.
    pub(crate) fn accounts(&self) -> Vec<i64> {
        self.facts().accounts.keys().copied().collect()
    }

    /// The account of a chip.
    pub(crate) fn account(&self, chip: &str) -> i64 {
        let facts = self.facts();
        let found = facts
            .accounts
            .iter()
            .find(|(_, account)| account.chip == chip);
        *found.unwrap().0
    }

    /// What an account holds.
    pub(crate) fn balance(&self, account: i64) -> i64 {
        let facts = self.facts();
        let sold: i64 = facts
            .sales
            .values()
            .filter(|sale| sale.account == account && !sale.voided)
            .map(|sale| sale.amount)
            .sum();
        let account = &facts.accounts[&account];
        assert_eq!(account.balance, account.paid_in - sold);
        account.balance
    }

    /// The accounts that are below zero.
    pub(crate) fn below_zero(&self) -> BTreeSet<i64> {
        let facts = self.facts();
        let below = facts
            .accounts
            .iter()
            .filter(|(_, account)| account.balance < 0);
        below.map(|(number, _)| *number).collect()
    }

    /// The rows of an account's statement that come from tills: till, kind and amount, in order.
    pub(crate) fn rows(&self, account: i64) -> Vec<(String, String, i64)> {
        let facts = self.facts();
        let of_account = facts.sales.values().filter(|sale| sale.account == account);
        let mut rows: Vec<_> = of_account
            .flat_map(|sale| {
                let row = |kind: &str, amount| (sale.till.clone(), kind.to_owned(), amount);
                let void = sale.voided.then(|| row("void", sale.amount));
                [Some(row("sale", -sale.amount)), void]
                    .into_iter()
                    .flatten()
            })
            .collect();
        rows.sort();
        rows
    }

    /// How many sales were served.
    pub(crate) fn sales(&self) -> usize {
        self.facts().sales.len()
    }

    /// The figures.
    pub(crate) fn told(&self) -> String {
        let facts = self.facts();
        let voids = facts.sales.values().filter(|sale| sale.voided).count();
        format!(
            "{} sales served ({} of them told only when asked again), {voids} taken back, declined: \
             {:?}; the lowest balance was {} øre, {} øre are allowed",
            facts.sales.len(),
            facts.unheard,
            facts.declines,
            facts.lowest,
            -self.overspend_max
        )
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
