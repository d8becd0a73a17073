//! What is typed at the screen.

use std::{
    io::{self, stdin},
    os::fd::AsFd,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::read,
};

/// Ctrl-C of a terminal in raw mode, which makes no signal of it.
const CONTROL_C: u8 = 3;

/// Whether somebody has typed q or Ctrl-C since the last look. Never waits. Standard input is read without the standard
/// library's buffer, and without an event loop: that would leave its descriptors and handlers to every forked child.
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
