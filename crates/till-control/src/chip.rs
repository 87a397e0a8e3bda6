//! What the till knows about a chip and its account.

use canteen::{
    Account, AccountId, BusinessDay, CardNumber, ChipId, Money, Status, TopUp, TopUpState,
};
use serde::{Deserialize, Serialize};
use sync_proto::wire;

use crate::sale::Currency;

/// The answer about one chip number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipAnswer {
    /// The number as it was understood: the UID in upper-case hex, or the 14 digits of a card.
    pub asked: String,
    /// The chip; `null` when the till does not know it.
    pub chip: Option<ChipFacts>,
}

/// A chip that the till knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipFacts {
    /// The UID in upper-case hex.
    #[serde(with = "wire::chip")]
    pub uid: ChipId,
    /// The same UID as a decimal, most significant byte first; only 4-byte chips have one.
    pub decimal: Option<u32>,
    /// The number printed on the card, when there is one.
    #[serde(with = "wire::optional_card", default)]
    pub card: Option<CardNumber>,
    /// The hub's number of the chip, as in the ledger's entries.
    pub number: i64,
    /// Whether the chip may buy: `active`, `blocked`, `closed`.
    #[serde(with = "wire::status")]
    pub status: Status,
    /// Whether it must prove itself: its bare UID does not pay.
    #[serde(default)]
    pub must_prove: bool,
    /// The account that it pays from.
    pub account: AccountFacts,
    /// The holder's name, when the till has it.
    pub holder: Option<String>,
}

/// An account as the till sees it; all amounts in øre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// Its number.
    #[serde(with = "wire::account")]
    pub id: AccountId,
    /// Whether it may buy: `active`, `blocked`, `closed`.
    #[serde(with = "wire::status")]
    pub status: Status,
    /// The currency of all amounts.
    pub currency: Currency,
    /// What it holds, less this till's sales that the hub has not booked yet.
    #[serde(with = "wire::money")]
    pub balance: Money,
    /// How far below zero it may go.
    #[serde(with = "wire::money")]
    pub credit: Money,
    /// What may still be sold on it without contact to the hub; `null` is no such cap.
    #[serde(with = "wire::optional_money", default)]
    pub allowance: Option<Money>,
    /// What may still be sold at this till of limits that are strict; `null` when they are not.
    #[serde(with = "wire::optional_money", default)]
    pub share: Option<Money>,
    /// The holder's limits.
    pub limits: LimitAmounts,
    /// What counts against them.
    pub spent: SpentAmounts,
    /// The automatic top-up agreement, if there is one.
    pub top_up: Option<TopUpFacts>,
}

/// Limits in øre; `null` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitAmounts {
    /// In a business day.
    #[serde(with = "wire::optional_money", default)]
    pub day: Option<Money>,
    /// In an ISO week.
    #[serde(with = "wire::optional_money", default)]
    pub week: Option<Money>,
    /// In a calendar month.
    #[serde(with = "wire::optional_money", default)]
    pub month: Option<Money>,
}

/// What has been spent in the windows of one day, in øre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentAmounts {
    /// The day whose windows these are.
    #[serde(with = "wire::text")]
    pub on: BusinessDay,
    /// In the day.
    #[serde(with = "wire::money")]
    pub day: Money,
    /// In its week.
    #[serde(with = "wire::money")]
    pub week: Money,
    /// In its month.
    #[serde(with = "wire::money")]
    pub month: Money,
}

/// An automatic top-up agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpFacts {
    /// The agreed amount, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// Whether enough has been paid in for the agreement to take effect.
    pub armed: bool,
    /// What became of the latest top-up: `idle`, `pending`, `failed`.
    #[serde(with = "wire::top_up_state")]
    pub state: TopUpState,
}

impl AccountFacts {
    /// The facts of an account on a day; windows that have ended count from zero.
    pub fn of(account: &Account, on: BusinessDay) -> AccountFacts {
        let spent = account.spent.as_of(on);
        AccountFacts {
            id: account.id,
            status: account.status,
            currency: Currency::Dkk,
            balance: account.balance,
            credit: account.credit,
            allowance: account.allowance,
            share: account
                .strict
                .and_then(|strict| strict.left(&account.limits, on)),
            limits: LimitAmounts {
                day: account.limits.day,
                week: account.limits.week,
                month: account.limits.month,
            },
            spent: SpentAmounts {
                on,
                day: spent.day(),
                week: spent.week(),
                month: spent.month(),
            },
            top_up: account.top_up.map(TopUpFacts::from),
        }
    }
}

impl From<TopUp> for TopUpFacts {
    fn from(top_up: TopUp) -> TopUpFacts {
        TopUpFacts {
            amount: top_up.amount,
            armed: top_up.armed,
            state: top_up.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use canteen::{Limits, Spent};

    use super::*;

    fn account() -> Account {
        let on = "2026-11-20".parse().unwrap();
        Account {
            id: AccountId(7),
            status: Status::Active,
            balance: Money::from_ore(149_50),
            credit: Money::ZERO,
            limits: Limits {
                day: Some(Money::from_kroner(40)),
                ..Limits::default()
            },
            spent: Spent::new(
                on,
                Money::from_kroner(14),
                Money::from_kroner(14),
                Money::from_kroner(14),
            ),
            strict: None,
            allowance: None,
            top_up: None,
        }
    }

    #[track_caller]
    fn check(on: &str, spent: &str) {
        let facts = AccountFacts::of(&account(), on.parse().unwrap());
        let json = serde_json::to_string(&facts).unwrap();
        let expect = format!(
            r#"{{"id":7,"status":"active","currency":"DKK","balance":14950,"credit":0,"allowance":null,"share":null,"limits":{{"day":4000,"week":null,"month":null}},"spent":{spent},"top_up":null}}"#
        );
        assert_eq!(json, expect);
        assert_eq!(serde_json::from_str::<AccountFacts>(&json).unwrap(), facts);
    }

    #[test]
    fn spending_is_shown_as_of_the_day_asked_for() {
        check(
            "2026-11-20",
            r#"{"on":"2026-11-20","day":1400,"week":1400,"month":1400}"#,
        );
        check(
            "2026-11-23",
            r#"{"on":"2026-11-23","day":0,"week":0,"month":1400}"#,
        );
    }

    #[test]
    fn an_unknown_chip_is_an_answer() {
        let answer = ChipAnswer {
            asked: "72BF9961".into(),
            chip: None,
        };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"asked":"72BF9961","chip":null}"#);
    }
}
