//! A whole reader without an operating system: the main loop that every firmware with
//! [`firmware_proto::device`] has, on a processor with two serial ports. The till is at the first,
//! an RDM6300 module for EM4100 chips (125 kHz) at the second.
//!
//! ```text
//! cargo build -p example-firmware --release --target thumbv6m-none-eabi
//! qemu-system-arm -M lm3s6965evb -nographic -serial pty -serial pty \
//!     -kernel target/thumbv6m-none-eabi/release/example-firmware
//! ```
//!
//! For another board write [`Board`] anew; [`Reader`] stays as it is. On a computer this program
//! only tests itself.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "on a computer it is only tested")
)]

use firmware_proto::device::{Device, Field, Hardware};
use firmware_proto::frame::MAX_WIRE;
use firmware_proto::message::{Bytes, Chip, Identity, Pattern, Technology, capability};

/// What the loop needs of the processor. None of it waits.
pub(crate) trait Board {
    /// Milliseconds since the start; wraps.
    fn now(&mut self) -> u32;
    /// A byte from the till, if there is one.
    fn byte_from_till(&mut self) -> Option<u8>;
    /// Sends a byte to the till; `false` when there is no room for it yet.
    fn byte_to_till(&mut self, byte: u8) -> bool;
    /// A byte from the module, if there is one.
    fn byte_from_module(&mut self) -> Option<u8>;
    /// Light and sound.
    fn show(&mut self, pattern: Pattern, milliseconds: u16);
}

/// The reader: the state machine, the chip that the module hears, and what waits to be sent.
pub(crate) struct Reader {
    device: Device,
    module: Module,
    outgoing: [u8; MAX_WIRE],
    length: usize,
    sent: usize,
    scanned_at: u32,
}

impl Reader {
    /// A reader that has just started. `boot_id` must be another one at every start: take it from
    /// the processor's random numbers, from noise at an analogue input, or count it up in flash.
    pub(crate) fn new(boot_id: u32) -> Reader {
        Reader {
            device: Device::new(Identity {
                version: 0,
                firmware: [1, 0, 0],
                hardware: 1,
                serial: *b"EXAMPLE-0001",
                capabilities: capability::LIGHT,
                boot_id,
                max_payload: 0,
            }),
            module: Module::new(),
            outgoing: [0; MAX_WIRE],
            length: 0,
            sent: 0,
            scanned_at: 0,
        }
    }

    /// One turn of the main loop; to be called without end, more often than every millisecond.
    pub(crate) fn turn(&mut self, board: &mut impl Board) {
        let now = board.now();
        while let Some(byte) = board.byte_from_module() {
            self.module.hear(byte, now);
        }
        self.module.notice_silence(now);
        if now.wrapping_sub(self.scanned_at) >= SCAN_EVERY {
            self.scanned_at = now;
            self.device.handle_field(self.module.field, now);
        }
        // A frame goes out whole before the next one is made.
        while self.sent < self.length {
            if !board.byte_to_till(self.outgoing[self.sent]) {
                return;
            }
            self.sent += 1;
        }
        let mut wire = [0; MAX_WIRE];
        while let Some(byte) = board.byte_from_till() {
            let field = self.module.field;
            let mut hardware = Antenna { field, board };
            if let Some(answer) = self.device.handle_byte(byte, now, &mut hardware, &mut wire) {
                (self.length, self.sent) = (copy(answer, &mut self.outgoing), 0);
                return;
            }
        }
        if let Some(event) = self.device.poll(now, &mut wire) {
            (self.length, self.sent) = (copy(event, &mut self.outgoing), 0);
        }
    }
}

fn copy(bytes: &[u8], room: &mut [u8]) -> usize {
    room[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

/// What the state machine asks of the hardware.
struct Antenna<'a, B> {
    field: Field,
    board: &'a mut B,
}

impl<B: Board> Hardware for Antenna<'_, B> {
    /// The module cannot be asked: what it said last is a moment old, or the chip has left.
    fn scan(&mut self) -> Field {
        self.field
    }
    fn show(&mut self, pattern: Pattern, milliseconds: u16) {
        self.board.show(pattern, milliseconds);
    }
    /// EM4100 chips take no commands.
    fn exchange(&mut self, _command: &[u8], _answer: &mut [u8]) -> Option<usize> {
        None
    }
    fn enter_boot(&mut self) -> bool {
        false
    }
}

/// The module's frames: `02`, 5 bytes in hex, their XOR in hex, `03`, every 65 ms while a chip is
/// near.
struct Module {
    digits: [u8; DIGITS],
    /// Digits of the frame that is coming in.
    count: Option<usize>,
    field: Field,
    heard_at: u32,
}

