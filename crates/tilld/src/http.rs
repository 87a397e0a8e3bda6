//! The cashier page over HTTP on the loopback interface.
//!
//! The browser may be made to visit other pages, and those may try to reach this one. So every
//! request must name this till as its host, every change must come from this page itself, as
//! JSON, and reading never changes anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use canteen::{AccountId, BasketLine};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use sync_proto::VoidLine;
use till_ledger::{Ledger, VoidRequest};
use till_page::{Frame, PageState, Text, page, static_file};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::WatchStream;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::event::{Event, Press};
use crate::sync::Sync;
use crate::void::take_back;

mod guard;
mod problem;

use self::guard::{Hosts, guard};
use self::problem::{Posted, Problem, checkout_problem, press_problem, void_problem};

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

const PICTURES: [&str; 3] = ["image/jpeg", "image/png", "image/svg+xml"];
const HEARTBEAT: Duration = Duration::from_secs(2);
const BODY_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
