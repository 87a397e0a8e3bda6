//! Whether the wall clock can be believed. A clock that jumps back or far ahead is told of by an
//! entry, and business days go on from what was believed last, so that no limit begins anew.

use canteen::BusinessDay;
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::{ClockEvent, ClockJump, EntryBody};
use uuid::Uuid;

use crate::book::prepare;
use crate::error::LedgerError;
use crate::moment::{HubClock, Moment};
use crate::page::{EntryRef, Page};

/// How the wall clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockState {
    /// It goes on as it should.
    #[default]
    Right,
    /// It shows a time that has been.
    Back,
    /// It is far ahead of what can be explained without the hub or a person.
    Forward,
}

impl ClockState {
    /// The word for it in the file and on the wire.
    pub fn code(self) -> &'static str {
        match self {
            ClockState::Right => "right",
            ClockState::Back => "back",
            ClockState::Forward => "forward",
        }
    }

    fn from_code(code: &str) -> ClockState {
        let known = [ClockState::Back, ClockState::Forward];
        let found = known.into_iter().find(|state| state.code() == code);
        found.unwrap_or_default()
    }

    fn jump(self) -> ClockJump {
        match self {
            ClockState::Right => ClockJump::Confirmed,
            ClockState::Back => ClockJump::Back,
            ClockState::Forward => ClockJump::Forward,
        }
    }
}

/// Asks whether the clock is still right, or says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockRequest {
    /// The id of the entry, if one is written.
    pub id: Uuid,
    /// A person has looked at it and says that it is right.
    pub confirmed: bool,
}

/// What the till believes of the time, whatever its wall clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelievedTime {
    pub(crate) clock: Clock,
    pub(crate) hub: Option<HubClock>,
    pub(crate) last_day: Option<BusinessDay>,
}

impl BelievedTime {
    /// The time at a moment; the wall clock's own as long as it is believed.
    pub fn at(&self, now: Moment) -> Timestamp {
        let hub = self.hub.and_then(|hub| hub.at(now));
        let believed = self.clock.believed(now, hub);
        Timestamp::from_millisecond(believed).unwrap_or(Timestamp::MIN)
    }

    /// What is known of the time at a moment, also before something that has happened to the wall
    /// clock is told of by an entry.
    pub fn known(&self, now: Moment) -> KnownTime {
        if let Some(hub) = self.hub(now) {
            return KnownTime::Told(hub);
        }
        let state = self.clock.look(now, None);
        let clock = Clock {
            state,
            ..self.clock
        };
        let believed = clock.believed(now, None);
        let believed = Timestamp::from_millisecond(believed).unwrap_or(Timestamp::MIN);
        match state {
            ClockState::Right => KnownTime::Shown(believed),
            ClockState::Back | ClockState::Forward => KnownTime::NotBefore(believed),
        }
    }

    /// The business day on which a sale would be booked.
    pub fn today(&self, now: Moment) -> BusinessDay {
        let day = BusinessDay::of(self.at(now));
        self.last_day.map_or(day, |last| day.max(last))
    }

    /// What the hub's clock shows, as far as it is known since the machine was booted.
    pub fn hub(&self, now: Moment) -> Option<Timestamp> {
        let hub = self.hub.and_then(|hub| hub.at(now))?;
        Timestamp::from_millisecond(hub).ok()
    }
}

/// What somebody may go by who needs the time itself, not only the order of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownTime {
    /// The hub has told it since the machine was booted.
    Told(Timestamp),
    /// The wall clock is believed.
    Shown(Timestamp),
    /// The wall clock is not believed, and it cannot be earlier than this.
    NotBefore(Timestamp),
}

/// What is known of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    pub(crate) state: ClockState,
    /// The last moment that was believed, with the time that it was believed to be.
    pub(crate) anchor: Option<Moment>,
}

