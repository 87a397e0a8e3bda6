//! Runs: a seed becomes a scene and a list of actions; a failing list is made as short as can be
//! and told as a story.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::World;
use super::action::Action;
use super::mistake::Mistake;
use super::plan::Plan;
use super::scene::{Blanks, Scene};
use super::tally::{Invariant, Tally, Violation};
use crate::chance::Chance;

/// What happens in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where it begins.
    pub scene: Scene,
    /// What happens.
    pub actions: Vec<Action>,
}

/// What went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is violated.
    pub violation: Violation,
    /// After how many actions.
    pub after: usize,
}

/// A run that was told step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The run.
    pub run: Run,
    /// What happened in each step.
    pub steps: Vec<String>,
    /// How it ended.
    pub failure: Option<Failure>,
}

impl Run {
    /// The run of a seed: the same one, always and everywhere.
    pub fn of(seed: u64) -> Run {
        let mut chance = Chance::of(seed);
        let mut scene = Scene::draw(&mut chance);
        let mut plan = Plan::draw(&mut chance);
        // Drawn apart, so that all other runs stay what they were.
        let mut apart = Chance::of(seed ^ APART);
        if apart.one_in(4) {
            scene.be_strict(&mut apart);
            plan.be_strict(&mut apart);
        }
        if Chance::of(seed ^ APART_BOTH).one_in(3) {
            plan.restore_copies();
        }
        let steps = 60 + chance.below(140);
        // Every till begins with what the hub knows; what follows is left to chance.
        let begin = plan.beginning(&scene);
        let rest = (0..steps).map(|_| plan.action(&mut chance));
        let actions = begin.into_iter().chain(rest).collect();
        Run { scene, actions }
    }
}

/// Makes runs.
pub struct Runs {
    blanks: Blanks,
    mistake: Option<Mistake>,
}

impl Runs {
    /// Makes ready to run, with a bug put in or without.
    pub fn new(mistake: Option<Mistake>) -> Result<Runs, Violation> {
        Ok(Runs {
            blanks: Blanks::make()?,
            mistake,
        })
    }

    /// Runs to the end or to the first violation, and adds what was seen.
    pub fn try_out(&self, run: &Run, tally: &mut Tally) -> Result<(), Failure> {
        self.go(run, tally, &mut None)
    }

    fn go(
        &self,
        run: &Run,
        tally: &mut Tally,
        told: &mut Option<Vec<String>>,
    ) -> Result<(), Failure> {
        let mut after = 0;
        let mut seen = Tally::new();
        let went = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::open(&run.scene, &self.blanks, self.mistake)?;
            let went = world.go(&run.actions, &mut after, told);
            seen = world.tally.clone();
            went
        }));
        tally.add(&seen);
        let violation = match went {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(violation)) => violation,
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or(panic.downcast_ref::<&str>().copied());
                let words = words.unwrap_or("without a word");
                Violation::of(Invariant::Works, format!("a panic: {words}"))
            }
        };
        Err(Failure { violation, after })
    }

    /// Leaves out whatever the violation happens without, until every action is needed.
    pub fn shorten(&self, run: &Run, failure: &Failure) -> Run {
        let invariant = failure.violation.invariant;
        let mut run = run.clone();
        run.actions.truncate(failure.after);
        let mut tries = 0;
        let mut piece = run.actions.len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            let mut has_shrunk = false;
            while from < run.actions.len() && tries < TRIES_MAX {
                let mut fewer = run.clone();
                let to = (from + piece).min(fewer.actions.len());
                fewer.actions.drain(from..to);
                tries += 1;
                match self.try_out(&fewer, &mut Tally::new()) {
                    Err(failure) if failure.violation.invariant == invariant => {
                        fewer.actions.truncate(failure.after);
                        run = fewer;
                        has_shrunk = true;
                    }
                    Ok(()) | Err(_) => from += piece,
                }
            }
            if tries >= TRIES_MAX || piece == 1 && !has_shrunk {
                return run;
            }
            if !has_shrunk {
                piece = piece.div_ceil(2);
            }
        }
    }

    /// Tells a run step by step.
    pub fn tell(&self, run: &Run) -> Telling {
        let mut told = Some(Vec::new());
        let failure = self.go(run, &mut Tally::new(), &mut told).err();
        Telling {
            run: run.clone(),
            steps: told.unwrap_or_default(),
            failure,
        }
    }
}

impl World {
    fn go(
        &mut self,
        actions: &[Action],
        after: &mut usize,
        told: &mut Option<Vec<String>>,
    ) -> Result<(), Violation> {
        for till in 0..self.tills.len() {
            self.fetch(till, super::Way::CLEAR)?;
        }
        for action in actions {
            *after += 1;
            let done = self.step(*action);
            if let Some(told) = told {
                told.push(match &done {
                    Ok(words) => words.clone(),
                    Err(_) => format!("{action:?}"),
                });
            }
            done?;
        }
        self.settle()
    }
}

impl fmt::Display for Telling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scene {
            tills,
            balances,
            overspend_max,
            till_max,
            begins,
            strict,
            ..
        } = &self.run.scene;
        writeln!(
            f,
            "  at {begins}, {tills} tills; accounts with {balances:?} kr; together they may overspend \
             {overspend_max} kr, one of them may sell {till_max} kr unheard"
        )?;
        if strict.iter().any(|kroner| *kroner > 0) {
            writeln!(f, "  strict limits of day, week and month: {strict:?} kr")?;
        }
        for (step, at) in self.steps.iter().zip(1..) {
            writeln!(f, "  {at:>3}. {step}")?;
        }
        match &self.failure {
            Some(failure) => writeln!(f, "  → {}", failure.violation),
            None => writeln!(f, "  → all is well"),
        }
    }
}

/// Tells the draws about strict limits from all others.
const APART: u64 = 0x0005_7a1d;

/// The same of those about restores in worlds with copies.
const APART_BOTH: u64 = 0xb070_0066;

/// Enough for a run of two hundred actions to be halved and then thinned out twice.
const TRIES_MAX: usize = 1500;
