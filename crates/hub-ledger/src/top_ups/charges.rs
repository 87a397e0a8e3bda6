//! What may be sent to the gateway, and when.

use canteen::{Money, TOP_UP_THRESHOLD, is_armed};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::unmatched::{hold, is_held};
use super::{
    ANSWER_WAIT, SELECT_TOP_UP, Stored, TopUpId, TopUpStage, finish, is_chip_blocked, read_top_up,
    set_due, stored_from,
};
use crate::accounts::{AccountRow, may_be_paid_into, read_account};
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::restore::are_top_ups_paused;
use crate::store::{HubLedger, HubReader, later, millis, moment};
use crate::top_up_rules::TopUpRules;

/// What the worker is to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopUpWork {
    /// Call [`HubLedger::begin_charge`] and charge what it says.
    Charge(TopUpId),
    /// Ask the gateway what became of a charge.
    LookUp(ChargeOrder),
    /// Call [`HubLedger::begin_refund`] and refund what it says.
    Refund(TopUpId),
}

/// A charge that is committed and may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeOrder {
    /// The top-up.
    pub id: TopUpId,
    /// Our name for the attempt at the gateway.
    pub reference: String,
    /// The stored card.
    pub card: String,
    /// How much.
    pub amount: Money,
}

/// A refund that is committed and may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundOrder {
    /// The top-up.
    pub id: TopUpId,
    /// Our name for the refund at the gateway.
    pub reference: String,
    /// The gateway's name for the charge.
    pub transaction: String,
    /// How much.
    pub amount: Money,
}

impl HubLedger {
    /// Checks everything once more and commits a charge. `None` when it is not to be sent now.
    ///
    /// `reference` names the attempt unless an earlier attempt of the same top-up may still arrive:
    /// then that one's name is used again, so that the gateway takes the two for one.
    pub fn begin_charge(
        &mut self,
        id: TopUpId,
        reference: &str,
        now: Timestamp,
    ) -> Result<Option<ChargeOrder>, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, id)?.filter(|top_up| top_up.is(TopUpStage::Intent))
        else {
            return Ok(None);
        };
        if are_top_ups_paused(&db)? {
            return Ok(None);
        }
        let account = read_account(&db, top_up.account)?;
        if let Some(why) = obstacle(&db, &account, &top_up)? {
            finish(&db, &top_up, TopUpStage::Cancelled, Some(why), None, now)?;
            touch_account(&db, account.canteen, account.id)?;
            db.commit()?;
            return Ok(None);
        }
        if is_held(&db, &top_up.card)? {
            hold(&db, &top_up, &account, now)?;
            db.commit()?;
            return Ok(None);
        }
        if let Some(free_at) = spaced_until(&db, &top_up, &rules)?.filter(|free_at| *free_at > now)
        {
            set_due(&db, &top_up, Some(free_at))?;
            db.commit()?;
            return Ok(None);
        }
        let reference = top_up
            .reference
            .clone()
            .unwrap_or_else(|| reference.to_owned());
        db.execute(
            "UPDATE top_up SET state = 'requested', reference = ?2, attempts = attempts + 1,
               sent_at = ?3, look_ups = 0, not_found_at = NULL, due_at = ?4, changed_at = ?3
             WHERE id = ?1",
            (
                id.to_string(),
                &reference,
                millis(now),
                millis(later(now, ANSWER_WAIT)),
            ),
        )?;
        db.execute(
            "INSERT INTO top_up_attempt (reference, attempt, top_up, card, amount, sent_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                &reference,
                top_up.attempts + 1,
                id.to_string(),
                &top_up.card,
                top_up.amount.ore(),
                millis(now),
            ),
        )?;
        db.commit()?;
        Ok(Some(ChargeOrder {
            id,
            reference,
            card: top_up.card,
            amount: top_up.amount,
        }))
    }

    /// Commits a refund. The same refund always has the same name.
    pub fn begin_refund(
        &mut self,
        id: TopUpId,
        reference: &str,
        now: Timestamp,
    ) -> Result<Option<RefundOrder>, LedgerError> {
        let db = self.change()?;
        let order = db
            .query_row(
                "UPDATE top_up SET refund_reference = coalesce(refund_reference, ?2), due_at = ?3
                 WHERE id = ?1 AND state = 'refunding'
                 RETURNING refund_reference, gateway_transaction, captured",
                (id.to_string(), reference, millis(later(now, ANSWER_WAIT))),
                |row| {
                    Ok(RefundOrder {
                        id,
                        reference: row.get(0)?,
                        transaction: row.get(1)?,
                        amount: Money::from_ore(row.get(2)?),
                    })
                },
            )
            .optional()?;
        db.commit()?;
        Ok(order)
    }
}

