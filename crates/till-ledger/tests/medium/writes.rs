//! The positioned writes of the program that this is built into, on a medium that can be full or
//! broken. Only SQLite writes so here.

#![allow(unsafe_code, reason = "a write is a system call")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::flushes::fails;

static FULL: AtomicBool = AtomicBool::new(false);

/// A full medium still takes what overwrites, not what makes a file grow.
pub(crate) fn fill(full: bool) {
    FULL.store(full, Ordering::SeqCst);
}

fn grows(fd: c_int, count: usize, offset: i64) -> bool {
    // SAFETY: a stat of zeros is a valid value, and fstat only writes into it.
    let size = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut stat);
        stat.st_size
    };
    offset + i64::try_from(count).unwrap_or(i64::MAX) > size
}

fn write_at(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize {
    let error = if fails() {
        libc::EIO
    } else if FULL.load(Ordering::SeqCst) && grows(fd, count, offset) {
        libc::ENOSPC
    } else {
        // SAFETY: the arguments are the caller's, who vouches for them.
        let written = unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset) };
        return written as isize;
    };
    // SAFETY: the C library hands out the address of this thread's error number.
    unsafe { *libc::__errno_location() = error };
    -1
}

// SAFETY: takes the place of the C library's function of this name and signature.
#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize {
    write_at(fd, bytes, count, offset)
}

// SAFETY: as for `pwrite64`; offsets have 64 bits here.
#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize {
    write_at(fd, bytes, count, offset)
}
