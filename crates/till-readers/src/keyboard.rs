//! Readers that type: to the machine they are a keyboard, and a chip's number is what they type,
//! with Enter behind it ("keyboard wedge").
//!
//! The till takes the keyboard for itself (`EVIOCGRAB`), so no number is typed into another program
//! and none of another keyboard's keys comes here. Such a reader cannot be asked: it types a chip's
//! number when the chip comes, and some repeat it while the chip lies there. So a chip has left
//! after some silence, and a question is answered by a number that is typed after it, else by
//! nothing being there. Nor does anything check what it types: a number counts only if it is whole,
//! which is why it must have the length that the format says, and an Enter.

mod device;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod typing;

use std::time::{Duration, Instant};

use canteen::ChipIdentity;

use crate::auth::{ChipTask, EnrolError};
use crate::serial::{Conversation, Field, Happening, Sight};
use crate::{ReaderFault, Signal, Typed};
pub(crate) use device::Keyboard;
pub use typing::{KeyEvent, NumberFormat};
use typing::{Line, Typing};

/// A conversation with a reader that types.
pub(crate) struct Wedge {
    format: NumberFormat,
    /// Bytes of an event that has not come in full.
    heard: Vec<u8>,
    typing: Typing,
    field: Field,
    /// When the till opens, if it has not yet.
    opens_at: Option<Instant>,
    /// When the keyboard was looked after last.
    last_turn: Instant,
    /// The end of the last number, or of the last time when none could be heard.
    silent_since: Instant,
}

impl Wedge {
    pub(crate) fn new(format: NumberFormat, now: Instant) -> Wedge {
        Wedge {
            format,
            heard: Vec::new(),
            typing: Typing::default(),
            field: Field::new(),
            opens_at: Some(now + SILENCE),
            last_turn: now,
            silent_since: now,
        }
    }

    /// While the till was busy elsewhere, keys have waited. None of them is a tap or an answer, and
    /// whoever held the chip there may be gone.
    fn notice_pause(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_turn) > LONGEST_TURN {
            self.typing.spoil(now);
            self.silent_since = now;
        }
        self.last_turn = now;
    }

    fn handle_line(&mut self, line: Line, now: Instant) {
        let sight = match line {
            Line::Number { digits } => match self.format.chip(&digits) {
                Some(Ok(chip)) => Sight::Chip(ChipIdentity::Bare(chip)),
                Some(Err(error)) => Sight::Unusable(error.into()),
                None => Sight::Unusable(self.format.fault(&digits).into()),
            },
            Line::Other => Sight::Unusable(Typed::Keys.into()),
            Line::Short => {
                tracing::debug!("Keys that are no number");
                return;
            }
        };
        self.silent_since = now;
        self.field
            .handle_look(sight, self.typing.begun_at().unwrap_or(now), now);
    }
}

impl Conversation for Wedge {
    fn handle_read_again(&mut self, token: u64, asked_at: Instant) {
        self.field.handle_read_again(token, asked_at);
    }

    /// It passes nothing on to a chip.
    fn handle_task(&mut self, token: u64, _task: ChipTask, _asked_at: Instant) {
        self.field.tell(Happening::Worked {
            token,
            report: Err(EnrolError::Reader),
        });
    }

    /// It has its own light and sound, and nothing that could be told what to show.
    fn handle_signal(&mut self, _signal: Signal) {}

    /// Takes events in the shape of [`KeyEvent::to_bytes`].
    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.heard.extend(bytes);
        let heard = std::mem::take(&mut self.heard);
        let (events, rest) = heard.as_chunks();
        for event in events {
            if let Some(line) = self.typing.push(KeyEvent::from_bytes(*event), now) {
                self.handle_line(line, now);
            }
        }
        self.heard = rest.to_vec();
    }

    fn handle_end(&mut self) {
        self.field.handle_end();
    }

    /// Never sends anything.
    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.notice_pause(now);
        if now.saturating_duration_since(self.silent_since) >= SILENCE {
            self.field.handle_emptiness();
        }
        if let Some(asked_until) = now.checked_sub(REPEAT_TIME) {
            self.field.answer_absent(asked_until);
        }
        self.field.handle_time(now);
        if self.opens_at.take_if(|at| *at <= now).is_some() {
            let firmware = "a keyboard, which cannot be asked".to_owned();
            self.field.handle_opened(firmware);
        }
        None
    }

    fn poll_happening(&mut self) -> Option<Happening> {
        self.field.poll_happening()
    }

    /// A keyboard that is silent has nothing to say.
    fn fault(&self) -> Option<ReaderFault> {
        None
    }
}

/// After that a chip has left. Readers that repeat a number do so at least every second.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long a question waits for the reader to repeat the number.
const REPEAT_TIME: Duration = Duration::from_millis(600);
/// The keyboard is looked after every 20 ms. As old as that a tap may be and still pay.
const LONGEST_TURN: Duration = Duration::from_millis(800);

/// The bytes of keys that are pressed and released one after the other, as the keyboard gives them.
#[cfg(any(test, fuzzing))]
pub(crate) fn typed(text: &str) -> Vec<u8> {
    let events = text.chars().flat_map(typing::press);
    events.flat_map(KeyEvent::to_bytes).collect()
}

#[cfg(test)]
mod tests {
    use canteen::ChipId;

    use super::typing::{ENTER, press};
    use super::*;
    use crate::serial::words;

    /// A reader by a till that takes decimals.
    struct Bench {
        till: Wedge,
        now: Instant,
    }

    impl Bench {
        fn open() -> Bench {
            let now = Instant::now() + Duration::from_secs(3600);
            let till = Wedge::new(NumberFormat::DECIMAL, now);
            let mut bench = Bench { till, now };
            bench.run(1500);
            assert_eq!(bench.told(), "opened a keyboard, which cannot be asked");
            bench
        }

