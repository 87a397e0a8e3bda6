//! The card gateway of a world: what cards were really charged.

use std::collections::BTreeMap;

use canteen::Money;
use hub_ledger::{
    ChargeAnswer, ChargeOrder, DeclineKind, GatewayCharge, RefundAnswer, RefundOrder, TopUpId,
};
use jiff::Timestamp;

use super::action::Card;
use super::tally::{Invariant, Violation};

/// The gateway's books.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    charges: Vec<Charged>,
    /// Requests that are still on their way, and when they arrive.
    under_way: Vec<(i64, ChargeOrder, Card)>,
}

#[derive(Debug)]
struct Charged {
    top_up: TopUpId,
    reference: String,
    card: String,
    ore: i64,
    at_ms: i64,
    result: Card,
    refunded: bool,
    /// A person has to find out whose it is.
    unmatched: bool,
}

impl Gateway {
    /// A charge arrives. The same reference again gives the recorded answer.
    pub(crate) fn charge(
        &mut self,
        order: &ChargeOrder,
        card: Card,
        now_ms: i64,
    ) -> Result<ChargeAnswer, Violation> {
        if let Some(known) = self.find(&order.reference) {
            return Ok(self.answer(known));
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
            card: order.card.clone(),
            ore,
            at_ms: now_ms,
            result: card,
            refunded: false,
            unmatched: false,
        });
        Ok(self.answer(self.charges.len() - 1))
    }

    /// A charge is on its way for longer than anybody waits, and never longer than two minutes.
    pub(crate) fn charge_later(&mut self, order: ChargeOrder, card: Card, at_ms: i64) {
        self.under_way.push((at_ms, order, card));
    }

    /// Takes in what has arrived by now.
    pub(crate) fn receive(&mut self, now_ms: i64) -> Result<(), Violation> {
        self.under_way.sort_by_key(|(at_ms, _, _)| *at_ms);
        while self
            .under_way
            .first()
            .is_some_and(|(at, _, _)| *at <= now_ms)
        {
            let (at_ms, order, card) = self.under_way.remove(0);
            self.charge(&order, card, at_ms)?;
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
    pub(crate) fn rename(&mut self, attempts: &BTreeMap<String, String>, unmatched: &[String]) {
        for charged in &mut self.charges {
            charged.unmatched = unmatched.contains(&charged.reference);
            let named = attempts.get(&charged.reference);
            if let Some(id) = named.and_then(|id| id.parse().ok()) {
                charged.top_up = TopUpId(id);
            }
        }
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
        let paid = paid.filter(|c| c.result == Card::Pays && !c.unmatched);
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
