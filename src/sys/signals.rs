//! Signal dispositions.

use std::{io, mem::MaybeUninit, ptr};

use nix::libc;

/// Whether this process ignores a signal, possibly since its start: nohup(1) ignores SIGHUP for the program it runs,
/// and a shell ignores SIGINT for its background jobs.
pub fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing, and the kernel writes the current one, which lives until the call
    // returns.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel has written the action.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
