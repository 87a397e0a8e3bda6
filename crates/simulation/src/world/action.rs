//! What may happen in a world.
//!
//! An action says everything about itself and is drawn without a look at the world, so that any
//! of them can be left out of a run and the others still mean what they did.

/// One thing that happens. Tills, accounts and the like are counted round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A chip of an account is tapped for a purchase; when only the allowance is in the way, the
    /// till asks the hub first.
    Sell {
        /// The till.
        till: u8,
        /// The account.
        account: u8,
        /// Which of its chips, the newest first.
        chip: u8,
        /// What it costs.
        ore: i64,
        /// How the question to the hub fares.
        way: Way,
    },
    /// The till's latest purchase is asked for once more, under the same id.
    SellAgain {
        /// The till.
        till: u8,
    },
    /// A cashier takes one of the till's sales back.
    Void {
        /// The till.
        till: u8,
        /// Which of its sales, the newest first.
        back: u8,
    },
    /// A till sends entries.
    Push {
        /// The till.
        till: u8,
        /// At most so many; 0 is as many as the upload wants to send.
        most: u8,
        /// How that fares.
        way: Way,
    },
    /// A till asks for changes, or for a snapshot when it needs one.
    Fetch {
        /// The till.
        till: u8,
        /// How that fares.
        way: Way,
    },
    /// A till asks for statuses alone.
    FetchStatuses {
        /// The till.
        till: u8,
        /// How that fares.
        way: Way,
    },
    /// A till writes the totals of its day down.
    Z {
        /// The till.
        till: u8,
    },
    /// A till writes down how far it has applied the changes.
    AckFeed {
        /// The till.
        till: u8,
    },
    /// A message that was late arrives.
    Arrive {
        /// Which.
        which: u8,
    },
    /// A till's line to the hub breaks or comes back.
    Line {
        /// The till.
        till: u8,
        /// Whether it is up from now on.
        up: bool,
    },
    /// A till uses a quiet moment to empty its log.
    Rest {
        /// The till.
        till: u8,
    },
    /// A till's program ends and starts again.
    Restart {
        /// The till.
        till: u8,
    },
    /// The power of a till fails between two transactions.
    PowerCut {
        /// The till.
        till: u8,
    },
    /// Somebody copies a till's disk, and both machines go on under one name.
    Clone {
        /// The till.
        till: u8,
    },
    /// Somebody keeps a copy of a till's disk.
    KeepDisk {
        /// The till.
        till: u8,
    },
    /// The copy is put back.
    PutDiskBack {
        /// The till.
        till: u8,
    },
    /// A till that the hub does not take for itself is enrolled anew.
    Renew {
        /// The till.
        till: u8,
    },
    /// Power fails in the middle of the next transaction.
    CutNext {
        /// Where.
        whom: Whom,
        /// What the disk keeps of it.
        cut: Cut,
    },
    /// The hub's program is killed between two transactions.
    HubStops,
    /// Somebody makes a backup of the hub.
    BackHubUp,
    /// The hub's database is put back from the backup.
    RestoreHub,
    /// An operator waits no longer for tills that have not reported since.
    Unfreeze,
    /// An operator takes in what the gateway has charged, and lets cards be charged again; when they
    /// are, he says what a charge was for that the hub could not place.
    ResumeTopUps,
    /// Money is paid in.
    Deposit {
        /// The account.
        account: u8,
        /// How much.
        kroner: i32,
    },
    /// An operator moves a balance.
    Correct {
        /// The account.
        account: u8,
        /// How far; below zero takes money out.
        kroner: i32,
        /// Although tills may be spending it.
        force: bool,
    },
    /// A debit that waits for tills is given back to the account, or goes on by force.
    EndDebit {
        /// Which.
        which: u8,
        /// Which of the two.
        force: bool,
    },
    /// Somebody blocks an account or makes it active again.
    Block {
        /// The account.
        account: u8,
        /// Which of the two.
        block: bool,
    },
    /// Somebody blocks a chip or makes it active again.
    BlockChip {
        /// The account.
        account: u8,
        /// Which of the two.
        block: bool,
    },
    /// An account gets another chip in the place of its newest one.
    ReplaceChip {
        /// The account.
        account: u8,
    },
    /// A guardian sets or lifts the daily, weekly or monthly limit.
    Limit {
        /// The account.
        account: u8,
        /// The day's, the week's or the month's.
        window: u8,
        /// How much; 0 lifts it.
        kroner: i32,
    },
    /// A guardian makes the limits strict, or lenient again.
    Strictness {
        /// The account.
        account: u8,
        /// Which of the two.
        strict: bool,
    },
    /// An operator changes how far below zero an account may go.
    Credit {
        /// The account.
        account: u8,
        /// How far.
        kroner: i32,
    },
    /// A guardian agrees to automatic top-ups, or ends the agreement.
    Agree {
        /// The account.
        account: u8,
        /// How much; 0 ends it.
        kroner: i32,
    },
    /// The hub does one piece of what is due about top-ups.
    TopUp {
        /// What the card says when it is asked.
        card: Card,
        /// How the call to the gateway fares.
        way: Way,
    },
    /// Time passes.
    Wait {
        /// So much.
        seconds: u32,
    },
    /// Time passes until shortly before the calendar turns, or until it has.
    WaitFor {
        /// What turns.
        turn: Turn,
        /// Whether it has.
        turned: bool,
    },
    /// A till's wall clock is set wrong, or right again with 0.
    SetClock {
        /// The till.
        till: u8,
        /// How far it is off from now on.
        seconds: i32,
    },
}

/// How a request and its answer fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The request.
    pub request: Fate,
    /// The answer, if the request comes to one.
    pub answer: Fate,
}

impl Way {
    /// Both arrive.
    pub const CLEAR: Way = Way {
        request: Fate::Arrives,
        answer: Fate::Arrives,
    };
}

/// How a message fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// At once.
    Arrives,
    /// Never.
    Lost,
    /// Nobody waits for it any more when it arrives, if it does.
    Late,
    /// At once, and perhaps once more later.
    Twice,
}

/// Whose power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// A till's.
    Till(u8),
    /// The hub's.
    Hub,
}

/// What a disk keeps of the writes of a transaction whose power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// None of them.
    Before,
    /// All of them; only the answer is lost.
    After,
    /// Those up to one of them.
    Torn {
        /// Which: so many 65536ths of them.
        at: u16,
    },
    /// Any of them, in whatever order the disk wrote them.
    Scattered {
        /// Which.
        seed: u16,
    },
}

/// What turns in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A day.
    Day,
    /// An ISO week.
    Week,
    /// A month.
    Month,
    /// Summer time begins or ends.
    Clock,
}

/// What a card says to a charge that reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// Paid.
    Pays,
    /// Not enough money on it today.
    NoFunds,
    /// Never again.
    Expired,
}
