//! Records that tills replicate: accounts, chips, holders and products.
//!
//! A change is the newest state of one record. Its version (`rv`) rises with every change at the
//! hub; a till applies a record only when the version is higher than the one it has.

use canteen::{
    Account, AccountId, BusinessDay, CardNumber, ChipId, LimitMode, Limits, Money, Spent, Status,
    TopUpState,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::from_value;

use crate::limit_shares::LimitSharesRecord;
use crate::wire;

/// One changed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its version.
    pub rv: u64,
    /// The record, or that it is gone.
    #[serde(flatten)]
    pub record: Record,
}

/// A record of the till's replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "k", content = "d", rename_all = "snake_case")]
pub enum Record {
    /// An account.
    Account(AccountRecord),
    /// An account that is gone.
    AccountGone {
        /// Its number.
        #[serde(with = "wire::account")]
        id: AccountId,
    },
    /// A chip.
    Chip(ChipRecord),
    /// A chip that is gone.
    ChipGone {
        /// Its UID in hex.
        #[serde(with = "wire::chip")]
        uid: ChipId,
    },
    /// The person behind an account, as the cashier sees them.
    Holder(HolderRecord),
    /// A holder that is gone.
    HolderGone {
        /// The account's number.
        #[serde(with = "wire::account")]
        account: AccountId,
    },
    /// A product for the cashier's buttons.
    Product(ProductRecord),
    /// The keys of the canteen's chips have changed; they are fetched sealed, apart from the feed.
    ChipKeys,
    /// A product that is gone.
    ProductGone {
        /// Its number.
        id: i64,
    },
    /// A kind of record that only newer tills know; left alone.
    Unknown,
}

/// By hand, because a page must survive kinds of records that this program does not know.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Record, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            k: String,
            #[serde(default)]
            d: serde_json::Value,
        }
        #[derive(Deserialize)]
        struct AccountGone {
            #[serde(with = "wire::account")]
            id: AccountId,
        }
        #[derive(Deserialize)]
        struct ChipGone {
            #[serde(with = "wire::chip")]
            uid: ChipId,
        }
        #[derive(Deserialize)]
        struct HolderGone {
            #[serde(with = "wire::account")]
            account: AccountId,
        }
        #[derive(Deserialize)]
        struct ProductGone {
            id: i64,
        }

        let Tagged { k, d } = Tagged::deserialize(input)?;
        let record = match k.as_str() {
            "account" => from_value(d).map(Record::Account),
            "account_gone" => from_value(d).map(|AccountGone { id }| Record::AccountGone { id }),
            "chip" => from_value(d).map(Record::Chip),
            "chip_gone" => from_value(d).map(|ChipGone { uid }| Record::ChipGone { uid }),
            "holder" => from_value(d).map(Record::Holder),
            "holder_gone" => {
                from_value(d).map(|HolderGone { account }| Record::HolderGone { account })
            }
            "product" => from_value(d).map(Record::Product),
            "chip_keys" => Ok(Record::ChipKeys),
            "product_gone" => from_value(d).map(|ProductGone { id }| Record::ProductGone { id }),
            _ => Ok(Record::Unknown),
        };
        record.map_err(|error| D::Error::custom(format!("record of kind {k:?}: {error}")))
    }
}

/// An account as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its number.
    #[serde(with = "wire::account")]
    pub id: AccountId,
    /// The balance that the hub has booked, in øre; may be negative.
    #[serde(with = "wire::money")]
    pub position: Money,
    /// The till's own entries up to this number are contained in `position` and `spent`.
    pub incl_seq: u64,
    /// Whether it may buy.
    #[serde(with = "wire::status")]
    pub status: Status,
    /// The version of the status; see [`StatusChange::status_rv`](crate::StatusChange::status_rv).
    #[serde(default)]
    pub status_rv: u64,
    /// How far below zero it may go, in øre.
    #[serde(with = "wire::money", default)]
    pub credit: Money,
    /// The holder's limits.
    #[serde(default)]
    pub limits: LimitsRecord,
    /// What counts against them.
    pub spent: SpentRecord,
    /// The highest sum of sales that this till may make on the account in this epoch, in øre;
    /// absent: keep the one in force.
    #[serde(
        with = "wire::optional_money",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub ceiling: Option<Money>,
    /// The till's shares of the limits when these are strict; absent: keep those in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<LimitSharesRecord>,
    /// The automatic top-up agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_up: Option<TopUpRecord>,
}

