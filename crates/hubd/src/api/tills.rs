//! Tills for operators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub_ledger::{CanteenId, Fingerprint, NewTill, Reach, TillRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{IdentityError, TillId};
use utoipa::ToSchema;

use super::Currency;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// A till.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TillJson {
    /// Its name.
    id: String,
    /// Where it stands.
    canteen: i64,
    /// `waiting` for its enrolment, `enrolled` or `revoked`.
    state: &'static str,
    /// The life of its ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// All its entries up to here are stored.
    accepted_through: u64,
    /// Entries that it still held back when it sent its last batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsent: Option<u64>,
    /// When it was heard last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<String>,
    /// The version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// When it enrolled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    enrolled_at: Option<String>,
}

/// Tills.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TillsJson {
    tills: Vec<TillJson>,
}

/// What makes a till.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTillJson {
    /// Its name: 1 to 32 lower-case letters, digits and hyphens.
    #[schema(example = "kasse-1")]
    id: String,
    /// Where it stands.
    canteen: i64,
}

/// A one-time code, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CodeJson {
    /// The till.
    id: String,
    /// Type it at the till.
    enrolment_code: String,
}

/// All tills.
#[utoipa::path(get, path = "/v1/tills", tag = "tills", responses((status = 200, body = TillsJson)),
    security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<Json<TillsJson>, Problem> {
    let rows = hub.books.read(move |books| books.list_tills(reach)).await?;
    Ok(Json(TillsJson {
        tills: rows.into_iter().map(TillJson::from).collect(),
    }))
}

/// Makes a till that waits for its enrolment, with a one-time code.
#[utoipa::path(post, path = "/v1/tills", tag = "tills", request_body = NewTillJson,
    responses((status = 201, body = CodeJson), (status = 409, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn create(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Body(new): Body<NewTillJson>,
) -> Result<(StatusCode, Json<CodeJson>), Problem> {
    let id = till_id(&new.id)?;
    let code = draw_code()?;
    let till = NewTill {
        id: id.clone(),
        canteen: CanteenId(new.canteen),
        code: Fingerprint::of(&code),
    };
    hub.books
        .write(move |books| {
            books.check_canteen(reach, till.canteen)?;
            books.create_till(&till, Timestamp::now())
        })
        .await?;
    Ok((StatusCode::CREATED, Json(CodeJson::new(&id, code))))
}

/// Shows a till.
#[utoipa::path(get, path = "/v1/tills/{till}", tag = "tills",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 200, body = TillJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn show(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
) -> Result<Json<TillJson>, Problem> {
    read(&hub, reach, till_id(&till)?).await
}

/// Gives a till a new one-time code: for another machine, or after a fork.
#[utoipa::path(post, path = "/v1/tills/{till}/enrolment-code", tag = "tills",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 201, body = CodeJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn renew_code(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
) -> Result<(StatusCode, Json<CodeJson>), Problem> {
    let id = till_id(&till)?;
    let code = draw_code()?;
    let (till, fingerprint) = (id.clone(), Fingerprint::of(&code));
    hub.books
        .write(move |books| {
            books.till_within(reach, &till)?;
            books.renew_code(&till, fingerprint)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(CodeJson::new(&id, code))))
}

/// Takes a till's token away. What it has sent stays, and what it may still be selling goes on
/// counting until it is retired.
#[utoipa::path(post, path = "/v1/tills/{till}/revoke", tag = "tills",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 200, body = TillJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn revoke(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
) -> Result<Json<TillJson>, Problem> {
    let id = till_id(&till)?;
    let till = id.clone();
    hub.books
        .write(move |books| {
            books.till_within(reach, &till)?;
            books.revoke_till(&till, Timestamp::now())
        })
        .await?;
    read(&hub, reach, id).await
}

/// What a retired till leaves behind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetiredJson {
    /// In øre: what it may have sold without the hub hearing of it.
    at_risk: i64,
    #[schema(inline)]
    currency: Currency,
}

/// Gives up a till that is gone for good: revoked, or followed by another machine.
///
/// Until then the hub reckons with all that the machine may still be selling somewhere without
/// contact, and other tills may sell so much less. The amount is flagged.
#[utoipa::path(post, path = "/v1/tills/{till}/retire", tag = "tills",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 200, body = RetiredJson), (status = 404, body = Problem),
        (status = 409, description = "The till is in use", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn retire(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(till): Path<String>,
) -> Result<Json<RetiredJson>, Problem> {
    let till = till_id(&till)?;
    let at_risk = hub
        .books
        .write(move |books| {
            books.till_within(reach, &till)?;
            books.retire_till(&till, Timestamp::now())
        })
        .await?;
    Ok(Json(RetiredJson {
        at_risk: at_risk.ore(),
        currency: Currency::Dkk,
    }))
}

async fn read(hub: &Hub, reach: Reach, id: TillId) -> Result<Json<TillJson>, Problem> {
    let row = hub
        .books
        .read(move |books| books.till_within(reach, &id))
        .await?;
    Ok(Json(TillJson::from(row)))
}

pub(super) fn till_id(text: &str) -> Result<TillId, Problem> {
    text.parse()
        .map_err(|error: IdentityError| Problem::invalid("id", error.to_string()))
}

/// 60 random bits in three groups, without letters that look like digits.
fn draw_code() -> Result<String, Problem> {
    let bits = getrandom::u64()
        .map_err(|_| Problem::new("internal", "the system gives no random numbers"))?;
    let digit = |place: u32| CODE_DIGITS[(bits >> (5 * place)) as usize & 31] as char;
    let group = |first: u32| (first..first + 4).map(digit).collect::<String>();
    Ok(format!("{}-{}-{}", group(0), group(4), group(8)))
}

impl CodeJson {
    fn new(till: &TillId, code: String) -> CodeJson {
        CodeJson {
            id: till.to_string(),
            enrolment_code: code,
        }
    }
}

impl From<TillRow> for TillJson {
    fn from(row: TillRow) -> TillJson {
        let state = match (row.revoked_at, row.enrolled_at) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "enrolled",
            (None, None) => "waiting",
        };
        TillJson {
            id: row.id.to_string(),
            canteen: row.canteen.0,
            state,
            epoch: row.epoch.map(|epoch| epoch.to_string()),
            accepted_through: row.accepted_through,
            unsent: row.unsent,
            seen_at: row.seen_at.map(|at| at.to_string()),
            version: row.version,
            enrolled_at: row.enrolled_at.map(|at| at.to_string()),
        }
    }
}

const CODE_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
