//! `AuthenticateEV2First`, the real UID behind a random one, and what changes a chip (NTAG 424 DNA,
//! DESFire Light, EV2, EV3; AN12196).

use canteen::{ChipId, KeyVersion};
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
    /// How many commands it has seen.
    counter: u16,
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
        counter: 0,
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
        cipher::decrypt(&self.encryption, &self.iv(&ANSWER_LABEL, 1), &mut *uid);
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

    /// Writes another key than the one of the session (AN12196, section 5.16.1). Only a session of
    /// key 0 may, and only with the key that is on the chip now.
    pub(super) fn change_key(
        &mut self,
        exchange: &mut Exchange<'_>,
        number: u8,
        old: &ChipKey,
        new: &ChipKey,
        version: KeyVersion,
    ) -> Result<(), ProofError> {
        let mut data = Zeroizing::new([0; 32]);
        data[..16].copy_from_slice(&*Zeroizing::new(cipher::xor(
            new.as_bytes(),
            old.as_bytes(),
        )));
        data[16] = version.0;
        let check = crc::Crc::<u32>::new(&crc::CRC_32_JAMCRC).checksum(new.as_bytes());
        data[17..21].copy_from_slice(&check.to_le_bytes());
        data[21] = PADDED;
        let command = self.sealed(CHANGE_KEY, number, &mut *data);
        let mac: [u8; 8] = apdu::ask(exchange, Step::ChangeKey { number }, &command, DONE)?;
        self.confirm(&mac)
    }

    /// Writes the key of the session, key 0 (AN12196, section 5.16.2). The session ends with it, and
    /// the chip's answer carries no MAC.
    pub(super) fn change_own_key(
        self,
        exchange: &mut Exchange<'_>,
        new: &ChipKey,
        version: KeyVersion,
    ) -> Result<(), ProofError> {
        let mut data = Zeroizing::new([0; 32]);
        data[..16].copy_from_slice(new.as_bytes());
        data[16] = version.0;
        data[17] = PADDED;
        let command = self.sealed(CHANGE_KEY, 0, &mut *data);
        apdu::ask::<0>(exchange, Step::ChangeKey { number: 0 }, &command, DONE).map(|[]| ())
    }

    /// Has the chip show another UID at each power-up, for ever (AN12196, section 6.2). Only a
    /// session of key 0 may.
    pub(super) fn show_random_uid(
        &mut self,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), ProofError> {
        let mut data = [0; 16];
        data[..2].copy_from_slice(&[USE_RANDOM_UID, PADDED]);
        let command = self.sealed(SET_CONFIGURATION, PICC_CONFIGURATION, &mut data);
        let mac: [u8; 8] = apdu::ask(exchange, Step::RandomUid, &command, DONE)?;
        self.confirm(&mac)
    }

    /// A command whose data is encrypted, with its MAC; `header` stays readable.
    fn sealed(&self, code: u8, header: u8, data: &mut [u8]) -> Vec<u8> {
        let iv = self.iv(&COMMAND_LABEL, self.counter);
        cipher::encrypt(&self.encryption, &iv, data);
        let covered = [&[header][..], data].concat();
        let mac = self.short_mac(code, self.counter, &covered);
        apdu::native(code, &[&covered[..], &mac].concat())
    }

    /// The chip has done it: its answer is nothing but a MAC.
    fn confirm(&mut self, mac: &[u8]) -> Result<(), ProofError> {
        self.counter += 1;
        if cipher::equal(&self.short_mac(ANSWERED, self.counter, &[]), mac) {
            Ok(())
        } else {
            Err(ProofError::Forged)
        }
    }

    /// The MAC of a message: command code or status, counter, transaction, data.
    fn short_mac(&self, code: u8, counter: u16, data: &[u8]) -> [u8; 8] {
        let counter = counter.to_le_bytes();
        cipher::short_cmac(&self.mac, &[&[code], &counter, &self.transaction, data])
    }

    /// The vector with which one side encrypts what it says.
    fn iv(&self, label: &[u8; 2], counter: u16) -> Block {
        let mut iv = [0; 16];
        iv[..2].copy_from_slice(label);
        iv[2..6].copy_from_slice(&self.transaction);
        iv[6..8].copy_from_slice(&counter.to_le_bytes());
        cipher::encrypt(&self.encryption, &ZERO_IV, &mut iv);
        iv
    }
}

