//! What was injected and what was checked.

use std::fmt;

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $words:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$of])* $variant),+
        }

        impl $name {
            /// All of them, in the order of the table.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// What it is called in the table.
            pub fn words(self) -> &'static str {
                match self {
                    $($name::$variant => $words),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.words())
            }
        }
    };
}

counted! {
    /// The faults that a world knows.
    Fault {
        /// A message never arrived.
        Lost = "messages lost",
        /// A message arrived when nobody waited for it any more.
        Late = "messages late",
        /// A message arrived twice.
        Doubled = "messages doubled",
        /// A message arrived after one that was sent later.
        Reordered = "messages out of order",
        /// A line broke.
        Partition = "partitions",
        /// A till's program ended and started.
        TillRestart = "till restarts",
        /// A till's power failed between two transactions.
        TillPower = "till power cuts between transactions",
        /// A till's power failed in the middle of one.
        TillCut = "till power cuts in a transaction",
        /// The hub was killed between two transactions.
        HubKilled = "hub kills between transactions",
        /// The hub's power failed in the middle of one.
        HubCut = "hub power cuts in a transaction",
        /// Writes of a transaction reached the disk in part.
        TornWrite = "torn or scattered writes",
        /// A till's clock was set back.
        ClockBack = "till clocks set back",
        /// A till's clock was set ahead.
        ClockAhead = "till clocks set ahead",
        /// It became another day.
        Midnight = "midnights",
        /// It became another week.
        NewWeek = "new weeks",
        /// It became another month.
        NewMonth = "new months",
        /// Summer time began or ended.
        SummerTime = "summer time begins or ends",
        /// A charge never reached the gateway.
        ChargeLost = "charges lost",
        /// A charge reached the gateway late.
        ChargeLate = "charges late",
        /// The gateway's answer was lost.
        ChargeUnanswered = "charges answered in vain",
        /// A card declined.
        ChargeDeclined = "charges declined",
        /// A till's disk was copied, and both copies sold.
        Clone = "tills cloned",
        /// A till's disk was put back to an earlier state.
        Rollback = "till disks rolled back",
        /// The hub was restored from a backup.
        Restore = "hub restores",
    }
}

counted! {
    /// What must stay true, after every step.
    Invariant {
        /// Money is neither made nor lost.
        Conservation = "INV-1  money is conserved",
        /// Nothing is booked twice, and everything once.
        Once = "INV-2  everything is booked exactly once",
        /// What was served is on the disk, what was acknowledged is at the hub.
        NoSaleLost = "INV-3  no served sale is lost",
        /// Tills together overspend no more than was accepted.
        Bound = "INV-4  overspend stays in its bound",
        /// Limits are kept as far as a till can know.
        Limits = "INV-5  limits are passed by no more than tills apart",
        /// A strict limit is kept by all tills together.
        StrictLimits = "INV-5  a strict limit is passed by no tills together",
        /// A till stays below its ceiling.
        TillSafety = "INV-6  no till passes its ceiling",
        /// The hub gives away no more than there is.
        HubSafety = "INV-7  the hub gives away no more than there is",
        /// What a till knows never becomes older.
        Monotone = "INV-8  what a till knows never becomes older",
        /// The chain holds.
        Chain = "INV-9  the chain of entries holds",
        /// The same entries give the same books.
        Convergence = "INV-10 the same entries give the same books",
        /// A blocked chip does not buy where the block is known.
        Blocked = "INV-11 a block that is known holds",
        /// Days add up.
        Completeness = "INV-12 a till's days add up at the hub",
        /// One charge per top-up.
        OneCharge = "INV-13 a top-up is charged once",
        /// Charged is credited.
        Credited = "INV-14 what is charged is credited or sent back",
        /// One top-up at a time.
        OneActive = "INV-15 an account has one top-up under way",
        /// Charges are apart.
        Spacing = "INV-16 equal charges keep their distance",
        /// Of a card with a charge that nobody can place, nothing more is taken.
        Held = "INV-17 a held card is not charged",
        /// The decision is the right one.
        Decision = "OB-01  every decision is the reference's",
        /// The till shows what it must.
        View = "OB-03  a till shows the hub's figures and its own",
        /// Nothing fails that must work.
        Works = "       nothing fails that must work",
    }
}

/// How often each was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    faults: Vec<u64>,
    checks: Vec<u64>,
    /// Steps made.
    pub steps: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        Tally {
            faults: vec![0; Fault::ALL.len()],
            checks: vec![0; Invariant::ALL.len()],
            steps: 0,
        }
    }

    pub(crate) fn inject(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(crate) fn check(&mut self, invariant: Invariant) {
        self.checks[invariant as usize] += 1;
    }

    /// How often a fault was injected.
    pub fn injected(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often an invariant was checked.
    pub fn checked(&self, invariant: Invariant) -> u64 {
        self.checks[invariant as usize]
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Tally) {
        for (sum, more) in self.faults.iter_mut().zip(&other.faults) {
            *sum += more;
        }
        for (sum, more) in self.checks.iter_mut().zip(&other.checks) {
            *sum += more;
        }
        self.steps += other.steps;
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is violated.
    pub invariant: Invariant,
    /// The facts.
    pub what: String,
}

impl Violation {
    pub(crate) fn of(invariant: Invariant, what: impl Into<String>) -> Violation {
        Violation {
            invariant,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.words().trim(), self.what)
    }
}

/// Something failed that must work.
pub(crate) fn broken(what: &str, error: &dyn std::error::Error) -> Violation {
    let mut words = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    Violation::of(Invariant::Works, words)
}
