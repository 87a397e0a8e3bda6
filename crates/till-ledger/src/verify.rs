//! Checking a whole ledger: every hash, every number, every figure that follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use canteen::{AccountId, Money};
use rusqlite::Connection;
use sync_proto::Head;

use crate::account::{
    AccountRow, Moved, OwnEntry, SELECT_ACCOUNTS, own_entries_after, read_account,
};
use crate::error::LedgerError;
use crate::hole::Chain;
use crate::reader::Reader;

/// The result of checking a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The end of the chain as far as it holds.
    pub head: Head,
    /// How many accounts were compared.
    pub accounts: u64,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The first entry that is missing. Nothing after it was looked at.
    Broken {
        /// Its number.
        seq: u64,
    },
    /// An entry whose bytes are not those that were written; the chain goes on past it.
    Hole {
        /// Its number.
        seq: u64,
    },
    /// An entry that the chain holds but this program cannot read.
    Unreadable {
        /// Its number.
        seq: u64,
    },
    /// An account's balance is not what the hub's position and the own entries give.
    Balance {
        /// The account.
        account: AccountId,
        /// What the file says.
        stored: Money,
        /// What it must be.
        reckoned: Money,
    },
    /// An account's counters against its limits are not what they must be.
    Spent {
        /// The account.
        account: AccountId,
    },
    /// The sum of all own sales of an account is not what the entries say.
    Gross {
        /// The account.
        account: AccountId,
        /// What the file says.
        stored: Money,
        /// What it must be.
        reckoned: Money,
    },
    /// An id leads to the wrong entry, or to none.
    Id {
        /// The entry whose id is not found.
        seq: u64,
    },
    /// SQLite finds the file itself damaged.
    File {
        /// Its words.
        message: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Broken { seq } => write!(f, "entry {seq} is missing from the hash chain"),
            Finding::Hole { seq } => write!(f, "entry {seq} is damaged on the disk"),
            Finding::Unreadable { seq } => write!(f, "entry {seq} cannot be read"),
            Finding::Balance {
                account,
                stored,
                reckoned,
            } => write!(f, "account {account} holds {stored}, must hold {reckoned}"),
            Finding::Spent { account } => {
                write!(f, "the limit counters of account {account} are wrong")
            }
            Finding::Gross {
                account,
                stored,
                reckoned,
            } => write!(
                f,
                "sales of account {account} are kept as {stored}, must be {reckoned}"
            ),
            Finding::Id { seq } => write!(f, "the id of entry {seq} does not lead to it"),
            Finding::File { message } => write!(f, "the file is damaged: {message}"),
        }
    }
}

impl Reader {
    /// Checks the whole ledger. Takes seconds for a million entries; sales go on meanwhile.
    ///
    /// The chain is read in short pieces, so that the writer's log is not held up; only the
    /// figures of the accounts are compared in one state of the file.
    pub fn verify(&self) -> Result<Verification, LedgerError> {
        let mut walk = Walk {
            head: Head {
                seq: 0,
                hash: self.identity.genesis(),
            },
            gross: BTreeMap::new(),
            findings: Vec::new(),
        };
        while walk.on(self, PIECE)? {}
        self.connection.execute_batch("BEGIN")?;
        let accounts = self.verify_state(&mut walk);
        self.connection.execute_batch("COMMIT")?;
        Ok(Verification {
            accounts: accounts?,
            head: walk.head,
            findings: walk.findings,
        })
    }

    fn verify_state(&self, walk: &mut Walk) -> Result<u64, LedgerError> {
        while walk.on(self, PIECE)? {}
        if walk.is_broken() || walk.has_holes() {
            // Figures that follow from entries mean nothing when the entries do not hold.
            return Ok(0);
        }
        let rows = account_rows(&self.connection)?;
        let overlaid = || rows.iter().filter(|row| row.has_overlay());
        let wanted: BTreeSet<AccountId> = overlaid().map(|row| row.id).collect();
        let after = overlaid().map(|row| row.incl_seq).min().unwrap_or(0);
        let entries = own_entries_after(&self.connection, after, &wanted, &BTreeSet::new())?;
        for row in &rows {
            let own = entries.get(&row.id).map_or(&[][..], Vec::as_slice);
            walk.compare(row, own)?;
        }
        Ok(rows.len() as u64)
    }