const AUTHENTICATE_EV2_FIRST: u8 = 0x71;
const CARD_UID: u8 = 0x51;
const CHANGE_KEY: u8 = 0xC4;
const SET_CONFIGURATION: u8 = 0x5C;
/// The option of [`SET_CONFIGURATION`] that holds [`USE_RANDOM_UID`].
const PICC_CONFIGURATION: u8 = 0x00;
const USE_RANDOM_UID: u8 = 0x02;
/// The native status of an answer that went well, as its MAC covers it.
const ANSWERED: u8 = 0x00;
const ENCRYPTION_LABEL: [u8; 6] = [0xA5, 0x5A, 0x00, 0x01, 0x00, 0x80];
pub(super) const MAC_LABEL: [u8; 6] = [0x5A, 0xA5, 0x00, 0x01, 0x00, 0x80];
const COMMAND_LABEL: [u8; 2] = [0xA5, 0x5A];
const ANSWER_LABEL: [u8; 2] = [0x5A, 0xA5];
/// Begins the padding of ISO/IEC 9797-1, method 2.
const PADDED: u8 = 0x80;
const PADDING: [u8; 9] = [PADDED, 0, 0, 0, 0, 0, 0, 0, 0];

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
            counter: 0,
        }
    }

    const ASK_UID: &str = "9051000008 8E2C155ADDA99BE3 00";
    const UID_ANSWER: &str = "70756055688505B52A5E26E59E329CD6 595F672298EA41B7 9100";

    #[test]
    fn the_real_uid_is_read_like_in_an12196() {
        let session = session_of_an12196();
        assert_eq!(
            session.iv(&ANSWER_LABEL, 1),
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

    fn session(encryption: &str, mac: &str, transaction: &str, counter: u16) -> Session {
        Session {
            encryption: ChipKey::new(hex(encryption)),
            mac: ChipKey::new(hex(mac)),
            transaction: hex(transaction),
            counter,
        }
    }

    /// The session in which AN12196 changes keys, after so many commands.
    fn changing(counter: u16) -> Session {
        session(
            "4CF3CB41A22583A61E89B158D252FC53",
            "5529860B2FC5FB6154B7F28361D30BF9",
            "7614281A",
            counter,
        )
    }

    #[test]
    fn keys_are_changed_like_in_an12196() {
        let (old, new) = (
            ChipKey::factory(),
            ChipKey::new(hex("F3847D627727ED3BC9C4CC050489B966")),
        );
        let script = [(
            "90C4000029 02 2CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC7 5D0CE20BCD1D06E6 00",
            "203BB55D1089D587 9100",
        )];
        let mut changed = changing(2);
        changed
            .change_key(&mut scripted(&script), 2, &old, &new, KeyVersion(1))
            .expect("changed");
        assert_eq!(changed.counter, 3);

        let new = ChipKey::new(hex("5004BF991F408672B1EF00F08F9E8647"));
        let script = [(
            "90C4000029 00 C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FD A6610234BDED6432 00",
            "9100",
        )];
        changed
            .change_own_key(&mut scripted(&script), &new, KeyVersion(1))
            .expect("changed");
    }

    #[test]
    fn a_random_uid_is_switched_on_like_in_an12196() {
        let mut session = session(
            "7951A705F47F3C29B596454DC1490383",
            "FE4EDBF46536557E304682F33E63A84F",
            "D779B1D0",
            0,
        );
        let script = [(
            "905C000019 00 8EA0138A7AF6FC8E99DF2A3A305602C4 3A7A3C9228C3134A 00",
            "86044208CAD1676A 9100",
        )];
        session
            .show_random_uid(&mut scripted(&script))
            .expect("switched on");
    }

    #[test]
    fn a_change_that_the_chip_does_not_confirm_is_forged() {
        let key = ChipKey::new([7; 16]);
        for byte in 0..8 {
            let mut mac: Vec<u8> = hex("203BB55D1089D587 9100");
            mac[byte] ^= 0x40;
            let told = changing(2).change_key(
                &mut |_| Ok(mac.clone()),
                2,
                &ChipKey::factory(),
                &key,
                KeyVersion(1),
            );
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
