//! `AuthenticateAES` of DESFire EV1: one chain of CBC through all three messages.

use zeroize::Zeroizing;

use super::apdu::{self, ADDITIONAL_FRAME, DONE, MORE};
use super::cipher::{self, Block, ZERO_IV};
use super::{Exchange, ProofError, Step};
use chip_keys::ChipKey;

/// Both sides show that they know the key; gives the session's key. `rnd_a` must never have been
/// used before.
pub(super) fn authenticate(
    exchange: &mut Exchange<'_>,
    number: u8,
    key: &ChipKey,
    rnd_a: &Block,
) -> Result<ChipKey, ProofError> {
    let begin = apdu::native(AUTHENTICATE_AES, &[number]);
    let challenge: Block = apdu::ask(exchange, Step::Challenge, &begin, MORE)?;
    let mut rnd_b = Zeroizing::new(challenge);
    cipher::decrypt(key, &ZERO_IV, &mut *rnd_b);

    // Each step's vector is the last block of cipher text before it, whoever sent it.
    let mut token = cipher::token(rnd_a, &rnd_b);
    cipher::encrypt(key, &challenge, &mut *token);
    let respond = apdu::native(ADDITIONAL_FRAME, &*token);
    let mut proof = Zeroizing::new(apdu::ask::<16>(exchange, Step::Response, &respond, DONE)?);
    let [.., last] = token.as_chunks::<16>().0 else {
        return Err(ProofError::Forged);
    };
    cipher::decrypt(key, last, &mut *proof);

    if !cipher::equal(&*cipher::rotated(rnd_a), &*proof) {
        return Err(ProofError::Forged);
    }
    Ok(session_key(rnd_a, &rnd_b))
}

/// The outer words of both random numbers in turn.
fn session_key(rnd_a: &Block, rnd_b: &Block) -> ChipKey {
    let mut key = Zeroizing::new([0; 16]);
    key[..4].copy_from_slice(&rnd_a[..4]);
    key[4..8].copy_from_slice(&rnd_b[..4]);
    key[8..12].copy_from_slice(&rnd_a[12..]);
    key[12..].copy_from_slice(&rnd_b[12..]);
    ChipKey::new(*key)
}

const AUTHENTICATE_AES: u8 = 0xAA;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::{hex, scripted};

    const RND_A: &str = "C0FFEEBADCAB1EF00DF00DF00DF00D01";
    const SCRIPT: [(&str, &str); 2] = [
        ("90AA0000010000", "2C68DFD9C1E211D5020AF03C8147B01E 91AF"),
        (
            "90AF000020 F2CD9CA7ACF94173D340B4CDD5FC527264C54056E6BD0DB15853A4F7A902AFBC 00",
            "B2DC06693DC7E505798AC41FF6D0FD7F 9100",
        ),
    ];

    /// A recorded authentication of a DESFire EV1 with its factory key.
    #[test]
    fn a_desfire_ev1_authenticates_like_the_recorded_one() {
        let key = ChipKey::new([0; 16]);
        let session = authenticate(&mut scripted(&SCRIPT), 0, &key, &hex(RND_A));
        let expect = ChipKey::new(hex("C0FFEEBA40A81BEE0DF00D01BA428067"));
        assert_eq!(session.expect("a session"), expect);
    }

    #[test]
    fn an_answer_with_any_byte_changed_is_forged() {
        for byte in 0..16 {
            let mut answer: Vec<u8> = hex(SCRIPT[1].1);
            answer[byte] ^= 0x80;
            let mut answers = [hex(SCRIPT[0].1), answer].into_iter();
            let told = authenticate(
                &mut |_| Ok(answers.next().expect("two answers")),
                0,
                &ChipKey::new([0; 16]),
                &hex(RND_A),
            );
            assert!(matches!(told, Err(ProofError::Forged)), "byte {byte}");
        }
    }
}
