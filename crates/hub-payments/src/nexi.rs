//! Nexi Checkout: unscheduled card-on-file charges.
//!
//! Source of every path and field: the Payment API reference of Nexi Checkout (formerly Nets Easy),
//! sections "Charge unscheduled subscription", "Retrieve unscheduled subscription charge status",
//! "Retrieve payment" and "Refund charge". An attempt's reference is its `Idempotency-Key`, and
//! that key is also what a charge's status is asked by.
//!
//! A positive answer to a charge is confirmed by reading the payment it names, since a gateway may
//! hold a repeated charge back, or answer with an earlier one, and both look like success.
//!
//! The reference is silent on three things, and each is read in the way that cannot charge twice:
//! how long a key is remembered ("not found" is believed for [`NexiConfig::remembers_for`] only),
//! what the status of a declined charge is (402 and 404 are both understood), and which codes a
//! decline carries (the card schemes' are understood, others are soft).

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::Money;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use crate::gateway::{
    Answer, Capabilities, Charge, Duplicates, EndedAgreement, GatewayError, Outcome,
    PaymentGateway, Refund,
};
use crate::identity::{AttemptReference, CardAgreement};

mod reading;

use reading::{ChargeNames, Reply};

/// How to reach Nexi Checkout.
#[derive(Debug, Clone)]
pub struct NexiConfig {
    /// The address before `/v1`: `https://…`, or `http://` to this machine for the simulator.
    pub base_url: String,
    /// A file that holds the secret key and nothing else.
    pub secret_file: PathBuf,
    /// How long a whole call may take.
    pub timeout: Duration,
    /// How long after an attempt the gateway's "not found" is believed.
    pub remembers_for: Duration,
    /// How long the gateway counts an equal amount on one agreement as a duplicate.
    pub duplicate_window: Duration,
    /// What it does with such a duplicate.
    pub duplicates: Duplicates,
}

impl NexiConfig {
    /// The usual settings: 30 s for a call, "not found" believed for an hour, duplicates refused
    /// for 10 minutes.
    pub fn new(base_url: impl Into<String>, secret_file: impl Into<PathBuf>) -> Self {
        Self {
            base_url: base_url.into(),
            secret_file: secret_file.into(),
            timeout: CALL_TIMEOUT,
            remembers_for: REMEMBERED,
            duplicate_window: DUPLICATE_WINDOW,
            duplicates: Duplicates::Refused,
        }
    }
}

/// Why the gateway cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NexiConfigError {
    /// Not an address that calls can be built on.
    #[error("the card gateway's address {url:?} is unusable; write it as https://host")]
    Address {
        /// The address as given.
        url: String,
    },
    /// Card calls may not cross a network in the clear.
    #[error("the card gateway's address {url:?} is plain http to another machine; use https")]
    PlainHttp {
        /// The address as given.
        url: String,
    },
    /// The secret key could not be read.
    #[error(
        "the card gateway's secret key in {path:?} cannot be read; check the path and its owner"
    )]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something that cannot be a key.
    #[error("{path:?} holds no usable secret key; it must be one line of visible characters")]
    SecretShape {
        /// The file.
        path: PathBuf,
    },
    /// The program has not chosen its TLS implementation.
    #[error("no TLS provider is installed; the program must install one before it opens a gateway")]
    NoTlsProvider,
    /// The HTTP client could not be made.
    #[error("the HTTP client for the card gateway cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Nexi Checkout as a [`PaymentGateway`].
pub struct NexiGateway {
    client: Client,
    base: Url,
    capabilities: Capabilities,
}

