//! How a sale ended, put in the words of the screen and of `tillctl`.

use canteen::{
    Account, AccountId, ChipHolding, Decision, DeclineReason, Ending, Money, PurchaseOrder,
};
use jiff::Timestamp;
use sync_proto::EntryBody;
use till_control::{
    Currency, EntryPlace, Message, SellAnswer, SellDecision, SellReason, VoidAnswer,
};
use till_ledger::{ChipView, EntryRef, Ledger, Recorded, Voided};
use till_page::{Attention, Outcome, Person, Verdict, attention_words, verdict_words};
use uuid::Uuid;

use crate::till::as_uuid;

/// How a sale ended.
pub(crate) enum SellEnding {
    /// It was decided.
    Decided(Box<Sold>),
    /// No chip paid.
    Ended {
        /// The sale.
        id: Uuid,
        /// What it would have cost.
        total: Money,
        /// Why.
        ending: Ending,
    },
    /// It was decided, and the ledger cannot say how it was recorded.
    Unknown(String),
}

/// A decided sale.
pub(crate) struct Sold {
    /// What was asked.
    pub(crate) order: PurchaseOrder,
    /// What was recorded.
    pub(crate) recorded: Recorded,
    /// The contact on which it was decided.
    pub(crate) purchase: canteen::Purchase,
    /// The chip, when it is known.
    pub(crate) view: Option<Known>,
}

/// A chip that the till knows, with whom the cashier sees.
pub(crate) struct Known {
    /// The chip and its account.
    pub(crate) view: ChipView,
    /// Whose it is.
    pub(crate) person: Person,
}

impl Known {
    /// Looks up whose a chip is.
    pub(crate) fn of(ledger: &Ledger, view: ChipView) -> Known {
        let account = view.account.map(|account| account.id);
        let person = account
            .map(|account| person_of(ledger, account))
            .unwrap_or_default();
        Known { view, person }
    }

    /// What a decision about the chip looks at, if the till has its account.
    pub(crate) fn holding(&self) -> Option<ChipHolding> {
        let account = self.view.account?;
        Some(ChipHolding {
            chip_status: self.view.status,
            must_prove: self.view.must_prove,
            account,
        })
    }
}

/// A sale that was taken back, for the page.
pub(crate) struct VoidDone {
    /// What was recorded.
    pub(crate) voided: Voided,
    /// Whose it was.
    pub(crate) person: Person,
}

impl Sold {
    fn account(&self) -> Option<&Account> {
        self.view
            .as_ref()
            .and_then(|known| known.view.account.as_ref())
    }

    /// The verdict on the cashier's screen.
    pub(crate) fn verdict(&self, now: Timestamp) -> Verdict {
        verdict_words(Outcome {
            id: as_uuid(self.order.sale).to_string(),
            decision: &self.recorded.decision,
            purchase: &self.purchase,
            account: self.account(),
            person: self
                .view
                .as_ref()
                .map(|known| known.person.clone())
                .unwrap_or_default(),
            now,
        })
    }

    /// The answer to the program that rang it up.
    pub(crate) fn answer(&self, now: Timestamp) -> SellAnswer {
        let verdict = self.verdict(now);
        let (decision, reason) = match &self.recorded.decision {
            Decision::Approve { .. } => (SellDecision::Approved, None),
            Decision::Decline { reason, .. } => (SellDecision::Declined, Some(reason)),
        };
        SellAnswer {
            decision,
            reason: reason.map(SellReason::from),
            id: as_uuid(self.order.sale),
            currency: Currency::Dkk,
            total: self.order.amount.money(),
            account: self.account().map(|account| account.id),
            holder: self
                .view
                .as_ref()
                .and_then(|known| known.person.name.clone()),
            balance_after: self.balance_after(),
            limit: reason
                .and_then(DeclineReason::limit)
                .map(|facts| facts.limit),
            left: reason.and_then(left),
            entry: self.recorded.entry.as_ref().map(entry_place),
            top_up: match self.recorded.decision {
                Decision::Approve { top_up, .. } | Decision::Decline { top_up, .. } => top_up,
            },
            replayed: self.recorded.replayed,
            message: Message::new(
                format!("{}. {}", verdict.title.da, verdict.detail.da),
                format!("{}. {}", verdict.title.en, verdict.detail.en),
            ),
        }
    }

    fn balance_after(&self) -> Option<Money> {
        match self.recorded.decision {
            Decision::Approve { balance_after, .. } => Some(balance_after),
            Decision::Decline {
                reason: DeclineReason::InsufficientFunds { balance },
                ..
            } => Some(balance),
            Decision::Decline { .. } => self.account().map(|account| account.balance),
        }
    }
}

