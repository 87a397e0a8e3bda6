//! Card gateways behind one trait, and a gateway simulator that is a real HTTP server.
//!
//! The hub charges automatic top-ups to stored payment cards. It talks to a card gateway through
//! [`PaymentGateway`]; [`NexiGateway`] speaks to Nexi Checkout, and [`Simulator`] answers in the
//! same shape over real HTTP, with faults that can be scripted.
//!
//! Three rules hold for every adapter, and [`conformance`] checks them:
//!
//! 1. **A lost answer is never a decline.** Once the first byte of a charge may have left, only an
//!    answer that says so proves that no money moved; anything else is [`GatewayError::Unknown`],
//!    and the way out of it is [`PaymentGateway::look_up`], never a second charge.
//! 2. **Not found is said by the gateway, not guessed.** `look_up` answers `None` only when the
//!    gateway was reached, knew the agreement, and said that it has no such attempt.
//! 3. **A word that the adapter does not know never breaks it.** Gateways add codes; an unknown one
//!    is read in the way that can neither charge twice nor credit money that did not come.

pub mod conformance;
mod gateway;
mod identity;
mod nexi;
pub mod simulator;

pub use gateway::{
    Answer, Capabilities, Charge, Decline, Duplicates, EndedAgreement, GatewayError, Outcome,
    PaymentGateway, Refund,
};
pub use identity::{
    AttemptReference, CardAgreement, IdentityError, RandomnessUnavailable, TransactionId,
};
pub use nexi::{NexiConfig, NexiConfigError, NexiGateway};
pub use simulator::Simulator;
