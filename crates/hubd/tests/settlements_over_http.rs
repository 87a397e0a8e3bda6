//! The gateway's settlement file over the wire, with charges that the simulated gateway holds back.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use hub_payments::simulator::{DuplicateHandling, Settings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{Cards, OTHER_TENANT, Site, card};

/// The settlement file as the simulated gateway writes it.
async fn settlement(site: &Site, cards: &Cards) -> Value {
    let url = format!("{}/simulator/settlement", cards.simulator.url());
    site.client
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

async fn state(site: &Site, account: i64) -> Value {
    let list = site.get(&format!("/v1/top-ups?account={account}")).await;
    list["top_ups"][0]["state"].clone()
}

#[tokio::test]
async fn tu_32_what_the_gateway_holds_back_is_stuck_until_its_settlement_lets_it_go() {
    let site = Site::open().await;
    let cards = Cards::open(&site).await;
    let duplicates = DuplicateHandling::Suspend;
    let settings = Settings {
        duplicates,
        ..Settings::default()
    };
    cards.simulator.set(settings).unwrap();
    // Somebody has charged the card with the same amount, and the hub was not told.
    let url = format!(
        "{}/v1/unscheduledsubscriptions/{}/charges",
        cards.simulator.url(),
        card()
    );
    let item = json!({"grossTotalAmount": 300_00});
    let order =
        json!({"items": [item], "amount": 300_00, "currency": "DKK", "reference": "portal"});
    let charged = site.client.post(url).header("authorization", "key");
    let charged = charged.json(&json!({"order": order})).send().await.unwrap();
    assert!(charged.status().is_success(), "{charged:?}");

    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("72BF9961").await;
    till.sell(payer, &[(1, "Dagens ret", 120_00)]);
    till.push(&site, 1).await;
    cards.after(0).await;
    assert_eq!(state(&site, payer.0.0).await, "unknown");

    let path = "/v1/settlements";
    let file = settlement(&site, &cards).await;
    let (status, told) = site.post(path, file.clone()).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let reference = cards.simulator.charges()[1].reference.clone();
    assert_eq!(told["suspended"], json!([reference]));
    assert_eq!(told["unknown"], json!(["portal"]));
    assert_eq!(state(&site, payer.0.0).await, "stuck");
    assert_eq!(site.balance(payer.0).await, 29_50);
    let flags = site.get("/v1/flags?code=charge_suspended").await;
    assert_eq!(flags["flags"][0]["account"], payer.0.0);

    // A person lets the charge go at the gateway; its next file says so, and nothing else counts.
    let reference = reference.parse().unwrap();
    assert!(cards.simulator.complete(&reference).unwrap());
    cards.after(7200).await;
    assert_eq!(state(&site, payer.0.0).await, "stuck");
    let file = settlement(&site, &cards).await;
    let (_, told) = site.post(path, file.clone()).await;
    assert_eq!(
        (&told["booked"], &told["suspended"]),
        (&json!(1), &json!([]))
    );
    let (_, told) = site.post(path, file).await;
    assert_eq!((&told["booked"], &told["agreed"]), (&json!(0), &json!(1)));
    assert_eq!(site.balance(payer.0).await, 329_50);
}

#[tokio::test]
async fn a_settlement_file_is_whole_or_refused_and_no_tenants_to_send() {
    let site = Site::open().await;
    let file = |amount: i64, state: &str| json!({"charges": [{"reference": "r", "transaction": "t", "amount": amount, "state": state}]});
    let path = "/v1/settlements";
    for bad in [
        file(0, "settled"),
        file(1, "perhaps"),
        json!({"charges": [], "covers": {"from": "2026-11-21T00:00:00Z", "through": "2026-11-20T00:00:00Z"}}),
        json!({"charges": [], "covers": {"from": "i dag", "through": "2026-11-20T00:00:00Z"}}),
    ] {
        let (status, problem) = site.post(path, bad).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    }
    let body = Some(file(1, "settled").to_string());
    let refused = site.send(Method::POST, path, OTHER_TENANT, &[], body).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}