impl Clock {
    /// How the clock looks at a moment; `hub_ms` is what the hub's clock shows then.
    pub(crate) fn look(&self, now: Moment, hub_ms: Option<i64>) -> ClockState {
        let judged = |expected: i64, back: i64, forward: i64| {
            let ahead = now.utc_ms.saturating_sub(expected);
            if ahead < -back {
                ClockState::Back
            } else if ahead > forward {
                ClockState::Forward
            } else {
                ClockState::Right
            }
        };
        match (hub_ms, self.anchor) {
            (Some(hub), _) => judged(hub, HUB_SKEW_MS, HUB_SKEW_MS),
            (None, Some(anchor)) => judged(expected(anchor, now), BACK_MS, FORWARD_MS),
            (None, None) => ClockState::Right,
        }
    }

    /// The time that is believed, in milliseconds since 1970.
    pub(crate) fn believed(&self, now: Moment, hub_ms: Option<i64>) -> i64 {
        let without_hub = match (self.state, self.anchor) {
            (ClockState::Back | ClockState::Forward, Some(anchor)) => expected(anchor, now),
            (ClockState::Right, _) | (_, None) => now.utc_ms,
        };
        hub_ms.unwrap_or(without_hub)
    }

    /// The hub has told the time once, perhaps after the last entry and before another start of the
    /// machine: it cannot be earlier.
    pub(crate) fn not_before(&mut self, told: HubClock) {
        if self.anchor.is_none_or(|anchor| anchor.utc_ms < told.utc_ms) {
            self.anchor = Some(Moment {
                utc_ms: told.utc_ms,
                boot_ms: told.boot_ms,
                boot: told.boot,
            });
        }
    }

    /// An entry was written at a moment that is believed.
    pub(crate) fn goes_on(&mut self, now: Moment, hub_ms: Option<i64>) {
        if hub_ms.is_some() || self.state == ClockState::Right {
            self.anchor = Some(Moment {
                utc_ms: self.believed(now, hub_ms),
                ..now
            });
        }
    }
}

/// What the clock should show. After another start of the machine nobody knows how much time has
/// passed, only that it did not go back.
fn expected(anchor: Moment, now: Moment) -> i64 {
    let passed = now.boot_ms.checked_sub(anchor.boot_ms);
    let passed = passed.filter(|_| now.boot == anchor.boot);
    let passed = passed.and_then(|passed| i64::try_from(passed).ok());
    anchor.utc_ms.saturating_add(passed.unwrap_or(0))
}

impl Page<'_> {
    /// Looks at the clock before something is written, and tells when it has jumped.
    pub(crate) fn watch_clock(&mut self, now: Moment) -> Result<Option<EntryRef>, LedgerError> {
        let state = self.draft.clock.look(now, self.hub_ms(now));
        if state == self.draft.clock.state {
            return Ok(None);
        }
        self.tell_clock(self.own_id(now), state, now).map(Some)
    }

    /// Whatever there was to see is told already; a person's word counts all the same.
    pub(crate) fn clock(
        &mut self,
        request: &ClockRequest,
        now: Moment,
    ) -> Result<Option<EntryRef>, LedgerError> {
        if !request.confirmed || self.draft.clock.state == ClockState::Right {
            return Ok(None);
        }
        if let Some(hub) = self.hub_ms(now)
            && self.draft.clock.look(now, Some(hub)) != ClockState::Right
        {
            return Err(LedgerError::HubClockDiffers {
                ours: now.to_rfc3339()?,
                hub: words(hub)?,
            });
        }
        self.tell_clock(request.id, ClockState::Right, now)
            .map(Some)
    }

    fn tell_clock(
        &mut self,
        id: Uuid,
        state: ClockState,
        now: Moment,
    ) -> Result<EntryRef, LedgerError> {
        let hub = self.hub_ms(now);
        let anchor = self.draft.clock.anchor;
        let should = hub.or(anchor.map(|anchor| expected(anchor, now)));
        let body = EntryBody::ClockEvent(ClockEvent {
            event: state.jump(),
            expected: words(should.unwrap_or(now.utc_ms))?,
            found: now.to_rfc3339()?,
        });
        self.draft.clock.state = state;
        // A person's word, or the clock's own return, counts from here on.
        if state == ClockState::Right && hub.is_none() {
            self.draft.clock.anchor = Some(now);
        }
        let day = self.business_day(now)?;
        let entry = self.append(id, &body, day, now)?;
        write(self.connection, self.draft.clock)?;
        Ok(entry)
    }
}

