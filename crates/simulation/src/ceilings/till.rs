//! A till: its journal, what it knows of the account, and when it sells.

use canteen::{
    Account, AccountId, BusinessDay, ChipHolding, ChipIdentity, Contact, Decision, Limits, Money,
    OfflineRules, Purchase, PurchaseAmount, Spent, Status, decide,
};
use jiff::civil;
use std::time::Duration;

use super::{Cap, Counting, Kroner, Overlay, Rules};

/// Which device wrote an entry, and where: different for every entry ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub(super) u8);

impl EntryId {
    /// Entries that one device can write.
    pub(super) const PER_TILL: usize = 32;

    /// The entry in a set of entries.
    pub(super) fn bit(self) -> u128 {
        1 << self.0
    }
}

/// How far a till has read the hub's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// The life of the hub's ledger; a restored hub starts a new one.
    pub epoch: u8,
    /// The number of the page in it; pages count from 1.
    pub page: u8,
}

/// An entry of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// The feed cursor in force when it was written.
    pub cursor: Cursor,
    /// What it says.
    pub kind: Kind,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something was sold.
    Sale {
        /// What it cost.
        amount: Kroner,
    },
    /// A sale was taken back.
    Void {
        /// The sale.
        of: EntryId,
        /// What it cost.
        amount: Kroner,
    },
    /// Nothing but the cursor: a `feed_ack`.
    FeedAck,
    /// A `state_report` after a restore of the hub.
    Report {
        /// The ceiling that the till holds.
        ceiling: Kroner,
    },
}

/// A page of the hub's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    /// Its place in the feed.
    pub cursor: Cursor,
    /// The balance at the hub.
    pub position: Kroner,
    /// How many entries of the till the position contains.
    pub included: u8,
    /// The highest sum of sales; none means that the one in force stays (KEEP).
    pub ceiling: Option<Kroner>,
}

/// A till, or a clone of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Till {
    /// Whose identity it bears.
    pub name: u8,
    /// All entries it wrote or was cloned with.
    pub journal: Vec<Entry>,
    /// How many of the oldest it has deleted.
    pub pruned: u8,
    /// The balance that the hub told last.
    pub position: Kroner,
    /// How many of its entries that balance contains.
    pub included: u8,
    /// The ceiling in force.
    pub ceiling: Option<Kroner>,
    /// The last page applied.
    pub cursor: Cursor,
    /// Pages that the hub has sent to this very device, where heads are checked.
    pub inbox: Vec<Page>,
    /// How many entries it believes the hub to have.
    pub acknowledged: u8,
    /// Sales it may still make in this scope.
    pub sales_left: u8,
}

impl Till {
    /// All sales made, or all less those voided.
    pub fn sold(&self, counting: Counting) -> Kroner {
        self.journal
            .iter()
            .map(|entry| match (entry.kind, counting) {
                (Kind::Sale { amount }, _) => amount,
                (Kind::Void { amount, .. }, Counting::NetOfVoids) => -amount,
                (Kind::Void { .. }, Counting::Gross) => 0,
                (Kind::FeedAck | Kind::Report { .. }, _) => 0,
            })
            .sum()
    }

    /// What the till shows: the hub's position less its own entries that are not in it.
    pub fn shown(&self, overlay: Overlay) -> Kroner {
        let known = match overlay {
            Overlay::UntilIncluded => self.included,
            Overlay::UntilAcknowledged => self.included.max(self.acknowledged),
        };
        let own: Kroner = self.after(known).map(|entry| net(entry.kind)).sum();
        self.position - own
    }

