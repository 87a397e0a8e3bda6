//! Keys on a MIFARE Ultralight AES (data sheet MF0AES(H)20, AN13452).
//!
//! Its keys cannot be read and are written page by page, so a chip that is torn away may hold half a
//! key. That does no harm while everybody may write them: AUTH0 is written last of all, and from then on
//! the chip does hold what its mark says. A chip that holds older keys is opened by them first, and is
//! then like one from the factory. So the same enrolment goes on with whatever it finds, and a till
//! refuses a chip that has been left open. The keys are not locked (LOCK_KEYS), since newer ones could
//! never be written then.
//!
//! What is written may count for the chip from its next power-up on only, so it is given one.

use canteen::{ChipId, ChipIdError};
use chip_keys::{Application, ChipKey, ChipKeys, ChipKind, SiteKeys};
use zeroize::Zeroizing;

use super::{Blank, EnrolError, Enrolled, Enrolment, Held};
use crate::auth::identify::Shown;
use crate::auth::ultralight::session::{KeySlot, Session, authenticate};
use crate::auth::ultralight::settings::Settings;
use crate::auth::ultralight::{marked_version, open_uid, pages};
use crate::auth::{ANEW, Exchange, ProofError, READING_KEY, Random, UID_KEY};

/// Finds out which chip lies there and whether it is an Ultralight AES.
pub(super) fn look(
    exchange: &mut Exchange<'_>,
    site: &[SiteKeys],
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<Blank, EnrolError> {
    check_kind(exchange)?;
    let kind = ChipKind::UltralightAes;
    let uid = match ChipId::from_uid(&shown.uid) {
        Ok(uid) => Some(uid),
        Err(ChipIdError::Random) => hidden_uid(exchange, site, random)?,
        Err(error) => return Err(ProofError::from(error).into()),
    };
    Ok(Blank { kind, uid })
}

/// The UID of a chip that hides it, if the till has the key.
fn hidden_uid(
    exchange: &mut Exchange<'_>,
    site: &[SiteKeys],
    random: &mut Random<'_>,
) -> Result<Option<ChipId>, EnrolError> {
    let version = match marked_version(exchange, MARK) {
        Ok(version) => version,
        Err(ProofError::NoMark) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let sets = site
        .iter()
        .filter(|keys| *keys.application() == Application::ultralight_aes());
    let mut sets = sets.flat_map(SiteKeys::newest_first);
    let Some(set) = sets.find(|set| set.version == version) else {
        return Ok(None);
    };
    match open_uid(exchange, &set.uid_key, random) {
        Ok(uid) => Ok(Some(uid)),
        Err(ProofError::WrongKey) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the keys unless the chip holds them, and has it prove itself by them.
pub(super) fn enrol(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    shown: &Shown,
    random: &mut Random<'_>,
) -> Result<Enrolled, EnrolError> {
    let mut is_known = is_chip(&shown.uid, enrolment)?;
    check_kind(exchange)?;
    let settings = match pages::read(exchange, pages::SETTINGS) {
        Ok(read) => Settings::of(&read),
        // No canteen's chip hides them.
        Err(ProofError::Refused { .. }) => return Err(EnrolError::OtherCanteen),
        Err(error) => return Err(error.into()),
    };
    let version = match marked_version(exchange, MARK) {
        Ok(version) => Some(version),
        Err(ProofError::NoMark) => None,
        Err(error) => return Err(error.into()),
    };
    let before = match version {
        Some(version) if !settings.is_open() => Held::Version(version),
        Some(_) => Held::Mixed,
        None => Held::Factory,
    };
    let mut written = Vec::new();
    let holds_keys = version == Some(enrolment.keys.version) && settings.is_safe();
    if settings.is_open() || !holds_keys {
        if !settings.is_open() {
            let held = version.and_then(|version| {
                let mut sets = std::iter::once(&enrolment.keys).chain(&enrolment.older);
                sets.find(|set| set.version == version)
            });
            let held = held.ok_or(EnrolError::OtherCanteen)?;
            is_known = open(exchange, held, settings, enrolment, random)?;
        }
        fill(exchange, enrolment, is_known)?;
        written = vec![READING_KEY, UID_KEY];
    }
    let (session, settings) = prove(exchange, enrolment, random)?;
    if enrolment.random_uid && !settings.hides_uid() {
        let hiding = settings.of_canteen(true);
        session.write(exchange, pages::SETTINGS, hiding.first)?;
        anew(exchange, enrolment)?;
        prove(exchange, enrolment, random)?;
    }
    Ok(Enrolled { before, written })
}

/// GET_VERSION: a MIFARE Ultralight AES of either antenna, as no other chip answers it.
fn check_kind(exchange: &mut Exchange<'_>) -> Result<(), EnrolError> {
    match *exchange(&[GET_VERSION])?.as_slice() {
        [0x00, 0x04, 0x03, 0x01 | 0x02, 0x04, 0x00, 0x0F, 0x03] => Ok(()),
        [..] => Err(EnrolError::Kind),
    }
}

/// Makes a chip writable that holds these keys; whether its UID says by itself that it is the chip.
fn open(
    exchange: &mut Exchange<'_>,
    held: &ChipKeys,
    settings: Settings,
    enrolment: &Enrolment,
    random: &mut Random<'_>,
) -> Result<bool, EnrolError> {
    let session = begin(exchange, held, random)?;
    let opened = settings.opened().first;
    if settings.demands_mac() {
        session.write(exchange, pages::SETTINGS, opened)?;
    } else {
        pages::write(exchange, pages::SETTINGS, opened)?;
    }
    anew(exchange, enrolment)
}

/// Writes everything on a chip that everybody may write, and closes it.
fn fill(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    is_known: bool,
) -> Result<(), EnrolError> {
    let mut settings = Settings::of(&pages::read(exchange, pages::SETTINGS)?);
    if !is_known {
        // No more than this page is written before it has told which chip it is.
        settings = settings.opened();
        pages::write(exchange, pages::SETTINGS, settings.first)?;
        if !anew(exchange, enrolment)? {
            return Err(EnrolError::OtherChip);
        }
    }
    let [a, b, c] = MARK;
    let version = enrolment.keys.version.0;
    // The mark comes first: a chip that is torn away from here on is no plain one to a till.
    pages::write(exchange, pages::MARK, [a, b, c, version])?;
    write_key(exchange, pages::DATA_KEY, reading_key(&enrolment.keys))?;
    write_key(exchange, pages::UID_KEY, uid_key(&enrolment.keys))?;
    let wanted = settings.of_canteen(settings.hid_uid());
    pages::write(exchange, pages::SETTINGS + 1, wanted.second)?;
    pages::write(exchange, pages::SETTINGS, wanted.first)?;
    anew(exchange, enrolment).map(drop)
}

/// The last byte of a key stands first in its pages.
fn write_key(exchange: &mut Exchange<'_>, first: u8, key: &ChipKey) -> Result<(), ProofError> {
    let mut bytes = Zeroizing::new(*key.as_bytes());
    bytes.reverse();
    for (page, part) in (first..).zip(bytes.as_chunks::<4>().0) {
        pages::write(exchange, page, *part)?;
    }
    Ok(())
}

/// Both keys count, and the chip is the one: the whole proof as at a sale. What was read of the
/// settings before had no MAC.
fn prove(
    exchange: &mut Exchange<'_>,
    enrolment: &Enrolment,
    random: &mut Random<'_>,
) -> Result<(Session, Settings), EnrolError> {
    let uid = match open_uid(exchange, uid_key(&enrolment.keys), random) {
        Ok(uid) => uid,
        Err(ProofError::WrongKey) => return Err(EnrolError::OtherCanteen),
        Err(error) => return Err(error.into()),
    };
    if uid != enrolment.chip {
        return Err(EnrolError::OtherChip);
    }
    let session = begin(exchange, &enrolment.keys, random)?;
    let (session, read) = session.read(exchange, pages::SETTINGS)?;
    let settings = Settings::of(&read);
    if !settings.is_safe() {
        return Err(ProofError::Unprotected.into());
    }
    Ok((session, settings))
}

/// A stay in which the chip may be written, by its own key.
fn begin(
    exchange: &mut Exchange<'_>,
    keys: &ChipKeys,
    random: &mut Random<'_>,
) -> Result<Session, EnrolError> {
    let rnd_a = Zeroizing::new(random()?);
    authenticate(exchange, KeySlot::Data, reading_key(keys), &rnd_a).map_err(|error| match error {
        ProofError::WrongKey => EnrolError::OtherCanteen,
        error => error.into(),
    })
}

/// The chip begins anew; whether its UID says by itself that it is the chip.
fn anew(exchange: &mut Exchange<'_>, enrolment: &Enrolment) -> Result<bool, EnrolError> {
    let uid = exchange(ANEW)?;
    is_chip(&uid, enrolment)
}

/// A random UID says neither that it is nor that it is not.
fn is_chip(uid: &[u8], enrolment: &Enrolment) -> Result<bool, EnrolError> {
    match ChipId::from_uid(uid) {
        Ok(uid) if uid == enrolment.chip => Ok(true),
        Ok(_) => Err(EnrolError::OtherChip),
        Err(ChipIdError::Random) => Ok(false),
        Err(error) => Err(ProofError::from(error).into()),
    }
}

/// DataProtKey.
fn reading_key(keys: &ChipKeys) -> &ChipKey {
    &keys.keys[usize::from(READING_KEY)]
}

/// UIDRetrKey.
fn uid_key(keys: &ChipKeys) -> &ChipKey {
    &keys.keys[usize::from(UID_KEY)]
}

/// [`Application::ultralight_aes`].
const MARK: [u8; 3] = [0xCA, 0x17, 0xAE];
const GET_VERSION: u8 = 0x60;

#[cfg(test)]
mod tests {
    use canteen::{ChipIdentity, KeyVersion};
    use chip_keys::{KeySet, MasterBytes, MasterSet, ReadingKeys};

    use super::*;
    use crate::ChipFault;
    use crate::auth::virtual_ultralight::VirtualUltralight;
    use crate::auth::{Speaks, identify, os_random, tests_of_identify};

    const UID: [u8; 7] = tests_of_identify::UID;
    const HIDDEN: [u8; 4] = [0x08, 1, 2, 3];

    fn chip() -> ChipId {
        ChipId::from_uid(&UID).expect("a chip")
    }

    fn keys(version: u8) -> ChipKeys {
        let mut bytes = [version; 48];
        bytes[16..32].fill(0x40 | version);
        bytes[32..].fill(0x80 | version);
        let set = MasterSet::new(KeyVersion(version), &MasterBytes(bytes)).expect("a set");
        set.chip_keys(ChipKind::UltralightAes, &chip())
    }

    fn bytes(keys: &ChipKeys) -> [[u8; 16]; 2] {
        [reading_key(keys), uid_key(keys)].map(|key| *key.as_bytes())
    }

    fn fresh() -> VirtualUltralight {
        VirtualUltralight::fresh(UID)
    }

    /// A chip of the canteen with keys of this version.
    fn holding(version: u8, hides_uid: bool) -> VirtualUltralight {
        let [data, uid] = bytes(&keys(version));
        let mut card = VirtualUltralight::new(UID, data, uid);
        card.mark[3] = version;
        card.settings[0] = 0x02 | u8::from(hides_uid);
        card
    }

    fn enrolment(random_uid: bool) -> Enrolment {
        Enrolment {
            kind: ChipKind::UltralightAes,
            chip: chip(),
            keys: keys(3),
            older: vec![keys(2), keys(1)],
            random_uid,
        }
    }

    fn shown(uid: &[u8]) -> Shown {
        Shown {
            uid: uid.to_vec(),
            speaks: Speaks::Frames,
        }
    }

    /// Lays it on the reader and enrols it there.
    fn enrolled(card: &mut VirtualUltralight, wanted: &Enrolment) -> Result<Enrolled, EnrolError> {
        let uid = card.power_up();
        let mut exchange = |frame: &[u8]| Ok(card.handle(frame));
        enrol(&mut exchange, wanted, &shown(&uid), &mut os_random)
    }

    /// Whether a till of the site believes it.
    fn is_believed(card: &mut VirtualUltralight) -> bool {
        let set = KeySet {
            version: KeyVersion(3),
            uid_key: uid_key(&keys(3)).clone(),
            reading_keys: ReadingKeys::Listed([(chip(), reading_key(&keys(3)).clone())].into()),
        };
        let site = SiteKeys::new(Application::ultralight_aes(), b"", vec![set]).expect("keys");
        let uid = card.power_up();
        let mut exchange = |frame: &[u8]| Ok(card.handle(frame));
        let told = identify(&mut exchange, &[site], &shown(&uid), &mut os_random);
        matches!(told, Ok(ChipIdentity::Proven { chip: proven, .. }) if proven == chip())
    }

    /// It holds the wanted keys and is closed.
    #[track_caller]
    fn check_closed(card: &mut VirtualUltralight, hides_uid: bool) {
        assert!(is_believed(card));
        assert_eq!(card.keys, bytes(&keys(3)));
        assert_eq!(card.mark, [0xCA, 0x17, 0xAE, 3]);
        let flags = 0x02 | u8::from(hides_uid);
        assert_eq!(card.settings, [flags, 0, 0, 0x04, 0, 0x05, 0x00, 0x01]);
    }

    /// What came of it, whether the chip counts what is written at once or from its next power-up on.
    #[track_caller]
    fn check(card: &VirtualUltralight, expect: Result<(Held, &[u8]), EnrolError>) {
        for counts_at_once in [false, true] {
            let mut card = card.clone();
            card.counts_at_once = counts_at_once;
            let (before, hid_uid) = (card.clone(), card.settings[0] & 0x01 != 0);
            let told = enrolled(&mut card, &enrolment(false));
            let is_done = told.is_ok();
            let expect = expect.clone().map(|(before, written)| Enrolled {
                before,
                written: written.to_vec(),
            });
            assert_eq!(told, expect);
            if is_done {
                check_closed(&mut card, hid_uid);
            } else {
                card.power_up();
                assert_eq!(
                    (card.keys, card.mark, card.settings),
                    (before.keys, before.mark, before.settings)
                );
            }
        }
    }

    #[test]
    fn a_chip_fresh_from_the_factory_is_given_both_keys_and_closed() {
        check(&fresh(), Ok((Held::Factory, &[3, 1])));
    }

    #[test]
    fn a_chip_with_older_keys_is_given_the_new_ones_and_one_with_new_ones_is_left_alone() {
        for hides_uid in [false, true] {
            for version in [1, 2] {
                let held = Held::Version(KeyVersion(version));
                check(&holding(version, hides_uid), Ok((held, &[3, 1])));
            }
            let held = Held::Version(KeyVersion(3));
            check(&holding(3, hides_uid), Ok((held, &[])));
        }
    }

    #[test]
    fn a_chip_that_was_set_up_carelessly_is_closed() {
        let held = Held::Version(KeyVersion(3));
        for (at, value) in [(0, 0x00), (3, 0x30), (7, 0x00)] {
            let mut careless = holding(3, false);
            careless.settings[at] = value;
            check(&careless, Ok((held, &[3, 1])));
        }
        let mut open = holding(3, false);
        open.settings[3] = 0x3C;
        check(&open, Ok((Held::Mixed, &[3, 1])));
    }

    #[test]
    fn a_chip_that_is_not_the_canteens_is_refused_and_left_as_it_was() {
        let mut unmarked = holding(1, false);
        unmarked.mark = [0; 4];
        check(&unmarked, Err(EnrolError::OtherCanteen));
        for version in [1, 3, 9] {
            let mut foreign = holding(version, false);
            foreign.keys = [[0x77; 16]; 2];
            check(&foreign, Err(EnrolError::OtherCanteen));
            foreign.settings[0] = 0x03;
            check(&foreign, Err(EnrolError::OtherCanteen));
        }
        let other = [4, 1, 2, 3, 4, 5, 6];
        check(&VirtualUltralight::fresh(other), Err(EnrolError::OtherChip));
        let [data, uid] = bytes(&keys(3));
        let mut hidden = VirtualUltralight::new(other, data, uid);
        hidden.mark[3] = 3;
        check(&hidden, Err(EnrolError::OtherChip));
    }

    #[test]
    fn a_plain_ultralight_is_written_nothing() {
        let mut sent = Vec::new();
        let mut exchange = |frame: &[u8]| {
            sent.push(frame.to_vec());
            Ok(vec![0x00])
        };
        let told = enrol(
            &mut exchange,
            &enrolment(false),
            &shown(&UID),
            &mut os_random,
        );
        assert_eq!(told, Err(EnrolError::Kind));
        let told = look(&mut exchange, &[], &shown(&UID), &mut os_random);
        assert_eq!(told, Err(EnrolError::Kind));
        assert_eq!(sent, [[GET_VERSION], [GET_VERSION]]);
    }

    /// Enrols a chip that is torn away after so many of its answers; whether that was the end.
    fn torn(card: &mut VirtualUltralight, wanted: &Enrolment, after: usize, heard: bool) -> bool {
        let uid = card.power_up();
        let mut step = 0;
        let mut exchange = |frame: &[u8]| {
            step += 1;
            match step <= after {
                true => Ok(card.handle(frame)),
                // It may have done what it was told, and left before it said so.
                false if step == after + 1 && heard => {
                    card.handle(frame);
                    Err(ChipFault::HoldStill)
                }
                false => Err(ChipFault::HoldStill),
            }
        };
        enrol(&mut exchange, wanted, &shown(&uid), &mut os_random).is_ok()
    }

    /// All chips that an enrolment may find, and whether each hides its UID.
    fn findable() -> Vec<(VirtualUltralight, bool)> {
        let cards = [
            (fresh(), false),
            (holding(1, false), false),
            (holding(1, true), true),
        ];
        let both = cards.into_iter().flat_map(|(card, hides_uid)| {
            [false, true].map(|counts_at_once| {
                let mut card = card.clone();
                card.counts_at_once = counts_at_once;
                (card, hides_uid)
            })
        });
        both.collect()
    }

    #[test]
    fn a_chip_torn_away_after_any_command_is_enrolled_the_next_time() {
        for ((card, hides_uid), heard) in findable()
            .iter()
            .flat_map(|card| [(card, false), (card, true)])
        {
            for random_uid in [false, true] {
                let mut after = 0;
                loop {
                    let mut card = card.clone();
                    let whole = torn(&mut card, &enrolment(random_uid), after, heard);
                    let again = enrolled(&mut card, &enrolment(random_uid));
                    again.unwrap_or_else(|error| panic!("after {after}: {error}"));
                    check_closed(&mut card, *hides_uid || random_uid);
                    if whole {
                        break;
                    }
                    after += 1;
                }
                assert!(after > 20, "{after} commands");
            }
        }
    }

    #[test]
    fn a_chip_torn_away_twice_is_enrolled_the_third_time() {
        for first in 0..24 {
            for second in [4, 9, 14] {
                let mut card = holding(1, true);
                torn(&mut card, &enrolment(false), first, true);
                torn(&mut card, &enrolment(false), second, true);
                let again = enrolled(&mut card, &enrolment(false));
                again.unwrap_or_else(|error| panic!("after {first}, {second}: {error}"));
                check_closed(&mut card, true);
            }
        }
    }

    #[test]
    fn an_answer_changed_on_the_way_never_enrols_half_a_chip_and_costs_none() {
        for (fresh, _) in findable() {
            for at in 0..40 {
                let mut card = fresh.clone();
                let uid = card.power_up();
                let mut step = 0;
                let mut exchange = |frame: &[u8]| {
                    let mut answer = card.handle(frame);
                    if step == at {
                        answer[0] ^= 0x10;
                    }
                    step += 1;
                    Ok(answer)
                };
                let wanted = enrolment(false);
                let told = enrol(&mut exchange, &wanted, &shown(&uid), &mut os_random);
                assert!(told.is_err() || is_believed(&mut card), "answer {at}");
                match enrolled(&mut card, &wanted) {
                    Ok(_) => assert!(is_believed(&mut card), "answer {at}"),
                    Err(error) => panic!("answer {at}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_random_uid_is_switched_on_only_when_it_is_asked_for() {
        let mut card = fresh();
        enrolled(&mut card, &enrolment(false)).expect("enrolled");
        check_closed(&mut card, false);
        let told = enrolled(&mut card, &enrolment(true)).expect("enrolled");
        assert!(told.written.is_empty());
        check_closed(&mut card, true);
    }

    #[test]
    fn a_till_never_takes_a_chip_that_is_half_enrolled_for_a_plain_one() {
        let site = tests_of_identify::site(Application::ultralight_aes());
        // The first writes: of the mark, which says by itself that the chip must prove itself.
        for after in 4..20 {
            let mut card = fresh();
            torn(&mut card, &enrolment(false), after, false);
            let uid = card.power_up();
            let mut exchange = |frame: &[u8]| Ok(card.handle(frame));
            let told = identify(
                &mut exchange,
                std::slice::from_ref(&site),
                &shown(&uid),
                &mut os_random,
            );
            let is_marked = after > 4;
            let failed = matches!(told, Ok(ChipIdentity::Failed { .. }));
            assert_eq!(failed, is_marked, "after {after}: {told:?}");
        }
    }

    #[track_caller]
    fn check_look(card: &VirtualUltralight, uid: &[u8], site: &[SiteKeys], expect: Option<ChipId>) {
        let mut card = card.clone();
        let mut exchange = |frame: &[u8]| Ok(card.handle(frame));
        let told = look(&mut exchange, site, &shown(uid), &mut os_random);
        let kind = ChipKind::UltralightAes;
        assert_eq!(told, Ok(Blank { kind, uid: expect }));
    }

    #[test]
    fn a_look_tells_the_real_uid_where_the_tills_keys_open_it() {
        let site = [tests_of_identify::site(Application::ultralight_aes())];
        let own = tests_of_identify::ultralight();
        check_look(&own, &HIDDEN, &site, Some(chip()));
        check_look(&own, &HIDDEN, &[], None);
        check_look(&holding(1, true), &HIDDEN, &site, None);
        check_look(&holding(7, true), &HIDDEN, &site, None);
        check_look(&fresh(), &UID, &[], Some(chip()));
        let mut unmarked = own;
        unmarked.mark = [0; 4];
        check_look(&unmarked, &HIDDEN, &site, None);
    }
}
