//! One top-up: what is written about it, and what the hub is about to do with it.

use super::gateway::Verdict;

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

    pub(super) fn is_final_for_money(self) -> bool {
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
