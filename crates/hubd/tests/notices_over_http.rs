//! Notices on their way to a real receiver over HTTP, which is down, out of order, and up again.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hub_payments::simulator::{Script, ScriptedOutcome};
use hubd::courier::{Courier, Receiver};
use hubd::worker::Clock;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use site::{Cards, OTHER_TENANT, Site, Till, card};
use tokio::net::TcpSocket;

/// A receiver of notices whose address is there before anybody listens on it.
struct Portal {
    socket: Option<TcpSocket>,
    address: SocketAddr,
    desk: Desk,
}

/// What the receiver answers, and what came.
#[derive(Clone, Default)]
struct Desk {
    out_of_order: Arc<Mutex<bool>>,
    came: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Portal {
    fn new() -> Portal {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Portal {
            address: socket.local_addr().unwrap(),
            socket: Some(socket),
            desk: Desk::default(),
        }
    }

    /// From here on somebody listens.
    fn start(&mut self) {
        let listener = self.socket.take().unwrap().listen(16).unwrap();
        let router = Router::new()
            .route("/notices", post(take))
            .with_state(self.desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }

    fn came(&self) -> Vec<(HeaderMap, Value)> {
        self.desk.came.lock().unwrap().clone()
    }
}

async fn take(State(desk): State<Desk>, headers: HeaderMap, body: String) -> StatusCode {
    let body = serde_json::from_str(&body).unwrap();
    desk.came.lock().unwrap().push((headers, body));
    if *desk.out_of_order.lock().unwrap() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    }
}

/// Demo account 1, its card, and a courier whose clock can be put ahead.
struct Post {
    site: Site,
    cards: Cards,
    till: Till,
    payer: (canteen::AccountId, i64),
    portal: Portal,
    courier: Courier,
    ahead: Arc<Mutex<Duration>>,
    _secret: tempfile::TempDir,
}

impl Post {
    async fn begin() -> Post {
        let site = Site::open().await;
        let cards = Cards::open(&site).await;
        let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
        let payer = site.chip("72BF9961").await;
        let portal = Portal::new();
        let secret = tempfile::tempdir().unwrap();
        let file = secret.path().join("secret");
        std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let url = format!("http://{}/notices", portal.address);
        let receiver = Receiver::open(&url, &file).unwrap();
        let ahead = Arc::new(Mutex::new(Duration::ZERO));
        let told = Arc::clone(&ahead);
        let clock: Clock = Arc::new(move || Timestamp::now() + *told.lock().unwrap());
        Post {
            courier: Courier::new(site.books.clone(), receiver, clock).unwrap(),
            site,
            cards,
            till,
            payer,
            portal,
            ahead,
            _secret: secret,
        }
    }

    /// Buys for 120 of 149,50 kr while the card has no money.
    async fn be_declined(&mut self) {
        let script = Script::once(ScriptedOutcome::NoFunds);
        self.cards.simulator.script(&card(), script).unwrap();
        self.till.sell(self.payer, &[(1, "Dagens ret", 120_00)]);
        self.till.push(&self.site, 1).await;
        self.cards.after(0).await;
    }

    async fn courier_after(&self, seconds: u64) {
        *self.ahead.lock().unwrap() += Duration::from_secs(seconds);
        self.courier.run_once().await.unwrap();
    }

    async fn undelivered(&self) -> Vec<Value> {
        let page = self.site.get("/v1/notices?undelivered=true").await;
        page["notices"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn tu_48_notices_wait_for_their_receiver_and_money_does_not() {
    let mut post = Post::begin().await;
    let account = post.payer.0;
    post.be_declined().await;
    // Nobody listens.
    for (seconds, attempts) in [(0, 1), (30, 2), (60, 3)] {
        post.courier_after(seconds).await;
        let waiting = post.undelivered().await;
        let [notice] = waiting.as_slice() else {
            panic!("{waiting:?}");
        };
        assert_eq!(
            (&notice["reason"], &notice["attempts"], &notice["state"]),
            (&json!("declined"), &json!(attempts), &json!("waiting"))
        );
        assert_eq!(notice["failure"], "cannot be reached");
    }
    // Meanwhile money is paid in, and the account's own page of notices has it too.
    let paid_in = post.site.deposit(account.0, "k", r#"{"amount": 5000}"#);
    assert_eq!(paid_in.await.0, reqwest::StatusCode::CREATED);
    assert_eq!(post.site.balance(account).await, 79_50);
    let path = format!("/v1/accounts/{account}/notices");
    let of_account = post.site.get(&path).await;
    assert_eq!(of_account["notices"][0]["state"], "waiting");

    // Somebody listens, but is out of order.
    *post.portal.desk.out_of_order.lock().unwrap() = true;
    post.portal.start();
    post.courier_after(10).await;
    assert_eq!(post.portal.came().len(), 0, "it is not time yet");
    post.courier_after(300).await;
    let waiting = post.undelivered().await;
    assert_eq!(waiting[0]["failure"], "answered with HTTP status 500");
    // All is well, and it is taken once.
    *post.portal.desk.out_of_order.lock().unwrap() = false;
    for _ in 0..2 {
        post.courier_after(4000).await;
    }
    assert_eq!(post.undelivered().await, [Value::Null; 0]);
    let came = post.portal.came();
    let [(first_headers, first), (headers, message)] = came.as_slice() else {
        panic!("{came:?}");
    };
    assert_eq!(first, message);
    for name in ["idempotency-key", "webhook-id"] {
        assert_eq!(first_headers[name], headers[name]);
        assert_eq!(headers[name].to_str().unwrap(), message["id"]);
    }
    assert!(
        headers["webhook-signature"]
            .to_str()
            .unwrap()
            .starts_with("v1,")
    );
    let facts = (&message["reason"], &message["account"], &message["amount"]);
    assert_eq!(
        facts,
        (&json!("declined"), &json!(account.0), &json!(300_00))
    );
    assert_eq!(message["first_name"], "Elev");
    let danish = message["texts"]["da"].as_str().unwrap();
    assert!(danish.contains("300,00 kr. til Elev"), "{danish}");
    assert!(!message.to_string().contains("Dagens ret"), "{message}");
}

#[tokio::test]
async fn no_tenant_sees_the_notices_of_another() {
    let mut post = Post::begin().await;
    post.be_declined().await;
    let site = &post.site;
    let get =
        |path: String| async move { site.send(Method::GET, &path, OTHER_TENANT, &[], None).await };
    let all = get("/v1/notices".to_owned()).await;
    assert_eq!(all.json::<Value>().await.unwrap()["notices"], json!([]));
    let of_account = get(format!("/v1/accounts/{}/notices", post.payer.0)).await;
    assert_eq!(of_account.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_courier_works_by_itself_and_stops_when_asked() {
    let mut post = Post::begin().await;
    post.portal.start();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let courier = tokio::spawn(post.courier.clone().run(stopping));
    post.be_declined().await;
    let began = std::time::Instant::now();
    while post.portal.came().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(true).unwrap();
    courier.await.unwrap();
}
