//! A chip that lies on the reader while nothing is being paid.

use canteen::{ChipHolding, ChipIdentity, Status};

use crate::state::{ChipOnReader, Person};
use crate::text::Text;

/// Whose chip lies on the reader and whether it could pay; `None` is an unknown chip.
pub fn chip_words(
    holding: Option<&ChipHolding>,
    identity: ChipIdentity,
    person: Person,
) -> ChipOnReader {
    let (usable, status) = status_words(holding, identity);
    ChipOnReader {
        person,
        usable,
        // Of a blocked chip no balance is told: it may be lost, and the finder stands there.
        balance: holding
            .filter(|_| usable)
            .map(|holding| holding.account.balance.to_string()),
        status,
    }
}

fn status_words(holding: Option<&ChipHolding>, identity: ChipIdentity) -> (bool, Text) {
    let not_genuine = || (false, Text::new("Chip ikke ægte", "Chip not genuine"));
    let Some(holding) = holding else {
        return match identity {
            ChipIdentity::Failed { claimed: None } => not_genuine(),
            ChipIdentity::Bare(_)
            | ChipIdentity::Proven { .. }
            | ChipIdentity::Failed { claimed: Some(_) } => {
                (false, Text::new("Ukendt chip", "Unknown chip"))
            }
        };
    };
    if holding.must_prove && !identity.is_proven() {
        return not_genuine();
    }
    match (holding.chip_status, holding.account.status) {
        (Status::Active, Status::Active) => (true, Text::new("Aktiv", "Active")),
        (Status::Blocked, _) => (
            false,
            Text::new("Chippen er spærret", "The chip is blocked"),
        ),
        (Status::Closed, _) => (false, Text::new("Chippen er lukket", "The chip is closed")),
        (Status::Active, Status::Blocked) => (
            false,
            Text::new("Kontoen er spærret", "The account is blocked"),
        ),
        (Status::Active, Status::Closed) => (
            false,
            Text::new("Kontoen er lukket", "The account is closed"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use canteen::{Account, AccountId, BusinessDay, ChipId, KeyVersion, Limits, Money, Spent};

    use super::*;

    fn bare() -> ChipIdentity {
        ChipIdentity::Bare(ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap())
    }

    fn holding(chip: Status, account: Status) -> ChipHolding {
        let today: BusinessDay = "2026-11-20".parse().unwrap();
        ChipHolding {
            chip_status: chip,
            must_prove: false,
            account: Account {
                id: AccountId(1),
                status: account,
                balance: Money::from_ore(149_50),
                credit: Money::ZERO,
                limits: Limits::default(),
                spent: Spent::nothing(today),
                strict: None,
                top_up: None,
                allowance: None,
            },
        }
    }

    #[track_caller]
    fn check(chip: Status, account: Status, da: &str, balance: Option<&str>) {
        let holding = holding(chip, account);
        let shown = chip_words(Some(&holding), bare(), Person::default());
        assert_eq!(shown.status.da, da);
        assert_eq!(shown.balance.as_deref(), balance);
        assert_eq!(shown.usable, balance.is_some());
        assert_ne!(shown.status.da, shown.status.en);
    }

    #[test]
    fn only_a_chip_that_may_buy_tells_its_balance() {
        use Status as S;
        check(S::Active, S::Active, "Aktiv", Some("149,50 kr."));
        check(S::Blocked, S::Active, "Chippen er spærret", None);
        check(S::Closed, S::Active, "Chippen er lukket", None);
        check(S::Active, S::Blocked, "Kontoen er spærret", None);
        check(S::Active, S::Closed, "Kontoen er lukket", None);
        check(S::Blocked, S::Blocked, "Chippen er spærret", None);
    }

    #[test]
    fn an_unknown_chip_is_not_a_blocked_one() {
        let shown = chip_words(None, bare(), Person::default());
        assert_eq!(shown.status, Text::new("Ukendt chip", "Unknown chip"));
        assert!(!shown.usable && shown.balance.is_none());
    }

    #[test]
    fn a_chip_that_did_not_prove_itself_tells_no_balance() {
        let holding = ChipHolding {
            must_prove: true,
            ..holding(Status::Active, Status::Active)
        };
        let proven = ChipIdentity::Proven {
            chip: bare().chip().unwrap(),
            key_version: KeyVersion(1),
        };
        let failed = ChipIdentity::Failed { claimed: None };
        for (known, identity, da) in [
            (Some(&holding), proven, "Aktiv"),
            (Some(&holding), bare(), "Chip ikke ægte"),
            (None, failed, "Chip ikke ægte"),
            (None, proven, "Ukendt chip"),
        ] {
            let shown = chip_words(known, identity, Person::default());
            assert_eq!(shown.status.da, da);
            assert_eq!(shown.balance.is_some(), shown.usable);
            assert_eq!(shown.usable, da == "Aktiv");
        }
    }
}
