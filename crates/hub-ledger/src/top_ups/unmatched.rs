//! Charges that the gateway has taken and nobody here asked for, as far as the books tell: a person
//! must say what each was for.
//!
//! Until then its card is *held*. The next top-up that wants the card may be for the purchase that the
//! charge has paid already, so none is charged: it is stuck with the word `card_held`, tills show it as
//! failed, and the guardian is told why. When the last of the card's charges is resolved, what waits
//! for the card goes on.

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::gateway_list::{GatewayCharge, Import, attempt_for, take_in};
use super::{SELECT_TOP_UP, Stored, TopUpId, TopUpStage, finish, set_due, stored_from};
use crate::accounts::{AccountRow, read_account};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::notices::{NoticeReason, forget_stuck, tell};
use crate::settlements::tenants_of_card;
use crate::store::{HubLedger, HubReader, millis, moment};

/// The number of an unmatched charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnmatchedId(pub i64);

/// A charge of which nobody knows what it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedCharge {
    /// Its number.
    pub id: UnmatchedId,
    /// The charge.
    pub charge: GatewayCharge,
    /// When it was first listed.
    pub found_at: Timestamp,
    /// The accounts that have or had an agreement on the card: it was made for one of them.
    pub accounts: Vec<AccountId>,
}

/// How a charge came to be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    TakenIn,
    PaidIn,
    Dismissed,
}

impl Resolution {
    fn code(self) -> &'static str {
        match self {
            Resolution::TakenIn => "taken_in",
            Resolution::PaidIn => "paid_in",
            Resolution::Dismissed => "dismissed",
        }
    }
}

impl HubReader {
    /// The oldest charges whose card is held until somebody says what they were for.
    pub fn unmatched_charges(&self, limit: u32) -> Result<Vec<UnmatchedCharge>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "{SELECT_UNMATCHED} WHERE resolved_at IS NULL ORDER BY id LIMIT ?1"
        ))?;
        let mut rows = statement.query([limit])?;
        let mut charges = Vec::new();
        while let Some(row) = rows.next()? {
            let (found_at, charge) = (row.get(6)?, charge_from(row)?);
            charges.push(UnmatchedCharge {
                id: UnmatchedId(row.get(0)?),
                found_at: moment(found_at)?,
                accounts: accounts_on(&self.db, &charge.card)?,
                charge,
            });
        }
        Ok(charges)
    }
}

impl HubLedger {
    /// The charge was made for an account that has or had an agreement on the card: its money is
    /// credited there as a top-up, or goes back to the card if the account is blocked.
    pub fn take_in_unmatched(
        &mut self,
        id: UnmatchedId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<TopUpId, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let charge = open_charge(&db, id)?;
        let account = read_account(&db, account)?;
        let agreement: Option<i64> = db
            .prepare_cached("SELECT max(id) FROM agreement WHERE card = ?1 AND account = ?2")?
            .query_row((&charge.card, account.id.0), |row| row.get(0))?;
        let agreement = agreement.ok_or(Refusal::NoAgreementOnCard)?;
        let top_up = attempt_for(&db, &charge, account.id, agreement)?;
        match take_in(&db, &rules, &charge, &top_up, now)? {
            Import::TakenIn | Import::Known => {}
            Import::Unmatched => return Err(Refusal::TopUpUnderWay.into()),
        }
        resolve(&db, &charge.transaction, Resolution::TakenIn, now)?;
        db.commit()?;
        Ok(top_up.id)
    }

    /// The charge was made for no account here, or was sent back at the gateway.
    pub fn dismiss_unmatched(
        &mut self,
        id: UnmatchedId,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let charge = open_charge(&db, id)?;
        resolve(&db, &charge.transaction, Resolution::Dismissed, now)?;
        Ok(db.commit()?)
    }
}

/// Remembers a charge and holds its card, once.
pub(super) fn hold_card(
    db: &Connection,
    charge: &GatewayCharge,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let is_new = db.execute(
        "INSERT INTO unmatched_charge
           (gateway_transaction, reference, card, amount, charged_at, found_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (gateway_transaction) DO NOTHING",
        (
            &charge.transaction,
            &charge.reference,
            &charge.card,
            charge.amount.ore(),
            millis(charge.charged_at),
            millis(now),
        ),
    )? == 1;
    if is_new {
        flag(db, charge, now)?;
    }
    for top_up in list(db, "state = 'intent'", &charge.card)? {
        let account = read_account(db, top_up.account)?;
        hold(db, &top_up, &account, now)?;
    }
    Ok(())
}

fn flag(db: &Connection, charge: &GatewayCharge, now: Timestamp) -> Result<(), LedgerError> {
    let GatewayCharge {
        reference, amount, ..
    } = charge;
    let detail = format!(
        "the gateway has a charge {reference} of {amount}, and which account it was for is not known; \
         no top-up is charged to its card until somebody says so (GET /v1/top-ups/unmatched)"
    );
    for tenant in tenants_of_card(db, Some(&charge.card))? {
        let origin = Origin {
            tenant,
            till: None,
            epoch: None,
            seq: None,
        };
        raise_flag(db, "charge_unmatched", &origin, None, None, &detail, now)?;
    }
    Ok(())
}

/// Whether a card must not be charged before somebody has said what an earlier charge was for.
pub(super) fn is_held(db: &Connection, card: &str) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM unmatched_charge WHERE card = ?1 AND resolved_at IS NULL")?
        .exists([card])?)
}

