//! What stands on the screen for as long as it lasts.

use serde::Serialize;

use crate::text::Text;

/// A lasting condition that the cashier must know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The hub knows another history of this till: its disk was copied.
    Forked,
    /// The till's disk was restored, and what was sold since is not on it.
    RolledBack,
    /// An operator has revoked the till.
    Revoked,
    /// The hub does not know this till, or no longer.
    NotEnrolled,
    /// Entries of the ledger are damaged.
    Damaged,
    /// Something else that a technician must look into.
    Alarm,
    /// An empty ledger begins soon.
    Renewing,
    /// The till's clock cannot be trusted.
    ClockUntrusted,
    /// The disk is nearly full.
    DiskLow,
    /// The disk is full or fails; nothing can be sold.
    DiskFull,
    /// Very many entries wait to be sent.
    ManyWaiting,
    /// The data about accounts is more than a day old.
    OldData,
    /// The till is a demo; no real money moves.
    Demo,
    /// There is no reader, so nobody can pay.
    NoReader,
}

/// A notice as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoticeShown {
    /// What is so, and what to do.
    #[serde(flatten)]
    pub text: Text,
    /// The page of the runbook that tells a technician what to do, without `.md`.
    pub runbook: Option<&'static str>,
}

/// The notice as the page shows it.
pub fn notice_shown(notice: &Notice) -> NoticeShown {
    NoticeShown {
        text: notice_words(notice),
        runbook: runbook(notice),
    }
}

/// The page of `systemd/runbook/` that tells a technician what to do.
fn runbook(notice: &Notice) -> Option<&'static str> {
    match notice {
        Notice::Forked => Some("cloned-till"),
        Notice::RolledBack => Some("rolled-back-disk"),
        Notice::Revoked | Notice::NotEnrolled => Some("revoked"),
        Notice::Damaged => Some("hole"),
        Notice::ClockUntrusted => Some("clock"),
        Notice::DiskLow | Notice::DiskFull => Some("full-disk"),
        Notice::ManyWaiting | Notice::OldData => Some("hub-unreachable"),
        Notice::NoReader => Some("reader-dead"),
        Notice::Alarm => Some("alarms"),
        Notice::Renewing | Notice::Demo => None,
    }
}

/// The notice in words, with what to do.
pub(crate) fn notice_words(notice: &Notice) -> Text {
    match notice {
        Notice::Forked => Text::new(
            "Kassens disk er kopieret – den sælger kun videre lidt. Tilkald teknikeren",
            "The till's disk was copied – it sells only a little more. Call the technician",
        ),
        Notice::RolledBack => Text::new(
            "Kassens disk er gendannet – den sælger kun videre lidt. Tilkald teknikeren",
            "The till's disk was restored – it sells only a little more. Call the technician",
        ),
        Notice::Revoked => Text::new(
            "Kassen er lukket af driften og kan ikke sælge – tilkald teknikeren",
            "The operator has shut this till; it cannot sell – call the technician",
        ),
        Notice::NotEnrolled => Text::new(
            "Centralen kender ikke denne kasse – tilkald teknikeren",
            "The hub does not know this till – call the technician",
        ),
        Notice::Damaged => Text::new(
            "Dele af kassens regnskab er beskadiget på disken – tilkald teknikeren",
            "Part of the till's ledger is damaged on its disk – call the technician",
        ),
        Notice::Alarm => Text::new(
            "Kassen og centralen er ikke enige – tilkald teknikeren",
            "Till and hub do not agree – call the technician",
        ),
        Notice::Renewing => Text::new(
            "Kassen gør sig klar til at begynde forfra og er snart tilbage",
            "The till is about to begin anew and will be back soon",
        ),
        Notice::ClockUntrusted => Text::new(
            "Kassens ur går forkert – tilkald teknikeren",
            "The till's clock is wrong – call the technician",
        ),
        Notice::DiskLow => Text::new(
            "Kassens disk er næsten fuld – tilkald teknikeren",
            "The till's disk is nearly full – call the technician",
        ),
        Notice::DiskFull => Text::new(
            "Kassen kan ikke skrive på sin disk og kan ikke sælge – tilkald teknikeren",
            "The till cannot write to its disk and cannot sell – call the technician",
        ),
        Notice::ManyWaiting => Text::new(
            "Meget mange salg venter på at blive sendt – tilkald teknikeren",
            "Very many sales wait to be sent – call the technician",
        ),
        Notice::OldData => Text::new(
            "Saldi er mere end et døgn gamle – tilkald teknikeren, hvis det varer ved",
            "Balances are more than a day old – call the technician if it goes on",
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The one after another, so that the compiler names one that is not walked below.
    fn after(it: &Notice) -> Option<Notice> {
        match it {
            Notice::Forked => Some(Notice::RolledBack),
            Notice::RolledBack => Some(Notice::Revoked),
            Notice::Revoked => Some(Notice::NotEnrolled),
            Notice::NotEnrolled => Some(Notice::Damaged),
            Notice::Damaged => Some(Notice::Alarm),
            Notice::Alarm => Some(Notice::Renewing),
            Notice::Renewing => Some(Notice::ClockUntrusted),
            Notice::ClockUntrusted => Some(Notice::DiskLow),
            Notice::DiskLow => Some(Notice::DiskFull),
            Notice::DiskFull => Some(Notice::ManyWaiting),
            Notice::ManyWaiting => Some(Notice::OldData),
            Notice::OldData => Some(Notice::Demo),
            Notice::Demo => Some(Notice::NoReader),
            Notice::NoReader => None,
        }
    }

    #[track_caller]
    fn check(it: &Notice, seen: &mut Vec<String>) {
        let Text { da, en } = notice_words(it);
        for text in [da, en] {
            assert!(
                !text.is_empty() && text.chars().count() <= 90,
                "{it:?}: {text}"
            );
            assert!(!seen.contains(&text), "{it:?}: {text}");
            seen.push(text);
        }
        if let Some(page) = runbook(it) {
            let page = Path::new(RUNBOOK).join(page).with_extension("md");
            assert!(page.is_file(), "{it:?}: there is no {}", page.display());
        }
    }

    const RUNBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/runbook");

    #[test]
    fn every_notice_has_words_of_its_own_and_its_page_of_the_runbook_is_there() {
        let mut seen = Vec::new();
        for it in std::iter::successors(Some(Notice::Forked), after) {
            check(&it, &mut seen);
        }
        assert_eq!(seen.len(), 2 * 14);
    }
}
