//! Chips for operators and integrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use canteen::{AccountId, CardNumber, ChipNumber, KeyVersion, NumberShape};
use hub_ledger::{ChipRow, NewChip, Reach};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::Operator;
use crate::body::{Body, Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// A chip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChipJson {
    /// The hub's number of the chip; the UID itself stays out of addresses and entries.
    number: i64,
    /// Its UID, upper-case hex.
    #[schema(example = "72BF9961")]
    uid: String,
    /// The UID as a decimal, for chips of 4 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    decimal: Option<String>,
    /// The number printed on the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    /// The account that it pays from.
    account: i64,
    /// `active`, `blocked`, or `closed` once replaced.
    status: &'static str,
    /// The version of the keys that it must prove itself by; absent when its UID is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_version: Option<u8>,
}

/// Chips.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChipsJson {
    chips: Vec<ChipJson>,
}

/// Which chip.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindQuery {
    /// The chip number in any shape: hex, decimal or printed card number.
    number: String,
}

/// What makes a chip known.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewChipJson {
    /// Its UID as hex or as a decimal.
    #[schema(example = "72BF9961")]
    chip: String,
    /// The number printed on the card, 14 digits.
    #[serde(default)]
    card: Option<String>,
    /// The version of the keys that were written on it: it must prove itself from now on. A chip
    /// that the account has already may be sent again with it.
    #[serde(default)]
    key_version: Option<u8>,
}

impl NewChipJson {
    fn parse(&self) -> Result<NewChip, Problem> {
        let uid = match ChipNumber::parse(&self.chip) {
            Ok(ChipNumber::Chip(uid)) => uid,
            // Who has just written keys on a chip says its UID, which may happen to have no letter.
            Ok(ChipNumber::Card(_)) if self.key_version.is_some() => NumberShape::Hex
                .read(&self.chip)
                .map_err(|error| Problem::invalid("chip", error.to_string()))?,
            Ok(ChipNumber::Card(_)) => {
                let detail =
                    "this is a printed card number; give the chip's UID and put it in card";
                return Err(Problem::invalid("chip", detail));
            }
            Err(error) => return Err(Problem::invalid("chip", error.to_string())),
        };
        let card = match &self.card {
            None => None,
            Some(text) => Some(
                CardNumber::parse(text)
                    .ok_or_else(|| Problem::invalid("card", "a card number has 14 digits"))?,
            ),
        };
        Ok(NewChip {
            uid,
            card,
            key_version: self.key_version.map(KeyVersion),
        })
    }
}

/// The chips of an account, the newest first.
#[utoipa::path(get, path = "/v1/accounts/{id}/chips", tag = "chips",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = ChipsJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn of_account(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<ChipsJson>, Problem> {
    let rows = hub
        .books
        .read(move |books| {
            books.account_within(reach, AccountId(id))?;
            books.chips_of(AccountId(id))
        })
        .await?;
    Ok(Json(ChipsJson::from(rows)))
}

/// Gives an account a chip.
#[utoipa::path(post, path = "/v1/accounts/{id}/chips", tag = "chips", request_body = NewChipJson,
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 201, body = ChipJson), (status = 409, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn add(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(new): Body<NewChipJson>,
) -> Result<(StatusCode, Json<ChipJson>), Problem> {
    let chip = new.parse()?;
    let number = hub
        .books
        .write(move |books| {
            books.account_within(reach, AccountId(id))?;
            let (account, now) = (AccountId(id), Timestamp::now());
            match chip.key_version {
                Some(version) => books.enrol_chip(account, &chip, version, now),
                None => books.add_chip(account, &chip, now),
            }
        })
        .await?;
    Ok((StatusCode::CREATED, read(&hub, reach, number).await?))
}

/// Finds chips by a number in any of its shapes.
#[utoipa::path(get, path = "/v1/chips", tag = "chips", params(FindQuery),
    responses((status = 200, body = ChipsJson), (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn find(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<FindQuery>,
) -> Result<Json<ChipsJson>, Problem> {
    let number = ChipNumber::parse(&query.number)
        .map_err(|error| Problem::invalid("number", error.to_string()))?;
    let rows = hub
        .books
        .read(move |books| books.find_chips(reach, &number))
        .await?;
    Ok(Json(ChipsJson::from(rows)))
}

/// Shows a chip.
#[utoipa::path(get, path = "/v1/chips/{number}", tag = "chips",
    params(("number" = i64, Path, description = "The hub's number of the chip")),
    responses((status = 200, body = ChipJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn show(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(number): Path<i64>,
) -> Result<Json<ChipJson>, Problem> {
    read(&hub, reach, number).await
}

/// Blocks a chip (Spær kort). Again changes nothing.
#[utoipa::path(post, path = "/v1/chips/{number}/block", tag = "chips",
    params(("number" = i64, Path, description = "The hub's number of the chip")),
    responses((status = 200, body = ChipJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn block(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(number): Path<i64>,
) -> Result<Json<ChipJson>, Problem> {
    hub.books
        .write(move |books| {
            books.chip_within(reach, number)?;
            books.block_chip(number, Timestamp::now())
        })
        .await?;
    read(&hub, reach, number).await
}

/// Makes a blocked chip active again (Aktiver kort).
#[utoipa::path(post, path = "/v1/chips/{number}/reactivate", tag = "chips",
    params(("number" = i64, Path, description = "The hub's number of the chip")),
    responses((status = 200, body = ChipJson), (status = 409, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn reactivate(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(number): Path<i64>,
) -> Result<Json<ChipJson>, Problem> {
    hub.books
        .write(move |books| {
            books.chip_within(reach, number)?;
            books.reactivate_chip(number, Timestamp::now())
        })
        .await?;
    read(&hub, reach, number).await
}

/// Closes a chip and gives its account another; balance and limits carry over.
#[utoipa::path(post, path = "/v1/chips/{number}/replace", tag = "chips", request_body = NewChipJson,
    params(("number" = i64, Path, description = "The hub's number of the old chip")),
    responses((status = 201, description = "The new chip", body = ChipJson),
        (status = 409, body = Problem), (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn replace(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(number): Path<i64>,
    Body(new): Body<NewChipJson>,
) -> Result<(StatusCode, Json<ChipJson>), Problem> {
    let chip = new.parse()?;
    if chip.key_version.is_some() {
        let detail =
            "close the old chip by replacing it, and enrol one with keys under its account";
        return Err(Problem::invalid("key_version", detail));
    }
    let number = hub
        .books
        .write(move |books| {
            books.chip_within(reach, number)?;
            books.replace_chip(number, &chip, Timestamp::now())
        })
        .await?;
    Ok((StatusCode::CREATED, read(&hub, reach, number).await?))
}

async fn read(hub: &Hub, reach: Reach, number: i64) -> Result<Json<ChipJson>, Problem> {
    let row = hub
        .books
        .read(move |books| books.chip_within(reach, number))
        .await?;
    Ok(Json(ChipJson::from(row)))
}

impl From<ChipRow> for ChipJson {
    fn from(row: ChipRow) -> ChipJson {
        ChipJson {
            number: row.number,
            uid: row.uid.to_string(),
            decimal: row.uid.decimal().map(|decimal| format!("{decimal:010}")),
            card: row.card.map(|card| card.to_string()),
            account: row.account.0,
            status: row.status.code(),
            key_version: row.key_version.map(|version| version.0),
        }
    }
}

impl From<Vec<ChipRow>> for ChipsJson {
    fn from(rows: Vec<ChipRow>) -> ChipsJson {
        ChipsJson {
            chips: rows.into_iter().map(ChipJson::from).collect(),
        }
    }
}
