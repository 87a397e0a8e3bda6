//! Worlds with the real stores: seeds without a fault of the product's, bugs put in by hand, and
//! the stories of bugs that seeds have found.

use simulation::world::{
    Action, Card, Cut, Invariant, Mistake, Run, Runs, Scene, Tally, Turn, Way, Whom,
};

/// Enough for every fault to be injected, few enough for every test run. `cargo xtask simulate`
/// runs thousands.
const SEEDS: u64 = 60;

fn runs(mistake: Option<Mistake>) -> Runs {
    Runs::new(mistake).expect("disks to begin with")
}

#[track_caller]
fn check_seeds(from: u64) {
    let runs = runs(None);
    let mut tally = Tally::new();
    for seed in from..from + SEEDS / 4 {
        let run = Run::of(seed);
        if let Err(failure) = runs.try_out(&run, &mut tally) {
            let short = runs.shorten(&run, &failure);
            panic!("seed {seed}:\n{}", runs.tell(&short));
        }
    }
    assert!(tally.steps > 500, "nothing happened");
}

#[test]
fn seeds_from_1_keep_every_promise() {
    check_seeds(1);
}

#[test]
fn seeds_from_1001_keep_every_promise() {
    check_seeds(1001);
}

#[test]
fn seeds_from_2001_keep_every_promise() {
    check_seeds(2001);
}

#[test]
fn seeds_from_3001_keep_every_promise() {
    check_seeds(3001);
}

/// The first of a thousand seeds that a bug is found by; the search begins where it is known to end
/// soon.
#[track_caller]
fn check_found(mistake: Mistake, from: u64) {
    let runs = runs(Some(mistake));
    let failed = (from..=1000).find_map(|seed| {
        let run = Run::of(seed);
        let failure = runs.try_out(&run, &mut Tally::new()).err();
        failure.map(|failure| (run, failure))
    });
    let Some((run, failure)) = failed else {
        panic!("{} is not found", mistake.code());
    };
    let told = runs.tell(&runs.shorten(&run, &failure));
    assert!(told.steps.len() < 20, "too long a story:\n{told}");
    let innocent = Runs::new(None).expect("disks to begin with");
    let without = innocent.try_out(&told.run, &mut Tally::new());
    assert_eq!(without, Ok(()), "found without the bug:\n{told}");
}

#[test]
fn a_hub_that_hears_acknowledgements_out_of_band_is_found() {
    check_found(Mistake::AckOutOfBand, 1);
}

#[test]
fn a_till_that_drops_its_overlay_at_the_acknowledgement_is_found() {
    check_found(Mistake::OverlayDropped, 1);
}

#[test]
fn ceilings_net_of_voids_are_found() {
    check_found(Mistake::NetOfVoids, 1);
}

#[test]
fn a_share_of_a_strict_limit_that_is_given_away_unheard_is_found() {
    check_found(Mistake::ShareTakenBack, 2);
}

#[test]
fn a_share_of_a_strict_limit_that_is_forgotten_at_midnight_is_found() {
    check_found(Mistake::AheadForgotten, 376);
}

#[test]
fn a_restored_hub_that_waits_for_no_till_is_found() {
    check_found(Mistake::Unfrozen, 31);
}

#[test]
fn a_seed_goes_the_same_way_every_time() {
    let runs = runs(None);
    let steps = [7, 7].map(|seed| runs.tell(&Run::of(seed)).steps);
    assert_eq!(steps[0], steps[1]);
}

/// Runs the world of a seed that has found something once.
#[track_caller]
fn check_seed(seed: u64) {
    let told = runs(None).tell(&Run::of(seed));
    assert!(told.failure.is_none(), "seed {seed}:\n{told}");
}

#[test]
fn seed_1946_a_copy_whose_batch_ends_before_the_ledgers_part_does_not_send_it_for_ever() {
    check_seed(1946);
}

#[test]
fn seed_7131_a_copy_that_sends_while_the_hubs_power_fails_is_told_of_the_fork_later() {
    check_seed(7131);
}

#[test]
fn seed_2773_a_sale_that_two_copies_take_back_is_shown_once() {
    check_seed(2773);
}

#[test]
fn seed_4409_a_copys_batch_that_moves_no_money_in_all_is_not_taken_for_stored() {
    check_seed(4409);
}

#[test]
fn seed_4766_a_void_of_a_sale_that_the_operator_bears_is_not_shown_for_ever() {
    check_seed(4766);
}

#[test]
fn seed_8992_a_copys_batch_that_the_power_cut_ended_is_booked_or_not() {
    check_seed(8992);
}

#[test]
fn seed_9922_a_fork_that_was_noted_in_a_power_cut_books_nothing() {
    check_seed(9922);
}

#[test]
fn seed_1267_what_a_power_cut_had_undone_comes_back_with_the_next_one() {
    check_seed(1267);
}

#[test]
fn seed_1441_what_a_power_cut_had_undone_comes_back_after_writes_that_reach_no_disk() {
    check_seed(1441);
}

#[test]
fn seed_2625_a_top_up_that_a_siblings_card_may_have_paid_is_not_charged_after_a_restore() {
    check_seed(2625);
}

#[test]
fn seed_5717_what_the_hub_has_of_a_copy_is_not_taken_for_the_tills_next_entries() {
    check_seed(5717);
}

/// Plays a story that a seed has found once.
#[track_caller]
fn check_story(balances: &[i32], begins: &str, actions: &[Action]) {
    let scene = Scene {
        tills: 2,
        balances: balances.to_vec(),
        overspend_max: 0,
        till_max: 200,
        begins: begins.parse().expect("a moment"),
        one_card: false,
        strict: [0; 3],
        top_up: 0,
    };
    let run = Run {
        scene,
        actions: actions.to_vec(),
    };
    let told = runs(None).tell(&run);
    assert!(told.failure.is_none(), "{told}");
}

