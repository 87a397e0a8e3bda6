//! The contract of a [`PaymentGateway`], as a suite that runs against any adapter.
//!
//! An adapter is pointed at a [`Simulator`] and put through every outcome and every fault. The
//! suite holds what the gateway says against what really happened to the card.

use canteen::Money;

use crate::gateway::{Charge, Decline, GatewayError, Outcome, PaymentGateway, Refund};
use crate::identity::{AttemptReference, CardAgreement, IdentityError, RandomnessUnavailable};
use crate::simulator::{DuplicateHandling, Outage, Script, ScriptedOutcome, Settings, Simulator};

/// A clause of the contract that does not hold, or a bench that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    /// The adapter says something else than the contract demands.
    #[error("{clause}: expected {expected}, got {got}")]
    Clause {
        /// The clause, as a sentence that should be true.
        clause: &'static str,
        /// What the contract demands.
        expected: String,
        /// What was seen.
        got: String,
    },
    /// The simulator cannot keep its state.
    #[error("the simulator cannot be steered")]
    Simulator(#[from] std::io::Error),
    /// No attempt could be named.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
    /// An agreement could not be named.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Runs the whole suite. The gateway must be pointed at this very simulator.
pub async fn check(gateway: &dyn PaymentGateway, simulator: &Simulator) -> Result<(), Breach> {
    let bench = Bench { gateway, simulator };
    bench.approves().await?;
    bench.declines().await?;
    bench.loses_no_money_on_a_broken_line().await?;
    bench.does_nothing_when_told_that_nothing_was_done().await?;
    bench.keeps_identical_charges_apart().await?;
    bench.waits_for_a_pending_charge().await?;
    bench.repeats_safely().await?;
    bench.refunds().await?;
    bench.calls_nothing_unseen_not_found().await
}

struct Bench<'a> {
    gateway: &'a dyn PaymentGateway,
    simulator: &'a Simulator,
}

