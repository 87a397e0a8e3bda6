//! What a notice says: facts for programs, and a sentence in Danish and English for people.
//!
//! A message holds the account, a first name and an amount, and nothing of what was bought.

use hub_ledger::{Audience, NoticeReason, NoticeRow};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Currency;

/// A notice as its receiver gets it.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    id: String,
    reason: &'static str,
    audience: &'static str,
    account: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    amount: i64,
    currency: Currency,
    day: String,
    texts: Texts,
}

/// The sentence that a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Texts {
    /// In Danish.
    #[schema(
        example = "Automatisk optankning af 200,00 kr. til Anna mislykkedes: kortet blev afvist."
    )]
    pub(crate) da: String,
    /// In English.
    pub(crate) en: String,
}

impl Message {
    /// The message of a notice.
    pub(crate) fn of(notice: &NoticeRow) -> Message {
        Message {
            id: notice.name.to_string(),
            reason: notice.reason.code(),
            audience: notice.reason.audience().code(),
            account: notice.account.0,
            first_name: match notice.reason.audience() {
                Audience::Guardian => notice.first_name.clone(),
                Audience::Operator => None,
            },
            amount: notice.amount.ore(),
            currency: Currency::Dkk,
            day: notice.day.to_string(),
            texts: Texts::of(notice),
        }
    }
}

impl Texts {
    /// The sentence of a notice.
    pub(crate) fn of(notice: &NoticeRow) -> Texts {
        let (amount, account) = (notice.amount, notice.account);
        let (til, for_) = match &notice.first_name {
            Some(name) => (name.clone(), name.clone()),
            None => (format!("konto {account}"), format!("account {account}")),
        };
        let kr = amount.bare();
        let (da, en) = match notice.reason {
            NoticeReason::Settled => (
                format!("Automatisk optankning: {amount} er sat ind til {til}."),
                format!("Automatic top-up: DKK {kr} was paid in for {for_}."),
            ),
            NoticeReason::Declined => (
                format!(
                    "Automatisk optankning af {amount} til {til} mislykkedes: kortet blev afvist. Der \
                     prøves igen ved et senere køb; du kan indbetale selv imens."
                ),
                format!(
                    "The automatic top-up of DKK {kr} for {for_} failed: the card was declined. It is \
                     tried again at a later purchase; you can pay in yourself meanwhile."
                ),
            ),
            NoticeReason::CardUnusable => (
                format!(
                    "Automatisk optankning af {amount} til {til} mislykkedes: kortet kan ikke bruges \
                     længere. Opret en ny aftale med et andet kort."
                ),
                format!(
                    "The automatic top-up of DKK {kr} for {for_} failed: the card cannot be used any \
                     more. Make a new agreement with another card."
                ),
            ),
            NoticeReason::Disarmed => (
                format!(
                    "Automatisk optankning af {amount} til {til} mislykkedes flere gange i træk og er \
                     stoppet. Opret en ny aftale for at starte den igen."
                ),
                format!(
                    "The automatic top-up of DKK {kr} for {for_} failed several times in a row and has \
                     been stopped. Make a new agreement to start it again."
                ),
            ),
            NoticeReason::Refunded => (
                format!(
                    "{amount} fra automatisk optankning til {til} er sendt tilbage til kortet, fordi \
                     kontoen eller chippen var spærret."
                ),
                format!(
                    "DKK {kr} of an automatic top-up for {for_} went back to the card, because the \
                     account or its chip was blocked."
                ),
            ),
            NoticeReason::CardHeld => (
                format!(
                    "Automatisk optankning af {amount} til {til} venter: kantinen skal først finde ud af, \
                     hvad en tidligere betaling på kortet var for. Kortet er ikke trukket; du kan \
                     indbetale selv imens."
                ),
                format!(
                    "The automatic top-up of DKK {kr} for {for_} waits: the canteen must first find out \
                     what an earlier charge of the card was for. The card was not charged; you can pay in \
                     yourself meanwhile."
                ),
            ),
            NoticeReason::Stuck => (
                format!(
                    "En automatisk optankning af {amount} til konto {account} er uafklaret efter et \
                     døgn. Se efter hos betalingsudbyderen."
                ),
                format!(
                    "An automatic top-up of DKK {kr} for account {account} is unresolved after a day. \
                     Look at the card gateway."
                ),
            ),
        };
        Texts { da, en }
    }
}

#[cfg(test)]
mod tests {
    use canteen::{AccountId, BusinessDay, Money};
    use hub_ledger::{NoticeId, TopUpId};
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn notice(reason: NoticeReason, first_name: Option<&str>) -> NoticeRow {
        let now = Timestamp::constant(1_795_172_400, 0);
        NoticeRow {
            id: NoticeId(1),
            name: Uuid::nil(),
            account: AccountId(10_001),
            first_name: first_name.map(str::to_owned),
            reason,
            day: BusinessDay::of(now),
            amount: Money::from_kroner(200),
            top_up: TopUpId(Uuid::nil()),
            created_at: now,
            due_at: Some(now),
            attempts: 0,
            failure: None,
            delivered_at: None,
        }
    }

    #[track_caller]
    fn check(reason: NoticeReason, da: &str, en: &str) {
        for (first_name, danish, english) in [
            (Some("Anna"), "Anna", "Anna"),
            (None, "konto 10001", "account 10001"),
        ] {
            let texts = Texts::of(&notice(reason, first_name));
            assert_eq!(texts.da, da.replace("NAME", danish));
            assert_eq!(texts.en, en.replace("NAME", english));
        }
    }

    #[test]
    fn a_notice_names_the_child_and_the_amount_in_danish_and_english() {
        check(
            NoticeReason::Settled,
            "Automatisk optankning: 200,00 kr. er sat ind til NAME.",
            "Automatic top-up: DKK 200,00 was paid in for NAME.",
        );
        check(
            NoticeReason::Refunded,
            "200,00 kr. fra automatisk optankning til NAME er sendt tilbage til kortet, fordi kontoen \
             eller chippen var spærret.",
            "DKK 200,00 of an automatic top-up for NAME went back to the card, because the account or \
             its chip was blocked.",
        );
    }

    #[test]
    fn a_guardian_is_told_why_a_card_is_held() {
        check(
            NoticeReason::CardHeld,
            "Automatisk optankning af 200,00 kr. til NAME venter: kantinen skal først finde ud af, hvad \
             en tidligere betaling på kortet var for. Kortet er ikke trukket; du kan indbetale selv \
             imens.",
            "The automatic top-up of DKK 200,00 for NAME waits: the canteen must first find out what an \
             earlier charge of the card was for. The card was not charged; you can pay in yourself \
             meanwhile.",
        );
    }

    #[test]
    fn what_is_for_operators_names_nobody() {
        let texts = Texts::of(&notice(NoticeReason::Stuck, Some("Anna")));
        assert!(!texts.da.contains("Anna") && !texts.en.contains("Anna"));
        let message = serde_json::to_value(Message::of(&notice(NoticeReason::Stuck, Some("Anna"))));
        let message = message.unwrap();
        assert_eq!(message["audience"], "operator");
        assert_eq!(message.get("first_name"), None);
    }
}
