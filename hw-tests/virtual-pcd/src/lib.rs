//! A reader driver for pcscd whose chips are programs: an IFD handler (interface version 3.0) with
//! two slots that listen on the loopback and speak the protocol of the vsmartcard project's
//! virtual reader, so that its chips and this project's work with both.
//!
//! Configured like any serial reader, in a file that holds nothing else:
//!
//! ```text
//! FRIENDLYNAME "Virtual PCD"
//! DEVICENAME   /dev/null:0x8C7B
//! LIBPATH      /path/to/target/debug/libvirtual_pcd.so
//! CHANNELID    0x8C7B
//! ```
//!
//! The number behind the last colon is the port of slot 0 (here 35963); slot 1 has the next one. With
//! `/dev/null:acr122u:0x8C7B` the reader behaves as an ACR122U.
//! Unlike the stock driver it listens on 127.0.0.1 only, reports a tap at once instead of at the
//! next poll, and never waits for a chip without a limit.

// An IFD handler is a table of C functions that take C pointers.
#![allow(unsafe_code)]

mod acr122u;
mod slot;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slot::{Model, Silence, Slot};

type Dword = c_ulong;
type ResponseCode = c_long;

/// `SCARD_IO_HEADER` of `ifdhandler.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct IoHeader {
    protocol: Dword,
    length: Dword,
}

/// Opens the slot that belongs to `lun`; `device_name` ends in a colon and the port of slot 0.
///
/// # Safety
/// `device_name` is null or a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHCreateChannelByName(
    lun: Dword,
    device_name: *const c_char,
) -> ResponseCode {
    guarded(|| {
        if device_name.is_null() {
            return IFD_COMMUNICATION_ERROR;
        }
        // SAFETY: not null, and the caller promises the zero byte.
        let name = unsafe { CStr::from_ptr(device_name) };
        match name.to_str().ok().and_then(port_in) {
            Some((port, model)) => open_slot(lun, port, model),
            None => {
                eprintln!("virtual-pcd: DEVICENAME must end in a colon and a port number");
                IFD_COMMUNICATION_ERROR
            }
        }
    })
}

/// Opens the slot that belongs to `lun`; `channel` is the port of slot 0.
#[unsafe(no_mangle)]
pub extern "C" fn IFDHCreateChannel(lun: Dword, channel: Dword) -> ResponseCode {
    guarded(|| {
        u16::try_from(channel).map_or(IFD_COMMUNICATION_ERROR, |port| {
            open_slot(lun, port, Model::Plain)
        })
    })
}

/// Closes the slot and waits for its thread, since the driver may be unloaded next.
#[unsafe(no_mangle)]
pub extern "C" fn IFDHCloseChannel(lun: Dword) -> ResponseCode {
    guarded(|| {
        let slot = slots().remove(&lun);
        if let Some(slot) = slot {
            slot.close();
        }
        IFD_SUCCESS
    })
}

/// Answers what the driver can do.
///
/// # Safety
/// `length` points to the size of the buffer at `value`; either may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHGetCapabilities(
    lun: Dword,
    tag: Dword,
    length: *mut Dword,
    value: *mut c_uchar,
) -> ResponseCode {
    guarded(|| {
        let answer = match tag {
            TAG_IFD_ATR | SCARD_ATTR_ATR_STRING => match open(lun) {
                Some(slot) => slot.atr(),
                None => return IFD_COMMUNICATION_ERROR,
            },
            TAG_IFD_SLOTS_NUMBER => vec![SLOTS],
            TAG_IFD_SIMULTANEOUS_ACCESS => vec![READERS],
            TAG_IFD_THREAD_SAFE | TAG_IFD_SLOT_THREAD_SAFE => vec![1],
            TAG_IFD_POLLING_THREAD_KILLABLE => vec![0],
            TAG_IFD_POLLING_THREAD_WITH_TIMEOUT => {
                address_of(wait_for_change as *const c_void).to_vec()
            }
            TAG_IFD_STOP_POLLING_THREAD => address_of(stop_waiting as *const c_void).to_vec(),
            _ => return IFD_ERROR_TAG,
        };
        // SAFETY: the caller promises that `length` tells the size of `value`.
        unsafe { hand_over(&answer, value, length) }
    })
}

