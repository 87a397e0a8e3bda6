//! Checks one row of a table exhaustively and tells violations as stories.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

/// A model that can be checked and whose runs can be told to people.
pub trait Told:
    Model<
        State: Clone + PartialEq + Hash + fmt::Debug + Send + Sync,
        Action: Clone + PartialEq + fmt::Debug + Send + Sync,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The same model with only the named properties.
    #[must_use]
    fn judging(&self, promises: &[&'static str]) -> Self;

    /// What happens, as a sentence.
    fn tell_action(&self, before: &Self::State, action: &Self::Action) -> String;

    /// Where everything stands, in one line.
    fn tell_state(&self, state: &Self::State) -> String;

    /// For a property about what must become of a state: what does become of it.
    fn tell_aftermath(&self, property: &str, state: &Self::State) -> Option<String>;
}

/// A run: states, each with what happened in it; nothing happens in the last.
pub type Run<M> = Vec<(<M as Model>::State, Option<<M as Model>::Action>)>;

/// What a row of a table says about its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Every property holds in every reachable state.
    Holds,
    /// Each of these properties is violated somewhere.
    Violates(&'static [&'static str]),
}

/// One configuration and what is known about it.
#[derive(Debug, Clone)]
pub struct Row<M> {
    /// Its name in the table.
    pub name: &'static str,
    /// What is special about it.
    pub about: &'static str,
    /// What must come out.
    pub expect: Expect,
    /// The configuration.
    pub model: M,
}

/// What came out of checking a row.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The name of the row.
    pub name: &'static str,
    /// What is special about it.
    pub about: &'static str,
    /// What had to come out.
    pub expect: Expect,
    /// Different states visited.
    pub states: usize,
    /// How long it took.
    pub took: Duration,
    /// One story per violated property, each as short as can be.
    pub stories: Vec<Story>,
}

/// How a property came to be violated, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The property.
    pub property: &'static str,
    /// Where everything stood at first.
    pub opening: String,
    /// What happened, and where everything stood then.
    pub steps: Vec<(String, String)>,
    /// What becomes of it, for a property about that.
    pub aftermath: Option<String>,
}

impl<M: Told> Row<M> {
    /// Visits every reachable state (or, for a violation, every state up to the first that
    /// violates), with the given number of threads.
    pub fn check(&self, threads: usize) -> Finding {
        let start = Instant::now();
        let (states, stories) = match self.expect {
            Expect::Holds => check_all(&self.model, threads),
            Expect::Violates(promises) => {
                promises.iter().fold((0, vec![]), |(most, mut told), p| {
                    let (states, story) = first_violation(&self.model, p);
                    told.extend(story);
                    (states.max(most), told)
                })
            }
        };
        Finding {
            name: self.name,
            about: self.about,
            expect: self.expect,
            states,
            took: start.elapsed(),
            stories,
        }
    }
}

impl Finding {
    /// Whether exactly what had to come out came out.
    pub fn is_as_expected(&self) -> bool {
        let found: BTreeSet<&str> = self.stories.iter().map(|story| story.property).collect();
        match self.expect {
            Expect::Holds => found.is_empty(),
            Expect::Violates(promises) => found == promises.iter().copied().collect(),
        }
    }
}

fn check_all<M: Told>(model: &M, threads: usize) -> (usize, Vec<Story>) {
    let checker = model
        .clone()
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let violated: Vec<&'static str> = checker.discoveries().into_keys().collect();
    let stories = violated
        .into_iter()
        .filter_map(|property| first_violation(model, property).1)
        .collect();
    (checker.unique_state_count(), stories)
}

/// Searches breadth first for one property alone, so that what is found first is the shortest.
fn first_violation<M: Told>(model: &M, property: &'static str) -> (usize, Option<Story>) {
    let judge = model.judging(&[property]);
    let checker = judge
        .clone()
        .checker()
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let story = checker
        .discovery(property)
        .map(|path| Story::tell(&judge, property, path.into_vec()));
    (checker.unique_state_count(), story)
}

impl Story {
    /// Tells a run that ends in the state that violates a property.
    pub fn tell<M: Told>(model: &M, property: &'static str, path: Run<M>) -> Story {
        let opening = path.first().map(|(state, _)| model.tell_state(state));
        let steps = path
            .windows(2)
            .filter_map(|pair| match pair {
                [(before, Some(action)), (after, _)] => {
                    Some((model.tell_action(before, action), model.tell_state(after)))
                }
                _ => None,
            })
            .collect();
        let aftermath = path
            .last()
            .and_then(|(state, _)| model.tell_aftermath(property, state));
        Story {
            property,
            aftermath,
            opening: opening.unwrap_or_default(),
            steps,
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} is violated in {} steps:",
            self.property,
            self.steps.len()
        )?;
        writeln!(f, "   at first          {}", self.opening)?;
        for (at, (action, state)) in self.steps.iter().enumerate() {
            writeln!(f, "  {:>2}. {action}", at + 1)?;
            writeln!(f, "                     {state}")?;
        }
        if let Some(aftermath) = &self.aftermath {
            writeln!(f, "   and {aftermath}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.stories.as_slice() {
            [] => "holds".to_owned(),
            stories => {
                let told: Vec<String> = stories
                    .iter()
                    .map(|story| format!("{} in {} steps", story.property, story.steps.len()))
                    .collect();
                format!("violated: {}", told.join(", "))
            }
        };
        let mark = if self.is_as_expected() { "ok " } else { "BAD" };
        let Finding {
            name,
            about,
            states,
            took,
            ..
        } = self;
        let took = took.as_millis();
        write!(
            f,
            "{mark} {name:<6} {states:>9} states {took:>7} ms  {about}: {verdict}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceilings::{self, Ceilings};
    use crate::rows::Scale;

    fn row(name: &str) -> Row<Ceilings> {
        let mut rows = ceilings::rows(Scale::Quick).into_iter();
        rows.find(|row| row.name == name)
            .expect("a row of that name")
    }

    /// Checks a row with another expectation than its own.
    #[track_caller]
    fn check(name: &str, expect: Expect, as_expected: bool) {
        let finding = Row {
            expect,
            ..row(name)
        }
        .check(1);
        assert_eq!(finding.is_as_expected(), as_expected, "{finding}");
    }

    #[test]
    fn a_mistake_that_is_not_found_is_reported() {
        check("C5", Expect::Violates(&[ceilings::BOUND]), false);
        check(
            "N1",
            Expect::Violates(&[ceilings::BOUND, ceilings::ONCE]),
            false,
        );
    }

    #[test]
    fn a_violation_of_what_should_hold_is_reported() {
        check("C9", Expect::Holds, false);
        check("C5", Expect::Holds, true);
    }

    #[test]
    fn the_shortest_story_is_told() {
        let finding = row("N1").check(1);
        let [story] = finding.stories.as_slice() else {
            panic!("one story, not {}", finding.stories.len());
        };
        let told: Vec<&str> = story
            .steps
            .iter()
            .map(|(action, _)| action.as_str())
            .collect();
        assert_eq!(
            told,
            [
                "till 1 sells for 1 kr",
                "till 1 sells for 1 kr",
                "the hub takes in entries 1 to 1 of till 1",
                "till 1 hears that the hub has it through 1",
                "till 1 sells for 1 kr",
            ]
        );
    }
}
