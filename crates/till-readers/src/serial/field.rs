//! The field of a reader that is looked into again and again: makes one presence of many looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::{ChipId, ChipIdentity};

use super::conversation::Happening;
use crate::auth::Shown;
use crate::{ChipFault, Presence};

/// What one look into the field found, before anything is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Chip(Shown),
    Unusable(ChipFault),
}

/// What one look into the field showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    Empty,
    Chip(ChipIdentity),
    Unusable(ChipFault),
}

impl Sight {
    /// A chip that told who it is, or something that cannot be used.
    pub(super) fn of(identity: Result<ChipIdentity, ChipFault>) -> Sight {
        match identity {
            Ok(identity) => Sight::Chip(identity),
            Err(fault) => Sight::Unusable(fault),
        }
    }
}

/// What is in the field as far as the till was told, and the questions that wait for a look.
pub(crate) struct Field {
    stay: Option<Stay>,
    /// Looks in a row that found nothing while something was there.
    misses: u32,
    reads: VecDeque<Read>,
    /// What the reader said of its firmware, until it is known what lay in its field before.
    firmware: Option<String>,
    happened: VecDeque<Happening>,
}

enum Stay {
    /// Whatever lay there when the line was opened: it is no tap, and must be lifted first.
    Before,
    Chip {
        /// The chip that it is or claims to be, whatever it has shown.
        chip: Option<ChipId>,
        presence: Presence,
    },
    Unusable(ChipFault),
}

#[derive(Clone, Copy)]
struct Read {
    token: u64,
    asked_at: Instant,
}

impl Field {
    pub(crate) fn new() -> Field {
        Field {
            stay: Some(Stay::Before),
            misses: 0,
            reads: VecDeque::new(),
            firmware: None,
            happened: VecDeque::new(),
        }
    }

    /// The reader works. It is called ready once a look has shown what lies in its field, so that
    /// a chip laid there after that is a tap.
    pub(crate) fn handle_opened(&mut self, firmware: String) {
        self.firmware = Some(firmware);
        if !matches!(self.stay, Some(Stay::Before)) {
            self.tell_opened();
        }
    }

    pub(crate) fn handle_read_again(&mut self, token: u64, asked_at: Instant) {
        self.reads.push_back(Read { token, asked_at });
    }

    /// Takes what a look showed that was begun at `begun_at`. It answers only questions that were
    /// asked before that.
    pub(crate) fn handle_look(&mut self, sight: Sight, begun_at: Instant, now: Instant) {
        match &sight {
            Sight::Empty => {
                self.misses += 1;
                if self.misses >= MISSES_TO_LEAVE {
                    self.end_stay();
                }
            }
            Sight::Chip(identity) => self.handle_chip(*identity, now),
            Sight::Unusable(fault) => self.handle_unusable(fault, now),
        }
        if sight != Sight::Empty {
            self.tell_opened();
        }
        let answer = match sight {
            // One look is not enough to say that a chip has left.
            Sight::Empty if self.stay.is_some() => return,
            Sight::Empty => Err(ChipFault::Absent),
            Sight::Chip(identity) => Ok(identity),
            Sight::Unusable(fault) => Err(fault),
        };
        self.answer_reads(&answer, |read| read.asked_at <= begun_at);
    }

    /// The field has been empty for so long that whatever was there has left.
    pub(crate) fn handle_emptiness(&mut self) {
        self.end_stay();
    }

    /// Answers the questions asked until then that nothing is there, if nothing is.
    pub(crate) fn answer_absent(&mut self, asked_until: Instant) {
        if self.stay.is_none() {
            self.answer_reads(&Err(ChipFault::Absent), |read| read.asked_at <= asked_until);
        }
    }

