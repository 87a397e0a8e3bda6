//! A restored hub over the wire: what operators see of it, and what they can do.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{OTHER_TENANT, Site};
use sync_proto::{AccountState, EntryBody, FeedPosition, StateReport};

#[tokio::test]
async fn sy_25_operators_see_what_a_restored_hub_waits_for_and_tills_end_it() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    let payer = site.chip("A10A8925").await;
    let nothing = site.get("/v1/restore").await;
    assert_eq!(nothing["frozen"], json!([]));
    assert_eq!(nothing["to_do"], Value::Null, "{nothing}");
    let life = site
        .books
        .write(|books| books.begin_new_life(99, Timestamp::now()))
        .await
        .unwrap();
    let restore = site.get("/v1/restore").await;
    let frozen = &restore["frozen"][0];
    assert_eq!(restore["hub_epoch"], life.hub_epoch);
    assert!(restore["top_ups_paused_at"].is_string(), "{restore}");
    assert_eq!(frozen["missing"][0]["till"], "kasse-1");
    assert_eq!(frozen["missing"][0]["next"], "switch_on");
    let to_do = frozen["missing"][0]["to_do"].to_string();
    assert!(to_do.contains("switch kasse-1 on"), "{to_do}");
    assert_eq!(frozen["missing"][1]["till"], "kasse-2");
    assert!(frozen["at_risk"].as_i64().unwrap() > 0, "{frozen}");
    let to_do = restore["to_do"].as_array().unwrap();
    assert_eq!(to_do.len(), 2, "{restore}");
    let all_name_it = to_do
        .iter()
        .all(|step| step.to_string().contains("hub-restored.md"));
    assert!(all_name_it, "{restore}");
    let other = site
        .send(Method::GET, "/v1/restore", OTHER_TENANT, &[], None)
        .await;
    assert_eq!(other.json::<Value>().await.unwrap()["frozen"], json!([]));

    // A debit waits; a deposit does not.
    let path = format!("/v1/accounts/{}/corrections", payer.0);
    let body = Some(json!({"amount": -1000, "reason": "Madplan"}).to_string());
    let key = [("idempotency-key", "a")];
    let waits = site
        .send(Method::POST, &path, site::TOKEN, &key, body)
        .await;
    assert_eq!(waits.status(), StatusCode::ACCEPTED);
    let paid_in = site.deposit(payer.0.0, "b", "{\"amount\": 10000}").await;
    assert_eq!(paid_in.0, StatusCode::CREATED, "{}", paid_in.1);

    till.feed = FeedPosition {
        hub_epoch: life.hub_epoch,
        cursor: 1,
    };
    till.write(&EntryBody::StateReport(StateReport {
        hub_epoch: life.hub_epoch,
        part: 1,
        parts: 1,
        accounts: vec![AccountState {
            account: payer.0,
            ceiling: Some(canteen::Money::from_kroner(60)),
            gross: canteen::Money::ZERO,
        }],
    }));
    till.push(&site, 1).await;
    let frozen = &site.get("/v1/restore").await["frozen"][0];
    assert_eq!(frozen["missing"].as_array().unwrap().len(), 1, "{frozen}");
    let canteen = frozen["canteen"].as_i64().unwrap();
    let path = format!("/v1/canteens/{canteen}/unfreeze");
    let stranger = site
        .send(Method::POST, &path, OTHER_TENANT, &[], None)
        .await;
    assert_eq!(stranger.status(), StatusCode::NOT_FOUND);
    let (status, ended) = site.post(&path, Value::Null).await;
    assert_eq!(
        (status, &ended["at_risk"]),
        (StatusCode::OK, &frozen["at_risk"])
    );
    assert_eq!(site.post(&path, Value::Null).await.0, StatusCode::CONFLICT);
    let flags = site.get("/v1/flags").await;
    assert_eq!(flags["flags"][0]["code"], "unfrozen", "{flags}");
}

#[tokio::test]
async fn tu_47_the_gateways_list_is_taken_in_before_cards_are_charged_again() {
    let site = Site::open().await;
    site.books
        .write(|books| books.begin_new_life(99, Timestamp::now()))
        .await
        .unwrap();
    let charge = |amount: i64, at: &str| {
        json!({"charges": [{"reference": "r", "transaction": "t", "card": "no-card",
            "amount": amount, "charged_at": at}]})
    };
    let path = "/v1/top-ups/import";
    let (status, imported) = site
        .post(path, charge(200_00, "2026-11-20T10:00:00Z"))
        .await;
    assert_eq!(status, StatusCode::OK, "{imported}");
    assert_eq!(imported["unmatched"], json!(["r"]));
    for bad in [charge(0, "2026-11-20T10:00:00Z"), charge(1, "yesterday")] {
        let (status, problem) = site.post(path, bad).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    }
    let restore = site.get("/v1/restore").await;
    assert_eq!(restore["unmatched_charges"], 1, "{restore}");
    assert!(
        restore["to_do"].to_string().contains("/dismiss"),
        "{restore}"
    );
    let listed = site.get("/v1/top-ups/unmatched").await;
    let charge = &listed["charges"][0];
    assert_eq!(
        (&charge["reference"], &charge["amount"], &charge["accounts"]),
        (&json!("r"), &json!(200_00), &json!([]))
    );
    let unmatched = format!("/v1/top-ups/unmatched/{}", charge["id"]);
    let (account, _) = site.chip("A10A8925").await;
    let (take_in, dismiss) = (
        format!("{unmatched}/take-in"),
        format!("{unmatched}/dismiss"),
    );
    let (status, problem) = site.post(&take_in, json!({"account": account.0})).await;
    assert_eq!(
        (status, &problem["type"]),
        (
            StatusCode::CONFLICT,
            &json!("/problems/no-agreement-on-card")
        )
    );
    let refused = site
        .send(Method::POST, &dismiss, OTHER_TENANT, &[], None)
        .await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        site.post(&dismiss, Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        site.post(&dismiss, Value::Null).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(site.get("/v1/restore").await["unmatched_charges"], 0);
    let resume = "/v1/top-ups/resume";
    let refused = site
        .send(Method::POST, resume, OTHER_TENANT, &[], None)
        .await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(site.post(resume, Value::Null).await.1["resumed"], true);
    assert_eq!(site.post(resume, Value::Null).await.1["resumed"], false);
}
