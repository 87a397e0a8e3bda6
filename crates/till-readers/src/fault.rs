//! What can be wrong with a reader or with a chip, and what a person can do about it.

use std::path::PathBuf;

use canteen::ChipIdError;
use thiserror::Error;

/// Why a reader does not work, with advice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReaderFault {
    /// pcscd does not answer on its socket.
    #[error(
        "the chip card service pcscd is not running; start it with: systemctl start pcscd.socket"
    )]
    ServiceDown,
    /// pcscd refuses this user (polkit).
    #[error(
        "the chip card service pcscd refuses the till; install the till's polkit rule and restart pcscd"
    )]
    ServiceRefused,
    /// pcscd runs and lists no contactless reader that the configuration wants.
    #[error(
        "no chip reader is connected; check the USB cable, then the reader's name in the configuration"
    )]
    NoReader,
    /// A kernel driver holds an ACR122U.
    #[error(
        "the kernel driver pn533_usb holds the reader; install the till's modprobe blacklist, then unplug the reader and plug it in again"
    )]
    KernelDriver,
    /// An OMNIKEY 5427 CK types as a keyboard, and is no chip reader then.
    #[error(
        "the OMNIKEY 5427 is in keyboard mode; switch its keyboard emulation off on http://192.168.63.99/, or name it under readers.keyboard"
    )]
    KeyboardMode,
    /// The reader is listed but does not answer.
    #[error("the reader does not answer; unplug it and plug it in again")]
    Unavailable,
    /// A call into the reader has not come back.
    #[error(
        "the reader has been blocked for {seconds} s, by another program or by itself; close other chip card programs, else unplug the reader"
    )]
    Blocked {
        /// How long the call had taken when this was noticed.
        seconds: u64,
    },
    /// The till's own thread for the reader panicked.
    #[error(
        "the till's part for this reader broke down and begins anew; if this stays, unplug the reader and plug it in again, and report what the till's log says"
    )]
    BrokeDown,
    /// The serial line or the keyboard does not exist.
    #[error("there is no {}; check the USB cable and the path in the configuration", path.display())]
    LineMissing {
        /// The configured path.
        path: PathBuf,
    },
    /// The serial line may not be opened by this user.
    #[error("the till may not open {}; install the till's udev rules, or add its user to the group dialout", path.display())]
    LineRefused {
        /// The configured path.
        path: PathBuf,
    },
    /// Another program holds the serial line or the keyboard, or this one under another name of it.
    #[error("another program, or another entry of the configuration, holds {}; find it with: fuser {}", path.display(), path.display())]
    LineInUse {
        /// The configured path.
        path: PathBuf,
    },
    /// What is there is no serial line.
    #[error("{} is no serial line; name the reader's own in the configuration, such as one under /dev/serial/by-id/", path.display())]
    NoLine {
        /// The configured path.
        path: PathBuf,
    },
    /// The serial line or the keyboard failed in another way.
    #[error("the line failed ({reason}); check the cable")]
    LineFailed {
        /// What the operating system says.
        reason: String,
    },
    /// The keyboard may not be opened by this user.
    #[error("the till may not open the keyboard {}; install the till's udev rules with this reader in them", path.display())]
    KeyboardRefused {
        /// The configured path.
        path: PathBuf,
    },
    /// What is there has no digits and no Enter.
    #[error("{} is no keyboard; name the reader's own keyboard in the configuration", path.display())]
    NoKeyboard {
        /// The configured path.
        path: PathBuf,
    },
    /// The line is open, and nothing on it speaks the protocol.
    #[error(
        "nothing on the serial line speaks the reader protocol; check that the right device is configured and its firmware is installed"
    )]
    Silent,
    /// The reader answered before and no longer does.
    #[error("the reader no longer answers; unplug it and plug it in again")]
    Lost,
    /// The reader speaks only versions of the protocol that this program does not know.
    #[error(
        "the reader's firmware speaks protocol {min} to {max}, this till speaks 1; update the older of the two"
    )]
    Version {
        /// The lowest version that the reader speaks.
        min: u8,
        /// The highest version that the reader speaks.
        max: u8,
    },
}

/// Why what is in the field is no usable chip, with advice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChipFault {
    /// Nothing lies on the reader.
    #[error("no chip is on the reader; hold the chip to it")]
    Absent,
    /// The chip could not be powered up.
    #[error("the chip does not answer; lift it and hold it to the reader again")]
    Mute,
    /// The chip left, or the field was too weak, before it was read.
    #[error("the chip was not read; hold it still on the reader")]
    HoldStill,
    /// The chip's UID identifies nobody.
    #[error("the chip cannot be used: {0}")]
    Identity(#[from] ChipIdError),
    /// The chip does not know the command for its UID.
    #[error("this kind of chip cannot be used (it answers {status:04X})")]
    Unsupported {
        /// The status word of ISO/IEC 7816-4.
        status: u16,
    },
    /// The chip is of a kind whose identifier may change or be cut short.
    #[error("this kind of chip cannot be used; canteens use chips of ISO/IEC 14443 type A")]
    Technology,
    /// More than one chip is in the field.
    #[error("there are several chips on the reader; hold only one chip to it")]
    Several,
    /// The reader typed what is no chip's number.
    #[error(transparent)]
    Typed(#[from] Typed),
    /// Another program holds the reader for itself.
    #[error("another program uses the reader; close it and hold the chip to the reader again")]
    ReaderInUse,
    /// The reader does not work, so nothing can be said of the chip.
    #[error("the reader does not work at the moment")]
    ReaderFaulty,
}

/// What a reader that types has typed instead of a chip's number, with advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Typed {
    /// Keys that are no digits, or more digits than any number has.
    #[error(
        "the reader typed keys that are no chip number; hold the chip to it again, and if that does not help, switch off in the reader's own settings what it types before or after the number"
    )]
    Keys,
    /// Digits that are a number if the settings say so.
    #[error(
        "the reader typed {digits} digits, a number in another shape than the settings say; set {setting} under [readers] in till.toml, and find out the order with: tillctl reader byte-order"
    )]
    Shape {
        /// How many there were.
        digits: usize,
        /// What would take them.
        setting: &'static str,
    },
    /// Digits of which some are missing, or too many.
    #[error(
        "the reader typed {digits} digits, and the settings want {wanted}; hold the chip to it again, and if that does not help, see readers.keyboard_number in till.toml"
    )]
    Length {
        /// How many there were.
        digits: usize,
        /// How many there are in a number.
        wanted: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_a_person_can_do() {
        let path = PathBuf::from("/dev/kasse-reader");
        assert_eq!(
            ReaderFault::LineInUse { path }.to_string(),
            "another program, or another entry of the configuration, holds /dev/kasse-reader; find it with: fuser /dev/kasse-reader"
        );
        assert_eq!(
            ChipFault::from(ChipIdError::Blank).to_string(),
            "the chip cannot be used: the UID is blank (all bits equal)"
        );
    }
}
