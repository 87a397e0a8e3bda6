//! Automatic top-ups: agreements, and every charge from the wish to the booking.
//!
//! ```text
//!            purchase            guards                 paid
//!  (none) ───────────► intent ───────────► requested ───────────► settled
//!                       │  ▲                │  │                   ▲
//!              guard no │  │ never arrived  │  │ no clear answer   │ paid
//!                       ▼  │                │  ▼                   │
//!                 cancelled └───────────────│─ unknown ────────────┤
//!                                  declined ▼     │ too often      │ paid, but blocked meanwhile
//!                                         failed  ▼                ▼
//!                                               stuck          refunding ──► refunded
//! ```
//!
//! Three rules hold: `requested` is committed before the first byte of the charge leaves; nothing
//! is charged again while an earlier charge is unresolved; money is booked once, under the top-up's
//! id, whoever reports it and however often.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use canteen::{AccountId, Money, Status};
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::accounts::{AccountRow, read_account};
use crate::bookings::BookingId;
use crate::chips::find_chip;
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::notices::forget_stuck;
use crate::store::{HubLedger, HubReader, draw_name, millis, moment};
use crate::tenancy::Reach;

mod answers;
mod charges;
mod gateway_list;
mod intents;
mod reconciling;
mod unmatched;

pub use answers::{ChargeAnswer, DeclineKind, RefundAnswer};
pub use charges::{ChargeOrder, RefundOrder, TopUpWork};
pub use gateway_list::{GatewayCharge, ImportedCharges};
pub(crate) use intents::{Purchases, ask_for_top_up};
pub(crate) use reconciling::{Held, Reconciled, reconcile_top_up};
pub(crate) use unmatched::{CARD_HELD, Resolution, resolve};
pub use unmatched::{UnmatchedCharge, UnmatchedId};

/// The name of a top-up, and the key that it is booked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopUpId(pub Uuid);

impl fmt::Display for TopUpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TopUpId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<TopUpId, uuid::Error> {
        text.parse().map(TopUpId)
    }
}

/// Where a top-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopUpStage {
    /// Wanted, not charged yet.
    Intent,
    /// The charge is under way.
    Requested,
    /// Nobody knows whether the card was charged; it is being looked up.
    Unknown,
    /// Charged and booked.
    Settled,
    /// Declined; no money moved.
    Failed,
    /// Given up before anything was charged.
    Cancelled,
    /// Charged, but the account was blocked meanwhile: the money goes back.
    Refunding,
    /// The money went back.
    Refunded,
    /// Unresolved after all attempts; a person must look.
    Stuck,
}

impl TopUpStage {
    const ALL: [TopUpStage; 9] = [
        TopUpStage::Intent,
        TopUpStage::Requested,
        TopUpStage::Unknown,
        TopUpStage::Settled,
        TopUpStage::Failed,
        TopUpStage::Cancelled,
        TopUpStage::Refunding,
        TopUpStage::Refunded,
        TopUpStage::Stuck,
    ];

    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            TopUpStage::Intent => "intent",
            TopUpStage::Requested => "requested",
            TopUpStage::Unknown => "unknown",
            TopUpStage::Settled => "settled",
            TopUpStage::Failed => "failed",
            TopUpStage::Cancelled => "cancelled",
            TopUpStage::Refunding => "refunding",
            TopUpStage::Refunded => "refunded",
            TopUpStage::Stuck => "stuck",
        }
    }
}

/// A top-up as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpRow {
    /// Its name.
    pub id: TopUpId,
    /// The account.
    pub account: AccountId,
    /// How much.
    pub amount: Money,
    /// Where it stands.
    pub stage: TopUpStage,
    /// How often it was charged.
    pub attempts: u32,
    /// How many more purchases asked for it while it was under way.
    pub coalesced: u32,
    /// Why it failed or was given up, as a word.
    pub failure: Option<String>,
    /// The gateway's code for that.
    pub code: Option<String>,
    /// The gateway's words for that.
    pub detail: Option<String>,
    /// Its booking, once settled.
    pub booking: Option<BookingId>,
    /// When something is done about it next.
    pub due_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
}

