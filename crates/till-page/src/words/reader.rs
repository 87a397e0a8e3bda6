//! What is wrong with a reader, in words for a cashier.

use crate::state::Reader;
use crate::text::Text;

/// What keeps a reader from working, as far as a cashier can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderTrouble {
    /// No reader is there, or its serial line is missing.
    NotConnected,
    /// It is there and does not answer, or no longer does.
    NotAnswering,
    /// Another program holds it.
    InUse,
    /// It types as a keyboard.
    KeyboardMode,
    /// Its firmware and the till do not understand each other.
    WrongVersion,
    /// The machine is not set up for it: a service, a right or a driver.
    NotSetUp,
    /// It was found and is being made ready.
    Starting,
}

impl Reader {
    /// A reader that works, or what is wrong with it.
    pub fn new(name: impl Into<String>, trouble: Option<ReaderTrouble>) -> Reader {
        Reader {
            name: name.into(),
            ok: trouble.is_none(),
            text: trouble.map_or_else(
                || Text::new("Læser klar", "Reader ready"),
                |trouble| reader_fault_words(&trouble),
            ),
        }
    }
}

/// What is wrong and what to do; short, since it stands in the banner.
pub fn reader_fault_words(trouble: &ReaderTrouble) -> Text {
    match trouble {
        ReaderTrouble::NotConnected => Text::new(
            "Læser mangler – tjek stikket",
            "No reader – check the cable",
        ),
        ReaderTrouble::NotAnswering => Text::new(
            "Læser svarer ikke – tag stikket ud og i",
            "Reader silent – unplug and replug it",
        ),
        ReaderTrouble::InUse => Text::new(
            "Læser optaget af andet program – luk det",
            "Reader used by another program – close it",
        ),
        ReaderTrouble::KeyboardMode => Text::new(
            "Læser er i tastaturtilstand – tilkald teknikeren",
            "Reader in keyboard mode – call the technician",
        ),
        ReaderTrouble::WrongVersion => Text::new(
            "Læser skal opdateres – tilkald teknikeren",
            "Reader needs an update – call the technician",
        ),
        ReaderTrouble::NotSetUp => Text::new(
            "Læser er ikke sat op – tilkald teknikeren",
            "Reader not set up – call the technician",
        ),
        ReaderTrouble::Starting => Text::new("Læser starter", "Reader is starting"),
    }
}
