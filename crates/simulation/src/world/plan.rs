//! What one seed lets happen, and how often.

use super::action::{Action, Card, Cut, Fate, Turn, Way, Whom};
use super::scene::Scene;
use crate::chance::Chance;

/// How often each kind of action is drawn in one run.
///
/// Every seed leaves some kinds out altogether: a run without deposits, or without a single lost
/// message, goes to places that a run with a little of everything never reaches.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    weights: Vec<(Kind, usize)>,
    /// One message in so many does not fare well; 0 is none.
    trouble: usize,
    dearest: i64,
    /// The longest wait.
    patience: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sell,
    SellAgain,
    Void,
    Push,
    Fetch,
    FetchStatuses,
    Z,
    AckFeed,
    Arrive,
    Line,
    Rest,
    Restart,
    PowerCut,
    Clone,
    KeepDisk,
    PutDiskBack,
    Renew,
    CutTill,
    CutHub,
    HubStops,
    BackHubUp,
    RestoreHub,
    Unfreeze,
    ResumeTopUps,
    Deposit,
    Correct,
    Force,
    EndDebit,
    Block,
    BlockChip,
    ReplaceChip,
    Limit,
    Strictness,
    Credit,
    Agree,
    TopUp,
    Wait,
    WaitFor,
    SetClock,
}

/// What every run has, and how often.
const ALWAYS: [(Kind, usize); 5] = [
    (Kind::Sell, 30),
    (Kind::Push, 14),
    (Kind::Fetch, 16),
    (Kind::AckFeed, 5),
    (Kind::Wait, 10),
];

/// What a run may have.
const SOMETIMES: [(Kind, usize); 25] = [
    (Kind::EndDebit, 1),
    (Kind::FetchStatuses, 4),
    (Kind::Z, 2),
    (Kind::SellAgain, 3),
    (Kind::Void, 8),
    (Kind::Arrive, 10),
    (Kind::Line, 8),
    (Kind::Rest, 3),
    (Kind::Restart, 2),
    (Kind::PowerCut, 3),
    (Kind::CutTill, 5),
    (Kind::CutHub, 5),
    (Kind::HubStops, 2),
    (Kind::Deposit, 5),
    (Kind::Correct, 4),
    (Kind::Force, 1),
    (Kind::Block, 3),
    (Kind::BlockChip, 3),
    (Kind::ReplaceChip, 1),
    (Kind::Limit, 3),
    (Kind::Credit, 1),
    (Kind::Agree, 3),
    (Kind::TopUp, 8),
    (Kind::WaitFor, 2),
    (Kind::SetClock, 2),
];

impl Plan {
    pub(crate) fn draw(chance: &mut Chance) -> Plan {
        let mut weights = ALWAYS.to_vec();
        for (kind, weight) in SOMETIMES {
            if chance.one_in(2) {
                weights.push((kind, weight * chance.among(&[1, 1, 2, 4])));
            }
        }
        // Without an agreement there are no top-ups, and nothing comes of one without the other.
        if weights.iter().any(|(kind, _)| *kind == Kind::Agree) {
            weights.push((Kind::TopUp, 8));
        }
        // Copied disks are rare, and change what may be promised: most runs have none.
        if chance.one_in(4) {
            weights.push((Kind::Clone, 1));
            weights.push((Kind::Renew, 3));
        }
        if chance.one_in(4) {
            weights.push((Kind::KeepDisk, 2));
            weights.push((Kind::PutDiskBack, 1));
            weights.push((Kind::Renew, 3));
        }
        // So are hubs that were put back. Drawn apart, so that all other runs stay what they were.
        let mut apart = Chance::of(chance.clone().next() ^ APART);
        if apart.one_in(4) && !weights.contains(&(Kind::Renew, 3)) {
            weights.push((Kind::BackHubUp, 3));
            weights.push((Kind::RestoreHub, 2));
            weights.push((Kind::ResumeTopUps, 2));
            if apart.one_in(3) {
                weights.push((Kind::Unfreeze, 2));
            }
        }
        Plan {
            weights,
            trouble: chance.among(&[0, 2, 3, 5, 10]),
            dearest: chance.among(&[20, 60, 120, 220]),
            patience: chance.among(&[20, 120, 120, 900, 900, 20_000]),
        }
    }

