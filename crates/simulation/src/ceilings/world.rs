//! The model: all that may happen to a hub and its tills, and what must stay true.

use stateright::{Model, Property};

use super::hub::Terms;
use super::till::{gross, net};
use super::{
    ACKSAFE, AfterRestore, BOUND, COVERED, Cap, Cursor, DRAIN, Entry, EntryId, FeedAck, Hub,
    Ingest, Kind, Kroner, ONCE, Overlay, Page, Payouts, Prune, Rules, Scope, Standing, Till,
};
use crate::check::Told;

/// A configuration of the offline protocol.
#[derive(Debug, Clone)]
pub struct Ceilings {
    /// The rules.
    pub rules: Rules,
    /// How much may happen.
    pub scope: Scope,
    /// The claim: the true balance never falls below minus this.
    pub bound: Kroner,
    /// The properties to judge.
    pub promises: Vec<&'static str>,
}

/// Hub, tills and what is under way between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The hub.
    pub hub: Hub,
    /// The tills, clones last.
    pub tills: Vec<Till>,
    /// The hub's feed pages, by the till's name. Where heads are not checked any of them may reach
    /// a till at any time, else those in its inbox.
    pub pages: Vec<Vec<Page>>,
    /// The hub's backup, if one was made.
    pub backup: Option<Box<Hub>>,
    /// Deposits less payouts. Banks and gateways have records of them, so a restore of the hub
    /// does not lose them (SYNC-21.5).
    pub central: Kroner,
    /// What may still happen.
    pub left: Left,
}

