//! What the cashier page shows, whole, as it goes out with each server-sent event.

use serde::Serialize;

use crate::text::Text;
use crate::words::notice::NoticeShown;

/// Everything that the page shows.
///
/// It is sent whole each time, so a page that missed an event is right again with the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageState {
    /// The program's version.
    pub version: String,
    /// The till's name.
    pub till: String,
    /// The canteen's name.
    pub canteen: String,
    /// Random per start of the daemon; when it changes the page loads itself anew.
    pub boot: String,
    /// The line to the hub.
    pub line: Line,
    /// The chip readers.
    pub readers: Vec<Reader>,
    /// What the checkout is doing.
    pub phase: Phase,
    /// What is being bought.
    pub basket: Basket,
    /// While [`Phase::Waiting`]: how many milliseconds are left to hold a chip to the reader.
    pub waiting_until: Option<u64>,
    /// The latest outcome, until the till takes it away.
    pub verdict: Option<Verdict>,
    /// The chip that lies on the reader while nothing is being paid.
    pub chip: Option<ChipOnReader>,
    /// The latest sales and declines, newest first; the page shows as many as it has room for.
    pub recent: Vec<RecentSale>,
    /// The products, in the order of their buttons.
    pub products: Vec<Product>,
    /// What the cashier must know for as long as it lasts.
    pub notices: Vec<NoticeShown>,
    /// Whether the till can write to its ledger. When not, nothing can be sold.
    pub journal_ok: bool,
}

/// The line to the hub, as [`line_words`](crate::line_words) makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What the till may do with the line as it is.
    pub state: LineState,
    /// Since when (RFC 3339, UTC).
    pub since: Option<String>,
    /// How many entries wait to be sent to the hub.
    pub waiting: u64,
    /// How old the till's data about accounts is, in seconds.
    pub data_age_s: u64,
    /// All of that in words.
    pub text: Text,
}

/// What the till may do with the line to the hub as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// The hub answers.
    Online,
    /// The hub does not answer; sales go on.
    Offline,
    /// The data is so old that only a meal can be bought.
    Restricted,
    /// The data is so old that nothing can be bought.
    Stopped,
    /// The till has never had data from the hub.
    Never,
}

/// A chip reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it can read chips.
    pub ok: bool,
    /// How it is, or what is wrong and what to do.
    #[serde(flatten)]
    pub text: Text,
    /// The page of the runbook that tells a technician what to do, without `.md`.
    pub runbook: Option<&'static str>,
}

/// What the checkout is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The basket can be changed.
    Open,
    /// The basket waits for a chip.
    Waiting,
    /// The purchase is with the ledger.
    Deciding,
    /// The purchase has its outcome; the next line opens a new basket.
    Done,
}

/// What is being bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Basket {
    /// Its lines, oldest first.
    pub lines: Vec<BasketLine>,
    /// The sum, like `22,00`.
    pub total: String,
}

/// A line of the basket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BasketLine {
    /// Its place, which the page sends to remove it.
    pub index: usize,
    /// How many.
    pub quantity: u32,
    /// Of what.
    pub text: String,
    /// The price of one, like `22,00`.
    pub unit_price: String,
    /// The price of all, like `44,00`.
    pub amount: String,
}

/// An outcome that the cashier must see and hear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Of the tap or the event; the page sounds once per id.
    pub id: String,
    /// Its colour, sign and sound.
    pub kind: VerdictKind,
    /// One or two words.
    pub title: Text,
    /// One sentence with the cause.
    pub detail: Text,
    /// The figure that matters.
    pub figure: Option<Figure>,
    /// Whose chip it was.
    #[serde(flatten)]
    pub person: Person,
    /// What happens about the automatic top-up.
    pub top_up: Option<Text>,
}

/// The colour, sign and sound of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Green, a tick, two rising tones.
    Approved,
    /// Red, a cross, one low long tone.
    Declined,
    /// Amber, an exclamation mark, one short tone.
    Attention,
}

/// An amount that is read from afar, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// What it is.
    pub label: Text,
    /// How much, like `127,50 kr.`.
    pub amount: String,
}

/// The person behind a chip, as far as the cashier needs to recognise them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Person {
    /// Their name.
    pub name: Option<String>,
    /// The address of their photo: a path of the till or a `data:` URL.
    pub photo: Option<String>,
}

/// A chip that lies on the reader while nothing is being paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChipOnReader {
    /// Whose it is.
    #[serde(flatten)]
    pub person: Person,
    /// Whether it could pay.
    pub usable: bool,
    /// What the account holds, like `127,50 kr.`; not told of a chip that may not buy.
    pub balance: Option<String>,
    /// Active, blocked or unknown.
    pub status: Text,
}

/// A sale or a decline in the list of the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecentSale {
    /// Its id, which the page sends to undo it.
    pub id: String,
    /// The time of day, like `11:42`.
    pub time: String,
    /// Its sign.
    pub kind: RecentKind,
    /// What it was.
    pub title: Text,
    /// How much, like `22,00`.
    pub amount: String,
    /// Whose it was.
    pub name: Option<String>,
    /// Whether it may still be undone here.
    pub voidable: bool,
    /// The lines of which something is left to undo.
    pub pieces: Vec<PiecesLeft>,
}

/// What is left of a line of a sale, to be undone by the piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PiecesLeft {
    /// The line's place in the sale, which the page sends.
    pub line: u32,
    /// How many pieces are left.
    pub left: u32,
    /// Of what.
    pub text: String,
    /// The price of one, like `22,00`.
    pub unit_price: String,
}

/// The sign of a row in the list of the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecentKind {
    /// A sale that stands.
    Approved,
    /// A purchase that was declined.
    Declined,
    /// A sale that was undone.
    Voided,
}

/// A product button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Its number, which the page sends.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The heading it stands under.
    pub category: String,
    /// Its price, like `22,00`.
    pub price: String,
}
