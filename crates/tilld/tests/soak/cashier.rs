//! A cashier with a queue: lays chips, sells, takes back, and asks again when the till died.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::vpcd_card::{ChipScript, VirtualChip};
use serde_json::{Value, json};

use crate::books::Books;
use crate::dice::Dice;
use crate::rig::{Site, fresh_id, uid};

/// One cashier at one till.
#[derive(Debug)]
pub(crate) struct Cashier {
    till: String,
    socket: PathBuf,
    reader: u16,
    books: Arc<Books>,
    dice: Dice,
    stop: Arc<AtomicBool>,
}

impl Cashier {
    /// At the till `kasse-1`, `kasse-2`, ….
    pub(crate) fn new(
        site: &Site,
        index: usize,
        books: Arc<Books>,
        dice: Dice,
        stop: Arc<AtomicBool>,
    ) -> Cashier {
        Cashier {
            till: format!("kasse-{}", index + 1),
            socket: site.control_socket(),
            reader: site.reader_port(),
            books,
            dice,
            stop,
        }
    }

    /// Sells until told to stop; whatever was begun is brought to its end.
    pub(crate) fn work(mut self) {
        let chips = self.books.chips();
        while !self.stop.load(Ordering::Relaxed) {
            let chip = &chips[self.dice.place(chips.len())];
            let mut laid = Some(self.lay(chip));
            for _ in 0..=self.dice.below(12) {
                let sold = self.sell(chip, &mut laid);
                if !sold || self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            drop(laid);
        }
    }

    fn lay(&self, chip: &str) -> VirtualChip {
        VirtualChip::insert(self.reader, ChipScript::new(&uid(chip))).unwrap()
    }

    /// Whether the chip paid. One that is not read is lifted and laid again, as the screen says.
    fn sell(&mut self, chip: &str, laid: &mut Option<VirtualChip>) -> bool {
        let id = fresh_id();
        let amount = i64::try_from(100 + self.dice.below(1_900)).unwrap();
        let line = format!("1x Vare {},{:02}", amount / 100, amount % 100);
        let request = json!({"do": "sell", "id": id, "lines": [line], "timeout_s": 10});
        let (answer, unheard) = self.insist(&request, |answer| {
            // Nothing was booked, and nobody else lies there: the reader was just not ready, or it
            // lost the chip when its service's client died.
            let reason = answer["reason"].as_str().unwrap_or_default();
            let is_unread = matches!(reason, "timed_out" | "chip_unreadable" | "cancelled");
            if is_unread {
                drop(laid.take());
                *laid = Some(self.lay(chip));
            }
            !is_unread
        });
        if answer["decision"] == "approved" {
            self.books.serve(&id, &self.till, chip, amount, unheard);
            if self.dice.below(8) == 0 {
                self.void(&id);
            }
            true
        } else {
            let reason = answer["reason"].as_str();
            self.books
                .decline(reason.unwrap_or_else(|| panic!("{answer}")));
            false
        }
    }

    fn void(&mut self, id: &str) {
        self.books.void(id);
        let request = json!({"do": "void", "id": id, "void": fresh_id()});
        let answer = self.insist(&request, |_| true).0;
        assert_eq!(answer["sale"], id, "{answer}");
    }

    /// Asks until there is an answer that is of use; tells whether one was lost on the way.
    fn insist(&self, request: &Value, mut is_of_use: impl FnMut(&Value) -> bool) -> (Value, bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut lost = false;
        let mut of_no_use = None;
        loop {
            match self.ask(request) {
                Some(answer) if answer["answer"] != "error" && is_of_use(&answer) => {
                    return (answer, lost);
                }
                Some(answer) => {
                    assert!(
                        answer["answer"] != "error" || answer["code"] == "busy",
                        "{request} was answered {answer}"
                    );
                    of_no_use = Some(answer);
                }
                None => lost = true,
            }
            assert!(
                Instant::now() < deadline,
                "no answer of use to {request} at {}, the last one was {of_no_use:?}",
                self.till
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, request: &Value) -> Option<Value> {
        let mut socket = UnixStream::connect(&self.socket).ok()?;
        writeln!(socket, "{request}").ok()?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

const PATIENCE: Duration = Duration::from_secs(90);
