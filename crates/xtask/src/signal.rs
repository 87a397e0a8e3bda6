//! Signals: Ctrl-C is noticed, and no part outlives the demo.

// Catching and sending signals, and being told of a parent's death, are calls of the OS.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

static CAUGHT: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C, SIGTERM and a closed terminal a wish that [`caught`] tells of, so that what was
/// started can be stopped in order.
pub(crate) fn catch() {
    let handler: extern "C" fn(libc::c_int) = note;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is allowed at any moment.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether someone wants this to end.
pub(crate) fn caught() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

extern "C" fn note(_signal: libc::c_int) {
    CAUGHT.store(true, Ordering::Relaxed);
}

/// Gives the command a process group of its own, so that Ctrl-C in a terminal reaches it through
/// its keeper alone, and has the kernel end it when its keeper dies in whatever way.
///
/// The kernel means the *thread* that starts it, so this is for threads that last.
pub(crate) fn tie_to_this_process(command: &mut Command) {
    command.process_group(0);
    let keeper = process::id();
    // SAFETY: both calls are allowed between fork and exec, and no memory is allocated.
    unsafe { command.pre_exec(move || end_with(keeper)) };
}

fn end_with(keeper: u32) -> io::Result<()> {
    // SAFETY: this request takes one number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The keeper may have died before the request.
    if std::os::unix::process::parent_id() == keeper {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Asks a process, and whatever it started, to end.
pub(crate) fn terminate(child: &Child) {
    send(child, libc::SIGTERM);
}

/// Ends a process, and whatever it started, at once.
pub(crate) fn kill(child: &Child) {
    send(child, libc::SIGKILL);
}

fn send(child: &Child, signal: libc::c_int) {
    let Ok(pid) = libc::pid_t::try_from(child.id()) else {
        return;
    };
    // SAFETY: takes numbers only. The child is not waited for yet, so the group is still its own.
    // Fails only when all of it has already ended.
    unsafe { libc::kill(-pid, signal) };
}