    /// Guardians who make limits strict, and tills that are used often under them.
    pub(crate) fn be_strict(&mut self, apart: &mut Chance) {
        self.weights.push((Kind::Fetch, 16));
        self.weights.push((Kind::AckFeed, 10));
        self.weights.push((Kind::WaitFor, 2));
        if apart.one_in(2) {
            self.weights.push((Kind::Strictness, 2));
            self.weights.push((Kind::Limit, 2));
        }
        self.dearest = apart.among(&[10, 20, 50]);
    }

    /// Restores in a world with copies: what is true of each alone is not true of both.
    pub(crate) fn restore_copies(&mut self) {
        if self.weights.contains(&(Kind::Renew, 3)) {
            self.weights.push((Kind::BackHubUp, 3));
            self.weights.push((Kind::RestoreHub, 2));
            self.weights.push((Kind::ResumeTopUps, 2));
        }
    }

    /// What happens before anything is left to chance: without having heard of a till what its
    /// program can, the hub gives it no share of a strict limit.
    pub(crate) fn beginning(&self, scene: &Scene) -> Vec<Action> {
        if scene.strict == [0; 3] {
            return Vec::new();
        }
        let way = Way::CLEAR;
        let tills = (0..scene.tills).filter_map(|till| u8::try_from(till).ok());
        let heard = tills.clone().flat_map(|till| {
            let push = Action::Push { till, most: 0, way };
            [Action::AckFeed { till }, push]
        });
        let told = tills.map(|till| Action::Fetch { till, way });
        heard.chain(told).collect()
    }

    pub(crate) fn action(&self, chance: &mut Chance) -> Action {
        let all: usize = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = chance.below(all);
        for (kind, weight) in &self.weights {
            if at < *weight {
                return self.of(*kind, chance);
            }
            at -= weight;
        }
        Action::Wait { seconds: 1 }
    }

