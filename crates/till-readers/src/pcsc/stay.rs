//! The stay of a chip in a reader's field, as the service reports it: one event for each.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use canteen::ChipIdentity;

use crate::outlet::Outlet;
use crate::{ChipFault, Presence, ReaderEvent, ReaderName};

/// What is in the field now. Events are told while it is locked, so that a chip never leaves
/// before it came.
#[derive(Default)]
pub(super) struct Field {
    stay: Mutex<Option<Stay>>,
}

struct Stay {
    presence: Presence,
    /// The service's counter of chip movements.
    count: u32,
    seen_at: Instant,
    told: Told,
}

#[derive(PartialEq, Eq)]
enum Told {
    Nothing,
    Chip,
    Unreadable,
}

impl Field {
    /// A chip is in the field; if it was not there before, says which stay is to be read.
    pub(super) fn handle_chip(
        &self,
        reader: &ReaderName,
        outlet: &Outlet,
        count: u32,
        now: Instant,
    ) -> Option<(Presence, Instant)> {
        let mut stay = self.lock();
        if let Some(stay) = &mut *stay
            && is_same_stay(stay.count, count)
        {
            stay.count = count;
            return None;
        }
        Self::end(&mut stay, reader, outlet);
        let presence = Presence::next();
        *stay = Some(Stay {
            presence,
            count,
            seen_at: now,
            told: Told::Nothing,
        });
        Some((presence, now))
    }

    /// Something is in the field that cannot be powered up.
    pub(super) fn handle_mute(
        &self,
        reader: &ReaderName,
        outlet: &Outlet,
        count: u32,
        now: Instant,
    ) {
        if let Some((presence, _)) = self.handle_chip(reader, outlet, count, now) {
            self.tell(reader, outlet, presence, now, Err(ChipFault::Mute));
        }
    }

    /// The field is empty, or nothing can be said of it.
    pub(super) fn handle_empty(&self, reader: &ReaderName, outlet: &Outlet) {
        Self::end(&mut self.lock(), reader, outlet);
    }

    /// Whether this stay goes on.
    pub(super) fn is_current(&self, presence: Presence) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|stay| stay.presence == presence)
    }

    /// Tells what reading a stay brought.
    pub(super) fn tell(
        &self,
        reader: &ReaderName,
        outlet: &Outlet,
        presence: Presence,
        seen_at: Instant,
        read: Result<ChipIdentity, ChipFault>,
    ) {
        let mut stay = self.lock();
        let is_over = match &*stay {
            Some(now) if now.presence != presence => {
                // The next chip is already here and will be read: this answer may be its own.
                return;
            }
            Some(now) if now.told != Told::Nothing => return,
            Some(_) => false,
            None => true,
        };
        let reader = reader.clone();
        let told = match read {
            Ok(identity) => {
                let event = ReaderEvent::Chip {
                    reader: reader.clone(),
                    presence,
                    identity,
                    seen_at,
                };
                outlet.tell(event);
                if is_over {
                    outlet.tell(ReaderEvent::Left { reader, presence });
                }
                Told::Chip
            }
            Err(fault) => {
                // A chip that is gone when it is read was not absent: it came, and left too soon.
                let fault = match fault {
                    ChipFault::Absent => ChipFault::HoldStill,
                    other => other,
                };
                outlet.tell(ReaderEvent::Unreadable {
                    reader,
                    fault,
                    seen_at,
                });
                Told::Unreadable
            }
        };
        if let Some(stay) = &mut *stay {
            stay.told = told;
        }
    }

    fn end(stay: &mut Option<Stay>, reader: &ReaderName, outlet: &Outlet) {
        let Some(ended) = stay.take() else { return };
        if ended.told == Told::Chip {
            outlet.tell(ReaderEvent::Left {
                reader: reader.clone(),
                presence: ended.presence,
            });
        }
        tracing::debug!(%reader, lasted = ?ended.seen_at.elapsed(), "Chip left");
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stay>> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a chip that was in the field at both counts never left it. The service shows a chip a moment
/// before it counts its coming; a chip that left and another that came count for two.
fn is_same_stay(before: u32, now: u32) -> bool {
    now == before || now == before + 1
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use canteen::ChipId;

    use super::*;

    /// What the service reports, in rows: `1` a chip with that count, `m1` a mute one, `-` nothing;
    /// `ok`, `bad` and `gone` are what reading the last announced stay brings.
    #[track_caller]
    fn check(rows: &str, expect: &str) {
        let (sender, told) = mpsc::channel();
        let outlet = Outlet::new(Arc::new(move |event| sender.send(event).unwrap()));
        let (field, reader) = (Field::default(), ReaderName("pcsc:A".into()));
        let now = Instant::now();
        let mut last = Presence(0);
        let chip = ChipIdentity::Bare(ChipId::from_uid(&[1, 2, 3, 4]).unwrap());
        for row in rows.split(' ') {
            let read = match row {
                "ok" => Ok(chip),
                "bad" => Err(ChipFault::HoldStill),
                "gone" => Err(ChipFault::Absent),
                "-" => {
                    field.handle_empty(&reader, &outlet);
                    continue;
                }
                _ => {
                    match row.strip_prefix('m') {
                        Some(count) => {
                            field.handle_mute(&reader, &outlet, count.parse().unwrap(), now);
                        }
                        None => {
                            let count = row.parse().unwrap();
                            let new = field.handle_chip(&reader, &outlet, count, now);
                            last = new.map_or(last, |(presence, _)| presence);
                        }
                    }
                    continue;
                }
            };
            field.tell(&reader, &outlet, last, now, read);
        }
        let told: Vec<&str> = told
            .try_iter()
            .map(|event| match event {
                ReaderEvent::Chip { .. } => "chip",
                ReaderEvent::Left { .. } => "left",
                ReaderEvent::Unreadable {
                    fault: ChipFault::HoldStill,
                    ..
                } => "still",
                ReaderEvent::Unreadable { .. } => "mute",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told.join(" "), expect, "{rows}");
    }

    #[test]
    fn one_stay_gives_one_event() {
        check("1 ok 1 1 ok - -", "chip left");
        check("1 ok - 3 ok -", "chip left chip left");
    }

    #[test]
    fn a_swap_between_two_looks_ends_one_stay_and_starts_another() {
        check("1 ok 3 ok", "chip left chip");
    }

    #[test]
    fn a_chip_that_is_shown_before_it_is_counted_is_one_stay() {
        check("1 ok 2 2 ok - -", "chip left");
        check("1 2 ok 4 ok -", "chip left chip left");
        check("1 ok - 3 4 ok -", "chip left chip left");
    }

    #[test]
    fn a_chip_that_left_after_it_was_read_came_and_left() {
        check("1 - ok", "chip left");
    }

    #[test]
    fn a_chip_that_left_before_it_was_read_should_be_held_still() {
        check("1 - gone", "still");
        check("1 bad - -", "still");
    }

    #[test]
    fn a_late_answer_is_not_told_of_the_next_chip() {
        check("1 - m3 ok", "mute");
    }

    #[test]
    fn a_mute_chip_is_told_once_and_does_not_leave() {
        check("m1 m1 -", "mute");
        check("m1 - m3", "mute mute");
    }
}
