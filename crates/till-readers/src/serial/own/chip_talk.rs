//! Chips that are talked with before anything is told of them.

use std::collections::VecDeque;
use std::time::Instant;

use canteen::ChipIdentity;
use firmware_proto::message::{Chip, NackReason, Technology, capability, chip_flag};

use super::question::Question;
use super::request::Read;
use super::{OLDEST_TAP, OwnConversation};
use crate::ChipFault;
use crate::auth::{Aim, Shown, Speaks, Talk, Told, Turn};
use crate::serial::em4100;

/// A chip that is talked with before anything is told.
pub(super) struct ChipTalk {
    pub(super) talk: Talk,
    /// The number of the reader's event that told of the chip.
    pub(super) tag: u16,
    pub(super) purpose: Purpose,
    /// What it is sent now.
    pub(super) command: Vec<u8>,
}

/// Why it is talked with.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// It came into the field.
    Came { seen_at: Instant },
    /// Somebody asked who is there.
    Read(Read),
    /// Something is to be done with it: the task's number.
    Work(u64),
}

impl OwnConversation {
    /// Tells who a chip is or what was done with it, at once or when it was talked with.
    pub(super) fn tell_when_known(&mut self, chip: &Chip, tag: u16, purpose: Purpose, aim: Aim) {
        if chip.technology == Technology::Em4100 {
            let number = <[u8; 5]>::try_from(chip.uid.as_slice());
            let identity = match number.map(em4100::identity) {
                Ok(Ok(chip)) => Ok(ChipIdentity::Bare(chip)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(ChipFault::Technology),
            };
            return self.tell(identity, tag, purpose);
        }
        let shown = match self.shown(chip) {
            Ok(shown) => shown,
            Err(fault) => return self.tell(Err(fault), tag, purpose),
        };
        let keys = self.keyring.now();
        if matches!(aim, Aim::Identify) && !shown.may_prove(&keys) {
            return self.tell(shown.claim(), tag, purpose);
        }
        if tag == NO_EVENT {
            // It lay there before the reader was greeted, and cannot be spoken to.
            return self.tell(Err(ChipFault::HoldStill), tag, purpose);
        }
        self.talks.push_back(ChipTalk {
            talk: Talk::new(aim, keys, shown),
            tag,
            purpose,
            command: Vec::new(),
        });
    }

    /// How the chip that is talked with is sent something, if it is to be.
    pub(super) fn poll_talk(&mut self, now: Instant) -> Option<Question> {
        let first = self.talks.front_mut()?;
        match first.talk.turn() {
            Turn::Send(command) => {
                first.command = command;
                Some(match first.talk.speaks() {
                    Speaks::Frames => Question::Air,
                    Speaks::Apdus | Speaks::Unasked | Speaks::Nothing => Question::Apdu,
                })
            }
            Turn::Done(told) => {
                self.finish_talk(told, now);
                None
            }
        }
    }

    pub(super) fn finish_talk(&mut self, told: Told, now: Instant) {
        let Some(ChipTalk { tag, purpose, .. }) = self.talks.pop_front() else {
            return;
        };
        let is_late = |seen_at| now.saturating_duration_since(seen_at) > OLDEST_TAP;
        match (purpose, told) {
            (Purpose::Work(token), Told::Worked(report)) => self.tell_worked(token, report),
            // Whoever held it may be gone.
            (Purpose::Came { seen_at }, _) if is_late(seen_at) => {
                self.tell(Err(ChipFault::HoldStill), tag, purpose);
            }
            (_, Told::Identified(told)) => self.tell(told, tag, purpose),
            (Purpose::Came { .. } | Purpose::Read(_), Told::Worked(_)) => {}
        }
    }

    /// The chip that is talked with does not answer, or is no longer there.
    pub(super) fn break_off(&mut self, now: Instant) {
        if let Some(ChipTalk { talk, .. }) = self.talks.front() {
            self.finish_talk(talk.broken_off(ChipFault::HoldStill), now);
        }
    }

    /// The chips are no longer there.
    pub(super) fn give_up_talks(&mut self, is_over: impl Fn(&ChipTalk) -> bool, now: Instant) {
        for talk in self.take_talks(is_over) {
            self.talks.push_front(talk);
            self.break_off(now);
        }
    }

    /// What is on its way to a chip whose talk is taken answers nothing any more.
    pub(super) fn take_talks(&mut self, is_over: impl Fn(&ChipTalk) -> bool) -> VecDeque<ChipTalk> {
        if self.talks.front().is_some_and(&is_over) {
            self.asked
                .take_if(|asked| matches!(asked.question, Question::Apdu | Question::Air));
        }
        let (over, going_on): (VecDeque<ChipTalk>, VecDeque<ChipTalk>) =
            self.talks.drain(..).partition(is_over);
        self.talks = going_on;
        over
    }

    pub(super) fn handle_refused_command(&mut self, reason: NackReason, now: Instant) {
        match (reason, self.talks.front()) {
            (NackReason::NotSupported | NackReason::UnknownKind, Some(ChipTalk { talk, .. })) => {
                self.finish_talk(talk.without_passage(), now);
            }
            _ => self.break_off(now),
        }
    }

    /// Whether the reader passes anything on to chips.
    pub(super) fn lets_through(&self) -> bool {
        self.can(capability::APDU) || self.can(capability::AIR)
    }

    fn can(&self, ability: u32) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(|reader| reader.capabilities & ability != 0)
    }

    fn speaks(&self, chip: &Chip) -> Speaks {
        if chip.flags & chip_flag::TAKES_COMMANDS != 0 {
            return match self.can(capability::APDU) {
                true => Speaks::Apdus,
                false => Speaks::Nothing,
            };
        }
        match Speaks::of_select(chip.sak) {
            Speaks::Frames if self.can(capability::AIR) => Speaks::Frames,
            Speaks::Frames | Speaks::Apdus | Speaks::Unasked | Speaks::Nothing => Speaks::Nothing,
        }
    }

    /// Of the kinds at 13.56 MHz only type A has identifiers that are known to stay: those of type B
    /// are drawn anew, and others are no chips of a canteen.
    fn shown(&self, chip: &Chip) -> Result<Shown, ChipFault> {
        match chip.technology {
            Technology::Iso14443A => Ok(Shown {
                uid: chip.uid.as_slice().to_vec(),
                speaks: self.speaks(chip),
            }),
            Technology::Iso14443B
            | Technology::Felica
            | Technology::Iso15693
            | Technology::Em4100
            | Technology::Other(_) => Err(ChipFault::Technology),
        }
    }
}

/// In place of an event's number: the chip was not told of.
const NO_EVENT: u16 = 0;
