//! The outbox of notices: what guardians and operators are to be told about top-ups.
//!
//! A notice is written in the same transaction as the change that it tells of, so there is no change
//! without its notice and no notice of what did not happen. Delivering it is another matter: it is
//! tried again until somebody has taken it, and money never waits for that.

use std::fmt;
use std::time::Duration;

use canteen::{AccountId, BusinessDay, Money};
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::accounts::AccountRow;
use crate::error::LedgerError;
use crate::store::{HubLedger, HubReader, draw_name, later, millis, moment};
use crate::tenancy::Reach;
use crate::top_ups::TopUpId;

/// The number of a notice, in the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoticeId(pub i64);

/// What a notice tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeReason {
    /// The card was charged and the money is on the account.
    Settled,
    /// The card was declined; it is tried again at a later purchase.
    Declined,
    /// The card cannot be used any more; a new agreement is needed.
    CardUnusable,
    /// The card was declined too often in a row; a new agreement is needed.
    Disarmed,
    /// The money went back to the card, because the account or its chip was blocked.
    Refunded,
    /// The card waits until somebody has found out what an earlier charge was for.
    CardHeld,
    /// Nobody knows for a day whether the card was charged.
    Stuck,
}

impl NoticeReason {
    const ALL: [NoticeReason; 7] = [
        NoticeReason::Settled,
        NoticeReason::Declined,
        NoticeReason::CardUnusable,
        NoticeReason::Disarmed,
        NoticeReason::Refunded,
        NoticeReason::CardHeld,
        NoticeReason::Stuck,
    ];

    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            NoticeReason::Settled => "settled",
            NoticeReason::Declined => "declined",
            NoticeReason::CardUnusable => "card_unusable",
            NoticeReason::Disarmed => "disarmed",
            NoticeReason::Refunded => "refunded",
            NoticeReason::CardHeld => "card_held",
            NoticeReason::Stuck => "stuck",
        }
    }

    /// Whom it is for.
    pub fn audience(self) -> Audience {
        match self {
            NoticeReason::Settled
            | NoticeReason::Declined
            | NoticeReason::CardUnusable
            | NoticeReason::Disarmed
            | NoticeReason::Refunded
            | NoticeReason::CardHeld => Audience::Guardian,
            NoticeReason::Stuck => Audience::Operator,
        }
    }

    /// How long after the change it is due: what may clear up by itself is told when it has not.
    fn wait(self) -> Duration {
        match self {
            NoticeReason::Settled
            | NoticeReason::Declined
            | NoticeReason::CardUnusable
            | NoticeReason::Disarmed
            | NoticeReason::Refunded
            | NoticeReason::CardHeld => Duration::ZERO,
            NoticeReason::Stuck => STUCK_WAIT,
        }
    }
}

/// Whom a notice is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Those who pay for the account.
    Guardian,
    /// Those who run the canteen.
    Operator,
}

impl Audience {
    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Audience::Guardian => "guardian",
            Audience::Operator => "operator",
        }
    }
}

/// A notice.
#[derive(Clone, PartialEq, Eq)]
pub struct NoticeRow {
    /// Its number.
    pub id: NoticeId,
    /// What the receiver knows it by, however often it is sent.
    pub name: Uuid,
    /// The account.
    pub account: AccountId,
    /// The first name of the person behind it, unless that was erased.
    pub first_name: Option<String>,
    /// What it tells of.
    pub reason: NoticeReason,
    /// The day of that.
    pub day: BusinessDay,
    /// How much money it is about.
    pub amount: Money,
    /// The top-up that it is about.
    pub top_up: TopUpId,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it is sent next; `None` once it was delivered or given up.
    pub due_at: Option<Timestamp>,
    /// How often it was sent in vain.
    pub attempts: u32,
    /// Why it could not be delivered the last time.
    pub failure: Option<String>,
    /// When somebody took it.
    pub delivered_at: Option<Timestamp>,
}

/// Without the person: names do not belong in logs.
impl fmt::Debug for NoticeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoticeRow")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("reason", &self.reason)
            .field("day", &self.day)
            .field("amount", &self.amount)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Which notices to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoticeFilter {
    /// Only those of an account.
    pub account: Option<AccountId>,
    /// Only those for somebody.
    pub audience: Option<Audience>,
    /// Only those that nobody has taken.
    pub undelivered: bool,
}

