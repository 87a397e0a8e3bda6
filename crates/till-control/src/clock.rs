//! What the till makes of its wall clock.

use canteen::BusinessDay;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::wire;

use crate::optional::moment;
use crate::sale::EntryPlace;

/// Whether the clock can be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnswer {
    /// How the clock is.
    pub state: ClockCondition,
    /// What the clock shows (RFC 3339, UTC).
    #[serde(with = "wire::text")]
    pub shows: Timestamp,
    /// What the till believes instead; the same while the clock is right.
    #[serde(with = "wire::text")]
    pub believed: Timestamp,
    /// What the hub's clock shows; `null` when the hub has not told since the machine started.
    #[serde(with = "moment", default)]
    pub hub: Option<Timestamp>,
    /// The business day on which sales are booked.
    #[serde(with = "wire::text")]
    pub day: BusinessDay,
    /// Where the confirmation stands in the ledger; `null` when there was nothing to confirm.
    pub entry: Option<EntryPlace>,
}

/// How a wall clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockCondition {
    /// It goes on as it should.
    Right,
    /// It shows a time that has been.
    Back,
    /// It is far ahead of what can be explained without the hub or a person.
    Forward,
}
