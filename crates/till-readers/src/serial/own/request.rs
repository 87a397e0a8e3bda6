//! What the till wants of the reader: who is there, and work on a chip.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::OwnConversation;
use super::chip_talk::Purpose;
use super::question::{Asked, Question};
use crate::ChipFault;
use crate::auth::ChipTask;
use crate::serial::conversation::Happening;

#[derive(Clone, Copy)]
pub(super) struct Read {
    pub(super) token: u64,
    pub(super) asked_at: Instant,
}

pub(super) struct Task {
    pub(super) token: u64,
    pub(super) task: ChipTask,
    pub(super) asked_at: Instant,
}

impl OwnConversation {
    pub(super) fn refuse(&mut self, read: Read) {
        let identity = Err(ChipFault::ReaderFaulty);
        self.happened.push_back(Happening::ReadAgain {
            token: read.token,
            identity,
        });
    }

    /// Answers questions that wait too long, or that nobody will answer any more.
    pub(super) fn refuse_reads(&mut self, is_over: impl Fn(&Read) -> bool) {
        if let Some(Asked {
            question: Question::Read(read),
            ..
        }) = self.asked
            && is_over(&read)
        {
            self.asked = None;
            self.refuse(read);
        }
        let late = self.take_talks(|talk| match &talk.purpose {
            Purpose::Read(read) => is_over(read),
            Purpose::Came { .. } | Purpose::Work(_) => false,
        });
        for talk in late {
            if let Purpose::Read(read) = talk.purpose {
                self.refuse(read);
            }
        }
        let (over, waiting): (VecDeque<Read>, VecDeque<Read>) =
            self.reads.drain(..).partition(is_over);
        self.reads = waiting;
        over.into_iter().for_each(|read| self.refuse(read));
    }

    /// Refuses tasks that wait too long, or that nobody will do any more.
    pub(super) fn refuse_tasks(&mut self, is_over: impl Fn(&Task) -> bool) {
        let over = self.tasks.iter().filter(|task| is_over(task));
        let over: Vec<u64> = over.map(|task| task.token).collect();
        for token in over {
            self.refuse_task(token, ChipFault::ReaderFaulty);
        }
    }

    /// What a task had done until now is found by the next one.
    pub(super) fn end_tasks(&mut self) {
        self.refuse_tasks(|_| true);
        for talk in self.take_talks(|talk| matches!(talk.purpose, Purpose::Work(_))) {
            if let Purpose::Work(token) = talk.purpose {
                self.tell_worked(token, Err(ChipFault::ReaderFaulty.into()));
            }
        }
    }

    pub(super) fn refuse_task(&mut self, token: u64, fault: ChipFault) {
        if self.take_task(token).is_some() {
            self.tell_worked(token, Err(fault.into()));
        }
    }

    /// A task whose question is under way is asked for no longer.
    pub(super) fn take_task(&mut self, token: u64) -> Option<ChipTask> {
        let its_look =
            |asked: &mut Asked| matches!(asked.question, Question::Look(of) if of == token);
        self.asked.take_if(its_look);
        let at = self.tasks.iter().position(|task| task.token == token)?;
        self.tasks.remove(at).map(|task| task.task)
    }
}

/// Well under [`crate::LONGEST_ANSWER`].
pub(super) const READ_TIME: Duration = Duration::from_secs(3);
