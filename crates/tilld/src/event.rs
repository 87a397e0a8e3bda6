//! Everything that can happen to a till.

use canteen::{BasketLine, PurchaseOrder, SaleId};
use till_ledger::{LedgerError, Recorded};
use till_readers::ReaderEvent;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::sale::{SellEnding, VoidDone};

/// One thing that happened.
pub(crate) enum Event {
    /// A reader or a chip did something.
    Reader(ReaderEvent),
    /// The cashier pressed something.
    Press(Press, oneshot::Sender<Result<(), PressError>>),
    /// A program rings up a complete sale and waits for its ending.
    Sell(Sell),
    /// The program that rang up this sale no longer waits for it.
    GiveUp(SaleId),
    /// The ledger decided and recorded a purchase, or could not.
    Decided(PurchaseOrder, Result<Recorded, LedgerError>),
    /// A sale was taken back.
    Voided(VoidDone),
    /// Something that the page shows has changed: the ledger, the replica, the contact.
    Changed,
}

/// What a cashier can press.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Press {
    /// A product's button.
    Product(i64),
    /// A line typed by hand.
    Line(BasketLine),
    /// One piece less of a line.
    LineRemoved(usize),
    /// Empty the basket.
    Clear,
    /// Take payment.
    Pay,
    /// Stop waiting for a chip.
    Cancel,
}

/// Why a press does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PressError {
    /// There is no such product.
    UnknownProduct,
    /// The checkout refuses.
    Checkout(canteen::CheckoutError),
    /// There is nothing to cancel.
    NothingRunning,
    /// No reader works, so nobody could pay.
    NoReader,
}

/// A complete sale rung up by a program.
pub(crate) struct Sell {
    /// Names it for ever.
    pub(crate) id: Uuid,
    /// What is bought.
    pub(crate) lines: Vec<BasketLine>,
    /// How long to wait for a chip.
    pub(crate) wait: std::time::Duration,
    /// Where the ending goes.
    pub(crate) reply: oneshot::Sender<Result<SellEnding, SellError>>,
}

/// Why a sale cannot be rung up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SellError {
    /// The checkout refuses.
    Checkout(canteen::CheckoutError),
    /// No chip came in time and no reader works; what each says.
    NoReader(String),
}