fn words(utc_ms: i64) -> Result<String, LedgerError> {
    let stamp = Timestamp::from_millisecond(utc_ms).map_err(|_| LedgerError::Clock { utc_ms })?;
    Ok(format!("{stamp:.3}"))
}

fn write(connection: &Connection, clock: Clock) -> Result<(), LedgerError> {
    // While the clock is right, the last entry itself is the last moment that was believed.
    let anchor = clock.anchor.filter(|_| clock.state != ClockState::Right);
    prepare(
        connection,
        "UPDATE clock SET state = ?1, utc_ms = ?2, boot_ms = ?3, boot = ?4",
    )?
    .execute((
        clock.state.code(),
        anchor.map(|moment| moment.utc_ms),
        anchor.map(|moment| moment.boot_ms.cast_signed()),
        anchor.map(|moment| moment.boot.into_bytes()),
    ))?;
    Ok(())
}

/// What is known of the clock when the ledger is opened; `last` is the last entry's moment.
pub(crate) fn read(connection: &Connection, last: Option<Moment>) -> Result<Clock, LedgerError> {
    let (state, anchor) = connection.query_row(
        "SELECT state, utc_ms, boot_ms, boot FROM clock",
        [],
        |row| {
            let state: String = row.get(0)?;
            let (utc, boot_ms): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            let boot: Option<[u8; 16]> = row.get(3)?;
            let anchor = utc.zip(boot_ms).zip(boot);
            let anchor = anchor.map(|((utc_ms, boot_ms), boot)| Moment {
                utc_ms,
                boot_ms: boot_ms.cast_unsigned(),
                boot: Uuid::from_bytes(boot),
            });
            Ok((ClockState::from_code(&state), anchor))
        },
    )?;
    let anchor = if state == ClockState::Right {
        last
    } else {
        anchor
    };
    Ok(Clock { state, anchor })
}

