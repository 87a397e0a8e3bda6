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

use canteen::{
    AccountId, BusinessDay, Money, Status, TOP_UP_THRESHOLD, TopUp, TopUpOutcome, TopUpState,
    is_armed, top_up_due,
};
use jiff::{Timestamp, ToSpan};
use rusqlite::{Connection, OptionalExtension, Row};
use sync_proto::TopUpRecord;
use uuid::Uuid;

use crate::accounts::{AccountRow, find_account, may_be_paid_into, read_account};
use crate::bookings::BookingId;
use crate::chips::find_chip;
use crate::deposits::{Paid, pay_in};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::restore::are_top_ups_paused;
use crate::store::{HubLedger, HubReader, later, millis, moment};
use crate::tenancy::{Reach, not_empty};
use crate::top_up_rules::{TOP_UP_AMOUNT_MAX, TOP_UP_AMOUNT_MIN, TopUpRules};

mod gateway_list;

pub use gateway_list::{GatewayCharge, ImportedCharges};

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
    /// After a failure, when the next top-up may be tried.
    pub retry_at: Option<Timestamp>,
    /// When it was made.
    pub made_at: Timestamp,
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

/// What a charge or a look-up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeAnswer {
    /// The card was charged.
    Paid {
        /// The gateway's name for the charge.
        transaction: String,
        /// What it says it took.
        amount: Money,
    },
    /// The card was not charged.
    Declined {
        /// What that means for the next time.
        kind: DeclineKind,
        /// The gateway's code.
        code: String,
        /// The gateway's words.
        text: String,
    },
    /// The gateway has not decided.
    Pending,
    /// The gateway has not seen the charge yet (look-ups only).
    NotFound,
    /// Provably not sent.
    NotSent,
    /// The gateway refused the request as wrong; nothing was done.
    Refused {
        /// What it said.
        detail: String,
    },
    /// The gateway asked to wait; nothing was done.
    Busy {
        /// How long.
        retry_after: Option<Duration>,
    },
    /// Nobody knows.
    Unknown,
}

/// What a decline means for the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclineKind {
    /// Never again on this card.
    Hard,
    /// Perhaps on another day.
    Soft,
    /// Taken for a repetition of an earlier charge; the window must be waited out.
    Duplicate,
}

/// What a refund gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundAnswer {
    /// The money goes back.
    Refunded,
    /// Nobody knows, or nothing was sent; the same refund may be sent again.
    Again,
    /// The gateway does not refund it.
    Declined {
        /// What it said.
        detail: String,
    },
}

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
        db.execute(
            "UPDATE top_up SET state = 'cancelled', failure = 'agreement_cancelled', due_at = NULL,
               changed_at = ?2
             WHERE account = ?1 AND state = 'intent'",
            (account.id.0, millis(now)),
        )?;
        touch_account(&db, account.canteen, account.id)?;
        Ok(db.commit()?)
    }

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

    /// Takes in what a charge gave.
    pub fn record_charge(
        &mut self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, order.id)? else {
            return Ok(());
        };
        let step = Step {
            db: &db,
            rules: &rules,
            top_up: &top_up,
            now,
        };
        step.take_charge(order, answer)?;
        Ok(db.commit()?)
    }

    /// Takes in what a look-up gave.
    pub fn record_look_up(
        &mut self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, order.id)? else {
            return Ok(());
        };
        let step = Step {
            db: &db,
            rules: &rules,
            top_up: &top_up,
            now,
        };
        step.take_look_up(order, answer)?;
        Ok(db.commit()?)
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

    /// Takes in what a refund gave.
    pub fn record_refund(
        &mut self,
        id: TopUpId,
        answer: &RefundAnswer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let spacing = self.top_up_rules.spacing;
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, id)?.filter(|top_up| top_up.is(TopUpStage::Refunding))
        else {
            return Ok(());
        };
        let account = read_account(&db, top_up.account)?;
        match answer {
            RefundAnswer::Refunded => {
                finish(
                    &db,
                    &top_up,
                    TopUpStage::Refunded,
                    top_up.failure.as_deref(),
                    None,
                    now,
                )?;
                touch_account(&db, account.canteen, account.id)?;
            }
            RefundAnswer::Again => set_due(&db, &top_up, Some(later(now, spacing)))?,
            RefundAnswer::Declined { detail } => {
                set_due(&db, &top_up, Some(later(now, STUCK_LOOK)))?;
                raise_top_up_flag(&db, "refund_declined", &account, detail, now)?;
            }
        }
        Ok(db.commit()?)
    }

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
            retry_at: row.retry_at,
            made_at: row.made_at,
        }))
    }

    /// One top-up, if it is within reach.
    pub fn top_up_within(&self, reach: Reach, id: TopUpId) -> Result<TopUpRow, LedgerError> {
        let account = read_top_up(&self.db, id)?.map(|top_up| top_up.account);
        let rows = match account {
            Some(account) => self.list_top_ups(reach, Some(account), u32::MAX)?,
            None => Vec::new(),
        };
        let found = rows.into_iter().find(|row| row.id == id);
        Ok(found.ok_or_else(|| Refusal::not_found("top-up", id))?)
    }

    /// The newest top-ups within reach, the newest first.
    pub fn list_top_ups(
        &self,
        reach: Reach,
        account: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<TopUpRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT u.id, u.account, u.amount, u.state, u.attempts, u.coalesced, u.failure, u.code,
               u.detail, u.booking, u.due_at, u.created_at, u.changed_at
             FROM top_up u JOIN account a ON a.id = u.account
             WHERE (?1 IS NULL OR a.tenant = ?1) AND (?2 IS NULL OR u.account = ?2)
             ORDER BY u.created_at DESC, u.rowid DESC LIMIT ?3",
        )?;
        let mut rows =
            statement.query((reach.filter(), account.map(|account| account.0), limit))?;
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

