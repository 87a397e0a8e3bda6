//! What an operator should look at: canteens, flags and quarantine.

use axum::Json;
use axum::extract::State;
use hub_ledger::{CanteenId, CanteenRow, FlagRow, QuarantineRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Currency;
use crate::access::Operator;
use crate::body::{Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// A canteen.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CanteenJson {
    /// Its number.
    id: i64,
    /// Its name.
    name: String,
    /// Who runs it.
    tenant: String,
}

/// Canteens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CanteensJson {
    canteens: Vec<CanteenJson>,
}

/// Something that was booked and should be looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlagJson {
    /// Its number.
    id: i64,
    /// `overdrawn`, `unknown_account`, `after_block`, `limit_exceeded_offline`, `refund_excess`,
    /// `z_differs`, `fork`, `rollback`, `forgotten_epoch`, `forced_debit`, `retired_till`, `top_up_stuck`,
    /// `charge_unmatched`, …
    code: String,
    /// When it was raised.
    at: String,
    /// The till whose entry raised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    till: Option<String>,
    /// The entry's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<i64>,
    /// The booking.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<i64>,
    /// The facts.
    detail: String,
}

/// A page of flags.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlagsPage {
    flags: Vec<FlagJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// An entry that could not be booked, byte for byte.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantinedJson {
    /// Its number.
    id: i64,
    /// Why, as a stable word.
    code: String,
    /// Why, with the facts.
    detail: String,
    /// When it came.
    at: String,
    /// The till that wrote it.
    till: String,
    /// The life of the till's ledger.
    epoch: String,
    /// The entry's number.
    seq: u64,
    /// Its header as it came.
    header: String,
    /// Its body as it came.
    body: String,
    /// When it was booked after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
    /// What it was booked as then, if it moved money.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<i64>,
}

/// A page of quarantined entries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantinePage {
    entries: Vec<QuarantinedJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Where the page before ended.
    pub(super) cursor: Option<String>,
    /// At most so many, 100 unless told, 500 at most.
    pub(super) limit: Option<u32>,
}

impl PageQuery {
    pub(super) fn before(&self) -> Result<i64, Problem> {
        match &self.cursor {
            None => Ok(i64::MAX),
            Some(cursor) => cursor
                .parse()
                .map_err(|_| Problem::invalid("cursor", "the cursor is not one of this list")),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 500)
    }
}

/// All canteens.
#[utoipa::path(get, path = "/v1/canteens", tag = "oversight",
    responses((status = 200, body = CanteensJson)), security(("operator" = [])))]
pub(crate) async fn canteens(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<Json<CanteensJson>, Problem> {
    let rows = hub
        .books
        .read(move |books| books.list_canteens(reach))
        .await?;
    Ok(Json(CanteensJson {
        canteens: rows.into_iter().map(CanteenJson::from).collect(),
    }))
}

/// What tills can sell beyond what accounts hold.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExposureJson {
    /// In øre, if all tills sold all that they may without asking.
    exposure: i64,
    #[schema(inline)]
    currency: Currency,
}

/// What the tills of a canteen can sell beyond what the accounts hold, before the hub hears of it.
#[utoipa::path(get, path = "/v1/canteens/{id}/exposure", tag = "oversight",
    params(("id" = i64, Path, description = "The canteen's number")),
    responses((status = 200, body = ExposureJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn exposure(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<ExposureJson>, Problem> {
    let exposure = hub
        .books
        .read(move |books| {
            books.check_canteen(reach, CanteenId(id))?;
            books.exposure(CanteenId(id))
        })
        .await?;
    Ok(Json(ExposureJson {
        exposure: exposure.ore(),
        currency: Currency::Dkk,
    }))
}

/// Which flags.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlagsQuery {
    /// Only those of a code, for example `refund_excess`.
    code: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// At most so many, 100 unless told, 500 at most.
    limit: Option<u32>,
}

/// The newest flags, the newest first.
#[utoipa::path(get, path = "/v1/flags", tag = "oversight", params(FlagsQuery),
    responses((status = 200, body = FlagsPage)), security(("operator" = [])))]
pub(crate) async fn flags(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<FlagsQuery>,
) -> Result<Json<FlagsPage>, Problem> {
    let FlagsQuery {
        code,
        cursor,
        limit,
    } = query;
    let page = PageQuery { cursor, limit };
    let (before, limit) = (page.before()?, page.limit());
    let rows = hub
        .books
        .read(move |books| books.list_flags(reach, code.as_deref(), before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    Ok(Json(FlagsPage {
        next_cursor: rows.last().filter(|_| full).map(|row| row.id.to_string()),
        flags: rows.into_iter().map(FlagJson::from).collect(),
    }))
}

/// The newest entries in quarantine, the newest first.
#[utoipa::path(get, path = "/v1/quarantine", tag = "oversight", params(PageQuery),
    responses((status = 200, body = QuarantinePage)), security(("operator" = [])))]
pub(crate) async fn quarantine(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<QuarantinePage>, Problem> {
    let (before, limit) = (query.before()?, query.limit());
    let rows = hub
        .books
        .read(move |books| books.list_quarantine(reach, before, limit))
        .await?;
    let full = rows.len() == limit as usize;
    Ok(Json(QuarantinePage {
        next_cursor: rows.last().filter(|_| full).map(|row| row.id.to_string()),
        entries: rows.into_iter().map(QuarantinedJson::from).collect(),
    }))
}

impl From<CanteenRow> for CanteenJson {
    fn from(row: CanteenRow) -> CanteenJson {
        CanteenJson {
            id: row.id.0,
            name: row.name,
            tenant: row.tenant_name,
        }
    }
}

impl From<FlagRow> for FlagJson {
    fn from(row: FlagRow) -> FlagJson {
        FlagJson {
            id: row.id,
            code: row.code,
            at: row.at.to_string(),
            till: row.till,
            seq: row.seq,
            account: row.account.map(|account| account.0),
            booking: row.booking.map(|booking| booking.0),
            detail: row.detail,
        }
    }
}

impl From<QuarantineRow> for QuarantinedJson {
    fn from(row: QuarantineRow) -> QuarantinedJson {
        QuarantinedJson {
            id: row.id,
            code: row.code,
            detail: row.detail,
            at: row.at.to_string(),
            till: row.till,
            epoch: row.epoch.to_string(),
            seq: row.seq,
            header: row.header,
            body: row.body,
            resolved_at: row.resolved_at.map(|at| at.to_string()),
            booking: row.booking.map(|booking| booking.0),
        }
    }
}
