//! What the simulated gateway knows and decides; no input or output, and time is passed in.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Everything that must survive when the simulator is killed and started again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Books {
    pub(super) settings: Settings,
    /// How far the simulator's clock is ahead of the machine's.
    pub(super) clock_ahead_seconds: i64,
    pub(super) agreements: BTreeMap<String, VecDeque<Script>>,
    pub(super) charges: Vec<ChargeRecord>,
    pub(super) refunds: Vec<RefundRecord>,
}

/// How the simulated gateway behaves towards everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long an equal amount on one agreement counts as identical.
    pub duplicate_window_seconds: u32,
    /// What happens to an identical charge.
    pub duplicates: DuplicateHandling,
    /// Whether the gateway as a whole is out of order.
    pub outage: Outage,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            duplicate_window_seconds: 600,
            duplicates: DuplicateHandling::Reject,
            outage: Outage::None,
        }
    }
}

/// What happens to a charge of the same amount on the same agreement inside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateHandling {
    /// Refused as identical.
    Reject,
    /// Accepted and held back from settlement.
    Suspend,
    /// Answered with the earlier charge.
    Replay,
}

/// A state of the whole gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Working.
    None,
    /// Every call is answered with 500 and does nothing.
    ServerError,
    /// Every call is answered with 429 and does nothing.
    Busy,
}

/// What is to happen to the next new charge on an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What happens.
    pub outcome: ScriptedOutcome,
    /// How many charges it happens to.
    #[serde(default = "once")]
    pub times: u16,
    /// How long the request is on its way before the gateway sees it.
    #[serde(default)]
    pub delay_seconds: u16,
    /// How long the answer is on its way back.
    #[serde(default)]
    pub answer_delay_seconds: u16,
    /// What `busy` puts in `Retry-After`.
    #[serde(default = "half_a_minute")]
    pub retry_after_seconds: u16,
}

impl Script {
    /// The outcome, once, without delays.
    pub fn once(outcome: ScriptedOutcome) -> Self {
        Self {
            outcome,
            times: once(),
            delay_seconds: 0,
            answer_delay_seconds: 0,
            retry_after_seconds: half_a_minute(),
        }
    }
}

/// What can be scripted. The first group decides, the second breaks the line or the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedOutcome {
    /// Charged.
    Approve,
    /// Accepted, and decided later by `POST /simulator/charges/{reference}/complete`.
    Pending,
    /// Declined: not enough money on the card (51).
    NoFunds,
    /// Declined: the card has expired (54).
    Expired,
    /// Declined: the card is blocked (62).
    Blocked,
    /// Declined: the issuer wants the cardholder (1A).
    NeedsCardholder,
    /// Declined as identical (94), whatever was charged before.
    Identical,
    /// Declined with a code that nobody has heard of (Q7).
    UnrecognisedDecline,
    /// Charged, and the connection is closed without an answer.
    AnswerLost,
    /// Not charged, and the connection is closed without an answer.
    RequestLost,
    /// Charged, and answered with 500.
    ServerErrorAfterCharge,
    /// Not charged, and answered with 500.
    ServerError,
    /// Charged, and answered with JSON that is cut off.
    MalformedAnswer,
    /// Not charged, and answered with 429.
    Busy,
}

/// A charge that reached the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeRecord {
    /// The merchant's reference: its `Idempotency-Key`.
    pub reference: String,
    /// The agreement charged.
    pub agreement: String,
    /// The amount in øre.
    pub amount: i64,
    /// By the simulator's clock, in seconds since 1970.
    pub at_seconds: i64,
    /// What became of it.
    pub result: ChargeResult,
    /// The gateway's name of the payment.
    pub payment: String,
    /// The gateway's name of the charge.
    pub charge: String,
    /// How many requests carried this reference.
    pub requests: u32,
}

impl ChargeRecord {
    /// Whether the card was really charged for it, which a refund does not undo.
    pub fn took_money(&self) -> bool {
        match self.result {
            ChargeResult::Paid | ChargeResult::Refunded => true,
            ChargeResult::Pending
            | ChargeResult::Suspended
            | ChargeResult::Replayed
            | ChargeResult::Declined(_) => false,
        }
    }

    /// Whether a later equal charge counts as identical to this one.
    fn stands(&self) -> bool {
        match self.result {
            ChargeResult::Paid
            | ChargeResult::Refunded
            | ChargeResult::Pending
            | ChargeResult::Suspended => true,
            ChargeResult::Replayed | ChargeResult::Declined(_) => false,
        }
    }
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeResult {
    /// The card was charged.
    Paid,
    /// Accepted and not decided.
    Pending,
    /// Accepted and held back as identical.
    Suspended,
    /// Answered with an earlier charge; the card was not charged again.
    Replayed,
    /// Charged, and sent back.
    Refunded,
    /// Declined.
    Declined(DeclineCode),
}

/// The declines that the simulator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineCode {
    /// Not enough money on the card.
    NoFunds,
    /// The card has expired.
    Expired,
    /// The card is blocked.
    Blocked,
    /// The issuer wants the cardholder.
    NeedsCardholder,
    /// Identical to an earlier charge.
    Identical,
    /// A code that nobody has heard of.
    Unrecognised,
}