impl Module {
    const fn new() -> Module {
        Module {
            digits: [0; DIGITS],
            count: None,
            field: Field::Empty,
            heard_at: 0,
        }
    }

    fn hear(&mut self, byte: u8, now: u32) {
        match (byte, self.count) {
            (0x02, _) => self.count = Some(0),
            (0x03, Some(DIGITS)) => {
                self.count = None;
                if let Some(chip) = self.chip() {
                    self.field = Field::One(chip);
                    self.heard_at = now;
                }
            }
            (_, Some(count)) if count < DIGITS && byte.is_ascii_hexdigit() => {
                self.digits[count] = byte;
                self.count = Some(count + 1);
            }
            _ => self.count = None,
        }
    }

    fn notice_silence(&mut self, now: u32) {
        if now.wrapping_sub(self.heard_at) > SILENCE {
            self.field = Field::Empty;
        }
    }

    /// The chip of a whole frame, if its check is right.
    fn chip(&self) -> Option<Chip> {
        let mut bytes = [0; DIGITS / 2];
        for (byte, pair) in bytes.iter_mut().zip(self.digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        let [version, a, b, c, d, check] = bytes;
        if version ^ a ^ b ^ c ^ d != check {
            return None;
        }
        Some(Chip {
            technology: Technology::Em4100,
            flags: 0,
            sak: 0,
            atqa: 0,
            uid: Bytes::new(&[version, a, b, c, d])?,
            ats: Bytes::EMPTY,
        })
    }
}

const DIGITS: usize = 12;
/// Milliseconds between two looks at what the module says.
const SCAN_EVERY: u32 = 20;
/// Milliseconds after which a chip that is no longer heard has left.
const SILENCE: u32 = 300;

#[cfg(target_os = "none")]
mod lm3s6965 {
    //! The board: a Stellaris LM3S6965 (its data sheet, chapters 3 and 12), with its clocks as QEMU
    //! starts it.
    #![allow(unsafe_code, reason = "registers are memory")]

    use core::ptr::{read_volatile, write_volatile};

    use super::{Board, Pattern, Reader};

    struct Lm3s6965 {
        milliseconds: u32,
    }

    /// What the processor finds behind the stack's address: where to start.
    #[unsafe(link_section = ".vectors")]
    #[used]
    static RESET: extern "C" fn() -> ! = reset;

    #[unsafe(no_mangle)]
    extern "C" fn reset() -> ! {
        write(SYSTICK_RELOAD, TICKS_A_MILLISECOND - 1);
        write(SYSTICK_VALUE, 0);
        write(SYSTICK_CONTROL, 0b101);
        // Both ports at their power-up speed; a real board sets their clocks and speeds here.
        for uart in [UART0, UART1] {
            write(uart + CONTROL, 0x301);
        }
        // This processor has no random numbers: the time until the till's first byte, counted in
        // turns of this loop, hardly comes twice.
        let mut turns = 1_u32;
        while read(UART0 + FLAGS) & RECEIVE_EMPTY != 0 {
            turns = turns.wrapping_add(1);
        }
        let mut board = Lm3s6965 { milliseconds: 0 };
        let mut reader = Reader::new(turns);
        loop {
            reader.turn(&mut board);
        }
    }

    impl Board for Lm3s6965 {
        fn now(&mut self) -> u32 {
            // Reading the flag clears it; the loop turns more often than every millisecond.
            if read(SYSTICK_CONTROL) & COUNTED != 0 {
                self.milliseconds = self.milliseconds.wrapping_add(1);
            }
            self.milliseconds
        }
        fn byte_from_till(&mut self) -> Option<u8> {
            receive(UART0)
        }
        fn byte_to_till(&mut self, byte: u8) -> bool {
            let has_room = read(UART0 + FLAGS) & TRANSMIT_FULL == 0;
            if has_room {
                write(UART0, u32::from(byte));
            }
            has_room
        }
        fn byte_from_module(&mut self) -> Option<u8> {
            receive(UART1)
        }
        fn show(&mut self, pattern: Pattern, _milliseconds: u16) {
            let lit = match pattern {
                Pattern::Idle => 0b00,
                Pattern::Approved => 0b01,
                Pattern::Declined => 0b10,
                Pattern::Waiting => 0b11,
            };
            // Two lights at port F; the address says which pins are meant.
            write(GPIO_F + (0b11 << 2), lit);
        }
    }

