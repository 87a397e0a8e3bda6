//! The model: all that may happen between purchases, hub and gateway, and what must stay true.

use canteen::{Money, TopUp, TopUpOutcome, TopUpState, top_up_due};
use stateright::{Model, Property};

use super::gateway::{Charge, Gateway, Reference, Request, Verdict};
use super::rules::{
    AfterTimeout, Booking, Credit, Identical, NotFound, Rules, Scope, Triggers, Write,
};
use super::{CREDITED, NO_CREDIT_WHEN_BLOCKED, ONE_ACTIVE, ONE_CHARGE, UNPROVOKED};
use crate::check::Told;

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

/// One top-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    /// For which account.
    pub account: usize,
    /// What is written about it.
    pub stage: Stage,
    /// Attempts written.
    pub attempt: u8,
    /// How long ago the last was dispatched.
    pub age: u8,
    /// What the hub is about to do; gone in a crash.
    pub hand: Hand,
    /// How often it was credited.
    pub credits: u8,
    /// How often it was refunded.
    pub refunds: u8,
}

/// What is written about a top-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A charge is to be sent.
    Intent,
    /// A charge may have been sent.
    Requested,
    /// A charge was perhaps made.
    Unknown,
    /// The card was charged.
    Captured,
    /// The card was charged and the money goes back.
    Refunding,
    /// The money is in the account.
    Settled,
    /// The money went back.
    Refunded,
    /// The card was not charged.
    Failed,
    /// No charge was sent.
    Cancelled,
    /// After the last attempt nothing was found: a person looks at it.
    Stuck,
}

/// What the hub is about to do with a top-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hand {
    /// Nothing.
    Free,
    /// Send the request.
    Holding,
    /// Write down what it has sent.
    Sent,
    /// Wait for the answer.
    Waiting,
    /// Read the answer.
    Answered(Verdict),
}

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A purchase, approved or refused for lack of money.
    Purchase(usize),
    /// The hub starts an attempt of a top-up.
    Dispatch(usize),
    /// The request leaves.
    Send(usize),
    /// The hub writes down what it sent.
    WriteBehind(usize),
    /// The request reaches the gateway.
    Arrive {
        /// Which of those under way.
        request: usize,
        /// Whether the card's bank approves.
        approve: bool,
    },
    /// The request is lost.
    Lose(usize),
    /// The hub reads the answer.
    Hear(usize),
    /// The hub stops waiting.
    Timeout(usize),
    /// The hub looks the charge up.
    LookUp(usize),
    /// The gateway reports the charge by itself.
    Notice(usize),
    /// The hub credits or refunds.
    Book(usize),
    /// The gateway gives the money back.
    Refund(usize),
    /// The hub crashes and starts again.
    Crash,
    /// The account is blocked or reactivated.
    Block(usize),
    /// A guardian deposits the same amount by hand with the same card.
    Deposit(usize),
    /// Time passes.
    Tick,
}

impl Stage {
    /// Whether the top-up is under way.
    pub fn is_active(self) -> bool {
        match self {
            Stage::Intent
            | Stage::Requested
            | Stage::Unknown
            | Stage::Captured
            | Stage::Refunding => true,
            Stage::Settled | Stage::Refunded | Stage::Failed | Stage::Cancelled | Stage::Stuck => {
                false
            }
        }
    }

    fn is_final_for_money(self) -> bool {
        match self {
            Stage::Captured | Stage::Refunding | Stage::Settled | Stage::Refunded => true,
            Stage::Intent
            | Stage::Requested
            | Stage::Unknown
            | Stage::Failed
            | Stage::Cancelled
            | Stage::Stuck => false,
        }
    }
}

impl World {
    fn has_active(&self, account: usize) -> bool {
        self.turns
            .iter()
            .any(|turn| turn.account == account && turn.stage.is_active())
    }

