//! What is waited for before a test goes on.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Host;
use super::{KNOWN, Site};

impl Site {
    /// The till has enrolled, knows the accounts and has its readers.
    pub(crate) fn wait_until_open(&self) {
        self.wait_for_line("online");
        eventually("the accounts to arrive", || {
            let known = |chip: &&str| !self.ask(&["chip", "show", chip]).json["chip"].is_null();
            KNOWN.iter().all(known).then_some(())
        });
        self.wait_for_readers(true);
    }

    /// Waits until the page shows something.
    pub(crate) fn wait_for_shown(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || Some(self.shown()).filter(&is_so))
    }

    /// Waits until the till says that it stands so.
    pub(crate) fn wait_for_standing(&self, state: &str) {
        eventually(&format!("the till to stand {state}"), || {
            (self.try_status()?["standing"]["state"] == state).then_some(())
        });
    }

    /// Waits until the line to the hub is in a state.
    pub(crate) fn wait_for_line(&self, state: &str) {
        eventually(&format!("the line to be {state}"), || {
            (self.status()["line"]["state"] == state).then_some(())
        });
    }

    /// Waits until all readers work, or none does.
    pub(crate) fn wait_for_readers(&self, ok: bool) -> Value {
        eventually(&format!("all readers to be ok: {ok}"), || {
            let list = self.ask(&["reader", "list"]).json;
            let readers = list["readers"].as_array().unwrap();
            let are_so = !readers.is_empty() && readers.iter().all(|reader| reader["ok"] == ok);
            are_so.then_some(list)
        })
    }

    /// Waits until the hub has all entries.
    pub(crate) fn wait_until_sent(&self) {
        eventually("everything to be sent", || {
            (self.status()["waiting"] == 0).then_some(())
        });
    }

    /// Waits until the balance of a chip is this at till and hub.
    pub(crate) fn wait_for_balance(&self, chip: &str, balance: i64) {
        eventually(&format!("{balance} øre of {chip} at till and hub"), || {
            (self.balance(chip) == balance && self.hub_balance(chip) == balance).then_some(())
        });
    }

    /// Waits until till and hub have all entries and the same balances, and everything verifies.
    pub(crate) fn wait_until_agreed(&self) {
        self.wait_until_sent();
        for chip in KNOWN {
            eventually(&format!("till and hub to agree on {chip}"), || {
                (self.balance(chip) == self.hub_balance(chip)).then_some(())
            });
        }
        let verdict = self.ask(&["ledger", "verify"]);
        assert_eq!(verdict.code, 0, "{verdict:?}");
        assert_eq!(verdict.json["ok"], true, "{verdict:?}");
        let quarantine = self.hub().json("/v1/quarantine");
        assert_eq!(quarantine["entries"], Value::Array(vec![]));
        assert!(Host::new(self.ports.hub).is_there("/readyz"));
    }
}

/// Polls until there is something, and fails when it takes too long.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
