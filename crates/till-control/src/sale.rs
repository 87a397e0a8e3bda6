//! What became of a sale or of taking one back.

use canteen::{AccountId, DeclineReason, Money, TopUpOutcome};
use serde::{Deserialize, Serialize};
use sync_proto::{Epoch, TillId, wire};
use uuid::Uuid;

/// What became of a sale; `tillctl sell --json` prints it as it is. All amounts are in øre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SellAnswer {
    /// Whether the chip paid.
    pub decision: SellDecision,
    /// Why it did not; `null` when approved.
    pub reason: Option<SellReason>,
    /// The sale's id. Once it has an `entry`, the same id again gives this answer and sells
    /// nothing.
    pub id: Uuid,
    /// The currency of all amounts.
    pub currency: Currency,
    /// What the lines cost together.
    #[serde(with = "wire::money")]
    pub total: Money,
    /// The account that the chip pays from; `null` when no chip was read or the till does not know
    /// it, and from a daemon that is older than this field.
    #[serde(with = "crate::optional::account", default)]
    pub account: Option<AccountId>,
    /// The name of whose account it is, when the till has it.
    #[serde(default)]
    pub holder: Option<String>,
    /// What the account holds now: after the sale, or unchanged by a decline; `null` when no
    /// account is known.
    #[serde(with = "wire::optional_money", default)]
    pub balance_after: Option<Money>,
    /// The limit that was in the way, if one was.
    #[serde(with = "wire::optional_money", default)]
    pub limit: Option<Money>,
    /// What is left of that limit or, for `limit_not_here`, `offline_allowance` and `stale_data`,
    /// what may still be bought for.
    #[serde(with = "wire::optional_money", default)]
    pub left: Option<Money>,
    /// Where it stands in the ledger; `null` when nothing was written (no account is known).
    pub entry: Option<EntryPlace>,
    /// What it does to the automatic top-up: `none`, `requested`, `pending`, `failed`.
    #[serde(with = "wire::top_up_outcome")]
    pub top_up: TopUpOutcome,
    /// Whether this is the recorded answer to an id that was used before.
    pub replayed: bool,
    /// What the cashier's screen says.
    pub message: Message,
}

impl SellAnswer {
    /// A sale for which no chip was read, so that nothing was booked.
    pub fn without_chip(id: Uuid, total: Money, why: SellReason, message: Message) -> SellAnswer {
        SellAnswer {
            decision: SellDecision::Declined,
            reason: Some(why),
            id,
            currency: Currency::Dkk,
            total,
            account: None,
            holder: None,
            balance_after: None,
            limit: None,
            left: None,
            entry: None,
            top_up: TopUpOutcome::None,
            replayed: false,
            message,
        }
    }
}

/// Whether a chip paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SellDecision {
    /// It did.
    Approved,
    /// It did not.
    Declined,
}

/// Why a sale was not made: the canteen's reasons, and those for which no chip got that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SellReason {
    /// The till cannot write to its ledger.
    JournalUnavailable,
    /// No account is known for the chip.
    UnknownChip,
    /// The chip must prove itself and did not: it may be a copy.
    ChipAuthFailed,
    /// The chip is blocked or closed.
    ChipBlocked,
    /// The account is blocked or closed.
    AccountBlocked,
    /// The till's data is too old for this purchase.
    StaleData,
    /// The daily limit does not allow it.
    LimitDay,
    /// The weekly limit does not allow it.
    LimitWeek,
    /// The monthly limit does not allow it.
    LimitMonth,
    /// The balance does not cover it.
    InsufficientFunds,
    /// The limits are strict, and this till has no share of them that allows it.
    LimitNotHere,
    /// Without contact to the hub the till may not sell that much.
    OfflineAllowance,
    /// A chip was there but could not be read.
    ChipUnreadable,
    /// No chip was tapped in time.
    TimedOut,
    /// The sale was cancelled before a chip was tapped.
    Cancelled,
}

impl SellReason {
    /// All of them, the canteen's in order of precedence.
    pub const ALL: [SellReason; 15] = [
        SellReason::JournalUnavailable,
        SellReason::UnknownChip,
        SellReason::ChipAuthFailed,
        SellReason::ChipBlocked,
        SellReason::AccountBlocked,
        SellReason::StaleData,
        SellReason::LimitDay,
        SellReason::LimitWeek,
        SellReason::LimitMonth,
        SellReason::InsufficientFunds,
        SellReason::LimitNotHere,
        SellReason::OfflineAllowance,
        SellReason::ChipUnreadable,
        SellReason::TimedOut,
        SellReason::Cancelled,
    ];

    /// The word for it on the wire.
    pub fn code(self) -> &'static str {
        match self {
            SellReason::JournalUnavailable => "journal_unavailable",
            SellReason::UnknownChip => "unknown_chip",
            SellReason::ChipAuthFailed => "chip_auth_failed",
            SellReason::ChipBlocked => "chip_blocked",
            SellReason::AccountBlocked => "account_blocked",
            SellReason::StaleData => "stale_data",
            SellReason::LimitDay => "limit_day",
            SellReason::LimitWeek => "limit_week",
            SellReason::LimitMonth => "limit_month",
            SellReason::InsufficientFunds => "insufficient_funds",
            SellReason::LimitNotHere => "limit_not_here",
            SellReason::OfflineAllowance => "offline_allowance",
            SellReason::ChipUnreadable => "chip_unreadable",
            SellReason::TimedOut => "timed_out",
            SellReason::Cancelled => "cancelled",
        }
    }

    /// Reads [`SellReason::code`], for example from a recorded decline.
    pub fn from_code(code: &str) -> Option<SellReason> {
        SellReason::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
    }
}

