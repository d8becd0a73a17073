//! Memory: what the kernel has for sockets, and what processes have.

use std::{fs, io};

/// Names of lines in /proc/meminfo and in /proc/PID/smaps_rollup, both of the form `Name:   123 kB`.
const SLAB: &str = "Slab:";
const SHARED: &str = "Shmem:";
const TOTAL: &str = "MemTotal:";
const AVAILABLE: &str = "MemAvailable:";
const OWN: &str = "Pss_Anon:";

/// The kernel's memory in slabs, where sockets, their files and inodes lie, in bytes: of the whole machine (`Slab` of
/// /proc/meminfo), less what programs make grow that look through /proc/PID/fd, as monitoring does: an inode and a directory
/// entry for each descriptor. That is only known where /proc/slabinfo may be read, which is root's.
pub fn kernel_bytes() -> io::Result<u64> {
    let looked_up = fs::read_to_string("/proc/slabinfo").map_or(0, |slabs| looked_up_bytes(&slabs));
    Ok(meminfo_bytes(SLAB)?.saturating_sub(looked_up))
}

/// Memory that processes share by mapping it, in bytes: of the whole machine (`Shmem`).
pub fn shared_bytes() -> io::Result<u64> {
    meminfo_bytes(SHARED)
}

/// All that the kernel manages, in bytes (`MemTotal`).
pub fn total_bytes() -> io::Result<u64> {
    meminfo_bytes(TOTAL)
}

/// Memory that can be had without swapping, in bytes (`MemAvailable`).
pub fn available_bytes() -> io::Result<u64> {
    meminfo_bytes(AVAILABLE)
}

/// Memory of their own that processes have resident, in bytes. What a process has inherited at its fork and not written to since
/// counts as a part, for it and those it shares it with, so that what it puts there counts (`Pss_Anon` of
/// /proc/PID/smaps_rollup, Linux 5.4; exact, where the counters in status and statm lag behind). One that is gone has none.
pub fn own_bytes(pids: &[i32]) -> u64 {
    let own = |pid: &i32| kilobytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, OWN);
    pids.iter().filter_map(own).sum::<u64>() * 1_024
}

fn meminfo_bytes(name: &str) -> io::Result<u64> {
    Ok(kilobytes(&fs::read_to_string("/proc/meminfo")?, name).unwrap_or(0) * 1_024)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
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
    fn lines_are_found_by_their_whole_name() {
        let text = "MemTotal:       24684072 kB\nShmem:              8856 kB\nShmemHugePages:        0 kB\n";
        assert_eq!(kilobytes(text, SHARED), Some(8_856));
        assert_eq!(kilobytes(text, SLAB), None);
    }

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
