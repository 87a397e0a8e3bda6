//! A network that changes what the hub says, behind valid TLS or without any.

use serde_json::json;

use crate::rig::link::Way;
use crate::rig::sale::Outcome;
use crate::rig::{KNOWN, MEAL, ORDINARY, Site, Wishes, eventually};

/// The chip's 149,50 kr. made into 949,50 kr.
const RICHER: Way = Way::Rewrites {
    from: "\"position\":14950",
    to: "\"position\":94950",
};

fn with_link() -> Wishes {
    Wishes {
        link: true,
        ..Wishes::default()
    }
}

/// The till has met a changed answer and says so.
#[track_caller]
fn wait_for_alarm(site: &Site) {
    let link = site.link.as_ref().unwrap();
    eventually("a changed answer to reach the till", || {
        (link.rewritten() > 0).then_some(())
    });
    eventually("the till to say that answers are changed", || {
        let words = site.ask(&["sync", "now"]).json["text"].as_str()?.to_owned();
        words.contains("the network changes").then_some(())
    });
}

#[test]
fn sy_39_a_page_that_a_proxy_changed_is_refused_and_sales_go_on() {
    let site = Site::open_with(with_link());
    assert_eq!(site.balance(ORDINARY), 149_50);
    site.link.as_ref().unwrap().set(RICHER);
    // The hub tells of the account again.
    let account = site.hub_account(ORDINARY)["id"].clone();
    for action in ["block", "reactivate"] {
        let path = format!("/v1/accounts/{account}/{action}");
        assert_eq!(site.hub().post(&path, &json!({})).status, 200);
    }
    wait_for_alarm(&site);
    assert_eq!(site.balance(ORDINARY), 149_50);
    let sale = site.sell(ORDINARY, MEAL);
    assert_eq!(sale.outcome, Outcome::approved(127_50));
    site.link.as_ref().unwrap().set(Way::Through);
    site.wait_for_line("online");
    site.wait_until_agreed();
    assert_eq!(site.sales(ORDINARY), [-22_00]);
}

#[test]
fn sy_17_a_snapshot_that_a_proxy_changed_is_refused_as_a_whole() {
    let site = Site::open_behind(RICHER);
    wait_for_alarm(&site);
    for chip in KNOWN {
        let shown = site.ask(&["chip", "show", chip]);
        assert!(shown.json["chip"].is_null(), "{chip} is known");
    }
    site.link.as_ref().unwrap().set(Way::Through);
    site.wait_until_open();
    assert_eq!(site.balance(ORDINARY), 149_50);
}
