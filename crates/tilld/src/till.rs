//! The till itself: one task to which everything happens, one event after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use canteen::{
    Action, Checkout, ChipIdentity, ChipNumber, Contact, Moment, OfflineRules, Phase, PresenceId,
    SaleId,
};
use jiff::Timestamp;
use till_ledger::Ledger;
use till_page::{Attention, ChipOnReader, PageState, Verdict, attention_words, chip_words};
use till_readers::{ReaderName, Readers, Signal};
use tokio::sync::{mpsc, watch};
use tracing::warn;
use uuid::Uuid;

use crate::contact::ContactBook;
use crate::disk::Disk;
use crate::event::{Event, Press, PressError};
use crate::page_state::{Rows, Shown, page_state};
use crate::sale::Known;
use crate::sync::Sync;
use crate::unsent::UnsentSales;

mod purchase;
mod reader;

use self::purchase::Program;

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

const VERDICT_SHOWN: Duration = Duration::from_secs(8);
/// How often the page's clock-driven parts are looked at when nothing happens.
const QUIET: Duration = Duration::from_secs(5);
