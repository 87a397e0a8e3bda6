//! Where a till stands: whether its ledger is the one that the hub holds, and so whether it is given
//! ceilings to sell by.
//!
//! Ceilings are given only to a ledger that provably begins with everything the hub has of it: a
//! copied disk that the hub has not seen through yet could spend the same right twice. A till that
//! tells no position is given no ceilings at all and keeps whatever it has.
//!
//! A cursor that comes back in an entry proves that its ceilings were applied, so no record of an
//! account may be passed without its ceiling once a till heeds them. While a till cannot prove where
//! it stands (an answer was lost, or it sold while it asked), its pages end before the first record
//! of an account; it gets the rest when it has sent its entries.

use canteen::LimitMode;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{
    AuthoriseRequest, Epoch, FeedPosition, FeedRecords, FeedRefusal, Head, TillId, TillPosition,
};

use crate::accounts::find_account;
use crate::branches::left_main_at;
use crate::ceilings::{ceiling_of, reissue, touch_all_accounts};
use crate::error::LedgerError;
use crate::feed::{account_change, account_version, touch_account};
use crate::flags::{Origin, raise_flag};
use crate::ingest::stored_hash;
use crate::limit_shares::{prefer, reach_day, shares_allow};
use crate::restore::is_frozen;
use crate::store::{HubLedger, HubReader, hub_position, moment};
use crate::tills::{TillAccess, watermark};

/// What a till asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Changes after a cursor.
    Feed(FeedPosition),
    /// Everything.
    Snapshot,
    /// Statuses, which come with nothing to spend.
    Statuses,
}

/// What the hub makes of a till's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its ledger begins with everything the hub has of it.
    Proven,
    /// Nothing speaks against it, and nothing proves it.
    Unproven,
    /// Its ledger is another one.
    Refused(FeedRefusal),
}

/// The epoch that a till is enrolled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurrentEpoch {
    pub(crate) epoch: Epoch,
    /// Cursors from here on acknowledge ceilings; none while the till is given none.
    heeds_from: Option<u64>,
    acked: u64,
}

/// What must be written before a till is answered.
enum Step {
    Nothing,
    /// It is given ceilings from now on.
    HeedSnapshot,
    /// It is given ceilings from now on, with every account once more.
    HeedFeed,
    /// It is given none from now on.
    LetGo,
    Refuse(FeedRefusal),
}

impl HubReader {
    /// Whether the till can be answered as it is; if not, [`HubLedger::receive`] comes first.
    pub fn is_received(
        &self,
        till: &TillAccess,
        asking: Asking,
        position: Option<&TillPosition>,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let db = self.db.unchecked_transaction()?;
        let step = next_step(&db, till, asking, position, now)?;
        let behind = match position {
            Some(position) => hub_behind(&db, till, position)?.is_some(),
            None => false,
        };
        Ok(matches!(step, Step::Nothing) && !behind)
    }
}

impl HubLedger {
    /// Takes note of where a till stands, before it is given anything. A copied or restored disk is
    /// refused, and flagged once.
    pub fn receive(
        &mut self,
        till: &TillAccess,
        asking: Asking,
        position: Option<&TillPosition>,
        now: Timestamp,
    ) -> Result<Result<(), FeedRefusal>, LedgerError> {
        let db = self.change()?;
        if let Some(position) = position {
            note_hub_behind(&db, till, position, now)?;
        }
        match next_step(&db, till, asking, position, now)? {
            Step::Nothing => {}
            Step::Refuse(refusal) => {
                note_refusal(&db, till, position, &refusal, now)?;
                db.commit()?;
                return Ok(Err(refusal));
            }
            Step::LetGo => write_heeds_from(&db, &till.till, None)?,
            // Only the snapshot brings all ceilings, and it stands for a later cursor than this.
            Step::HeedSnapshot => {
                let rv: i64 =
                    db.query_row("UPDATE hub SET rv = rv + 1 RETURNING rv", [], |row| {
                        row.get(0)
                    })?;
                write_heeds_from(&db, &till.till, Some(rv))?;
            }
            // The till has passed records without their ceilings: all of them come once more.
            Step::HeedFeed => {
                touch_all_accounts(&db, till.canteen)?;
                write_heeds_from(&db, &till.till, Some(0))?;
            }
        }
        db.commit()?;
        Ok(Ok(()))
    }