#[test]
fn a_decline_on_a_new_day_leaves_figures_that_hold_at_the_next_start() {
    check_story(
        &[0],
        "2026-11-20T22:50:00Z",
        &[
            Action::CutNext {
                whom: Whom::Till(0),
                cut: Cut::After,
            },
            Action::Wait { seconds: 39_209 },
            Action::Sell {
                till: 0,
                account: 0,
                chip: 0,
                ore: 5_50,
                way: Way::CLEAR,
            },
        ],
    );
}

/// The till had heard how the account stands in another month, and took its sale for one of the
/// month before, of whose days it knew nothing any more.
#[test]
fn a_till_that_loses_its_power_after_a_month_goes_on_from_the_day_that_the_hub_told() {
    let way = Way::CLEAR;
    let sell = |till, ore| Action::Sell {
        till,
        account: 0,
        chip: 0,
        ore,
        way,
    };
    let push = |till| Action::Push { till, most: 0, way };
    let fetch = Action::Fetch { till: 0, way };
    let wait = Action::WaitFor {
        turn: Turn::Month,
        turned: false,
    };
    check_story(
        &[300],
        "2026-10-31T22:50:00Z",
        &[
            Action::Limit {
                account: 0,
                window: 0,
                kroner: 20,
            },
            fetch,
            wait,
            sell(0, 11_50),
            Action::Wait { seconds: 118 },
            sell(1, 1_00),
            push(1),
            wait,
            push(0),
            fetch,
            Action::PowerCut { till: 0 },
            sell(0, 9_00),
        ],
    );
}

/// The hub hears the copy first and gives away what the other machine had spent: that is more than
/// one till's right, and what the bound of copies and restores together is widened by.
#[test]
fn what_a_restore_lost_of_a_copied_till_may_be_spent_again_and_no_more() {
    let way = Way::CLEAR;
    let sell = |till| Action::Sell {
        till,
        account: 0,
        chip: 0,
        ore: 50_00,
        way,
    };
    let push = |till| Action::Push { till, most: 0, way };
    let follow = |till| {
        [
            Action::Fetch { till, way },
            Action::AckFeed { till },
            push(till),
        ]
    };
    let spend = |till| [sell(till), push(till)].into_iter().chain(follow(till));
    let mut actions = vec![Action::BackHubUp, Action::Clone { till: 0 }];
    // The machines are the till, the other till and the copy.
    actions.extend((0..5).flat_map(|_| spend(0)));
    actions.extend([Action::Line { till: 0, up: false }, Action::RestoreHub]);
    for _ in 0..3 {
        actions.extend(follow(2).into_iter().chain(follow(1)));
    }
    actions.extend((0..6).flat_map(|_| spend(1)));
    let scene = Scene {
        tills: 2,
        balances: vec![300],
        overspend_max: 0,
        till_max: 50,
        begins: "2026-11-20T11:00:00Z".parse().expect("a moment"),
        one_card: false,
        strict: [0; 3],
        top_up: 0,
    };
    let told = runs(None).tell(&Run { scene, actions });
    assert!(told.failure.is_none(), "{told}");
    let sold = told.steps.iter().filter(|step| step.ends_with("approved"));
    assert!(sold.count() > 300 / 50 + 1, "{told}");
}

/// Three siblings have one card. The hub forgets that it was charged for the first, and then the
/// second buys.
fn a_forgotten_charge_of_a_shared_card() -> Run {
    let way = Way::CLEAR;
    let buy = |account| {
        [
            Action::Sell {
                till: 0,
                account,
                chip: 0,
                ore: 120_00,
                way,
            },
            // Until the till sends again.
            Action::Wait { seconds: 60 },
            Action::Push {
                till: 0,
                most: 0,
                way,
            },
        ]
    };
    let work = Action::TopUp {
        card: Card::Pays,
        way,
    };
    let follow = [
        Action::Fetch { till: 0, way },
        Action::AckFeed { till: 0 },
        Action::Push {
            till: 0,
            most: 0,
            way,
        },
    ];
    let mut actions = follow.to_vec();
    actions.push(Action::BackHubUp);
    actions.extend(buy(0));
    actions.extend([work, Action::RestoreHub]);
    actions.extend(follow);
    actions.extend(follow);
    actions.push(Action::ResumeTopUps);
    actions.extend(buy(1));
    actions.extend([work, work]);
    // What the charge was for is known now.
    actions.extend([Action::ResumeTopUps, Action::Wait { seconds: 900 }]);
    actions.extend([work, work]);
    Run {
        scene: Scene {
            tills: 2,
            balances: vec![60, 60, 60],
            overspend_max: 200,
            till_max: 200,
            begins: "2026-11-20T11:00:00Z".parse().expect("a moment"),
            one_card: true,
            strict: [0; 3],
            top_up: 200,
        },
        actions,
    }
}

#[test]
fn a_card_that_siblings_share_is_not_charged_before_a_forgotten_charge_has_its_place() {
    let told = runs(None).tell(&a_forgotten_charge_of_a_shared_card());
    assert!(told.failure.is_none(), "{told}");
    let words = told.steps.join("\n");
    assert!(words.contains("nothing is charged now"), "{told}");
    assert!(words.contains("credited to account"), "{told}");
}

#[test]
fn a_card_that_is_not_held_is_found() {
    let told = runs(Some(Mistake::CardNotHeld)).tell(&a_forgotten_charge_of_a_shared_card());
    let failure = told.failure.expect("the card is charged again");
    assert_eq!(failure.violation.invariant, Invariant::Held, "{failure:?}");
}
