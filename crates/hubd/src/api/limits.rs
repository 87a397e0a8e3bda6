//! Limits: how much may be spent in a day, a week and a month, and what is left.

use canteen::{LimitFacts, LimitMode, Limits, Money, Spent};
use hub_ledger::LimitsChange;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Limits in øre; null is no limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsJson {
    /// In a day from local midnight.
    day: Option<i64>,
    /// In an ISO week.
    week: Option<i64>,
    /// In a calendar month.
    month: Option<i64>,
    /// How they hold over several tills; lenient where it is left out.
    mode: Option<LimitModeJson>,
}

/// How limits hold over several tills.
///
/// `lenient`: each till refuses what exceeds a limit as far as it knows; tills that are cut off may
/// exceed it together, which is flagged. `strict`: each till sells inside its own share of what is
/// left, and a limit is never exceeded; a till that is cut off without a share refuses, although
/// something is left. Strict limits are in force when every till of the canteen has heard of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitModeJson {
    /// Each till by itself.
    Lenient,
    /// Never exceeded.
    Strict,
}

/// What has been spent, in øre.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpentJson {
    /// The day whose windows these are: today in Europe/Copenhagen.
    #[schema(example = "2026-11-20")]
    on: String,
    /// In that day.
    day: i64,
    /// In its ISO week.
    week: i64,
    /// In its month.
    month: i64,
}

/// What is left of limits, in øre; null is no limit.
///
/// A till that is cut off may refuse a purchase although something is left: of strict limits it sells
/// its own share.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftJson {
    /// Of the daily limit.
    day: Option<i64>,
    /// Of the weekly limit.
    week: Option<i64>,
    /// Of the monthly limit.
    month: Option<i64>,
}

/// Limits to change, in øre; null takes a limit away, what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsPatch {
    /// In a day.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    day: Option<Option<i64>>,
    /// In an ISO week.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    week: Option<Option<i64>>,
    /// In a month.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    month: Option<Option<i64>>,
    /// How they hold over several tills; a program that leaves it out changes nothing about it.
    mode: Option<LimitModeJson>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::<i64>::deserialize(input).map(Some)
}

impl From<LimitsJson> for Limits {
    fn from(limits: LimitsJson) -> Limits {
        Limits {
            day: limits.day.map(Money::from_ore),
            week: limits.week.map(Money::from_ore),
            month: limits.month.map(Money::from_ore),
            mode: limits.mode.map(LimitMode::from).unwrap_or_default(),
        }
    }
}

impl From<LimitModeJson> for LimitMode {
    fn from(mode: LimitModeJson) -> LimitMode {
        match mode {
            LimitModeJson::Lenient => LimitMode::Lenient,
            LimitModeJson::Strict => LimitMode::Strict,
        }
    }
}

impl From<LimitMode> for LimitModeJson {
    fn from(mode: LimitMode) -> LimitModeJson {
        match mode {
            LimitMode::Lenient => LimitModeJson::Lenient,
            LimitMode::Strict => LimitModeJson::Strict,
        }
    }
}

impl From<Limits> for LimitsJson {
    fn from(limits: Limits) -> LimitsJson {
        LimitsJson {
            day: limits.day.map(Money::ore),
            week: limits.week.map(Money::ore),
            month: limits.month.map(Money::ore),
            mode: Some(limits.mode.into()),
        }
    }
}

impl From<Spent> for SpentJson {
    fn from(spent: Spent) -> SpentJson {
        SpentJson {
            on: spent.on().to_string(),
            day: spent.day().ore(),
            week: spent.week().ore(),
            month: spent.month().ore(),
        }
    }
}

impl LeftJson {
    pub(super) fn of(limits: &Limits, spent: &Spent) -> LeftJson {
        let left = |limit: Option<Money>, spent| {
            limit.map(|limit| LimitFacts::of(limit, spent).left.ore())
        };
        LeftJson {
            day: left(limits.day, spent.day()),
            week: left(limits.week, spent.week()),
            month: left(limits.month, spent.month()),
        }
    }
}

impl From<LimitsPatch> for LimitsChange {
    fn from(patch: LimitsPatch) -> LimitsChange {
        let money = |limit: Option<Option<i64>>| limit.map(|limit| limit.map(Money::from_ore));
        LimitsChange {
            day: money(patch.day),
            week: money(patch.week),
            month: money(patch.month),
            mode: patch.mode.map(LimitMode::from),
        }
    }
}
