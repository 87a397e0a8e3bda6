//! Errors of the API: `application/problem+json` (RFC 9457) with stable types.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use canteen::DeclineReason;
use hub_ledger::{LedgerError, Refusal};
use serde::Serialize;
use serde_json::{Map, Value};
use sync_proto::{BatchRefusal, FeedRefusal};
use tracing::error;
use utoipa::ToSchema;

use crate::books::BooksError;

/// An error as it is sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Where the kind of problem is explained; stable.
    #[serde(rename = "type")]
    #[schema(example = "/problems/deposit-amount")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// The field of the request that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// More facts, for programs.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub facts: Map<String, Value>,
}

impl Problem {
    /// A problem of a kind from the list of problems.
    pub fn new(code: &str, detail: impl Into<String>) -> Problem {
        let (status, title) = match KINDS.iter().find(|kind| kind.code == code) {
            Some(kind) => (kind.status, kind.title),
            None => (500, "Something went wrong"),
        };
        Problem {
            kind: format!("/problems/{code}"),
            title,
            status,
            detail: detail.into(),
            field: None,
            facts: Map::new(),
        }
    }

    /// The same problem, with the field that is wrong.
    #[must_use]
    pub fn about(self, field: impl Into<String>) -> Problem {
        Problem {
            field: Some(field.into()),
            ..self
        }
    }

