//! Accounts for operators and integrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use canteen::{AccountId, BusinessDay, Money};
use hub_ledger::{
    AccountRow, Agreement, CanteenId, Closing, Holder, LedgerError, LimitsChange, NewAccount,
    Reach, Rest,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Currency;
use super::limits::{LeftJson, LimitsJson, LimitsPatch, SpentJson};
use super::top_ups::AgreementJson;
use crate::access::Operator;
use crate::body::{Body, Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountJson {
    /// Its number.
    id: i64,
    /// The number of its canteen.
    canteen: i64,
    /// `active`, `blocked` or `closed`.
    #[schema(example = "active")]
    status: &'static str,
    /// What it holds, in øre; may be negative.
    balance: i64,
    /// How far below zero it may go, in øre.
    credit: i64,
    currency: Currency,
    /// The most that may be spent, in øre.
    limits: LimitsJson,
    /// What has been spent in the windows of today, in øre.
    spent: SpentJson,
    /// What is left of the limits today, in øre; below zero never.
    left: LeftJson,
    /// What has been paid in during its life, in øre; 10000 arms automatic top-up.
    paid_in: i64,
    /// The person; absent once erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<HolderJson>,
    /// The automatic top-up agreement, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_up: Option<AgreementJson>,
    /// Since when it waits to be closed until no till can sell on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    closing: Option<String>,
    /// When it was made.
    created_at: String,
}

/// The person behind an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HolderJson {
    /// The name on the cashier's screen.
    pub(crate) name: String,
    /// The school, of a pupil.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) school: Option<String>,
    /// The class, of a pupil.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<String>,
    /// A picture as a `data:` URL (JPEG, PNG or SVG), at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) photo: Option<String>,
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountsPage {
    accounts: Vec<AccountJson>,
    /// Send it as `cursor` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of a canteen.
    canteen: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// At most so many, 100 unless told, 500 at most.
    limit: Option<u32>,
}

/// What makes an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccountJson {
    /// The number of its canteen.
    canteen: i64,
    /// The person.
    holder: HolderJson,
    /// How far below zero it may go, in øre.
    #[serde(default)]
    credit: i64,
    /// Limits in øre.
    #[serde(default)]
    limits: LimitsJson,
}

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountChange {
    /// Limits in øre; null takes a limit away.
    #[serde(default)]
    limits: LimitsPatch,
    /// How far below zero it may go, in øre.
    credit: Option<i64>,
    /// The person, as a whole.
    holder: Option<HolderJson>,
}

/// Lists accounts by number.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(ListQuery),
    responses((status = 200, body = AccountsPage)), security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Query(query): Query<ListQuery>,
) -> Result<Json<AccountsPage>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let after = match &query.cursor {
        None => 0,
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Problem::invalid("cursor", "the cursor is not one of this list"))?,
    };
    let page = hub
        .books
        .read(move |books| {
            let canteen = query.canteen.map(CanteenId);
            let rows = books.list_accounts(reach, canteen, AccountId(after), limit)?;
            let full = rows.len() == limit as usize;
            let next_cursor = rows.last().filter(|_| full).map(|row| row.id.to_string());
            let now = Timestamp::now();
            let accounts = rows
                .into_iter()
                .map(|row| {
                    let agreement = books.agreement(&row, now)?;
                    let closing = books.closing(row.id)?;
                    Ok(AccountJson::new(row, agreement, closing, now))
                })
                .collect::<Result<_, LedgerError>>()?;
            Ok(AccountsPage {
                accounts,
                next_cursor,
            })
        })
        .await?;
    Ok(Json(page))
}

