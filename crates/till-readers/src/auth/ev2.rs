//! `AuthenticateEV2First` and the real UID behind a random one (NTAG 424 DNA, DESFire Light, EV2,
//! EV3; AN12196, sections 5.6 to 5.8).

use canteen::ChipId;
use zeroize::Zeroizing;

use super::apdu::{self, ADDITIONAL_FRAME, DONE, MORE};
use super::cipher::{self, Block, ZERO_IV};
use super::{Exchange, ProofError, Step};
use chip_keys::ChipKey;

/// What a mutual authentication leaves on both sides.
pub(super) struct Session {
    encryption: ChipKey,
    mac: ChipKey,
    transaction: [u8; 4],
}

/// Both sides show that they know the key; `rnd_a` must never have been used before.
pub(super) fn authenticate(
    exchange: &mut Exchange<'_>,
    number: u8,
    key: &ChipKey,
    rnd_a: &Block,
) -> Result<Session, ProofError> {
    let begin = apdu::native(AUTHENTICATE_EV2_FIRST, &[number, 0x00]);
    let mut rnd_b = Zeroizing::new(apdu::ask::<16>(exchange, Step::Challenge, &begin, MORE)?);
    cipher::decrypt(key, &ZERO_IV, &mut *rnd_b);

    let mut token = cipher::token(rnd_a, &rnd_b);
    cipher::encrypt(key, &ZERO_IV, &mut *token);
    let respond = apdu::native(ADDITIONAL_FRAME, &*token);
    let mut answer = Zeroizing::new(apdu::ask::<32>(exchange, Step::Response, &respond, DONE)?);
    cipher::decrypt(key, &ZERO_IV, &mut *answer);

    // TI (4), RndA turned (16), what the chip can do (6), what the reader can do (6).
    let [t0, t1, t2, t3, proof @ ..] = &*answer;
    if !cipher::equal(&*cipher::rotated(rnd_a), &proof[..16]) {
        return Err(ProofError::Forged);
    }
    Ok(Session {
        encryption: cipher::session_key(key, &ENCRYPTION_LABEL, rnd_a, &rnd_b),
        mac: cipher::session_key(key, &MAC_LABEL, rnd_a, &rnd_b),
        transaction: [*t0, *t1, *t2, *t3],
    })
}

impl Session {
    /// Asks for the chip's real UID, encrypted and with a MAC both ways.
    ///
    /// The session ends with it, so the command counter is 0 in the command and 1 in the answer.
    pub(super) fn card_uid(self, exchange: &mut Exchange<'_>) -> Result<ChipId, ProofError> {
        let mac = self.short_mac(CARD_UID, 0, &[]);
        let answer: [u8; 24] =
            apdu::ask(exchange, Step::CardUid, &apdu::native(CARD_UID, &mac), DONE)?;
        let (sealed, mac) = answer.split_at(16);
        if !cipher::equal(&self.short_mac(ANSWERED, 1, sealed), mac) {
            return Err(ProofError::Forged);
        }
        let mut uid = Zeroizing::new([0; 16]);
        uid.copy_from_slice(sealed);
        cipher::decrypt(&self.encryption, &self.answer_iv(1), &mut *uid);
        // Seven bytes, then the padding of ISO/IEC 9797-1, method 2.
        let (uid, padding) = uid.split_at(7);
        if padding != PADDING {
            return Err(ProofError::Malformed {
                step: Step::CardUid,
                bytes: answer.len(),
            });
        }
        Ok(ChipId::from_uid(uid)?)
    }

    /// The MAC of a message: command code or status, counter, transaction, data.
    fn short_mac(&self, code: u8, counter: u16, data: &[u8]) -> [u8; 8] {
        let counter = counter.to_le_bytes();
        cipher::short_cmac(&self.mac, &[&[code], &counter, &self.transaction, data])
    }

    /// The vector with which the chip encrypts its answer.
    fn answer_iv(&self, counter: u16) -> Block {
        let mut iv = [0; 16];
        iv[..2].copy_from_slice(&ANSWER_LABEL);
        iv[2..6].copy_from_slice(&self.transaction);
        iv[6..8].copy_from_slice(&counter.to_le_bytes());
        cipher::encrypt(&self.encryption, &ZERO_IV, &mut iv);
        iv
    }
}

