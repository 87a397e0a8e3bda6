//! A purchase from its order to its decision, and who is told of it.

use std::sync::Arc;

use canteen::{Decision, Ending, Money, Phase, Purchase, PurchaseOrder, SaleId, TopUpOutcome};
use jiff::Timestamp;
use sync_proto::SaleLine;
use till_ledger::{Ledger, LedgerError, PurchaseRequest, Recorded};
use till_page::{Attention, attention_words};
use till_readers::Signal;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Till, as_sale, as_uuid};
use crate::event::{Event, Sell, SellError};
use crate::sale::{SellEnding, Sold, VoidDone, ending_verdict};
use crate::sync::Sync;

/// A program that waits for the ending of its sale.
pub(super) struct Program {
    total: Money,
    reply: oneshot::Sender<Result<SellEnding, SellError>>,
}

impl Program {
    fn tell(self, ending: SellEnding) {
        // A program that no longer waits asks again with the same id.
        let _ = self.reply.send(Ok(ending));
    }
}

impl Till {
    pub(super) fn handle_sell(&mut self, sell: Sell) {
        let sale = as_sale(sell.id);
        match self
            .checkout
            .handle_sell(sale, sell.lines, sell.wait, self.now())
        {
            Ok(action) => {
                self.verdict = None;
                let total = self.checkout.basket().sum().unwrap_or_default();
                self.programs.insert(
                    sale,
                    Program {
                        total,
                        reply: sell.reply,
                    },
                );
                self.act(Some(action));
            }
            Err(error) => {
                let _ = sell.reply.send(Err(SellError::Checkout(error)));
            }
        }
    }

    pub(super) fn handle_give_up(&mut self, sale: SaleId) {
        let waits_for_chip = match self.checkout.phase() {
            Phase::Waiting { sale: current, .. } | Phase::Confirming { sale: current, .. } => {
                current == sale
            }
            Phase::Open | Phase::Deciding { .. } => false,
        };
        if waits_for_chip {
            let action = self.checkout.handle_cancel();
            self.act(action);
        }
    }

    pub(super) fn purchase(&mut self, order: PurchaseOrder) {
        let contact = self.contact();
        let request = PurchaseRequest {
            id: as_uuid(order.sale),
            identity: order.identity,
            lines: order.lines.iter().map(sale_line).collect(),
            amount: order.amount,
            online: contact.online,
            feed_age: contact.age,
            ask_first: contact.online,
        };
        let parts = (
            self.parts.ledger.clone(),
            Arc::clone(&self.parts.sync),
            self.parts.events.clone(),
        );
        self.chip = None;
        tokio::spawn(async move {
            let (ledger, sync, events) = parts;
            let result = record(&ledger, &sync, request).await;
            // The till itself is gone only when the program ends; the entry is on disk.
            let _ = events.send(Event::Decided(order, result)).await;
        });
    }

    pub(super) fn handle_decided(
        &mut self,
        order: PurchaseOrder,
        result: Result<Recorded, LedgerError>,
    ) {
        let sale = order.sale;
        let approved = result
            .as_ref()
            .is_ok_and(|r| matches!(r.decision, Decision::Approve { .. }));
        self.checkout.handle_decided(sale, approved);
        let recorded = match result {
            Ok(recorded) => recorded,
            Err(error) => return self.outcome_unknown(sale, &error),
        };
        self.signal(if approved {
            Signal::Approved
        } else {
            Signal::Declined
        });
        let (Decision::Approve { top_up, .. } | Decision::Decline { top_up, .. }) =
            recorded.decision;
        if top_up == TopUpOutcome::Requested {
            self.parts.sync.wake.urgent();
        }
        let contact = self.contact();
        let time = self.parts.ledger.progress().time;
        let on = time.today(till_ledger::Moment::now());
        let purchase = Purchase {
            amount: order.amount,
            on,
            contact,
        };
        let view = self.view(order.identity);
        info!(
            sale = %as_uuid(sale),
            account = view.as_ref().and_then(|view| view.view.account).map(|account| account.id.0),
            amount = %order.amount.money(),
            decision = decision_code(&recorded.decision),
            "Decided a purchase"
        );
        let sold = Sold {
            order,
            recorded,
            purchase,
            view,
        };
        self.tell(sold.verdict(Timestamp::now()));
        if let Some(program) = self.programs.remove(&sale) {
            program.tell(SellEnding::Decided(Box::new(sold)));
        }
    }

    fn outcome_unknown(&mut self, sale: SaleId, error: &LedgerError) {
        error!(sale = %as_uuid(sale), %error, "The ledger did not say what became of a purchase");
        self.signal(Signal::Declined);
        self.attend(&Attention::OutcomeUnknown);
        if let Some(program) = self.programs.remove(&sale) {
            program.tell(SellEnding::Unknown(error.to_string()));
        }
    }

    pub(super) fn finish(&mut self, sale: SaleId, ending: Ending) {
        self.signal_all(Signal::Idle);
        self.tell(ending_verdict(as_uuid(sale), ending));
        if let Some(program) = self.programs.remove(&sale) {
            if let (Ending::TimedOut, Err(faults)) = (ending, self.reader_works()) {
                let _ = program.reply.send(Err(SellError::NoReader(faults)));
                return;
            }
            let total = program.total;
            program.tell(SellEnding::Ended {
                id: as_uuid(sale),
                total,
                ending,
            });
        }
    }

    pub(super) fn handle_voided(&mut self, done: VoidDone) {
        let attention = Attention::Voided {
            amount: done.voided.amount,
            balance_after: done.voided.balance_after,
        };
        self.tell(attention_words(
            done.voided.entry.id.to_string(),
            &attention,
            done.person,
        ));
    }
}

/// Decides and records; asks the hub first when only the till's allowance is in the way.
async fn record(
    ledger: &Ledger,
    sync: &Sync,
    mut request: PurchaseRequest,
) -> Result<Recorded, LedgerError> {
    let recorded = ledger
        .purchase(request.clone(), till_ledger::Moment::now())
        .await?;
    let Some(account) = recorded.ask_for else {
        return Ok(recorded);
    };
    sync.ask_for_more(account, request.amount.money(), request.id)
        .await;
    request.ask_first = false;
    ledger.purchase(request, till_ledger::Moment::now()).await
}

fn sale_line(line: &canteen::BasketLine) -> SaleLine {
    SaleLine {
        quantity: line.quantity(),
        text: line.text().to_owned(),
        unit_price: line.unit_price(),
        amount: line.amount(),
    }
}

fn decision_code(decision: &Decision) -> &'static str {
    match decision {
        Decision::Approve { .. } => "approved",
        Decision::Decline { reason, .. } => reason.code(),
    }
}