/// Nothing can be set.
#[unsafe(no_mangle)]
pub extern "C" fn IFDHSetCapabilities(
    _lun: Dword,
    _tag: Dword,
    _length: Dword,
    _value: *const c_uchar,
) -> ResponseCode {
    IFD_ERROR_TAG
}

/// A virtual chip speaks any protocol.
#[unsafe(no_mangle)]
pub extern "C" fn IFDHSetProtocolParameters(
    _lun: Dword,
    _protocol: Dword,
    _flags: c_uchar,
    _pts1: c_uchar,
    _pts2: c_uchar,
    _pts3: c_uchar,
) -> ResponseCode {
    IFD_SUCCESS
}

/// Powers the chip up or down, or resets it; a chip with an empty answer to reset is mute.
///
/// # Safety
/// `atr_length` points to the size of the buffer at `atr`; either may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHPowerICC(
    lun: Dword,
    action: Dword,
    atr: *mut c_uchar,
    atr_length: *mut Dword,
) -> ResponseCode {
    guarded(|| {
        let Some(slot) = open(lun) else {
            return IFD_COMMUNICATION_ERROR;
        };
        let answer = match action {
            IFD_POWER_UP => slot.power_up(),
            IFD_RESET => slot.reset(),
            IFD_POWER_DOWN => {
                slot.power_down();
                // SAFETY: the caller promises that `atr_length` tells the size of `atr`.
                unsafe { hand_over(&[], atr, atr_length) };
                return IFD_SUCCESS;
            }
            _ => return IFD_NOT_SUPPORTED,
        };
        match answer {
            // SAFETY: as above.
            Ok(bytes) if !bytes.is_empty() => unsafe { hand_over(&bytes, atr, atr_length) },
            Ok(_) | Err(_) => {
                // SAFETY: as above.
                unsafe { hand_over(&[], atr, atr_length) };
                IFD_ERROR_POWER_ACTION
            }
        }
    })
}

/// Sends a command to the chip and hands its answer back, however short it is.
///
/// # Safety
/// `command` points to `command_length` bytes, `answer_length` to the size of the buffer at
/// `answer`, `answer_header` to a header; each may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHTransmitToICC(
    lun: Dword,
    header: IoHeader,
    command: *const c_uchar,
    command_length: Dword,
    answer: *mut c_uchar,
    answer_length: *mut Dword,
    answer_header: *mut IoHeader,
) -> ResponseCode {
    guarded(|| {
        let (Some(slot), Ok(length)) = (open(lun), usize::try_from(command_length)) else {
            return IFD_COMMUNICATION_ERROR;
        };
        if command.is_null() || length == 0 {
            return IFD_COMMUNICATION_ERROR;
        }
        // SAFETY: not null, and the caller promises the length.
        let command = unsafe { std::slice::from_raw_parts(command, length) };
        match slot.transmit(command) {
            Ok(bytes) => {
                if !answer_header.is_null() {
                    // SAFETY: not null, and the caller promises a header.
                    unsafe { (*answer_header).protocol = header.protocol };
                }
                // SAFETY: the caller promises that `answer_length` tells the size of `answer`.
                unsafe { hand_over(&bytes, answer, answer_length) }
            }
            Err(silence) => {
                // SAFETY: as above.
                unsafe { hand_over(&[], answer, answer_length) };
                match silence {
                    Silence::Absent => IFD_ICC_NOT_PRESENT,
                    Silence::TooSlow => IFD_RESPONSE_TIMEOUT,
                    Silence::Torn | Silence::TooLong => IFD_COMMUNICATION_ERROR,
                }
            }
        }
    })
}

/// The reader itself has no commands.
///
/// # Safety
/// `returned` is null or points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHControl(
    _lun: Dword,
    _code: Dword,
    _command: *const c_uchar,
    _command_length: Dword,
    _answer: *mut c_uchar,
    _answer_length: Dword,
    returned: *mut Dword,
) -> ResponseCode {
    if !returned.is_null() {
        // SAFETY: not null, and the caller promises a number.
        unsafe { *returned = 0 };
    }
    IFD_ERROR_NOT_SUPPORTED
}

