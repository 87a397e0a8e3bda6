//! A decision about a purchase in words: the exact cause, with its figure.

use std::time::Duration;

use canteen::{Account, Decision, DeclineReason, LimitFacts, Money, Purchase, TopUpOutcome};
use jiff::{SignedDuration, Timestamp};

use crate::state::{Figure, Person, Verdict, VerdictKind};
use crate::text::{Text, clock};

/// A decided purchase and who it was about.
#[derive(Debug, Clone)]
pub struct Outcome<'a> {
    /// The id of the tap.
    pub id: String,
    /// What was decided.
    pub decision: &'a Decision,
    /// About what.
    pub purchase: &'a Purchase,
    /// The account as it was decided on, if the chip has one. Its credit and its agreement are
    /// told; without it, neither is assumed.
    pub account: Option<&'a Account>,
    /// Whose chip it was.
    pub person: Person,
    /// When it was decided.
    pub now: Timestamp,
}

/// The verdict about a purchase.
pub fn verdict_words(outcome: Outcome<'_>) -> Verdict {
    let Outcome {
        purchase,
        account,
        now,
        ..
    } = outcome;
    let (kind, title, detail, figure, top_up) = match outcome.decision {
        Decision::Approve {
            balance_after,
            spent_after: _,
            top_up,
        } => (
            VerdictKind::Approved,
            Text::new("Godkendt", "Approved"),
            paid_words(purchase.amount.money()),
            Some(Figure {
                label: Text::new("Ny saldo", "New balance"),
                amount: balance_after.to_string(),
            }),
            *top_up,
        ),
        Decision::Decline { reason, top_up } => (
            VerdictKind::Declined,
            Text::new("Afvist", "Declined"),
            decline_words(reason, purchase, account, now),
            decline_figure(reason, purchase, account),
            *top_up,
        ),
    };
    let approved = kind == VerdictKind::Approved;
    let agreed = account.and_then(|account| account.top_up.as_ref());
    Verdict {
        id: outcome.id,
        kind,
        title,
        detail,
        figure,
        person: outcome.person,
        top_up: top_up_words(
            top_up,
            approved,
            agreed.map(|agreement| agreement.amount),
            purchase.contact.online,
        ),
    }
}

fn paid_words(amount: Money) -> Text {
    Text::new(format!("Betalt {amount}"), format!("Paid {amount}"))
}

/// Why a purchase is declined, in one sentence with its figures.
pub fn decline_words(
    reason: &DeclineReason,
    purchase: &Purchase,
    account: Option<&Account>,
    now: Timestamp,
) -> Text {
    match reason {
        DeclineReason::JournalUnavailable => Text::new(
            "Kassen kan ikke gemme salget – sælg ikke, og tilkald hjælp",
            "The till cannot record the sale – stop selling and call for help",
        ),
        DeclineReason::UnknownChip => Text::new(
            "Ukendt chip – den hører ikke til nogen konto",
            "Unknown chip – it belongs to no account",
        ),
        DeclineReason::ChipBlocked => Text::new("Chippen er spærret", "The chip is blocked"),
        DeclineReason::AccountBlocked => Text::new("Kontoen er spærret", "The account is blocked"),
        DeclineReason::StaleData { age, purchase_max } => stale_words(*age, *purchase_max),
        DeclineReason::LimitDay(facts) => limit_words("Dagsgrænse", "Daily limit", facts),
        DeclineReason::LimitWeek(facts) => limit_words("Ugegrænse", "Weekly limit", facts),
        DeclineReason::LimitMonth(facts) => limit_words("Månedsgrænse", "Monthly limit", facts),
        DeclineReason::InsufficientFunds { balance } => {
            funds_words(*balance, purchase, account, now)
        }
        DeclineReason::OfflineAllowance { left } => Text::new(
            format!("Kassen må højst sælge for {left} på kontoen, før den igen har forbindelse"),
            format!("The till may sell for at most {left} on the account until it is back online"),
        ),
    }
}

/// The figure of a decline that is read from afar: what the cashier must take out of the basket,
/// or how much may still be bought.
pub fn decline_figure(
    reason: &DeclineReason,
    purchase: &Purchase,
    account: Option<&Account>,
) -> Option<Figure> {
    let (label, amount) = match reason {
        DeclineReason::JournalUnavailable
        | DeclineReason::UnknownChip
        | DeclineReason::ChipBlocked
        | DeclineReason::AccountBlocked
        | DeclineReason::StaleData {
            age: _,
            purchase_max: None,
        } => return None,
        DeclineReason::StaleData {
            age: _,
            purchase_max: Some(most),
        } => (at_most(), *most),
        DeclineReason::LimitDay(facts)
        | DeclineReason::LimitWeek(facts)
        | DeclineReason::LimitMonth(facts) => (Text::new("Tilbage", "Left"), facts.left),
        DeclineReason::InsufficientFunds { balance } => (
            Text::new("Mangler", "Missing"),
            missing(*balance, purchase, account)?,
        ),
        DeclineReason::OfflineAllowance { left } => (at_most(), *left),
    };
    Some(Figure {
        label,
        amount: amount.to_string(),
    })
}

fn at_most() -> Text {
    Text::new("Højst", "At most")
}

