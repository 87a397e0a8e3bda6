//! The hub's store: every canteen's accounts, and all money that ever moved between them.
//!
//! The store is one SQLite file behind [`HubLedger`] (the one writer) and [`HubReader`] (any number
//! of readers). Three rules hold:
//!
//! 1. **Double entry.** Every booking moves money from one account to another, so the sum of all
//!    balances is zero at every moment ([`HubReader::sum_of_balances`]).
//! 2. **A served sale is never rejected.** Whatever a till has sold is booked, at worst to
//!    suspense or into a negative balance, with a flag for the operator; an entry that cannot be
//!    read is kept byte for byte in quarantine.
//! 3. **Nothing is edited.** Journal and bookings only grow; triggers refuse anything else.
//!
//! What tills may sell without asking is bounded by ceilings, so that several of them together
//! overspend no more than a canteen accepts (`ceilings.rs`, `positions.rs`).
//!
//! All SQL of the hub is in this crate. Time and randomness come in as arguments.

mod accounts;
mod agreements;
mod backups;
mod bookings;
mod branches;
mod card_deposits;
mod ceilings;
mod chips;
mod closings;
mod debits;
mod deposits;
mod error;
mod exposure;
mod feed;
mod flags;
mod forgotten_epochs;
mod ingest;
mod key_sets;
mod limit_shares;
mod notices;
mod orders;
mod positions;
mod products;
mod refunds;
mod replay;
mod restore;
mod reversals;
#[cfg(test)]
mod seller;
mod settlements;
mod siblings;
mod spent_by_day;
mod statuses;
mod store;
mod tenancy;
#[cfg(test)]
mod testbed;
mod tills;
mod top_up_rules;
mod top_ups;
mod z_reports;

pub use accounts::{AccountRow, Holder, LimitsChange, NewAccount};
pub use agreements::Agreement;
pub use backups::BackupId;
pub use bookings::{BookingId, BookingKind, BookingRow};
pub use card_deposits::CardPayment;
pub use ceilings::OfflineBounds;
pub use chips::{ChipRow, NewChip};
pub use closings::{Closing, Rest};
pub use debits::{DebitId, DebitRow, DebitState};
pub use deposits::{Correction, Receipt, RequestKey};
pub use error::{LedgerError, Refusal};
pub use flags::{FlagRow, QuarantineRow};
pub use ingest::Reread;
pub use key_sets::KeySetRow;
pub use notices::{Audience, NoticeFilter, NoticeId, NoticeReason, NoticeRow};
pub use orders::OrderAnswer;
pub use positions::Asking;
pub use products::{NewProduct, ProductRow};
pub use refunds::Refund;
pub use restore::{FrozenCanteen, Life, MissingTill, NextStep, Restore};
pub use settlements::{ChargeState, ListedCharge, Settlement, SettlementFile};
pub use siblings::Reachable;
pub use statuses::{BLOCK_GRACE, StatusAtTill, StatusSpread};
pub use store::{HubLedger, HubReader};
pub use tenancy::{CanteenId, CanteenRow, Reach, TenantId};
pub use tills::{Enrolment, Fingerprint, NewTill, TillAccess, TillRow};
pub use top_up_rules::{TOP_UP_AMOUNT_MAX, TOP_UP_AMOUNT_MIN, TopUpRules};
pub use top_ups::{
    ChargeAnswer, ChargeOrder, DeclineKind, GatewayCharge, ImportedCharges, RefundAnswer,
    RefundOrder, TopUpId, TopUpRow, TopUpStage, TopUpWork, UnmatchedCharge, UnmatchedId,
};
pub use z_reports::{DayBooks, ZReportRow};
