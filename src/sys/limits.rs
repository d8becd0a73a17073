//! Limits of this process: open files, and what stands behind a system call that a limit refuses.

use std::io;

use nix::{
    errno::Errno,
    sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

/// The error of a system call, with the limit that may be behind it and what to do about it.
pub fn explained(call: &str, error: Errno) -> io::Error {
    let soft = |resource| match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => "unlimited".to_owned(),
        Ok((soft, _)) => soft.to_string(),
        Err(_) => "unknown".to_owned(),
    };
    let why = match error {
        Errno::EAGAIN => format!(
            "the limit of the user's processes (`ulimit -u`, here {}), of a cgroup's (pids.max) or of the machine's (kernel.pid_max) is \
             reached: raise it, or use fewer workers and loaders",
            soft(Resource::RLIMIT_NPROC)
        ),
        Errno::EMFILE => format!(
            "this process has as many files open as it may: raise the limit (`ulimit -n`, here {})",
            soft(Resource::RLIMIT_NOFILE)
        ),
        Errno::ENFILE => {
            "the machine has as many files open as it may: raise the limit (`sysctl fs.file-max`)".to_owned()
        }
        Errno::ENOMEM => format!(
            "there is not enough memory, or the limit of address space is reached: raise it (`ulimit -v`, here {} bytes), or use fewer \
             workers and loaders",
            soft(Resource::RLIMIT_AS)
        ),
        _ => return io::Error::other(format!("{call}: {}", io::Error::from(error))),
    };
    io::Error::other(format!("{call}: {}: {why}", io::Error::from(error)))
}

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

/// Sets this process's limits back to those that it had; what is open stays open.
pub fn restore_open_files(before: OpenFiles) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, before.soft, before.hard)?)
}

/// Raises this process's soft limit of open files to the hard limit; children inherit it.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    open_files()
}
