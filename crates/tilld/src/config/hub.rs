//! Which hub the till belongs to, and how it becomes known there.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Fault, absolute, checked};

/// The table `[hub]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HubTable {
    url: Spanned<String>,
    enrolment_code: Option<Spanned<String>>,
    ca_file: Option<Spanned<PathBuf>>,
}

/// What it says.
pub(super) struct HubSettings {
    pub(super) url: String,
    pub(super) enrolment_code: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

impl HubTable {
    pub(super) fn check(self) -> Result<HubSettings, Fault> {
        let ca_file = self
            .ca_file
            .map(|path| absolute("hub.ca_file", Some(path), ""));
        Ok(HubSettings {
            url: checked("hub.url", &self.url, |url| hub_url(url))?,
            enrolment_code: enrolment_code(self.enrolment_code)?,
            ca_file: ca_file.transpose()?,
        })
    }
}

/// Sales and tokens never cross a network in the clear: plain http is for this machine only.
fn hub_url(written: &str) -> Result<String, String> {
    let url = written.trim().trim_end_matches('/');
    let parsed: reqwest::Url = url
        .parse()
        .map_err(|_| format!("{written:?} is no URL; {ALLOWED}"))?;
    let host = parsed.host_str().unwrap_or_default();
    match parsed.scheme() {
        "https" => {}
        "http" if is_this_machine(host) => {}
        "http" => {
            return Err(format!(
                "{written:?} would send sales in the clear; {ALLOWED}"
            ));
        }
        _ => return Err(format!("{written:?} is no URL of a hub; {ALLOWED}")),
    }
    // What is left of an address that was pasted behind another one.
    if ["http", "https"].contains(&host) {
        return Err(format!("{written:?} says https:// twice; {ALLOWED}"));
    }
    if !parsed.username().is_empty() || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(format!(
            "{written:?} says more than where the hub is; {ALLOWED}"
        ));
    }
    Ok(url.to_owned())
}

fn is_this_machine(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse();
    host == "localhost" || ip.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn enrolment_code(value: Option<Spanned<String>>) -> Result<Option<String>, Fault> {
    let Some(value) = value else { return Ok(None) };
    checked("hub.enrolment_code", &value, |code| {
        if code.trim().is_empty() {
            Err("the code is empty; allowed is the one that the operator made, or no such key")
        } else {
            Ok(Some(code.trim().to_owned()))
        }
    })
}

const ALLOWED: &str =
    "allowed are https://HOST[:PORT] and, for a hub on this machine, http://127.0.0.1:PORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expect: Result<&str, &str>) {
        match (hub_url(url), expect) {
            (Ok(url), Ok(expected)) => assert_eq!(url, expected),
            (Err(error), Err(expected)) => {
                assert!(error.contains(expected), "{error:?} lacks {expected:?}");
                assert!(error.contains(ALLOWED), "{error:?} gives no advice");
            }
            (got, expected) => panic!("{url:?} is {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_hub_across_the_network_needs_https() {
        check("http://hub.example.invalid", Err("in the clear"));
        check("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080"));
        check("http://[::1]:8080/", Ok("http://[::1]:8080"));
        check(
            "https://hub.example.invalid",
            Ok("https://hub.example.invalid"),
        );
        check(
            "https://portal.example.invalid/hub/",
            Ok("https://portal.example.invalid/hub"),
        );
    }

    #[test]
    fn a_slip_of_the_pen_is_told_as_what_it_is() {
        check("ftp://127.0.0.1", Err("is no URL of a hub"));
        check("htps://hub.example.invalid", Err("is no URL of a hub"));
        check("hub.example.invalid", Err("is no URL"));
        check("https://https://hub.example.invalid", Err("twice"));
        check("https://u@h.invalid", Err("more than where"));
        check("https://h.invalid/?canteen=1", Err("more than where"));
        check(" https://h.invalid ", Ok("https://h.invalid"));
    }
}
