//! The end of a ledger: what is known about it without reading the file.

use std::collections::HashMap;

use canteen::BusinessDay;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{EntryHeader, EntryTexts, FeedPosition, Head};
use uuid::Uuid;

use crate::book::{CHECKED_AT_OPENING, prepare};
use crate::clock::{self, Clock};
use crate::entry_row::{hash_at, read_texts};
use crate::error::LedgerError;
use crate::identity::Identity;
use crate::moment::{HubClock, Moment};

/// What is known about the ledger without reading the file.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    pub(crate) day: Option<BusinessDay>,
    pub(crate) clock: Clock,
    pub(crate) acked: u64,
    pub(crate) durable_through: u64,
    pub(crate) feed: FeedPosition,
    pub(crate) hub_clock: Option<HubClock>,
    pub(crate) unknown_chips: u64,
    pub(crate) indexed_through: u64,
    /// The last entry that asked for a top-up since the file was opened.
    pub(crate) asked_for_top_up: u64,
    /// Ids of entries after `indexed_through`.
    pub(crate) ids: HashMap<Uuid, u64>,
    /// The greatest id in the index. Ids grow with time, so a new one need not be looked up.
    pub(crate) greatest_indexed: Option<Uuid>,
    /// Something of this is newer than the file.
    pub(crate) unsaved: bool,
}

impl Tip {
    /// Whether an id can be in the ledger neither by the index nor by what is known here.
    pub(crate) fn is_new(&self, id: Uuid) -> bool {
        !self.ids.contains_key(&id) && Some(id) > self.greatest_indexed
    }

    /// Writes what is only known here; ids are in the index through `indexed_through`.
    pub(crate) fn save(
        &self,
        connection: &Connection,
        indexed_through: u64,
    ) -> Result<(), LedgerError> {
        let clock = self.hub_clock;
        prepare(connection, SAVE_PROGRESS)?.execute((
            self.acked.cast_signed(),
            self.durable_through.cast_signed(),
            self.feed.hub_epoch.cast_signed(),
            self.feed.cursor.cast_signed(),
            indexed_through.cast_signed(),
            self.unknown_chips.cast_signed(),
            clock.map(|clock| clock.utc_ms),
            clock.map(|clock| clock.boot_ms.cast_signed()),
            clock.map(|clock| clock.boot.into_bytes()),
        ))?;
        Ok(())
    }
}

pub(crate) fn read_tip(connection: &Connection, identity: &Identity) -> Result<Tip, LedgerError> {
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0))?;
    let seq = last.unwrap_or(0).cast_unsigned();
    let head = Head {
        seq,
        hash: hash_at(connection, identity, seq)?,
    };
    let last = last_header(connection)?;
    let day = last.as_ref().map(|header| header.day);
    let clock = clock::read(connection, last.as_ref().and_then(moment_of))?;
    let mut tip = connection.query_row(READ_PROGRESS, [], |row| {
        let u64_at = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let utc_ms: Option<i64> = row.get(6)?;
        let boot_ms: Option<i64> = row.get(7)?;
        let boot: Option<[u8; 16]> = row.get(8)?;
        let hub = utc_ms.zip(boot_ms).zip(boot);
        Ok(Tip {
            head,
            day,
            clock,
            acked: u64_at(0)?,
            durable_through: u64_at(1)?,
            feed: FeedPosition {
                hub_epoch: u64_at(2)?,
                cursor: u64_at(3)?,
            },
            hub_clock: hub.map(|((utc_ms, boot_ms), boot)| HubClock {
                utc_ms,
                boot_ms: boot_ms.cast_unsigned(),
                boot: Uuid::from_bytes(boot),
            }),
            indexed_through: u64_at(4)?,
            unknown_chips: u64_at(5)?,
            asked_for_top_up: 0,
            ids: HashMap::new(),
            greatest_indexed: None,
            unsaved: false,
        })
    })?;
    if tip.acked > seq || tip.indexed_through > seq {
        return Err(LedgerError::Corrupt { seq: seq + 1 });
    }
    if let Some(told) = tip.hub_clock {
        tip.clock.not_before(told);
    }
    tip.ids = read_ids(connection, tip.indexed_through)?;
    let greatest: Option<[u8; 16]> =
        connection.query_row("SELECT max(id) FROM entry_id", [], |row| row.get(0))?;
    tip.greatest_indexed = greatest.map(Uuid::from_bytes);
    Ok(tip)
}

/// The last header that can be read.
fn last_header(connection: &Connection) -> Result<Option<EntryHeader>, LedgerError> {
    let mut statement =
        connection.prepare("SELECT seq, header, body FROM entry ORDER BY seq DESC LIMIT ?1")?;
    let mut rows = statement.query([CHECKED_AT_OPENING.cast_signed()])?;
    while let Some(row) = rows.next()? {
        if let Ok(header) = read_texts(row)?.1.read_header() {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn moment_of(header: &EntryHeader) -> Option<Moment> {
    let stamp: jiff::Timestamp = header.ts.parse().ok()?;
    Some(Moment {
        utc_ms: stamp.as_millisecond(),
        boot_ms: header.bt,
        boot: header.boot,
    })
}

fn read_ids(connection: &Connection, after: u64) -> Result<HashMap<Uuid, u64>, LedgerError> {
    let mut statement = connection.prepare("SELECT seq, header FROM entry WHERE seq > ?1")?;
    let mut rows = statement.query([after.cast_signed()])?;
    let mut ids = HashMap::new();
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let texts = EntryTexts {
            header: String::from_utf8_lossy(row.get_ref(1)?.as_bytes().unwrap_or_default()).into(),
            body: String::new(),
        };
        // A damaged entry is found by nobody.
        ids.extend(texts.read_header().ok().map(|header| (header.id, seq)));
    }
    Ok(ids)
}

pub(crate) fn find(
    connection: &Connection,
    tip: &Tip,
    id: Uuid,
) -> Result<Option<u64>, LedgerError> {
    if let Some(seq) = tip.ids.get(&id) {
        return Ok(Some(*seq));
    }
    if tip.is_new(id) {
        return Ok(None);
    }
    let seq: Option<i64> = prepare(connection, "SELECT seq FROM entry_id WHERE id = ?1")?
        .query_row([id.into_bytes()], |row| row.get(0))
        .optional()?;
    Ok(seq.map(i64::cast_unsigned))
}

const SAVE_PROGRESS: &str = "
    UPDATE progress SET acked_seq = ?1, durable_through = ?2, hub_epoch = ?3, cursor = ?4,
        indexed_through = ?5, unknown_chips = ?6,
        hub_clock_ms = ?7, hub_clock_boot_ms = ?8, hub_clock_boot = ?9, heartbeat = heartbeat + 1";

const READ_PROGRESS: &str = "
    SELECT acked_seq, durable_through, hub_epoch, cursor, indexed_through, unknown_chips,
        hub_clock_ms, hub_clock_boot_ms, hub_clock_boot FROM progress";
