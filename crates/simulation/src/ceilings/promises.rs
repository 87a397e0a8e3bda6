//! What must stay true in every world.

use super::till::net;
use super::{Ceilings, Entry, Ingest, Kind, Kroner, World};

impl Ceilings {
    /// INV-4: what the account would hold at the hub if every entry were booked.
    pub fn true_balance(&self, world: &World) -> Kroner {
        let mut given_back = world.hub.given_back;
        let unbooked: Kroner = world
            .distinct_entries()
            .filter(|entry| world.hub.booked & entry.id.bit() == 0)
            .filter(|entry| counts_once(entry.kind, &mut given_back))
            .map(|entry| net(entry.kind))
            .sum();
        self.balance(world) - unbooked
    }

    /// What the account should hold, from what was served and paid, whatever the hub knows.
    pub(super) fn due_balance(&self, world: &World) -> Kroner {
        let mut given_back = 0;
        let taken: Kroner = world
            .distinct_entries()
            .filter(|entry| counts_once(entry.kind, &mut given_back))
            .map(|entry| net(entry.kind))
            .sum();
        self.scope.opening + world.central - taken
    }

    pub(super) fn acknowledges_all(&self, world: &World) -> bool {
        world.tills.iter().all(|till| {
            let chain = &world.hub.standings[usize::from(till.name)].chain;
            // A till takes a watermark only with its own hash.
            let believed = match self.rules.ingest {
                Ingest::ByIdAndHash if till.continues(chain) => chain.len(),
                Ingest::ByIdAndHash => 0,
                Ingest::BySequence | Ingest::Unchecked => chain.len(),
            };
            let mut told_stored = till.journal.iter().take(believed);
            told_stored.all(|entry| world.hub.booked & entry.id.bit() != 0)
        })
    }

    pub(super) fn drains(&self, world: &World) -> bool {
        let drained = self.drained(world);
        let booked = drained.hub.booked;
        drained.hub.booked_again == 0
            && drained.distinct_entries().all(|e| booked & e.id.bit() != 0)
            && self.balance(&drained) == self.due_balance(world)
    }

    pub(super) fn drained(&self, world: &World) -> World {
        let mut drained = world.clone();
        for till in &world.tills {
            let chain = drained.hub.standings[usize::from(till.name)].chain.len();
            let first = match self.rules.ingest {
                Ingest::ByIdAndHash => usize::from(till.pruned) + 1,
                Ingest::BySequence | Ingest::Unchecked => chain + 1,
            };
            let last = till.journal.len();
            if first <= last {
                drained.hub.take_in(till, first, last, &self.rules);
            }
        }
        drained
    }

    pub(super) fn covers(&self, world: &World) -> bool {
        world.hub.is_frozen()
            || world.tills.iter().all(|till| {
                let standing = &world.hub.standings[usize::from(till.name)];
                // What it has sold and not sent counts like what it may still sell.
                let reach = till
                    .ceiling
                    .unwrap_or(0)
                    .max(till.sold(self.rules.counting));
                reach - standing.sold <= standing.outstanding(self.rules.room)
            })
    }
}

impl World {
    /// Every entry once, however many clones bear it.
    fn distinct_entries(&self) -> impl Iterator<Item = &Entry> {
        let mut seen = 0;
        self.tills
            .iter()
            .flat_map(|till| &till.journal)
            .filter(move |entry| {
                let new = seen & entry.id.bit() == 0;
                seen |= entry.id.bit();
                new
            })
    }
}

/// Two clones may both void one sale; it is given back once.
fn counts_once(kind: Kind, given_back: &mut u128) -> bool {
    match kind {
        Kind::Void { of, .. } => {
            let first = *given_back & of.bit() == 0;
            *given_back |= of.bit();
            first
        }
        Kind::Sale { .. } | Kind::FeedAck | Kind::Report { .. } => true,
    }
}
