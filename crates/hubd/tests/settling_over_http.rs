//! What operators settle afterwards, against the real server.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use canteen::{AccountId, BusinessDay, Money};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{OTHER_TENANT, Site, TOKEN};
use sync_proto::{EntryBody, Totals, ZReport};

#[tokio::test]
async fn a_sale_is_refunded_line_by_line_and_never_twice() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(2, "Bolle", 5_00), (1, "Dagens ret", 22_00)]);
    till.push(&site, 1).await;
    let statement = site
        .get(&format!("/v1/accounts/{}/statement", payer.0))
        .await;
    let sale = statement["rows"].as_array().unwrap().last().unwrap()["id"].clone();
    let refund = async |key: &str, body: Value, token: &str| {
        let path = format!("/v1/sales/{sale}/refunds");
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_string());
        let response = site.send(Method::POST, &path, token, &headers, body).await;
        let status = response.status();
        (status, response.json::<Value>().await.unwrap())
    };
    let bun = json!({ "lines": [{ "line": 0, "quantity": 1 }], "reason": "tør" });
    assert_eq!(
        refund("a", bun.clone(), OTHER_TENANT).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, booked) = refund("a", bun.clone(), TOKEN).await;
    assert_eq!(
        (status, &booked["amount"]),
        (StatusCode::CREATED, &json!(5_00)),
        "{booked}"
    );
    assert_eq!(
        (&booked["kind"], &booked["text"]),
        (&json!("refund"), &json!("Refundering: tør"))
    );
    assert_eq!(refund("b", bun.clone(), TOKEN).await.0, StatusCode::CREATED);
    let (status, problem) = refund("c", bun, TOKEN).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["type"], "/problems/refund-amount");
    let (_, rest) = refund("d", json!({ "reason": "kold" }), TOKEN).await;
    assert_eq!(rest["amount"], 22_00);
    assert_eq!(site.balance(payer.0).await, 60_00);
}

#[tokio::test]
async fn a_sale_without_an_account_is_found_by_its_flag_and_assigned() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let (account, chip) = site.chip("A10A8925").await;
    till.sell((AccountId(424_242), chip), &[(1, "Dagens ret", 22_00)]);
    till.push(&site, 1).await;
    let flags = site.get("/v1/flags?code=unknown_account").await;
    assert_eq!(flags["flags"].as_array().unwrap().len(), 1);
    assert_eq!(
        site.get("/v1/flags?code=overdrawn").await["flags"],
        json!([])
    );
    let path = format!("/v1/sales/{}/assign", flags["flags"][0]["booking"]);
    let (status, assigned) = site.post(&path, json!({ "account": account.0 })).await;
    assert_eq!(status, StatusCode::OK, "{assigned}");
    assert_eq!(site.balance(account).await, 38_00);
    let (status, problem) = site.post(&path, json!({ "account": account.0 })).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("/problems/sale-known"))
    );
}

#[tokio::test]
async fn sy_30_an_entry_that_came_in_unread_is_processed_by_the_operator() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Dagens ret", 22_00)]);
    let body = serde_json::to_string(&till.batch(1)).unwrap();
    let raw = site
        .send(
            Method::POST,
            "/v1/tills/kasse-1/raw",
            &till.token,
            &[],
            Some(body),
        )
        .await;
    assert_eq!(raw.status(), StatusCode::OK);
    assert_eq!(site.balance(payer.0).await, 60_00);
    let kept = site.get("/v1/quarantine").await;
    let path = format!("/v1/quarantine/{}/process", kept["entries"][0]["id"]);
    let other = site
        .send(Method::POST, &path, OTHER_TENANT, &[], None)
        .await;
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    let (status, processed) = site.post(&path, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{processed}");
    assert_eq!(site.balance(payer.0).await, 38_00);
    assert_eq!(site.post(&path, Value::Null).await.0, StatusCode::NOT_FOUND);
    let kept = site.get("/v1/quarantine").await;
    assert_eq!(kept["entries"][0]["booking"], processed["booking"]);
}

#[tokio::test]
async fn sy_37_a_z_report_that_differs_is_listed_with_both_sums() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Dagens ret", 22_00)]);
    for (number, ore) in [(1, 22_00), (2, 23_00)] {
        till.write(&EntryBody::ZReport(ZReport {
            number,
            day: BusinessDay::of(Timestamp::now()),
            through_seq: 1,
            sales: Totals {
                count: 1,
                amount: Money::from_ore(ore),
            },
            voids: Totals::default(),
            declines: 0,
        }));
    }
    till.push(&site, 1).await;
    let listed = site.get("/v1/z-reports?limit=5").await;
    let [differs, agrees] = listed["z_reports"].as_array().unwrap().as_slice() else {
        panic!("{listed}");
    };
    assert_eq!(
        (&agrees["number"], &agrees["agrees"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        (&differs["number"], &differs["agrees"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(
        (
            &differs["told"]["sales_sum"],
            &differs["booked"]["sales_sum"]
        ),
        (&json!(23_00), &json!(22_00))
    );
    let flags = site.get("/v1/flags?code=z_differs").await;
    assert_eq!(flags["flags"].as_array().unwrap().len(), 1);
}
