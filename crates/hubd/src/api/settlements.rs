//! The gateway's settlement file, held against the books.

use axum::Json;
use axum::extract::State;
use canteen::Money;
use hub_ledger::{ChargeState, ListedCharge, Settlement, SettlementFile};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::restore::everything;
use crate::access::Operator;
use crate::body::Body;
use crate::problem::Problem;
use crate::server::Hub;

/// A settlement file of the gateway.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettlementFileJson {
    /// The charges in it.
    charges: Vec<ListedChargeJson>,
    /// When given, the file has every charge of that time, and what the hub has booked of it and the
    /// file has not is missing.
    #[serde(default)]
    covers: Option<CoversJson>,
}

/// The time that a file has every charge of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoversJson {
    /// RFC 3339.
    #[schema(example = "2026-11-19T23:00:00Z")]
    from: String,
    /// RFC 3339.
    #[schema(example = "2026-11-20T23:00:00Z")]
    through: String,
}

/// A charge in a settlement file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListedChargeJson {
    /// The order's reference: the hub's name for the attempt, or the portal's for a deposit.
    reference: String,
    /// The gateway's name for the charge.
    transaction: String,
    /// The gateway's name for the stored card, when the file tells it.
    #[serde(default)]
    card: Option<String>,
    /// How much, in øre.
    #[schema(example = 20000)]
    amount: i64,
    /// What the gateway does with the money.
    state: ListedStateJson,
}

/// What the gateway does with the money of a charge.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListedStateJson {
    /// It is paid out.
    Settled,
    /// It is held back.
    Suspended,
}

/// How the file and the books differ; charges go by their references.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettlementJson {
    /// Charges that the hub had as the file has them.
    agreed: u32,
    /// Charges that are booked now, or on their way back because the account is blocked.
    booked: u32,
    /// Charges that the gateway holds back: no account has the money, and a person must look.
    suspended: Vec<String>,
    /// Charges whose amount or end is another one at the hub.
    differing: Vec<String>,
    /// Charges that the hub does not know.
    unknown: Vec<String>,
    /// Charges that the hub has booked and the file should have and has not.
    missing: Vec<String>,
}

/// Holds the gateway's settlement file against the books.
///
/// A charge that is settled and not booked is booked. One that is suspended is `stuck`, whatever the
/// gateway answered when it was made, and what was booked for it is taken back; it is booked again when
/// a later file calls it settled. Everything that differs is flagged (`charge_suspended`,
/// `settlement_differs`, `settlement_unknown`, `settlement_missing`). The same file again changes nothing.
/// It takes the token of an operator whom no tenant confines.
#[utoipa::path(post, path = "/v1/settlements", tag = "top-ups", request_body = SettlementFileJson,
    responses((status = 200, body = SettlementJson), (status = 403, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn reconcile(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Body(file): Body<SettlementFileJson>,
) -> Result<Json<SettlementJson>, Problem> {
    everything(reach)?;
    let file = SettlementFile::try_from(file)?;
    let settlement = hub
        .books
        .write(move |books| books.reconcile(&file, Timestamp::now()))
        .await?;
    Ok(Json(SettlementJson::from(settlement)))
}

impl TryFrom<SettlementFileJson> for SettlementFile {
    type Error = Problem;

    fn try_from(file: SettlementFileJson) -> Result<SettlementFile, Problem> {
        let charges = file.charges.into_iter().map(ListedCharge::try_from);
        Ok(SettlementFile {
            charges: charges.collect::<Result<_, _>>()?,
            covers: file.covers.map(<_>::try_from).transpose()?,
        })
    }
}

impl TryFrom<CoversJson> for (Timestamp, Timestamp) {
    type Error = Problem;

    fn try_from(covers: CoversJson) -> Result<(Timestamp, Timestamp), Problem> {
        let moment = |text: &str| {
            text.parse::<Timestamp>().map_err(|_| {
                Problem::invalid(
                    "covers",
                    "from and through are times like 2026-11-20T23:00:00Z",
                )
            })
        };
        let (from, through) = (moment(&covers.from)?, moment(&covers.through)?);
        if from > through {
            return Err(Problem::invalid("covers", "from is after through"));
        }
        Ok((from, through))
    }
}

impl TryFrom<ListedChargeJson> for ListedCharge {
    type Error = Problem;

    fn try_from(charge: ListedChargeJson) -> Result<ListedCharge, Problem> {
        if charge.amount <= 0 {
            return Err(Problem::invalid(
                "charges",
                "a charge is above zero, in øre",
            ));
        }
        for (field, text) in [
            ("reference", &charge.reference),
            ("transaction", &charge.transaction),
        ] {
            if text.trim().is_empty() {
                return Err(Problem::invalid("charges", format!("a {field} is empty")));
            }
        }
        Ok(ListedCharge {
            reference: charge.reference,
            transaction: charge.transaction,
            card: charge.card,
            amount: Money::from_ore(charge.amount),
            state: match charge.state {
                ListedStateJson::Settled => ChargeState::Settled,
                ListedStateJson::Suspended => ChargeState::Suspended,
            },
        })
    }
}

impl From<Settlement> for SettlementJson {
    fn from(settlement: Settlement) -> SettlementJson {
        SettlementJson {
            agreed: settlement.agreed,
            booked: settlement.booked,
            suspended: settlement.suspended,
            differing: settlement.differing,
            unknown: settlement.unknown,
            missing: settlement.missing,
        }
    }
}
