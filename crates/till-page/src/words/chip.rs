//! A chip that lies on the reader while nothing is being paid.

use canteen::{ChipHolding, Status};

use crate::state::{ChipOnReader, Person};
use crate::text::Text;

/// Whose chip lies on the reader and whether it could pay; `None` is an unknown chip.
pub fn chip_words(holding: Option<&ChipHolding>, person: Person) -> ChipOnReader {
    let (usable, status) = status_words(holding);
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

fn status_words(holding: Option<&ChipHolding>) -> (bool, Text) {
    let Some(holding) = holding else {
        return (false, Text::new("Ukendt chip", "Unknown chip"));
    };
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
