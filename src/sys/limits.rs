//! Open-file limits.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit of open files of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// In force now.
    pub soft: u64,
    /// What an unprivileged process may raise the soft limit to.
    pub hard: u64,
}

/// Reads RLIMIT_NOFILE.
pub fn open_files() -> io::Result<OpenFiles> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(OpenFiles { soft, hard })
}

/// Raises the soft limit of open files to the hard one, for this process and those it forks.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    open_files()
}