impl NexiGateway {
    /// Reads the secret key and makes the HTTP client; sends nothing.
    pub fn open(config: &NexiConfig) -> Result<Self, NexiConfigError> {
        let base = parse_address(&config.base_url)?;
        let secret = read_secret(&config.secret_file)?;
        // The HTTP client panics without one, and a hub must not die of its configuration.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(NexiConfigError::NoTlsProvider);
        }
        Ok(Self {
            client: build_client(&base, secret, config.timeout)?,
            base,
            capabilities: Capabilities {
                looks_up_by_reference: true,
                remembers_for: config.remembers_for,
                repeats_safely: true,
                duplicate_window: config.duplicate_window,
                duplicates: config.duplicates,
            },
        })
    }

    async fn charge_card(&self, charge: &Charge) -> Result<Outcome, GatewayError> {
        let body = charge_body(charge)?;
        let request = self
            .client
            .post(self.address(&[
                "unscheduledsubscriptions",
                charge.agreement.as_str(),
                "charges",
            ]))
            .header(IDEMPOTENCY_KEY, charge.reference.as_str())
            .json(&body);
        let reply = send(request).await?;
        match reply.status {
            StatusCode::OK | StatusCode::CREATED => {
                let names = reply.charge_names()?;
                self.payment_outcome(charge, &names)
                    .await
                    .map_err(after_the_charge)
            }
            StatusCode::PAYMENT_REQUIRED => Ok(reply.decline()),
            _ => Err(reply.refusal()),
        }
    }

    async fn find_charge(&self, charge: &Charge) -> Result<Option<Outcome>, GatewayError> {
        let agreement = charge.agreement.as_str();
        let path = ["unscheduledsubscriptions", agreement, "charges", "status"];
        let request = self
            .client
            .get(self.address(&path))
            .header(IDEMPOTENCY_KEY, charge.reference.as_str());
        let reply = send(request).await?;
        match reply.status {
            StatusCode::OK => {
                let status = reply.charge_status()?;
                if !status.completed {
                    return Ok(Some(Outcome::Pending));
                }
                self.payment_outcome(charge, &status.names).await.map(Some)
            }
            StatusCode::PAYMENT_REQUIRED => Ok(Some(reply.decline())),
            StatusCode::NOT_FOUND => self.not_found(&charge.agreement).await.map(|()| None),
            _ => Err(reply.refusal()),
        }
    }

    /// A wrong address and a missing agreement also give 404, and reading those as "never charged"
    /// would end in a second charge. So "not found" counts only from a gateway that is seen to know
    /// the agreement.
    async fn not_found(&self, agreement: &CardAgreement) -> Result<(), GatewayError> {
        let path = ["unscheduledsubscriptions", agreement.as_str()];
        let reply = send(self.client.get(self.address(&path))).await?;
        match reply.status {
            StatusCode::OK => reply.names_agreement(agreement),
            _ => Err(reply.refusal()),
        }
    }

    async fn payment_outcome(
        &self,
        charge: &Charge,
        names: &ChargeNames,
    ) -> Result<Outcome, GatewayError> {
        let request = self
            .client
            .get(self.address(&["payments", names.payment.as_str()]));
        let reply = send(request).await?;
        match reply.status {
            StatusCode::OK => reply.payment()?.outcome(&charge.reference, names),
            _ => Err(reply.refusal()),
        }
    }

    async fn refund_charge(&self, refund: &Refund) -> Result<Outcome, GatewayError> {
        let body = json!({
            "amount": whole_ore(refund.amount)?,
            "myReference": refund.reference.as_str(),
        });
        let request = self
            .client
            .post(self.address(&["charges", refund.transaction.as_str(), "refunds"]))
            .header(IDEMPOTENCY_KEY, refund.reference.as_str())
            .json(&body);
        let reply = send(request).await?;
        match reply.status {
            StatusCode::OK | StatusCode::CREATED => {
                reply.refund_name()?;
                Ok(Outcome::Refunded {
                    transaction: refund.transaction.clone(),
                })
            }
            StatusCode::PAYMENT_REQUIRED => Ok(reply.decline()),
            _ => Err(reply.refusal()),
        }
    }

    fn address(&self, path: &[&str]) -> Url {
        let mut address = self.base.clone();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        address
    }
}