/// Makes an account with nothing in it.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = NewAccountJson,
    responses((status = 201, body = AccountJson), (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn create(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Body(new): Body<NewAccountJson>,
) -> Result<(StatusCode, Json<AccountJson>), Problem> {
    let new = NewAccount {
        canteen: CanteenId(new.canteen),
        holder: new.holder.checked()?,
        credit: Money::from_ore(new.credit),
        limits: new.limits.into(),
    };
    let id = hub
        .books
        .write(move |books| {
            books.check_canteen(reach, new.canteen)?;
            books.create_account(&new, Timestamp::now())
        })
        .await?;
    Ok((StatusCode::CREATED, read(&hub, reach, id).await?))
}

/// Shows an account.
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = AccountJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn show(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<AccountJson>, Problem> {
    read(&hub, reach, AccountId(id)).await
}

/// Changes limits, credit or the person.
#[utoipa::path(patch, path = "/v1/accounts/{id}", tag = "accounts", request_body = AccountChange,
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = AccountJson), (status = 404, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn change(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(change): Body<AccountChange>,
) -> Result<Json<AccountJson>, Problem> {
    let id = AccountId(id);
    let holder = change.holder.map(HolderJson::checked).transpose()?;
    let limits = LimitsChange::from(change.limits);
    hub.books
        .write(move |books| {
            books.account_within(reach, id)?;
            if limits != LimitsChange::default() {
                books.change_limits(id, limits, Timestamp::now())?;
            }
            if let Some(credit) = change.credit {
                books.change_credit(id, Money::from_ore(credit), Timestamp::now())?;
            }
            match holder {
                Some(holder) => books.change_holder(id, &holder),
                None => Ok(()),
            }
        })
        .await?;
    read(&hub, reach, id).await
}

/// Blocks an account (Spær). Again changes nothing.
#[utoipa::path(post, path = "/v1/accounts/{id}/block", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = AccountJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn block(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<AccountJson>, Problem> {
    let id = AccountId(id);
    hub.books
        .write(move |books| {
            books.account_within(reach, id)?;
            books.block_account(id, Timestamp::now())
        })
        .await?;
    read(&hub, reach, id).await
}

/// Makes a blocked account active again (Aktiver).
#[utoipa::path(post, path = "/v1/accounts/{id}/reactivate", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number")),
    responses((status = 200, body = AccountJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn reactivate(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<AccountJson>, Problem> {
    let id = AccountId(id);
    hub.books
        .write(move |books| {
            books.account_within(reach, id)?;
            books.reactivate_account(id, Timestamp::now())
        })
        .await?;
    read(&hub, reach, id).await
}

/// How to close an account.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseQuery {
    /// Pay out what it holds; without this and `move_to` it must be empty.
    #[serde(default)]
    pay_out: bool,
    /// Move what it holds, its chips, and whatever tills still send, to this account.
    move_to: Option<i64>,
}

/// Closes an account for good and erases the person.
///
/// It is closed at once when no till can sell on it. Otherwise it is blocked, `closing` tells since
/// when, and it is closed when all tills have acknowledged that or are retired; reactivating it ends
/// the closing.
#[utoipa::path(post, path = "/v1/accounts/{id}/close", tag = "accounts",
    params(("id" = i64, Path, description = "The account's number"), CloseQuery),
    responses((status = 200, description = "It is closed", body = AccountJson),
        (status = 202, description = "It waits for tills", body = AccountJson),
        (status = 409, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn close(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Query(how): Query<CloseQuery>,
) -> Result<(StatusCode, Json<AccountJson>), Problem> {
    let id = AccountId(id);
    let rest = match how {
        CloseQuery {
            pay_out: false,
            move_to: None,
        } => Rest::Nothing,
        CloseQuery {
            pay_out: true,
            move_to: None,
        } => Rest::PaidOut,
        CloseQuery {
            pay_out: false,
            move_to: Some(to),
        } => Rest::Moved(AccountId(to)),
        CloseQuery {
            pay_out: true,
            move_to: Some(_),
        } => {
            let detail = "what it holds is either paid out or moved";
            return Err(Problem::invalid("move_to", detail));
        }
    };
    let closed = hub
        .books
        .write(move |books| {
            books.account_within(reach, id)?;
            if let Rest::Moved(to) = rest {
                books.account_within(reach, to)?;
            }
            books.close_account(id, rest, Timestamp::now())
        })
        .await?;
    let status = match closed {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, read(&hub, reach, id).await?))
}

async fn read(hub: &Hub, reach: Reach, id: AccountId) -> Result<Json<AccountJson>, Problem> {
    let account = hub
        .books
        .read(move |books| {
            let row = books.account_within(reach, id)?;
            let now = Timestamp::now();
            let agreement = books.agreement(&row, now)?;
            let closing = books.closing(id)?;
            Ok(AccountJson::new(row, agreement, closing, now))
        })
        .await?;
    Ok(Json(account))
}

impl AccountJson {
    fn new(
        row: AccountRow,
        agreement: Option<Agreement>,
        closing: Option<Closing>,
        now: Timestamp,
    ) -> AccountJson {
        let spent = row.spent.as_of(BusinessDay::of(now));
        AccountJson {
            id: row.id.0,
            canteen: row.canteen.0,
            status: row.status.code(),
            balance: row.balance.ore(),
            credit: row.credit.ore(),
            currency: Currency::Dkk,
            limits: row.limits.into(),
            spent: spent.into(),
            left: LeftJson::of(&row.limits, &spent),
            paid_in: row.paid_in.ore(),
            holder: row.holder.map(HolderJson::from),
            top_up: agreement.map(AgreementJson::from),
            closing: closing.map(|closing| closing.since.to_string()),
            created_at: row.created_at.to_string(),
        }
    }
}

impl From<Holder> for HolderJson {
    fn from(holder: Holder) -> HolderJson {
        HolderJson {
            name: holder.name,
            school: holder.school,
            class: holder.class,
            photo: holder.photo,
        }
    }
}

impl HolderJson {
    fn checked(self) -> Result<Holder, Problem> {
        if let Some(photo) = &self.photo {
            let picture = PICTURES.iter().any(|kind| photo.starts_with(kind));
            if !picture || photo.len() > PHOTO_MAX {
                let detail = "a photo is a data: URL of a JPEG, PNG or SVG of at most 64 KiB";
                return Err(Problem::invalid("holder.photo", detail));
            }
        }
        Ok(Holder {
            name: self.name,
            school: self.school,
            class: self.class,
            photo: self.photo,
        })
    }
}

const PICTURES: [&str; 3] = ["data:image/jpeg", "data:image/png", "data:image/svg+xml"];
const PHOTO_MAX: usize = 64 << 10;
