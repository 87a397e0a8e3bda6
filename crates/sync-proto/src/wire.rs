//! How the plain values of `canteen` look on the wire: amounts as integer øre, days as text.

/// Values that print and parse as text.
pub mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the value's text.
    pub fn serialize<T: Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    /// Reads the value from its text.
    pub fn deserialize<'de, T, D>(input: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(input)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Amounts as integer øre.
pub mod money {
    use canteen::Money;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes øre.
    pub fn serialize<S: Serializer>(money: &Money, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i64(money.ore())
    }

    /// Reads øre.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Money, D::Error> {
        i64::deserialize(input).map(Money::from_ore)
    }
}

/// Amounts that may be absent, as integer øre or null.
pub mod optional_money {
    use canteen::Money;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes øre or null.
    pub fn serialize<S: Serializer>(money: &Option<Money>, out: S) -> Result<S::Ok, S::Error> {
        money.map(Money::ore).serialize(out)
    }

    /// Reads øre or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Money>, D::Error> {
        Ok(Option::<i64>::deserialize(input)?.map(Money::from_ore))
    }
}

/// Accounts by number.
pub mod account {
    use canteen::AccountId;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the number.
    pub fn serialize<S: Serializer>(account: &AccountId, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i64(account.0)
    }

    /// Reads the number.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<AccountId, D::Error> {
        i64::deserialize(input).map(AccountId)
    }
}

macro_rules! codes {
    ($(#[$doc:meta])* $module:ident, $type:ty) => {
        $(#[$doc])*
        pub mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            /// Writes the code.
            pub fn serialize<S: Serializer>(value: &$type, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(value.code())
            }

            /// Reads the code.
            pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<$type, D::Error> {
                let code = String::deserialize(input)?;
                <$type>::from_code(&code)
                    .ok_or_else(|| D::Error::custom(format!("unknown code {code:?}")))
            }
        }
    };
}

codes!(
    /// What a purchase does to the top-up, by its code.
    top_up_outcome,
    canteen::TopUpOutcome
);
codes!(
    /// The status of a chip or an account, by its code.
    status,
    canteen::Status
);
codes!(
    /// Where a top-up stands, by its code.
    top_up_state,
    canteen::TopUpState
);

/// A chip's UID as hex text.
pub mod chip {
    use canteen::ChipId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes upper-case hex.
    pub fn serialize<S: Serializer>(chip: &ChipId, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(chip)
    }

    /// Reads hex in either case.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<ChipId, D::Error> {
        let bytes = hex::decode(String::deserialize(input)?).map_err(D::Error::custom)?;
        ChipId::from_known(&bytes).map_err(D::Error::custom)
    }
}

/// A printed card number that may be absent.
pub mod optional_card {
    use canteen::CardNumber;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes 14 digits or null.
    pub fn serialize<S: Serializer>(card: &Option<CardNumber>, out: S) -> Result<S::Ok, S::Error> {
        card.map(|card| card.to_string()).serialize(out)
    }

    /// Reads 14 digits or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<CardNumber>, D::Error> {
        let Some(text) = Option::<String>::deserialize(input)? else {
            return Ok(None);
        };
        let card = CardNumber::parse(&text);
        card.map(Some)
            .ok_or_else(|| D::Error::custom("a card number has 14 digits"))
    }
}
