//! What the hub and a card gateway call things: an attempt, a stored card agreement, a transaction.

use std::fmt;
use std::str::FromStr;

/// Our own name for one attempt to move money, known to the gateway from the first byte on.
///
/// Twenty characters of `0-9a-z` that carry 100 random bits. A UUID would be the plain choice, but
/// there are gateways that take no more than twenty characters for a merchant's reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptReference(String);

impl AttemptReference {
    /// The number of characters.
    pub const LENGTH: usize = 20;

    /// Draws a new reference from the operating system's randomness.
    pub fn draw() -> Result<Self, RandomnessUnavailable> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(RandomnessUnavailable)?;
        Ok(Self::from_bits(u128::from_le_bytes(bytes)))
    }

    /// The reference that carries the lower 100 bits of `bits`.
    pub(crate) fn from_bits(bits: u128) -> Self {
        let digit = |place: usize| DIGITS[((bits >> (5 * place)) & 31) as usize] as char;
        Self((0..Self::LENGTH).rev().map(digit).collect())
    }

    /// The reference as it is sent and stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AttemptReference {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let lower_case = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        if text.len() == Self::LENGTH && text.bytes().all(lower_case) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::AttemptReference)
        }
    }
}

/// The gateway's name for the card that a guardian has agreed to let us charge.
///
/// It is opaque to us. It travels in the path of a request, so only letters, digits, `-` and `_`
/// are let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CardAgreement(String);

impl CardAgreement {
    /// The most characters that an agreement's id may have.
    pub const MAX_LENGTH: usize = 64;

    /// The id as it is sent and stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CardAgreement {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        path_safe(text, Self::MAX_LENGTH)
            .map(Self)
            .ok_or(IdentityError::CardAgreement)
    }
}

/// The gateway's name for money that was taken; a refund names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(String);

impl TransactionId {
    /// The most characters that a transaction's id may have.
    pub const MAX_LENGTH: usize = 64;

    /// The id as it is sent and stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TransactionId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        path_safe(text, Self::MAX_LENGTH)
            .map(Self)
            .ok_or(IdentityError::TransactionId)
    }
}

macro_rules! display_as_str {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

display_as_str!(AttemptReference, CardAgreement, TransactionId);

/// Why a text is not the identity that it was given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not twenty characters of `0-9a-z`.
    #[error("an attempt reference is 20 characters of 0-9 and a-z")]
    AttemptReference,
    /// Not a path-safe id of 1 to 64 characters.
    #[error(
        "a card agreement's id is 1 to 64 letters, digits, '-' or '_'; copy it from the gateway"
    )]
    CardAgreement,
    /// Not a path-safe id of 1 to 64 characters.
    #[error("a transaction's id is 1 to 64 letters, digits, '-' or '_'; copy it from the gateway")]
    TransactionId,
}

/// The operating system gave no random bytes, so no attempt can be named.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes; nothing was charged")]
pub struct RandomnessUnavailable(#[source] getrandom::Error);

/// Thirty-two digits without `i`, `l`, `o` and `u`, so that a reference can be read out on a phone.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn path_safe(text: &str, max_length: usize) -> Option<String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let fits = !text.is_empty() && text.len() <= max_length && text.bytes().all(safe);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_spells_100_bits_from_the_highest_down() {
        let check = |bits: u128, expected: &str| {
            assert_eq!(AttemptReference::from_bits(bits).as_str(), expected);
        };
        check(0, "00000000000000000000");
        check(31, "0000000000000000000z");
        check(32, "00000000000000000010");
        check((1 << 100) - 1, "zzzzzzzzzzzzzzzzzzzz");
        check(1 << 100, "00000000000000000000");
    }

    #[test]
    fn drawn_references_differ_and_read_back() {
        let first = AttemptReference::draw().expect("this machine has randomness");
        let second = AttemptReference::draw().expect("this machine has randomness");
        assert_ne!(first, second);
        assert_eq!(first.as_str().parse(), Ok(first.clone()));
    }

    #[test]
    fn only_twenty_lower_case_characters_are_a_reference() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<AttemptReference>().is_ok(), good, "{text:?}");
        };
        check("0123456789abcdefghij", true);
        check("0123456789abcdefghi", false);
        check("0123456789abcdefghijk", false);
        check("0123456789ABCDEFGHIJ", false);
        check("0123456789abcdefgh-j", false);
        check("", false);
    }

    #[test]
    fn an_agreement_id_cannot_leave_its_place_in_the_path() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<CardAgreement>().is_ok(), good, "{text:?}");
            assert_eq!(text.parse::<TransactionId>().is_ok(), good, "{text:?}");
        };
        check("92143051-9e78-40af-a01f-245ccdcd9c03", true);
        check("demo_card_1", true);
        check("", false);
        check("..", false);
        check("a/b", false);
        check("a?b", false);
        check("a b", false);
        check(&"a".repeat(65), false);
    }
}
