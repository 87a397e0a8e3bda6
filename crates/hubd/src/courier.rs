//! Delivers notices: posts each to the receiver that stands in the configuration, until it has taken it.
//!
//! The receiver is the portal, or whatever writes to guardians and operators in its place. A notice can
//! come twice when an answer is lost; its `Idempotency-Key` is the same then. The requests carry the
//! headers of Standard Webhooks, so that the receiver can see that they are the hub's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hub_ledger::NoticeRow;
use reqwest::{Client, Url};
use sha2::Sha256;
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::books::{Books, BooksError};
use crate::notice::Message;
use crate::worker::Clock;

/// Carries notices to their receiver.
#[derive(Clone)]
pub struct Courier {
    books: Books,
    http: Client,
    url: Url,
    secret: Arc<Zeroizing<Vec<u8>>>,
    clock: Clock,
}

/// Why notices cannot be delivered at all.
#[derive(Debug, Error)]
pub enum CourierError {
    /// Names of children may not cross a network in the clear.
    #[error("notices.url {url:?} is unusable; write https://…, or http:// on this machine")]
    Address {
        /// The address as given.
        url: String,
    },
    /// The secret could not be read.
    #[error("the secret of notices in {path:?} cannot be read; check the path and its owner")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else than a secret.
    #[error(
        "{path:?} holds no secret of notices; it is one line: whsec_ and 24 to 64 bytes in base64"
    )]
    SecretShape {
        /// The file.
        path: PathBuf,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for notices cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Where notices go, and what they are signed with.
pub struct Receiver {
    url: Url,
    secret: Zeroizing<Vec<u8>>,
}

impl Receiver {
    /// Reads the secret; sends nothing.
    pub fn open(url: &str, secret_file: &Path) -> Result<Receiver, CourierError> {
        Ok(Receiver {
            url: parse_address(url)?,
            secret: read_secret(secret_file)?,
        })
    }
}

impl Courier {
    /// A courier on a store.
    pub fn new(books: Books, receiver: Receiver, clock: Clock) -> Result<Courier, CourierError> {
        let http = Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(ANSWER_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("hubd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(CourierError::Client)?;
        Ok(Courier {
            books,
            http,
            url: receiver.url,
            secret: Arc::new(receiver.secret),
            clock,
        })
    }

    /// Delivers what is due until the program ends.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut changes = self.books.changes();
        while !*stopping.borrow() {
            changes.borrow_and_update();
            // Whatever is under way when the program ends is sent again, under the same name.
            let idle = tokio::select! {
                done = self.run_once() => match done {
                    Ok(()) => self.idle().await,
                    Err(error) => {
                        error!(error = &error as &dyn std::error::Error, "Failed to look for notices");
                        IDLE_MAX
                    }
                },
                _ = stopping.changed() => return,
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = stopping.changed() => {}
                () = tokio::time::sleep(idle) => {}
            }
        }
    }

    /// Sends every notice that is due once.
    pub async fn run_once(&self) -> Result<(), BooksError> {
        let now = (self.clock)();
        let due = self
            .books
            .read(move |books| books.due_notices(now, AT_ONCE))
            .await?;
        for notice in due {
            self.deliver(notice).await?;
        }
        Ok(())
    }

    async fn idle(&self) -> Duration {
        let now = (self.clock)();
        let next = self
            .books
            .read(move |books| books.next_notice_moment(now))
            .await;
        match next {
            Ok(Some(next)) if next <= now => IDLE_MIN,
            Ok(Some(next)) => Duration::try_from(next.duration_since(now))
                .unwrap_or(IDLE_MAX)
                .min(IDLE_MAX),
            Ok(None) | Err(_) => IDLE_MAX,
        }
    }

    async fn deliver(&self, notice: NoticeRow) -> Result<(), BooksError> {
        let (id, name, reason) = (notice.id, notice.name, notice.reason.code());
        let sent = self.post(&notice).await;
        let now = (self.clock)();
        match sent {
            Ok(()) => {
                info!(notice = %name, reason, "Delivered a notice");
                self.books
                    .write(move |books| books.note_delivered(id, now))
                    .await
            }
            Err(failure) => {
                warn!(notice = %name, reason, failure, "A notice is not delivered yet");
                self.books
                    .write(move |books| books.note_undelivered(id, &failure, now))
                    .await
            }
        }
    }

    /// Tells why nobody has taken it, without what the receiver says: that may be anything.
    async fn post(&self, notice: &NoticeRow) -> Result<(), String> {
        let name = notice.name.to_string();
        let body = serde_json::to_string(&Message::of(notice))
            .map_err(|error| format!("cannot be written: {error}"))?;
        let at = (self.clock)().as_second().to_string();
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("idempotency-key", &name)
            .header("webhook-id", &name)
            .header("webhook-timestamp", &at)
            .header("webhook-signature", sign(&self.secret, &name, &at, &body))
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!(
                "answered with HTTP status {}",
                answer.status().as_u16()
            )),
            Err(error) if error.is_timeout() => Err("did not answer in time".to_owned()),
            Err(error) if error.is_connect() => Err("cannot be reached".to_owned()),
            Err(_) => Err("the answer broke off".to_owned()),
        }
    }
}

/// Standard Webhooks 1.0, "Symmetric": HMAC-SHA256 over id, time and body.
fn sign(secret: &[u8], id: &str, at: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn parse_address(text: &str) -> Result<Url, CourierError> {
    let unusable = || CourierError::Address {
        url: text.to_owned(),
    };
    let url = Url::parse(text).map_err(|_| unusable())?;
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    let here =
        host == "localhost" || address.is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if here => Ok(url),
        _ => Err(unusable()),
    }
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CourierError> {
    let text = std::fs::read_to_string(path).map_err(|source| CourierError::SecretFile {
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    let encoded = text.trim().strip_prefix("whsec_");
    let secret = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    let secret = secret.filter(|secret| SECRET_BYTES.contains(&secret.len()));
    secret
        .map(Zeroizing::new)
        .ok_or_else(|| CourierError::SecretShape {
            path: path.to_owned(),
        })
}

/// What Standard Webhooks allows.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Notices looked at together.
const AT_ONCE: u32 = 50;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The longest between two looks at what is due.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The shortest, when more is due than was looked at.
const IDLE_MIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn the_signature_is_that_of_the_standards_own_example() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn names_of_children_go_over_plain_http_on_this_machine_only() {
        let check = |url: &str, good: bool| assert_eq!(parse_address(url).is_ok(), good, "{url}");
        check("https://portal.example/notices", true);
        check("http://127.0.0.1:9000/notices", true);
        check("http://[::1]:9000/", true);
        check("http://localhost/", true);
        check("http://portal.example/notices", false);
        check("ftp://localhost/", false);
        check("portal.example", false);
    }

    #[test]
    fn a_secret_is_one_line_in_the_standards_shape() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let check = |text: &str, good: bool| {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_secret(&path).is_ok(), good, "{text:?}");
        };
        check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", true);
        check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false);
        check("whsec_c2hvcnQ=", false);
        check("whsec_no base64", false);
        check("", false);
        assert!(read_secret(&directory.path().join("absent")).is_err());
    }
}
