//! Limits of open files.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// This process's limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force.
    pub soft: u64,
    /// How far an unprivileged process may raise the soft limit.
    pub hard: u64,
}

/// Reads RLIMIT_NOFILE.
pub fn open_files() -> io::Result<OpenFiles> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(OpenFiles { soft, hard })
}

/// The most connections a process reserves room for before the start.
const ROOM: usize = 1 << 17;

/// How many connections a process with this limit should reserve room for. Reserved memory costs nothing until used,
/// whereas a list that grows leaves its outgrown memory in the heap.
pub fn room(files: OpenFiles) -> usize {
    usize::try_from(files.soft).map_or(ROOM, |files| files.min(ROOM))
}

/// Raises this process's soft limit of open files to the hard limit; children inherit it.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    open_files()
}
