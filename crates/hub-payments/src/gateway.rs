//! The trait that every card gateway is reached through, and what can be answered.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use canteen::Money;

use crate::identity::{AttemptReference, CardAgreement, TransactionId};

/// What a gateway call gives back; boxed, so that the hub can hold an `Arc<dyn PaymentGateway>`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, GatewayError>> + Send + 'a>>;

/// A card gateway that charges stored cards.
///
/// The caller commits the attempt to its own store before it calls [`charge`](Self::charge), since
/// a crash in the middle of a call must leave something to look up.
pub trait PaymentGateway: Send + Sync {
    /// What this gateway can do, and how it treats two charges that look alike.
    fn capabilities(&self) -> Capabilities;

    /// Charges a stored card without the cardholder being present.
    fn charge<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Outcome>;

    /// Asks what became of an attempt; moves no money.
    ///
    /// `None` means that the gateway has not seen it *yet*: a request that is still on its way can
    /// arrive after this answer. Any error here says nothing about the attempt.
    ///
    /// The whole attempt is asked about and not its reference alone, since Nexi Checkout files
    /// attempts under the agreement that they were charged to.
    fn look_up<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Option<Outcome>>;

    /// Sends taken money back to the card. The same reference again never refunds twice.
    fn refund<'a>(&'a self, refund: &'a Refund) -> Answer<'a, Outcome>;

    /// Ends an agreement, as far as the gateway has a way to end it.
    fn end_agreement<'a>(&'a self, agreement: &'a CardAgreement) -> Answer<'a, EndedAgreement>;
}

/// What a gateway can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `look_up` gives authoritative answers. Without it an unknown attempt needs a human.
    pub looks_up_by_reference: bool,
    /// How long after an attempt "not found" still proves something. A gateway forgets attempts in
    /// the end; a "not found" that comes later than this needs a human, not a second charge.
    pub remembers_for: Duration,
    /// The same [`Charge`] sent twice is charged once and answered alike.
    pub repeats_safely: bool,
    /// How long after a charge the same amount on the same agreement counts as a duplicate.
    pub duplicate_window: Duration,
    /// What the gateway does with a duplicate inside the window.
    pub duplicates: Duplicates,
}

/// What a gateway does with a charge of the same amount to the same card inside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Refused: no money moves.
    Refused,
    /// Accepted, but held back from settlement until a human looks at it.
    Suspended,
    /// Answered with the earlier charge: no money moves.
    Replayed,
}

/// One attempt to charge a stored card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Our name for the attempt, and the key under which repeating it is safe.
    pub reference: AttemptReference,
    /// The stored card.
    pub agreement: CardAgreement,
    /// How much; above zero.
    pub amount: Money,
}

/// Money to be sent back to the card that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Our name for the refund; not that of the charge.
    pub reference: AttemptReference,
    /// The charge to be refunded.
    pub transaction: TransactionId,
    /// How much; above zero and at most what was charged.
    pub amount: Money,
}

/// What a gateway has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway has the attempt and has not decided, or holds it back. Look it up later.
    Pending,
    /// The money was taken.
    Paid {
        /// The gateway's name for it.
        transaction: TransactionId,
        /// What the gateway says it took, which is what is to be booked.
        amount: Money,
    },
    /// No money was taken.
    Declined {
        /// What that means for the next attempt.
        decline: Decline,
        /// The gateway's own code, for the operator.
        code: String,
        /// The gateway's own words, for the operator and never for a guardian.
        text: String,
    },
    /// The gateway has accepted to send the money back.
    Refunded {
        /// The charge that was refunded.
        transaction: TransactionId,
    },
}

/// What a decline means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decline {
    /// Never again on this card: expired, lost, stolen, closed.
    Hard,
    /// May succeed on another day: no funds, a limit, the issuer away.
    Soft,
    /// The issuer wants the cardholder present; a new agreement is needed.
    NeedsCardholder,
    /// The gateway takes it for a repetition of an earlier charge. Not a failure of the card: look
    /// the attempt up, then wait the duplicate window out.
    Duplicate,
}

/// How far an agreement was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedAgreement {
    /// The gateway has forgotten the card.
    AtGateway,
    /// The gateway has no such call; it ends by the hub never charging it again.
    OnlyHere,
}

/// Why a gateway call gave no outcome.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Provably not sent: the name did not resolve, or no connection or TLS session came about.
    #[error(
        "the card gateway could not be reached, so nothing was sent; check its address and the line"
    )]
    NotSent {
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody here can tell whether the gateway acted. Look the attempt up; do not charge again.
    #[error(
        "the card gateway's answer is unknown ({reason}); look the attempt up before anything else"
    )]
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The request was refused as wrong, by the gateway or before it was sent; nothing was done.
    #[error(
        "the card gateway refuses the request as invalid ({reason}); check the secret key and the agreement"
    )]
    Invalid {
        /// The HTTP status, when the gateway was asked at all.
        status: Option<u16>,
        /// What is wrong, as far as it was said.
        reason: String,
    },
    /// The gateway asks to be left alone for a while; nothing was done.
    #[error("the card gateway is busy; try again later")]
    Busy {
        /// How long it asks for.
        retry_after: Option<Duration>,
    },
}

impl GatewayError {
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.into(),
            source: None,
        }
    }
}