impl HubLedger {
    /// Somebody has taken a notice.
    pub fn note_delivered(&mut self, id: NoticeId, now: Timestamp) -> Result<(), LedgerError> {
        let db = self.change()?;
        db.execute(
            "UPDATE notice SET delivered_at = ?2, due_at = NULL, failure = NULL
             WHERE id = ?1 AND delivered_at IS NULL",
            (id.0, millis(now)),
        )?;
        Ok(db.commit()?)
    }

    /// Nobody has taken a notice; it is sent again, later and later, until it is too old to be of use.
    pub fn note_undelivered(
        &mut self,
        id: NoticeId,
        failure: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let db = self.change()?;
        let Some(notice) = find(&db, id)?.filter(|notice| notice.delivered_at.is_none()) else {
            return Ok(());
        };
        let next = later(now, back_off(notice.attempts));
        let due_at = (next < useful_until(notice.created_at)).then_some(next);
        db.execute(
            "UPDATE notice SET attempts = attempts + 1, failure = ?2, due_at = ?3 WHERE id = ?1",
            (id.0, failure, due_at.map(millis)),
        )?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// Notices to be sent now, the oldest first.
    pub fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<NoticeRow>, LedgerError> {
        let sql = format!(
            "{SELECT_NOTICE} WHERE n.due_at <= ?1 AND n.created_at > ?2 ORDER BY n.due_at, n.id
             LIMIT ?3"
        );
        let since = millis(now).saturating_sub(USEFUL.as_millis() as i64);
        collect(
            self.db
                .prepare_cached(&sql)?
                .query((millis(now), since, limit))?,
        )
    }

    /// When there is a notice to be sent next.
    pub fn next_notice_moment(&self, now: Timestamp) -> Result<Option<Timestamp>, LedgerError> {
        let since = millis(now).saturating_sub(USEFUL.as_millis() as i64);
        let next: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT min(due_at) FROM notice WHERE due_at IS NOT NULL AND created_at > ?1",
            )?
            .query_row([since], |row| row.get(0))?;
        next.map(moment).transpose()
    }

    /// The newest notices within reach before a number, the newest first.
    pub fn list_notices(
        &self,
        reach: Reach,
        filter: NoticeFilter,
        before: i64,
        limit: u32,
    ) -> Result<Vec<NoticeRow>, LedgerError> {
        let sql = newest_notices(filter.account.is_some());
        collect(self.db.prepare_cached(&sql)?.query((
            before,
            reach.filter(),
            filter.account.map(|account| account.0),
            filter.undelivered,
            filter.audience.map(reasons_for),
            limit,
        ))?)
    }
}

/// The newest notices of one account or of all.
fn newest_notices(of_account: bool) -> String {
    let which = match of_account {
        true => "n.account = ?3",
        false => "?3 IS NULL",
    };
    format!(
        "{SELECT_NOTICE} CROSS JOIN account a ON a.id = n.account
         WHERE {which} AND n.id < ?1 AND (?2 IS NULL OR a.tenant = ?2)
           AND (NOT ?4 OR n.delivered_at IS NULL)
           AND (?5 IS NULL OR instr(?5, ' ' || n.reason || ' ') > 0)
         ORDER BY n.id DESC LIMIT ?6"
    )
}

/// Writes a notice into the transaction of what it tells of, unless the same was told on that day.
pub(crate) fn tell(
    db: &Connection,
    account: &AccountRow,
    reason: NoticeReason,
    top_up: TopUpId,
    amount: Money,
    now: Timestamp,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO notice (name, account, reason, day, amount, top_up, created_at, due_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (account, reason, day) DO NOTHING",
    )?
    .execute((
        draw_name(now).to_string(),
        account.id.0,
        reason.code(),
        BusinessDay::of(now).to_string(),
        amount.ore(),
        top_up.to_string(),
        millis(now),
        millis(later(now, reason.wait())),
    ))?;
    Ok(())
}

