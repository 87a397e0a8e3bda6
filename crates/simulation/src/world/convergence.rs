//! The same entries in another order give the same books (INV-10).
//!
//! At the end of a run a second hub begins where the first one began. It is told what people did
//! and paid, and then every batch that the first one has stored, in whatever order: its balances,
//! its statements and its flags must be the first one's.

use canteen::{AccountId, BusinessDay, Money};
use hub_ledger::{
    BookingId, BookingKind, BookingRow, Correction, Fingerprint, HubLedger, LedgerError, Reach,
    RequestKey,
};
use jiff::Timestamp;
use sync_proto::Batch;

use super::World;
use super::hub::Hub;
use super::tally::{Invariant, Tally, Violation, broken};
use crate::chance::Chance;

/// What follows from entries and from nothing else.
#[derive(Debug, PartialEq, Eq)]
struct Books {
    balances: Vec<(AccountId, i64)>,
    /// Sales and voids on statements.
    lines: Vec<String>,
    flags: Vec<String>,
}

impl World {
    /// Holds the hub's books against those of a hub that has heard everything in another order.
    pub(crate) fn check_convergence(&mut self) -> Result<(), Violation> {
        // An entry that came before its own time was booked before the hub could know what was
        // done until then.
        if self.reckoning.is_early {
            return Ok(());
        }
        self.tally.check(Invariant::Convergence);
        let second = self.second_hub()?;
        let (found, wanted) = (self.books(&second)?, self.books(&self.hub)?);
        if found == wanted {
            return Ok(());
        }
        let differ = |found: Vec<String>, wanted: Vec<String>| {
            let more = found.iter().filter(|line| !wanted.contains(line)).cloned();
            let less = wanted.iter().filter(|line| !found.contains(line)).cloned();
            (more.collect::<Vec<_>>(), less.collect::<Vec<_>>())
        };
        let what = format!(
            "in another order the balances are {:?}, not {:?}; lines more and less {:?}; flags {:?}",
            found.balances,
            wanted.balances,
            differ(found.lines, wanted.lines),
            differ(found.flags, wanted.flags),
        );
        Err(Violation::of(Invariant::Convergence, what))
    }

    fn second_hub(&self) -> Result<Hub, Violation> {
        let unmade = |error: std::io::Error| broken("making a second hub", &error);
        let dir = self._dir.path().join("second");
        std::fs::create_dir(&dir).map_err(unmade)?;
        self.first.put(&dir.join("hub-0")).map_err(unmade)?;
        let mut second = Hub::open(&dir)?;
        let moved = self.moved_by_people()?;
        let told = second.write(&mut Tally::new(), "telling a second hub", |ledger| {
            ledger.group(|ledger| self.tell_second(ledger, &moved))?
        })?;
        match told {
            Some(0) => Ok(second),
            Some(left) => {
                let what = format!("in another order {left} batches find no place");
                Err(Violation::of(Invariant::Convergence, what))
            }
            None => Err(Violation::of(Invariant::Works, "a second hub is cut")),
        }
    }

    /// Money that people and gateways have moved since the beginning.
    fn moved_by_people(&self) -> Result<Vec<(AccountId, BookingRow)>, Violation> {
        let mut moved = Vec::new();
        for account in &self.accounts {
            for row in self.statement(&self.hub, *account)? {
                let is_new = row.id.0 > self.first_bookings;
                if is_new && !matches!(row.kind, BookingKind::Sale | BookingKind::Void) {
                    moved.push((*account, row));
                }
            }
        }
        Ok(moved)
    }

    /// Gives how many batches had no place.
    fn tell_second(
        &self,
        ledger: &mut HubLedger,
        moved: &[(AccountId, BookingRow)],
    ) -> Result<usize, LedgerError> {
        for (account, row) in moved {
            move_money(ledger, *account, row.id, row.amount, row.happened_at)?;
        }
        for (at_ms, act) in &self.reckoning.acts {
            let at = Timestamp::from_millisecond(*at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
            match act.apply(ledger, at) {
                Ok(()) | Err(LedgerError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut batches: Vec<&Batch> = self.reckoning.taken.iter().map(|batch| &**batch).collect();
        let mut chance = Chance::of(self.drawn);
        for at in (1..batches.len()).rev() {
            batches.swap(at, chance.below(at + 1));
        }
        loop {
            let before = batches.len();
            let mut left = Vec::new();
            for batch in batches {
                if ledger.ingest_branch(batch, self.now())?.is_err() {
                    left.push(batch);
                }
            }
            if left.is_empty() || left.len() == before {
                return Ok(left.len());
            }
            batches = left;
        }
    }

    fn books(&self, hub: &Hub) -> Result<Books, Violation> {
        let mut books = Books {
            balances: Vec::new(),
            lines: Vec::new(),
            flags: Vec::new(),
        };
        for account in &self.accounts {
            let row = hub.read("reading an account", |ledger| ledger.account(*account))?;
            books.balances.push((*account, row.balance.ore()));
        }
        // Of two machines that take one sale back, whoever is heard first gives the money back.
        if self.reckoning.copies > 0 {
            return Ok(books);
        }
        let mut named = std::collections::BTreeMap::new();
        for account in &self.accounts {
            for row in self.statement(hub, *account)? {
                if matches!(row.kind, BookingKind::Sale | BookingKind::Void) {
                    let words = line(*account, &row);
                    named.insert(row.id.0, words.clone());
                    books.lines.push(words);
                }
            }
        }
        let flags = hub.read("listing flags", |ledger| {
            ledger.list_flags(Reach::Everything, None, i64::MAX, u32::MAX)
        })?;
        for flag in flags {
            if !OF_ENTRIES.contains(&flag.code.as_str()) {
                continue;
            }
            let on = flag.booking.and_then(|booking| named.get(&booking.0));
            books.flags.push(format!(
                "{} {:?} {:?} {:?} on {on:?}: {}",
                flag.code, flag.till, flag.seq, flag.account, flag.detail
            ));
        }
        books.lines.sort();
        books.flags.sort();
        Ok(books)
    }

    pub(crate) fn statement(
        &self,
        hub: &Hub,
        account: AccountId,
    ) -> Result<Vec<BookingRow>, Violation> {
        let days = BusinessDay::from_date(jiff::civil::Date::MIN)
            ..=BusinessDay::from_date(jiff::civil::Date::MAX);
        hub.read("reading a statement", |ledger| {
            ledger.statement(account, days)
        })
    }
}

fn line(account: AccountId, row: &BookingRow) -> String {
    format!(
        "{account} {} {} {} {:?} {}",
        row.kind.code(),
        row.happened_at,
        row.day,
        row.till,
        row.amount
    )
}

fn move_money(
    ledger: &mut HubLedger,
    account: AccountId,
    booking: BookingId,
    amount: Money,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let correction = Correction {
        amount,
        reason: "prøve".to_owned(),
        force: true,
    };
    let key = format!("moved by {}", booking.0);
    let key = RequestKey {
        fingerprint: Fingerprint::of(&key),
        key,
    };
    ledger.correct(account, &correction, &key, at).map(drop)
}

/// The flags that entries raise by what they say.
const OF_ENTRIES: [&str; 3] = ["overdrawn", "limit_exceeded_offline", "after_block"];