impl DeclineCode {
    /// The response code as card schemes write it.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NoFunds => "51",
            Self::Expired => "54",
            Self::Blocked => "62",
            Self::NeedsCardholder => "1A",
            Self::Identical => "94",
            Self::Unrecognised => "Q7",
        }
    }

    /// The gateway's words.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NoFunds => "insufficient funds",
            Self::Expired => "expired card",
            Self::Blocked => "restricted card",
            Self::NeedsCardholder => "cardholder authentication required",
            Self::Identical => "identical transaction",
            Self::Unrecognised => "quantum mismatch",
        }
    }
}

/// Money sent back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRecord {
    /// The merchant's reference of the refund.
    pub reference: String,
    /// The gateway's name of the charge.
    pub charge: String,
    /// The gateway's name of the refund.
    pub refund: String,
    /// The amount in øre.
    pub amount: i64,
    /// By the simulator's clock, in seconds since 1970.
    pub at_seconds: i64,
}

/// A charge as it came in.
#[derive(Debug, Clone)]
pub(super) struct IncomingCharge {
    pub(super) reference: String,
    pub(super) agreement: String,
    pub(super) amount: i64,
}

/// Why a charge or a refund was not taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NoSuchAgreement,
    NoSuchCharge,
    /// The reference is known with another content.
    Conflict,
    NotRefundable,
}

impl Books {
    /// The script of a new charge, used up; a known reference never uses one up.
    pub(super) fn take_script(&mut self, incoming: &IncomingCharge) -> Script {
        let approve = Script::once(ScriptedOutcome::Approve);
        if self.find(&incoming.reference).is_some() {
            return approve;
        }
        let Some(scripts) = self.agreements.get_mut(&incoming.agreement) else {
            return approve;
        };
        let Some(next) = scripts.front_mut() else {
            return approve;
        };
        let script = *next;
        next.times = next.times.saturating_sub(1);
        if next.times == 0 {
            scripts.pop_front();
        }
        script
    }

    /// Decides a charge and records it; the same reference again gives the recorded charge.
    pub(super) fn charge(
        &mut self,
        incoming: &IncomingCharge,
        outcome: ScriptedOutcome,
        now: i64,
    ) -> Result<ChargeRecord, Refusal> {
        if !self.agreements.contains_key(&incoming.agreement) {
            return Err(Refusal::NoSuchAgreement);
        }
        let known = |record: &&mut ChargeRecord| record.reference == incoming.reference;
        if let Some(record) = self.charges.iter_mut().find(known) {
            if record.agreement != incoming.agreement || record.amount != incoming.amount {
                return Err(Refusal::Conflict);
            }
            record.requests = record.requests.saturating_add(1);
            return Ok(record.clone());
        }
        let (result, earlier) = self.decide(incoming, outcome, now);
        let (payment, charge) = earlier.unwrap_or_else(|| (new_id(), new_id()));
        let record = ChargeRecord {
            reference: incoming.reference.clone(),
            agreement: incoming.agreement.clone(),
            amount: incoming.amount,
            at_seconds: now,
            result,
            payment,
            charge,
            requests: 1,
        };
        self.charges.push(record.clone());
        Ok(record)
    }

    fn decide(
        &self,
        incoming: &IncomingCharge,
        outcome: ScriptedOutcome,
        now: i64,
    ) -> (ChargeResult, Option<(String, String)>) {
        let declined = |code| (ChargeResult::Declined(code), None);
        let accepted = match outcome {
            ScriptedOutcome::NoFunds => return declined(DeclineCode::NoFunds),
            ScriptedOutcome::Expired => return declined(DeclineCode::Expired),
            ScriptedOutcome::Blocked => return declined(DeclineCode::Blocked),
            ScriptedOutcome::NeedsCardholder => return declined(DeclineCode::NeedsCardholder),
            ScriptedOutcome::Identical => return declined(DeclineCode::Identical),
            ScriptedOutcome::UnrecognisedDecline => return declined(DeclineCode::Unrecognised),
            ScriptedOutcome::Pending => ChargeResult::Pending,
            ScriptedOutcome::Approve
            | ScriptedOutcome::AnswerLost
            | ScriptedOutcome::ServerErrorAfterCharge
            | ScriptedOutcome::MalformedAnswer
            | ScriptedOutcome::RequestLost
            | ScriptedOutcome::ServerError
            | ScriptedOutcome::Busy => ChargeResult::Paid,
        };
        match (self.identical(incoming, now), self.settings.duplicates) {
            (None, _) => (accepted, None),
            (Some(_), DuplicateHandling::Reject) => declined(DeclineCode::Identical),
            (Some(_), DuplicateHandling::Suspend) => (ChargeResult::Suspended, None),
            (Some(earlier), DuplicateHandling::Replay) => (
                ChargeResult::Replayed,
                Some((earlier.payment.clone(), earlier.charge.clone())),
            ),
        }
    }