impl HubLedger {
    /// Ends a stuck top-up that a person has found never to have taken money.
    pub fn give_up_top_up(&mut self, id: TopUpId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, id)?.filter(|top_up| top_up.is(TopUpStage::Stuck))
        else {
            return Err(Refusal::not_found("stuck top-up", id).into());
        };
        let account = read_account(&db, top_up.account)?;
        finish(
            &db,
            &top_up,
            TopUpStage::Failed,
            Some("given_up"),
            None,
            now,
        )?;
        touch_account(&db, account.canteen, account.id)?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// One top-up, if it is within reach.
    pub fn top_up_within(&self, reach: Reach, id: TopUpId) -> Result<TopUpRow, LedgerError> {
        let account = read_top_up(&self.db, id)?.map(|top_up| top_up.account);
        let rows = match account {
            Some(account) => self.list_top_ups(reach, Some(account), None, u32::MAX)?,
            None => Vec::new(),
        };
        let found = rows.into_iter().find(|row| row.id == id);
        Ok(found.ok_or_else(|| Refusal::not_found("top-up", id))?)
    }

    /// The newest top-ups within reach, the newest first; those before one of them, where the page
    /// before ended.
    pub fn list_top_ups(
        &self,
        reach: Reach,
        account: Option<AccountId>,
        before: Option<TopUpId>,
        limit: u32,
    ) -> Result<Vec<TopUpRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(&newest_top_ups(account.is_some()))?;
        let mut rows = statement.query((
            reach.filter(),
            account.map(|account| account.0),
            limit,
            before.map(|id| id.to_string()),
        ))?;
        let mut top_ups = Vec::new();
        while let Some(row) = rows.next()? {
            top_ups.push(TopUpRow {
                id: id_from(&row.get::<_, String>(0)?)?,
                account: AccountId(row.get(1)?),
                amount: Money::from_ore(row.get(2)?),
                stage: stage_from(&row.get::<_, String>(3)?)?,
                attempts: row.get(4)?,
                coalesced: row.get(5)?,
                failure: row.get(6)?,
                code: row.get(7)?,
                detail: row.get(8)?,
                booking: row.get::<_, Option<i64>>(9)?.map(BookingId),
                due_at: row.get::<_, Option<i64>>(10)?.map(moment).transpose()?,
                created_at: moment(row.get(11)?)?,
                changed_at: moment(row.get(12)?)?,
            });
        }
        Ok(top_ups)
    }
}

/// The newest top-ups of one account or of all, each by an index of its own.
fn newest_top_ups(of_account: bool) -> String {
    let which = match of_account {
        true => "u.account = ?2",
        false => "?2 IS NULL",
    };
    // The top-ups lead, in their order; the account only says whose they are.
    format!(
        "SELECT u.id, u.account, u.amount, u.state, u.attempts, u.coalesced, u.failure, u.code,
           u.detail, u.booking, u.due_at, u.created_at, u.changed_at
         FROM top_up u CROSS JOIN account a ON a.id = u.account
         WHERE {which} AND (?1 IS NULL OR a.tenant = ?1)
           AND (?4 IS NULL OR (u.created_at, u.rowid) <
             (SELECT l.created_at, l.rowid FROM top_up l WHERE l.id = ?4))
         ORDER BY u.created_at DESC, u.rowid DESC LIMIT ?3"
    )
}

fn new_id(now: Timestamp) -> TopUpId {
    TopUpId(draw_name(now))
}

fn is_chip_blocked(db: &Connection, number: i64) -> Result<bool, LedgerError> {
    Ok(find_chip(db, number)?.is_some_and(|chip| chip.status == Status::Blocked))
}

/// A top-up with everything that the steps look at.
struct Stored {
    id: TopUpId,
    account: AccountId,
    agreement: i64,
    amount: Money,
    card: String,
    chip: Option<i64>,
    stage: TopUpStage,
    reference: Option<String>,
    attempts: u32,
    unsent: u32,
    sent_at: Option<Timestamp>,
    look_ups: u32,
    not_found_at: Option<Timestamp>,
    failure: Option<String>,
    /// What the gateway says it took.
    captured: Option<Money>,
    /// Whether the gateway's settlement holds the money back.
    suspended: bool,
}

impl Stored {
    pub(super) fn is(&self, stage: TopUpStage) -> bool {
        self.stage == stage
    }

    pub(super) fn order(&self) -> Option<ChargeOrder> {
        self.reference.clone().map(|reference| ChargeOrder {
            id: self.id,
            reference,
            card: self.card.clone(),
            amount: self.amount,
        })
    }