impl HubReader {
    /// What is to be done about top-ups now, at most `limit` of it.
    pub fn due_top_ups(&self, now: Timestamp, limit: u32) -> Result<Vec<TopUpWork>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "{SELECT_TOP_UP} WHERE due_at <= ?1 AND {NOT_PAUSED} ORDER BY due_at LIMIT ?2"
        ))?;
        let mut rows = statement.query((millis(now), limit))?;
        let mut work = Vec::new();
        while let Some(row) = rows.next()? {
            let top_up = stored_from(row)?;
            match top_up.stage {
                TopUpStage::Intent => work.push(TopUpWork::Charge(top_up.id)),
                TopUpStage::Refunding => work.push(TopUpWork::Refund(top_up.id)),
                TopUpStage::Requested | TopUpStage::Unknown | TopUpStage::Stuck => {
                    work.extend(top_up.order().map(TopUpWork::LookUp));
                }
                TopUpStage::Settled
                | TopUpStage::Failed
                | TopUpStage::Cancelled
                | TopUpStage::Refunded => {}
            }
        }
        Ok(work)
    }

    /// Charges that were under way when the program ended: they are looked up before anything else.
    pub fn interrupted_top_ups(&self) -> Result<Vec<TopUpWork>, LedgerError> {
        let mut statement = self
            .db
            .prepare_cached(&format!("{SELECT_TOP_UP} WHERE state = 'requested'"))?;
        let mut rows = statement.query([])?;
        let mut work = Vec::new();
        while let Some(row) = rows.next()? {
            work.extend(stored_from(row)?.order().map(TopUpWork::LookUp));
        }
        Ok(work)
    }

    /// When there is something to do about top-ups next.
    pub fn next_top_up_moment(&self) -> Result<Option<Timestamp>, LedgerError> {
        let next: Option<i64> = self
            .db
            .prepare_cached(&format!(
                "SELECT min(at) FROM (
                   SELECT min(due_at) AS at FROM top_up WHERE due_at IS NOT NULL AND {NOT_PAUSED}
                 UNION ALL SELECT min(retry_at) FROM agreement WHERE retry_at IS NOT NULL)"
            ))?
            .query_row([], |row| row.get(0))?;
        next.map(moment).transpose()
    }
}

/// Why an intent is not charged after all.
fn obstacle(
    db: &Connection,
    account: &AccountRow,
    top_up: &Stored,
) -> Result<Option<&'static str>, LedgerError> {
    let agreed = db
        .prepare_cached("SELECT 1 FROM agreement WHERE id = ?1 AND status = 'active'")?
        .exists([top_up.agreement])?;
    if !agreed {
        return Ok(Some("agreement_cancelled"));
    }
    // A deposit that armed it may have been reversed since.
    if !is_armed(account.paid_in) {
        return Ok(Some("not_armed"));
    }
    let chip_blocked = match top_up.chip {
        Some(chip) => is_chip_blocked(db, chip)?,
        None => false,
    };
    if chip_blocked || may_be_paid_into(db, account)?.is_err() {
        return Ok(Some("blocked"));
    }
    if account.balance >= TOP_UP_THRESHOLD {
        return Ok(Some("balance_enough"));
    }
    Ok(None)
}

/// Until when the card may not be charged with this amount again: somebody has charged it, be it a
/// top-up or the guardian in the portal.
fn spaced_until(
    db: &Connection,
    top_up: &Stored,
    rules: &TopUpRules,
) -> Result<Option<Timestamp>, LedgerError> {
    let last: Option<i64> = db
        .prepare_cached(
            "SELECT max(at) FROM (
               SELECT max(sent_at) AS at FROM top_up_attempt
               WHERE card = ?1 AND amount = ?2 AND reached = 1
             UNION ALL
               SELECT max(charged_at) FROM card_deposit WHERE card = ?1 AND amount = ?2)",
        )?
        .query_row((&top_up.card, top_up.amount.ore()), |row| row.get(0))?;
    let last = last.map(moment).transpose()?;
    Ok(last.map(|last| later(last, rules.spacing)))
}

/// What moves no new money goes on while no card is charged.
const NOT_PAUSED: &str = "(state <> 'intent' OR (SELECT top_ups_paused_at FROM hub) IS NULL)";
