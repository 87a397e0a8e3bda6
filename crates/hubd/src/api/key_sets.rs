//! Keys of chips that prove themselves: versions for operators, the keys of one chip for who
//! enrols it, and all of a canteen for its tills.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use canteen::{AccountId, ChipId, KeyVersion, NumberShape};
use chip_keys::{Application, ChipKind, MasterBytes, MasterSet};
use hub_ledger::{CanteenId, KeySetRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_proto::{
    ApplicationKeys, ChipKeyText, ChipKeyVersion, EnrolmentKeys, HubKey, KeyDelivery, KeySetText,
    MarkedKeys,
};
use tracing::{error, info};
use utoipa::ToSchema;

use crate::access::{Operator, Till};
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// A version of a canteen's chip keys; the keys themselves are never shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeySetJson {
    /// Which version.
    version: u8,
    /// When it was made.
    made_at: String,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// How many chips in use were enrolled with it.
    chips: u64,
}

/// Versions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeySetsJson {
    key_sets: Vec<KeySetJson>,
}

/// The chip to be enrolled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrolledChipJson {
    /// Its real UID, as hex.
    #[schema(example = "04958CAA5C5E80")]
    chip: String,
    /// Of which kind it is; `ntag424` unless said.
    #[serde(default)]
    kind: EnrolledKind,
}

/// The kinds of chips that keys are made for.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnrolledKind {
    /// NTAG 424 DNA.
    #[default]
    Ntag424,
    /// DESFire EV2 or EV3 with the application CA17EE.
    Desfire,
    /// MIFARE Ultralight AES with the mark CA17AE: key 1 is its UIDRetrKey, key 3 its DataProtKey.
    UltralightAes,
}

