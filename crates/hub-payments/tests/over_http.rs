//! The Nexi Checkout adapter and the simulator over real HTTP on this machine.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use canteen::Money;
use hub_payments::conformance::{self, Breach};
use hub_payments::simulator::{ChargeResult, Opening, Script, ScriptedOutcome};
use hub_payments::{
    Answer, AttemptReference, Capabilities, CardAgreement, Charge, Decline, EndedAgreement,
    GatewayError, NexiConfig, NexiConfigError, NexiGateway, Outcome, PaymentGateway, Refund,
    Simulator,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECRET: &str = "test-secret-key-5d41402abc";
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A gateway adapter with its secret file.
struct Bench {
    gateway: Arc<dyn PaymentGateway>,
    _directory: TempDir,
}

fn open_gateway(url: &str, timeout: Duration) -> Bench {
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

async fn start_simulator() -> Simulator {
    let opening = Opening {
        secret: Some(SECRET.to_owned()),
        agreements: vec![agreement()],
        ..Opening::default()
    };
    Simulator::open(ANY_PORT, opening)
        .await
        .expect("a simulator")
}

fn agreement() -> CardAgreement {
    "demo-card".parse().expect("a good id")
}

fn new_charge() -> Charge {
    Charge {
        reference: AttemptReference::draw().expect("randomness"),
        agreement: agreement(),
        amount: Money::from_ore(20_000),
    }
}

const PATIENT: Duration = Duration::from_secs(10);

/// A server that gives every connection the same bytes, after its request has come in.
async fn answer_always(answer: &'static str) -> String {
    answer_in_turn(vec![answer]).await
}

/// A server that gives the connections these bytes in turn, and the last ones to all that follow.
async fn answer_in_turn(answers: Vec<&'static str>) -> String {
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

#[tokio::test]
async fn the_nexi_adapter_keeps_the_whole_contract() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    if let Err(breach) = conformance::check(bench.gateway.as_ref(), &simulator).await {
        panic!("{breach}");
    }
}

/// An adapter that makes one classic mistake: what failed, it believes, was not charged.
struct HastyGateway(Arc<dyn PaymentGateway>);

impl PaymentGateway for HastyGateway {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn charge<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Outcome> {
        Box::pin(async {
            match self.0.charge(charge).await {
                Err(GatewayError::Unknown { reason, .. }) => Ok(Outcome::Declined {
                    decline: Decline::Soft,
                    code: String::new(),
                    text: reason,
                }),
                other => other,
            }
        })
    }

    fn look_up<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Option<Outcome>> {
        self.0.look_up(charge)
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> Answer<'a, Outcome> {
        self.0.refund(refund)
    }

    fn end_agreement<'a>(&'a self, agreement: &'a CardAgreement) -> Answer<'a, EndedAgreement> {
        self.0.end_agreement(agreement)
    }
}

#[tokio::test]
async fn the_contract_catches_an_adapter_that_takes_a_lost_answer_for_a_decline() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let hasty = HastyGateway(Arc::clone(&bench.gateway));
    match conformance::check(&hasty, &simulator).await {
        Err(Breach::Clause { clause, got, .. }) => {
            assert_eq!(clause, "a charge without a proper answer is unknown");
            assert_eq!(got, "declined Soft");
        }
        other => panic!("the mistake was not caught: {other:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let check = async |url: String| {
        let bench = open_gateway(&url, PATIENT);
        let charge = new_charge();
        let answer = bench.gateway.charge(&charge).await;
        assert!(
            matches!(answer, Err(GatewayError::NotSent { .. })),
            "{url}: {answer:?}"
        );
        let answer = bench.gateway.look_up(&charge).await;
        assert!(
            matches!(answer, Err(GatewayError::NotSent { .. })),
            "{url}: {answer:?}"
        );
    };
    check(format!("http://{address}")).await;
    // A server that speaks no TLS: the handshake fails before a byte of the request leaves.
    let plain = answer_always("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    check(plain.replace("http://", "https://")).await;
    // A label of more than 63 characters is no name, so the resolver fails without asking anybody.
    check(format!("https://{}.dk", "a".repeat(64))).await;
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_found_paid_and_was_charged_once() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let lost = Script::once(ScriptedOutcome::AnswerLost);
    simulator.script(&agreement(), lost).expect("scripted");
    let charge = new_charge();
    let answer = bench.gateway.charge(&charge).await;
    assert!(
        matches!(answer, Err(GatewayError::Unknown { .. })),
        "{answer:?}"
    );
    let outcome = bench.gateway.look_up(&charge).await.expect("an answer");
    let charges = simulator.charges();
    assert_eq!(charges.len(), 1);
    assert_eq!(
        (charges[0].result, charges[0].requests),
        (ChargeResult::Paid, 1)
    );
    let expected = Outcome::Paid {
        transaction: charges[0].charge.parse().expect("an id"),
        amount: charge.amount,
    };
    assert_eq!(outcome, Some(expected));
}

#[tokio::test]
async fn a_late_answer_is_unknown_and_the_charge_stands() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), Duration::from_millis(300));
    let late = Script {
        answer_delay_seconds: 5,
        ..Script::once(ScriptedOutcome::Approve)
    };
    simulator.script(&agreement(), late).expect("scripted");
    let charge = new_charge();
    let answer = bench.gateway.charge(&charge).await;
    assert!(
        matches!(answer, Err(GatewayError::Unknown { .. })),
        "{answer:?}"
    );
    let outcome = bench.gateway.look_up(&charge).await.expect("an answer");
    assert!(matches!(outcome, Some(Outcome::Paid { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_request_that_is_still_on_its_way_is_not_found_first_and_paid_later() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), Duration::from_millis(300));
    let slow = Script {
        delay_seconds: 1,
        ..Script::once(ScriptedOutcome::Approve)
    };
    simulator.script(&agreement(), slow).expect("scripted");
    let charge = new_charge();
    let answer = bench.gateway.charge(&charge).await;
    assert!(
        matches!(answer, Err(GatewayError::Unknown { .. })),
        "{answer:?}"
    );
    assert_eq!(
        bench.gateway.look_up(&charge).await.expect("an answer"),
        None
    );
    for _ in 0..100 {
        if !simulator.charges().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcome = bench.gateway.look_up(&charge).await.expect("an answer");
    assert!(matches!(outcome, Some(Outcome::Paid { .. })), "{outcome:?}");
    assert_eq!(simulator.charges().len(), 1);
}

#[tokio::test]
async fn strange_answers_are_unknown_and_clear_ones_are_read() {
    let check = async |answer: &'static str, expected: &str| {
        let url = answer_always(answer).await;
        let bench = open_gateway(&url, PATIENT);
        let told = match bench.gateway.charge(&new_charge()).await {
            Err(GatewayError::Unknown { .. }) => "unknown".to_owned(),
            Err(GatewayError::Invalid { status, .. }) => format!("invalid {status:?}"),
            Err(GatewayError::Busy { retry_after }) => format!("busy {retry_after:?}"),
            Err(GatewayError::NotSent { .. }) => "not sent".to_owned(),
            Ok(Outcome::Declined { decline, code, .. }) => format!("{decline:?} {code}"),
            Ok(other) => format!("{other:?}"),
        };
        assert_eq!(told, expected, "{answer:?}");
    };
    check("", "unknown").await;
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"pay",
        "unknown",
    )
    .await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "unknown").await;
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "unknown",
    )
    .await;
    check(
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "unknown",
    )
    .await;
    check(
        "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n",
        "unknown",
    )
    .await;
    check("HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "unknown").await;
    check("SSH-2.0-OpenSSH_9.2\r\n", "unknown").await;
    check(
        "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        "invalid Some(401)",
    )
    .await;
    check(
        "HTTP/1.1 429 Slow\r\nRetry-After: 12\r\nContent-Length: 0\r\n\r\n",
        "busy Some(12s)",
    )
    .await;
    check(
        "HTTP/1.1 429 Slow\r\nRetry-After: Fri, 20 Nov 2026 08:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        "busy None",
    )
    .await;
    check(
        "HTTP/1.1 402 No\r\nContent-Length: 36\r\n\r\n{\"code\":\"Z9\",\"source\":\"somewhere new\"}",
        "Soft ",
    )
    .await;
    check(
        "HTTP/1.1 402 No\r\nContent-Length: 38\r\n\r\n{\"code\":\"Z9\",\"source\":\"somewhere new\"}",
        "Soft Z9",
    )
    .await;
}

