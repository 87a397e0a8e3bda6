//! Reading what a request says, with errors that name the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return Err(Problem::new(
                "malformed",
                "the Content-Type is not application/json",
            ));
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(unreadable)?;
        let mut input = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut input).map_err(wrong_field)?;
        input
            .end()
            .map_err(|error| Problem::new("malformed", error.to_string()))?;
        Ok(Body(value))
    }
}

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Query(value))
            .map_err(|rejection| Problem::new("invalid", rejection.body_text()))
    }
}

/// The parts of the address. What is not a number, or not a name, is not there.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Path(value))
            .map_err(|rejection| Problem::new("not-found", rejection.body_text()))
    }
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new("too-large", "the body has more than 8 MiB");
    }
    Problem::new(
        "malformed",
        "the body could not be read to its end or unpacked",
    )
}

fn wrong_field(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let inner = error.into_inner();
    if inner.is_syntax() || inner.is_eof() {
        return Problem::new("malformed", inner.to_string());
    }
    // An unknown or missing field is told by name and has no path of its own.
    let named = inner.to_string().split('`').nth(1).map(str::to_owned);
    let field = if path == "." {
        named.unwrap_or_default()
    } else {
        path
    };
    Problem::new("invalid", inner.to_string()).about(field)
}
