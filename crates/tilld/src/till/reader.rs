//! What readers tell the till, and what it has them show.

use canteen::PresenceId;
use till_page::Attention;
use till_readers::{ChipFault, Presence, ReaderEvent, ReaderState, Signal, Typed};

use super::Till;

impl Till {
    pub(super) fn handle_reader(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Chip {
                reader,
                presence,
                identity,
                seen_at,
            } => {
                let presence = stay(presence);
                self.stays.insert(presence, reader.clone());
                self.active_reader = Some(reader);
                let seen = self.moment(seen_at);
                let action = self
                    .checkout
                    .handle_chip(presence, identity, seen, self.now());
                self.act(action);
            }
            ReaderEvent::ReadAgain {
                token,
                identity,
                seen_at,
                ..
            } => {
                if token == self.read_again_token {
                    let seen = self.moment(seen_at);
                    let action = self
                        .checkout
                        .handle_read_again(identity.ok(), seen, self.now());
                    self.act(action);
                }
            }
            ReaderEvent::Unreadable { reader, fault, .. } => {
                self.active_reader = Some(reader);
                if self.checkout.handle_unreadable().is_some() {
                    self.attend(&unreadable_attention(&fault));
                }
            }
            ReaderEvent::Left { presence, .. } => self.handle_left(stay(presence)),
            ReaderEvent::Faulty { reader, .. } | ReaderEvent::Removed { reader } => {
                let gone: Vec<PresenceId> = self
                    .stays
                    .iter()
                    .filter_map(|(stay, at)| (*at == reader).then_some(*stay))
                    .collect();
                gone.into_iter().for_each(|stay| self.handle_left(stay));
            }
            ReaderEvent::Ready { .. } => {}
        }
    }

    fn handle_left(&mut self, stay: PresenceId) {
        self.stays.remove(&stay);
        self.checkout.handle_left(stay);
        if self.checkout.chip_on_reader().is_none() {
            self.chip = None;
        }
    }

    pub(super) fn reader_works(&self) -> Result<(), String> {
        let listings = self.parts.readers.list();
        if listings
            .iter()
            .any(|listing| listing.state == ReaderState::Ready)
        {
            return Ok(());
        }
        let faults = listings.iter().filter_map(|listing| match &listing.state {
            ReaderState::Faulty(fault) => Some(format!("{}: {fault}", listing.name)),
            ReaderState::Opening => Some(format!("{}: is being opened", listing.name)),
            ReaderState::Ready => None,
        });
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() {
            return Err("no reader is configured".into());
        }
        Err(faults.join("; "))
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(reader) = &self.active_reader {
            self.parts.readers.signal(reader, signal);
        }
    }

    pub(super) fn signal_all(&self, signal: Signal) {
        for listing in self.parts.readers.list() {
            self.parts.readers.signal(&listing.name, signal);
        }
    }
}

fn stay(presence: Presence) -> PresenceId {
    PresenceId(presence.0)
}

fn unreadable_attention(fault: &ChipFault) -> Attention {
    match fault {
        ChipFault::Several => Attention::SeveralChips,
        ChipFault::Identity(_) | ChipFault::Unsupported { .. } | ChipFault::Technology => {
            Attention::UnusableChip
        }
        ChipFault::ReaderInUse => Attention::ReaderInUse,
        ChipFault::ReaderFaulty => Attention::ReaderFaulty,
        ChipFault::Absent | ChipFault::Mute | ChipFault::HoldStill => Attention::HoldStill,
        ChipFault::Typed(Typed::Keys) => Attention::TypedKeys,
        ChipFault::Typed(Typed::Shape { digits, setting }) => Attention::TypedShape {
            digits: *digits,
            setting,
        },
        ChipFault::Typed(Typed::Length { digits, wanted }) => Attention::TypedLength {
            digits: *digits,
            wanted,
        },
    }
}
