//! The checkout: from a basket and a chip, in either order, to one purchase.
//!
//! Everything that happens comes in by `handle_…` with the moment it happened; what to do comes
//! back as an [`Action`]. Calls that do not fit the phase are harmless.

use std::time::Duration;

use thiserror::Error;

use crate::basket::{Basket, BasketError, BasketLine};
use crate::money::PurchaseAmount;
use crate::proof::ChipIdentity;

/// A moment on the monotonic clock: time since the program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    fn plus(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(wait))
    }

    fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names a sale for ever, from before it is decided (a UUID as a number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SaleId(pub u128);

/// One stay of one chip on a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PresenceId(pub u64);

/// Who rings up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The cashier at the page. A chip that lies on the reader pays once; it must be lifted and
    /// tapped again to pay for the next basket, which may be another customer's.
    Cashier,
    /// A program at the control socket, which rings up one complete sale; a chip that lies on
    /// the reader pays for it.
    Control,
}

/// What the till must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Show who the chip on the reader belongs to; nothing is rung up for it yet.
    ShowChip {
        /// The chip.
        identity: ChipIdentity,
    },
    /// Ask for a chip.
    AskForChip {
        /// A chip lies on the reader that has paid already: it must be lifted first.
        lift_first: bool,
    },
    /// Read the chip on the reader again, since identity counts at the moment of booking.
    ReadAgain {
        /// Which stay on which reader.
        presence: PresenceId,
    },
    /// Decide and record this purchase.
    Purchase(PurchaseOrder),
    /// Tell that what was tapped cannot be read, and go on waiting.
    ShowUnreadable,
    /// The sale ended without a purchase.
    Finish {
        /// Which sale.
        sale: SaleId,
        /// Why.
        ending: Ending,
    },
}

/// A purchase ready to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchaseOrder {
    /// Names the sale.
    pub sale: SaleId,
    /// Who pays.
    pub identity: ChipIdentity,
    /// What is bought.
    pub lines: Vec<BasketLine>,
    /// What it costs.
    pub amount: PurchaseAmount,
}

/// How a sale ends without a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No chip came in time.
    TimedOut,
    /// What came in time could not be read.
    Unreadable,
    /// The cashier or the program gave up.
    Cancelled,
}

impl Ending {
    /// The stable code, as in `tillctl`.
    pub fn code(self) -> &'static str {
        match self {
            Ending::TimedOut => "timed_out",
            Ending::Unreadable => "chip_unreadable",
            Ending::Cancelled => "cancelled",
        }
    }
}

/// Why a basket cannot be paid now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckoutError {
    /// Another sale waits for its chip or its decision.
    #[error("another sale is in progress; finish or cancel it first")]
    Busy,
    /// The cashier has lines in the basket.
    #[error("the cashier's basket is not empty; clear it first")]
    BasketInUse,
    /// The basket cannot be paid.
    #[error(transparent)]
    Basket(#[from] BasketError),
}

/// Where the checkout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Lines are rung up.
    Open,
    /// A basket waits for a chip.
    Waiting {
        /// The sale.
        sale: SaleId,
        /// Since when.
        since: Moment,
        /// Until when.
        until: Moment,
        /// Something that cannot be read was tapped.
        unreadable: bool,
    },
    /// The chip on the reader is read again.
    Confirming {
        /// The sale.
        sale: SaleId,
        /// Since when the sale waits.
        since: Moment,
        /// Until when a chip may come.
        until: Moment,
        /// Until when the reader may answer.
        answer_by: Moment,
    },
    /// The purchase is being decided and recorded.
    Deciding {
        /// The sale.
        sale: SaleId,
    },
}

/// The checkout of one till.
#[derive(Debug)]
pub struct Checkout {
    basket: Basket,
    phase: Phase,
    origin: Origin,
    on_reader: Option<OnReader>,
}

#[derive(Debug, Clone, Copy)]
struct OnReader {
    presence: PresenceId,
    identity: ChipIdentity,
    has_paid: bool,
}

impl Default for Checkout {
    fn default() -> Checkout {
        Checkout {
            basket: Basket::default(),
            phase: Phase::Open,
            origin: Origin::Cashier,
            on_reader: None,
        }
    }
}

