//! Asking the hub.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

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

/// Sends a request; `None` is an answer without content.
pub(crate) async fn ask<T: DeserializeOwned>(
    request: RequestBuilder,
) -> anyhow::Result<Said<Option<T>>> {
    let answer = request.send().await.context("the hub does not answer")?;
    let status = answer.status();
    let body = answer.bytes().await.context("the answer is cut off")?;
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

const ANSWER_WAIT: Duration = Duration::from_secs(30);
