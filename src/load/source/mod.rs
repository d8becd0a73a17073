//! How a client socket gets its source address and port: one file per way, behind one trait.
//!
//! A source prepares a socket before connect(2). What it hands out belongs to a *tuple group* (source address, destination
//! address, destination port), which one ephemeral range serves.

mod bind_no_port;
mod bind_zero;
mod bound;
mod explicit;
mod kernel;
mod named;
mod range_window;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::Socket;

pub use self::bound::{bound, capacity, usable};
use crate::{
    observe::ports::Range,
    scenario::{Selection, Sources},
};

/// A way to get source ports.
pub trait Source {
    /// Prepares a socket that will connect within a tuple group. Fails with `EADDRNOTAVAIL`, or with `EADDRINUSE` from bind(2),
    /// if there is no port left.
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()>;

    /// Called when connect(2) found no port for the socket prepared last. Returns whether another attempt may find one.
    fn try_elsewhere(&mut self, _group: &Group) -> bool {
        false
    }

    /// Called when the socket prepared last will not connect after all: its port, if it has one, is free again.
    fn given_up(&mut self, _group: &Group) {}

    /// Called when a connection of a group from this port is over.
    fn freed(&mut self, _group: &Group, _port: u16) {}
}

/// A tuple group: source address, destination address and destination port, which one ephemeral range serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its number, from 0.
    pub number: usize,
    /// The source address; `None` if the kernel picks it.
    pub source: Option<IpAddr>,
    /// The destination's address and port.
    pub destination: SocketAddr,
}

/// All tuple groups of a load: every source address with every destination.
pub fn groups(sources: &Sources, destinations: &[SocketAddr]) -> Vec<Group> {
    let addresses: Vec<Option<IpAddr>> = match &sources.addresses[..] {
        [] => vec![None],
        addresses => addresses.iter().copied().map(Some).collect(),
    };
    let pairs = addresses.iter().flat_map(|source| destinations.iter().map(move |destination| (*source, *destination)));
    pairs.enumerate().map(|(number, (source, destination))| Group { number, source, destination }).collect()
}

/// This process's place among those that share the ports.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Number of this process, from 0.
    pub process: usize,
    /// The number of processes.
    pub processes: usize,
}

/// Builds a scenario's source for one process. Its random order is fixed by `seed`.
pub fn build(selection: Selection, range: &Range, groups: usize, share: Share, seed: u64) -> Box<dyn Source> {
    match selection {
        Selection::Kernel => Box::new(kernel::Kernel),
        Selection::BindZero => Box::new(bind_zero::BindZero),
        Selection::BindNoPort => Box::new(bind_no_port::BindNoPort),
        Selection::RangeWindow => Box::new(range_window::RangeWindow::new(range, groups, share)),
        Selection::Explicit => Box::new(explicit::Explicit::new(range, groups, share, seed)),
    }
}

/// Builds the source of a Unix socket's clients in one process. Those of our own server have names, by which it knows them.
pub fn of_unix(has_names: bool, share: Share) -> Box<dyn Source> {
    if has_names { Box::new(named::Named::new(share)) } else { Box::new(kernel::Kernel) }
}

/// The address to bind to: the group's, or the unspecified one of its destination's family.
fn bind_address(group: &Group, port: u16) -> socket2::SockAddr {
    let unspecified: IpAddr = match group.destination {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    SocketAddr::new(group.source.unwrap_or(unspecified), port).into()
}
