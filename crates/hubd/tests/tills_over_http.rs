//! A till made by hand from sync-proto, against the real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{Site, TOKEN};
use sync_proto::{
    ANSWER_SIGNATURE, Change, Denylist, EntryFate, FeedPosition, HubKey, Record, SnapshotHeader,
    SnapshotTrailer, StatusOf, answer_message,
};

#[tokio::test]
async fn a_till_enrols_takes_a_snapshot_sells_and_hears_of_it() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let path = "/v1/tills/kasse-1/snapshot";
    let snapshot = site.send(Method::GET, path, &till.token, &[], None).await;
    assert_eq!(snapshot.headers()["content-type"], "application/x-ndjson");
    let text = snapshot.text().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let header: SnapshotHeader = serde_json::from_str(lines[0]).unwrap();
    let trailer: SnapshotTrailer = serde_json::from_str(lines[lines.len() - 1]).unwrap();
    assert_eq!(trailer.records, lines.len() as u64 - 2);
    let records: Vec<Change> = lines[1..lines.len() - 1]
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        records
            .iter()
            .any(|change| matches!(&change.record, Record::Product(product)
        if product.name == "Dagens ret" && product.price.ore() == 22_00))
    );

    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Ostehaps", 3_00), (2, "Yoghurt", 6_00)]);
    let answer = till.push(&site, 1).await;
    assert_eq!(
        (answer.accepted.seq, answer.hub_epoch),
        (1, header.hub_epoch)
    );
    assert_eq!(answer.results[0].fate, EntryFate::Booked);
    let again = till.push(&site, 1).await;
    assert_eq!(again.results[0].fate, EntryFate::Duplicate);
    assert_eq!(site.balance(payer.0).await, 45_00);

    let at = FeedPosition {
        hub_epoch: header.hub_epoch,
        cursor: header.as_of,
    };
    let page = till.feed(&site, at, 0).await;
    let [change] = page.changes.as_slice() else {
        panic!("{:?}", page.changes);
    };
    assert!(matches!(&change.record, Record::Account(account)
        if account.position.ore() == 45_00 && account.incl_seq == 1));

    let account = payer.0;
    let statement = site.get(&format!("/v1/accounts/{account}/statement")).await;
    let row = &statement["rows"][1];
    assert_eq!(
        (row["amount"].as_i64(), row["balance_after"].as_i64()),
        (Some(-15_00), Some(45_00))
    );
    assert_eq!(row["lines"][0]["text"], "1x Ostehaps 3,00");
    assert_eq!(row["lines"][1]["text"], "2x Yoghurt 12,00");
    let tills = site.get("/v1/tills").await;
    assert_eq!(tills["tills"][0]["accepted_through"], 1);
    assert_eq!(tills["tills"][0]["version"], "0.1.0");
}

#[tokio::test]
async fn a_waiting_till_hears_of_a_block_at_once() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let (hub_epoch, cursor) = site.books.read(|books| books.hub_position()).await.unwrap();
    let at = FeedPosition { hub_epoch, cursor };
    let began = Instant::now();
    let empty = till.feed(&site, at, 1).await;
    assert!(empty.changes.is_empty() && began.elapsed() >= Duration::from_secs(1));
    let (_, chip) = site.chip("11223344").await;
    let block = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        site.post(&format!("/v1/chips/{chip}/block"), Value::Null)
            .await
    };
    let began = Instant::now();
    let (page, blocked) = tokio::join!(till.feed(&site, at, 25), block);
    assert_eq!(blocked.0, StatusCode::OK);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(
        matches!(&page.changes[0].record, Record::Chip(chip) if chip.status.code() == "blocked")
    );
}

