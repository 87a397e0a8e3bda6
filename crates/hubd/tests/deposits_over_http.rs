//! Deposits by card and their reversals over the wire.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{OTHER_TENANT, Site, TOKEN};

/// A deposit of 200 kr on demo account 1 by card, made at noon.
fn by_card(transaction: &str) -> Value {
    json!({"amount": 200_00, "card": {
        "reference": "portal-1", "transaction": transaction, "card_agreement": "demo-card-1",
        "charged_at": "2026-11-20T11:02:07Z",
    }})
}

async fn reverse(site: &Site, path: &str, token: &str, key: &str) -> (StatusCode, Value) {
    let body = Some(json!({"reason": "indsigelse"}).to_string());
    let headers = [("idempotency-key", key)];
    let response = site.send(Method::POST, path, token, &headers, body).await;
    let status = response.status();
    (status, response.json().await.unwrap())
}

#[tokio::test]
async fn a_deposit_by_card_is_booked_once_and_can_be_reversed_once() {
    let site = Site::open().await;
    let account = site.chip("72BF9961").await.0;
    let before = site.balance(account).await;
    let body = by_card("t-1").to_string();
    let (status, booked) = site.deposit(account.0, "k-1", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{booked}");
    assert_eq!(booked["text"], "Indbetaling med kort");
    let (status, again) = site.deposit(account.0, "k-2", &body).await;
    assert_eq!(status, StatusCode::CONFLICT, "{again}");
    assert_eq!(again["type"], "/problems/exists");

    let deposit = &booked["id"];
    let path = format!("/v1/accounts/{account}/deposits/{deposit}/reversal");
    let (status, _) = reverse(&site, &path, OTHER_TENANT, "r-1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let (status, reversed) = reverse(&site, &path, TOKEN, "r-1").await;
        assert_eq!(status, StatusCode::CREATED, "{reversed}");
        assert_eq!(
            (
                &reversed["kind"],
                &reversed["amount"],
                &reversed["reverses"]
            ),
            (&json!("deposit_reversal"), &json!(-200_00), deposit)
        );
    }
    let (status, refused) = reverse(&site, &path, TOKEN, "r-2").await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert_eq!(refused["type"], "/problems/deposit-reversed");
    assert_eq!(site.balance(account).await, before);
    let statement = site.get(&format!("/v1/accounts/{account}/statement")).await;
    let last = statement["rows"].as_array().unwrap().last().unwrap();
    assert_eq!(last["text"], "Tilbageført indbetaling: indsigelse");
}

#[tokio::test]
async fn a_charge_that_is_not_told_rightly_is_not_paid_in() {
    let site = Site::open().await;
    let account = site.chip("72BF9961").await.0;
    let before = site.balance(account).await;
    for (field, value) in [
        ("charged_at", json!("i går")),
        ("transaction", json!(" ")),
        ("card_agreement", json!("../x")),
        ("cvc", json!("123")),
    ] {
        let mut body = by_card("t-1");
        body["card"][field] = value;
        let (status, problem) = site.deposit(account.0, "k-1", &body.to_string()).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{field}: {problem}"
        );
    }
    let path = format!("/v1/accounts/{account}/deposits/999999/reversal");
    assert_eq!(
        reverse(&site, &path, TOKEN, "r-1").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(site.balance(account).await, before);
}
