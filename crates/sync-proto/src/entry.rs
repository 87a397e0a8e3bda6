//! Entries of a till's ledger: what they say and how they are chained.
//!
//! An entry is two JSON texts, header and body, written once and passed on byte for byte. The
//! hash covers those bytes, so nobody ever has to agree on a canonical form.

use std::fmt;
use std::str::FromStr;

use canteen::{AccountId, BusinessDay, Money};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::identity::{
    Epoch, HeadSignature, IdentityError, TillId, TillKey, TillPublicKey, hex_bytes,
};
use crate::wire;

hex_bytes!(
    /// The hash of an entry, which covers all entries before it (SHA-256 as hex).
    EntryHash,
    32
);

impl EntryHash {
    /// The hash that stands before the first entry of an epoch.
    pub fn genesis(till: &TillId, epoch: Epoch, key: &TillPublicKey) -> EntryHash {
        let mut hasher = Sha256::new();
        hasher.update(b"canteen-ledger-1 genesis");
        update_sized(&mut hasher, till.as_str().as_bytes());
        hasher.update(epoch.0.to_be_bytes());
        hasher.update(key.0);
        EntryHash(hasher.finalize().into())
    }

    /// The hash of the entry that follows this one.
    pub fn next(&self, till: &TillId, epoch: Epoch, seq: u64, texts: &EntryTexts) -> EntryHash {
        let mut hasher = Sha256::new();
        hasher.update(b"canteen-ledger-1 entry");
        update_sized(&mut hasher, till.as_str().as_bytes());
        hasher.update(epoch.0.to_be_bytes());
        hasher.update(seq.to_be_bytes());
        hasher.update(self.0);
        hasher.update(Sha256::digest(texts.header.as_bytes()));
        hasher.update(Sha256::digest(texts.body.as_bytes()));
        EntryHash(hasher.finalize().into())
    }
}

fn update_sized(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

/// The end of a ledger: its last sequence number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Sequence number of the last entry; 0 when there is none.
    pub seq: u64,
    /// Its hash, or the genesis hash.
    pub hash: EntryHash,
}

impl Head {
    /// Signs the head with the till's key.
    pub fn sign(&self, till: &TillId, epoch: Epoch, key: &TillKey) -> HeadSignature {
        key.sign(&self.message(till, epoch))
    }

    /// Whether the till signed this head.
    pub(crate) fn is_signed_by(
        &self,
        till: &TillId,
        epoch: Epoch,
        key: &TillPublicKey,
        signature: &HeadSignature,
    ) -> bool {
        key.verifies(&self.message(till, epoch), signature)
    }

    fn message(&self, till: &TillId, epoch: Epoch) -> Vec<u8> {
        let mut message = b"canteen-ledger-1 head".to_vec();
        message.extend((till.as_str().len() as u64).to_be_bytes());
        message.extend(till.as_str().as_bytes());
        message.extend(epoch.0.to_be_bytes());
        message.extend(self.seq.to_be_bytes());
        message.extend(self.hash.0);
        message
    }
}

/// Header and body of an entry, byte for byte as they were first written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryTexts {
    /// JSON of [`EntryHeader`].
    #[serde(rename = "h")]
    pub header: String,
    /// JSON of the body that the header's type names.
    #[serde(rename = "b")]
    pub body: String,
}

impl EntryTexts {
    /// Whether nothing is written: the place of a lost entry.
    pub fn is_empty(&self) -> bool {
        self.header.is_empty() && self.body.is_empty()
    }

    /// Writes an entry down, once.
    pub fn write(header: EntryHeader, body: &EntryBody) -> Result<EntryTexts, EntryError> {
        let header = EntryHeader {
            kind: body.kind().to_owned(),
            version: 1,
            ..header
        };
        Ok(EntryTexts {
            header: serde_json::to_string(&header).map_err(EntryError::Header)?,
            body: body.to_json().map_err(EntryError::Body)?,
        })
    }

    /// Reads the header.
    pub fn read_header(&self) -> Result<EntryHeader, EntryError> {
        serde_json::from_str(&self.header).map_err(EntryError::Header)
    }

