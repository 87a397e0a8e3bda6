//! When a chip in a field that is looked into again and again proves itself: once for each stay,
//! and once more whenever somebody asks who is there.

use std::time::Instant;

use canteen::ChipIdentity;

use super::field::{Field, Seen, Sight};
use crate::ChipFault;
use crate::auth::{Keyring, Proving, Shown, Turn};

/// What is known of the chip in the field, and the proof under way.
pub(super) struct Prover {
    keyring: Keyring,
    /// Who the chip was that shows itself like this.
    known: Option<(Shown, ChipIdentity)>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    proving: Proving,
    /// When the look was begun that found the chip.
    begun_at: Instant,
}

impl Prover {
    pub(super) fn new(keyring: Keyring) -> Prover {
        Prover {
            keyring,
            known: None,
            under_way: None,
        }
    }

    /// Takes what a look found. Unless the chip must prove itself first, the field is told.
    pub(super) fn handle_seen(
        &mut self,
        seen: Seen,
        field: &mut Field,
        begun_at: Instant,
        now: Instant,
    ) {
        let shown = match seen {
            Seen::Nothing => {
                field.handle_look(Sight::Empty, begun_at, now);
                if field.is_empty() {
                    self.known = None;
                }
                return;
            }
            Seen::Unusable(fault) => {
                self.known = None;
                return field.handle_look(Sight::Unusable(fault), begun_at, now);
            }
            Seen::Chip(shown) => shown,
        };
        let keys = self.keyring.now();
        if !shown.may_prove(&keys) {
            return field.handle_look(Sight::of(shown.claim()), begun_at, now);
        }
        match &self.known {
            Some((same, identity)) if *same == shown && !field.is_asked(begun_at) => {
                field.handle_look(Sight::Chip(*identity), begun_at, now);
            }
            Some(_) | None => {
                let proving = Proving::new(keys, shown);
                self.under_way = Some(UnderWay { proving, begun_at });
            }
        }
    }

    /// The UID that the chip shows which proves itself now.
    pub(super) fn uid(&self) -> Option<&[u8]> {
        let under_way = self.under_way.as_ref()?;
        Some(&under_way.proving.shown().uid)
    }

    /// What to send to the chip; `None` when the proof is over, and the field was told.
    pub(super) fn poll_command(&mut self, field: &mut Field, now: Instant) -> Option<Vec<u8>> {
        match self.under_way.as_mut()?.proving.turn() {
            Turn::Send(command) => Some(command),
            Turn::Done(told) => {
                self.finish(told, field, now);
                None
            }
        }
    }

    /// Takes the chip's answer; `None` when it gave none.
    pub(super) fn handle_answer(
        &mut self,
        answer: Option<Vec<u8>>,
        field: &mut Field,
        now: Instant,
    ) {
        match (&mut self.under_way, answer) {
            (Some(under_way), Some(answer)) => under_way.proving.handle_answer(answer),
            (Some(_), None) => self.finish(Err(ChipFault::HoldStill), field, now),
            (None, _) => {}
        }
    }

    /// The chip takes no commands after all, so it is who it claims to be.
    pub(super) fn handle_storage_chip(&mut self, field: &mut Field, now: Instant) {
        if let Some(under_way) = &self.under_way {
            let claim = under_way.proving.shown().claim();
            self.finish(claim, field, now);
        }
    }

    /// The reader is in trouble: nothing is known of the chip.
    pub(super) fn forget(&mut self) {
        self.under_way = None;
        self.known = None;
    }

    fn finish(&mut self, told: Result<ChipIdentity, ChipFault>, field: &mut Field, now: Instant) {
        let Some(UnderWay { proving, begun_at }) = self.under_way.take() else {
            return;
        };
        self.known = match &told {
            Ok(identity) => Some((proving.shown().clone(), *identity)),
            Err(_) => None,
        };
        field.handle_look(Sight::of(told), begun_at, now);
    }
}
