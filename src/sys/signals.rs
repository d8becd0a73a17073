//! Dispositions of signals.

use std::{io, mem::MaybeUninit, ptr};

use nix::libc;

/// Whether this process ignores a signal, as it may from its start on: nohup(1) ignores SIGHUP for the program it runs, and a shell
/// SIGINT for its background jobs.
pub fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing, and the kernel writes the present one, which lives until the call returns.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and has written it.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