impl Checkout {
    /// What has been rung up.
    pub fn basket(&self) -> &Basket {
        &self.basket
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The chip on the reader, if one lies there.
    pub fn chip_on_reader(&self) -> Option<ChipIdentity> {
        self.on_reader.map(|on_reader| on_reader.identity)
    }

    /// Rings up a line.
    pub fn handle_line(&mut self, line: BasketLine) -> Result<(), CheckoutError> {
        self.only_when_open()?;
        Ok(self.basket.add(line)?)
    }

    /// Takes one piece off a line.
    pub fn handle_line_removed(&mut self, index: usize) -> Result<(), CheckoutError> {
        self.only_when_open()?;
        Ok(self.basket.remove_one(index)?)
    }

    /// Empties the basket.
    pub fn handle_cleared(&mut self) -> Result<(), CheckoutError> {
        self.only_when_open()?;
        self.basket = Basket::default();
        Ok(())
    }

    /// The cashier wants the basket paid.
    pub fn handle_pay(
        &mut self,
        sale: SaleId,
        wait: Duration,
        now: Moment,
    ) -> Result<Action, CheckoutError> {
        self.only_when_open()?;
        self.basket.total()?;
        Ok(self.begin(Origin::Cashier, sale, wait, now))
    }

    /// A program rings up a complete sale.
    pub fn handle_sell(
        &mut self,
        sale: SaleId,
        lines: Vec<BasketLine>,
        wait: Duration,
        now: Moment,
    ) -> Result<Action, CheckoutError> {
        self.only_when_open()?;
        if !self.basket.is_empty() {
            return Err(CheckoutError::BasketInUse);
        }
        let mut basket = Basket::default();
        lines.into_iter().try_for_each(|line| basket.add(line))?;
        basket.total()?;
        self.basket = basket;
        Ok(self.begin(Origin::Control, sale, wait, now))
    }

    /// A chip was read: one call per stay on a reader.
    pub fn handle_chip(
        &mut self,
        presence: PresenceId,
        identity: ChipIdentity,
        seen: Moment,
        now: Moment,
    ) -> Option<Action> {
        self.on_reader = Some(OnReader {
            presence,
            identity,
            has_paid: false,
        });
        match self.phase {
            Phase::Open => Some(Action::ShowChip { identity }),
            // It was read for whoever stood there before: somebody else's chip may lie there by now.
            Phase::Waiting {
                sale, since, until, ..
            } if seen < since && now.since(seen) <= TAP_FRESH => {
                Some(self.confirm(sale, since, until, presence, now))
            }
            Phase::Waiting { sale, .. } => self.pay_with(sale, identity, seen, now),
            Phase::Confirming { .. } | Phase::Deciding { .. } => None,
        }
    }

    /// The reader answered to [`Action::ReadAgain`]; `None` when no chip could be read.
    pub fn handle_read_again(
        &mut self,
        identity: Option<ChipIdentity>,
        seen: Moment,
        now: Moment,
    ) -> Option<Action> {
        let Phase::Confirming {
            sale, since, until, ..
        } = self.phase
        else {
            return None;
        };
        let Some(identity) = identity else {
            self.on_reader = None;
            return Some(self.ask_for_chip(sale, since, until));
        };
        if let Some(on_reader) = &mut self.on_reader {
            on_reader.identity = identity;
        }
        self.pay_with(sale, identity, seen, now)
            .or_else(|| Some(self.ask_for_chip(sale, since, until)))
    }

    /// Something was tapped that cannot be read.
    pub fn handle_unreadable(&mut self) -> Option<Action> {
        match &mut self.phase {
            Phase::Waiting { unreadable, .. } => {
                *unreadable = true;
                Some(Action::ShowUnreadable)
            }
            Phase::Open => Some(Action::ShowUnreadable),
            Phase::Confirming { .. } | Phase::Deciding { .. } => None,
        }
    }

    /// The chip left the reader, or the reader is gone.
    pub fn handle_left(&mut self, presence: PresenceId) {
        if self
            .on_reader
            .is_some_and(|on_reader| on_reader.presence == presence)
        {
            self.on_reader = None;
        }
    }

    /// The purchase was decided and, when it is an entry, recorded. An approved basket is done;
    /// a declined one stays with the cashier, who may take something out of it.
    pub fn handle_decided(&mut self, decided: SaleId, approved: bool) {
        let Phase::Deciding { sale } = self.phase else {
            return;
        };
        if sale != decided {
            return;
        }
        self.phase = Phase::Open;
        if approved || self.origin == Origin::Control {
            self.basket = Basket::default();
        }
        if approved && let Some(on_reader) = &mut self.on_reader {
            on_reader.has_paid = true;
        }
    }

    /// The cashier or the program gives up; too late once the purchase is being decided.
    pub fn handle_cancel(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Waiting { sale, .. } | Phase::Confirming { sale, .. } => {
                Some(self.finish(sale, Ending::Cancelled))
            }
            Phase::Open | Phase::Deciding { .. } => None,
        }
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Moment) -> Option<Action> {
        match self.phase {
            Phase::Waiting {
                sale,
                until,
                unreadable,
                ..
            } if now >= until => {
                let ending = if unreadable {
                    Ending::Unreadable
                } else {
                    Ending::TimedOut
                };
                Some(self.finish(sale, ending))
            }
            Phase::Confirming {
                sale,
                since,
                until,
                answer_by,
            } if now >= answer_by => {
                // It may still lie there, and is told again only when it is laid again.
                let asked = self.ask_for_chip(sale, since, until);
                self.on_reader = None;
                Some(asked)
            }
            Phase::Open
            | Phase::Waiting { .. }
            | Phase::Confirming { .. }
            | Phase::Deciding { .. } => None,
        }
    }