impl AccountRecord {
    /// The account as a till with no sales of its own after `incl_seq` sees it.
    pub fn to_account(&self) -> Account {
        Account {
            id: self.id,
            status: self.status,
            balance: self.position,
            credit: self.credit,
            limits: self.limits.into(),
            spent: self.spent.into(),
            strict: None,
            allowance: None,
            top_up: self.top_up.map(|top_up| canteen::TopUp {
                amount: top_up.amount,
                armed: top_up.armed,
                state: top_up.state,
            }),
        }
    }
}

/// Limits in øre; absent or null is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LimitsRecord {
    /// In a business day.
    #[serde(with = "wire::optional_money", default)]
    pub day: Option<Money>,
    /// In an ISO week.
    #[serde(with = "wire::optional_money", default)]
    pub week: Option<Money>,
    /// In a calendar month.
    #[serde(with = "wire::optional_money", default)]
    pub month: Option<Money>,
    /// Whether the till may sell only inside its shares of them ([`AccountRecord::shares`]), and
    /// nothing while it was given none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl From<LimitsRecord> for Limits {
    fn from(record: LimitsRecord) -> Limits {
        Limits {
            day: record.day,
            week: record.week,
            month: record.month,
            mode: match record.strict {
                true => LimitMode::Strict,
                false => LimitMode::Lenient,
            },
        }
    }
}

impl From<Limits> for LimitsRecord {
    fn from(limits: Limits) -> LimitsRecord {
        LimitsRecord {
            day: limits.day,
            week: limits.week,
            month: limits.month,
            strict: limits.mode == LimitMode::Strict,
        }
    }
}

/// What has been spent in the day, week and month of `on`, in øre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentRecord {
    /// The business day whose windows these are.
    #[serde(with = "wire::text")]
    pub on: BusinessDay,
    /// In that day.
    #[serde(with = "wire::money")]
    pub day: Money,
    /// In its ISO week.
    #[serde(with = "wire::money")]
    pub week: Money,
    /// In its month.
    #[serde(with = "wire::money")]
    pub month: Money,
}

impl From<SpentRecord> for Spent {
    fn from(record: SpentRecord) -> Spent {
        Spent::new(record.on, record.day, record.week, record.month)
    }
}

impl From<Spent> for SpentRecord {
    fn from(spent: Spent) -> SpentRecord {
        SpentRecord {
            on: spent.on(),
            day: spent.day(),
            week: spent.week(),
            month: spent.month(),
        }
    }
}

/// The automatic top-up agreement of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpRecord {
    /// The agreed amount, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// Whether enough has been paid in.
    pub armed: bool,
    /// Where the latest top-up stands: `idle`, `pending`, `failed`.
    #[serde(with = "wire::top_up_state")]
    pub state: TopUpState,
}

/// A chip as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipRecord {
    /// The hub's number of the chip, used in entries instead of the UID.
    pub number: i64,
    /// Its UID in hex.
    #[serde(with = "wire::chip")]
    pub uid: ChipId,
    /// The number printed on the card, if there is one.
    #[serde(
        default,
        with = "wire::optional_card",
        skip_serializing_if = "Option::is_none"
    )]
    pub card: Option<CardNumber>,
    /// The account that it pays from.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// Whether it may buy.
    #[serde(with = "wire::status")]
    pub status: Status,
    /// The version of the status; see [`StatusChange::status_rv`](crate::StatusChange::status_rv).
    #[serde(default)]
    pub status_rv: u64,
    /// Whether it must prove itself: its bare UID does not pay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_prove: bool,
}

