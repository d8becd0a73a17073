//! Signal dispositions.

use std::{
    io,
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use nix::{
    libc,
    sys::signal::{SigHandler, Signal, signal},
};
use signal_hook::low_level;

use super::clock;

/// How long after the first signal another one is a second request: a closed terminal, or a program such as timeout(1) that passes on
/// what the whole group gets, sends several at once.
const AGAIN_NS: u64 = 300_000_000;

/// Has a write beyond the limit of a file's size (`ulimit -f`) fail with EFBIG, which can be reported, rather than end the process.
/// Children inherit this; a program that they start as its own server does not.
pub fn outlive_file_size_limit() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of this process.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

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

/// A flag that any of these signals sets, except those ignored when the program started: its caller wants it to continue. A second
/// signal ends the program at once, with this exit code.
pub fn interrupt_flag(signals: &[libc::c_int], code: i32) -> io::Result<Arc<AtomicBool>> {
    let (flag, first_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    for &signal in signals {
        if is_ignored(signal)? {
            continue;
        }
        let (flag, first_ns) = (Arc::clone(&flag), Arc::clone(&first_ns));
        let note = move || {
            let now_ns = clock::monotonic_ns();
            if let Err(first_ns) = first_ns.compare_exchange(0, now_ns, SeqCst, SeqCst)
                && now_ns.saturating_sub(first_ns) >= AGAIN_NS
            {
                low_level::exit(code);
            }
            flag.store(true, Relaxed);
        };
        // SAFETY: reading the clock, changing atomics and _exit are safe in a signal handler.
        unsafe { low_level::register(signal, note) }?;
    }
    Ok(flag)
}
