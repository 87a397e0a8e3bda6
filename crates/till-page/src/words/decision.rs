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
pub(crate) fn decline_words(
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
        DeclineReason::ChipAuthFailed => Text::new(
            "Chippen kunne ikke bevise, at den er ægte – modtag den ikke, den kan være en kopi",
            "The chip could not prove that it is genuine – refuse it, it may be a copy",
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
        DeclineReason::LimitNotHere { .. } => Text::new(
            "Grænsen kan ikke bruges ved denne kasse lige nu",
            "The limit is not available at this till right now",
        ),
        DeclineReason::OfflineAllowance { left } => Text::new(
            format!("Kassen må højst sælge for {left} på kontoen, før den igen har forbindelse"),
            format!("The till may sell for at most {left} on the account until it is back online"),
        ),
    }
}

/// The figure of a decline that is read from afar: what the cashier must take out of the basket,
/// or how much may still be bought.
pub(crate) fn decline_figure(
    reason: &DeclineReason,
    purchase: &Purchase,
    account: Option<&Account>,
) -> Option<Figure> {
    let (label, amount) = match reason {
        DeclineReason::JournalUnavailable
        | DeclineReason::UnknownChip
        | DeclineReason::ChipAuthFailed
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
        DeclineReason::LimitNotHere { left } if *left == Money::ZERO => return None,
        DeclineReason::LimitNotHere { left } | DeclineReason::OfflineAllowance { left } => {
            (at_most(), *left)
        }
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
        "chip_auth_failed" => Text::new("Chip ikke ægte", "Chip not genuine"),
        "chip_blocked" => Text::new("Spærret chip", "Blocked chip"),
        "account_blocked" => Text::new("Spærret konto", "Blocked account"),
        "stale_data" => Text::new("For gamle data", "Data too old"),
        "limit_day" => Text::new("Dagsgrænse", "Daily limit"),
        "limit_week" => Text::new("Ugegrænse", "Weekly limit"),
        "limit_month" => Text::new("Månedsgrænse", "Monthly limit"),
        "insufficient_funds" => Text::new("For lav saldo", "Balance too low"),
        "limit_not_here" => Text::new("Grænse ikke her", "Limit not here"),
        "offline_allowance" => Text::new("For meget offline", "Too much offline"),
        // A ledger written by a newer program may know more reasons.
        _ => Text::new("Afvist", "Declined"),
    }
}

