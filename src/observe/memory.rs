//! Memory used by the kernel for sockets, and by processes.

use std::io;

use procfs::{Current, Meminfo, process::Process};

use super::file;

/// The kernel's slab memory in bytes, where sockets, their files and inodes live, for the whole machine (`Slab` of
/// /proc/meminfo). Excludes the inodes and directory entries created when programs such as monitors look through
/// /proc/PID/fd; their size is known only to root, who may read /proc/slabinfo.
pub fn kernel_bytes() -> io::Result<u64> {
    let looked_up = file::read("/proc/slabinfo").map_or(0, |slabs| looked_up_bytes(&slabs));
    Ok(meminfo()?.slab.saturating_sub(looked_up))
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

/// Size of the inodes of /proc and their directory entries, from /proc/slabinfo: `name active_objs num_objs objsize …`.
pub fn looked_up_bytes(slabs: &str) -> u64 {
    let cache = |name: &str| -> Option<[u64; 2]> {
        let mut fields = slabs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.split_whitespace();
        let (_active, objects, bytes) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some([objects, bytes])
    };
    let Some([inodes, inode_bytes]) = cache("proc_inode_cache") else { return 0 };
    let entry_bytes = cache("dentry").map_or(0, |[_, bytes]| bytes);
    inodes.saturating_mul(inode_bytes.saturating_add(entry_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looked_up_descriptors_are_an_inode_and_an_entry_each() {
        let slabs = "# name <active_objs> <num_objs> <objsize>\n\
                     proc_inode_cache    100    120    700   23    4 : tunables 0 0 0 : slabdata 1 1 0\n\
                     dentry              500    600    200   21    1 : tunables 0 0 0 : slabdata 1 1 0\n";
        assert_eq!(looked_up_bytes(slabs), 120 * 900);
        assert_eq!(looked_up_bytes(""), 0);
    }

    #[test]
    fn a_process_has_memory_of_its_own_and_a_dead_one_none() {
        let own = std::process::id() as i32;
        let before = own_bytes(&[own]);
        let block = std::hint::black_box(vec![1_u8; 16 << 20]);
        // Other tests run in this process, too.
        assert!(own_bytes(&[own]) > before + (8 << 20));
        drop(block);
        assert_eq!(own_bytes(&[i32::MAX]), 0);
    }
}
