//! The HTTP server: what is served where, and how it starts and stops.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sync_proto::HubKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::trace::TraceLayer;
use utoipa_swagger_ui::SwaggerUi;

use crate::access::OperatorAccess;
use crate::api;
use crate::books::Books;
use crate::hub_key::sign_answers;
use crate::pages;
use crate::problem::{Problem, explain};
use crate::pull::Puller;

/// What every request can reach.
#[derive(Clone)]
pub struct Hub {
    pub(crate) books: Books,
    pub(crate) operators: Arc<[OperatorAccess]>,
    pub(crate) key: Arc<HubKey>,
    pub(crate) puller: Puller,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Hub {
    /// A hub on a store; `key` signs what tills are told, and `stopping` turns true when the program
    /// is to end.
    pub fn new(
        books: Books,
        operators: Vec<OperatorAccess>,
        key: HubKey,
        stopping: watch::Receiver<bool>,
    ) -> reqwest::Result<Hub> {
        let key = Arc::new(key);
        Ok(Hub {
            puller: Puller::new(books.clone(), Arc::clone(&key))?,
            books,
            operators: operators.into(),
            key,
            stopping,
        })
    }

    /// The store.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// What fetches entries from tills.
    pub fn puller(&self) -> Puller {
        self.puller.clone()
    }
}

/// Serves until `stop` resolves, then lets the requests under way end.
pub async fn serve(
    listener: TcpListener,
    hub: Hub,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(hub))
        .with_graceful_shutdown(stop)
        .await
}

fn router(hub: Hub) -> Router {
    let (api, description) = api::described_router();
    Router::new()
        .merge(api)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", description))
        .route("/", get(pages::index))
        .route("/statements/{account}", get(pages::statement))
        .route("/problems/{code}", get(explain))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/favicon.ico",
            get(|| async { Redirect::permanent("/docs/favicon-32x32.png") }),
        )
        .method_not_allowed_fallback(|| async {
            Problem::new("method", "this address does not take requests of that kind")
        })
        .fallback(|| async { Problem::new("not-found", "there is nothing at this address") })
        // Counted after unpacking, so that a small body cannot grow without bounds.
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn(unpack_batches_only))
        .layer(from_fn_with_state(Arc::clone(&hub.key), sign_answers))
        .layer(CompressionLayer::new())
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(hub)
}

/// Unpacking takes memory, so only batches of entries may be packed; they have bounds.
async fn unpack_batches_only(request: Request, next: Next) -> Response {
    let packed = request.headers().contains_key(header::CONTENT_ENCODING);
    let path = request.uri().path();
    let batch = ["/batches", "/branch", "/raw"]
        .iter()
        .any(|end| path.ends_with(end));
    if packed && !batch {
        return Problem::new("packed", "only batches may have a Content-Encoding").into_response();
    }
    next.run(request).await
}

/// Without the query: it can hold a chip number.
fn span(request: &axum::http::Request<axum::body::Body>) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// Whether the store answers and its books are right.
async fn ready(axum::extract::State(hub): axum::extract::State<Hub>) -> Response {
    match hub.books.read(|books| books.sum_of_balances()).await {
        Ok(sum) if sum == canteen::Money::ZERO => "ok\n".into_response(),
        Ok(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the books do not balance\n",
        )
            .into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The most that a body may have once unpacked.
const BODY_MAX: usize = 8 << 20;
