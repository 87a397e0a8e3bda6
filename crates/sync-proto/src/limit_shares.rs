//! A till's shares of an account's strict limits, as the feed brings them.
//!
//! A till that does not know strict limits would drop these fields and sell by the limits alone. The
//! hub therefore gives nothing to sell on such an account to a till that has not said, in entries of
//! its ledger, that its program keeps strict limits ([`crate::Start::strict_limits`],
//! [`crate::FeedAck::strict_limits`]).

use canteen::{BusinessDay, LimitShare, LimitShares, Money};
use serde::{Deserialize, Serialize};

use crate::wire;

/// A till's shares of an account's strict limits; a limit that is not set has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSharesRecord {
    /// The business day in whose windows the ceilings hold. In earlier windows nothing may be sold.
    #[serde(with = "wire::text")]
    pub on: BusinessDay,
    /// Of the daily limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<LimitShareRecord>,
    /// Of the weekly limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week: Option<LimitShareRecord>,
    /// Of the monthly limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<LimitShareRecord>,
}

/// A till's share of one limit, in øre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitShareRecord {
    /// The highest sum of sales that this till may make on the account in this epoch, in the window
    /// of `on`.
    #[serde(with = "wire::money")]
    pub ceiling: Money,
    /// What this till may sell in each later window.
    #[serde(with = "wire::money")]
    pub ahead: Money,
}

impl From<LimitSharesRecord> for LimitShares {
    fn from(record: LimitSharesRecord) -> LimitShares {
        LimitShares {
            on: record.on,
            day: record.day.map(LimitShare::from),
            week: record.week.map(LimitShare::from),
            month: record.month.map(LimitShare::from),
        }
    }
}

impl From<LimitShares> for LimitSharesRecord {
    fn from(shares: LimitShares) -> LimitSharesRecord {
        LimitSharesRecord {
            on: shares.on,
            day: shares.day.map(LimitShareRecord::from),
            week: shares.week.map(LimitShareRecord::from),
            month: shares.month.map(LimitShareRecord::from),
        }
    }
}

impl From<LimitShareRecord> for LimitShare {
    fn from(record: LimitShareRecord) -> LimitShare {
        LimitShare {
            ceiling: record.ceiling,
            ahead: record.ahead,
        }
    }
}

impl From<LimitShare> for LimitShareRecord {
    fn from(share: LimitShare) -> LimitShareRecord {
        LimitShareRecord {
            ceiling: share.ceiling,
            ahead: share.ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccountRecord, FeedAck, Start};

    #[test]
    fn a_record_of_a_hub_without_strict_limits_is_lenient() {
        let old = r#"{"id":1001,"position":0,"incl_seq":0,"status":"active",
            "spent":{"on":"2026-11-20","day":0,"week":0,"month":0},"limits":{"day":5000}}"#;
        let record: AccountRecord = serde_json::from_str(old).unwrap();
        assert!(!record.limits.strict);
        assert_eq!(record.shares, None);
        let written = serde_json::to_string(&record).unwrap();
        assert!(
            !written.contains("strict") && !written.contains("shares"),
            "{written}"
        );
    }

    #[test]
    fn shares_look_on_the_wire_as_written_down() {
        let json = r#"{"on":"2026-11-20","day":{"ceiling":184500,"ahead":5000}}"#;
        let record: LimitSharesRecord = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), json);
        let shares = LimitShares::from(record);
        assert_eq!(LimitSharesRecord::from(shares), record);
        assert_eq!(
            shares.day.map(|share| share.ahead),
            Some(Money::from_kroner(50))
        );
        assert_eq!(shares.week, None);
    }

    #[test]
    fn an_entry_of_an_older_till_says_that_it_keeps_no_strict_limits() {
        let start: Start = serde_json::from_str(r#"{"version":"0.1.0"}"#).unwrap();
        assert!(!start.strict_limits);
        let ack: FeedAck = serde_json::from_str("{}").unwrap();
        assert!(!ack.strict_limits);
        assert_eq!(serde_json::to_string(&ack).unwrap(), "{}");
    }
}
