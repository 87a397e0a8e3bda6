//! Chips: which account a chip pays from, and whether it may.

use canteen::{AccountId, CardNumber, ChipId, ChipNumber, KeyVersion, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};
use sync_proto::StatusOf;

use crate::accounts::{read_account, status_from};
use crate::error::{LedgerError, Refusal};
use crate::feed::{RecordKind, touch};
use crate::statuses::note_status_change;
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::{CanteenId, Reach};

/// A chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipRow {
    /// The hub's number for it, used in entries instead of the UID.
    pub number: i64,
    /// The canteen that knows it.
    pub canteen: CanteenId,
    /// Its UID.
    pub uid: ChipId,
    /// The number printed on the card, if there is one.
    pub card: Option<CardNumber>,
    /// The account that it pays from.
    pub account: AccountId,
    /// Whether it may buy.
    pub status: Status,
    /// When it was blocked or closed.
    pub blocked_at: Option<Timestamp>,
    /// The version of the keys that it must prove itself by; `None` when its UID is enough.
    pub key_version: Option<KeyVersion>,
    /// The version of the status.
    pub status_rv: u64,
}

/// What makes a chip known.
#[derive(Debug, Clone, Copy)]
pub struct NewChip {
    /// Its UID.
    pub uid: ChipId,
    /// The number printed on the card, if there is one.
    pub card: Option<CardNumber>,
    /// The version of the keys that are on it, when it has been enrolled with keys.
    pub key_version: Option<KeyVersion>,
}

impl HubLedger {
    /// Gives an account a chip.
    pub fn add_chip(
        &mut self,
        account: AccountId,
        new: &NewChip,
        now: Timestamp,
    ) -> Result<i64, LedgerError> {
        let db = self.change()?;
        let number = insert_chip(&db, account, new, now)?;
        db.commit()?;
        Ok(number)
    }

    /// Blocks a chip; again changes nothing.
    pub fn block_chip(&mut self, number: i64, now: Timestamp) -> Result<(), LedgerError> {
        self.change_chip(number, Status::Blocked, now)
    }

    /// Makes a blocked chip active again.
    pub fn reactivate_chip(&mut self, number: i64, now: Timestamp) -> Result<(), LedgerError> {
        self.change_chip(number, Status::Active, now)
    }

    /// Closes a chip and gives its account another one: balance and limits carry over.
    pub fn replace_chip(
        &mut self,
        number: i64,
        new: &NewChip,
        now: Timestamp,
    ) -> Result<i64, LedgerError> {
        let db = self.change()?;
        let old = read_chip(&db, number)?;
        set_status(&db, &old, Status::Closed, now)?;
        let number = insert_chip(&db, old.account, new, now)?;
        db.commit()?;
        Ok(number)
    }

    fn change_chip(
        &mut self,
        number: i64,
        status: Status,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let chip = read_chip(&db, number)?;
        set_status(&db, &chip, status, now)?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// One chip by the hub's number, if it is within reach.
    pub fn chip_within(&self, reach: Reach, number: i64) -> Result<ChipRow, LedgerError> {
        let chip = read_chip(&self.db, number)?;
        match self.account_within(reach, chip.account) {
            Ok(_) => Ok(chip),
            Err(LedgerError::Refused(_)) => Err(Refusal::not_found("chip", number).into()),
            Err(error) => Err(error),
        }
    }

    /// The chips within reach that a typed number means; more than one when several canteens know
    /// the chip or when a closed one has come back.
    pub fn find_chips(
        &self,
        reach: Reach,
        number: &ChipNumber,
    ) -> Result<Vec<ChipRow>, LedgerError> {
        let column = match number {
            ChipNumber::Chip(_) => "c.uid",
            ChipNumber::Card(_) => "c.card",
        };
        self.select_chips(
            &format!(
                "JOIN account a ON a.id = c.account
                 WHERE {column} = ?1 AND (?2 IS NULL OR a.tenant = ?2) ORDER BY c.number DESC"
            ),
            [number.to_string().into(), reach.filter().into()],
        )
    }

    /// The chips of an account, the newest first.
    pub fn chips_of(&self, account: AccountId) -> Result<Vec<ChipRow>, LedgerError> {
        self.select_chips(
            "WHERE c.account = ?1 ORDER BY c.number DESC",
            [account.0.into()],
        )
    }

    fn select_chips<const N: usize>(
        &self,
        rest: &str,
        values: [Value; N],
    ) -> Result<Vec<ChipRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!("{SELECT_CHIP} {rest}"))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut chips = Vec::new();
        while let Some(row) = rows.next()? {
            chips.push(chip_from(row)?);
        }
        Ok(chips)
    }
}

pub(crate) fn find_chip(db: &Connection, number: i64) -> Result<Option<ChipRow>, LedgerError> {
    let mut statement = db.prepare_cached(&format!("{SELECT_CHIP} WHERE c.number = ?1"))?;
    let mut rows = statement.query([number])?;
    rows.next()?.map(chip_from).transpose()
}