/// The hub's clock and this machine's may differ by so much.
const HUB_SKEW_MS: i64 = 10 * 60 * 1000;
/// A clock that is set right by the network goes back by less.
const BACK_MS: i64 = 120 * 1000;
/// A clock that went on by more, with nobody to explain it, has jumped.
const FORWARD_MS: i64 = 26 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const NOON: i64 = 1_795_000_000_000;

    fn moment(utc_ms: i64, boot: u128) -> Moment {
        Moment {
            utc_ms,
            boot_ms: 5_000_000,
            boot: Uuid::from_u128(boot),
        }
    }

    /// The till wrote its last entry at noon; some time later on the same or on another boot its
    /// clock is off by so much from what it should be.
    #[track_caller]
    fn check(passed: i64, off: i64, boot: u128, hub: bool, expect: ClockState) {
        let clock = Clock {
            state: ClockState::Right,
            anchor: Some(moment(NOON, 1)),
        };
        let now = Moment {
            boot_ms: 5_000_000 + passed.cast_unsigned(),
            ..moment(NOON + passed + off, boot)
        };
        let hub_ms = hub.then_some(NOON + passed);
        assert_eq!(
            clock.look(now, hub_ms),
            expect,
            "{passed} {off} {boot} {hub}"
        );
    }

    #[test]
    fn time_03_a_jump_back_is_seen_and_a_jump_of_more_than_26_hours_ahead() {
        check(HOUR, 0, 1, false, ClockState::Right);
        check(100 * HOUR, 0, 1, false, ClockState::Right);
        check(HOUR, -3 * MINUTE, 1, false, ClockState::Back);
        check(HOUR, -MINUTE, 1, false, ClockState::Right);
        check(HOUR, 25 * HOUR, 1, false, ClockState::Right);
        check(HOUR, 27 * HOUR, 1, false, ClockState::Forward);
        // After a restart of the machine only the order of things is known.
        check(20 * HOUR, 0, 2, false, ClockState::Right);
        check(30 * HOUR, 0, 2, false, ClockState::Forward);
        check(HOUR, -2 * HOUR, 2, false, ClockState::Back);
    }

    #[test]
    fn time_01_the_hubs_clock_goes_before_everything() {
        check(100 * HOUR, 0, 1, true, ClockState::Right);
        check(HOUR, 9 * MINUTE, 1, true, ClockState::Right);
        check(HOUR, 11 * MINUTE, 1, true, ClockState::Forward);
        check(HOUR, -11 * MINUTE, 1, true, ClockState::Back);
    }

    #[test]
    fn what_is_known_of_the_time_is_the_hubs_word_then_a_believed_clock_then_a_bound() {
        let known = |now: Moment, hub: Option<HubClock>| {
            let clock = Clock {
                state: ClockState::Right,
                anchor: Some(moment(NOON, 1)),
            };
            let time = BelievedTime {
                clock,
                hub,
                last_day: None,
            };
            time.known(now)
        };
        let at = |utc_ms| Timestamp::from_millisecond(utc_ms).unwrap();
        let told = Some(HubClock {
            utc_ms: NOON + HOUR,
            boot_ms: 5_000_000,
            boot: Uuid::from_u128(2),
        });
        assert_eq!(
            known(moment(NOON + HOUR, 2), None),
            KnownTime::Shown(at(NOON + HOUR))
        );
        for wrong in [0, NOON - HOUR, NOON + 30 * HOUR] {
            assert_eq!(
                known(moment(wrong, 2), None),
                KnownTime::NotBefore(at(NOON))
            );
            assert_eq!(
                known(moment(wrong, 2), told),
                KnownTime::Told(at(NOON + HOUR))
            );
        }
        // The hub's word of another boot says nothing of now.
        assert_eq!(known(moment(0, 3), told), KnownTime::NotBefore(at(NOON)));
    }

    #[test]
    fn what_the_hub_told_before_a_restart_of_the_machine_is_the_earliest_that_it_can_be() {
        let told = |utc_ms| HubClock {
            utc_ms,
            boot_ms: 6_000_000,
            boot: Uuid::from_u128(2),
        };
        let mut clock = Clock {
            state: ClockState::Right,
            anchor: Some(moment(NOON, 1)),
        };
        let month = 30 * 24 * HOUR;
        let now = moment(NOON + month + MINUTE, 3);
        assert_eq!(clock.look(now, None), ClockState::Forward);
        clock.not_before(told(NOON - HOUR));
        assert_eq!(clock.anchor, Some(moment(NOON, 1)));
        clock.not_before(told(NOON + month));
        assert_eq!(clock.look(now, None), ClockState::Right);
        assert_eq!(clock.look(moment(NOON, 3), None), ClockState::Back);
    }

    #[test]
    fn a_clock_that_is_not_believed_goes_on_from_the_last_moment_that_was() {
        let clock = Clock {
            state: ClockState::Back,
            anchor: Some(moment(NOON, 1)),
        };
        let later = Moment {
            boot_ms: 5_000_000 + HOUR.cast_unsigned(),
            ..moment(0, 1)
        };
        assert_eq!(clock.believed(later, None), NOON + HOUR);
        assert_eq!(clock.believed(moment(0, 2), None), NOON);
        assert_eq!(clock.believed(later, Some(7)), 7);
    }
}
