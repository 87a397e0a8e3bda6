//! Reading what a request says, with errors that name the field.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
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
            .map_err(|rejection| wrong_query(&rejection.body_text()))
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
            .map_err(|rejection| Problem::new("not-found", nothing_there(&rejection)))
    }
}

/// A person reads this; the name of the type that was wanted means nothing to her.
fn nothing_there(rejection: &PathRejection) -> String {
    let part = match rejection {
        PathRejection::FailedToDeserializePathParams(failed) => match failed.kind() {
            ErrorKind::ParseError { value, .. }
            | ErrorKind::ParseErrorAtKey { value, .. }
            | ErrorKind::ParseErrorAtIndex { value, .. }
            | ErrorKind::DeserializeError { value, .. } => Some(value),
            _ => None,
        },
        _ => None,
    };
    match part {
        Some(part) => format!("{part:?} in this address is no number or name of the kind there"),
        None => "this address cannot be read".to_owned(),
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
    Problem::new("invalid", without_rust(&inner.to_string())).about(field)
}

/// `text` is axum's: a preface, the field, what is wrong with it.
fn wrong_query(text: &str) -> Problem {
    let fault = text
        .strip_prefix("Failed to deserialize query string: ")
        .unwrap_or(text);
    let problem = Problem::new("invalid", without_rust(fault));
    match fault.split_once(": ") {
        Some((field, _)) => problem.about(field),
        None => problem,
    }
}

/// Who calls from another language knows numbers and objects, not this one's types. What was sent may
/// stand before "expected" and stays as it is.
fn without_rust(text: &str) -> String {
    let Some((sent, wanted)) = text.rsplit_once("expected ") else {
        let digit = "invalid digit found in string";
        return text.replace(digit, "not a whole number from 0 up");
    };
    let (kind, rest) = wanted.split_once(' ').unwrap_or((wanted, ""));
    let told = match kind {
        "i64" | "i32" | "i16" | "i8" | "isize" => format!("a whole number {rest}"),
        "u64" | "u32" | "u16" | "u8" | "usize" => format!("a whole number from 0 up {rest}"),
        "struct" => {
            let (_its_name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            format!("an object {rest}")
        }
        _ => wanted.to_owned(),
    };
    format!("{sent}expected {}", told.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(told: &str, expect: &str) {
        assert_eq!(without_rust(told), expect);
    }

    #[test]
    fn types_are_told_in_words_that_every_language_has() {
        check(
            "invalid type: string \"ten\", expected i64 at line 1 column 15",
            "invalid type: string \"ten\", expected a whole number at line 1 column 15",
        );
        check(
            "invalid length 0, expected struct DepositJson with 3 elements at line 1 column 2",
            "invalid length 0, expected an object with 3 elements at line 1 column 2",
        );
        check("missing field `amount`", "missing field `amount`");
        check(
            "invalid type: string \"one u8\", expected u32",
            "invalid type: string \"one u8\", expected a whole number from 0 up",
        );
    }

    #[test]
    fn a_wrong_query_names_its_field() {
        let problem =
            wrong_query("Failed to deserialize query string: limit: invalid digit found in string");
        assert_eq!(problem.field.as_deref(), Some("limit"));
        assert_eq!(problem.detail, "limit: not a whole number from 0 up");
    }
}
