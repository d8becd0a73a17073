//! The terminal that the program was started from.

use std::{io::stdin, os::fd::AsFd};

use nix::unistd::{getpgrp, tcgetpgrp};

/// Whether this process may set the terminal on standard input: one in the background is stopped when it tries (SIGTTOU).
pub fn in_foreground() -> bool {
    // A terminal that does not control this process stops nobody.
    tcgetpgrp(stdin().as_fd()).map_or(true, |group| group == getpgrp())
}
