//! The model: purchases, hub and gateway, what becomes of them and what must stay true.

use canteen::{Money, TopUp, TopUpOutcome, TopUpState, top_up_due};
use stateright::{Model, Property};

use super::gateway::{Charge, Gateway, Reference, Request, Verdict};
use super::rules::{
    AfterTimeout, Booking, Credit, Identical, NotFound, Rules, Scope, Triggers, Write,
};
use super::{
    Action, CREDITED, Hand, NO_CREDIT_WHEN_BLOCKED, ONE_ACTIVE, ONE_CHARGE, Stage, Turn, UNPROVOKED,
};

/// A configuration of the top-up.
#[derive(Debug, Clone)]
pub struct TopUps {
    /// The rules.
    pub rules: Rules,
    /// How much may happen.
    pub scope: Scope,
    /// The properties to judge.
    pub promises: Vec<&'static str>,
}

/// Hub, gateway and what is under way between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The accounts on the card.
    pub accounts: Vec<Holding>,
    /// Every top-up ever fired.
    pub turns: Vec<Turn>,
    /// Requests under way.
    pub requests: Vec<Request>,
    /// The gateway.
    pub gateway: Gateway,
    /// How long ago the hub last dispatched or saw a charge of the amount on the card.
    pub card_age: u8,
    /// Whether anything was credited to a blocked account.
    pub credited_blocked: bool,
    /// Blockings and reactivations left.
    pub blocks: u8,
    /// Declines left.
    pub declines: u8,
    /// Crashes left.
    pub crashes: u8,
    /// Notices left.
    pub notices: u8,
    /// Deposits by hand left.
    pub deposits: u8,
}

/// An account at the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holding {
    /// What it holds, in kroner.
    pub balance: i16,
    /// Whether it is blocked.
    pub blocked: bool,
    /// Purchases left.
    pub purchases: u8,
}

impl World {
    fn has_active(&self, account: usize) -> bool {
        self.turns
            .iter()
            .any(|turn| turn.account == account && turn.stage.is_active())
    }

    pub(super) fn request_of(&self, top_up: usize) -> bool {
        self.requests.iter().any(|r| r.reference.top_up == top_up)
    }
}

impl TopUps {
    fn purchase(&self, world: &mut World, account: usize) {
        let holding = &mut world.accounts[account];
        holding.purchases -= 1;
        if holding.balance >= self.scope.price {
            holding.balance -= self.scope.price;
        }
        let balance = holding.balance;
        let under_way = match self.rules.triggers {
            Triggers::OneActive => world.has_active(account),
            Triggers::EachItsOwn => false,
        };
        match self.fires(balance, under_way) {
            TopUpOutcome::Requested => world.turns.push(Turn {
                account,
                stage: Stage::Intent,
                attempt: 0,
                age: self.scope.window + self.scope.transit,
                hand: Hand::Free,
                credits: 0,
                refunds: 0,
            }),
            TopUpOutcome::None | TopUpOutcome::Pending | TopUpOutcome::Failed => {}
        }
    }

    /// Whether the balance asks for a top-up, by the rule of the real till and hub.
    fn fires(&self, balance: i16, under_way: bool) -> TopUpOutcome {
        let agreement = TopUp {
            amount: Money::from_kroner(i32::from(self.scope.amount)),
            armed: true,
            state: if under_way {
                TopUpState::Pending
            } else {
                TopUpState::Idle
            },
        };
        top_up_due(Money::from_kroner(i32::from(balance)), Some(&agreement))
    }

    fn dispatch(&self, world: &mut World, top_up: usize) {
        let turn = &mut world.turns[top_up];
        let holding = &world.accounts[turn.account];
        if holding.blocked || self.fires(holding.balance, false) == TopUpOutcome::None {
            turn.stage = Stage::Cancelled;
            return;
        }
        turn.hand = Hand::Holding;
        match self.rules.write {
            Write::Ahead => {
                turn.stage = Stage::Requested;
                turn.attempt += 1;
                turn.age = 0;
                world.card_age = 0;
            }
            Write::Behind => {}
        }
    }

    fn send(&self, world: &mut World, top_up: usize) {
        let turn = &mut world.turns[top_up];
        let (attempt, age) = match self.rules.write {
            Write::Ahead => (turn.attempt, turn.age),
            Write::Behind => (turn.attempt + 1, 0),
        };
        turn.hand = match self.rules.write {
            Write::Ahead => Hand::Waiting,
            Write::Behind => Hand::Sent,
        };
        world.requests.push(Request {
            reference: Reference { top_up, attempt },
            age,
        });
    }

