//! The configurations of the top-up and what is known about each.

use super::rules::{
    AfterTimeout, Booking, Credit, Identical, NotFound, Rules, Scope, Spacing, Triggers, Write,
};
use super::world::TopUps;
use super::{CREDITED, NO_CREDIT_WHEN_BLOCKED, ONE_ACTIVE, ONE_CHARGE, UNPROVOKED};
use crate::check::{Expect, Row};
use crate::rows::Scale;
use crate::walk::Walk;

/// Every row: the wrong policies, each with what it breaks, and the recommended rules.
pub fn rows(scale: Scale) -> Vec<Row<TopUps>> {
    [wrong_policies(), wrong_bookings(), recommended(scale)].concat()
}

fn wrong_policies() -> Vec<Row<TopUps>> {
    let rules = Rules::default();
    let after = |after_timeout| Rules {
        after_timeout,
        ..rules.clone()
    };
    let unspaced = |identical| Rules {
        identical,
        spacing: Spacing::Nothing,
        ..rules.clone()
    };
    let failure = Rules {
        identical: Identical::Failure,
        ..after(AfterTimeout::ChargeAtOnce)
    };
    let hasty = Rules {
        not_found: NotFound::AtOnce,
        ..rules.clone()
    };
    let behind = Rules {
        write: Write::Behind,
        ..rules.clone()
    };
    let close = Rules {
        spacing: Spacing::Window,
        ..rules.clone()
    };
    let (one, two) = (Scope::default(), siblings());
    let at_once = after(AfterTimeout::ChargeAtOnce);
    let after_window = after(AfterTimeout::ChargeAfterWindow);
    let give_up = after(AfterTimeout::GiveUp);
    let same_key = after(AfterTimeout::SameKeyThenGiveUp);
    let success = unspaced(Identical::Success);
    vec![
        mutant(
            "T1",
            "timeout: a new charge at once",
            &at_once,
            &one,
            &[ONE_CHARGE],
        ),
        mutant(
            "T2",
            "timeout: a new charge after the window",
            &after_window,
            &one,
            &[ONE_CHARGE],
        ),
        mutant("T3", "timeout: give up", &give_up, &one, &[CREDITED]),
        mutant(
            "T4",
            "identical taken for success",
            &success,
            &two,
            &[CREDITED],
        ),
        mutant(
            "T5",
            "identical taken for failure",
            &failure,
            &one,
            &[ONE_CHARGE, CREDITED],
        ),
        mutant(
            "T6",
            "not found: a new charge at once",
            &hasty,
            &one,
            &[ONE_CHARGE, UNPROVOKED],
        ),
        mutant(
            "T7",
            "written down after sending",
            &behind,
            &one,
            &[ONE_CHARGE],
        ),
        mutant(
            "T10",
            "spacing W instead of W + D",
            &close,
            &two,
            &[UNPROVOKED],
        ),
        mutant(
            "T11",
            "one key, gives up without a look-up",
            &same_key,
            &one,
            &[CREDITED],
        ),
    ]
}

fn wrong_bookings() -> Vec<Row<TopUps>> {
    let blindly = Rules {
        credit: Credit::Blindly,
        ..Rules::default()
    };
    let each = Rules {
        triggers: Triggers::EachItsOwn,
        ..Rules::default()
    };
    let by_message = Rules {
        booking: Booking::ByMessage,
        ..Rules::default()
    };
    let blocked = Scope {
        blocks: 1,
        ..Scope::default()
    };
    let one = Scope::default();
    let again = twice();
    let rules = Rules::default();
    vec![
        mutant(
            "T13",
            "block not looked at again",
            &blindly,
            &blocked,
            &[NO_CREDIT_WHEN_BLOCKED],
        ),
        mutant(
            "T14",
            "every purchase its own top-up",
            &each,
            &again,
            &[ONE_ACTIVE],
        ),
        mutant(
            "T18",
            "the look-up lags by more than the window",
            &rules,
            &lagging(1),
            &[ONE_CHARGE],
        ),
        mutant(
            "T15",
            "booked once per message",
            &by_message,
            &one,
            &[CREDITED],
        ),
    ]
}

