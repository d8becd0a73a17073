//! Memory: what the kernel has for sockets, and what processes have.

use std::io;

use procfs::{Current, Meminfo, process::Process};

use super::file;

/// The kernel's memory in slabs, where sockets, their files and inodes lie, in bytes: of the whole machine (`Slab` of
/// /proc/meminfo), less what programs make grow that look through /proc/PID/fd, as monitoring does: an inode and a directory
/// entry for each descriptor. That is only known where /proc/slabinfo may be read, which is root's.
pub fn kernel_bytes() -> io::Result<u64> {
    let looked_up = file::read("/proc/slabinfo").map_or(0, |slabs| looked_up_bytes(&slabs));
    Ok(meminfo()?.slab.saturating_sub(looked_up))
}

/// Memory that processes share by mapping it, in bytes: of the whole machine (`Shmem`).
pub fn shared_bytes() -> io::Result<u64> {
    Ok(meminfo()?.shmem.unwrap_or(0))
}

/// All that the kernel manages, in bytes (`MemTotal`).
pub fn total_bytes() -> io::Result<u64> {
    Ok(meminfo()?.mem_total)
}

/// Memory that can be had without swapping, in bytes (`MemAvailable`).
pub fn available_bytes() -> io::Result<u64> {
    Ok(meminfo()?.mem_available.unwrap_or(0))
}

/// Memory of their own that processes have resident, in bytes. What a process has inherited at its fork and not written to since
/// counts as a part, for it and those it shares it with, so that what it puts there counts (`Pss_Anon` of
/// /proc/PID/smaps_rollup, Linux 5.4; exact, where the counters in status and statm lag behind). One that is gone has none.
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

/// What inodes of /proc and their directory entries take, by /proc/slabinfo: `name active_objs num_objs objsize …`.
fn looked_up_bytes(slabs: &str) -> u64 {
    let cache = |name: &str| -> Option<[u64; 2]> {
        let mut fields = slabs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.split_whitespace();
        let (_active, objects, bytes) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some([objects, bytes])
    };
    let Some([inodes, inode_bytes]) = cache("proc_inode_cache") else { return 0 };
    inodes * (inode_bytes + cache("dentry").map_or(0, |[_, bytes]| bytes))
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
        // Other tests run in this process as well.
        assert!(own_bytes(&[own]) > before + (8 << 20));
        drop(block);
        assert_eq!(own_bytes(&[i32::MAX]), 0);
    }
}
