//! The reference of one till: what its ledger must hold and what it must decide, reckoned plainly
//! from what it was told and what it wrote.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use canteen::{AccountId, BusinessDay, ChipId, OfflineRules, Status};
use jiff::Timestamp;
use sync_proto::{
    AccountRecord, Change, ChipRecord, Denylist, EntryBody, EntryTexts, FeedPage, FeedPosition,
    FeedRecords, LimitSharesRecord, Record, SnapshotHeader, StatusOf,
};
use uuid::Uuid;

use super::tally::{Violation, broken};
use super::window::Window;

/// What a till must know and have written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sheet {
    /// Its entries, the first one first.
    pub(crate) own: Vec<Own>,
    /// How far it has applied the hub's changes.
    pub(crate) feed: FeedPosition,
    accounts: BTreeMap<AccountId, Held>,
    chips: BTreeMap<ChipId, (u64, ChipRecord)>,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) id: Uuid,
    pub(crate) day: BusinessDay,
    pub(crate) what: What,
    /// What the till knew then of the account's limits.
    pub(crate) known: KnownLimits,
    /// The till took the day for a later one than it was.
    pub(crate) is_ahead: bool,
    /// When it was, by the till's wall clock.
    pub(crate) at_ms: i64,
}

impl Own {
    /// Reads an entry as it was written. `now_ms` is the true time, `known` is what the till knows
    /// of the account's limits.
    pub(crate) fn read(
        texts: &EntryTexts,
        now_ms: i64,
        known: impl FnOnce(AccountId) -> KnownLimits,
    ) -> Result<Own, Violation> {
        let (header, body) = texts
            .read()
            .map_err(|error| broken("reading an entry", &error))?;
        let what = match body {
            EntryBody::Sale(sale) => What::Sale {
                account: sale.account,
                chip: sale.chip,
                ore: sale.amount.ore(),
            },
            EntryBody::Void(void) => What::Void {
                of: void.of,
                account: void.account,
                ore: void.amount.ore(),
            },
            EntryBody::Decline(_)
            | EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => What::Nothing,
        };
        let at: Timestamp = header
            .ts
            .parse()
            .map_err(|error| broken("reading a time", &error))?;
        let today = Timestamp::from_millisecond(now_ms).map(BusinessDay::of);
        Ok(Own {
            id: header.id,
            day: header.day,
            what,
            known: match what {
                What::Sale { account, .. } => known(account),
                What::Void { .. } | What::Nothing => KnownLimits::default(),
            },
            is_ahead: today.is_ok_and(|today| header.day > today),
            at_ms: at.as_millisecond(),
        })
    }
}

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Sale {
        account: AccountId,
        chip: i64,
        ore: i64,
    },
    Void {
        of: Uuid,
        account: AccountId,
        ore: i64,
    },
    Nothing,
}

impl What {
    /// How much it takes from an account; below zero it gives back.
    pub(crate) fn taken_from(self, account: AccountId) -> i64 {
        match self {
            What::Sale {
                account: of, ore, ..
            } if of == account => ore,
            What::Void {
                account: of, ore, ..
            } if of == account => -ore,
            What::Sale { .. } | What::Void { .. } | What::Nothing => 0,
        }
    }
}

/// An account as the hub told it last.
#[derive(Debug, Clone)]
struct Held {
    rv: u64,
    record: AccountRecord,
    /// The ceiling that was told last; a record without one keeps it.
    ceiling: Option<i64>,
    /// The shares that were told last while limits are strict; a record without them keeps them.
    shares: Option<ToldShares>,
}

/// A till's shares of strict limits, and where the hub was when it told them.
#[derive(Debug, Clone, Copy)]
struct ToldShares {
    shares: LimitSharesRecord,
    at: FeedPosition,
}

/// What a till knows of an account's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct KnownLimits {
    /// Of day, week and month.
    pub(crate) limits: [Option<i64>; 3],
    /// Where the hub was when it told the shares that the till sells by; none while limits are
    /// lenient.
    pub(crate) shares_told: Option<FeedPosition>,
}