/// Whether a chip is in the field.
#[unsafe(no_mangle)]
pub extern "C" fn IFDHICCPresence(lun: Dword) -> ResponseCode {
    guarded(|| match open(lun) {
        Some(slot) if slot.is_present() => IFD_ICC_PRESENT,
        Some(_) => IFD_ICC_NOT_PRESENT,
        None => IFD_COMMUNICATION_ERROR,
    })
}

/// `TAG_IFD_POLLING_THREAD_WITH_TIMEOUT`: what makes a tap known at once.
extern "C" fn wait_for_change(lun: Dword, milliseconds: c_int) -> ResponseCode {
    guarded(|| {
        let time = u64::try_from(milliseconds).map_or(LONGEST_WAIT, Duration::from_millis);
        match open(lun) {
            Some(slot) => slot.wait_for_change(time.min(LONGEST_WAIT)),
            None => std::thread::sleep(Duration::from_millis(100)),
        }
        IFD_SUCCESS
    })
}

/// `TAG_IFD_STOP_POLLING_THREAD`.
extern "C" fn stop_waiting(lun: Dword) -> ResponseCode {
    guarded(|| {
        if let Some(slot) = open(lun) {
            slot.stop_waiting();
        }
        IFD_SUCCESS
    })
}

/// A panic must not cross into C: it would end pcscd.
fn guarded(call: impl FnOnce() -> ResponseCode) -> ResponseCode {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(IFD_COMMUNICATION_ERROR)
}

/// Copies as much as fits and tells the length.
///
/// # Safety
/// `length` is null or points to the size of the buffer at `value`.
unsafe fn hand_over(bytes: &[u8], value: *mut c_uchar, length: *mut Dword) -> ResponseCode {
    if length.is_null() || (value.is_null() && !bytes.is_empty()) {
        return IFD_COMMUNICATION_ERROR;
    }
    // SAFETY: not null, and the caller promises a number.
    let room = usize::try_from(unsafe { *length }).unwrap_or(usize::MAX);
    if room < bytes.len() {
        // SAFETY: as above.
        unsafe { *length = 0 };
        return IFD_ERROR_INSUFFICIENT_BUFFER;
    }
    if !bytes.is_empty() {
        // SAFETY: `value` is not null and has room for the bytes, which lie elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value, bytes.len()) };
    }
    // SAFETY: as above.
    unsafe { *length = bytes.len() as Dword };
    IFD_SUCCESS
}

fn address_of(function: *const c_void) -> [u8; size_of::<usize>()] {
    function.addr().to_ne_bytes()
}

