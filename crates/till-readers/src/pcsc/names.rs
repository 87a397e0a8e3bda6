//! Which of the names that pcscd lists are contactless readers that the configuration wants.

/// Whether a listed name is a contactless reader, and one that `only` wants.
pub(super) fn is_wanted(listed: &str, only: Option<&str>) -> bool {
    let name = without_index(listed);
    is_contactless(name)
        && only.is_none_or(|part| name.to_lowercase().contains(&part.to_lowercase()))
}

/// Whether the reader is an ACR122U or one of its kin (ACR122T, ACR122S), whose commands it then knows;
/// an ACR1222L is none.
pub(super) fn is_acr122(listed: &str) -> bool {
    let name = listed.to_uppercase();
    let mut behind = name
        .match_indices("ACR122")
        .map(|(at, found)| &name[at + found.len()..]);
    behind.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// pcscd appends the reader's and the slot's number, and a reader's number may be another one
/// after it was unplugged.
fn without_index(listed: &str) -> &str {
    let is_number = |word: &str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut name = listed;
    for _ in 0..2 {
        match name.rsplit_once(' ') {
            Some((before, word)) if is_number(word) => name = before,
            Some(_) | None => break,
        }
    }
    name
}

/// A reader with several interfaces lists each as a reader of its own; the one for chips in the
/// field is called PICC, CL or contactless, the others are slots for cards and security modules.
fn is_contactless(name: &str) -> bool {
    let words = || {
        name.split(|c: char| !c.is_alphanumeric())
            .map(str::to_lowercase)
    };
    if words().any(|word| matches!(&*word, "picc" | "contactless" | "cl")) {
        return !words().any(|word| word == "sam");
    }
    !words().any(|word| matches!(&*word, "sam" | "icc" | "contact"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listed: &str, only: Option<&str>, expect: bool) {
        assert_eq!(is_wanted(listed, only), expect, "{listed} {only:?}");
    }

    #[test]
    fn slots_for_cards_and_security_modules_are_no_chip_readers() {
        check("ACS ACR122U PICC Interface 00 00", None, true);
        check(
            "ACS ACR1252 1S CL Reader [ACR1252 1S CL Reader PICC] 00 00",
            None,
            true,
        );
        check(
            "ACS ACR1252 1S CL Reader [ACR1252 1S CL Reader SAM] 01 00",
            None,
            false,
        );
        check(
            "ACS ACR1281 1S Dual Reader [ACR1281 1S Dual Reader ICC] 00 00",
            None,
            false,
        );
        check(
            "ACS ACR1281 1S Dual Reader [ACR1281 1S Dual Reader PICC] 00 01",
            None,
            true,
        );
        check(
            "Identiv uTrust 3700 F CL Reader [interface] (5312) 00 00",
            None,
            true,
        );
        check(
            "Identiv uTrust 4701 F [uTrust 4701 F Contact Reader] (1) 00 00",
            None,
            false,
        );
        check(
            "HID Global OMNIKEY 5022 Smart Card Reader 00 00",
            None,
            true,
        );
        check("Virtual PCD 00 01", None, true);
    }

    #[test]
    fn the_wanted_part_is_sought_in_the_name_without_its_index() {
        check("ACS ACR122U PICC Interface 00 00", Some("acr122u"), true);
        check("ACS ACR122U PICC Interface 00 00", Some("OMNIKEY"), false);
        check(
            "ACS ACR122U PICC Interface 00 00",
            Some("Interface 00"),
            false,
        );
        check("ACS ACR1252 SAM 00 00", Some("ACR1252"), false);
    }

    /// pcscd's hotplug_libudev.c adds the interface in brackets and the serial number in
    /// parentheses.
    #[test]
    fn one_of_several_equal_readers_is_wanted_by_its_serial_number() {
        let reader = |serial| format!("Identiv uTrust 3700 F CL Reader [CL] ({serial}) 00 00");
        check(&reader("5312"), Some("(5312)"), true);
        check(&reader("5313"), Some("(5312)"), false);
    }

    #[test]
    fn only_an_acr122_is_told_what_only_an_acr122_understands() {
        for name in [
            "ACS ACR122U PICC Interface 00 00",
            "ACS ACR122U 01 00",
            "ACS ACR122T NFC Reader 00 00",
            "ACR122 SMART CARD READER 00 00",
        ] {
            assert!(is_acr122(name), "{name}");
        }
        for name in [
            "ACS ACR1222L 1S CL Reader [ACR1222L PICC] 00 00",
            "ACS ACR1220 00 00",
            "ACS ACR1252 1S CL Reader [ACR1252 1S CL Reader PICC] 00 00",
            "HID Global OMNIKEY 5022 Smart Card Reader 00 00",
            "Virtual PCD 00 00",
        ] {
            assert!(!is_acr122(name), "{name}");
        }
    }

    #[test]
    fn a_number_that_belongs_to_the_name_stays() {
        assert_eq!(without_index("Virtual PCD 0A 01"), "Virtual PCD");
        assert_eq!(without_index("Reader 12"), "Reader");
        assert_eq!(without_index("Reader 2000 00 00"), "Reader 2000");
        assert_eq!(without_index("00"), "00");
    }
}
