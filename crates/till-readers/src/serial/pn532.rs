//! A PN532 on its high-speed UART (NXP UM0701-02): the till asks what is in the field, again and
//! again, and the chip never speaks unasked.
//!
//! Two chips are asked for each time, so that two are noticed. Each chip found is released after
//! it, since a chip that stays selected does not answer the next look. An answer counts only after
//! the acknowledgement of the command that it answers: what was still on its way from an earlier
//! command is never taken for something seen now.

mod frame;
pub(crate) mod target;

use std::time::{Duration, Instant};

use super::conversation::{Conversation, Happening};
use super::field::{Field, Seen};
use super::proof::Prover;
use crate::auth::{ANEW, ChipTask, Keyring, Speaks};
use crate::{ReaderFault, Signal};
#[cfg(any(test, fuzzing))]
pub(super) use frame::MAX_BODY;
pub(super) use frame::{Decoder, Frame};

/// A conversation with the chip.
pub(super) struct Pn532 {
    decoder: Decoder,
    field: Field,
    prover: Prover,
    asked: Option<Asked>,
    next: Command,
    /// Checksums of what the chip says are left to the till.
    is_unchecked: bool,
    /// Nothing is sent before that.
    quiet_until: Instant,
    is_open: bool,
    /// Commands in a row that were given up.
    failures: u32,
    /// When the last answer came; at first, when the line was opened.
    last_answer: Instant,
    fault: Option<ReaderFault>,
}

struct Asked {
    command: Command,
    /// When it was sent for the first time.
    begun_at: Instant,
    times: u32,
    is_acknowledged: bool,
    deadline: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    /// SAMConfiguration, with the bytes before it that wake the chip from its sleep after power-up.
    Wake,
    Firmware,
    /// RFConfiguration: how often a chip is called before the field counts as empty. By default
    /// the PN532 calls for ever.
    Retries,
    /// InListPassiveTarget.
    Look,
    /// InDataExchange with the chip that was found.
    Exchange(Vec<u8>),
    /// InSelect: a search for two may have put the first to sleep, and only InDataExchange wakes it by
    /// itself. What it answers is not asked: some say that it is not needed, and copies of the PN532
    /// say nothing.
    Select,
    /// ReadRegister of how answers over the air are received.
    Reception,
    /// WriteRegister of the same: the reader is not to check checksums. It would take a refusal of a
    /// chip, which has none, for a damaged answer.
    Unchecked(u8),
    /// InCommunicateThru: a frame as it goes over the air, but for the checksum.
    Frame(Vec<u8>),
    /// RFConfiguration: takes the power from the chip.
    FieldOff,
    /// Gives it back.
    FieldOn,
    /// InListPassiveTarget, in the middle of a talk with the chip.
    Anew,
    /// InRelease of all.
    Release,
}

impl Pn532 {
    pub(super) fn new(keyring: Keyring, now: Instant) -> Pn532 {
        Pn532 {
            decoder: Decoder::default(),
            field: Field::new(),
            prover: Prover::new(keyring),
            asked: None,
            next: Command::Wake,
            is_unchecked: false,
            quiet_until: now,
            is_open: false,
            failures: 0,
            last_answer: now,
            fault: None,
        }
    }

    fn send(&mut self, now: Instant) -> Option<Vec<u8>> {
        // What has come so far answers nothing that is asked from now on.
        self.decoder.clear();
        let asked = self.asked.as_mut()?;
        asked.times += 1;
        asked.is_acknowledged = false;
        asked.deadline = now + ACK_TIME;
        asked.command.encode()
    }

    /// The command has failed as often as it may. What the chip may still be doing is ended.
    fn give_up(&mut self, now: Instant) -> Vec<u8> {
        let asked = self.asked.take();
        if asked.is_some_and(|asked| asked.command.is_for_chip()) {
            self.prover.handle_answer(None, &mut self.field, now);
            self.next = Command::Release;
        }
        self.failures += 1;
        let silence = now.saturating_duration_since(self.last_answer);
        if self.failures >= FAILURES_TO_LOSE && silence >= TIME_TO_LOSE {
            self.fault = Some(match self.is_open {
                true => ReaderFault::Lost,
                false => ReaderFault::Silent,
            });
        }
        self.quiet_until = now + QUIET_TIME;
        frame::ABORT.to_vec()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        let Some(asked) = &mut self.asked else { return };
        match frame {
            Frame::Ack => {
                asked.is_acknowledged = true;
                asked.deadline = now + ANSWER_TIME;
            }
            // Neither needs to be waited for any longer.
            Frame::Nack | Frame::Refusal => asked.deadline = now,
            Frame::Answer(code, data) => {
                if asked.is_acknowledged
                    && code == asked.command.answer()
                    && let Some(Asked {
                        command, begun_at, ..
                    }) = self.asked.take()
                {
                    self.failures = 0;
                    self.last_answer = now;
                    self.handle_answer(command, &data, begun_at, now);
                }
            }
        }
    }

