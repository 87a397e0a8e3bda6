//! The totals of a business day: shown (X), or written down under a number (Z).

use canteen::{BusinessDay, Money};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{TillId, Totals, wire};

use crate::optional::moment;
use crate::sale::{Currency, EntryPlace};

/// The totals of a business day. All amounts are in øre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayReportAnswer {
    /// The till's name.
    pub till: TillId,
    /// The canteen it stands in, once the hub has said so.
    pub canteen: Option<String>,
    /// The number of a Z report; `null` for an X report, which has none.
    pub number: Option<u64>,
    /// The business day.
    #[serde(with = "wire::text")]
    pub day: BusinessDay,
    /// The till's time when it was made (RFC 3339, UTC); `null` for a report of earlier.
    #[serde(with = "moment", default)]
    pub made_at: Option<Timestamp>,
    /// The last entry that the totals contain.
    pub through_seq: u64,
    /// The currency of all amounts.
    pub currency: Currency,
    /// The sales.
    pub sales: Totals,
    /// What was taken back.
    pub voids: Totals,
    /// The sales less what was taken back.
    #[serde(with = "wire::money")]
    pub net: Money,
    /// How many purchases were declined.
    pub declines: u64,
    /// Where a Z report stands in the ledger; `null` for an X report, which is not written.
    pub entry: Option<EntryPlace>,
    /// Whether this is the recorded report of an id that was used before.
    pub replayed: bool,
}