impl PaymentGateway for NexiGateway {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn charge<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Outcome> {
        Box::pin(self.charge_card(charge))
    }

    fn look_up<'a>(&'a self, charge: &'a Charge) -> Answer<'a, Option<Outcome>> {
        Box::pin(self.find_charge(charge))
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> Answer<'a, Outcome> {
        Box::pin(self.refund_charge(refund))
    }

    /// The Payment API has no call that ends an unscheduled subscription, so there is nothing to
    /// send; the card is safe as long as the hub never charges the agreement again.
    fn end_agreement<'a>(&'a self, _agreement: &'a CardAgreement) -> Answer<'a, EndedAgreement> {
        Box::pin(async { Ok(EndedAgreement::OnlyHere) })
    }
}

impl fmt::Debug for NexiGateway {
    /// The client holds the secret key, so it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NexiGateway")
            .field("base", &self.base.as_str())
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// How long a whole call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to come about. A connection that does not is provably unused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The reference does not say how long a key is remembered, so only a short time is relied upon.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// The guides' "identical transaction" rule.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(10 * 60);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 256 * 1024;
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

fn parse_address(text: &str) -> Result<Url, NexiConfigError> {
    let unusable = || NexiConfigError::Address {
        url: text.to_owned(),
    };
    let url = Url::parse(text).map_err(|_| unusable())?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare || url.host_str().is_none() {
        return Err(unusable());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(NexiConfigError::PlainHttp {
            url: text.to_owned(),
        }),
        _ => Err(unusable()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

fn read_secret(path: &Path) -> Result<HeaderValue, NexiConfigError> {
    let text = fs::read_to_string(path).map_err(|source| NexiConfigError::SecretFile {
        path: path.to_owned(),
        source,
    })?;
    let key = text.trim();
    let visible = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let header = HeaderValue::from_str(key).ok().filter(|_| visible);
    let mut header = header.ok_or_else(|| NexiConfigError::SecretShape {
        path: path.to_owned(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn build_client(
    base: &Url,
    secret: HeaderValue,
    timeout: Duration,
) -> Result<Client, NexiConfigError> {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, secret)]);
    let mut builder = Client::builder()
        .default_headers(headers)
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        // A key sent on to wherever an answer points is a key given away.
        .redirect(reqwest::redirect::Policy::none())
        // Repeating a charge is the top-up's decision, never the client's.
        .retry(reqwest::retry::never())
        // A kept connection that the gateway has just closed turns a charge that was never sent
        // into an unknown one, which costs the guardian ten minutes. Top-ups are few.
        .pool_max_idle_per_host(0);
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(NexiConfigError::Client)
}

fn charge_body(charge: &Charge) -> Result<Value, GatewayError> {
    let amount = whole_ore(charge.amount)?;
    let reference = charge.reference.as_str();
    Ok(json!({
        "order": {
            "items": [{
                "reference": "optankning",
                "name": "Automatisk optankning",
                "quantity": 1,
                "unit": "stk",
                "unitPrice": amount,
                // Money on an account is no sale yet; the tax is in the meals it buys.
                "taxRate": 0,
                "taxAmount": 0,
                "grossTotalAmount": amount,
                "netTotalAmount": amount,
            }],
            "amount": amount,
            "currency": "DKK",
            "reference": reference,
        },
        "myReference": reference,
    }))
}

/// The API counts in the currency's hundredth in 32 bits, and takes nothing that is not above zero.
fn whole_ore(amount: Money) -> Result<i32, GatewayError> {
    match i32::try_from(amount.ore()) {
        Ok(ore) if ore > 0 => Ok(ore),
        Ok(_) | Err(_) => Err(GatewayError::Invalid {
            status: None,
            reason: format!("{} øre is not an amount that can be charged", amount.ore()),
        }),
    }
}

async fn send(request: RequestBuilder) -> Result<Reply, GatewayError> {
    let mut response = request.send().await.map_err(read_send_error)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(read_seconds);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(read_send_error)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(GatewayError::unknown("the answer has no end"));
        }
    }
    Ok(Reply {
        status,
        retry_after,
        body,
    })
}

/// `is_connect` holds only for failures before the request was handed to a connection: name
/// look-up, TCP, TLS. Everything else may have reached the gateway.
fn read_send_error(error: reqwest::Error) -> GatewayError {
    // The address names the agreement, which has no place in an error text.
    let error = error.without_url();
    if error.is_connect() {
        return GatewayError::NotSent {
            source: Box::new(error),
        };
    }
    let reason = if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection was lost"
    };
    GatewayError::Unknown {
        reason: reason.to_owned(),
        source: Some(Box::new(error)),
    }
}

/// The charge was accepted, so whatever goes wrong while confirming it leaves it unknown.
fn after_the_charge(error: GatewayError) -> GatewayError {
    GatewayError::Unknown {
        reason: "the charge was accepted but could not be confirmed".to_owned(),
        source: Some(Box::new(error)),
    }
}

/// The seconds form of `Retry-After`; a date is left to the caller's own back-off.
fn read_seconds(header: &HeaderValue) -> Option<Duration> {
    let seconds = header.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether the gateway's words for an attempt are ours.
fn is_ours(reference: &AttemptReference, said: &str) -> bool {
    said == reference.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        let check = |url: &str, good: bool| assert_eq!(parse_address(url).is_ok(), good, "{url}");
        check("https://test.api.dibspayment.eu", true);
        check("http://127.0.0.1:8090", true);
        check("http://[::1]:8090", true);
        check("http://localhost:8090", true);
        check("http://test.api.dibspayment.eu", false);
        check("http://192.168.1.4:8090", false);
        check("http://localhost.example", false);
        check("ftp://localhost", false);
        check("https://key@host", false);
        check("https://host/?a=b", false);
        check("test.api.dibspayment.eu", false);
    }

    #[test]
    fn an_amount_is_sent_only_when_it_is_above_zero_and_fits_the_api() {
        let check = |ore: i64, expected: Option<i32>| {
            assert_eq!(whole_ore(Money::from_ore(ore)).ok(), expected, "{ore}");
        };
        check(20_000, Some(20_000));
        check(1, Some(1));
        check(0, None);
        check(-100, None);
        check(i64::from(i32::MAX), Some(i32::MAX));
        check(i64::from(i32::MAX) + 1, None);
    }

    #[test]
    fn a_secret_key_is_one_visible_line_and_is_never_printed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("key");
        let check = |text: &str, good: bool| {
            fs::write(&path, text).expect("a written key");
            let secret = read_secret(&path);
            assert_eq!(secret.is_ok(), good, "{text:?}");
            assert!(!format!("{secret:?}").contains("0f1e2d"), "{secret:?}");
        };
        check("live-secret-key-0f1e2d\n", true);
        check("", false);
        check("\n", false);
        check("two 0f1e2d", false);
        assert!(read_secret(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn paths_are_built_under_the_base_address() {
        let check = |base: &str, expected: &str| {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let gateway = NexiGateway {
                client: Client::new(),
                base: parse_address(base).expect("a good address"),
                capabilities: Capabilities {
                    looks_up_by_reference: true,
                    remembers_for: REMEMBERED,
                    repeats_safely: true,
                    duplicate_window: DUPLICATE_WINDOW,
                    duplicates: Duplicates::Refused,
                },
            };
            assert_eq!(gateway.address(&["payments", "a"]).as_str(), expected);
        };
        check("https://host", "https://host/v1/payments/a");
        check("https://host/", "https://host/v1/payments/a");
        check("https://host/pay/", "https://host/pay/v1/payments/a");
    }
}
