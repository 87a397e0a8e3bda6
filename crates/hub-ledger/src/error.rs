//! Why the hub's store does not do what was asked.

use std::path::PathBuf;

use canteen::Money;
use thiserror::Error;

use crate::bookings::BookingId;
use crate::top_up_rules::{TOP_UP_AMOUNT_MAX, TOP_UP_AMOUNT_MIN};

/// Why a call of the store failed.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The file cannot be opened.
    #[error("the hub's database {path:?} cannot be opened; check the path, its owner and the disk")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The tables cannot be brought up to date.
    #[error("the hub's database cannot be brought up to this program's version")]
    Migrate(#[source] Box<refinery::Error>),
    /// SQLite failed.
    #[error("the hub's database failed")]
    Database(#[from] rusqlite::Error),
    /// A stored value is not what this program writes.
    #[error("the hub's database holds an unreadable {what}; restore it or ask for help")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
    },
    /// The request is understood and refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no such thing, or it is out of the asker's reach.
    #[error("there is no {what} {id:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// The name it was looked for under.
        id: String,
    },
    /// There is one already.
    #[error("there is a {what} {id:?} already")]
    Exists {
        /// What was to be made.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// No money can be paid into a blocked account.
    #[error(
        "the account is blocked, so no money can be paid in; reactivate the account or its chip first"
    )]
    AccountBlocked,
    /// The account is closed for good.
    #[error("the account is closed")]
    AccountClosed,
    /// An account with money in it is not closed.
    #[error("the account holds {balance}; bring it to zero before closing it")]
    BalanceLeft {
        /// What it holds.
        balance: Money,
    },
    /// A deposit is whole kroner.
    #[error("a deposit is at least 1 krone and at most {max}, in whole kroner, not {amount}")]
    DepositAmount {
        /// What was asked for.
        amount: Money,
        /// The most that is taken at once.
        max: Money,
    },
    /// A deposit is taken back once.
    #[error("the deposit was reversed already, by booking {}", reversal.0)]
    DepositReversed {
        /// What took it back.
        reversal: BookingId,
    },
    /// A correction moves money.
    #[error("a correction is not zero and at most {max} either way, not {amount}")]
    CorrectionAmount {
        /// What was asked for.
        amount: Money,
        /// The most that is moved at once.
        max: Money,
    },
    /// The agreed amount is out of bounds.
    #[error(
        "an automatic top-up is whole kroner from {min} to {max}, not {amount}",
        min = TOP_UP_AMOUNT_MIN, max = TOP_UP_AMOUNT_MAX
    )]
    TopUpAmount {
        /// What was asked for.
        amount: Money,
    },
    /// A payout or a transfer moves money.
    #[error("the amount is above zero and at most {max}, not {amount}")]
    DebitAmount {
        /// What was asked for.
        amount: Money,
        /// The most that is moved at once.
        max: Money,
    },
    /// The account does not hold that much.
    #[error("the account holds {balance}; no more than that can be taken out")]
    NotCovered {
        /// What it holds.
        balance: Money,
    },
    /// No more is taken back than is left of a purchase.
    #[error("at most {most} can be taken back, not {amount}")]
    RefundAmount {
        /// What was asked for.
        amount: Money,
        /// What is left of the purchase, or of the pieces that were named.
        most: Money,
    },
    /// Somebody has paid for the sale, or nothing is left of it.
    #[error("the sale is not one on an unknown account, or it was assigned or taken back already")]
    SaleKnown,
    /// The entry still cannot be booked.
    #[error("the entry still cannot be booked: {detail}")]
    StillUnreadable {
        /// Why.
        detail: String,
    },
    /// Money is not moved to where it is.
    #[error("both accounts are the same one")]
    SameAccount,
    /// An order has lines with text, pieces and prices that add up.
    #[error(
        "the order's lines need a text, pieces, a price, and the two multiplied; all together above \
         zero and at most 100.000 kr"
    )]
    OrderLines,
    /// A price is above zero.
    #[error("a price is above zero and at most {max}, not {price}")]
    Price {
        /// What was asked for.
        price: Money,
        /// The most that a product costs.
        max: Money,
    },
    /// A limit or a credit line is not negative.
    #[error("{what} is zero or more, not {amount}")]
    Negative {
        /// What was to be set.
        what: &'static str,
        /// What was asked for.
        amount: Money,
    },
    /// A till that may come back is not retired.
    #[error("the till is in use; revoke it or enrol its successor before retiring it")]
    TillInUse,
    /// More versions would be tried on every chip.
    #[error("{most} versions of the chip keys are in use; revoke the oldest first")]
    KeySets {
        /// How many there may be.
        most: usize,
    },
    /// A charge was made for an account that has or had an agreement on its card.
    #[error(
        "the account never had an agreement on that card; choose one that has, or make the agreement \
         again, or pay the charge in as a deposit by card"
    )]
    NoAgreementOnCard,
    /// Money cannot go back to the card of a blocked account while a charge of it is unresolved.
    #[error(
        "the account is blocked and another of its top-ups is under way; wait until that has ended, or \
         reactivate the account"
    )]
    TopUpUnderWay,
    /// There is no freeze to end.
    #[error("the canteen waits for no reports of tills; there is nothing to end")]
    NotFrozen,
    /// A closed chip stays closed.
    #[error("the chip is closed and cannot be used again; add it anew")]
    ChipClosed,
    /// The same Idempotency-Key came with another request.
    #[error("the Idempotency-Key was used for another request; draw a new one")]
    KeyReused,
    /// The till is not known under that code, or the code is used up.
    #[error("the till's name and code do not fit, or the code is used up; ask for a new code")]
    Enrolment,
    /// A name is missing.
    #[error("{what} is empty")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
}

impl Refusal {
    /// The stable code of the refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotFound { .. } => "not-found",
            Refusal::Exists { .. } => "exists",
            Refusal::AccountBlocked => "account-blocked",
            Refusal::AccountClosed => "account-closed",
            Refusal::BalanceLeft { .. } => "balance-left",
            Refusal::DepositAmount { .. } => "deposit-amount",
            Refusal::DepositReversed { .. } => "deposit-reversed",
            Refusal::CorrectionAmount { .. } => "correction-amount",
            Refusal::TopUpAmount { .. } => "top-up-amount",
            Refusal::DebitAmount { .. } => "debit-amount",
            Refusal::NotCovered { .. } => "not-covered",
            Refusal::RefundAmount { .. } => "refund-amount",
            Refusal::SaleKnown => "sale-known",
            Refusal::StillUnreadable { .. } => "still-unreadable",
            Refusal::SameAccount => "same-account",
            Refusal::OrderLines => "order-lines",
            Refusal::Price { .. } => "price",
            Refusal::Negative { .. } => "negative",
            Refusal::TillInUse => "till-in-use",
            Refusal::KeySets { .. } => "key-sets",
            Refusal::NoAgreementOnCard => "no-agreement-on-card",
            Refusal::TopUpUnderWay => "top-up-under-way",
            Refusal::NotFrozen => "not-frozen",
            Refusal::ChipClosed => "chip-closed",
            Refusal::KeyReused => "key-reused",
            Refusal::Enrolment => "enrolment-refused",
            Refusal::Empty { .. } => "empty",
        }
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Refusal {
        Refusal::NotFound {
            what,
            id: id.to_string(),
        }
    }
}
