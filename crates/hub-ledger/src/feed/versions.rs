//! Which version every record has: the place of its newest change in the feed.

use canteen::AccountId;
use rusqlite::{Connection, OptionalExtension};

use crate::accounts::AccountRow;
use crate::ceilings::{move_issues, reissue};
use crate::error::LedgerError;
use crate::tenancy::CanteenId;

/// The kinds of records that tills replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// An account, by its number.
    Account,
    /// A chip, by its UID.
    Chip,
    /// A holder, by the account's number.
    Holder,
    /// A product, by its number.
    Product,
    /// That the canteen's chip keys have changed.
    ChipKeys,
}

impl RecordKind {
    fn code(self) -> &'static str {
        match self {
            RecordKind::Account => "account",
            RecordKind::Chip => "chip",
            RecordKind::Holder => "holder",
            RecordKind::Product => "product",
            RecordKind::ChipKeys => "chip_keys",
        }
    }

    pub(super) fn from_code(code: &str) -> Option<RecordKind> {
        [
            RecordKind::Account,
            RecordKind::Chip,
            RecordKind::Holder,
            RecordKind::Product,
            RecordKind::ChipKeys,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// Gives a record the next version, so that every till of the canteen hears of it.
pub(crate) fn touch(
    db: &Connection,
    canteen: CanteenId,
    kind: RecordKind,
    id: &str,
) -> Result<i64, LedgerError> {
    let rv: i64 = db
        .prepare_cached("UPDATE hub SET rv = rv + 1 RETURNING rv")?
        .query_row([], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO record (canteen, kind, id, rv) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (canteen, kind, id) DO UPDATE SET rv = ?4",
    )?
    .execute((canteen.0, kind.code(), id, rv))?;
    Ok(rv)
}

/// An account has changed: its ceilings are issued anew, and every till of the canteen hears of it.
pub(crate) fn touch_account(
    db: &Connection,
    canteen: CanteenId,
    account: AccountId,
) -> Result<i64, LedgerError> {
    reissue(db, account, None)?;
    touch_issued(db, canteen, account)
}

/// Gives an account's record the next version when its ceilings have been issued.
pub(crate) fn touch_issued(
    db: &Connection,
    canteen: CanteenId,
    account: AccountId,
) -> Result<i64, LedgerError> {
    let rv = touch(db, canteen, RecordKind::Account, &account.to_string())?;
    move_issues(db, account, rv)?;
    Ok(rv)
}

/// The version of an account's record.
pub(crate) fn account_version(
    db: &Connection,
    account: &AccountRow,
) -> Result<Option<u64>, LedgerError> {
    let rv: Option<i64> = db
        .prepare_cached("SELECT rv FROM record WHERE canteen = ?1 AND kind = ?2 AND id = ?3")?
        .query_row(
            (
                account.canteen.0,
                RecordKind::Account.code(),
                account.id.to_string(),
            ),
            |row| row.get(0),
        )
        .optional()?;
    Ok(rv.map(i64::cast_unsigned))
}
