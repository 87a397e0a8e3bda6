//! When a chip in a field that is looked into again and again is talked with: it proves itself once
//! for each stay, and once more whenever somebody asks who is there; and tasks are done with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use canteen::ChipIdentity;

use super::conversation::Happening;
use super::field::{Field, Seen, Sight};
use crate::ChipFault;
use crate::auth::{Aim, ChipTask, EnrolError, Keyring, Shown, Speaks, Talk, Told, Turn};

/// What is known of the chip in the field, the talk under way, and the tasks that wait for a look.
pub(super) struct Prover {
    keyring: Keyring,
    /// Who the chip was that shows itself like this.
    known: Option<(Shown, ChipIdentity)>,
    under_way: Option<UnderWay>,
    tasks: VecDeque<Task>,
}

struct UnderWay {
    talk: Talk,
    /// The chip as the look saw it; the talk may have found out more since.
    seen: Shown,
    /// When the look was begun that found the chip.
    begun_at: Instant,
    /// The task's number, if it is for one.
    task: Option<u64>,
}

struct Task {
    token: u64,
    task: ChipTask,
    asked_at: Instant,
}

impl Prover {
    pub(super) fn new(keyring: Keyring) -> Prover {
        Prover {
            keyring,
            known: None,
            under_way: None,
            tasks: VecDeque::new(),
        }
    }

    /// Has something done with the chip that a look finds which is begun from now on.
    pub(super) fn handle_task(&mut self, token: u64, task: ChipTask, asked_at: Instant) {
        self.tasks.push_back(Task {
            token,
            task,
            asked_at,
        });
    }

    /// Takes what a look found. Unless the chip is to be talked with first, the field is told.
    pub(super) fn handle_seen(
        &mut self,
        seen: Seen,
        field: &mut Field,
        begun_at: Instant,
        now: Instant,
    ) {
        let shown = match seen {
            Seen::Nothing => {
                field.handle_look(Sight::Empty, begun_at, now);
                if field.is_empty() {
                    self.known = None;
                    self.refuse_tasks(&ChipFault::Absent.into(), field, |asked| asked <= begun_at);
                }
                return;
            }
            Seen::Unusable(fault) => {
                self.known = None;
                let error = fault.clone().into();
                self.refuse_tasks(&error, field, |asked| asked <= begun_at);
                return field.handle_look(Sight::Unusable(fault), begun_at, now);
            }
            Seen::Chip(shown) => shown,
        };
        let keys = self.keyring.now();
        if self
            .tasks
            .front()
            .is_some_and(|task| task.asked_at <= begun_at)
            && let Some(Task { token, task, .. }) = self.tasks.pop_front()
        {
            self.under_way = Some(UnderWay {
                talk: Talk::new(Aim::Work(task), keys, shown.clone()),
                seen: shown,
                begun_at,
                task: Some(token),
            });
            return;
        }
        if !shown.may_prove(&keys) {
            return field.handle_look(Sight::of(shown.claim()), begun_at, now);
        }
        match &self.known {
            Some((same, identity)) if *same == shown && !field.is_asked(begun_at) => {
                field.handle_look(Sight::Chip(*identity), begun_at, now);
            }
            Some(_) | None => {
                self.under_way = Some(UnderWay {
                    talk: Talk::new(Aim::Identify, keys, shown.clone()),
                    seen: shown,
                    begun_at,
                    task: None,
                });
            }
        }
    }

    /// A chip came that no command is for.
    pub(super) fn handle_mute_chip(&mut self, field: &mut Field, begun_at: Instant) {
        self.known = None;
        self.refuse_tasks(&EnrolError::Kind, field, |asked| asked <= begun_at);
    }

    /// The UID that the chip shows which is talked with now.
    pub(super) fn uid(&self) -> Option<&[u8]> {
        let under_way = self.under_way.as_ref()?;
        Some(&under_way.seen.uid)
    }