/// What a till must show of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) balance: i64,
    pub(crate) allowance: i64,
    pub(crate) status: Status,
    /// Day, week and month as of a day.
    pub(crate) spent: [i64; 3],
    /// What may be sold of strict limits.
    pub(crate) of_shares: Option<i64>,
}

impl Sheet {
    pub(crate) fn take_page(&mut self, page: &FeedPage) {
        let first = self.feed == FeedPosition::default();
        let same_hub = page.hub_epoch == self.feed.hub_epoch;
        if !(same_hub || first) || page.from > self.feed.cursor {
            return;
        }
        if same_hub && page.to <= self.feed.cursor {
            return;
        }
        let cursor = self.feed.cursor;
        for change in page.changes.iter().filter(|change| change.rv > cursor) {
            self.take(change, page.hub_epoch);
        }
        self.feed = FeedPosition {
            hub_epoch: page.hub_epoch,
            cursor: page.to,
        };
    }

    pub(crate) fn take_records(&mut self, records: &FeedRecords) {
        if records.hub_epoch == self.feed.hub_epoch {
            let changes = records.changes.iter();
            changes.for_each(|change| self.take(change, records.hub_epoch));
        }
    }

    pub(crate) fn take_statuses(&mut self, list: &Denylist) {
        if list.hub_epoch != self.feed.hub_epoch {
            return;
        }
        for change in &list.changes {
            let (status, rv) = match change.of {
                StatusOf::Account(id) => match self.accounts.get_mut(&id) {
                    Some(held) => (&mut held.record.status, &mut held.record.status_rv),
                    None => continue,
                },
                StatusOf::Chip(number) => {
                    let mut chips = self.chips.values_mut();
                    match chips.find(|(_, chip)| chip.number == number) {
                        Some((_, chip)) => (&mut chip.status, &mut chip.status_rv),
                        None => continue,
                    }
                }
            };
            if change.status_rv > *rv {
                (*status, *rv) = (change.status, change.status_rv);
            }
        }
    }

    pub(crate) fn take_snapshot(&mut self, header: &SnapshotHeader, changes: &[Change]) {
        let same_hub = header.hub_epoch == self.feed.hub_epoch;
        if same_hub && header.as_of < self.feed.cursor {
            return;
        }
        let before = std::mem::take(&mut self.accounts);
        let chips = std::mem::take(&mut self.chips);
        for change in changes {
            self.take(change, header.hub_epoch);
        }
        for (id, held) in before {
            if let Some(now) = self.accounts.get_mut(&id) {
                now.ceiling = now.ceiling.or(held.ceiling);
                let shares = now.shares.or(held.shares);
                now.shares = shares.filter(|_| now.record.limits.strict);
                let told = &mut now.record;
                if same_hub && held.record.status_rv > told.status_rv {
                    (told.status, told.status_rv) = (held.record.status, held.record.status_rv);
                }
            }
        }
        for (uid, (_, known)) in chips {
            if let Some((_, told)) = self.chips.get_mut(&uid)
                && same_hub
                && known.status_rv > told.status_rv
            {
                (told.status, told.status_rv) = (known.status, known.status_rv);
            }
        }
        self.feed = FeedPosition {
            hub_epoch: header.hub_epoch,
            cursor: header.as_of,
        };
    }

