//! What may happen in a world.

use super::rules::{AfterTimeout, NotFound, Write};
use super::{Hand, Stage, TopUps, Turn, World};

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

impl TopUps {
    pub(super) fn turn_actions(&self, world: &World, top_up: usize, actions: &mut Vec<Action>) {
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

    pub(super) fn account_actions(&self, world: &World, account: usize, actions: &mut Vec<Action>) {
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

    /// Whether the next attempt has waited long enough.
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
}