    /// Whether the till sells for an amount: the decision of the real till.
    pub fn approves(&self, amount: Kroner, rules: &Rules) -> bool {
        let Ok(amount) = PurchaseAmount::new(kroner(amount)) else {
            return false;
        };
        let sold = self.sold(rules.counting);
        let holding = ChipHolding {
            chip_status: Status::Active,
            must_prove: false,
            account: Account {
                id: AccountId(1),
                status: Status::Active,
                balance: kroner(self.shown(rules.overlay)),
                credit: Money::ZERO,
                limits: Limits::default(),
                spent: Spent::nothing(DAY),
                strict: None,
                allowance: self.ceiling.map(|ceiling| kroner(ceiling - sold)),
                top_up: None,
            },
        };
        // Which chip it is does not matter here.
        let identity = ChipIdentity::Failed { claimed: None };
        let purchase = Purchase {
            amount,
            on: DAY,
            contact: Contact {
                online: false,
                age: Duration::ZERO,
            },
        };
        match decide(
            Some(&holding),
            identity,
            &purchase,
            &OfflineRules::default(),
        ) {
            Decision::Approve { .. } => true,
            Decision::Decline { .. } => false,
        }
    }

    /// Applies a page; the caller has checked that the till takes it.
    pub(super) fn apply(&mut self, page: &Page, rules: &Rules, most: Kroner) {
        self.position = page.position;
        self.included = page.included;
        self.cursor = page.cursor;
        self.ceiling = match rules.cap {
            Cap::Nothing => None,
            Cap::Static => Some(self.static_ceiling(most)),
            Cap::Issued => page.ceiling.or(self.ceiling),
        };
    }

    /// What the position contains already, and at most C more.
    pub(super) fn static_ceiling(&self, most: Kroner) -> Kroner {
        let before: Kroner = self
            .journal
            .iter()
            .take(usize::from(self.included))
            .map(|entry| gross(entry.kind))
            .sum();
        before + self.position.max(0).min(most)
    }

    /// The newest sale that has not been voided.
    pub(super) fn voidable(&self) -> Option<(EntryId, Kroner)> {
        let voided = |id| {
            self.journal
                .iter()
                .any(|entry| matches!(entry.kind, Kind::Void { of, .. } if of == id))
        };
        self.journal
            .iter()
            .rev()
            .find_map(|entry| match entry.kind {
                Kind::Sale { amount } if !voided(entry.id) => Some((entry.id, amount)),
                Kind::Sale { .. } | Kind::Void { .. } | Kind::FeedAck | Kind::Report { .. } => None,
            })
    }

    /// Whether the cursor in force stands in no entry yet.
    pub(super) fn owes_feed_ack(&self) -> bool {
        let written = self.journal.last().map_or(Cursor::default(), |e| e.cursor);
        written < self.cursor
    }

    /// Whether the till has reported its ceiling in an epoch.
    pub(super) fn has_reported(&self, epoch: u8) -> bool {
        self.journal
            .iter()
            .any(|e| e.cursor.epoch == epoch && matches!(e.kind, Kind::Report { .. }))
    }

    /// Whether the hub's chain is a beginning of this till's journal.
    pub(super) fn continues(&self, chain: &[EntryId]) -> bool {
        chain.len() <= self.journal.len() && self.agrees_on(chain) == chain.len()
    }

    /// How many entries the journal and a chain have in common from the start.
    pub(super) fn agrees_on(&self, chain: &[EntryId]) -> usize {
        self.journal
            .iter()
            .zip(chain)
            .take_while(|(entry, id)| entry.id == **id)
            .count()
    }

    fn after(&self, known: u8) -> impl Iterator<Item = &Entry> {
        self.journal.iter().skip(usize::from(known))
    }
}

/// What an entry takes from the account.
pub(super) fn net(kind: Kind) -> Kroner {
    match kind {
        Kind::Sale { amount } => amount,
        Kind::Void { amount, .. } => -amount,
        Kind::FeedAck | Kind::Report { .. } => 0,
    }
}

/// What an entry sells.
pub(super) fn gross(kind: Kind) -> Kroner {
    match kind {
        Kind::Sale { amount } => amount,
        Kind::Void { .. } | Kind::FeedAck | Kind::Report { .. } => 0,
    }
}

fn kroner(amount: Kroner) -> Money {
    Money::from_kroner(i32::from(amount))
}

const DAY: BusinessDay = BusinessDay::from_date(civil::date(2026, 11, 20));
