//! An ELATEC TWN4 with Simple Protocol firmware (ELATEC, "TWN4 Simple Protocol", DocRev17): the
//! till asks what is in the field, again and again, and the reader never speaks unasked.
//!
//! Whether lines carry a checksum is set in the reader's firmware, so both are tried. Without it a
//! damaged digit cannot be told from a right one; a sale is safe from that because the till reads
//! the chip again before it books. Answers have no number that says what they answer: after one
//! that is missing or damaged, whatever comes for a while is thrown away, so that no late answer
//! is taken for something seen now.
//!
//! SearchMultiTag counts chips of ISO/IEC 14443 type A. A firmware that does not have it is asked
//! with SearchTag, which shows one of several chips. A chip that was found is selected, and what
//! proves it goes through the reader as it is (ISO14443_4_TDX, ISO14443_3_TDX). EM4100 chips are looked for only when the
//! configuration says so, since anybody can copy them.

mod answer;
mod line;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;

use super::conversation::{Conversation, Happening};
use super::crc_a;
use super::field::{Field, Seen, Sight};
use super::proof::Prover;
use crate::auth::{ChipTask, Keyring, Shown, Speaks};
use crate::{ChipFault, ReaderFault, Signal};
use answer::{Answer, Found, Tag};
use line::Check;
pub(super) use line::Decoder;

/// A conversation with the reader.
pub(super) struct Twn4 {
    em4100: bool,
    decoder: Decoder,
    field: Field,
    prover: Prover,
    /// What the chip that proves itself is sent next.
    talk: Option<Command>,
    /// As found out from the answer to the version.
    check: Option<Check>,
    tries: u32,
    /// Whether the firmware has SearchMultiTag.
    counts: bool,
    /// What prepares the reader.
    setup: VecDeque<Command>,
    show: VecDeque<Command>,
    look: Option<Look>,
    asked: Option<Asked>,
    /// Nothing is sent before that; what comes meanwhile answers nothing.
    quiet_until: Instant,
    next_look: Instant,
    /// Commands in a row without an answer.
    failures: u32,
    /// When the last answer came; at first, when the line was opened.
    last_answer: Instant,
    fault: Option<ReaderFault>,
}

/// A look into the field: one or two searches.
struct Look {
    begun_at: Instant,
    found: Found,
    searches: VecDeque<Command>,
}

struct Asked {
    command: Command,
    deadline: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    /// Only the end of a line: ends what another program may have begun.
    LineEnd,
    Version(Check),
    /// SetTagTypes: what SearchTag looks for.
    Types {
        em4100: bool,
        iso14443a: bool,
    },
    /// Makes outputs of the lights' pins.
    Lights,
    /// SearchMultiTag.
    Several,
    /// SearchTag.
    Single,
    /// ISO14443A_SelectTag, by the UID that it shows.
    Select(Vec<u8>),
    /// ISO14443A_GetSAK of the selected chip.
    Sak,
    /// ISO14443_4_TDX with the selected chip.
    Exchange(Vec<u8>),
    /// ISO14443_3_TDX: a frame as it goes over the air; the reader adds and checks no checksum.
    Frame(Vec<u8>),
    LightOn(u8),
    LightOff(u8),
    /// Hertz and milliseconds.
    Beep(u16, u16),
}

impl Twn4 {
    pub(super) fn new(em4100: bool, keyring: Keyring, now: Instant) -> Twn4 {
        let mut twn4 = Twn4 {
            em4100,
            decoder: Decoder::default(),
            field: Field::new(),
            prover: Prover::new(keyring),
            talk: None,
            check: None,
            tries: 0,
            counts: true,
            setup: VecDeque::from([Command::LineEnd]),
            show: VecDeque::new(),
            look: None,
            asked: None,
            quiet_until: now,
            next_look: now,
            failures: 0,
            last_answer: now,
            fault: None,
        };
        twn4.setup.push_back(twn4.types());
        twn4.setup.push_back(Command::Lights);
        twn4
    }

    /// SearchTag is there for what SearchMultiTag does not find.
    fn types(&self) -> Command {
        Command::Types {
            em4100: self.em4100,
            iso14443a: !(self.counts && self.em4100),
        }
    }