    fn arrive(&self, world: &mut World, request: usize, approve: bool) {
        let Request { reference, .. } = world.requests.remove(request);
        let replayed = match self.rules.after_timeout {
            AfterTimeout::SameKeyThenGiveUp => world.gateway.replay(reference.top_up),
            AfterTimeout::LookUp
            | AfterTimeout::ChargeAtOnce
            | AfterTimeout::ChargeAfterWindow
            | AfterTimeout::GiveUp => None,
        };
        let verdict = match (replayed, world.gateway.identical(self.scope.window)) {
            (Some(verdict), _) => verdict,
            (None, Some(own)) => {
                world.gateway.provoked |= own;
                Verdict::Identical
            }
            (None, None) => {
                world.gateway.charges.push(Charge {
                    reference: Some(reference),
                    approved: approve,
                    age: 0,
                });
                world.declines -= u8::from(!approve);
                if approve {
                    Verdict::Approved
                } else {
                    Verdict::Declined
                }
            }
        };
        let turn = &mut world.turns[reference.top_up];
        if turn.hand == Hand::Waiting && turn.attempt == reference.attempt {
            turn.hand = Hand::Answered(verdict);
        }
    }

    fn conclude(&self, turn: &mut Turn, verdict: Verdict) {
        turn.stage = match (verdict, self.rules.identical) {
            (Verdict::Approved, _) | (Verdict::Identical, Identical::Success) => Stage::Captured,
            (Verdict::Declined, _) | (Verdict::Identical, Identical::Failure) => Stage::Failed,
            (Verdict::Identical, Identical::Unknown) => Stage::Unknown,
        };
    }

    fn stop_waiting(&self, turn: &mut Turn) {
        turn.hand = Hand::Free;
        if turn.stage != Stage::Requested {
            return;
        }
        let attempts_left = turn.attempt < self.rules.attempts_max;
        turn.stage = match self.rules.after_timeout {
            AfterTimeout::LookUp => Stage::Unknown,
            AfterTimeout::GiveUp => Stage::Failed,
            AfterTimeout::ChargeAtOnce
            | AfterTimeout::ChargeAfterWindow
            | AfterTimeout::SameKeyThenGiveUp => {
                if attempts_left {
                    Stage::Intent
                } else {
                    Stage::Failed
                }
            }
        };
    }

    fn look_up(&self, world: &mut World, top_up: usize) {
        let turn = &mut world.turns[top_up];
        let reference = Reference {
            top_up,
            attempt: turn.attempt,
        };
        let believed = match self.rules.not_found {
            NotFound::AfterSpacing => turn.age >= self.scope.window + self.scope.transit,
            NotFound::AtOnce => true,
        };
        match world.gateway.look_up(reference, self.scope.lag) {
            Some(verdict) => self.conclude(turn, verdict),
            None if !believed => {}
            None if turn.attempt < self.rules.attempts_max => turn.stage = Stage::Intent,
            None => turn.stage = Stage::Stuck,
        }
    }

    fn book(&self, world: &mut World, top_up: usize) {
        let turn = &mut world.turns[top_up];
        let holding = &mut world.accounts[turn.account];
        if holding.blocked && self.rules.credit == Credit::LooksAgain {
            turn.stage = Stage::Refunding;
            return;
        }
        world.credited_blocked |= holding.blocked;
        holding.balance += self.scope.amount;
        turn.credits += 1;
        turn.stage = Stage::Settled;
    }

    fn tick(&self, world: &mut World) {
        let oldest = self.scope.window + self.scope.transit;
        let older = |age: &mut u8, most: u8| *age = (*age + 1).min(most);
        older(&mut world.card_age, oldest);
        for turn in &mut world.turns {
            older(&mut turn.age, oldest);
        }
        for request in &mut world.requests {
            older(&mut request.age, self.scope.transit);
        }
        for charge in &mut world.gateway.charges {
            older(&mut charge.age, self.scope.window.max(self.scope.lag));
        }
    }
}

