//! Seeded random walks through worlds too large to be searched exhaustively.

use std::fmt;
use std::mem::{Discriminant, discriminant};

use stateright::Model;

use crate::chance::Chance;
use crate::check::{Expect, Row, Run, Story, Told};

/// A configuration to walk in.
#[derive(Debug, Clone)]
pub struct Walk<M: Told> {
    /// The configuration and what is known about it.
    pub row: Row<M>,
    /// The figure whose lowest value is of interest.
    pub worst: fn(&M, &M::State) -> i64,
}

/// What many walks saw.
#[derive(Debug, Clone)]
pub struct Trail {
    /// The name of the configuration.
    pub name: &'static str,
    /// What is special about it.
    pub about: &'static str,
    /// What had to come out.
    pub expect: Expect,
    /// Walks made.
    pub walks: u64,
    /// Steps made in all.
    pub steps: u64,
    /// The lowest value of the figure, once a step was made.
    pub worst: Option<i64>,
    /// The first seed that violated a property, and how, without the steps it could do without.
    pub violation: Option<(u64, Story)>,
}

/// Steps of one walk at most.
pub const STEPS_MAX: usize = 400;

impl<M: Told> Walk<M> {
    /// Walks with one seed after the other, from a seed on, until `more` says no (it is asked
    /// with the steps made) or a property is violated.
    pub fn from_seed(&self, first: u64, mut more: impl FnMut(u64) -> bool) -> Trail {
        let mut trail = self.trail();
        let mut seed = first;
        while trail.violation.is_none() && more(trail.steps) {
            self.walk(seed, &mut trail);
            seed += 1;
        }
        trail
    }

    fn walk(&self, seed: u64, trail: &mut Trail) {
        let model = &self.row.model;
        if let Some((property, opening, taken)) = self.stroll(seed, trail) {
            let needed = without_needless_steps(model, &opening, taken, property);
            let path = replay(model, &opening, &needed).unwrap_or_default();
            trail.violation = Some((seed, Story::tell(model, property, path)));
        }
    }

    /// Walks until a property is violated: which, and how it came to that.
    fn stroll(&self, seed: u64, trail: &mut Trail) -> Option<Violation<M>> {
        let model = &self.row.model;
        let mut chance = Chance::of(seed);
        let mut states = model.init_states();
        let opening = states.swap_remove(chance.below(states.len()));
        let mut state = opening.clone();
        let (mut taken, mut actions) = (vec![], vec![]);
        trail.walks += 1;
        for _ in 0..STEPS_MAX {
            let figure = (self.worst)(model, &state);
            trail.worst = Some(trail.worst.map_or(figure, |worst| worst.min(figure)));
            if let Some(property) = violated(model, &state) {
                return Some((property, opening, taken));
            }
            actions.clear();
            model.actions(&state, &mut actions);
            let action = pick(&mut chance, &actions)?;
            if let Some(next) = model.next_state(&state, action.clone()) {
                state = next;
                taken.push(action);
                trail.steps += 1;
            }
        }
        None
    }

    fn trail(&self) -> Trail {
        Trail {
            name: self.row.name,
            about: self.row.about,
            expect: self.row.expect,
            walks: 0,
            steps: 0,
            worst: None,
            violation: None,
        }
    }
}

/// A property, where a walk began and what it did until the property was violated.
type Violation<M> = (&'static str, <M as Model>::State, Vec<<M as Model>::Action>);

impl Trail {
    /// Whether exactly what had to come out came out.
    pub fn is_as_expected(&self) -> bool {
        match self.expect {
            Expect::Holds => self.violation.is_none() && self.steps > 0,
            Expect::Violates(promises) => self
                .violation
                .as_ref()
                .is_some_and(|(_, story)| promises.contains(&story.property)),
        }
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_as_expected() { "ok " } else { "BAD" };
        let Trail {
            name,
            about,
            walks,
            steps,
            ..
        } = self;
        let worst = self.worst.unwrap_or_default();
        write!(
            f,
            "{mark} {name:<6} {walks:>9} walks  {steps:>10} steps  worst {worst:>3}  {about}: "
        )?;
        match &self.violation {
            None => write!(f, "no violation"),
            Some((seed, story)) => {
                let steps = story.steps.len();
                write!(
                    f,
                    "seed {seed} violates {} in {steps} steps",
                    story.property
                )
            }
        }
    }
}

fn violated<M: Told>(model: &M, state: &M::State) -> Option<&'static str> {
    let mut properties = model.properties().into_iter();
    properties
        .find(|property| !(property.condition)(model, state))
        .map(|property| property.name)
}

