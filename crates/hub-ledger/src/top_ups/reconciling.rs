//! What a settlement file says of a top-up.

use canteen::AccountId;
use jiff::Timestamp;
use rusqlite::Connection;

use super::answers::Step;
use super::gateway_list::{is_another_active, known_top_up};
use super::{ChargeOrder, Stored, TopUpId, TopUpStage, finish};
use crate::accounts::{AccountRow, may_be_paid_into, read_account};
use crate::bookings::BookingId;
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::notices::{NoticeReason, tell};
use crate::reversals::{reversal_of, reverse};
use crate::settlements::{ChargeState, ListedCharge};
use crate::store::millis;
use crate::tenancy::TenantId;
use crate::top_up_rules::TopUpRules;

/// What became of a charge in a settlement file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reconciled {
    /// The books had it so.
    Agreed,
    /// It is in the books now.
    Booked,
    /// It is held back, and not in the books any more.
    Suspended(Held),
    /// The books have another amount, or money that went back.
    Differs(Held),
    /// The books do not know it.
    Unknown,
}

/// Whose charge a person must look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) tenant: TenantId,
    pub(crate) account: AccountId,
    pub(crate) booking: Option<BookingId>,
}

/// Holds a charge against the top-up that it was made for; `None` when it was made for none.
pub(crate) fn reconcile_top_up(
    db: &Connection,
    rules: &TopUpRules,
    charge: &ListedCharge,
    now: Timestamp,
) -> Result<Option<Reconciled>, LedgerError> {
    let Some(top_up) = known_top_up(db, &charge.reference, &charge.transaction)? else {
        return Ok(None);
    };
    let account = read_account(db, top_up.account)?;
    let reconciled = match charge.state {
        ChargeState::Settled => take_settled(db, rules, charge, &top_up, &account, now)?,
        ChargeState::Suspended => take_suspended(db, &top_up, &account, now)?,
    };
    Ok(Some(reconciled))
}

fn take_settled(
    db: &Connection,
    rules: &TopUpRules,
    charge: &ListedCharge,
    top_up: &Stored,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let held = held(db, top_up, account)?;
    if !top_up.awaits_money() {
        note_reconciled(db, top_up.id, now)?;
        return Ok(if top_up.captured == Some(charge.amount) {
            Reconciled::Agreed
        } else {
            Reconciled::Differs(held)
        });
    }
    // What must go back to the card has to wait until nothing else of the account is under way.
    if may_be_paid_into(db, account)?.is_err() && is_another_active(db, top_up)? {
        return Ok(Reconciled::Differs(held));
    }
    db.execute(
        "UPDATE top_up SET suspended_at = NULL WHERE id = ?1",
        [top_up.id.to_string()],
    )?;
    let order = ChargeOrder {
        id: top_up.id,
        reference: charge.reference.clone(),
        card: top_up.card.clone(),
        amount: charge.amount,
    };
    let step = Step {
        db,
        rules,
        top_up,
        now,
    };
    step.capture(&order, &charge.transaction, charge.amount)?;
    note_reconciled(db, top_up.id, now)?;
    Ok(Reconciled::Booked)
}

fn take_suspended(
    db: &Connection,
    top_up: &Stored,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let held = held(db, top_up, account)?;
    if top_up.suspended {
        return Ok(Reconciled::Suspended(held));
    }
    match top_up.stage {
        // The money went back at the gateway, so it cannot be held back there.
        TopUpStage::Refunding | TopUpStage::Refunded => return Ok(Reconciled::Differs(held)),
        TopUpStage::Settled => {
            take_credit_back(db, account, held.booking, now)?;
            hold(db, top_up, account, now)?;
        }
        TopUpStage::Intent | TopUpStage::Requested | TopUpStage::Unknown | TopUpStage::Stuck => {
            hold(db, top_up, account, now)?;
        }
        // Nothing is on the account, and the top-up stays ended.
        TopUpStage::Failed | TopUpStage::Cancelled => {}
    }
    db.execute(
        "UPDATE top_up SET suspended_at = ?2, booking = NULL WHERE id = ?1",
        (top_up.id.to_string(), millis(now)),
    )?;
    touch_account(db, account.canteen, account.id)?;
    Ok(Reconciled::Suspended(held))
}

/// A person must look, and until then no other top-up of the account is charged. One that is on its way
/// already is not in doubt, and keeps its place.
fn hold(
    db: &Connection,
    top_up: &Stored,
    account: &AccountRow,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let stage = if is_another_active(db, top_up)? {
        TopUpStage::Failed
    } else {
        TopUpStage::Stuck
    };
    finish(db, top_up, stage, Some("suspended"), None, now)?;
    if stage == TopUpStage::Stuck {
        let reason = NoticeReason::Stuck;
        tell(db, account, reason, top_up.id, top_up.amount, now)?;
    }
    Ok(())
}

fn take_credit_back(
    db: &Connection,
    account: &AccountRow,
    credit: Option<BookingId>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(credit) = credit else { return Ok(()) };
    if reversal_of(db, credit)?.is_none() {
        let text = "Tilbageført optankning: betalingen er tilbageholdt";
        reverse(db, account, credit, text, now)?;
    }
    Ok(())
}

fn held(db: &Connection, top_up: &Stored, account: &AccountRow) -> Result<Held, LedgerError> {
    let booking: Option<i64> = db.query_row(
        "SELECT booking FROM top_up WHERE id = ?1",
        [top_up.id.to_string()],
        |row| row.get(0),
    )?;
    Ok(Held {
        tenant: account.tenant,
        account: account.id,
        booking: booking.map(BookingId),
    })
}

fn note_reconciled(db: &Connection, id: TopUpId, now: Timestamp) -> Result<(), LedgerError> {
    db.execute(
        "UPDATE top_up SET reconciled_at = coalesce(reconciled_at, ?2) WHERE id = ?1",
        (id.to_string(), millis(now)),
    )?;
    Ok(())
}