    /// When [`Checkout::handle_time`] has something to do, if ever.
    pub fn poll_deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until, .. } => Some(until),
            Phase::Confirming { answer_by, .. } => Some(answer_by),
            Phase::Open | Phase::Deciding { .. } => None,
        }
    }

    fn only_when_open(&self) -> Result<(), CheckoutError> {
        if self.phase == Phase::Open {
            Ok(())
        } else {
            Err(CheckoutError::Busy)
        }
    }

    fn begin(&mut self, origin: Origin, sale: SaleId, wait: Duration, now: Moment) -> Action {
        self.origin = origin;
        let until = now.plus(wait);
        match self.on_reader {
            Some(on_reader) if !on_reader.has_paid || origin == Origin::Control => {
                self.confirm(sale, now, until, on_reader.presence, now)
            }
            Some(_) | None => self.ask_for_chip(sale, now, until),
        }
    }

    fn confirm(
        &mut self,
        sale: SaleId,
        since: Moment,
        until: Moment,
        presence: PresenceId,
        now: Moment,
    ) -> Action {
        self.phase = Phase::Confirming {
            sale,
            since,
            until,
            answer_by: now.plus(READ_AGAIN_WAIT),
        };
        Action::ReadAgain { presence }
    }

    fn ask_for_chip(&mut self, sale: SaleId, since: Moment, until: Moment) -> Action {
        self.phase = Phase::Waiting {
            sale,
            since,
            until,
            unreadable: false,
        };
        Action::AskForChip {
            lift_first: self.on_reader.is_some(),
        }
    }

    fn pay_with(
        &mut self,
        sale: SaleId,
        identity: ChipIdentity,
        seen: Moment,
        now: Moment,
    ) -> Option<Action> {
        // An old tap belongs to someone who may have left; it never pays the next meal.
        if now.since(seen) > TAP_FRESH {
            return None;
        }
        let amount = self.basket.total().ok()?;
        self.phase = Phase::Deciding { sale };
        let lines = self.basket.lines().to_vec();
        Some(Action::Purchase(PurchaseOrder {
            sale,
            identity,
            lines,
            amount,
        }))
    }

    fn finish(&mut self, sale: SaleId, ending: Ending) -> Action {
        self.phase = Phase::Open;
        if self.origin == Origin::Control {
            self.basket = Basket::default();
        }
        Action::Finish { sale, ending }
    }
}

