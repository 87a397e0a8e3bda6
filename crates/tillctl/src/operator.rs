//! The hub as an operator reaches it from a till: gives out one chip's keys, and is told of it.
//!
//! The token comes from a file, from standard input or from the terminal, never from the command
//! line or the environment. Where it goes is said by the till's own settings, which only root may
//! change, and not by the daemon.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::ChipId;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use reqwest::{Certificate, Client, Response, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sync_proto::EnrolmentKeys;
use till_control::ChipKind;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// An operator's way to the hub.
pub(crate) struct Operator {
    http: Client,
    url: Url,
    token: Zeroizing<String>,
}

/// What the till's settings say of the hub.
#[derive(Deserialize)]
struct Settings {
    hub: HubSettings,
}

#[derive(Deserialize)]
struct HubSettings {
    url: String,
    ca_file: Option<PathBuf>,
}

impl Operator {
    /// Reads where the hub is, and the token.
    pub(crate) fn new(settings: &Path, token: Option<&Path>) -> Result<Operator, Failure> {
        let bad = |why: String| Failure::Settings {
            path: settings.to_owned(),
            why,
        };
        let text = fs::read_to_string(settings).map_err(|error| bad(error.to_string()))?;
        let Settings { hub } = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let url = hub_url(&hub.url).ok_or_else(|| {
            bad("hub.url must be https://, or http:// to this very machine".to_owned())
        })?;
        // Another one may have been installed, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tillctl/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(path) = &hub.ca_file {
            let pem = fs::read(path).map_err(|error| bad(format!("hub.ca_file: {error}")))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let certificates =
                certificates.map_err(|error| bad(format!("hub.ca_file: {error}")))?;
            http = http.tls_certs_only(certificates);
        }
        let http = http.build().map_err(|error| bad(error.to_string()))?;
        let token = read_token(token)?;
        Ok(Operator { http, url, token })
    }

    /// All keys of one chip, the version to write first.
    pub(crate) async fn chip_keys(
        &self,
        account: i64,
        chip: &ChipId,
        kind: ChipKind,
    ) -> Result<EnrolmentKeys, Failure> {
        let mut asked = json!({"chip": chip.to_string()});
        match kind {
            ChipKind::Ntag424 => {}
            ChipKind::Desfire => asked["kind"] = "desfire".into(),
            ChipKind::UltralightAes => asked["kind"] = "ultralight_aes".into(),
        }
        let path = format!("/v1/accounts/{account}/chip-keys");
        let answer = self.post(&path, &asked).await?;
        let text = Zeroizing::new(answer.bytes().await.map_err(silent)?.to_vec());
        serde_json::from_slice(&text).map_err(|_| Failure::HubSilent {
            why: "its answer holds no chip keys".to_owned(),
        })
    }

    /// Tells the hub that the chip holds keys of a version and pays from the account.
    pub(crate) async fn register(
        &self,
        account: i64,
        chip: &ChipId,
        version: u8,
    ) -> Result<(), Failure> {
        let told = json!({"chip": chip.to_string(), "key_version": version});
        self.post(&format!("/v1/accounts/{account}/chips"), &told)
            .await
            .map(drop)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        let url = self.url.join(path).map_err(|error| Failure::HubSilent {
            why: error.to_string(),
        })?;
        let sending = self.http.post(url).bearer_auth(self.token.as_str());
        let answer = sending.json(body).send().await.map_err(silent)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Value = answer.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("without a reason");
        Err(Failure::HubRefused {
            status: status.as_u16(),
            detail: detail.to_owned(),
        })
    }
}

fn silent(error: reqwest::Error) -> Failure {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        why = format!("{why}: {deeper}");
        cause = deeper.source();
    }
    Failure::HubSilent { why }
}

/// As the till's own rule: nothing secret goes over a network in the clear.
fn hub_url(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_here;
    is_safe.then_some(url)
}

fn read_token(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let read = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = Zeroizing::new(String::new());
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        Some(path) => fs::read_to_string(path).map(Zeroizing::new),
        None => ask_for_token(),
    };
    let text = read.map_err(|error| Failure::Token {
        why: error.to_string(),
    })?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() {
        let why = "it is empty".to_owned();
        return Err(Failure::Token { why });
    }
    Ok(token)
}

/// Reads it from the terminal, which does not show it.
fn ask_for_token() -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(io::Error::other("give a file with --token-file"));
    }
    eprint!("Operatørens nøgle (vises ikke) / the operator's token (not shown): ");
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    let mut text = Zeroizing::new(String::new());
    let read = stdin.read_line(&mut text);
    tcsetattr(&stdin, SetArg::TCSANOW, &shown)?;
    eprintln!();
    read.map(|_| text)
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, is_safe: bool) {
        assert_eq!(hub_url(url).is_some(), is_safe, "{url}");
    }

    #[test]
    fn a_token_goes_over_no_network_in_the_clear() {
        check("https://hub.example.invalid", true);
        check("http://127.0.0.1:8080", true);
        check("http://[::1]:8080", true);
        check("http://localhost:8080", true);
        check("http://hub.example.invalid", false);
        check("http://10.0.0.1", false);
        check("http://localhost.example.invalid", false);
        check("ftp://127.0.0.1", false);
        check("hub", false);
    }

    #[test]
    fn a_token_is_read_without_the_end_of_its_line() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("token");
        fs::write(&path, "secret\n").unwrap();
        assert_eq!(*read_token(Some(&path)).unwrap(), "secret");
        fs::write(&path, " \n").unwrap();
        assert!(read_token(Some(&path)).is_err());
        assert!(read_token(Some(&room.path().join("none"))).is_err());
    }
}
