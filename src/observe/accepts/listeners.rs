//! Finds the address of a listener of which the programs know only the descriptor.

use std::{collections::HashMap, fs, net::SocketAddr, os::unix::fs::MetadataExt};

use procfs::{net::TcpState, process::Process};

use super::{Filter, tables::Member};

/// The listeners found so far. A process may be gone before anyone asks for its listener.
#[derive(Debug, Default)]
pub struct Listeners {
    found: HashMap<(i32, i32), Listener>,
}

/// What a descriptor was found to be.
#[derive(Debug, Clone, Copy)]
pub enum Listener {
    /// A TCP listener of the filter's network namespace.
    At(SocketAddr),
    /// Anything else.
    Other,
    /// Its process ended, or closed it, before it was looked at.
    Gone,
}

impl Listeners {
    /// What a member accepts on.
    pub fn of(&mut self, member: &Member, filter: &Filter) -> Listener {
        if let Some(listener) = member.listener {
            return Listener::At(listener);
        }
        let Member { pid, descriptor, .. } = *member;
        *self
            .found
            .entry((pid, descriptor))
            .or_insert_with(|| look(pid, descriptor, filter.netns).unwrap_or(Listener::Gone))
    }
}

fn look(pid: i32, descriptor: i32, netns: u64) -> Option<Listener> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()?;
    if fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino() != netns {
        return Some(Listener::Other);
    }
    let process = Process::new(pid).ok()?;
    let sockets = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let mut listeners = sockets.filter(|socket| socket.state == TcpState::Listen);
    let address = listeners.find(|socket| socket.inode == inode).map(|socket| socket.local_address);
    Some(address.map_or(Listener::Other, Listener::At))
}
