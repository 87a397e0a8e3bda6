//! What the operator should look at: flagged bookings and entries in quarantine.

use canteen::AccountId;
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::Epoch;

use crate::bookings::BookingId;
use crate::error::LedgerError;
use crate::store::{HubReader, millis, moment};
use crate::tenancy::{Reach, TenantId};

/// Something that was booked and should be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagRow {
    /// Its number.
    pub id: i64,
    /// What it is about, for example `overdrawn`.
    pub code: String,
    /// When it was raised.
    pub at: Timestamp,
    /// The till whose entry raised it.
    pub till: Option<String>,
    /// The entry's number.
    pub seq: Option<u64>,
    /// The account.
    pub account: Option<AccountId>,
    /// The booking.
    pub booking: Option<BookingId>,
    /// The facts.
    pub detail: String,
}

/// An entry that could not be booked, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Its number.
    pub id: i64,
    /// Why, as a stable word.
    pub code: String,
    /// When it came.
    pub at: Timestamp,
    /// The till that wrote it.
    pub till: String,
    /// The life of the till's ledger.
    pub epoch: Epoch,
    /// The entry's number.
    pub seq: u64,
    /// Its header as it came.
    pub header: String,
    /// Its body as it came.
    pub body: String,
    /// Why, with the facts.
    pub detail: String,
    /// When it was booked after all.
    pub resolved_at: Option<Timestamp>,
    /// What it was booked as then, if it moved money.
    pub booking: Option<BookingId>,
}

/// Where a flag or a quarantined entry came from.
pub(crate) struct Origin<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) till: Option<&'a str>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) seq: Option<u64>,
}

impl Origin<'_> {
    /// The hub itself: no till's entry is the cause.
    pub(crate) fn hub(tenant: TenantId) -> Self {
        Origin {
            tenant,
            till: None,
            epoch: None,
            seq: None,
        }
    }
}

pub(crate) fn raise_flag(
    db: &Connection,
    code: &str,
    origin: &Origin<'_>,
    account: Option<AccountId>,
    booking: Option<BookingId>,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO flag (code, at, tenant, till, epoch, seq, account, booking, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        code,
        millis(now),
        origin.tenant.0,
        origin.till,
        origin.epoch.map(|epoch| epoch.0.cast_signed()),
        origin.seq.map(u64::cast_signed),
        account.map(|account| account.0),
        booking.map(|booking| booking.0),
        detail,
    ))?;
    Ok(())
}

impl HubReader {
    /// The newest flags within reach before a number, the newest first; all, or those of a code.
    pub fn list_flags(
        &self,
        reach: Reach,
        code: Option<&str>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<FlagRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, code, at, till, seq, account, booking, detail FROM flag
             WHERE id < ?1 AND (?2 IS NULL OR tenant = ?2) AND (?4 IS NULL OR code = ?4)
             ORDER BY id DESC LIMIT ?3",
        )?;
        let mut rows = statement.query((before, reach.filter(), limit, code))?;
        let mut flags = Vec::new();
        while let Some(row) = rows.next()? {
            flags.push(FlagRow {
                id: row.get(0)?,
                code: row.get(1)?,
                at: moment(row.get(2)?)?,
                till: row.get(3)?,
                seq: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                account: row.get::<_, Option<i64>>(5)?.map(AccountId),
                booking: row.get::<_, Option<i64>>(6)?.map(BookingId),
                detail: row.get(7)?,
            });
        }
        Ok(flags)
    }

    /// The newest entries in quarantine within reach before a number, the newest first.
    pub fn list_quarantine(
        &self,
        reach: Reach,
        before: i64,
        limit: u32,
    ) -> Result<Vec<QuarantineRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT q.id, q.code, q.at, q.till, q.epoch, q.seq, j.header, j.body, q.detail,
               q.resolved_at, q.booking
             FROM quarantine q JOIN journal j ON j.id = q.journal
             WHERE q.id < ?1 AND (?2 IS NULL OR q.tenant = ?2) ORDER BY q.id DESC LIMIT ?3",
        )?;
        let mut rows = statement.query((before, reach.filter(), limit))?;
        let mut quarantined = Vec::new();
        while let Some(row) = rows.next()? {
            quarantined.push(QuarantineRow {
                id: row.get(0)?,
                code: row.get(1)?,
                at: moment(row.get(2)?)?,
                till: row.get(3)?,
                epoch: Epoch(row.get::<_, i64>(4)?.cast_unsigned()),
                seq: row.get::<_, i64>(5)?.cast_unsigned(),
                header: row.get(6)?,
                body: row.get(7)?,
                detail: row.get(8)?,
                resolved_at: row.get::<_, Option<i64>>(9)?.map(moment).transpose()?,
                booking: row.get::<_, Option<i64>>(10)?.map(BookingId),
            });
        }
        Ok(quarantined)
    }
}
