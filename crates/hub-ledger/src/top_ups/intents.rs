//! What asks for a top-up: purchases that leave or find the balance too low.

use canteen::{AccountId, BusinessDay, TopUp, TopUpOutcome, is_armed, top_up_due};
use jiff::{Timestamp, ToSpan};
use rusqlite::Connection;

use super::{ACTIVE, is_chip_blocked, new_id, raise_top_up_flag};
use crate::accounts::{AccountRow, may_be_paid_into};
use crate::agreements::{AgreementRow, agreement_row, top_up_state};
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::store::millis;
use crate::top_up_rules::TopUpRules;

/// The purchases of one account in one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purchases {
    /// How many.
    pub(crate) count: u32,
    /// The chip of the last, if one was read.
    pub(crate) chip: Option<i64>,
    /// The day of the newest.
    pub(crate) newest: BusinessDay,
}

/// Makes an intent when purchases leave or find the balance too low.
pub(crate) fn ask_for_top_up(
    db: &Connection,
    account: &AccountRow,
    purchases: &Purchases,
    rules: &TopUpRules,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(agreement) = agreement_row(db, account.id)? else {
        return Ok(());
    };
    let oldest = BusinessDay::of(now)
        .date()
        .checked_sub(i64::from(rules.late_days).days())
        .map(BusinessDay::from_date);
    if oldest.is_ok_and(|oldest| purchases.newest < oldest) {
        return Ok(());
    }
    let top_up = TopUp {
        amount: agreement.amount,
        armed: is_armed(account.paid_in),
        state: top_up_state(db, account.id, &agreement, now)?,
    };
    match top_up_due(account.balance, Some(&top_up)) {
        TopUpOutcome::None | TopUpOutcome::Failed => Ok(()),
        TopUpOutcome::Pending => join_active(db, account.id, purchases.count),
        TopUpOutcome::Requested => intend(db, account, &agreement, purchases, rules, now),
    }
}

fn join_active(db: &Connection, account: AccountId, count: u32) -> Result<(), LedgerError> {
    db.prepare_cached(&format!(
        "UPDATE top_up SET coalesced = coalesced + ?2 WHERE account = ?1 AND state IN {ACTIVE}"
    ))?
    .execute((account.0, count))?;
    Ok(())
}

fn intend(
    db: &Connection,
    account: &AccountRow,
    agreement: &AgreementRow,
    purchases: &Purchases,
    rules: &TopUpRules,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let chip_blocked = match purchases.chip {
        Some(chip) => is_chip_blocked(db, chip)?,
        None => false,
    };
    if chip_blocked || may_be_paid_into(db, account)?.is_err() {
        return Ok(());
    }
    let too_many = count_since(db, account.id, now, 1)? >= rules.per_day_max
        || count_since(db, account.id, now, 30)? >= rules.per_month_max;
    if too_many {
        return raise_top_up_flag(db, "top_up_cap", account, "too many top-ups lately", now);
    }
    db.prepare_cached(
        "INSERT INTO top_up (id, account, agreement, amount, card, chip, state, due_at, coalesced,
           created_at, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'intent', ?7, ?8, ?7, ?7)",
    )?
    .execute((
        new_id(now).to_string(),
        account.id.0,
        agreement.id,
        agreement.amount.ore(),
        &agreement.card,
        purchases.chip,
        millis(now),
        purchases.count - 1,
    ))?;
    touch_account(db, account.canteen, account.id)?;
    Ok(())
}

fn count_since(
    db: &Connection,
    account: AccountId,
    now: Timestamp,
    days: i64,
) -> Result<u32, LedgerError> {
    let since = millis(now) - days * 24 * 3600 * 1000;
    Ok(db
        .prepare_cached(
            "SELECT count(*) FROM top_up
             WHERE account = ?1 AND created_at > ?2 AND state NOT IN ('failed', 'cancelled')",
        )?
        .query_row((account.0, since), |row| row.get(0))?)
}
