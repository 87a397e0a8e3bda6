//! What must hold whatever is typed, for [`crate::fuzz`].

use std::time::{Duration, Instant};

use super::typing::{
    DIGITS, ENTER, ENTERS, KEY, KeyEvent, LONGEST_PAUSE, Line, MODIFIERS, SHIFTS, Typing, digit,
};

/// One event, and so long after the one before.
type Step = (Duration, KeyEvent);

/// Every whole number is given once, at its Enter and not later, and nothing else is; and after
/// whatever was typed, the number after the next Enter is one again.
pub(crate) fn keys(input: &[u8]) {
    let steps = steps(input);
    let (mut typing, mut now) = (Typing::default(), Instant::now());
    let mut given = Vec::new();
    for (at, (pause, event)) in steps.iter().enumerate() {
        now += *pause;
        if let Some(Line::Number { digits }) = typing.push(*event, now) {
            given.push((at, digits));
        }
    }
    assert_eq!(given, whole_numbers(&steps));

    for code in MODIFIERS {
        assert_eq!(typing.push(key(code, 0), now), None);
    }
    typing.push(key(ENTER, 1), now);
    let number = [1, 9, 2, 5, 15, 9, 2, 6, 5, 0];
    for digit in number {
        assert_eq!(typing.push(key(DIGIT_ROW[digit], 1), now), None);
    }
    let digits = number.map(|digit| digit as u8).to_vec();
    assert_eq!(
        typing.push(key(ENTER, 1), now),
        Some(Line::Number { digits })
    );
    assert_eq!(typing.push(key(ENTER, 1), now), Some(Line::Short));
}

/// The numbers in it with the place of their Enter, found by looking back from each Enter.
fn whole_numbers(steps: &[Step]) -> Vec<(usize, Vec<u8>)> {
    let enters = steps.iter().enumerate().filter(|(_, (_, event))| {
        event.kind == KEY && event.value == 1 && ENTERS.contains(&event.code)
    });
    let number = |(at, _): (usize, &Step)| Some((at, number_before(&steps[..=at])?));
    enters.filter_map(number).collect()
}

/// The digits up to the Enter at the end, if they are nothing else.
fn number_before(steps: &[Step]) -> Option<Vec<u8>> {
    let mut codes = Vec::new();
    // How long before the key, or the loss, that comes after it.
    let mut pause = steps.last()?.0;
    let enter = steps.len() - 1;
    for (at, (before, event)) in steps[..enter].iter().enumerate().rev() {
        if is_lost(event) {
            if pause <= LONGEST_PAUSE {
                return None;
            }
            break;
        }
        if event.kind != KEY || event.value != 1 {
            pause += *before;
            continue;
        }
        if pause > LONGEST_PAUSE || ENTERS.contains(&event.code) {
            break;
        }
        if !SHIFTS.contains(&event.code) {
            if is_modified(&steps[..=at]) {
                return None;
            }
            codes.push(event.code);
        }
        pause = *before;
    }
    let digits: Option<Vec<u8>> = codes.into_iter().rev().map(digit).collect();
    digits.filter(|digits| DIGITS.contains(&digits.len()))
}

/// Whether a key is held at the end that changes what others mean.
fn is_modified(steps: &[Step]) -> bool {
    let lost = steps.iter().rposition(|(_, event)| is_lost(event));
    let since = lost.map_or(0, |lost| lost + 1);
    MODIFIERS.into_iter().any(|code| {
        let presses = steps[since..].iter().rev().map(|(_, event)| event);
        let mut presses = presses.filter(|event| event.kind == KEY && event.code == code);
        presses.find(|event| matches!(event.value, 0 | 1)) == Some(&key(code, 1))
    })
}

/// Whether the kernel had more events than were taken; the value says nothing.
fn is_lost(event: &KeyEvent) -> bool {
    (event.kind, event.code) == (KeyEvent::LOST.kind, KeyEvent::LOST.code)
}

/// Each byte is an event or a pause; what it needs follows it.
fn steps(input: &[u8]) -> Vec<Step> {
    let mut rest = input.iter().copied();
    let mut pause = Duration::ZERO;
    let mut steps = Vec::new();
    while let Some(byte) = rest.next() {
        let mut next = || rest.next().unwrap_or_default();
        let event = match byte {
            0..16 => key(DIGIT_ROW[usize::from(byte)], 1),
            16 => key(ENTERS[0], 1),
            17 => key(ENTERS[1], 1),
            18 => key(SHIFTS[0], 1),
            19..25 => key(MODIFIERS[usize::from(byte - 19)], 1),
            25 => KeyEvent::LOST,
            26 => {
                pause += Duration::from_millis(u64::from(next()) * 4);
                continue;
            }
            27 => key(next().into(), 0),
            28 => key(next().into(), 2),
            29 => KeyEvent::from_bytes([(); 8].map(|()| next())),
            _ => key(byte.into(), 1),
        };
        steps.push((std::mem::take(&mut pause), event));
    }
    steps
}

fn key(code: u16, value: i32) -> KeyEvent {
    let kind = KEY;
    KeyEvent { kind, code, value }
}

/// The keys of the digits, above the letters, and of the letters that are digits.
const DIGIT_ROW: [u16; 16] = [11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 30, 48, 46, 32, 18, 33];
