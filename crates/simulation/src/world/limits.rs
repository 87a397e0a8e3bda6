//! INV-5: how far limits of a day, a week and a month can be passed.

use std::collections::BTreeSet;

use canteen::{AccountId, BusinessDay, LimitMode};
use rusqlite::Connection;
use sync_proto::FeedPosition;

use super::World;
use super::sheet::What;
use super::tally::{Invariant, Violation, broken};
use super::window::Window;

impl World {
    /// INV-5, after every sale.
    pub(crate) fn check_limits(&mut self, account: AccountId, at: usize) -> Result<(), Violation> {
        let Some(day) = self.tills[at].last_day() else {
            return Ok(());
        };
        for window in Window::ALL {
            self.check_lenient(account, window, day)?;
            self.check_strict(account, window, day)?;
        }
        Ok(())
    }

    /// A till keeps a limit by what it knows, so a window is passed at most once by each till that
    /// sold in it.
    ///
    /// What the operator bears counts for nothing. Nothing is said about a window in which a till had
    /// not heard of a limit, or whose clock ran ahead of it.
    fn check_lenient(
        &mut self,
        account: AccountId,
        window: Window,
        day: BusinessDay,
    ) -> Result<(), Violation> {
        let mut sold = 0;
        let mut most = Some(0_i64);
        let mut seen = BTreeSet::new();
        for till in &self.tills {
            let mut known = Some(0);
            let own = till.sheet.own.iter();
            let own = own.filter(|own| seen.insert(own.id) && !self.reckoning.is_borne(own));
            for own in own.filter(|own| window.compare(own.day, day).is_eq()) {
                sold += own.what.taken_from(account);
                match own.what {
                    What::Sale { account: of, .. } if of == account => {
                        let limit = own.known.limits[window as usize];
                        let limit = limit.filter(|_| !own.is_ahead);
                        known = known.zip(limit).map(|(one, other)| one.max(other));
                    }
                    What::Sale { .. } | What::Void { .. } | What::Nothing => {}
                }
            }
            most = most.zip(known).map(|(sum, more)| sum.saturating_add(more));
        }
        let Some(most) = most else { return Ok(()) };
        self.tally.check(Invariant::Limits);
        if sold > most {
            let window = window.words();
            let what = format!(
                "account {account} bought for {sold} øre in one {window}, all tills together know \
                 limits of {most}"
            );
            return Err(Violation::of(Invariant::Limits, what));
        }
        Ok(())
    }

    /// As soon as a till has sold by a share that the hub issued since the limit is strict,
    /// all that was sold in the window, by whomever, is within that limit; a limit that was lowered
    /// counts when a till sells by it. A copied disk may sell its share once more.
    fn check_strict(
        &mut self,
        account: AccountId,
        window: Window,
        day: BusinessDay,
    ) -> Result<(), Violation> {
        let Some(since) = self.reckoning.strict_since.get(&(account, window)) else {
            return Ok(());
        };
        let own = self.tills.iter().flat_map(|till| &till.sheet.own);
        let own = own.filter(|own| window.compare(own.day, day).is_eq());
        let sales = own.filter(|own| own.what.taken_from(account) > 0);
        let by_share = sales.filter(|own| {
            let told = own.known.shares_told;
            told.is_some_and(|told| {
                told.hub_epoch == since.hub_epoch && told.cursor >= since.cursor
            })
        });
        let known = by_share.filter_map(|own| own.known.limits[window as usize]);
        let Some(limit) = known.max() else {
            return Ok(());
        };
        let unbooked = self.unbooked();
        let unbooked = unbooked.filter(|own| window.compare(own.day, day).is_eq());
        let unbooked: i64 = unbooked.map(|own| own.what.taken_from(account)).sum();
        let sold = self.reckoning.booked_in(account, window, day) + unbooked;
        let copies = self.allowed_to_copies(account);
        self.tally.check(Invariant::StrictLimits);
        if sold > limit + copies {
            let window = window.words();
            let what = format!(
                "account {account} bought for {sold} øre in one {window}, its strict limit is {limit}"
            );
            return Err(Violation::of(Invariant::StrictLimits, what));
        }
        Ok(())
    }

    /// Where the hub is.
    pub(crate) fn hub_position(&self) -> Result<FeedPosition, Violation> {
        let read = || {
            let db = Connection::open(self.hub.path())?;
            db.query_row("SELECT hub_epoch, rv FROM hub", [], |row| {
                Ok(FeedPosition {
                    hub_epoch: row.get::<_, i64>(0)?.cast_unsigned(),
                    cursor: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })
        };
        read().map_err(|error| broken("reading the hub's position", &error))
    }

    /// Takes down which limits are strict in a new life of the hub: shares of another one count for
    /// nothing in it.
    pub(crate) fn begin_strict_limits(&mut self) -> Result<(), Violation> {
        self.reckoning.strict_since.clear();
        let position = self.hub_position()?;
        self.note_strict_limits(FeedPosition {
            cursor: 0,
            ..position
        })
    }

    /// Takes down which limits are strict. `before` is where the hub was when none of them had
    /// changed yet.
    pub(crate) fn note_strict_limits(&mut self, before: FeedPosition) -> Result<(), Violation> {
        let since = FeedPosition {
            cursor: before.cursor + 1,
            ..before
        };
        for account in self.accounts.clone() {
            let row = self
                .hub
                .read("reading an account", |ledger| ledger.account(account))?;
            for window in Window::ALL {
                let known = &mut self.reckoning.strict_since;
                if row.limits.mode == LimitMode::Strict && window.limit(&row.limits).is_some() {
                    known.entry((account, window)).or_insert(since);
                } else {
                    known.remove(&(account, window));
                }
            }
        }
        Ok(())
    }
}
