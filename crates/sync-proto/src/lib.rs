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
//! `…` is the till's [`TillPosition`]. Bodies are JSON, compressed with zstd when the other side says it accepts that. All but the
//! enrolment carry the till's token as `Authorization: Bearer`. Unknown fields are ignored.

mod batch;
mod enrol;
mod entry;
mod feed;
mod identity;
mod upload;
pub mod wire;

pub use batch::{
    BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, BatchAnswer, BatchError, BatchRefusal, EntryFate,
    EntryResult, PROTO, TillReport,
};
pub use enrol::{EnrolAnswer, EnrolRequest};
pub use entry::{
    Decline, EntryBody, EntryError, EntryHash, EntryHeader, EntryTexts, FeedAck, FeedPosition,
    Head, NumberedEntry, Sale, SaleLine, Start, Void,
};
pub use feed::{
    AccountRecord, AuthoriseRequest, Change, ChipRecord, FEED_PAGE_MAX, FeedPage, FeedRecords,
    FeedRefusal, HolderRecord, LimitsRecord, ProductRecord, Record, SnapshotHeader,
    SnapshotTrailer, SpentRecord, TillPosition, TopUpRecord,
};
pub use identity::{Epoch, HeadSignature, IdentityError, TillId, TillKey, TillPublicKey};
pub use upload::{Upload, UploadFailure, UploadStep};
