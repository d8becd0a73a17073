//! Sleeping until a word of shared memory changes: futex(2), between processes.

use std::{ptr, sync::atomic::AtomicU64, time::Duration};

use nix::sys::time::TimeSpec;

/// The half of a word that the kernel compares: the one that changes first when counting.
const LOW_HALF: usize = if cfg!(target_endian = "little") { 0 } else { 1 };

/// Sleeps until another thread or process calls [`wake`] for this word, or for `at_most`. Returns at once if the word's low half is no
/// longer that of `seen`, and may return early for no reason: look at the word again. A change of the upper half alone is not noticed.
pub fn wait(word: &AtomicU64, seen: u64, at_most: Duration) {
    let timeout = TimeSpec::from_duration(at_most);
    // SAFETY: the kernel reads 32 aligned bits of the word and one timespec, both of which live until the call returns.
    unsafe {
        libc::syscall(libc::SYS_futex, half(word), libc::FUTEX_WAIT, seen as u32, ptr::from_ref(timeout.as_ref()));
    }
}

/// Wakes all that wait for this word.
pub fn wake(word: &AtomicU64) {
    // SAFETY: the address only identifies the word.
    unsafe { libc::syscall(libc::SYS_futex, half(word), libc::FUTEX_WAKE, libc::c_int::MAX) };
}

fn half(word: &AtomicU64) -> *const u32 {
    word.as_ptr().cast_const().cast::<u32>().wrapping_add(LOW_HALF)
}
