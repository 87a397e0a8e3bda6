//! Operators and integrators against the real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use canteen::AccountId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use site::{OTHER_TENANT, Site, TOKEN};

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong_and_change_nothing() {
    let site = Site::open().await;
    let (account, _) = site.chip("11223344").await;
    let check = async |body: &str, status: u16, kind: &str, field: &str| {
        let (found, problem) = site.deposit(account.0, "k-bad", body).await;
        let told = problem["field"].as_str().unwrap_or("");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains("i64"), "{body}: {detail}");
        assert!(!detail.contains("Json"), "{body}: {detail}");
        let shown = (found.as_u16(), problem["type"].as_str().unwrap(), told);
        assert_eq!(
            shown,
            (status, format!("/problems/{kind}").as_str(), field),
            "{body}"
        );
    };
    check(r#"{"amount": 0}"#, 422, "deposit-amount", "amount").await;
    check(r#"{"amount": -10000}"#, 422, "deposit-amount", "amount").await;
    check(r#"{"amount": 150}"#, 422, "deposit-amount", "amount").await;
    check(
        r#"{"amount": 9223372036854775807}"#,
        422,
        "deposit-amount",
        "amount",
    )
    .await;
    check(
        r#"{"amount": 9223372036854775808}"#,
        422,
        "invalid",
        "amount",
    )
    .await;
    check(r#"{"amount": 100.0}"#, 422, "invalid", "amount").await;
    check(r#"{"amount": "10000"}"#, 422, "invalid", "amount").await;
    check("[]", 422, "invalid", "").await;
    check(r#"{"amount": null}"#, 422, "invalid", "amount").await;
    check("{}", 422, "invalid", "amount").await;
    check(
        r#"{"amount": 10000, "currency": "SEK"}"#,
        422,
        "invalid",
        "currency",
    )
    .await;
    check(
        r#"{"amount": 10000, "curency": "DKK"}"#,
        422,
        "invalid",
        "curency",
    )
    .await;
    check(r#"{"amount": 10000"#, 400, "malformed", "").await;
    check(r#"{"amount": 10000} x"#, 400, "malformed", "").await;
    check("", 400, "malformed", "").await;
    assert_eq!(site.balance(account).await, 7_00);
}

#[tokio::test]
async fn every_refusal_is_a_problem_that_explains_itself() {
    let site = Site::open().await;
    let check = async |method: Method, path: &str, headers: &[(&str, &str)], status: u16| {
        let response = site
            .send(method, path, TOKEN, headers, Some("{}".to_owned()))
            .await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{path}"
        );
        let problem: Value = response.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        for rust in ["i64", "u16", "u32", "u64", "usize", "expected struct"] {
            assert!(!detail.contains(rust), "{path}: {detail}");
        }
        let kind = problem["type"].as_str().unwrap();
        let explained = site
            .client
            .get(format!("{}{kind}", site.url))
            .send()
            .await
            .unwrap();
        assert_eq!(explained.status(), StatusCode::OK, "{kind}");
    };
    check(Method::GET, "/v1/nothing", &[], 404).await;
    check(Method::GET, "/v1/accounts/abc", &[], 404).await;
    check(Method::GET, "/v1/accounts/424242", &[], 404).await;
    check(Method::PUT, "/v1/accounts", &[], 405).await;
    check(Method::POST, "/v1/accounts", &[], 422).await;
    check(
        Method::POST,
        "/v1/accounts",
        &[("content-encoding", "zstd")],
        415,
    )
    .await;
    check(Method::GET, "/v1/accounts?limit=many", &[], 422).await;
    check(Method::GET, "/v1/accounts?many=1", &[], 422).await;
    check(Method::GET, "/statements/abc", &[], 404).await;
    check(Method::POST, "/v1/accounts/1001/deposits", &[], 422).await;
    check(
        Method::GET,
        "/v1/accounts/1001/statement?month=2026-13",
        &[],
        422,
    )
    .await;
    check(
        Method::GET,
        "/v1/accounts/1001/statement?from=2026-02-02&to=2026-02-01",
        &[],
        422,
    )
    .await;
    check(Method::POST, "/v1/top-ups/nonsense/give-up", &[], 404).await;
}

#[tokio::test]
async fn a_deposit_sent_twice_is_booked_once() {
    let site = Site::open().await;
    let (account, _) = site.chip("11223344").await;
    let (status, first) = site.deposit(account.0, "k-1", r#"{"amount": 10000}"#).await;
    assert_eq!(
        (status, &first["balance_after"]),
        (StatusCode::CREATED, &json!(107_00))
    );
    let (_, second) = site
        .deposit(account.0, "\"k-1\"", r#"{"amount": 10000}"#)
        .await;
    assert_eq!(first, second);
    let (status, other) = site.deposit(account.0, "k-1", r#"{"amount": 20000}"#).await;
    assert_eq!(
        (status.as_u16(), &other["type"]),
        (422, &json!("/problems/key-reused"))
    );
    let path = format!("/v1/accounts/{account}/deposits");
    let body = Some(r#"{"amount": 10000}"#.to_owned());
    let keyless = site.send(Method::POST, &path, TOKEN, &[], body).await;
    assert_eq!(keyless.status(), StatusCode::BAD_REQUEST);
    assert_eq!(site.balance(account).await, 107_00);
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_or_beyond_their_tenant() {
    let site = Site::open().await;
    let (account, chip) = site.chip("11223344").await;
    let paths = [
        "/v1/accounts".to_owned(),
        format!("/v1/accounts/{account}"),
        format!("/v1/accounts/{account}/statement"),
        format!("/statements/{account}"),
        format!("/v1/chips/{chip}"),
        "/v1/chips?number=11223344".to_owned(),
        "/v1/tills".to_owned(),
        "/v1/canteens/1/products".to_owned(),
        "/v1/top-ups".to_owned(),
        "/v1/flags".to_owned(),
        "/v1/quarantine".to_owned(),
        "/v1/canteens".to_owned(),
    ];
    for path in &paths {
        let wrong = site
            .send(Method::GET, path, "not-the-token", &[], None)
            .await;
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
        let bare = site
            .client
            .get(format!("{}{path}", site.url))
            .send()
            .await
            .unwrap();
        assert_eq!(bare.status(), StatusCode::UNAUTHORIZED, "{path}");
        let own = site.send(Method::GET, path, TOKEN, &[], None).await;
        assert_eq!(own.status(), StatusCode::OK, "{path}");
        let other = site.send(Method::GET, path, OTHER_TENANT, &[], None).await;
        let status = other.status();
        let text = other.text().await.unwrap();
        assert!(status == 404 || !text.contains("Demo"), "{path}: {text}");
        assert!(!text.contains("11223344"), "{path}");
    }
    for path in [
        format!("/v1/accounts/{account}/block"),
        format!("/v1/chips/{chip}/block"),
        "/v1/tills/kasse-1/revoke".to_owned(),
        "/v1/tills/kasse-1/enrolment-code".to_owned(),
    ] {
        let other = site
            .send(Method::POST, &path, OTHER_TENANT, &[], None)
            .await;
        assert_eq!(other.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let basic = |method| {
        let url = format!("{}/v1/chips/{chip}/block", site.url);
        site.client
            .request(method, url)
            .basic_auth("operator", Some(TOKEN))
    };
    let posted = basic(Method::POST).send().await.unwrap();
    assert_eq!(
        posted.status(),
        StatusCode::UNAUTHORIZED,
        "a browser's credentials change nothing"
    );
    let (_, status) = (
        chip,
        site.get(&format!("/v1/chips/{chip}")).await["status"].clone(),
    );
    assert_eq!(status, "active");
}

#[tokio::test]
async fn a_chip_is_found_under_every_shape_and_can_be_replaced() {
    let site = Site::open().await;
    let (account, number) = site.chip("72BF9961").await;
    for shape in ["72bf9961", "1925159265", "72:BF:99:61"] {
        assert_eq!(site.chip(shape).await, (account, number), "{shape}");
    }
    let (card_account, _) = site.chip("12345678901234").await;
    assert_ne!(card_account, account);
    let odd = site
        .send(Method::GET, "/v1/chips?number=72BF99", TOKEN, &[], None)
        .await;
    assert_eq!(odd.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let path = format!("/v1/chips/{number}/replace");
    let (status, taken) = site.post(&path, json!({ "chip": "A10A8925" })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{taken}");
    let (status, new) = site.post(&path, json!({ "chip": "0102030A" })).await;
    assert_eq!(
        (status, &new["account"]),
        (StatusCode::CREATED, &json!(account.0))
    );
    let old = site.get(&format!("/v1/chips/{number}")).await;
    assert_eq!(old["status"], "closed");
    assert_eq!(site.balance(account).await, 149_50);
    let back = site
        .post(&format!("/v1/chips/{number}/reactivate"), Value::Null)
        .await;
    assert_eq!(back.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_account_is_made_changed_blocked_and_closed() {
    let site = Site::open().await;
    let new = json!({ "canteen": 1, "holder": { "name": "Elev Demo 99", "class": "9.Z" },
        "limits": { "day": 2500 } });
    let (status, made) = site.post("/v1/accounts", new).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/v1/accounts/{}", made["id"]);
    let patch = async |body: Value| {
        let response = site
            .send(Method::PATCH, &path, TOKEN, &[], Some(body.to_string()))
            .await;
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let (_, changed) = patch(json!({ "limits": { "week": 10000 } })).await;
    assert_eq!(
        changed["limits"],
        json!({ "day": 2500, "week": 10000, "month": null, "mode": "lenient" })
    );
    let (_, changed) = patch(json!({ "limits": { "day": null } })).await;
    assert_eq!(
        changed["limits"],
        json!({ "day": null, "week": 10000, "month": null, "mode": "lenient" })
    );
    let (status, problem) = patch(json!({ "limits": { "week": -1 } })).await;
    assert_eq!(
        (status, &problem["type"]),
        (422, &json!("/problems/negative"))
    );
    let (status, problem) = patch(json!({ "limits": { "year": 1 } })).await;
    assert_eq!(
        (status, &problem["type"]),
        (422, &json!("/problems/invalid"))
    );
    let (_, blocked) = site.post(&format!("{path}/block"), Value::Null).await;
    assert_eq!(blocked["status"], "blocked");
    let (status, refused) = site
        .deposit(made["id"].as_i64().unwrap(), "k", r#"{"amount": 10000}"#)
        .await;
    assert_eq!(
        (status.as_u16(), &refused["type"]),
        (409, &json!("/problems/account-blocked"))
    );
    let (_, closed) = site.post(&format!("{path}/close"), Value::Null).await;
    assert_eq!(
        (&closed["status"], closed.get("holder")),
        (&json!("closed"), None)
    );
    let (status, _) = site.post(&format!("{path}/reactivate"), Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn lists_go_on_where_the_page_before_ended() {
    let site = Site::open().await;
    let seen = read_pages(&site, "accounts", 5).await;
    let seen: Vec<i64> = seen.iter().map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(seen.len(), 16);
    assert!(seen.is_sorted());

    // Each sale on an account that nobody knows is flagged.
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    for _ in 0..7 {
        till.sell((AccountId(999), 1), &[(1, "Ostehaps", 3_00)]);
    }
    till.push(&site, 1).await;
    let flags = read_pages(&site, "flags", 2).await;
    let flags: Vec<i64> = flags.iter().map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(flags.len(), 7, "{flags:?}");
    assert!(flags.is_sorted_by(|newer, older| newer > older));
}

/// What `id`s a list has, read a few at a time; a page that is exactly full may be the last one.
async fn read_pages(site: &Site, list: &str, limit: usize) -> Vec<Value> {
    let path = format!("/v1/{}?limit={limit}", list.replace('_', "-"));
    let mut seen = Vec::new();
    let mut page = site.get(&path).await;
    loop {
        let rows = page[list].as_array().unwrap();
        assert!(rows.len() <= limit, "{page}");
        seen.extend(rows.iter().map(|row| row["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        page = site.get(&format!("{path}&cursor={cursor}")).await;
    }
    let wrong = format!("{path}&cursor=x");
    let bad = site.send(Method::GET, &wrong, TOKEN, &[], None).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    seen
}

/// To what is not there, so that each is read and none does anything.
#[tokio::test]
async fn the_hub_takes_every_example_of_its_description() {
    let site = Site::open().await;
    let description = site.get("/openapi.json").await;
    let mut sent = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"];
            let Some(example) = body.get("example") else {
                continue;
            };
            let nowhere: Vec<&str> = path
                .split('/')
                .map(|part| {
                    if part.starts_with('{') {
                        "999999"
                    } else {
                        part
                    }
                })
                .collect();
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let key = ("idempotency-key", format!("example-{sent}"));
            let headers = [(key.0, key.1.as_str())];
            let text = Some(example.to_string());
            let response = site
                .send(method, &nowhere.join("/"), TOKEN, &headers, text)
                .await;
            let status = response.status().as_u16();
            let told = response.text().await.unwrap();
            assert!(
                matches!(status, 200 | 201 | 404),
                "{path} with {example}: {status} {told}"
            );
            sent += 1;
        }
    }
    assert_eq!(sent, 21);
}

#[tokio::test]
async fn the_description_of_the_api_is_the_committed_one() {
    let site = Site::open().await;
    let committed = include_str!("../openapi.json");
    let made = hubd::open_api().to_pretty_json().unwrap();
    assert!(
        committed.trim_end() == made.trim_end(),
        "the API has changed; run `cargo run -p hubd -- openapi > crates/hubd/openapi.json`"
    );
    let served: Value = site
        .client
        .get(format!("{}/openapi.json", site.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(served, serde_json::from_str::<Value>(committed).unwrap());
    assert_eq!(served["openapi"], "3.1.0");
    let docs = site
        .client
        .get(format!("{}/docs/", site.url))
        .send()
        .await
        .unwrap();
    assert!(docs.text().await.unwrap().contains("swagger-ui"));
    let script = site
        .client
        .get(format!("{}/docs/swagger-ui-bundle.js", site.url))
        .send()
        .await
        .unwrap();
    assert!(
        script.text().await.unwrap().len() > 100_000,
        "the page needs no network"
    );
}

#[tokio::test]
async fn a_guardian_reads_the_statement_in_danish() {
    let site = Site::open().await;
    let payer = site.chip("72BF9961").await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    till.sell(
        payer,
        &[(1, "Stor grovbolle", 5_00), (1, "<b>Ostehaps</b>", 3_00)],
    );
    till.push(&site, 1).await;
    let page = site
        .client
        .get(format!("{}/statements/{}", site.url, payer.0))
        .basic_auth("operator", Some(TOKEN))
        .send()
        .await
        .unwrap();
    assert_eq!(page.headers()["cache-control"], "no-store");
    let html = page.text().await.unwrap();
    for part in [
        "Kontoudskrift",
        "1x Stor grovbolle 5,00",
        "-8,00",
        "141,50 kr.",
        "Indbetaling",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(
        !html.contains("<b>"),
        "names from tills are text, not markup"
    );
    assert!(html.contains("Ingen grænser"), "{html}");
}

#[tokio::test]
async fn a_guardian_goes_from_month_to_month() {
    let site = Site::open().await;
    let payer = site.chip("72BF9961").await;
    let page = async |query: &str| {
        let page = site
            .client
            .get(format!("{}/statements/{}{query}", site.url, payer.0))
            .basic_auth("operator", Some(TOKEN))
            .send();
        page.await.unwrap().text().await.unwrap()
    };
    let check = async |query: &str, there: &[&str], not_there: &[&str]| {
        let html = page(query).await;
        for part in there {
            assert!(html.contains(part), "{query}: {part} is not in {html}");
        }
        for part in not_there {
            assert!(!html.contains(part), "{query}: {part} is in {html}");
        }
    };
    check(
        "",
        &["rel=\"prev\"", "Ind i perioden", ">149,50<"],
        &["rel=\"next\""],
    )
    .await;
    check(
        "?month=2024-12",
        &[
            "?month=2024-11\" rel=\"prev\">← november 2024<",
            "?month=2025-01\" rel=\"next\">januar 2025 →<",
            "01.12.2024 – 31.12.2024",
            "value=\"2024-12-31\"",
            "Ingen bevægelser i perioden",
        ],
        &["Ind i perioden"],
    )
    .await;
    check("?to=2024-12-31", &["rel=\"next\""], &["rel=\"prev\""]).await;
}

#[tokio::test]
async fn a_guardian_sees_which_limits_hold_how_and_what_is_left_of_them() {
    let site = Site::open().await;
    let payer = site.chip("72BF9961").await;
    let account = format!("/v1/accounts/{}", payer.0);
    let change = async |limits: Value| {
        let body = json!({ "limits": limits }).to_string();
        site.send(Method::PATCH, &account, TOKEN, &[], Some(body))
            .await
    };
    change(json!({ "day": 25_00, "month": 5_00, "mode": "strict" })).await;
    let mut till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
    till.sell(payer, &[(1, "Stor grovbolle", 8_00)]);
    till.push(&site, 1).await;
    for path in [account.clone(), format!("{account}/statement")] {
        let told = site.get(&path).await;
        let limits = json!({ "day": 25_00, "week": null, "month": 5_00, "mode": "strict" });
        assert_eq!(told["limits"], limits, "{path}");
        let left = json!({ "day": 17_00, "week": null, "month": 0 });
        assert_eq!(told["left"], left, "{path}");
        assert_eq!(told["spent"]["week"], 8_00, "{path}");
    }
    let page = async || {
        let page = site
            .client
            .get(format!("{}/statements/{}", site.url, payer.0))
            .basic_auth("operator", Some(TOKEN))
            .send();
        page.await.unwrap().text().await.unwrap()
    };
    let strict = page().await;
    for part in [
        "Daily limit</span></dt><dd>25,00 kr. – brugt 8,00 kr., <strong>tilbage 17,00 kr.",
        "Monthly limit</span></dt><dd>5,00 kr. – brugt 8,00 kr., <strong>tilbage 0,00 kr.",
        "Limits hold</span></dt><dd>altid;",
    ] {
        assert!(strict.contains(part), "{part} is not in {strict}");
    }
    assert!(!strict.contains("ugentligt"), "{strict}");
    change(json!({ "mode": "lenient" })).await;
    assert!(page().await.contains("ved hver kasse for sig"));
}
