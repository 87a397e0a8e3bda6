//! The cashier page: its frame, its files, the state it shows and the words it says.
//!
//! The page is drawn once by [`page`] and then follows the till: each server-sent event carries
//! one whole [`PageState`]. Nothing here decides anything. Domain values come in, Danish and
//! English words come out, so that every sentence a cashier can meet stands in this crate and is
//! tested here.
//!
//! This is the cashier's view and not a display for the queue: it names balances and what is
//! missing, which belongs between the cashier and the one who stands in front of them.

mod file;
mod frame;
mod state;
mod text;
mod words;

pub use file::{StaticFile, static_file};
pub use frame::{Frame, page};
pub use state::{
    Basket, BasketLine, ChipOnReader, Figure, Line, LineState, PageState, Person, Phase,
    PiecesLeft, Product, Reader, RecentKind, RecentSale, Verdict, VerdictKind,
};
pub use text::{Text, clock};
pub use words::attention::{Attention, attention_words};
pub use words::chip::chip_words;
pub use words::decision::{Outcome, decline_title, verdict_words};
pub use words::line::line_words;
pub use words::notice::{Notice, NoticeShown, notice_shown};
pub use words::reader::ReaderTrouble;
pub use words::refusal::{Refusal, refusal_words};