    fn identical(&self, incoming: &IncomingCharge, now: i64) -> Option<&ChargeRecord> {
        let window = i64::from(self.settings.duplicate_window_seconds);
        self.charges.iter().rev().find(|earlier| {
            earlier.agreement == incoming.agreement
                && earlier.amount == incoming.amount
                && earlier.stands()
                && now.saturating_sub(earlier.at_seconds) < window
        })
    }

    /// The charge with a reference.
    pub(super) fn find(&self, reference: &str) -> Option<&ChargeRecord> {
        let known = |record: &&ChargeRecord| record.reference == reference;
        self.charges.iter().find(known)
    }

    /// The charge that a payment's name belongs to.
    pub(super) fn find_payment(&self, payment: &str) -> Option<&ChargeRecord> {
        self.charges.iter().find(|record| {
            same_id(&record.payment, payment) && record.result != ChargeResult::Replayed
        })
    }

    /// Decides a pending or suspended charge; the card is charged.
    pub(super) fn complete(&mut self, reference: &str) -> Result<ChargeRecord, Refusal> {
        let open = |record: &&mut ChargeRecord| {
            record.reference == reference
                && matches!(
                    record.result,
                    ChargeResult::Pending | ChargeResult::Suspended
                )
        };
        let record = self.charges.iter_mut().find(open);
        let record = record.ok_or(Refusal::NoSuchCharge)?;
        record.result = ChargeResult::Paid;
        Ok(record.clone())
    }

    /// Sends money back; the same reference again gives the recorded refund.
    pub(super) fn refund(
        &mut self,
        reference: &str,
        charge: &str,
        amount: i64,
        now: i64,
    ) -> Result<RefundRecord, Refusal> {
        let known = |refund: &&RefundRecord| refund.reference == reference;
        if let Some(refund) = self.refunds.iter().find(known) {
            let same = same_id(&refund.charge, charge) && refund.amount == amount;
            return same.then(|| refund.clone()).ok_or(Refusal::Conflict);
        }
        let already = self.refunded(charge);
        let taken = |record: &&mut ChargeRecord| {
            same_id(&record.charge, charge) && record.result != ChargeResult::Replayed
        };
        let record = self.charges.iter_mut().find(taken);
        let record = record.ok_or(Refusal::NoSuchCharge)?;
        let left = record.amount.saturating_sub(already);
        if record.result != ChargeResult::Paid || amount <= 0 || amount > left {
            return Err(Refusal::NotRefundable);
        }
        if amount == left {
            record.result = ChargeResult::Refunded;
        }
        let refund = RefundRecord {
            reference: reference.to_owned(),
            charge: record.charge.clone(),
            refund: new_id(),
            amount,
            at_seconds: now,
        };
        self.refunds.push(refund.clone());
        Ok(refund)
    }

    /// What has been sent back of a charge.
    pub(super) fn refunded(&self, charge: &str) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| same_id(&refund.charge, charge))
            .fold(0, |sum, refund| sum.saturating_add(refund.amount))
    }
}

fn once() -> u16 {
    1
}

fn half_a_minute() -> u16 {
    30
}

/// Thirty-two hexadecimal digits, as the gateway writes its names.
fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

