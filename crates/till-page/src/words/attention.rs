//! What the cashier must see although it is no decision.

use canteen::Money;

use crate::state::{Figure, Person, Verdict, VerdictKind};
use crate::text::Text;

/// Something other than a decision that ends or disturbs a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// No chip was held to the reader while the basket waited.
    NoChipInTime,
    /// The cashier stopped the payment.
    Cancelled,
    /// The chip was felt but not read.
    HoldStill,
    /// A reader that types has typed keys that are no chip number.
    TypedKeys,
    /// A reader that types has typed a number in another shape than the settings say.
    TypedShape {
        /// How many digits.
        digits: usize,
        /// The setting that would take it.
        setting: &'static str,
    },
    /// A reader that types has typed too few digits, or too many.
    TypedLength {
        /// How many digits.
        digits: usize,
        /// How many the settings want, like `8, 14 or 20`.
        wanted: &'static str,
    },
    /// More than one chip is in the field.
    SeveralChips,
    /// The chip cannot identify anyone, such as a telephone with a new number each time.
    UnusableChip,
    /// Another program holds the reader.
    ReaderInUse,
    /// The reader does not work.
    ReaderFaulty,
    /// The tap is too old to pay for this basket.
    LateTap,
    /// The ledger did not say whether it recorded the purchase.
    OutcomeUnknown,
    /// A sale was undone.
    Voided {
        /// What was given back.
        amount: Money,
        /// What the account holds now.
        balance_after: Money,
    },
}

/// The verdict that shows it.
pub fn attention_words(id: impl Into<String>, attention: &Attention, person: Person) -> Verdict {
    let (title, detail) = title_and_detail(attention);
    Verdict {
        id: id.into(),
        kind: VerdictKind::Attention,
        title,
        detail,
        figure: figure(attention),
        person,
        top_up: None,
    }
}

fn title_and_detail(attention: &Attention) -> (Text, Text) {
    match attention {
        Attention::NoChipInTime => (
            Text::new("Ingen chip i tide", "No chip in time"),
            Text::new(
                "Intet er betalt – tryk Betal for at prøve igen",
                "Nothing was paid – press Pay to try again",
            ),
        ),
        Attention::Cancelled => (
            Text::new("Afbrudt", "Cancelled"),
            Text::new("Intet er betalt", "Nothing was paid"),
        ),
        Attention::HoldStill => (
            Text::new("Prøv igen", "Try again"),
            Text::new(
                "Chippen kunne ikke læses – hold den stille på læseren",
                "The chip could not be read – hold it still on the reader",
            ),
        ),
        Attention::TypedKeys => (
            Text::new("Læseren taster forkert", "The reader types wrongly"),
            Text::new(
                "Det er ikke et chipnummer – hold chippen på igen, eller slå læserens ekstra tegn fra",
                "That is no chip number – hold the chip again, or switch the reader's extra keys off",
            ),
        ),
        Attention::TypedShape { digits, setting } => (
            Text::new("Læseren taster forkert", "The reader types wrongly"),
            Text::new(
                format!(
                    "{digits} cifre passer ikke med till.toml – sæt {}",
                    danish(setting)
                ),
                format!("{digits} digits are not what till.toml says – set {setting}"),
            ),
        ),
        Attention::TypedLength { digits, wanted } => (
            Text::new("Prøv igen", "Try again"),
            Text::new(
                format!(
                    "Læseren tastede {digits} cifre i stedet for {} – hold chippen på igen",
                    danish(wanted)
                ),
                format!(
                    "The reader typed {digits} digits instead of {wanted} – hold the chip again"
                ),
            ),
        ),
        Attention::SeveralChips => (
            Text::new("Flere chips", "Several chips"),
            Text::new(
                "Hold kun én chip på læseren ad gangen",
                "Hold only one chip to the reader at a time",
            ),
        ),
        Attention::UnusableChip => (
            Text::new("Kan ikke bruges", "Cannot be used"),
            Text::new(
                "Det er ikke en kantinechip – en telefon eller et betalingskort kan ikke bruges",
                "This is no canteen chip – a telephone or payment card cannot be used",
            ),
        ),
        Attention::ReaderInUse => (
            Text::new("Prøv igen", "Try again"),
            Text::new(
                "Et andet program bruger læseren – luk det, og hold chippen på igen",
                "Another program uses the reader – close it and hold the chip again",
            ),
        ),
        Attention::ReaderFaulty => (
            Text::new("Læseren virker ikke", "The reader does not work"),
            Text::new(
                "Intet er betalt – tag læserens stik ud, og sæt det i igen",
                "Nothing was paid – unplug the reader and plug it in again",
            ),
        ),
        Attention::LateTap => (
            Text::new("Hold chippen igen", "Hold the chip again"),
            Text::new(
                "Chippen lå på læseren før betalingen – løft den, og hold den på igen",
                "The chip was there before the payment – lift it and hold it again",
            ),
        ),
        Attention::OutcomeUnknown => (
            Text::new("Uvist udfald", "Outcome unknown"),
            Text::new(
                "Kassen ved ikke, om salget blev gemt – se de seneste salg, før der betales igen",
                "The till cannot tell if the sale was recorded – see the latest sales first",
            ),
        ),
        Attention::Voided {
            amount,
            balance_after: _,
        } => (
            Text::new("Fortrudt", "Undone"),
            Text::new(
                format!("{amount} er ført tilbage til kontoen"),
                format!("{amount} was returned to the account"),
            ),
        ),
    }
}

