//! From keys to a chip's number, without a keyboard and without a clock.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use canteen::{ChipId, ChipIdError};

use crate::Typed;

/// One event of an input device (Documentation/input/input.rst of the kernel), without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEvent {
    /// What kind of event: 0 synchronisation, 1 key; others say nothing here.
    pub kind: u16,
    /// Which key, by its place on the keyboard and not by what is printed on it.
    pub code: u16,
    /// 0 released, 1 pressed, 2 repeated because it is held.
    pub value: i32,
}

impl KeyEvent {
    /// The kernel had more events than the till took in time.
    pub const LOST: KeyEvent = KeyEvent {
        kind: SYN,
        code: SYN_DROPPED,
        value: 0,
    };

    /// All three numbers, least significant byte first.
    pub fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.kind.to_le_bytes();
        let [c, d] = self.code.to_le_bytes();
        let [e, f, g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// As [`KeyEvent::to_bytes`] made them.
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> KeyEvent {
        KeyEvent {
            kind: u16::from_le_bytes([a, b]),
            code: u16::from_le_bytes([c, d]),
            value: i32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// How a reader types a chip's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberFormat {
    /// In hex (8, 14 or 20 digits for the chip's bytes) instead of as a decimal of 10 digits.
    pub is_hex: bool,
    /// The chip's last byte comes first.
    pub is_reversed: bool,
    /// The chips are EM4100 (125 kHz), whose numbers follow no rules; in hex their version may
    /// stand in front, which makes 10 digits.
    pub is_em4100: bool,
}

impl NumberFormat {
    /// Ten digits, most significant byte first, as printed on most cards.
    pub const DECIMAL: NumberFormat = NumberFormat {
        is_hex: false,
        is_reversed: false,
        is_em4100: false,
    };

    /// The chip with these digits; `None` when they are none of this format.
    pub(super) fn chip(self, digits: &[u8]) -> Option<Result<ChipId, ChipIdError>> {
        let mut bytes = if self.is_hex {
            self.hex_bytes(digits)?
        } else {
            decimal_bytes(digits)?.to_vec()
        };
        if self.is_reversed {
            bytes.reverse();
        }
        if !self.is_em4100 {
            return Some(ChipId::from_uid(&bytes));
        }
        let number = *bytes.last_chunk()?;
        Some(ChipId::from_em4100(number))
    }

    /// Why these digits are no number of this format.
    pub(super) fn fault(self, digits: &[u8]) -> Typed {
        let (is_decimal, count) = (decimal_bytes(digits).is_some(), digits.len());
        let has_letters = digits.iter().any(|digit| *digit > 9);
        let (setting, wanted) = match (self.is_hex, self.is_em4100) {
            (false, _) => {
                // Eight figures may be a decimal that lacks two.
                let is_hex = matches!(count, 14 | 20) || count == 8 && has_letters;
                let hex = is_hex.then_some("keyboard_number = \"hex\"");
                let with_version = "keyboard_number = \"hex\" and keyboard_em4100 = true";
                let is_em4100 = count == 10 && has_letters;
                (hex.or(is_em4100.then_some(with_version)), "10")
            }
            (true, false) => {
                let decimal = is_decimal.then_some("keyboard_number = \"decimal\"");
                let is_em4100 = count == 10 && has_letters;
                let em4100 = is_em4100.then_some("keyboard_em4100 = true");
                (decimal.or(em4100), "8, 14 or 20")
            }
            (true, true) => {
                let is_uid = matches!(count, 14 | 20);
                (is_uid.then_some("keyboard_em4100 = false"), "8 or 10")
            }
        };
        let digits = count;
        match setting {
            Some(setting) => Typed::Shape { digits, setting },
            None => Typed::Length { digits, wanted },
        }
    }

    fn hex_bytes(self, digits: &[u8]) -> Option<Vec<u8>> {
        let is_length = match self.is_em4100 {
            true => matches!(digits.len(), 8 | 10),
            false => matches!(digits.len(), 8 | 14 | 20),
        };
        let (pairs, []) = digits.as_chunks() else {
            return None;
        };
        is_length.then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
    }
}

/// Exactly ten digits: fewer are a number of which some were lost.
fn decimal_bytes(digits: &[u8]) -> Option<[u8; 4]> {
    let digits: &[u8; 10] = digits.try_into().ok()?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        (*digit < 10).then(|| number * 10 + u64::from(*digit))
    });
    Some(u32::try_from(number?).ok()?.to_be_bytes())
}

/// What was typed, up to an Enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Digits alone, each from 0 to 15.
    Number {
        /// In the order in which they were typed.
        digits: Vec<u8>,
    },
    /// Other keys were among them, or there were too many.
    Other,
    /// So few keys that somebody, or nobody, has leant on them.
    Short,
}

