//! Asking the hub.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sync_proto::{ANSWER_SIGNATURE, HubPublicKey, HubSignature, TillId, answer_message};

/// An answer that means "no", with the problem's own facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status code.
    pub(crate) status: u16,
    /// The problem document.
    pub(crate) facts: Value,
}

impl Problem {
    /// The word that says what is wrong.
    pub(crate) fn code(&self) -> &str {
        self.facts["code"].as_str().unwrap_or_default()
    }
}

/// What a hub said to a request.
pub(crate) type Said<T> = Result<T, Problem>;

/// A client that follows no redirects and waits as long as a till does.
pub(crate) fn client() -> anyhow::Result<Client> {
    Ok(Client::builder()
        .timeout(ANSWER_WAIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?)
}

/// Looks at the signature of every answer.
#[derive(Debug)]
pub(crate) struct Witness {
    till: TillId,
    key: HubPublicKey,
    unsigned: RefCell<Option<String>>,
}

impl Witness {
    /// Of a till that was given this key.
    pub(crate) fn new(till: TillId, key: HubPublicKey) -> Witness {
        Witness {
            till,
            key,
            unsigned: RefCell::default(),
        }
    }

    /// The first question whose answer was not signed by the hub.
    pub(crate) fn unsigned(&self) -> Option<String> {
        self.unsigned.borrow().clone()
    }

    fn see(&self, asked: &str, status: StatusCode, signature: Option<&str>, body: &[u8]) {
        // What stands before it, a proxy takes away.
        let question = asked.get(asked.find("/v1/tills/").unwrap_or(0)..);
        let message = answer_message(
            &self.till,
            status.as_u16(),
            question.unwrap_or_default(),
            body,
        );
        let signature: Option<HubSignature> = signature.and_then(|text| text.parse().ok());
        let is_signed = signature.is_some_and(|signature| self.key.verifies(&message, &signature));
        if !is_signed {
            self.unsigned.borrow_mut().get_or_insert_with(|| {
                format!("{asked} was answered {status} without a good signature")
            });
        }
    }
}

/// Sends a request; `None` is an answer without content.
pub(crate) async fn ask<T: DeserializeOwned>(
    request: RequestBuilder,
    witness: Option<&Witness>,
) -> anyhow::Result<Said<Option<T>>> {
    let (status, body) = fetch(request, witness).await?;
    if status == StatusCode::NO_CONTENT {
        return Ok(Ok(None));
    }
    if status.is_success() {
        let read = serde_json::from_slice(&body)
            .with_context(|| format!("answered {}", String::from_utf8_lossy(&body)))?;
        return Ok(Ok(Some(read)));
    }
    if status.is_server_error() {
        bail!("answered {status}: {}", String::from_utf8_lossy(&body));
    }
    let facts = serde_json::from_slice(&body).with_context(|| {
        format!("answered {status} with something else than a problem document")
    })?;
    Ok(Err(Problem {
        status: status.as_u16(),
        facts,
    }))
}

/// Sends a request and reads whatever comes.
pub(crate) async fn fetch(
    request: RequestBuilder,
    witness: Option<&Witness>,
) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let (http, request) = request.build_split();
    let request = request?;
    let asked = request.url().to_string();
    let answer = http.execute(request).await;
    let answer = answer.context("the hub does not answer")?;
    let status = answer.status();
    let signature = answer.headers().get(ANSWER_SIGNATURE);
    let signature = signature.and_then(|value| value.to_str().ok());
    let signature = signature.map(str::to_owned);
    let body = answer.bytes().await.context("the answer is cut off")?;
    if let Some(witness) = witness {
        witness.see(&asked, status, signature.as_deref(), &body);
    }
    Ok((status, body.to_vec()))
}

const ANSWER_WAIT: Duration = Duration::from_secs(30);
