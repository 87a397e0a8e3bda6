//! The till itself: one task to which everything happens, one event after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use canteen::{
    Action, Checkout, ChipIdentity, ChipNumber, Contact, Decision, Ending, Moment, Money,
    OfflineRules, Phase, PresenceId, Purchase, PurchaseOrder, SaleId, TopUpOutcome,
};
use jiff::Timestamp;
use sync_proto::SaleLine;
use till_ledger::{Ledger, LedgerError, PurchaseRequest, Recorded};
use till_page::{Attention, ChipOnReader, PageState, Verdict, attention_words, chip_words};
use till_readers::{
    ChipFault, Presence, ReaderEvent, ReaderName, ReaderState, Readers, Signal, Typed,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::contact::ContactBook;
use crate::disk::Disk;
use crate::event::{Event, Press, PressError, Sell, SellError};
use crate::page_state::{Rows, Shown, page_state};
use crate::sale::{Known, SellEnding, Sold, VoidDone, ending_verdict};
use crate::sync::Sync;
use crate::unsent::UnsentSales;

/// What the till is made of.
pub(crate) struct Parts {
    /// Its record of money.
    pub(crate) ledger: Ledger,
    /// Its readers.
    pub(crate) readers: Arc<Readers>,
    /// Its contact with the hub.
    pub(crate) contact: Arc<ContactBook>,
    /// Its conversations with the hub.
    pub(crate) sync: Arc<Sync>,
    /// How long a basket waits for a chip.
    pub(crate) chip_wait: Duration,
    /// What it may sell without contact.
    pub(crate) offline: OfflineRules,
    /// How many sales wait to be sent.
    pub(crate) unsent: UnsentSales,
    /// The disk under the ledger.
    pub(crate) disk: Arc<Disk>,
    /// Where decisions come back.
    pub(crate) events: mpsc::Sender<Event>,
}

/// The running till.
pub(crate) struct Till {
    parts: Parts,
    page: watch::Sender<Arc<PageState>>,
    started: Instant,
    boot: Uuid,
    checkout: Checkout,
    stays: HashMap<PresenceId, ReaderName>,
    active_reader: Option<ReaderName>,
    read_again_token: u64,
    programs: HashMap<SaleId, Program>,
    verdict: Option<(Verdict, Instant)>,
    chip: Option<ChipOnReader>,
    rows: Rows,
}

/// A program that waits for the ending of its sale.
struct Program {
    total: Money,
    reply: oneshot::Sender<Result<SellEnding, SellError>>,
}

impl Program {
    fn tell(self, ending: SellEnding) {
        // A program that no longer waits asks again with the same id.
        let _ = self.reply.send(Ok(ending));
    }
}

/// The id of a sale as the ledger writes it.
pub(crate) fn as_uuid(sale: SaleId) -> Uuid {
    Uuid::from_u128(sale.0)
}

/// The id of a sale as the checkout knows it.
pub(crate) fn as_sale(id: Uuid) -> SaleId {
    SaleId(id.as_u128())
}

impl Till {
    /// A till that has just been switched on, and what its page shows from then on.
    pub(crate) fn new(parts: Parts) -> (Till, watch::Receiver<Arc<PageState>>) {
        let (boot, checkout) = (Uuid::now_v7(), Checkout::default());
        let rows = Rows::read(&parts.ledger);
        let shown = Shown {
            boot,
            basket: checkout.basket(),
            phase: checkout.phase(),
            now: Moment(Duration::ZERO),
            verdict: None,
            chip: None,
            rows: &rows,
        };
        let (page, receiver) = watch::channel(Arc::new(page_state(&parts, &shown)));
        let till = Till {
            parts,
            page,
            started: Instant::now(),
            boot,
            checkout,
            stays: HashMap::new(),
            active_reader: None,
            read_again_token: 0,
            programs: HashMap::new(),
            verdict: None,
            chip: None,
            rows,
        };
        (till, receiver)
    }

    /// Handles events until nobody can send any more.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        self.show();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = tokio::time::sleep_until(self.next_deadline().into()) => self.handle_time(),
            }
            self.show();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Reader(event) => self.handle_reader(event),
            Event::Press(press, reply) => {
                let done = self.handle_press(press);
                // A page that no longer waits for the answer sees the state all the same.
                let _ = reply.send(done);
            }
            Event::Sell(sell) => self.handle_sell(sell),
            Event::GiveUp(sale) => self.handle_give_up(sale),
            Event::Decided(order, result) => self.handle_decided(order, result),
            Event::Voided(done) => self.handle_voided(done),
            Event::Changed => {}
        }
    }

    fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    fn moment(&self, at: Instant) -> Moment {
        Moment(at.saturating_duration_since(self.started))
    }

    // Readers.

    fn handle_reader(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Chip {
                reader,
                presence,
                identity,
                seen_at,
            } => {
                let presence = stay(presence);
                self.stays.insert(presence, reader.clone());
                self.active_reader = Some(reader);
                let seen = self.moment(seen_at);
                let action = self
                    .checkout
                    .handle_chip(presence, identity, seen, self.now());
                self.act(action);
            }
            ReaderEvent::ReadAgain {
                token,
                identity,
                seen_at,
                ..
            } => {
                if token == self.read_again_token {
                    let seen = self.moment(seen_at);
                    let action = self
                        .checkout
                        .handle_read_again(identity.ok(), seen, self.now());
                    self.act(action);
                }
            }
            ReaderEvent::Unreadable { reader, fault, .. } => {
                self.active_reader = Some(reader);
                if self.checkout.handle_unreadable().is_some() {
                    self.attend(&unreadable_attention(&fault));
                }
            }
            ReaderEvent::Left { presence, .. } => self.handle_left(stay(presence)),
            ReaderEvent::Faulty { reader, .. } | ReaderEvent::Removed { reader } => {
                let gone: Vec<PresenceId> = self
                    .stays
                    .iter()
                    .filter_map(|(stay, at)| (*at == reader).then_some(*stay))
                    .collect();
                gone.into_iter().for_each(|stay| self.handle_left(stay));
            }
            ReaderEvent::Ready { .. } => {}
        }
    }

    fn handle_left(&mut self, stay: PresenceId) {
        self.stays.remove(&stay);
        self.checkout.handle_left(stay);
        if self.checkout.chip_on_reader().is_none() {
            self.chip = None;
        }
    }

    fn reader_works(&self) -> Result<(), String> {
        let listings = self.parts.readers.list();
        if listings
            .iter()
            .any(|listing| listing.state == ReaderState::Ready)
        {
            return Ok(());
        }
        let faults = listings.iter().filter_map(|listing| match &listing.state {
            ReaderState::Faulty(fault) => Some(format!("{}: {fault}", listing.name)),
            ReaderState::Opening => Some(format!("{}: is being opened", listing.name)),
            ReaderState::Ready => None,
        });
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() {
            return Err("no reader is configured".into());
        }
        Err(faults.join("; "))
    }

    // The cashier and programs.

    fn handle_press(&mut self, press: Press) -> Result<(), PressError> {
        match press {
            Press::Product(id) => {
                let products = self.parts.ledger.products().unwrap_or_default();
                let product = products
                    .into_iter()
                    .find(|p| p.id == id)
                    .ok_or(PressError::UnknownProduct)?;
                let line = canteen::BasketLine::new(1, &product.name, product.price)
                    .map_err(|error| PressError::Checkout(error.into()))?;
                self.ring_up(line)
            }
            Press::Line(line) => self.ring_up(line),
            Press::LineRemoved(index) => self
                .checkout
                .handle_line_removed(index)
                .map_err(PressError::Checkout),
            Press::Clear => {
                self.verdict = None;
                self.checkout.handle_cleared().map_err(PressError::Checkout)
            }
            Press::Pay => {
                if self.checkout.phase() == Phase::Open {
                    self.reader_works().map_err(|_| PressError::NoReader)?;
                }
                let sale = as_sale(Uuid::now_v7());
                let wait = self.parts.chip_wait;
                let action = self.checkout.handle_pay(sale, wait, self.now());
                let action = action.map_err(PressError::Checkout)?;
                self.verdict = None;
                self.act(Some(action));
                Ok(())
            }
            Press::Cancel => {
                let action = self
                    .checkout
                    .handle_cancel()
                    .ok_or(PressError::NothingRunning)?;
                self.act(Some(action));
                Ok(())
            }
        }
    }

    fn ring_up(&mut self, line: canteen::BasketLine) -> Result<(), PressError> {
        self.checkout
            .handle_line(line)
            .map_err(PressError::Checkout)?;
        self.verdict = None;
        Ok(())
    }

    fn handle_sell(&mut self, sell: Sell) {
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

    fn handle_give_up(&mut self, sale: SaleId) {
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

    fn handle_time(&mut self) {
        let action = self.checkout.handle_time(self.now());
        self.act(action);
        if self
            .verdict
            .as_ref()
            .is_some_and(|(_, until)| Instant::now() >= *until)
        {
            self.verdict = None;
        }
    }

    // What follows.

    fn act(&mut self, action: Option<Action>) {
        let Some(action) = action else { return };
        match action {
            Action::ShowChip { identity } => {
                let view = self.view(identity);
                let holding = view.as_ref().and_then(Known::holding);
                let person = view.map(|known| known.person).unwrap_or_default();
                self.chip = Some(chip_words(holding.as_ref(), identity, person));
                self.verdict = None;
            }
            Action::AskForChip { lift_first } => {
                if lift_first {
                    self.attend(&Attention::LateTap);
                }
                self.signal_all(Signal::Waiting);
            }
            Action::ReadAgain { presence } => {
                self.read_again_token += 1;
                match self.stays.get(&presence) {
                    Some(reader) => {
                        self.parts.readers.read_again(reader, self.read_again_token);
                        self.active_reader = Some(reader.clone());
                    }
                    None => {
                        let action = self
                            .checkout
                            .handle_read_again(None, self.now(), self.now());
                        self.act(action);
                    }
                }
            }
            Action::Purchase(order) => self.purchase(order),
            Action::ShowUnreadable => self.attend(&Attention::HoldStill),
            Action::Finish { sale, ending } => self.finish(sale, ending),
        }
    }

    fn purchase(&mut self, order: PurchaseOrder) {
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

    fn handle_decided(&mut self, order: PurchaseOrder, result: Result<Recorded, LedgerError>) {
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

    fn finish(&mut self, sale: SaleId, ending: Ending) {
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

    fn handle_voided(&mut self, done: VoidDone) {
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

    fn contact(&self) -> Contact {
        let now = self.parts.contact.now(Timestamp::now());
        // Without any data every chip is unknown, whatever its age.
        now.contact.unwrap_or(Contact {
            online: false,
            age: Duration::ZERO,
        })
    }

    fn view(&self, identity: ChipIdentity) -> Option<Known> {
        let chip = identity.chip()?;
        match self.parts.ledger.chip(ChipNumber::Chip(chip)) {
            Ok(view) => view.map(|view| Known::of(&self.parts.ledger, view)),
            Err(error) => {
                warn!(%error, "Cannot look a chip up");
                None
            }
        }
    }

    fn attend(&mut self, attention: &Attention) {
        let id = Uuid::now_v7().to_string();
        self.tell(attention_words(id, attention, till_page::Person::default()));
    }

    fn tell(&mut self, verdict: Verdict) {
        self.verdict = Some((verdict, Instant::now() + VERDICT_SHOWN));
    }

    fn signal(&self, signal: Signal) {
        if let Some(reader) = &self.active_reader {
            self.parts.readers.signal(reader, signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        for listing in self.parts.readers.list() {
            self.parts.readers.signal(&listing.name, signal);
        }
    }

    fn next_deadline(&self) -> Instant {
        let checkout = self
            .checkout
            .poll_deadline()
            .map(|moment| self.started + moment.0);
        let verdict = self.verdict.as_ref().map(|(_, until)| *until);
        let next = [checkout, verdict].into_iter().flatten().min();
        next.unwrap_or_else(|| Instant::now() + QUIET)
    }

    fn show(&mut self) {
        self.rows.refresh(&self.parts.ledger);
        let shown = Shown {
            boot: self.boot,
            basket: self.checkout.basket(),
            phase: self.checkout.phase(),
            now: self.now(),
            verdict: self.verdict.as_ref().map(|(verdict, _)| verdict),
            chip: self.chip.as_ref(),
            rows: &self.rows,
        };
        let state = page_state(&self.parts, &shown);
        self.page.send_if_modified(|current| {
            let is_news = **current != state;
            if is_news {
                *current = Arc::new(state);
            }
            is_news
        });
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

fn stay(presence: Presence) -> PresenceId {
    PresenceId(presence.0)
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

fn unreadable_attention(fault: &ChipFault) -> Attention {
    match fault {
        ChipFault::Several => Attention::SeveralChips,
        ChipFault::Identity(_) | ChipFault::Unsupported { .. } | ChipFault::Technology => {
            Attention::UnusableChip
        }
        ChipFault::ReaderInUse => Attention::ReaderInUse,
        ChipFault::ReaderFaulty => Attention::ReaderFaulty,
        ChipFault::Absent | ChipFault::Mute | ChipFault::HoldStill => Attention::HoldStill,
        ChipFault::Typed(Typed::Keys) => Attention::TypedKeys,
        ChipFault::Typed(Typed::Shape { digits, setting }) => Attention::TypedShape {
            digits: *digits,
            setting,
        },
        ChipFault::Typed(Typed::Length { digits, wanted }) => Attention::TypedLength {
            digits: *digits,
            wanted,
        },
    }
}

const VERDICT_SHOWN: Duration = Duration::from_secs(8);
/// How often the page's clock-driven parts are looked at when nothing happens.
const QUIET: Duration = Duration::from_secs(5);
