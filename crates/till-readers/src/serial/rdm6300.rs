//! An RDM6300 module: says a chip's number every 50 to 65 ms while the chip is near, and nothing
//! else; it cannot be asked.
//!
//! So a chip has left after some silence, and a reader that is not there looks like one without a
//! chip: such a reader is called ready as soon as its line is open. How a number becomes an
//! identity stands in [`em4100`]. A check of 8 bits lets one damaged frame in 256 pass; a sale is
//! safe from it because the till reads the chip again before it books.

mod frame;

use std::time::{Duration, Instant};

use canteen::ChipIdentity;

use super::conversation::{Conversation, Happening};
use super::em4100;
use super::field::{Field, Sight};
use crate::auth::{ChipTask, EnrolError};
use crate::{ChipFault, ReaderFault, Signal};
pub(super) use frame::Decoder;
use frame::Frame;

/// A conversation with the module.
pub(super) struct Rdm6300 {
    decoder: Decoder,
    field: Field,
    /// When the till opens, if it has not yet.
    opens_at: Option<Instant>,
    /// When the line was looked after last.
    last_turn: Instant,
    /// What came before that may have waited on its way, and is old.
    fresh_from: Instant,
    /// The end of the last frame, or of the last time when none could be heard.
    silent_since: Instant,
    /// The numbers heard within [`SILENCE`], the newest last.
    heard: Vec<([u8; 5], Instant)>,
    /// Whether several numbers come by turns.
    is_mixed: bool,
}

impl Rdm6300 {
    pub(super) fn new(now: Instant) -> Rdm6300 {
        Rdm6300 {
            decoder: Decoder::default(),
            field: Field::new(),
            opens_at: Some(now + SILENCE),
            last_turn: now,
            fresh_from: now,
            silent_since: now,
            heard: Vec::new(),
            is_mixed: false,
        }
    }

    /// While the till was busy elsewhere, frames have waited on the line. None of them is a tap or
    /// an answer: a chip that is still there is heard anew at once.
    fn notice_pause(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_turn) > LONGEST_TURN {
            self.decoder = Decoder::default();
            self.fresh_from = now + TRANSIT;
            self.silent_since = now;
        }
        self.last_turn = now;
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        if frame.begun_at < self.fresh_from {
            return;
        }
        self.silent_since = now;
        self.note(frame.sent, now);
        let sight = match em4100::identity(frame.sent) {
            _ if self.is_mixed => Sight::Unusable(ChipFault::Several),
            Ok(chip) => Sight::Chip(ChipIdentity::Bare(chip)),
            Err(error) => Sight::Unusable(error.into()),
        };
        // It may have been on its way when its first byte was noticed.
        let begun_at = frame.begun_at.checked_sub(TRANSIT);
        self.field
            .handle_look(sight, begun_at.unwrap_or(frame.begun_at), now);
    }

    /// A number that comes back after another, faster than hands are, lies beside the other.
    fn note(&mut self, sent: [u8; 5], now: Instant) {
        self.heard
            .retain(|(_, at)| now.saturating_duration_since(*at) < SILENCE);
        let comes_back = self.heard.iter().any(|(number, _)| *number == sent)
            && self.heard.last().is_some_and(|(number, _)| *number != sent);
        self.heard.retain(|(number, _)| *number != sent);
        self.is_mixed = !self.heard.is_empty() && (self.is_mixed || comes_back);
        if self.heard.len() == MOST_HEARD {
            self.heard.remove(0);
        }
        self.heard.push((sent, now));
    }
}

impl Conversation for Rdm6300 {
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

    /// The module has its own light, and nothing that could be told what to show.
    fn handle_signal(&mut self, _signal: Signal) {}

    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            match self.decoder.push(byte, now) {
                Some(Ok(frame)) => self.handle_frame(frame, now),
                Some(Err(error)) => tracing::debug!(%error, "Bytes on the line are no frame"),
                None => {}
            }
        }
    }

    fn handle_end(&mut self) {
        self.field.handle_end();
    }

    /// Never sends anything.
    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.notice_pause(now);
        let silence = now.saturating_duration_since(self.silent_since);
        if silence >= SILENCE {
            self.field.handle_emptiness();
        }
        if let (true, Some(asked_until)) = (silence >= LOOK_TIME, now.checked_sub(LOOK_TIME)) {
            self.field.answer_absent(asked_until);
        }
        self.field.handle_time(now);
        if self.opens_at.take_if(|at| *at <= now).is_some() {
            let firmware = "RDM6300, which cannot be asked".to_owned();
            self.field.handle_opened(firmware);
        }
        None
    }

    fn poll_happening(&mut self) -> Option<Happening> {
        self.field.poll_happening()
    }

    /// A module that is silent has nothing to say.
    fn fault(&self) -> Option<ReaderFault> {
        None
    }
}

