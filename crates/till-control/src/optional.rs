//! Moments, days and accounts that may be absent: null.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A moment as RFC 3339 text or null.
pub(crate) mod moment {
    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        moment: &Option<Timestamp>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        super::write(moment.as_ref(), out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::read(input)
    }
}

/// A business day as text like `2026-11-20` or null.
pub(crate) mod day {
    use canteen::BusinessDay;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        day: &Option<BusinessDay>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        super::write(day.as_ref(), out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<BusinessDay>, D::Error> {
        super::read(input)
    }
}

/// An account's number or null.
pub(crate) mod account {
    use canteen::AccountId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        account: &Option<AccountId>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        account.map(|account| account.0).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<AccountId>, D::Error> {
        Ok(Option::<i64>::deserialize(input)?.map(AccountId))
    }
}

fn write<T: ToString, S: Serializer>(value: Option<&T>, out: S) -> Result<S::Ok, S::Error> {
    value.map(ToString::to_string).serialize(out)
}

fn read<'de, T, D>(input: D) -> Result<Option<T>, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(input)?;
    text.map(|text| text.parse().map_err(D::Error::custom))
        .transpose()
}