    /// Answers questions that have waited too long.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        let is_over = |read: &Read| now.saturating_duration_since(read.asked_at) > READ_TIME;
        self.answer_reads(&Err(ChipFault::ReaderFaulty), is_over);
    }

    /// Whether somebody asked, before that, who is there.
    pub(super) fn is_asked(&self, before: Instant) -> bool {
        self.reads.iter().any(|read| read.asked_at <= before)
    }

    /// Whether nothing is known to be there.
    pub(super) fn is_empty(&self) -> bool {
        self.stay.is_none()
    }

    /// Nothing more can be said of the field.
    pub(crate) fn handle_end(&mut self) {
        self.firmware = None;
        self.end_stay();
        self.answer_reads(&Err(ChipFault::ReaderFaulty), |_| true);
    }

    /// Whether a look right away settles something: a question waits, or one more empty look ends
    /// a stay.
    pub(super) fn is_unsettled(&self) -> bool {
        let is_doubtful = self.stay.is_some() && self.misses > 0;
        is_doubtful || !self.reads.is_empty() || matches!(self.stay, Some(Stay::Before))
    }

    pub(crate) fn tell(&mut self, happening: Happening) {
        self.happened.push_back(happening);
    }

    pub(crate) fn poll_happening(&mut self) -> Option<Happening> {
        self.happened.pop_front()
    }

    fn handle_chip(&mut self, identity: ChipIdentity, seen_at: Instant) {
        self.misses = 0;
        let chip = identity.chip();
        match &self.stay {
            Some(Stay::Before) => return,
            Some(Stay::Chip { chip: there, .. }) if *there == chip => return,
            Some(Stay::Chip { .. } | Stay::Unusable(_)) | None => {}
        }
        self.end_stay();
        let presence = Presence::next();
        self.stay = Some(Stay::Chip { chip, presence });
        self.tell(Happening::Came {
            presence,
            identity,
            seen_at,
        });
    }

    fn handle_unusable(&mut self, fault: &ChipFault, seen_at: Instant) {
        self.misses = 0;
        match &self.stay {
            Some(Stay::Before) => return,
            Some(Stay::Unusable(there)) if there == fault => return,
            Some(Stay::Chip { .. } | Stay::Unusable(_)) | None => {}
        }
        self.end_stay();
        self.stay = Some(Stay::Unusable(fault.clone()));
        let fault = fault.clone();
        self.tell(Happening::Unreadable { fault, seen_at });
    }

    fn end_stay(&mut self) {
        self.misses = 0;
        match self.stay.take() {
            Some(Stay::Chip { presence, .. }) => self.tell(Happening::Left { presence }),
            Some(Stay::Before) => self.tell_opened(),
            Some(Stay::Unusable(_)) | None => {}
        }
    }

    fn tell_opened(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            self.tell(Happening::Opened { firmware });
        }
    }

    fn answer_reads(
        &mut self,
        identity: &Result<ChipIdentity, ChipFault>,
        is_answered: impl Fn(&Read) -> bool,
    ) {
        let (answered, waiting): (VecDeque<Read>, VecDeque<Read>) =
            self.reads.drain(..).partition(is_answered);
        self.reads = waiting;
        for Read { token, .. } in answered {
            let identity = identity.clone();
            self.tell(Happening::ReadAgain { token, identity });
        }
    }
}

/// A chip that lies still is missed now and then.
const MISSES_TO_LEAVE: u32 = 2;
/// Well under [`crate::LONGEST_ANSWER`].
const READ_TIME: Duration = Duration::from_secs(3);

/// A chip's UID, with what it has shown when that is more or less than its UID.
#[cfg(test)]
pub(super) fn who(identity: ChipIdentity) -> String {
    match identity {
        ChipIdentity::Bare(chip) => chip.to_string(),
        ChipIdentity::Proven { chip, .. } => format!("{chip} proven"),
        ChipIdentity::Failed { claimed: None } => "failed".to_owned(),
        ChipIdentity::Failed {
            claimed: Some(chip),
        } => format!("{chip} failed"),
    }
}