const AUTHENTICATE_EV2_FIRST: u8 = 0x71;
const CARD_UID: u8 = 0x51;
/// The native status of an answer that went well, as its MAC covers it.
const ANSWERED: u8 = 0x00;
const ENCRYPTION_LABEL: [u8; 6] = [0xA5, 0x5A, 0x00, 0x01, 0x00, 0x80];
pub(super) const MAC_LABEL: [u8; 6] = [0x5A, 0xA5, 0x00, 0x01, 0x00, 0x80];
const ANSWER_LABEL: [u8; 2] = [0x5A, 0xA5];
const PADDING: [u8; 9] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vectors::{hex, scripted};

    const FACTORY: [u8; 16] = [0; 16];

    fn check(rnd_a: &str, number: u8, script: &[(&str, &str)], expect: [&str; 3]) {
        let key = ChipKey::new(FACTORY);
        let session = authenticate(&mut scripted(script), number, &key, &hex(rnd_a));
        let session = session.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(session.transaction, hex::<[u8; 4]>(expect[0]));
        assert_eq!(session.encryption, ChipKey::new(hex(expect[1])));
        assert_eq!(session.mac, ChipKey::new(hex(expect[2])));
    }

    #[test]
    fn key_0_authenticates_like_an12196() {
        check(
            "13C5DB8A5930439FC3DEF9A4C675360F",
            0,
            &[
                ("9071000002000000", "A04C124213C186F22399D33AC2A30215 91AF"),
                (
                    "90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00",
                    "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663 9100",
                ),
            ],
            [
                "9D00C4DF",
                "1309C877509E5A215007FF0ED19CA564",
                "4C6626F5E72EA694202139295C7A7FC7",
            ],
        );
    }

    #[test]
    fn key_3_authenticates_like_an12196() {
        check(
            "B98F4C50CF1C2E084FD150E33992B048",
            3,
            &[
                ("9071000002030000", "B875CEB0E66A6C5CD00898DC371F92D1 91AF"),
                (
                    "90AF000020 FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B1 00",
                    "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A 9100",
                ),
            ],
            [
                "7614281A",
                "7A93D6571E4B180FCA6AC90C9A7488D4",
                "FC4AF159B62E549B5812394CAB1918CC",
            ],
        );
    }

    #[test]
    fn session_keys_are_those_of_an12343() {
        let key = ChipKey::new(FACTORY);
        let rnd_a = hex("B04D0787C93EE0CC8CACC8E86F16C6FE");
        let mut rnd_b: Block = hex("24677DDBD46349E623798FD729006E79");
        cipher::decrypt(&key, &ZERO_IV, &mut rnd_b);
        assert_eq!(rnd_b, hex::<Block>("FA659AD0DCA738DD65DC7DC38612AD81"));
        let derived = |label| cipher::session_key(&key, label, &rnd_a, &rnd_b);
        let encryption = ChipKey::new(hex("63DC07286289A7A6C0334CA31C314A04"));
        let mac = ChipKey::new(hex("774F26743ECE6AF5033B6AE8522946F6"));
        assert_eq!(derived(&ENCRYPTION_LABEL), encryption);
        assert_eq!(derived(&MAC_LABEL), mac);
    }

    fn session_of_an12196() -> Session {
        Session {
            encryption: ChipKey::new(hex("2B4D963C014DC36F24F69A50A394F875")),
            mac: ChipKey::new(hex("379D32130CE61705DD5FD8C36B95D764")),
            transaction: hex("DF055522"),
        }
    }

    const ASK_UID: &str = "9051000008 8E2C155ADDA99BE3 00";
    const UID_ANSWER: &str = "70756055688505B52A5E26E59E329CD6 595F672298EA41B7 9100";

    #[test]
    fn the_real_uid_is_read_like_in_an12196() {
        let session = session_of_an12196();
        assert_eq!(
            session.answer_iv(1),
            hex::<Block>("7F6BB0B278EA054CBD238C5D9E9E342B")
        );
        let uid = session.card_uid(&mut scripted(&[(ASK_UID, UID_ANSWER)]));
        assert_eq!(uid.expect("a UID").to_string(), "04958CAA5C5E80");
    }

    #[test]
    fn a_uid_with_another_mac_is_forged() {
        for byte in 0..24 {
            let mut answer: Vec<u8> = hex(UID_ANSWER);
            answer[byte] ^= 0x01;
            let told = session_of_an12196().card_uid(&mut |_| Ok(answer.clone()));
            assert!(matches!(told, Err(ProofError::Forged)), "byte {byte}");
        }
    }

    #[test]
    fn an_answer_of_another_exchange_is_forged() {
        let answers = [
            "A04C124213C186F22399D33AC2A30215 91AF",
            "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663 9100",
        ];
        let mut recorded = answers.iter();
        let told = authenticate(
            &mut |_| Ok(hex(recorded.next().expect("two answers"))),
            0,
            &ChipKey::new(FACTORY),
            &[0x55; 16],
        );
        assert!(matches!(told, Err(ProofError::Forged)));
    }
}