/// The port behind the last colon, decimal or hexadecimal, and what the reader is like.
fn port_in(device_name: &str) -> Option<(u16, Model)> {
    let (before, number) = device_name.rsplit_once(':')?;
    let model = match before.rsplit_once(':') {
        None => Model::Plain,
        Some((_, "acr122u")) => Model::Acr122u,
        Some(_) => return None,
    };
    let port = match number
        .strip_prefix("0x")
        .or_else(|| number.strip_prefix("0X"))
    {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    Some((port?, model))
}

fn open_slot(lun: Dword, first_port: u16, model: Model) -> ResponseCode {
    // The lower half of a logical unit number is the slot.
    let slot_number = u16::try_from(lun & 0xFFFF).unwrap_or(u16::MAX);
    let Some(port) = first_port.checked_add(slot_number) else {
        return IFD_COMMUNICATION_ERROR;
    };
    let earlier = slots().remove(&lun);
    if let Some(earlier) = earlier {
        earlier.close();
    }
    match Slot::open(port, model) {
        Ok(slot) => {
            slots().insert(lun, Arc::new(slot));
            IFD_SUCCESS
        }
        Err(error) => {
            eprintln!("virtual-pcd: cannot listen on port {port}: {error}");
            IFD_COMMUNICATION_ERROR
        }
    }
}

fn open(lun: Dword) -> Option<Arc<Slot>> {
    slots().get(&lun).cloned()
}

fn slots() -> MutexGuard<'static, BTreeMap<Dword, Arc<Slot>>> {
    OPEN_SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

static OPEN_SLOTS: Mutex<BTreeMap<Dword, Arc<Slot>>> = Mutex::new(BTreeMap::new());

const SLOTS: u8 = 2;
/// How many readers one instance of the driver serves.
const READERS: u8 = 8;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

// Tags and codes of pcsc-lite's `ifdhandler.h` and `reader.h`.
const TAG_IFD_ATR: Dword = 0x0303;
const SCARD_ATTR_ATR_STRING: Dword = 0x0009_0303;
const TAG_IFD_SLOT_THREAD_SAFE: Dword = 0x0FAC;
const TAG_IFD_THREAD_SAFE: Dword = 0x0FAD;
const TAG_IFD_SLOTS_NUMBER: Dword = 0x0FAE;
const TAG_IFD_SIMULTANEOUS_ACCESS: Dword = 0x0FAF;
const TAG_IFD_POLLING_THREAD_KILLABLE: Dword = 0x0FB1;
const TAG_IFD_STOP_POLLING_THREAD: Dword = 0x0FB2;
const TAG_IFD_POLLING_THREAD_WITH_TIMEOUT: Dword = 0x0FB3;
const IFD_POWER_UP: Dword = 500;
const IFD_POWER_DOWN: Dword = 501;
const IFD_RESET: Dword = 502;
const IFD_SUCCESS: ResponseCode = 0;
const IFD_ERROR_TAG: ResponseCode = 600;
const IFD_ERROR_NOT_SUPPORTED: ResponseCode = 606;
const IFD_ERROR_POWER_ACTION: ResponseCode = 608;
const IFD_COMMUNICATION_ERROR: ResponseCode = 612;
const IFD_RESPONSE_TIMEOUT: ResponseCode = 613;
const IFD_NOT_SUPPORTED: ResponseCode = 614;
const IFD_ICC_PRESENT: ResponseCode = 615;
const IFD_ICC_NOT_PRESENT: ResponseCode = 616;
const IFD_ERROR_INSUFFICIENT_BUFFER: ResponseCode = 618;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(device_name: &str, expect: Option<(u16, Model)>) {
        assert_eq!(port_in(device_name), expect, "{device_name}");
    }

    #[test]
    fn the_port_stands_behind_the_last_colon() {
        check("/dev/null:0x8C7B", Some((35963, Model::Plain)));
        check("/dev/null:39000", Some((39000, Model::Plain)));
        check("/dev/null:acr122u:0x8C7B", Some((35963, Model::Acr122u)));
        check("/dev/null:scl3711:0x8C7B", None);
        check("/dev/null:0x18C7B", None);
        check("/dev/null:", None);
        check("/dev/null", None);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused_and_nothing_is_written() {
        let mut room = [0xAA; 2];
        let mut length: Dword = 2;
        // SAFETY: `length` is the size of `room`.
        let code = unsafe { hand_over(&[1, 2, 3], room.as_mut_ptr(), &mut length) };
        assert_eq!(
            (code, length, room),
            (IFD_ERROR_INSUFFICIENT_BUFFER, 0, [0xAA; 2])
        );
    }

    #[test]
    fn a_panic_does_not_leave_the_driver() {
        assert_eq!(
            guarded(|| panic!("seen by the test's reader")),
            IFD_COMMUNICATION_ERROR
        );
    }

    #[test]
    fn an_unopened_slot_answers_with_errors() {
        let lun = 0x7_0000;
        assert_eq!(IFDHICCPresence(lun), IFD_COMMUNICATION_ERROR);
        assert_eq!(IFDHCloseChannel(lun), IFD_SUCCESS);
        // SAFETY: null is allowed.
        let code = unsafe { IFDHCreateChannelByName(lun, std::ptr::null()) };
        assert_eq!(code, IFD_COMMUNICATION_ERROR);
    }
}
