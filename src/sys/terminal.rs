//! The terminal the program was started from.

use std::{io::stdin, os::fd::AsFd};

use nix::unistd::{getpgrp, tcgetpgrp};

/// Whether this process may change the settings of the terminal on standard input: a background process that tries is
/// stopped (SIGTTOU).
pub fn in_foreground() -> bool {
    // A terminal that is not the controlling one stops nothing.
    tcgetpgrp(stdin().as_fd()).map_or(true, |group| group == getpgrp())
}