fn same_id(left: &str, right: &str) -> bool {
    left.replace('-', "") == right.replace('-', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(reference: &str, agreement: &str, amount: i64) -> IncomingCharge {
        IncomingCharge {
            reference: reference.to_owned(),
            agreement: agreement.to_owned(),
            amount,
        }
    }

    fn books(duplicates: DuplicateHandling) -> Books {
        let mut books = Books::default();
        books.settings.duplicates = duplicates;
        for agreement in ["a", "b"] {
            books
                .agreements
                .insert(agreement.to_owned(), VecDeque::new());
        }
        books
    }

    #[test]
    fn the_same_amount_on_the_same_agreement_is_identical_for_exactly_the_window() {
        let check = |agreement: &str, amount: i64, now: i64, expected: ChargeResult| {
            let mut books = books(DuplicateHandling::Reject);
            let approve = ScriptedOutcome::Approve;
            let first = books.charge(&incoming("r1", "a", 20_000), approve, 1_000);
            assert_eq!(first.expect("charged").result, ChargeResult::Paid);
            let second = books.charge(&incoming("r2", agreement, amount), approve, now);
            assert_eq!(
                second.expect("decided").result,
                expected,
                "{agreement} {amount} {now}"
            );
        };
        let identical = ChargeResult::Declined(DeclineCode::Identical);
        check("a", 20_000, 1_000, identical);
        check("a", 20_000, 1_599, identical);
        check("a", 20_000, 1_600, ChargeResult::Paid);
        check("a", 20_001, 1_000, ChargeResult::Paid);
        check("b", 20_000, 1_000, ChargeResult::Paid);
    }

    #[test]
    fn a_declined_charge_makes_no_later_one_identical() {
        let mut books = books(DuplicateHandling::Reject);
        let declined = books.charge(&incoming("r1", "a", 100), ScriptedOutcome::NoFunds, 0);
        assert!(!declined.expect("decided").took_money());
        let second = books.charge(&incoming("r2", "a", 100), ScriptedOutcome::Approve, 1);
        assert_eq!(second.expect("decided").result, ChargeResult::Paid);
    }

    #[test]
    fn an_identical_charge_is_rejected_suspended_or_replayed_and_never_takes_money() {
        let check = |handling: DuplicateHandling, expected: ChargeResult, same_names: bool| {
            let mut books = books(handling);
            let approve = ScriptedOutcome::Approve;
            let first = books
                .charge(&incoming("r1", "a", 100), approve, 0)
                .expect("charged");
            let second = books
                .charge(&incoming("r2", "a", 100), approve, 1)
                .expect("decided");
            assert_eq!(second.result, expected);
            assert_eq!(first.charge == second.charge, same_names);
            let taken = books.charges.iter().filter(|record| record.took_money());
            assert_eq!(taken.count(), 1);
        };
        let identical = ChargeResult::Declined(DeclineCode::Identical);
        check(DuplicateHandling::Reject, identical, false);
        check(DuplicateHandling::Suspend, ChargeResult::Suspended, false);
        check(DuplicateHandling::Replay, ChargeResult::Replayed, true);
    }

    #[test]
    fn the_same_reference_is_charged_once_and_must_say_the_same() {
        let mut books = books(DuplicateHandling::Reject);
        let approve = ScriptedOutcome::Approve;
        let first = books
            .charge(&incoming("r1", "a", 100), approve, 0)
            .expect("charged");
        let again = books
            .charge(&incoming("r1", "a", 100), approve, 5)
            .expect("answered");
        assert_eq!((again.charge, again.requests), (first.charge, 2));
        let other = books.charge(&incoming("r1", "a", 200), approve, 6);
        assert_eq!(other, Err(Refusal::Conflict));
        assert_eq!(books.charges.len(), 1);
    }

    #[test]
    fn a_script_is_used_up_by_new_references_only() {
        let mut books = books(DuplicateHandling::Reject);
        let scripts = books.agreements.get_mut("a").expect("an agreement");
        scripts.push_back(Script {
            times: 2,
            ..Script::once(ScriptedOutcome::NoFunds)
        });
        for (reference, expected) in [
            ("r1", ScriptedOutcome::NoFunds),
            ("r1", ScriptedOutcome::Approve),
            ("r2", ScriptedOutcome::NoFunds),
            ("r3", ScriptedOutcome::Approve),
        ] {
            let charge = incoming(reference, "a", 100);
            let script = books.take_script(&charge);
            assert_eq!(script.outcome, expected, "{reference}");
            books.charge(&charge, script.outcome, 0).expect("decided");
        }
    }

    #[test]
    fn no_more_is_refunded_than_was_charged_and_one_reference_refunds_once() {
        let mut books = books(DuplicateHandling::Reject);
        let paid = books
            .charge(&incoming("r1", "a", 100), ScriptedOutcome::Approve, 0)
            .expect("charged");
        let mut check = |reference: &str, amount: i64, expected: Result<i64, Refusal>| {
            let refund = books.refund(reference, &paid.charge, amount, 1);
            assert_eq!(
                refund.map(|refund| refund.amount),
                expected,
                "{reference} {amount}"
            );
        };
        check("f1", 101, Err(Refusal::NotRefundable));
        check("f1", 0, Err(Refusal::NotRefundable));
        check("f1", 60, Ok(60));
        check("f1", 60, Ok(60));
        check("f1", 61, Err(Refusal::Conflict));
        check("f2", 60, Err(Refusal::NotRefundable));
        check("f2", 40, Ok(40));
        assert_eq!(books.refunds.len(), 2);
        assert_eq!(books.charges[0].result, ChargeResult::Refunded);
    }
}
