//! How many sales the hub does not have yet.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use sync_proto::EntryBody;
use till_ledger::{EntryRange, Ledger, LedgerError};

/// Counts unsent sales without reading the same entry twice.
#[derive(Default)]
pub(crate) struct UnsentSales {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Numbers of sales after `acked`, up to `looked_through`.
    sales: VecDeque<u64>,
    acked: u64,
    looked_through: u64,
}

impl UnsentSales {
    /// The number now. When the ledger cannot be read it is the last one known.
    pub(crate) fn count(&self, ledger: &Ledger) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = known.follow(ledger) {
            tracing::warn!(%error, "Cannot count the sales that wait");
        }
        known.sales.len() as u64
    }
}

impl Known {
    fn follow(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let acked = ledger.progress().acked;
        if acked < self.acked {
            // The hub asked for entries again.
            *self = Known::default();
        }
        self.acked = acked;
        self.looked_through = self.looked_through.max(acked);
        while self.sales.front().is_some_and(|seq| *seq <= acked) {
            self.sales.pop_front();
        }
        loop {
            let part = ledger.entries(EntryRange::After(self.looked_through), PART)?;
            let Some(last) = part.last() else {
                return Ok(());
            };
            self.looked_through = last.seq;
            let sales = part
                .iter()
                .filter(|entry| matches!(entry.read(), Ok((_, EntryBody::Sale(_)))));
            self.sales.extend(sales.map(|entry| entry.seq));
        }
    }
}

const PART: usize = 500;