    fn receive(uart: usize) -> Option<u8> {
        (read(uart + FLAGS) & RECEIVE_EMPTY == 0).then(|| read(uart) as u8)
    }

    fn read(address: usize) -> u32 {
        // SAFETY: the addresses are those of this processor's registers, which may be read.
        unsafe { read_volatile(address as *const u32) }
    }

    fn write(address: usize, value: u32) {
        // SAFETY: the addresses are those of this processor's registers, which may be written.
        unsafe { write_volatile(address as *mut u32, value) }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // A watchdog starts a real reader anew here, with another boot id.
        loop {
            core::hint::spin_loop();
        }
    }

    const UART0: usize = 0x4000_C000;
    const UART1: usize = 0x4000_D000;
    const FLAGS: usize = 0x18;
    const CONTROL: usize = 0x30;
    const RECEIVE_EMPTY: u32 = 1 << 4;
    const TRANSMIT_FULL: u32 = 1 << 5;
    const GPIO_F: usize = 0x4002_5000;
    const SYSTICK_CONTROL: usize = 0xE000_E010;
    const SYSTICK_RELOAD: usize = 0xE000_E014;
    const SYSTICK_VALUE: usize = 0xE000_E018;
    const COUNTED: u32 = 1 << 16;
    /// The processor starts at 12 MHz.
    const TICKS_A_MILLISECOND: u32 = 12_000;
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("This is a firmware: build it with --target thumbv6m-none-eabi.");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use firmware_proto::frame::Decoder;
    use firmware_proto::message::{FromDevice, FromHost};

    use super::*;

    /// A board whose lines are queues, and whose till takes three bytes in each turn.
    #[derive(Default)]
    struct Bench {
        now: u32,
        room: u32,
        from_till: VecDeque<u8>,
        to_till: Vec<u8>,
        from_module: VecDeque<u8>,
        shown: Vec<Pattern>,
    }

    impl Board for Bench {
        fn now(&mut self) -> u32 {
            self.now
        }
        fn byte_from_till(&mut self) -> Option<u8> {
            self.from_till.pop_front()
        }
        fn byte_to_till(&mut self, byte: u8) -> bool {
            let has_room = self.room > 0;
            if has_room {
                self.room -= 1;
                self.to_till.push(byte);
            }
            has_room
        }
        fn byte_from_module(&mut self) -> Option<u8> {
            self.from_module.pop_front()
        }
        fn show(&mut self, pattern: Pattern, _: u16) {
            self.shown.push(pattern);
        }
    }

    fn run(reader: &mut Reader, bench: &mut Bench, milliseconds: u32) {
        for _ in 0..milliseconds {
            bench.now += 1;
            bench.room = 3;
            reader.turn(bench);
        }
    }

    fn ask(bench: &mut Bench, question: &FromHost<'_>) {
        let mut wire = [0; MAX_WIRE];
        bench
            .from_till
            .extend(question.encode(1, &mut wire).unwrap());
    }

    /// What the till was told, each by its first word, repetitions once.
    fn heard(bench: &mut Bench) -> Vec<String> {
        let mut decoder = Decoder::new();
        let mut words = Vec::new();
        for byte in bench.to_till.drain(..) {
            if let Some(frame) = decoder.push(byte) {
                let said = format!("{:?}", FromDevice::decode(&frame.unwrap()).unwrap());
                let end = said.find(|c: char| !c.is_alphanumeric());
                words.push(said[..end.unwrap_or(said.len())].to_owned());
            }
        }
        words.dedup();
        words
    }

    #[test]
    fn a_chip_at_the_module_is_told_to_the_till() {
        let (mut reader, mut bench) = (Reader::new(1), Bench::default());
        let hello = FromHost::Hello {
            min: 1,
            max: 1,
            nonce: 5,
        };
        ask(&mut bench, &hello);
        run(&mut reader, &mut bench, 400);
        assert_eq!(heard(&mut bench), ["Hello"]);
        bench
            .from_module
            .extend(b"\x02010063E9AE26\x03noise\x02010063E9AE25\x03");
        run(&mut reader, &mut bench, 100);
        assert_eq!(heard(&mut bench), ["Tag"]);
        ask(&mut bench, &FromHost::Ack { event: 1 });
        run(&mut reader, &mut bench, 500);
        assert_eq!(heard(&mut bench), ["Left"]);
        let approved = FromHost::Feedback {
            pattern: Pattern::Approved,
            milliseconds: 200,
        };
        ask(&mut bench, &approved);
        run(&mut reader, &mut bench, 90);
        assert_eq!(bench.shown, [Pattern::Approved]);
    }
}