    /// Reads header and body; fails on a kind or version that this program does not know.
    pub fn read(&self) -> Result<(EntryHeader, EntryBody), EntryError> {
        let header = self.read_header()?;
        let body = EntryBody::from_json(&header.kind, header.version, &self.body)?;
        Ok((header, body))
    }
}

/// An entry in its place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedEntry {
    /// 1, 2, 3, … within the epoch, without gaps.
    pub seq: u64,
    /// Its bytes.
    #[serde(flatten)]
    pub texts: EntryTexts,
}

/// What every entry says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHeader {
    /// Names the entry for ever; made before the entry is written or sent.
    pub id: Uuid,
    /// The till's wall clock (RFC 3339, UTC, milliseconds); informative only.
    pub ts: String,
    /// Milliseconds since the machine booted.
    pub bt: u64,
    /// Which boot that was.
    pub boot: Uuid,
    /// The business day that the entry counts on.
    #[serde(with = "wire::text")]
    pub day: BusinessDay,
    /// The feed position that the till had applied when it wrote the entry.
    pub fc: FeedPosition,
    /// The kind of entry, for example `sale`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The version of that kind.
    #[serde(rename = "v", default)]
    pub version: u16,
}

/// How far a till has applied what the hub told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct FeedPosition {
    /// The life of the hub's database; 0 before the first contact.
    pub hub_epoch: u64,
    /// The version of the last change applied.
    pub cursor: u64,
}

/// What happened. One variant per kind of entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// A purchase was approved and the goods were served.
    Sale(Sale),
    /// A purchase by a known chip was declined.
    Decline(Decline),
    /// A sale of the same till and day was taken back.
    Void(Void),
    /// The till started, with the version of its program.
    Start(Start),
    /// The till has applied the hub's changes up to the position in this entry's header. Every
    /// sale made under older ceilings stands before it, so that a hub that has booked this entry
    /// has booked those sales too.
    FeedAck(FeedAck),
    /// What the till is allowed and has sold, told to a hub that may have lost what it knew.
    StateReport(StateReport),
    /// The totals of a business day, told so that the hub can hold its books against them.
    ZReport(ZReport),
    /// The wall clock did not go on as it should.
    ClockEvent(ClockEvent),
}

impl EntryBody {
    /// The word for the kind on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            EntryBody::Sale(_) => "sale",
            EntryBody::Decline(_) => "decline",
            EntryBody::Void(_) => "void",
            EntryBody::Start(_) => "start",
            EntryBody::FeedAck(_) => "feed_ack",
            EntryBody::StateReport(_) => "state_report",
            EntryBody::ZReport(_) => "z_report",
            EntryBody::ClockEvent(_) => "clock_event",
        }
    }

    fn to_json(&self) -> serde_json::Result<String> {
        match self {
            EntryBody::Sale(body) => serde_json::to_string(body),
            EntryBody::Decline(body) => serde_json::to_string(body),
            EntryBody::Void(body) => serde_json::to_string(body),
            EntryBody::Start(body) => serde_json::to_string(body),
            EntryBody::FeedAck(body) => serde_json::to_string(body),
            EntryBody::StateReport(body) => serde_json::to_string(body),
            EntryBody::ZReport(body) => serde_json::to_string(body),
            EntryBody::ClockEvent(body) => serde_json::to_string(body),
        }
    }

    fn from_json(kind: &str, version: u16, json: &str) -> Result<EntryBody, EntryError> {
        let read = match (kind, version) {
            ("sale", 1) => serde_json::from_str(json).map(EntryBody::Sale),
            ("decline", 1) => serde_json::from_str(json).map(EntryBody::Decline),
            ("void", 1) => serde_json::from_str(json).map(EntryBody::Void),
            ("start", 1) => serde_json::from_str(json).map(EntryBody::Start),
            ("feed_ack", 1) => serde_json::from_str(json).map(EntryBody::FeedAck),
            ("state_report", 1) => serde_json::from_str(json).map(EntryBody::StateReport),
            ("z_report", 1) => serde_json::from_str(json).map(EntryBody::ZReport),
            ("clock_event", 1) => serde_json::from_str(json).map(EntryBody::ClockEvent),
            _ => {
                return Err(EntryError::UnknownKind {
                    kind: kind.to_owned(),
                    version,
                });
            }
        };
        read.map_err(EntryError::Body)
    }
}

