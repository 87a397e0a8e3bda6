//! A hub that began a new life of its database: it is told what this till is allowed and has
//! sold, in the transaction that takes over its first snapshot.

use canteen::OfflineRules;
use rusqlite::Connection;
use sync_proto::{AccountState, EntryBody, STATE_REPORT_MAX, StateReport};

use crate::account::{SELECT_ACCOUNTS, read_account};
use crate::book::Book;
use crate::error::LedgerError;
use crate::moment::Moment;
use crate::page::{Draft, Page};

impl Book {
    /// Writes the report and the acknowledgement of the new life; they hold with the commit.
    pub(crate) fn report_state(&self, now: Moment) -> Result<Draft, LedgerError> {
        let accounts = account_states(&self.connection)?;
        let mut draft = Draft::of(&self.tip);
        let mut page = Page {
            connection: &self.connection,
            identity: &self.identity,
            tip: &self.tip,
            overlay: &self.siblings.view().overlay,
            rules: &OfflineRules::default(),
            draft: &mut draft,
        };
        // A till that was never allowed anything says so, too: the hub waits for every till.
        let parts = accounts.len().div_ceil(STATE_REPORT_MAX).max(1);
        for part in 0..parts {
            let from = part * STATE_REPORT_MAX;
            let body = EntryBody::StateReport(StateReport {
                hub_epoch: self.tip.feed.hub_epoch,
                part: u32::try_from(part + 1).unwrap_or(u32::MAX),
                parts: u32::try_from(parts).unwrap_or(u32::MAX),
                accounts: accounts
                    .iter()
                    .skip(from)
                    .take(STATE_REPORT_MAX)
                    .copied()
                    .collect(),
            });
            let id = page.own_id(now);
            page.note(id, &body, now)?;
        }
        let id = page.own_id(now);
        page.feed_ack(id, now)?;
        Ok(draft)
    }
}

/// Every account with a ceiling in force or a sale in this epoch, also those that the hub no
/// longer knows.
fn account_states(connection: &Connection) -> Result<Vec<AccountState>, LedgerError> {
    let mut statement = connection.prepare(SELECT_ACCOUNTS)?;
    let rows = statement.query_map([], read_account)?;
    let mut states = Vec::new();
    for row in rows {
        let row = row?;
        if row.ceiling.is_some() || row.own.gross > canteen::Money::ZERO {
            states.push(AccountState {
                account: row.id,
                ceiling: row.ceiling,
                gross: row.own.gross,
            });
        }
    }
    Ok(states)
}
