//! Memory: what the kernel has for sockets, and what processes have.

use std::{fs, io};

use nix::unistd::{SysconfVar, sysconf};

/// The kernel's memory in slabs, where sockets, their files and inodes lie, in bytes: of the whole machine (`Slab` of
/// /proc/meminfo).
pub fn slab_bytes() -> io::Result<u64> {
    meminfo_bytes("Slab:")
}

/// Memory that can be had without swapping, in bytes (`MemAvailable`).
pub fn available_bytes() -> io::Result<u64> {
    meminfo_bytes("MemAvailable:")
}

fn meminfo_bytes(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.unwrap_or(0) * 1_024)
}

/// Memory that processes have resident, shared pages counted in each, in bytes (/proc/PID/statm). One that is gone has none.
pub fn resident_bytes(pids: &[i32]) -> u64 {
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
    let resident = |pid: &i32| -> Option<u64> {
        fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split_whitespace().nth(1)?.parse().ok()
    };
    pids.iter().filter_map(resident).sum::<u64>() * page_bytes.unwrap_or(4_096)
}