/// All versions of a canteen's chip keys.
#[utoipa::path(get, path = "/v1/canteens/{id}/key-sets", tag = "chips",
    params(("id" = i64, Path, description = "The canteen's number")),
    responses((status = 200, body = KeySetsJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<KeySetsJson>, Problem> {
    let canteen = CanteenId(id);
    let rows = hub
        .books
        .read(move |books| {
            books.check_canteen(reach, canteen)?;
            books.key_sets(canteen)
        })
        .await?;
    Ok(Json(KeySetsJson {
        key_sets: rows.into_iter().map(KeySetJson::from).collect(),
    }))
}

/// Draws a new version of a canteen's chip keys. Chips are enrolled with it from now on; those of
/// the versions before go on until these are revoked.
#[utoipa::path(post, path = "/v1/canteens/{id}/key-sets", tag = "chips",
    params(("id" = i64, Path, description = "The canteen's number")),
    responses((status = 201, body = KeySetJson), (status = 404, body = Problem),
        (status = 409, description = "Too many are in use", body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn make(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<KeySetJson>), Problem> {
    let canteen = CanteenId(id);
    let mut drawn = MasterBytes([0; 48]);
    getrandom::fill(&mut drawn.0)
        .map_err(|_| Problem::new("internal", "the system gives no random numbers"))?;
    let key = hub.key.public();
    let now = Timestamp::now();
    let version = hub
        .books
        .write(move |books| {
            books.check_canteen(reach, canteen)?;
            let seal = |version| key.seal(&about(canteen, version), &drawn.0);
            books.add_key_set(canteen, seal, now)
        })
        .await?
        .map_err(|error| {
            error!(%error, "Cannot seal new chip keys");
            Problem::new("internal", "the hub could not do this; its log says why")
        })?;
    info!(canteen = id, version = version.0, "Made new chip keys");
    let made = KeySetJson {
        version: version.0,
        made_at: now.to_string(),
        revoked_at: None,
        chips: 0,
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes a version: chips that know no other are refused from the next contact of each till on,
/// until they are enrolled anew. Again changes nothing.
#[utoipa::path(post, path = "/v1/canteens/{id}/key-sets/{version}/revoke", tag = "chips",
    params(("id" = i64, Path, description = "The canteen's number"),
        ("version" = u8, Path, description = "Which version")),
    responses((status = 204), (status = 404, body = Problem)), security(("operator" = [])))]
pub(crate) async fn revoke(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path((id, version)): Path<(i64, u8)>,
) -> Result<StatusCode, Problem> {
    let canteen = CanteenId(id);
    hub.books
        .write(move |books| {
            books.check_canteen(reach, canteen)?;
            books.revoke_key_set(canteen, KeyVersion(version), Timestamp::now())
        })
        .await?;
    info!(canteen = id, version, "Revoked chip keys");
    Ok(StatusCode::NO_CONTENT)
}

/// The keys of one chip, for who writes them on it; secret. The first version is the one to write,
/// the others are what the chip may carry already.
#[utoipa::path(post, path = "/v1/accounts/{id}/chip-keys", tag = "chips",
    params(("id" = i64, Path, description = "The number of the account that the chip is to pay from")),
    request_body = EnrolledChipJson,
    responses((status = 200, description = "`EnrolmentKeys` of sync-proto", body = Object),
        (status = 404, description = "No such account, or no key set is in use", body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn of_chip(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(chip): Body<EnrolledChipJson>,
) -> Result<Json<EnrolmentKeys>, Problem> {
    let kind = match chip.kind {
        EnrolledKind::Ntag424 => ChipKind::Ntag424,
        EnrolledKind::Desfire => ChipKind::Desfire,
        EnrolledKind::UltralightAes => ChipKind::UltralightAes,
    };
    // A UID of 7 bytes may happen to have no letter, and is no printed card number here.
    let Ok(chip) = NumberShape::Hex.read(&chip.chip) else {
        return Err(Problem::invalid("chip", "give the chip's UID as hex"));
    };
    let (canteen, rows) = hub
        .books
        .read(move |books| {
            let canteen = books.account_within(reach, AccountId(id))?.canteen;
            Ok((canteen, books.key_sets(canteen)?))
        })
        .await?;
    let in_use = |row: &&KeySetRow| row.revoked_at.is_none();
    let Some(newest) = rows.iter().find(in_use).map(|row| row.version) else {
        return Err(Problem::new(
            "not-found",
            "the canteen has no chip keys in use; make a key set first",
        ));
    };
    let mut sets = open(&hub.key, canteen, &rows)?;
    sets.sort_by_key(|set| set.version != newest);
    let versions = sets.iter().map(|set| version_of(set, kind, &chip));
    let versions: Vec<ChipKeyVersion> = versions.collect();
    info!(
        account = id,
        version = newest.0,
        "Gave out the keys of a chip"
    );
    Ok(Json(EnrolmentKeys { versions }))
}

/// The keys of the canteen's chips, sealed for this till alone.
#[utoipa::path(get, path = "/v1/tills/{till}/chip-keys", tag = "till-link",
    params(("till" = String, Path, description = "The till's name")),
    responses((status = 200, description = "`Sealed` of sync-proto, with a `KeyDelivery` in it", body = Object),
        (status = 204, description = "No chip of the canteen proves itself"),
        (status = 401, description = "Not enrolled", body = Problem)),
    security(("till" = [])))]
pub(crate) async fn of_till(
    State(hub): State<Hub>,
    Till(access): Till,
) -> Result<Response, Problem> {
    let (till, canteen) = (access.till.clone(), access.canteen);
    let (rows, chips, key) = hub
        .books
        .read(move |books| {
            let sets = books.key_sets(canteen)?;
            let key = books.till_key(&till)?;
            Ok((sets, books.proving_chips(canteen)?, key))
        })
        .await?;
    let in_use: Vec<KeySetRow> = rows
        .into_iter()
        .filter(|row| row.revoked_at.is_none())
        .collect();
    let Some(key) = key.filter(|_| !in_use.is_empty()) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let sets = open(&hub.key, canteen, &in_use)?;
    let delivery = delivery(&sets, &chips);
    let internal = |what: &dyn std::fmt::Display| {
        error!(error = %what, till = %access.till, "Cannot seal chip keys for a till");
        Problem::new("internal", "the hub could not do this; its log says why")
    };
    let text = serde_json::to_vec(&delivery)
        .map(zeroize::Zeroizing::new)
        .map_err(|error| internal(&error))?;
    let sealed = key
        .seal(KeyDelivery::ABOUT, &text)
        .map_err(|error| internal(&error))?;
    info!(till = %access.till, chips = chips.len(), "Sealed the chip keys for a till");
    Ok(Json(sealed).into_response())
}

/// What a version's master keys are sealed about.
fn about(canteen: CanteenId, version: KeyVersion) -> String {
    format!("chip-key-set {} {}", canteen.0, version.0)
}

fn open(key: &HubKey, canteen: CanteenId, rows: &[KeySetRow]) -> Result<Vec<MasterSet>, Problem> {
    let opened = |row: &KeySetRow| {
        let bytes = key.open(&about(canteen, row.version), &row.sealed).ok()?;
        let bytes = MasterBytes((**bytes).try_into().ok()?);
        MasterSet::new(row.version, &bytes)
    };
    let sets: Option<Vec<MasterSet>> = rows.iter().map(opened).collect();
    sets.ok_or_else(|| {
        error!("Chip keys were sealed by another hub key; put the hub's key file back");
        Problem::new("internal", "the hub could not do this; its log says why")
    })
}

fn version_of(set: &MasterSet, kind: ChipKind, chip: &ChipId) -> ChipKeyVersion {
    let keys = set.chip_keys(kind, chip);
    ChipKeyVersion {
        version: keys.version.0,
        keys: keys.keys.map(|key| ChipKeyText::of(key.as_bytes())),
    }
}

/// For each kind of chip all its keys.
fn delivery(sets: &[MasterSet], chips: &[ChipId]) -> KeyDelivery {
    let (mut applications, mut marked) = (Vec::new(), Vec::new());
    for kind in ChipKind::ALL {
        let sets = delivered(kind, sets, chips);
        match kind.application() {
            Application::Named(name) => applications.push(ApplicationKeys {
                name: Some(hex::encode_upper(name)),
                number: None,
                sets,
            }),
            Application::Numbered(number) => applications.push(ApplicationKeys {
                name: None,
                number: Some(hex::encode_upper(number)),
                sets,
            }),
            Application::Marked(mark) => marked.push(MarkedKeys {
                mark: hex::encode_upper(mark),
                sets,
            }),
        }
    }
    KeyDelivery {
        applications,
        marked,
    }
}

fn delivered(kind: ChipKind, sets: &[MasterSet], chips: &[ChipId]) -> Vec<KeySetText> {
    let of_set = |set: &MasterSet| {
        let of_chip = |chip: &ChipId| {
            let key = set.reading_key(kind, chip);
            (chip.to_string(), ChipKeyText::of(key.as_bytes()))
        };
        KeySetText {
            version: set.version.0,
            uid_key: ChipKeyText::of(set.uid_key().as_bytes()),
            chips: chips.iter().map(of_chip).collect::<BTreeMap<_, _>>(),
        }
    };
    sets.iter().map(of_set).collect()
}

impl From<KeySetRow> for KeySetJson {
    fn from(row: KeySetRow) -> KeySetJson {
        KeySetJson {
            version: row.version.0,
            made_at: row.made_at.to_string(),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
            chips: row.chips,
        }
    }
}