/// The chip that tills of a canteen are told about under a UID: the one in use, or the last.
pub(crate) fn chip_by_uid(
    db: &Connection,
    canteen: CanteenId,
    uid: &str,
) -> Result<Option<ChipRow>, LedgerError> {
    let sql = format!(
        "{SELECT_CHIP} WHERE c.canteen = ?1 AND c.uid = ?2
         ORDER BY c.status = 'closed', c.number DESC LIMIT 1"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query((canteen.0, uid))?;
    rows.next()?.map(chip_from).transpose()
}

fn read_chip(db: &Connection, number: i64) -> Result<ChipRow, LedgerError> {
    Ok(find_chip(db, number)?.ok_or_else(|| Refusal::not_found("chip", number))?)
}

pub(crate) fn insert_chip(
    db: &Connection,
    account: AccountId,
    new: &NewChip,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    let account = read_account(db, account)?;
    if account.status == Status::Closed {
        return Err(Refusal::AccountClosed.into());
    }
    let uid = new.uid.to_string();
    let card = new.card.map(|card| card.to_string());
    let taken: Option<i64> = db
        .query_row(
            "SELECT number FROM chip
             WHERE canteen = ?1 AND (uid = ?2 OR card = ?3) AND status <> 'closed'",
            (account.canteen.0, &uid, &card),
            |row| row.get(0),
        )
        .optional()?;
    if let Some(number) = taken {
        return Err(Refusal::Exists {
            what: "chip",
            id: number.to_string(),
        }
        .into());
    }
    db.execute(
        "INSERT INTO chip (canteen, uid, card, account, status, created_at, key_version)
         VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6)",
        (
            account.canteen.0,
            &uid,
            card,
            account.id.0,
            millis(now),
            new.key_version.map(|version| version.0),
        ),
    )?;
    let number = db.last_insert_rowid();
    touch(db, account.canteen, RecordKind::Chip, &uid)?;
    Ok(number)
}

fn set_status(
    db: &Connection,
    chip: &ChipRow,
    status: Status,
    now: Timestamp,
) -> Result<(), LedgerError> {
    if chip.status == status {
        return Ok(());
    }
    if chip.status == Status::Closed {
        return Err(Refusal::ChipClosed.into());
    }
    let blocked_at = (status != Status::Active).then(|| millis(now));
    db.execute(
        "UPDATE chip SET status = ?2, blocked_at = ?3 WHERE number = ?1",
        (chip.number, status.code(), blocked_at),
    )?;
    let rv = touch(db, chip.canteen, RecordKind::Chip, &chip.uid.to_string())?;
    note_status_change(db, StatusOf::Chip(chip.number), status, rv, now)
}

/// Gives the chips in use of one account to another.
pub(crate) fn move_chips(
    db: &Connection,
    from: AccountId,
    to: AccountId,
) -> Result<(), LedgerError> {
    let moved: Vec<(i64, String)> = db
        .prepare(
            "UPDATE chip SET account = ?2 WHERE account = ?1 AND status <> 'closed'
             RETURNING canteen, uid",
        )?
        .query_map((from.0, to.0), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (canteen, uid) in moved {
        touch(db, CanteenId(canteen), RecordKind::Chip, &uid)?;
    }
    Ok(())
}

/// The chip carries keys of this version, and must prove itself.
pub(crate) fn set_key_version(
    db: &Connection,
    chip: &ChipRow,
    version: KeyVersion,
) -> Result<(), LedgerError> {
    db.execute(
        "UPDATE chip SET key_version = ?2 WHERE number = ?1",
        (chip.number, version.0),
    )?;
    touch(db, chip.canteen, RecordKind::Chip, &chip.uid.to_string())?;
    Ok(())
}

fn chip_from(row: &Row<'_>) -> Result<ChipRow, LedgerError> {
    let unreadable = LedgerError::Unreadable { what: "chip" };
    let uid: String = row.get(2)?;
    let Ok(Ok(uid)) = hex::decode(uid).map(|bytes| ChipId::from_known(&bytes)) else {
        return Err(unreadable);
    };
    let card: Option<String> = row.get(3)?;
    let card = match card {
        Some(text) => Some(CardNumber::parse(&text).ok_or(unreadable)?),
        None => None,
    };
    let status: String = row.get(5)?;
    Ok(ChipRow {
        number: row.get(0)?,
        canteen: CanteenId(row.get(1)?),
        uid,
        card,
        account: AccountId(row.get(4)?),
        status: status_from(&status)?,
        blocked_at: row.get::<_, Option<i64>>(6)?.map(moment).transpose()?,
        key_version: row.get::<_, Option<u8>>(7)?.map(KeyVersion),
        status_rv: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}

const SELECT_CHIP: &str =
    "SELECT c.number, c.canteen, c.uid, c.card, c.account, c.status, c.blocked_at,
       c.key_version, c.status_rv
     FROM chip c";
