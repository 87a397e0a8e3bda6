//! How a MIFARE Ultralight AES is set up: its pages 29 and 2A (CFG0 and CFG1).

use super::pages;

/// The two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) struct Settings {
    /// RID_ACT and SEC_MSG_ACT, two bytes without a meaning, AUTH0.
    pub(in crate::auth) first: [u8; 4],
    /// PROT, locks and the counter's bits, VCTID, AUTHLIM.
    pub(in crate::auth) second: [u8; 4],
}

impl Settings {
    /// Those in four pages that were read from page 29 on.
    pub(in crate::auth) fn of(read: &[u8; pages::FOUR]) -> Settings {
        let [a, b, c, d, e, f, g, h, ..] = *read;
        Settings {
            first: [a, b, c, d],
            second: [e, f, g, h],
        }
    }

    /// Whether messages after an authentication carry a MAC, the keys can be written by who has them
    /// only, and who guesses is broken off.
    pub(in crate::auth) fn is_safe(&self) -> bool {
        let [_, _, low, high] = self.second;
        let tries = u16::from_le_bytes([low, high & 0x03]);
        self.demands_mac() && self.first_guarded() <= pages::LOCKS && tries > 0
    }

    /// Whether everybody may write the keys.
    pub(in crate::auth) fn is_open(&self) -> bool {
        self.first_guarded() > pages::LAST_KEY
    }

    pub(in crate::auth) fn demands_mac(&self) -> bool {
        self.first[0] & DEMANDS_MAC != 0
    }

    /// Whether it shows another UID at every power-up.
    pub(in crate::auth) fn hides_uid(&self) -> bool {
        self.first[0] & HIDES_UID != 0
    }

    /// Whether it did before it was opened.
    pub(in crate::auth) fn hid_uid(&self) -> bool {
        self.first_guarded() == OPEN_AND_HID_UID
    }

    /// AUTH0.
    fn first_guarded(&self) -> u8 {
        self.first[3]
    }

    /// As a canteen's chip has them: 256 tries, and reading is free, since the mark must be read.
    pub(in crate::auth) fn of_canteen(self, hides_uid: bool) -> Settings {
        let [_, b, c, _] = self.first;
        let flags = DEMANDS_MAC | if hides_uid { HIDES_UID } else { 0 };
        Settings {
            first: [flags, b, c, pages::MARK],
            second: [0, self.second[1], 0x00, 0x01],
        }
    }

    /// So that its keys can be written, page by page, and again if the chip is torn away meanwhile. It
    /// shows its UID then, and remembers whether it did before.
    pub(in crate::auth) fn opened(self) -> Settings {
        let [_, b, c, _] = self.first;
        let first_guarded = if self.hides_uid() || self.hid_uid() {
            OPEN_AND_HID_UID
        } else {
            OPEN
        };
        Settings {
            first: [0, b, c, first_guarded],
            ..self
        }
    }
}

/// RID_ACT.
const HIDES_UID: u8 = 0x01;
/// SEC_MSG_ACT.
const DEMANDS_MAC: u8 = 0x02;
/// As it comes from the factory: no page is guarded.
const OPEN: u8 = 0x3C;
/// The first page behind the keys: as open as the other.
const OPEN_AND_HID_UID: u8 = 0x38;
