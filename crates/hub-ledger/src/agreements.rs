//! Agreements about automatic top-ups: what a guardian allows to be charged, and how they end.

use canteen::{AccountId, Money, Status, TopUpState, is_armed};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::TopUpRecord;

use crate::accounts::{AccountRow, find_account, read_account};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::notices::forget_stuck;
use crate::store::{HubLedger, HubReader, millis, moment};
use crate::tenancy::not_empty;
use crate::top_up_rules::{TOP_UP_AMOUNT_MAX, TOP_UP_AMOUNT_MIN};
use crate::top_ups::{ACTIVE, CARD_HELD, id_from};

/// What a guardian has agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The account.
    pub account: AccountId,
    /// What is charged each time.
    pub amount: Money,
    /// The gateway's name for the stored card.
    pub card: String,
    /// Whether enough has been paid in for it to take effect.
    pub armed: bool,
    /// Whether the card is unusable, so that a new agreement is needed.
    pub disabled: bool,
    /// Where the latest top-up stands.
    pub state: TopUpState,
    /// Whether it waits until somebody has found out what an earlier charge of the card was for.
    pub held: bool,
    /// After a failure, when the next top-up may be tried.
    pub retry_at: Option<Timestamp>,
    /// When it was made.
    pub made_at: Timestamp,
}

impl HubLedger {
    /// Makes an agreement. One whose card is unusable is replaced, one in force is not.
    pub fn make_agreement(
        &mut self,
        account: AccountId,
        amount: Money,
        card: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        not_empty("the card agreement", card)?;
        if amount < TOP_UP_AMOUNT_MIN || amount > TOP_UP_AMOUNT_MAX || !amount.is_whole_kroner() {
            return Err(Refusal::TopUpAmount { amount }.into());
        }
        let db = self.change()?;
        let account = read_account(&db, account)?;
        if account.status == Status::Closed {
            return Err(Refusal::AccountClosed.into());
        }
        end_agreement(&db, account.id, "status = 'disabled'", now)?;
        if agreement_row(&db, account.id)?.is_some() {
            return Err(Refusal::Exists {
                what: "top-up agreement",
                id: account.id.to_string(),
            }
            .into());
        }
        db.execute(
            "INSERT INTO agreement (account, amount, card, status, made_at)
             VALUES (?1, ?2, ?3, 'active', ?4)",
            (account.id.0, amount.ore(), card, millis(now)),
        )?;
        touch_account(&db, account.canteen, account.id)?;
        Ok(db.commit()?)
    }

    /// Ends the agreement of an account. A charge under way is still booked when it succeeds.
    pub fn cancel_agreement(
        &mut self,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let account = read_account(&db, account)?;
        if end_agreement(&db, account.id, "status <> 'cancelled'", now)? == 0 {
            return Err(Refusal::not_found("top-up agreement", account.id).into());
        }
        cancel_uncharged(&db, account.id, now)?;
        touch_account(&db, account.canteen, account.id)?;
        Ok(db.commit()?)
    }

    /// Lets agreements whose wait after a failure is over try again.
    pub fn end_waits(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let accounts: Vec<i64> = db
            .prepare_cached(
                "UPDATE agreement SET retry_at = NULL WHERE retry_at <= ?1 RETURNING account",
            )?
            .query_map([millis(now)], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in accounts {
            if let Some(account) = find_account(&db, AccountId(id))? {
                touch_account(&db, account.canteen, account.id)?;
            }
        }
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// The agreement of an account, if one was made and not cancelled.
    pub fn agreement(
        &self,
        account: &AccountRow,
        now: Timestamp,
    ) -> Result<Option<Agreement>, LedgerError> {
        let Some(row) = agreement_row(&self.db, account.id)? else {
            return Ok(None);
        };
        Ok(Some(Agreement {
            account: account.id,
            amount: row.amount,
            card: row.card.clone(),
            armed: is_armed(account.paid_in),
            disabled: row.disabled,
            state: top_up_state(&self.db, account.id, &row, now)?,
            held: active_top_up(&self.db, account.id)?.is_some_and(|active| active.held),
            retry_at: row.retry_at,
            made_at: row.made_at,
        }))
    }
}

/// What tills are told about an account's agreement.
pub(crate) fn top_up_record(
    db: &Connection,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Option<TopUpRecord>, LedgerError> {
    let Some(agreement) = agreement_row(db, account.id)? else {
        return Ok(None);
    };
    Ok(Some(TopUpRecord {
        amount: agreement.amount,
        armed: is_armed(account.paid_in),
        state: top_up_state(db, account.id, &agreement, now)?,
    }))
}

pub(crate) struct AgreementRow {
    pub(crate) id: i64,
    pub(crate) amount: Money,
    pub(crate) card: String,
    pub(crate) disabled: bool,
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) made_at: Timestamp,
}

pub(crate) fn agreement_row(
    db: &Connection,
    account: AccountId,
) -> Result<Option<AgreementRow>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT id, amount, card, status = 'disabled', failures, retry_at, made_at FROM agreement
         WHERE account = ?1 AND status <> 'cancelled'",
    )?;
    let mut rows = statement.query([account.0])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(AgreementRow {
        id: row.get(0)?,
        amount: Money::from_ore(row.get(1)?),
        card: row.get(2)?,
        disabled: row.get(3)?,
        failures: row.get(4)?,
        retry_at: row.get::<_, Option<i64>>(5)?.map(moment).transpose()?,
        made_at: moment(row.get(6)?)?,
    }))
}

/// What was not sent, or waits for its card, is given up.
fn cancel_uncharged(
    db: &Connection,
    account: AccountId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let cancelled: Vec<String> = db
        .prepare_cached(
            "UPDATE top_up SET state = 'cancelled', failure = 'agreement_cancelled', due_at = NULL,
               changed_at = ?2
             WHERE account = ?1 AND (state = 'intent' OR state = 'stuck' AND failure = ?3)
             RETURNING id",
        )?
        .query_map((account.0, millis(now), CARD_HELD), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in cancelled {
        forget_stuck(db, id_from(&id)?)?;
    }
    Ok(())
}

fn end_agreement(
    db: &Connection,
    account: AccountId,
    which: &str,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    Ok(db.execute(
        &format!(
            "UPDATE agreement SET status = 'cancelled', retry_at = NULL, ended_at = ?2
             WHERE account = ?1 AND {which}"
        ),
        (account.0, millis(now)),
    )?)
}

pub(crate) fn top_up_state(
    db: &Connection,
    account: AccountId,
    agreement: &AgreementRow,
    now: Timestamp,
) -> Result<TopUpState, LedgerError> {
    if let Some(active) = active_top_up(db, account)? {
        return Ok(match active.held {
            true => TopUpState::Failed,
            false => TopUpState::Pending,
        });
    }
    if agreement.disabled || agreement.retry_at.is_some_and(|retry_at| retry_at > now) {
        return Ok(TopUpState::Failed);
    }
    Ok(TopUpState::Idle)
}

/// A top-up of an account that has not ended.
struct ActiveTopUp {
    /// Whether it waits for its card, so that it is neither charged nor about to be.
    held: bool,
}

fn active_top_up(db: &Connection, account: AccountId) -> Result<Option<ActiveTopUp>, LedgerError> {
    Ok(db
        .prepare_cached(&format!(
            "SELECT state = 'stuck' AND failure IS ?2 FROM top_up
             WHERE account = ?1 AND state IN {ACTIVE}"
        ))?
        .query_row((account.0, CARD_HELD), |row| {
            row.get(0).map(|held| ActiveTopUp { held })
        })
        .optional()?)
}
