//! The Nexi Checkout adapter and the simulator over real HTTP on this machine.

mod bench;
mod program;
mod simulator;

use std::sync::Arc;
use std::time::Duration;

use hub_payments::conformance::Breach;
use hub_payments::simulator::{ChargeResult, Opening, Script, ScriptedOutcome};
use hub_payments::{
    Answer, Capabilities, CardAgreement, Charge, Decline, EndedAgreement, GatewayError, NexiConfig,
    NexiConfigError, NexiGateway, Outcome, PaymentGateway, Refund, Simulator, conformance,
};
use tokio::net::TcpListener;

use bench::{
    ANY_PORT, PATIENT, SECRET, agreement, answer_always, answer_in_turn, new_charge, open_gateway,
    start_simulator,
};

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