/// What may still happen in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    /// Voids.
    pub voids: u8,
    /// Deposits.
    pub deposits: u8,
    /// Payouts.
    pub payouts: u8,
    /// Clones.
    pub clones: u8,
    /// Backups.
    pub backups: u8,
    /// Restores.
    pub restores: u8,
}

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
    /// A till takes its newest sale back (REF-01).
    Void {
        /// The till.
        till: usize,
    },
    /// A till writes its feed cursor into its journal (SYNC-04).
    FeedAck {
        /// The till.
        till: usize,
    },
    /// A till tells the hub its feed cursor beside the journal.
    FeedAckBeside {
        /// The till.
        till: usize,
    },
    /// A till learns that the hub was restored and reports its ceiling (SYNC-21.3).
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
        /// Whether with all that OB-07 allows, or with nothing.
        full: bool,
    },
    /// The hub answers a till's request for pages, after the head check (SYNC-13).
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
    /// What the account holds at the hub.
    pub fn balance(&self, world: &World) -> Kroner {
        self.scope.opening + world.central - world.hub.taken
    }

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
    fn due_balance(&self, world: &World) -> Kroner {
        let mut given_back = 0;
        let taken: Kroner = world
            .distinct_entries()
            .filter(|entry| counts_once(entry.kind, &mut given_back))
            .map(|entry| net(entry.kind))
            .sum();
        self.scope.opening + world.central - taken
    }

    fn terms(&self) -> Terms {
        Terms {
            cap: self.scope.cap,
            slack: self.scope.slack,
            room: self.rules.room,
        }
    }

    fn acknowledges_all(&self, world: &World) -> bool {
        world.tills.iter().all(|till| {
            let chain = &world.hub.standings[usize::from(till.name)].chain;
            // SYNC-07: a till takes a watermark only with its own hash.
            let believed = match self.rules.ingest {
                Ingest::ByIdAndHash if till.continues(chain) => chain.len(),
                Ingest::ByIdAndHash => 0,
                Ingest::BySequence | Ingest::Unchecked => chain.len(),
            };
            let mut told_stored = till.journal.iter().take(believed);
            told_stored.all(|entry| world.hub.booked & entry.id.bit() != 0)
        })
    }

    fn drains(&self, world: &World) -> bool {
        let drained = self.drained(world);
        let booked = drained.hub.booked;
        drained.hub.booked_again == 0
            && drained.distinct_entries().all(|e| booked & e.id.bit() != 0)
            && self.balance(&drained) == self.due_balance(world)
    }

    fn drained(&self, world: &World) -> World {
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

    fn covers(&self, world: &World) -> bool {
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

    fn till_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
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

    fn hub_actions(&self, world: &World, actions: &mut Vec<Action>) {
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

    /// OB-08.
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

    /// Where no image is ever cloned the head check passes always.
    fn checks_heads(&self) -> bool {
        self.rules.head_check && self.scope.clones > 0
    }

    fn issue(&self, world: &mut World, name: u8, full: bool) {
        let balance = self.balance(world);
        let standing = &world.hub.standings[usize::from(name)];
        let ceiling = match (self.rules.cap, world.hub.is_frozen()) {
            (Cap::Nothing | Cap::Static, _) => None,
            (Cap::Issued, false) if full => {
                Some(standing.sold + world.hub.grant(name, balance, self.terms()))
            }
            (Cap::Issued, false) => Some(standing.sold),
            (Cap::Issued, true) => standing.issued.iter().map(|(_, ceiling)| *ceiling).max(),
        };
        if let Some(page) = world.hub.issue(name, balance, ceiling) {
            world.pages[usize::from(name)].push(page);
        }
    }

    /// Drops what can no longer make a difference, so that worlds that cannot be told apart by
    /// anything to come are the same world.
    fn tidy(&self, world: &mut World) {
        if !self.rules.pages_in_order {
            return;
        }
        for till in &mut world.tills {
            till.inbox.retain(|page| page.cursor > till.cursor);
        }
        for (name, pages) in world.pages.iter_mut().enumerate() {
            let bearers = world
                .tills
                .iter()
                .filter(|till| usize::from(till.name) == name);
            let least = bearers.map(|till| till.cursor).min().unwrap_or_default();
            pages.retain(|page| page.cursor > least);
        }
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

    fn write(&mut self, at: usize, kind: Kind) {
        let till = &mut self.tills[at];
        let id = EntryId((at * EntryId::PER_TILL + till.journal.len()) as u8);
        let cursor = till.cursor;
        till.journal.push(Entry { id, cursor, kind });
    }
}

impl Till {
    fn has_room(&self) -> bool {
        self.journal.len() < EntryId::PER_TILL
    }
}

/// Two clones may both void one sale; it is given back once (REF-03).
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

impl Model for Ceilings {
    type State = World;
    type Action = Action;

    /// Every till has applied and acknowledged one snapshot; ceilings were allotted in turn.
    fn init_states(&self) -> Vec<World> {
        let scope = &self.scope;
        let mut hub = Hub {
            epoch: 0,
            taken: 0,
            booked: 0,
            booked_again: 0,
            given_back: 0,
            standings: vec![],
        };
        let mut tills = vec![];
        for name in 0..scope.tills {
            let allotted = hub.grant(name, scope.opening, self.terms());
            let ceiling = match self.rules.cap {
                Cap::Nothing => None,
                Cap::Static => Some(scope.opening.min(scope.cap)),
                Cap::Issued => Some(allotted),
            };
            let told = match self.rules.cap {
                Cap::Nothing | Cap::Static => None,
                Cap::Issued => ceiling,
            };
            hub.standings.push(Standing {
                chain: vec![],
                sold: 0,
                pages: 0,
                told: Some((scope.opening, 0, told)),
                issued: told.map(|ceiling| (0, ceiling)).into_iter().collect(),
                acknowledged: 0,
                forked: false,
                reported: true,
            });
            tills.push(Till {
                name,
                journal: vec![],
                pruned: 0,
                position: scope.opening,
                included: 0,
                ceiling,
                cursor: Cursor::default(),
                inbox: vec![],
                acknowledged: 0,
                sales_left: scope.sales,
            });
        }
        vec![World {
            hub,
            tills,
            pages: vec![vec![]; usize::from(scope.tills)],
            backup: None,
            central: 0,
            left: Left {
                voids: scope.voids,
                deposits: scope.deposits,
                payouts: scope.payouts,
                clones: scope.clones,
                backups: scope.restores,
                restores: scope.restores,
            },
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for at in 0..world.tills.len() {
            self.till_actions(world, at, actions);
        }
        self.hub_actions(world, actions);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Sell { till, amount } => {
                world.write(till, Kind::Sale { amount });
                world.tills[till].sales_left -= 1;
            }
            Action::Void { till } => {
                let (of, amount) = world.tills[till].voidable()?;
                world.write(till, Kind::Void { of, amount });
                world.left.voids -= 1;
            }
            Action::FeedAck { till } => world.write(till, Kind::FeedAck),
            Action::FeedAckBeside { till } => {
                let Till { name, cursor, .. } = world.tills[till];
                let standing = &mut world.hub.standings[usize::from(name)];
                standing.acknowledge(cursor.page, self.rules.keep_ack);
            }
            Action::Report { till } => {
                let epoch = world.hub.epoch;
                let reporter = &mut world.tills[till];
                reporter.cursor = reporter.cursor.max(Cursor { epoch, page: 0 });
                let ceiling = reporter.ceiling.unwrap_or(0);
                world.write(till, Kind::Report { ceiling });
            }
            Action::Push { till, first, last } => {
                world
                    .hub
                    .take_in(&before.tills[till], first, last, &self.rules);
            }
            Action::HearAck { till, through } => world.tills[till].acknowledged = through,
            Action::Prune { till, through } => world.tills[till].pruned = through,
            Action::Issue { name, full } => self.issue(&mut world, name, full),
            Action::Fetch { till } => {
                let name = usize::from(before.tills[till].name);
                for page in &before.pages[name] {
                    let inbox = &mut world.tills[till].inbox;
                    if !inbox.contains(page) {
                        inbox.push(*page);
                    }
                }
            }
            Action::Apply { till, cursor } => {
                let name = usize::from(before.tills[till].name);
                let sent = before.tills[till].inbox.iter().chain(&before.pages[name]);
                let page = sent.into_iter().find(|page| page.cursor == cursor)?;
                world.tills[till].apply(page, &self.rules, self.scope.cap);
            }
            Action::PayOut => {
                world.central -= 1;
                world.left.payouts -= 1;
            }
            Action::Deposit => {
                world.central += 1;
                world.left.deposits -= 1;
            }
            Action::Clone { till } => {
                world.tills.push(before.tills[till].clone());
                world.left.clones -= 1;
            }
            Action::BackUp => {
                world.backup = Some(Box::new(before.hub.clone()));
                world.left.backups -= 1;
            }
            Action::Restore => {
                let backup = world.backup.take()?;
                world.hub = backup.restored(before.hub.epoch + 1, &self.rules);
                if self.checks_heads() {
                    world.pages.iter_mut().for_each(Vec::clear);
                }
                world.left.restores -= 1;
            }
        }
        self.tidy(&mut world);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Ceilings>> {
        [
            Property::<Ceilings>::always(BOUND, |model, world| {
                model.true_balance(world) >= -model.bound
            }),
            Property::<Ceilings>::always(ONCE, |_, world| world.hub.booked_again == 0),
            Property::<Ceilings>::always(ACKSAFE, Ceilings::acknowledges_all),
            Property::<Ceilings>::always(DRAIN, Ceilings::drains),
            Property::<Ceilings>::always(COVERED, Ceilings::covers),
        ]
        .into_iter()
        .filter(|property| self.promises.contains(&property.name))
        .collect()
    }
}

impl Told for Ceilings {
    fn judging(&self, promises: &[&'static str]) -> Ceilings {
        Ceilings {
            promises: promises.to_vec(),
            ..self.clone()
        }
    }

    fn tell_action(&self, before: &World, action: &Action) -> String {
        let of = |till: &usize| before.tell_till(*till);
        match action {
            Action::Sell { till, amount } => format!("{} sells for {amount} kr", of(till)),
            Action::Void { till } => format!("{} voids its newest sale", of(till)),
            Action::FeedAck { till } => format!("{} writes its feed cursor", of(till)),
            Action::FeedAckBeside { till } => {
                format!(
                    "{} acknowledges its feed cursor beside the journal",
                    of(till)
                )
            }
            Action::Report { till } => {
                format!("{} learns of the restore and reports its ceiling", of(till))
            }
            Action::Push { till, first, last } => {
                format!("the hub takes in entries {first} to {last} of {}", of(till))
            }
            Action::HearAck { till, through } => {
                format!("{} hears that the hub has it through {through}", of(till))
            }
            Action::Prune { till, through } => {
                format!("{} deletes its entries through {through}", of(till))
            }
            Action::Issue { name, full: true } => {
                format!("the hub makes a page for till {}", name + 1)
            }
            Action::Issue { name, full: false } => {
                format!(
                    "the hub makes a page that revokes the ceiling of till {}",
                    name + 1
                )
            }
            Action::Fetch { till } => format!("the hub sends its pages to {}", of(till)),
            Action::Apply { till, cursor } => {
                format!("page {}.{} reaches {}", cursor.epoch, cursor.page, of(till))
            }
            Action::PayOut => "1 kr is paid out centrally".to_owned(),
            Action::Deposit => "1 kr is paid in".to_owned(),
            Action::Clone { till } => format!("the disk of {} is cloned", of(till)),
            Action::BackUp => "the hub is backed up".to_owned(),
            Action::Restore => "the hub is restored from its backup".to_owned(),
        }
    }

    fn tell_aftermath(&self, property: &str, world: &World) -> Option<String> {
        let drained = (property == DRAIN).then(|| self.drained(world))?;
        let (due, booked) = (self.due_balance(world), self.balance(&drained));
        Some(format!(
            "after a sync without losses the hub has {booked} and should have {due}"
        ))
    }

    fn tell_state(&self, world: &World) -> String {
        let mut told = format!(
            "true balance {}; hub: balance {}",
            self.true_balance(world),
            self.balance(world)
        );
        for (name, standing) in world.hub.standings.iter().enumerate() {
            told += &format!(", has {} of till {}", standing.chain.len(), name + 1);
            if self.rules.cap == Cap::Issued && !world.hub.is_frozen() {
                told += &format!(" (may sell {})", standing.outstanding(self.rules.room));
            }
        }
        for (at, till) in world.tills.iter().enumerate() {
            let name = world.tell_till(at);
            let sold: Kroner = till.journal.iter().map(|entry| gross(entry.kind)).sum();
            let shown = till.shown(self.rules.overlay);
            told += &format!("; {name}: shows {shown}, sold {sold}");
            if let Some(ceiling) = till.ceiling {
                told += &format!(" of {ceiling}");
            }
        }
        told
    }
}

impl World {
    fn tell_till(&self, at: usize) -> String {
        match self.tills.get(at) {
            Some(till) if usize::from(till.name) == at => format!("till {}", at + 1),
            Some(till) => format!("the clone of till {}", till.name + 1),
            None => "a till that is not there".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeepAck;
    use super::*;
    use crate::walk::replay;

    /// What may be left of SY-27 under a rule: the schedule as far as the rule lets it happen.
    #[track_caller]
    fn check(keep_ack: KeepAck, believed: Kroner, true_balance: Kroner) {
        let model = Ceilings {
            rules: Rules {
                keep_ack,
                ..Rules::default()
            },
            scope: Scope {
                pages: 2,
                restores: 1,
                ..Scope::default()
            },
            bound: 0,
            promises: vec![BOUND],
        };
        let [opening] = <[World; 1]>::try_from(model.init_states()).unwrap();
        let path = replay(&model, &opening, &late_keep()).unwrap();
        let mut world = path.last().unwrap().0.clone();
        let standing = &world.hub.standings[0];
        assert_eq!(
            standing.outstanding(model.rules.room),
            believed,
            "{keep_ack:?}"
        );
        assert_eq!(world.tills[0].ceiling, Some(2));

        for till in [0, 0, 1, 1] {
            let sale = [Action::Sell { till, amount: 1 }];
            if let Some(mut path) = replay(&model, &world, &sale) {
                world = path.pop().unwrap().0;
            }
        }
        assert_eq!(model.true_balance(&world), true_balance, "{keep_ack:?}");
    }

    /// The hub is restored, makes a page without a ceiling, hears all reports, issues a revocation
    /// that is under way still, and then the till acknowledges the page without a ceiling.
    fn late_keep() -> Vec<Action> {
        let push = |till, last| Action::Push {
            till,
            first: last,
            last,
        };
        let keep = Cursor { epoch: 1, page: 1 };
        vec![
            Action::BackUp,
            Action::Restore,
            Action::Issue {
                name: 0,
                full: true,
            },
            Action::Report { till: 0 },
            push(0, 1),
            Action::Report { till: 1 },
            push(1, 1),
            Action::Issue {
                name: 0,
                full: false,
            },
            Action::Apply {
                till: 0,
                cursor: keep,
            },
            Action::FeedAck { till: 0 },
            push(0, 2),
            Action::Issue {
                name: 1,
                full: true,
            },
            Action::Apply {
                till: 1,
                cursor: keep,
            },
        ]
    }

    #[test]
    fn a_late_keep_page_leaves_the_value_in_force() {
        // SY-27: the second till gets nothing, and nothing is overspent.
        check(KeepAck::RetainsValue, 2, 0);
    }

    #[test]
    fn a_late_keep_page_that_drops_the_value_overspends() {
        check(KeepAck::DropsValue, 0, -2);
    }
}