    fn request_of(&self, top_up: usize) -> bool {
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

    /// TOP-01, by the rule of the real till and hub.
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

    /// TOP-10, as far as time is concerned.
    fn may_dispatch(&self, world: &World, turn: &Turn) -> bool {
        let again = turn.attempt > 0;
        let least = match (self.rules.after_timeout, self.rules.not_found) {
            (AfterTimeout::ChargeAtOnce | AfterTimeout::SameKeyThenGiveUp, _) if again => 0,
            (AfterTimeout::ChargeAfterWindow, _) if again => self.scope.window,
            (AfterTimeout::LookUp, NotFound::AtOnce) if again => 0,
            (
                AfterTimeout::LookUp
                | AfterTimeout::ChargeAtOnce
                | AfterTimeout::ChargeAfterWindow
                | AfterTimeout::GiveUp
                | AfterTimeout::SameKeyThenGiveUp,
                NotFound::AfterSpacing | NotFound::AtOnce,
            ) => self.scope.spacing(self.rules.spacing),
        };
        world.card_age >= least
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

    /// Whether all that was charged is credited or refunded once nothing goes wrong any more:
    /// requests under way arrive, answers come, the hub does what it has to do, time passes.
    fn recovers(&self, world: &World) -> bool {
        let world = self.recovered(world);
        let credited = |(top_up, turn): (usize, &Turn)| {
            let charged = world.gateway.approved(top_up);
            !turn.stage.is_active()
                && turn.credits + turn.refunds <= 1
                && charged == usize::from(turn.credits + turn.refunds)
        };
        world.turns.iter().enumerate().all(credited)
    }

    fn recovered(&self, world: &World) -> World {
        let mut world = world.clone();
        while let Some(next) = self.recovery_step(&world) {
            world = next;
        }
        world
    }

    fn recovery_step(&self, world: &World) -> Option<World> {
        let mut actions = vec![];
        self.actions(world, &mut actions);
        actions.sort_by_key(recovery_rank);
        actions
            .into_iter()
            .filter(|action| recovery_rank(action).is_some())
            .find_map(|action| self.next_state(world, action))
    }

    fn turn_actions(&self, world: &World, top_up: usize, actions: &mut Vec<Action>) {
        let turn = &world.turns[top_up];
        match turn.hand {
            Hand::Free => match turn.stage {
                Stage::Intent if self.may_dispatch(world, turn) => {
                    actions.push(Action::Dispatch(top_up));
                }
                Stage::Unknown => actions.push(Action::LookUp(top_up)),
                Stage::Captured => actions.push(Action::Book(top_up)),
                Stage::Refunding => actions.push(Action::Refund(top_up)),
                Stage::Intent
                | Stage::Requested
                | Stage::Settled
                | Stage::Refunded
                | Stage::Failed
                | Stage::Cancelled
                | Stage::Stuck => {}
            },
            // What has been held too long is not sent: the transit counts from the dispatch.
            Hand::Holding if turn.age >= self.scope.transit && self.rules.write == Write::Ahead => {
                actions.push(Action::Timeout(top_up));
            }
            Hand::Holding => actions.push(Action::Send(top_up)),
            Hand::Sent => actions.push(Action::WriteBehind(top_up)),
            Hand::Waiting => actions.push(Action::Timeout(top_up)),
            Hand::Answered(_) => {
                actions.extend([Action::Hear(top_up), Action::Timeout(top_up)]);
            }
        }
        if world.notices > 0 && world.gateway.approved(top_up) > 0 {
            actions.push(Action::Notice(top_up));
        }
    }

    fn account_actions(&self, world: &World, account: usize, actions: &mut Vec<Action>) {
        let holding = &world.accounts[account];
        if holding.purchases > 0 && !holding.blocked {
            actions.push(Action::Purchase(account));
        }
        if world.blocks > 0 {
            actions.push(Action::Block(account));
        }
        let refused = world.gateway.identical(self.scope.window).is_some();
        if world.deposits > 0 && !holding.blocked && !refused {
            actions.push(Action::Deposit(account));
        }
    }
}

/// The order of recovery; what is not part of it has no rank.
fn recovery_rank(action: &Action) -> Option<u8> {
    match action {
        Action::Arrive { approve: true, .. } => Some(0),
        Action::Hear(_) => Some(1),
        Action::Send(_) => Some(2),
        Action::WriteBehind(_) => Some(3),
        Action::Timeout(_) => Some(4),
        Action::LookUp(_) => Some(5),
        Action::Book(_) => Some(6),
        Action::Refund(_) => Some(7),
        Action::Dispatch(_) => Some(8),
        Action::Tick => Some(9),
        Action::Arrive { approve: false, .. }
        | Action::Purchase(_)
        | Action::Lose(_)
        | Action::Notice(_)
        | Action::Crash
        | Action::Block(_)
        | Action::Deposit(_) => None,
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

impl Told for TopUps {
    fn judging(&self, promises: &[&'static str]) -> TopUps {
        TopUps {
            promises: promises.to_vec(),
            ..self.clone()
        }
    }

    fn tell_action(&self, before: &World, action: &Action) -> String {
        let of = |request: &usize| match before.requests.get(*request) {
            Some(Request { reference, .. }) => {
                format!(
                    "attempt {} of top-up {}",
                    reference.attempt,
                    reference.top_up + 1
                )
            }
            None => "no request".to_owned(),
        };
        match action {
            Action::Purchase(account) => {
                format!("account {} buys for {} kr", account + 1, self.scope.price)
            }
            Action::Dispatch(top_up) => {
                format!("the hub starts an attempt of top-up {}", top_up + 1)
            }
            Action::Send(top_up) => format!("the request of top-up {} leaves", top_up + 1),
            Action::WriteBehind(top_up) => {
                format!("the hub writes down what it sent for top-up {}", top_up + 1)
            }
            Action::Arrive { request, approve } => {
                let bank = if *approve {
                    "would approve"
                } else {
                    "would decline"
                };
                format!("{} reaches the gateway, the bank {bank}", of(request))
            }
            Action::Lose(request) => format!("{} is lost", of(request)),
            Action::Hear(top_up) => format!("the hub reads the answer for top-up {}", top_up + 1),
            Action::Timeout(top_up) => format!("the hub stops waiting for top-up {}", top_up + 1),
            Action::LookUp(top_up) => format!("the hub looks up top-up {}", top_up + 1),
            Action::Notice(top_up) => {
                format!("the gateway reports top-up {} as charged", top_up + 1)
            }
            Action::Book(top_up) => format!("the hub books top-up {}", top_up + 1),
            Action::Refund(top_up) => format!("the gateway refunds top-up {}", top_up + 1),
            Action::Crash => "the hub crashes and starts again".to_owned(),
            Action::Block(account) if before.accounts[*account].blocked => {
                format!("account {} is reactivated", account + 1)
            }
            Action::Block(account) => format!("account {} is blocked", account + 1),
            Action::Deposit(account) => {
                format!(
                    "a guardian pays {} kr into account {}",
                    self.scope.amount,
                    account + 1
                )
            }
            Action::Tick => "time passes".to_owned(),
        }
    }

    fn tell_aftermath(&self, property: &str, world: &World) -> Option<String> {
        let end = (property == CREDITED).then(|| self.recovered(world))?;
        Some(format!("left alone, it ends so: {}", self.tell_state(&end)))
    }

    fn tell_state(&self, world: &World) -> String {
        let accounts = world.accounts.iter().enumerate().map(|(account, holding)| {
            let blocked = if holding.blocked { ", blocked" } else { "" };
            format!("account {}: {} kr{blocked}", account + 1, holding.balance)
        });
        let turns = world.turns.iter().enumerate().map(|(top_up, turn)| {
            format!(
                "top-up {}: {:?}, attempt {} {} ago{}, charged {}, credited {}, refunded {}",
                top_up + 1,
                turn.stage,
                turn.attempt,
                turn.age,
                if world.request_of(top_up) {
                    ", request under way"
                } else {
                    ""
                },
                world.gateway.approved(top_up),
                turn.credits,
                turn.refunds
            )
        });
        accounts.chain(turns).collect::<Vec<_>>().join("; ")
    }
}
