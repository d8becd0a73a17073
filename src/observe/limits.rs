//! Limits of the whole machine; those of a process are in [`crate::sys::limits`].

use std::io;

use procfs::{process::Process, sys::fs::file_nr};

use super::file;

/// CAP_SYS_ADMIN, a bit of the effective capabilities (include/uapi/linux/capability.h).
const SYS_ADMIN: u32 = 21;

/// Open files on the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineFiles {
    pub open: u64,
    /// The limit, fs.file-max.
    pub limit: u64,
}

/// Reads /proc/sys/fs/file-nr.
pub fn files_of_machine() -> io::Result<MachineFiles> {
    let files = file_nr().map_err(io::Error::other)?;
    Ok(MachineFiles { open: files.allocated, limit: files.max })
}

/// Whether the calling process has CAP_SYS_ADMIN over the whole machine, not only in its own user namespace.
pub fn may_administrate() -> io::Result<bool> {
    let capabilities = Process::myself().and_then(|own| own.status()).map_err(io::Error::other)?.capeff;
    // Only the initial user namespace maps every id to itself.
    let map = file::read("/proc/self/uid_map")?;
    let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(first && capabilities >> SYS_ADMIN & 1 == 1)
}
