//! The suite against the project's own hub, which keeps to the protocol, and against hubs that lie.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Once;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, body};
use hub_conformance::{Report, Target, Verdict, run};
use hub_ledger::{HubLedger, TopUpRules};
use hubd::books::Books;
use hubd::server::{Hub, serve};
use serde_json::{Value, json};
use sync_proto::HubKey;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

struct OwnHub {
    url: String,
    _stop: watch::Sender<bool>,
    _dir: TempDir,
}

/// The project's hub with the demo's data.
async fn own_hub() -> OwnHub {
    static TLS: Once = Once::new();
    TLS.call_once(|| {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/demo.toml");
    let mut ledger = HubLedger::open(&path, 7, TopUpRules::default()).unwrap();
    hubd::load::load(&mut ledger, &demo, jiff::Timestamp::now()).unwrap();
    drop(ledger);
    let (books, _) = Books::open(&path, TopUpRules::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopping) = watch::channel(false);
    let key = HubKey::from_seed(&[7; 32]);
    let hub = Hub::new(books, Vec::new(), key, stopping).unwrap();
    tokio::spawn(async move { serve(listener, hub, std::future::pending()).await.unwrap() });
    OwnHub {
        url,
        _stop: stop,
        _dir: dir,
    }
}

async fn reports(url: &str) -> BTreeMap<&'static str, Report> {
    let target = Target {
        url: url.to_owned(),
        till: "kasse-1".parse().unwrap(),
        code: "DEMO-KASSE-1".to_owned(),
    };
    let reports = run(&target, |report| println!("{report}")).await.unwrap();
    reports
        .into_iter()
        .map(|report| (report.id, report))
        .collect()
}

#[tokio::test]
async fn the_own_hub_keeps_to_the_protocol() {
    let hub = own_hub().await;
    let reports = reports(&hub.url).await;
    for report in reports.values() {
        assert!(!matches!(report.verdict, Verdict::Violated(_)), "{report}");
    }
    assert_eq!(reports["LIM-05"].verdict, Verdict::Holds);
}

/// A way to lie: sees the request's path and the hub's answer, and may give another.
type Lie = fn(&str, StatusCode, Value) -> (StatusCode, Value);

#[derive(Clone)]
struct Liar {
    hub: String,
    http: reqwest::Client,
    lie: Lie,
}

/// Stands before a hub and changes its answers.
async fn liar(hub: &OwnHub, lie: Lie) -> String {
    let liar = Liar {
        hub: hub.url.clone(),
        http: reqwest::Client::new(),
        lie,
    };
    let router = Router::new().fallback(pass).with_state(liar);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn pass(State(liar): State<Liar>, request: Request) -> Response {
    let path = request.uri().to_string();
    let (parts, sent) = request.into_parts();
    let sent: Bytes = body::to_bytes(sent, usize::MAX).await.unwrap();
    let method = Method::from_bytes(parts.method.as_str().as_bytes()).unwrap();
    let mut asking = liar
        .http
        .request(method, format!("{}{path}", liar.hub))
        .body(sent);
    for name in ["authorization", "content-type"] {
        if let Some(value) = parts.headers.get(name) {
            asking = asking.header(name, value);
        }
    }
    let answer = asking.send().await.unwrap();
    let status = answer.status();
    let bytes = answer.bytes().await.unwrap();
    match serde_json::from_slice(&bytes) {
        Ok(told) => {
            let (status, told) = (liar.lie)(&path, status, told);
            (status, axum::Json(told)).into_response()
        }
        Err(_) => (status, bytes).into_response(),
    }
}

async fn check_found(lie: Lie, ids: &[&str]) {
    let hub = own_hub().await;
    let reports = reports(&liar(&hub, lie).await).await;
    for id in ids {
        let report = &reports[id];
        assert!(matches!(report.verdict, Verdict::Violated(_)), "{report}");
    }
}

#[tokio::test]
async fn a_hub_that_refuses_for_ever_what_it_cannot_read_is_found() {
    fn lie(path: &str, status: StatusCode, told: Value) -> (StatusCode, Value) {
        let quarantined = told["results"]
            .as_array()
            .is_some_and(|results| results.iter().any(|result| result["st"] == "quarantined"));
        if path.ends_with("/batches") && quarantined {
            return (
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({"code": "invalid", "detail": "an entry cannot be read"}),
            );
        }
        (status, told)
    }
    check_found(lie, &["SY-20", "SY-30"]).await;
}

#[tokio::test]
async fn a_hub_that_gives_a_copied_till_data_is_found() {
    fn lie(path: &str, status: StatusCode, told: Value) -> (StatusCode, Value) {
        if path.contains("/feed") && status == StatusCode::CONFLICT {
            let page = json!({"hub_epoch": 7, "from": 0, "to": 0, "more": false,
                "hub_time": "2026-11-20T10:00:00Z", "changes": []});
            return (StatusCode::OK, page);
        }
        (status, told)
    }
    check_found(lie, &["SY-23"]).await;
}

#[tokio::test]
async fn a_hub_that_lets_tills_sell_strict_limits_without_a_share_is_found() {
    fn lie(path: &str, status: StatusCode, mut told: Value) -> (StatusCode, Value) {
        if path.contains("/feed") {
            for change in told["changes"].as_array_mut().into_iter().flatten() {
                if change["d"]["limits"]["strict"] == true {
                    change["d"]["ceiling"] = 50_00.into();
                }
            }
        }
        (status, told)
    }
    check_found(lie, &["LIM-05"]).await;
}

#[tokio::test]
async fn a_hub_that_does_not_sign_is_found() {
    // What stands between takes the signatures away.
    check_found(|_, status, told| (status, told), &["SY-39"]).await;
}

#[tokio::test]
async fn a_hub_that_forgets_what_its_positions_contain_is_found() {
    fn lie(path: &str, status: StatusCode, mut told: Value) -> (StatusCode, Value) {
        if path.contains("/feed") {
            for change in told["changes"].as_array_mut().into_iter().flatten() {
                if change["k"] == "account" {
                    change["d"]["incl_seq"] = 0.into();
                }
            }
        }
        (status, told)
    }
    check_found(lie, &["SY-01"]).await;
}
