//! The virtual chips of the reader bench that prove themselves, in the field of a canteen's reader.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::rig::{Site, workspace};

/// The card's real UID.
pub(crate) const UID: &str = "04958CAA5C5E80";

/// A card in the field; dropping it takes it away.
pub(crate) struct Card(Child);

impl Card {
    /// Lays it there; `words` say which card it is.
    pub(crate) fn lay(site: &Site, words: &[&str]) -> Card {
        Card::lay_at(site.reader_port(), words)
    }

    /// Lays it on the reader that takes cards at a port of its own.
    pub(crate) fn lay_at(port: u16, words: &[&str]) -> Card {
        Card::run("ntag424.py", port, words)
    }

    /// The same with a MIFARE Ultralight AES.
    pub(crate) fn lay_ultralight_at(port: u16, words: &[&str]) -> Card {
        Card::run("ultralight_aes.py", port, words)
    }

    fn run(program: &str, port: u16, words: &[&str]) -> Card {
        let child = Command::new("/usr/bin/python3")
            .arg(workspace().join("hw-tests/cards").join(program))
            .arg(port.to_string())
            .arg(UID)
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Card(child)
    }

    /// Lays the card there that remembers what was written on it.
    pub(crate) fn remembering(site: &Site, memory: &Path, more: &[&str]) -> Card {
        let memory = ["--memory", memory.to_str().unwrap()];
        Card::lay(site, &[&memory, more].concat())
    }

    /// Whether it has left by itself.
    pub(crate) fn has_left(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // It may have ended by itself when the reader did.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
