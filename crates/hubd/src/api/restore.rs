//! A hub that was restored from a backup: what it waits for, and how that ends.

use axum::Json;
use axum::extract::State;
use canteen::Money;
use hub_ledger::{CanteenId, FrozenCanteen, GatewayCharge, MissingTill, NextStep, Reach};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Currency;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// How far a restored hub is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoreJson {
    /// The life of the database; a restore begins another.
    hub_epoch: u64,
    /// Since when no card is charged, until all that the gateway lists is taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_ups_paused_at: Option<String>,
    /// How many charges of `/v1/top-ups/unmatched` nobody has said the purpose of; their cards are not
    /// charged.
    unmatched_charges: u32,
    /// Canteens whose ceilings wait for the reports of their tills.
    frozen: Vec<FrozenJson>,
    /// What is to be done next; absent when nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to_do: Vec<String>,
    #[schema(inline)]
    currency: Currency,
}

/// A canteen that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FrozenJson {
    canteen: i64,
    name: String,
    /// Since when.
    frozen_at: String,
    /// In øre: what the missing tills may sell beyond what the hub reckons with, at most.
    at_risk: i64,
    missing: Vec<MissingJson>,
}

/// A till that has not reported.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MissingJson {
    till: String,
    /// The life of its ledger.
    epoch: String,
    /// What ends the wait for it: `switch_on`, `new_code` or `retire`.
    next: &'static str,
    /// The same in words.
    to_do: String,
    /// When the till was heard last.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<String>,
    /// In øre: what it may sell beyond what the hub reckons with, at most.
    at_risk: i64,
}

/// What ends the freeze of a canteen leaves behind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnfrozenJson {
    /// In øre: what the missing tills may sell beyond what the hub reckons with, at most.
    at_risk: i64,
    #[schema(inline)]
    currency: Currency,
}

/// Charges from the gateway's own list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargesJson {
    /// All charges since the backup that took money which was not sent back.
    charges: Vec<ChargeJson>,
}

/// A charge that took money.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargeJson {
    /// The hub's name for the attempt, which the gateway keeps as the order's reference.
    reference: String,
    /// The gateway's name for the charge.
    transaction: String,
    /// The gateway's name for the stored card.
    card: String,
    /// What was taken, in øre.
    #[schema(example = 20000)]
    amount: i64,
    /// When, RFC 3339.
    charged_at: String,
}

/// What became of the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedJson {
    /// Charges that were in the books.
    known: u32,
    /// Charges that were missing: credited, or on their way back because the account is blocked.
    taken_in: u32,
    /// References of charges that a person must look at: the card belongs to no account or to several
    /// (see `/v1/top-ups/unmatched`), or the gateway's settlement holds the money back.
    unmatched: Vec<String>,
}

/// Whether cards are charged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumedJson {
    /// Whether they were not before.
    resumed: bool,
}

/// What a restored hub waits for.
#[utoipa::path(get, path = "/v1/restore", tag = "oversight",
    responses((status = 200, body = RestoreJson)), security(("operator" = [])))]
