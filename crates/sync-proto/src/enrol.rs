//! How a till becomes known to the hub, once.

use serde::{Deserialize, Serialize};

use crate::identity::{Epoch, HubPublicKey, TillId, TillPublicKey};

/// A till introduces itself with the one-time code that an operator made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The till's name, as the operator gave it.
    pub till: TillId,
    /// The one-time code.
    pub code: String,
    /// The life of the till's ledger that begins with this.
    pub epoch: Epoch,
    /// The key that signs its heads.
    pub public_key: TillPublicKey,
}

/// The hub's answer: from now on the till is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// Sent as `Authorization: Bearer …` with every request of the till.
    pub token: String,
    /// The key that signs everything the hub tells the till from now on.
    pub hub_key: HubPublicKey,
    /// The canteen's name, for the screen.
    pub canteen: String,
}
