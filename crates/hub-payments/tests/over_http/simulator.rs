//! The simulator as it is steered, and under load.

use std::sync::Arc;

use canteen::Money;
use hub_payments::{Charge, Decline, GatewayError, Outcome};

use crate::bench::{PATIENT, new_charge, open_gateway, start_simulator};

#[tokio::test]
async fn a_hundred_charges_at_once_are_a_hundred_records() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let mut calls = tokio::task::JoinSet::new();
    for kroner in 1..=100 {
        let gateway = Arc::clone(&bench.gateway);
        let charge = Charge {
            amount: Money::from_ore(kroner * 100),
            ..new_charge()
        };
        calls.spawn(async move { gateway.charge(&charge).await });
    }
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic");
        assert!(matches!(answer, Ok(Outcome::Paid { .. })), "{answer:?}");
    }
    let charges = simulator.charges();
    assert_eq!(
        charges.iter().filter(|charge| charge.took_money()).count(),
        100
    );
}

#[tokio::test]
async fn the_control_surface_steers_over_http() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let at = |path: &str| format!("{}{path}", simulator.url());
    let status = async |request: reqwest::RequestBuilder, expected: u16| {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{}", response.url());
    };
    status(client.put(at("/simulator/agreements/card-2")), 204).await;
    status(client.put(at("/simulator/agreements/a%20b")), 400).await;
    let outcomes = at("/simulator/agreements/card-2/outcomes");
    let unknown = serde_json::json!({ "outcome": "explode" });
    status(client.post(&outcomes).json(&unknown), 422).await;
    let script = serde_json::json!([
        { "outcome": "no_funds", "times": 2 },
        { "outcome": "busy", "retry_after_seconds": 3 },
    ]);
    status(client.post(&outcomes).json(&script), 204).await;
    let settings = serde_json::json!({ "duplicate_window_seconds": 120 });
    status(client.put(at("/simulator/settings")).json(&settings), 204).await;

    let mut told = Vec::new();
    let mut charge_card = async || {
        let charge = Charge {
            agreement: "card-2".parse().expect("an id"),
            ..new_charge()
        };
        let word = match bench.gateway.charge(&charge).await {
            Ok(Outcome::Paid { .. }) => "paid",
            Ok(Outcome::Declined {
                decline: Decline::Soft,
                ..
            }) => "soft",
            Ok(Outcome::Declined {
                decline: Decline::Duplicate,
                ..
            }) => "duplicate",
            Err(GatewayError::Busy { .. }) => "busy",
            other => panic!("{other:?}"),
        };
        told.push(word);
    };
    for _ in 0..5 {
        charge_card().await;
    }
    let advance = serde_json::json!({ "advance_seconds": 120 });
    status(client.post(at("/simulator/clock")).json(&advance), 204).await;
    charge_card().await;
    assert_eq!(told, ["soft", "soft", "busy", "paid", "duplicate", "paid"]);

    let charges = client
        .get(at("/simulator/charges"))
        .send()
        .await
        .expect("charges");
    let charges: serde_json::Value = charges.json().await.expect("JSON");
    let taken: Vec<_> = charges
        .as_array()
        .expect("a list")
        .iter()
        .filter(|charge| charge["took_money"] == true)
        .collect();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["amount"], 20_000);
    assert_eq!(taken[0]["agreement"], "card-2");
    assert_eq!(taken[0]["result"], "paid");
    assert_eq!(charges[0]["result"], "declined");
    assert_eq!(charges[0]["decline"], "no_funds");

    let page = client.get(at("/")).send().await.expect("a page");
    let page = page.text().await.expect("text");
    for part in [
        "Kortaftaler",
        "card-2",
        "200,00 kr.",
        "betalt",
        "afvist",
        "no_funds",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    status(client.delete(at("/simulator/agreements/card-2")), 204).await;
    status(client.delete(at("/simulator/agreements/card-2")), 404).await;
}