/// The line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Typing {
    digits: Vec<u8>,
    /// Whether other keys than digits were pressed.
    has_others: bool,
    /// A part of this line is missing: whatever it is, it counts for nothing.
    is_spoilt: bool,
    /// The keys that are down of those that change what others mean.
    modifiers: Vec<u16>,
    begun_at: Option<Instant>,
    last_key: Option<Instant>,
}

impl Typing {
    /// Takes an event; gives the line that it ends.
    pub(super) fn push(&mut self, event: KeyEvent, now: Instant) -> Option<Line> {
        match (event.kind, event.code, event.value) {
            (SYN, SYN_DROPPED, _) => {
                self.spoil(now);
                self.modifiers.clear();
                None
            }
            (KEY, code, 0) => {
                self.modifiers.retain(|down| *down != code);
                None
            }
            (KEY, code, 1) => self.press(code, now),
            // Repeats of a held key, and all that is no key.
            _ => None,
        }
    }

    /// The line that is being typed, if any, lacks something.
    pub(super) fn spoil(&mut self, now: Instant) {
        *self = Typing {
            modifiers: std::mem::take(&mut self.modifiers),
            is_spoilt: true,
            last_key: Some(now),
            ..Typing::default()
        };
    }

    /// When the line that was ended last was begun.
    pub(super) fn begun_at(&self) -> Option<Instant> {
        self.begun_at
    }

    fn press(&mut self, code: u16, now: Instant) -> Option<Line> {
        let pause = self.last_key.map(|at| now.saturating_duration_since(at));
        if pause.is_none_or(|pause| pause > LONGEST_PAUSE) {
            self.begin();
        }
        self.last_key = Some(now);
        if ENTERS.contains(&code) {
            return self.end();
        }
        if SHIFTS.contains(&code) {
            // Capitals are typed with it, and digits on some layouts.
            return None;
        }
        if MODIFIERS.contains(&code) && !self.modifiers.contains(&code) {
            self.modifiers.push(code);
        }
        if self.digits.is_empty() && !self.has_others {
            self.begun_at = Some(now);
        }
        match digit(code).filter(|_| self.modifiers.is_empty()) {
            Some(digit) if self.digits.len() < *DIGITS.end() => self.digits.push(digit),
            Some(_) | None => self.has_others = true,
        }
        None
    }

    fn begin(&mut self) {
        self.digits.clear();
        self.has_others = false;
        self.is_spoilt = false;
    }

    fn end(&mut self) -> Option<Line> {
        let digits = std::mem::take(&mut self.digits);
        let line = if self.is_spoilt {
            None
        } else if self.has_others {
            Some(Line::Other)
        } else if digits.len() < *DIGITS.start() {
            Some(Line::Short)
        } else {
            Some(Line::Number { digits })
        };
        self.begin();
        line
    }
}

/// The digit on a key of the layout that readers type for when nobody has set another (US).
pub(super) fn digit(code: u16) -> Option<u8> {
    let at = KEYS_OF_DIGITS.iter().position(|keys| keys.contains(&code));
    at.and_then(|digit| u8::try_from(digit).ok())
}