/// An approved purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The account that paid.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// The hub's number of the chip that was tapped.
    pub chip: i64,
    /// What it cost in all, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// What was bought.
    pub lines: Vec<SaleLine>,
    /// What the till believed the account to hold afterwards, in øre.
    #[serde(with = "wire::money")]
    pub balance_after: Money,
    /// Whether the hub answered at the time.
    pub online: bool,
    /// What it does to the automatic top-up: `none`, `requested`, `pending`, `failed`.
    #[serde(with = "wire::top_up_outcome")]
    pub top_up: canteen::TopUpOutcome,
}

/// A line of a purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleLine {
    /// How many pieces.
    pub quantity: u32,
    /// What it is called, as on the receipt.
    pub text: String,
    /// The price of one piece, in øre.
    #[serde(with = "wire::money")]
    pub unit_price: Money,
    /// The price of the line, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
}

/// A declined purchase by a known chip; kept because guardians ask why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The account that would have paid.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// The hub's number of the chip that was tapped.
    pub chip: i64,
    /// What it would have cost, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// The code of the reason, for example `insufficient_funds`.
    pub reason: String,
    /// What the till believed the account to hold, in øre.
    #[serde(with = "wire::money")]
    pub balance: Money,
    /// The limit in the way, in øre, when one was.
    #[serde(
        with = "wire::optional_money",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub limit: Option<Money>,
    /// What was left of it, in øre.
    #[serde(
        with = "wire::optional_money",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub left: Option<Money>,
    /// Whether the hub answered at the time.
    pub online: bool,
    /// What it does to the automatic top-up.
    #[serde(with = "wire::top_up_outcome")]
    pub top_up: canteen::TopUpOutcome,
}

/// A sale taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// The sale's id.
    pub of: Uuid,
    /// The sale's sequence number, in the same epoch.
    pub of_seq: u64,
    /// The account that gets the money back.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// How much it gets back, in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
    /// The lines taken back; absent: the whole sale, or what is left of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<VoidLine>,
    /// What the till believes the account to hold afterwards, in øre.
    #[serde(with = "wire::money")]
    pub balance_after: Money,
}

/// A line of a sale, or some pieces of it, taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidLine {
    /// The line's place in the sale, from 0.
    pub line: u32,
    /// How many pieces of it.
    pub quantity: u32,
}

/// A start of the till's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The version of the program.
    pub version: String,
    /// Whether the program keeps strict limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_limits: bool,
}

/// An acknowledgement; what is acknowledged is the feed position in the entry's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FeedAck {
    /// Whether the program keeps strict limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_limits: bool,
}

/// The ceilings in force at a till, in one or several parts. Written when the hub shows a new
/// `hub_epoch`: its database is another one, perhaps a backup, and it may not give anything to
/// spend before it knows what it gave away already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The life of the hub's database that is reported to.
    pub hub_epoch: u64,
    /// Which part this is, from 1.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// The accounts on which a ceiling is in force or something was sold in this epoch.
    pub accounts: Vec<AccountState>,
}

/// The most accounts in one part of a [`StateReport`].
pub const STATE_REPORT_MAX: usize = 1000;

/// What a till may sell and has sold on one account in its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The account.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// The ceiling in force, in øre; absent when none was ever given.
    #[serde(
        with = "wire::optional_money",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub ceiling: Option<Money>,
    /// The sum of its sales, counted gross, in øre.
    #[serde(with = "wire::money")]
    pub gross: Money,
}

/// The totals of a till's business day: of all its entries of that day up to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZReport {
    /// 1, 2, 3, … within the epoch.
    pub number: u64,
    /// The business day.
    #[serde(with = "wire::text")]
    pub day: BusinessDay,
    /// The last entry that the totals contain.
    pub through_seq: u64,
    /// The sales.
    pub sales: Totals,
    /// The voids.
    pub voids: Totals,
    /// How many purchases were declined.
    pub declines: u64,
}

/// How many entries, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their sum in øre.
    #[serde(with = "wire::money")]
    pub amount: Money,
}

/// A jump of the wall clock; business days go on from the later of what was and what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockEvent {
    /// What happened: `back`, `forward` or `confirmed`.
    pub event: ClockJump,
    /// What the clock should have shown (RFC 3339, UTC).
    pub expected: String,
    /// What it showed (RFC 3339, UTC).
    pub found: String,
}