fn left(reason: &DeclineReason) -> Option<Money> {
    match reason {
        DeclineReason::LimitDay(facts)
        | DeclineReason::LimitWeek(facts)
        | DeclineReason::LimitMonth(facts) => Some(facts.left),
        DeclineReason::LimitNotHere { left } | DeclineReason::OfflineAllowance { left } => {
            Some(*left)
        }
        DeclineReason::StaleData { purchase_max, .. } => *purchase_max,
        DeclineReason::JournalUnavailable
        | DeclineReason::UnknownChip
        | DeclineReason::ChipAuthFailed
        | DeclineReason::ChipBlocked
        | DeclineReason::AccountBlocked
        | DeclineReason::InsufficientFunds { .. } => None,
    }
}

/// The answer to a program whose sale ended without a purchase.
pub(crate) fn ended_answer(id: Uuid, total: Money, ending: Ending) -> SellAnswer {
    let words = ending_verdict(id, ending);
    let reason = match ending {
        Ending::TimedOut => SellReason::TimedOut,
        Ending::Unreadable => SellReason::ChipUnreadable,
        Ending::Cancelled => SellReason::Cancelled,
    };
    let message = Message::new(
        format!("{}. {}", words.title.da, words.detail.da),
        format!("{}. {}", words.title.en, words.detail.en),
    );
    SellAnswer::without_chip(id, total, reason, message)
}

/// The verdict on the screen for a sale that ended without a purchase.
pub(crate) fn ending_verdict(id: Uuid, ending: Ending) -> Verdict {
    let attention = match ending {
        Ending::TimedOut => Attention::NoChipInTime,
        Ending::Unreadable => Attention::HoldStill,
        Ending::Cancelled => Attention::Cancelled,
    };
    attention_words(id.to_string(), &attention, Person::default())
}

/// The recorded answer to a sale whose id was used before; `None` when the id names something
/// else, or a sale of another amount.
pub(crate) fn replayed_answer(
    id: Uuid,
    total: Money,
    place: EntryPlace,
    body: &EntryBody,
) -> Option<SellAnswer> {
    let recorded = Message::new("Afgjort tidligere", "Decided earlier");
    let answer = SellAnswer {
        entry: Some(place),
        replayed: true,
        ..SellAnswer::without_chip(id, total, SellReason::Cancelled, recorded)
    };
    match body {
        EntryBody::Sale(sale) if sale.amount == total => Some(SellAnswer {
            decision: SellDecision::Approved,
            reason: None,
            account: Some(sale.account),
            balance_after: Some(sale.balance_after),
            top_up: sale.top_up,
            ..answer
        }),
        EntryBody::Decline(decline) if decline.amount == total => Some(SellAnswer {
            decision: SellDecision::Declined,
            reason: SellReason::from_code(&decline.reason),
            account: Some(decline.account),
            balance_after: Some(decline.balance),
            limit: decline.limit,
            left: decline.left,
            top_up: decline.top_up,
            ..answer
        }),
        EntryBody::Sale(_)
        | EntryBody::Decline(_)
        | EntryBody::Void(_)
        | EntryBody::Start(_)
        | EntryBody::FeedAck(_)
        | EntryBody::StateReport(_)
        | EntryBody::ZReport(_)
        | EntryBody::ClockEvent(_) => None,
    }
}

/// The answer to a program that took a sale back.
pub(crate) fn void_answer(sale: Uuid, voided: &Voided) -> VoidAnswer {
    VoidAnswer {
        sale,
        account: voided.account,
        currency: Currency::Dkk,
        amount: voided.amount,
        balance_after: voided.balance_after,
        entry: entry_place(&voided.entry),
        replayed: voided.replayed,
        message: Message::new(
            format!("{} er ført tilbage til kontoen", voided.amount),
            format!("{} was returned to the account", voided.amount),
        ),
    }
}

/// The holder of an account as the page shows them.
pub(crate) fn person_of(ledger: &Ledger, account: AccountId) -> Person {
    let Some(holder) = ledger.holder(account).ok().flatten() else {
        return Person::default();
    };
    Person {
        photo: holder.photo.map(|_| format!("/photo/{account}")),
        name: Some(holder.name),
    }
}

/// Where an entry stands, for `tillctl`.
pub(crate) fn entry_place(entry: &EntryRef) -> EntryPlace {
    EntryPlace {
        till: entry.till.clone(),
        epoch: entry.epoch,
        seq: entry.seq,
        id: entry.id,
    }
}