fn recommended(scale: Scale) -> Vec<Row<TopUps>> {
    let rules = Rules::default();
    let brothers = Scope {
        declines: scale.pick(0, 1),
        notices: scale.pick(0, 1),
        ..siblings()
    };
    let blocked = Scope {
        blocks: scale.pick(2, 3),
        ..Scope::default()
    };
    let several = Scope {
        purchases: scale.pick(2, 3),
        ..Scope::default()
    };
    let by_hand = Scope {
        deposits: 1,
        purchases: scale.pick(2, 3),
        ..Scope::default()
    };
    vec![
        sound("T8", "several purchases", &rules, &several),
        sound("T9", "two accounts on one card", &rules, &brothers),
        sound(
            "T12",
            "blocked and reactivated at any time",
            &rules,
            &blocked,
        ),
        sound("T17", "the look-up lags by the window", &rules, &lagging(0)),
        sound("T16", "a guardian deposits by hand", &rules, &by_hand),
    ]
}

/// Larger worlds for seeded walks.
pub fn walks() -> Vec<Walk<TopUps>> {
    let scope = Scope {
        accounts: 2,
        purchases: 6,
        blocks: 4,
        declines: 3,
        crashes: 6,
        notices: 6,
        deposits: 2,
        ..Scope::default()
    };
    let calm = Scope {
        accounts: 2,
        purchases: 4,
        ..Scope::default()
    };
    let rules = Rules::default();
    let close = Rules {
        spacing: Spacing::Window,
        ..rules.clone()
    };
    [
        sound("W9", "two accounts on one card, everything", &rules, &scope),
        mutant(
            "W10",
            "spacing W instead of W + D",
            &close,
            &calm,
            &[UNPROVOKED],
        ),
    ]
    .map(|row| Walk {
        row,
        worst: |_, world| {
            let balances = world
                .accounts
                .iter()
                .map(|holding| i64::from(holding.balance));
            balances.min().unwrap_or_default()
        },
    })
    .into_iter()
    .collect()
}

fn twice() -> Scope {
    Scope {
        purchases: 2,
        ..Scope::default()
    }
}

/// A gateway whose look-up finds a charge only this much later than its window.
fn lagging(more: u8) -> Scope {
    let scope = Scope::default();
    Scope {
        lag: scope.window + more,
        ..scope
    }
}

fn siblings() -> Scope {
    Scope {
        accounts: 2,
        ..Scope::default()
    }
}

fn sound(name: &'static str, about: &'static str, rules: &Rules, scope: &Scope) -> Row<TopUps> {
    row(name, about, rules, scope, ALL, Expect::Holds)
}

fn mutant(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    caught: &'static [&'static str],
) -> Row<TopUps> {
    row(name, about, rules, scope, caught, Expect::Violates(caught))
}

fn row(
    name: &'static str,
    about: &'static str,
    rules: &Rules,
    scope: &Scope,
    promises: &[&'static str],
    expect: Expect,
) -> Row<TopUps> {
    Row {
        name,
        about,
        expect,
        model: TopUps {
            rules: rules.clone(),
            scope: scope.clone(),
            promises: promises.to_vec(),
        },
    }
}

const ALL: &[&str] = &[
    ONE_CHARGE,
    CREDITED,
    ONE_ACTIVE,
    UNPROVOKED,
    NO_CREDIT_WHEN_BLOCKED,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::checked_rows;

    fn table() -> Vec<Row<TopUps>> {
        rows(Scale::Quick)
    }

    checked_rows! {
        table;
        a_new_charge_at_once_after_a_timeout_charges_twice: "T1";
        a_new_charge_after_the_window_charges_twice: "T2";
        giving_up_after_a_timeout_keeps_the_money: "T3";
        identical_is_no_success: "T4";
        identical_is_no_failure: "T5";
        not_found_at_once_is_not_believed: "T6";
        a_charge_written_down_after_sending_is_sent_twice: "T7";
        several_purchases_make_one_charge_at_a_time: "T8";
        siblings_on_one_card_wait_for_each_other: "T9";
        spacing_by_the_window_alone_provokes_a_refusal: "T10";
        an_idempotency_key_does_not_replace_the_look_up: "T11";
        a_block_at_any_time_keeps_money_and_account_apart: "T12";
        a_block_not_looked_at_again_is_caught: "T13";
        a_top_up_per_purchase_is_caught: "T14";
        a_booking_per_message_is_caught: "T15";
        a_deposit_by_hand_disturbs_nothing: "T16";
        a_look_up_may_lag_by_the_window: "T17";
        a_look_up_that_lags_longer_charges_twice: "T18";
    }

    #[test]
    fn the_times_of_the_model_are_those_of_the_rules() {
        // A tick is the longest transit, 2 minutes; then the window for identical charges is 10 and
        // the spacing 12 minutes.
        let scope = Scope::default();
        assert_eq!(scope.transit * 2, 2);
        assert_eq!(scope.window * 2, 10);
        assert_eq!(scope.spacing(Spacing::WindowAndTransit) * 2, 12);
    }
}
