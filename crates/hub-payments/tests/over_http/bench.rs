//! An adapter, a simulator, and servers that answer as they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use canteen::Money;
use hub_payments::simulator::Opening;
use hub_payments::{
    AttemptReference, CardAgreement, Charge, NexiConfig, NexiGateway, PaymentGateway, Simulator,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A gateway adapter with its secret file.
pub(crate) struct Bench {
    pub(crate) gateway: Arc<dyn PaymentGateway>,
    _directory: TempDir,
}

pub(crate) fn open_gateway(url: &str, timeout: Duration) -> Bench {
    // Another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let secret_file = directory.path().join("secret");
    std::fs::write(&secret_file, format!("{SECRET}\n")).expect("a written secret");
    let mut config = NexiConfig::new(url, secret_file);
    config.timeout = timeout;
    let gateway = NexiGateway::open(&config).expect("a gateway");
    assert!(!format!("{gateway:?}").contains(SECRET));
    Bench {
        gateway: Arc::new(gateway),
        _directory: directory,
    }
}

pub(crate) async fn start_simulator() -> Simulator {
    let opening = Opening {
        secret: Some(SECRET.to_owned()),
        agreements: vec![agreement()],
        ..Opening::default()
    };
    Simulator::open(ANY_PORT, opening)
        .await
        .expect("a simulator")
}

pub(crate) fn agreement() -> CardAgreement {
    "demo-card".parse().expect("a good id")
}

pub(crate) fn new_charge() -> Charge {
    Charge {
        reference: AttemptReference::draw().expect("randomness"),
        agreement: agreement(),
        amount: Money::from_ore(20_000),
    }
}

/// A server that gives every connection the same bytes, after its request has come in.
pub(crate) async fn answer_always(answer: &'static str) -> String {
    answer_in_turn(vec![answer]).await
}

/// A server that gives the connections these bytes in turn, and the last ones to all that follow.
pub(crate) async fn answer_in_turn(answers: Vec<&'static str>) -> String {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut turn = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0_u8; 8192];
            let _ = stream.read(&mut request).await;
            let answer = answers[turn.min(answers.len() - 1)];
            let _ = stream.write_all(answer.as_bytes()).await;
            turn += 1;
        }
    });
    format!("http://{address}")
}

pub(crate) const SECRET: &str = "test-secret-key-5d41402abc";

pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) const PATIENT: Duration = Duration::from_secs(10);