/// How a clock went wrong, or was set right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockJump {
    /// It shows a time that has been.
    Back,
    /// It shows a time far ahead of what can be.
    Forward,
    /// The hub's clock, or a person, says that it is right now.
    Confirmed,
}

/// Why an entry cannot be written or read.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The header is not what it should be.
    #[error("the entry's header cannot be read")]
    Header(#[source] serde_json::Error),
    /// The body is not what its kind says.
    #[error("the entry's body cannot be read")]
    Body(#[source] serde_json::Error),
    /// A newer program wrote it.
    #[error("entries of kind {kind:?} version {version} are not known here")]
    UnknownKind {
        /// The kind.
        kind: String,
        /// Its version.
        version: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn till() -> TillId {
        "kasse-1".parse().unwrap()
    }

    fn texts(body: &str) -> EntryTexts {
        EntryTexts {
            header: "{\"id\":1}".into(),
            body: body.into(),
        }
    }

    /// The hex was calculated with Python's hashlib from the description in this module.
    #[test]
    fn the_chain_is_calculated_as_written_down() {
        let genesis = EntryHash::genesis(&till(), Epoch(8), &TillPublicKey([1; 32]));
        assert_eq!(genesis.to_string(), GENESIS);
        let first = genesis.next(&till(), Epoch(8), 1, &texts("{}"));
        assert_eq!(first.to_string(), FIRST);
    }

    #[test]
    fn the_chain_depends_on_every_part() {
        let start = EntryHash::genesis(&till(), Epoch(8), &TillPublicKey([1; 32]));
        let base = start.next(&till(), Epoch(8), 1, &texts("{}"));
        let other: TillId = "kasse-2".parse().unwrap();
        assert_ne!(base, start.next(&other, Epoch(8), 1, &texts("{}")));
        assert_ne!(base, start.next(&till(), Epoch(9), 1, &texts("{}")));
        assert_ne!(base, start.next(&till(), Epoch(8), 2, &texts("{}")));
        assert_ne!(base, start.next(&till(), Epoch(8), 1, &texts("{ }")));
        assert_ne!(base, base.next(&till(), Epoch(8), 1, &texts("{}")));
    }

    #[test]
    fn an_entry_of_an_unknown_kind_names_it() {
        let header = EntryHeader {
            id: Uuid::from_u128(1),
            ts: "2026-11-20T10:41:07.120Z".into(),
            bt: 0,
            boot: Uuid::from_u128(2),
            day: "2026-11-20".parse().unwrap(),
            fc: FeedPosition::default(),
            kind: "hologram".into(),
            version: 3,
        };
        let texts = EntryTexts {
            header: serde_json::to_string(&header).unwrap(),
            body: "{}".into(),
        };
        let error = texts.read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "entries of kind \"hologram\" version 3 are not known here"
        );
    }

    #[test]
    fn a_written_entry_reads_back_and_ignores_fields_of_newer_tills() {
        let body = EntryBody::Void(Void {
            of: Uuid::from_u128(5),
            of_seq: 7,
            account: AccountId(1001),
            amount: Money::from_ore(2200),
            lines: Vec::new(),
            balance_after: Money::from_ore(14950),
        });
        let header = EntryHeader {
            id: Uuid::from_u128(1),
            ts: "2026-11-20T10:41:07.120Z".into(),
            bt: 84_121_330,
            boot: Uuid::from_u128(2),
            day: "2026-11-20".parse().unwrap(),
            fc: FeedPosition {
                hub_epoch: 8,
                cursor: 190_233,
            },
            kind: String::new(),
            version: 0,
        };
        let mut texts = EntryTexts::write(header, &body).unwrap();
        texts.body.insert_str(1, "\"reason\":\"newer\",");
        let (header, read) = texts.read().unwrap();
        assert_eq!(
            (header.kind.as_str(), header.version, read),
            ("void", 1, body)
        );
    }

    const GENESIS: &str = "dcd8cc294b7998db3fa2bea8a23265f80d42eb87accf94ea68fc3d563ce1257f";
    const FIRST: &str = "ab4262fac5e8b78bff0978f9a611e5511dbf96c279a0aa595a739c17f025fb78";
}
