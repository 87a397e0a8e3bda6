//! How the command ends.

use std::process::ExitCode;

/// The exit codes; from 64 on they are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Carried out, nothing wrong.
    Fine,
    /// Carried out, and something was found: a decline, a fault, damage.
    Findings,
    /// What was typed cannot be read.
    Usage,
    /// `EX_UNAVAILABLE`: the daemon or a reader is not there.
    Unavailable,
    /// `EX_SOFTWARE`: anything else.
    Internal,
    /// `EX_TEMPFAIL`: something else is under way.
    Busy,
    /// `EX_NOPERM`: not allowed.
    Denied,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Findings => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Busy => 75,
            Exit::Denied => 77,
        }
    }

    /// Fine, unless something was found.
    pub(crate) fn unless(found: bool) -> Exit {
        if found { Exit::Findings } else { Exit::Fine }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
