//! Accounts in the replica: the hub's figures, and what this till's own entries add to them.

use std::collections::{BTreeMap, BTreeSet};

use canteen::{
    Account, AccountId, BusinessDay, ChipId, LimitMode, Limits, Money, Spent, Status, StrictLimits,
    TopUp, TopUpOutcome, TopUpState,
};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use sync_proto::{AccountRecord, EntryBody, EntryError, EntryTexts, LimitSharesRecord};

use crate::entry_row::read_texts;
use crate::error::LedgerError;

/// An account's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountRow {
    pub(crate) id: AccountId,
    pub(crate) known: bool,
    pub(crate) rv: u64,
    pub(crate) status: Status,
    pub(crate) status_rv: u64,
    pub(crate) position: Money,
    pub(crate) incl_seq: u64,
    pub(crate) hub_spent: Spent,
    pub(crate) credit: Money,
    pub(crate) limits: Limits,
    pub(crate) ceiling: Option<Money>,
    pub(crate) top_up: Option<TopUp>,
    pub(crate) shares: Option<LimitSharesRecord>,
    pub(crate) gross_incl: Money,
    pub(crate) sold_incl: Spent,
    pub(crate) own: Own,
}

/// The part of an account's row that follows from the hub's figures and the own entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) balance: Money,
    pub(crate) spent: Spent,
    pub(crate) gross: Money,
    /// The gross sales by the windows that they fell in; what `spent` is without voids and others.
    pub(crate) sold: Spent,
    pub(crate) last_seq: u64,
    pub(crate) top_up_seq: u64,
}

impl AccountRow {
    /// A row from the hub's record, as if this till had no entries after `incl_seq`. A status that
    /// came another way and is newer stays, unless the hub counts versions anew.
    pub(crate) fn from_record(
        record: &AccountRecord,
        rv: u64,
        before: Option<&AccountRow>,
        counts_anew: bool,
    ) -> Self {
        let gross = before.map_or(Money::ZERO, |row| row.own.gross);
        let spent: Spent = record.spent.into();
        let sold = before.map_or(Spent::nothing(spent.on()), |row| row.own.sold);
        let kept = before.and_then(|row| row.shares);
        let newer = before.filter(|row| !counts_anew && row.status_rv > record.status_rv);
        AccountRow {
            id: record.id,
            known: true,
            rv,
            status: newer.map_or(record.status, |row| row.status),
            status_rv: newer.map_or(record.status_rv, |row| row.status_rv),
            position: record.position,
            incl_seq: record.incl_seq,
            hub_spent: spent,
            credit: record.credit,
            limits: record.limits.into(),
            ceiling: record.ceiling.or(before.and_then(|row| row.ceiling)),
            top_up: record.to_account().top_up,
            shares: record.shares.or(kept).filter(|_| record.limits.strict),
            gross_incl: gross,
            sold_incl: sold,
            own: Own {
                balance: record.position,
                spent,
                gross,
                sold,
                last_seq: before.map_or(0, |row| row.own.last_seq),
                top_up_seq: before.map_or(0, |row| row.own.top_up_seq),
            },
        }
    }

    /// The account as the decision sees it.
    pub(crate) fn account(&self) -> Account {
        Account {
            id: self.id,
            status: self.status,
            balance: self.own.balance,
            credit: self.credit,
            limits: self.limits,
            spent: self.own.spent,
            strict: self.strict(),
            allowance: self.allowance(),
            top_up: self.top_up_now(),
        }
    }

    fn strict(&self) -> Option<StrictLimits> {
        match self.limits.mode {
            LimitMode::Lenient => None,
            LimitMode::Strict => Some(StrictLimits {
                shares: self.shares.map(Into::into),
                gross: self.own.gross,
                sold: self.own.sold,
            }),
        }
    }

    /// What may still be sold before the hub has heard of it; figures out of range allow nothing.
    ///
    /// A hub that never gave a ceiling leaves the till to itself: then it sells for so much on top
    /// of what the hub has booked.
    fn allowance(&self) -> Option<Money> {
        let ceiling = self
            .ceiling
            .or_else(|| self.gross_incl.checked_add(UNHEARD_MAX));
        let left = ceiling.and_then(|ceiling| ceiling.checked_sub(self.own.gross));
        Some(left.unwrap_or(Money::ZERO))
    }

