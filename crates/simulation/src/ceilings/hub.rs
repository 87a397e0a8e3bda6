//! The hub: what it has booked, what it has issued, and what it must assume about the tills.

use super::till::{gross, net};
use super::{
    AfterRestore, Counting, Cursor, Entry, EntryId, Ingest, KeepAck, Kind, Kroner, Page, Room,
    Rules, Till,
};

/// What the hub keeps, all of it in its backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hub {
    /// The life of its ledger.
    pub epoch: u8,
    /// What tills have taken from the account, less what they gave back.
    pub taken: Kroner,
    /// The entries that are booked.
    pub booked: u128,
    /// The entries that are booked more than once.
    pub booked_again: u128,
    /// The sales that have been given back; a second void of one goes to suspense.
    pub given_back: u128,
    /// What it knows of each till, by name.
    pub standings: Vec<Standing>,
}

/// What the hub knows of one till.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Standing {
    /// The entries taken in, without gaps.
    pub chain: Vec<EntryId>,
    /// What of them counts against the ceiling.
    pub sold: Kroner,
    /// Pages made in this epoch.
    pub pages: u8,
    /// What the last of them said: position, included entries, ceiling.
    pub told: Option<(Kroner, u8, Option<Kroner>)>,
    /// Ceilings that may be in force, with their pages, the oldest first.
    pub issued: Vec<(u8, Kroner)>,
    /// The newest page of this epoch that the till acknowledged.
    pub acknowledged: u8,
    /// Whether two devices write under this name.
    pub forked: bool,
    /// Whether it has reported its ceiling since the hub was restored.
    pub reported: bool,
}

impl Standing {
    /// What the till may still sell, as far as the hub can exclude more.
    pub fn outstanding(&self, room: Room) -> Kroner {
        let ceiling = match room {
            Room::WhenAcknowledged => self.issued.iter().map(|(_, ceiling)| *ceiling).max(),
            Room::WhenIssued => self.issued.last().map(|(_, ceiling)| *ceiling),
        };
        (ceiling.unwrap_or(0) - self.sold).max(0)
    }

    /// Forgets the ceilings that an acknowledged page has replaced.
    pub(super) fn acknowledge(&mut self, page: u8, keep_ack: KeepAck) {
        self.acknowledged = self.acknowledged.max(page);
        let page = self.acknowledged;
        let explicit = self.issued.iter().any(|(at, _)| *at == page);
        let in_force = self.issued.iter().rposition(|(at, _)| *at <= page);
        let first_kept = match (keep_ack, explicit, in_force) {
            (KeepAck::DropsValue, false, Some(at)) => at + 1,
            (KeepAck::RetainsValue | KeepAck::DropsValue, _, Some(at)) => at,
            (_, _, None) => 0,
        };
        self.issued.drain(..first_kept);
    }

    fn take_report(&mut self, page: u8, ceiling: Kroner) {
        self.issued.retain(|(at, _)| *at > page);
        self.issued.insert(0, (page, ceiling));
        self.reported = true;
    }
}

impl Hub {
    /// Whether a restored hub still waits for reports.
    pub fn is_frozen(&self) -> bool {
        self.standings.iter().any(|standing| !standing.reported)
    }

    /// What all tills together may still sell.
    pub fn outstanding(&self, room: Room) -> Kroner {
        self.standings.iter().map(|s| s.outstanding(room)).sum()
    }

