//! The card gateway of a world: what cards were really charged.

use std::collections::BTreeMap;

use canteen::{AccountId, Money};
use hub_ledger::{
    ChargeAnswer, ChargeOrder, DeclineKind, GatewayCharge, RefundAnswer, RefundOrder, TopUpId,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::action::Card;
use super::tally::{Invariant, Violation};

/// The gateway's books.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    charges: Vec<Charged>,
    /// Requests that are still on their way, and when they arrive.
    under_way: Vec<(i64, ChargeOrder, AccountId, Card)>,
}

#[derive(Debug)]
struct Charged {
    top_up: TopUpId,
    reference: String,
    /// Whom it was made for; a hub that was put back may have forgotten.
    account: AccountId,
    card: String,
    ore: i64,
    at_ms: i64,
    result: Card,
    refunded: bool,
    /// A person has to look at it.
    unmatched: bool,
    /// Nobody has said yet what it was for, so that its card is held.
    open: bool,
    /// A person has sent it back.
    sent_back: bool,
}

impl Gateway {
    /// A charge arrives. The same reference again gives the recorded answer.
    pub(crate) fn charge(
        &mut self,
        order: &ChargeOrder,
        account: AccountId,
        card: Card,
        now_ms: i64,
    ) -> Result<ChargeAnswer, Violation> {
        if let Some(known) = self.find(&order.reference) {
            return Ok(self.answer(known));
        }
        if let Some(open) = self.charges.iter().find(|c| c.open && c.card == order.card) {
            let what = format!(
                "the hub charges {} for {}, and nobody has said what {} was for",
                order.card, order.reference, open.reference
            );
            return Err(Violation::of(Invariant::Held, what));
        }
        let ore = order.amount.ore();
        let twin = self.charges.iter().find(|earlier| {
            earlier.result == Card::Pays
                && (earlier.card == order.card && earlier.ore == ore)
                && now_ms - earlier.at_ms < WINDOW_MS
        });
        if let Some(twin) = twin {
            let apart = (now_ms - twin.at_ms) / 1000;
            let what = format!(
                "the hub charges {} øre on {} again after {apart} s ({} and {})",
                ore, order.card, twin.reference, order.reference
            );
            return Err(Violation::of(Invariant::Spacing, what));
        }
        self.charges.push(Charged {
            top_up: order.id,
            reference: order.reference.clone(),
            account,
            card: order.card.clone(),
            ore,
            at_ms: now_ms,
            result: card,
            refunded: false,
            unmatched: false,
            open: false,
            sent_back: false,
        });
        Ok(self.answer(self.charges.len() - 1))
    }

    /// A charge is on its way for longer than anybody waits, and never longer than two minutes.
    pub(crate) fn charge_later(
        &mut self,
        order: ChargeOrder,
        account: AccountId,
        card: Card,
        at_ms: i64,
    ) {
        self.under_way.push((at_ms, order, account, card));
    }

    /// Takes in what has arrived by now.
    pub(crate) fn receive(&mut self, now_ms: i64) -> Result<(), Violation> {
        self.under_way.sort_by_key(|(at_ms, _, _, _)| *at_ms);
        while self
            .under_way
            .first()
            .is_some_and(|(at, _, _, _)| *at <= now_ms)
        {
            let (at_ms, order, account, card) = self.under_way.remove(0);
            self.charge(&order, account, card, at_ms)?;
        }
        Ok(())
    }

    /// What became of a charge.
    pub(crate) fn look_up(&self, order: &ChargeOrder) -> ChargeAnswer {
        match self.find(&order.reference) {
            // What the product's worker makes of a charge that was sent back.
            Some(known) if self.charges[known].refunded => ChargeAnswer::Declined {
                kind: DeclineKind::Soft,
                code: "refunded".to_owned(),
                text: "the charge was sent back".to_owned(),
            },
            Some(known) => self.answer(known),
            None => ChargeAnswer::NotFound,
        }
    }

