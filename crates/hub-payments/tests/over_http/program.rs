//! The simulator as a program of its own: what it keeps through its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use hub_payments::simulator::Opening;
use hub_payments::{Decline, GatewayError, Outcome, Simulator};

use crate::bench::{ANY_PORT, PATIENT, agreement, new_charge, open_gateway};

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