#[tokio::test]
async fn deny_01_a_block_overtakes_the_feed_and_the_operator_sees_who_knows() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    let (_, chip) = site.chip("A10A8925").await;
    let ask = async |hub_epoch: u64, after: u64, wait: u64| {
        let query = format!("hub_epoch={hub_epoch}&after={after}&wait={wait}");
        till.ask(&site, "denylist", &query, &till.position(0)).await
    };
    let began = Instant::now();
    let block = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let path = format!("/v1/chips/{chip}/block");
        site.post(&path, Value::Null).await
    };
    let known: Denylist = ask(7, 0, 0).await.json().await.unwrap();
    assert!(
        known
            .changes
            .iter()
            .all(|change| change.of != StatusOf::Chip(chip))
    );
    let (response, _) = tokio::join!(ask(7, known.to, 20), block);
    assert!(began.elapsed() < Duration::from_secs(10));
    let list: Denylist = response.json().await.unwrap();
    assert_eq!(list.changes.len(), 1);
    assert_eq!(list.changes[0].of, StatusOf::Chip(chip));
    let status = async || site.get(&format!("/v1/chips/{chip}/status")).await;
    let told = status().await;
    assert_eq!(
        (&told["status"], &told["acknowledged"]),
        (&json!("blocked"), &json!(0))
    );
    assert_eq!(told["tills"].as_array().unwrap().len(), 2);
    ask(7, list.to, 0).await;
    let told = status().await;
    assert_eq!(told["acknowledged"], 1);
    assert_eq!(told["tills"][0]["till"], "kasse-1");
    assert!(told["tills"][0]["seen_at"].is_string());
    assert_eq!(ask(8, 0, 0).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn refusals_carry_what_the_till_needs_to_go_on() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    for _ in 0..3 {
        till.sell(payer, &[(1, "Banan", 3_00)]);
    }
    let path = "/v1/tills/kasse-1/batches";
    let check = async |token: &str, body: String, status: u16, code: &str| -> Value {
        let response = site.send(Method::POST, path, token, &[], Some(body)).await;
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code);
        problem
    };
    let good = serde_json::to_string(&till.batch(1)).unwrap();
    let late = serde_json::to_string(&till.batch(3)).unwrap();
    assert_eq!(check(&till.token, late, 409, "gap").await["expected"], 1);
    let flipped = good.replace("Banan", "Bamam");
    let problem = check(&till.token, flipped, 400, "bad_chain").await;
    assert_eq!(problem["type"], "/problems/bad-chain");
    check("wrong", good.clone(), 401, "not_enrolled").await;
    check(TOKEN, good.clone(), 401, "not_enrolled").await;
    let other = site.till("kasse-2", "DEMO-KASSE-2", 2).await;
    check(&other.token, good, 401, "not_enrolled").await;
    let explained = site
        .client
        .get(format!("{}/problems/gap", site.url))
        .send()
        .await
        .unwrap();
    assert!(explained.text().await.unwrap().contains("expected"));
    let stale = "/v1/tills/kasse-1/feed?hub_epoch=1&cursor=5";
    let gone = site.send(Method::GET, stale, &till.token, &[], None).await;
    assert_eq!(gone.status(), StatusCode::GONE);
    assert_eq!(
        gone.json::<Value>().await.unwrap()["code"],
        "snapshot_required"
    );
    assert_eq!(site.balance(payer.0).await, 60_00);
}

#[tokio::test]
async fn a_code_is_used_once_and_a_revoked_till_is_shut_out() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let stranger = json!({
        "till": "kasse-1", "code": "DEMO-KASSE-1", "epoch": "00000000000000ff",
        "public_key": "11".repeat(32),
    });
    let (status, problem) = site.post("/v1/enrolments", stranger).await;
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (403, &json!("/problems/enrolment-refused"))
    );
    // The answer was lost: the same till with the same key asks again and gets another token.
    let again = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    assert_ne!(till.token, again.token);
    till.token = again.token;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Banan", 3_00)]);
    till.push(&site, 1).await;
    site.post("/v1/tills/kasse-1/revoke", Value::Null).await;
    let path = "/v1/tills/kasse-1/feed?hub_epoch=7&cursor=0";
    let refused = site.send(Method::GET, path, &till.token, &[], None).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.headers().contains_key(ANSWER_SIGNATURE));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "revoked");
    // Another machine takes its place; the first one is told the same, and what it has sold comes.
    let (_, made) = site
        .post("/v1/tills/kasse-1/enrolment-code", Value::Null)
        .await;
    let code = made["enrolment_code"].as_str().unwrap();
    site.till("kasse-1", code, 9).await;
    till.sell(payer, &[(1, "Banan", 3_00)]);
    let batch = serde_json::to_string(&till.batch(1)).unwrap();
    let send = async |to: &str, token: &str| {
        let path = format!("/v1/tills/kasse-1/{to}");
        let body = Some(batch.clone());
        let response = site.send(Method::POST, &path, token, &[], body).await;
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let (status, problem) = send("batches", &till.token).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::FORBIDDEN, &json!("revoked"))
    );
    let (status, answer) = send("branch", "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["accepted"]["seq"], 2);
    assert_eq!(site.balance(payer.0).await, 54_00);
}