    /// Gives a till leave to sell more on an account, if that can be: the account's record with a
    /// ceiling that allows for what is needed, as far as the hub knows of the till's sales.
    pub fn authorise(
        &mut self,
        till: &TillAccess,
        request: &AuthoriseRequest,
        now: Timestamp,
    ) -> Result<Result<Option<FeedRecords>, FeedRefusal>, LedgerError> {
        let db = self.change()?;
        reach_day(&db, now)?;
        let standing = check_position(&db, till, &request.position, now)?;
        let current = current_epoch(&db, &till.till)?;
        let current = match (standing, current) {
            (Standing::Refused(refusal), _) => {
                note_refusal(&db, till, Some(&request.position), &refusal, now)?;
                db.commit()?;
                return Ok(Err(refusal));
            }
            (Standing::Proven, Some(current)) if current.heeds_from.is_some() => current,
            (Standing::Proven | Standing::Unproven, _) => return Ok(Ok(None)),
        };
        let account =
            find_account(&db, request.account)?.filter(|account| account.canteen == till.canteen);
        let Some(account) = account else {
            return Ok(Ok(None));
        };
        if account.limits.mode == LimitMode::Strict {
            prefer(&db, &till.till, current.epoch, account.id)?;
        }
        let changed = reissue(&db, account.id, None)?;
        let ceiling = ceiling_of(&db, &till.till, current.epoch, account.id)?;
        if ceiling.is_none_or(|(_, left)| left < request.need) {
            // Nothing is written: there is nothing that anybody would be told.
            return Ok(Ok(None));
        }
        if !shares_allow(&db, &till.till, current.epoch, &account, request.need)? {
            // What other tills hold can be given when they have acknowledged that they have less.
            if changed {
                touch_account(&db, account.canteen, account.id)?;
            }
            db.commit()?;
            return Ok(Ok(None));
        }
        // A till without unsent sales that still asks has not got the ceiling that it was given.
        let mark = watermark(&db, &till.till, current.epoch)?;
        let all_sent = mark.is_some_and(|mark| mark.seq == request.position.head_seq);
        let has_it = account_version(&db, &account)?.is_some_and(|rv| rv <= current.acked);
        if changed || (has_it && all_sent) {
            touch_account(&db, account.canteen, account.id)?;
        } else if has_it {
            return Ok(Ok(None));
        }
        let (hub_epoch, _) = hub_position(&db)?;
        let change = account_change(&db, till, current.epoch, &account, now)?;
        db.commit()?;
        Ok(Ok(change.map(|change| FeedRecords {
            hub_epoch,
            hub_time: now.to_string(),
            changes: vec![change],
        })))
    }
}

/// Whether a till is given ceilings at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ceilings {
    /// With every account, those of this epoch.
    Given(Epoch),
    /// It heeds ceilings, and must not pass an account without its own.
    Withheld,
    /// It heeds none.
    None,
}

pub(crate) fn ceilings_for(
    db: &Connection,
    till: &TillAccess,
    position: Option<&TillPosition>,
    now: Timestamp,
) -> Result<Ceilings, LedgerError> {
    let Some(current) = current_epoch(db, &till.till)? else {
        return Ok(Ceilings::None);
    };
    if current.heeds_from.is_none() || is_frozen(db, till.canteen)? {
        return Ok(Ceilings::None);
    }
    let Some(position) = position else {
        return Ok(Ceilings::Withheld);
    };
    Ok(match check_position(db, till, position, now)? {
        Standing::Proven => Ceilings::Given(current.epoch),
        Standing::Unproven | Standing::Refused(_) => Ceilings::Withheld,
    })
}