impl Model for TopUps {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let holding = Holding {
            balance: self.scope.opening,
            blocked: false,
            purchases: self.scope.purchases,
        };
        vec![World {
            accounts: vec![holding; usize::from(self.scope.accounts)],
            turns: vec![],
            requests: vec![],
            gateway: Gateway::default(),
            card_age: self.scope.window + self.scope.transit,
            credited_blocked: false,
            blocks: self.scope.blocks,
            declines: self.scope.declines,
            crashes: self.scope.crashes,
            notices: self.scope.notices,
            deposits: self.scope.deposits,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for account in 0..world.accounts.len() {
            self.account_actions(world, account, actions);
        }
        for top_up in 0..world.turns.len() {
            self.turn_actions(world, top_up, actions);
        }
        for request in 0..world.requests.len() {
            actions.push(Action::Arrive {
                request,
                approve: true,
            });
            if world.declines > 0 {
                actions.push(Action::Arrive {
                    request,
                    approve: false,
                });
            }
            actions.push(Action::Lose(request));
        }
        if world.crashes > 0 && world.turns.iter().any(|turn| turn.hand != Hand::Free) {
            actions.push(Action::Crash);
        }
        // A request that has been under way for the longest transit arrives or is lost.
        if world
            .requests
            .iter()
            .all(|request| request.age < self.scope.transit)
        {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Purchase(account) => self.purchase(&mut world, account),
            Action::Dispatch(top_up) => self.dispatch(&mut world, top_up),
            Action::Send(top_up) => self.send(&mut world, top_up),
            Action::WriteBehind(top_up) => {
                let turn = &mut world.turns[top_up];
                turn.stage = Stage::Requested;
                turn.attempt += 1;
                turn.age = 0;
                turn.hand = Hand::Waiting;
                world.card_age = 0;
            }
            Action::Arrive { request, approve } => self.arrive(&mut world, request, approve),
            Action::Lose(request) => {
                world.requests.remove(request);
            }
            Action::Hear(top_up) => {
                let turn = &mut world.turns[top_up];
                let Hand::Answered(verdict) = turn.hand else {
                    return None;
                };
                turn.hand = Hand::Free;
                if turn.stage == Stage::Requested {
                    self.conclude(turn, verdict);
                }
            }
            Action::Timeout(top_up) => self.stop_waiting(&mut world.turns[top_up]),
            Action::LookUp(top_up) => self.look_up(&mut world, top_up),
            Action::Notice(top_up) => {
                let turn = &mut world.turns[top_up];
                world.notices -= 1;
                if self.rules.booking == Booking::ByMessage || !turn.stage.is_final_for_money() {
                    turn.stage = Stage::Captured;
                    turn.hand = Hand::Free;
                }
            }
            Action::Book(top_up) => self.book(&mut world, top_up),
            Action::Refund(top_up) => {
                let turn = &mut world.turns[top_up];
                turn.refunds += 1;
                turn.stage = Stage::Refunded;
            }
            Action::Crash => {
                world.crashes -= 1;
                for turn in &mut world.turns {
                    self.stop_waiting(turn);
                }
            }
            Action::Block(account) => {
                world.blocks -= 1;
                world.accounts[account].blocked = !before.accounts[account].blocked;
            }
            Action::Deposit(account) => {
                world.deposits -= 1;
                world.accounts[account].balance += self.scope.amount;
                world.card_age = 0;
                world.gateway.charges.push(Charge {
                    reference: None,
                    approved: true,
                    age: 0,
                });
            }
            Action::Tick => self.tick(&mut world),
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<TopUps>> {
        [
            Property::<TopUps>::always(ONE_CHARGE, |_, world| {
                (0..world.turns.len()).all(|top_up| world.gateway.approved(top_up) <= 1)
            }),
            Property::<TopUps>::always(CREDITED, TopUps::recovers),
            Property::<TopUps>::always(ONE_ACTIVE, |_, world| {
                (0..world.accounts.len()).all(|account| {
                    let of = world.turns.iter().filter(|turn| turn.account == account);
                    of.filter(|turn| turn.stage.is_active()).count() <= 1
                })
            }),
            Property::<TopUps>::always(UNPROVOKED, |_, world| !world.gateway.provoked),
            Property::<TopUps>::always(NO_CREDIT_WHEN_BLOCKED, |_, world| !world.credited_blocked),
        ]
        .into_iter()
        .filter(|property| self.promises.contains(&property.name))
        .collect()
    }
}