/// Settings are the same in both languages, but for the words between them.
fn danish(settings: &str) -> String {
    settings.replace(" and ", " og ").replace(" or ", " eller ")
}

fn figure(attention: &Attention) -> Option<Figure> {
    match attention {
        Attention::Voided {
            amount: _,
            balance_after,
        } => Some(Figure {
            label: Text::new("Ny saldo", "New balance"),
            amount: balance_after.to_string(),
        }),
        Attention::NoChipInTime
        | Attention::Cancelled
        | Attention::HoldStill
        | Attention::TypedKeys
        | Attention::TypedShape { .. }
        | Attention::TypedLength { .. }
        | Attention::SeveralChips
        | Attention::UnusableChip
        | Attention::ReaderInUse
        | Attention::ReaderFaulty
        | Attention::LateTap
        | Attention::OutcomeUnknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(attention: Attention, title: &str, detail: &str) {
        let verdict = attention_words("1", &attention, Person::default());
        assert_eq!(verdict.kind, VerdictKind::Attention);
        assert_eq!(verdict.title.da, title);
        assert_eq!(verdict.detail.da, detail);
        for text in [&verdict.title, &verdict.detail] {
            assert!(!text.en.is_empty() && text.en != text.da, "{}", text.en);
        }
    }

    #[test]
    fn every_disturbance_says_what_to_do_or_that_nothing_was_paid() {
        use Attention as A;
        let again = "Intet er betalt – tryk Betal for at prøve igen";
        check(A::NoChipInTime, "Ingen chip i tide", again);
        check(A::Cancelled, "Afbrudt", "Intet er betalt");
        let still = "Chippen kunne ikke læses – hold den stille på læseren";
        check(A::HoldStill, "Prøv igen", still);
        let keys =
            "Det er ikke et chipnummer – hold chippen på igen, eller slå læserens ekstra tegn fra";
        check(A::TypedKeys, "Læseren taster forkert", keys);
        let shape = A::TypedShape {
            digits: 10,
            setting: "keyboard_number = \"hex\" and keyboard_em4100 = true",
        };
        let set = "10 cifre passer ikke med till.toml – sæt keyboard_number = \"hex\" og keyboard_em4100 = true";
        check(shape, "Læseren taster forkert", set);
        let length = A::TypedLength {
            digits: 7,
            wanted: "8, 14 or 20",
        };
        let missing = "Læseren tastede 7 cifre i stedet for 8, 14 eller 20 – hold chippen på igen";
        check(length, "Prøv igen", missing);
        let single = "Hold kun én chip på læseren ad gangen";
        check(A::SeveralChips, "Flere chips", single);
        let foreign =
            "Det er ikke en kantinechip – en telefon eller et betalingskort kan ikke bruges";
        check(A::UnusableChip, "Kan ikke bruges", foreign);
        let used = "Et andet program bruger læseren – luk det, og hold chippen på igen";
        check(A::ReaderInUse, "Prøv igen", used);
        let faulty = "Intet er betalt – tag læserens stik ud, og sæt det i igen";
        check(A::ReaderFaulty, "Læseren virker ikke", faulty);
        let late = "Chippen lå på læseren før betalingen – løft den, og hold den på igen";
        check(A::LateTap, "Hold chippen igen", late);
        let unknown =
            "Kassen ved ikke, om salget blev gemt – se de seneste salg, før der betales igen";
        check(A::OutcomeUnknown, "Uvist udfald", unknown);
    }

    #[test]
    fn an_undone_sale_shows_what_came_back() {
        let voided = Attention::Voided {
            amount: Money::from_kroner(22),
            balance_after: Money::from_ore(149_50),
        };
        check(voided, "Fortrudt", "22,00 kr. er ført tilbage til kontoen");
        let verdict = attention_words("1", &voided, Person::default());
        assert_eq!(verdict.figure.unwrap().amount, "149,50 kr.");
    }
}
