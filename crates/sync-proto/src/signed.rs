//! Signatures beside TLS: the hub's over its answers, and those of who fetches a till's entries.
//!
//! Networks of schools inspect TLS. What a till is told to believe about money is signed by the
//! hub, with a key that the till has known since its enrolment.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::identity::TillId;

/// The header that carries the hub's signature over an answer, as hex.
pub const ANSWER_SIGNATURE: &str = "canteen-signature";

/// The headers of a request for a till's entries: who asks, when, a number used once, a signature.
pub const CALLER: &str = "canteen-caller";
/// When the request was signed (RFC 3339, UTC).
pub const CALLER_TIME: &str = "canteen-time";
/// Sixteen random bytes as hex, never used twice.
pub const CALLER_NONCE: &str = "canteen-nonce";
/// The signature over [`pull_message`], as hex.
pub const CALLER_SIGNATURE: &str = "canteen-signature";

/// How far the time of a request may be from the till's clock.
pub const CALLER_SKEW_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// What the hub signs of an answer to a till: the status, whom and what it answers, and the body
/// as it is before compression. An answer to one question is no answer to another.
pub fn answer_message(till: &TillId, status: u16, path_and_query: &str, body: &[u8]) -> Vec<u8> {
    let mut message = b"canteen-answer-1".to_vec();
    push_sized(&mut message, till.as_str().as_bytes());
    message.extend(status.to_be_bytes());
    push_sized(&mut message, path_and_query.as_bytes());
    message.extend(Sha256::digest(body));
    message
}

/// What the hub, or a sibling, signs to fetch the entries of a till.
pub fn pull_message(
    till: &TillId,
    caller: &str,
    path_and_query: &str,
    time: &str,
    nonce: &str,
) -> Vec<u8> {
    let mut message = b"canteen-pull-1".to_vec();
    for part in [till.as_str(), caller, path_and_query, time, nonce] {
        push_sized(&mut message, part.as_bytes());
    }
    message
}

/// The name under which the hub asks; no till can be called so.
pub const CALLER_HUB: &str = "@hub";

/// The path and query of a request for entries after a number.
pub fn journal_path(epoch: crate::Epoch, after: u64, limit: usize) -> String {
    let mut path = String::from("/v1/journal");
    // Writing to a String cannot fail.
    let _ = write!(path, "?epoch={epoch}&after={after}&limit={limit}");
    path
}

fn push_sized(message: &mut Vec<u8>, bytes: &[u8]) {
    message.extend((bytes.len() as u64).to_be_bytes());
    message.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn till() -> TillId {
        "kasse-1".parse().unwrap()
    }

    #[test]
    fn an_answer_is_signed_for_one_till_status_question_and_body() {
        let base = answer_message(&till(), 200, "/v1/feed?cursor=1", b"{}");
        let other: TillId = "kasse-2".parse().unwrap();
        assert_ne!(
            base,
            answer_message(&other, 200, "/v1/feed?cursor=1", b"{}")
        );
        assert_ne!(
            base,
            answer_message(&till(), 409, "/v1/feed?cursor=1", b"{}")
        );
        assert_ne!(
            base,
            answer_message(&till(), 200, "/v1/feed?cursor=2", b"{}")
        );
        assert_ne!(
            base,
            answer_message(&till(), 200, "/v1/feed?cursor=1", b"{ }")
        );
    }

    #[test]
    fn parts_of_a_request_cannot_be_moved_into_each_other() {
        assert_ne!(
            pull_message(&till(), "hub", "/a", "bc", "d"),
            pull_message(&till(), "hub", "/a", "b", "cd"),
        );
    }
}
