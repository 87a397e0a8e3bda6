//! `tillctl clock`.

use serde_json::json;
use till_control::{Answer, ClockAnswer, ClockCondition, EntryPlace, Request};

use crate::daemon::{SALE_TEXT, check, place};

#[test]
fn a_clock_that_is_not_believed_is_a_finding_until_it_is_confirmed() {
    check(
        &["clock"],
        &clock(ClockCondition::Back, None),
        &Request::Clock,
        1,
        "\
Clock     shows a time that has been: set it, then tillctl clock confirm
Shows     2026-11-20 11:00:00
Believed  2026-11-21 11:00:00
Hub       not known
Day       2026-11-21
",
        &json!({"state": "back", "shows": "2026-11-20T10:00:00Z",
            "believed": "2026-11-21T10:00:00Z", "hub": null, "day": "2026-11-21", "entry": null}),
    );
    check(
        &["clock", "confirm"],
        &clock(ClockCondition::Right, Some(place(816))),
        &Request::ClockConfirm,
        0,
        "\
Clock      right
Shows      2026-11-20 11:00:00
Believed   2026-11-21 11:00:00
Hub        not known
Day        2026-11-21
Confirmed  entry 816 of kasse-1
",
        &json!({"state": "right", "shows": "2026-11-20T10:00:00Z",
            "believed": "2026-11-21T10:00:00Z", "hub": null, "day": "2026-11-21",
            "entry": {"till": "kasse-1", "epoch": "0000000000000008", "seq": 816,
                      "id": SALE_TEXT}}),
    );
}

fn clock(state: ClockCondition, entry: Option<EntryPlace>) -> Answer {
    Answer::Clock(Box::new(ClockAnswer {
        state,
        shows: "2026-11-20T10:00:00Z".parse().unwrap(),
        believed: "2026-11-21T10:00:00Z".parse().unwrap(),
        hub: None,
        day: "2026-11-21".parse().unwrap(),
        entry,
    }))
}