/// Leaves out whatever the violation happens without, until every step is needed.
fn without_needless_steps<M: Told>(
    model: &M,
    opening: &M::State,
    mut steps: Vec<M::Action>,
    property: &'static str,
) -> Vec<M::Action> {
    let judge = model.judging(&[property]);
    let mut at = steps.len();
    let mut shortened = false;
    while at > 0 {
        at -= 1;
        let mut fewer = steps.clone();
        fewer.remove(at);
        let path = replay(model, opening, &fewer);
        let end = path.as_ref().and_then(|path| path.last());
        if end.is_some_and(|(state, _)| violated(&judge, state).is_some()) {
            steps = fewer;
            shortened = true;
        }
        if at == 0 && shortened {
            at = steps.len();
            shortened = false;
        }
    }
    steps
}

/// The run that some actions make, if each of them may happen where its turn comes.
pub fn replay<M: Told>(model: &M, opening: &M::State, steps: &[M::Action]) -> Option<Run<M>> {
    let mut path = vec![];
    let mut state = opening.clone();
    let mut actions = vec![];
    for step in steps {
        actions.clear();
        model.actions(&state, &mut actions);
        if !actions.contains(step) {
            return None;
        }
        let next = model.next_state(&state, step.clone())?;
        path.push((state, Some(step.clone())));
        state = next;
    }
    path.push((state, None));
    Some(path)
}

/// First a kind of action, then one of that kind: else the many ways to cut a journal into slices
/// would drown everything else.
fn pick<A: Clone>(chance: &mut Chance, actions: &[A]) -> Option<A> {
    let mut kinds: Vec<Discriminant<A>> = vec![];
    for kind in actions.iter().map(discriminant) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let kind = *kinds.get(chance.below(kinds.len()))?;
    let of_kind: Vec<&A> = actions
        .iter()
        .filter(|a| discriminant(*a) == kind)
        .collect();
    of_kind
        .get(chance.below(of_kind.len()))
        .map(|action| (*action).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ceilings, top_up};

    /// Walks some tens of thousands of steps, which every mutant is caught in.
    #[track_caller]
    fn check<M: Told>(walks: &[Walk<M>], name: &str, worst: Option<i64>) {
        let walk = walks.iter().find(|walk| walk.row.name == name);
        let trail = walk
            .expect("a walk of that name")
            .from_seed(1, |steps| steps < 30_000);
        let story = trail.violation.as_ref().map(|(_, story)| story.to_string());
        assert!(
            trail.is_as_expected(),
            "{trail}\n{}",
            story.unwrap_or_default()
        );
        if worst.is_some() {
            assert_eq!(trail.worst, worst, "{trail}");
        }
    }

    #[test]
    fn busy_tills_reach_the_slack_and_never_pass_it() {
        check(&ceilings::walks(), "W1", Some(-2));
        check(&ceilings::walks(), "W2", Some(0));
        check(&ceilings::walks(), "W3", Some(-1));
    }

    #[test]
    fn a_clone_costs_one_cap_at_most() {
        check(&ceilings::walks(), "W4", None);
    }

    #[test]
    fn static_caps_are_bounded_by_n_caps() {
        check(&ceilings::walks(), "W5", None);
    }

    #[test]
    fn mistakes_that_take_many_steps_are_caught() {
        check(&ceilings::walks(), "W6", None);
        check(&ceilings::walks(), "W7", None);
        check(&ceilings::walks(), "W8", None);
    }

    #[test]
    fn top_ups_of_siblings_keep_every_promise() {
        check(&top_up::walks(), "W9", None);
        check(&top_up::walks(), "W10", None);
    }

    #[test]
    fn a_seed_walks_the_same_way_every_time() {
        let walks = ceilings::walks();
        let caught = walks.iter().find(|walk| walk.row.name == "W6").expect("W6");
        let trails = [1, 1].map(|seed| caught.from_seed(seed, |steps| steps < 30_000));
        let [first, second] = trails.map(|trail| (trail.steps, trail.violation));
        assert_eq!(first, second);
        assert!(first.1.is_some());
    }

    #[test]
    fn a_violation_is_told_without_a_step_too_many() {
        let walks = ceilings::walks();
        let caught = walks.iter().find(|walk| walk.row.name == "W6").expect("W6");
        let model = &caught.row.model;
        let mut walked = (1..).map(|seed| caught.stroll(seed, &mut caught.trail()));
        let (property, opening, taken) = walked.find_map(|end| end).expect("a violation");
        let needed = without_needless_steps(model, &opening, taken.clone(), property);
        assert!(needed.len() < taken.len());
        for left_out in 0..needed.len() {
            let mut fewer = needed.clone();
            fewer.remove(left_out);
            let end = replay(model, &opening, &fewer).and_then(|mut path| path.pop());
            assert!(end.is_none_or(|(state, _)| violated(model, &state).is_none()));
        }
    }
}
