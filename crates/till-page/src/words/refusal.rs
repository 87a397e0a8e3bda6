//! Why the till did not do what was pressed.

use crate::text::Text;

/// A press that the till refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to pay for.
    BasketEmpty,
    /// The basket has no room for another line.
    BasketFull,
    /// The total would be more than one purchase can be.
    TotalTooLarge,
    /// There is no such product.
    UnknownProduct,
    /// The typed line is not like `1x Dagens ret 22,00`.
    LineUnreadable,
    /// The basket has no such line any more.
    LineGone,
    /// The basket cannot be changed while a payment runs.
    PaymentRunning,
    /// No payment is running.
    NothingRunning,
    /// There is no such sale on this till.
    UnknownSale,
    /// The sale was undone before.
    VoidedBefore,
    /// The sale has not so many pieces left to undo.
    PiecesGone,
    /// The sale is too old to be undone here.
    TooOldToVoid,
    /// No reader works, so no chip can pay.
    NoReader,
    /// The till cannot write to its ledger.
    JournalUnavailable,
}

/// The refusal in words, with what to do.
pub fn refusal_words(refusal: &Refusal) -> Text {
    match refusal {
        Refusal::BasketEmpty => Text::new(
            "Kurven er tom – vælg en vare først",
            "The basket is empty – choose a product first",
        ),
        Refusal::BasketFull => Text::new(
            "Kurven er fuld – tag betaling for den først",
            "The basket is full – take payment for it first",
        ),
        Refusal::TotalTooLarge => Text::new(
            "Beløbet er for stort til ét køb – del det op",
            "The amount is too large for one purchase – split it",
        ),
        Refusal::UnknownProduct => Text::new(
            "Varen findes ikke længere",
            "The product is no longer there",
        ),
        Refusal::LineUnreadable => Text::new(
            "Beløbet kunne ikke læses – skriv for eksempel 22,00",
            "The amount could not be read – write for example 22,00",
        ),
        Refusal::LineGone => Text::new("Linjen er allerede fjernet", "The line is already removed"),
        Refusal::PaymentRunning => Text::new(
            "En betaling er i gang – tryk Afbryd for at ændre kurven",
            "A payment is running – press Cancel to change the basket",
        ),
        Refusal::NothingRunning => Text::new("Ingen betaling er i gang", "No payment is running"),
        Refusal::UnknownSale => Text::new(
            "Salget findes ikke på denne kasse",
            "The sale is not of this till",
        ),
        Refusal::VoidedBefore => Text::new(
            "Salget er allerede fortrudt",
            "The sale has been undone already",
        ),
        Refusal::PiecesGone => Text::new(
            "Så mange er der ikke tilbage at fortryde",
            "There are not so many left to undo",
        ),
        Refusal::TooOldToVoid => Text::new(
            "Salget er for gammelt til at fortryde her",
            "The sale is too old to undo here",
        ),
        Refusal::NoReader => Text::new(
            "Ingen læser virker – tjek stikket",
            "No reader works – check the cable",
        ),
        Refusal::JournalUnavailable => Text::new(
            "Kassen kan ikke gemme – sælg ikke, og tilkald hjælp",
            "The till cannot record – stop selling and call for help",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one after another, so that the compiler names one that is not walked below.
    fn after(it: &Refusal) -> Option<Refusal> {
        match it {
            Refusal::BasketEmpty => Some(Refusal::BasketFull),
            Refusal::BasketFull => Some(Refusal::TotalTooLarge),
            Refusal::TotalTooLarge => Some(Refusal::UnknownProduct),
            Refusal::UnknownProduct => Some(Refusal::LineUnreadable),
            Refusal::LineUnreadable => Some(Refusal::LineGone),
            Refusal::LineGone => Some(Refusal::PaymentRunning),
            Refusal::PaymentRunning => Some(Refusal::NothingRunning),
            Refusal::NothingRunning => Some(Refusal::UnknownSale),
            Refusal::UnknownSale => Some(Refusal::VoidedBefore),
            Refusal::VoidedBefore => Some(Refusal::PiecesGone),
            Refusal::PiecesGone => Some(Refusal::TooOldToVoid),
            Refusal::TooOldToVoid => Some(Refusal::NoReader),
            Refusal::NoReader => Some(Refusal::JournalUnavailable),
            Refusal::JournalUnavailable => None,
        }
    }

    #[track_caller]
    fn check(it: &Refusal, seen: &mut Vec<String>) {
        let Text { da, en } = refusal_words(it);
        for text in [da, en] {
            assert!(
                !text.is_empty() && text.chars().count() <= 70,
                "{it:?}: {text}"
            );
            assert!(!seen.contains(&text), "{it:?}: {text}");
            seen.push(text);
        }
    }

    #[test]
    fn every_refusal_has_words_of_its_own_in_both_languages() {
        let mut seen = Vec::new();
        for it in std::iter::successors(Some(Refusal::BasketEmpty), after) {
            check(&it, &mut seen);
        }
        assert_eq!(seen.len(), 2 * 14);
    }
}