        fn run(&mut self, milliseconds: u64) {
            for _ in 0..milliseconds / 10 {
                self.now += Duration::from_millis(10);
                assert_eq!(self.till.poll_transmit(self.now), None);
            }
        }

        /// Types digits, and Enter for `\n`.
        fn type_text(&mut self, text: &str) {
            for letter in text.chars() {
                for event in press(letter) {
                    self.till.handle_bytes(&event.to_bytes(), self.now);
                }
                self.run(10);
            }
        }

        fn told(&mut self) -> String {
            words(|| self.till.poll_happening())
        }
    }

    #[track_caller]
    fn check(typed: &str, expect: &str) {
        let mut bench = Bench::open();
        bench.type_text(typed);
        bench.run(2000);
        assert_eq!(bench.told(), expect);
    }

    #[test]
    fn a_number_with_enter_is_a_tap_that_leaves_in_silence() {
        check("0006547886\n", "came 0063E9AE, left");
        check("1925159265\n", "came 72BF9961, left");
    }

    #[test]
    fn a_number_that_is_repeated_is_one_presence() {
        check(
            "0006547886\n0006547886\n0006547886\n",
            "came 0063E9AE, left",
        );
    }

    #[test]
    fn another_number_is_another_presence() {
        check(
            "0006547886\n1925159265\n",
            "came 0063E9AE, left, came 72BF9961, left",
        );
    }

    #[test]
    fn a_half_number_is_never_a_chip() {
        check("00065", "");
        let length =
            |digits| format!("unreadable Typed(Length {{ digits: {digits}, wanted: \"10\" }})");
        check("006547886\n", &length(9));
        check("00006547886\n", &length(11));
        check("4294967296\n", &length(10));
        check("x0006547886\n", "unreadable Typed(Keys)");
        check("00\n\n\n", "");
    }

    #[test]
    fn what_begins_a_number_and_is_not_ended_in_time_does_not_join_the_next() {
        let mut bench = Bench::open();
        bench.type_text("00065");
        bench.run(600);
        bench.type_text("47886\n");
        let told = bench.told();
        assert!(told.starts_with("unreadable Typed(Length"), "{told}");
        bench.type_text("0006547886\n");
        assert_eq!(bench.told(), "came 0063E9AE");
    }

    #[test]
    fn a_number_that_identifies_nobody_says_why() {
        check("0000000000\n", "unreadable Identity(Blank)");
        check("0140764867\n", "unreadable Identity(Random)");
    }

    #[test]
    fn a_question_is_answered_by_what_is_typed_after_it() {
        let mut bench = Bench::open();
        bench.till.handle_read_again(1, bench.now);
        bench.run(700);
        assert_eq!(bench.told(), "again 1 Absent");
        bench.type_text("0006547886\n");
        bench.till.handle_read_again(2, bench.now);
        bench.type_text("0006547886\n");
        assert_eq!(bench.told(), "came 0063E9AE, again 2 0063E9AE");
        bench.type_text("00065");
        bench.till.handle_read_again(3, bench.now);
        bench.type_text("47886\n");
        assert_eq!(bench.told(), "");
        bench.run(2000);
        assert_eq!(bench.told(), "left, again 3 Absent");
    }

    #[test]
    fn keys_that_waited_while_the_till_was_busy_are_old() {
        let mut bench = Bench::open();
        bench.type_text("00065");
        bench.now += Duration::from_secs(2);
        bench.till.poll_transmit(bench.now);
        bench.type_text("47886\n");
        assert_eq!(bench.told(), "");
        bench.type_text("0006547886\n");
        assert_eq!(bench.told(), "came 0063E9AE");
    }

    #[test]
    fn keys_that_the_kernel_lost_spoil_the_number() {
        let mut bench = Bench::open();
        bench.type_text("00065");
        let lost = KeyEvent::LOST.to_bytes();
        bench.till.handle_bytes(&lost, bench.now);
        bench.type_text("0006547886\n");
        assert_eq!(bench.told(), "");
        bench.type_text("0006547886\n");
        assert_eq!(bench.told(), "came 0063E9AE");
    }

    #[test]
    fn an_event_may_come_in_pieces() {
        let mut bench = Bench::open();
        let bytes: Vec<u8> = "1925159265\n"
            .chars()
            .flat_map(|letter| press(letter).map(KeyEvent::to_bytes))
            .flatten()
            .collect();
        for piece in bytes.chunks(3) {
            bench.till.handle_bytes(piece, bench.now);
        }
        assert_eq!(bench.told(), "came 72BF9961");
    }

    #[test]
    fn an_unplugged_reader_ends_presence_and_questions() {
        let mut bench = Bench::open();
        bench.type_text("0006547886\n");
        bench.till.handle_read_again(1, bench.now);
        bench.till.handle_end();
        assert_eq!(bench.told(), "came 0063E9AE, left, again 1 ReaderFaulty");
    }

    #[test]
    fn a_key_that_is_held_is_one_digit() {
        let mut bench = Bench::open();
        let [down, up] = press('1');
        bench.till.handle_bytes(&down.to_bytes(), bench.now);
        for _ in 0..20 {
            let held = KeyEvent { value: 2, ..down };
            bench.till.handle_bytes(&held.to_bytes(), bench.now);
        }
        bench.till.handle_bytes(&up.to_bytes(), bench.now);
        bench.type_text("925159265\n");
        assert_eq!(bench.told(), "came 72BF9961");
        assert_eq!(press('\n')[0].code, ENTER);
        assert!(ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).is_ok());
    }
}