    fn take(&mut self, change: &Change, hub_epoch: u64) {
        match &change.record {
            Record::Account(record) => {
                let before = self.accounts.get(&record.id);
                if before.is_some_and(|held| held.rv >= change.rv) {
                    return;
                }
                let kept = before.and_then(|held| held.ceiling);
                // A status that came ahead of the record stays when it is the newer one.
                let newer = before
                    .map(|held| (held.record.status, held.record.status_rv))
                    .filter(|(_, rv)| *rv > record.status_rv);
                let at = FeedPosition {
                    hub_epoch,
                    cursor: change.rv,
                };
                let told = record.shares.map(|shares| ToldShares { shares, at });
                let shares = told.or(before.and_then(|held| held.shares));
                let mut held = Held {
                    rv: change.rv,
                    shares: shares.filter(|_| record.limits.strict),
                    ceiling: record.ceiling.map(|money| money.ore()).or(kept),
                    record: record.clone(),
                };
                // What it has not written itself is a copy's.
                let written = u64::try_from(self.own.len()).unwrap_or(u64::MAX);
                held.record.incl_seq = held.record.incl_seq.min(written);
                if let Some(newer) = newer {
                    (held.record.status, held.record.status_rv) = newer;
                }
                self.accounts.insert(record.id, held);
            }
            Record::Chip(record) => {
                let before = self.chips.get(&record.uid);
                if before.is_none_or(|(rv, _)| *rv < change.rv) {
                    let newer = before
                        .map(|(_, known)| (known.status, known.status_rv))
                        .filter(|(_, rv)| *rv > record.status_rv);
                    let mut told = record.clone();
                    if let Some(newer) = newer {
                        (told.status, told.status_rv) = newer;
                    }
                    self.chips.insert(record.uid, (change.rv, told));
                }
            }
            Record::AccountGone { .. }
            | Record::ChipGone { .. }
            | Record::Holder(_)
            | Record::HolderGone { .. }
            | Record::Product(_)
            | Record::ProductGone { .. }
            | Record::ChipKeys
            | Record::Unknown => {}
        }
    }

    /// Its sales on an account, gross, of which the first `through` entries only.
    pub(crate) fn gross(&self, account: AccountId, through: u64) -> i64 {
        let through = usize::try_from(through).unwrap_or(usize::MAX);
        let sales = self.own.iter().take(through).map(|own| match own.what {
            What::Sale {
                account: of, ore, ..
            } if of == account => ore,
            What::Sale { .. } | What::Void { .. } | What::Nothing => 0,
        });
        sales.sum()
    }

    /// The highest sum of sales that the till may make on an account.
    pub(crate) fn ceiling(&self, account: AccountId) -> Option<i64> {
        let held = self.accounts.get(&account)?;
        let without = || self.gross(account, held.record.incl_seq) + UNHEARD_ORE;
        Some(held.ceiling.unwrap_or_else(without))
    }

    /// The limits of day, week and month.
    pub(crate) fn limits(&self, account: AccountId) -> [Option<i64>; 3] {
        let limits = self.accounts.get(&account).map(|held| held.record.limits);
        let limits = limits.unwrap_or_default();
        [limits.day, limits.week, limits.month].map(|limit| limit.map(|money| money.ore()))
    }

    /// What it knows of an account's limits.
    pub(crate) fn known_limits(&self, account: AccountId) -> KnownLimits {
        let held = self.accounts.get(&account);
        KnownLimits {
            limits: self.limits(account),
            shares_told: held.and_then(|held| held.shares).map(|told| told.at),
        }
    }

    /// What it may still sell of strict limits on a day; none when nothing bounds it.
    pub(crate) fn left_of_shares(&self, account: AccountId, on: BusinessDay) -> Option<i64> {
        let held = self.accounts.get(&account)?;
        if !held.record.limits.strict {
            return None;
        }
        let shares = held.shares.map(|told| told.shares);
        let since = shares.map_or(on, |shares| shares.on);
        let of_window = shares.map(|shares| [shares.day, shares.week, shares.month]);
        let left = Window::ALL.into_iter().zip(self.limits(account));
        let left = left
            .filter(|(_, limit)| limit.is_some())
            .map(|(window, _)| {
                let Some(share) = of_window.and_then(|of_window| of_window[window as usize]) else {
                    return 0;
                };
                let left = match window.compare(since, on) {
                    Ordering::Equal => share.ceiling.ore() - self.gross(account, u64::MAX),
                    Ordering::Less => share.ahead.ore() - self.gross_in(account, window, on),
                    Ordering::Greater => 0,
                };
                left.max(0)
            });
        left.min()
    }