fn next_step(
    db: &Connection,
    till: &TillAccess,
    asking: Asking,
    position: Option<&TillPosition>,
    now: Timestamp,
) -> Result<Step, LedgerError> {
    let Some(current) = current_epoch(db, &till.till)? else {
        return Ok(Step::Refuse(FeedRefusal::NotEnrolled));
    };
    let Some(position) = position else {
        return Ok(match (asking, current.heeds_from) {
            (Asking::Feed(_) | Asking::Snapshot, Some(_)) => Step::LetGo,
            (Asking::Statuses, _) | (_, None) => Step::Nothing,
        });
    };
    let standing = check_position(db, till, position, now)?;
    let frozen = is_frozen(db, till.canteen)?;
    Ok(match (standing, asking, current.heeds_from) {
        (Standing::Refused(refusal), _, _) => Step::Refuse(refusal),
        // There are no ceilings to heed as long as everybody keeps what they have.
        _ if frozen => Step::Nothing,
        // A snapshot without ceilings passes everything, so nothing that it brings is proof.
        (Standing::Unproven, Asking::Snapshot, Some(_)) => Step::LetGo,
        (Standing::Proven, Asking::Snapshot, None) => Step::HeedSnapshot,
        (Standing::Proven, Asking::Feed(from), heeds_from)
            if from.hub_epoch == hub_position(db)?.0
                && heeds_from.is_none_or(|heeds_from| from.cursor < heeds_from) =>
        {
            Step::HeedFeed
        }
        (Standing::Unproven | Standing::Proven, _, _) => Step::Nothing,
    })
}

fn check_position(
    db: &Connection,
    till: &TillAccess,
    position: &TillPosition,
    now: Timestamp,
) -> Result<Standing, LedgerError> {
    let refused = |refusal| Ok(Standing::Refused(refusal));
    let current = current_epoch(db, &till.till)?;
    if current.is_none_or(|current| current.epoch != position.epoch) {
        return refused(FeedRefusal::NotEnrolled);
    }
    let Some(mark) = watermark(db, &till.till, position.epoch)? else {
        return refused(FeedRefusal::NotEnrolled);
    };
    let stored = |seq| stored_hash(db, &till.till, position.epoch, &mark, seq);
    let agrees_on_acked =
        position.acked_seq <= mark.seq && stored(position.acked_seq)? == Some(position.acked_hash);
    let agreed_through = if agrees_on_acked {
        position.acked_seq
    } else {
        0
    };
    if position.head_seq <= mark.seq && stored(position.head_seq)? != Some(position.head_hash)
        || position.acked_seq <= mark.seq && !agrees_on_acked
    {
        return refused(FeedRefusal::Fork { agreed_through });
    }
    let heads = [
        Head {
            seq: position.head_seq,
            hash: position.head_hash,
        },
        Head {
            seq: position.acked_seq,
            hash: position.acked_hash,
        },
    ];
    if let Some(agreed_through) = left_main_at(db, &till.till, position.epoch, &heads)? {
        return refused(FeedRefusal::Fork { agreed_through });
    }
    if position.head_seq < mark.seq {
        if came_just_now(db, &till.till, position, now)? {
            return Ok(Standing::Unproven);
        }
        return refused(FeedRefusal::Rollback {
            accepted_seq: mark.seq,
        });
    }
    if position.head_seq == mark.seq || position.acked_seq == mark.seq {
        return Ok(Standing::Proven);
    }
    Ok(Standing::Unproven)
}

/// Whether the first entry after the till's head came so lately that the request may have been on
/// its way before it: a till asks and sends at the same time.
fn came_just_now(
    db: &Connection,
    till: &TillId,
    position: &TillPosition,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let received_at: Option<i64> = db
        .prepare_cached(
            "SELECT received_at FROM batch WHERE till = ?1 AND epoch = ?2 AND first_seq <= ?3
             ORDER BY first_seq DESC LIMIT 1",
        )?
        .query_row(
            (
                till.as_str(),
                position.epoch.0.cast_signed(),
                position.head_seq.saturating_add(1).cast_signed(),
            ),
            |row| row.get(0),
        )
        .optional()?;
    let Some(received_at) = received_at else {
        return Ok(false);
    };
    Ok(now.duration_since(moment(received_at)?) < ON_ITS_WAY)
}