    fn next_command(&mut self, now: Instant) -> Option<Command> {
        if self.setup.front() == Some(&Command::LineEnd) {
            return self.setup.pop_front();
        }
        if self.check.is_none() {
            self.tries += 1;
            let is_odd = !self.tries.is_multiple_of(2);
            return Some(Command::Version(if is_odd {
                Check::None
            } else {
                Check::Crc
            }));
        }
        if let Some(command) = self.setup.pop_front() {
            return Some(command);
        }
        if let Some(command) = self.talk.take() {
            return Some(command);
        }
        if let Some(search) = self
            .look
            .as_mut()
            .and_then(|look| look.searches.pop_front())
        {
            return Some(search);
        }
        let is_urgent = self.field.is_unsettled();
        if let (false, Some(command)) = (is_urgent, self.show.pop_front()) {
            return Some(command);
        }
        (is_urgent || now >= self.next_look).then(|| self.begin_look(now))
    }

    fn begin_look(&mut self, now: Instant) -> Command {
        let (first, second) = match (self.counts, self.em4100) {
            // In this order, so that a chip that is found is still in the reader's field.
            (true, true) => (Command::Single, Some(Command::Several)),
            (true, false) => (Command::Several, None),
            (false, _) => (Command::Single, None),
        };
        self.look = Some(Look {
            begun_at: now,
            found: Vec::new(),
            searches: second.into_iter().collect(),
        });
        first
    }

    fn send(&mut self, command: Command, now: Instant) -> Vec<u8> {
        let check = match &command {
            Command::Version(check) => *check,
            _ => self.check.unwrap_or(Check::None),
        };
        if command == Command::LineEnd {
            self.quiet_until = now + QUIET_TIME;
        } else {
            self.decoder = Decoder::default();
            let deadline = now + command.answer_time();
            self.asked = Some(Asked {
                command: command.clone(),
                deadline,
            });
        }
        line::encode(&command.bytes(), check)
    }

    /// The answer did not come, or came damaged.
    fn give_up(&mut self, command: Command, now: Instant) {
        self.look = None;
        self.quiet_until = now + QUIET_TIME;
        match command {
            Command::Version(_) => {
                if self.tries >= TRIES_TO_OPEN {
                    self.fault = Some(ReaderFault::Silent);
                }
                return;
            }
            Command::Types { .. } | Command::Lights => self.setup.push_front(command),
            // The sale stands without light and sound.
            Command::LightOn(_) | Command::LightOff(_) | Command::Beep(..) => {}
            Command::Select(_) | Command::Sak | Command::Exchange(_) | Command::Frame(_) => {
                self.prover.handle_answer(None, &mut self.field, now);
            }
            Command::LineEnd | Command::Several | Command::Single => {}
        }
        self.failures += 1;
        let silence = now.saturating_duration_since(self.last_answer);
        if self.failures >= FAILURES_TO_LOSE && silence >= TIME_TO_LOSE {
            self.fault = Some(ReaderFault::Lost);
        }
    }

    fn handle_line(&mut self, line: &[u8], now: Instant) {
        let Some(asked) = &self.asked else { return };
        let command = asked.command.clone();
        let is_understood = match command {
            Command::Version(_) => self.handle_version(line),
            _ => self.handle_answer(&command, line, now),
        };
        if is_understood {
            self.asked = None;
            self.failures = 0;
            self.last_answer = now;
        } else if let Some(asked) = &mut self.asked {
            // It may have been noise: the answer has a moment more to come.
            asked.deadline = asked.deadline.min(now + DAMAGE_TIME);
            tracing::debug!(?command, "Line from the reader is no answer");
        }
    }

    /// The version is answered in the shape that the reader's firmware is set to.
    fn handle_version(&mut self, line: &[u8]) -> bool {
        for check in [Check::None, Check::Crc] {
            let said = line::checked(line, check).and_then(Answer::read);
            let Some(Answer::Done(results)) = said else {
                continue;
            };
            if let Some(firmware) = answer::version(results) {
                self.check = Some(check);
                self.field.handle_opened(firmware);
                return true;
            }
        }
        false
    }