/// What a purchase does to the automatic top-up; nothing is promised without the hub.
pub(crate) fn top_up_words(
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

#[cfg(test)]
mod tests {
    use canteen::{
        AccountId, BusinessDay, Contact, Limits, PurchaseAmount, Spent, Status, TopUp, TopUpState,
    };

    use super::*;

    fn kr(kroner: i32) -> Money {
        Money::from_kroner(kroner)
    }

    fn noon() -> Timestamp {
        "2026-11-20T11:00:00Z".parse().unwrap()
    }

    fn purchase(online: bool) -> Purchase {
        Purchase {
            amount: PurchaseAmount::new(kr(22)).unwrap(),
            on: BusinessDay::of(noon()),
            contact: Contact {
                online,
                age: Duration::from_secs(80 * 60),
            },
        }
    }

    fn account() -> Account {
        Account {
            id: AccountId(1),
            status: Status::Active,
            balance: kr(7),
            credit: Money::ZERO,
            limits: Limits::default(),
            spent: Spent::nothing(BusinessDay::of(noon())),
            top_up: Some(TopUp {
                amount: kr(200),
                armed: true,
                state: TopUpState::Idle,
            }),
            strict: None,
            allowance: None,
        }
    }

    fn facts() -> LimitFacts {
        LimitFacts {
            limit: kr(25),
            spent: kr(22),
            left: kr(3),
        }
    }

    /// The reason after another, so that the compiler names a reason that has no row below.
    fn after(reason: &DeclineReason) -> Option<DeclineReason> {
        match reason {
            DeclineReason::JournalUnavailable => Some(DeclineReason::UnknownChip),
            DeclineReason::UnknownChip => Some(DeclineReason::ChipAuthFailed),
            DeclineReason::ChipAuthFailed => Some(DeclineReason::ChipBlocked),
            DeclineReason::ChipBlocked => Some(DeclineReason::AccountBlocked),
            DeclineReason::AccountBlocked => Some(DeclineReason::StaleData {
                age: Duration::from_secs(15 * 86_400),
                purchase_max: None,
            }),
            DeclineReason::StaleData { .. } => Some(DeclineReason::LimitDay(facts())),
            DeclineReason::LimitDay(_) => Some(DeclineReason::LimitWeek(facts())),
            DeclineReason::LimitWeek(_) => Some(DeclineReason::LimitMonth(facts())),
            DeclineReason::LimitMonth(_) => {
                Some(DeclineReason::InsufficientFunds { balance: kr(7) })
            }
            DeclineReason::InsufficientFunds { .. } => {
                Some(DeclineReason::LimitNotHere { left: kr(0) })
            }
            DeclineReason::LimitNotHere { .. } => {
                Some(DeclineReason::OfflineAllowance { left: kr(20) })
            }
            DeclineReason::OfflineAllowance { .. } => None,
        }
    }

    fn reasons() -> Vec<DeclineReason> {
        std::iter::successors(Some(DeclineReason::JournalUnavailable), after).collect()
    }

    #[track_caller]
    fn check(reason: DeclineReason, online: bool, da: &str, en: &str, figure: Option<&str>) {
        let purchase = purchase(online);
        let words = decline_words(&reason, &purchase, Some(&account()), noon());
        assert_eq!((words.da.as_str(), words.en.as_str()), (da, en));
        let shown = decline_figure(&reason, &purchase, Some(&account()));
        let shown = shown.map(|figure| format!("{} {}", figure.label.da, figure.amount));
        assert_eq!(shown.as_deref(), figure, "{reason:?}");
    }

    #[test]
    fn every_decline_names_its_cause_and_its_figure() {
        use DeclineReason as R;
        let rows = [
            (
                "Kassen kan ikke gemme salget – sælg ikke, og tilkald hjælp",
                "The till cannot record the sale – stop selling and call for help",
                None,
            ),
            (
                "Ukendt chip – den hører ikke til nogen konto",
                "Unknown chip – it belongs to no account",
                None,
            ),
            (
                "Chippen kunne ikke bevise, at den er ægte – modtag den ikke, den kan være en kopi",
                "The chip could not prove that it is genuine – refuse it, it may be a copy",
                None,
            ),
            ("Chippen er spærret", "The chip is blocked", None),
            ("Kontoen er spærret", "The account is blocked", None),
            (
                "Kassens saldi er 15 døgn gamle – den sælger først, når den har forbindelse",
                "The till's balances are 15 days old – it sells again once it is online",
                None,
            ),
            (
                "Dagsgrænse 25,00 kr.: 22,00 brugt, 3,00 tilbage",
                "Daily limit 25,00 kr.: 22,00 spent, 3,00 left",
                Some("Tilbage 3,00 kr."),
            ),
            (
                "Ugegrænse 25,00 kr.: 22,00 brugt, 3,00 tilbage",
                "Weekly limit 25,00 kr.: 22,00 spent, 3,00 left",
                Some("Tilbage 3,00 kr."),
            ),
            (
                "Månedsgrænse 25,00 kr.: 22,00 brugt, 3,00 tilbage",
                "Monthly limit 25,00 kr.: 22,00 spent, 3,00 left",
                Some("Tilbage 3,00 kr."),
            ),
            (
                "Saldoen er 7,00 kr. – der mangler 15,00 kr.",
                "The balance is 7,00 kr. – 15,00 kr. missing",
                Some("Mangler 15,00 kr."),
            ),
            (
                "Grænsen kan ikke bruges ved denne kasse lige nu",
                "The limit is not available at this till right now",
                None,
            ),
            (
                "Kassen må højst sælge for 20,00 kr. på kontoen, før den igen har forbindelse",
                "The till may sell for at most 20,00 kr. on the account until it is back online",
                Some("Højst 20,00 kr."),
            ),
        ];
        assert_eq!(rows.len(), reasons().len());
        for (reason, (da, en, figure)) in reasons().into_iter().zip(rows) {
            check(reason, true, da, en, figure);
        }
        check(
            R::LimitNotHere { left: kr(12) },
            false,
            "Grænsen kan ikke bruges ved denne kasse lige nu",
            "The limit is not available at this till right now",
            Some("Højst 12,00 kr."),
        );
        check(
            R::StaleData {
                age: Duration::from_secs(73 * 3600),
                purchase_max: Some(kr(60)),
            },
            false,
            "Kassens saldi er 3 døgn gamle – kun køb op til 60,00 kr.",
            "The till's balances are 3 days old – only purchases up to 60,00 kr.",
            Some("Højst 60,00 kr."),
        );
    }

    #[test]
    fn a_balance_from_before_the_line_went_down_says_of_when_it_is() {
        check(
            DeclineReason::InsufficientFunds { balance: kr(-7) },
            false,
            "Saldoen er -7,00 kr. (pr. 10:40) – der mangler 29,00 kr.",
            "The balance is -7,00 kr. (as of 10:40) – 29,00 kr. missing",
            Some("Mangler 29,00 kr."),
        );
    }

    #[test]
    fn credit_is_not_missing() {
        let account = Account {
            credit: kr(10),
            ..account()
        };
        let reason = DeclineReason::InsufficientFunds { balance: kr(7) };
        let words = decline_words(&reason, &purchase(true), Some(&account), noon());
        assert_eq!(words.da, "Saldoen er 7,00 kr. – der mangler 5,00 kr.");
    }

    #[test]
    fn amounts_out_of_range_do_not_panic() {
        let balance = Money::from_ore(i64::MIN);
        let reason = DeclineReason::InsufficientFunds { balance };
        let words = decline_words(&reason, &purchase(true), None, noon());
        assert_eq!(words.da, format!("Saldoen er {balance}"));
        assert_eq!(decline_figure(&reason, &purchase(true), None), None);
        let ancient = DeclineReason::StaleData {
            age: Duration::MAX,
            purchase_max: None,
        };
        decline_words(&ancient, &purchase(false), None, noon());
    }

    #[test]
    fn every_decline_has_a_short_title_of_its_own() {
        let other = decline_title("a reason of a newer program");
        let mut seen = vec![other];
        for reason in reasons() {
            let title = decline_title(reason.code());
            assert!(!seen.contains(&title), "{}", reason.code());
            assert!(title.da.chars().count() <= 18, "{}", title.da);
            seen.push(title);
        }
    }

    #[test]
    fn ages_count_in_what_people_count_in() {
        for (seconds, da, en) in [
            (0, "0 minutter", "0 minutes"),
            (60, "1 minut", "1 minute"),
            (3599, "59 minutter", "59 minutes"),
            (3600, "1 time", "1 hour"),
            (172_799, "47 timer", "47 hours"),
            (172_800, "2 døgn", "2 days"),
        ] {
            let age = age_words(Duration::from_secs(seconds));
            assert_eq!(age, (da.to_owned(), en.to_owned()));
        }
    }

    #[track_caller]
    fn check_top_up(outcome: TopUpOutcome, approved: bool, online: bool, da: Option<&str>) {
        let words = top_up_words(outcome, approved, Some(kr(200)), online);
        let words = words.as_ref().map(|words| words.da.as_str());
        assert_eq!(words, da, "{outcome:?}");
    }

    #[test]
    fn a_top_up_is_told_and_never_promised_offline() {
        use TopUpOutcome as O;
        for (approved, online) in [(true, true), (true, false), (false, true), (false, false)] {
            check_top_up(O::None, approved, online, None);
        }
        let ordered = "Automatisk optankning på 200,00 kr. bliver bestilt";
        check_top_up(O::Requested, true, true, Some(ordered));
        let again = format!("{ordered} – prøv igen om cirka et minut");
        check_top_up(O::Requested, false, true, Some(&again));
        let later = "Kontoen kan blive tanket op, når kassen igen har forbindelse";
        check_top_up(O::Requested, true, false, Some(later));
        check_top_up(O::Requested, false, false, None);
        let running = "Automatisk optankning er i gang";
        check_top_up(O::Pending, true, true, Some(running));
        let shortly = "Automatisk optankning er i gang – prøv igen om lidt";
        check_top_up(O::Pending, false, true, Some(shortly));
        check_top_up(O::Pending, true, false, None);
        let failed = "Automatisk optankning lykkedes ikke – forælderen har fået besked";
        check_top_up(O::Failed, true, true, Some(failed));
        check_top_up(O::Failed, false, true, Some(failed));
        check_top_up(O::Failed, false, false, None);
    }

    fn verdict(decision: &Decision) -> Verdict {
        verdict_words(Outcome {
            id: "t1".to_owned(),
            decision,
            purchase: &purchase(true),
            account: Some(&account()),
            person: Person {
                name: Some("Demo Elev".to_owned()),
                photo: None,
            },
            now: noon(),
        })
    }

    #[test]
    fn an_approval_shows_the_new_balance_and_the_top_up() {
        let verdict = verdict(&Decision::Approve {
            balance_after: Money::from_ore(127_50),
            spent_after: Spent::nothing(BusinessDay::of(noon())),
            top_up: TopUpOutcome::Requested,
        });
        assert_eq!(verdict.kind, VerdictKind::Approved);
        assert_eq!(verdict.title, Text::new("Godkendt", "Approved"));
        assert_eq!(verdict.detail.da, "Betalt 22,00 kr.");
        assert_eq!(verdict.figure.unwrap().amount, "127,50 kr.");
        assert_eq!(verdict.person.name.as_deref(), Some("Demo Elev"));
        assert!(verdict.top_up.unwrap().da.contains("200,00 kr."));
    }

    #[test]
    fn a_blocked_chip_tells_no_balance_and_no_top_up() {
        let verdict = verdict(&Decision::Decline {
            reason: DeclineReason::ChipBlocked,
            top_up: TopUpOutcome::None,
        });
        assert_eq!(verdict.kind, VerdictKind::Declined);
        assert_eq!(verdict.title, Text::new("Afvist", "Declined"));
        assert_eq!(verdict.detail.en, "The chip is blocked");
        assert_eq!((verdict.figure, verdict.top_up), (None, None));
    }
}
