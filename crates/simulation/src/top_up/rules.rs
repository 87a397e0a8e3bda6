//! Which variant of each rule a configuration follows, and how much may happen in it.

/// The rules. [`Rules::default`] is what is recommended; every other value is a mistake that
/// someone could make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// When a charge is written down.
    pub write: Write,
    /// What follows when no answer comes.
    pub after_timeout: AfterTimeout,
    /// When "not found" is believed.
    pub not_found: NotFound,
    /// What an "identical transaction" means.
    pub identical: Identical,
    /// How far apart charges of one amount on one card are sent.
    pub spacing: Spacing,
    /// Whether the account is looked at again before money is credited.
    pub credit: Credit,
    /// Whether one account may have several top-ups under way.
    pub triggers: Triggers,
    /// What keeps a charge from being credited twice.
    pub booking: Booking,
    /// Attempts of one top-up at most.
    pub attempts_max: u8,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            write: Write::Ahead,
            after_timeout: AfterTimeout::LookUp,
            not_found: NotFound::AfterSpacing,
            identical: Identical::Unknown,
            spacing: Spacing::WindowAndTransit,
            credit: Credit::LooksAgain,
            triggers: Triggers::OneActive,
            booking: Booking::ByTopUp,
            attempts_max: 3,
        }
    }
}

/// When a charge is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Before the first byte leaves.
    Ahead,
    /// Mistake: after sending.
    Behind,
}

/// What follows when no answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterTimeout {
    /// The charge is looked up.
    LookUp,
    /// Mistake: a new charge at once.
    ChargeAtOnce,
    /// Mistake: a new charge when the window is over.
    ChargeAfterWindow,
    /// Mistake: the top-up has failed.
    GiveUp,
    /// Mistake: the same charge with the same idempotency key, which the gateway honours for
    /// ever, and after the last attempt the top-up has failed.
    SameKeyThenGiveUp,
}

/// When "not found" is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// When the charge was sent at least the spacing ago.
    AfterSpacing,
    /// Mistake: at once; and the next charge waits for nothing.
    AtOnce,
}

/// What an "identical transaction" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identical {
    /// That the outcome is unknown.
    Unknown,
    /// Mistake: that it went through before.
    Success,
    /// Mistake: that nothing was charged.
    Failure,
}

/// How far apart charges of one amount on one card are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// The gateway's window and the longest transit: W + D.
    WindowAndTransit,
    /// Mistake: the window alone.
    Window,
    /// Mistake: not at all.
    Nothing,
}

/// Whether the account is looked at again before money is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// Yes, and money for a blocked account is refunded.
    LooksAgain,
    /// Mistake: no.
    Blindly,
}

/// Whether one account may have several top-ups under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triggers {
    /// No: further purchases only count up.
    OneActive,
    /// Mistake: every purchase makes its own.
    EachItsOwn,
}

/// What keeps a charge from being credited twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Booking {
    /// The top-up is the key of the booking.
    ByTopUp,
    /// Mistake: nothing; every message of success is booked.
    ByMessage,
}

/// How much may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Accounts on the card.
    pub accounts: u8,
    /// What each of them holds, in kroner.
    pub opening: i16,
    /// What a purchase costs, in kroner.
    pub price: i16,
    /// What a top-up is, in kroner.
    pub amount: i16,
    /// Purchases per account.
    pub purchases: u8,
    /// The gateway's window for identical transactions, in ticks.
    pub window: u8,
    /// How long a charge may be under way at most, in ticks.
    pub transit: u8,
    /// How long after a charge the gateway's look-up may still say "not found", in ticks.
    pub lag: u8,
    /// How often an account may be blocked or reactivated, in all.
    pub blocks: u8,
    /// How often the gateway may decline, in all.
    pub declines: u8,
    /// How often the hub may crash, in all.
    pub crashes: u8,
    /// How often the gateway may report a charge by itself, in all.
    pub notices: u8,
    /// Deposits of the same amount that a guardian makes by hand with the same card.
    pub deposits: u8,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope {
            accounts: 1,
            opening: 60,
            price: 20,
            amount: 100,
            purchases: 1,
            window: 5,
            transit: 1,
            lag: 0,
            blocks: 0,
            declines: 1,
            crashes: 1,
            notices: 1,
            deposits: 0,
        }
    }
}

impl Scope {
    /// The least time between two dispatches under a rule.
    pub fn spacing(&self, spacing: Spacing) -> u8 {
        match spacing {
            Spacing::WindowAndTransit => self.window + self.transit,
            Spacing::Window => self.window,
            Spacing::Nothing => 0,
        }
    }
}