#[tokio::test]
async fn sy_39_every_answer_to_a_till_is_signed_however_it_ends_and_is_packed() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let key = HubKey::from_seed(&[7; 32]).public();
    let check = async |method: Method, path: &str, token: &str, encoding: &str, status: u16| {
        let headers = [("accept-encoding", encoding)];
        let response = site.send(method, path, token, &headers, None).await;
        assert_eq!(response.status(), status, "{path}");
        let packed = response.headers().contains_key("content-encoding");
        assert_eq!(packed, encoding == "zstd" && status == 200, "{path}");
        let signature = response.headers()[ANSWER_SIGNATURE].to_str().unwrap();
        let signature = signature.parse().unwrap();
        let mut body = response.bytes().await.unwrap().to_vec();
        if packed {
            body = zstd::decode_all(body.as_slice()).unwrap();
        }
        let message = answer_message(&"kasse-1".parse().unwrap(), status, path, &body);
        assert!(key.verifies(&message, &signature), "{path}");
    };
    let snapshot = "/v1/tills/kasse-1/snapshot";
    check(Method::GET, snapshot, &till.token, "zstd", 200).await;
    check(Method::GET, snapshot, &till.token, "none", 200).await;
    let stale = "/v1/tills/kasse-1/feed?hub_epoch=1&cursor=5";
    check(Method::GET, stale, &till.token, "none", 410).await;
    check(Method::GET, stale, "wrong", "none", 401).await;
    check(Method::GET, "/v1/tills/kasse-1/x", "", "none", 404).await;
    check(Method::DELETE, snapshot, "", "none", 405).await;
    let packed = [("content-encoding", "zstd")];
    let path = "/v1/tills/kasse-1/authorise";
    let refused = site
        .send(Method::POST, path, &till.token, &packed, Some("{}".into()))
        .await;
    assert!(refused.status().is_client_error());
    assert!(refused.headers().contains_key(ANSWER_SIGNATURE));
}

#[tokio::test]
async fn bodies_may_be_packed_but_not_without_bounds() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("A10A8925").await;
    till.sell(payer, &[(1, "Banan", 3_00)]);
    let send = async |bytes: Vec<u8>| {
        site.client
            .post(format!("{}/v1/tills/kasse-1/batches", site.url))
            .bearer_auth(&till.token)
            .header("content-type", "application/json")
            .header("content-encoding", "zstd")
            .body(bytes)
            .send()
            .await
            .unwrap()
            .status()
    };
    let batch = serde_json::to_vec(&till.batch(1)).unwrap();
    let packed = zstd::encode_all(batch.as_slice(), 3).unwrap();
    let mut cut = packed.clone();
    cut.truncate(cut.len() / 2);
    let bomb = zstd::encode_all(vec![b' '; 64 << 20].as_slice(), 3).unwrap();
    assert!(bomb.len() < 16_384);
    assert_eq!(send(bomb).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(cut).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(packed.clone()).await, StatusCode::OK);
    let branch = site
        .client
        .post(format!("{}/v1/tills/kasse-1/branch", site.url))
        .header("content-type", "application/json")
        .header("content-encoding", "zstd")
        .body(packed)
        .send()
        .await
        .unwrap();
    assert_eq!(branch.status(), StatusCode::OK);
    let answer = site
        .client
        .get(format!("{}/v1/tills/kasse-1/snapshot", site.url))
        .bearer_auth(&till.token)
        .header("accept-encoding", "zstd")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-encoding"], "zstd");
    let unpacked = zstd::decode_all(answer.bytes().await.unwrap().as_ref()).unwrap();
    assert!(
        String::from_utf8(unpacked)
            .unwrap()
            .contains("\"end\":true")
    );
}