impl From<&DeclineReason> for SellReason {
    fn from(reason: &DeclineReason) -> SellReason {
        match reason {
            DeclineReason::JournalUnavailable => SellReason::JournalUnavailable,
            DeclineReason::UnknownChip => SellReason::UnknownChip,
            DeclineReason::ChipAuthFailed => SellReason::ChipAuthFailed,
            DeclineReason::ChipBlocked => SellReason::ChipBlocked,
            DeclineReason::AccountBlocked => SellReason::AccountBlocked,
            DeclineReason::StaleData { .. } => SellReason::StaleData,
            DeclineReason::LimitDay(_) => SellReason::LimitDay,
            DeclineReason::LimitWeek(_) => SellReason::LimitWeek,
            DeclineReason::LimitMonth(_) => SellReason::LimitMonth,
            DeclineReason::InsufficientFunds { .. } => SellReason::InsufficientFunds,
            DeclineReason::LimitNotHere { .. } => SellReason::LimitNotHere,
            DeclineReason::OfflineAllowance { .. } => SellReason::OfflineAllowance,
        }
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlace {
    /// The till whose ledger it is in.
    pub till: TillId,
    /// The epoch of that ledger.
    pub epoch: Epoch,
    /// Its sequence number.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
}

/// The same sentence in the languages of the screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// In Danish.
    pub da: String,
    /// In English.
    pub en: String,
}

impl Message {
    /// A sentence in both languages.
    pub fn new(da: impl Into<String>, en: impl Into<String>) -> Message {
        Message {
            da: da.into(),
            en: en.into(),
        }
    }
}

/// The currency of all amounts in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Currency {
    /// Danish kroner; amounts are in øre, the hundredth part.
    #[default]
    #[serde(rename = "DKK")]
    Dkk,
}

/// A sale was taken back. All amounts are in øre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidAnswer {
    /// The sale's id.
    pub sale: Uuid,
    /// The account that got the money back.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// The currency of all amounts.
    pub currency: Currency,
    /// How much it got back.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// What the account holds now.
    #[serde(with = "wire::money")]
    pub balance_after: Money,
    /// Where the void stands in the ledger.
    pub entry: EntryPlace,
    /// Whether the sale had been taken back before and this is the recorded answer.
    pub replayed: bool,
    /// What the cashier's screen says.
    pub message: Message,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use canteen::LimitFacts;

    use super::*;

    #[track_caller]
    fn check(reason: &DeclineReason) {
        assert_eq!(SellReason::from(reason).code(), reason.code());
    }

    #[test]
    fn the_canteens_reasons_keep_their_codes() {
        let facts = LimitFacts {
            limit: Money::ZERO,
            spent: Money::ZERO,
            left: Money::ZERO,
        };
        check(&DeclineReason::JournalUnavailable);
        check(&DeclineReason::UnknownChip);
        check(&DeclineReason::ChipAuthFailed);
        check(&DeclineReason::ChipBlocked);
        check(&DeclineReason::AccountBlocked);
        check(&DeclineReason::StaleData {
            age: Duration::ZERO,
            purchase_max: None,
        });
        check(&DeclineReason::LimitDay(facts));
        check(&DeclineReason::LimitWeek(facts));
        check(&DeclineReason::LimitMonth(facts));
        check(&DeclineReason::InsufficientFunds {
            balance: Money::ZERO,
        });
        check(&DeclineReason::LimitNotHere { left: Money::ZERO });
        check(&DeclineReason::OfflineAllowance { left: Money::ZERO });
    }

    #[test]
    fn codes_are_the_words_on_the_wire() {
        for reason in SellReason::ALL {
            let quoted = format!("{:?}", reason.code());
            assert_eq!(serde_json::to_string(&reason).unwrap(), quoted);
            assert_eq!(SellReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(SellReason::from_code("on_fire"), None);
    }

    #[test]
    fn an_answer_without_a_chip_has_nulls_for_what_is_not_known() {
        let answer = SellAnswer::without_chip(
            Uuid::from_u128(1),
            Money::from_kroner(22),
            SellReason::TimedOut,
            Message::new("Ingen brik", "No chip"),
        );
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"decision":"declined","reason":"timed_out","id":"00000000-0000-0000-0000-000000000001","currency":"DKK","total":2200,"account":null,"holder":null,"balance_after":null,"limit":null,"left":null,"entry":null,"top_up":"none","replayed":false,"message":{"da":"Ingen brik","en":"No chip"}}"#
        );
    }

    #[test]
    fn the_answer_of_an_older_daemon_names_no_account_and_a_newer_one_may_say_more() {
        let older = r#"{"decision":"approved","reason":null,"id":"00000000-0000-0000-0000-000000000001","currency":"DKK","total":2200,"balance_after":5800,"limit":null,"left":null,"entry":null,"top_up":"none","replayed":false,"message":{"da":"Godkendt","en":"Approved"}}"#;
        let answer: SellAnswer = serde_json::from_str(older).unwrap();
        assert_eq!((answer.account, answer.holder), (None, None));

        let newer = older.replacen('{', r#"{"account":7,"holder":"Elev 7","seat":"window","#, 1);
        let answer: SellAnswer = serde_json::from_str(&newer).unwrap();
        assert_eq!(answer.account, Some(AccountId(7)));
        assert_eq!(answer.holder.as_deref(), Some("Elev 7"));
    }
}