    /// A request that the hub's record does not contain yet counts as under way.
    fn top_up_now(&self) -> Option<TopUp> {
        let asked = self.own.top_up_seq > self.incl_seq;
        self.top_up.map(|top_up| TopUp {
            state: if asked {
                TopUpState::Pending
            } else {
                top_up.state
            },
            ..top_up
        })
    }

    /// Whether own entries come on top of the hub's figures.
    pub(crate) fn has_overlay(&self) -> bool {
        self.own.last_seq.max(self.own.top_up_seq) > self.incl_seq
    }

    /// Whether the row must stay when the hub takes the account away: an account that comes back
    /// without a ceiling keeps the one that was in force.
    pub(crate) fn has_history(&self) -> bool {
        let own = &self.own;
        own.last_seq > 0 || own.top_up_seq > 0 || own.gross > Money::ZERO || self.ceiling.is_some()
    }

    /// Reckons the own part anew from the hub's figures and the own entries after `incl_seq`.
    pub(crate) fn fold(&mut self, entries: &[OwnEntry]) -> Result<(), LedgerError> {
        let mut own = Own {
            balance: self.position,
            spent: self.hub_spent,
            gross: self.gross_incl,
            sold: self.sold_incl,
            last_seq: self.own.last_seq.min(self.incl_seq),
            top_up_seq: self.own.top_up_seq.min(self.incl_seq),
        };
        for entry in entries.iter().filter(|entry| entry.seq > self.incl_seq) {
            own = own
                .after(entry)
                .ok_or(LedgerError::Range { account: self.id })?;
        }
        self.own = own;
        Ok(())
    }
}

impl Own {
    /// The own part after one more entry; `None` when a figure is out of range.
    pub(crate) fn after(self, entry: &OwnEntry) -> Option<Own> {
        let mut own = self;
        // A decline is not written into the account's row, so it must not age its counters either.
        if entry.what == Moved::Nothing && !entry.asks_for_top_up {
            return Some(own);
        }
        if entry.day > own.spent.on() {
            own.spent = own.spent.as_of(entry.day);
        }
        match entry.what {
            Moved::Sale(amount) => {
                own.balance = own.balance.checked_sub(amount)?;
                own.spent = own.spent.plus(amount, entry.day)?;
                own.gross = own.gross.checked_add(amount)?;
                own.sold = own.sold.as_of(own.sold.on().max(entry.day));
                own.sold = own.sold.plus(amount, entry.day)?;
                own.last_seq = entry.seq;
            }
            Moved::Void(amount) => {
                own.balance = own.balance.checked_add(amount)?;
                own.spent = own.spent.plus(amount.checked_neg()?, entry.day)?;
                own.last_seq = entry.seq;
            }
            Moved::Nothing => {}
        }
        if entry.asks_for_top_up {
            own.top_up_seq = entry.seq;
        }
        Some(own)
    }
}

/// An own entry, reduced to what it means for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnEntry {
    pub(crate) seq: u64,
    pub(crate) account: AccountId,
    pub(crate) day: BusinessDay,
    pub(crate) what: Moved,
    pub(crate) asks_for_top_up: bool,
}

/// The money that an entry moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Bought for so much.
    Sale(Money),
    /// So much was given back.
    Void(Money),
    /// None.
    Nothing,
}

