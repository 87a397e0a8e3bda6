//! Which variant of each rule a configuration follows, and how much may happen in it.

use super::Kroner;

/// The rules. [`Rules::default`] is what is recommended; every other value is a mistake that
/// someone could make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// From when on a smaller share makes room for other tills.
    pub room: Room,
    /// What the hub reckons with when a day has turned.
    pub turn: Turn,
    /// What tills are granted ahead when something is booked on a later day.
    pub later: Later,
    /// What a share is worth before the day that it was issued for.
    pub earlier: Earlier,
    /// What counts against a share.
    pub counting: Counting,
    /// What the hub reckons with while a till has not heard that the limit is strict.
    pub heard: Heard,
    /// What the till's program makes of its share.
    pub program: Program,
}

/// From when on a smaller share makes room for other tills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// When the till has acknowledged it.
    #[default]
    WhenAcknowledged,
    /// Mistake: when the hub has issued it.
    WhenIssued,
}

/// What the hub reckons with when a day has turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// That the till sells all that it was granted ahead, until it acknowledges a share of the day.
    #[default]
    CarriesAhead,
    /// The same, less what is booked of it since: a late sale may be of the day before.
    CarriesLessBooked,
    /// Mistake: nothing; every till begins the day with the new share.
    BeginsAnew,
}

/// What tills are granted ahead when something is booked on a later day: a clock is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Later {
    /// The limit, less what is booked on the fullest of the later days.
    #[default]
    LessBooked,
    /// Mistake: the whole limit.
    Whole,
}

/// What a share is worth before the day that it was issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Earlier {
    /// Nothing.
    #[default]
    Nothing,
    /// Mistake: as much as on that day.
    AsMuch,
}

/// What counts against a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// All sales.
    #[default]
    Gross,
    /// Mistake: sales less voids.
    NetOfVoids,
}

/// What the hub reckons with while a till has not heard that the limit is strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heard {
    /// That it sells as far as its ceiling of money reaches.
    #[default]
    Awaited,
    /// Mistake: nothing.
    TakenForGranted,
}

/// What the till's program makes of its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Program {
    /// It keeps it.
    #[default]
    Keeps,
    /// Mistake: it drops it, being older than strict limits, and is not known to.
    Drops,
}

/// How much may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// How many tills there are.
    pub tills: usize,
    /// The limit of a day.
    pub limit: Kroner,
    /// The most that one till is given.
    pub cap: Kroner,
    /// Whether the limit is strict from the beginning; else tills begin with so much money to sell.
    pub lenient_money: Option<Kroner>,
    /// Days, counted from 0.
    pub days: u8,
    /// Sales per till, each of one krone.
    pub sales: u8,
    /// Voids in all.
    pub voids: u8,
    /// How often the hub issues shares.
    pub issues: u8,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope {
            tills: 2,
            limit: 1,
            cap: 1,
            lenient_money: None,
            days: 2,
            sales: 1,
            voids: 0,
            issues: 1,
        }
    }
}
