//! Charges automatic top-ups: sends what the store has committed to send, and tells it the answers.
//!
//! The store decides everything; this part only carries orders to the gateway and answers back. It
//! can be stopped at any moment: what was under way is looked up when the program starts again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_ledger::{ChargeAnswer, ChargeOrder, DeclineKind, RefundAnswer, TopUpId, TopUpWork};
use hub_payments::{
    AttemptReference, Charge, Decline, GatewayError, Outcome, PaymentGateway, Refund,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::books::{Books, BooksError};

/// The top-up worker.
#[derive(Clone)]
pub struct Worker {
    books: Books,
    gateway: Arc<dyn PaymentGateway>,
    clock: Clock,
    /// The top-ups that a task is busy with, so that no two tasks take the same.
    busy: Arc<Mutex<BTreeSet<u128>>>,
}

/// Tells the time; tests set it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Worker {
    /// A worker on a store and a gateway.
    pub fn new(books: Books, gateway: Arc<dyn PaymentGateway>, clock: Clock) -> Worker {
        Worker {
            books,
            gateway,
            clock,
            busy: Arc::default(),
        }
    }

    /// Works until `stopping` turns true, then waits shortly for the charges under way.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut changes = self.books.changes();
        let mut tasks = JoinSet::new();
        self.take_up_interrupted(&mut tasks).await;
        while !*stopping.borrow() {
            changes.borrow_and_update();
            let idle = match self.start_due(&mut tasks).await {
                Ok(idle) => idle,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "Failed to look for top-ups"
                    );
                    IDLE_MAX
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = stopping.changed() => {}
                Some(_) = tasks.join_next() => {}
                () = tokio::time::sleep(idle) => {}
            }
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            info!("Left charges under way; they are looked up at the next start");
        }
    }

    /// Does everything that is due now and waits for it; for tests and for tools.
    pub async fn run_once(&self) -> Result<(), BooksError> {
        let mut tasks = JoinSet::new();
        self.start_due(&mut tasks).await?;
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Looks up what was under way when the program ended; for the start of the program.
    pub async fn recover(&self) {
        let mut tasks = JoinSet::new();
        self.take_up_interrupted(&mut tasks).await;
        while tasks.join_next().await.is_some() {}
    }

    async fn take_up_interrupted(&self, tasks: &mut JoinSet<()>) {
        match self.books.read(|books| books.interrupted_top_ups()).await {
            Ok(work) => work.into_iter().for_each(|work| self.start(work, tasks)),
            Err(error) => {
                error!(
                    error = &error as &dyn std::error::Error,
                    "Failed to find charges under way"
                );
            }
        }
    }

    /// Starts a task for everything due, and tells how long nothing more will be.
    async fn start_due(&self, tasks: &mut JoinSet<()>) -> Result<Duration, BooksError> {
        let now = (self.clock)();
        let room = u32::try_from(TASKS_MAX.saturating_sub(tasks.len())).unwrap_or(0);
        let next = self.books.read(|books| books.next_top_up_moment()).await?;
        let Some(next) = next else {
            return Ok(IDLE_MAX);
        };
        if next > now {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or(IDLE_MAX);
            return Ok(wait.min(IDLE_MAX));
        }
        self.books.write(move |books| books.end_waits(now)).await?;
        let work = self
            .books
            .read(move |books| books.due_top_ups(now, room))
            .await?;
        for work in work {
            self.start(work, tasks);
        }
        Ok(IDLE_MIN)
    }

    fn start(&self, work: TopUpWork, tasks: &mut JoinSet<()>) {
        let id = match &work {
            TopUpWork::Charge(id) | TopUpWork::Refund(id) => *id,
            TopUpWork::LookUp(order) => order.id,
        };
        let Some(busy) = Busy::take(&self.busy, id) else {
            return;
        };
        let worker = self.clone();
        tasks.spawn(async move {
            let done = match work {
                TopUpWork::Charge(id) => worker.charge(id).await,
                TopUpWork::LookUp(order) => worker.look_up(order).await,
                TopUpWork::Refund(id) => worker.refund(id).await,
            };
            if let Err(error) = done {
                error!(top_up = %id, error = &error as &dyn std::error::Error, "Failed a top-up step");
            }
            drop(busy);
        });
    }

    async fn charge(&self, id: TopUpId) -> Result<(), BooksError> {
        let Some(reference) = draw_reference() else {
            return Ok(());
        };
        let now = (self.clock)();
        let begun = self
            .books
            .write(move |books| books.begin_charge(id, reference.as_str(), now))
            .await?;
        // From here on the charge is on the disk, so whatever happens it is looked up.
        let Some(order) = begun else { return Ok(()) };
        let answer = match charge_of(&order) {
            Some(charge) => answer_of(self.gateway.charge(&charge).await.map(Some)),
            None => ChargeAnswer::Refused {
                detail: "the stored card agreement is not one of this gateway".to_owned(),
            },
        };
        info!(top_up = %id, amount = %order.amount, answer = answer.word(), "Charged a top-up");
        let now = (self.clock)();
        self.books
            .write(move |books| books.record_charge(&order, &answer, now))
            .await
    }

    async fn look_up(&self, order: ChargeOrder) -> Result<(), BooksError> {
        let answer = match charge_of(&order) {
            Some(charge) => answer_of(self.gateway.look_up(&charge).await),
            None => ChargeAnswer::Unknown,
        };
        info!(top_up = %order.id, answer = answer.word(), "Looked a top-up up");
        let now = (self.clock)();
        self.books
            .write(move |books| books.record_look_up(&order, &answer, now))
            .await
    }

    async fn refund(&self, id: TopUpId) -> Result<(), BooksError> {
        let Some(reference) = draw_reference() else {
            return Ok(());
        };
        let now = (self.clock)();
        let begun = self
            .books
            .write(move |books| books.begin_refund(id, reference.as_str(), now))
            .await?;
        let Some(order) = begun else { return Ok(()) };
        let refund = match (order.reference.parse(), order.transaction.parse()) {
            (Ok(reference), Ok(transaction)) => Some(Refund {
                reference,
                transaction,
                amount: order.amount,
            }),
            (Err(_), _) | (_, Err(_)) => None,
        };
        let answer = match refund {
            None => RefundAnswer::Declined {
                detail: "the charge's name is not one of this gateway".to_owned(),
            },
            Some(refund) => match self.gateway.refund(&refund).await {
                Ok(Outcome::Refunded { .. }) => RefundAnswer::Refunded,
                Ok(Outcome::Declined { text, .. }) => RefundAnswer::Declined { detail: text },
                Ok(Outcome::Pending | Outcome::Paid { .. }) => RefundAnswer::Again,
                Err(error) => {
                    warn!(top_up = %id, error = %error, "A refund has no answer yet");
                    RefundAnswer::Again
                }
            },
        };
        info!(top_up = %id, amount = %order.amount, "Refunded a top-up of a blocked account");
        let now = (self.clock)();
        self.books
            .write(move |books| books.record_refund(id, &answer, now))
            .await
    }
}