    /// What can be sent to the chip which is talked with now.
    pub(super) fn speaks(&self) -> Speaks {
        let under_way = self.under_way.as_ref();
        under_way.map_or(Speaks::Nothing, |under_way| under_way.talk.speaks())
    }

    /// It was found out what can be sent to the chip.
    pub(super) fn handle_speaks(&mut self, speaks: Speaks) {
        if let Some(under_way) = &mut self.under_way {
            under_way.talk.handle_speaks(speaks);
        }
    }

    /// What to send to the chip; `None` when the talk is over, and the field was told.
    pub(super) fn poll_command(&mut self, field: &mut Field, now: Instant) -> Option<Vec<u8>> {
        match self.under_way.as_mut()?.talk.turn() {
            Turn::Send(command) => Some(command),
            Turn::Done(told) => {
                self.finish(told, field, now);
                None
            }
        }
    }

    /// Takes the chip's answer; `None` when it gave none.
    pub(super) fn handle_answer(
        &mut self,
        answer: Option<Vec<u8>>,
        field: &mut Field,
        now: Instant,
    ) {
        match (&mut self.under_way, answer) {
            (Some(under_way), Some(answer)) => under_way.talk.handle_answer(answer),
            (Some(under_way), None) => {
                let told = under_way.talk.broken_off(ChipFault::HoldStill);
                self.finish(told, field, now);
            }
            (None, _) => {}
        }
    }

    /// The reader lets nothing through after all, so the chip is who it claims to be; a task is
    /// refused.
    pub(super) fn handle_no_passage(&mut self, field: &mut Field, now: Instant) {
        if let Some(under_way) = &self.under_way {
            let told = under_way.talk.without_passage();
            self.finish(told, field, now);
        }
    }

    /// Refuses tasks that have waited too long.
    pub(super) fn handle_time(&mut self, field: &mut Field, now: Instant) {
        let is_over = |asked| now.saturating_duration_since(asked) > TASK_TIME;
        self.refuse_tasks(&ChipFault::ReaderFaulty.into(), field, is_over);
    }

    /// Nothing more can be said or done. What a task had done until then is found by the next one.
    pub(super) fn handle_end(&mut self, field: &mut Field) {
        self.known = None;
        let error: EnrolError = ChipFault::ReaderFaulty.into();
        let under_way = self.under_way.take();
        if let Some(token) = under_way.and_then(|under_way| under_way.task) {
            let report = Err(error.clone());
            field.tell(Happening::Worked { token, report });
        }
        self.refuse_tasks(&error, field, |_| true);
    }

    fn refuse_tasks(
        &mut self,
        error: &EnrolError,
        field: &mut Field,
        is_refused: impl Fn(Instant) -> bool,
    ) {
        let (refused, waiting): (VecDeque<Task>, VecDeque<Task>) = self
            .tasks
            .drain(..)
            .partition(|task| is_refused(task.asked_at));
        self.tasks = waiting;
        for Task { token, .. } in refused {
            let report = Err(error.clone());
            field.tell(Happening::Worked { token, report });
        }
    }

    fn finish(&mut self, told: Told, field: &mut Field, now: Instant) {
        let Some(UnderWay {
            seen,
            begun_at,
            task,
            ..
        }) = self.under_way.take()
        else {
            return;
        };
        match (told, task) {
            (Told::Identified(told), _) => {
                self.known = match &told {
                    Ok(identity) => Some((seen, *identity)),
                    Err(_) => None,
                };
                field.handle_look(Sight::of(told), begun_at, now);
            }
            (Told::Worked(report), Some(token)) => {
                // It may hold other keys now: the next look finds out who it is.
                self.known = None;
                field.tell(Happening::Worked { token, report });
            }
            (Told::Worked(_), None) => {}
        }
    }
}

/// Until a look is begun; a reader that is in trouble is given up long before. Well under what people
/// wait.
pub(super) const TASK_TIME: Duration = Duration::from_secs(10);
