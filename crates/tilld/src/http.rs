//! The cashier page over HTTP on the loopback interface.
//!
//! The browser may be made to visit other pages, and those may try to reach this one. So every
//! request must name this till as its host, every change must come from this page itself, as
//! JSON, and reading never changes anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use canteen::{AccountId, BasketError, BasketLine, CheckoutError};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use sync_proto::VoidLine;
use till_ledger::{Ledger, LedgerError, VoidRequest};
use till_page::{Frame, PageState, Refusal, Text, page, refusal_words, static_file};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::WatchStream;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::event::{Event, Press, PressError};
use crate::sync::Sync;
use crate::void::take_back;

/// What the page's routes need.
#[derive(Clone)]
pub(crate) struct PageServer {
    /// Where presses go.
    pub(crate) events: mpsc::Sender<Event>,
    /// What the page shows.
    pub(crate) state: watch::Receiver<Arc<PageState>>,
    /// The ledger, for photos and undoing.
    pub(crate) ledger: Ledger,
    /// The conversations with the hub.
    pub(crate) sync: Arc<Sync>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Till page",
        description = "What the cashier page of one till asks of its daemon. Reachable on the \
                       till itself only; amounts are shown as text such as `22,00`. Every POST \
                       must carry the page's own `Origin` and `Content-Type: application/json`."
    ),
    tags(
        (name = "page", description = "The page and what it shows."),
        (name = "checkout", description = "What the cashier presses.")
    )
)]
struct Api;

/// All routes, guarded, and their description.
pub(crate) fn router(server: PageServer, address: SocketAddr) -> axum::Router {
    let (router, api) = routes(server);
    let hosts = Hosts::of(address);
    router
        .merge(utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", api))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(move |request, next| {
            guard(hosts.clone(), request, next)
        }))
}

/// The description of the routes (OpenAPI 3.1).
pub(crate) fn openapi() -> String {
    let api = described().split_for_parts().1;
    let mut json = api.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

fn described() -> OpenApiRouter<PageServer> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(show_page))
        .routes(routes!(follow))
        .routes(routes!(show_photo))
        .routes(routes!(add_line))
        .routes(routes!(remove_line))
        .routes(routes!(clear))
        .routes(routes!(pay))
        .routes(routes!(cancel))
        .routes(routes!(void))
        .routes(routes!(sync_now))
}

fn routes(server: PageServer) -> (axum::Router, utoipa::openapi::OpenApi) {
    let (router, api) = described().split_for_parts();
    let router = router
        .route("/static/{name}", get(show_file))
        .route("/livez", get(async || "ok\n"))
        .with_state(server);
    (router, api)
}

// What the page shows.

/// The cashier page.
#[utoipa::path(get, path = "/", tag = "page", responses((status = 200, description = "HTML", content_type = "text/html")))]
async fn show_page(State(server): State<PageServer>) -> Html<String> {
    let state = server.state.borrow().clone();
    Html(page(&Frame { state: &state }))
}

async fn show_file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(file) = static_file(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|tag| tag.as_bytes() == file.etag.as_bytes());
    if known {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let headers = [
        (CONTENT_TYPE, file.content_type),
        (ETAG, file.etag),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, file.bytes).into_response()
}

/// The state of the page as server-sent events: the whole state each time, and a comment at
/// least every 2 seconds.
#[utoipa::path(get, path = "/events", tag = "page", responses((status = 200, description = "Events whose data is the state as JSON", content_type = "text/event-stream")))]
async fn follow(
    State(server): State<PageServer>,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let events = WatchStream::new(server.state)
        .enumerate()
        .map(|(number, state)| {
            let event = axum::response::sse::Event::default().id(number.to_string());
            Ok(event.json_data(&*state).unwrap_or_default())
        });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

/// The photo of an account's holder.
#[utoipa::path(get, path = "/photo/{account}", tag = "page",
    params(("account" = i64, Path, description = "The account's number")),
    responses((status = 200, description = "The picture"), (status = 404, description = "No photo")))]
