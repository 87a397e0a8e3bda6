//! The model: a hub and its tills, and what becomes of them.

use stateright::{Model, Property};

use super::hub::Terms;
use super::{
    ACKSAFE, Action, BOUND, COVERED, Cap, Cursor, DRAIN, Entry, EntryId, Hub, Kind, Kroner, ONCE,
    Page, Rules, Scope, Standing, Till,
};

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
    /// does not lose them.
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

impl Ceilings {
    /// What the account holds at the hub.
    pub fn balance(&self, world: &World) -> Kroner {
        self.scope.opening + world.central - world.hub.taken
    }

    fn terms(&self) -> Terms {
        Terms {
            cap: self.scope.cap,
            slack: self.scope.slack,
            room: self.rules.room,
        }
    }

    /// Where no image is ever cloned the head check passes always.
    pub(super) fn checks_heads(&self) -> bool {
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
    fn write(&mut self, at: usize, kind: Kind) {
        let till = &mut self.tills[at];
        let id = EntryId((at * EntryId::PER_TILL + till.journal.len()) as u8);
        let cursor = till.cursor;
        till.journal.push(Entry { id, cursor, kind });
    }
}

impl Till {
    pub(super) fn has_room(&self) -> bool {
        self.journal.len() < EntryId::PER_TILL
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
