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
mod command;
mod line;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;

use super::conversation::{Conversation, Happening};
use super::field::{Field, Seen, Sight};
use super::proof::Prover;
use crate::auth::{ANEW, ChipTask, Keyring, Shown, Speaks};
use crate::{ChipFault, ReaderFault, Signal};
use answer::{Answer, Found, Tag};
use command::{Command, GREEN, RED};
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
    /// The UID of the chip that is selected anew in the middle of a talk.
    anew: Option<Vec<u8>>,
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

impl Twn4 {
    pub(super) fn new(em4100: bool, keyring: Keyring, now: Instant) -> Twn4 {
        let mut twn4 = Twn4 {
            em4100,
            decoder: Decoder::default(),
            field: Field::new(),
            prover: Prover::new(keyring),
            talk: None,
            anew: None,
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
            Command::Select(_)
            | Command::Sak
            | Command::Exchange(_)
            | Command::Frame(_)
            | Command::FieldOff
            | Command::Anew { .. } => {
                self.anew = None;
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
                    match self.anew.take() {
                        Some(uid) => self.handle_said(Some(uid), now),
                        None => self.next_exchange(now),
                    }
                }
                None => false,
            },
            (Command::FieldOff, Answer::Done(_)) => {
                let counts = self.counts;
                self.talk_on(Command::Anew { counts })
            }
            (Command::Anew { counts: true }, Answer::Done(results)) => {
                self.handle_anew(answer::several(results), now)
            }
            (Command::Anew { counts: false }, Answer::Done(results)) => {
                self.handle_anew(answer::single(results), now)
            }
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

    /// The chip must be there alone, as it was.
    fn handle_anew(&mut self, found: Option<Found>, now: Instant) -> bool {
        let Some(found) = found else { return false };
        match &found[..] {
            [Tag::TypeA(uid)] => {
                self.anew = Some(uid.clone());
                // A chip that SearchTag found is selected.
                self.talk_on(match self.counts {
                    true => Command::Select(uid.clone()),
                    false => Command::Sak,
                })
            }
            [..] => self.handle_said(None, now),
        }
    }

    fn talk_on(&mut self, command: Command) -> bool {
        self.talk = Some(command);
        true
    }

    fn next_exchange(&mut self, now: Instant) -> bool {
        let command = self.prover.poll_command(&mut self.field, now);
        let speaks = self.prover.speaks();
        self.talk = command.map(|command| match speaks {
            Speaks::Frames if command == ANEW => Command::FieldOff,
            Speaks::Frames => Command::Frame(command),
            Speaks::Apdus | Speaks::Unasked | Speaks::Nothing => Command::Exchange(command),
        });
        true
    }

    fn handle_said(&mut self, said: Option<Vec<u8>>, now: Instant) -> bool {
        self.anew = None;
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

/// The tones that the manufacturer's own programs use for good and, lower here, for bad.
const HIGH: u16 = 2400;
const LOW: u16 = 1200;
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
mod tests;