    /// What was taken from cards and not sent back.
    pub(crate) fn list(&self) -> Vec<GatewayCharge> {
        let taken = self.charges.iter().enumerate();
        let taken = taken.filter(|(_, c)| c.result == Card::Pays && !c.refunded);
        let listed = taken.map(|(at, charged)| GatewayCharge {
            reference: charged.reference.clone(),
            transaction: transaction(at),
            card: charged.card.clone(),
            amount: Money::from_ore(charged.ore),
            charged_at: Timestamp::from_millisecond(charged.at_ms).unwrap_or_default(),
        });
        listed.collect()
    }

    /// A hub that was put back has found out anew which charges are for which top-ups.
    pub(crate) fn rename(&mut self, attempts: &BTreeMap<String, String>, open: &[String]) {
        for charged in &mut self.charges {
            charged.open = open.contains(&charged.reference);
            let named = attempts.get(&charged.reference);
            if let Some(id) = named.and_then(|id| id.parse().ok()) {
                charged.top_up = TopUpId(id);
            }
        }
    }

    /// A person must look at these, and at no others.
    pub(crate) fn await_person(&mut self, unmatched: &[String]) {
        for charged in &mut self.charges {
            charged.unmatched = unmatched.contains(&charged.reference);
        }
    }

    /// Whom a charge was made for, as a person finds out; `None` when it has been sent back, which
    /// the person may do here.
    pub(crate) fn place(&mut self, reference: &str, sends_back: bool) -> Option<AccountId> {
        let charged = self.charges.iter_mut().find(|c| c.reference == reference)?;
        charged.unmatched = false;
        if sends_back {
            charged.refunded = true;
        }
        if charged.refunded {
            charged.sent_back = true;
            // It was for no top-up, as far as anybody will ever know.
            charged.top_up = TopUpId(Uuid::nil());
        }
        (!charged.refunded).then_some(charged.account)
    }

    pub(crate) fn refund(&mut self, order: &RefundOrder) -> RefundAnswer {
        let names = |at: usize| transaction(at) == order.transaction;
        match (0..self.charges.len()).find(|at| names(*at)) {
            Some(at) if self.charges[at].result == Card::Pays => {
                self.charges[at].refunded = true;
                RefundAnswer::Refunded
            }
            Some(_) | None => RefundAnswer::Declined {
                detail: "no such charge".to_owned(),
            },
        }
    }

    /// How often a top-up was paid, and what of that was not sent back.
    pub(crate) fn paid(&self, top_up: TopUpId) -> (usize, i64) {
        let of = self
            .charges
            .iter()
            .filter(|charged| charged.top_up == top_up && charged.result == Card::Pays);
        of.fold((0, 0), |(times, kept), charged| {
            let kept_of = if charged.refunded { 0 } else { charged.ore };
            (times + 1, kept + kept_of)
        })
    }

    /// All top-ups that were paid.
    pub(crate) fn paid_top_ups(&self) -> impl Iterator<Item = TopUpId> {
        let paid = self.charges.iter();
        let paid = paid.filter(|c| c.result == Card::Pays && !c.unmatched && !c.sent_back);
        paid.map(|charged| charged.top_up)
    }

    fn find(&self, reference: &str) -> Option<usize> {
        self.charges.iter().position(|c| c.reference == reference)
    }

    fn answer(&self, at: usize) -> ChargeAnswer {
        let charged = &self.charges[at];
        let declined = |kind, code: &str| ChargeAnswer::Declined {
            kind,
            code: code.to_owned(),
            text: "declined".to_owned(),
        };
        match charged.result {
            Card::Pays => ChargeAnswer::Paid {
                transaction: transaction(at),
                amount: canteen::Money::from_ore(charged.ore),
            },
            Card::NoFunds => declined(DeclineKind::Soft, "51"),
            Card::Expired => declined(DeclineKind::Hard, "54"),
        }
    }
}

fn transaction(at: usize) -> String {
    format!("charge-{at}")
}

/// How long equal charges on one card count as identical.
const WINDOW_MS: i64 = 600_000;
/// The longest that a request is on its way.
pub(crate) const TRANSIT_MS: i64 = 119_000;
