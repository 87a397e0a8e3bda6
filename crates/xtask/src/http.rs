//! Asking the demo's parts over HTTP: plain HTTP/1.1 to the loopback, one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// One part's address, with the token it wants to see.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    port: u16,
    token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body as text.
    pub(crate) body: String,
}

impl Host {
    /// Whoever listens on this port of the loopback.
    pub(crate) fn new(port: u16) -> Host {
        Host { port, token: None }
    }

    /// The same, shown a bearer token with every request.
    pub(crate) fn with_token(self, token: String) -> Host {
        let token = Some(token);
        Host { token, ..self }
    }

    /// Fetches a resource; whatever its status.
    pub(crate) fn fetch(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask("GET", path, None)
    }

    /// Fetches a JSON document; any status but 200 is an error.
    pub(crate) fn json(&self, path: &str) -> anyhow::Result<Value> {
        self.fetch(path)?.json(path)
    }

    /// Sends a JSON document and reads the JSON answer; any status outside 200–299 is an error.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.ask("POST", path, Some(&body.to_string()))?;
        if answer.body.is_empty() && answer.is_success() {
            return Ok(Value::Null);
        }
        answer.json(path)
    }

    /// Whether someone answers there at all.
    pub(crate) fn is_there(&self) -> bool {
        self.fetch("/").is_ok_and(|answer| answer.status < 500)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Answer> {
        self.try_ask(method, path, body)
            .with_context(|| format!("{method} http://127.0.0.1:{}{path}", self.port))
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Answer> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(self.request(method, path, body).as_bytes())?;
        answer_in(BufReader::new(connection))
    }

    fn request(&self, method: &str, path: &str, body: Option<&str>) -> String {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n",
            self.port
        );
        if let Some(token) = &self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            ));
        }
        request + "\r\n" + body.unwrap_or_default()
    }
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn json(&self, path: &str) -> anyhow::Result<Value> {
        ensure!(
            self.is_success(),
            "{path} answered {}: {}",
            self.status,
            self.body
        );
        serde_json::from_str(&self.body)
            .with_context(|| format!("{path} answered no JSON: {}", self.body))
    }
}

fn answer_in(mut answer: impl BufRead) -> anyhow::Result<Answer> {
    let status = line_of(&mut answer)?;
    let status = status
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no HTTP status in {status:?}"))?;
    let mut chunked = false;
    let mut length = None;
    loop {
        let line = line_of(&mut answer)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            bail!("no HTTP header in {line:?}");
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<u64>()?);
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => read_chunks(&mut answer, &mut body)?,
        Some(length) => {
            let read = answer.take(length).read_to_end(&mut body)?;
            ensure!(u64::try_from(read) == Ok(length), "the answer was cut off");
        }
        None => {
            answer.read_to_end(&mut body)?;
        }
    }
    let body = String::from_utf8(body).context("the answer is no UTF-8")?;
    Ok(Answer { status, body })
}

fn read_chunks(answer: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let line = line_of(answer)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).context("a chunk without a length")?;
        if length == 0 {
            return Ok(());
        }
        let read = answer.by_ref().take(length).read_to_end(body)?;
        ensure!(u64::try_from(read) == Ok(length), "the answer was cut off");
        ensure!(line_of(answer)?.is_empty(), "a chunk longer than announced");
    }
}

fn line_of(answer: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    answer.take(LINE_MAX).read_line(&mut line)?;
    let line = line.strip_suffix('\n').context("the answer was cut off")?;
    Ok(line.trim_end_matches('\r').to_owned())
}

const PATIENCE: Duration = Duration::from_secs(10);
const LINE_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, status: u16, body: &str) {
        let body = body.to_owned();
        let expected = Answer { status, body };
        assert_eq!(answer_in(answer.as_bytes()).unwrap(), expected);
    }

    #[track_caller]
    fn check_refused(answer: &str, reason: &str) {
        let error = answer_in(answer.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), reason);
    }

    #[test]
    fn a_body_is_read_in_each_of_its_forms() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x", 200, "{}");
        check("HTTP/1.1 404 Not Found\r\n\r\ngone", 404, "gone");
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
            200,
            "{}0123456789",
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        check_refused("", "the answer was cut off");
        check_refused(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
            "the answer was cut off",
        );
        check_refused("hello\r\n\r\n", "no HTTP status in \"hello\"");
        check_refused(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "a chunk without a length",
        );
    }

    #[test]
    fn a_request_carries_the_token_and_the_body() {
        let host = Host::new(8080).with_token("secret".to_owned());
        assert_eq!(
            host.request("POST", "/v1/x", Some("{}")),
            "POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\
             Authorization: Bearer secret\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n{}"
        );
    }
}
