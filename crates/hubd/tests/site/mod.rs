//! A hub on a free port with the demo data, and what talks to it.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::path::Path;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use canteen::{AccountId, BusinessDay, Money, TopUpOutcome};
use hub_ledger::{Fingerprint, HubLedger, TopUpRules};
use hub_payments::{CardAgreement, NexiConfig, NexiGateway, Simulator};
use hubd::access::OperatorAccess;
use hubd::books::Books;
use hubd::server::{Hub, serve};
use hubd::worker::{Clock, Worker};
use jiff::Timestamp;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use sync_proto::{
    Batch, BatchAnswer, EnrolAnswer, EntryBody, EntryHash, EntryHeader, EntryTexts, Epoch,
    FeedPage, FeedPosition, Head, HubKey, NumberedEntry, PROTO, Sale, SaleLine, TillKey,
    TillPosition, TillReport,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

pub(crate) const TOKEN: &str = "demo-operator-token";
pub(crate) const OTHER_TENANT: &str = "other-operator-token";

pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) books: Books,
    stop: Option<oneshot::Sender<()>>,
    _stopping: watch::Sender<bool>,
    _dir: TempDir,
}

impl Site {
    pub(crate) async fn open() -> Site {
        install_tls();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/demo.toml");
        let mut ledger = HubLedger::open(&path, 7, TopUpRules::default()).unwrap();
        hubd::load::load(&mut ledger, &demo, Timestamp::now()).unwrap();
        ledger.tenant_named("Anden Kommune").unwrap();
        drop(ledger);
        let (books, _writer) = Books::open(&path, TopUpRules::default()).unwrap();
        let operator = |name: &str, token: &str, tenant: Option<&str>| OperatorAccess {
            name: name.to_owned(),
            token: Fingerprint::of(token),
            tenant: tenant.map(str::to_owned),
        };
        let operators = vec![
            operator("demo", TOKEN, None),
            operator("anden", OTHER_TENANT, Some("Anden Kommune")),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stopping_sender, stopping) = watch::channel(false);
        let hub = Hub::new(
            books.clone(),
            operators,
            HubKey::from_seed(&[7; 32]),
            stopping,
        )
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        tokio::spawn(async move { serve(listener, hub, stopped).await.unwrap() });
        Site {
            url,
            client: Client::new(),
            books,
            stop: Some(stop),
            _stopping: stopping_sender,
            _dir: dir,
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Response {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.send(Method::GET, path, TOKEN, &[], None).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self
            .send(Method::POST, path, TOKEN, &[], Some(body.to_string()))
            .await;
        let status = response.status();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    pub(crate) async fn deposit(&self, account: i64, key: &str, body: &str) -> (StatusCode, Value) {
        let path = format!("/v1/accounts/{account}/deposits");
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_owned());
        let response = self.send(Method::POST, &path, TOKEN, &headers, body).await;
        let status = response.status();
        (status, response.json().await.unwrap())
    }

    /// Account and chip number of a demo chip.
    pub(crate) async fn chip(&self, number: &str) -> (AccountId, i64) {
        let found = self.get(&format!("/v1/chips?number={number}")).await;
        let chip = &found["chips"][0];
        (
            AccountId(chip["account"].as_i64().unwrap()),
            chip["number"].as_i64().unwrap(),
        )
    }

    pub(crate) async fn balance(&self, account: AccountId) -> i64 {
        let account = self.get(&format!("/v1/accounts/{account}")).await;
        account["balance"].as_i64().unwrap()
    }

    pub(crate) async fn till(&self, name: &str, code: &str, seed: u8) -> Till {
        let key = TillKey::from_seed(&[seed; 32]);
        let epoch = Epoch(u64::from(seed));
        let request = json!({
            "till": name, "code": code, "epoch": epoch.to_string(),
            "public_key": key.public().to_string(),
        });
        let response = self.post("/v1/enrolments", request).await;
        assert_eq!(response.0, StatusCode::OK, "{}", response.1);
        let answer: EnrolAnswer = serde_json::from_value(response.1).unwrap();
        let till = name.parse().unwrap();
        Till {
            genesis: EntryHash::genesis(&till, epoch, &key.public()),
            name: name.to_owned(),
            token: answer.token,
            key,
            epoch,
            feed: FeedPosition::default(),
            entries: Vec::new(),
            address: None,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// A till made by hand from the protocol alone.
pub(crate) struct Till {
    pub(crate) name: String,
    pub(crate) token: String,
    key: TillKey,
    epoch: Epoch,
    genesis: EntryHash,
    /// What it writes into its entries.
    pub(crate) feed: FeedPosition,
    entries: Vec<(EntryTexts, EntryHash)>,
    /// Where it says that its entries can be fetched.
    pub(crate) address: Option<String>,
}

impl Till {
    pub(crate) fn sell(&mut self, (account, chip): (AccountId, i64), lines: &[(u32, &str, i64)]) {
        let lines: Vec<SaleLine> = lines
            .iter()
            .map(|(quantity, text, price)| SaleLine {
                quantity: *quantity,
                text: (*text).to_owned(),
                unit_price: Money::from_ore(*price),
                amount: Money::from_ore(*price * i64::from(*quantity)),
            })
            .collect();
        let amount = Money::checked_sum(lines.iter().map(|line| line.amount)).unwrap();
        self.write(&EntryBody::Sale(Sale {
            account,
            chip,
            amount,
            lines,
            balance_after: Money::ZERO,
            online: true,
            top_up: TopUpOutcome::None,
        }));
    }

    pub(crate) fn write(&mut self, body: &EntryBody) {
        let now = Timestamp::now();
        let header = EntryHeader {
            id: Uuid::from_u128(u128::from(self.epoch.0) << 64 | self.entries.len() as u128),
            ts: now.to_string(),
            bt: 0,
            boot: Uuid::nil(),
            day: BusinessDay::of(now),
            fc: self.feed,
            kind: String::new(),
            version: 1,
        };
        let texts = EntryTexts::write(header, body).unwrap();
        let before = self.entries.last().map_or(self.genesis, |(_, hash)| *hash);
        let till = self.name.parse().unwrap();
        let seq = self.entries.len() as u64 + 1;
        let hash = before.next(&till, self.epoch, seq, &texts);
        self.entries.push((texts, hash));
    }

    /// Sequence number of its last entry.
    pub(crate) fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// A batch of the entries from a number on.
    pub(crate) fn batch(&self, first_seq: u64) -> Batch {
        let till = self.name.parse().unwrap();
        let before = first_seq as usize - 1;
        let head = Head {
            seq: self.entries.len() as u64,
            hash: self.entries.last().unwrap().1,
        };
        Batch {
            holes: Vec::new(),
            proto: PROTO,
            epoch: self.epoch,
            first_seq,
            prev_hash: before
                .checked_sub(1)
                .map_or(self.genesis, |last| self.entries[last].1),
            entries: self.entries[before..]
                .iter()
                .zip(first_seq..)
                .map(|((texts, _), seq)| NumberedEntry {
                    seq,
                    texts: texts.clone(),
                })
                .collect(),
            head,
            signature: head.sign(&till, self.epoch, &self.key),
            report: TillReport {
                till_time: Timestamp::now().to_string(),
                unsent: 0,
                version: "0.1.0".to_owned(),
                address: self.address.clone(),
            },
            till,
        }
    }

    pub(crate) async fn push(&self, site: &Site, first_seq: u64) -> BatchAnswer {
        let body = serde_json::to_string(&self.batch(first_seq)).unwrap();
        let path = format!("/v1/tills/{}/batches", self.name);
        let response = site
            .send(Method::POST, &path, &self.token, &[], Some(body))
            .await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// Where it stands when it knows that the hub has the entries up to `acked_seq`.
    pub(crate) fn position(&self, acked_seq: usize) -> TillPosition {
        let hash = |seq: usize| match seq {
            0 => self.genesis,
            seq => self.entries[seq - 1].1,
        };
        TillPosition {
            epoch: self.epoch,
            head_seq: self.entries.len() as u64,
            head_hash: hash(self.entries.len()),
            acked_seq: acked_seq as u64,
            acked_hash: hash(acked_seq),
        }
    }

    /// Asks for data, telling where it stands.
    pub(crate) async fn ask(
        &self,
        site: &Site,
        what: &str,
        query: &str,
        position: &TillPosition,
    ) -> Response {
        let url = format!("{}/v1/tills/{}/{what}?{query}", site.url, self.name);
        site.client
            .get(url)
            .query(position)
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn feed(&self, site: &Site, at: FeedPosition, wait: u64) -> FeedPage {
        let path = format!(
            "/v1/tills/{}/feed?hub_epoch={}&cursor={}&wait={wait}",
            self.name, at.hub_epoch, at.cursor
        );
        let response = site.send(Method::GET, &path, &self.token, &[], None).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }
}

/// The simulator, a worker that talks to it over HTTP, and a clock that can be put ahead.
pub(crate) struct Cards {
    pub(crate) simulator: Simulator,
    pub(crate) worker: Worker,
    ahead: Arc<Mutex<Duration>>,
    _dir: TempDir,
}

impl Cards {
    pub(crate) async fn open(site: &Site) -> Cards {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        simulator.create_agreement(&card()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "demo-secret-key").unwrap();
        let mut config = NexiConfig::new(simulator.url(), &secret);
        config.timeout = Duration::from_secs(2);
        let gateway = Arc::new(NexiGateway::open(&config).unwrap());
        let ahead = Arc::new(Mutex::new(Duration::ZERO));
        let told = Arc::clone(&ahead);
        let clock: Clock = Arc::new(move || Timestamp::now() + *told.lock().unwrap());
        Cards {
            worker: Worker::new(site.books.clone(), gateway, clock),
            simulator,
            ahead,
            _dir: dir,
        }
    }

    /// Lets time pass at the hub and at the gateway, and lets the worker work.
    pub(crate) async fn after(&self, seconds: u32) {
        *self.ahead.lock().unwrap() += Duration::from_secs(seconds.into());
        self.simulator.advance(seconds).unwrap();
        self.worker.run_once().await.unwrap();
    }

    /// How often the card really paid.
    pub(crate) fn paid(&self) -> usize {
        self.simulator
            .charges()
            .iter()
            .filter(|charge| charge.took_money())
            .count()
    }
}

pub(crate) fn card() -> CardAgreement {
    "demo-card-1".parse().unwrap()
}

fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
    });
}
