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

/// Connections for which a process makes room before the start, whatever its limit.
const ROOM: usize = 1 << 17;

/// How many connections a process should have room for that may open so many files. Room costs memory only once it is used, and
/// a list that has to grow leaves what it has outgrown behind in the heap.
pub fn room(files: OpenFiles) -> usize {
    usize::try_from(files.soft).map_or(ROOM, |files| files.min(ROOM))
}

/// Raises the soft limit of open files to the hard one, for this process and those it forks.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    open_files()
}
