//! Memory used by the kernel for sockets, and by processes.

use std::io;

use procfs::{Current, Meminfo, process::Process};

use super::slabs::{self, Caches};

/// The kernel's slab memory in bytes, where sockets, their files and inodes live, for the whole machine (`Slab` of
/// /proc/meminfo). Excludes the inodes and directory entries created when programs such as monitors look through
/// /proc/PID/fd; their size is known only to root, for whom there are caches.
pub fn kernel_bytes(caches: &Caches) -> io::Result<u64> {
    Ok(meminfo()?.slab.saturating_sub(slabs::looked_up_bytes(caches)))
}

/// Memory shared through mappings, in bytes, for the whole machine (`Shmem`).
pub fn shared_bytes() -> io::Result<u64> {
    Ok(meminfo()?.shmem.unwrap_or(0))
}

/// All memory managed by the kernel, in bytes (`MemTotal`).
pub fn total_bytes() -> io::Result<u64> {
    Ok(meminfo()?.mem_total)
}

/// Memory available without swapping, in bytes (`MemAvailable`).
pub fn available_bytes() -> io::Result<u64> {
    Ok(meminfo()?.mem_available.unwrap_or(0))
}

/// Resident private memory of processes, in bytes. Pages inherited at the fork and not written since are divided among
/// the processes sharing them (`Pss_Anon` of /proc/PID/smaps_rollup, Linux 5.4; exact, whereas the counters in status
/// and statm lag behind). A process that has ended counts as 0.
pub fn own_bytes(pids: &[i32]) -> u64 {
    let own = |pid: &i32| -> Option<u64> {
        let maps = Process::new(*pid).ok()?.smaps_rollup().ok()?.memory_map_rollup;
        maps.into_iter().next()?.extension.map.get("Pss_Anon").copied()
    };
    pids.iter().filter_map(own).sum()
}

fn meminfo() -> io::Result<Meminfo> {
    Meminfo::current().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    use super::*;

    /// Of another process: this one's memory changes with every test that runs beside this one.
    #[test]
    fn a_process_has_memory_of_its_own_and_a_dead_one_none() {
        const BLOCK: u64 = 16 << 20;
        let mut copies = Command::new("dd");
        copies.args(["if=/dev/zero", "iflag=fullblock", &format!("bs={BLOCK}"), "count=1"]);
        let mut copier = copies.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // It has filled its block before it writes the first byte, and cannot end before the rest is read.
        copier.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = copier.id() as i32;
        let own = own_bytes(&[pid]);
        copier.kill().unwrap();
        copier.wait().unwrap();
        assert!((BLOCK..BLOCK + (2 << 20)).contains(&own), "{own} bytes");
        assert_eq!(own_bytes(&[pid]), 0);
    }
}