#[tokio::test]
async fn a_charge_that_was_accepted_but_cannot_be_confirmed_is_unknown() {
    let accepted = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 34\r\n\r\n\
                    {\"paymentId\":\"p1\",\"chargeId\":\"c1\"}";
    for confirmation in [
        "",
        "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ] {
        let url = answer_in_turn(vec![accepted, confirmation]).await;
        let bench = open_gateway(&url, PATIENT);
        let answer = bench.gateway.charge(&new_charge()).await;
        let Err(GatewayError::Unknown { reason, .. }) = answer else {
            panic!("{confirmation:?}: {answer:?}");
        };
        assert!(
            reason.contains("could not be confirmed"),
            "{confirmation:?}: {reason}"
        );
    }
}

#[tokio::test]
async fn a_404_from_some_other_server_is_never_not_found() {
    let url = answer_always("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let bench = open_gateway(&url, PATIENT);
    let answer = bench.gateway.look_up(&new_charge()).await;
    let invalid = matches!(
        answer,
        Err(GatewayError::Invalid {
            status: Some(404),
            ..
        })
    );
    assert!(invalid, "{answer:?}");
}

#[tokio::test]
async fn a_wrong_key_is_invalid_and_is_not_in_the_error() {
    let opening = Opening {
        secret: Some("another-key".to_owned()),
        agreements: vec![agreement()],
        ..Opening::default()
    };
    let simulator = Simulator::open(ANY_PORT, opening)
        .await
        .expect("a simulator");
    let bench = open_gateway(simulator.url(), PATIENT);
    let answer = bench.gateway.charge(&new_charge()).await;
    let invalid = matches!(
        answer,
        Err(GatewayError::Invalid {
            status: Some(401),
            ..
        })
    );
    assert!(invalid, "{answer:?}");
    assert!(!format!("{answer:?}").contains(SECRET));
    assert!(simulator.charges().is_empty());
}

#[tokio::test]
async fn a_simulator_that_is_killed_forgets_no_charge() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let opening = Opening {
        state_file: Some(directory.path().join("state.json")),
        agreements: vec![agreement()],
        ..Opening::default()
    };
    let simulator = Simulator::open(ANY_PORT, opening.clone())
        .await
        .expect("a simulator");
    let address = simulator.address();
    let bench = open_gateway(simulator.url(), PATIENT);
    let charge = new_charge();
    let paid = bench.gateway.charge(&charge).await.expect("paid");
    simulator.advance(60).expect("advanced");
    simulator.stop().await;
    let answer = bench.gateway.look_up(&charge).await;
    assert!(
        matches!(answer, Err(GatewayError::NotSent { .. })),
        "{answer:?}"
    );

    let simulator = Simulator::open(address, opening)
        .await
        .expect("a simulator again");
    let found = bench.gateway.look_up(&charge).await.expect("an answer");
    assert_eq!(found, Some(paid));
    let identical = bench
        .gateway
        .charge(&new_charge())
        .await
        .expect("an answer");
    let duplicate = matches!(
        identical,
        Outcome::Declined {
            decline: Decline::Duplicate,
            ..
        }
    );
    assert!(duplicate, "{identical:?}");
    assert_eq!(simulator.charges().len(), 2);
}

/// The simulator as a program; killed hard when it is dropped.
struct Program {
    child: Child,
    url: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_card-gateway-simulator"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a running simulator");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its address");
        let url = line
            .trim()
            .rsplit(' ')
            .next()
            .expect("an address")
            .to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        Self { child, url }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_program_remembers_a_lost_answer_through_a_hard_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state.json");
    let state = state.to_str().expect("a plain path");
    let first = Program::start(&[
        "--listen",
        "127.0.0.1:0",
        "--state",
        state,
        "--agreement",
        "demo-card",
    ]);
    let bench = open_gateway(&first.url, PATIENT);
    let lost = serde_json::json!({ "outcome": "answer_lost" });
    let scripted = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .post(format!(
            "{}/simulator/agreements/demo-card/outcomes",
            first.url
        ))
        .json(&lost)
        .send()
        .await
        .expect("an answer");
    assert_eq!(scripted.status().as_u16(), 204);
    let charge = new_charge();
    let answer = bench.gateway.charge(&charge).await;
    assert!(
        matches!(answer, Err(GatewayError::Unknown { .. })),
        "{answer:?}"
    );
    drop(first);

    let second = Program::start(&["--listen", "127.0.0.1:0", "--state", state]);
    let bench = open_gateway(&second.url, PATIENT);
    let found = bench.gateway.look_up(&charge).await.expect("an answer");
    assert!(matches!(found, Some(Outcome::Paid { .. })), "{found:?}");
}