impl Bench<'_> {
    async fn approves(&self) -> Result<(), Breach> {
        let charge = self.new_charge()?;
        let clause = "a good card is charged, and looked up as paid";
        expect(
            clause,
            "not found",
            &found(&self.gateway.look_up(&charge).await),
        )?;
        expect(
            clause,
            "paid 20000",
            &answered(&self.gateway.charge(&charge).await),
        )?;
        expect(
            clause,
            "paid 20000",
            &found(&self.gateway.look_up(&charge).await),
        )?;
        self.expect_taken(clause, &charge, 1)
    }

    async fn declines(&self) -> Result<(), Breach> {
        for (outcome, expected) in [
            (ScriptedOutcome::NoFunds, Decline::Soft),
            (ScriptedOutcome::Expired, Decline::Hard),
            (ScriptedOutcome::Blocked, Decline::Hard),
            (ScriptedOutcome::NeedsCardholder, Decline::NeedsCardholder),
            (ScriptedOutcome::Identical, Decline::Duplicate),
            (ScriptedOutcome::UnrecognisedDecline, Decline::Soft),
        ] {
            let clause = "a decline is classed, and takes no money";
            let charge = self.scripted(outcome)?;
            let expected = declined(expected);
            expect(
                clause,
                &expected,
                &answered(&self.gateway.charge(&charge).await),
            )?;
            self.expect_taken(clause, &charge, 0)?;
            expect(
                "a decline whose answer was lost can be looked up",
                &expected,
                &found(&self.gateway.look_up(&charge).await),
            )?;
        }
        Ok(())
    }

    async fn loses_no_money_on_a_broken_line(&self) -> Result<(), Breach> {
        for (outcome, taken) in [
            (ScriptedOutcome::AnswerLost, true),
            (ScriptedOutcome::ServerErrorAfterCharge, true),
            (ScriptedOutcome::MalformedAnswer, true),
            (ScriptedOutcome::RequestLost, false),
            (ScriptedOutcome::ServerError, false),
        ] {
            let charge = self.scripted(outcome)?;
            expect(
                "a charge without a proper answer is unknown",
                "unknown",
                &answered(&self.gateway.charge(&charge).await),
            )?;
            expect(
                "what became of an unknown charge can be looked up",
                if taken { "paid 20000" } else { "not found" },
                &found(&self.gateway.look_up(&charge).await),
            )?;
            let clause = "a card is charged at most once for an unknown charge";
            self.expect_taken(clause, &charge, usize::from(taken))?;
        }
        Ok(())
    }

    async fn does_nothing_when_told_that_nothing_was_done(&self) -> Result<(), Breach> {
        let clause = "a busy gateway has done nothing and says for how long";
        let charge = self.new_charge()?;
        let busy = Script {
            retry_after_seconds: 7,
            ..Script::once(ScriptedOutcome::Busy)
        };
        self.simulator.script(&charge.agreement, busy)?;
        expect(
            clause,
            "busy for 7 s",
            &answered(&self.gateway.charge(&charge).await),
        )?;
        self.expect_taken(clause, &charge, 0)?;
        let clause = "an agreement that the gateway does not know is an invalid request";
        let unknown = Charge {
            agreement: AttemptReference::draw()?.as_str().parse()?,
            ..charge
        };
        expect(
            clause,
            "invalid",
            &answered(&self.gateway.charge(&unknown).await),
        )?;
        let nothing = Charge {
            amount: Money::from_ore(0),
            ..self.new_charge()?
        };
        let clause = "an amount of nothing is an invalid request";
        expect(
            clause,
            "invalid",
            &answered(&self.gateway.charge(&nothing).await),
        )
    }

    async fn keeps_identical_charges_apart(&self) -> Result<(), Breach> {
        for (duplicates, expected) in [
            (DuplicateHandling::Reject, declined(Decline::Duplicate)),
            (DuplicateHandling::Replay, declined(Decline::Duplicate)),
            (DuplicateHandling::Suspend, "pending".to_owned()),
        ] {
            self.simulator.set(Settings {
                duplicates,
                ..Settings::default()
            })?;
            let clause = "an identical charge inside the window is never taken for a paid one";
            let first = self.new_charge()?;
            let second = self.again(&first)?;
            expect(
                clause,
                "paid 20000",
                &answered(&self.gateway.charge(&first).await),
            )?;
            expect(
                clause,
                &expected,
                &answered(&self.gateway.charge(&second).await),
            )?;
            expect(
                clause,
                &expected,
                &found(&self.gateway.look_up(&second).await),
            )?;
            self.expect_taken(clause, &first, 1)?;
            let clause = "after the window the same amount is charged again";
            let window = Settings::default().duplicate_window_seconds;
            self.simulator.advance(window)?;
            let third = self.again(&first)?;
            expect(
                clause,
                "paid 20000",
                &answered(&self.gateway.charge(&third).await),
            )?;
            self.expect_taken(clause, &first, 2)?;
        }
        self.simulator.set(Settings::default())?;
        Ok(())
    }

    async fn waits_for_a_pending_charge(&self) -> Result<(), Breach> {
        let clause = "a pending charge is neither paid nor declined until it is decided";
        let charge = self.scripted(ScriptedOutcome::Pending)?;
        expect(
            clause,
            "pending",
            &answered(&self.gateway.charge(&charge).await),
        )?;
        expect(
            clause,
            "pending",
            &found(&self.gateway.look_up(&charge).await),
        )?;
        self.simulator.complete(&charge.reference)?;
        expect(
            clause,
            "paid 20000",
            &found(&self.gateway.look_up(&charge).await),
        )
    }

    async fn repeats_safely(&self) -> Result<(), Breach> {
        if !self.gateway.capabilities().repeats_safely {
            return Ok(());
        }
        let clause = "the same charge sent twice is charged once and answered alike";
        let charge = self.new_charge()?;
        let first = answered(&self.gateway.charge(&charge).await);
        expect(
            clause,
            &first,
            &answered(&self.gateway.charge(&charge).await),
        )?;
        self.expect_taken(clause, &charge, 1)?;
        let other = Charge {
            amount: Money::from_ore(10_000),
            ..charge.clone()
        };
        let clause = "a reference used for another amount is not charged";
        expect(
            clause,
            "unknown",
            &answered(&self.gateway.charge(&other).await),
        )?;
        self.expect_taken(clause, &charge, 1)
    }

    async fn refunds(&self) -> Result<(), Breach> {
        let clause = "a charge is refunded once, and looked up as refunded";
        let charge = self.new_charge()?;
        let paid = self.gateway.charge(&charge).await;
        let Ok(Outcome::Paid { transaction, .. }) = paid else {
            return expect(clause, "paid 20000", &answered(&paid));
        };
        let refund = Refund {
            reference: AttemptReference::draw()?,
            transaction,
            amount: charge.amount,
        };
        let refunds = self.simulator.refunds().len();
        expect(
            clause,
            "refunded",
            &answered(&self.gateway.refund(&refund).await),
        )?;
        expect(
            clause,
            "refunded",
            &answered(&self.gateway.refund(&refund).await),
        )?;
        expect(
            clause,
            "refunded",
            &found(&self.gateway.look_up(&charge).await),
        )?;
        let refunded = self.simulator.refunds().len() - refunds;
        expect(clause, "1 refund", &format!("{refunded} refund"))?;
        let twice = Refund {
            reference: AttemptReference::draw()?,
            ..refund
        };
        let clause = "money that was sent back is not sent back again";
        expect(
            clause,
            "invalid",
            &answered(&self.gateway.refund(&twice).await),
        )
    }

    async fn calls_nothing_unseen_not_found(&self) -> Result<(), Breach> {
        let charge = self.new_charge()?;
        for (outage, expected) in [
            (Outage::ServerError, "unknown"),
            (Outage::Busy, "busy for 30 s"),
        ] {
            self.simulator.set(Settings {
                outage,
                ..Settings::default()
            })?;
            let clause = "a gateway that cannot answer has not said that a charge is not found";
            expect(
                clause,
                expected,
                &found(&self.gateway.look_up(&charge).await),
            )?;
        }
        self.simulator.set(Settings::default())?;
        let strange = Charge {
            agreement: AttemptReference::draw()?.as_str().parse()?,
            ..charge
        };
        let clause = "a gateway that does not know the agreement cannot say not found";
        expect(
            clause,
            "invalid",
            &found(&self.gateway.look_up(&strange).await),
        )
    }

    /// A charge on an agreement of its own, so that no clause disturbs another.
    fn new_charge(&self) -> Result<Charge, Breach> {
        let agreement: CardAgreement = AttemptReference::draw()?.as_str().parse()?;
        self.simulator.create_agreement(&agreement)?;
        Ok(Charge {
            reference: AttemptReference::draw()?,
            agreement,
            amount: Money::from_ore(20_000),
        })
    }

    fn scripted(&self, outcome: ScriptedOutcome) -> Result<Charge, Breach> {
        let charge = self.new_charge()?;
        self.simulator
            .script(&charge.agreement, Script::once(outcome))?;
        Ok(charge)
    }

    fn again(&self, charge: &Charge) -> Result<Charge, Breach> {
        Ok(Charge {
            reference: AttemptReference::draw()?,
            ..charge.clone()
        })
    }

    fn expect_taken(
        &self,
        clause: &'static str,
        charge: &Charge,
        times: usize,
    ) -> Result<(), Breach> {
        let charges = self.simulator.charges();
        let taken = charges
            .iter()
            .filter(|record| record.agreement == charge.agreement.as_str() && record.took_money());
        let got = format!("card charged {} times", taken.count());
        expect(clause, &format!("card charged {times} times"), &got)
    }
}

