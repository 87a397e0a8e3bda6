//! The canteen's other tills: what this one hears of their sales while the hub is away, laid over
//! balances and limits so that nobody buys twice for the same money. It gives nobody anything to
//! spend: ceilings come from the hub alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use canteen::{Account, AccountId, BusinessDay, Money};
use rusqlite::Connection;
use sync_proto::{Batch, EntryHash, Head, Sibling, TillId, TillPublicKey};

use crate::account::{Moved, OwnEntry};
use crate::error::LedgerError;

/// What siblings have sold that the hub's positions do not contain, by account and day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Overlay(HashMap<AccountId, Vec<(BusinessDay, Money)>>);

impl Overlay {
    /// Lays the siblings' sales over an account; a figure out of range leaves nothing to spend.
    pub(crate) fn lay_over(&self, mut account: Account) -> Account {
        let Some(moved) = self.0.get(&account.id) else {
            return account;
        };
        for (day, sold) in moved {
            let balance = account.balance.checked_sub(*sold);
            account.balance = balance.unwrap_or(Money::from_ore(i64::MIN));
            if *day > account.spent.on() {
                account.spent = account.spent.as_of(*day);
            }
            account.spent = account.spent.plus(*sold, *day).unwrap_or(account.spent);
        }
        account
    }
}

/// A sibling, and how much of its ledger this till has heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiblingStand {
    /// What the hub told of it.
    pub sibling: Sibling,
    /// The last entry that the hub's positions contain or that was heard from it.
    pub heard: Head,
}

/// All siblings, as everyone who shows or asks them sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SiblingView {
    pub(crate) stands: Vec<SiblingStand>,
    pub(crate) overlay: Overlay,
}

/// The canteen's other tills.
#[derive(Debug, Clone, Default)]
pub(crate) struct Siblings {
    known: Vec<Sibling>,
    heard: BTreeMap<TillId, Heard>,
    view: Arc<SiblingView>,
}

#[derive(Debug, Clone)]
struct Heard {
    head: Head,
    entries: Vec<OwnEntry>,
}

impl Siblings {
    /// The siblings that the last page told of.
    pub(crate) fn read(connection: &Connection) -> Result<Siblings, LedgerError> {
        let mut statement = connection.prepare(
            "SELECT till, epoch, public_key, address, accepted_seq, accepted_hash
             FROM sibling ORDER BY till",
        )?;
        let rows = statement.query_map([], |row| {
            let till: String = row.get(0)?;
            let epoch: String = row.get(1)?;
            Ok((
                till.parse().ok().zip(epoch.parse().ok()),
                row.get(2)?,
                row.get(3)?,
                row.get::<_, i64>(4)?,
                row.get(5)?,
            ))
        })?;
        let mut known = Vec::new();
        for row in rows {
            let (name, key, address, seq, hash) = row?;
            known.extend(name.map(|(till, epoch)| Sibling {
                till,
                epoch,
                public_key: TillPublicKey(key),
                address,
                accepted: Head {
                    seq: seq.cast_unsigned(),
                    hash: EntryHash(hash),
                },
            }));
        }
        let mut siblings = Siblings::default();
        siblings.tell(known);
        Ok(siblings)
    }

    pub(crate) fn known(&self) -> &[Sibling] {
        &self.known
    }

    pub(crate) fn view(&self) -> &Arc<SiblingView> {
        &self.view
    }

    /// The hub tells of them anew: what its positions contain now is no longer laid over them.
    pub(crate) fn tell(&mut self, known: Vec<Sibling>) {
        self.heard.retain(|till, heard| {
            let now = known.iter().find(|sibling| sibling.till == *till);
            let before = self.known.iter().find(|sibling| sibling.till == *till);
            let Some(now) = now else { return false };
            heard.entries.retain(|entry| entry.seq > now.accepted.seq);
            before.is_some_and(|before| before.epoch == now.epoch)
                && heard.head.seq > now.accepted.seq
        });
        self.known = known;
        self.look();
    }

    /// Takes a run of entries that a sibling gave; how many were new.
    pub(crate) fn hear(&mut self, batch: &Batch) -> Result<usize, LedgerError> {
        let refused = |why: &'static str| LedgerError::Sibling {
            till: batch.till.clone(),
            why,
        };
        let sibling = self
            .known
            .iter()
            .find(|known| known.till == batch.till && known.epoch == batch.epoch)
            .ok_or_else(|| refused("the hub did not tell of it"))?;
        let before = self
            .heard
            .get(&batch.till)
            .map_or(sibling.accepted, |heard| heard.head);
        if batch.first_seq != before.seq + 1 || batch.prev_hash != before.hash {
            return Err(refused("its entries do not continue what is known of it"));
        }
        batch
            .verify(&sibling.public_key)
            .map_err(|_| refused("its entries are not signed by it, or do not hold together"))?;
        let entries = batch.entries.iter().filter_map(|entry| {
            // Kinds of newer programs move no money that this one could reckon with.
            OwnEntry::read(entry.seq, &entry.texts).ok().flatten()
        });
        let entries: Vec<OwnEntry> = entries.collect();
        let heard = self.heard.entry(batch.till.clone()).or_insert(Heard {
            head: before,
            entries: Vec::new(),
        });
        heard.head = batch.head;
        heard.entries.extend(entries);
        self.look();
        Ok(batch.entries.len())
    }

    fn look(&mut self) {
        let stands = self.known.iter().map(|sibling| SiblingStand {
            sibling: sibling.clone(),
            heard: self
                .heard
                .get(&sibling.till)
                .map_or(sibling.accepted, |heard| heard.head),
        });
        let stands = stands.collect();
        let mut overlay: HashMap<AccountId, Vec<(BusinessDay, Money)>> = HashMap::new();
        for entry in self.heard.values().flat_map(|heard| &heard.entries) {
            let sold = match entry.what {
                Moved::Sale(amount) => Some(amount),
                Moved::Void(amount) => amount.checked_neg(),
                Moved::Nothing => None,
            };
            let moved = sold.map(|sold| (entry.day, sold));
            overlay.entry(entry.account).or_default().extend(moved);
        }
        self.view = Arc::new(SiblingView {
            stands,
            overlay: Overlay(overlay),
        });
    }
}

/// Writes down what a page told of the siblings.
pub(crate) fn write(connection: &Connection, known: &[Sibling]) -> Result<(), LedgerError> {
    connection.execute("DELETE FROM sibling", [])?;
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO sibling
             (till, epoch, public_key, address, accepted_seq, accepted_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for sibling in known {
        insert.execute((
            sibling.till.as_str(),
            sibling.epoch.to_string(),
            sibling.public_key.0,
            &sibling.address,
            sibling.accepted.seq.cast_signed(),
            sibling.accepted.hash.0,
        ))?;
    }
    Ok(())
}
