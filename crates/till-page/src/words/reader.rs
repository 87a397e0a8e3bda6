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
            runbook: match trouble {
                None | Some(ReaderTrouble::Starting) => None,
                Some(_) => Some("reader-dead"),
            },
        }
    }
}

/// What is wrong and what to do; short, since it stands in the banner.
pub(crate) fn reader_fault_words(trouble: &ReaderTrouble) -> Text {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The one after another, so that the compiler names one that is not walked below.
    fn after(it: &ReaderTrouble) -> Option<ReaderTrouble> {
        match it {
            ReaderTrouble::NotConnected => Some(ReaderTrouble::NotAnswering),
            ReaderTrouble::NotAnswering => Some(ReaderTrouble::InUse),
            ReaderTrouble::InUse => Some(ReaderTrouble::KeyboardMode),
            ReaderTrouble::KeyboardMode => Some(ReaderTrouble::WrongVersion),
            ReaderTrouble::WrongVersion => Some(ReaderTrouble::NotSetUp),
            ReaderTrouble::NotSetUp => Some(ReaderTrouble::Starting),
            ReaderTrouble::Starting => None,
        }
    }

    #[track_caller]
    fn check(it: &ReaderTrouble, seen: &mut Vec<String>) {
        let Text { da, en } = reader_fault_words(it);
        for text in [da, en] {
            assert!(
                !text.is_empty() && text.chars().count() <= 55,
                "{it:?}: {text}"
            );
            assert!(!seen.contains(&text), "{it:?}: {text}");
            seen.push(text);
        }
    }

    #[test]
    fn every_fault_has_short_words_of_its_own_in_both_languages() {
        let mut seen = Vec::new();
        for it in std::iter::successors(Some(ReaderTrouble::NotConnected), after) {
            check(&it, &mut seen);
        }
        assert_eq!(seen.len(), 2 * 7);
    }

    #[test]
    fn a_working_reader_is_ready_and_a_faulty_one_says_why() {
        let working = Reader::new("Demo", None);
        assert!(working.ok);
        assert_eq!(working.text, Text::new("Læser klar", "Reader ready"));
        let faulty = Reader::new("Demo", Some(ReaderTrouble::NotConnected));
        assert!(!faulty.ok);
        assert_eq!(faulty.text.da, "Læser mangler – tjek stikket");
    }
}
