//! What a hub asks of tills: their entries, now or once more.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use reqwest::Method;
use serde_json::{Value, json};
use site::{Site, Till};
use sync_proto::{
    CALLER, CALLER_HUB, CALLER_NONCE, CALLER_SIGNATURE, CALLER_TIME, EntryFate, FeedPage,
    FeedPosition, HubKey, Resend, pull_message,
};
use tokio::net::TcpListener;

/// A till that serves its entries, and what it was asked.
#[derive(Clone)]
struct Served {
    till: Arc<Mutex<Till>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve_journal(mut till: Till) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    till.address = Some(address);
    let served = Served {
        till: Arc::new(Mutex::new(till)),
        asked: Arc::default(),
    };
    let router = Router::new()
        .route("/v1/journal", get(journal))
        .with_state(served.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    served
}

async fn journal(
    State(served): State<Served>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Response {
    let path = uri.path_and_query().unwrap().as_str().to_owned();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let till = served.till.lock().unwrap();
    let message = pull_message(
        &till.name.parse().unwrap(),
        &header(CALLER),
        &path,
        &header(CALLER_TIME),
        &header(CALLER_NONCE),
    );
    let signature = header(CALLER_SIGNATURE).parse().unwrap();
    let hub = HubKey::from_seed(&[7; 32]).public();
    assert!(hub.verifies(&message, &signature) && header(CALLER) == CALLER_HUB);
    served.asked.lock().unwrap().push(path);
    let after: u64 = query["after"].parse().unwrap();
    if after >= till.last() {
        return StatusCode::NO_CONTENT.into_response();
    }
    axum::Json(till.batch(after + 1)).into_response()
}

async fn operate(site: &Site, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, answer) = site.post(path, body).await;
    (StatusCode::from_u16(status.as_u16()).unwrap(), answer)
}

async fn page(site: &Site, till: &Till) -> FeedPage {
    let (hub_epoch, _) = site.books.read(|books| books.hub_position()).await.unwrap();
    let at = FeedPosition {
        hub_epoch,
        cursor: 0,
    };
    till.feed(site, at, 0).await
}

#[tokio::test]
async fn a_till_that_serves_its_entries_is_asked_for_what_is_missing() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Ostehaps", 3_00)]);
    let served = serve_journal(till).await;
    // Until it has sent something, nobody knows where it serves.
    let (status, problem) = operate(&site, "/v1/tills/kasse-1/pull", json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!(null))
    );
    assert_eq!(problem["type"], "/problems/not-served");

    let batch = served.till.lock().unwrap().batch(1);
    let token = served.till.lock().unwrap().token.clone();
    let body = Some(serde_json::to_string(&batch).unwrap());
    let path = "/v1/tills/kasse-1/batches";
    site.send(Method::POST, path, &token, &[], body).await;
    for _ in 0..3 {
        let mut till = served.till.lock().unwrap();
        till.sell(payer, &[(1, "Yoghurt", 6_00)]);
    }
    let (status, pulled) = operate(&site, "/v1/tills/kasse-1/pull", json!({})).await;
    assert_eq!(status, StatusCode::OK, "{pulled}");
    assert_eq!(pulled, json!({"entries": 3, "accepted_through": 4}));
    assert_eq!(site.balance(payer.0).await, 60_00 - 3_00 - 18_00);
    let (_, again) = operate(&site, "/v1/tills/kasse-1/pull", json!({})).await;
    assert_eq!(again, json!({"entries": 0, "accepted_through": 4}));
    let asked = served.asked.lock().unwrap().clone();
    assert!(asked[0].contains("after=1&limit=500"), "{asked:?}");
}