/// A top-up waits for its card, however long that takes.
pub(super) fn hold(
    db: &Connection,
    top_up: &Stored,
    account: &AccountRow,
    now: Timestamp,
) -> Result<(), LedgerError> {
    finish(db, top_up, TopUpStage::Stuck, Some(CARD_HELD), None, now)?;
    let reason = NoticeReason::CardHeld;
    tell(db, account, reason, top_up.id, top_up.amount, now)?;
    touch_account(db, account.canteen, account.id)?;
    Ok(())
}

/// Whether somebody has said that a charge was made for no account here.
pub(super) fn is_dismissed(db: &Connection, transaction: &str) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM unmatched_charge
             WHERE gateway_transaction = ?1 AND resolution = 'dismissed'",
        )?
        .exists([transaction])?)
}

/// It is known what a charge was for, if that was not known: its card is free again, unless others
/// hold it.
pub(crate) fn resolve(
    db: &Connection,
    transaction: &str,
    resolution: Resolution,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let card: Option<String> = db
        .prepare_cached(
            "UPDATE unmatched_charge SET resolved_at = ?2, resolution = ?3
             WHERE gateway_transaction = ?1 AND resolved_at IS NULL RETURNING card",
        )?
        .query_row((transaction, millis(now), resolution.code()), |row| {
            row.get(0)
        })
        .optional()?;
    match card {
        Some(card) if !is_held(db, &card)? => free(db, &card, now),
        Some(_) | None => Ok(()),
    }
}

/// What waits for the card is looked at anew: the money that was found may be enough.
fn free(db: &Connection, card: &str, now: Timestamp) -> Result<(), LedgerError> {
    for top_up in list(db, "state = 'stuck' AND failure = 'card_held'", card)? {
        db.execute(
            "UPDATE top_up SET state = 'intent', failure = NULL, changed_at = ?2 WHERE id = ?1",
            (top_up.id.to_string(), millis(now)),
        )?;
        set_due(db, &top_up, Some(now))?;
        forget_stuck(db, top_up.id)?;
        let account = read_account(db, top_up.account)?;
        touch_account(db, account.canteen, account.id)?;
    }
    Ok(())
}

fn list(db: &Connection, which: &str, card: &str) -> Result<Vec<Stored>, LedgerError> {
    let mut statement =
        db.prepare_cached(&format!("{SELECT_TOP_UP} WHERE card = ?1 AND {which}"))?;
    let mut rows = statement.query([card])?;
    let mut top_ups = Vec::new();
    while let Some(row) = rows.next()? {
        top_ups.push(stored_from(row)?);
    }
    Ok(top_ups)
}

fn accounts_on(db: &Connection, card: &str) -> Result<Vec<AccountId>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT account FROM agreement WHERE card = ?1 ORDER BY account",
    )?;
    let accounts = statement.query_map([card], |row| row.get(0).map(AccountId))?;
    Ok(accounts.collect::<Result<_, _>>()?)
}

fn open_charge(db: &Connection, id: UnmatchedId) -> Result<GatewayCharge, LedgerError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT_UNMATCHED} WHERE id = ?1 AND resolved_at IS NULL"
    ))?;
    let mut rows = statement.query([id.0])?;
    match rows.next()? {
        Some(row) => charge_from(row),
        None => Err(Refusal::not_found("open unmatched charge", id.0).into()),
    }
}

fn charge_from(row: &rusqlite::Row<'_>) -> Result<GatewayCharge, LedgerError> {
    Ok(GatewayCharge {
        transaction: row.get(1)?,
        reference: row.get(2)?,
        card: row.get(3)?,
        amount: Money::from_ore(row.get(4)?),
        charged_at: moment(row.get(5)?)?,
    })
}

/// Why a top-up is stuck that waits for its card.
pub(crate) const CARD_HELD: &str = "card_held";

const SELECT_UNMATCHED: &str =
    "SELECT id, gateway_transaction, reference, card, amount, charged_at,
   found_at FROM unmatched_charge";
