//! What must hold, and which wrong variants must be caught.

use super::{
    Counting, Earlier, Heard, LIMIT, Later, Program, RECKONED, Room, Rules, Scope, StrictLimit,
    Turn,
};
use crate::check::{Expect, Row};
use crate::rows::Scale;

/// The table.
pub fn rows(scale: Scale) -> Vec<Row<StrictLimit>> {
    let rules = Rules::default();
    let two = Scope {
        sales: scale.pick(1, 2),
        issues: 2,
        ..Scope::default()
    };
    let voids = Scope {
        voids: 1,
        sales: 2,
        issues: scale.pick(1, 2),
        ..Scope::default()
    };
    let split = Scope {
        limit: 2,
        sales: scale.pick(1, 2),
        ..Scope::default()
    };
    let three_days = Scope {
        days: 3,
        sales: scale.pick(1, 2),
        ..Scope::default()
    };
    let becomes_strict = Scope {
        lenient_money: Some(2),
        sales: scale.pick(1, 2),
        ..Scope::default()
    };
    let three_tills = Scope {
        tills: 3,
        ..Scope::default()
    };
    let mut table = vec![
        holds("L1", "2 tills, 2 days", &rules, &two),
        holds("L2", "2 tills, voids", &rules, &voids),
        holds("L3", "2 tills that share a limit of 2", &rules, &split),
        holds("L4", "2 tills, 3 days", &rules, &three_days),
        holds("L5", "the limit becomes strict", &rules, &becomes_strict),
        holds("L6", "3 tills", &rules, &three_tills),
    ];
    table.extend(mutants());
    table
}

fn mutants() -> Vec<Row<StrictLimit>> {
    let scope = Scope::default();
    let two_issues = Scope {
        issues: 2,
        ..Scope::default()
    };
    let two_sales = Scope {
        sales: 2,
        ..Scope::default()
    };
    let late = Scope {
        issues: 2,
        ..two_sales.clone()
    };
    let voids = Scope {
        voids: 1,
        ..two_sales
    };
    let becomes_strict = Scope {
        lenient_money: Some(2),
        ..Scope::default()
    };
    let rules = Rules::default;
    vec![
        caught(
            "M1",
            "a smaller share makes room when it is issued",
            Rules {
                room: Room::WhenIssued,
                ..rules()
            },
            &two_issues,
        ),
        caught(
            "M2",
            "what was granted ahead is forgotten when the day turns",
            Rules {
                turn: Turn::BeginsAnew,
                ..rules()
            },
            &scope,
        ),
        caught(
            "M3",
            "late sales are taken off what was granted ahead",
            Rules {
                turn: Turn::CarriesLessBooked,
                ..rules()
            },
            &late,
        ),
        caught(
            "M4",
            "a till whose day is behind sells by the share of a later one",
            Rules {
                earlier: Earlier::AsMuch,
                ..rules()
            },
            &two_issues,
        ),
        caught(
            "M4b",
            "sales of a clock that is ahead are not taken off what is granted ahead",
            Rules {
                later: Later::Whole,
                ..rules()
            },
            &two_issues,
        ),
        caught(
            "M5",
            "a void gives the share back at the till",
            Rules {
                counting: Counting::NetOfVoids,
                ..rules()
            },
            &voids,
        ),
        caught(
            "M6",
            "nobody waits for the tills to hear that the limit is strict",
            Rules {
                heard: Heard::TakenForGranted,
                ..rules()
            },
            &becomes_strict,
        ),
        caught(
            "M7",
            "a program that drops its share is taken for one that keeps it",
            Rules {
                program: Program::Drops,
                ..rules()
            },
            &scope,
        ),
    ]
}

fn holds(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
) -> Row<StrictLimit> {
    Row {
        name,
        about,
        expect: Expect::Holds,
        model: StrictLimit {
            rules: rules.clone(),
            scope: scope.clone(),
            promises: vec![LIMIT, RECKONED],
        },
    }
}

fn caught(
    name: &'static str,
    about: &'static str,
    rules: Rules,
    scope: &Scope,
) -> Row<StrictLimit> {
    Row {
        name,
        about,
        expect: Expect::Violates(&[LIMIT]),
        model: StrictLimit {
            rules,
            scope: scope.clone(),
            promises: vec![LIMIT],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::checked_rows;

    fn table() -> Vec<Row<StrictLimit>> {
        rows(Scale::Quick)
    }

    checked_rows! {
        table;
        two_tills_never_exceed_a_strict_limit: "L1";
        voids_do_not_help_to_exceed_it: "L2";
        two_tills_share_a_limit: "L3";
        it_is_kept_on_each_of_three_days: "L4";
        it_is_kept_from_when_it_becomes_strict: "L5";
        three_tills_never_exceed_it: "L6";
        a_smaller_share_that_counts_when_issued_is_caught: "M1";
        a_day_that_begins_anew_is_caught: "M2";
        late_sales_taken_off_what_was_granted_ahead_are_caught: "M3";
        a_share_of_a_later_day_sold_today_is_caught: "M4";
        sales_of_a_clock_that_is_ahead_granted_again_are_caught: "M4b";
        a_share_net_of_voids_is_caught: "M5";
        a_limit_that_is_strict_before_all_have_heard_is_caught: "M6";
        a_program_that_drops_its_share_is_caught: "M7";
    }
}