#[tokio::test]
async fn many_tills_at_once_lose_nothing() {
    let site = Site::open().await;
    let payer = site.chip("55667788").await;
    let mut tasks = Vec::new();
    for n in 0..20_u8 {
        let name = format!("kasse-x{n}");
        let (status, made) = site
            .post("/v1/tills", json!({ "id": name, "canteen": 1 }))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let code = made["enrolment_code"].as_str().unwrap();
        let mut till = site.till(&name, code, 100 + n).await;
        for _ in 0..5 {
            till.sell(payer, &[(1, "Gulerødder", 2_00)]);
        }
        tasks.push(till);
    }
    let twice = tasks
        .iter()
        .chain(tasks.iter())
        .map(|till| till.push(&site, 1));
    let mut waiting = Vec::from_iter(twice.map(Box::pin));
    // Polled together, so that the batches meet at the writer.
    std::future::poll_fn(|context| {
        waiting.retain_mut(|push| push.as_mut().poll(context).is_pending());
        if waiting.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    assert_eq!(site.balance(payer.0).await, 200_00 - 20 * 5 * 2_00);
    let sum = site
        .books
        .read(|books| books.sum_of_balances())
        .await
        .unwrap();
    assert_eq!(sum, canteen::Money::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sy_03_the_same_batch_at_once_is_booked_by_one_of_the_requests() {
    let site = Site::open().await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let payer = site.chip("72BF9961").await;
    let rounds = 20;
    for round in 0..rounds {
        till.sell(payer, &[(1, "Ostehaps", 1)]);
        till.sell(payer, &[(1, "Yoghurt", 2)]);
        let first = round * 2 + 1;
        let push = || till.push(&site, first);
        let (one, two, three, four) = tokio::join!(push(), push(), push(), push());
        let answers = [one, two, three, four];
        for place in 0..2 {
            let fates = answers.iter().map(|answer| &answer.results[place].fate);
            let booked = fates.clone().filter(|fate| **fate == EntryFate::Booked);
            assert_eq!(booked.count(), 1, "{answers:?}");
            let known = fates.filter(|fate| **fate == EntryFate::Duplicate);
            assert_eq!(known.count(), 3, "{answers:?}");
        }
        assert!(
            answers
                .iter()
                .all(|answer| answer.accepted.seq == first + 1)
        );
    }
    let sold = i64::try_from(rounds).unwrap() * 3;
    assert_eq!(site.balance(payer.0).await, 149_50 - sold);
}

/// What is gone is told for ever, so no cursor is too old; one that is no cursor of this hub's leads
/// nowhere.
#[tokio::test]
async fn sy_15_a_cursor_that_leads_nowhere_is_answered_with_the_need_for_a_snapshot() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    let path = "/v1/tills/kasse-1/snapshot";
    let before = site.send(Method::GET, path, &till.token, &[], None).await;
    let before = before.text().await.unwrap();
    let header: SnapshotHeader = serde_json::from_str(before.lines().next().unwrap()).unwrap();
    let products = site.get("/v1/canteens/1/products").await;
    let product = products["products"][0]["id"].as_i64().unwrap();
    let taken = site
        .send(
            Method::DELETE,
            &format!("/v1/products/{product}"),
            TOKEN,
            &[],
            None,
        )
        .await;
    assert_eq!(taken.status(), StatusCode::NO_CONTENT);

    let is_gone = |change: &Change| change.record == Record::ProductGone { id: product };
    let at = |hub_epoch, cursor| FeedPosition { hub_epoch, cursor };
    let page = till
        .feed(&site, at(header.hub_epoch, header.as_of), 0)
        .await;
    assert!(page.changes.iter().any(is_gone), "{page:?}");
    let page = till.feed(&site, at(header.hub_epoch, 0), 0).await;
    assert!(page.changes.iter().any(is_gone), "{page:?}");

    for (hub_epoch, cursor) in [
        (header.hub_epoch, page.to + 1),
        (header.hub_epoch + 1, header.as_of),
        (0, 0),
    ] {
        let path = format!("/v1/tills/kasse-1/feed?hub_epoch={hub_epoch}&cursor={cursor}&wait=0");
        let refused = site.send(Method::GET, &path, &till.token, &[], None).await;
        assert_eq!(refused.status(), StatusCode::GONE, "{path}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "snapshot_required", "{path}");
    }
    let after = site.send(Method::GET, path, &till.token, &[], None).await;
    let after = after.text().await.unwrap();
    assert_eq!(after.lines().count(), before.lines().count() - 1);
    assert!(!after.contains("product_gone"), "{after}");
}