    /// Whether an answer about that attempt can still change anything.
    pub(super) fn waits_for(&self, order: &ChargeOrder) -> bool {
        let open = match self.stage {
            TopUpStage::Requested | TopUpStage::Unknown | TopUpStage::Stuck => true,
            TopUpStage::Intent
            | TopUpStage::Settled
            | TopUpStage::Failed
            | TopUpStage::Cancelled
            | TopUpStage::Refunding
            | TopUpStage::Refunded => false,
        };
        open && !self.suspended && self.reference.as_ref() == Some(&order.reference)
    }

    /// Whether money that turns out to have been taken is still unaccounted for.
    pub(super) fn awaits_money(&self) -> bool {
        match self.stage {
            TopUpStage::Settled | TopUpStage::Refunding | TopUpStage::Refunded => false,
            TopUpStage::Intent
            | TopUpStage::Requested
            | TopUpStage::Unknown
            | TopUpStage::Failed
            | TopUpStage::Cancelled
            | TopUpStage::Stuck => true,
        }
    }
}

fn read_top_up(db: &Connection, id: TopUpId) -> Result<Option<Stored>, LedgerError> {
    let mut statement = db.prepare_cached(&format!("{SELECT_TOP_UP} WHERE id = ?1"))?;
    let mut rows = statement.query([id.to_string()])?;
    rows.next()?.map(stored_from).transpose()
}

fn stored_from(row: &Row<'_>) -> Result<Stored, LedgerError> {
    let time = |n: usize| row.get::<_, Option<i64>>(n)?.map(moment).transpose();
    Ok(Stored {
        id: id_from(&row.get::<_, String>(0)?)?,
        account: AccountId(row.get(1)?),
        agreement: row.get(2)?,
        amount: Money::from_ore(row.get(3)?),
        card: row.get(4)?,
        chip: row.get(5)?,
        stage: stage_from(&row.get::<_, String>(6)?)?,
        reference: row.get(7)?,
        attempts: row.get(8)?,
        unsent: row.get(9)?,
        sent_at: time(10)?,
        look_ups: row.get(11)?,
        not_found_at: time(12)?,
        failure: row.get(13)?,
        suspended: row.get(14)?,
        captured: row.get::<_, Option<i64>>(15)?.map(Money::from_ore),
    })
}

pub(crate) fn id_from(text: &str) -> Result<TopUpId, LedgerError> {
    text.parse()
        .map_err(|_| LedgerError::Unreadable { what: "top-up" })
}

fn stage_from(code: &str) -> Result<TopUpStage, LedgerError> {
    TopUpStage::ALL
        .into_iter()
        .find(|stage| stage.code() == code)
        .ok_or(LedgerError::Unreadable { what: "top-up" })
}

fn set_due(db: &Connection, top_up: &Stored, due_at: Option<Timestamp>) -> Result<(), LedgerError> {
    db.prepare_cached("UPDATE top_up SET due_at = ?2 WHERE id = ?1")?
        .execute((top_up.id.to_string(), due_at.map(millis)))?;
    Ok(())
}

fn finish(
    db: &Connection,
    top_up: &Stored,
    stage: TopUpStage,
    failure: Option<&str>,
    gateway: Option<(&str, &str)>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "UPDATE top_up SET state = ?2, failure = ?3, code = ?4, detail = ?5, due_at = NULL,
           changed_at = ?6
         WHERE id = ?1",
    )?
    .execute((
        top_up.id.to_string(),
        stage.code(),
        failure,
        gateway.map(|(code, _)| code),
        gateway.map(|(_, text)| text),
        millis(now),
    ))?;
    if stage != TopUpStage::Stuck {
        forget_stuck(db, top_up.id)?;
    }
    Ok(())
}

fn raise_top_up_flag(
    db: &Connection,
    code: &str,
    account: &AccountRow,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let origin = Origin::hub(account.tenant);
    raise_flag(db, code, &origin, Some(account.id), None, detail, now)
}

/// A charge that has no answer after this long is looked up, whatever became of the call.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// How often a stuck top-up is looked up, in case the gateway finds it after all.
const STUCK_LOOK: Duration = Duration::from_secs(3600);

pub(crate) const ACTIVE: &str = "('intent', 'requested', 'unknown', 'refunding', 'stuck')";

const SELECT_TOP_UP: &str = "SELECT id, account, agreement, amount, card, chip, state, reference,
   attempts, unsent, sent_at, look_ups, not_found_at, failure,
   suspended_at IS NOT NULL, captured FROM top_up";

#[cfg(test)]
mod tests;
