//! What the gateway has answered, on its way into a top-up.

use std::time::Duration;

use canteen::Money;
use jiff::Timestamp;
use rusqlite::Connection;

use super::charges::ChargeOrder;
use super::{
    STUCK_LOOK, Stored, TopUpId, TopUpStage, finish, raise_top_up_flag, read_top_up, set_due,
};
use crate::accounts::{AccountRow, may_be_paid_into, read_account};
use crate::agreements::agreement_row;
use crate::deposits::{Paid, pay_in};
use crate::error::LedgerError;
use crate::feed::touch_account;
use crate::notices::{NoticeReason, tell};
use crate::store::{HubLedger, later, millis};
use crate::top_up_rules::TopUpRules;

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

impl ChargeAnswer {
    /// A word for it in logs.
    pub fn word(&self) -> &'static str {
        match self {
            ChargeAnswer::Paid { .. } => "paid",
            ChargeAnswer::Declined { .. } => "declined",
            ChargeAnswer::Pending => "pending",
            ChargeAnswer::NotFound => "not found",
            ChargeAnswer::NotSent => "not sent",
            ChargeAnswer::Refused { .. } => "refused as wrong",
            ChargeAnswer::Busy { .. } => "gateway busy",
            ChargeAnswer::Unknown => "unknown",
        }
    }
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

impl HubLedger {
    /// Takes in what a charge gave.
    pub fn record_charge(
        &mut self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.step(order.id, now, |step| step.take_charge(order, answer))
    }

    /// Takes in what a look-up gave.
    pub fn record_look_up(
        &mut self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.step(order.id, now, |step| step.take_look_up(order, answer))
    }

    fn step(
        &mut self,
        id: TopUpId,
        now: Timestamp,
        take: impl FnOnce(&Step<'_>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let Some(top_up) = read_top_up(&db, id)? else {
            return Ok(());
        };
        take(&Step {
            db: &db,
            rules: &rules,
            top_up: &top_up,
            now,
        })?;
        Ok(db.commit()?)
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
                let amount = top_up.captured.unwrap_or(top_up.amount);
                let reason = NoticeReason::Refunded;
                tell(&db, &account, reason, top_up.id, amount, now)?;
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
}

/// One answer of the gateway on its way into a top-up.
pub(super) struct Step<'a> {
    pub(super) db: &'a Connection,
    pub(super) rules: &'a TopUpRules,
    pub(super) top_up: &'a Stored,
    pub(super) now: Timestamp,
}

impl Step<'_> {
    pub(super) fn take_charge(
        &self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
    ) -> Result<(), LedgerError> {
        if let ChargeAnswer::Paid {
            transaction,
            amount,
        } = answer
        {
            return self.take_paid(order, transaction, *amount);
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

    pub(super) fn take_look_up(
        &self,
        order: &ChargeOrder,
        answer: &ChargeAnswer,
    ) -> Result<(), LedgerError> {
        if let ChargeAnswer::Paid {
            transaction,
            amount,
        } = answer
        {
            return self.take_paid(order, transaction, *amount);
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

    /// Of a charge that is held back from settlement, "paid" proves nothing.
    fn take_paid(
        &self,
        order: &ChargeOrder,
        transaction: &str,
        amount: Money,
    ) -> Result<(), LedgerError> {
        if self.top_up.suspended {
            return Ok(());
        }
        self.capture(order, transaction, amount)
    }

    /// The card was charged: the money is booked, or goes back when the account was blocked.
    pub(super) fn capture(
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
            Paid::ByTopUp,
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
        if self.rules.tell_settled {
            self.tell(account, NoticeReason::Settled, amount)?;
        }
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
        let mut reason = match kind {
            DeclineKind::Hard => NoticeReason::CardUnusable,
            DeclineKind::Soft | DeclineKind::Duplicate => NoticeReason::Declined,
        };
        if let Some(agreement) =
            agreement_row(self.db, account.id)?.filter(|row| row.id == self.top_up.agreement)
        {
            let failures = agreement.failures + 1;
            let wait = match kind {
                DeclineKind::Hard => None,
                DeclineKind::Soft | DeclineKind::Duplicate => self.rules.soft_wait(failures),
            };
            if wait.is_none() && reason == NoticeReason::Declined {
                reason = NoticeReason::Disarmed;
            }
            let retry_at = wait.map(|wait| millis(later(self.now, wait)));
            self.db.execute(
                "UPDATE agreement SET failures = ?2, retry_at = ?3,
                   status = CASE WHEN ?3 IS NULL THEN 'disabled' ELSE status END
                 WHERE id = ?1",
                (agreement.id, failures, retry_at),
            )?;
        }
        self.tell(&account, reason, self.top_up.amount)?;
        touch_account(self.db, account.canteen, account.id)?;
        Ok(())
    }

    /// Nothing moved: back to the intent, under the same name.
    fn never_arrived(&self, wait: Duration, uncounted: u32) -> Result<(), LedgerError> {
        if let Some(order) = self.top_up.order() {
            self.note_answer(&order, "not_sent", false)?;
            if uncounted > 0 {
                // The number of the attempt is free again; its row must not stand in the way.
                self.db.execute(
                    "DELETE FROM top_up_attempt
                     WHERE reference = ?1 AND attempt = ?2 AND reached = 0",
                    (&order.reference, self.top_up.attempts),
                )?;
            }
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

    pub(super) fn stuck(&self, account: &AccountRow) -> Result<(), LedgerError> {
        if !self.top_up.is(TopUpStage::Stuck) {
            let detail = format!("top-up {} is unresolved; ask the gateway", self.top_up.id);
            raise_top_up_flag(self.db, "top_up_stuck", account, &detail, self.now)?;
            self.tell(account, NoticeReason::Stuck, self.top_up.amount)?;
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

    fn tell(
        &self,
        account: &AccountRow,
        reason: NoticeReason,
        amount: Money,
    ) -> Result<(), LedgerError> {
        tell(self.db, account, reason, self.top_up.id, amount, self.now)
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