    /// Whether the line is an answer to the command.
    fn handle_answer(&mut self, command: &Command, line: &[u8], now: Instant) -> bool {
        let said = line::checked(line, self.check.unwrap_or(Check::None));
        let Some(said) = said.and_then(Answer::read) else {
            return false;
        };
        match (command, said) {
            (Command::Several, Answer::Done(results)) => {
                self.handle_found(answer::several(results), now)
            }
            // It was told not to search for these: it has lost its power for a moment, and with it
            // all that it was told. What it found may be one of several chips.
            (Command::Single, Answer::Done(results))
                if self.counts && answer::is_iso14443a(results) =>
            {
                self.look = None;
                self.setup.extend([self.types(), Command::Lights]);
                true
            }
            (Command::Single, Answer::Done(results)) => {
                self.handle_found(answer::single(results), now)
            }
            (Command::Several, Answer::Unknown) => {
                tracing::warn!("Reader firmware cannot count chips; update it");
                self.counts = false;
                self.look = None;
                let types = self.types();
                self.setup.push_back(types);
                true
            }
            (Command::Select(_), Answer::Done(results)) => match answer::is_done(results) {
                Some(true) => self.talk_on(Command::Sak),
                Some(false) => self.handle_said(None, now),
                None => false,
            },
            (Command::Sak, Answer::Done(results)) => match answer::speaks(results) {
                Some(speaks) => {
                    self.prover.handle_speaks(speaks);
                    self.next_exchange(now)
                }
                None => false,
            },
            (Command::Frame(_), Answer::Done(results)) => match answer::exchanged(results) {
                Some(said) => self.handle_said(said.as_deref().and_then(answer::heard), now),
                None => false,
            },
            (Command::Exchange(_), Answer::Done(results)) => match answer::exchanged(results) {
                Some(said) => self.handle_said(said, now),
                None => false,
            },
            // Such a firmware lets nothing through.
            (command, Answer::Unknown) if command.is_for_chip() => {
                tracing::warn!("Reader firmware lets no chip prove itself; update it");
                self.handle_no_passage(now)
            }
            (command, Answer::Refused(_)) if command.is_for_chip() => self.handle_said(None, now),
            (_, Answer::Done(_)) => true,
            (_, Answer::Unknown | Answer::Refused(_)) => {
                tracing::debug!(?command, ?said, "Reader refused");
                // A search that is refused shows nothing, not an empty field.
                if matches!(command, Command::Several | Command::Single) {
                    self.look = None;
                    self.next_look = now + PAUSE;
                }
                true
            }
        }
    }

    fn handle_found(&mut self, found: Option<Found>, now: Instant) -> bool {
        let (Some(found), Some(look)) = (found, &mut self.look) else {
            return false;
        };
        look.found.extend(found);
        if look.searches.is_empty()
            && let Some(look) = self.look.take()
        {
            self.next_look = now + PAUSE;
            self.handle_tags(look.found, look.begun_at, now);
        }
        true
    }

    fn handle_tags(&mut self, mut found: Found, begun_at: Instant, now: Instant) {
        let seen = match (found.pop(), found.is_empty()) {
            (None, _) => Seen::Nothing,
            (Some(_), false) => Seen::Unusable(ChipFault::Several),
            // Whether it takes commands is asked only when there is anything to prove by.
            (Some(Tag::TypeA(uid)), true) => Seen::Chip(Shown {
                uid,
                speaks: Speaks::Unasked,
            }),
            (Some(Tag::Other(chip)), true) => {
                self.prover.handle_mute_chip(&mut self.field, begun_at);
                let sight = Sight::of(chip.map(ChipIdentity::Bare));
                return self.field.handle_look(sight, begun_at, now);
            }
        };
        self.prover
            .handle_seen(seen, &mut self.field, begun_at, now);
        // A chip that SearchTag found is selected.
        self.talk = self.prover.uid().map(|uid| match self.counts {
            true => Command::Select(uid.to_vec()),
            false => Command::Sak,
        });
    }

    fn talk_on(&mut self, command: Command) -> bool {
        self.talk = Some(command);
        true
    }

    fn next_exchange(&mut self, now: Instant) -> bool {
        let command = self.prover.poll_command(&mut self.field, now);
        self.talk = command.map(match self.prover.speaks() {
            Speaks::Frames => Command::Frame,
            Speaks::Apdus | Speaks::Unasked | Speaks::Nothing => Command::Exchange,
        });
        true
    }

    fn handle_said(&mut self, said: Option<Vec<u8>>, now: Instant) -> bool {
        self.prover.handle_answer(said, &mut self.field, now);
        self.next_exchange(now)
    }

