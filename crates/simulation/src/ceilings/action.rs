//! What may happen in a world.

use super::{
    AfterRestore, Cap, Ceilings, Cursor, FeedAck, Ingest, Kroner, Overlay, Payouts, Prune, World,
};

/// One thing that may happen. Tills are numbered from 0, entries from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A till sells, if its decision allows.
    Sell {
        /// The till.
        till: usize,
        /// What for.
        amount: Kroner,
    },
    /// A till takes its newest sale back.
    Void {
        /// The till.
        till: usize,
    },
    /// A till writes its feed cursor into its journal.
    FeedAck {
        /// The till.
        till: usize,
    },
    /// A till tells the hub its feed cursor beside the journal.
    FeedAckBeside {
        /// The till.
        till: usize,
    },
    /// A till learns that the hub was restored and reports its ceiling.
    Report {
        /// The till.
        till: usize,
    },
    /// The hub takes in a slice of a till's journal.
    Push {
        /// The till.
        till: usize,
        /// The first entry.
        first: usize,
        /// The last entry.
        last: usize,
    },
    /// The hub's answer to a push reaches the till.
    HearAck {
        /// The till.
        till: usize,
        /// The last entry that the hub has.
        through: u8,
    },
    /// The till deletes the oldest entries.
    Prune {
        /// The till.
        till: usize,
        /// The last one to go.
        through: u8,
    },
    /// The hub makes a page for a till.
    Issue {
        /// The till's name.
        name: u8,
        /// Whether with all that the hub may grant, or with nothing.
        full: bool,
    },
    /// The hub answers a till's request for pages, after the head check.
    Fetch {
        /// The till.
        till: usize,
    },
    /// A page reaches a till.
    Apply {
        /// The till.
        till: usize,
        /// The page.
        cursor: Cursor,
    },
    /// One krone is paid out centrally.
    PayOut,
    /// One krone is paid in.
    Deposit,
    /// Someone copies a till's disk.
    Clone {
        /// The till.
        till: usize,
    },
    /// A backup of the hub is made.
    BackUp,
    /// The hub is restored from its backup.
    Restore,
}

impl Ceilings {
    pub(super) fn till_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let till = &world.tills[at];
        if till.sales_left > 0 && till.has_room() {
            let amounts = self.scope.amounts.iter();
            actions.extend(
                amounts
                    .filter(|amount| till.approves(**amount, &self.rules))
                    .map(|amount| Action::Sell {
                        till: at,
                        amount: *amount,
                    }),
            );
        }
        if world.left.voids > 0 && till.has_room() && till.voidable().is_some() {
            actions.push(Action::Void { till: at });
        }
        if self.rules.cap == Cap::Issued && till.has_room() && till.owes_feed_ack() {
            actions.push(Action::FeedAck { till: at });
        }
        if self.rules.feed_ack == FeedAck::Beside {
            actions.push(Action::FeedAckBeside { till: at });
        }
        let reports = match self.rules.after_restore {
            AfterRestore::KeepAndReport | AfterRestore::ReissueBackup => true,
            AfterRestore::GoOn => false,
        };
        let epoch = world.hub.epoch;
        if reports && epoch > 0 && till.has_room() && !till.has_reported(epoch) {
            actions.push(Action::Report { till: at });
        }
        self.push_actions(world, at, actions);
        self.forget_actions(world, at, actions);
        self.feed_actions(world, at, actions);
        if world.left.clones > 0 {
            actions.push(Action::Clone { till: at });
        }
    }

    fn push_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let till = &world.tills[at];
        let next = world.hub.standings[usize::from(till.name)].chain.len() + 1;
        let oldest = usize::from(till.pruned) + 1;
        let gaps = match (self.rules.ingest, self.rules.refuses_gaps) {
            (Ingest::Unchecked, _) | (_, false) => till.journal.len(),
            (Ingest::ByIdAndHash | Ingest::BySequence, true) => next,
        };
        // From the next entry, from the oldest again, or (where gaps pass) from anywhere.
        let firsts = (oldest..=till.journal.len())
            .filter(|first| *first == oldest || (*first >= next && *first <= gaps));
        for first in firsts {
            actions.extend((first..=till.journal.len()).map(|last| Action::Push {
                till: at,
                first,
                last,
            }));
        }
    }

    fn forget_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let till = &world.tills[at];
        let chain = &world.hub.standings[usize::from(till.name)].chain;
        let listens = self.rules.overlay == Overlay::UntilAcknowledged
            || self.rules.prune == Prune::WhenAcknowledged;
        if listens && till.continues(chain) {
            let news = till.acknowledged + 1..=chain.len() as u8;
            actions.extend(news.map(|through| Action::HearAck { till: at, through }));
        }
        let prunable = match self.rules.prune {
            Prune::Never => 0,
            Prune::WhenAcknowledged => till.acknowledged,
            Prune::WhenDurable => world
                .backup
                .as_ref()
                .map(|backup| &backup.standings[usize::from(till.name)].chain)
                .map_or(0, |chain| till.agrees_on(chain) as u8),
        };
        if prunable > till.pruned {
            actions.push(Action::Prune {
                till: at,
                through: prunable,
            });
        }
    }

    fn feed_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let till = &world.tills[at];
        let standing = &world.hub.standings[usize::from(till.name)];
        let pages = &world.pages[usize::from(till.name)];
        let under_way = if self.checks_heads() {
            &till.inbox
        } else {
            pages
        };
        if self.checks_heads()
            && !standing.forked
            && till.continues(&standing.chain)
            && pages.iter().any(|page| !till.inbox.contains(page))
        {
            actions.push(Action::Fetch { till: at });
        }
        actions.extend(
            under_way
                .iter()
                .filter(|page| page.cursor > till.cursor || !self.rules.pages_in_order)
                .filter(|page| page.cursor != till.cursor)
                .map(|page| Action::Apply {
                    till: at,
                    cursor: page.cursor,
                }),
        );
    }

    pub(super) fn hub_actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (name, standing) in world.hub.standings.iter().enumerate() {
            if standing.pages < self.scope.pages && !standing.forked {
                let name = name as u8;
                actions.push(Action::Issue { name, full: true });
                if self.rules.cap == Cap::Issued && !world.hub.is_frozen() {
                    actions.push(Action::Issue { name, full: false });
                }
            }
        }
        if world.left.payouts > 0 && self.may_pay_out(world) {
            actions.push(Action::PayOut);
        }
        if world.left.deposits > 0 {
            actions.push(Action::Deposit);
        }
        if world.left.backups > 0 {
            actions.push(Action::BackUp);
        }
        if world.left.restores > 0 && world.backup.is_some() {
            actions.push(Action::Restore);
        }
    }

    /// Guarded, only when what tills may still sell is covered by the rest and what may be overspent.
    fn may_pay_out(&self, world: &World) -> bool {
        let rest = self.balance(world) - 1;
        let guarded = !world.hub.is_frozen()
            && world.hub.outstanding(self.rules.room) <= rest + self.scope.slack;
        rest >= 0
            && match self.rules.payouts {
                Payouts::Guarded => guarded,
                Payouts::Unguarded => true,
            }
    }
}
