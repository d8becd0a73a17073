//! What a test may require of the user and the machine.

use std::{process::Command, thread};

pub fn nothing() -> bool {
    true
}

pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn two_processors() -> bool {
    thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

/// A network namespace of one's own.
pub fn a_namespace() -> bool {
    Command::new("unshare").args(["-rn", "true"]).output().is_ok_and(|output| output.status.success())
}
