//! Who may ask the page for what, and what its browser may do with the answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use till_page::Text;

use super::problem::Problem;

/// What this till is called by its own browser.
#[derive(Clone)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(super) fn of(address: SocketAddr) -> Hosts {
        let port = address.port();
        let names = ["127.0.0.1", "localhost", "[::1]"];
        Hosts(names.iter().map(|name| format!("{name}:{port}")).collect())
    }

    fn has(&self, host: &str) -> bool {
        self.0.iter().any(|known| known == host)
    }

    fn allow(&self, request: &Request) -> Result<(), &'static str> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (
            hosts.next().and_then(|host| host.to_str().ok()),
            hosts.next(),
        ) {
            (Some(host), None) if self.has(host) => host,
            _ => return Err("this till answers to its own address only"),
        };
        if request
            .uri()
            .authority()
            .is_some_and(|authority| authority.as_str() != host)
        {
            return Err("this till answers to its own address only");
        }
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(());
        }
        let origin = request
            .headers()
            .get(ORIGIN)
            .and_then(|origin| origin.to_str().ok());
        if origin.and_then(|origin| origin.strip_prefix("http://")) != Some(host) {
            return Err("only this till's own page may change anything");
        }
        let site = request.headers().get(SEC_FETCH_SITE);
        if site.is_some_and(|site| site != "same-origin") {
            return Err("only this till's own page may change anything");
        }
        Ok(())
    }
}

pub(super) async fn guard(hosts: Hosts, request: Request<Body>, next: Next) -> Response {
    if let Err(why) = hosts.allow(&request) {
        return Problem::new(StatusCode::FORBIDDEN, "forbidden", Text::new(why, why))
            .into_response();
    }
    let is_docs = request.uri().path().starts_with("/docs");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = if is_docs { DOCS_POLICY } else { PAGE_POLICY };
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; \
                           base-uri 'none'; object-src 'none'; form-action 'none'";

/// The reference pages bring styles of their own.
const DOCS_POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' \
                           'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, headers: &[(&str, &str)], allowed: bool) {
        let hosts = Hosts::of(SocketAddr::from(([127, 0, 0, 1], 8070)));
        let mut request = Request::builder().method(method).uri("/checkout/pay");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(
            hosts.allow(&request).is_ok(),
            allowed,
            "{method} {headers:?}"
        );
    }

    #[test]
    fn only_the_tills_own_names_are_answered() {
        for host in ["127.0.0.1:8070", "localhost:8070", "[::1]:8070"] {
            check("GET", &[("host", host)], true);
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil:8070",
            "",
            "localhost.:8070",
            "127.0.0.1:8071",
            "127.0.0.1",
        ] {
            check("GET", &[("host", host)], false);
        }
        check("GET", &[], false);
        check(
            "GET",
            &[("host", "127.0.0.1:8070"), ("host", "127.0.0.1:8070")],
            false,
        );
    }

    #[test]
    fn only_the_tills_own_page_may_change_anything() {
        let host = ("host", "127.0.0.1:8070");
        check("POST", &[host, ("origin", "http://127.0.0.1:8070")], true);
        check("POST", &[host], false);
        for origin in [
            "null",
            "http://evil.example",
            "https://127.0.0.1:8070",
            "http://localhost:8070",
        ] {
            check("POST", &[host, ("origin", origin)], false);
        }
        let own = ("origin", "http://127.0.0.1:8070");
        check(
            "POST",
            &[host, own, ("sec-fetch-site", "same-origin")],
            true,
        );
        check(
            "POST",
            &[host, own, ("sec-fetch-site", "cross-site")],
            false,
        );
    }
}
