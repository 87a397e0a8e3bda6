//! Statuses that come ahead of everything else, and people that must be forgotten.

use rusqlite::Connection;
use sync_proto::{Denylist, StatusChange, StatusOf};

use crate::book::{Book, prepare};
use crate::error::LedgerError;
use crate::feed::Applied;

impl Book {
    /// Applies statuses: each when its version is higher than the one that is known, whatever way
    /// it came. The feed's cursor stays where it is.
    pub(crate) fn apply_denylist(&mut self, list: &Denylist) -> Result<Applied, LedgerError> {
        let feed = self.tip.feed;
        if list.hub_epoch != feed.hub_epoch {
            return Err(LedgerError::OtherHubEpoch {
                ours: feed.hub_epoch,
                theirs: list.hub_epoch,
            });
        }
        self.alone(|book| {
            let mut records = 0;
            for change in &list.changes {
                records += apply(&book.connection, change)?;
            }
            Ok(Applied {
                records,
                urgent: records > 0,
                products: false,
            })
        })
    }

    /// Erases everybody of whom the hub told, so that nothing of it is left in the file. Entries
    /// stay; they carry numbers only. The till knows nobody until it is given a snapshot.
    pub(crate) fn forget_people(&mut self) -> Result<(), LedgerError> {
        self.connection.execute_batch("PRAGMA secure_delete = ON")?;
        self.tip.feed.cursor = 0;
        self.alone(|book| {
            // What was allowed and sold stays reckoned with; balance and limits go.
            book.connection.execute_batch(
                "DELETE FROM holder; DELETE FROM chip; DELETE FROM product;
                 DELETE FROM account WHERE ceiling IS NULL AND gross = 0 AND last_seq = 0;
                 UPDATE account SET known = 0, limit_day = NULL, limit_week = NULL,
                     limit_month = NULL, top_up_amount = NULL, top_up_armed = 0,
                     top_up_state = 'idle';",
            )?;
            book.save_progress(book.tip.indexed_through)
        })?;
        // What was deleted may still stand in the log; it is written to the file and cut off.
        self.empty_log()
    }
}

fn apply(connection: &Connection, change: &StatusChange) -> Result<usize, LedgerError> {
    let (sql, number) = match change.of {
        StatusOf::Account(account) => (
            "UPDATE account SET status = ?2, status_rv = ?3 WHERE id = ?1 AND status_rv < ?3",
            account.0,
        ),
        StatusOf::Chip(number) => (
            "UPDATE chip SET status = ?2, status_rv = ?3 WHERE number = ?1 AND status_rv < ?3",
            number,
        ),
    };
    let changed = prepare(connection, sql)?.execute((
        number,
        change.status.code(),
        change.status_rv.cast_signed(),
    ))?;
    Ok(changed)
}