fn new_id(now: Timestamp) -> TopUpId {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
    TopUpId(Uuid::new_v7(at))
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

fn is_chip_blocked(db: &Connection, number: i64) -> Result<bool, LedgerError> {
    Ok(find_chip(db, number)?.is_some_and(|chip| chip.status == Status::Blocked))
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

struct AgreementRow {
    id: i64,
    amount: Money,
    card: String,
    disabled: bool,
    failures: u32,
    retry_at: Option<Timestamp>,
    made_at: Timestamp,
}

fn agreement_row(db: &Connection, account: AccountId) -> Result<Option<AgreementRow>, LedgerError> {
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

fn top_up_state(
    db: &Connection,
    account: AccountId,
    agreement: &AgreementRow,
    now: Timestamp,
) -> Result<TopUpState, LedgerError> {
    let active = db
        .prepare_cached(&format!(
            "SELECT 1 FROM top_up WHERE account = ?1 AND state IN {ACTIVE}"
        ))?
        .exists([account.0])?;
    if active {
        return Ok(TopUpState::Pending);
    }
    if agreement.disabled || agreement.retry_at.is_some_and(|retry_at| retry_at > now) {
        return Ok(TopUpState::Failed);
    }
    Ok(TopUpState::Idle)
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
}

impl Stored {
    fn is(&self, stage: TopUpStage) -> bool {
        self.stage == stage
    }

    fn order(&self) -> Option<ChargeOrder> {
        self.reference.clone().map(|reference| ChargeOrder {
            id: self.id,
            reference,
            card: self.card.clone(),
            amount: self.amount,
        })
    }

    /// Whether an answer about that attempt can still change anything.
    fn waits_for(&self, order: &ChargeOrder) -> bool {
        let open = match self.stage {
            TopUpStage::Requested | TopUpStage::Unknown | TopUpStage::Stuck => true,
            TopUpStage::Intent
            | TopUpStage::Settled
            | TopUpStage::Failed
            | TopUpStage::Cancelled
            | TopUpStage::Refunding
            | TopUpStage::Refunded => false,
        };
        open && self.reference.as_ref() == Some(&order.reference)
    }

    /// Whether money that turns out to have been taken is still unaccounted for.
    fn awaits_money(&self) -> bool {
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
    })
}

fn id_from(text: &str) -> Result<TopUpId, LedgerError> {
    text.parse()
        .map_err(|_| LedgerError::Unreadable { what: "top-up" })
}

fn stage_from(code: &str) -> Result<TopUpStage, LedgerError> {
    TopUpStage::ALL
        .into_iter()
        .find(|stage| stage.code() == code)
        .ok_or(LedgerError::Unreadable { what: "top-up" })
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

/// Until when the card may not be charged with this amount again.
fn spaced_until(
    db: &Connection,
    top_up: &Stored,
    rules: &TopUpRules,
) -> Result<Option<Timestamp>, LedgerError> {
    let last: Option<i64> = db
        .prepare_cached(
            "SELECT max(sent_at) FROM top_up_attempt
             WHERE card = ?1 AND amount = ?2 AND reached = 1",
        )?
        .query_row((&top_up.card, top_up.amount.ore()), |row| row.get(0))?;
    let last = last.map(moment).transpose()?;
    Ok(last.map(|last| later(last, rules.spacing)))
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
    Ok(())
}

fn raise_top_up_flag(
    db: &Connection,
    code: &str,
    account: &AccountRow,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let origin = Origin {
        tenant: account.tenant,
        till: None,
        epoch: None,
        seq: None,
    };
    raise_flag(db, code, &origin, Some(account.id), None, detail, now)
}

/// One answer of the gateway on its way into a top-up.
struct Step<'a> {
    db: &'a Connection,
    rules: &'a TopUpRules,
    top_up: &'a Stored,
    now: Timestamp,
}

impl Step<'_> {
    fn take_charge(&self, order: &ChargeOrder, answer: &ChargeAnswer) -> Result<(), LedgerError> {
        if let ChargeAnswer::Paid {
            transaction,
            amount,
        } = answer
        {
            return self.capture(order, transaction, *amount);
        }
        if !self.top_up.waits_for(order) {
            return Ok(());
        }
        match answer {
            ChargeAnswer::Paid { .. } => Ok(()),
            ChargeAnswer::Declined { kind, code, text } => match kind {
                DeclineKind::Hard | DeclineKind::Soft => self.fail(*kind, code, text),
                // Neither success nor failure: an earlier try of ours may be what it repeats.
                DeclineKind::Duplicate => self.look_again(0),
            },
            ChargeAnswer::Pending | ChargeAnswer::NotFound | ChargeAnswer::Unknown => {
                self.look_again(0)
            }
            ChargeAnswer::NotSent => {
                let wait = self.rules.unsent_wait(self.top_up.unsent + 1);
                self.never_arrived(wait, 1)
            }
            ChargeAnswer::Busy { retry_after } => {
                let least = self.rules.unsent_wait(1);
                self.never_arrived(retry_after.unwrap_or(least).max(least), 1)
            }
            ChargeAnswer::Refused { detail } => {
                if self.top_up.attempts >= self.rules.attempts_max {
                    return self.fail(DeclineKind::Soft, "refused_by_gateway", detail);
                }
                self.never_arrived(self.rules.unsent_wait(self.top_up.attempts), 0)
            }
        }
    }

    fn take_look_up(&self, order: &ChargeOrder, answer: &ChargeAnswer) -> Result<(), LedgerError> {
        if let ChargeAnswer::Paid {
            transaction,
            amount,
        } = answer
        {
            return self.capture(order, transaction, *amount);
        }
        if !self.top_up.waits_for(order) {
            return Ok(());
        }
        match answer {
            ChargeAnswer::Paid { .. } => Ok(()),
            ChargeAnswer::Declined { kind, code, text } => match kind {
                DeclineKind::Hard | DeclineKind::Soft => self.fail(*kind, code, text),
                DeclineKind::Duplicate => self.try_again_under_another_name(),
            },
            ChargeAnswer::NotFound => self.not_found(),
            ChargeAnswer::Pending
            | ChargeAnswer::NotSent
            | ChargeAnswer::Refused { .. }
            | ChargeAnswer::Busy { .. }
            | ChargeAnswer::Unknown => self.look_again(self.top_up.look_ups + 1),
        }
    }

    /// The card was charged: the money is booked, or goes back when the account was blocked.
    fn capture(
        &self,
        order: &ChargeOrder,
        transaction: &str,
        amount: Money,
    ) -> Result<(), LedgerError> {
        if !self.top_up.awaits_money() {
            return Ok(());
        }
        self.note_answer(order, "paid", true)?;
        let account = read_account(self.db, self.top_up.account)?;
        if amount <= Money::ZERO {
            raise_top_up_flag(
                self.db,
                "top_up_amount",
                &account,
                &format!("the gateway says that it took {amount}"),
                self.now,
            )?;
            return self.stuck(&account);
        }
        if amount != self.top_up.amount {
            let detail = format!("agreed {}, the gateway took {amount}", self.top_up.amount);
            raise_top_up_flag(self.db, "top_up_amount", &account, &detail, self.now)?;
        }
        self.db.execute(
            "UPDATE top_up SET gateway_transaction = ?2, captured = ?3 WHERE id = ?1",
            (self.top_up.id.to_string(), transaction, amount.ore()),
        )?;
        if may_be_paid_into(self.db, &account)?.is_err() {
            finish(
                self.db,
                self.top_up,
                TopUpStage::Refunding,
                Some("blocked"),
                None,
                self.now,
            )?;
            set_due(self.db, self.top_up, Some(self.now))?;
        } else {
            self.settle(&account, amount)?;
        }
        touch_account(self.db, account.canteen, account.id)?;
        Ok(())
    }

    fn settle(&self, account: &AccountRow, amount: Money) -> Result<(), LedgerError> {
        let id = self.top_up.id.to_string();
        let booking = pay_in(
            self.db,
            account,
            Paid::ByCard,
            amount,
            "Automatisk optankning",
            Some(&id),
            self.now,
        )?;
        finish(
            self.db,
            self.top_up,
            TopUpStage::Settled,
            None,
            None,
            self.now,
        )?;
        self.db.execute(
            "UPDATE top_up SET booking = ?2 WHERE id = ?1",
            (&id, booking.0),
        )?;
        self.db.execute(
            "UPDATE agreement SET failures = 0, retry_at = NULL WHERE id = ?1",
            [self.top_up.agreement],
        )?;
        Ok(())
    }

    fn fail(&self, kind: DeclineKind, code: &str, text: &str) -> Result<(), LedgerError> {
        let word = match kind {
            DeclineKind::Hard => "hard",
            DeclineKind::Soft | DeclineKind::Duplicate => "soft",
        };
        finish(
            self.db,
            self.top_up,
            TopUpStage::Failed,
            Some(word),
            Some((code, text)),
            self.now,
        )?;
        let account = read_account(self.db, self.top_up.account)?;
        if let Some(agreement) =
            agreement_row(self.db, account.id)?.filter(|row| row.id == self.top_up.agreement)
        {
            let failures = agreement.failures + 1;
            let wait = match kind {
                DeclineKind::Hard => None,
                DeclineKind::Soft | DeclineKind::Duplicate => self.rules.soft_wait(failures),
            };
            let retry_at = wait.map(|wait| millis(later(self.now, wait)));
            self.db.execute(
                "UPDATE agreement SET failures = ?2, retry_at = ?3,
                   status = CASE WHEN ?3 IS NULL THEN 'disabled' ELSE status END
                 WHERE id = ?1",
                (agreement.id, failures, retry_at),
            )?;
        }
        touch_account(self.db, account.canteen, account.id)?;
        Ok(())
    }

    /// Nothing moved: back to the intent, under the same name.
    fn never_arrived(&self, wait: Duration, uncounted: u32) -> Result<(), LedgerError> {
        if let Some(order) = self.top_up.order() {
            self.note_answer(&order, "not_sent", false)?;
        }
        self.db.execute(
            "UPDATE top_up SET state = 'intent', due_at = ?2, unsent = unsent + 1,
               attempts = attempts - ?3, changed_at = ?4
             WHERE id = ?1",
            (
                self.top_up.id.to_string(),
                millis(later(self.now, wait)),
                uncounted,
                millis(self.now),
            ),
        )?;
        if uncounted > 0 {
            // The number of the attempt is free again; its row must not stand in the way.
            self.db.execute(
                "DELETE FROM top_up_attempt WHERE top_up = ?1 AND attempt = ?2 AND reached = 0",
                (self.top_up.id.to_string(), self.top_up.attempts),
            )?;
        }
        Ok(())
    }

    fn look_again(&self, look_ups: u32) -> Result<(), LedgerError> {
        let sent_at = self.top_up.sent_at.unwrap_or(self.now);
        let mut due_at = later(sent_at, self.rules.look_up_at(look_ups));
        if due_at <= self.now {
            // The schedule is behind (the hub was down): go on at a calm pace.
            due_at = later(self.now, self.rules.not_found_apart);
        }
        let stage = match self.top_up.stage {
            TopUpStage::Stuck => {
                due_at = later(self.now, STUCK_LOOK);
                TopUpStage::Stuck
            }
            TopUpStage::Intent
            | TopUpStage::Requested
            | TopUpStage::Unknown
            | TopUpStage::Settled
            | TopUpStage::Failed
            | TopUpStage::Cancelled
            | TopUpStage::Refunding
            | TopUpStage::Refunded => TopUpStage::Unknown,
        };
        self.db.execute(
            "UPDATE top_up SET state = ?2, look_ups = ?3, due_at = ?4, changed_at = ?5 WHERE id = ?1",
            (
                self.top_up.id.to_string(),
                stage.code(),
                look_ups,
                millis(due_at),
                millis(self.now),
            ),
        )?;
        Ok(())
    }

    /// "Not found" counts only twice, apart, and when a request on its way must have arrived.
    fn not_found(&self) -> Result<(), LedgerError> {
        let sent_at = self.top_up.sent_at.unwrap_or(self.now);
        if self.now > later(sent_at, self.rules.not_found_believed) {
            let account = read_account(self.db, self.top_up.account)?;
            return self.stuck(&account);
        }
        let first = self.top_up.not_found_at.unwrap_or(self.now);
        let apart = self.now >= later(first, self.rules.not_found_apart);
        let arrived = self.now >= later(sent_at, self.rules.spacing);
        if !(apart && arrived) {
            self.db.execute(
                "UPDATE top_up SET not_found_at = ?2 WHERE id = ?1",
                (self.top_up.id.to_string(), millis(first)),
            )?;
            return self.look_again(self.top_up.look_ups + 1);
        }
        self.next_attempt(self.now, false)
    }

    fn try_again_under_another_name(&self) -> Result<(), LedgerError> {
        let sent_at = self.top_up.sent_at.unwrap_or(self.now);
        self.next_attempt(later(sent_at, self.rules.spacing), true)
    }

    fn next_attempt(&self, due_at: Timestamp, renamed: bool) -> Result<(), LedgerError> {
        if self.top_up.attempts >= self.rules.attempts_max {
            let account = read_account(self.db, self.top_up.account)?;
            return self.stuck(&account);
        }
        self.db.execute(
            "UPDATE top_up SET state = 'intent', due_at = ?2, changed_at = ?3,
               reference = CASE WHEN ?4 THEN NULL ELSE reference END
             WHERE id = ?1",
            (
                self.top_up.id.to_string(),
                millis(due_at),
                millis(self.now),
                renamed,
            ),
        )?;
        Ok(())
    }

    fn stuck(&self, account: &AccountRow) -> Result<(), LedgerError> {
        if !self.top_up.is(TopUpStage::Stuck) {
            let detail = format!("top-up {} is unresolved; ask the gateway", self.top_up.id);
            raise_top_up_flag(self.db, "top_up_stuck", account, &detail, self.now)?;
        }
        finish(
            self.db,
            self.top_up,
            TopUpStage::Stuck,
            Some("unresolved"),
            None,
            self.now,
        )?;
        set_due(self.db, self.top_up, Some(later(self.now, STUCK_LOOK)))
    }

    fn note_answer(
        &self,
        order: &ChargeOrder,
        answer: &str,
        reached: bool,
    ) -> Result<(), LedgerError> {
        self.db.execute(
            "UPDATE top_up_attempt SET answer = ?2, reached = ?3
             WHERE reference = ?1 AND attempt = (
               SELECT max(attempt) FROM top_up_attempt WHERE reference = ?1)",
            (&order.reference, answer, reached),
        )?;
        Ok(())
    }
}

/// A charge that has no answer after this long is looked up, whatever became of the call.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// How often a stuck top-up is looked up, in case the gateway finds it after all.
const STUCK_LOOK: Duration = Duration::from_secs(3600);

const ACTIVE: &str = "('intent', 'requested', 'unknown', 'refunding', 'stuck')";

/// What moves no new money goes on while no card is charged.
const NOT_PAUSED: &str = "(state <> 'intent' OR (SELECT top_ups_paused_at FROM hub) IS NULL)";

const SELECT_TOP_UP: &str = "SELECT id, account, agreement, amount, card, chip, state, reference,
   attempts, unsent, sent_at, look_ups, not_found_at, failure FROM top_up";

#[cfg(test)]
mod tests;
