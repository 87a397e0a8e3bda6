//! What the reader is asked, and how long and how often.

use std::time::{Duration, Instant};

use firmware_proto::frame::VERSION;
use firmware_proto::message::{self, FromHost, Pattern, capability};

use super::request::{Read, Task};
use super::{OwnConversation, PING_PERIOD, PINGS_TO_LOSE, encode};
use crate::auth::EnrolError;
use crate::{ChipFault, ReaderFault, Signal};

/// The one question that waits for its answer.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) seq: u8,
    pub(super) sent_at: Instant,
    pub(super) times: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Question {
    Hello,
    Ping,
    Read(Read),
    /// What lies there that the first task is for: the task's number.
    Look(u64),
    /// The command of the talk under way.
    Apdu,
    /// The same, to a chip that takes frames.
    Air,
    Show(Signal),
}

impl OwnConversation {
    pub(super) fn send_again(&mut self, now: Instant) -> Option<Vec<u8>> {
        let nonce = self.nonce;
        let asked = self.asked.as_mut()?;
        asked.sent_at = now;
        asked.times += 1;
        let message = match asked.question {
            Question::Hello => FromHost::Hello {
                min: VERSION,
                max: VERSION,
                nonce,
            },
            Question::Ping => FromHost::Ping { echo: nonce },
            Question::Read(_) | Question::Look(_) => FromHost::Read,
            Question::Apdu => {
                let talk = self.talks.front()?;
                FromHost::Apdu {
                    event: talk.tag,
                    bytes: &talk.command,
                }
            }
            Question::Air => {
                let talk = self.talks.front()?;
                FromHost::Air {
                    event: talk.tag,
                    bytes: &talk.command,
                }
            }
            Question::Show(signal) => {
                let (pattern, milliseconds) = pattern(signal);
                FromHost::Feedback {
                    pattern,
                    milliseconds,
                }
            }
        };
        encode(&message, asked.seq)
    }

    pub(super) fn next_question(&mut self, now: Instant) -> Option<Question> {
        if self.reader.is_none() {
            return self.fault.is_none().then_some(Question::Hello);
        }
        if let Some(question) = self.poll_talk(now) {
            return Some(question);
        }
        if !self.lets_through()
            && let Some(Task { token, .. }) = self.tasks.pop_front()
        {
            self.tell_worked(token, Err(EnrolError::Reader));
        }
        let reader = self.reader.as_ref()?;
        let shows = reader.capabilities & (capability::LIGHT | capability::BEEPER) != 0;
        if let Some(read) = self.reads.pop_front() {
            return Some(Question::Read(read));
        }
        if let Some(Task { token, .. }) = self.tasks.front() {
            return Some(Question::Look(*token));
        }
        if let Some(signal) = self.signal.take().filter(|_| shows) {
            return Some(Question::Show(signal));
        }
        if now < self.next_ping {
            return None;
        }
        self.next_ping = now + PING_PERIOD;
        Some(Question::Ping)
    }

    /// The question was asked often enough.
    pub(super) fn give_up(&mut self, now: Instant) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        match asked.question {
            Question::Hello => self.fault = Some(ReaderFault::Silent),
            Question::Ping => {
                self.lost_pings += 1;
                if self.lost_pings >= PINGS_TO_LOSE {
                    self.fault = Some(ReaderFault::Lost);
                }
            }
            Question::Read(read) => self.refuse(read),
            Question::Look(token) => self.refuse_task(token, ChipFault::ReaderFaulty),
            Question::Apdu | Question::Air => self.break_off(now),
            // The sale stands without light and sound.
            Question::Show(_) => {}
        }
    }

    pub(super) fn take_answered(&mut self, seq: u8, kind: u8) -> Option<Question> {
        let asked = self
            .asked
            .take_if(|asked| asked.seq == seq && asked.question.answer() == kind);
        asked.map(|asked| asked.question)
    }
}

impl Question {
    /// How often it is asked. Lost pings are counted instead.
    pub(super) fn times(self) -> u32 {
        match self {
            Question::Hello | Question::Read(_) | Question::Look(_) | Question::Show(_) => 3,
            // A chip that heard a step of a proof twice would refuse the second.
            Question::Ping | Question::Apdu | Question::Air => 1,
        }
    }

    pub(super) fn answer_time(self) -> Duration {
        match self {
            Question::Apdu | Question::Air => CHIP_TIME,
            Question::Hello
            | Question::Ping
            | Question::Read(_)
            | Question::Look(_)
            | Question::Show(_) => ANSWER_TIME,
        }
    }

    /// The kind of its answer.
    fn answer(self) -> u8 {
        match self {
            Question::Hello => message::HELLO_ANSWER,
            Question::Ping => message::PONG,
            Question::Read(_) | Question::Look(_) => message::FIELD,
            Question::Apdu => message::APDU_ANSWER,
            Question::Air => message::AIR_ANSWER,
            Question::Show(_) => message::FEEDBACK_SHOWN,
        }
    }
}

/// A pattern, and its time in milliseconds; 0 is until the next one.
fn pattern(signal: Signal) -> (Pattern, u16) {
    match signal {
        Signal::Approved => (Pattern::Approved, 800),
        Signal::Declined => (Pattern::Declined, 1500),
        Signal::Waiting => (Pattern::Waiting, 0),
        Signal::Idle => (Pattern::Idle, 0),
    }
}

const ANSWER_TIME: Duration = Duration::from_millis(250);
/// A chip may take its time over a step of a proof.
const CHIP_TIME: Duration = Duration::from_secs(1);
