//! The simulator's own page: what it knows, and how to steer it.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::Desk;
use super::books::{Books, ChargeRecord, ChargeResult, Script, Settings};

/// The route of the page.
pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/", get(show))
}

async fn show(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let page = Page::of(&desk.books(), host.unwrap_or("localhost:8090"));
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "Cannot show the page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "simulator.html")]
struct Page {
    /// As the visitor reached us, so that the examples can be pasted.
    host: String,
    now: String,
    ahead_seconds: i64,
    settings: Settings,
    agreements: Vec<(String, String)>,
    charges: Vec<ChargeRow>,
}

struct ChargeRow {
    at: String,
    reference: String,
    agreement: String,
    amount: String,
    result: String,
    result_danish: &'static str,
    requests: u32,
}

impl Page {
    fn of(books: &Books, host: &str) -> Self {
        let scripted = |scripts: &std::collections::VecDeque<Script>| {
            let words: Vec<String> = scripts.iter().map(script_words).collect();
            words.join(", ")
        };
        Self {
            host: host.to_owned(),
            now: time(books.now()),
            ahead_seconds: books.clock_ahead_seconds,
            settings: books.settings,
            agreements: books
                .agreements
                .iter()
                .map(|(agreement, scripts)| (agreement.clone(), scripted(scripts)))
                .collect(),
            charges: books.charges.iter().rev().map(ChargeRow::of).collect(),
        }
    }
}

impl ChargeRow {
    fn of(record: &ChargeRecord) -> Self {
        Self {
            at: time(record.at_seconds),
            reference: record.reference.clone(),
            agreement: record.agreement.clone(),
            amount: canteen::Money::from_ore(record.amount).to_string(),
            result: word(&record.result),
            result_danish: danish(record.result),
            requests: record.requests,
        }
    }
}

/// A time as `2026-08-17T11:03:22Z`; a clock moved beyond the calendar is shown as its seconds.
pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn script_words(script: &Script) -> String {
    format!("{} ×{}", word(&script.outcome), script.times)
}

/// The word that the control surface uses, so that page and calls speak alike.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string().replace(['{', '}', '"'], ""),
        Err(_) => String::new(),
    }
}

fn danish(result: ChargeResult) -> &'static str {
    match result {
        ChargeResult::Paid => "betalt",
        ChargeResult::Pending => "afventer",
        ChargeResult::Suspended => "tilbageholdt",
        ChargeResult::Replayed => "besvaret med en tidligere",
        ChargeResult::Refunded => "refunderet",
        ChargeResult::Declined(_) => "afvist",
    }
}
