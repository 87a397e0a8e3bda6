//! A purchase: known id, chip, account, decision and entry, in one transaction.

use std::time::Duration;

use canteen::{
    Account, AccountId, BusinessDay, ChipHolding, ChipIdentity, Contact, Decision, DeclineReason,
    LimitFacts, Money, OfflineRules, Purchase, PurchaseAmount, Spent, TopUpOutcome, decide,
};
use sync_proto::{Decline, EntryBody, Sale, SaleLine};
use uuid::Uuid;

use crate::account::{
    AccountRow, ChipRow, Moved, OwnEntry, account_row, chip_by_uid, holding_by_uid, put_own,
};
use crate::error::LedgerError;
use crate::moment::Moment;
use crate::page::{EntryRef, Page};

/// A tap that wants to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchaseRequest {
    /// Made at the tap; the same id again gives the recorded answer.
    pub id: Uuid,
    /// The chip, and whether it has proven itself.
    pub identity: ChipIdentity,
    /// What is bought; empty when the cashier typed an amount only.
    pub lines: Vec<SaleLine>,
    /// What is to be paid.
    pub amount: PurchaseAmount,
    /// Whether the hub answers right now.
    pub online: bool,
    /// How old the till's data about accounts is.
    pub feed_age: Duration,
    /// When only the till's allowance or its share of a limit is in the way: record nothing, so that the hub can be asked
    /// for more first.
    pub ask_first: bool,
}

/// The answer to a purchase, on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The decision.
    ///
    /// That of a repeated id is read back from its entry, which keeps every figure that is
    /// shown. Only the counters after an approval and the exact age of stale data are not in
    /// it: they are the account's counters as they are now, and the age from which the rule
    /// holds.
    pub decision: Decision,
    /// The entry; none for a chip that the till does not know or when the ledger cannot be written.
    pub entry: Option<EntryRef>,
    /// Whether the answer was recorded earlier under the same id.
    pub replayed: bool,
    /// Nothing was recorded, because the hub is to be asked for a higher ceiling on this account.
    pub ask_for: Option<AccountId>,
}

impl Recorded {
    /// Nothing can be written, so nothing can be sold.
    pub(crate) fn journal_unavailable() -> Recorded {
        Recorded {
            decision: Decision::Decline {
                reason: DeclineReason::JournalUnavailable,
                top_up: TopUpOutcome::None,
            },
            entry: None,
            replayed: false,
            ask_for: None,
        }
    }
}

fn can_be_raised(decision: &Decision) -> bool {
    match decision {
        Decision::Approve { .. } => false,
        Decision::Decline { reason, .. } => reason.can_be_raised(),
    }
}

impl PurchaseRequest {
    fn check_lines(&self) -> Result<(), LedgerError> {
        let lines = Money::checked_sum(self.lines.iter().map(|line| line.amount));
        if self.lines.is_empty() || lines == Some(self.amount.money()) {
            return Ok(());
        }
        Err(LedgerError::LinesDiffer {
            amount: self.amount.money(),
            lines,
        })
    }

    fn purchase(&self, on: BusinessDay) -> Purchase {
        Purchase {
            amount: self.amount,
            on,
            contact: Contact {
                online: self.online,
                age: self.feed_age,
            },
        }
    }
}