    /// A request that is well formed and means nothing.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Problem {
        Problem::new("invalid", detail).about(field)
    }

    /// A purchase that an account does not pay for, with the reason and its figures.
    pub fn declined(reason: &DeclineReason) -> Problem {
        let mut problem = Problem::new("declined", "the account does not pay for this purchase");
        let facts = &mut problem.facts;
        facts.insert("code".to_owned(), reason.code().into());
        if let DeclineReason::InsufficientFunds { balance } = reason {
            facts.insert("balance".to_owned(), balance.ore().into());
        }
        if let DeclineReason::LimitNotHere { left } = reason {
            facts.insert("left".to_owned(), left.ore().into());
        }
        if let Some(limit) = reason.limit() {
            facts.insert("limit".to_owned(), limit.limit.ore().into());
            facts.insert("left".to_owned(), limit.left.ore().into());
        }
        problem
    }

    fn with_facts(self, refusal: &impl Serialize) -> Problem {
        match serde_json::to_value(refusal) {
            Ok(Value::Object(facts)) => Problem { facts, ..self },
            Ok(_) | Err(_) => self,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            // Two headers and not one with a comma: browsers do not read a list that begins with a
            // scheme they do not know.
            for challenge in ["Basic realm=\"hub\"", "Bearer"] {
                let challenge = HeaderValue::from_static(challenge);
                headers.append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }
}

impl From<BooksError> for Problem {
    fn from(error: BooksError) -> Problem {
        match error {
            BooksError::Ledger(LedgerError::Refused(refusal)) => refusal.into(),
            BooksError::Busy => Problem::new("busy", error.to_string()),
            BooksError::Ledger(
                LedgerError::Open { .. }
                | LedgerError::Migrate(_)
                | LedgerError::Database(_)
                | LedgerError::Unreadable { .. },
            )
            | BooksError::Unconfirmed => {
                error!(error = &error as &dyn std::error::Error, "Failed to answer");
                Problem::new("internal", "the hub could not do this; its log says why")
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let problem = Problem::new(refusal.code(), refusal.to_string());
        match refusal {
            Refusal::DepositAmount { .. }
            | Refusal::CorrectionAmount { .. }
            | Refusal::TopUpAmount { .. }
            | Refusal::DebitAmount { .. }
            | Refusal::RefundAmount { .. } => problem.about("amount"),
            Refusal::OrderLines => problem.about("lines"),
            Refusal::SameAccount => problem.about("to"),
            Refusal::NoAgreementOnCard => problem.about("account"),
            Refusal::Price { .. } => problem.about("price"),
            Refusal::NotFound { .. }
            | Refusal::Exists { .. }
            | Refusal::AccountBlocked
            | Refusal::AccountClosed
            | Refusal::DepositReversed { .. }
            | Refusal::BalanceLeft { .. }
            | Refusal::Negative { .. }
            | Refusal::NotCovered { .. }
            | Refusal::SaleKnown
            | Refusal::StillUnreadable { .. }
            | Refusal::TillInUse
            | Refusal::KeySets { .. }
            | Refusal::NotFrozen
            | Refusal::TopUpUnderWay
            | Refusal::ChipClosed
            | Refusal::KeyReused
            | Refusal::Enrolment
            | Refusal::Empty { .. } => problem,
        }
    }
}

impl From<BatchRefusal> for Problem {
    fn from(refusal: BatchRefusal) -> Problem {
        let (code, detail) = match &refusal {
            BatchRefusal::Gap { expected } => {
                ("gap", format!("the next entry must have number {expected}"))
            }
            BatchRefusal::Fork { .. } => (
                "fork",
                "other entries are stored under these numbers; enrol the till anew".to_owned(),
            ),
            BatchRefusal::BadChain => (
                "bad-chain",
                "numbers, hashes or signature are wrong; send the batch from the disk again"
                    .to_owned(),
            ),
            BatchRefusal::Revoked => (
                "revoked",
                "the till was revoked; it may still send its entries as a branch".to_owned(),
            ),
            BatchRefusal::NotEnrolled => (
                "not-enrolled",
                "the till or its ledger is not enrolled here, or was revoked".to_owned(),
            ),
            BatchRefusal::TooLarge => ("too-large", "send fewer entries at once".to_owned()),
        };
        Problem::new(code, detail).with_facts(&refusal)
    }
}

impl From<FeedRefusal> for Problem {
    fn from(refusal: FeedRefusal) -> Problem {
        let (code, detail) = match &refusal {
            FeedRefusal::SnapshotRequired => (
                "snapshot-required",
                "the cursor is not from this hub; fetch a snapshot",
            ),
            FeedRefusal::NotEnrolled => (
                "not-enrolled",
                "the till is not enrolled here, or was revoked",
            ),
            FeedRefusal::Revoked => ("revoked", "the till was revoked; it sells nothing more"),
            FeedRefusal::Fork { .. } => (
                "fork",
                "this hub holds other entries of the till's ledger; enrol the till anew",
            ),
            FeedRefusal::Rollback { .. } => (
                "rollback",
                "the till's ledger ends before what this hub has of it; enrol the till anew",
            ),
        };
        Problem::new(code, detail).with_facts(&refusal)
    }
}

/// Explains a kind of problem to a person.
pub(crate) async fn explain(Path(code): Path<String>) -> Response {
    match KINDS.iter().find(|kind| kind.code == code) {
        None => Problem::new("not-found", "there is no such kind of problem").into_response(),
        Some(kind) => {
            format!("{} ({})\n\n{}\n", kind.title, kind.status, kind.advice).into_response()
        }
    }
}

/// The codes and titles of the kinds with a status.
pub(crate) fn kinds_with_status(status: u16) -> impl Iterator<Item = (&'static str, &'static str)> {
    let kinds = KINDS.iter().filter(move |kind| kind.status == status);
    kinds.map(|kind| (kind.code, kind.title))
}

struct Kind {
    code: &'static str,
    status: u16,
    title: &'static str,
    advice: &'static str,
}

const fn kind(code: &'static str, status: u16, title: &'static str, advice: &'static str) -> Kind {
    Kind {
        code,
        status,
        title,
        advice,
    }
}

/// Every kind of problem that the hub answers with.
const KINDS: &[Kind] = &[
    kind(
        "gap",
        409,
        "Entries are missing",
        "The till sends its ledger again from the number `expected`.",
    ),
    kind(
        "fork",
        409,
        "The ledger has two branches",
        "Two machines write under one till's name: a disk was copied or restored. Give the till a new enrolment code. Both agree up to the number `agreed_through`.",
    ),
    kind(
        "bad-chain",
        400,
        "The batch does not hold together",
        "Numbers, hashes or the signature are wrong, most often because bytes changed on the way. Nothing was stored; the till sends the batch again.",
    ),
    kind(
        "not-enrolled",
        401,
        "The till is not enrolled",
        "The token is missing, wrong or revoked, or the ledger's epoch was not enrolled. Enrol the till with a new code.",
    ),
    kind(
        "revoked",
        403,
        "The till was revoked",
        "An operator has taken the till out of service. Enrol it with a new code if it is to sell again.",
    ),
    kind(
        "enrolment-refused",
        403,
        "The enrolment is refused",
        "The till's name and code do not fit, or another machine used the code. Make a new code and try again.",
    ),
    kind(
        "too-large",
        413,
        "The request is too large",
        "A till halves its batch and tries again. A body may have 8 MiB once unpacked.",
    ),
    kind(
        "packed",
        415,
        "The body is packed",
        "Only a till's batches may have a Content-Encoding. Send the body as it is.",
    ),
    kind(
        "method",
        405,
        "Not that kind of request",
        "The address exists, but not for this method; see /docs.",
    ),
    kind(
        "snapshot-required",
        410,
        "A snapshot is required",
        "The cursor comes from another life of the hub's database. The till fetches a snapshot and goes on from there.",
    ),
    kind(
        "not-served",
        409,
        "The till does not serve its entries",
        "It sends them by itself. To be able to fetch them, set `[pull] listen` in the till's configuration.",
    ),
    kind(
        "till-silent",
        502,
        "The till does not answer",
        "It is off, or no line leads to the address that it told last.",
    ),
    kind(
        "unauthorized",
        401,
        "The token is missing or wrong",
        "Send `Authorization: Bearer` with an operator's token.",
    ),
    kind(
        "forbidden",
        403,
        "Not within reach",
        "The token belongs to a tenant that this hub does not have.",
    ),
    kind(
        "not-found",
        404,
        "Not found",
        "There is no such thing, or it belongs to another tenant.",
    ),
    kind(
        "exists",
        409,
        "It exists already",
        "Something of that name is there already.",
    ),
    kind(
        "account-blocked",
        409,
        "The account is blocked",
        "No money can be paid into a blocked account, or one whose chips are all blocked. Reactivate it first.",
    ),
    kind(
        "account-closed",
        409,
        "The account is closed",
        "A closed account stays closed.",
    ),
    kind(
        "balance-left",
        409,
        "The account is not empty",
        "Bring the balance to zero before closing the account.",
    ),
    kind(
        "not-covered",
        409,
        "The account does not hold that much",
        "No more is paid out or moved than the account holds. Money that is set aside already does not count.",
    ),
    kind(
        "declined",
        409,
        "The account does not pay",
        "The purchase is declined for the reason in `code`, as at a till: `account_blocked`, `limit_day`, `limit_week`, `limit_month`, `insufficient_funds` or, when tills hold what is left of strict limits, `limit_not_here`: they are asked to give it back, so try again in a moment.",
    ),
    kind(
        "debit-amount",
        422,
        "Not an amount to take out",
        "A payout or a transfer is above zero and at most 100.000 kr, given in øre.",
    ),
    kind(
        "refund-amount",
        409,
        "Not that much is left of the purchase",
        "No more is taken back than was paid, and no piece of it twice. What was taken back already, here or at the till, does not count.",
    ),
    kind(
        "sale-known",
        409,
        "The sale needs no account",
        "Only a sale flagged `unknown_account` is assigned, once, and only as far as it was not taken back.",
    ),
    kind(
        "still-unreadable",
        409,
        "The entry still cannot be booked",
        "This program cannot book the entry either; it stays in quarantine as it is. Try again after the next upgrade.",
    ),
    kind(
        "same-account",
        422,
        "Both accounts are the same",
        "Money is moved from one account to another.",
    ),
    kind(
        "order-lines",
        422,
        "The lines do not make an order",
        "Every line needs a text, a number of pieces above zero and the price of one piece in øre; all together above zero and at most 100.000 kr.",
    ),
    kind(
        "no-agreement-on-card",
        409,
        "The account never had that card",
        "A charge is credited to an account that has or had an agreement on its card; GET /v1/top-ups/unmatched names them. Otherwise pay it in as a deposit by card with the gateway's transaction.",
    ),
    kind(
        "top-up-under-way",
        409,
        "Another top-up is under way",
        "The account is blocked, so the money must go back to the card, and that waits until the other top-up has ended. Try again later, or reactivate the account.",
    ),
    kind(
        "not-frozen",
        409,
        "Nothing waits",
        "The canteen waits for no reports of tills, so there is no freeze to end.",
    ),
    kind(
        "till-in-use",
        409,
        "The till is in use",
        "Only a till that is revoked, or whose name has begun another ledger, is retired. Revoke it, or enrol its successor with a new code.",
    ),
    kind(
        "rollback",
        409,
        "The ledger ends too early",
        "The till's disk was restored: the hub has entries up to `accepted_seq` that the till does not have. Give the till a new enrolment code.",
    ),
    kind(
        "chip-closed",
        409,
        "The chip is closed",
        "A chip that was replaced stays closed. Add it as a new chip.",
    ),
    kind(
        "deposit-amount",
        422,
        "Not an amount to deposit",
        "A deposit is a whole number of kroner above zero, given in øre: 10000 is 100 kr.",
    ),
    kind(
        "deposit-reversed",
        409,
        "The deposit was reversed",
        "A deposit is taken back once, and whole. The booking that did it stands on the statement.",
    ),
    kind(
        "correction-amount",
        422,
        "Not an amount to correct by",
        "A correction is not zero and at most 100.000 kr either way, given in øre.",
    ),
    kind(
        "top-up-amount",
        422,
        "Not an amount to top up by",
        "An automatic top-up is a whole number of kroner from 50 to 1000, given in øre.",
    ),
    kind(
        "price",
        422,
        "Not a price",
        "A price is above zero, given in øre.",
    ),
    kind(
        "negative",
        422,
        "Not below zero",
        "Limits and credit lines are zero or more, given in øre.",
    ),
    kind(
        "empty",
        422,
        "Something is empty",
        "The text named in the detail must not be empty.",
    ),
    kind(
        "invalid",
        422,
        "The request is not valid",
        "The field named in `field` is missing, unknown or has the wrong type. Amounts are whole numbers of øre, never text or fractions.",
    ),
    kind(
        "malformed",
        400,
        "The body is not JSON",
        "Send JSON with `Content-Type: application/json`.",
    ),
    kind(
        "key-missing",
        400,
        "The Idempotency-Key is missing",
        "Send a key of your own with every request that books money, and the same key when you send it again.",
    ),
    kind(
        "key-reused",
        422,
        "The Idempotency-Key was used before",
        "The same key came with another request. Draw a new key for every new request.",
    ),
    kind(
        "key-sets",
        409,
        "Too many versions of chip keys",
        "Every version in use is tried on every chip. Revoke the oldest, once its chips are enrolled anew.",
    ),
    kind(
        "busy",
        503,
        "The hub is busy",
        "Try again after the time in `Retry-After`.",
    ),
    kind(
        "internal",
        500,
        "The hub failed",
        "Nothing is known to have happened. Send the same request again; the hub's log says what failed.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_kind() {
        let refusals = [
            Refusal::AccountBlocked,
            Refusal::AccountClosed,
            Refusal::ChipClosed,
            Refusal::DepositReversed {
                reversal: hub_ledger::BookingId(1),
            },
            Refusal::KeySets { most: 4 },
            Refusal::TillInUse,
            Refusal::NotFrozen,
            Refusal::NoAgreementOnCard,
            Refusal::TopUpUnderWay,
            Refusal::NotCovered {
                balance: canteen::Money::ZERO,
            },
            Refusal::SameAccount,
            Refusal::OrderLines,
            Refusal::SaleKnown,
            Refusal::StillUnreadable {
                detail: String::new(),
            },
            Refusal::RefundAmount {
                amount: canteen::Money::ZERO,
                most: canteen::Money::ZERO,
            },
            Refusal::KeyReused,
            Refusal::Enrolment,
            Refusal::Empty { what: "name" },
            Refusal::BalanceLeft {
                balance: canteen::Money::ZERO,
            },
            Refusal::TopUpAmount {
                amount: canteen::Money::ZERO,
            },
        ];
        for refusal in refusals {
            let problem = Problem::from(refusal);
            assert_ne!(problem.status, 500, "{}", problem.kind);
        }
        let rollback = Problem::from(FeedRefusal::Rollback { accepted_seq: 6 });
        assert_eq!(
            (rollback.status, &rollback.facts["code"]),
            (409, &"rollback".into())
        );
        let gap = Problem::from(BatchRefusal::Gap { expected: 6 });
        assert_eq!((gap.status, gap.facts["expected"].as_u64()), (409, Some(6)));
        assert_eq!(gap.facts["code"], "gap");
    }
}