impl OwnEntry {
    /// Reads an entry; `None` when it concerns no account, or is of a kind of newer programs.
    pub(crate) fn read(seq: u64, texts: &EntryTexts) -> Result<Option<OwnEntry>, LedgerError> {
        let (header, body) = match texts.read() {
            Ok(read) => read,
            Err(EntryError::UnknownKind { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (account, what, top_up) = match body {
            EntryBody::Sale(sale) => (sale.account, Moved::Sale(sale.amount), sale.top_up),
            EntryBody::Decline(decline) => (decline.account, Moved::Nothing, decline.top_up),
            EntryBody::Void(void) => (void.account, Moved::Void(void.amount), TopUpOutcome::None),
            EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => return Ok(None),
        };
        Ok(Some(OwnEntry {
            seq,
            account,
            day: header.day,
            what,
            asks_for_top_up: top_up == TopUpOutcome::Requested,
        }))
    }
}

/// The own entries of some accounts after a number, in order, by account; damaged ones count for
/// nobody.
pub(crate) fn own_entries_after(
    connection: &Connection,
    after: u64,
    wanted: &BTreeSet<AccountId>,
    holes: &BTreeSet<u64>,
) -> Result<BTreeMap<AccountId, Vec<OwnEntry>>, LedgerError> {
    let mut found: BTreeMap<AccountId, Vec<OwnEntry>> = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut statement = connection
        .prepare_cached("SELECT seq, header, body FROM entry WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([after.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let (seq, texts) = read_texts(row)?;
        if holes.contains(&seq) {
            continue;
        }
        match OwnEntry::read(seq, &texts) {
            Ok(Some(entry)) if wanted.contains(&entry.account) => {
                found.entry(entry.account).or_default().push(entry);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(seq, %error, "An entry is damaged; check the ledger"),
        }
    }
    Ok(found)
}

/// A chip's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChipRow {
    pub(crate) number: i64,
    pub(crate) account: AccountId,
    pub(crate) status: Status,
    pub(crate) must_prove: bool,
    pub(crate) status_rv: u64,
}

pub(crate) fn chip_by_uid(
    connection: &Connection,
    chip: ChipId,
) -> Result<Option<ChipRow>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, account, status, must_prove, status_rv FROM chip WHERE uid = ?1",
    )?;
    let row = statement
        .query_row([chip.as_bytes()], |row| read_chip(row, 0))
        .optional()?;
    Ok(row)
}

/// A chip and the account that it pays from, in one look: every tap needs both.
pub(crate) fn holding_by_uid(
    connection: &Connection,
    chip: ChipId,
) -> Result<Option<(ChipRow, AccountRow)>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_HOLDING)?;
    let row = statement
        .query_row([chip.as_bytes()], |row| {
            Ok((read_chip(row, CHIP_AFTER_ACCOUNT)?, read_account(row)?))
        })
        .optional()?;
    Ok(row)
}

fn read_chip(row: &Row<'_>, first: usize) -> rusqlite::Result<ChipRow> {
    Ok(ChipRow {
        number: row.get(first)?,
        account: AccountId(row.get(first + 1)?),
        status: status(row, first + 2)?,
        must_prove: row.get(first + 3)?,
        status_rv: row.get::<_, i64>(first + 4)?.cast_unsigned(),
    })
}

/// An account's row, also when the hub took the account away.
pub(crate) fn account_row(
    connection: &Connection,
    id: AccountId,
) -> Result<Option<AccountRow>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_ACCOUNT)?;
    let row = statement.query_row([id.0], read_account).optional()?;
    Ok(row)
}

/// Reads the columns of `account_columns!`.
pub(crate) fn read_account(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    let amount: Option<i64> = row.get(15)?;
    let armed: bool = row.get(16)?;
    let state = code(row, 17, TopUpState::from_code)?;
    Ok(AccountRow {
        id: AccountId(row.get(0)?),
        known: row.get(1)?,
        rv: row.get::<_, i64>(2)?.cast_unsigned(),
        status: status(row, 3)?,
        status_rv: row.get::<_, i64>(27)?.cast_unsigned(),
        position: money(row, 4)?,
        incl_seq: row.get::<_, i64>(5)?.cast_unsigned(),
        hub_spent: spent(row, 6)?,
        credit: money(row, 10)?,
        limits: Limits {
            day: optional_money(row, 11)?,
            week: optional_money(row, 12)?,
            month: optional_money(row, 13)?,
            mode: code(row, 28, LimitMode::from_code)?,
        },
        ceiling: optional_money(row, 14)?,
        top_up: amount.map(|amount| TopUp {
            amount: Money::from_ore(amount),
            armed,
            state,
        }),
        shares: shares(row, 29)?,
        gross_incl: money(row, 18)?,
        sold_incl: spent(row, 34)?,
        own: Own {
            balance: money(row, 19)?,
            spent: spent(row, 20)?,
            gross: money(row, 24)?,
            sold: spent(row, 30)?,
            last_seq: row.get::<_, i64>(25)?.cast_unsigned(),
            top_up_seq: row.get::<_, i64>(26)?.cast_unsigned(),
        },
    })
}

