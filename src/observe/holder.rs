//! Finds the processes that hold a port.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    os::unix::ffi::OsStrExt,
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, readlinkat},
    sys::stat::Mode,
};
use procfs::{net::TcpState, process::all_processes};
use serde::Serialize;

use crate::{format, scenario::Transport};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Process {
    pub pid: i32,
    /// The command name, as in /proc/PID/comm.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// Who listens on a port, as far as this user can see.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process whose descriptors this user may read.
    Process(Process),
    /// A socket whose process this user may not see, or has ended meanwhile.
    Unseen,
    /// No listening socket: it is bound without listening, or already closed.
    None,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => process.fmt(f),
            Self::Unseen => write!(f, "an unseen process (another user's, which root sees, or gone by now)"),
            Self::None => write!(f, "a socket that is not listening"),
        }
    }
}

/// Finds who listens on a port in this network namespace, or has a UDP socket bound to it.
pub fn of_port(port: u16, transport: Transport) -> Holder {
    let inodes: HashSet<u64> = match transport {
        Transport::Tcp => {
            let entries = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
            entries
                .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
                .map(|entry| entry.inode)
                .collect()
        }
        Transport::Udp => {
            let entries = [procfs::net::udp(), procfs::net::udp6()].into_iter().flatten().flatten();
            entries.filter(|entry| entry.local_address.port() == port).map(|entry| entry.inode).collect()
        }
    };
    if inodes.is_empty() {
        return Holder::None;
    }
    of_sockets(&inodes).into_values().flatten().min().map_or(Holder::Unseen, Holder::Process)
}

/// The processes that have these sockets open, by inode and in order of process id, as far as this user may read their
/// descriptors. One pass over /proc, however many sockets.
pub fn of_sockets(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let mut holders: HashMap<u64, Vec<Process>> = HashMap::new();
    for process in all_processes().into_iter().flatten().flatten() {
        let held = held_by(process.pid, inodes);
        if held.is_empty() {
            continue;
        }
        let name = process.stat().map_or_else(|_| "?".to_owned(), |stat| format::one_line(&stat.comm));
        for (inode, _) in held {
            holders.entry(inode).or_default().push(Process { pid: process.pid, name: name.clone() });
        }
    }
    holders.values_mut().for_each(|processes| processes.sort_unstable());
    holders
}

/// Those of these sockets that a process has open, by ascending inode, each with one of its descriptors. None of a process whose descriptors
/// this user may not read.
pub fn held_by(pid: i32, inodes: &HashSet<u64>) -> Vec<(u64, i32)> {
    let Ok(mut folder) = descriptors(pid) else { return Vec::new() };
    let all: Vec<i32> =
        folder.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect();
    let socket = |descriptor: i32| Some((socket(&folder, descriptor)?, descriptor));
    let mut held: Vec<(u64, i32)> =
        all.into_iter().filter_map(socket).filter(|(inode, _)| inodes.contains(inode)).collect();
    held.sort_unstable();
    held.dedup_by_key(|(inode, _)| *inode);
    held
}

/// Whether a process has this socket open under this descriptor.
pub fn has(pid: i32, (inode, descriptor): (u64, i32)) -> bool {
    descriptors(pid).is_ok_and(|folder| socket(&folder, descriptor) == Some(inode))
}

fn descriptors(pid: i32) -> nix::Result<Dir> {
    Dir::open(&*format!("/proc/{pid}/fd"), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The inode of the socket behind a descriptor, of which its link says `socket:[12345]`; `None` if it is not one.
fn socket(folder: &Dir, descriptor: i32) -> Option<u64> {
    let target = readlinkat(folder, &*descriptor.to_string()).ok()?;
    let inode = target.as_bytes().strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsFd, AsRawFd},
    };

    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn a_process_holds_the_sockets_that_it_has_open() {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let inode = |listener: &TcpListener| fstat(listener.as_fd()).unwrap().st_ino;
        let mut expected = listeners.each_ref().map(|listener| (inode(listener), listener.as_raw_fd()));
        expected.sort_unstable();
        let pid = std::process::id() as i32;
        let wanted: HashSet<u64> = expected.iter().map(|(inode, _)| *inode).chain([1]).collect();
        assert_eq!(held_by(pid, &wanted), expected);
        assert!(held_by(i32::MAX, &wanted).is_empty());
        let (inode, descriptor) = expected[0];
        assert!(
            has(pid, (inode, descriptor)) && !has(pid, (inode, expected[1].1)) && !has(i32::MAX, (inode, descriptor))
        );
        assert_eq!(of_sockets(&wanted)[&inode].iter().filter(|process| process.pid == pid).count(), 1);
    }
}