async fn show_photo(State(server): State<PageServer>, Path(account): Path<i64>) -> Response {
    let holder = server.ledger.holder(AccountId(account)).ok().flatten();
    let photo = holder.and_then(|holder| holder.photo);
    let picture = photo.as_deref().and_then(picture);
    match picture {
        Some((kind, bytes)) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The kind and bytes of a picture from its `data:` URL (RFC 2397).
fn picture(url: &str) -> Option<(&'static str, Vec<u8>)> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(',')?;
    let (kind, bytes) = match kind.strip_suffix(";base64") {
        Some(kind) => (
            kind,
            base64::engine::general_purpose::STANDARD
                .decode(data)
                .ok()?,
        ),
        None => (kind, percent_encoding::percent_decode_str(data).collect()),
    };
    let kind = kind.split(';').next()?;
    let known = PICTURES.iter().find(|known| **known == kind)?;
    Some((known, bytes))
}

// What the cashier presses.

/// A product's number, or a line typed by hand: exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddLine {
    /// A product's number.
    product: Option<i64>,
    /// Quantity, text and the price of one piece, for example `1x Dagens ret 22,00`.
    line: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RemoveLine {
    /// The line's place in the basket, from 0.
    index: usize,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VoidSale {
    /// The sale's id.
    id: Uuid,
    /// What to take back; nothing is all that is left of the sale.
    #[serde(default)]
    lines: Vec<VoidPieces>,
}

/// Pieces of one line of a sale.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VoidPieces {
    /// The line's place in the sale, from 0.
    line: u32,
    /// How many pieces of it.
    quantity: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Rings up a product or a line.
#[utoipa::path(post, path = "/basket/lines", tag = "checkout", request_body = AddLine,
    responses((status = 204, description = "Done"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn add_line(
    State(server): State<PageServer>,
    Posted(add): Posted<AddLine>,
) -> Result<StatusCode, Problem> {
    let press = match add {
        AddLine {
            product: Some(id),
            line: None,
        } => Press::Product(id),
        AddLine {
            product: None,
            line: Some(line),
        } => Press::Line(
            line.parse::<BasketLine>()
                .map_err(|e| checkout_problem(&e.into()))?,
        ),
        AddLine { .. } => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-request",
                Text::new(
                    "Angiv enten product eller line",
                    "give either product or line",
                ),
            ));
        }
    };
    server.press(press).await
}

/// Takes one piece off a line of the basket.
#[utoipa::path(post, path = "/basket/lines/remove", tag = "checkout", request_body = RemoveLine,
    responses((status = 204, description = "Done"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn remove_line(
    State(server): State<PageServer>,
    Posted(remove): Posted<RemoveLine>,
) -> Result<StatusCode, Problem> {
    server.press(Press::LineRemoved(remove.index)).await
}

/// Empties the basket.
#[utoipa::path(post, path = "/basket/clear", tag = "checkout", request_body = Nothing,
    responses((status = 204, description = "Done"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn clear(
    State(server): State<PageServer>,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<StatusCode, Problem> {
    server.press(Press::Clear).await
}

/// Asks for a chip to pay the basket.
#[utoipa::path(post, path = "/checkout/pay", tag = "checkout", request_body = Nothing,
    responses((status = 204, description = "A chip is waited for"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn pay(
    State(server): State<PageServer>,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<StatusCode, Problem> {
    server.press(Press::Pay).await
}

/// Stops waiting for a chip.
#[utoipa::path(post, path = "/checkout/cancel", tag = "checkout", request_body = Nothing,
    responses((status = 204, description = "Done"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn cancel(
    State(server): State<PageServer>,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<StatusCode, Problem> {
    server.press(Press::Cancel).await
}

/// Takes back a sale of this till and day, or some pieces of it.
#[utoipa::path(post, path = "/sales/void", tag = "checkout", request_body = VoidSale,
    responses((status = 204, description = "Done"), (status = 422, description = "Refused", body = Problem, content_type = "application/problem+json")))]
async fn void(
    State(server): State<PageServer>,
    Posted(void): Posted<VoidSale>,
) -> Result<StatusCode, Problem> {
    let lines = void.lines.iter().map(|pieces| VoidLine {
        line: pieces.line,
        quantity: pieces.quantity,
    });
    let request = VoidRequest {
        id: Uuid::now_v7(),
        of: void.id,
        lines: lines.collect(),
    };
    match take_back(&server.ledger, request).await {
        Ok(done) => {
            server.tell(Event::Voided(done)).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => Err(void_problem(&error)),
    }
}

/// Sends waiting entries and fetches changes now.
#[utoipa::path(post, path = "/sync/now", tag = "checkout", request_body = Nothing,
    responses((status = 204, description = "Begun")))]
async fn sync_now(
    State(server): State<PageServer>,
    Posted(Nothing {}): Posted<Nothing>,
) -> StatusCode {
    server.sync.wake.now();
    StatusCode::NO_CONTENT
}

impl PageServer {
    async fn press(&self, press: Press) -> Result<StatusCode, Problem> {
        let (reply, done) = oneshot::channel();
        self.tell(Event::Press(press, reply)).await?;
        match done.await {
            Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
            Ok(Err(error)) => Err(press_problem(&error)),
            Err(_) => Err(Problem::stopping()),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Problem> {
        self.events
            .send(event)
            .await
            .map_err(|_| Problem::stopping())
    }
}

// Refusals.

/// Why a request was refused (RFC 9457), in both languages of the screen.
#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The problem in English.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The problem in Danish.
    da: String,
    /// The problem in English.
    en: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, text: Text) -> Problem {
        Problem {
            kind: format!("/problems/{kind}"),
            title: text.en.clone(),
            status: status.as_u16(),
            da: text.da,
            en: text.en,
        }
    }

    fn refused(kind: &str, refusal: Refusal) -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind,
            refusal_words(&refusal),
        )
    }

    fn stopping() -> Problem {
        let text = Text::new("Kassen er ved at lukke ned", "The till is shutting down");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", text)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = [(CONTENT_TYPE, "application/problem+json")];
        (
            status,
            headers,
            serde_json::to_string(&self).unwrap_or_default(),
        )
            .into_response()
    }
}

fn press_problem(error: &PressError) -> Problem {
    match error {
        PressError::UnknownProduct => Problem::refused("unknown-product", Refusal::UnknownProduct),
        PressError::NothingRunning => Problem::refused("nothing-running", Refusal::NothingRunning),
        PressError::NoReader => Problem::refused("no-reader", Refusal::NoReader),
        PressError::Checkout(error) => checkout_problem(error),
    }
}

fn checkout_problem(error: &CheckoutError) -> Problem {
    let refused = Problem::refused;
    match error {
        CheckoutError::Busy | CheckoutError::BasketInUse => {
            refused("payment-running", Refusal::PaymentRunning)
        }
        CheckoutError::Basket(error) => match error {
            BasketError::Empty => refused("basket-empty", Refusal::BasketEmpty),
            BasketError::Full => refused("basket-full", Refusal::BasketFull),
            BasketError::NoSuchLine => refused("line-gone", Refusal::LineGone),
            BasketError::Amount(_) | BasketError::Quantity => {
                refused("amount", Refusal::TotalTooLarge)
            }
            BasketError::Notation | BasketError::Text | BasketError::Price(_) => {
                refused("line-unreadable", Refusal::LineUnreadable)
            }
        },
    }
}

/// Every error but those of a void's own means that nothing could be written.
fn void_problem(error: &LedgerError) -> Problem {
    let refusal = match error {
        LedgerError::NoSuchSale { .. } | LedgerError::IdTaken { .. } => Refusal::UnknownSale,
        LedgerError::VoidedBefore { .. } => Refusal::VoidedBefore,
        LedgerError::NotSoMany { .. } => Refusal::PiecesGone,
        LedgerError::SaleOfAnotherDay { .. } => Refusal::TooOldToVoid,
        _ => Refusal::JournalUnavailable,
    };
    Problem::refused("void", refusal)
}

/// A JSON body whose refusal is a [`Problem`] too.
struct Posted<T>(T);

impl<T, S> FromRequest<S> for Posted<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + std::marker::Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Posted<T>, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Posted(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                Err(Problem::new(
                    rejection.status(),
                    "bad-request",
                    Text::new(text.clone(), text),
                ))
            }
        }
    }
}

// The guard.

/// What this till is called by its own browser.
#[derive(Clone)]
struct Hosts(Arc<[String]>);

impl Hosts {
    fn of(address: SocketAddr) -> Hosts {
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

async fn guard(hosts: Hosts, request: Request<Body>, next: Next) -> Response {
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
const PICTURES: [&str; 3] = ["image/jpeg", "image/png", "image/svg+xml"];
const HEARTBEAT: Duration = Duration::from_secs(2);
const BODY_MAX: usize = 16 * 1024;

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

    #[test]
    fn a_photo_is_read_in_both_forms_of_its_url() {
        let svg = |url| picture(url).map(|(kind, bytes)| (kind, String::from_utf8(bytes).unwrap()));
        let expect = Some(("image/svg+xml", "<svg/>".to_owned()));
        assert_eq!(svg("data:image/svg+xml,%3Csvg/%3E"), expect);
        assert_eq!(svg("data:image/svg+xml;utf8,%3Csvg/%3E"), expect);
        assert_eq!(svg("data:image/svg+xml;base64,PHN2Zy8+"), expect);
        assert_eq!(svg("data:text/html,%3Cscript%3E"), None);
        assert_eq!(svg("https://example.invalid/a.png"), None);
    }

    #[test]
    fn the_committed_description_is_the_one_that_is_served() {
        let committed = include_str!("../openapi.json");
        assert_eq!(
            committed,
            openapi(),
            "write it anew with: tilld openapi > crates/tilld/openapi.json"
        );
    }
}
