//! A talk with a chip through a reader whose answers come later: says what to send next.
//!
//! At each answer the talk is gone through anew from its beginning, with the answers and random
//! numbers so far, which is well under a millisecond's work and keeps one order of steps for all
//! readers.

use std::sync::Arc;

use canteen::ChipIdentity;
use chip_keys::SiteKeys;
use zeroize::Zeroizing;

use super::enrolment::{ChipReport, ChipTask, EnrolError};
use super::identify::{Shown, Speaks, identify};
use super::{NoRandom, os_random};
use crate::ChipFault;

/// A talk under way.
pub(crate) struct Talk {
    aim: Aim,
    keys: Arc<[SiteKeys]>,
    shown: Shown,
    answers: Vec<Vec<u8>>,
    numbers: Vec<Zeroizing<[u8; 16]>>,
}

/// What the talk is for.
#[derive(Debug, Clone)]
pub(crate) enum Aim {
    /// To find out who the chip is.
    Identify,
    /// To do something with it.
    Work(ChipTask),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send this to the chip, and hand over its whole answer.
    Send(Vec<u8>),
    /// The talk is over.
    Done(Told),
}

/// What came of a talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Who the chip is, or why that is not known.
    Identified(Result<ChipIdentity, ChipFault>),
    /// What was done with it, or why not.
    Worked(Result<ChipReport, EnrolError>),
}

impl Talk {
    pub(crate) fn new(aim: Aim, keys: Arc<[SiteKeys]>, shown: Shown) -> Talk {
        Talk {
            aim,
            keys,
            shown,
            answers: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// What can be sent to the chip.
    pub(crate) fn speaks(&self) -> Speaks {
        self.shown.speaks
    }

    /// It was found out what can be sent to the chip.
    pub(crate) fn handle_speaks(&mut self, speaks: Speaks) {
        self.shown.speaks = speaks;
    }

    /// Takes the chip's answer to what was to be sent last.
    pub(crate) fn handle_answer(&mut self, answer: Vec<u8>) {
        self.answers.push(answer);
    }

    /// What comes of it when the chip cannot be spoken to any longer.
    pub(crate) fn broken_off(&self, fault: ChipFault) -> Told {
        match self.aim {
            Aim::Identify => Told::Identified(Err(fault)),
            Aim::Work(_) => Told::Worked(Err(fault.into())),
        }
    }

    /// What comes of it when the reader lets nothing through: the chip is who it claims to be.
    pub(crate) fn without_passage(&self) -> Told {
        match self.aim {
            Aim::Identify => Told::Identified(self.shown.claim()),
            Aim::Work(_) => Told::Worked(Err(EnrolError::Reader)),
        }
    }

    pub(crate) fn turn(&mut self) -> Turn {
        let mut answers = self.answers.iter();
        let mut wanted = None;
        let mut exchange = |command: &[u8]| match answers.next() {
            Some(answer) => Ok(answer.clone()),
            None => {
                wanted.get_or_insert_with(|| command.to_vec());
                Err(ChipFault::HoldStill)
            }
        };
        let (numbers, mut used) = (&mut self.numbers, 0);
        let mut random = || -> Result<[u8; 16], NoRandom> {
            if used == numbers.len() {
                numbers.push(Zeroizing::new(os_random()?));
            }
            used += 1;
            Ok(*numbers[used - 1])
        };
        let (keys, shown) = (&self.keys, &self.shown);
        let told = match &self.aim {
            Aim::Identify => Told::Identified(identify(&mut exchange, keys, shown, &mut random)),
            Aim::Work(task) => Told::Worked(task.run(&mut exchange, keys, shown, &mut random)),
        };
        wanted.map_or(Turn::Done(told), Turn::Send)
    }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk")
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}