    /// What one till may sell on top of what it has.
    pub(super) fn grant(&self, name: u8, balance: Kroner, terms: Terms) -> Kroner {
        let others: Kroner = self
            .standings
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != usize::from(name))
            .map(|(_, standing)| standing.outstanding(terms.room))
            .sum();
        terms
            .cap
            .min(balance)
            .min(balance + terms.slack - others)
            .max(0)
    }

    /// Makes a page with a position, and with a ceiling unless it is to be kept; `None` when it
    /// would say the same as the last one.
    pub(super) fn issue(
        &mut self,
        name: u8,
        position: Kroner,
        ceiling: Option<Kroner>,
    ) -> Option<Page> {
        let epoch = self.epoch;
        let standing = self.standings.get_mut(usize::from(name))?;
        let included = standing.chain.len() as u8;
        let told = Some((position, included, ceiling));
        if standing.told == told {
            return None;
        }
        standing.told = told;
        standing.pages += 1;
        if let Some(ceiling) = ceiling {
            standing.issued.push((standing.pages, ceiling));
        }
        Some(Page {
            cursor: Cursor {
                epoch,
                page: standing.pages,
            },
            position,
            included,
            ceiling,
        })
    }

    /// Takes in a slice of a journal, `first..=last` counted from 1.
    pub(super) fn take_in(&mut self, till: &Till, first: usize, last: usize, rules: &Rules) {
        match rules.ingest {
            Ingest::ByIdAndHash => self.take_in_checked(till, first, last, rules),
            Ingest::BySequence => self.take_in_by_sequence(till, first, last, rules),
            Ingest::Unchecked => self.take_in_unchecked(till, first, last, rules),
        }
    }

    /// Entries are booked by their ids, once; the chain grows by those that follow what the hub has,
    /// and a till with other entries is forked from then on.
    fn take_in_checked(&mut self, till: &Till, first: usize, last: usize, rules: &Rules) {
        let name = usize::from(till.name);
        let accepted = self.standings[name].chain.len();
        let agreed = till.agrees_on(&self.standings[name].chain);
        if first > agreed + 1 && rules.refuses_gaps {
            return;
        }
        let on_main_branch = agreed == accepted;
        for entry in &till.journal[first - 1..last] {
            if self.booked & entry.id.bit() != 0 {
                continue;
            }
            self.post(entry);
            if on_main_branch {
                self.count(name, entry, rules);
            } else {
                self.standings[name].forked = true;
            }
        }
        if on_main_branch {
            let news = till.journal[accepted..].iter().map(|entry| entry.id);
            let booked = self.booked;
            let contiguous = news.take_while(|id| booked & id.bit() != 0);
            self.standings[name].chain.extend(contiguous);
        }
    }

    fn take_in_by_sequence(&mut self, till: &Till, first: usize, last: usize, rules: &Rules) {
        let name = usize::from(till.name);
        for seq in first..=last {
            let accepted = self.standings[name].chain.len();
            if seq != accepted + 1 {
                continue;
            }
            let entry = &till.journal[seq - 1];
            self.post(entry);
            self.count(name, entry, rules);
            self.standings[name].chain.push(entry.id);
        }
    }

    fn take_in_unchecked(&mut self, till: &Till, first: usize, last: usize, rules: &Rules) {
        let name = usize::from(till.name);
        for entry in &till.journal[first - 1..last] {
            self.post(entry);
            self.count(name, entry, rules);
        }
        let accepted = self.standings[name].chain.len();
        let beyond = till.journal.iter().take(last).skip(accepted);
        self.standings[name]
            .chain
            .extend(beyond.map(|entry| entry.id));
    }

    fn post(&mut self, entry: &Entry) {
        if self.booked & entry.id.bit() != 0 {
            self.booked_again |= entry.id.bit();
        }
        self.booked |= entry.id.bit();
        match entry.kind {
            Kind::Void { of, .. } if self.given_back & of.bit() != 0 => {}
            Kind::Void { of, .. } => {
                self.given_back |= of.bit();
                self.taken += net(entry.kind);
            }
            Kind::Sale { .. } | Kind::FeedAck | Kind::Report { .. } => {
                self.taken += net(entry.kind);
            }
        }
    }

    fn count(&mut self, name: usize, entry: &Entry, rules: &Rules) {
        let epoch = self.epoch;
        let standing = &mut self.standings[name];
        standing.sold += match rules.counting {
            Counting::Gross => gross(entry.kind),
            Counting::NetOfVoids => net(entry.kind),
        };
        if entry.cursor.epoch != epoch {
            return;
        }
        if let Kind::Report { ceiling } = entry.kind {
            standing.take_report(entry.cursor.page, ceiling);
        }
        standing.acknowledge(entry.cursor.page, rules.keep_ack);
    }

    /// What becomes of a backup when it is restored into a hub of an epoch.
    pub(super) fn restored(mut self, epoch: u8, rules: &Rules) -> Hub {
        self.epoch = epoch;
        for standing in &mut self.standings {
            let most = standing.issued.iter().map(|(_, ceiling)| *ceiling).max();
            standing.issued = match rules.after_restore {
                AfterRestore::KeepAndReport => vec![],
                AfterRestore::ReissueBackup | AfterRestore::GoOn => {
                    most.map(|ceiling| (0, ceiling)).into_iter().collect()
                }
            };
            standing.reported = match rules.after_restore {
                AfterRestore::KeepAndReport | AfterRestore::ReissueBackup => false,
                AfterRestore::GoOn => true,
            };
            standing.pages = 0;
            standing.told = None;
            standing.acknowledged = 0;
        }
        self
    }
}

/// The figures that ceilings are reckoned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) cap: Kroner,
    pub(super) slack: Kroner,
    pub(super) room: Room,
}