    fn of(&self, kind: Kind, chance: &mut Chance) -> Action {
        let till = chance.next() as u8;
        let account = chance.next() as u8;
        match kind {
            Kind::Sell => Action::Sell {
                till,
                account,
                chip: if chance.one_in(8) { 1 } else { 0 },
                ore: self.price(chance),
                way: self.way(chance),
            },
            Kind::SellAgain => Action::SellAgain { till },
            Kind::Void => Action::Void {
                till,
                back: chance.among(&[0, 0, 0, 1, 2, 5]),
            },
            Kind::Push => Action::Push {
                till,
                most: chance.among(&[0, 0, 1, 1, 2, 3]),
                way: self.way(chance),
            },
            Kind::Fetch => Action::Fetch {
                till,
                way: self.way(chance),
            },
            Kind::FetchStatuses => Action::FetchStatuses {
                till,
                way: self.way(chance),
            },
            Kind::Z => Action::Z { till },
            Kind::AckFeed => Action::AckFeed { till },
            Kind::Arrive => Action::Arrive {
                which: chance.next() as u8,
            },
            Kind::Line => Action::Line {
                till,
                up: !chance.one_in(3),
            },
            Kind::Rest => Action::Rest { till },
            Kind::Restart => Action::Restart { till },
            Kind::PowerCut => Action::PowerCut { till },
            Kind::Clone => Action::Clone { till },
            Kind::KeepDisk => Action::KeepDisk { till },
            Kind::PutDiskBack => Action::PutDiskBack { till },
            Kind::Renew => Action::Renew { till },
            Kind::CutTill => Action::CutNext {
                whom: Whom::Till(till),
                cut: cut(chance),
            },
            Kind::CutHub => Action::CutNext {
                whom: Whom::Hub,
                cut: cut(chance),
            },
            Kind::HubStops => Action::HubStops,
            Kind::BackHubUp => Action::BackHubUp,
            Kind::RestoreHub => Action::RestoreHub,
            Kind::Unfreeze => Action::Unfreeze,
            Kind::ResumeTopUps => Action::ResumeTopUps,
            Kind::Deposit => Action::Deposit {
                account,
                kroner: chance.among(&[10, 50, 100, 200]),
            },
            Kind::Correct => Action::Correct {
                account,
                kroner: chance.among(&[-150, -80, -40, -10, 20]),
                force: false,
            },
            Kind::Force => Action::Correct {
                account,
                kroner: chance.among(&[-150, -80, -40]),
                force: true,
            },
            Kind::EndDebit => Action::EndDebit {
                which: till,
                force: chance.one_in(3),
            },
            Kind::Block => Action::Block {
                account,
                block: chance.one_in(3),
            },
            Kind::BlockChip => Action::BlockChip {
                account,
                block: chance.one_in(3),
            },
            Kind::ReplaceChip => Action::ReplaceChip { account },
            Kind::Limit => Action::Limit {
                account,
                window: chance.below(3) as u8,
                kroner: chance.among(&[0, 0, 40, 100, 300, 300]),
            },
            Kind::Strictness => Action::Strictness {
                account,
                strict: !chance.one_in(5),
            },
            Kind::Credit => Action::Credit {
                account,
                kroner: chance.among(&[0, 50, 300]),
            },
            Kind::Agree => Action::Agree {
                account,
                kroner: chance.among(&[0, 100, 100, 200]),
            },
            Kind::TopUp => Action::TopUp {
                card: chance.among(&[
                    Card::Pays,
                    Card::Pays,
                    Card::Pays,
                    Card::NoFunds,
                    Card::Expired,
                ]),
                way: self.way(chance),
            },
            Kind::Wait => Action::Wait {
                seconds: u32::try_from(chance.between(1, self.patience)).unwrap_or(1),
            },
            Kind::WaitFor => Action::WaitFor {
                turn: chance.among(&TURNS),
                turned: chance.one_in(2),
            },
            Kind::SetClock => Action::SetClock {
                till,
                seconds: chance.among(&[
                    0,
                    0,
                    90,
                    -90,
                    7200,
                    -7200,
                    100_000,
                    -100_000,
                    -40_000_000,
                ]),
            },
        }
    }

    fn price(&self, chance: &mut Chance) -> i64 {
        let kroner = chance.between(1, self.dearest);
        if chance.one_in(4) {
            kroner * 100 + 50
        } else {
            kroner * 100
        }
    }

    fn way(&self, chance: &mut Chance) -> Way {
        Way {
            request: self.fate(chance),
            answer: self.fate(chance),
        }
    }

    fn fate(&self, chance: &mut Chance) -> Fate {
        if self.trouble == 0 || !chance.one_in(self.trouble) {
            return Fate::Arrives;
        }
        chance.among(&[Fate::Lost, Fate::Late, Fate::Twice])
    }
}

fn cut(chance: &mut Chance) -> Cut {
    match chance.below(5) {
        0 => Cut::Before,
        1 => Cut::After,
        2 => Cut::Torn {
            at: chance.next() as u16,
        },
        _ => Cut::Scattered {
            seed: chance.next() as u16,
        },
    }
}

/// A month is long, and no data is fresh after it.
const TURNS: [Turn; 10] = [
    Turn::Day,
    Turn::Day,
    Turn::Day,
    Turn::Day,
    Turn::Day,
    Turn::Week,
    Turn::Week,
    Turn::Week,
    Turn::Month,
    Turn::Clock,
];

/// Tells the draws about restores from all others.
const APART: u64 = 0x5e57_04ed;
