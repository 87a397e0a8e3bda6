//! Spending ceilings over the wire: what a till is given, what it may ask for, and what operators
//! see of it.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use canteen::{AccountId, Money};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{OTHER_TENANT, Site, TOKEN, Till};
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
    let response = authorise(&site, &one, account, Money::from_kroner(100)).await;
    assert_eq!(response.status(), StatusCode::OK);
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
async fn obt_29_money_that_tills_may_be_spending_waits_or_leaves_by_force() {
    let site = Site::open().await;
    let (account, _) = site.chip("55667788").await;
    let _one = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let _two = site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    let all = site.balance(account).await;
    assert_eq!(all, 200_00);
    let take_out = async |what: &str, key: &str, body: Value| {
        let path = format!("/v1/accounts/{account}/{what}");
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_string());
        let response = site.send(Method::POST, &path, TOKEN, &headers, body).await;
        let status = response.status();
        (status, response.json::<Value>().await.unwrap())
    };
    let (status, booked) = take_out("payouts", "a", json!({ "amount": all })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{booked}");
    assert_eq!(site.balance(account).await, 0);
    let debits = site.get("/v1/debits").await;
    let debit = &debits["debits"][0];
    assert_eq!(debit["id"], booked["debit"]);
    assert_eq!(
        (&debit["state"], &debit["kind"], &debit["outstanding"]),
        (&json!("pending"), &json!("payout"), &json!(400_00))
    );
    let (status, problem) = take_out("payouts", "b", json!({ "amount": 1 })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(problem["type"], "/problems/not-covered");
    let path = format!("/v1/debits/{}", debit["id"]);
    let other = site
        .send(
            Method::POST,
            &format!("{path}/cancel"),
            OTHER_TENANT,
            &[],
            None,
        )
        .await;
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    let cancelled = site.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!(cancelled.0, StatusCode::NO_CONTENT);
    assert_eq!(site.balance(account).await, all);

    let correction = json!({ "amount": -all, "reason": "udbetaling" });
    let (status, booked) = take_out("corrections", "c", correction).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let before = site.get("/v1/canteens/1/exposure").await["exposure"].as_i64();
    let path = format!("/v1/debits/{}/force", booked["debit"]);
    assert_eq!(
        site.post(&path, Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(site.post(&path, Value::Null).await.0, StatusCode::NOT_FOUND);
    let after = site.get("/v1/canteens/1/exposure").await["exposure"].as_i64();
    assert_eq!(after, before, "the money was set aside already");
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

#[tokio::test]
async fn orders_transfers_and_closings_answer_with_what_became_of_them() {
    let site = Site::open().await;
    let (account, _) = site.chip("55667788").await;
    let (other, _) = site.chip("A10A8925").await;
    let send = async |path: String, key: &str, body: Value| {
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_string());
        let response = site.send(Method::POST, &path, TOKEN, &headers, body).await;
        let status = response.status();
        (status, response.json::<Value>().await.unwrap())
    };
    let orders = format!("/v1/accounts/{account}/orders");
    let lines =
        |price: i64| json!({ "lines": [{ "quantity": 2, "name": "Bolle", "unit_price": price }] });
    let (status, order) = send(orders.clone(), "a", lines(11_00)).await;
    assert_eq!(status, StatusCode::CREATED, "{order}");
    assert_eq!(
        (&order["kind"], &order["amount"], &order["lines"][0]["text"]),
        (&json!("order"), &json!(-22_00), &json!("2x Bolle 22,00"))
    );
    let (status, problem) = send(orders.clone(), "b", lines(500_00)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        (&problem["type"], &problem["code"]),
        (&json!("/problems/declined"), &json!("limit_week"))
    );
    assert!(problem["left"].is_i64(), "{problem}");
    let (status, problem) = send(orders, "c", json!({ "lines": [] })).await;
    assert_eq!((status.as_u16(), &problem["field"]), (422, &json!("lines")));

    let transfers = format!("/v1/accounts/{account}/transfers");
    let body = json!({ "amount": 78_00, "to": other.0 });
    assert_eq!(send(transfers, "d", body).await.0, StatusCode::CREATED);
    assert_eq!(site.balance(other).await, 138_00);
    let close = format!("/v1/accounts/{account}/close");
    let (status, problem) = site.post(&close, Value::Null).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("/problems/balance-left"))
    );
    let (status, closed) = site
        .post(&format!("{close}?pay_out=true"), Value::Null)
        .await;
    assert_eq!(
        (status, &closed["status"]),
        (StatusCode::OK, &json!("closed"))
    );
    assert_eq!(closed["balance"], 0);
    // A till may be selling on the other one.
    site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let close = format!("/v1/accounts/{other}/close?pay_out=true");
    let (status, waits) = site.post(&close, Value::Null).await;
    assert_eq!(
        (status, &waits["status"]),
        (StatusCode::ACCEPTED, &json!("blocked"))
    );
    assert!(waits["closing"].is_string(), "{waits}");
}
