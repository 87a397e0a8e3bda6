//! What stands on the screen for as long as it lasts.

use crate::text::Text;

/// A lasting condition that the cashier must know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The hub knows another history of this till.
    Forked,
    /// The hub has revoked this till.
    Revoked,
    /// The till's clock cannot be trusted.
    ClockUntrusted,
    /// The disk is nearly full.
    DiskLow,
    /// The till is a demo; no real money moves.
    Demo,
    /// There is no reader, so nobody can pay.
    NoReader,
}

/// The notice in words, with what to do.
pub fn notice_words(notice: &Notice) -> Text {
    match notice {
        Notice::Forked => Text::new(
            "Centralen kender en anden historik for denne kasse – tilkald teknikeren",
            "The hub knows another history of this till – call the technician",
        ),
        Notice::Revoked => Text::new(
            "Kassen er lukket af centralen og sælger ikke – tilkald teknikeren",
            "The hub has closed this till and it does not sell – call the technician",
        ),
        Notice::ClockUntrusted => Text::new(
            "Kassens ur går forkert – tilkald teknikeren",
            "The till's clock is wrong – call the technician",
        ),
        Notice::DiskLow => Text::new(
            "Kassens disk er næsten fuld – tilkald teknikeren",
            "The till's disk is nearly full – call the technician",
        ),
        Notice::Demo => Text::new(
            "Demo – der flyttes ingen rigtige penge",
            "Demo – no real money moves",
        ),
        Notice::NoReader => Text::new(
            "Ingen læser er tilsluttet – ingen kan betale",
            "No reader is connected – nobody can pay",
        ),
    }
}