#[test]
fn the_program_lets_no_other_machine_in_by_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_card-gateway-simulator"))
        .args(["--listen", "0.0.0.0:0"])
        .output()
        .expect("a program that ends");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--allow-remote"), "{told}");
}

#[tokio::test]
async fn a_hundred_charges_at_once_are_a_hundred_records() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let mut calls = tokio::task::JoinSet::new();
    for kroner in 1..=100 {
        let gateway = Arc::clone(&bench.gateway);
        let charge = Charge {
            amount: Money::from_ore(kroner * 100),
            ..new_charge()
        };
        calls.spawn(async move { gateway.charge(&charge).await });
    }
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic");
        assert!(matches!(answer, Ok(Outcome::Paid { .. })), "{answer:?}");
    }
    let charges = simulator.charges();
    assert_eq!(
        charges.iter().filter(|charge| charge.took_money()).count(),
        100
    );
}

#[tokio::test]
async fn the_control_surface_steers_over_http() {
    let simulator = start_simulator().await;
    let bench = open_gateway(simulator.url(), PATIENT);
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let at = |path: &str| format!("{}{path}", simulator.url());
    let status = async |request: reqwest::RequestBuilder, expected: u16| {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{}", response.url());
    };
    status(client.put(at("/simulator/agreements/card-2")), 204).await;
    status(client.put(at("/simulator/agreements/a%20b")), 400).await;
    let outcomes = at("/simulator/agreements/card-2/outcomes");
    let unknown = serde_json::json!({ "outcome": "explode" });
    status(client.post(&outcomes).json(&unknown), 422).await;
    let script = serde_json::json!([
        { "outcome": "no_funds", "times": 2 },
        { "outcome": "busy", "retry_after_seconds": 3 },
    ]);
    status(client.post(&outcomes).json(&script), 204).await;
    let settings = serde_json::json!({ "duplicate_window_seconds": 120 });
    status(client.put(at("/simulator/settings")).json(&settings), 204).await;

    let mut told = Vec::new();
    let mut charge_card = async || {
        let charge = Charge {
            agreement: "card-2".parse().expect("an id"),
            ..new_charge()
        };
        let word = match bench.gateway.charge(&charge).await {
            Ok(Outcome::Paid { .. }) => "paid",
            Ok(Outcome::Declined {
                decline: Decline::Soft,
                ..
            }) => "soft",
            Ok(Outcome::Declined {
                decline: Decline::Duplicate,
                ..
            }) => "duplicate",
            Err(GatewayError::Busy { .. }) => "busy",
            other => panic!("{other:?}"),
        };
        told.push(word);
    };
    for _ in 0..5 {
        charge_card().await;
    }
    let advance = serde_json::json!({ "advance_seconds": 120 });
    status(client.post(at("/simulator/clock")).json(&advance), 204).await;
    charge_card().await;
    assert_eq!(told, ["soft", "soft", "busy", "paid", "duplicate", "paid"]);

    let charges = client
        .get(at("/simulator/charges"))
        .send()
        .await
        .expect("charges");
    let charges: serde_json::Value = charges.json().await.expect("JSON");
    let taken: Vec<_> = charges
        .as_array()
        .expect("a list")
        .iter()
        .filter(|charge| charge["took_money"] == true)
        .collect();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["amount"], 20_000);
    assert_eq!(taken[0]["agreement"], "card-2");
    assert_eq!(taken[0]["result"], "paid");
    assert_eq!(charges[0]["result"], "declined");
    assert_eq!(charges[0]["decline"], "no_funds");

    let page = client.get(at("/")).send().await.expect("a page");
    let page = page.text().await.expect("text");
    for part in [
        "Kortaftaler",
        "card-2",
        "200,00 kr.",
        "betalt",
        "afvist",
        "no_funds",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    status(client.delete(at("/simulator/agreements/card-2")), 204).await;
    status(client.delete(at("/simulator/agreements/card-2")), 404).await;
}

#[tokio::test]
async fn plain_http_to_another_machine_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let secret_file = directory.path().join("secret");
    std::fs::write(&secret_file, SECRET).expect("a written secret");
    let opened = NexiGateway::open(&NexiConfig::new("http://192.0.2.1", secret_file));
    assert!(
        matches!(opened, Err(NexiConfigError::PlainHttp { .. })),
        "{opened:?}"
    );
}
