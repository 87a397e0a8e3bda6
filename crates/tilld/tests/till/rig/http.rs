//! One HTTP request at a time, written out by hand so that it can also be wrong.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A server on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    port: u16,
    headers: Vec<String>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

impl Host {
    /// The server on a port.
    pub(crate) fn new(port: u16) -> Host {
        Host {
            port,
            headers: Vec::new(),
        }
    }

    /// Sends this header with every request.
    pub(crate) fn with(mut self, header: &str) -> Host {
        self.headers.push(header.to_owned());
        self
    }

    /// Whether it answers at all.
    pub(crate) fn is_there(&self, path: &str) -> bool {
        self.try_ask("GET", path, None)
            .is_ok_and(|answer| answer.status == 200)
    }

    /// Reads JSON; anything but success fails the test.
    pub(crate) fn json(&self, path: &str) -> Value {
        self.ask("GET", path, None).json()
    }

    /// Sends JSON; anything but success fails the test.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let answer = self.ask("POST", path, Some(&body.to_string()));
        assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
        answer
    }

    /// Asks anything.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.try_ask(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path} on port {}: {error}", self.port))
    }

    /// Asks anything, of a server that may not be there.
    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> io::Result<Answer> {
        let mut headers = self.headers.clone();
        if let Some(body) = body {
            headers.push("Content-Type: application/json".to_owned());
            headers.push(format!("Content-Length: {}", body.len()));
        }
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            headers.push(format!("Host: 127.0.0.1:{}", self.port));
        }
        let head = format!(
            "{method} {path} HTTP/1.0\r\n{}\r\n\r\n",
            headers.join("\r\n")
        );
        self.send(&[head.as_bytes(), body.unwrap_or_default().as_bytes()].concat())
    }

    /// Sends bytes and reads an answer. The protocol is HTTP/1.0, so the end of the connection is
    /// the end of the answer.
    pub(crate) fn send(&self, request: &[u8]) -> io::Result<Answer> {
        let mut connection = self.connect()?;
        // A server that has heard enough may answer and close before it has read everything.
        let _ = connection.write_all(request);
        let mut answer = Vec::new();
        let read = connection.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(read.err().unwrap_or_else(|| io::Error::other("cut off")));
        };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(|| io::Error::other("no status"))?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// The data of the first server-sent event.
    pub(crate) fn first_event(&self, path: &str) -> io::Result<Value> {
        let mut connection = self.connect()?;
        let port = self.port;
        write!(
            connection,
            "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        )?;
        for line in BufReader::new(connection).lines() {
            if let Some(data) = line?.strip_prefix("data: ") {
                return Ok(serde_json::from_str(data)?);
            }
        }
        Err(io::Error::other("no event came"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.set_nodelay(true)?;
        Ok(connection)
    }
}

impl Answer {
    /// The body of a success as JSON.
    pub(crate) fn json(&self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