/// Bytes as the tests write them.
#[cfg(test)]
pub(in crate::serial) fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// What a field has told, in words.
#[cfg(test)]
pub(crate) fn words(mut next: impl FnMut() -> Option<Happening>) -> String {
    let mut words = Vec::new();
    while let Some(happening) = next() {
        words.push(match happening {
            Happening::Opened { firmware } => format!("opened {firmware}"),
            Happening::Came { identity, .. } => format!("came {}", who(identity)),
            Happening::Unreadable { fault, .. } => format!("unreadable {fault:?}"),
            Happening::Left { .. } => "left".to_owned(),
            Happening::ReadAgain {
                token,
                identity: Ok(identity),
            } => format!("again {token} {}", who(identity)),
            Happening::ReadAgain {
                token,
                identity: Err(fault),
            } => format!("again {token} {fault:?}"),
            Happening::Worked { token, report } => match report {
                Ok(report) => format!("worked {token} {report:?}"),
                Err(error) => format!("worked {token} {error}"),
            },
            Happening::Log { text, .. } => text,
        });
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks show, in rows: `-` nothing, `1` and `2` chips, `s` several, `?` a question that
    /// is asked before the next look, `!` one that is asked while the next look goes on.
    #[track_caller]
    fn check(looks: &str, expect: &str) {
        let mut field = Field::new();
        let mut now = Instant::now();
        let (mut token, mut late) = (0, None);
        for look in looks.split(' ') {
            now += Duration::from_millis(50);
            let sight = match look {
                "-" => Sight::Empty,
                "s" => Sight::Unusable(ChipFault::Several),
                "?" | "!" => {
                    token += 1;
                    if look == "!" {
                        late = Some(token);
                    } else {
                        field.handle_read_again(token, now);
                    }
                    continue;
                }
                digit => {
                    let digit: u8 = digit.parse().unwrap();
                    Sight::Chip(ChipIdentity::Bare(ChipId::from_uid(&[digit; 4]).unwrap()))
                }
            };
            if let Some(token) = late.take() {
                field.handle_read_again(token, now + Duration::from_millis(1));
            }
            field.handle_look(sight, now, now + Duration::from_millis(10));
        }
        assert_eq!(words(|| field.poll_happening()), expect, "{looks}");
    }

    #[test]
    fn many_looks_at_one_chip_are_one_presence() {
        check("- - 1 1 1 1", "came 01010101");
        check("- - 1 - - 1", "came 01010101, left, came 01010101");
    }

    #[test]
    fn one_look_that_misses_a_chip_ends_nothing() {
        check("- - 1 - 1 - 1 - 1", "came 01010101");
        check("- - s - s - s", "unreadable Several");
    }

    #[test]
    fn a_swap_needs_no_empty_look() {
        check("- - 1 2", "came 01010101, left, came 02020202");
    }

    #[test]
    fn what_lay_there_before_is_no_tap_until_it_was_lifted() {
        check("1 1 1", "");
        check("1 2 - 1", "");
        check("- 1 - 1", "");
        check("s 1 - - 1", "came 01010101");
        check("1 ? 1", "again 1 01010101");
    }

    #[test]
    fn a_reader_is_ready_when_it_is_known_what_lay_there() {
        for (looks, ready_at) in [("- -", 2), ("1 1", 1), ("- s -", 2)] {
            let (mut field, now) = (Field::new(), Instant::now());
            field.handle_opened("1.0".to_owned());
            assert_eq!(words(|| field.poll_happening()), "");
            for (at, look) in looks.split(' ').enumerate() {
                let sight = match look {
                    "-" => Sight::Empty,
                    "1" => Sight::Chip(ChipIdentity::Bare(ChipId::from_uid(&[1; 4]).unwrap())),
                    _ => Sight::Unusable(ChipFault::Several),
                };
                field.handle_look(sight, now, now);
                let expect = if at + 1 == ready_at { "opened 1.0" } else { "" };
                assert_eq!(words(|| field.poll_happening()), expect, "{looks} {at}");
            }
        }
    }

    #[test]
    fn a_chip_beside_another_ends_its_presence() {
        check(
            "- - 1 s s 1",
            "came 01010101, left, unreadable Several, came 01010101",
        );
    }

    #[test]
    fn a_question_is_answered_by_a_look_that_began_after_it() {
        check(
            "- - 1 ? 2",
            "came 01010101, left, came 02020202, again 1 02020202",
        );
        check("- - 1 ! 1", "came 01010101");
        check("- - 1 ! 1 -", "came 01010101");
        check("- - 1 ! 1 - -", "came 01010101, left, again 1 Absent");
        check("- - ? - 1", "again 1 Absent, came 01010101");
        check("- - ? s", "unreadable Several, again 1 Several");
    }

    #[test]
    fn a_question_that_waits_too_long_is_answered_by_a_fault() {
        let (mut field, now) = (Field::new(), Instant::now());
        field.handle_read_again(7, now);
        field.handle_time(now + READ_TIME);
        assert_eq!(words(|| field.poll_happening()), "");
        field.handle_time(now + READ_TIME + Duration::from_millis(1));
        assert_eq!(words(|| field.poll_happening()), "again 7 ReaderFaulty");
    }
}
