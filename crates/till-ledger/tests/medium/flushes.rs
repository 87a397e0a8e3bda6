//! The flushes of the program that this is built into: counted, and made to fail.
//!
//! SQLite is linked into the program, so the program's own `fsync` and `fdatasync` take the place
//! of the C library's: every flush passes here, whoever asks for it.

#![allow(unsafe_code, reason = "a flush is a system call")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

static FSYNCS: AtomicU64 = AtomicU64::new(0);
static FDATASYNCS: AtomicU64 = AtomicU64::new(0);
static UNTIL_FAILURE: AtomicI64 = AtomicI64::new(i64::MAX);
static DELAY_US: AtomicU64 = AtomicU64::new(0);
static FOR_EVER: AtomicBool = AtomicBool::new(false);

/// All flushes so far.
pub(crate) fn flushes() -> u64 {
    fsyncs() + FDATASYNCS.load(Ordering::SeqCst)
}

/// Those that flush more than is needed.
pub(crate) fn fsyncs() -> u64 {
    FSYNCS.load(Ordering::SeqCst)
}

/// Lets the n-th operation from now fail, once or from then on. 0 is none.
#[allow(dead_code, reason = "for tests, not for the benchmark")]
pub(crate) fn fail(nth: i64, for_ever: bool) {
    FOR_EVER.store(for_ever, Ordering::SeqCst);
    let left = if nth > 0 { nth } else { i64::MAX };
    UNTIL_FAILURE.store(left, Ordering::SeqCst);
}

/// Makes every flush take so much longer, as on a slower medium.
#[allow(dead_code, reason = "for the benchmark, not for tests")]
pub(crate) fn delay(time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    DELAY_US.store(micros, Ordering::SeqCst);
}

fn wait() {
    let micros = DELAY_US.load(Ordering::SeqCst);
    if micros > 0 {
        sleep(Duration::from_micros(micros));
    }
}

/// Counts an operation; whether it fails.
pub(crate) fn fails() -> bool {
    if UNTIL_FAILURE.load(Ordering::SeqCst) == i64::MAX {
        return false;
    }
    let left = UNTIL_FAILURE.fetch_sub(1, Ordering::SeqCst);
    left == 1 || (left < 1 && FOR_EVER.load(Ordering::SeqCst))
}

fn set_errno(error: c_int) -> c_int {
    // SAFETY: the C library hands out the address of this thread's error number.
    unsafe { *libc::__errno_location() = error };
    -1
}

// SAFETY: takes the place of the C library's function of this name and signature, and does what
// that does.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    FDATASYNCS.fetch_add(1, Ordering::SeqCst);
    if fails() {
        return set_errno(libc::EIO);
    }
    wait();
    // SAFETY: the system call takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

// SAFETY: as for `fdatasync`.
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    FSYNCS.fetch_add(1, Ordering::SeqCst);
    if fails() {
        return set_errno(libc::EIO);
    }
    wait();
    // SAFETY: the system call takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}