    fn handle_answer(&mut self, command: Command, data: &[u8], begun_at: Instant, now: Instant) {
        self.next = match command {
            Command::Wake => Command::Firmware,
            Command::Firmware => {
                self.is_open = true;
                let firmware = target::firmware(data);
                self.field.handle_opened(firmware);
                Command::Retries
            }
            Command::Retries | Command::Release => Command::Look,
            Command::Look => {
                // The search sets how answers are received as it needs it.
                self.is_unchecked = false;
                let has_chips = data.first().is_some_and(|count| *count > 0);
                self.prover
                    .handle_seen(target::seen(data), &mut self.field, begun_at, now);
                if has_chips {
                    self.next_exchange(now)
                } else {
                    Command::Look
                }
            }
            Command::Exchange(_) => {
                self.prover
                    .handle_answer(target::exchanged(data), &mut self.field, now);
                self.next_exchange(now)
            }
            Command::Select => Command::Reception,
            Command::Reception => match target::register(data) {
                Some(reception) => Command::Unchecked(reception & !target::CHECKS),
                None => {
                    self.prover.handle_answer(None, &mut self.field, now);
                    Command::Release
                }
            },
            Command::Unchecked(_) => {
                self.is_unchecked = true;
                self.next_exchange(now)
            }
            Command::Frame(_) => {
                self.prover
                    .handle_answer(target::heard(data), &mut self.field, now);
                self.next_exchange(now)
            }
            Command::FieldOff => Command::FieldOn,
            Command::FieldOn => Command::Anew,
            Command::Anew => {
                self.is_unchecked = false;
                let uid = match target::seen(data) {
                    Seen::Chip(shown) if shown.speaks == Speaks::Frames => Some(shown.uid),
                    Seen::Chip(_) | Seen::Nothing | Seen::Unusable(_) => None,
                };
                self.prover.handle_answer(uid, &mut self.field, now);
                self.next_exchange(now)
            }
        };
        if self.next == Command::Look && !self.field.is_unsettled() {
            self.quiet_until = now + PAUSE;
        }
    }
}

impl Pn532 {
    /// What the chip that was found is sent next; in the end it is released.
    fn next_exchange(&mut self, now: Instant) -> Command {
        let Some(command) = self.prover.poll_command(&mut self.field, now) else {
            return Command::Release;
        };
        match self.prover.speaks() {
            Speaks::Frames if command == ANEW => Command::FieldOff,
            Speaks::Frames if self.is_unchecked => Command::Frame(command),
            Speaks::Frames => Command::Select,
            Speaks::Apdus | Speaks::Unasked | Speaks::Nothing => Command::Exchange(command),
        }
    }
}

impl Conversation for Pn532 {
    fn handle_read_again(&mut self, token: u64, asked_at: Instant) {
        self.field.handle_read_again(token, asked_at);
        // The pause between two looks is over.
        if self.next == Command::Look && self.failures == 0 {
            self.quiet_until = asked_at;
        }
    }

    fn handle_task(&mut self, token: u64, task: ChipTask, asked_at: Instant) {
        self.prover.handle_task(token, task, asked_at);
    }

    /// The chip has neither light nor sound.
    fn handle_signal(&mut self, _signal: Signal) {}

    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.decoder.push(bytes);
        while let Some(found) = self.decoder.poll() {
            match found {
                Ok(frame) => self.handle_frame(frame, now),
                // It may have been noise: the answer has a moment more to come.
                Err(error) => {
                    tracing::debug!(%error, "Bytes on the line are no frame");
                    if let Some(asked) = &mut self.asked {
                        asked.deadline = asked.deadline.min(now + DAMAGE_TIME);
                    }
                }
            }
        }
    }

    fn handle_end(&mut self) {
        self.prover.handle_end(&mut self.field);
        self.field.handle_end();
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.field.handle_time(now);
        self.prover.handle_time(&mut self.field, now);
        if self.fault.is_some() || now < self.quiet_until {
            return None;
        }
        if let Some(asked) = &self.asked {
            if now < asked.deadline {
                return None;
            }
            if asked.times < asked.command.times() {
                return self.send(now);
            }
            return Some(self.give_up(now));
        }
        self.asked = Some(Asked {
            command: self.next.clone(),
            begun_at: now,
            times: 0,
            is_acknowledged: false,
            deadline: now,
        });
        self.send(now)
    }

    fn poll_happening(&mut self) -> Option<Happening> {
        self.field.poll_happening()
    }

    fn fault(&self) -> Option<ReaderFault> {
        self.fault.clone()
    }
}