pub(crate) fn current_epoch(
    db: &Connection,
    till: &TillId,
) -> Result<Option<CurrentEpoch>, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT e.epoch, e.heeds_from, e.acked FROM till t
             JOIN till_epoch e ON e.till = t.id AND e.epoch = t.epoch WHERE t.id = ?1",
        )?
        .query_row([till.as_str()], |row| {
            Ok(CurrentEpoch {
                epoch: Epoch(row.get::<_, i64>(0)?.cast_unsigned()),
                heeds_from: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
                acked: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })
        .optional()?)
}

fn write_heeds_from(
    db: &Connection,
    till: &TillId,
    heeds_from: Option<i64>,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE till_epoch SET heeds_from = ?2
         WHERE till = ?1 AND epoch = (SELECT epoch FROM till WHERE id = ?1)",
    )?
    .execute((till.as_str(), heeds_from))?;
    Ok(())
}

/// How far the hub has a till's entries, when it has acknowledged more in this very life and nobody
/// was told so yet: an older copy of the store was put in its place.
fn hub_behind(
    db: &Connection,
    till: &TillAccess,
    position: &TillPosition,
) -> Result<Option<u64>, LedgerError> {
    let behind: Option<i64> = db
        .prepare_cached(
            "SELECT seq FROM till_epoch e
             WHERE till = ?1 AND epoch = ?2 AND seq < ?3
               AND reported = (SELECT hub_epoch FROM hub)
               AND NOT EXISTS (SELECT 1 FROM flag f
                 WHERE f.code = 'hub_behind' AND f.till = e.till AND f.epoch = e.epoch)",
        )?
        .query_row(
            (
                till.till.as_str(),
                position.epoch.0.cast_signed(),
                i64::try_from(position.acked_seq).unwrap_or(i64::MAX),
            ),
            |row| row.get(0),
        )
        .optional()?;
    Ok(behind.map(i64::cast_unsigned))
}

fn note_hub_behind(
    db: &Connection,
    till: &TillAccess,
    position: &TillPosition,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(seq) = hub_behind(db, till, position)? else {
        return Ok(());
    };
    let detail = format!(
        "the hub has acknowledged the till's entries up to {} and has them up to {seq}: this store is \
         older than the one that answered the till; if it was restored from a backup, stop the hub \
         and run `hubd restore`",
        position.acked_seq
    );
    let origin = Origin {
        tenant: till.tenant,
        till: Some(till.till.as_str()),
        epoch: Some(position.epoch),
        seq: Some(position.acked_seq),
    };
    raise_flag(db, "hub_behind", &origin, None, None, &detail, now)
}

/// Two machines under one name are an alarm; one of an epoch is enough.
fn note_refusal(
    db: &Connection,
    till: &TillAccess,
    position: Option<&TillPosition>,
    refusal: &FeedRefusal,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (code, detail) = match refusal {
        FeedRefusal::SnapshotRequired | FeedRefusal::NotEnrolled | FeedRefusal::Revoked => {
            return Ok(());
        }
        FeedRefusal::Fork { agreed_through } => (
            "fork",
            format!(
                "the till has other entries than the hub under the same numbers (agreed through \
                 {agreed_through}); its disk was copied: enrol it anew"
            ),
        ),
        FeedRefusal::Rollback { accepted_seq } => (
            "rollback",
            format!(
                "the till's ledger ends before entry {accepted_seq} that the hub has; its disk was \
                 restored: enrol it anew"
            ),
        ),
    };
    let Some(position) = position else {
        return Ok(());
    };
    let known = db
        .prepare_cached("SELECT 1 FROM flag WHERE code = ?1 AND till = ?2 AND epoch = ?3")?
        .exists((code, till.till.as_str(), position.epoch.0.cast_signed()))?;
    if known {
        return Ok(());
    }
    let origin = Origin {
        tenant: till.tenant,
        till: Some(till.till.as_str()),
        epoch: Some(position.epoch),
        seq: Some(position.head_seq),
    };
    raise_flag(db, code, &origin, None, None, &detail, now)
}

/// The longest that a request for data is on its way while a batch overtakes it.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(30);
