//! Spending ceilings over the wire: what a till is given, what it may ask for, and what operators
//! see of it.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use std::time::Instant;

use canteen::{AccountId, Money};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{Site, TOKEN, Till};
use sync_proto::{AuthoriseRequest, Change, FeedPage, FeedRecords, Record, SnapshotHeader};
use uuid::Uuid;

fn ceiling_of(changes: &[Change], account: AccountId) -> Option<Money> {
    let found = changes.iter().find_map(|change| match &change.record {
        Record::Account(record) if record.id == account => Some(record.ceiling),
        _ => None,
    });
    found.expect("the account is among the records")
}

async fn snapshot(site: &Site, till: &Till) -> (SnapshotHeader, Vec<Change>) {
    let response = till.ask(site, "snapshot", "", &till.position(0)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let text = response.text().await.unwrap();
    let header = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let changes = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    (header, changes)
}

async fn authorise(site: &Site, till: &Till, account: AccountId, need: Money) -> reqwest::Response {
    let request = AuthoriseRequest {
        account,
        need,
        entry_id: Uuid::nil(),
        position: till.position(0),
    };
    let path = format!("/v1/tills/{}/authorise", till.name);
    let body = Some(serde_json::to_string(&request).unwrap());
    site.send(Method::POST, &path, &till.token, &[], body).await
}

#[tokio::test]
async fn a_till_that_tells_where_it_stands_is_given_ceilings_and_can_ask_for_more() {
    let site = Site::open().await;
    let mut one = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let (account, chip) = site.chip("A10A8925").await;
    assert_eq!(site.balance(account).await, 60_00);
    let (header, changes) = snapshot(&site, &one).await;
    assert_eq!(ceiling_of(&changes, account), Some(Money::from_kroner(60)));
    // Money that is paid in raises the ceiling; the answer does not wait for the feed.
    let paid_in = site.deposit(account.0, "a", "{\"amount\": 10000}").await;
    assert_eq!(paid_in.0, StatusCode::CREATED);
    let began = Instant::now();
    let response = authorise(&site, &one, account, Money::from_kroner(100)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(began.elapsed().as_millis() < 700, "{:?}", began.elapsed());
    let records: FeedRecords = response.json().await.unwrap();
    let ceiling = ceiling_of(&records.changes, account);
    assert_eq!(ceiling, Some(Money::from_kroner(160)));
    let response = authorise(&site, &one, account, Money::from_kroner(161)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);

    one.sell((account, chip), &[(1, "Dagens ret", 22_00)]);
    one.push(&site, 1).await;
    let query = format!("hub_epoch={}&cursor={}", header.hub_epoch, header.as_of);
    let response = one.ask(&site, "feed", &query, &one.position(1)).await;
    let page: FeedPage = response.json().await.unwrap();
    let ceiling = ceiling_of(&page.changes, account);
    assert_eq!(
        ceiling,
        Some(Money::from_kroner(160)),
        "22 of them are sold"
    );
    // Without a position nothing is said about ceilings.
    let old = site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    let at = sync_proto::FeedPosition {
        hub_epoch: header.hub_epoch,
        cursor: 0,
    };
    let page = old.feed(&site, at, 0).await;
    assert_eq!(ceiling_of(&page.changes, account), None);
}

#[tokio::test]
async fn a_copied_disk_gets_neither_data_nor_ceilings() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    snapshot(&site, &till).await;
    till.sell(payer, &[(1, "Banan", 3_00)]);
    till.push(&site, 1).await;
    let mut copy = till.position(0);
    copy.head_hash = copy.acked_hash;
    for what in ["feed", "snapshot"] {
        let refused = till.ask(&site, what, "hub_epoch=7&cursor=0", &copy).await;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(
            (&problem["code"], &problem["agreed_through"]),
            (&json!("fork"), &json!(0))
        );
    }
    let flags = site.get("/v1/flags").await;
    assert_eq!(flags["flags"].as_array().unwrap().len(), 1);
    let half = format!(
        "/v1/tills/kasse-1/feed?head_seq=1&head_hash={}",
        copy.head_hash
    );
    let refused = site.send(Method::GET, &half, &till.token, &[], None).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn money_that_tills_may_be_spending_leaves_only_by_force() {
    let site = Site::open().await;
    let (account, _) = site.chip("55667788").await;
    let _one = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let _two = site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    let all = site.balance(account).await;
    assert_eq!(all, 200_00);
    let correct = async |key: &str, force: bool| {
        let path = format!("/v1/accounts/{account}/corrections");
        let body = json!({ "amount": -all, "reason": "udbetaling", "force": force });
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_string());
        let response = site.send(Method::POST, &path, TOKEN, &headers, body).await;
        let status = response.status();
        (status, response.json::<Value>().await.unwrap())
    };
    let (status, problem) = correct("a", false).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(problem["type"], "/problems/rights-outstanding");
    let before = site.get("/v1/canteens/1/exposure").await["exposure"].as_i64();
    assert_eq!(correct("b", true).await.0, StatusCode::CREATED);
    let after = site.get("/v1/canteens/1/exposure").await["exposure"].as_i64();
    assert_eq!(after, before.map(|before| before + 200_00));
    assert_eq!(
        site.get("/v1/flags").await["flags"][0]["code"],
        "forced_debit"
    );

    let (status, problem) = site.post("/v1/tills/kasse-1/retire", Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["type"], "/problems/till-in-use");
    site.post("/v1/tills/kasse-1/revoke", Value::Null).await;
    let (status, retired) = site.post("/v1/tills/kasse-1/retire", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert!(retired["at_risk"].as_i64().unwrap() >= 200_00, "{retired}");
}