/// Writes the whole row.
pub(crate) fn put_account(connection: &Connection, row: &AccountRow) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(PUT_ACCOUNT)?;
    let idle = TopUpState::Idle;
    let shares = row.shares.as_ref().map(serde_json::to_string).transpose();
    let shares = shares.map_err(EntryError::Body)?;
    statement.execute(named_params! {
        ":id": row.id.0,
        ":known": row.known,
        ":rv": row.rv.cast_signed(),
        ":status": row.status.code(),
        ":position": row.position.ore(),
        ":incl_seq": row.incl_seq.cast_signed(),
        ":hub_spent_on": row.hub_spent.on().to_string(),
        ":hub_spent_day": row.hub_spent.day().ore(),
        ":hub_spent_week": row.hub_spent.week().ore(),
        ":hub_spent_month": row.hub_spent.month().ore(),
        ":credit": row.credit.ore(),
        ":limit_day": row.limits.day.map(Money::ore),
        ":limit_week": row.limits.week.map(Money::ore),
        ":limit_month": row.limits.month.map(Money::ore),
        ":ceiling": row.ceiling.map(Money::ore),
        ":top_up_amount": row.top_up.map(|top_up| top_up.amount.ore()),
        ":top_up_armed": row.top_up.is_some_and(|top_up| top_up.armed),
        ":top_up_state": row.top_up.map_or(idle, |top_up| top_up.state).code(),
        ":gross_incl": row.gross_incl.ore(),
        ":balance": row.own.balance.ore(),
        ":spent_on": row.own.spent.on().to_string(),
        ":spent_day": row.own.spent.day().ore(),
        ":spent_week": row.own.spent.week().ore(),
        ":spent_month": row.own.spent.month().ore(),
        ":gross": row.own.gross.ore(),
        ":last_seq": row.own.last_seq.cast_signed(),
        ":top_up_seq": row.own.top_up_seq.cast_signed(),
        ":status_rv": row.status_rv.cast_signed(),
        ":limit_mode": row.limits.mode.code(),
        ":shares": shares,
        ":sold_on": row.own.sold.on().to_string(),
        ":sold_day": row.own.sold.day().ore(),
        ":sold_week": row.own.sold.week().ore(),
        ":sold_month": row.own.sold.month().ore(),
        ":sold_incl_on": row.sold_incl.on().to_string(),
        ":sold_incl_day": row.sold_incl.day().ore(),
        ":sold_incl_week": row.sold_incl.week().ore(),
        ":sold_incl_month": row.sold_incl.month().ore(),
    })?;
    Ok(())
}

/// Writes the own part alone, as every sale does.
pub(crate) fn put_own(
    connection: &Connection,
    account: AccountId,
    own: &Own,
) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(PUT_OWN)?;
    statement.execute((
        account.0,
        own.balance.ore(),
        own.spent.on().to_string(),
        own.spent.day().ore(),
        own.spent.week().ore(),
        own.spent.month().ore(),
        own.gross.ore(),
        own.last_seq.cast_signed(),
        own.top_up_seq.cast_signed(),
        own.sold.on().to_string(),
        own.sold.day().ore(),
        own.sold.week().ore(),
        own.sold.month().ore(),
    ))?;
    Ok(())
}

pub(crate) fn money(row: &Row<'_>, index: usize) -> rusqlite::Result<Money> {
    row.get(index).map(Money::from_ore)
}

fn optional_money(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Money>> {
    let ore: Option<i64> = row.get(index)?;
    Ok(ore.map(Money::from_ore))
}

pub(crate) fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    code(row, index, Status::from_code)
}

fn code<T>(row: &Row<'_>, index: usize, read: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    read(text).ok_or_else(|| unreadable(index, text))
}

