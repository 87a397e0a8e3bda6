//! The card gateway and the requests under way to it.

/// What a charge is found by: the top-up and the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The top-up.
    pub top_up: usize,
    /// The attempt, counted from 1.
    pub attempt: u8,
}

/// A request to charge, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// What for.
    pub reference: Reference,
    /// How long ago it was dispatched.
    pub age: u8,
}

/// A charge that the gateway decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Charge {
    /// What it is for; none is a guardian's deposit by hand.
    pub reference: Option<Reference>,
    /// Whether it was approved.
    pub approved: bool,
    /// How long ago.
    pub age: u8,
}

/// The gateway's answer to a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The card was charged.
    Approved,
    /// The card was not charged.
    Declined,
    /// Refused: the same amount was charged to the same card within the window.
    Identical,
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Gateway {
    /// All charges it decided about.
    pub charges: Vec<Charge>,
    /// Whether it refused a top-up as identical to another charge of the hub's own making.
    pub provoked: bool,
}

impl Gateway {
    /// Whether the same amount was charged to the card within the window, and whether a top-up
    /// was the cause.
    pub fn identical(&self, window: u8) -> Option<bool> {
        let mut recent = self
            .charges
            .iter()
            .filter(|charge| charge.approved && charge.age < window)
            .peekable();
        recent.peek()?;
        Some(recent.any(|charge| charge.reference.is_some()))
    }

    /// What became of a charge; none is "not found", which is said of younger charges, too.
    pub fn look_up(&self, reference: Reference, lag: u8) -> Option<Verdict> {
        self.charges
            .iter()
            .rev()
            .filter(|charge| charge.age >= lag)
            .find(|charge| charge.reference == Some(reference))
            .map(Charge::verdict)
    }

    /// What became of the first charge of a top-up: what an idempotency key replays.
    pub fn replay(&self, top_up: usize) -> Option<Verdict> {
        self.of(top_up).next().map(Charge::verdict)
    }

    /// How often the card was charged for a top-up.
    pub fn approved(&self, top_up: usize) -> usize {
        self.of(top_up).filter(|charge| charge.approved).count()
    }

    fn of(&self, top_up: usize) -> impl Iterator<Item = &Charge> {
        let is_for = move |charge: &&Charge| charge.reference.is_some_and(|r| r.top_up == top_up);
        self.charges.iter().filter(is_for)
    }
}

impl Charge {
    fn verdict(&self) -> Verdict {
        if self.approved {
            Verdict::Approved
        } else {
            Verdict::Declined
        }
    }
}
