//! What the hub tells tills: pages of changes, snapshots, and why there is none.

use canteen::{AccountId, Money, Status};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entry::{EntryHash, Head};
use crate::identity::{Epoch, TillId, TillPublicKey};
use crate::record::Change;
use crate::wire;

/// The most changes in one page.
pub const FEED_PAGE_MAX: usize = 1000;

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPage {
    /// The life of the hub's database.
    pub hub_epoch: u64,
    /// The cursor that was asked for.
    pub from: u64,
    /// The cursor after applying the page.
    pub to: u64,
    /// Whether more changes wait.
    pub more: bool,
    /// The hub's clock (RFC 3339, UTC).
    pub hub_time: String,
    /// The changes, by rising version.
    pub changes: Vec<Change>,
    /// The canteen's other tills, and how much of their entries the positions contain; absent when
    /// more changes wait, because positions of accounts that are still to come contain less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Vec<Sibling>>,
    /// Entries that the hub wants to have once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<Resend>,
}

/// Another till of the same canteen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// Its name.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// The key that signs its heads and its requests.
    pub public_key: TillPublicKey,
    /// Where its entries can be fetched, if anywhere (`http://…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The hub's positions contain its entries up to this one.
    pub accepted: Head,
}

/// A run of entries to be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resend {
    /// The first one.
    pub from_seq: u64,
    /// The last one.
    pub to_seq: u64,
}

/// The answer to a request for the newest statuses: what is blocked and what is not, ahead of
/// everything else that may wait in the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denylist {
    /// The life of the hub's database.
    pub hub_epoch: u64,
    /// The hub's clock (RFC 3339, UTC).
    pub hub_time: String,
    /// The version to ask after the next time.
    pub to: u64,
    /// Accounts and chips whose status changed, by rising version.
    pub changes: Vec<StatusChange>,
}

/// A status with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The version of the status: of two, the higher one holds, in whatever order they come.
    pub status_rv: u64,
    /// Whose status.
    #[serde(flatten)]
    pub of: StatusOf,
    /// Whether it may buy.
    #[serde(with = "wire::status")]
    pub status: Status,
}

/// Whose status changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusOf {
    /// An account's.
    #[serde(with = "wire::account")]
    Account(AccountId),
    /// A chip's, by the hub's number of it.
    Chip(i64),
}

/// Records outside the order of the feed: the answer to a request for a higher ceiling. They are
/// applied by their versions, and are acknowledged only when the feed has passed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRecords {
    /// The life of the hub's database.
    pub hub_epoch: u64,
    /// The hub's clock (RFC 3339, UTC).
    pub hub_time: String,
    /// The records.
    pub changes: Vec<Change>,
}

/// Where a till stands, told with every request for data, so that a copied or restored till is
/// known before it is given anything to spend. Sent as a query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TillPosition {
    /// The life of its ledger.
    pub epoch: Epoch,
    /// Its last entry.
    pub head_seq: u64,
    /// The hash of its last entry.
    pub head_hash: EntryHash,
    /// The last entry that the hub has acknowledged.
    pub acked_seq: u64,
    /// The till's own hash of that entry.
    pub acked_hash: EntryHash,
}

/// A till asks for leave to sell more on an account than its ceiling allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthoriseRequest {
    /// The account.
    #[serde(with = "wire::account")]
    pub account: AccountId,
    /// What the purchase costs, in øre.
    #[serde(with = "wire::money")]
    pub need: Money,
    /// The id that the purchase will have as an entry.
    pub entry_id: Uuid,
    /// Where the till stands.
    pub position: TillPosition,
}

/// The first line of a snapshot: everything a new till needs, as lines of JSON.
///
/// A snapshot is this header, then one [`Change`] a line, then a [`SnapshotTrailer`]. A till
/// applies it only when the trailer is there and agrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// The life of the hub's database.
    pub hub_epoch: u64,
    /// The cursor that the snapshot stands for.
    pub as_of: u64,
    /// The hub's clock (RFC 3339, UTC).
    pub hub_time: String,
}

/// The last line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTrailer {
    /// Always true.
    pub end: bool,
    /// How many records came before.
    pub records: u64,
    /// SHA-256 (hex) of all bytes before this line.
    pub sha256: String,
}

/// Why the hub gave no page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum FeedRefusal {
    /// The cursor is from another life of the hub, or too old: fetch a snapshot.
    SnapshotRequired,
    /// The till is not known, or its token is wrong.
    NotEnrolled,
    /// An operator has revoked the till: it must forget the people and sell nothing more.
    Revoked,
    /// The hub holds other entries of this epoch than the till: its disk was copied.
    Fork {
        /// The last number on which both agree, as far as the hub can tell.
        agreed_through: u64,
    },
    /// The till's ledger ends before what the hub has of it: its disk was restored.
    Rollback {
        /// The last number that the hub has.
        accepted_seq: u64,
    },
}
