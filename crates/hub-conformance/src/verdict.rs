//! What became of a case.

use std::fmt;

/// A case with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name in the protocol's table of cases.
    pub id: &'static str,
    /// What the hub must do.
    pub claim: &'static str,
    /// Whether it does.
    pub verdict: Verdict,
}

/// Whether a hub does what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does something else.
    Violated(String),
    /// It cannot be told here.
    NotTried(&'static str),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { id, claim, verdict } = self;
        match verdict {
            Verdict::Holds => write!(f, "{id:<9} holds      {claim}"),
            Verdict::Violated(how) => write!(f, "{id:<9} VIOLATED   {claim}\n{:21}{how}", ""),
            Verdict::NotTried(why) => write!(f, "{id:<9} not tried  {claim}\n{:21}{why}", ""),
        }
    }
}