pub(crate) async fn show(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<Json<RestoreJson>, Problem> {
    let restore = hub.books.read(move |books| books.restore(reach)).await?;
    Ok(Json(RestoreJson {
        hub_epoch: restore.hub_epoch,
        to_do: to_do(
            !restore.frozen.is_empty(),
            restore.top_ups_paused_at.is_some(),
            restore.unmatched_charges > 0,
        ),
        unmatched_charges: restore.unmatched_charges,
        top_ups_paused_at: restore.top_ups_paused_at.map(|at| at.to_string()),
        frozen: restore.frozen.into_iter().map(FrozenJson::from).collect(),
        currency: Currency::Dkk,
    }))
}

/// The steps of the runbook that are left.
fn to_do(is_frozen: bool, is_paused: bool, is_unmatched: bool) -> Vec<String> {
    let steps = [
        (
            is_frozen,
            "switch on the tills that are missing, and do what `to_do` of each says; give those that the \
             hub does not know at all a new code; until all have reported nobody gets more to spend \
             (runbook page hub-restored.md, steps 4 to 6 and 9)",
        ),
        (
            is_paused,
            "send the gateway's charges since the backup to POST /v1/top-ups/import, then POST \
             /v1/top-ups/resume; until then no card is charged (runbook page hub-restored.md, step 7)",
        ),
        (
            is_unmatched,
            "find out at the gateway what each charge of GET /v1/top-ups/unmatched was for, and say it by \
             POST /v1/top-ups/unmatched/{id}/take-in or /dismiss; until then its card is not charged \
             (runbook page hub-restored.md, step 8)",
        ),
    ];
    let left = steps.into_iter().filter(|(is_left, _)| *is_left);
    left.map(|(_, step)| step.to_owned()).collect()
}

/// Ends the freeze of a canteen before all its tills have reported.
///
/// What the missing ones may sell beyond what the hub reckons with is a risk from then on, and is
/// flagged. A single till that is gone for good is better retired.
#[utoipa::path(post, path = "/v1/canteens/{canteen}/unfreeze", tag = "oversight",
    params(("canteen" = i64, Path, description = "The canteen's number")),
    responses((status = 200, body = UnfrozenJson), (status = 404, body = Problem),
        (status = 409, description = "It is not frozen", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn unfreeze(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(canteen): Path<i64>,
) -> Result<Json<UnfrozenJson>, Problem> {
    let canteen = CanteenId(canteen);
    let at_risk = hub
        .books
        .write(move |books| {
            books.check_canteen(reach, canteen)?;
            books.unfreeze(canteen, Timestamp::now())
        })
        .await?;
    Ok(Json(UnfrozenJson {
        at_risk: at_risk.ore(),
        currency: Currency::Dkk,
    }))
}

/// Takes in charges that the gateway knows of and a restored hub may have lost.
///
/// Each is credited once, however often it is listed. It takes the token of an operator whom no
/// tenant confines.
#[utoipa::path(post, path = "/v1/top-ups/import", tag = "top-ups", request_body = ChargesJson,
    responses((status = 200, body = ImportedJson), (status = 403, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn import_charges(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Body(list): Body<ChargesJson>,
) -> Result<Json<ImportedJson>, Problem> {
    everything(reach)?;
    let charges: Vec<GatewayCharge> = list
        .charges
        .into_iter()
        .map(GatewayCharge::try_from)
        .collect::<Result<_, _>>()?;
    let imported = hub
        .books
        .write(move |books| books.import_charges(&charges, Timestamp::now()))
        .await?;
    Ok(Json(ImportedJson {
        known: imported.known,
        taken_in: imported.taken_in,
        unmatched: imported.unmatched,
    }))
}

/// Lets cards be charged again: all charges since the backup are taken in.
#[utoipa::path(post, path = "/v1/top-ups/resume", tag = "top-ups",
    responses((status = 200, body = ResumedJson), (status = 403, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn resume(
    State(hub): State<Hub>,
    Operator(reach): Operator,
) -> Result<Json<ResumedJson>, Problem> {
    everything(reach)?;
    let resumed = hub.books.write(|books| books.resume_top_ups()).await?;
    Ok(Json(ResumedJson { resumed }))
}

/// What concerns the whole hub is no tenant's to decide.
pub(crate) fn everything(reach: Reach) -> Result<(), Problem> {
    match reach {
        Reach::Everything => Ok(()),
        Reach::Tenant(_) => Err(Problem::new(
            "forbidden",
            "this concerns all tenants; use the token of an operator whom no tenant confines",
        )),
    }
}

fn words(missing: &MissingTill) -> String {
    let till = &missing.till;
    match missing.next {
        NextStep::SwitchOn => format!(
            "switch {till} on and see that it has a line: it reports by itself; if it is gone for good, \
             POST /v1/tills/{till}/revoke and then /v1/tills/{till}/retire"
        ),
        NextStep::NewCode => format!(
            "{till} was enrolled after the backup: POST /v1/tills/{till}/enrolment-code, run `tillctl \
             enrol --code CODE` at the till, wait until `tillctl status` shows `Standing good`, then \
             POST /v1/tills/{till}/retire"
        ),
        NextStep::Retire => format!(
            "this ledger of {till} is not in use any more: POST /v1/tills/{till}/retire when all that it \
             sold has come in"
        ),
    }
}

impl From<FrozenCanteen> for FrozenJson {
    fn from(frozen: FrozenCanteen) -> FrozenJson {
        let missing = frozen.missing.into_iter().map(|till| MissingJson {
            to_do: words(&till),
            till: till.till.to_string(),
            epoch: till.epoch.to_string(),
            next: till.next.code(),
            seen_at: till.seen_at.map(|at| at.to_string()),
            at_risk: till.at_risk.ore(),
        });
        FrozenJson {
            canteen: frozen.canteen.0,
            name: frozen.name,
            frozen_at: frozen.frozen_at.to_string(),
            at_risk: frozen.at_risk.ore(),
            missing: missing.collect(),
        }
    }
}

impl TryFrom<ChargeJson> for GatewayCharge {
    type Error = Problem;

    fn try_from(charge: ChargeJson) -> Result<GatewayCharge, Problem> {
        if charge.amount <= 0 {
            return Err(Problem::invalid(
                "charges",
                "a charge is above zero, in øre",
            ));
        }
        for (field, text) in [
            ("reference", &charge.reference),
            ("transaction", &charge.transaction),
            ("card", &charge.card),
        ] {
            if text.trim().is_empty() {
                return Err(Problem::invalid("charges", format!("a {field} is empty")));
            }
        }
        let charged_at = charge.charged_at.parse().map_err(|_| {
            Problem::invalid("charges", "charged_at is a time like 2026-11-20T10:00:00Z")
        })?;
        Ok(GatewayCharge {
            reference: charge.reference,
            transaction: charge.transaction,
            card: charge.card,
            amount: Money::from_ore(charge.amount),
            charged_at,
        })
    }
}