    fn handle_no_passage(&mut self, now: Instant) -> bool {
        self.prover.handle_no_passage(&mut self.field, now);
        true
    }
}

impl Conversation for Twn4 {
    fn handle_read_again(&mut self, token: u64, asked_at: Instant) {
        self.field.handle_read_again(token, asked_at);
    }

    fn handle_task(&mut self, token: u64, task: ChipTask, asked_at: Instant) {
        self.prover.handle_task(token, task, asked_at);
    }

    fn handle_signal(&mut self, signal: Signal) {
        let show = match signal {
            Signal::Approved => vec![
                Command::LightOff(RED),
                Command::LightOn(GREEN),
                Command::Beep(HIGH, 120),
            ],
            Signal::Declined => vec![
                Command::LightOff(GREEN),
                Command::LightOn(RED),
                Command::Beep(LOW, 150),
                Command::Beep(LOW, 150),
            ],
            Signal::Waiting => vec![Command::LightOn(RED | GREEN)],
            Signal::Idle => vec![Command::LightOff(RED | GREEN)],
        };
        self.show = show.into();
    }

    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            if let Some(line) = self.decoder.push(byte) {
                self.handle_line(&line, now);
            }
        }
    }

    fn handle_end(&mut self) {
        self.prover.handle_end(&mut self.field);
        self.field.handle_end();
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.field.handle_time(now);
        self.prover.handle_time(&mut self.field, now);
        if self.fault.is_some() || now < self.quiet_until {
            return None;
        }
        if let Some(asked) = &self.asked {
            if now >= asked.deadline {
                let command = asked.command.clone();
                self.asked = None;
                self.give_up(command, now);
            }
            return None;
        }
        let command = self.next_command(now)?;
        Some(self.send(command, now))
    }

    fn poll_happening(&mut self) -> Option<Happening> {
        self.field.poll_happening()
    }

    fn fault(&self) -> Option<ReaderFault> {
        self.fault.clone()
    }
}

impl Command {
    /// The function's number, then what belongs to it; numbers have their lowest byte first.
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Command::LineEnd => vec![],
            Command::Version(_) => vec![0x00, 0x04, 0xFF],
            Command::Types { em4100, iso14443a } => {
                // The first of each band's kinds, EM4102 and ISO 14443 type A.
                let (low, high) = (u8::from(em4100), u8::from(iso14443a));
                vec![0x05, 0x02, low, 0, 0, 0, high, 0, 0, 0]
            }
            // No pull-up, push and pull.
            Command::Lights => vec![0x04, 0x00, RED | GREEN, 0x00, 0x00],
            Command::Several => vec![0x12, 0x08, 0xFF],
            Command::Single => vec![0x05, 0x00, 0x10],
            Command::Select(ref uid) => sized(&[0x12, 0x09], uid, &[]),
            Command::Sak => vec![0x12, 0x05],
            Command::Exchange(ref command) => sized(&[0x12, 0x03], command, &[0xFF]),
            Command::Frame(ref frame) => {
                let [low, high] = FRAME_TIME.to_le_bytes();
                let frame = crc_a::with_checksum(frame);
                sized(&[0x12, 0x07], &frame, &[0xFF, low, high])
            }
            Command::LightOn(pins) => vec![0x04, 0x02, pins],
            Command::LightOff(pins) => vec![0x04, 0x03, pins],
            Command::Beep(hertz, milliseconds) => {
                let ([a, b], [c, d]) = (hertz.to_le_bytes(), milliseconds.to_le_bytes());
                // As loud as it can, and as long a pause after it.
                vec![0x04, 0x07, 0x64, a, b, c, d, c, d]
            }
        }
    }

    /// Whether it is a part of a talk with a chip.
    fn is_for_chip(&self) -> bool {
        matches!(
            self,
            Command::Select(_) | Command::Sak | Command::Exchange(_) | Command::Frame(_)
        )
    }

    fn answer_time(&self) -> Duration {
        match self {
            Command::Version(_) => VERSION_TIME,
            _ => ANSWER_TIME,
        }
    }
}

/// A function with an array of bytes, and what comes after it.
///
/// The longest array is a command of a proof, which is shorter than a short APDU.
fn sized(function: &[u8], array: &[u8], rest: &[u8]) -> Vec<u8> {
    [function, &[array.len() as u8], array, rest].concat()
}

