//! What tills and hubs say to each other, and the pure state machine of a till's upload.
//!
//! | path at the hub | what |
//! |---|---|
//! | `POST /v1/enrolments` | [`EnrolRequest`] → [`EnrolAnswer`] |
//! | `POST /v1/tills/{till}/batches` | [`Batch`] → [`BatchAnswer`], or a problem with a [`BatchRefusal`] |
//! | `GET /v1/tills/{till}/feed?hub_epoch&cursor&wait&…` | [`FeedPage`], or a problem with a [`FeedRefusal`] |
//! | `GET /v1/tills/{till}/snapshot?…` | lines: [`SnapshotHeader`], [`Change`]…, [`SnapshotTrailer`] |
//! | `POST /v1/tills/{till}/authorise` | [`AuthoriseRequest`] → [`FeedRecords`], or 204 when nothing more can be given |
//!
//! | `GET /v1/tills/{till}/chip-keys` | [`Sealed`]: a [`KeyDelivery`] for this till alone, or 204 when the canteen's chips prove nothing |
//! | `GET /v1/tills/{till}/denylist?hub_epoch&after&…` | [`Denylist`], or a problem with a [`FeedRefusal`] |
//! | `POST /v1/tills/{till}/raw` | [`Batch`] of entries that the hub keeps without reading them → [`BatchAnswer`] |
//! | `POST /v1/tills/{till}/branch` | [`Batch`] of an epoch that the till was forked off from, was revoked in or has ended: kept apart and booked by the entries' ids → [`BatchAnswer`]; carries no token, the signed head is enough |
//!
//! | path at the till | what |
//! |---|---|
//! | `GET /v1/journal?epoch&after&limit` | [`Batch`], or 204 when there is nothing after; asked and signed by the hub or a sibling ([`pull_message`]) |
//!
//! `…` is the till's [`TillPosition`]. All answers of the hub under `/v1/tills/` are signed
//! ([`answer_message`]). Bodies are JSON, compressed with zstd when the other side says it accepts that. All but the
//! enrolment carry the till's token as `Authorization: Bearer`. Unknown fields are ignored.

mod batch;
mod chip_keys;
mod enrol;
mod entry;
mod feed;
mod identity;
mod limit_shares;
mod record;
mod sealed;
mod signed;
mod upload;
pub mod wire;

pub use batch::{
    BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, BatchAnswer, BatchError, BatchRefusal, EntryFate,
    EntryResult, Hole, PROTO, TillReport,
};
pub use chip_keys::{
    ApplicationKeys, ChipKeyText, ChipKeyVersion, EnrolmentKeys, KeyDelivery, KeySetText,
    MarkedKeys,
};
pub use enrol::{EnrolAnswer, EnrolRequest};
pub use entry::{
    AccountState, ClockEvent, ClockJump, Decline, EntryBody, EntryError, EntryHash, EntryHeader,
    EntryTexts, FeedAck, FeedPosition, Head, NumberedEntry, STATE_REPORT_MAX, Sale, SaleLine,
    Start, StateReport, Totals, Void, VoidLine, ZReport,
};
pub use feed::{
    AuthoriseRequest, Denylist, FEED_PAGE_MAX, FeedPage, FeedRecords, FeedRefusal, Resend, Sibling,
    SnapshotHeader, SnapshotTrailer, StatusChange, StatusOf, TillPosition,
};
pub use identity::{
    Epoch, HeadSignature, HubKey, HubPublicKey, HubSignature, IdentityError, TillId, TillKey,
    TillPublicKey,
};
pub use limit_shares::{LimitShareRecord, LimitSharesRecord};
pub use record::{
    AccountRecord, Change, ChipRecord, HolderRecord, LimitsRecord, ProductRecord, Record,
    SpentRecord, TopUpRecord,
};
pub use sealed::{SealError, Sealed};
pub use signed::{
    ANSWER_SIGNATURE, CALLER, CALLER_HUB, CALLER_NONCE, CALLER_SIGNATURE, CALLER_SKEW_MAX,
    CALLER_TIME, answer_message, journal_path, pull_message,
};
pub use upload::{Upload, UploadFailure, UploadStep};
