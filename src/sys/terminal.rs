//! The terminal that the program was started from.

use std::{
    io::{self, stderr, stdin},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    libc,
    unistd::{getpgrp, tcgetpgrp},
};

/// Columns and rows of the terminal on standard error.
pub fn size() -> io::Result<(u16, u16)> {
    // SAFETY: winsize is plain C data for which all-zero is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one winsize, which lives until the call returns.
    match unsafe { libc::ioctl(stderr().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((size.ws_col, size.ws_row)),
    }
}

/// Whether this process may set the terminal on standard input: one in the background is stopped when it tries (SIGTTOU).
pub fn in_foreground() -> bool {
    // A terminal that does not control this process stops nobody.
    tcgetpgrp(stdin().as_fd()).map_or(true, |group| group == getpgrp())
}
