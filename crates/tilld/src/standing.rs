//! What is wrong between this till's history and what the hub, or the till's own mark beside the
//! ledger, knows of it.

use serde::{Deserialize, Serialize};
use till_control::StandingState;

/// How the till stands. Kept in the state directory, so that a restart in the dark forgets
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Nothing is wrong.
    Good,
    /// The hub has other entries of this ledger: its disk was copied. The till sells inside what
    /// it was allowed before.
    Forked {
        /// The last entry on which both agree, as far as the hub can tell.
        agreed_through: u64,
    },
    /// More was written in this ledger than is in it: its disk was restored. The till sells inside
    /// what it was allowed before.
    RolledBack {
        /// The last entry that is known of.
        known_through: u64,
    },
    /// An operator has revoked the till: it knows nobody and sells nothing.
    Revoked,
    /// The hub does not know this till, or no longer.
    NotEnrolled,
}

impl Standing {
    /// Whether nothing is wrong.
    pub(crate) fn is_good(self) -> bool {
        self == Standing::Good
    }

    /// Whether it holds until something is done about it, and so is worth keeping.
    pub(crate) fn lasts(self) -> bool {
        match self {
            Standing::Good | Standing::NotEnrolled => false,
            Standing::Forked { .. } | Standing::RolledBack { .. } | Standing::Revoked => true,
        }
    }

    /// The word for it on the wire.
    pub(crate) fn state(self) -> StandingState {
        match self {
            Standing::Good => StandingState::Good,
            Standing::Forked { .. } => StandingState::Forked,
            Standing::RolledBack { .. } => StandingState::RolledBack,
            Standing::Revoked => StandingState::Revoked,
            Standing::NotEnrolled => StandingState::NotEnrolled,
        }
    }

    /// What a technician is told; empty when nothing is wrong.
    pub(crate) fn words(self) -> String {
        match self {
            Standing::Good => String::new(),
            Standing::Forked { agreed_through } => format!(
                "the hub has other entries after {agreed_through} than this till: its disk was copied; \
                 stop the other copy, then enrol this till with a new code (runbook/cloned-till.md)"
            ),
            Standing::RolledBack { known_through } => format!(
                "entries up to {known_through} were written by this till and are not on its disk: it was \
                 restored from a copy; enrol the till with a new code (runbook/rolled-back-disk.md)"
            ),
            Standing::Revoked => {
                "an operator has revoked this till: it sells nothing; ask the operator, \
                                  then enrol it with a new code (runbook/revoked.md)"
                    .to_owned()
            }
            Standing::NotEnrolled => {
                "the hub does not know this till; enrol it with a new code from the \
                                      operator (runbook/revoked.md)"
                    .to_owned()
            }
        }
    }
}