/// The few words for a decline in the list of the latest, from its stable code
/// ([`DeclineReason::code`]), which is all that the ledger keeps of it.
pub fn decline_title(code: &str) -> Text {
    match code {
        "journal_unavailable" => Text::new("Ikke gemt", "Not recorded"),
        "unknown_chip" => Text::new("Ukendt chip", "Unknown chip"),
        "chip_blocked" => Text::new("Spærret chip", "Blocked chip"),
        "account_blocked" => Text::new("Spærret konto", "Blocked account"),
        "stale_data" => Text::new("For gamle data", "Data too old"),
        "limit_day" => Text::new("Dagsgrænse", "Daily limit"),
        "limit_week" => Text::new("Ugegrænse", "Weekly limit"),
        "limit_month" => Text::new("Månedsgrænse", "Monthly limit"),
        "insufficient_funds" => Text::new("For lav saldo", "Balance too low"),
        "offline_allowance" => Text::new("For meget offline", "Too much offline"),
        // A ledger written by a newer program may know more reasons.
        _ => Text::new("Afvist", "Declined"),
    }
}

/// What a purchase does to the automatic top-up; nothing is promised without the hub.
pub fn top_up_words(
    outcome: TopUpOutcome,
    approved: bool,
    amount: Option<Money>,
    online: bool,
) -> Option<Text> {
    let (da, en) = amount.map_or_else(
        || (String::new(), String::new()),
        |amount| (format!(" på {amount}"), format!(" of {amount}")),
    );
    let text = match (outcome, approved, online) {
        (TopUpOutcome::None, _, _) => return None,
        (TopUpOutcome::Requested, true, true) => Text::new(
            format!("Automatisk optankning{da} bliver bestilt"),
            format!("Automatic top-up{en} is being ordered"),
        ),
        (TopUpOutcome::Requested, false, true) => Text::new(
            format!("Automatisk optankning{da} bliver bestilt – prøv igen om cirka et minut"),
            format!("Automatic top-up{en} is being ordered – try again in about a minute"),
        ),
        (TopUpOutcome::Requested, true, false) => Text::new(
            "Kontoen kan blive tanket op, når kassen igen har forbindelse",
            "The account may be topped up when the till is back online",
        ),
        (TopUpOutcome::Pending, true, true) => Text::new(
            "Automatisk optankning er i gang",
            "Automatic top-up is in progress",
        ),
        (TopUpOutcome::Pending, false, true) => Text::new(
            "Automatisk optankning er i gang – prøv igen om lidt",
            "Automatic top-up is in progress – try again shortly",
        ),
        (TopUpOutcome::Failed, _, true) => Text::new(
            "Automatisk optankning lykkedes ikke – forælderen har fået besked",
            "Automatic top-up failed – the guardian has been told",
        ),
        (TopUpOutcome::Requested, false, false)
        | (TopUpOutcome::Pending, _, false)
        | (TopUpOutcome::Failed, _, false) => return None,
    };
    Some(text)
}

fn limit_words(da: &str, en: &str, facts: &LimitFacts) -> Text {
    let LimitFacts { limit, spent, left } = facts;
    let (spent, left) = (spent.bare(), left.bare());
    Text::new(
        format!("{da} {limit}: {spent} brugt, {left} tilbage"),
        format!("{en} {limit}: {spent} spent, {left} left"),
    )
}

fn funds_words(
    balance: Money,
    purchase: &Purchase,
    account: Option<&Account>,
    now: Timestamp,
) -> Text {
    let (as_of_da, as_of_en) = as_of(purchase, now);
    let (missing_da, missing_en) = match missing(balance, purchase, account) {
        Some(missing) => (
            format!(" – der mangler {missing}"),
            format!(" – {missing} missing"),
        ),
        None => (String::new(), String::new()),
    };
    Text::new(
        format!("Saldoen er {balance}{as_of_da}{missing_da}"),
        format!("The balance is {balance}{as_of_en}{missing_en}"),
    )
}

/// A balance that is known from before the line went down says of when it is.
fn as_of(purchase: &Purchase, now: Timestamp) -> (String, String) {
    if purchase.contact.online {
        return (String::new(), String::new());
    }
    let known_at = SignedDuration::try_from(purchase.contact.age)
        .ok()
        .and_then(|age| now.checked_sub(age).ok());
    match known_at {
        Some(moment) => {
            let moment = clock(moment, now);
            (format!(" (pr. {moment})"), format!(" (as of {moment})"))
        }
        None => (String::new(), String::new()),
    }
}

/// `None` when the amounts are out of range.
fn missing(balance: Money, purchase: &Purchase, account: Option<&Account>) -> Option<Money> {
    let credit = account.map_or(Money::ZERO, |account| account.credit);
    purchase
        .amount
        .money()
        .checked_sub(balance)?
        .checked_sub(credit)
}

fn stale_words(age: Duration, purchase_max: Option<Money>) -> Text {
    let (old_da, old_en) = age_words(age);
    match purchase_max {
        Some(most) => Text::new(
            format!("Kassens saldi er {old_da} gamle – kun køb op til {most}"),
            format!("The till's balances are {old_en} old – only purchases up to {most}"),
        ),
        None => Text::new(
            format!("Kassens saldi er {old_da} gamle – den sælger først, når den har forbindelse"),
            format!("The till's balances are {old_en} old – it sells again once it is online"),
        ),
    }
}

/// Rounded down: `15 døgn`, `30 timer`, `1 time`, `20 minutter`.
fn age_words(age: Duration) -> (String, String) {
    let minutes = age.as_secs() / 60;
    let (count, da, en) = match minutes {
        0..60 => (minutes, ("minut", "minutter"), ("minute", "minutes")),
        60..2880 => (minutes / 60, ("time", "timer"), ("hour", "hours")),
        2880.. => (minutes / 1440, ("døgn", "døgn"), ("day", "days")),
    };
    let of = |(one, many): (&str, &str)| format!("{count} {}", if count == 1 { one } else { many });
    (of(da), of(en))
}
