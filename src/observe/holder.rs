//! Who holds a port.

use std::fmt;

use procfs::{
    net::TcpState,
    process::{FDTarget, all_processes},
};

use crate::scenario::Transport;

/// The listener on a port, as far as it can be seen.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process whose descriptors this user may read.
    Process {
        /// Its id.
        pid: i32,
        /// Its command name.
        name: String,
    },
    /// A socket, but of which process this user may not see.
    Unseen,
    /// No listening socket was found: one that is bound without listening, or gone by now.
    None,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Unseen => write!(f, "a process that this user may not see (run as root to see which)"),
            Self::None => write!(f, "a socket that does not listen"),
        }
    }
}

/// Finds who listens on a port in this network namespace, or has a socket of UDP bound to it.
pub fn of_port(port: u16, transport: Transport) -> Holder {
    let inodes: Vec<u64> = match transport {
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
    let holds = |process: &procfs::process::Process| {
        process.fd().is_ok_and(|fds| {
            fds.flatten().any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
        })
    };
    all_processes().ok().and_then(|processes| processes.flatten().find(holds)).map_or(Holder::Unseen, |process| {
        Holder::Process { pid: process.pid, name: process.stat().map_or_else(|_| "?".to_owned(), |stat| stat.comm) }
    })
}
