//! Why a request of the page was refused.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use canteen::{BasketError, CheckoutError};
use serde::Serialize;
use till_ledger::LedgerError;
use till_page::{Refusal, Text, refusal_words};
use utoipa::ToSchema;

use crate::event::PressError;

/// Why a request was refused (RFC 9457), in both languages of the screen.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
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
    pub(super) fn new(status: StatusCode, kind: &str, text: Text) -> Problem {
        Problem {
            kind: format!("/problems/{kind}"),
            title: text.en.clone(),
            status: status.as_u16(),
            da: text.da,
            en: text.en,
        }
    }

    pub(super) fn refused(kind: &str, refusal: Refusal) -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind,
            refusal_words(&refusal),
        )
    }

    pub(super) fn stopping() -> Problem {
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

pub(super) fn press_problem(error: &PressError) -> Problem {
    match error {
        PressError::UnknownProduct => Problem::refused("unknown-product", Refusal::UnknownProduct),
        PressError::NothingRunning => Problem::refused("nothing-running", Refusal::NothingRunning),
        PressError::NoReader => Problem::refused("no-reader", Refusal::NoReader),
        PressError::Checkout(error) => checkout_problem(error),
    }
}

pub(super) fn checkout_problem(error: &CheckoutError) -> Problem {
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
pub(super) fn void_problem(error: &LedgerError) -> Problem {
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
pub(super) struct Posted<T>(pub(super) T);

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