#[tokio::test]
async fn sy_34_push_and_pull_at_once_book_nothing_twice() {
    let site = Arc::new(Site::open().await);
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("72BF9961").await;
    till.sell(payer, &[(1, "Ostehaps", 1)]);
    let served = serve_journal(till).await;
    let push = |site: Arc<Site>, served: Served| async move {
        let (batch, token) = {
            let till = served.till.lock().unwrap();
            (till.batch(1), till.token.clone())
        };
        let body = Some(serde_json::to_string(&batch).unwrap());
        let path = "/v1/tills/kasse-1/batches";
        let answer = site.send(Method::POST, path, &token, &[], body).await;
        assert_eq!(answer.status().as_u16(), 200);
    };
    push(Arc::clone(&site), served.clone()).await;
    for _ in 0..30 {
        for _ in 0..5 {
            let mut till = served.till.lock().unwrap();
            till.sell(payer, &[(1, "Ostehaps", 1)]);
        }
        let pull = operate(&site, "/v1/tills/kasse-1/pull", json!({}));
        let pushed = tokio::spawn(push(Arc::clone(&site), served.clone()));
        let (status, told) = pull.await;
        assert_eq!(status, StatusCode::OK, "{told}");
        pushed.await.unwrap();
    }
    assert_eq!(site.balance(payer.0).await, 149_50 - 151);
    let till = site.get("/v1/tills/kasse-1").await;
    assert_eq!(till["accepted_through"], 151);
}

#[tokio::test]
async fn a_till_that_does_not_answer_is_named() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    till.sell(site.chip("A10A8925").await, &[(1, "Ostehaps", 3_00)]);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    till.address = Some(format!("http://{}", free.local_addr().unwrap()));
    drop(free);
    till.push(&site, 1).await;
    let (status, problem) = operate(&site, "/v1/tills/kasse-1/pull", json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("does not answer"), "{detail}");
}

#[tokio::test]
async fn tills_hear_of_each_other_and_of_how_much_the_positions_contain() {
    let site = Site::open().await;
    let first = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let mut second = site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    second.address = Some("http://10.0.0.7:8074".to_owned());
    second.sell(site.chip("A10A8925").await, &[(1, "Ostehaps", 3_00)]);
    second.push(&site, 1).await;
    let siblings = page(&site, &first).await.siblings.unwrap();
    let [sibling] = siblings.as_slice() else {
        panic!("{siblings:?}");
    };
    assert_eq!(sibling.till.as_str(), "kasse-2");
    assert_eq!(sibling.accepted, second.batch(1).head);
    assert_eq!(sibling.address, second.address);
    let of_second = page(&site, &second).await.siblings.unwrap();
    assert_eq!(of_second[0].accepted.seq, 0);
}

#[tokio::test]
async fn entries_that_are_wanted_once_more_are_asked_for_until_they_have_come() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    for _ in 0..4 {
        till.sell(site.chip("A10A8925").await, &[(1, "Ostehaps", 3_00)]);
    }
    till.push(&site, 1).await;
    let path = "/v1/tills/kasse-1/resend";
    let (status, _) = operate(&site, path, json!({"from_seq": 3, "to_seq": 2})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = operate(&site, path, json!({"from_seq": 2, "to_seq": 3})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let wanted = Resend {
        from_seq: 2,
        to_seq: 3,
    };
    assert_eq!(page(&site, &till).await.resend, Some(wanted));
    let answer = till.push(&site, 2).await;
    let duplicates = answer
        .results
        .iter()
        .filter(|r| r.fate == EntryFate::Duplicate);
    assert_eq!(duplicates.count(), 3);
    assert_eq!(page(&site, &till).await.resend, None);
}

#[tokio::test]
async fn what_a_verified_backup_contains_may_be_forgotten() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Ostehaps", 3_00)]);
    assert_eq!(till.push(&site, 1).await.durable_through, 0);
    let (status, backup) = operate(&site, "/v1/backups", json!({})).await;
    assert_eq!(status, StatusCode::CREATED);
    till.sell(payer, &[(1, "Ostehaps", 3_00)]);
    assert_eq!(till.push(&site, 2).await.durable_through, 0);
    let verified = format!("/v1/backups/{}/verified", backup["id"]);
    let (status, _) = operate(&site, &verified, json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(till.push(&site, 2).await.durable_through, 1);
    let (status, _) = operate(&site, "/v1/backups/99/verified", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let other = site::OTHER_TENANT;
    let confined = site
        .send(Method::POST, "/v1/backups", other, &[], None)
        .await;
    assert_eq!(confined.status().as_u16(), 403);
}