fn spent(row: &Row<'_>, index: usize) -> rusqlite::Result<Spent> {
    let text = row.get_ref(index)?.as_str()?;
    let on: BusinessDay = text.parse().map_err(|_| unreadable(index, text))?;
    Ok(Spent::new(
        on,
        money(row, index + 1)?,
        money(row, index + 2)?,
        money(row, index + 3)?,
    ))
}

fn shares(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<LimitSharesRecord>> {
    let Some(text) = row.get_ref(index)?.as_str_or_null()? else {
        return Ok(None);
    };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|_| unreadable(index, text))
}

fn unreadable(index: usize, text: &str) -> rusqlite::Error {
    let why = format!("{text:?} is not what this column holds");
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, why.into())
}

/// In the order of [`read_account`].
macro_rules! account_columns {
    ($prefix:literal, $rest:literal) => {
        concat!(
            $prefix,
            "a.id, a.known, a.rv, a.status, a.position, a.incl_seq,
            a.hub_spent_on, a.hub_spent_day, a.hub_spent_week, a.hub_spent_month,
            a.credit, a.limit_day, a.limit_week, a.limit_month, a.ceiling,
            a.top_up_amount, a.top_up_armed, a.top_up_state, a.gross_incl,
            a.balance, a.spent_on, a.spent_day, a.spent_week, a.spent_month,
            a.gross, a.last_seq, a.top_up_seq, a.status_rv, a.limit_mode, a.shares,
            a.sold_on, a.sold_day, a.sold_week, a.sold_month,
            a.sold_incl_on, a.sold_incl_day, a.sold_incl_week, a.sold_incl_month",
            $rest
        )
    };
}

const SELECT_ACCOUNT: &str = account_columns!("SELECT ", " FROM account a WHERE a.id = ?1");

pub(crate) const SELECT_ACCOUNTS: &str =
    account_columns!("SELECT ", " FROM account a ORDER BY a.id");

const SELECT_HOLDING: &str = account_columns!(
    "SELECT ",
    ", c.number, c.account, c.status, c.must_prove, c.status_rv
    FROM chip c CROSS JOIN account a WHERE c.uid = ?1 AND a.id = c.account AND a.known = 1"
);

const CHIP_AFTER_ACCOUNT: usize = 38;

const PUT_OWN: &str = "
    UPDATE account SET balance = ?2, spent_on = ?3, spent_day = ?4, spent_week = ?5,
        spent_month = ?6, gross = ?7, last_seq = ?8, top_up_seq = ?9,
        sold_on = ?10, sold_day = ?11, sold_week = ?12, sold_month = ?13
    WHERE id = ?1";

const PUT_ACCOUNT: &str = "
    INSERT OR REPLACE INTO account (
        id, known, rv, status, position, incl_seq,
        hub_spent_on, hub_spent_day, hub_spent_week, hub_spent_month,
        credit, limit_day, limit_week, limit_month, ceiling,
        top_up_amount, top_up_armed, top_up_state, gross_incl,
        balance, spent_on, spent_day, spent_week, spent_month, gross, last_seq, top_up_seq,
        status_rv, limit_mode, shares, sold_on, sold_day, sold_week, sold_month,
        sold_incl_on, sold_incl_day, sold_incl_week, sold_incl_month
    ) VALUES (
        :id, :known, :rv, :status, :position, :incl_seq,
        :hub_spent_on, :hub_spent_day, :hub_spent_week, :hub_spent_month,
        :credit, :limit_day, :limit_week, :limit_month, :ceiling,
        :top_up_amount, :top_up_armed, :top_up_state, :gross_incl,
        :balance, :spent_on, :spent_day, :spent_week, :spent_month, :gross, :last_seq, :top_up_seq,
        :status_rv, :limit_mode, :shares, :sold_on, :sold_day, :sold_week, :sold_month,
        :sold_incl_on, :sold_incl_day, :sold_incl_week, :sold_incl_month
    )";
/// The most that a till sells on one account without a ceiling and without being heard.
const UNHEARD_MAX: Money = Money::from_kroner(200);