// Codes of linux/input-event-codes.h.
const SYN: u16 = 0;
const SYN_DROPPED: u16 = 3;
pub(super) const KEY: u16 = 1;
pub(super) const ENTER: u16 = 28;
/// The large one and that of the keypad.
pub(super) const ENTERS: [u16; 2] = [ENTER, 96];
/// Left and right.
pub(super) const SHIFTS: [u16; 2] = [42, 54];
/// Control, Alt and Meta, left and right.
pub(super) const MODIFIERS: [u16; 6] = [29, 97, 56, 100, 125, 126];
/// For each digit the key above the letters and the one of the keypad, or the letter.
const KEYS_OF_DIGITS: [&[u16]; 16] = [
    &[11, 82],
    &[2, 79],
    &[3, 80],
    &[4, 81],
    &[5, 75],
    &[6, 76],
    &[7, 77],
    &[8, 71],
    &[9, 72],
    &[10, 73],
    &[30],
    &[48],
    &[46],
    &[32],
    &[18],
    &[33],
];

/// Readers press the next key within some 50 ms.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Up to the longest identifier of a chip, in hex. A number that lacks some digits is told, so that a
/// wrong setting is found; a key or two are not.
pub(super) const DIGITS: RangeInclusive<usize> = 4..=20;

/// The events of a key that is pressed and released: a hex digit, Enter for a line's end, else a key
/// that is no digit.
#[cfg(any(test, fuzzing))]
pub(super) fn press(letter: char) -> [KeyEvent; 2] {
    let code = match letter.to_digit(16) {
        Some(digit) => KEYS_OF_DIGITS[digit as usize][0],
        None if letter == '\n' => ENTER,
        None => 45,
    };
    [1, 0].map(|value| KeyEvent {
        kind: KEY,
        code,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        let digit = |letter: char| letter.to_digit(16).unwrap() as u8;
        text.chars().map(digit).collect()
    }

    /// A format by its name in the till's settings, `+em` for EM4100.
    fn format_of(name: &str) -> NumberFormat {
        NumberFormat {
            is_hex: name.starts_with("hex"),
            is_reversed: name.contains("reversed"),
            is_em4100: name.ends_with("+em"),
        }
    }

    #[track_caller]
    fn check(format: &str, typed: &str, expect: &str) {
        let format = format_of(format);
        let said = match format.chip(&digits(typed)) {
            Some(Ok(chip)) => chip.to_string(),
            Some(Err(error)) => format!("{error:?}"),
            None => "none".to_owned(),
        };
        assert_eq!(said, expect, "{typed}");
    }

    #[test]
    fn one_chip_is_the_same_in_every_format() {
        check("decimal", "1925159265", "72BF9961");
        check("decimal-reversed", "1637465970", "72BF9961");
        check("hex", "72BF9961", "72BF9961");
        check("hex-reversed", "6199BF72", "72BF9961");
        check("hex", "04A1B2C3D4E5F6", "04A1B2C3D4E5F6");
        check("hex-reversed", "F6E5D4C3B2A104", "04A1B2C3D4E5F6");
        check("hex", "04A1B2C3D4E5F6071829", "04A1B2C3D4E5F6071829");
    }

    #[test]
    fn an_em4100_is_known_by_its_number_without_its_version() {
        check("decimal+em", "0006547886", "0063E9AE");
        check("hex+em", "0063E9AE", "0063E9AE");
        check("hex+em", "010063E9AE", "0063E9AE");
        check("decimal+em", "0140764867", "0863E6C3");
        check("decimal", "0140764867", "Random");
        check("hex+em", "04A1B2C3D4E5F6", "none");
    }

    #[test]
    fn a_number_of_another_length_or_size_is_none() {
        check("decimal", "192515926", "none");
        check("decimal", "19251592651", "none");
        check("decimal", "4294967296", "none");
        check("decimal", "72BF996100", "none");
        check("hex", "72BF996", "none");
        check("hex", "72BF99610", "none");
        check("hex", "010063E9AE", "none");
        check("hex", "", "none");
    }

    /// As [`check`], for what is no number of the format.
    #[track_caller]
    fn check_fault(format: &str, typed: &str, expect: &str) {
        let format = format_of(format);
        assert!(format.chip(&digits(typed)).is_none(), "{typed}");
        let fault = match format.fault(&digits(typed)) {
            Typed::Shape { setting, .. } => setting.to_owned(),
            Typed::Length { digits, wanted } => format!("{digits} instead of {wanted}"),
            Typed::Keys => "keys".to_owned(),
        };
        assert_eq!(fault, expect, "{typed}");
    }

    #[test]
    fn a_number_in_another_shape_names_the_setting_that_takes_it() {
        let hex = "keyboard_number = \"hex\"";
        check_fault("decimal", "72BF9961", hex);
        check_fault("decimal", "04112233445566", hex);
        check_fault("decimal-reversed", "04A1B2C3D4E5F6071829", hex);
        let with_version = "keyboard_number = \"hex\" and keyboard_em4100 = true";
        check_fault("decimal", "010063E9AE", with_version);
        check_fault("hex", "1925159265", "keyboard_number = \"decimal\"");
        check_fault("hex", "010063E9AE", "keyboard_em4100 = true");
        check_fault("hex+em", "04A1B2C3D4E5F6", "keyboard_em4100 = false");
    }

    #[test]
    fn a_number_that_no_setting_takes_says_how_many_digits_are_wanted() {
        check_fault("decimal", "19251592", "8 instead of 10");
        check_fault("decimal", "192515926", "9 instead of 10");
        check_fault("decimal", "4294967296", "10 instead of 10");
        check_fault("hex", "72BF996", "7 instead of 8, 14 or 20");
        check_fault("hex+em", "72BF996", "7 instead of 8 or 10");
    }

    #[test]
    fn digits_are_known_by_their_place_and_not_by_a_layout() {
        let keypad = [79, 80, 81, 75, 76, 77, 71, 72, 73, 82];
        let row = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        for (keypad, row) in keypad.into_iter().zip(row) {
            assert_eq!(digit(keypad), digit(row));
        }
        assert_eq!(
            [30, 48, 46, 32, 18, 33].map(digit),
            [10, 11, 12, 13, 14, 15].map(Some)
        );
        assert_eq!(digit(ENTER), None);
    }

    /// Types keys, each pressed and released; `^` holds Control from there on.
    fn line(text: &str) -> Option<Line> {
        let (mut typing, now) = (Typing::default(), Instant::now());
        let mut line = None;
        for letter in text.chars() {
            if letter == '^' {
                let control = KeyEvent {
                    kind: KEY,
                    code: 29,
                    value: 1,
                };
                typing.push(control, now);
                continue;
            }
            for event in press(letter) {
                line = typing.push(event, now).or(line);
            }
        }
        line
    }

    #[test]
    fn a_line_is_a_number_only_when_all_its_keys_are_digits() {
        let number = |text| {
            Some(Line::Number {
                digits: digits(text),
            })
        };
        assert_eq!(line("0123456789abcdef\n"), number("0123456789ABCDEF"));
        assert_eq!(line("0123456789"), None);
        assert_eq!(line("01234x56789\n"), Some(Line::Other));
        assert_eq!(line("^0123456789\n"), Some(Line::Other));
        assert_eq!(line(&("1".repeat(21) + "\n")), Some(Line::Other));
        assert_eq!(line("12\n"), Some(Line::Short));
        assert_eq!(line("\n"), Some(Line::Short));
    }

    #[test]
    fn any_bytes_at_all_are_survived() {
        let (mut typing, mut now) = (Typing::default(), Instant::now());
        let mut dice = 1_u64;
        for _ in 0..100_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += Duration::from_millis(dice >> 60);
            typing.push(
                KeyEvent::from_bytes(dice.rotate_left(17).to_le_bytes()),
                now,
            );
            assert!(typing.digits.len() <= *DIGITS.end());
        }
    }
}
