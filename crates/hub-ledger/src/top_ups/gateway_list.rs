//! Charges that the gateway knows of and a restored store may have lost.

use canteen::{AccountId, Money};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::answers::Step;
use super::unmatched::{hold_card, is_dismissed};
use super::{ACTIVE, ChargeOrder, Resolution, Stored, id_from, new_id, read_top_up, resolve};
use crate::accounts::{may_be_paid_into, read_account};
use crate::card_deposits::is_paid_in;
use crate::error::LedgerError;
use crate::restore::are_top_ups_paused;
use crate::store::{HubLedger, millis};
use crate::top_up_rules::TopUpRules;

/// A charge as the gateway lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCharge {
    /// Our name for the attempt.
    pub reference: String,
    /// The gateway's name for it.
    pub transaction: String,
    /// The gateway's name for the stored card.
    pub card: String,
    /// What was taken.
    pub amount: Money,
    /// When.
    pub charged_at: Timestamp,
}

/// What became of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportedCharges {
    /// Charges that were in the books, or had been sent back.
    pub known: u32,
    /// Charges that were missing: credited, or on their way back because the account is blocked.
    pub taken_in: u32,
    /// Our names of charges whose card belongs to no account or to several, that must go back while
    /// another is under way, or that the gateway's settlement holds back; a person must look. A card of
    /// no account or of several is held until then ([`HubReader::unmatched_charges`]).
    ///
    /// [`HubReader::unmatched_charges`]: crate::HubReader::unmatched_charges
    pub unmatched: Vec<String>,
}

impl HubLedger {
    /// Takes in charges that the gateway lists as taken and not sent back. Each is credited once,
    /// however often it is listed.
    pub fn import_charges(
        &mut self,
        charges: &[GatewayCharge],
        now: Timestamp,
    ) -> Result<ImportedCharges, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let mut imported = ImportedCharges::default();
        for charge in charges {
            match import(&db, &rules, charge, now)? {
                Import::Known => imported.known += 1,
                Import::TakenIn => imported.taken_in += 1,
                Import::Unmatched => imported.unmatched.push(charge.reference.clone()),
            }
        }
        db.commit()?;
        Ok(imported)
    }

    /// Lets cards be charged again, once all that the gateway lists is taken in. Tells whether they
    /// were not.
    pub fn resume_top_ups(&mut self) -> Result<bool, LedgerError> {
        let db = self.change()?;
        let paused = are_top_ups_paused(&db)?;
        db.execute("UPDATE hub SET top_ups_paused_at = NULL", [])?;
        db.commit()?;
        Ok(paused)
    }
}

pub(super) enum Import {
    Known,
    TakenIn,
    Unmatched,
}

fn import(
    db: &Connection,
    rules: &TopUpRules,
    charge: &GatewayCharge,
    now: Timestamp,
) -> Result<Import, LedgerError> {
    if is_paid_in(db, &charge.transaction)? || is_dismissed(db, &charge.transaction)? {
        return Ok(Import::Known);
    }
    let top_up = match known_top_up(db, &charge.reference, &charge.transaction)? {
        Some(top_up) => top_up,
        None => match only_agreement_on(db, &charge.card)? {
            Some((account, agreement)) => attempt_for(db, charge, account, agreement)?,
            None => {
                hold_card(db, charge, now)?;
                return Ok(Import::Unmatched);
            }
        },
    };
    let import = take_in(db, rules, charge, &top_up, now)?;
    match import {
        Import::Known | Import::TakenIn => {
            resolve(db, &charge.transaction, Resolution::TakenIn, now)?;
        }
        Import::Unmatched => {}
    }
    Ok(import)
}

/// Credits a charge to the top-up that it was made for, unless that was done.
pub(super) fn take_in(
    db: &Connection,
    rules: &TopUpRules,
    charge: &GatewayCharge,
    top_up: &Stored,
    now: Timestamp,
) -> Result<Import, LedgerError> {
    if !top_up.awaits_money() {
        return Ok(Import::Known);
    }
    if top_up.suspended {
        return Ok(Import::Unmatched);
    }
    // What must go back to the card has to wait until nothing else of the account is under way.
    let account = read_account(db, top_up.account)?;
    if may_be_paid_into(db, &account)?.is_err() && is_another_active(db, top_up)? {
        return Ok(Import::Unmatched);
    }
    let order = ChargeOrder {
        id: top_up.id,
        reference: charge.reference.clone(),
        card: charge.card.clone(),
        amount: charge.amount,
    };
    let step = Step {
        db,
        rules,
        top_up,
        now,
    };
    step.capture(&order, &charge.transaction, charge.amount)?;
    Ok(Import::TakenIn)
}

