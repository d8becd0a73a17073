//! Finds the processes that hold a port.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use procfs::{
    net::TcpState,
    process::{FDTarget, all_processes},
};
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
        let Ok(fds) = process.fd() else { continue };
        let held: HashSet<u64> = fds
            .flatten()
            .filter_map(|fd| match fd.target {
                FDTarget::Socket(inode) if inodes.contains(&inode) => Some(inode),
                _ => None,
            })
            .collect();
        if held.is_empty() {
            continue;
        }
        let name = process.stat().map_or_else(|_| "?".to_owned(), |stat| format::one_line(&stat.comm));
        for inode in held {
            holders.entry(inode).or_default().push(Process { pid: process.pid, name: name.clone() });
        }
    }
    holders.values_mut().for_each(|processes| processes.sort_unstable());
    holders
}
