//! What the operating system is asked for: its clocks, and to be served first.

#![allow(unsafe_code)]

use std::io;

/// Milliseconds since the machine booted, with the time that it slept.
pub(crate) fn boot_ms() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of this frame, which the call fills in and forgets.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    // Linux has known this clock since 2.6.39; without it every moment is the moment of boot.
    if answer != 0 {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(milliseconds)
}

/// Puts the calling thread before all ordinary ones (SCHED_FIFO with this priority).
///
/// Fails where the service has no `LimitRTPRIO=`; the thread then stays an ordinary one.
pub fn serve_this_thread_first(priority: i32) -> io::Result<()> {
    let wish = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 is the calling thread; the pointer is to a sched_param of this frame, which the
    // call reads and forgets.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wish) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
