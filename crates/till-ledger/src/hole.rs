//! Damaged entries: the chain is walked past them, so that one bad block of a disk neither stops
//! the till nor holds back what comes after it.

use std::collections::BTreeSet;

use rusqlite::{Connection, Rows};
use sync_proto::{EntryHash, EntryTexts};

use crate::entry_row::{hash_at, read_entry};
use crate::error::LedgerError;
use crate::identity::Identity;

/// An entry of the chain, whole or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: u64,
    pub(crate) texts: EntryTexts,
    /// The hash up to and with it.
    pub(crate) hash: EntryHash,
    /// Its bytes are not those that were written.
    pub(crate) is_hole: bool,
}

/// Walks stored entries in their order, each held against the one before and the one after it.
pub(crate) struct Chain<'a> {
    identity: &'a Identity,
    rows: Rows<'a>,
    before: EntryHash,
    expected: u64,
    ahead: Option<(u64, EntryTexts, EntryHash)>,
}

impl<'a> Chain<'a> {
    /// Over rows of `seq, header, body, hash`, from `first` on, with the hash before it.
    pub(crate) fn new(
        identity: &'a Identity,
        first: u64,
        before: EntryHash,
        rows: Rows<'a>,
    ) -> Result<Chain<'a>, LedgerError> {
        let mut chain = Chain {
            identity,
            rows,
            before,
            expected: first,
            ahead: None,
        };
        chain.ahead = chain.fetch()?;
        Ok(chain)
    }

    /// The next entry; an error where a number is missing, because nothing leads past that.
    pub(crate) fn next(&mut self) -> Result<Option<Link>, LedgerError> {
        let Some((seq, texts, stored)) = self.ahead.take() else {
            return Ok(None);
        };
        if seq != self.expected {
            return Err(LedgerError::Corrupt { seq: self.expected });
        }
        self.ahead = self.fetch()?;
        let reckoned = self.identity.next(&self.before, seq, &texts);
        let is_hole = stored != reckoned && !self.goes_on_from(reckoned);
        // Where only the written hash is damaged, what follows tells which is right.
        let hash = if is_hole { stored } else { reckoned };
        self.before = hash;
        self.expected = seq + 1;
        Ok(Some(Link {
            seq,
            texts,
            hash,
            is_hole,
        }))
    }

    fn goes_on_from(&self, hash: EntryHash) -> bool {
        let ahead = self.ahead.as_ref();
        ahead.is_some_and(|(seq, texts, stored)| self.identity.next(&hash, *seq, texts) == *stored)
    }

    fn fetch(&mut self) -> Result<Option<(u64, EntryTexts, EntryHash)>, LedgerError> {
        Ok(match self.rows.next()? {
            Some(row) => Some(read_entry(row)?),
            None => None,
        })
    }
}

/// The damaged entries from a number on.
pub(crate) fn holes_from(
    connection: &Connection,
    identity: &Identity,
    first: u64,
) -> Result<BTreeSet<u64>, LedgerError> {
    let before = hash_at(connection, identity, first - 1)?;
    let mut statement = connection
        .prepare("SELECT seq, header, body, hash FROM entry WHERE seq >= ?1 ORDER BY seq")?;
    let rows = statement.query([first.cast_signed()])?;
    let mut chain = Chain::new(identity, first, before, rows)?;
    let mut holes = BTreeSet::new();
    while let Some(link) = chain.next()? {
        holes.extend(link.is_hole.then_some(link.seq));
    }
    Ok(holes)
}

/// What the hub's operator is told of a lost entry.
pub(crate) const HOLE: &str = "damaged on the till's disk";