impl Page<'_> {
    pub(crate) fn purchase(
        &mut self,
        request: &PurchaseRequest,
        now: Moment,
    ) -> Result<Recorded, LedgerError> {
        request.check_lines()?;
        if let Some(seq) = self.find(request.id)? {
            return self.repeat(request, seq);
        }
        let day = self.business_day(now)?;
        let purchase = request.purchase(day);
        let identity = request.identity;
        let known = match identity.chip() {
            Some(chip) => holding_by_uid(self.connection, chip)?,
            None => None,
        };
        let Some((chip, row)) = known else {
            self.draft.unknown_chips += 1;
            return Ok(Recorded {
                decision: decide(None, identity, &purchase, self.rules),
                entry: None,
                replayed: false,
                ask_for: None,
            });
        };
        let holding = ChipHolding {
            chip_status: chip.status,
            must_prove: chip.must_prove,
            account: self.overlay.lay_over(row.account()),
        };
        let decision = decide(Some(&holding), identity, &purchase, self.rules);
        if request.ask_first && can_be_raised(&decision) {
            return Ok(Recorded {
                decision,
                entry: None,
                replayed: false,
                ask_for: Some(row.id),
            });
        }
        let body = body(request, &chip, &holding.account, decision);
        let entry = self.append(request.id, &body, day, now)?;
        self.book(&row, &decision, request.amount.money(), day, entry.seq)?;
        Ok(Recorded {
            decision,
            entry: Some(entry),
            replayed: false,
            ask_for: None,
        })
    }

    fn book(
        &mut self,
        row: &AccountRow,
        decision: &Decision,
        amount: Money,
        day: BusinessDay,
        seq: u64,
    ) -> Result<(), LedgerError> {
        let (what, top_up) = match decision {
            Decision::Approve { top_up, .. } => (Moved::Sale(amount), *top_up),
            Decision::Decline { top_up, .. } => (Moved::Nothing, *top_up),
        };
        let asks_for_top_up = top_up == TopUpOutcome::Requested;
        if what == Moved::Nothing && !asks_for_top_up {
            return Ok(());
        }
        if asks_for_top_up {
            self.draft.asked_for_top_up = seq;
        }
        let entry = OwnEntry {
            seq,
            account: row.id,
            day,
            what,
            asks_for_top_up,
        };
        let own = row.own.after(&entry);
        let own = own.ok_or(LedgerError::Range { account: row.id })?;
        put_own(self.connection, row.id, &own)
    }

    fn repeat(&self, request: &PurchaseRequest, seq: u64) -> Result<Recorded, LedgerError> {
        let taken = || LedgerError::IdTaken {
            id: request.id,
            seq,
        };
        let (header, body) = self.entry(seq)?.read()?;
        let (chip, amount) = match &body {
            EntryBody::Sale(sale) => (sale.chip, sale.amount),
            EntryBody::Decline(decline) => (decline.chip, decline.amount),
            EntryBody::Void(_)
            | EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => {
                return Err(taken());
            }
        };
        // A chip that the hub took away in the meantime cannot be compared.
        let known = match request.identity.chip() {
            Some(chip) => chip_by_uid(self.connection, chip)?,
            None => None,
        };
        let same_chip = known.is_none_or(|known| known.number == chip);
        if amount != request.amount.money() || !same_chip {
            return Err(taken());
        }
        let decision = match body {
            EntryBody::Sale(sale) => self.approval(&sale, header.day)?,
            EntryBody::Decline(decline) => Decision::Decline {
                reason: reason(&decline, self.rules).ok_or_else(taken)?,
                top_up: decline.top_up,
            },
            EntryBody::Void(_)
            | EntryBody::Start(_)
            | EntryBody::FeedAck(_)
            | EntryBody::StateReport(_)
            | EntryBody::ZReport(_)
            | EntryBody::ClockEvent(_) => {
                return Err(taken());
            }
        };
        Ok(Recorded {
            decision,
            entry: Some(self.reference(seq, request.id)),
            replayed: true,
            ask_for: None,
        })
    }

    fn approval(&self, sale: &Sale, day: BusinessDay) -> Result<Decision, LedgerError> {
        let row = account_row(self.connection, sale.account)?;
        Ok(Decision::Approve {
            balance_after: sale.balance_after,
            spent_after: row.map_or(Spent::nothing(day), |row| row.own.spent),
            top_up: sale.top_up,
        })
    }
}

fn body(
    request: &PurchaseRequest,
    chip: &ChipRow,
    account: &Account,
    decision: Decision,
) -> EntryBody {
    let amount = request.amount.money();
    match decision {
        Decision::Approve {
            balance_after,
            top_up,
            ..
        } => EntryBody::Sale(Sale {
            account: account.id,
            chip: chip.number,
            amount,
            lines: request.lines.clone(),
            balance_after,
            online: request.online,
            top_up,
        }),
        Decision::Decline { reason, top_up } => {
            let (limit, left) = figures(&reason);
            EntryBody::Decline(Decline {
                account: account.id,
                chip: chip.number,
                amount,
                reason: reason.code().to_owned(),
                balance: account.balance,
                limit,
                left,
                online: request.online,
                top_up,
            })
        }
    }
}

/// The figures of a reason that its entry keeps beside the balance.
fn figures(reason: &DeclineReason) -> (Option<Money>, Option<Money>) {
    match reason {
        DeclineReason::LimitDay(facts)
        | DeclineReason::LimitWeek(facts)
        | DeclineReason::LimitMonth(facts) => (Some(facts.limit), Some(facts.left)),
        DeclineReason::StaleData { purchase_max, .. } => (None, *purchase_max),
        DeclineReason::LimitNotHere { left } | DeclineReason::OfflineAllowance { left } => {
            (None, Some(*left))
        }
        DeclineReason::JournalUnavailable
        | DeclineReason::UnknownChip
        | DeclineReason::ChipAuthFailed
        | DeclineReason::ChipBlocked
        | DeclineReason::AccountBlocked
        | DeclineReason::InsufficientFunds { .. } => (None, None),
    }
}

/// The reason of a recorded decline; `None` for a code of newer programs.
fn reason(decline: &Decline, rules: &OfflineRules) -> Option<DeclineReason> {
    let limit = || {
        let (limit, left) = (decline.limit?, decline.left?);
        Some(LimitFacts {
            limit,
            spent: limit.checked_sub(left)?,
            left,
        })
    };
    match decline.reason.as_str() {
        "chip_auth_failed" => Some(DeclineReason::ChipAuthFailed),
        "chip_blocked" => Some(DeclineReason::ChipBlocked),
        "account_blocked" => Some(DeclineReason::AccountBlocked),
        "stale_data" => Some(DeclineReason::StaleData {
            age: match decline.left {
                Some(_) => rules.restricted_after,
                None => rules.stopped_after,
            },
            purchase_max: decline.left,
        }),
        "limit_day" => limit().map(DeclineReason::LimitDay),
        "limit_week" => limit().map(DeclineReason::LimitWeek),
        "limit_month" => limit().map(DeclineReason::LimitMonth),
        "insufficient_funds" => Some(DeclineReason::InsufficientFunds {
            balance: decline.balance,
        }),
        "limit_not_here" => decline
            .left
            .map(|left| DeclineReason::LimitNotHere { left }),
        "offline_allowance" => decline
            .left
            .map(|left| DeclineReason::OfflineAllowance { left }),
        _ => None,
    }
}