    /// SQLite's own check of the file: every page, every tree. Takes as long as reading it all.
    pub(crate) fn check_file(&self) -> Result<Vec<Finding>, LedgerError> {
        let mut statement = self.connection.prepare("PRAGMA quick_check(20)")?;
        let messages = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut findings = Vec::new();
        for message in messages {
            let message = message?;
            if message != "ok" {
                findings.push(Finding::File { message });
            }
        }
        Ok(findings)
    }
}

/// A walk along the chain.
struct Walk {
    head: Head,
    gross: BTreeMap<AccountId, Money>,
    findings: Vec<Finding>,
}

impl Walk {
    /// Goes on for at most so many entries; whether there may be more.
    fn on(&mut self, reader: &Reader, most: i64) -> Result<bool, LedgerError> {
        if self.is_broken() {
            return Ok(false);
        }
        let mut statement = reader.connection.prepare_cached(
            "SELECT seq, header, body, hash FROM entry WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut lookup = reader.connection.prepare_cached(ID_LEADS_TO)?;
        // One more than is counted: what follows an entry tells whether it is whole.
        let rows = statement.query((self.head.seq.cast_signed(), most + 1))?;
        let first = self.head.seq + 1;
        let mut chain = Chain::new(&reader.identity, first, self.head.hash, rows)?;
        let mut read = 0;
        while read < most {
            let link = match chain.next() {
                Ok(Some(link)) => link,
                Ok(None) => break,
                Err(LedgerError::Corrupt { seq }) => {
                    self.findings.push(Finding::Broken { seq });
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            read += 1;
            let (seq, texts) = (link.seq, link.texts);
            self.head = Head {
                seq,
                hash: link.hash,
            };
            if link.is_hole {
                self.findings.push(Finding::Hole { seq });
                continue;
            }
            match OwnEntry::read(seq, &texts) {
                Ok(entry) => self.count(entry)?,
                Err(_) => self.findings.push(Finding::Unreadable { seq }),
            }
            if let Ok(header) = texts.read_header()
                && !lookup.query_row((header.id.into_bytes(), seq.cast_signed()), leads)?
            {
                self.findings.push(Finding::Id { seq });
            }
        }
        Ok(read == most)
    }

    fn count(&mut self, entry: Option<OwnEntry>) -> Result<(), LedgerError> {
        let Some(entry) = entry else { return Ok(()) };
        let Moved::Sale(amount) = entry.what else {
            return Ok(());
        };
        let gross = self.gross.entry(entry.account).or_default();
        *gross = gross.checked_add(amount).ok_or(LedgerError::Range {
            account: entry.account,
        })?;
        Ok(())
    }

    fn compare(&mut self, row: &AccountRow, own: &[OwnEntry]) -> Result<(), LedgerError> {
        let account = row.id;
        let mut anew = row.clone();
        anew.fold(own)?;
        if anew.own.balance != row.own.balance {
            self.findings.push(Finding::Balance {
                account,
                stored: row.own.balance,
                reckoned: anew.own.balance,
            });
        }
        if anew.own.spent != row.own.spent || anew.own.sold != row.own.sold {
            self.findings.push(Finding::Spent { account });
        }
        let gross = self.gross.get(&account).copied().unwrap_or_default();
        if gross != row.own.gross {
            self.findings.push(Finding::Gross {
                account,
                stored: row.own.gross,
                reckoned: gross,
            });
        }
        Ok(())
    }

    fn has_holes(&self) -> bool {
        let hole = |finding: &Finding| matches!(finding, Finding::Hole { .. });
        self.findings.iter().any(hole)
    }

    fn is_broken(&self) -> bool {
        let broken = |finding: &Finding| matches!(finding, Finding::Broken { .. });
        self.findings.iter().any(broken)
    }
}

fn account_rows(connection: &Connection) -> Result<Vec<AccountRow>, LedgerError> {
    let mut statement = connection.prepare(SELECT_ACCOUNTS)?;
    let rows = statement.query_map([], read_account)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn leads(row: &rusqlite::Row<'_>) -> rusqlite::Result<bool> {
    row.get(0)
}

const PIECE: i64 = 2_000;

/// Entries that are not indexed yet are found in another way.
const ID_LEADS_TO: &str = "
    SELECT ?2 > (SELECT indexed_through FROM progress)
        OR EXISTS (SELECT 1 FROM entry_id WHERE id = ?1 AND seq = ?2)";
