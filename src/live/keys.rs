//! Keys typed at the screen.

use std::{
    io::{self, stdin},
    os::fd::AsFd,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::read,
};

/// Ctrl-C in raw mode, where the terminal does not turn it into a signal.
const CONTROL_C: u8 = 3;

/// Whether q or Ctrl-C was typed since the last call. Never waits. Reads standard input without the standard library's buffer
/// and without an event loop, whose descriptors and handlers every forked child would inherit.
pub(super) fn quit_typed() -> io::Result<bool> {
    let input = stdin();
    let mut quit = false;
    let mut typed = [0; 64];
    while poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? > 0 {
        match read(input.as_fd(), &mut typed)? {
            0 => break,
            length => quit |= typed[..length].iter().any(|key| [b'q', b'Q', CONTROL_C].contains(key)),
        }
    }
    Ok(quit)
}