/// Reads a line in every way.
#[cfg(any(test, fuzzing))]
pub(super) fn read(line: &[u8]) {
    for check in [Check::None, Check::Crc] {
        if let Some(Answer::Done(results)) = line::checked(line, check).and_then(Answer::read) {
            answer::version(results);
            answer::several(results);
            answer::single(results);
        }
    }
}

/// The pins of the lights (twn4.sys.h: REDLED is GPIO0, GREENLED is GPIO1).
const RED: u8 = 0x01;
const GREEN: u8 = 0x02;
/// The tones that the manufacturer's own programs use for good and, lower here, for bad.
const HIGH: u16 = 2400;
const LOW: u16 = 1200;
/// In milliseconds; a chip takes a few for a step of its proof.
const FRAME_TIME: u16 = 50;
const VERSION_TIME: Duration = Duration::from_millis(300);
/// Searches take the longest, and beeps until they are over.
const ANSWER_TIME: Duration = Duration::from_millis(700);
const DAMAGE_TIME: Duration = Duration::from_millis(50);
/// For what is still on its way after an answer was missed.
const QUIET_TIME: Duration = Duration::from_millis(100);
/// Between two looks into a field where nothing changes.
const PAUSE: Duration = Duration::from_millis(20);
const TRIES_TO_OPEN: u32 = 4;
const FAILURES_TO_LOSE: u32 = 3;
/// A line that is disturbed for a moment is no lost reader.
const TIME_TO_LOSE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use chip_keys::Application;

    use super::*;
    use crate::auth::EnrolError;
    use crate::auth::tests_of_identify::{blank_card, card, enrolment, site, ultralight};
    use crate::auth::virtual_card::VirtualCard;
    use crate::serial::field::words;
    use crate::serial::pn532::tests::hex;

    /// A till, and a time that passes when told.
    struct Bench {
        till: Twn4,
        now: Instant,
    }

    impl Bench {
        fn new(em4100: bool) -> Bench {
            let now = Instant::now();
            Bench {
                till: Twn4::new(em4100, Keyring::default(), now),
                now,
            }
        }

        /// Through the opening without checksums and two looks into an empty field.
        fn open() -> Bench {
            let mut bench = Bench::new(false);
            bench.check("", "");
            bench.check("0004FF", "000454574E34");
            bench.check("05020000000001000000", "00");
            bench.check("0400030000", "00");
            bench.check(LOOK, "0000");
            bench.check(LOOK, "0000");
            assert_eq!(bench.told(), "opened TWN4");
            bench
        }

        /// As [`Bench::open`], with a search at 125 kHz in each look.
        fn open_with_em4100() -> Bench {
            let mut bench = Bench::new(true);
            bench.check("", "");
            bench.check("0004FF", "000454574E34");
            // SearchTag looks at 125 kHz alone.
            bench.check("05020100000000000000", "00");
            bench.check("0400030000", "00");
            for _ in 0..2 {
                bench.check("050010", NONE);
                bench.check(LOOK, NONE);
            }
            bench
        }

        /// The next line that the till sends, in a second.
        #[track_caller]
        fn expect(&mut self, line: &str) {
            assert_eq!(self.sent(), format!("{line}\r"));
        }

        #[track_caller]
        fn sent(&mut self) -> String {
            for _ in 0..200 {
                if let Some(sent) = self.till.poll_transmit(self.now) {
                    return String::from_utf8(sent).expect("ASCII");
                }
                self.now += Duration::from_millis(5);
            }
            panic!("nothing was sent");
        }

        fn say(&mut self, line: &str) {
            self.now += Duration::from_millis(5);
            self.till.handle_bytes(line.as_bytes(), self.now);
        }

        #[track_caller]
        fn check(&mut self, line: &str, answer: &str) {
            self.expect(line);
            if !answer.is_empty() {
                self.say(&format!("{answer}\r"));
            }
        }

        fn told(&mut self) -> String {
            words(|| self.till.poll_happening())
        }
    }

    /// What looks are told as, after an empty field.
    #[track_caller]
    fn check(answers: &[&str], expect: &str) {
        let mut bench = Bench::open();
        for answer in answers {
            bench.check(LOOK, answer);
        }
        assert_eq!(bench.told(), expect);
    }

    const LOOK: &str = "1208FF";
    const NONE: &str = "0000";
    const FOUR: &str = "000101050472BF9961";
    const SEVEN: &str = "000101080704A1B2C3D4E5F6";
    const THREE: &str = "000103180704D7A79A97378007042DA79A973780070450A79A973780";

    #[test]
    fn chips_are_told_once_and_have_left_after_two_misses() {
        check(&[FOUR, FOUR, FOUR], "came 72BF9961");
        check(&[FOUR, NONE, FOUR, NONE, NONE], "came 72BF9961, left");
        check(&[SEVEN, FOUR], "came 04A1B2C3D4E5F6, left, came 72BF9961");
    }

    #[test]
    fn several_chips_are_refused() {
        check(&[THREE], "unreadable Several");
    }

    #[test]
    fn a_reader_with_checksums_is_found_out() {
        let mut bench = Bench::new(false);
        bench.check("", "");
        // It does not answer what has no checksum.
        bench.check("0004FF", "");
        // CRC-16/MCRF4XX by another program.
        bench.check("0004FF2B51", "000454574E34AD26");
        bench.check("050200000000010000007D87", "00870F");
        assert_eq!(bench.till.check, Some(Check::Crc));
    }

    #[test]
    fn a_reader_that_never_answers_is_silent() {
        let mut bench = Bench::new(false);
        bench.check("", "");
        for _ in 0..2 {
            bench.check("0004FF", "");
            bench.check("0004FF2B51", "");
        }
        for _ in 0..100 {
            bench.now += Duration::from_millis(5);
            assert_eq!(bench.till.poll_transmit(bench.now), None);
        }
        assert_eq!(bench.till.fault(), Some(ReaderFault::Silent));
    }

    #[test]
    fn a_reader_that_stops_answering_is_lost() {
        let mut bench = Bench::open();
        bench.check(LOOK, FOUR);
        for _ in 0..FAILURES_TO_LOSE {
            assert_eq!(bench.till.fault(), None);
            bench.check(LOOK, "");
        }
        bench.now += ANSWER_TIME;
        bench.till.poll_transmit(bench.now);
        assert_eq!(bench.till.fault(), Some(ReaderFault::Lost));
        bench.till.handle_end();
        assert_eq!(bench.told(), "came 72BF9961, left");
    }

    #[test]
    fn an_answer_that_comes_too_late_answers_nothing() {
        let mut bench = Bench::open();
        bench.expect(LOOK);
        bench.now += ANSWER_TIME;
        assert_eq!(bench.till.poll_transmit(bench.now), None);
        bench.now += QUIET_TIME / 2;
        assert_eq!(bench.till.poll_transmit(bench.now), None);
        bench.say(&format!("{FOUR}\r"));
        bench.check(LOOK, SEVEN);
        assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
    }

    #[test]
    fn noise_before_an_answer_costs_nothing() {
        let mut bench = Bench::open();
        bench.expect(LOOK);
        bench.say(&format!("AT+GMI\r\n\x00\x0B\x01{FOUR}\r"));
        assert_eq!(bench.told(), "came 72BF9961");
    }

    #[test]
    fn a_damaged_answer_is_asked_for_again_soon() {
        let mut bench = Bench::open();
        bench.check(LOOK, "000101050472BF99");
        let before = bench.now;
        bench.check(LOOK, FOUR);
        assert!(bench.now - before < Duration::from_millis(200));
        assert_eq!(bench.told(), "came 72BF9961");
    }

    #[test]
    fn damage_for_a_moment_loses_no_reader() {
        let mut bench = Bench::open();
        for _ in 0..2 * FAILURES_TO_LOSE {
            bench.check(LOOK, "000101050472BF99");
        }
        assert_eq!(bench.till.fault(), None);
        bench.check(LOOK, FOUR);
        assert_eq!(bench.told(), "came 72BF9961");
    }

    #[test]
    fn a_firmware_that_cannot_count_is_asked_for_one_chip() {
        let mut bench = Bench::open();
        bench.check(LOOK, "01");
        bench.check("05020000000001000000", "00");
        bench.check("050010", "000180200472BF9961");
        bench.check("050010", "0000");
        bench.check("050010", "0000");
        bench.check("050010", "00018138070102030405060A");
        assert_eq!(bench.told(), "came 72BF9961, left, unreadable Technology");
    }

    #[test]
    fn em4100_chips_are_looked_for_when_configured_and_counted_with_the_others() {
        let mut bench = Bench::open_with_em4100();
        for (high, low) in [
            (NONE, "0001402805010063E9AE"),
            (FOUR, "0001402805010063E9AE"),
            (FOUR, NONE),
        ] {
            bench.check("050010", low);
            bench.check(LOOK, high);
        }
        assert_eq!(
            bench.told(),
            "opened TWN4, came 0063E9AE, left, unreadable Several, came 72BF9961"
        );
    }

    /// Through an opening where chips must prove themselves.
    fn proving_bench() -> Bench {
        let mut bench = Bench::open();
        let keyring = Keyring::default();
        keyring.put(vec![site(Application::ntag_424())]);
        bench.till.prover = Prover::new(keyring);
        bench
    }

    /// Passes what the till sends to a chip on, so many times.
    #[track_caller]
    fn exchange(bench: &mut Bench, card: &mut VirtualCard, times: usize) {
        for _ in 0..times {
            let sent = hex(bench.sent().trim_end());
            let [0x12, 0x03, length, command @ .., 0xFF] = &sent[..] else {
                panic!("nothing for the chip: {sent:02X?}")
            };
            assert_eq!(usize::from(*length), command.len());
            let said = card.handle(command);
            let answer = [&[0, 1, said.len() as u8], &said[..]].concat();
            let answer: String = answer.iter().map(|byte| format!("{byte:02X}")).collect();
            bench.say(&format!("{answer}\r"));
        }
    }

    /// One chip that shows a random UID.
    const HIDDEN: &str = "0001010504083A5C11";
    const SELECT: &str = "120904083A5C11";
    const SAK: &str = "1205";

    #[test]
    fn a_chip_that_proves_itself_is_told_by_its_real_uid() {
        let (mut bench, mut card) = (proving_bench(), card());
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000120");
        exchange(&mut bench, &mut card, 6);
        assert_eq!(bench.told(), "came 04958CAA5C5E80 proven");
        // It lies there, and is not asked again until somebody asks who is there.
        bench.check(LOOK, HIDDEN);
        bench.till.handle_read_again(7, bench.now);
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000120");
        exchange(&mut bench, &mut card, 6);
        assert_eq!(bench.told(), "again 7 04958CAA5C5E80 proven");
        bench.check(LOOK, NONE);
        bench.check(LOOK, NONE);
        assert_eq!(bench.told(), "left");
    }

    #[test]
    fn a_chip_that_does_not_know_its_key_has_failed() {
        let (mut bench, mut card) = (proving_bench(), card());
        card.keys[1] = [0x77; 16];
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000120");
        exchange(&mut bench, &mut card, 3);
        bench.check(LOOK, HIDDEN);
        assert_eq!(bench.told(), "came failed");
    }

    #[test]
    fn a_storage_chip_is_asked_for_its_kind_once() {
        let mut bench = proving_bench();
        bench.check(LOOK, SEVEN);
        bench.check("12090704A1B2C3D4E5F6", "0001");
        bench.check(SAK, "000100");
        bench.check(LOOK, SEVEN);
        bench.check(LOOK, SEVEN);
        assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
    }

    #[test]
    fn a_chip_that_leaves_while_it_proves_itself_was_not_held_still() {
        let mut bench = proving_bench();
        for answers in [&["0000"][..], &["0001", "000120", "0000"]] {
            bench.check(LOOK, HIDDEN);
            for answer in answers {
                bench.sent();
                bench.say(&format!("{answer}\r"));
            }
            assert_eq!(bench.told(), "unreadable HoldStill");
            bench.check(LOOK, NONE);
            bench.check(LOOK, NONE);
        }
    }

    #[test]
    fn a_firmware_that_lets_nothing_through_leaves_chips_to_their_uid() {
        let mut bench = proving_bench();
        bench.check(LOOK, SEVEN);
        bench.check("12090704A1B2C3D4E5F6", "01");
        bench.check(LOOK, SEVEN);
        assert_eq!(bench.told(), "came 04A1B2C3D4E5F6");
    }

    #[test]
    fn a_search_that_is_refused_is_no_empty_field() {
        check(&[FOUR, "05", "05", "05", FOUR], "came 72BF9961");
        // Nor is the other search of the same look.
        let mut bench = Bench::open_with_em4100();
        for _ in 0..3 {
            bench.check("050010", "05");
        }
        assert_eq!(bench.told(), "opened TWN4");
        bench.check("050010", NONE);
        bench.check(LOOK, FOUR);
        assert_eq!(bench.told(), "came 72BF9961");
    }

    #[test]
    fn a_question_is_answered_by_the_next_look_and_not_by_the_one_under_way() {
        let mut bench = Bench::open();
        bench.expect(LOOK);
        bench.now += Duration::from_millis(1);
        bench.till.handle_read_again(7, bench.now);
        bench.say(&format!("{FOUR}\r"));
        assert_eq!(bench.told(), "came 72BF9961");
        bench.check(LOOK, FOUR);
        assert_eq!(bench.told(), "again 7 72BF9961");
    }

    #[test]
    fn an_approval_is_green_and_beeps_and_only_the_newest_signal_matters() {
        let mut bench = Bench::open();
        bench.till.handle_signal(Signal::Declined);
        bench.till.handle_signal(Signal::Approved);
        bench.check("040301", "00");
        bench.check("040202", "00");
        bench.check("040764600978007800", "00");
        bench.check(LOOK, NONE);
        assert_eq!(bench.told(), "");
    }

    #[test]
    fn a_chip_is_given_its_keys_through_the_reader() {
        let (mut bench, mut card) = (proving_bench(), blank_card());
        bench.till.handle_task(5, ChipTask::Look, bench.now);
        bench.check(LOOK, NONE);
        assert_eq!(
            bench.told(),
            "worked 5 no chip is on the reader; hold the chip to it"
        );
        bench
            .till
            .handle_task(6, ChipTask::Enrol(enrolment()), bench.now);
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000120");
        exchange(&mut bench, &mut card, 31);
        assert_eq!(
            bench.told(),
            "worked 6 Enrolled(Enrolled { before: Factory, written: [4, 3, 2, 1, 0] })"
        );
        assert_eq!((card.keys[1], card.keys[3]), ([0x11; 16], [0x22; 16]));
    }

    #[test]
    fn a_chip_or_a_firmware_that_takes_no_commands_is_told_as_such() {
        let mut bench = proving_bench();
        bench.till.handle_task(1, ChipTask::Look, bench.now);
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "0001");
        bench.check(SAK, "000108");
        assert_eq!(bench.told(), format!("worked 1 {}", EnrolError::Kind));
        bench.till.handle_task(2, ChipTask::Look, bench.now);
        bench.check(LOOK, HIDDEN);
        bench.check(SELECT, "04");
        assert_eq!(bench.told(), format!("worked 2 {}", EnrolError::Reader));
    }

    #[test]
    fn a_chip_that_speaks_frames_proves_itself_by_frames_with_their_checksums() {
        for (uid_key, times, expect) in [
            ([0x11; 16], 7, "came 04958CAA5C5E80 proven"),
            ([0x77; 16], 3, "came failed"),
        ] {
            let mut bench = Bench::open();
            let keyring = Keyring::default();
            keyring.put(vec![site(Application::ultralight_aes())]);
            bench.till.prover = Prover::new(keyring);
            let mut chip = ultralight();
            chip.keys[1] = uid_key;
            bench.check(LOOK, HIDDEN);
            bench.check(SELECT, "0001");
            bench.check(SAK, "000100");
            for _ in 0..times {
                let sent = hex(bench.sent().trim_end());
                let [0x12, 0x07, length, frame @ .., 0xFF, 50, 0] = &sent[..] else {
                    panic!("no frame: {sent:02X?}")
                };
                assert_eq!(usize::from(*length), frame.len());
                let heard = chip.handle(&crc_a::checked(frame).unwrap());
                let heard = match heard.len() {
                    1 => heard,
                    _ => crc_a::with_checksum(&heard),
                };
                let said = [&[0, 1, heard.len() as u8], &heard[..]].concat();
                let said: String = said.iter().map(|byte| format!("{byte:02X}")).collect();
                bench.say(&format!("{said}\r"));
            }
            assert_eq!(bench.told(), expect);
            // It lies there and is not asked again.
            bench.check(LOOK, HIDDEN);
            bench.check(LOOK, HIDDEN);
        }
    }
}