    /// Its sales on an account in the window of a day, gross.
    fn gross_in(&self, account: AccountId, window: Window, on: BusinessDay) -> i64 {
        let own = self
            .own
            .iter()
            .filter(|own| window.compare(own.day, on).is_eq());
        let sales = own.filter(|own| matches!(own.what, What::Sale { .. }));
        sales.map(|own| own.what.taken_from(account)).sum()
    }

    pub(crate) fn chips(&self) -> impl Iterator<Item = ChipId> {
        self.chips.keys().copied()
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.keys().copied()
    }

    /// An account with the own entries counted in that the hub had not.
    pub(crate) fn shown(&self, account: AccountId, on: BusinessDay) -> Option<Shown> {
        let Held { record, .. } = self.accounts.get(&account)?;
        let mut balance = record.position.ore();
        let [day, week, month] = [record.spent.day, record.spent.week, record.spent.month];
        let mut spent = [0; 3];
        let mut count = |of: BusinessDay, amounts: [i64; 3]| {
            let same = [of == on, of.week() == on.week(), of.month() == on.month()];
            for ((sum, amount), same) in spent.iter_mut().zip(amounts).zip(same) {
                *sum += if same { amount } else { 0 };
            }
        };
        count(record.spent.on, [day.ore(), week.ore(), month.ore()]);
        let since = usize::try_from(record.incl_seq).unwrap_or(usize::MAX);
        for own in self.own.iter().skip(since) {
            let moved = match own.what {
                What::Sale {
                    account: of, ore, ..
                } if of == account => ore,
                What::Void {
                    account: of, ore, ..
                } if of == account => -ore,
                What::Sale { .. } | What::Void { .. } | What::Nothing => continue,
            };
            balance -= moved;
            count(own.day, [moved; 3]);
        }
        let left = self.ceiling(account)? - self.gross(account, u64::MAX);
        Some(Shown {
            balance,
            allowance: left,
            status: record.status,
            spent,
            of_shares: self.left_of_shares(account, on),
        })
    }

    pub(crate) fn chip(&self, chip: ChipId) -> Option<&ChipRecord> {
        self.chips.get(&chip).map(|(_, record)| record)
    }

    /// What the till must decide, in the words of the contract.
    pub(crate) fn verdict(&self, tap: &Tap, rules: &OfflineRules) -> &'static str {
        let Some(chip) = self.chip(tap.chip) else {
            return "unknown_chip";
        };
        let (Some(shown), Some(held)) = (
            self.shown(chip.account, tap.on),
            self.accounts.get(&chip.account),
        ) else {
            return "unknown_chip";
        };
        let record = &held.record;
        let limits = [record.limits.day, record.limits.week, record.limits.month];
        let over =
            |at: usize| limits[at].is_some_and(|limit| shown.spent[at] + tap.ore > limit.ore());
        let stale = tap.age > rules.stopped_after
            || tap.age > rules.restricted_after && tap.ore > rules.meal_price.ore();
        if chip.status != Status::Active {
            "chip_blocked"
        } else if shown.status != Status::Active {
            "account_blocked"
        } else if stale {
            "stale_data"
        } else if over(0) {
            "limit_day"
        } else if over(1) {
            "limit_week"
        } else if over(2) {
            "limit_month"
        } else if shown.balance + record.credit.ore() < tap.ore {
            "insufficient_funds"
        } else if self
            .left_of_shares(chip.account, tap.on)
            .is_some_and(|left| tap.ore > left)
        {
            "limit_not_here"
        } else if tap.ore > shown.allowance || !tap.online && tap.ore > rules.purchase_max.ore() {
            "offline_allowance"
        } else {
            "approved"
        }
    }
}

/// A purchase as the till sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    pub(crate) chip: ChipId,
    pub(crate) ore: i64,
    pub(crate) on: BusinessDay,
    pub(crate) online: bool,
    pub(crate) age: Duration,
}

/// The most that a till sells on an account for which no ceiling was ever told.
const UNHEARD_ORE: i64 = 200_00;