/// What has cleared up needs nobody any more.
pub(crate) fn forget_stuck(db: &Connection, top_up: TopUpId) -> Result<(), LedgerError> {
    db.prepare_cached(
        "DELETE FROM notice
         WHERE top_up = ?1 AND reason IN ('stuck', 'card_held') AND delivered_at IS NULL",
    )?
    .execute([top_up.to_string()])?;
    Ok(())
}

fn find(db: &Connection, id: NoticeId) -> Result<Option<NoticeRow>, LedgerError> {
    let mut statement = db.prepare_cached(&format!("{SELECT_NOTICE} WHERE n.id = ?1"))?;
    Ok(collect(statement.query([id.0])?)?.pop())
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vec<NoticeRow>, LedgerError> {
    let mut notices = Vec::new();
    while let Some(row) = rows.next()? {
        notices.push(notice_from(row)?);
    }
    Ok(notices)
}

fn notice_from(row: &Row<'_>) -> Result<NoticeRow, LedgerError> {
    let unreadable = || LedgerError::Unreadable { what: "notice" };
    let (name, reason): (String, String) = (row.get(1)?, row.get(3)?);
    let (day, top_up): (String, String) = (row.get(4)?, row.get(6)?);
    let time = |n: usize| row.get::<_, Option<i64>>(n)?.map(moment).transpose();
    let holder: Option<String> = row.get(12)?;
    Ok(NoticeRow {
        id: NoticeId(row.get(0)?),
        name: name.parse().map_err(|_| unreadable())?,
        account: AccountId(row.get(2)?),
        first_name: holder.as_deref().and_then(first_name),
        reason: NoticeReason::ALL
            .into_iter()
            .find(|known| known.code() == reason)
            .ok_or_else(unreadable)?,
        day: day.parse().map_err(|_| unreadable())?,
        amount: Money::from_ore(row.get(5)?),
        top_up: top_up.parse().map_err(|_| unreadable())?,
        created_at: moment(row.get(7)?)?,
        due_at: time(8)?,
        attempts: row.get(9)?,
        failure: row.get(10)?,
        delivered_at: time(11)?,
    })
}

/// The words of all reasons that somebody is told, each between spaces.
fn reasons_for(audience: Audience) -> String {
    let reasons = NoticeReason::ALL.into_iter();
    let reasons = reasons.filter(|reason| reason.audience() == audience);
    reasons.fold(" ".to_owned(), |words, reason| words + reason.code() + " ")
}

fn first_name(name: &str) -> Option<String> {
    name.split_whitespace().next().map(str::to_owned)
}

/// How long to wait after so many attempts in vain and one more.
fn back_off(attempts: u32) -> Duration {
    let place = (attempts as usize).min(BACK_OFF.len() - 1);
    Duration::from_secs(BACK_OFF[place])
}

fn useful_until(created_at: Timestamp) -> Timestamp {
    later(created_at, USEFUL)
}

/// In seconds; the last one repeats.
const BACK_OFF: [u64; 5] = [30, 60, 300, 900, 3600];
/// A notice that nobody has taken for so long stays on the list and is not sent any more.
const USEFUL: Duration = Duration::from_secs(7 * 24 * 3600);
/// A stuck top-up is told of when it has been so for a day.
const STUCK_WAIT: Duration = Duration::from_secs(24 * 3600);

const SELECT_NOTICE: &str = "SELECT n.id, n.name, n.account, n.reason, n.day, n.amount, n.top_up,
   n.created_at, n.due_at, n.attempts, n.failure, n.delivered_at, h.name
 FROM notice n LEFT JOIN holder h ON h.account = n.account";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;

    #[test]
    fn an_accounts_notices_are_found_without_going_through_everybodys() {
        let bed = Bed::new();
        let plan = bed.plan(&newest_notices(true));
        assert!(
            plan[0].starts_with("SEARCH n USING INDEX") && plan[0].ends_with("(account=?)"),
            "{plan:?}"
        );
        let plan = bed.plan(&newest_notices(false));
        let newest_first = "SEARCH n USING INTEGER PRIMARY KEY (rowid<?)";
        assert_eq!(plan[0], newest_first, "{plan:?}");
    }
}