pub(super) fn is_another_active(db: &Connection, top_up: &Stored) -> Result<bool, LedgerError> {
    Ok(db
        .prepare_cached(&format!(
            "SELECT 1 FROM top_up WHERE account = ?1 AND id <> ?2 AND state IN {ACTIVE}"
        ))?
        .exists((top_up.account.0, top_up.id.to_string()))?)
}

/// The top-up that the charge was made for, when the store knows of the attempt.
pub(super) fn known_top_up(
    db: &Connection,
    reference: &str,
    transaction: &str,
) -> Result<Option<Stored>, LedgerError> {
    let id: Option<String> = db
        .prepare_cached(
            "SELECT top_up FROM top_up_attempt WHERE reference = ?1
             UNION SELECT id FROM top_up WHERE gateway_transaction = ?2 LIMIT 1",
        )?
        .query_row((reference, transaction), |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => read_top_up(db, id_from(&id)?),
        None => Ok(None),
    }
}

/// Whose card it is, when it is that of one account, and the account's latest agreement on it.
fn only_agreement_on(db: &Connection, card: &str) -> Result<Option<(AccountId, i64)>, LedgerError> {
    let mut statement = db.prepare_cached(
        "SELECT account, max(id) FROM agreement WHERE card = ?1 GROUP BY account LIMIT 2",
    )?;
    let owners: Vec<(i64, i64)> = statement
        .query_map([card], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(match owners.as_slice() {
        [(account, agreement)] => Some((AccountId(*account), *agreement)),
        _ => None,
    })
}

/// The top-up that the charge must have been made for: one that waited in the backup, or one that
/// began after it. From now on the charge is its attempt.
pub(super) fn attempt_for(
    db: &Connection,
    charge: &GatewayCharge,
    account: AccountId,
    agreement: i64,
) -> Result<Stored, LedgerError> {
    let waiting: Option<String> = db
        .prepare_cached(
            "SELECT id FROM top_up
             WHERE account = ?1 AND card = ?2 AND amount = ?3 AND reference IS NULL
               AND (state = 'intent' OR state = 'stuck' AND failure = 'card_held')",
        )?
        .query_row((account.0, &charge.card, charge.amount.ore()), |row| {
            row.get(0)
        })
        .optional()?;
    let id = match waiting {
        Some(id) => id,
        None => insert(db, charge, account, agreement)?,
    };
    db.execute(
        "UPDATE top_up SET reference = ?2, attempts = attempts + 1, sent_at = ?3 WHERE id = ?1",
        (&id, &charge.reference, millis(charge.charged_at)),
    )?;
    db.execute(
        "INSERT INTO top_up_attempt (reference, attempt, top_up, card, amount, sent_at)
         VALUES (?1, 1, ?2, ?3, ?4, ?5)",
        (
            &charge.reference,
            &id,
            &charge.card,
            charge.amount.ore(),
            millis(charge.charged_at),
        ),
    )?;
    read_top_up(db, id_from(&id)?)?.ok_or(LedgerError::Unreadable { what: "top-up" })
}

/// A top-up of which only the gateway knows. It is not active before its money is taken in, so that
/// it stands in no other's way.
fn insert(
    db: &Connection,
    charge: &GatewayCharge,
    account: AccountId,
    agreement: i64,
) -> Result<String, LedgerError> {
    let id = new_id(charge.charged_at).to_string();
    db.execute(
        "INSERT INTO top_up (id, account, agreement, amount, card, state, failure, created_at,
           changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 'cancelled', 'restored', ?6, ?6)",
        (
            &id,
            account.0,
            agreement,
            charge.amount.ore(),
            &charge.card,
            millis(charge.charged_at),
        ),
    )?;
    Ok(id)
}
