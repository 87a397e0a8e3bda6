//! A new one-time code for the till.

use serde::{Deserialize, Serialize};

/// What the till does with a new code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// Whether an old ledger is put away and an empty one begins; a till that was never enrolled
    /// begins with the one that it has.
    pub begins_anew: bool,
    /// How many entries must go up before.
    pub waiting: u64,
    /// What happens now and what to look at.
    pub text: String,
}