impl Command {
    fn encode(&self) -> Option<Vec<u8>> {
        let exchange;
        let command: &[u8] = match self {
            // Normal mode, no time limit, no interrupt line.
            Command::Wake => &[0x14, 0x01, 0x00, 0x00],
            Command::Firmware => &[0x02],
            // For attributes, for selection, and two more calls for a chip.
            Command::Retries => &[0x32, 0x05, 0xFF, 0x01, 0x02],
            // At most two, type A at 106 kbit/s.
            Command::Look | Command::Anew => &[0x4A, 0x02, 0x00],
            Command::FieldOff => &[0x32, 0x01, 0x00],
            Command::FieldOn => &[0x32, 0x01, 0x01],
            Command::Exchange(command) => {
                exchange = [&[0x40, FIRST_TARGET], &command[..]].concat();
                &exchange
            }
            Command::Select => &[0x54, FIRST_TARGET],
            Command::Reception => &[0x06, target::RECEPTION[0], target::RECEPTION[1]],
            Command::Unchecked(value) => {
                exchange = vec![0x08, target::RECEPTION[0], target::RECEPTION[1], *value];
                &exchange
            }
            Command::Frame(frame) => {
                exchange = [&[0x42], &frame[..]].concat();
                &exchange
            }
            Command::Release => &[0x52, 0x00],
        };
        let frame = frame::encode(command)?;
        Some(match self {
            Command::Wake => [&WAKE_UP[..], &frame].concat(),
            Command::Firmware
            | Command::Retries
            | Command::Look
            | Command::Exchange(_)
            | Command::Select
            | Command::Reception
            | Command::Unchecked(_)
            | Command::Frame(_)
            | Command::FieldOff
            | Command::FieldOn
            | Command::Anew
            | Command::Release => frame,
        })
    }

    /// How often it is sent. A chip that heard a step of a proof twice would refuse the second.
    fn times(&self) -> u32 {
        match self {
            Command::Exchange(_) | Command::Frame(_) => 1,
            Command::Wake
            | Command::Firmware
            | Command::Retries
            | Command::Look
            | Command::Select
            | Command::Reception
            | Command::Unchecked(_)
            | Command::FieldOff
            | Command::FieldOn
            | Command::Anew
            | Command::Release => TIMES,
        }
    }

    /// Whether the talk with a chip is over when it fails.
    fn is_for_chip(&self) -> bool {
        match self {
            Command::Exchange(_)
            | Command::Select
            | Command::Reception
            | Command::Unchecked(_)
            | Command::Frame(_)
            | Command::FieldOff
            | Command::FieldOn
            | Command::Anew => true,
            Command::Wake
            | Command::Firmware
            | Command::Retries
            | Command::Look
            | Command::Release => false,
        }
    }

    /// The code of its answer.
    fn answer(&self) -> u8 {
        match self {
            Command::Wake => 0x15,
            Command::Firmware => 0x03,
            Command::Retries | Command::FieldOff | Command::FieldOn => 0x33,
            Command::Look | Command::Anew => 0x4B,
            Command::Exchange(_) => 0x41,
            Command::Select => 0x55,
            Command::Reception => 0x07,
            Command::Unchecked(_) => 0x09,
            Command::Frame(_) => 0x43,
            Command::Release => 0x53,
        }
    }
}

/// The chip's number of the only target in its field.
const FIRST_TARGET: u8 = 0x01;
/// As libnfc sends it: two bytes to wake the UART, then time for the oscillator.
const WAKE_UP: [u8; 16] = [0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The chip takes 15 ms; adapters and small computers take more.
const ACK_TIME: Duration = Duration::from_millis(250);
const ANSWER_TIME: Duration = Duration::from_millis(500);
const DAMAGE_TIME: Duration = Duration::from_millis(30);
/// For what is still on its way after a command was given up.
const QUIET_TIME: Duration = Duration::from_millis(50);
/// Between two looks into a field where nothing changes.
const PAUSE: Duration = Duration::from_millis(20);
/// After an abort the PN532 may lose one acknowledgement.
const TIMES: u32 = 2;
const FAILURES_TO_LOSE: u32 = 3;
/// A line that is disturbed for a moment is no lost reader.
const TIME_TO_LOSE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests;
