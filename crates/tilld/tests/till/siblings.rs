//! Two tills of one canteen and one account: cut off from everything, or from the hub alone.

use serde_json::json;

use crate::rig::link::Way;
use crate::rig::{MEAL, ORDINARY, SNACK, Site, WEEKLY, Wishes, eventually};

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

/// Waits until a till can be asked by its sibling, or hears it.
fn wait_for_sibling(site: &Site, what: &str) {
    eventually(&format!("the sibling to be {what}"), || {
        (site.status()["siblings"][what] == 1).then_some(())
    });
}

#[test]
fn while_the_hub_is_away_a_till_refuses_what_its_sibling_has_sold() {
    let wishes = || Wishes {
        door: true,
        ..Wishes::default()
    };
    let mut first = Site::open_with(wishes());
    let second = first.open_sibling_with(&wishes());
    for till in [&first, &second] {
        till.wait_until_sent();
        wait_for_sibling(till, "open");
    }
    first.stop_hub();
    for till in [&first, &second] {
        till.wait_for_line("offline");
        wait_for_sibling(till, "heard");
    }
    let words = second.shown()["line"]["text"]["da"].to_string();
    assert!(words.contains("hører 1 af 1 kasse"), "{words}");

    // 149,50 kr. pay for six meals, wherever they are bought.
    for _ in 0..6 {
        assert!(first.sell(ORDINARY, MEAL).is_approved());
    }
    eventually("the second till to hear what was sold", || {
        (second.balance(ORDINARY) == 17_50).then_some(())
    });
    let refused = second.sell(ORDINARY, MEAL).outcome;
    assert_eq!(refused.decision, "insufficient_funds", "{refused:?}");
    let snack = second.sell(ORDINARY, SNACK).outcome;
    assert_eq!(
        (snack.decision.as_str(), snack.balance),
        ("approved", Some(14_50))
    );
    eventually("the first till to hear that", || {
        (first.balance(ORDINARY) == 14_50).then_some(())
    });

    // The hub books all of it once, and nothing is laid over its figures any more.
    first.start_hub();
    for till in [&first, &second] {
        till.wait_for_line("online");
        till.wait_until_sent();
    }
    eventually("every sale to be booked once", || {
        let sold: i64 = first.sales(ORDINARY).iter().sum();
        (sold == -(6 * PRICE + 3_00)).then_some(())
    });
    eventually("both tills and the hub to agree", || {
        let hub = first.hub_balance(ORDINARY);
        (first.balance(ORDINARY) == hub && second.balance(ORDINARY) == hub).then_some(())
    });
    for till in [&first, &second] {
        till.wait_until_agreed();
    }
}

#[test]
fn sy_34_what_the_hub_fetches_while_the_till_sends_is_booked_once() {
    let site = Site::open_with(Wishes {
        link: true,
        door: true,
        ..Wishes::default()
    });
    let link = site.link.as_ref().unwrap();
    let fetch = || site.hub().ask("POST", "/v1/tills/kasse-1/pull", Some("{}"));
    site.wait_until_sent();
    let chip = site.lay_and_wait(WEEKLY);
    let mut sold = 0;
    // The till's own line is dead, the door is not.
    link.set(Way::Silence);
    for _ in 0..5 {
        assert!(site.sell_to_laid(&["1x Frugt 0,50"], None).is_approved());
        sold += 1;
    }
    let fetched = fetch();
    assert_eq!(fetched.status, 200, "{fetched:?}");
    assert!(
        fetched.json()["entries"].as_u64().unwrap() >= 5,
        "{fetched:?}"
    );
    assert_eq!(site.sales(WEEKLY), vec![-50; sold]);
    assert!(site.status()["waiting"].as_u64().unwrap() >= 5);
    // Both at once, for a while.
    link.set(Way::AnswersLost { every: 2 });
    for _ in 0..10 {
        assert!(site.sell_to_laid(&["1x Frugt 0,50"], None).is_approved());
        sold += 1;
        assert_eq!(fetch().status, 200);
    }
    chip.remove();
    link.set(Way::Through);
    site.wait_until_agreed();
    assert_eq!(site.sales(WEEKLY), vec![-50; sold]);

    // Entries that are wanted once more come once more, and are known already.
    let wanted = json!({ "from_seq": 1, "to_seq": 4 });
    let asked = site.hub().post("/v1/tills/kasse-1/resend", &wanted);
    assert!(asked.status < 300, "{asked:?}");
    eventually("entries to be sent once more", || {
        site.till_log()
            .contains("Sent entries once more")
            .then_some(())
    });
    site.wait_until_agreed();
    assert_eq!(site.sales(WEEKLY), vec![-50; sold]);
}