/// Marks a top-up as being worked on, as long as it lives.
struct Busy {
    all: Arc<Mutex<BTreeSet<u128>>>,
    id: u128,
}

impl Busy {
    fn take(all: &Arc<Mutex<BTreeSet<u128>>>, id: TopUpId) -> Option<Busy> {
        let id = id.0.as_u128();
        let free = all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
        free.then(|| Busy {
            all: Arc::clone(all),
            id,
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

fn draw_reference() -> Option<AttemptReference> {
    match AttemptReference::draw() {
        Ok(reference) => Some(reference),
        Err(error) => {
            error!(
                error = &error as &dyn std::error::Error,
                "Failed to name a charge"
            );
            None
        }
    }
}

fn charge_of(order: &ChargeOrder) -> Option<Charge> {
    Some(Charge {
        reference: order.reference.parse().ok()?,
        agreement: order.card.parse().ok()?,
        amount: order.amount,
    })
}

fn answer_of(result: Result<Option<Outcome>, GatewayError>) -> ChargeAnswer {
    match result {
        Ok(None) => ChargeAnswer::NotFound,
        Ok(Some(Outcome::Pending)) => ChargeAnswer::Pending,
        Ok(Some(Outcome::Paid {
            transaction,
            amount,
        })) => ChargeAnswer::Paid {
            transaction: transaction.to_string(),
            amount,
        },
        Ok(Some(Outcome::Declined {
            decline,
            code,
            text,
        })) => ChargeAnswer::Declined {
            kind: match decline {
                Decline::Hard | Decline::NeedsCardholder => DeclineKind::Hard,
                Decline::Soft => DeclineKind::Soft,
                Decline::Duplicate => DeclineKind::Duplicate,
            },
            code,
            text,
        },
        // Somebody has sent the money back at the gateway: nothing is to be booked here.
        Ok(Some(Outcome::Refunded { .. })) => ChargeAnswer::Declined {
            kind: DeclineKind::Soft,
            code: "refunded".to_owned(),
            text: "refunded at the gateway".to_owned(),
        },
        Err(GatewayError::NotSent { .. }) => ChargeAnswer::NotSent,
        Err(GatewayError::Invalid { reason, .. }) => ChargeAnswer::Refused { detail: reason },
        Err(GatewayError::Busy { retry_after }) => ChargeAnswer::Busy { retry_after },
        Err(GatewayError::Unknown { .. }) => ChargeAnswer::Unknown,
    }
}

/// Charges and look-ups under way at once.
const TASKS_MAX: usize = 32;
/// The longest between two looks at what is due.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The shortest, so that work that waits for a slow gateway is not looked at in a circle.
const IDLE_MIN: Duration = Duration::from_millis(200);
/// How long the end of the program waits for charges under way.
const STOP_WAIT: Duration = Duration::from_secs(5);