const TAP_FRESH: Duration = Duration::from_secs(1);
const READ_AGAIN_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::ChipId;

    const WAIT: Duration = Duration::from_secs(30);

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    fn chip(last: u8) -> ChipIdentity {
        ChipIdentity::Bare(ChipId::from_uid(&[0x72, 0xBF, 0x99, last]).unwrap())
    }

    fn lunch() -> BasketLine {
        "1x Dagens ret 22,00".parse().unwrap()
    }

    fn rung_up() -> Checkout {
        let mut checkout = Checkout::default();
        checkout.handle_line(lunch()).unwrap();
        checkout
    }

    #[track_caller]
    fn pays(action: Option<Action>, with: ChipIdentity) {
        match action {
            Some(Action::Purchase(order)) => assert_eq!(order.identity, with),
            other => panic!("expected a purchase, got {other:?}"),
        }
    }

    #[test]
    fn basket_first_then_chip() {
        let mut checkout = rung_up();
        let asked = checkout.handle_pay(SaleId(1), WAIT, at(0));
        assert_eq!(asked, Ok(Action::AskForChip { lift_first: false }));
        pays(
            checkout.handle_chip(PresenceId(1), chip(1), at(500), at(510)),
            chip(1),
        );
        checkout.handle_decided(SaleId(1), true);
        assert!(checkout.basket().is_empty());
        assert_eq!(checkout.phase(), Phase::Open);
    }

    #[test]
    fn chip_first_is_read_again_when_the_basket_is_paid() {
        let mut checkout = Checkout::default();
        let shown = checkout.handle_chip(PresenceId(1), chip(1), at(0), at(0));
        assert_eq!(shown, Some(Action::ShowChip { identity: chip(1) }));
        checkout.handle_line(lunch()).unwrap();
        let asked = checkout.handle_pay(SaleId(1), WAIT, at(9000));
        assert_eq!(
            asked,
            Ok(Action::ReadAgain {
                presence: PresenceId(1)
            })
        );
        // Another chip lies there by now: it is the one that pays.
        pays(
            checkout.handle_read_again(Some(chip(2)), at(9010), at(9020)),
            chip(2),
        );
    }

    #[test]
    fn a_chip_that_left_before_it_was_read_again_does_not_pay() {
        let mut checkout = rung_up();
        checkout.handle_chip(PresenceId(1), chip(1), at(0), at(0));
        checkout.handle_pay(SaleId(1), WAIT, at(100)).unwrap();
        let action = checkout.handle_read_again(None, at(120), at(120));
        assert_eq!(action, Some(Action::AskForChip { lift_first: false }));
        pays(
            checkout.handle_chip(PresenceId(2), chip(1), at(900), at(900)),
            chip(1),
        );
    }

    #[test]
    fn a_reader_that_does_not_answer_is_not_waited_for_long() {
        let mut checkout = rung_up();
        checkout.handle_chip(PresenceId(1), chip(1), at(0), at(0));
        checkout.handle_pay(SaleId(1), WAIT, at(0)).unwrap();
        assert_eq!(checkout.poll_deadline(), Some(at(2000)));
        assert_eq!(checkout.handle_time(at(1999)), None);
        assert_eq!(
            checkout.handle_time(at(2000)),
            Some(Action::AskForChip { lift_first: true })
        );
    }

    #[test]
    fn a_tap_older_than_a_second_never_pays() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(5000)).unwrap();
        assert_eq!(
            checkout.handle_chip(PresenceId(1), chip(1), at(3999), at(5000)),
            None
        );
        assert!(matches!(checkout.phase(), Phase::Waiting { .. }));
        pays(
            checkout.handle_chip(PresenceId(2), chip(2), at(5000), at(6000)),
            chip(2),
        );
    }

    #[test]
    fn a_chip_that_was_seen_before_the_sale_began_is_read_again() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(5000)).unwrap();
        // What was read is told late: the next customer's chip may have taken its place.
        assert_eq!(
            checkout.handle_chip(PresenceId(1), chip(1), at(4990), at(5001)),
            Some(Action::ReadAgain {
                presence: PresenceId(1)
            })
        );
        pays(
            checkout.handle_read_again(Some(chip(2)), at(5003), at(5004)),
            chip(2),
        );
    }

    #[test]
    fn a_chip_that_was_seen_before_the_sale_and_has_left_does_not_pay() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(5000)).unwrap();
        checkout.handle_chip(PresenceId(1), chip(1), at(4990), at(5001));
        checkout.handle_left(PresenceId(1));
        let action = checkout.handle_read_again(None, at(5003), at(5003));
        assert_eq!(action, Some(Action::AskForChip { lift_first: false }));
        pays(
            checkout.handle_chip(PresenceId(2), chip(2), at(5010), at(5012)),
            chip(2),
        );
    }

    #[test]
    fn a_chip_left_on_the_reader_does_not_pay_the_next_customers_basket() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(0)).unwrap();
        checkout.handle_chip(PresenceId(1), chip(1), at(1), at(1));
        checkout.handle_decided(SaleId(1), true);
        checkout.handle_line(lunch()).unwrap();
        let asked = checkout.handle_pay(SaleId(2), WAIT, at(100));
        assert_eq!(asked, Ok(Action::AskForChip { lift_first: true }));
        checkout.handle_left(PresenceId(1));
        pays(
            checkout.handle_chip(PresenceId(2), chip(2), at(200), at(200)),
            chip(2),
        );
    }

    #[test]
    fn a_program_may_sell_again_to_the_chip_on_the_reader() {
        let mut checkout = Checkout::default();
        checkout.handle_chip(PresenceId(1), chip(1), at(0), at(0));
        for sale in [SaleId(1), SaleId(2)] {
            let asked = checkout.handle_sell(sale, vec![lunch()], WAIT, at(10));
            assert_eq!(
                asked,
                Ok(Action::ReadAgain {
                    presence: PresenceId(1)
                })
            );
            pays(
                checkout.handle_read_again(Some(chip(1)), at(20), at(20)),
                chip(1),
            );
            checkout.handle_decided(sale, true);
        }
    }

    #[test]
    fn a_declined_basket_stays_with_the_cashier_but_not_with_a_program() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(0)).unwrap();
        checkout.handle_chip(PresenceId(1), chip(1), at(1), at(1));
        checkout.handle_decided(SaleId(1), false);
        assert_eq!(checkout.basket().lines().len(), 1);
        assert_eq!(
            checkout.handle_sell(SaleId(2), vec![lunch()], WAIT, at(5)),
            Err(CheckoutError::BasketInUse)
        );
        checkout.handle_cleared().unwrap();
        checkout.handle_left(PresenceId(1));
        checkout
            .handle_sell(SaleId(3), vec![lunch()], WAIT, at(5))
            .unwrap();
        checkout.handle_chip(PresenceId(2), chip(1), at(6), at(6));
        checkout.handle_decided(SaleId(3), false);
        assert!(checkout.basket().is_empty());
    }

    #[test]
    fn waiting_ends_by_time_by_cancelling_or_by_unreadable_taps() {
        let mut checkout = rung_up();
        checkout.handle_pay(SaleId(1), WAIT, at(0)).unwrap();
        assert_eq!(checkout.handle_time(at(29_999)), None);
        let ended = |sale, ending| {
            Some(Action::Finish {
                sale: SaleId(sale),
                ending,
            })
        };
        assert_eq!(checkout.handle_time(at(30_000)), ended(1, Ending::TimedOut));
        checkout.handle_pay(SaleId(2), WAIT, at(0)).unwrap();
        assert_eq!(checkout.handle_unreadable(), Some(Action::ShowUnreadable));
        assert_eq!(
            checkout.handle_time(at(30_000)),
            ended(2, Ending::Unreadable)
        );
        checkout.handle_pay(SaleId(3), WAIT, at(0)).unwrap();
        assert_eq!(checkout.handle_cancel(), ended(3, Ending::Cancelled));
        assert_eq!(checkout.basket().lines().len(), 1);
        assert_eq!(checkout.handle_cancel(), None);
    }

    #[test]
    fn nothing_can_be_changed_while_a_sale_is_in_progress() {
        let mut checkout = rung_up();
        assert_eq!(
            checkout.handle_pay(SaleId(1), WAIT, at(0)).map(|_| ()),
            Ok(())
        );
        assert_eq!(checkout.handle_line(lunch()), Err(CheckoutError::Busy));
        assert_eq!(checkout.handle_line_removed(0), Err(CheckoutError::Busy));
        assert_eq!(checkout.handle_cleared(), Err(CheckoutError::Busy));
        assert_eq!(
            checkout.handle_pay(SaleId(2), WAIT, at(0)),
            Err(CheckoutError::Busy)
        );
        checkout.handle_chip(PresenceId(1), chip(1), at(1), at(1));
        assert_eq!(checkout.handle_cancel(), None, "too late");
        assert_eq!(
            checkout.handle_chip(PresenceId(2), chip(2), at(2), at(2)),
            None
        );
        checkout.handle_decided(SaleId(9), true);
        assert_eq!(checkout.phase(), Phase::Deciding { sale: SaleId(1) });
    }

    #[test]
    fn an_empty_basket_cannot_be_paid() {
        let mut checkout = Checkout::default();
        assert_eq!(
            checkout.handle_pay(SaleId(1), WAIT, at(0)),
            Err(CheckoutError::Basket(BasketError::Empty))
        );
    }
}