/// The person behind an account: only what the cashier needs to recognise them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRecord {
    /// The account.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// The name on the cashier's screen.
    pub name: String,
    /// A picture as a `data:` URL (JPEG, PNG or SVG), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo: Option<String>,
}

/// A product for the cashier's buttons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRecord {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The heading it stands under.
    pub category: String,
    /// Its price, in øre.
    #[serde(with = "wire::money")]
    pub price: Money,
    /// Its place among the buttons.
    pub position: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: Record) {
        let change: Change = serde_json::from_str(json).unwrap();
        assert_eq!(
            change,
            Change {
                rv: 7,
                record: expect
            }
        );
    }

    #[test]
    fn every_kind_reads_back_as_written() {
        let uid = ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap();
        let on = "2026-11-20".parse().unwrap();
        let records = [
            Record::Account(AccountRecord {
                id: AccountId(1001),
                position: Money::from_ore(-5),
                incl_seq: 9,
                status: Status::Blocked,
                status_rv: 6,
                credit: Money::ZERO,
                limits: LimitsRecord {
                    day: Some(Money::from_kroner(25)),
                    ..Default::default()
                },
                spent: Spent::nothing(on).into(),
                ceiling: None,
                shares: None,
                top_up: Some(TopUpRecord {
                    amount: Money::from_kroner(300),
                    armed: true,
                    state: TopUpState::Idle,
                }),
            }),
            Record::AccountGone {
                id: AccountId(1001),
            },
            Record::ChipGone { uid },
            Record::Holder(HolderRecord {
                account: AccountId(1001),
                name: "Elev 1".into(),
                photo: None,
            }),
            Record::HolderGone {
                account: AccountId(1001),
            },
            Record::Product(ProductRecord {
                id: 1,
                name: "Dagens ret".into(),
                category: "Varmt".into(),
                price: Money::from_kroner(22),
                position: 1,
            }),
            Record::ProductGone { id: 1 },
        ];
        for record in records {
            let change = Change { rv: 7, record };
            let json = serde_json::to_string(&change).unwrap();
            assert_eq!(
                serde_json::from_str::<Change>(&json).unwrap(),
                change,
                "{json}"
            );
        }
    }

    #[test]
    fn records_of_newer_hubs_do_not_spoil_the_page() {
        check(
            r#"{"rv":7,"k":"preorder","d":{"lines":[1,2]}}"#,
            Record::Unknown,
        );
        check(
            r#"{"rv":7,"k":"product_gone","d":{"id":3,"why":"sold out"}}"#,
            Record::ProductGone { id: 3 },
        );
    }

    #[test]
    fn a_chip_is_read_with_and_without_a_card_number() {
        let uid = ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap();
        let chip = |card, must_prove| {
            Record::Chip(ChipRecord {
                number: 12,
                uid,
                card,
                account: AccountId(1001),
                status: Status::Active,
                status_rv: 0,
                must_prove,
            })
        };
        check(
            r#"{"rv":7,"k":"chip","d":{"number":12,"uid":"72bf9961","account":1001,"status":"active"}}"#,
            chip(None, false),
        );
        check(
            r#"{"rv":7,"k":"chip","d":{"number":12,"uid":"72BF9961","account":1001,"status":"active","must_prove":true}}"#,
            chip(None, true),
        );
        check(
            r#"{"rv":7,"k":"chip","d":{"number":12,"uid":"72BF9961","card":"12345678901234","account":1001,"status":"active"}}"#,
            chip(CardNumber::parse("12345678901234"), false),
        );
    }

    #[test]
    fn a_record_that_names_no_identity_is_refused() {
        let blank = r#"{"rv":7,"k":"chip_gone","d":{"uid":"00000000"}}"#;
        let error = serde_json::from_str::<Change>(blank).unwrap_err();
        assert!(error.to_string().contains("blank"), "{error}");
    }
}
