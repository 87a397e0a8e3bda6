//! Which variant of each rule a configuration follows, and how much may happen in it.

use super::Kroner;

/// The rules. [`Rules::default`] is what is recommended; every other value is a mistake that
/// someone could make, or the plainer policy of a hub without ceilings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What limits selling besides the balance shown.
    pub cap: Cap,
    /// Until when a till subtracts its own sales from the hub's position.
    pub overlay: Overlay,
    /// What counts against a ceiling.
    pub counting: Counting,
    /// From when on a lower ceiling frees room for other tills.
    pub room: Room,
    /// How a till acknowledges feed pages.
    pub feed_ack: FeedAck,
    /// How the hub recognises what it has.
    pub ingest: Ingest,
    /// Whether the hub refuses entries whose predecessors it lacks.
    pub refuses_gaps: bool,
    /// Whether a page older than the one applied is ignored.
    pub pages_in_order: bool,
    /// Whether a till whose head is not a continuation of what the hub has gets no pages.
    pub head_check: bool,
    /// When money may be paid out centrally.
    pub payouts: Payouts,
    /// What the hub does after it was restored from a backup.
    pub after_restore: AfterRestore,
    /// What acknowledging a page without a ceiling does to the value in force.
    pub keep_ack: KeepAck,
    /// When a till deletes entries.
    pub prune: Prune,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            cap: Cap::Issued,
            overlay: Overlay::UntilIncluded,
            counting: Counting::Gross,
            room: Room::WhenAcknowledged,
            feed_ack: FeedAck::InJournal,
            ingest: Ingest::ByIdAndHash,
            refuses_gaps: true,
            pages_in_order: true,
            head_check: true,
            payouts: Payouts::Guarded,
            after_restore: AfterRestore::KeepAndReport,
            keep_ack: KeepAck::RetainsValue,
            prune: Prune::Never,
        }
    }
}

/// What limits selling besides the balance shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// Nothing: each till trusts its last view.
    Nothing,
    /// At most C since the hub's last position.
    Static,
    /// The ceilings that the hub issues.
    Issued,
}

/// Until when a till subtracts its own sales from the hub's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// Until a position arrives that contains them.
    UntilIncluded,
    /// Mistake: until the hub acknowledges them.
    UntilAcknowledged,
}

/// What counts against a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// All sales.
    Gross,
    /// Mistake: sales less voids.
    NetOfVoids,
}

/// From when on a lower ceiling frees room for other tills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// When the till has acknowledged it.
    WhenAcknowledged,
    /// Mistake: when the hub has issued it.
    WhenIssued,
}

/// How a till acknowledges feed pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedAck {
    /// Every journal entry carries the cursor in force.
    InJournal,
    /// Mistake: also by a message of its own, which overtakes the journal.
    Beside,
}

/// How the hub recognises what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// By the id of the entry, with the chain of hashes showing forks.
    ByIdAndHash,
    /// Mistake: by the till and the sequence number.
    BySequence,
    /// Mistake: not at all; whatever comes is booked, the last number is acknowledged.
    Unchecked,
}

/// When money may be paid out centrally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payouts {
    /// Only when what tills may still sell stays covered.
    Guarded,
    /// Mistake (or the plainer policy without ceilings): whenever the balance covers it.
    Unguarded,
}

/// What the hub does after it was restored from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRestore {
    /// Pages without ceilings until every till has reported the one it holds.
    KeepAndReport,
    /// Mistake: until then, pages with the ceilings of the backup.
    ReissueBackup,
    /// Mistake: go on as if the backup were the present.
    GoOn,
}

/// What acknowledging a page without a ceiling does to the value in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAck {
    /// Nothing.
    RetainsValue,
    /// Mistake: it is forgotten.
    DropsValue,
}

/// When a till deletes entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Never.
    Never,
    /// When a verified backup of the hub contains them.
    WhenDurable,
    /// Mistake: when the hub has acknowledged them.
    WhenAcknowledged,
}

/// How much may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// How many tills there are at first.
    pub tills: u8,
    /// What the account holds at first.
    pub opening: Kroner,
    /// P-C: the most that one till may sell without hearing from the hub.
    pub cap: Kroner,
    /// P-R: the overspend that is accepted in all.
    pub slack: Kroner,
    /// What sales cost.
    pub amounts: &'static [Kroner],
    /// Sales per till; a clone makes as many more as its original had left.
    pub sales: u8,
    /// Voids in all.
    pub voids: u8,
    /// Feed pages per till.
    pub pages: u8,
    /// Deposits that may come, each of one krone.
    pub deposits: u8,
    /// Payouts that may be asked for, each of one krone.
    pub payouts: u8,
    /// Images that may be cloned.
    pub clones: u8,
    /// Backups, and restores, that may happen.
    pub restores: u8,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope {
            tills: 2,
            opening: 2,
            cap: 2,
            slack: 0,
            amounts: &[1],
            sales: 2,
            voids: 0,
            pages: 1,
            deposits: 0,
            payouts: 0,
            clones: 0,
            restores: 0,
        }
    }
}