/// After that a chip has left: at the edge of the field some frames in a row are missed.
const SILENCE: Duration = Duration::from_millis(400);
/// Three frames and more would have come from a chip that is there.
const LOOK_TIME: Duration = Duration::from_millis(200);
/// A frame takes 15 ms on the line, and an adapter holds bytes back for as long as 16 ms.
const TRANSIT: Duration = Duration::from_millis(35);
/// The line is looked after every 20 ms.
const LONGEST_TURN: Duration = Duration::from_millis(100);
const MOST_HEARD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::field::words;

    /// A module by a till; what is near is told in turns of 10 ms.
    struct Bench {
        till: Rdm6300,
        now: Instant,
        turns: u32,
    }

    impl Bench {
        fn new() -> Bench {
            let now = Instant::now() + Duration::from_secs(3600);
            Bench {
                till: Rdm6300::new(now),
                now,
                turns: 0,
            }
        }

        fn open() -> Bench {
            let mut bench = Bench::new();
            bench.run(500, &[]);
            assert_eq!(bench.told(), "opened RDM6300, which cannot be asked");
            bench
        }

        /// Lets time pass; every 60 ms the next of the frames comes.
        fn run(&mut self, milliseconds: u32, frames: &[&[u8]]) {
            for _ in 0..milliseconds / 10 {
                self.now += Duration::from_millis(10);
                assert_eq!(self.till.poll_transmit(self.now), None);
                if let (Some(round), false) = (self.turns.checked_div(6), frames.is_empty())
                    && self.turns.is_multiple_of(6)
                {
                    let frame = frames[round as usize % frames.len()];
                    self.till.handle_bytes(frame, self.now);
                }
                self.turns += 1;
            }
        }

        fn told(&mut self) -> String {
            words(|| self.till.poll_happening())
        }
    }

    /// What frames are told as that come for a second, and then no more.
    #[track_caller]
    fn check(frames: &[&[u8]], expect: &str) {
        let mut bench = Bench::open();
        bench.run(1000, frames);
        bench.run(1000, &[]);
        assert_eq!(bench.told(), expect);
    }

    const A: &[u8] = b"\x02010063E9AE25\x03";
    const B: &[u8] = b"\x0262E3086CED08\x03";
    const NOTHING: &[u8] = b"";

    #[test]
    fn a_chip_that_lies_is_told_once_and_leaves_in_silence() {
        check(&[A], "came 0063E9AE, left");
    }

    #[test]
    fn frames_missed_at_the_edge_of_the_field_end_nothing() {
        check(
            &[A, NOTHING, NOTHING, NOTHING, NOTHING],
            "came 0063E9AE, left",
        );
    }

    #[test]
    fn a_swap_needs_no_silence() {
        let mut bench = Bench::open();
        bench.run(600, &[A]);
        bench.run(600, &[B]);
        assert_eq!(bench.told(), "came 0063E9AE, left, came E3086CED");
    }

    #[test]
    fn numbers_that_come_by_turns_are_several_chips() {
        let mut bench = Bench::open();
        bench.run(1000, &[A, B]);
        let told = bench.told();
        assert!(told.ends_with("left, unreadable Several"), "{told}");
        bench.till.handle_read_again(1, bench.now);
        bench.run(200, &[A, B]);
        assert_eq!(bench.told(), "again 1 Several");
        bench.run(1000, &[A]);
        assert_eq!(bench.told(), "came 0063E9AE");
    }

    #[test]
    fn a_wrong_check_is_never_told() {
        check(&[b"\x02010063E9AE26\x03"], "");
    }

    #[test]
    fn what_lay_there_when_the_line_was_opened_is_no_tap() {
        let mut bench = Bench::new();
        bench.run(1000, &[A]);
        assert_eq!(bench.told(), "opened RDM6300, which cannot be asked");
        bench.run(500, &[]);
        bench.run(500, &[A]);
        assert_eq!(bench.told(), "came 0063E9AE");
    }

    #[test]
    fn a_question_is_answered_by_what_is_heard_after_it() {
        let mut bench = Bench::open();
        bench.till.handle_read_again(1, bench.now);
        bench.run(300, &[]);
        assert_eq!(bench.told(), "again 1 Absent");
        bench.run(300, &[A]);
        bench.till.handle_read_again(2, bench.now);
        // On its way already when the question was asked.
        bench
            .till
            .handle_bytes(A, bench.now + Duration::from_millis(10));
        assert_eq!(bench.told(), "came 0063E9AE");
        bench.run(200, &[A]);
        assert_eq!(bench.told(), "again 2 0063E9AE");
        bench.till.handle_read_again(3, bench.now);
        bench.run(300, &[]);
        assert_eq!(bench.told(), "");
        bench.run(300, &[]);
        assert_eq!(bench.told(), "left, again 3 Absent");
    }

    #[test]
    fn frames_that_waited_while_the_till_was_busy_are_old() {
        let mut bench = Bench::open();
        bench.run(300, &[A]);
        assert_eq!(bench.told(), "came 0063E9AE");
        bench.now += Duration::from_secs(2);
        bench
            .till
            .handle_read_again(1, bench.now - Duration::from_secs(1));
        bench.till.poll_transmit(bench.now);
        bench.till.handle_bytes(&[A, A, B, B].concat(), bench.now);
        assert_eq!(bench.told(), "");
        bench.run(600, &[]);
        assert_eq!(bench.told(), "left, again 1 Absent");
    }

    #[test]
    fn a_lost_line_ends_presence_and_questions() {
        let mut bench = Bench::open();
        bench.run(300, &[A]);
        bench.till.handle_read_again(1, bench.now);
        bench.till.handle_end();
        assert_eq!(bench.told(), "came 0063E9AE, left, again 1 ReaderFaulty");
    }
}
