//! Interrupting another thread's blocking system call.

use std::{io, os::unix::thread::JoinHandleExt, thread::JoinHandle};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Not used for anything else in this crate.
const SIGNAL: Signal = Signal::SIGUSR1;

extern "C" fn do_nothing(_: libc::c_int) {}

/// Makes [`interrupt`] end blocking system calls with EINTR instead of ending the process.
pub fn make_interruptible() -> io::Result<()> {
    // Without SA_RESTART, so that calls fail with EINTR.
    let action = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which is safe in any state.
    unsafe { sigaction(SIGNAL, &action) }?;
    Ok(())
}

/// Interrupts the thread's system call, if it is in one.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle has not been joined, so the thread's id is still its own.
    unsafe { libc::pthread_kill(thread.as_pthread_t() as libc::pthread_t, SIGNAL as libc::c_int) };
}