fn expect(clause: &'static str, expected: &str, got: &str) -> Result<(), Breach> {
    if expected == got {
        return Ok(());
    }
    Err(Breach::Clause {
        clause,
        expected: expected.to_owned(),
        got: got.to_owned(),
    })
}

fn declined(decline: Decline) -> String {
    format!("declined {decline:?}")
}

fn found(answer: &Result<Option<Outcome>, GatewayError>) -> String {
    match answer {
        Ok(None) => "not found".to_owned(),
        Ok(Some(outcome)) => told(outcome),
        Err(error) => failed(error),
    }
}

fn answered(answer: &Result<Outcome, GatewayError>) -> String {
    match answer {
        Ok(outcome) => told(outcome),
        Err(error) => failed(error),
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pending => "pending".to_owned(),
        Outcome::Paid { amount, .. } => format!("paid {}", amount.ore()),
        Outcome::Declined { decline, .. } => declined(*decline),
        Outcome::Refunded { .. } => "refunded".to_owned(),
    }
}

fn failed(error: &GatewayError) -> String {
    match error {
        GatewayError::NotSent { .. } => "not sent".to_owned(),
        GatewayError::Unknown { .. } => "unknown".to_owned(),
        GatewayError::Invalid { .. } => "invalid".to_owned(),
        GatewayError::Busy { retry_after: None } => "busy".to_owned(),
        GatewayError::Busy {
            retry_after: Some(time),
        } => format!("busy for {} s", time.as_secs()),
    }
}
