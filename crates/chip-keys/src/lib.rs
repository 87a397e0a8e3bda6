//! The keys of chips that prove themselves: what they are, and how one chip's key is made from the
//! key of many.
//!
//! Used by the hub, which makes and keeps them, and by the till's readers, which prove chips with
//! them. No secret here is ever printed, and all are wiped when they are dropped.

mod key;
mod master;
mod site_keys;

pub use canteen::KeyVersion;
pub use key::ChipKey;
pub use master::{ChipKeys, MasterBytes, MasterSet, SYSTEM_NAME};
pub use site_keys::{Application, ChipKind, KeySet, ReadingKeys, SiteKeys, SiteKeysError};

/// Bytes from hex; spaces between them are for the eye.
#[cfg(test)]
fn hex<T: TryFrom<Vec<u8>>>(text: &str) -> T {
    let digits: String = text.split_whitespace().collect();
    let bytes = hex::decode(digits).unwrap_or_else(|error| panic!("{text}: {error}"));
    T::try_from(bytes).unwrap_or_else(|_| panic!("{text} is not as long as the test wants"))
}
