//! What is claimed in a row of the table: that all holds, or that a mistake is found.

use super::{ACKSAFE, BOUND, COVERED, Ceilings, DRAIN, Kroner, ONCE, Rules, Scope};
use crate::check::{Expect, Row};

/// A row in which everything holds.
pub(super) fn sound(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
) -> Row<Ceilings> {
    row(
        name,
        about,
        rules,
        scope,
        bound,
        &[BOUND, ONCE, ACKSAFE, DRAIN],
        Expect::Holds,
    )
}

/// A row in which everything holds, and the lemma on what the hub believes, too.
pub(super) fn covered(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
) -> Row<Ceilings> {
    let promises = &[BOUND, ONCE, ACKSAFE, DRAIN, COVERED];
    row(name, about, rules, scope, bound, promises, Expect::Holds)
}

/// A row that must be caught.
pub(super) fn mutant(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
    caught: &'static [&'static str],
) -> Row<Ceilings> {
    row(
        name,
        about,
        rules,
        scope,
        bound,
        caught,
        Expect::Violates(caught),
    )
}

/// A sound row whose bound is tight: one krone less is violated.
pub(super) fn tight(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
) -> Vec<Row<Ceilings>> {
    let holds = sound(name, about, rules, scope, bound);
    vec![
        holds,
        mutant(name, TIGHT, rules, scope, bound - 1, &[BOUND]),
    ]
}

pub(super) fn tight_covered(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
) -> Vec<Row<Ceilings>> {
    let holds = covered(name, about, rules, scope, bound);
    vec![
        holds,
        mutant(name, TIGHT, rules, scope, bound - 1, &[BOUND]),
    ]
}

fn row(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    bound: Kroner,
    promises: &[&'static str],
    expect: Expect,
) -> Row<Ceilings> {
    Row {
        name,
        about,
        expect,
        model: Ceilings {
            rules: rules.clone(),
            scope: scope.clone(),
            bound,
            promises: promises.to_vec(),
        },
    }
}

const TIGHT: &str = "the same, claimed one krone lower";
