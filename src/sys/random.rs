//! Randomness of the kernel.

use std::io;

use nix::errno::Errno;

/// A number that nobody can guess.
pub fn unguessable() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is as long as said. The kernel never returns fewer than 256 bytes in part.
    Errno::result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    Ok(u64::from_ne_bytes(bytes))
}
