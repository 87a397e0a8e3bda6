//! Batches of entries from a till, and the hub's answer.
//!
//! The same batch goes up when the till pushes and when the hub pulls.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{EntryHash, Head, NumberedEntry};
use crate::identity::{Epoch, HeadSignature, TillId, TillPublicKey};

/// The version of the protocol that this crate speaks.
pub const PROTO: u16 = 1;

/// The most entries in one batch.
pub const BATCH_MAX_ENTRIES: usize = 500;

/// The most bytes of entry texts in one batch.
pub const BATCH_MAX_BYTES: usize = 1 << 20;

/// A run of entries without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// [`PROTO`].
    pub proto: u16,
    /// The till that wrote them.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// Sequence number of the first entry.
    pub first_seq: u64,
    /// The hash before the first entry.
    pub prev_hash: EntryHash,
    /// The entries, in order.
    pub entries: Vec<NumberedEntry>,
    /// Entries of the run whose texts are lost: they stand in `entries` with empty texts, and
    /// their hashes are taken as told. Signed for like everything else, and seen by an operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
    /// The last entry's number and hash.
    pub head: Head,
    /// The till's signature over `head`.
    pub signature: HeadSignature,
    /// How the till is doing.
    pub report: TillReport,
}

/// An entry that the till had written and can no longer read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Its number.
    pub seq: u64,
    /// The hash that the till had written down with it.
    pub hash: EntryHash,
    /// What is wrong with it, for the operator.
    pub reason: String,
}

/// What a till tells about itself with every batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TillReport {
    /// The till's wall clock (RFC 3339, UTC).
    pub till_time: String,
    /// Entries that wait after this batch.
    pub unsent: u64,
    /// The version of its program.
    pub version: String,
    /// Where hub and siblings may fetch its entries, if anywhere (`http://…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Batch {
    /// Checks numbering, chain and signature; what is wrong is told by name.
    pub fn verify(&self, key: &TillPublicKey) -> Result<Vec<EntryHash>, BatchError> {
        if self.entries.is_empty() {
            return Err(BatchError::Empty);
        }
        if self.entries.len() > BATCH_MAX_ENTRIES {
            return Err(BatchError::TooMany {
                entries: self.entries.len(),
            });
        }
        let mut hash = self.prev_hash;
        let mut hashes = Vec::with_capacity(self.entries.len());
        for (entry, expected) in self.entries.iter().zip(self.first_seq..) {
            if entry.seq != expected || expected == 0 {
                return Err(BatchError::Numbering {
                    expected,
                    found: entry.seq,
                });
            }
            hash = match self.hole(entry.seq) {
                Some(hole) if entry.texts.is_empty() => hole.hash,
                _ => hash.next(&self.till, self.epoch, entry.seq, &entry.texts),
            };
            hashes.push(hash);
        }
        let head = Head {
            seq: self.first_seq + self.entries.len() as u64 - 1,
            hash,
        };
        if head != self.head {
            return Err(BatchError::Chain {
                claimed: self.head,
                found: head,
            });
        }
        if !head.is_signed_by(&self.till, self.epoch, key, &self.signature) {
            return Err(BatchError::Signature);
        }
        Ok(hashes)
    }

    /// The hole at a number, if there is one.
    pub fn hole(&self, seq: u64) -> Option<&Hole> {
        self.holes.iter().find(|hole| hole.seq == seq)
    }
}

/// Why a batch is not taken. Nothing of it is stored; the till keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// It has no entries.
    #[error("the batch has no entries")]
    Empty,
    /// It has more than [`BATCH_MAX_ENTRIES`].
    #[error("the batch has {entries} entries, at most {max} are taken", max = BATCH_MAX_ENTRIES)]
    TooMany {
        /// How many it has.
        entries: usize,
    },
    /// The numbers do not follow each other.
    #[error("expected entry {expected}, found {found}")]
    Numbering {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The hashes do not lead to the head.
    #[error("the entries lead to {found:?}, the batch claims {claimed:?}")]
    Chain {
        /// What the batch says.
        claimed: Head,
        /// What its entries give.
        found: Head,
    },
    /// The head is not signed by the till's key.
    #[error("the head is not signed by the till's key")]
    Signature,
}

/// The hub's answer to a batch that it has stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// The life of the hub's database.
    pub hub_epoch: u64,
    /// All entries up to here are stored.
    pub accepted: Head,
    /// All entries up to here are in a verified backup; the till may prune no further.
    pub durable_through: u64,
    /// What became of each entry of the batch.
    pub results: Vec<EntryResult>,
    /// The hub's clock (RFC 3339, UTC).
    pub hub_time: String,
}

/// What became of one entry; all of them mean "stored".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryResult {
    /// Its number.
    pub seq: u64,
    /// What became of it.
    #[serde(flatten)]
    pub fate: EntryFate,
}

/// The ways in which the hub stores an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "st", rename_all = "snake_case")]
pub enum EntryFate {
    /// Booked, or noted where there is nothing to book.
    Booked,
    /// Known already; nothing was booked again.
    Duplicate,
    /// Booked, with flags for the operator.
    Flagged {
        /// The flags, for example `overdrawn`.
        codes: Vec<String>,
    },
    /// Stored unbooked, because the hub cannot make sense of it.
    Quarantined {
        /// Why.
        code: String,
    },
}

/// Why the hub did not store a batch, with what the till needs to go on.
///
/// Sent as `application/problem+json` with these fields beside `type`, `title` and `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum BatchRefusal {
    /// Entries before the batch are missing at the hub.
    Gap {
        /// The number that must come next.
        expected: u64,
    },
    /// The hub holds other entries under the same numbers.
    Fork {
        /// The last number on which both agree, as far as the hub can tell.
        agreed_through: u64,
    },
    /// Numbering, chain or signature is wrong.
    BadChain,
    /// The till is not known, or its token is wrong.
    NotEnrolled,
    /// An operator has revoked the till; its entries are still taken at `/branch`.
    Revoked,
    /// The batch has too many entries or bytes.
    TooLarge,
}
