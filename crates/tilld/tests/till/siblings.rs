//! Two tills of one canteen, both cut off, and one account.

use crate::rig::{MEAL, ORDINARY, Site, Wishes, eventually};

const BALANCE: i64 = 149_50;
const PRICE: i64 = 22_00;

/// Sells meals on both tills in turn, as long as either of them does.
fn sell_out(tills: [&Site; 2]) -> [i64; 2] {
    let mut sold = [0, 0];
    let mut refused = [false, false];
    while refused != [true, true] {
        for (index, till) in tills.iter().enumerate() {
            if refused[index] {
                continue;
            }
            let decision = till.sell(ORDINARY, MEAL).outcome.decision;
            match decision.as_str() {
                "approved" => sold[index] += PRICE,
                "offline_allowance" | "insufficient_funds" => refused[index] = true,
                other => panic!("{other}"),
            }
        }
    }
    sold
}

/// What both tills sell together without the hub when so much may be overspent.
fn check(overspend_max: &str, bound: i64) {
    let mut first = Site::open_with(Wishes {
        hub: vec![("offline", "overspend_max", overspend_max.into())],
        ..Wishes::default()
    });
    let second = first.open_sibling();
    first.wait_until_sent();
    second.wait_until_sent();
    first.stop_hub();
    first.wait_for_line("offline");
    second.wait_for_line("offline");

    let sold = sell_out([&first, &second]);
    let together = sold[0] + sold[1];
    assert!(together >= PRICE, "nothing was sold at all");
    assert!(
        together - BALANCE <= bound,
        "{sold:?} of {BALANCE} is overspent by more than {bound}"
    );

    first.start_hub();
    for till in [&first, &second] {
        till.wait_for_line("online");
        till.wait_until_sent();
    }
    eventually("every sale to be booked once", || {
        let booked = -first.sales(ORDINARY).iter().sum::<i64>();
        assert!(booked <= together, "{booked} booked, {together} sold");
        (booked == together).then_some(())
    });
    eventually("both tills and the hub to agree", || {
        let hub = first.hub_balance(ORDINARY);
        (first.balance(ORDINARY) == hub && second.balance(ORDINARY) == hub).then_some(())
    });
}

#[test]
fn two_tills_that_are_cut_off_overspend_by_no_more_than_the_hub_allows() {
    check("50,00", 50_00);
}

#[test]
fn where_nothing_may_be_overspent_two_tills_sell_no_more_than_there_is() {
    check("0,00", 0);
}
